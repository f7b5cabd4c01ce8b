#!/usr/bin/env bash
# Runs a small cluster on this machine with real servers: publishes to the master and plays from every server.
set -uo pipefail

usage() {
    cat <<'END'
Usage: bash trunk-scripts/cluster.sh [--seconds S] [--load N]

Starts a master, two slaves that it forwards to, an nginx edge that pulls from it with the RTMP module, and an nginx cache for
its HLS. Publishes a test picture to the master, plays it from each server, and prints the received frames. Everything runs
on 127.0.0.1 and is stopped at the end. Needs the built server and ffmpeg; servers that need a missing nginx or
libnginx-mod-rtmp are skipped.

  --seconds S   duration of the publication, at least 12 (default 24)
  --load N      add N players with objs/srs_bench at each slave and the edge, and up to 20 viewers of the cache with ffmpeg;
                print the CPU of each process. Needs --seconds of at least 24
  -h            print this text

Examples:
  bash trunk-scripts/cluster.sh
  bash trunk-scripts/cluster.sh --seconds 46 --load 500
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=trunk-scripts/common.sh
. "$root/trunk-scripts/common.sh"
seconds=24
load=0
while [ $# -gt 0 ]; do
    case $1 in
    --seconds | --load)
        [ $# -gt 1 ] && [[ $2 =~ ^[0-9]+$ ]] || fail "$1 needs a number"
        if [ "$1" = --load ]; then load=$2; else seconds=$2; fi
        shift
        ;;
    *) other_option "$1" ;;
    esac
    shift
done
[ "$seconds" -ge 12 ] || fail "--seconds must be at least 12: the first HLS segments take a few"

server=$root/objs/simple_rtmp_server
bench=$root/objs/srs_bench
[ -x "$server" ] || fail "the server is not built, run: ./configure && make"
[ "$load" = 0 ] || [ "$seconds" -ge 24 ] || fail "--seconds must be at least 24 with --load: the measurement starts when all players are connected"
[ "$load" = 0 ] || [ -x "$bench" ] || fail "--load needs objs/srs_bench, run: make"
command -v ffmpeg >/dev/null || fail "ffmpeg not found (Debian, Ubuntu: apt-get install ffmpeg)"
find_nginx
many_files

work=$(mktemp -d) || exit 1
declare -A pids=()
# shellcheck disable=SC2317 # called by the traps
stop() {
    trap '' INT TERM HUP
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    wait
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

# start NAME COMMAND…: starts a process in the background, with its output in a file.
start() {
    local name=$1
    shift
    "$@" </dev/null >"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

# await_port NAME PORT: waits until the process listens.
await_port() {
    await_server "${pids[$1]}" "$2" && return 0
    cat "$work/$1.log" >&2
    fail "$1 does not listen on port $2"
}

# Free ports, from a range that depends on the process id of this run.
port=$((20000 + $$ % 8000))
master='' slave1='' slave2='' edge='' http='' cache=''
for role in master slave1 slave2 edge http cache; do
    port=$(free_port $((port + 1)))
    printf -v "$role" '%s' "$port"
done

# The configurations in conf/ with the ports and directories of this run.
{
    sed -e "s/^listen .*/listen 127.0.0.1:$master;/" -e "s/127\.0\.0\.1:19350;/127.0.0.1:$slave1 127.0.0.1:$slave2;/" \
        -e "s/^max_connections .*/max_connections 20000;/" -e "s/^    listen .*/    listen 127.0.0.1:$http;/" \
        -e "s#\./objs/nginx/html#$work/html#" -e "s/hls_fragment .*/hls_fragment 2;/" -e "s/hls_window .*/hls_window 12;/" \
        "$root/conf/forward-master.conf"
} >"$work/master.conf"
for slave in slave1 slave2; do
    sed -e "s/^listen .*/listen 127.0.0.1:${!slave};/" -e "s/^max_connections .*/max_connections 20000;/" \
        "$root/conf/forward-slave.conf" >"$work/$slave.conf"
done
mkdir -p "$work/objs" "$work/html"
sed -e "s/listen  *19360/listen 127.0.0.1:$edge/" -e "s/127\.0\.0\.1:1935/127.0.0.1:$master/" -e "s/10240/20240/" \
    -e "s#^load_module .*#load_module $nginx_module;#" "$root/conf/nginx-edge-rtmp.conf" >"$work/nginx-edge.conf"
sed -e "s/listen  *8082/listen 127.0.0.1:$cache/" -e "s/127\.0\.0\.1:8080/127.0.0.1:$http/" -e "s/10240/20240/" \
    -e "s/^worker_processes .*/worker_processes 1;/" \
    -e "s#access_log  *off;#log_format cache '\$upstream_cache_status \$status \$uri'; access_log $work/cache-requests.log cache;#" \
    "$root/conf/nginx-edge-hls.conf" >"$work/nginx-cache.conf"

# A single process without workers, so that one kill stops it.
run_nginx() { start "$1" "$nginx" -p "$work" -e stderr -c "$work/nginx-$1.conf" -g 'daemon off; master_process off;'; }

for slave in slave1 slave2; do
    start $slave "$server" -c "$work/$slave.conf"
    await_port $slave "${!slave}"
done
start master "$server" -c "$work/master.conf"
await_port master "$master"
ends=(master slave1 slave2)
if has_nginx_rtmp; then
    run_nginx edge
    await_port edge "$edge"
    ends+=(edge)
else
    echo "Skipping the nginx edge: nginx or its RTMP module not found (Debian, Ubuntu: apt-get install libnginx-mod-rtmp)."
fi
has_hls=no
if [ -n "$nginx" ] && answers "$http"; then
    run_nginx cache
    await_port cache "$cache"
    has_hls=yes
else
    echo "Skipping the HLS cache: nginx not found, or the server was built without HLS."
fi

echo "Publishing to rtmp://127.0.0.1:$master/live/livestream for $seconds s."
start publisher ffmpeg -nostdin -hide_banner -loglevel error \
    -re -f lavfi -i testsrc2=size=640x360:rate=25 -re -f lavfi -i sine=frequency=440:sample_rate=44100 -t "$seconds" \
    -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 50 -b:v 450k -maxrate 450k -bufsize 450k \
    -c:a aac -b:a 48k -f flv "rtmp://127.0.0.1:$master/live/livestream"
sleep 2

# player NAME URL: plays a stream and writes one line per packet to a file.
player() {
    start "player-$1" timeout $((seconds + 20)) ffmpeg -nostdin -hide_banner -loglevel error -i "$2" -map 0:v -map 0:a -c copy -flush_packets 1 \
        -f framecrc "$work/$1.packets"
}
for end in "${ends[@]}"; do player "$end" "rtmp://127.0.0.1:${!end}/live/livestream"; done

playlist=http://127.0.0.1:$cache/live/livestream.m3u8
if [ "$has_hls" = yes ]; then
    if await 8 test -s "$work/html/live/livestream.m3u8"; then
        ends+=(cache)
        player cache "$playlist"
    else
        echo "Skipping the HLS cache: no playlist after 10 s."
        has_hls=no
    fi
fi

ticks=$(getconf CLK_TCK)
if [ "$load" -gt 0 ]; then
    # The time that remains after the playlist exists and the players are connected.
    span=$((seconds - 16))
    viewers=$((load < 20 ? load : 20))
    for end in "${ends[@]}"; do
        case $end in
        cache)
            # Real viewers with pauses between requests: the hit rate of a client without pauses would mean nothing.
            for viewer in $(seq "$viewers"); do
                start "viewer-$viewer" timeout $((seconds + 20)) ffmpeg -nostdin -hide_banner -loglevel error -i "$playlist" -c copy -f null -
            done
            ;;
        master) ;;
        *) start "load-$end" "$bench" play "rtmp://127.0.0.1:${!end}/live/livestream" -c "$load" --duration $((span + 4)) ;;
        esac
    done
    sleep 4
    declare -A before=()
    for name in master "${ends[@]}"; do before[$name]=$(cpu_ticks "${pids[$name]}"); done
    sleep $span
    echo
    echo "CPU over $span s with $load more players at each slave and the edge$([ "$has_hls" = yes ] && echo " and $viewers viewers of the cache"):"
    for name in "${ends[@]}"; do
        used=$(($(cpu_ticks "${pids[$name]}") - before[$name]))
        printf '  %-8s %5.1f %% of a core\n' "$name" "$(awk "BEGIN { print 100 * $used / $ticks / $span }")"
    done
    echo
    echo "Received by the players of the load:"
    for end in "${ends[@]}"; do
        [ -n "${pids[load-$end]-}" ] || continue
        wait "${pids[load-$end]}" || true
        unset "pids[load-$end]"
        # srs_bench does not parse these messages, to save CPU, so its message count is removed.
        sed -n -E -e 's/ +messages .*//' -e "s/^(clients|traffic|srs_bench) /  $(printf %-8s "$end") &/p" "$work/load-$end.log"
    done
