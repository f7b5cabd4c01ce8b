#!/usr/bin/env bash
# Compares builds of this server, and nginx-rtmp, that run at the same time on one core. What changes the speed of the machine meets all
# of them, so that smaller differences show than in measurements one after the other.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench-pairs.sh [OPTION]… SERVER SERVER…

Compares servers that run at the same time on one core, each with publishers and players of its own.

  --streams N    streams of each server (default 100)
  --players N    players of each stream (default 1)
  --day          the scenario day of bench.sh instead: 100 streams with HLS, 310 players, and 50 viewers
  --dir DIR      directory for temporary files, those of HLS included (default: that of the system). On a disk, its file
                 system is a part of what is measured; on a tmpfs (/dev/shm) it is the servers
  --seconds S    duration of each measurement (default 8)
  --rounds N     number of measurements (default 4); each starts the servers in another order
  --no-build     use the existing build
  -h             print this text

SERVER is one of:
  srs            this server, as built
  NAME=PROGRAM   another build of it
  nginx-rtmp     nginx with its RTMP module

The table has each round and the medians; the ratio is to the CPU of the first server in the same round. The servers together
must leave some of the core idle. With two or more cores, they run on one and the load on another. Result: objs/bench/pairs.md.

Examples:
  cp target/release/simple_rtmp_server /tmp/before
  bash trunk-scripts/bench-pairs.sh before=/tmp/before srs
  bash trunk-scripts/bench-pairs.sh --streams 1 --players 200 before=/tmp/before srs nginx-rtmp
  bash trunk-scripts/bench-pairs.sh --day --dir /dev/shm srs nginx-rtmp
END
}

streams=100 players=1 seconds=8 rounds=4 build=yes scenario=streams dir=
servers=()
while [ $# -gt 0 ]; do
    case $1 in
    --streams) need "$@" && streams=$2 && shift ;;
    --players) need "$@" && players=$2 && shift ;;
    --day) scenario=day ;;
    --dir) need "$@" && dir=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --rounds) need "$@" && rounds=$2 && shift ;;
    --no-build) build=no ;;
    -*) other_option "$1" ;;
    *) servers+=("$1") ;;
    esac
    shift
done
for number in "$streams" "$players" "$seconds" "$rounds"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || fail "options need numbers of at least 1, not '$number'"
done
# shellcheck source=trunk-scripts/bench/servers.sh
. trunk-scripts/bench/servers.sh
# shellcheck source=trunk-scripts/bench/measure.sh
. trunk-scripts/bench/measure.sh
find_nginx
check_builds "${servers[@]}"
[ "$scenario" = streams ] || streams=100 players=1
[ "${#servers[@]}" -ge 2 ] || fail "give two servers or more"

prepare_bench "$build" "$dir"
bench=("${on_load[@]}" "$bin/srs_bench")

# sum_of SERVER_NUMBER NAME: prints the sum of a number over the load processes of a server.
sum_of() {
    local file
    for file in "$work/load$1."*; do field "${file##*/}" "$2"; done | awk '{ sum += $1 } END { print sum + 0 }'
}

# measure_round NUMBER: runs all servers at once, and appends a row for each to $work/rows.
measure_round() {
    local i n process=() ports=() http_ports=() before=() after=() loads=() begin end first idle
    for n in "${!servers[@]}"; do
        i=$(((n + $1) % ${#servers[@]}))
        start_build "${servers[i]}" "$scenario"
        process[i]=$server_pid ports[i]=$port http_ports[i]=$http_port
        publish "${servers[i]}" 'stream{n}' "$streams"
    done
    [ "$scenario" != day ] || await_old_segments
    for i in "${!servers[@]}"; do
        port=${ports[i]} http_port=${http_ports[i]}
        [ "$scenario" != day ] || load_of_a_day
        play "$streams" "$players" "load$i" "--check=$checking" --ramp 2 --duration $((seconds + 2))
    done
    sleep 4
    for i in "${!servers[@]}"; do before[i]=$(user_and_system "${process[i]}"); done
    idle=$(core_idle) begin=$EPOCHREALTIME
    sleep "$seconds"
    for i in "${!servers[@]}"; do after[i]=$(user_and_system "${process[i]}"); done
    end=$EPOCHREALTIME
    [ -z "$idle" ] || [ $(($(core_idle) - idle)) -gt $((seconds * ticks / 10)) ] ||
        echo "bench-pairs.sh: the core was busy for more than 90 % of the time: give fewer streams" >&2
    wait "${loads[@]}"
    for i in "${!servers[@]}"; do
        awk -v OFS='|' -v round="$1" -v name="${servers[i]%%=*}" -v used="${before[i]} ${after[i]}" -v first="${first-}" -v t="$ticks" \
            -v begin="$begin" -v end="$end" -v p50="$(field "load$i.1" latency_ms_p50)" -v p99="$(field "load$i.1" latency_ms_p99)" \
            -v lost=$(($(sum_of "$i" lost) + $(sum_of "$i" refused))) -v gaps="$(sum_of "$i" gaps)" \
            -v mbit="$(sum_of "$i" mbit_per_second)" 'BEGIN {
            split(used, n, " ")
            f = 100 / t / (end - begin)
            cpu = (n[3] + n[4] - n[1] - n[2]) * f
            print round, name, sprintf("%.1f", cpu), sprintf("%.2f", first > 0 ? cpu / first : 1), sprintf("%.1f", (n[3] - n[1]) * f), \
                sprintf("%.2f", p50), sprintf("%.2f", p99), lost, gaps, sprintf("%.0f", mbit)
        }' | tee -a "$work/rows"
        : "${first:=$(tail -n 1 "$work/rows" | cut -d '|' -f 3)}"
    done
    stop_processes
}

# medians SERVER: prints a row with the medians of a server.
medians() {
    local column row="median|$1"
    for column in 3 4 5 6 7 8 9 10; do
        row+=\|$(awk -F'|' -v name="$1" -v c="$column" '$2 == name { print $c }' "$work/rows" | sort -g |
            awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }')
    done
    echo "$row"
}

: >"$work/rows"
for round in $(seq "$rounds"); do measure_round "$round"; done
{
    if [ "$scenario" = day ]; then
        echo "${#servers[@]} servers at the same time, each with a day: 100 streams of 500 kbit/s with HLS, 310 players, 50 viewers of HLS."
        echo "Mbit/s: of the 100 players that are measured."
    else
        echo "${#servers[@]} servers at the same time, each with $streams streams of 500 kbit/s; players per stream: $players."
    fi
    echo
    echo "| round | server | CPU % | ratio to ${servers[0]%%=*} | user | latency p50 ms | p99 | lost | gaps | Mbit/s |"
    echo "|---|---|---|---|---|---|---|---|---|---|"
    {
        cat "$work/rows"
        for server in "${servers[@]}"; do medians "${server%%=*}"; done
    } | sed 's/|/ | /g; s/^/| /; s/$/ |/'
} >"$out/pairs.md"
echo
cat "$out/pairs.md"
echo
echo "Written to $out/pairs.md"
