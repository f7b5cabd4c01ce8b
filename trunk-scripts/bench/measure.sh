# shellcheck shell=bash disable=SC2154
# Part of bench.sh and bench-pairs.sh: runs the scenarios and reads the counters of the kernel.

# Number of players in each scenario that parse every message: enough for a p99 of latency, too few to cost much CPU.
checking=20

# load_beside COMMAND…: runs more load until stop_processes.
load_beside() {
    "$@" --ramp 2 --duration 3600 --json >/dev/null &
    pids+=($!)
}

# await_old_segments: waits until old segments are removed, and their memory and files used again.
await_old_segments() { sleep 20; }

# load_of_a_day: runs what a day has beside the publishers and the 100 players that are measured.
load_of_a_day() {
    local streams="rtmp://127.0.0.1:$port/live/stream{n}"
    load_beside "${bench[@]}" play "$streams" -c 100
    load_beside "${bench[@]}" play "$streams" -c 100
    load_beside "${bench[@]}" play "$streams" -c 10 --stay 2
    load_beside "${bench[@]}" http "http://127.0.0.1:$http_port/live/stream{n}.m3u8" -c 50 --follow --every 2
}

# run_scenario SERVER SCENARIO: measures a running server.
run_scenario() {
    local server=$1 url="rtmp://127.0.0.1:$port/live/stream" play
    play=("${bench[@]}" play "$url" "--check=$checking")
    idle_kb=$(memory_kb) client_pid=
    case $2 in
    idle) measure_idle "$server" ;;
    streams)
        publish "$server" 'stream{n}' 200
        measure "$server" "200 streams, one player each" 200 3 "${bench[@]}" play "$url{n}" "--check=$checking" -c 200
        ;;
    publishers) measure "$server" "300 publishers" 300 3 "${bench[@]}" publish "$url{n}" -c 300 ;;
    record) measure "$server" "50 recorded streams" 50 3 "${bench[@]}" publish "$url{n}" -c 50 ;;
    day)
        publish "$server" 'stream{n}' 100
        await_old_segments
        load_of_a_day
        measure "$server" "a day: 100 streams, 310 players, HLS" 310 3 "${bench[@]}" play "$url{n}" "--check=$checking" -c 100
        ;;
    joins)
        publish "$server" stream 1
        measure "$server" "50 joins per second" 100 2 "${play[@]}" -c 100 --stay 2
        ;;
    slow)
        publish "$server" stream 1
        measure "$server" "500 players, one slow" 500 3 "${play[@]}" -c 500 --slow 1
        ;;
    flv-*)
        local viewers=${2#flv-}
        publish "$server" stream 1
        play=("${bench[@]}" play "http://127.0.0.1:$http_port/live/stream.flv" "--check=$checking")
        measure "$server" "$viewers viewers of HTTP-FLV" "$viewers" $((viewers / 850 + 3)) "${play[@]}" -c "$viewers"
        ;;
    rtmps-*)
        local players=${2#rtmps-}
        publish "$server" stream 1
        start_rtmps_client
        play=("${bench[@]}" play "rtmp://127.0.0.1:$client_port/live/stream" "--check=$checking")
        measure "$server" "$players players of RTMPS" "$players" $((players / 850 + 3)) "${play[@]}" -c "$players"
        ;;
    *)
        publish "$server" stream 1
        # At most 850 players join per second.
        measure "$server" "$2 players" "$2" $(($2 / 850 + 3)) "${play[@]}" -c "$2"
        ;;
    esac
}

# user_and_system [PID]: prints both parts of the processor time of a process and its child processes, by default of the server, in
# ticks.
user_and_system() {
    local pid
    for pid in $(server_processes "$@"); do cat "/proc/$pid/stat"; done | awk '{ u += $14; s += $15 } END { print u, s }'
}
# others: prints the CPU time of all other processes of the machine, in ticks, without interrupts.
others() {
    local pid used=0
    for pid in "${pids[@]}" "$load" $(pgrep -P "$server_pid"); do
        used=$((used + $(cpu_ticks "$pid")))
    done
    echo $(($(awk '/^cpu / {print $2 + $3 + $4}' /proc/stat) - used))
}
# core_idle: prints the idle time of the server's core, in ticks; nothing if the server has none of its own.
core_idle() { awk -v core="cpu${on_server[2]-}" '$1 == core {print $5 + $6}' /proc/stat; }
# memory_kb: prints the resident memory of the server without its program file: a page of code is read once, and not for each client.
memory_kb() {
    local pid
    for pid in $(server_processes); do cat "/proc/$pid/status"; done | awk '/^Rss(Anon|Shmem)/ {n += $2} END {print n}'
}
switches() {
    local pid
    for pid in $(server_processes); do cat "/proc/$pid"/task/*/status; done | awk '/ctxt_switches/ {n += $2} END {print n}'
}
voluntary() { awk '/^voluntary/ {n += $2} END {print n}' /proc/"$server_pid"/task/*/status; }

# find_syscall_counter: sets syscall_counter to perf if tracepoints are available, which cost the server little; else to strace,
# which slows the server down and is used in small scenarios only; else to none.
find_syscall_counter() {
    syscall_counter=none
    if command -v perf >/dev/null && [ "$(perf stat -x, -e raw_syscalls:sys_enter -- true 2>&1 | cut -d, -f1)" -gt 0 ] 2>/dev/null; then
        syscall_counter=perf
    elif command -v strace >/dev/null; then
        syscall_counter=strace
    fi
}

