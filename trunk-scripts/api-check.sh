#!/usr/bin/env bash
# Checks the HTTP API against its description with schemathesis, which makes up requests from it.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/api-check.sh [--examples N] [--install] [--no-build]

Starts a server with a stream, and lets schemathesis (PyPI) send requests that it makes up from /api/v1/openapi.json. Exit status 0
if no answer has a status of 500 or above, an undocumented status or type, or a body that does not fit its description.

  --examples N   requests made up for each operation (default 50)
  --install      install schemathesis into objs/tools/schemathesis (100 MB) if it is missing
  --no-build     use the existing debug build
  -h             print this text

Example:
  bash trunk-scripts/api-check.sh --install --examples 20
END
}

examples=50 install=no build=yes
while [ $# -gt 0 ]; do
    case $1 in
    --examples) need "$@" && examples=$2 && shift ;;
    --install) install=yes ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done

tool=$(command -v schemathesis) || tool=objs/tools/schemathesis/bin/schemathesis
if [ ! -x "$tool" ] && [ "$install" = yes ]; then
    python3 -m venv objs/tools/schemathesis &&
        persist objs/tools/schemathesis/bin/pip install --quiet --disable-pip-version-check 'schemathesis>=4,<5' || fail "cannot install schemathesis"
fi
[ -x "$tool" ] || fail "schemathesis is not installed; --install installs it"
build_programs debug "$build"
make_work_folder

rtmp=$(free_port 21935) api=$(free_port 23000)
cat >"$work/srs.conf" <<END
listen 127.0.0.1:$rtmp;
srs_log_tank file;
srs_log_file $work/srs.log;
http_api { enabled on; listen 127.0.0.1:$api; raw_api { enabled on; allow_reload on; allow_query on; } }
vhost __defaultVhost__ { }
END
"$bin/simple_rtmp_server" -c "$work/srs.conf" &
pids+=($!)
await_server "${pids[0]}" "$api" || fail "the server does not answer on port $api"
"$bin/srs_bench" publish "rtmp://127.0.0.1:$rtmp/live/livestream" --bitrate 50 --duration 3600 >/dev/null 2>&1 &
pids+=($!)

# Events never end. Not checked: that wrong input is refused, since unknown values of parameters are ignored as in SRS, and that GET
# of .../kick is, since a stream may have this name.
"$tool" run "http://127.0.0.1:$api/api/v1/openapi.json" --url "http://127.0.0.1:$api" --no-color \
    --exclude-path /api/v1/events --max-examples "$examples" --seed 1 --workers 2 \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
status=$?
if ! kill -0 "${pids[0]}" || grep -q panic "$work/srs.log"; then
    tail -n 20 "$work/srs.log"
    fail "the server has ended, or panicked"
fi
exit "$status"
