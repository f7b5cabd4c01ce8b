#!/usr/bin/env bash
# Checks a source tree, starting from a fresh clone: installs the clients that the tests need, checks format and lints for each set of
# features, and runs all tests. Exit status 0 if all steps pass.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/test.sh [--no-install]

Installs the clients that the tests need (as root on Debian and Ubuntu), checks format and lints, and runs all tests: unit tests,
end-to-end tests, a short run of the fuzz targets, and a sample of the attack kit. Takes about 15 minutes on two cores. Exit
status 0 if all steps pass.

  --no-install    install nothing, and report what is missing
  -h              print this text

Environment:
  SRS_TEST_FFMPEG_NEW      an ffmpeg of 6.1 or newer, for the tests of Enhanced RTMP
  SRS_TEST_SKIP_MISSING=1  skip tests whose client is not installed, instead of failing

See also: trunk-scripts/attack.sh (all of the attack kit), trunk-scripts/fuzz.sh (long fuzzing), trunk-scripts/soak.sh.
END
}

may_install=yes
while [ $# -gt 0 ]; do
    case $1 in
    --no-install) may_install=no ;;
    *) other_option "$1" ;;
    esac
    shift
done

passed=0
failed=0
summary=
failures=
results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT

# reasons: prints why a step has failed, from its output: the panics of tests with their names, else errors, else the last lines.
reasons() {
    awk '
        /^---- .* stdout ----$/ { name = $2 }
        / panicked at / { is_shown = 1; lines = 0; print name }
        /^stack backtrace:|^note: run with|^--- |^files of this test|^$/ { is_shown = 0 }
        is_shown && lines++ < 20 { print "    " substr($0, 1, 400) }
    ' "$1" >"$results/reasons"
    grep '^test .* FAILED$' "$1" | sort -u >>"$results/reasons"
    [ -s "$results/reasons" ] || grep -A 9 '^error' "$1" | head -n 40 >"$results/reasons"
    [ -s "$results/reasons" ] || tail -n 20 "$1" >"$results/reasons"
    # The log of a run may be cut in the middle: what is at its end has to be short.
    tail -c 6000 "$results/reasons"
}

