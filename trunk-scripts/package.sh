#!/usr/bin/env bash
# Makes a Debian package, a tarball, a bill of materials and checksums from the source tree.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/package.sh [OPTION]…

Builds the programs for release and writes to objs/packages/:

  simple-rtmp-server_VERSION_ARCHITECTURE.deb    for Debian 12 and newer, and Ubuntu 22.10 and newer
  simple-rtmp-server-VERSION-ARCHITECTURE.tar.gz with install.sh and uninstall.sh, for other systems with glibc
  simple-rtmp-server-VERSION.cdx.json            bill of materials (CycloneDX)
  SHA256SUMS

Packages of other versions there are removed. The version is that of Cargo.toml; unless the commit has the tag vVERSION, time and name of
the commit follow, such as 0.6.0+git20261130.0439.d9e2365, so that the package of a later commit is an upgrade.

  --check     build a second time in another directory, and fail if a file differs; for this, all changes must be committed
  --programs DIR
              package the programs of DIR instead of building them
  --version V another version
  --output D  write to D instead
  -h          print this text

Needed beside the build tools: dpkg-deb, help2man, jq, and cargo-cyclonedx, which is installed into objs/tools. Missing Debian packages
are installed as root. Files have the time of the last commit, or SOURCE_DATE_EPOCH.

Example:
  bash trunk-scripts/package.sh --check && apt-get install ./objs/packages/simple-rtmp-server_*.deb
END
}

check=no programs='' version='' output=objs/packages
while [ $# -gt 0 ]; do
    case $1 in
    --check) check=yes ;;
    --programs) need "$@" && programs=$2 && shift ;;
    --version) need "$@" && version=$2 && shift ;;
    --output) need "$@" && output=$2 && shift ;;
    *) other_option "$1" ;;
    esac
    shift
done

need_build_tools
missing=()
here dpkg-deb || missing+=(dpkg)
here help2man || missing+=(help2man)
here jq || missing+=(jq)
here objdump || missing+=(binutils)
if [ "${#missing[@]}" -gt 0 ] && ! install_packages "${missing[@]}"; then fail "not installed: ${missing[*]}"; fi

if [ "$check" = yes ]; then git diff --quiet HEAD -- || fail "--check needs a tree without uncommitted changes"; fi

root=$PWD
mkdir -p "$output"
output=$(realpath "$output")
if [ -z "$version" ]; then
    version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    if commit=$(git rev-parse --short=7 HEAD 2>/dev/null) && ! git tag --points-at HEAD | grep -qx "v$version"; then
        version+=+git$(TZ=UTC git log -1 --date=format-local:%Y%m%d.%H%M --format=%cd).$commit
    fi
fi
# In versions of Debian a pre-release comes before the release: 1.0.0~alpha.1.
debian_version=${version/-/\~}
architecture=$(dpkg --print-architecture)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
names=(simple_rtmp_server srs_bench srs_ctl srs_hooks ts_info)

# build DIR TARGET: builds the programs of the source tree DIR, without its path in them.
build() {
    local flags="--remap-path-prefix=$1=/usr/src/simple-rtmp-server --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/usr/src/cargo"
    (cd "$1" && SRS_BUILD_COMMIT=$(git rev-parse --short=12 HEAD 2>/dev/null) CARGO_TARGET_DIR=$2 RUSTFLAGS=$flags CFLAGS="-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/usr/src/cargo -ffile-prefix-map=$2=/usr/src/target" \
        cargo build --release --locked --bins)
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$programs" ]; then
    build "$root" "$root/target/package"
    programs=$root/target/package/release
    bash trunk-scripts/web-players.sh
fi

# install_file MODE FROM TO: copies a file below the package's root.
install_file() { install -D -m "$1" "$2" "$tree/$3"; }

# manual PROGRAM DESCRIPTION: writes the man page of a program, with the help of its subcommands.
manual() {
    local command include=()
    for command in $("$stripped/$1" --help | sed -n '/^SUBCOMMANDS:/,/^$/s/^    \([a-z]*\) .*/\1/p' | grep -vx help); do
        printf '[%s %s]\n.nf\n' "$1" "$command"
        "$stripped/$1" "$command" --help | sed '1,/^USAGE:/{/^USAGE:/!d}; s/\\/\\e/g; s/-/\\-/g; s/^\([.'\'']\)/\\\&\1/'
        printf '.fi\n'
    done >"$work/subcommands"
    [ ! -s "$work/subcommands" ] || include=(--include "$work/subcommands")
    help2man --no-info --no-discard-stderr --section 1 --name "$2" --version-string "$version" "${include[@]}" "$stripped/$1" |
        sed "s|$stripped/||g" >"$stage/$1.1"
}

