#!/usr/bin/env bash
# Installs players for browsers from their npm packages into objs/: hls.js plays HLS in the console, mpegts.js HTTP-FLV.
# They are optional, so a missing npm or network is only a warning.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

case ${1-} in
-h | --help)
    echo "Usage: bash trunk-scripts/web-players.sh"
    echo
    echo "Downloads hls.js and mpegts.js with npm into objs/, for the console of the server. 'make' runs this script."
    echo "Without hls.js the console plays only in browsers with their own HLS support; without mpegts.js it plays"
    echo "HLS where HTTP-FLV would have less delay."
    exit 0
    ;;
esac

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

is_valid() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status 2>/dev/null; }

# install PACKAGE VERSION FILE SHA256 EFFECT: FILE of the package becomes objs/FILE, its licence objs/PACKAGE.LICENSE.
install() {
    local package=$1 version=$2 file=$3 sha256=$4 effect=$5
    is_valid "objs/$file" "$sha256" && return
    command -v npm >/dev/null && command -v tar >/dev/null || {
        echo "web-players.sh: npm not found: $effect" >&2
        return
    }
    if timeout 120 npm pack --silent --pack-destination "$work" "$package@$version" >/dev/null 2>"$work/log" &&
        tar -xzf "$work/$package-$version.tgz" -C "$work" "package/dist/$file" package/LICENSE &&
        is_valid "$work/package/dist/$file" "$sha256"; then
        mkdir -p objs &&
            cp "$work/package/LICENSE" "objs/$package.LICENSE" &&
            cp "$work/package/dist/$file" "objs/.$file.new" &&
            mv -f "objs/.$file.new" "objs/$file" &&
            echo "$package $version installed as objs/$file" && return
    fi
    echo "web-players.sh: download of $package $version failed: $effect" >&2
    cat "$work/log" >&2
}

# Both have the Apache licence 2.0. The checksums are those of the files in these versions.
install hls.js 1.7.4 hls.min.js cfc70cc9e9fc63d071919e087670abc760c8fd1bc889b88588026e4d22193bbe \
    "the console plays only in browsers with their own HLS support"
install mpegts.js 1.8.2 mpegts.js bda31748736a69cb610c2edf4623e633f1f4f47b5bda83668c8d287e51b0c3a8 \
    "the console plays HLS only, with more delay than HTTP-FLV"
exit 0
