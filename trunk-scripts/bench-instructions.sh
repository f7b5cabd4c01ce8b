#!/usr/bin/env bash
# Counts the instructions of a server per message of media, with callgrind. They depend much less on the machine than its time does, so
# that smaller changes of the code show. They say nothing of the kernel and of the caches.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-instructions.sh [OPTION]… [SERVER…]

Counts the instructions of a server per message that its publishers send, with callgrind, one server after the other.

  --streams N    published streams (default 20)
  --players N    players of each stream (default 1)
  --seconds S    duration of each measurement (default 5)
  --top N        also print the N functions with the most instructions of their own
  --no-build     use the existing build
  -h             print this text

SERVER is one of:
  srs            this server, as built (default)
  NAME=PROGRAM   another build of it
  nginx-rtmp     nginx with its RTMP module

Messages are counted as calls of the function that handles one, so that a program without symbols, or one whose compiler has
put this function into its callers, cannot be measured. As root on Debian, valgrind is installed if it is missing. The profile
of the last measurement is kept: objs/bench/callgrind.out, for callgrind_annotate. Result: objs/bench/instructions.md.

Runs on an idle machine differ by about 2 %. On a busy one, more messages arrive at once, which changes the work for each.

Examples:
  bash trunk-scripts/bench-instructions.sh srs nginx-rtmp
  bash trunk-scripts/bench-instructions.sh --streams 1 --players 100 --top 20
END
}

streams=20 players=1 seconds=5 top=0 build=yes
servers=()
while [ $# -gt 0 ]; do
    case $1 in
    --streams) need "$@" && streams=$2 && shift ;;
    --players) need "$@" && players=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --top) need "$@" && top=$2 && shift ;;
    --no-build) build=no ;;
    -*) other_option "$1" ;;
    *) servers+=("$1") ;;
    esac
    shift
done
for number in "$streams" "$players" "$seconds"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || fail "options need numbers of at least 1, not '$number'"
done
[[ $top =~ ^[0-9]+$ ]] || fail "--top needs a number, not '$top'"
[ "${#servers[@]}" -gt 0 ] || servers=(srs)
# shellcheck source=trunk-scripts/bench/servers.sh
. trunk-scripts/bench/servers.sh
find_nginx
check_builds "${servers[@]}"
here valgrind || install_packages valgrind || fail "valgrind not found (Debian: apt-get install valgrind)"

prepare_bench "$build"
bench=("${on_load[@]}" "$bin/srs_bench")
profile=$out/callgrind.out
# Functions that handle one message of media each: of this server, and of nginx-rtmp.
handlers='Publication::on_message$|^ngx_rtmp_receive_message$'

# profile_of SERVER: writes the profile of a server under load.
profile_of() {
    local loads=()
    rm -f "$profile"
    local on_server=("${on_server[@]}" valgrind --tool=callgrind "--callgrind-out-file=$profile" --instr-atstart=no \
        "--log-file=$work/valgrind.log")
    start_build "$1"
    publish "$1" 'stream{n}' "$streams"
    play "$streams" "$players" load --ramp 2 --duration 3600
    # Until the players have joined: the server is some fifty times slower than without callgrind.
    sleep 8
    callgrind_control --instr=on "$server_pid" >/dev/null 2>&1 || fail "callgrind does not answer"
    sleep "$seconds"
    callgrind_control --instr=off "$server_pid" >/dev/null 2>&1
    stop_processes
    [ -s "$profile" ] || fail "callgrind wrote no profile"
}

# analyze SERVER: appends a row to $work/rows, and prints the functions with the most instructions of their own, each per message.
analyze() {
    awk -v OFS='|' -v name="${1%%=*}" -v handlers="$handlers" -v players="$players" -v rows="$work/rows" '
        # A name is written once, with its number: "fn=(12) name", later "fn=(12)".
        function number(line,    start) {
            start = index(line, ")")
            if (length(line) > start) names[substr(line, 1, start)] = substr(line, start + 2)
            return substr(line, 1, start)
        }
        /^fn=/ { current = number(substr($0, 4)); next }
        /^cfn=/ { callee = number(substr($0, 5)); next }
        /^calls=/ { calls[callee] += substr($1, 7); is_callees = 1; next }
        # The line after "calls=" has the instructions of the callee.
        /^[-+*0-9]/ { if (!is_callees) own[current] += $2; is_callees = 0; next }
        /^totals:/ { total = $2 }
        END {
            for (f in calls) if (names[f] ~ handlers) messages += calls[f]
            if (messages == 0) exit 1
            print name, messages, sprintf("%.0f", total / messages), sprintf("%.0f", total / messages / players) >rows
            for (f in own) printf "%10.1f  %s\n", own[f] / messages, names[f]
        }' "$profile" >"$work/functions" || fail "$1 has no function that matches $handlers, or got no message"
    [ "$top" -eq 0 ] || {
        echo "Instructions per message of functions of ${1%%=*}:"
        sort -rg "$work/functions" | head -n "$top" | cut -c 1-140
        echo
    }
}

{
    echo "Streams: $streams, players per stream: $players."
    echo
    echo "| server | messages | instructions per message | per message and player |"
    echo "|---|---|---|---|"
} >"$work/table"
for server in "${servers[@]}"; do
    echo "== $server"
    profile_of "$server"
    analyze "$server"
    sed 's/|/ | /g; s/^/| /; s/$/ |/' "$work/rows" >>"$work/table"
done
cp "$work/table" "$out/instructions.md"
cat "$out/instructions.md"
echo
echo "Written to $out/instructions.md"