stripped=$work/programs
stage=$work/stage
mkdir "$stripped" "$stage"
for name in "${names[@]}"; do
    [ -x "$programs/$name" ] || fail "$programs/$name is missing"
    strip --strip-all -o "$stripped/$name" "$programs/$name"
done
manual simple_rtmp_server "live streaming server for RTMP"
manual srs_bench "load generator for RTMP and HLS servers"
manual srs_ctl "command-line client of simple_rtmp_server"
manual srs_hooks "sample backend for the HTTP callbacks of simple_rtmp_server"
manual ts_info "checker of MPEG transport streams"
"$stripped/simple_rtmp_server" --print-reference >"$stage/full.conf"
{
    printf '.TH SRS.CONF 5 "%s" "simple-rtmp-server %s" "File formats"\n' "$(date -d "@$SOURCE_DATE_EPOCH" +%F)" "$version"
    printf '.SH NAME\nsrs.conf \\- configuration of simple_rtmp_server\n.SH DESCRIPTION\n'
    printf 'All directives with their defaults.\n.PP\n.nf\n'
    # A backslash is an escape, and a line with a dot or a quote at its start a request.
    sed 's/\\/\\e/g; s/-/\\-/g; s/^\([.'\'']\)/\\\&\1/' "$stage/full.conf"
    printf '.fi\n.SH SEE ALSO\n.BR simple_rtmp_server (1)\n'
} >"$stage/srs.conf.5"
# The files of streams and the log are below the directories of the service.
sed 's|\./objs/nginx/html|/var/lib/srs/html|; s|full.conf, next to this file,|srs.conf(5)|' conf/srs.conf >"$stage/srs.conf"
for shell in bash zsh fish; do
    for name in srs_ctl srs_bench; do "$stripped/$name" completions "$shell" >"$stage/$name.$shell"; done
    for name in simple_rtmp_server srs_hooks ts_info; do "$stripped/$name" --completions "$shell" >"$stage/$name.$shell"; done
done

rm -f "$output"/simple-rtmp-server-*.cdx.json
sbom=$output/simple-rtmp-server-$version.cdx.json
if ! here cargo-cyclonedx; then
    [ -x objs/tools/bin/cargo-cyclonedx ] || persist cargo install --quiet --locked --root objs/tools --version 0.5.9 cargo-cyclonedx
    PATH=$PATH:$root/objs/tools/bin
fi
# It writes beside Cargo.toml only. Of the tree's own paths nothing stays.
cargo cyclonedx --quiet --format json --spec-version 1.5 --override-filename .sbom
sed "s|file://$root|https://example.invalid/simple-rtmp-server|g; s|path+[^\"#]*#|#|g" .sbom.json | jq -S . >"$sbom"
rm .sbom.json

