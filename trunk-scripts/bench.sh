#!/usr/bin/env bash
# Measures the CPU and latency of this server, nginx-rtmp, other servers, and the floor (a C program that only makes the system
# calls) under the same load. Compare ratios within one run: absolute values differ between machines and from hour to hour.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench.sh [OPTION]…

Measures this server, nginx-rtmp and the floor under the same load, one after the other.

  --scenarios "NAME …"       scenarios (default "idle 100 500 2000 5000 streams publishers joins slow")
  --only "NAME …"            servers (default all)
  --seconds S                duration of each measurement (default 8; a complete run takes about 12 minutes)
  --rounds N                 number of measurements (default 1); the table shows the medians
  --dir DIR                  directory for temporary files, those of HLS and recordings included (default: that of the system)
  --quick                    500 players for 4 seconds only
  --no-build                 use the existing build
  --peer NAME=PORT[,HTTP_PORT]=COMMAND   add another server; its application must be live, and for flv-NUMBER it must serve
                             /live/stream.flv on HTTP_PORT, without the chunked coding
  -h                         print this text

Scenarios:
  idle          no clients
  NUMBER        this many players of one 500 kbit/s stream
  flv-NUMBER    this many viewers of the same stream over HTTP-FLV
  rtmps-NUMBER  this many players of the same stream over TLS; the peer is nginx with RTMP and, in front of it, TLS by stream
  streams       200 streams with one player each
  publishers    300 publishers without players
  record        50 publishers, each recorded as an FLV file, without players
  joins         100 players, of which 50 leave and join again each second
  slow          500 players, of which one reads 4 KB/s
  day           100 streams with HLS and three players each, of which 5 more join each second, and 50 viewers of HLS

Servers:
  floor-0       the floor with one write per message
  floor-15      the floor with one write every 15 ms
  floor-350     the floor with one write every 350 ms
  srs           this server with the default configuration
  srs-15        this server with mw_latency 15; mw_adaptive off
  srs-350       this server with mw_latency 350; mw_adaptive off
  srs-min       this server with min_latency on
  nginx-rtmp    nginx, if its RTMP module is installed
The floors are measured with 500 players and more only; srs-15 and srs-350 also with a day.

srs_bench plays without TLS: in rtmps-NUMBER, another nginx on the core of the load adds it. As root on Debian, nginx's stream
module is installed for that if it is missing.

Results: objs/bench/table.md and objs/bench/plot.svg. With two or more cores, the server runs on one and the load on another.

Examples:
  bash trunk-scripts/bench.sh --quick
  bash trunk-scripts/bench.sh --scenarios "500 2000" --only "srs nginx-rtmp" --rounds 3
  bash trunk-scripts/bench.sh --scenarios "500 flv-500 2000 flv-2000" --only srs --rounds 5
  bash trunk-scripts/bench.sh --scenarios rtmps-500 --rounds 3
  bash trunk-scripts/bench.sh --peer "other=1936=/opt/other/server -c other.conf"
END
}

scenarios=(idle 100 500 2000 5000 streams publishers joins slow) seconds=8 rounds=1 only='' build=yes dir=
peers=()
while [ $# -gt 0 ]; do
    case $1 in
    --scenarios) need "$@" && read -ra scenarios <<<"$2" && shift ;;
    --only) need "$@" && only=$2 && shift ;;
    --seconds) need "$@" && seconds=$2 && shift ;;
    --rounds) need "$@" && rounds=$2 && shift ;;
    --dir) need "$@" && dir=$2 && shift ;;
    --quick) scenarios=(500) seconds=4 ;;
    --no-build) build=no ;;
    --peer) need "$@" && peers+=("$2") && shift ;;
    *) other_option "$1" ;;
    esac
    shift
done
for scenario in "${scenarios[@]}"; do
    case $scenario in
    idle | streams | publishers | record | joins | slow | day) ;;
    flv-[1-9]* | rtmps-[1-9]*) [[ ${scenario#*-} =~ ^[0-9]+$ ]] || fail "unknown scenario '$scenario'" ;;
    *[!0-9]* | 0*) fail "unknown scenario '$scenario'" ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number of at least 1, not '$rounds'"

here=trunk-scripts/bench
# shellcheck source=trunk-scripts/bench/servers.sh
. $here/servers.sh
# shellcheck source=trunk-scripts/bench/measure.sh
. $here/measure.sh
# shellcheck source=trunk-scripts/bench/report.sh
. $here/report.sh

prepare_bench "$build" "$dir"
cc -O2 -o "$work/floor" tests/benches/floor.c || exit 1

bench=("${on_load[@]}" "$bin/srs_bench")
"${bench[@]}" file "$work/stream.flv" --duration 60 || exit 1

# applies SERVER SCENARIO ROUND: returns true if the server is measured in this scenario. Floors and fixed latencies are only
# references under load; an idle server is measured once.
applies() {
    case $2 in
    flv-*)
        # RTMP servers without HTTP-FLV.
        [[ $1 != floor-* && $1 != nginx-rtmp ]] && { [[ $1 == srs* ]] || [ -n "${peer_http_port[$1]}" ]; }
        return
        ;;
    day)
        [[ $1 == srs* || $1 == nginx-rtmp ]]
        return
        ;;
    record | rtmps-*)
        [[ $1 == srs || $1 == nginx-rtmp ]]
        return
        ;;
    esac
    case $1 in
    floor-* | srs-15 | srs-350) [[ $2 =~ ^[0-9]+$ && $2 -ge 500 ]] ;;
    srs-min) [ "$2" != idle ] ;;
    *) [ "$2" != idle ] || [ "$3" -eq 1 ] ;;
    esac
}

find_syscall_counter
[[ " ${scenarios[*]}" != *" rtmps-"* ]] || prepare_rtmps
find_nginx
choose_servers
started=$SECONDS
: >"$work/rounds"
: >"$work/idle"
# The servers of one scenario are measured right after each other, because the speed of the machine changes over time.
for scenario in "${scenarios[@]}"; do
    for round in $(seq "$rounds"); do
        for server in "${servers[@]}"; do
            applies "$server" "$scenario" "$round" || continue
            echo "== $server, $scenario, round $round of $rounds ($((SECONDS - started)) s)"
            start "$server" "$scenario" || continue
            run_scenario "$server" "$scenario"
            stop_processes
        done
    done
done

summarize <"$work/rounds" >"$work/rows"
write_table >"$out/table.md"
write_plot >"$out/plot.svg"
echo
cat "$out/table.md"
echo
echo "Written to $out/table.md and $out/plot.svg in $((SECONDS - started)) s"
