#!/usr/bin/env bash
# Measures the CPU cost of HLS: the CPU of a server with HLS minus its CPU without, for this server and nginx-rtmp. Compare
# ratios within one run: absolute values differ between machines and from hour to hour.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-hls.sh [OPTION]…

Measures the CPU cost of HLS for this server and for nginx-rtmp: CPU with HLS minus CPU without.

  --streams N     number of published streams (default 50)
  --bitrate K     bit rate of each stream in kbit/s (default 500)
  --seconds S     duration of each measurement (default 15)
  --rounds N      number of measurements (default 3); the table shows the medians
  --dir DIR       directory for the HLS files (default: the directory for temporary files). On a disk, much of the cost is
                  the file system, which is equal for all servers; on a tmpfs (/dev/shm) it is the servers
  --no-build      use the existing build
  -h              print this text

Segments have 2 s, the window 6 s. Servers:
  srs             this server: writes files and also serves from memory, as in conf/srs.conf
  srs-files       this server: writes files only, as nginx-rtmp does
  nginx-rtmp      nginx with its RTMP module

CPU is measured for the whole process, including the threads that write files, and for nginx also the process that removes
files. The measurement starts when as many files are removed as are written. With two or more cores, the server runs on one
and the load on another. Result: objs/bench/hls.md.

Examples:
  bash trunk-scripts/bench-hls.sh --dir /dev/shm
  bash trunk-scripts/bench-hls.sh --streams 10 --seconds 5 --rounds 1
END
}

streams=50 bitrate=500 seconds=15 rounds=3 build=yes dir=
while [ $# -gt 0 ]; do
    case $1 in
    --streams) need "$@" && streams=$2 && shift ;;
    --bitrate) need "$@" && bitrate=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --rounds) need "$@" && rounds=$2 && shift ;;
    --dir) need "$@" && dir=$2 && shift ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done
find_nginx
has_nginx_rtmp || fail "nginx-rtmp not found (Debian: apt-get install nginx libnginx-mod-rtmp)"

prepare_bench "$build" "$dir"

# start SERVER HLS: starts a server with HLS on or off. Sets server_pid and port.
start() {
    local html=$work/html http=off
    rm -rf "$html" && mkdir "$html"
    port=$(free_port 21935)
    case $1 in
    srs | srs-files)
        [ "$1" = srs ] && http=on
        cat >"$work/srs.conf" <<END
listen 127.0.0.1:$port;
srs_log_level warn;
http_server { enabled $http; listen 127.0.0.1:$(free_port 23000); dir $html; }
vhost __defaultVhost__ { hls { enabled $2; hls_path $html; hls_fragment 2; hls_window 6; } }
END
        "${on_server[@]}" "$bin/simple_rtmp_server" -c "$work/srs.conf" &
        ;;
    nginx-rtmp)
        local hls=
        [ "$2" = on ] && hls="hls on; hls_path $html; hls_fragment 2s; hls_playlist_length 6s;"
        cat >"$work/nginx.conf" <<END
load_module $nginx_module;
daemon off;
user $(id -un);
worker_processes 1;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 20000; }
rtmp { server { listen 127.0.0.1:$port; chunk_size 65000; application live { live on; $hls } } }
END
        "${on_server[@]}" "$nginx" -e "$work/nginx.log" -c "$work/nginx.conf" &
        ;;
    esac
    server_pid=$! pids+=($!)
    await_server "$server_pid" "$port" || fail "$1 does not answer on port $port"
}

# server_ticks: prints the processor time of the server and its child processes so far.
server_ticks() {
    local pid sum=0
    for pid in $(server_processes); do sum=$((sum + $(cpu_ticks "$pid"))); done
    echo "$sum"
}

# measure SERVER HLS: appends a row to $work/rows with CPU in percent and the number of playlists.
measure() {
    local before after begin lists
    start "$1" "$2"
    "${on_load[@]}" "$bin/srs_bench" publish "rtmp://127.0.0.1:$port/live/s{n}" -c "$streams" --bitrate "$bitrate" --gop 2 --ramp 2 \
        --duration 3600 --json >/dev/null &
    pids+=($!)
    # Waits until all streams are published and old files are removed.
    if [ "$2" = on ]; then sleep 20; else sleep 4; fi
    before=$(server_ticks) begin=$EPOCHREALTIME
    sleep "$seconds"
    after=$(server_ticks)
    lists=$(find "$work/html" -name '*.m3u8' | wc -l)
    awk -v OFS='|' -v server="$1" -v hls="$2" -v n=$((after - before)) -v t="$ticks" -v begin="$begin" -v end="$EPOCHREALTIME" \
        -v lists="$lists" 'BEGIN { print server, hls, sprintf("%.2f", 100 * n / t / (end - begin)), lists }' | tee -a "$work/rows"
    stop_processes
    [ "$2" = off ] || [ "$lists" -eq "$streams" ] || fail "$1 has $lists playlists of $streams streams"
}

: >"$work/rows"
for _ in $(seq "$rounds"); do
    for server in srs srs-files nginx-rtmp; do
        for hls in off on; do measure "$server" "$hls"; done
    done
done
{
    echo "$streams streams of $bitrate kbit/s, no players, segments of 2 s, on $(stat -f -c %T "$work"); CPU of the process in percent of a core, median of $rounds."
    echo
    echo "| server | HLS off | HLS on | difference | ratio to nginx-rtmp |"
    echo "|---|---|---|---|---|"
    sort -t '|' -k 1,2 -k 3,3n "$work/rows" | awk -F'|' '
        { cpu[$1, $2, ++rounds[$1, $2]] = $3 }
        function median(server, hls,    n) {
            n = rounds[server, hls]
            return (cpu[server, hls, int((n + 1) / 2)] + cpu[server, hls, int(n / 2) + 1]) / 2
        }
        END {
            count = split("srs srs-files nginx-rtmp", order, " ")
            base = median("nginx-rtmp", "on") - median("nginx-rtmp", "off")
            for (s = 1; s <= count; s++) {
                off = median(order[s], "off")
                on = median(order[s], "on")
                ratio = "-"
                if (base > 0) ratio = sprintf("%.2f", (on - off) / base)
                printf "| %s | %.1f | %.1f | %.1f | %s |\n", order[s], off, on, on - off, ratio
            }
        }'
} | tee "$out/hls.md"
echo
echo "Written to $out/hls.md"
