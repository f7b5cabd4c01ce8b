#!/usr/bin/env bash
# A small cluster on this machine, made of servers that exist: what is published at the master is played at every end.
set -uo pipefail

usage() {
    cat <<'END'
Usage: bash trunk-scripts/cluster.sh [--seconds S] [--load N]

Starts a master, two slaves that it forwards to, nginx with the RTMP module that pulls from it, and nginx that caches its HLS;
publishes a test picture for S seconds (default 24), plays it at each of them, and prints what each player got. Everything is on
127.0.0.1, and is ended when the script ends.

  --seconds S   how long it publishes
  --load N      N more players at each slave and the edge, by objs/srs_bench, and 20 viewers of the cache (N, if that is less), each
                an ffmpeg; and what the processes cost meanwhile. It needs 24 seconds or more
  -h            this text

It needs the built server, ffmpeg, and nginx with libnginx-mod-rtmp; what is missing is left out.
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
    -h | --help)
        usage
        exit 0
        ;;
    *) unknown_option "$1" ;;
    esac
    shift
done
[ "$seconds" -ge 12 ] || fail "--seconds is at least 12: HLS has its first segments after a few"

server=$root/objs/simple_rtmp_server
bench=$root/objs/srs_bench
[ -x "$server" ] || fail "the server is not built: ./configure && make"
[ "$load" = 0 ] || [ "$seconds" -ge 24 ] || fail "--seconds is at least 24 with --load: it is measured when all are there"
[ "$load" = 0 ] || [ -x "$bench" ] || fail "--load needs objs/srs_bench: make"
command -v ffmpeg >/dev/null || fail "ffmpeg is not here (Debian, Ubuntu: apt-get install ffmpeg)"
find_nginx
many_files

work=$(mktemp -d) || exit 1
declare -A pids=()
# shellcheck disable=SC2317 # the traps reach it
stop() {
    trap '' INT TERM HUP
    local pid
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null; done
    # nginx leaves its workers when it is killed before they are; all of them are gone after this.
    wait
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 1' INT TERM HUP

# start NAME COMMAND…: in the background, with its output in a file.
start() {
    local name=$1
    shift
    "$@" </dev/null >"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

# await_port NAME PORT: until it listens.
await_port() {
    await_server "${pids[$1]}" "$2" && return 0
    cat "$work/$1.log" >&2
    fail "$1 does not listen on port $2"
}

# Ports that nobody listens on, from a place of this run's own.
port=$((20000 + $$ % 8000))
master='' slave1='' slave2='' edge='' http='' cache=''
for role in master slave1 slave2 edge http cache; do
    port=$(free_port $((port + 1)))
    printf -v "$role" '%s' "$port"
done

# The configurations that are in conf/, with the ports and directories of this run.
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
    -e "s#access_log  *off;#log_format asked '\$upstream_cache_status \$status \$uri'; access_log $work/asked.log asked;#" \
    "$root/conf/nginx-edge-hls.conf" >"$work/nginx-cache.conf"

# One process each, so that ending it ends all of it.
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
    echo "No nginx-rtmp edge: nginx or its module is not here (Debian, Ubuntu: apt-get install libnginx-mod-rtmp)."
fi
has_hls=no
if [ -n "$nginx" ] && answers "$http"; then
    run_nginx cache
    await_port cache "$cache"
    has_hls=yes
else
    echo "No HLS cache: nginx is not here, or the server was built without HLS."
fi

echo "Publishing to rtmp://127.0.0.1:$master/live/livestream for $seconds s."
start publisher ffmpeg -nostdin -hide_banner -loglevel error \
    -re -f lavfi -i testsrc2=size=640x360:rate=25 -re -f lavfi -i sine=frequency=440:sample_rate=44100 -t "$seconds" \
    -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 50 -b:v 450k -maxrate 450k -bufsize 450k \
    -c:a aac -b:a 48k -f flv "rtmp://127.0.0.1:$master/live/livestream"
sleep 2

# player NAME URL: writes a line a packet.
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
        echo "No playlist after 10 s: nothing is played from the HLS cache."
        has_hls=no
    fi
fi

ticks=$(getconf CLK_TCK)
if [ "$load" -gt 0 ]; then
    # What is left when the players are there and the playlist is.
    span=$((seconds - 16))
    viewers=$((load < 20 ? load : 20))
    for end in "${ends[@]}"; do
        case $end in
        cache)
            # Viewers that ask for what they play, when they need it: a client that asks without a pause would say nothing of the hit rate.
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
    echo "With $load more players at each slave and the edge, $([ "$has_hls" = yes ] && echo "$viewers viewers of the cache, ")processor time over $span s:"
    for name in "${ends[@]}"; do
        used=$(($(cpu_ticks "${pids[$name]}") - before[$name]))
        printf '  %-8s %5.1f %% of a core\n' "$name" "$(awk "BEGIN { print 100 * $used / $ticks / $span }")"
    done
    echo
    echo "What the players of the load got:"
    for end in "${ends[@]}"; do
        [ -n "${pids[load-$end]-}" ] || continue
        wait "${pids[load-$end]}" || true
        unset "pids[load-$end]"
        # What passes is not taken apart, for the processor's sake: so no messages are counted.
        sed -n -E -e 's/ +messages .*//' -e "s/^(clients|traffic|srs_bench) /  $(printf %-8s "$end") &/p" "$work/load-$end.log"
    done
fi

wait "${pids[publisher]}" || { cat "$work/publisher.log" >&2; fail "the publisher failed"; }
unset 'pids[publisher]'
# What is on its way arrives; HLS is some segments behind.
sleep 1
[ "$has_hls" = no ] || sleep 6
echo
echo "What each player got:"
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
            printf "  %-8s %4d frames of video (%.1f s), %4d of audio (%.1f s)\n", name, count[0], count[0] / 25, count[1],
                count[1] * 1024 / 44100
            exit !(count[0] > 25 && count[1] > 40)
        }' "$work/$end.packets" || status=1
done
if [ "$has_hls" = yes ]; then
    echo
    # One that gets an old playlist, STALE, has the cache ask for the new one behind its back; one that gets it meanwhile is UPDATING.
    awk '
        { all++; if ($1 != "HIT" && $1 != "UPDATING") asked++; if ($2 !~ /^2/) failed++ }
        END {
            printf "The HLS cache was asked %d times, and asked the master %d times: %.1f %% came from the cache. Without success: %d.\n",
                all, asked, all ? 100 * (all - asked) / all : 0, failed
        }' "$work/asked.log"
fi
echo
echo "The forwarders, by the master's log:"
grep -E 'forwarding |forwarded |publishing on ' "$work/master.log" | sed 's/^/  /' || true
[ "$status" = 0 ] || fail "not every player got the stream"
