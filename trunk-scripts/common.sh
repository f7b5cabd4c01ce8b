# shellcheck shell=bash
# What the scripts share. It is sourced, and does nothing by itself.

# fail TEXT: says why, and ends the script.
fail() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# need OPTION [VALUE]: ends the script if the option came without its value.
need() { [ $# -gt 1 ] || fail "$1 needs a value"; }

# unknown_option OPTION: says which there are, by the script's own usage, and ends it.
unknown_option() {
    usage >&2
    fail "unknown option '$1'"
}

here() { command -v "$1" >/dev/null 2>&1; }

# persist COMMAND…: a registry may be away for a moment, so it is tried three times.
persist() {
    local try
    for try in 1 2 3; do
        "$@" && return 0
        [ "$try" = 3 ] || sleep $((try * 3))
    done
    return 1
}

# install_packages PACKAGE…: Debian's, where that is possible without asking anybody. False if they are not here then.
install_packages() {
    here apt-get && [ "$(id -u)" -eq 0 ] || return 1
    # RUNLEVEL keeps Debian from starting what it installs as a service.
    persist apt-get update -q &&
        persist env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends "$@"
}

# need_build_tools: installs what building takes beside Rust when it may, and ends the script if something is missing then.
need_build_tools() {
    here cargo || fail "cargo is not here. Install Rust 1.95 or newer with rustup."
    local missing=()
    here cc || missing+=(gcc libc6-dev)
    here make || missing+=(make)
    [ "${#missing[@]}" -gt 0 ] || return 0
    echo "Installing ${missing[*]}"
    install_packages "${missing[@]}" || true
    here cc && here make ||
        fail "the server is built with a C compiler and make. Install them, on Debian or Ubuntu as root: apt-get install ${missing[*]}"
}

# answers PORT: whether somebody listens on this port of 127.0.0.1.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port FROM: prints the first port, from this one on, on which nobody listens.
free_port() {
    local port=$1
    while answers "$port"; do port=$((port + 1)); done
    echo "$port"
}

# await SECONDS COMMAND…: until the command succeeds. False if it does not in that time.
await() {
    local tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# await_server PID PORT: until the process listens. False if it has ended, or does not within 10 s.
await_server() {
    for _ in $(seq 100); do
        answers "$2" && return 0
        kill -0 "$1" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# cpu_ticks PID: prints the processor time of a process so far, its threads included; `getconf CLK_TCK` of them are a second. 0 if
# there is no such process. The name, in brackets, may have blanks.
cpu_ticks() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# many_files: lets this shell and what it starts have as many open files as the machine allows: each connection is one.
many_files() { ulimit -n "$(ulimit -Hn)" 2>/dev/null || true; }

# share_cores: sets on_server and on_load, which go before a command. The server gets one core and the load another; on a single
# core they share it, and the figures say little. Arrays and not functions: in the background a function would be a shell of its
# own, and that is what a kill would hit.
share_cores() {
    on_server=() on_load=()
    if [ "$(nproc)" -ge 2 ] && command -v taskset >/dev/null; then
        # shellcheck disable=SC2034 # for the script
        on_server=(taskset -c 0) on_load=(taskset -c 1)
    fi
}

# find_nginx: sets nginx, empty where it is not here, and nginx_module, where Debian has the one for RTMP. Its place is in the path
# of root only.
find_nginx() {
    nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || nginx=
    nginx_module=/usr/lib/nginx/modules/ngx_rtmp_module.so
}
has_nginx_rtmp() { [ -n "$nginx" ] && [ -e "$nginx_module" ]; }

# nginx_process DIR: prints how a configuration of nginx begins that is one process in the foreground, with its files in DIR. Ending
# the process ends all of it.
nginx_process() {
    cat <<END
daemon off;
master_process off;
pid $1/nginx.pid;
error_log $1/nginx.log;
events { worker_connections 20000; }
END
}