# The oldest glibc that has what the programs call.
glibc=$(objdump -T "$stripped"/* | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)

# Debian package.
tree=$work/deb
mkdir -p "$tree/usr/bin"
for name in "${names[@]}"; do
    install_file 755 "$stripped/$name" "usr/lib/srs/$name"
    ln -s "../lib/srs/$name" "$tree/usr/bin/$name"
    gzip -9n <"$stage/$name.1" >"$work/page" && install_file 644 "$work/page" "usr/share/man/man1/$name.1.gz"
    install_file 644 "$stage/$name.bash" "usr/share/bash-completion/completions/$name"
    install_file 644 "$stage/$name.zsh" "usr/share/zsh/vendor-completions/_$name"
    install_file 644 "$stage/$name.fish" "usr/share/fish/vendor_completions.d/$name.fish"
done
gzip -9n <"$stage/srs.conf.5" >"$work/page" && install_file 644 "$work/page" usr/share/man/man5/srs.conf.5.gz
for file in hls.min.js mpegts.js; do [ ! -e "objs/$file" ] || install_file 644 "objs/$file" "usr/lib/srs/$file"; done
for file in hls.js mpegts.js; do
    [ ! -e "objs/$file.LICENSE" ] || install_file 644 "objs/$file.LICENSE" "usr/share/doc/simple-rtmp-server/$file.NOTICE"
done
install_file 644 "$stage/srs.conf" etc/srs/srs.conf
install_file 644 packaging/debian/logrotate etc/logrotate.d/simple-rtmp-server
install_file 644 packaging/debian/srs.service usr/lib/systemd/system/srs.service
install_file 644 packaging/debian/srs.socket usr/lib/systemd/system/srs.socket
documents=usr/share/doc/simple-rtmp-server
sed 's/^$/./; s/^/ /' LICENSE >"$work/license"
sed -e "/@LICENSE@/{r $work/license" -e 'd}' packaging/debian/copyright >"$work/copyright"
install_file 644 "$work/copyright" "$documents/copyright"
install_file 644 "$sbom" "$documents/sbom.cdx.json"
for file in conf/*.conf conf/prometheus/*; do install_file 644 "$file" "$documents/examples/${file#conf/}"; done
{
    printf 'simple-rtmp-server (%s) unstable; urgency=medium\n\n' "$debian_version"
    printf '  * See CHANGELOG.md of the source.\n\n'
    printf ' -- the simple-rtmp-server authors <maintainers@users.noreply.github.com>  %s\n' "$(date -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$work/changelog" && install_file 644 "$work/changelog" "$documents/changelog.gz"
gzip -9n <CHANGELOG.md >"$work/changes" && install_file 644 "$work/changes" "$documents/CHANGELOG.md.gz"
size=$(du -k --apparent-size -s "$tree" | cut -f 1)
mkdir "$tree/DEBIAN"
sed "s/@VERSION@/$debian_version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@GLIBC@/$glibc/" packaging/debian/control >"$tree/DEBIAN/control"
(cd "$tree" && find etc -type f | sed 's|^|/|' | sort) >"$tree/DEBIAN/conffiles"
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
for script in postinst prerm postrm; do install_file 755 "packaging/debian/$script" "DEBIAN/$script"; done
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
rm -f "$output"/simple-rtmp-server_*_"$architecture".deb
dpkg-deb --root-owner-group -Zxz --build "$tree" "$output/simple-rtmp-server_${debian_version}_$architecture.deb" >/dev/null

# Tarball.
base=simple-rtmp-server-$version-$(uname -m)
tree=$work/$base
for name in "${names[@]}"; do
    install_file 755 "$stripped/$name" "lib/$name"
    install_file 644 "$stage/$name.1" "man/$name.1"
    install_file 644 "$stage/$name.bash" "completions/$name"
done
for file in hls.min.js mpegts.js hls.js.LICENSE mpegts.js.LICENSE; do [ ! -e "objs/$file" ] || install_file 644 "objs/$file" "lib/$file"; done
install_file 644 "$stage/srs.conf.5" man/srs.conf.5
sed 's|/var/lib/srs/html|./html|; s|srs.conf(5)|full.conf, next to this file,|' "$stage/srs.conf" >"$work/srs.conf" && install_file 644 "$work/srs.conf" srs.conf
install_file 644 "$stage/full.conf" full.conf
install_file 644 packaging/debian/srs.service srs.service
install_file 755 packaging/tarball/install.sh install.sh
install_file 755 packaging/tarball/uninstall.sh uninstall.sh
install_file 644 LICENSE LICENSE
install_file 644 "$sbom" sbom.cdx.json
echo "Needs Linux with glibc $glibc or newer." >"$work/readme"
sed -n '/^Usage:/,/^END/p' packaging/tarball/install.sh | sed '$d' >>"$work/readme" && install_file 644 "$work/readme" README
rm -f "$output"/simple-rtmp-server-*-"$(uname -m)".tar.gz
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$base" | gzip -9n >"$output/$base.tar.gz"

(cd "$output" && sha256sum -- *.deb *.tar.gz *.cdx.json >SHA256SUMS)
echo "Packages for glibc $glibc and newer:"
(cd "$output" && ls -l -- *.deb *.tar.gz *.cdx.json SHA256SUMS)

if [ "$check" = yes ]; then
    git clone --quiet "$root" "$work/clone"
    mkdir -p "$work/clone/objs"
    cp -r objs/*.js objs/*.LICENSE "$work/clone/objs/" 2>/dev/null || true
    bash "$work/clone/trunk-scripts/package.sh" --version "$version" --output "$work/again" >/dev/null
    diff "$output/SHA256SUMS" "$work/again/SHA256SUMS" || fail "two builds of one commit differ"
    echo "A second build in another directory is the same byte for byte."
fi
