#!/usr/bin/env bash
# One run, one table: the floor (what the kernel alone asks for), this server, nginx-rtmp and whatever other servers are named,
# in turn, on the same load. Ratios within one run are what counts: machines differ, and differ from hour to hour.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench.sh [options]

  --scenarios "NAME …"       only these (default "idle 100 500 2000 5000 streams publishers joins slow")
  --only "NAME …"            only these servers
  --seconds S                how long each measurement lasts (default 8; a whole run takes about 12 minutes)
  --rounds N                 how often each is measured (default 1); the table has the medians
  --quick                    500 players, 4 seconds
  --no-build                 what is built already
  --peer NAME=PORT=COMMAND   one more server; its application is live
  -h                         this text

Scenarios: idle; a number of players of one 500 kbit/s stream; streams (200, a player each); publishers (300, no players);
joins (100 players, 50 leave and come again each second); slow (500 players, one of which reads 4 KB a second).
Servers: floor-0 (each message by itself, at once), floor-15, floor-350 (one write each so many ms), srs (as configured by
default), srs-15 (mw_latency 15; mw_adaptive off), srs-350 (the same with 350), srs-min (min_latency on), and nginx-rtmp when
nginx has its module. The floors, srs-15 and srs-350 take part in 500 players and more.

The table and a picture go to objs/bench/. The server runs on one core, the load on another, where there are two.
END
}

scenarios=(idle 100 500 2000 5000 streams publishers joins slow) seconds=8 rounds=1 only='' build=yes
peers=()
while [ $# -gt 0 ]; do
    case $1 in
    --scenarios) need "$@" && read -ra scenarios <<<"$2" && shift ;;
    --only) need "$@" && only=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --rounds) need "$@" && rounds=$2 && shift ;;
    --quick) scenarios=(500) seconds=4 ;;
    --no-build) build=no ;;
    --peer) need "$@" && peers+=("$2") && shift ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) unknown_option "$1" ;;
    esac
    shift
done
for scenario in "${scenarios[@]}"; do
    case $scenario in
    idle | streams | publishers | joins | slow) ;;
    *[!0-9]* | 0*) fail "there is no scenario '$scenario'" ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds is a number from 1, not '$rounds'"

out=objs/bench
mkdir -p "$out"
work=$(mktemp -d)
server_pid='' publisher_pid=''

finish() {
    stop_publishing
    stop_server
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

here=trunk-scripts/bench
# shellcheck source=trunk-scripts/bench/servers.sh
. $here/servers.sh
# shellcheck source=trunk-scripts/bench/measure.sh
. $here/measure.sh
# shellcheck source=trunk-scripts/bench/report.sh
. $here/report.sh

[ "$build" = no ] || cargo build --release --locked --bins || exit 1
bin=${CARGO_TARGET_DIR:-target}/release
cc -O2 -o "$work/floor" tests/benches/floor.c || exit 1

# Thousands of connections, in each of two processes.
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

share_cores
bench=("${on_load[@]}" "$bin/srs_bench")
"${bench[@]}" file "$work/stream.flv" --duration 60 || exit 1

# takes_part SERVER SCENARIO ROUND: floors and fixed windows are there to be compared with, under load; an idle server is measured
# once.
takes_part() {
    case $1 in
    floor-* | srs-15 | srs-350) [[ $2 =~ ^[0-9]+$ && $2 -ge 500 ]] ;;
    srs-min) [ "$2" != idle ] ;;
    *) [ "$2" != idle ] || [ "$3" -eq 1 ] ;;
    esac
}

find_syscall_counter
find_nginx
choose_servers
began=$SECONDS
: >"$work/rounds"
: >"$work/idle"
# Those that are compared come right after each other: the machine may be another one a minute later.
for scenario in "${scenarios[@]}"; do
    for round in $(seq "$rounds"); do
        for server in "${servers[@]}"; do
            takes_part "$server" "$scenario" "$round" || continue
            echo "== $server, $scenario, round $round of $rounds ($((SECONDS - began)) s)"
            start "$server" || continue
            run_scenario "$server" "$scenario"
            stop_publishing
            stop_server
        done
    done
done

summarize <"$work/rounds" >"$work/rows"
write_table >"$out/table.md"
write_plot >"$out/plot.svg"
echo
cat "$out/table.md"
echo
echo "Written to $out/table.md and $out/plot.svg in $((SECONDS - began)) s"
