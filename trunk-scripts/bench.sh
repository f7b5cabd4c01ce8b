#!/usr/bin/env bash
# One run, one table: the floor (what the kernel alone asks for), this server, nginx-rtmp and whatever other servers are named,
# in turn, on the same load. Ratios within one run are what counts: machines differ, and differ from hour to hour.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

usage() {
    cat <<'END'
Usage: bash trunk-scripts/bench.sh [options]

  --players "N …"            players of one 500 kbit/s stream (default "500 2000")
  --seconds S                how long each measurement lasts (default 8)
  --quick                    500 players, 4 seconds
  --only NAME                only this server and the 15 ms floor
  --peer NAME=PORT=COMMAND   one more server; its application is live
  -h                         this text

Servers: floor-15, floor-350 (one write each so many ms), srs (as configured by default), srs-min (min_latency on),
srs-350 (mw_latency 350; mw_adaptive off), and nginx-rtmp when nginx has its module. The table and a picture go to objs/bench/.
The server runs on one core, the load on another, where there are two.
END
}

players="500 2000" seconds=8 only=
peers=()
while [ $# -gt 0 ]; do
    case $1 in
    --players) players=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --quick) players=500 seconds=4 ;;
    --only) only=$2 && shift ;;
    --peer) peers+=("$2") && shift ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        echo "bench.sh: unknown option '$1'" >&2
        exit 1
        ;;
    esac
    shift
done

out=objs/bench
mkdir -p "$out"
work=$(mktemp -d)
server_pid= publisher_pid=

finish() {
    [ -n "$publisher_pid" ] && kill "$publisher_pid" 2>/dev/null
    stop_server
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

cargo build --release --locked --bins || exit 1
bin=${CARGO_TARGET_DIR:-target}/release
cc -O2 -o "$work/floor" tests/benches/floor.c || exit 1

# The server on one core and the load on another; on a single core they share it, and the figures say little.
on_server=() on_load=()
if [ "$(nproc)" -ge 2 ] && command -v taskset >/dev/null; then
    on_server=(taskset -c 0) on_load=(taskset -c 1)
fi
# An array and not a function: in the background, a function would be a shell of its own, and that is what a kill would hit.
bench=("${on_load[@]}" "$bin/srs_bench")
"${bench[@]}" file "$work/stream.flv" --duration 60 || exit 1

free_port() {
    local port
    for port in $(seq 21935 22935); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port" && return; }
    done
}

# start NAME: sets server_pid and port.
start() {
    port=$(free_port)
    case $1 in
    floor-*) "${on_server[@]}" "$work/floor" "$port" "$work/stream.flv" "${1#floor-}" & ;;
    srs | srs-*)
        local latency=
        [ "$1" = srs-min ] && latency="min_latency on;"
        [ "$1" = srs-350 ] && latency="mw_latency 350; mw_adaptive off;"
        cat >"$work/srs.conf" <<END
listen 127.0.0.1:$port;
chunk_size 65000;
max_connections 20000;
srs_log_level warn;
vhost __defaultVhost__ { $latency }
END
        "${on_server[@]}" "$bin/simple_rtmp_server" -c "$work/srs.conf" &
        ;;
    nginx-rtmp)
        cat >"$work/nginx.conf" <<END
load_module $nginx_module;
daemon off;
master_process off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events { worker_connections 20000; }
rtmp { server { listen 127.0.0.1:$port; chunk_size 65000; application live { live on; } } }
END
        "${on_server[@]}" nginx -c "$work/nginx.conf" &
        ;;
    *)
        port=${peer_port[$1]}
        # The words of the command, as a shell splits them.
        # shellcheck disable=SC2086
        "${on_server[@]}" ${peer_command[$1]} >"$work/peer.log" 2>&1 &
        ;;
    esac
    server_pid=$!
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
        sleep 0.1
    done
    echo "bench.sh: $1 does not answer on port $port" >&2
    return 1
}

stop_server() {
    [ -n "$server_pid" ] || return 0
    kill "$server_pid" 2>/dev/null
    wait "$server_pid" 2>/dev/null
    server_pid=
}

# publish URL SECONDS CLIENTS: in the background, unless the server is the floor, which has its stream.
publish() {
    publisher_pid=
    case $1 in floor-*) return ;; esac
    "${bench[@]}" publish "rtmp://127.0.0.1:$port/live/$2" -c "$3" --ramp 1 --duration 3600 --json >/dev/null &
    publisher_pid=$!
    sleep 2
}

stop_publishing() {
    [ -n "$publisher_pid" ] && kill "$publisher_pid" 2>/dev/null && wait "$publisher_pid" 2>/dev/null
    publisher_pid=
}

