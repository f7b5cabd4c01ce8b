#!/usr/bin/env bash
# Builds objs/simple_rtmp_server from a fresh clone. The options are those of ./configure.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/build.sh [OPTION]…"
    echo
    echo "Installs missing build tools (as root on Debian and Ubuntu), runs ./configure with the options, then make."
    echo "Example: bash trunk-scripts/build.sh --without-hls --prefix=/opt/srs"
    echo
    echo "The options are those of ./configure:"
    echo
    exec ./configure --help
    ;;
esac

need_build_tools
./configure "$@"
make
