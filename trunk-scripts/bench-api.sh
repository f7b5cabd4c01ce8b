#!/usr/bin/env bash
# Measures the HTTP API: requests per second of its lists, their effect on players, and long lists of clients.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-api.sh [OPTION]…

Measures requests per second of /api/v1/streams and /metrics with 1, 100 and 1000 streams, the latency of players beside that, and
the time to list 10,000 clients, half of which play while the others wait: as a whole, page by page, and by filters.

  --streams "N …"    numbers of streams (default "1 100 1000"); "" leaves them out
  --clients N        clients in the list of clients (default 10000)
  --seconds S        duration of each measurement (default 5)
  --vhost TEXT       directives of the vhost, such as "min_latency on;"
  --no-build         use the existing build
  -h                 print this text

The server runs on one core and the load on another. 20 players of one stream check every message; the first line of each number
of streams is without requests. "runs" are the times for which work of low priority, such as a request, held the worker without a break;
those above 5 ms on a path that does next to nothing (/api/v1/versions) are others on the machine. Result: objs/bench/api.md.

Examples:
  bash trunk-scripts/bench-api.sh --streams 100 --seconds 3
  bash trunk-scripts/bench-api.sh --streams "" --clients 5000 --seconds 10
END
}

streams="1 100 1000" clients=10000 seconds=5 vhost="" build=yes
while [ $# -gt 0 ]; do
    case $1 in
    --streams) need "$@" && streams=$2 && shift ;;
    --clients) need "$@" && clients=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --vhost) need "$@" && vhost=$2 && shift ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done

prepare_bench "$build"

# start_server: starts a server, and sets server_pid, rtmp and api.
start_server() {
    rtmp=$(free_port 21935) api=$(free_port 23000)
    cat >"$work/srs.conf" <<END
listen 127.0.0.1:$rtmp;
srs_log_level warn;
max_connections 12000;
http_server { max_connections 4000; }
http_api { enabled on; listen 127.0.0.1:$api; }
vhost __defaultVhost__ { $vhost }
END
    "${on_server[@]}" "$bin/simple_rtmp_server" -c "$work/srs.conf" &
    server_pid=$! pids+=($!)
    await_server "$server_pid" "$api" || fail "the server does not answer on port $api"
}