ticks=$(getconf CLK_TCK)
user_and_system() { awk '{print $14, $15}' "/proc/$server_pid/stat"; }
resident_kb() { awk '/^VmRSS/ {print $2}' "/proc/$server_pid/status"; }
switches() { awk '/ctxt_switches/ {n += $2} END {print n}' /proc/"$server_pid"/task/*/status; }
field() { sed -n "s/.*\"$1\":\\([-0-9.]*\\).*/\\1/p" "$work/load.json"; }

# measure SERVER SCENARIO CLIENTS COMMAND…: runs the load, and takes the server's CPU time over the middle of it.
measure() {
    local server=$1 scenario=$2 clients=$3 ramp=3
    shift 3
    local idle=$idle_kb
    "$@" --ramp "$ramp" --duration $((seconds + 3)) --json >"$work/load.json" &
    local load=$!
    sleep $((ramp + 1))
    local user0 system0 user1 system1 switches0 kb
    read -r user0 system0 < <(user_and_system)
    switches0=$(switches)
    sleep "$seconds"
    read -r user1 system1 < <(user_and_system)
    local per_second=$((($(switches) - switches0) / seconds))
    kb=$(resident_kb)
    wait "$load"
    awk -v s="$seconds" -v t="$ticks" -v u=$((user1 - user0)) -v k=$((system1 - system0)) -v kb="$kb" -v idle="$idle" \
        -v n="$clients" -v switches="$per_second" -v server="$server" -v scenario="$scenario" -v lost="$(field lost)" \
        -v refused="$(field refused)" -v mbit="$(field mbit_per_second)" -v join="$(field join_ms_p50)" \
        -v p50="$(field latency_ms_p50)" -v p99="$(field latency_ms_p99)" 'BEGIN {
        f = 100 / t / s
        printf "%s|%s|%.1f|%.1f|%.1f|%.1f|%d|%s|%s|%s|%d|%s\n", scenario, server, (u + k) * f, u * f, k * f, (kb - idle) / n, \
            switches, join == "" ? "-" : join + 0, p50 == "" ? "-" : p50 + 0, p99 == "" ? "-" : p99 + 0, lost + refused, mbit
    }' | tee -a "$work/rows"
}

nginx_module=$(ls /usr/lib/nginx/modules/ngx_rtmp_module.so 2>/dev/null)
servers=(floor-15 floor-350 srs srs-min srs-350)
if command -v nginx >/dev/null && [ -n "$nginx_module" ]; then
    servers+=(nginx-rtmp)
else
    echo "nginx-rtmp is not here (Debian: nginx, libnginx-mod-rtmp) and is left out"
fi
declare -A peer_port peer_command
for peer in "${peers[@]}"; do
    IFS='=' read -r name peer_listen command <<<"$peer"
    peer_port[$name]=$peer_listen peer_command[$name]=$command
    servers+=("$name")
done
[ -n "$only" ] && servers=(floor-15 "$only")

: >"$work/rows"
for server in "${servers[@]}"; do
    echo "== $server"
    for n in $players; do
        start "$server" || continue
        idle_kb=$(resident_kb)
        publish "$server" stream 1
        measure "$server" "$n players" "$n" "${bench[@]}" play "rtmp://127.0.0.1:$port/live/stream" -c "$n"
        stop_publishing
        stop_server
    done
    case $server in floor-*) continue ;; esac
    for n in 100 500; do
        start "$server" || continue
        idle_kb=$(resident_kb)
        measure "$server" "$n players, latency" "$n" "${bench[@]}" latency "rtmp://127.0.0.1:$port/live/stream" -c "$n"
        stop_server
    done
    start "$server" || continue
    idle_kb=$(resident_kb)
    publish "$server" 'stream{n}' 200
    measure "$server" "200 streams, a player each" 200 "${bench[@]}" play "rtmp://127.0.0.1:$port/live/stream{n}" -c 200
    stop_publishing
    stop_server
    start "$server" || continue
    idle_kb=$(resident_kb)
    measure "$server" "300 publishers" 300 "${bench[@]}" publish "rtmp://127.0.0.1:$port/live/stream{n}" -c 300
    stop_server
done

# The table, with each CPU share also as a ratio to the 15 ms floor of the same scenario.
awk -F'|' '
    $2 == "floor-15" { floor[$1] = $3 }
    { row[NR] = $0; if (!($1 in seen)) { seen[$1] = 1; order[++scenarios] = $1 } }
    END {
        print "| scenario | server | CPU % | user | system | to floor-15 | KB a client | switches/s | join p50 ms | latency p50 ms | p99 ms | lost | Mbit/s |"
        print "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        for (s = 1; s <= scenarios; s++) for (r = 1; r <= NR; r++) {
            split(row[r], f, "|")
            if (f[1] != order[s]) continue
            ratio = floor[f[1]] > 0 ? sprintf("%.2f", f[3] / floor[f[1]]) : "-"
            printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", f[1], f[2], f[3], f[4], f[5], ratio, f[6], f[7], f[8], f[9], f[10], f[11], f[12]
        }
    }' "$work/rows" >"$out/table.md"

# The CPU shares as bars.
awk -F'|' '
    { name[NR] = $1 ", " $2; cpu[NR] = $3; if ($3 > most) most = $3 }
    END {
        printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", NR * 20 + 30
        print "<text x=\"10\" y=\"18\">CPU of the server process, % of a core</text>"
        for (r = 1; r <= NR; r++) {
            y = r * 20 + 10; colour = name[r] ~ /floor/ ? "#999" : name[r] ~ /, srs/ ? "#2a7" : "#c63"
            printf "<text x=\"300\" y=\"%d\" text-anchor=\"end\">%s</text><rect x=\"310\" y=\"%d\" width=\"%d\" height=\"14\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%s</text>\n", \
                y + 11, name[r], y, cpu[r] / most * 400, colour, 316 + cpu[r] / most * 400, y + 11, cpu[r]
        }
        print "</svg>"
    }' "$work/rows" >"$out/cpu.svg"

echo
cat "$out/table.md"
echo
echo "Written to $out/table.md and $out/cpu.svg"
