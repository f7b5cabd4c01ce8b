# shellcheck shell=bash disable=SC2154
# Part of bench.sh, bench-pairs.sh and bench-instructions.sh: starts the servers, publishes streams to them and plays these.

declare -A peer_port peer_http_port peer_command
# Another program of this server for srs, if not empty.
program=

# choose_servers: sets servers, in the order of measurement.
choose_servers() {
    servers=(floor-0 floor-15 floor-350 srs srs-15 srs-min srs-350)
    if has_nginx_rtmp; then
        servers+=(nginx-rtmp)
    else
        echo "Skipping nginx-rtmp: not found (Debian: apt-get install nginx libnginx-mod-rtmp)"
    fi
    local peer name peer_listen command
    for peer in "${peers[@]}"; do
        IFS='=' read -r name peer_listen command <<<"$peer"
        peer_port[$name]=${peer_listen%,*} peer_command[$name]=$command
        peer_http_port[$name]=
        [[ $peer_listen != *,* ]] || peer_http_port[$name]=${peer_listen#*,}
        servers+=("$name")
    done
    [ -n "$only" ] || return 0
    local wanted known=" ${servers[*]} "
    read -ra wanted <<<"$only"
    for name in "${wanted[@]}"; do
        [[ $known == *" $name "* ]] || fail "unknown server '$name'"
    done
    servers=("${wanted[@]}")
}

# start NAME SCENARIO: starts a server. Sets server_pid, port and http_port.
start() {
    local html processes hls='' rtmp_hls='' files='' dvr='' record='' rtmps='' module='' stream=''
    port=$(free_port 21935)
    http_port=$(free_port 28080)
    if [ "$2" = day ]; then
        html=$work/html-$port
        rm -rf "$html" && mkdir "$html"
        hls="hls { enabled on; hls_path $html; hls_fragment 2; hls_window 6; }"
        rtmp_hls="hls on; hls_path $html/live; hls_fragment 2s; hls_playlist_length 6s;"
    fi
    if [ "$2" = record ]; then
        rm -rf "$work/recorded" && mkdir "$work/recorded"
        dvr="dvr { enabled on; dvr_path $work/recorded/[stream].[timestamp].flv; }"
        record="record all; record_path $work/recorded; record_unique on;"
    fi
    if [[ $2 == rtmps-* ]]; then
        rtmps_port=$(free_port 27443)
        rtmps="rtmps { enabled on; listen 127.0.0.1:$rtmps_port; cert $work/cert.pem; key $work/key.pem; }"
        module="load_module $nginx_stream_module;"
        stream="stream { server { listen 127.0.0.1:$rtmps_port ssl; ssl_protocols TLSv1.3; ssl_certificate $work/cert.pem;
            ssl_certificate_key $work/key.pem; proxy_pass 127.0.0.1:$port; } }"
    fi
    case $1 in
    floor-*) "${on_server[@]}" "$work/floor" "$port" "$work/stream.flv" "${1#floor-}" & ;;
    srs | srs-*)
        local latency=
        case $1 in
        srs-min) latency="min_latency on;" ;;
        srs-*) latency="mw_latency ${1#srs-}; mw_adaptive off;" ;;
        esac
        cat >"$work/srs.conf" <<END
listen 127.0.0.1:$port;
chunk_size 65000;
max_connections 15000;
max_busy 0;
srs_log_level warn;
http_server { enabled on; listen 127.0.0.1:$http_port; ${hls:+dir $html;} max_connections 15000; page off; }
$rtmps
vhost __defaultVhost__ { $latency $hls $dvr http_remux { enabled on; } }
END
        "${on_server[@]}" "${program:-$bin/simple_rtmp_server}" -c "$work/srs.conf" &
        ;;
    nginx-rtmp)
        processes=$(nginx_process "$work")
        if [ -n "$hls" ]; then
            # Its cache manager, which removes old segments, needs a master process.
            processes="$(sed '/^master_process/d' <<<"$processes") user $(id -un); worker_processes 1;"
            files=$(nginx_files "$html")
        fi
        cat >"$work/nginx.conf" <<END
