# shellcheck shell=bash disable=SC2154
# Part of bench.sh: writes the results as a table and as a plot.

# summarize: combines the rows of all rounds into one for each scenario and server. Numbers are medians; lost clients and gaps are
# sums. After the CPU it inserts the ratios to floor-15 and to nginx-rtmp, as medians of the ratios within each round.
summarize() {
    awk -F'|' -v OFS='|' '
        BEGIN { CPU = 3; LOST = 13; GAPS = 14 }
        {
            key = $1 OFS $2
            if (!(key in rounds)) order[++keys] = key
            round = ++rounds[key]
            fields = NF
            for (c = CPU; c <= NF; c++) cell[key, round, c] = $c
        }
        function median(values, n,    i, j, v) {
            if (n == 0) return "-"
            for (i = 2; i <= n; i++) {
                v = values[i]
                for (j = i - 1; j > 0 && values[j] + 0 > v + 0; j--) values[j + 1] = values[j]
                values[j + 1] = v
            }
            # A single value keeps its original format.
            return n % 2 ? values[(n + 1) / 2] : (values[n / 2] + values[n / 2 + 1]) / 2
        }
        function column(key, c,    i, n, values) {
            for (i = 1; i <= rounds[key]; i++) if (cell[key, i, c] != "-") values[++n] = cell[key, i, c]
            return median(values, n)
        }
        function ratio(key, base,    i, n, values) {
            for (i = 1; i <= rounds[key]; i++) if (cell[base, i, CPU] > 0) values[++n] = sprintf("%.2f", cell[key, i, CPU] / cell[base, i, CPU])
            return median(values, n)
        }
        function lost(key,    i, all) {
            for (i = 1; i <= rounds[key]; i++) all += cell[key, i, LOST]
            return all
        }
        function gaps(key,    i, p, part, all) {
            for (i = 1; i <= rounds[key]; i++) {
                if (split(cell[key, i, GAPS], part, "/") < 3) return "-"
                for (p = 1; p <= 3; p++) all[p] += part[p]
            }
            return all[1] "/" all[2] "/" all[3]
        }
        END {
            for (k = 1; k <= keys; k++) {
                key = order[k]
                split(key, name, "|")
                line = key
                for (c = CPU; c <= fields; c++) {
                    line = line OFS (c == LOST ? lost(key) : c == GAPS ? gaps(key) : column(key, c))
                    if (c == CPU + 2) line = line OFS ratio(key, name[1] OFS "floor-15") OFS ratio(key, name[1] OFS "nginx-rtmp")
                }
                print line
            }
        }'
}

write_table() {
    local cores="server and load share the cores"
    [ "${#on_server[@]}" -eq 0 ] || cores="server and load on different cores"
    echo "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores, $cores; streams of 500 kbit/s."
    echo
    if [ -s "$work/idle" ]; then
        echo "| idle server | MB | wake-ups/s | CPU % |"
        echo "|---|---|---|---|"
        awk -F'|' '{ printf "| %s | %s | %s | %s |\n", $1, $2, $3, $4 }' "$work/idle"
        echo
    fi
    echo "| scenario | server | CPU % | user | system | ratio to floor-15 | ratio to nginx-rtmp | KB per client | switches/s | system calls/s | join p50 ms | p99 | latency p50 ms | p99 | lost | gaps | lag of slow player s | Mbit/s | load tool CPU % | busy core % |"
    echo "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    sed 's/|/ | /g; s/^/| /; s/$/ |/' "$work/rows"
    echo
    [ "$rounds" -eq 1 ] || echo "Medians of $rounds rounds; lost and gaps are sums."
    echo "CPU: share of a core used by the server process. Lost: clients that were refused or disconnected. Gaps: positions with missing"
    echo "frames / missing frames / damaged frames, as found by $checking of the players. The load tool is near its limit when its own"
    echo "CPU is near 100 %; for RTMPS it includes the nginx that adds TLS. Busy core: share of time for which the server's core was not idle,"
    echo "with the interrupts and threads of the kernel, which deliver what the server sends and belong to no process. KB per client:"
    echo "resident memory beyond that of the idle server, without the pages of the program file."
    case $syscall_counter in
    perf) echo "System calls: all system calls of the process in one second, counted with perf after the CPU measurement." ;;
    strace) echo "System calls: counted for one second with strace -c -f, which slows the server down; in small scenarios only." ;;
    *) echo "System calls: not counted, because neither perf with tracepoints nor strace is available." ;;
    esac
}

# write_plot: prints one line per row: CPU as a bar, and latency from p50 to p99 on a logarithmic scale from 0.1 ms to 1 s.
write_plot() {
    awk -F'|' '
        { if (!($1 in seen)) { seen[$1] = 1; order[++scenarios] = $1 } row[NR] = $0; if ($3 > most) most = $3 }
        function x(ms) { ms = ms < 0.1 ? 0.1 : ms > 1000 ? 1000 : ms; return 560 + (log(ms) / log(10) + 1) * 70 }
        END {
            height = NR * 18 + scenarios * 26 + 50
            printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", height
            print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
            print "<text x=\"130\" y=\"18\">CPU of the server, % of a core</text><text x=\"560\" y=\"18\">latency, p50 to p99</text>"
            split("0.1 ms,1 ms,10 ms,100 ms,1 s", label, ",")
            for (i = 0; i <= 4; i++) printf "<line x1=\"%d\" x2=\"%d\" y1=\"40\" y2=\"%d\" stroke=\"#ddd\"/><text x=\"%d\" y=\"36\" fill=\"#777\" text-anchor=\"middle\">%s</text>\n", \
                560 + i * 70, 560 + i * 70, height - 8, 560 + i * 70, label[i + 1]
            y = 44
            for (s = 1; s <= scenarios; s++) {
                y += 26
                printf "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y - 6, order[s]
                for (r = 1; r <= NR; r++) {
                    split(row[r], f, "|")
                    if (f[1] != order[s]) continue
                    colour = f[2] ~ /^floor/ ? "#999" : f[2] ~ /^srs/ ? "#2a7" : "#c63"
                    width = most > 0 ? f[3] / most * 350 : 0
                    printf "<text x=\"120\" y=\"%d\" text-anchor=\"end\">%s</text><rect x=\"130\" y=\"%d\" width=\"%.1f\" height=\"13\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">%s</text>\n", \
                        y + 11, f[2], y, width, colour, 136 + width, y + 11, f[3]
                    if (f[13] != "-") printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\" stroke=\"%s\" stroke-width=\"5\" stroke-linecap=\"round\"/><text x=\"%.1f\" y=\"%d\">%.1f</text>\n", \
                        x(f[11]), x(f[12]), y + 7, y + 7, colour, x(f[12]) + 8, y + 11, f[12]
                    y += 18
                }
            }
            print "</svg>"
        }' "$work/rows"
}