has_streams() { curl -s "http://127.0.0.1:$api/api/v1/streams?count=1" | grep -q "\"total\":$1}"; }
has_clients() { [ "$(curl -s "http://127.0.0.1:$api/api/v1/clients?count=1" | sed 's/.*"total":\([0-9]*\).*/\1/')" -ge "$1" ] 2>/dev/null; }

# measure PATH CONNECTIONS: prints a row of the table; without PATH only the players are measured.
measure() {
    local path=$1 connections=$2 before begin rate=0 size=0 p99=–
    "${on_load[@]}" "$bin/srs_bench" latency "rtmp://127.0.0.1:$rtmp/live/measured" -c 20 --ramp 0.5 --duration "$seconds" --json \
        >"$work/players" &
    local players=$!
    # The players need a moment to start, and measure a second later.
    sleep 1.6
    before=$(cpu_ticks "$server_pid") begin=$EPOCHREALTIME
    if [ -n "$path" ]; then
        # With a low system priority: on a full core, the requests would delay the players' programs instead of the server.
        nice -n 19 "${on_load[@]}" "$bin/srs_bench" http "http://127.0.0.1:$api$path" -c "$connections" --ramp 0.2 \
            --duration "$((seconds - 2))" --json >"$work/load"
        rate=$(field load messages_per_second) p99=$(field load latency_ms_p99)
        size=$(curl -s "http://127.0.0.1:$api$path" | wc -c)
    else
        sleep "$((seconds - 2))"
    fi
    local after
    after=$(cpu_ticks "$server_pid")
    local cpu
    cpu=$(awk -v n=$((after - before)) -v t="$ticks" -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.0f", 100 * n / t / (b - a) }')
    wait "$players"
    printf '| %s | %s | %s | %.0f | %s | %s | %s | %s / %s |\n' "$count" "${path:-none}" "$connections" "$rate" "$size" "$p99" "$cpu" \
        "$(field players latency_ms_p99)" "$(field players latency_ms_max)"
}

{
    echo "| streams | path | connections | requests/s | bytes | p99 ms | CPU % | players: p99 / max ms |"
    echo "|---|---|---|---|---|---|---|---|"
    for count in $streams; do
        start_server
        # At 10 kbit/s, the streams themselves cost little.
        "${on_load[@]}" "$bin/srs_bench" publish "rtmp://127.0.0.1:$rtmp/live/s{n}" -c "$count" --bitrate 10 --fps 5 --ramp 2 \
            --duration 600 >/dev/null &
        pids+=($!)
        await 60 has_streams "$count" || fail "the streams are not published"
        sleep 3
        measure "" 0
        for path in "/api/v1/streams?count=10000" "/api/v1/streams?count=10" /api/v1/snapshot /metrics; do
            for connections in 1 10; do measure "$path" "$connections"; done
        done
        stop_processes
    done
} | tee "$out/api.md"

# start_clients: starts a server with half of the clients playing, and the others waiting for a stream.
start_clients() {
    start_server
    count=$clients
    "${on_load[@]}" "$bin/srs_bench" publish "rtmp://127.0.0.1:$rtmp/live/quiet" --bitrate 20 --fps 5 --duration 600 >/dev/null &
    pids+=($!)
    # The publisher is one of the clients.
    for stream in quiet absent; do
        "${on_load[@]}" "$bin/srs_bench" play "rtmp://127.0.0.1:$rtmp/live/$stream" -c "$((clients / 2))" --ramp 10 --duration 600 \
            >/dev/null &
        pids+=($!)
    done
    await 120 has_clients "$clients" || fail "the clients do not connect"
    sleep 3
}

# runs: prints the number of runs of low priority, that of those above 5 ms, and the seconds of all.
runs() {
    curl -s "http://127.0.0.1:$api/metrics" | awk '
        $1 == "srs_low_priority_run_seconds_bucket{le=\"0.005\"}" { short = $2 }
        $1 == "srs_low_priority_run_seconds_sum" { sum = $2 }
        $1 == "srs_low_priority_run_seconds_count" { count = $2 }
        END { printf "%d %d %.3f", count, count - short, sum }'
}

# runs_since BEFORE: prints what has been added since an output of runs.
runs_since() { echo "$1 $(runs)" | awk '{ printf "%d of %d in %.1f s", $5 - $2, $4 - $1, $6 - $3 }'; }

# walk QUERY: asks for all pages with the rest of the query over one connection, again and again, until $work/end is there.
walk() {
    : >"$work/walked"
    until [ -e "$work/end" ]; do
        nice -n 19 "${on_load[@]}" curl -s "http://127.0.0.1:$api/api/v1/clients?count=100&start=[0-$((clients - 100)):100]$1" -o /dev/null -w '%{time_total}\n' \
            >>"$work/walked"
    done
}

start_clients
{
    echo
    echo "| clients | path | requests/s | bytes | p99 ms | players: p99 / max ms | runs above 5 ms |"
    echo "|---|---|---|---|---|---|---|"
    for path in "" /api/v1/versions "/api/v1/clients?count=10000" "/api/v1/clients?count=100" \
        "/api/v1/clients?count=100&start=$((clients - 100))" "/api/v1/clients?stream=none" "/api/v1/streams?count=1" /api/v1/snapshot; do
        before=$(runs)
        row=$(measure "$path" 1 | awk -F'|' '{ print "|" $2 "|" $3 "|" $5 "|" $6 "|" $7 "|" $9 "|" }')
        echo "$row $(runs_since "$before") |"
    done
    for filter in "" "&type=rtmp-play"; do
        before=$(runs)
        rm -f "$work/end"
        walk "$filter" &
        walker=$!
        row=$(measure "" 0 | awk -F'|' '{ print $9 }')
        touch "$work/end"
        wait "$walker"
        # shellcheck disable=SC2016 # for awk
        figures=$(sort -n "$work/walked" | awk '{ times[NR] = $1 } END { printf "%d %.1f", NR, 1000 * times[int(NR * 0.99 + 0.5)] }')
        printf '| %s | all pages of 100%s | %.0f | | %s |%s| %s |\n' "$clients" "${filter:+ with $filter}" \
            "$((${figures% *} / seconds))" "${figures#* }" "$row" "$(runs_since "$before")"
    done
} | tee -a "$out/api.md"
stop_processes
echo
echo "Written to $out/api.md"
