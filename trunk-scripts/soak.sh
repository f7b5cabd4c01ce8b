#!/usr/bin/env bash
# Publishers and players come and go at random while the server is reloaded all the time; at the end nothing may be left of them.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/soak.sh MINUTES [--seed N]

Runs a server of its own, with HLS, HTTP and forwarding, on free ports of 127.0.0.1 under load for MINUTES (a fraction will do),
after a warm-up of half a minute under the same load. Then everybody leaves, and what the server holds is put beside what it held
after the warm-up: memory within 10 % and 2 MB, without the segments that HLS keeps for late viewers, and no client, stream, coroutine or
open file more. Exit status 0 when that is so.

  --seed N    the same choices again as in the run that printed N
  -h          this text

Environment:
  SRS_SERVER, SRS_BENCH   the programs (default objs/simple_rtmp_server and objs/srs_bench)

What it writes is in objs/soak/.
END
}

minutes=
seed=$((RANDOM * 32768 + RANDOM))
while [ $# -gt 0 ]; do
    case $1 in
    --seed)
        need "$@"
        seed=$2
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) unknown_option "$1" ;;
    *) minutes=$1 ;;
    esac
    shift
done
[[ $minutes =~ ^[0-9]+([.][0-9]+)?$ ]] || { usage >&2; fail "how many minutes?"; }
[[ $seed =~ ^[0-9]+$ ]] || fail "the seed is a number"
seconds=$(awk "BEGIN { print int($minutes * 60) }")

server=$(realpath "${SRS_SERVER:-objs/simple_rtmp_server}") || exit 1
bench=$(realpath "${SRS_BENCH:-objs/srs_bench}") || exit 1
[ -x "$server" ] && [ -x "$bench" ] || fail "build first: ./configure && make"

WARM_UP=30
# A lost publisher is waited for for 10 s, then streams that nobody uses are kept for 10 s; they are looked after once a second.
IDLE=25

out=$PWD/objs/soak
rm -rf "$out"
mkdir -p "$out/count"
conf=$out/srs.conf
log=$out/srs.log
cd "$out" || exit 1

RANDOM=$((seed % 32768))
port=$(free_port $((13000 + $$ % 8000)))
second=$(free_port $((port + 1)))
http=$(free_port $((second + 1)))
# Where streams are forwarded to: a second server, and a port where there is none.
sink=$(free_port $((http + 1)))

# write_conf N: a configuration of many, by a number. The first address and the vhost "steady" are in each.
write_conf() {
    local n=$1 listen="127.0.0.1:$port" more=
    [ $((n % 3)) -eq 0 ] && listen+=" 127.0.0.1:$second"
    [ $((n % 4)) -ne 1 ] && more+="vhost coming { gop_cache $([ $((n % 2)) -eq 0 ] && echo on || echo off); }"$'\n'
    [ $((n % 5)) -eq 2 ] && more+="vhost going { enabled $([ $((n % 2)) -eq 0 ] && echo on || echo off); }"$'\n'
    cat >"$conf.new" <<END
listen $listen;
max_connections $((3000 + n % 7));
srs_log_tank file;
srs_log_file $log;
srs_log_level warn;
http_server { enabled $([ $((n % 8)) -eq 7 ] && echo off || echo on); listen 127.0.0.1:$http; dir $out/html; }
pithy_print { play $((1000 + n % 10)); }
vhost __defaultVhost__ {
    chunk_size $((128 << (n % 9)));
    gop_cache $([ $((n % 6)) -eq 0 ] && echo off || echo on);
    queue_length $((5 + n % 20));
    mw_latency $((n % 4 * 100));
    publish { reconnect_grace $((n % 3)); }
    hls { enabled $([ $((n % 3)) -eq 1 ] && echo on || echo off); hls_path $out/html/churn; hls_fragment 1; hls_window 3; hls_dispose 5; }
}
vhost steady {
    hls { enabled on; hls_path $out/html; hls_fragment $((1 + n % 3)); hls_window 6; }
    forward 127.0.0.1:$sink$([ $((n % 2)) -eq 0 ] && echo " 127.0.0.1:$((sink + 1))");
}
$more
END
    # A reload sees one or the other, and not half of one.
    mv "$conf.new" "$conf"
}

