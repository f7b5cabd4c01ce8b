#!/usr/bin/env bash
# Puts hls.js, which plays HLS in browsers that cannot by themselves, into objs/, from its npm package. The server's page does
# without where it is not there, so a machine without npm or without a network is told, and that is all.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/hls-js.sh"
    echo "Puts hls.js into objs/, for the page of the server. 'make' runs it; where npm is not here, the page does without."
    exit 0
    ;;
esac

version=1.7.4
# Of dist/hls.min.js in that version of the package.
sha256=cfc70cc9e9fc63d071919e087670abc760c8fd1bc889b88588026e4d22193bbe

is_right() { [ -f "$1" ] && echo "$sha256  $1" | sha256sum --check --status 2>/dev/null; }

is_right objs/hls.min.js && exit 0
command -v npm >/dev/null && command -v tar >/dev/null || {
    echo "hls-js.sh: npm is not here: the page of the server will play only in browsers that have HLS themselves" >&2
    exit 0
}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
if timeout 120 npm pack --silent --pack-destination "$work" "hls.js@$version" >/dev/null 2>"$work/log" &&
    tar -xzf "$work/hls.js-$version.tgz" -C "$work" package/dist/hls.min.js package/LICENSE &&
    is_right "$work/package/dist/hls.min.js"; then
    mkdir -p objs &&
        cp "$work/package/LICENSE" objs/hls.js.LICENSE &&
        cp "$work/package/dist/hls.min.js" objs/.hls.min.js.new &&
        mv -f objs/.hls.min.js.new objs/hls.min.js &&
        echo "hls.js $version is objs/hls.min.js" && exit 0
fi
echo "hls-js.sh: cannot get hls.js $version: the page of the server will play only in browsers that have HLS themselves" >&2
cat "$work/log" >&2
exit 0
