#!/usr/bin/env bash
# Builds and runs the server, from a fresh clone.
set -euo pipefail

usage() {
    cat <<'END'
Usage: bash trunk-scripts/run.sh [--demo] [-c CONF]

Builds the server if needed, prints commands to publish and to play, and runs the server until ^C.

  --demo     also publish a test picture and sound with ffmpeg
  -c CONF    configuration file (default conf/srs.conf)
  -h         print this text

Examples:
  bash trunk-scripts/run.sh --demo
  bash trunk-scripts/run.sh -c conf/security.conf
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=trunk-scripts/common.sh
. "$root/trunk-scripts/common.sh"
demo=no
conf=$root/conf/srs.conf
while [ $# -gt 0 ]; do
    case $1 in
    --demo) demo=yes ;;
    -c)
        [ $# -gt 1 ] || fail "-c needs a file"
        shift
        # Relative to the current directory, else to the root of the project.
        if [ -e "$1" ]; then conf=$(realpath "$1"); else conf=$root/$1; fi
        [ -e "$conf" ] || fail "configuration file not found: $1"
        ;;
    *) other_option "$1" ;;
    esac
    shift
done

cd "$root"
server=objs/simple_rtmp_server
if [ ! -x "$server" ] || [ -n "$(find src Cargo.toml Cargo.lock -newer "$server" -type f -print -quit)" ]; then
    need_build_tools
    echo "Building $server. The first time takes a few minutes."
    if [ -e Makefile ]; then make; else bash trunk-scripts/build.sh; fi
fi
"./$server" -t -c "$conf" >/dev/null || {
    "./$server" -t -c "$conf" || true
    fail "invalid configuration $conf, see above"
}

# Reads the first port of the first `listen`, for the addresses below.
port=$(sed -n 's/^[[:space:]]*listen[[:space:]]\{1,\}\([^[:space:];]*\).*/\1/p' "$conf" | head -n 1)
port=${port//[\"\']/}
port=${port##*:}
[ -n "$port" ] || port=1935
if [ "$port" = 1935 ]; then at=127.0.0.1; else at=127.0.0.1:$port; fi
url=rtmp://$at/live/livestream

# Reads the first port of http_server, for the address of the page.
page_port=$(sed -n '/^[[:space:]]*http_server[[:space:]]*{/,/}/s/^[[:space:]]*listen[[:space:]]\{1,\}\([^[:space:];]*\).*/\1/p' "$conf" |
    head -n 1)
page_port=${page_port##*:}

cat <<END

Publish with one of these (on another machine, replace 127.0.0.1 by the address of this one):
    ffmpeg -re -i FILE -c:v libx264 -g 50 -bf 0 -c:a aac -f flv $url
    OBS: Settings, Stream, Service "Custom…", Server rtmp://$at/live, Stream Key livestream

Play with one of these:
    a browser: http://127.0.0.1:${page_port:-8080}/ (needs http_server, as in conf/srs.conf)
    ffplay -fflags nobuffer $url
    vlc $url

END

if [ "$demo" = no ]; then
    echo "Stop with ^C."
    exec "./$server" -c "$conf"
fi

command -v ffmpeg >/dev/null || {
    echo "ffmpeg not found (Debian, Ubuntu: apt-get install ffmpeg): the server runs without the demo."
    exec "./$server" -c "$conf"
}

server_pid=
demo_pid=
# shellcheck disable=SC2317 # called by the traps
stop() {
    trap '' INT TERM HUP
    [ -z "$demo_pid" ] || kill "$demo_pid" 2>/dev/null || true
    [ -z "$server_pid" ] || kill "$server_pid" 2>/dev/null || true
    demo_pid=
    server_pid=
    wait
}
# The server reloads on SIGHUP, so the script must stop it when the terminal is closed.
trap 'stop; exit 0' INT TERM HUP
trap 'stop' EXIT

# An answer from another server would be taken for one of this.
! answers "$port" || fail "port $port is in use by another program; stop it, or change listen in $conf"
"./$server" -c "$conf" &
server_pid=$!
if await_server "$server_pid" "$port"; then
    echo "Publishing the test picture to $url. Stop with ^C."
    ffmpeg -nostdin -hide_banner -loglevel error \
        -re -f lavfi -i testsrc2=size=640x360:rate=25 -re -f lavfi -i sine=frequency=440:sample_rate=44100 \
        -c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -g 50 -b:v 800k \
        -c:a aac -b:a 96k -f flv "$url" 2>objs/demo.log &
    demo_pid=$!
    wait -n "$server_pid" "$demo_pid" || true
    if ! kill -0 "$demo_pid" 2>/dev/null; then
        demo_pid=
        echo "ffmpeg of the demo has ended:" >&2
        cat objs/demo.log >&2
    fi
fi
status=0
wait "$server_pid" || status=$?
server_pid=
exit "$status"
