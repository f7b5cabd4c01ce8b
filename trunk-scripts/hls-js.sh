#!/usr/bin/env bash
# Installs hls.js from its npm package into objs/. With it, the console of the server plays HLS in browsers without HLS support.
# It is optional, so a missing npm or network is only a warning.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/hls-js.sh"
    echo
    echo "Downloads hls.js with npm into objs/, for the console of the server. 'make' runs this script."
    echo "Without hls.js the console plays only in browsers with their own HLS support."
    exit 0
    ;;
esac

version=1.7.4
# Checksum of dist/hls.min.js in this version.
sha256=cfc70cc9e9fc63d071919e087670abc760c8fd1bc889b88588026e4d22193bbe

is_valid() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

is_valid objs/hls.min.js && exit 0
command -v npm >/dev/null && command -v tar >/dev/null || {
    echo "hls-js.sh: npm not found: the console plays only in browsers with their own HLS support" >&2
    exit 0
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
if timeout 120 npm pack --silent --pack-destination "$work" "hls.js@$version" >/dev/null 2>"$work/log" &&
    tar -xzf "$work/hls.js-$version.tgz" -C "$work" package/dist/hls.min.js package/LICENSE &&
    is_valid "$work/package/dist/hls.min.js"; then
    mkdir -p objs &&
        cp "$work/package/LICENSE" objs/hls.js.LICENSE &&
        cp "$work/package/dist/hls.min.js" objs/.hls.min.js.new &&
        mv -f objs/.hls.min.js.new objs/hls.min.js &&
        echo "hls.js $version installed as objs/hls.min.js" && exit 0
fi
echo "hls-js.sh: download of hls.js $version failed: the console plays only in browsers with their own HLS support" >&2
cat "$work/log" >&2
exit 0
