#!/bin/sh
# Removes what install.sh has installed. The configuration, and the files of streams in /var/lib/srs, stay.
set -eu

prefix=@PREFIX@
if [ -e /etc/systemd/system/srs.service ] && [ "$(id -u)" -eq 0 ] && [ "$prefix" = /usr/local ]; then
    systemctl disable --now srs 2>/dev/null || true
    rm -f /etc/systemd/system/srs.service
    systemctl daemon-reload 2>/dev/null || true
fi
for program in simple_rtmp_server srs_bench srs_ctl srs_hooks ts_info; do
    rm -f "$prefix/bin/$program" "$prefix/share/man/man1/$program.1" "$prefix/share/bash-completion/completions/$program"
done
rm -f "$prefix/share/man/man5/srs.conf.5" "$prefix/etc/srs/full.conf" "$prefix/etc/srs/srs.conf.new"
rm -rf "$prefix/lib/srs"
echo "Removed. The configuration is in $prefix/etc/srs."
