#!/usr/bin/env bash
# From a fresh clone to objs/simple_rtmp_server. Options are those of ./configure.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/build.sh [OPTION OF configure]…"
    echo "Runs ./configure with the options, then make."
    echo
    exec ./configure --help
    ;;
esac

need_build_tools
./configure "$@"
make
