#!/usr/bin/env bash
# Measures HLS over HTTP: this server from memory, and nginx from the files that the server wrote. Compare ratios within one
# run: absolute values differ between machines and from hour to hour.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-http.sh [OPTION]…

Measures HLS over HTTP: this server from memory, and nginx with one worker from the files that the server wrote.

  --clients "N …"    numbers of connections (default "1 100 1000")
  --seconds S        duration of each measurement (default 4)
  --tools "NAME …"   load tools: wrk, srs_bench (default: both, if installed)
  --no-build         use the existing build
  -h                 print this text

A playlist and a segment of about 330 KB are requested repeatedly on persistent connections. With two or more cores, the
servers run on one and the load on another. Result: objs/bench/http.md.

Example:
  bash trunk-scripts/bench-http.sh --clients 100 --tools srs_bench
END
}

clients="1 100 1000" seconds=4 tools= build=yes
while [ $# -gt 0 ]; do
    case $1 in
    --clients) need "$@" && clients=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --tools) need "$@" && tools=$2 && shift ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done
find_nginx
[ -n "$nginx" ] || fail "nginx not found (Debian: apt-get install nginx)"
if [ -z "$tools" ]; then
    tools=srs_bench
    if command -v wrk >/dev/null; then tools="wrk srs_bench"; else echo "wrk not found (Debian: apt-get install wrk): measuring with srs_bench only"; fi
fi

prepare_bench "$build"

rtmp=$(free_port 21935) own=$(free_port 23000) peer=$(free_port 24100)
mkdir "$work/html"
cat >"$work/srs.conf" <<END
listen 127.0.0.1:$rtmp;
srs_log_level warn;
http_server { enabled on; listen 127.0.0.1:$own; dir $work/html; max_connections 20000; }
vhost __defaultVhost__ { hls { enabled on; hls_path $work/html; hls_fragment 1; hls_window 6; } }
END
cat >"$work/nginx.conf" <<END
$(nginx_process "$work")
http {
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
    server { listen 127.0.0.1:$peer; root $work/html; add_header Access-Control-Allow-Origin "*"; }
}
END
"${on_server[@]}" "$bin/simple_rtmp_server" -c "$work/srs.conf" &
server_pid=$! pids+=($!)
"${on_server[@]}" "$nginx" -e "$work/nginx.log" -c "$work/nginx.conf" &
nginx_pid=$! pids+=($!)
await_server "$server_pid" "$own" || fail "the server does not answer on port $own"
await_server "$nginx_pid" "$peer" || fail "nginx does not answer on port $peer: $(cat "$work/nginx.log")"

# Publishes for some seconds; afterwards the files do not change any more.
"${on_load[@]}" "$bin/srs_bench" publish "rtmp://127.0.0.1:$rtmp/live/livestream" --bitrate 2640 --gop 1 --duration 7 --json >/dev/null
playlist=live/livestream.m3u8
await 10 test -e "$work/html/$playlist" || fail "the server wrote no playlist"
sleep 1
segment=live/$(grep '\.ts' "$work/html/$playlist" | tail -n 2 | head -n 1)
size() { stat -c %s "$work/html/$1"; }
for file in "$playlist" "$segment"; do
    for port in "$own" "$peer"; do
        curl -fsS "http://127.0.0.1:$port/$file" | cmp - "$work/html/$file" || exit 1
    done
done

# wrk_ms NAME: prints a latency of wrk ("1.23us", "1.23ms", "1.23s") in milliseconds.
wrk_ms() { awk -v name="$1" '$1 == name { k = $2 ~ /us$/ ? .001 : $2 ~ /ms$/ ? 1 : 1000; print $2 * k }' "$work/load"; }

# measure TOOL PORT FILE CLIENTS PID: prints requests/s, p50, p99, failed, CPU in percent.
measure() {
    local tool=$1 url=http://127.0.0.1:$2/$3 n=$4 pid=$5 before after rate p50 p99 failed begin
    before=$(cpu_ticks "$pid") begin=$EPOCHREALTIME
    case $tool in
    wrk)
        "${on_load[@]}" wrk -t1 -c"$n" -d"$seconds" --latency "$url" >"$work/load" 2>&1
        rate=$(awk '/^Requests\/sec/ {print $2}' "$work/load") p50=$(wrk_ms 50%) p99=$(wrk_ms 99%)
        failed=$(awk '/Socket errors/ {gsub(",", ""); n += $4 + $6 + $8 + $10} /Non-2xx/ {n += $NF} END {print n + 0}' "$work/load")
        ;;
    srs_bench)
        "${on_load[@]}" "$bin/srs_bench" http "$url" -c "$n" --ramp 0.5 --duration "$seconds" --json >"$work/load"
        rate=$(field load messages_per_second) p50=$(field load latency_ms_p50) p99=$(field load latency_ms_p99)
        failed=$(awk -v a="$(field load lost)" -v b="$(field load refused)" 'BEGIN {print a + b}')
        ;;
    esac
    after=$(cpu_ticks "$pid")
    awk -v rate="$rate" -v p50="$p50" -v p99="$p99" -v failed="$failed" -v t="$ticks" -v ticks=$((after - before)) \
        -v begin="$begin" -v end="$EPOCHREALTIME" \
        'BEGIN { printf "%.0f %.2f %.2f %d %.0f\n", rate, p50, p99, failed, 100 * ticks / t / (end - begin) }'
}

{
    echo "| file | connections | load | requests/s: server | nginx | ratio | CPU %: server | nginx | µs CPU per request: server | nginx | p50 / p99 ms: server | nginx | failed: server | nginx |"
    echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    for file in "$playlist" "$segment"; do
        for n in $clients; do
            for tool in $tools; do
                read -r r1 a1 b1 f1 c1 < <(measure "$tool" "$own" "$file" "$n" "$server_pid")
                read -r r2 a2 b2 f2 c2 < <(measure "$tool" "$peer" "$file" "$n" "$nginx_pid")
                awk -v name="${file##*.}, $(size "$file") bytes" -v n="$n" -v tool="$tool" -v r1="$r1" -v r2="$r2" -v c1="$c1" \
                    -v c2="$c2" -v l1="$a1 / $b1" -v l2="$a2 / $b2" -v f1="$f1" -v f2="$f2" 'BEGIN {
                    printf "| %s | %d | %s | %d | %d | %.2f | %d | %d | %.1f | %.1f | %s | %s | %d | %d |\n", name, n, tool, r1, r2, \
                        r1 / r2, c1, c2, c1 * 1e4 / r1, c2 * 1e4 / r2, l1, l2, f1, f2 }'
            done
        done
    done
} | tee "$out/http.md"
echo
echo "Written to $out/http.md"
