#!/bin/sh
# Installs simple-rtmp-server from this directory.
set -eu

usage() {
    cat <<'END'
Usage: sh install.sh [--prefix=DIR]

Copies the programs to DIR/bin and DIR/lib/srs, man pages and completions of bash to DIR/share, the configuration to DIR/etc/srs,
and, as root with the default prefix on a machine with systemd, the service srs.service with a user "srs". A configuration that is
there stays; the new one is put beside it as srs.conf.new. The default DIR is /usr/local.

To remove it: sh DIR/lib/srs/uninstall.sh
END
}

prefix=/usr/local
for option; do
    case $option in
    --prefix=/*) prefix=${option#--prefix=} ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

mkdir -p "$prefix/bin" "$prefix/lib/srs" "$prefix/share/man/man1" "$prefix/share/man/man5" \
    "$prefix/share/bash-completion/completions" "$prefix/etc/srs"
# Programs that run cannot be written to.
cp --remove-destination lib/* "$prefix/lib/srs/"
for program in simple_rtmp_server srs_bench srs_ctl srs_hooks ts_info; do
    ln -sf "../lib/srs/$program" "$prefix/bin/$program"
    cp "man/$program.1" "$prefix/share/man/man1/"
    cp "completions/$program" "$prefix/share/bash-completion/completions/"
done
cp man/srs.conf.5 "$prefix/share/man/man5/"
sed "s|@PREFIX@|$prefix|" uninstall.sh >"$prefix/lib/srs/uninstall.sh"

conf=$prefix/etc/srs/srs.conf
if [ -e "$conf" ] && ! cmp -s srs.conf "$conf"; then
    echo "kept $conf; the new one is $conf.new"
    conf=$conf.new
fi
cp srs.conf "$conf"
cp full.conf "$prefix/etc/srs/full.conf"

echo "Installed. To start it: $prefix/bin/simple_rtmp_server -c $prefix/etc/srs/srs.conf"
if [ "$(id -u)" -eq 0 ] && [ "$prefix" = /usr/local ] && [ -d /run/systemd/system ]; then
    getent passwd srs >/dev/null || useradd --system --user-group --home-dir /var/lib/srs --shell /usr/sbin/nologin srs
    sed 's|/usr/bin/|/usr/local/bin/|; s|/etc/srs/|/usr/local/etc/srs/|' srs.service >/etc/systemd/system/srs.service
    systemctl daemon-reload
    echo "As a service: systemctl enable --now srs"
fi