server_pid=
sink_pid=
workers=()
# Ends what was started, by its number.
end_all() {
    touch "$out/stop"
    if [ "${#workers[@]}" -gt 0 ]; then
        wait "${workers[@]}" 2>/dev/null
        workers=()
    fi
}
finish() {
    trap '' INT TERM
    end_all
    [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null
    [ -z "$sink_pid" ] || kill "$sink_pid" 2>/dev/null
    wait
}
trap 'finish; exit 130' INT TERM
trap finish EXIT

on() { [ ! -e "$out/stop" ] && kill -0 "$server_pid" 2>/dev/null; }
# below N: a random number from 0 to N-1.
below() { echo $((RANDOM % $1)); }
tenths() { awk "BEGIN { print ($1 + $RANDOM % ($2 - $1)) / 10 }"; }
# load SECONDS ARGUMENTS…: srs_bench, with a bound; what it says is of no interest, since its clients are closed by reloads too.
load() {
    local bound=$1
    shift
    timeout --kill-after=2 "$bound" "$bench" "$@" --ramp 0.3 </dev/null >/dev/null 2>&1
}

# Streams with names that were never used before, each with players or without, which live for about a second.
churn() {
    RANDOM=$1
    local round=0 count url at
    while on; do
        round=$((round + 1))
        count=$((20 + RANDOM % 40))
        at=$port
        [ "$(below 4)" -eq 0 ] && at=$second
        url="rtmp://127.0.0.1:$at/churn/$2-$round-{n}"
        [ "$(below 4)" -eq 0 ] && url+="?vhost=$([ "$(below 2)" -eq 0 ] && echo coming || echo going)"
        load 15 publish "$url" -c "$count" --bitrate 100 --duration "$(tenths 3 15)" &
        [ "$(below 2)" -eq 0 ] || load 15 play "$url" -c $((count * 2)) --duration "$(tenths 2 20)" &
        wait
        echo $(($(cat "$out/count/$2" 2>/dev/null || echo 0) + count)) >"$out/count/$2"
    done
}

# Streams that go on, and players of them that come and go; some are killed in the middle of a message.
audience() {
    RANDOM=$1
    local number
    timeout --kill-after=2 86400 "$bench" publish "rtmp://127.0.0.1:$port/live/steady{n}?vhost=steady" -c 5 --bitrate 300 \
        --duration 86400 </dev/null >/dev/null 2>&1 &
    local publisher=$!
    while on; do
        number=$((1 + RANDOM % 5))
        if [ "$(below 3)" -eq 0 ]; then
            (timeout -s KILL "$(tenths 5 20)" "$bench" play "rtmp://127.0.0.1:$port/live/steady$number?vhost=steady" \
                -c 30 --ramp 0.2 --duration 60; true) </dev/null >/dev/null 2>&1
        else
            load 20 play "rtmp://127.0.0.1:$port/live/steady$number?vhost=steady" -c $((10 + RANDOM % 90)) \
                --duration "$(tenths 5 40)"
        fi
    done
    kill "$publisher" 2>/dev/null
    wait "$publisher"
}

# Clients that are none: silence, rubbish, half a handshake, and one that leaves in the middle.
strangers() {
    RANDOM=$1
    while on; do
        case $(below 4) in
        0) (exec 3<>"/dev/tcp/127.0.0.1/$port" && sleep 0.5) 2>/dev/null ;;
        1) (exec 3<>"/dev/tcp/127.0.0.1/$port" && head -c $((1 + RANDOM % 4000)) /dev/urandom >&3) 2>/dev/null ;;
        2) (exec 3<>"/dev/tcp/127.0.0.1/$port" && { printf '\003' && head -c $((RANDOM % 1536)) /dev/zero; } >&3) 2>/dev/null ;;
        3) (exec 3<>"/dev/tcp/127.0.0.1/$port" && { printf '\003' && head -c 3072 /dev/zero; } >&3 && head -c 3073 <&3 >/dev/null) 2>/dev/null ;;
        esac
        sleep 0.1
    done
}

# Real players and publishers, where they are.
real() {
    RANDOM=$1
    local url="rtmp://127.0.0.1:$port/live/steady$((1 + RANDOM % 5))?vhost=steady"
    while on; do
        if command -v ffmpeg >/dev/null && [ "$(below 2)" -eq 0 ]; then
            timeout --kill-after=2 "$(tenths 10 40)" ffmpeg -nostdin -loglevel quiet -i "$url" -c copy -f null - </dev/null >/dev/null 2>&1
        elif command -v rtmpdump >/dev/null; then
            timeout --kill-after=2 "$(tenths 10 40)" rtmpdump --quiet --live --rtmp "$url" --flv /dev/null </dev/null >/dev/null 2>&1
        fi
        sleep 0.2
    done
}

# Those who watch by HLS, of streams that are there and of some that are not.
viewers() {
    RANDOM=$1
    while on; do
        load 10 http "http://127.0.0.1:$http/live/steady$((1 + RANDOM % 6)).m3u8" -c $((1 + RANDOM % 50)) \
            --duration "$(tenths 2 20)"
        sleep 0.2
    done
}