# syscalls CLIENTS: prints the number of system calls of the server in the next second, or "-".
syscalls() {
    case $syscall_counter in
    perf)
        perf stat -x, -e raw_syscalls:sys_enter -p "$(server_processes | paste -sd ,)" -- sleep 1 2>&1 | cut -d, -f1
        return
        ;;
    strace)
        if [ "$1" -le 100 ]; then
            timeout -s INT 1 strace -c -f -p "$server_pid" -o "$work/strace" 2>/dev/null
            awk '$1 ~ /^[0-9.]+$/ && $NF != "total" {n += $4} END {print n + 0}' "$work/strace"
            return
        fi
        ;;
    esac
    echo -
}

# measure SERVER TITLE CLIENTS RAMP COMMAND…: runs the load, measures the CPU of the server in the middle of it, and appends a row to
# $work/rounds. System calls are counted afterwards, under the same load.
measure() {
    local server=$1 title=$2 clients=$3 ramp=$4
    shift 4
    "$@" --ramp "$ramp" --duration $((seconds + 2)) --json >"$work/load" &
    local load=$! user0 system0 user1 system1 switches0 kb per_second calls others0 others1 idle0 idle1 start end client=0
    sleep "$ramp.5" && sleep 1
    read -r user0 system0 < <(user_and_system)
    [ -z "$client_pid" ] || client=$(cpu_ticks "$client_pid")
    idle0=$(core_idle) start=${EPOCHREALTIME/./}
    switches0=$(switches)
    others0=$(others)
    sleep "$seconds"
    read -r user1 system1 < <(user_and_system)
    idle1=$(core_idle) end=${EPOCHREALTIME/./}
    [ -z "$client_pid" ] || client=$(($(cpu_ticks "$client_pid") - client))
    per_second=$((($(switches) - switches0) / seconds))
    others1=$(others)
    kb=$(memory_kb)
    calls=$(syscalls "$clients")
    wait "$load"
    if ! kill -0 "$server_pid" 2>/dev/null; then
        echo "bench.sh: $server stopped in: $title" >&2
    fi
    if [ "$((others1 - others0))" -gt "$((seconds * ticks / 10))" ]; then
        echo "bench.sh: other processes used more than a tenth of a core: measure on an idle machine" >&2
    fi
    awk -v s="$seconds" -v t="$ticks" -v u=$((user1 - user0)) -v k=$((system1 - system0)) -v kb="$((kb - idle_kb))" \
        -v n="$clients" -v OFS='|' -v server="$server" -v title="$title" -v switches="$per_second" -v calls="$calls" \
        -v join50="$(field load join_ms_p50)" -v join99="$(field load join_ms_p99)" -v p50="$(field load latency_ms_p50)" \
        -v p99="$(field load latency_ms_p99)" -v lost="$(field load lost)" -v refused="$(field load refused)" -v gaps="$(field load gaps)" \
        -v missing="$(field load missing)" -v damaged="$(field load damaged)" -v lag="$(field load slow_lag_ms_max)" \
        -v mbit="$(field load mbit_per_second)" -v tool="$(field load tool_cpu_percent)" -v client="$client" \
        -v core="${on_server[2]-}" -v idle=$((idle1 - idle0)) -v micros=$((end - start)) '
    function known(value) { return value == "" ? "-" : sprintf(value < 10 ? "%.2f" : value < 100 ? "%.1f" : "%.0f", value) }
    BEGIN {
        f = 100 / t / s
        # The floor has no GOP cache, so its players wait for the next keyframe.
        if (server ~ /^floor/) join50 = join99 = ""
        print title, server, sprintf("%.1f", (u + k) * f), sprintf("%.1f", u * f), sprintf("%.1f", k * f), sprintf("%.1f", kb / n), \
            switches, calls, known(join50), known(join99), known(p50), known(p99), lost + refused, \
            gaps == "" ? "-" : gaps + 0 "/" missing + 0 "/" damaged + 0, lag == "" ? "-" : sprintf("%.1f", lag / 1000), \
            sprintf("%.0f", mbit), sprintf("%.0f", tool + client * f), \
            core == "" ? "-" : sprintf("%.1f", 100 - idle / t * 1e8 / micros)
    }' | tee -a "$work/rounds"
}

# measure_idle SERVER: measures a server without clients and appends a row to $work/idle.
measure_idle() {
    local wakes0 user0 system0 user1 system1
    sleep 2
    wakes0=$(voluntary)
    read -r user0 system0 < <(user_and_system)
    sleep 5
    read -r user1 system1 < <(user_and_system)
    awk -v OFS='|' -v server="$1" -v kb="$(awk '/^VmRSS/ {print $2}' "/proc/$server_pid/status")" -v wakes=$(($(voluntary) - wakes0)) \
        -v cpu=$((user1 + system1 - user0 - system0)) -v t="$ticks" 'BEGIN {
        print server, sprintf("%.1f", kb / 1024), sprintf("%.1f", wakes / 5), sprintf("%.1f", cpu * 100 / t / 5)
    }' | tee -a "$work/idle"
}
