#!/usr/bin/env bash
# Checks the HTTP API against its description with schemathesis, which makes up requests from it.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/api-check.sh [OPTION]…

Starts a server with a stream, and lets schemathesis (PyPI) send requests that it makes up from /api/v1/openapi.json. Exit status 0
if no answer has a status of 500 or above, an undocumented status or type, or a body that does not fit its description.

  --examples N   requests made up for each operation (default 50)
  --install      install schemathesis into objs/tools/schemathesis (70 MB, by pip) if it is missing
  --optional     exit with status 0 if schemathesis is missing, after a message
  --no-build     use the existing debug build
  -h             print this text

Example:
  bash trunk-scripts/api-check.sh --install --examples 20
END
}

examples=50 install=no optional=no build=yes
while [ $# -gt 0 ]; do
    case $1 in
    --examples) need "$@" && examples=$2 && shift ;;
    --install) install=yes ;;
    --optional) optional=yes ;;
    --no-build) build=no ;;
    *) other_option "$1" ;;
    esac
    shift
done

tools=$PWD/objs/tools/schemathesis
tool=(env "PYTHONPATH=$tools" python3 -m schemathesis.cli)
here schemathesis && tool=(schemathesis)
is_installed() { "${tool[@]}" --version >/dev/null 2>&1; }
if [ "$install" = yes ] && ! is_installed; then
    persist python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-warn-conflicts --upgrade \
        --target "$tools" 'schemathesis>=4,<5'
fi
if ! is_installed; then
    [ "$optional" = no ] && fail "schemathesis is not installed; --install installs it by pip"
    echo "Skipped: schemathesis is not installed. Install it: bash trunk-scripts/api-check.sh --install"
    exit 0
fi
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
# It leaves a folder where it runs.
cd "$work" || exit 1
"${tool[@]}" run "http://127.0.0.1:$api/api/v1/openapi.json" --url "http://127.0.0.1:$api" --no-color \
    --exclude-path /api/v1/events --max-examples "$examples" --seed 1 --workers 2 \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
status=$?
if ! kill -0 "${pids[0]}" || grep -q panic "$work/srs.log"; then
    tail -n 20 "$work/srs.log"
    fail "the server has ended, or panicked"
fi
exit "$status"