reloads() {
    RANDOM=$1
    local n=0
    while on; do
        n=$((n + 1))
        write_conf "$RANDOM"
        [ $((n % 10)) -eq 0 ] && echo 'vhost broken {' >>"$conf"
        kill -HUP "$server_pid" 2>/dev/null
        [ $((n % 7)) -eq 0 ] && kill -USR1 "$server_pid" 2>/dev/null
        echo $(($(cat "$out/count/reloads" 2>/dev/null || echo 0) + 1)) >"$out/count/reloads"
        sleep 1
    done
    # Back to where it began, for the count at the end.
    write_conf 0
    kill -HUP "$server_pid" 2>/dev/null
}

# run SECONDS: load for so long, then nobody.
run() {
    rm -f "$out/stop"
    churn $((seed % 32768)) "a$1" &
    workers=($!)
    churn $((seed % 32768 + 1)) "b$1" &
    workers+=($!)
    audience $((seed % 32768 + 2)) &
    workers+=($!)
    strangers $((seed % 32768 + 3)) &
    workers+=($!)
    real $((seed % 32768 + 4)) &
    workers+=($!)
    reloads $((seed % 32768 + 5)) &
    workers+=($!)
    viewers $((seed % 32768 + 6)) &
    workers+=($!)
    local until=$((SECONDS + $1))
    while [ "$SECONDS" -lt "$until" ] && kill -0 "$server_pid" 2>/dev/null; do sleep 1; done
    end_all
    sleep "$IDLE"
}

# The last status line of the log, asked for anew. The level of the log is raised for it.
status() {
    sed -i 's/^srs_log_level .*/srs_log_level trace;/' "$conf"
    kill -HUP "$server_pid" || return 1
    sleep 1
    local before
    before=$(grep -c 'status: ' "$log")
    kill -USR1 "$server_pid" || return 1
    for _ in $(seq 50); do
        sleep 0.1
        [ "$(grep -c 'status: ' "$log")" -gt "$before" ] && break
    done
    grep 'status: ' "$log" | tail -n 1 | sed 's/.*status: //'
}
# value NAME LINE
value() { sed -n "s/.*$1=\([0-9]*\).*/\1/p" <<<"$2"; }
# How much HLS keeps, of bounded memory, depends on where in its window each stream ended.
# In KiB: the buffers of segments that wait to be used again, as many as 16, and in no account.
spare=2048
memory_without_hls() { echo $(($(value memory_kib "$1") - $(value hls "$1") / 1024)); }

printf 'listen 127.0.0.1:%s; srs_log_level error; vhost __defaultVhost__ { }\n' "$sink" >"$out/sink.conf"
"$server" -c "$out/sink.conf" >"$out/sink.out" 2>&1 </dev/null &
sink_pid=$!
write_conf 0
"$server" -c "$conf" >"$out/server.out" 2>&1 </dev/null &
server_pid=$!
sleep 1
kill -0 "$server_pid" 2>/dev/null || fail "the server does not start: $(cat "$out/server.out")"

echo "seed $seed; $WARM_UP s of warm-up, then $seconds s, on 127.0.0.1:$port and $second"
run "$WARM_UP"
start=$(status) || fail "the server has ended; see $out"
echo "start: $start"
rm -f "$out"/count/*
run "$seconds"
end=$(status) || fail "the server has ended; see $out"
echo "end:   $end"

bad=0
for name in clients publishers players streams coroutines files memory; do
    if [ "$name" = memory ]; then
        was=$(memory_without_hls "$start")
        is=$(memory_without_hls "$end")
        allowed=$((was + was / 10 + spare))
    else
        was=$(value "$name" "$start")
        is=$(value "$name" "$end")
        allowed=$was
    fi
    if [ -z "$was" ] || [ -z "$is" ] || [ "$is" -gt "$allowed" ]; then
        bad=$((bad + 1))
        echo "  LEFT  $name: $was at the start, $is at the end"
    else
        echo "  ok    $name: $was at the start, $is at the end"
    fi
done
streams=0
for file in "$out"/count/[ab]*; do
    [ -e "$file" ] && streams=$((streams + $(cat "$file")))
done
echo "$streams streams came and went, $(cat "$out/count/reloads" 2>/dev/null || echo 0) reloads"
if grep -q 'panic\|overflowed its stack' "$log" "$out/server.out"; then
    bad=$((bad + 1))
    echo "  FAULT $(grep -h -m 1 'panic\|overflowed its stack' "$log" "$out/server.out")"
fi

kill -TERM "$server_pid"
wait "$server_pid"
ended=$?
server_pid=
[ "$ended" -eq 0 ] || { bad=$((bad + 1)); echo "  FAULT the server ended with status $ended"; }
if [ "$bad" -gt 0 ]; then fail "$bad of these are not as they have to be; the log is $log"; fi
echo "nothing is left"
