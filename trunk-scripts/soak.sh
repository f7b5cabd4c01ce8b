#!/usr/bin/env bash
# Soak test: random load and constant reloads, after which the server must hold no more than before.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/soak.sh MINUTES [--seed N]

Starts a server with HLS, HTTP and forwarding on free ports of 127.0.0.1. Publishers, players, viewers and broken clients come and go
at random for MINUTES (fractions are allowed) while the configuration is reloaded every second, after a warm-up of 30 s under the same
load. When all clients have left, the script compares the server with its state after the warm-up. Exit status 0 if

  - clients, publishers, players, streams, coroutines and open files are not more than before,
  - memory without HLS segments is at most 10 % and 2 MB above, and
  - the events of the API are complete, in order, and in pairs for each client, stream and player.

  --seed N    repeat the random choices of the run that printed N
  -h          print this text

Example:
  bash trunk-scripts/soak.sh 20

Environment:
  SRS_SERVER, SRS_BENCH   the programs (default: objs/simple_rtmp_server and objs/srs_bench)

Configuration, logs and HLS files are in objs/soak/.
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
    -*) other_option "$1" ;;
    *) minutes=$1 ;;
    esac
    shift
done
[[ $minutes =~ ^[0-9]+([.][0-9]+)?$ ]] || { usage >&2; fail "MINUTES is missing or not a number"; }
[[ $seed =~ ^[0-9]+$ ]] || fail "--seed needs a number"
seconds=$(awk "BEGIN { print int($minutes * 60) }")

server=$(realpath "${SRS_SERVER:-objs/simple_rtmp_server}") || exit 1
bench=$(realpath "${SRS_BENCH:-objs/srs_bench}") || exit 1
[ -x "$server" ] && [ -x "$bench" ] || fail "build first: ./configure && make"

WARM_UP=30
# Seconds until an unused stream is removed: up to 10 for the reconnect grace, 10 for the idle timeout, checked once a second.
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
api=$(free_port $((http + 1)))
# Forward targets: a second server, and the port after it, where no server listens.
sink=$(free_port $((api + 1)))

# write_conf N: writes the N-th variant of the configuration. Each listens on the first port and has the vhost "steady".
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
http_api { enabled on; listen 127.0.0.1:$api; }
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
    # A reload must not see an incomplete file.
    mv "$conf.new" "$conf"
}

server_pid=
sink_pid=
events_pid=
workers=()
# end_all: stops the load.
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
    [ -z "$events_pid" ] || kill "$events_pid" 2>/dev/null
    wait
}
trap 'finish; exit 130' INT TERM
trap finish EXIT

on() { [ ! -e "$out/stop" ] && kill -0 "$server_pid" 2>/dev/null; }
# below N: a random number from 0 to N-1.
below() { echo $((RANDOM % $1)); }
tenths() { awk "BEGIN { print ($1 + $RANDOM % ($2 - $1)) / 10 }"; }
# load SECONDS ARGUMENTS…: runs srs_bench with a time limit. Its report is dropped, since reloads close its clients, too.
load() {
    local bound=$1
    shift
    timeout --kill-after=2 "$bound" "$bench" "$@" --ramp 0.3 </dev/null >/dev/null 2>&1
}

# churn SEED ID: publishes streams with new names for about a second each, with players or without.
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

# audience SEED: publishes lasting streams and plays them; some players are killed in the middle of a message.
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