fi

wait "${pids[publisher]}" || { cat "$work/publisher.log" >&2; fail "the publisher failed"; }
unset 'pids[publisher]'
# Waits for data in flight; HLS is some segments late.
sleep 1
[ "$has_hls" = no ] || sleep 6
echo
echo "Received by each player:"
status=0
for end in "${ends[@]}"; do
    kill -INT "${pids[player-$end]}" 2>/dev/null
    for _ in $(seq 30); do
        kill -0 "${pids[player-$end]}" 2>/dev/null || break
        sleep 0.1
    done
    awk -v name="$end" '
        /^[01],/ { count[substr($0, 1, 1)]++ }
        END {
            printf "  %-8s %4d video frames (%.1f s), %4d audio frames (%.1f s)\n", name, count[0], count[0] / 25, count[1],
                count[1] * 1024 / 44100
            exit !(count[0] > 25 && count[1] > 40)
        }' "$work/$end.packets" || status=1
done
if [ "$has_hls" = yes ]; then
    echo
    # STALE: an old playlist was sent and the cache requested a new one. UPDATING: an old playlist was sent during such a request.
    awk '
        { all++; if ($1 != "HIT" && $1 != "UPDATING") fetched++; if ($2 !~ /^2/) failed++ }
        END {
            printf "HLS cache: %d requests, %d requests to the master, hit rate %.1f %%, %d failed.\n",
                all, fetched, all ? 100 * (all - fetched) / all : 0, failed
        }' "$work/cache-requests.log"
fi
echo
echo "Forwarders in the log of the master:"
grep 'forward [a-z ]*: ' "$work/master.log" | sed 's/^/  /' || true
[ "$status" = 0 ] || fail "some players did not receive the stream"