load_module $nginx_module;
$module
$processes
rtmp { server { listen 127.0.0.1:$port; chunk_size 65000; application live { live on; $rtmp_hls $record } } }
$files
$stream
END
        "${on_server[@]}" "$nginx" -c "$work/nginx.conf" &
        ;;
    *)
        port=${peer_port[$1]} http_port=${peer_http_port[$1]}
        # The command is split into words on purpose.
        # shellcheck disable=SC2086
        "${on_server[@]}" ${peer_command[$1]} >"$work/peer.log" 2>&1 &
        ;;
    esac
    server_pid=$! pids+=($!)
    await_server "$server_pid" "$port" && return 0
    echo "bench.sh: $1 does not answer on port $port" >&2
    stop_processes
    return 1
}

# check_builds SERVER…: fails unless each is srs, nginx-rtmp, or NAME=PROGRAM, another program of this server.
check_builds() {
    local server
    for server in "$@"; do
        case $server in
        srs) ;;
        nginx-rtmp) has_nginx_rtmp || fail "nginx-rtmp not found (Debian: apt-get install nginx libnginx-mod-rtmp)" ;;
        ?*=*) [ -x "${server#*=}" ] || fail "${server#*=} is no program" ;;
        *) fail "unknown server '$server': give srs, nginx-rtmp, or NAME=PROGRAM" ;;
        esac
    done
}

# start_build SERVER [SCENARIO]: starts a server that check_builds accepts. Sets server_pid, port and http_port.
start_build() {
    case $1 in
    *=*) program=${1#*=} start srs "${2-streams}" ;;
    *) start "$1" "${2-streams}" ;;
    esac || exit 1
}

# nginx_files DIR: prints the part of the configuration of nginx that serves a directory over HTTP.
nginx_files() {
    cat <<END
http {
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    access_log off;
    sendfile on;
    tcp_nopush on;
    types { application/vnd.apple.mpegurl m3u8; video/mp2t ts; }
    server { listen 127.0.0.1:$http_port; root $1; }
}
END
}

# prepare_rtmps: makes the certificate for RTMPS, and installs what its scenarios need, or fails.
prepare_rtmps() {
    find_nginx
    local packages=()
    [ -n "$nginx" ] && [ -e "$nginx_stream_module" ] || packages+=(nginx libnginx-mod-stream)
    here openssl || packages+=(openssl)
    if [ "${#packages[@]}" -gt 0 ]; then
        install_packages "${packages[@]}" || fail "RTMPS is measured with ${packages[*]} (Debian: apt-get install ${packages[*]})"
    fi
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 30 \
        -subj /CN=localhost 2>/dev/null || fail "openssl makes no certificate"
}

# start_rtmps_client: starts an nginx on the core of the load that takes RTMP and connects to the server with TLS. Sets client_pid
# and client_port.
start_rtmps_client() {
    client_port=$(free_port 27800)
    mkdir -p "$work/client"
    cat >"$work/client/nginx.conf" <<END
load_module $nginx_stream_module;
$(nginx_process "$work/client")
stream { server { listen 127.0.0.1:$client_port; proxy_pass 127.0.0.1:$rtmps_port; proxy_ssl on; proxy_ssl_protocols TLSv1.3; } }
END
    "${on_load[@]}" "$nginx" -c "$work/client/nginx.conf" &
    client_pid=$! pids+=($!)
    await_server "$client_pid" "$client_port" || fail "the nginx that adds TLS does not answer on port $client_port"
}

# publish SERVER STREAM COUNT: publishes in the background, except for the floor, which reads its stream from a file.
publish() {
    case $1 in floor-*) return ;; esac
    "${bench[@]}" publish "rtmp://127.0.0.1:$port/live/$2" -c "$3" --ramp 1 --duration 3600 --json >/dev/null &
    pids+=($!)
    sleep 2
}

# play STREAMS PLAYERS FILE OPTION…: plays each of the streams stream1, stream2, … with this many players, in as few processes as
# possible, and appends these to pids and loads. Each writes its figures to $work/FILE.NUMBER, and each gets the options.
play() {
    local streams=$1 players=$2 file=$3 url="rtmp://127.0.0.1:$port/live/stream" number
    local count=$((streams < players ? streams : players)) each=$((streams < players ? players : streams))
    shift 3
    for number in $(seq "$count"); do
        # A process with one player for each stream, or with all players of one.
        [ "$streams" -ge "$players" ] && number+=:{n}
        "${bench[@]}" play "$url${number#*:}" -c "$each" --json "$@" >"$work/$file.${number%:*}" &
        pids+=($!) loads+=($!)
    done
}