# broken_clients SEED: connects and sends nothing, noise, half a handshake, or a handshake and no command.
broken_clients() {
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

# other_players SEED: plays with ffmpeg and rtmpdump, if they are installed.
other_players() {
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

# viewers SEED: watches HLS of existing and missing streams.
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
    # The first variant again, so that the comparison at the end is fair.
    write_conf 0
    kill -HUP "$server_pid" 2>/dev/null
}

# run SECONDS: runs the load, then waits until the server has removed unused streams.
run() {
    rm -f "$out/stop"
    churn $((seed % 32768)) "a$1" &
    workers=($!)
    churn $((seed % 32768 + 1)) "b$1" &
    workers+=($!)
    audience $((seed % 32768 + 2)) &
    workers+=($!)
    broken_clients $((seed % 32768 + 3)) &
    workers+=($!)
    other_players $((seed % 32768 + 4)) &
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

# status: prints a new status line of the server. It raises the log level for it.
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
# list_files FILE: writes the open files of the server to a file, sockets with their addresses. The `files` of a status line are of the
# moment in which the log file is opened again, when the one before may still be open.
list_files() {
    sleep 1
    local link inode
    for link in "/proc/$server_pid/fd"/*; do
        link=$(readlink "$link") || continue
        inode=${link#socket:[}
        [ "$inode" = "$link" ] || link+=" $(awk -v inode="${inode%]}" '$10 == inode { print $2, $3, $4 }' /proc/net/tcp)"
        echo "$link"
    done >"$1"
}
# check_events FILE: checks the events of the API. Prints their numbers, or the first faults and exits with 1.
check_events() {
    awk '
        function fault(text) {
            if (faults++ < 5) print text ": " $0
        }
        # Returns a field of the JSON, whose names in these events need no escapes.
        function field(name,    rest) {
            if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
            rest = substr($0, RSTART, RLENGTH)
            return substr(rest, length(name) + 5, length(rest) - length(name) - 5)
        }
        # A pair `name` of `key` begins or ends.
        function begin(name, key) {
            if ((name, key) in open) fault("a second " name " of one " key)
            open[name, key] = $0
            count[name]++
        }
        function end(name, key) {
            if (!((name, key) in open)) fault("the end of " name " without a beginning")
            delete open[name, key]
        }
        /^data: / && /"event":/ {
            match($0, /"seq":[0-9]+/)
            seq = substr($0, RSTART + 6, RLENGTH - 6) + 0
            if (last && seq != last + 1) fault("events are missing, the one before is " last)
            last = seq
            event = field("event")
            client = field("client")
            stream = field("name")
            if (event == "connected") begin("connected", client)
            else if (event == "closed") {
                end("connected", client)
                for (pair in open) {
                    split(pair, part, SUBSEP)
                    if (part[2] == client || index(part[2], client " ") == 1) fault("closed while " part[1])
                }
            } else if (event == "published") begin("published", client " " stream)
            else if (event == "publisher_lost") end("published", client " " stream)
            else if (event == "played") begin("played", client " " stream)
            else if (event == "stopped") end("played", client " " stream)
            if (event == "published") live[stream] = 1
            if (event == "unpublished") {
                if (!(stream in live)) fault("unpublished twice")
                delete live[stream]
                count["unpublished"]++
            }
            if ((event == "published" || event == "played") && !(("connected", client) in open)) fault(event " without connected")
        }
        END {
            for (pair in open) { $0 = open[pair]; fault("without an end") }
            for (stream in live) { $0 = stream; fault("never unpublished") }
            if (!last) fault("no events")
            printf "%d clients, %d publications of %d streams, %d playbacks\n", count["connected"], count["published"], count["unpublished"], count["played"]
            exit faults > 0
        }' "$1"
}
# value NAME LINE: prints the value of a key in a status line.
value() { sed -n "s/.*$1=\([0-9]*\).*/\1/p" <<<"$2"; }
# In KiB: segment buffers that wait for reuse, at most 16, which are not charged.
spare=2048
# memory_without_hls LINE: prints resident memory without HLS segments, in KiB. How many segments are kept depends on where in its
# window each stream ended.
memory_without_hls() { echo $(($(value memory_kib "$1") - $(value hls "$1") / 1024)); }

printf 'listen 127.0.0.1:%s; srs_log_level error; vhost __defaultVhost__ { }\n' "$sink" >"$out/sink.conf"
"$server" -c "$out/sink.conf" >"$out/sink.out" 2>&1 </dev/null &
sink_pid=$!
write_conf 0
"$server" -c "$conf" >"$out/server.out" 2>&1 </dev/null &
server_pid=$!
sleep 1
kill -0 "$server_pid" 2>/dev/null || fail "the server does not start: $(cat "$out/server.out")"

curl -sN "http://127.0.0.1:$api/api/v1/events" >"$out/events" &
events_pid=$!
# No event of the load may come before the reader.
await 10 grep -q 'event: hello' "$out/events" || fail "no events from the API"

echo "seed $seed: $WARM_UP s of warm-up, then $seconds s of load, on ports $port and $second"
run "$WARM_UP"
start=$(status) || fail "the server has ended, see $out"
list_files files.before
echo "before: $start"
rm -f "$out"/count/*
run "$seconds"
end=$(status) || fail "the server has ended, see $out"
list_files files.after
echo "after:  $end"

bad=0
for name in clients publishers players streams coroutines files memory; do
    if [ "$name" = files ]; then
        was=$(wc -l <files.before)
        is=$(wc -l <files.after)
        allowed=$was
    elif [ "$name" = memory ]; then
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
        echo "  FAILED  $name: $was before, $is after, $allowed allowed"
    else
        echo "  ok      $name: $was before, $is after"
    fi
done
kill "$events_pid"
wait "$events_pid"
events_pid=
if summary=$(check_events "$out/events"); then
    echo "  ok      events: $summary"
else
    bad=$((bad + 1))
    echo "  FAILED  events: $summary"
fi
streams=0
for file in "$out"/count/[ab]*; do
    [ -e "$file" ] && streams=$((streams + $(cat "$file")))
done
echo "$streams streams published, $(cat "$out/count/reloads" 2>/dev/null || echo 0) reloads"
if grep -q 'panic\|overflowed its stack' "$log" "$out/server.out"; then
    bad=$((bad + 1))
    echo "  FAILED  log: $(grep -h -m 1 'panic\|overflowed its stack' "$log" "$out/server.out")"
fi

kill -TERM "$server_pid"
wait "$server_pid"
ended=$?
server_pid=
[ "$ended" -eq 0 ] || { bad=$((bad + 1)); echo "  FAILED  the server ended with status $ended"; }
if [ "$bad" -gt 0 ]; then fail "$bad checks failed; the log is $log"; fi
echo "passed: the server holds no more than before"
