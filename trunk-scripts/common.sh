# shellcheck shell=bash
# Functions shared by the scripts. Source this file; it runs nothing by itself.

# fail TEXT: prints an error and exits.
fail() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# need OPTION [VALUE]: fails if the option has no value.
need() { [ $# -gt 1 ] || fail "$1 needs a value"; }

# other_option OPTION: prints the usage of the script, and exits: successfully for -h and --help, else with an error.
other_option() {
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    esac
    usage >&2
    fail "unknown option '$1'"
}

# here PROGRAM: true if the program is installed.
here() { command -v "$1" >/dev/null 2>&1; }

# persist COMMAND…: tries a command up to three times, because a registry can be unavailable for a moment.
persist() {
    local try
    for try in 1 2 3; do
        "$@" && return 0
        [ "$try" = 3 ] || sleep $((try * 3))
    done
    return 1
}

# install_packages PACKAGE…: installs Debian packages if the script runs as root. Returns false on failure.
install_packages() {
    here apt-get && [ "$(id -u)" -eq 0 ] || return 1
    # With RUNLEVEL, Debian does not start installed services.
    persist apt-get update -q &&
        persist env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$@"
}

# need_build_tools: installs the C compiler and make if possible, and fails if a build tool is still missing.
need_build_tools() {
    here cargo || fail "cargo not found. Install Rust 1.95 or newer with rustup."
    local missing=()
    here cc || missing+=(gcc libc6-dev)
    here make || missing+=(make)
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "Installing ${missing[*]}"
    install_packages "${missing[@]}" || true
    here cc && here make ||
        fail "the build needs a C compiler and make. Install them (Debian, Ubuntu, as root: apt-get install ${missing[*]})"
}

# answers PORT: returns true if a process listens on this port of 127.0.0.1.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port FROM: prints the first port from this one on that is not in use.
free_port() {
    local port=$1
    while answers "$port"; do port=$((port + 1)); done
    echo "$port"
}

# await SECONDS COMMAND…: waits until the command succeeds. Returns false on timeout.
await() {
    local tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# await_server PID PORT: waits until the process listens. Returns false if it has ended, or after 10 s.
await_server() {
    for _ in $(seq 100); do
        answers "$2" && return 0
        kill -0 "$1" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# cpu_ticks PID: prints the processor time of a process with all threads, in ticks; `getconf CLK_TCK` is the number per second.
# Prints 0 if there is no such process. The name in brackets can contain blanks.
cpu_ticks() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# make_work_folder [PARENT]: makes a temporary folder for the script and sets work to it. At the end of the script the processes in
# pids are stopped, and the folder is removed.
make_work_folder() {
    work=$(mktemp -d ${1:+-p "$1"}) || exit 1
    pids=()
    trap 'stop_processes; rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
}

# stop_processes: ends the processes in pids, also stopped ones, and waits for all processes of the script.
stop_processes() {
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null; done
    wait 2>/dev/null
    pids=()
}

# build_programs PROFILE BUILD: builds the programs, unless BUILD is no, and sets bin to their folder. PROFILE is debug or release.
build_programs() {
    local options=(--locked --bins)
    [ "$1" = debug ] || options+=(--release)
    [ "$2" = no ] || cargo build "${options[@]}" || exit 1
    # shellcheck disable=SC2034 # used by the scripts
    bin=${CARGO_TARGET_DIR:-target}/$1
}

# prepare_bench BUILD [PARENT]: does what all benchmarks need: sets out to the folder of results and ticks to the ticks of processor
# time per second, makes the work folder, builds, raises the limit of files, and shares the cores.
prepare_bench() {
    # shellcheck disable=SC2034 # used by the scripts
    out=objs/bench ticks=$(getconf CLK_TCK)
    mkdir -p "$out"
    make_work_folder "${2-}"
    build_programs release "$1"
    many_files
    share_cores
}

# field FILE NAME: prints a number of the JSON that srs_bench has written to a file in the work folder.
field() { sed -n "s/.*\"$2\":\\([-0-9.]*\\).*/\\1/p" "$work/$1"; }

# many_files: raises the limit of open files to the maximum, because each connection needs one.
many_files() { ulimit -n "$(ulimit -Hn)" 2>/dev/null || true; }

# share_cores: sets on_server and on_load, prefixes for commands that run them on different cores. On a single core both share it,
# and the results mean little. They are arrays and not functions, because a function in the background is a shell of its own,
# and kill would stop only this shell.
share_cores() {
    on_server=() on_load=()
    if [ "$(nproc)" -ge 2 ] && command -v taskset >/dev/null; then
        # shellcheck disable=SC2034 # used by the scripts
        on_server=(taskset -c 0) on_load=(taskset -c 1)
    fi
}

# server_processes [PID]: prints the ids of a process and its child processes, by default of the server.
server_processes() {
    echo "${1-$server_pid}"
    pgrep -P "${1-$server_pid}" || true
}

# find_nginx: sets nginx (empty if not found), and nginx_module and nginx_stream_module, the modules of Debian for RTMP and for any
# protocol over TCP. nginx is in the PATH of root only.
find_nginx() {
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || nginx=
    nginx_module=/usr/lib/nginx/modules/ngx_rtmp_module.so
    # shellcheck disable=SC2034 # used by the scripts
    nginx_stream_module=/usr/lib/nginx/modules/ngx_stream_module.so
}
has_nginx_rtmp() { [ -n "$nginx" ] && [ -e "$nginx_module" ]; }

# nginx_process DIR: prints the start of an nginx configuration for a single process in the foreground, with its files in DIR.
nginx_process() {
    cat <<END
daemon off;
master_process off;
pid $1/nginx.pid;
error_log $1/nginx.log;
events { worker_connections 20000; }
END
}
