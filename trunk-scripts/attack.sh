#!/usr/bin/env bash
# Runs the attack kit against the release build of the server.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/attack.sh [--long] [--only TEXT] [--seed N] [TEST…]

Builds the server for release and runs the attack kit (tests/attack) against it: hostile clients beside a healthy publisher, players
and viewer. Exit status 0 if the server withstands all attacks.

By default each attack runs as a sample, which takes about five minutes in all; at the end the script lists what the sample has left
out. Measurements of lateness need a machine without other load.

  TEST          run only tests whose names contain TEST, such as behaviour or memory_use
  --long        run all of every attack, one after the other: about an hour
  --only TEXT   run only attacks whose names contain TEXT
  --seed N      use this seed for random input; the seeds of a run are printed
  -h            print this text

Examples:
  bash trunk-scripts/attack.sh                              the sample, as in CI
  bash trunk-scripts/attack.sh --long                       everything
  bash trunk-scripts/attack.sh --long --only 'one byte'     a few attacks in full
  bash trunk-scripts/attack.sh --seed 7 bytes               all attacks of bytes.rs, with other random input

Environment:
  SRS_TEST_BINARY   the server to attack, instead of a release build of this source tree
END
}

long=
tests=()
while [ $# -gt 0 ]; do
    case $1 in
    --long) long=yes ;;
    --only)
        need "$@"
        export SRS_TEST_ATTACK_ONLY=$2
        shift
        ;;
    --seed)
        need "$@"
        [[ $2 =~ ^[0-9]+$ ]] || fail "--seed needs a number"
        export SRS_TEST_ATTACK_SEED=$2
        shift
        ;;
    -*) other_option "$1" ;;
    *) tests+=("$1") ;;
    esac
    shift
done

need_build_tools
many_files
if [ -z "${SRS_TEST_BINARY-}" ]; then
    cargo build --release --locked --bin simple_rtmp_server || fail "the server does not build"
fi
if [ -n "$long" ]; then
    export SRS_TEST_ATTACK_LONG=1
    options=(--nocapture --test-threads 1)
else
    # More threads than servers run at once, so that the next server is ready when one has ended.
    options=(--show-output --test-threads 8)
fi

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
cargo test --locked --test attack -- "${options[@]}" ${tests[@]+"${tests[@]}"} </dev/null 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

if grep -q '^sample: ' "$log"; then
    echo
    echo "Left out of this sample (all of it: bash trunk-scripts/attack.sh --long):"
    sed -n 's/^sample: /  /p' "$log" | sort -u
fi
if [ "$status" -ne 0 ] && grep -q ' panicked at ' "$log"; then
    echo
    echo "Failures:"
    grep -A 4 ' panicked at ' "$log"
fi
exit "$status"
