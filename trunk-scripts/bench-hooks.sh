#!/usr/bin/env bash
# Measures HTTP callbacks: players that watch while a backend refuses, is slow, silent or dead, and players that join through a gate.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-hooks.sh [OPTION]…

Measures HTTP callbacks with the sample backend srs_hooks:

  crowd   500 players of a 500 kbit/s stream, which the backend has let in, while 200 clients a second ask for another stream:
          nobody asks; the backend refuses them; it needs 200 ms for that; it is stopped and answers nobody; it was killed
  joins   players that join at a constant rate without callbacks, with on_play, and with on_play of 200 ms

  --parts "NAME …"   crowd, joins (default both)
  --players N        players of the crowd (default 500)
  --rates "N …"      joins per second (default "500 1000 2000")
  --seconds S        duration of each measurement (default 8)
  --no-build         use the existing build
  -h                 print this text

With two or more cores, the server runs on one, load and backend on another. Result: objs/bench/hooks.md.

Example:
  bash trunk-scripts/bench-hooks.sh --parts joins --rates 1000
END
}

parts="crowd joins" players=500 rates="500 1000 2000" seconds=8 build=yes
while [ $# -gt 0 ]; do
    case $1 in
    --parts) need "$@" && parts=$2 && shift ;;
    --players) need "$@" && players=$2 && shift ;;
    --rates) need "$@" && rates=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done

prepare_bench "$build"
asking_rate=200

rtmp=$(free_port 21935) hooks=$(free_port 28085)
cat >"$work/srs.conf" <<END
listen 127.0.0.1:$rtmp;
srs_log_level error;
max_connections 18000;
vhost __defaultVhost__ { http_hooks { enabled on; on_play http://127.0.0.1:$hooks/; on_stop http://127.0.0.1:$hooks/; } }
vhost free { }
END

# start [OPTION]…: starts the server and a backend with these options.
start() {
    "${on_load[@]}" "$bin/srs_hooks" --listen "127.0.0.1:$hooks" --deny-play denied "$@" >/dev/null 2>&1 &
    backend_pid=$!
    "${on_server[@]}" "$bin/simple_rtmp_server" -c "$work/srs.conf" >/dev/null &
    server_pid=$!
    pids=("$backend_pid" "$server_pid")
    await_server "$backend_pid" "$hooks" || fail "srs_hooks does not listen on port $hooks"
    await_server "$server_pid" "$rtmp" || fail "the server does not answer on port $rtmp"
}

bench() { "${on_load[@]}" "$bin/srs_bench" "$@" --json; }

# crowd NAME ASKING ACTION [OPTION]…: prints a row of the table. ACTION is run once the players are in.
crowd() {
    local name=$1 asking=$2 action=$3 before after begin crowd_pid
    shift 3
    start "$@"
    bench latency -c "$players" --ramp 2 --duration "$((seconds + 1))" "rtmp://127.0.0.1:$rtmp/live/cam" >"$work/crowd" &
    crowd_pid=$!
    sleep 3.5
    $action
    : >"$work/asking"
    before=$(cpu_ticks "$server_pid") begin=$EPOCHREALTIME
    if [ "$asking" = yes ]; then
        bench play -c "$((asking_rate * (seconds - 1)))" --ramp "$((seconds - 1))" --duration 0 "rtmp://127.0.0.1:$rtmp/live/denied" >"$work/asking"
    fi
    wait "$crowd_pid"
    after=$(cpu_ticks "$server_pid")
    awk -v name="$name" -v refused="$(field asking refused)" -v p50="$(field crowd late_ms_p50)" -v p99="$(field crowd late_ms_p99)" \
        -v max="$(field crowd late_ms_max)" -v gaps="$(field crowd gaps)" -v cpu="$((after - before))" -v t="$ticks" -v begin="$begin" \
        -v end="$EPOCHREALTIME" 'BEGIN {
        printf "| %s | %d | %.1f | %.1f | %.1f | %d | %.0f |\n", name, refused, p50, p99, max, gaps, 100 * cpu / t / (end - begin) }'
    stop_processes
}

# joins NAME VHOST RATE [OPTION]…: prints a row of the table.
joins() {
    local name=$1 vhost=$2 rate=$3 server backend begin end publisher
    shift 3
    start "$@"
    bench publish --bitrate 20 --fps 1 --gop 1 --duration "$((seconds + 3))" "rtmp://127.0.0.1:$rtmp/live/cam?vhost=$vhost" >/dev/null &
    publisher=$!
    sleep 1.5
    server=$(cpu_ticks "$server_pid") backend=$(cpu_ticks "$backend_pid") begin=$EPOCHREALTIME
    bench play -c "$((rate * seconds))" --ramp "$seconds" --duration 0.5 "rtmp://127.0.0.1:$rtmp/live/cam?vhost=$vhost" >"$work/joins"
    end=$EPOCHREALTIME
    awk -v name="$name" -v rate="$rate" -v seconds="$seconds" -v started="$(field joins started)" -v p50="$(field joins join_ms_p50)" \
        -v p99="$(field joins join_ms_p99)" -v server="$(($(cpu_ticks "$server_pid") - server))" \
        -v backend="$(($(cpu_ticks "$backend_pid") - backend))" -v t="$ticks" -v begin="$begin" -v end="$end" \
        -v rss="$(awk '/VmRSS/ {print $2 / 1024}' "/proc/$server_pid/status")" 'BEGIN {
        time = end - begin
        printf "| %s | %d | %.0f %% | %.0f / %.0f | %.0f | %.2f | %.0f | %.0f |\n", name, rate, 100 * started / rate / seconds, p50, p99, \
            100 * server / t / time, 1000 * server / t / started, 100 * backend / t / time, rss }'
    kill "$publisher" 2>/dev/null
    wait "$publisher" 2>/dev/null
    stop_processes
}

kill_backend() { { kill -KILL "$backend_pid" && wait "$backend_pid"; } 2>/dev/null; }
stop_backend() { kill -STOP "$backend_pid"; }

{
    if [[ $parts == *crowd* ]]; then
        echo "| $asking_rate clients a second ask, and the backend | refused | $players players late ms: p50 | p99 | max | gaps | CPU % |"
        echo "|---|---|---|---|---|---|---|"
        crowd "(nobody asks)" no true
        crowd "refuses them" yes true
        crowd "refuses them after 200 ms" yes true --delay 200
        crowd "is stopped and answers nobody" yes stop_backend
        crowd "was killed" yes kill_backend
        echo
    fi
    if [[ $parts == *joins* ]]; then
        echo "| callbacks | joins/s | play at the end | join ms: p50 / p99 | CPU %: server | ms per join | backend | memory MB |"
        echo "|---|---|---|---|---|---|---|---|"
        for rate in $rates; do
            joins none free "$rate"
            joins on_play __defaultVhost__ "$rate"
            joins "on_play, 200 ms" __defaultVhost__ "$rate" --delay 200
        done
    fi
} | tee "$out/hooks.md"
echo
echo "Written to $out/hooks.md"