# step TITLE SECONDS COMMAND…: runs a command with a time limit and records its result for the summary.
step() {
    local title=$1 seconds=$2 began=$SECONDS status=0
    shift 2
    echo
    echo "== $title"
    timeout --kill-after=10 "$seconds" "$@" </dev/null 2>&1 | tee "$results/output" || status=$?
    local took=$((SECONDS - began))
    if [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
        summary+=$(printf '  ok      %4d s  %s' "$took" "$title")$'\n'
    else
        failed=$((failed + 1))
        [ "$status" -eq 124 ] && title="$title (not finished within $seconds s)"
        failures+=$(printf -- '-- %s\n' "$title" && reasons "$results/output")$'\n'
        summary+=$(printf '  FAILED  %4d s  %s' "$took" "$title")$'\n'
    fi
    return "$status"
}

has_gst_element() { here gst-inspect-1.0 && gst-inspect-1.0 --exists "$1"; }
has_glib_tls() { compgen -G '/usr/lib*/*/gio/modules/libgio*tls.so' >/dev/null || compgen -G '/usr/lib*/gio/modules/libgio*tls.so' >/dev/null; }
has_nginx_rtmp() {
    here nginx || return 1
    local modules
    modules=$(nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')
    [ -e "${modules:-/usr/lib/nginx/modules}/ngx_rtmp_module.so" ] || nginx -V 2>&1 | grep -q -- '--add-module=[^ ]*rtmp'
}

has_nginx_stream() {
    here nginx || return 1
    local modules
    modules=$(nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')
    [ -e "${modules:-/usr/lib/nginx/modules}/ngx_stream_module.so" ] || nginx -V 2>&1 | grep -q -- '--with-stream\( \|$\)'
}

# has_prometheus_parser: true if a Python has the parser of Prometheus' client library.
has_prometheus_parser() {
    local python
    for python in /usr/bin/python3 python3; do
        "$python" -c 'import prometheus_client.parser' 2>/dev/null && return 0
    done
    return 1
}

# missing_packages: prints the Debian packages that are missing, one a line.
missing_packages() {
    here ffmpeg || echo ffmpeg
    here rtmpdump || echo rtmpdump
    here curl || echo curl
    here jq || echo jq
    here tmux || echo tmux
    here prometheus || echo prometheus
    here python3 || echo python3
    has_prometheus_parser || echo python3-prometheus-client
    [ -e objs/mpegts.js ] || here npm || echo npm
    here chromium || here chromium-browser || here google-chrome || echo chromium
    here zbarimg || echo zbar-tools
    here nginx || echo nginx
    has_nginx_rtmp || echo libnginx-mod-rtmp
    has_nginx_stream || echo libnginx-mod-stream
    here haproxy || echo haproxy
    here ip || [ -x /sbin/ip ] || echo iproute2
    here obs || printf '%s\n' obs-studio obs-plugins libgl1-mesa-dri
    here Xvfb || echo xvfb
    here openssl || echo openssl
    here gst-launch-1.0 || echo gstreamer1.0-tools
    has_glib_tls || echo glib-networking
    if ! has_gst_element flvmux || ! has_gst_element flvdemux; then echo gstreamer1.0-plugins-good; fi
    if ! has_gst_element rtmp2src || ! has_gst_element rtmp2sink; then echo gstreamer1.0-plugins-bad; fi
}

# has_new_ffmpeg: true if there is an ffmpeg of 6.1 or newer where tests/e2e/tools.rs finds it.
has_new_ffmpeg() {
    [ -n "${SRS_TEST_FFMPEG_NEW-}" ] && return 0
    compgen -G 'objs/tools/imageio_ffmpeg/binaries/ffmpeg-*' >/dev/null && return 0
    here ffmpeg || return 1
    local version
    version=$(ffmpeg -hide_banner -version | sed -n 's/^ffmpeg version n\{0,1\}\([0-9]\{1,\}\.[0-9]\{1,\}\).*/\1/p')
    [ -n "$version" ] && [ "$(printf '%s\n' "$version" 6.1 | sort -V | head -n 1)" = 6.1 ]
}

install_new_ffmpeg() {
    if ! here python3 || ! python3 -m pip --version >/dev/null 2>&1; then install_packages python3 python3-pip || return 1; fi
    persist python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --upgrade \
        --target objs/tools imageio-ffmpeg
}

clients() {
    local missing=() complete=yes
    mapfile -t missing < <(missing_packages)
    if [ "${#missing[@]}" -gt 0 ] && [ "$may_install" = yes ]; then
        echo "Installing ${missing[*]}"
        install_packages "${missing[@]}" || true
        mapfile -t missing < <(missing_packages)
    fi
    if [ "${#missing[@]}" -gt 0 ]; then
        complete=no
        echo "Missing: ${missing[*]}"
        echo "Install them (Debian, Ubuntu, as root): apt-get install --no-install-recommends ${missing[*]}"
    fi
    if ! has_new_ffmpeg && [ "$may_install" = yes ]; then
        echo "Installing a newer ffmpeg into objs/tools"
        install_new_ffmpeg || true
    fi
    if ! has_new_ffmpeg; then
        complete=no
        echo "Missing: an ffmpeg of 6.1 or newer. Set SRS_TEST_FFMPEG_NEW to its path, or install one in the root of the project:"
        echo "    python3 -m pip install --no-deps --target objs/tools imageio-ffmpeg"
    fi
    [ "$complete" = yes ] && echo "All clients are installed." && return 0
    [ "${SRS_TEST_SKIP_MISSING-}" = 1 ] && echo "SRS_TEST_SKIP_MISSING=1: their tests are skipped." && return 0
    return 1
}

[ "$may_install" = yes ] || install_packages() { return 1; }
need_build_tools
# What a first build writes for the next one costs time, and is of no use to a machine that builds once.
[ -d "${CARGO_TARGET_DIR:-target}" ] || export CARGO_INCREMENTAL="${CARGO_INCREMENTAL-0}"
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        fail "'cargo $component' is not installed. Install it: rustup component add rustfmt clippy"
    fi
done

# `timeout` runs programs, not functions of this shell: functions that are steps run in a bash of their own.
export -f clients missing_packages install_packages persist here has_gst_element has_glib_tls has_nginx_rtmp has_nginx_stream has_prometheus_parser has_new_ffmpeg install_new_ffmpeg
export may_install
step "install test clients" 600 bash -c clients || true

step "web players" 300 bash trunk-scripts/web-players.sh || true
step "fetch crates" 300 bash -c 'persist cargo fetch --locked' || true
# cargo-deny takes minutes to build, so it is not installed here.
if cargo deny --version >/dev/null 2>&1; then
    step "licences and sources of dependencies" 120 cargo deny --locked check licenses bans sources || true
    if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
        step "advisories on dependencies" 120 cargo deny --locked check advisories || true
    else
        echo "Skipped: advisories on dependencies. Their database cannot be fetched."
    fi
else
    echo "Skipped: licences of and advisories on dependencies. Install cargo-deny: cargo install --locked cargo-deny"
fi
step "format" 60 cargo fmt --check || true

# The release build, which the attack kit needs, keeps one core busy for minutes. It runs beside the build of the tests and the tests, which
# wait for live streams most of the time. So do, at low priority, a check of the API that takes seconds, and the lints. All targets see the
# features that differ most; the other sets change nothing but the library and the programs.
api_check_install=
[ "$may_install" = yes ] && api_check_install=" --install"
beside=(
    "release build|cargo build --release --locked --bin simple_rtmp_server"
    "clippy, default features|cargo clippy --locked --all-targets -- -D warnings"
    "clippy, no features|cargo clippy --locked --all-targets --no-default-features -- -D warnings"
    "clippy, ssl only|cargo clippy --locked --lib --bins --no-default-features --features ssl -- -D warnings"
    "clippy, hls only|cargo clippy --locked --lib --bins --no-default-features --features hls -- -D warnings"
    "clippy, http only|cargo clippy --locked --lib --bins --no-default-features --features http -- -D warnings"
    "the API against its description|bash trunk-scripts/api-check.sh --no-build --optional --examples 5$api_check_install"
)
# run_beside PRIORITY NUMBER…: runs these commands, one after the other.
run_beside() {
    local priority=$1 number arguments
    shift
    for number in "$@"; do
        read -ra arguments <<<"${beside[number]#*|}"
        nice -n "$priority" timeout --kill-after=10 900 "${arguments[@]}" </dev/null >"$results/log$number" 2>&1
        echo $? >"$results/status$number"
    done
}
run_beside 0 0 &
release=$!
trap 'kill "$release" 2>/dev/null; rm -rf "$results"' EXIT
step "build tests" 900 cargo test --locked --no-run || true
run_beside 10 6 1 2 3 4 5 &
lints=$!
trap 'kill "$release" "$lints" 2>/dev/null; rm -rf "$results"' EXIT

# All test programs but the attack kit, which needs the machine for itself.
targets=(--lib --bins)
for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    [ "$name" = attack ] || targets+=(--test "$name")
done
# The end-to-end tests wait for live streams most of the time, so more of them than there are cores run at once.
step "unit, end-to-end and fuzz tests" 900 env RUST_TEST_THREADS="${RUST_TEST_THREADS:-8}" cargo test --locked --no-fail-fast "${targets[@]}" || true
for number in "${!beside[@]}"; do
    # shellcheck disable=SC2016 # for the other bash
    step "${beside[number]%%|*} (rest of it)" 900 \
        bash -c 'until [ -e "$0/status$1" ]; do sleep 0.2; done; cat "$0/log$1"; exit "$(cat "$0/status$1")"' "$results" "$number" || true
done
step "attack kit (sample)" 1200 bash trunk-scripts/attack.sh || true

if [ -n "$failures" ]; then
    echo
    echo "== failures"
    printf '%s' "$failures"
fi
echo
echo "== summary, $SECONDS s"
printf '%s' "$summary"
echo "steps: $passed passed, $failed failed"
echo "The attack kit ran as a sample; what it left out is listed above. All of it: bash trunk-scripts/attack.sh --long"
[ "$failed" -eq 0 ]
