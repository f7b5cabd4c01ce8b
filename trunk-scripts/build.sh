#!/usr/bin/env bash
# From a fresh clone to objs/simple_rtmp_server. Options are those of ./configure.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/build.sh [OPTION OF configure]…"
    echo "Runs ./configure with the options, then make."
    echo
    exec ./configure --help
    ;;
esac

command -v make >/dev/null || {
    echo "build.sh: make is not here. Install it (Debian, Ubuntu: apt-get install make)." >&2
    exit 1
}
./configure "$@"
make
