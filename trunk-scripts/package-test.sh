#!/usr/bin/env bash
# Installs, runs, upgrades, removes and purges the Debian package in fresh roots of Debian.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
# shellcheck source=trunk-scripts/common.sh
. trunk-scripts/common.sh

usage() {
    cat <<'END'
Usage: bash trunk-scripts/package-test.sh OLD.deb NEW.deb [RELEASE…]

For each release of Debian (default: bookworm trixie), makes a root with debootstrap and in it: installs OLD, runs the server as the user
of its service, publishes and plays with ffmpeg, upgrades to NEW with a changed configuration file, which must stay, plays again, removes
and purges. Fails if a file, the user or a directory is left. Then it does the same with the tarball beside NEW, if there is one, without an
upgrade. There is no systemd in such a root: the command of srs.service is run by hand.

Last it boots the first release with systemd-nspawn, and tries the service: the start at the installation, an upgrade under a player, which
must play again, a reload, an upgrade with a configuration that is not valid, the removal. If systemd cannot run, it says so.

Needs root, ffmpeg, debootstrap and systemd-container. The roots are kept in objs/roots for the next time.

Example:
  bash trunk-scripts/package.sh --output objs/packages/new
  bash trunk-scripts/package-test.sh objs/packages/old/*.deb objs/packages/new/*.deb bookworm
END
}

case ${1-} in -h | --help) usage && exit 0 ;; esac
[ $# -ge 2 ] || { usage >&2; exit 2; }
old=$(realpath "$1") new=$(realpath "$2") || exit 1
shift 2
releases=("$@")
[ "${#releases[@]}" -gt 0 ] || releases=(bookworm trixie)
[ "$(id -u)" -eq 0 ] || fail "run it as root: it makes roots of Debian"
here debootstrap || install_packages debootstrap || fail "debootstrap is not installed"
here ffmpeg || install_packages ffmpeg || fail "ffmpeg is not installed"
here systemd-nspawn || install_packages systemd-container || fail "systemd-container is not installed"

roots=$PWD/objs/roots
mkdir -p "$roots"
work=$(mktemp -d) || exit 1
root= server= booted=
clean_up() {
    [ -z "$booted" ] || kill "$booted" 2>/dev/null
    [ -z "$server" ] || kill "$server" 2>/dev/null
    wait
    if [ -n "$root" ]; then umount "$root/proc" "$root/dev/null" 2>/dev/null; rm -rf "$root"; fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

port=$(free_port $((15000 + $$ % 8000)))
http=$(free_port $((port + 1)))
api=$(free_port $((http + 1)))

bad=0
# check TEXT COMMAND…: runs a command and counts its failure.
check() {
    local text=$1
    shift
    if "$@" >"$work/check" 2>&1; then
        echo "  ok      $text"
    else
        bad=$((bad + 1))
        echo "  FAILED  $text: $(tail -n 5 "$work/check")"
    fi
}
inside() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
is_absent() { ! [ -e "$root/$1" ]; }
# files: lists what is in the root, apart from what apt, dpkg and their logs write.
files() {
    find "$root" -xdev \( -path "$root/proc" -o -path "$root/var/lib/dpkg" -o -path "$root/var/lib/apt" -o -path "$root/var/cache" -o -path "$root/var/log/apt" \
        -o -path "$root/var/log/dpkg.log" -o -path "$root/tmp" \) -prune -o -print | sort
}

# start PROGRAM CONF USER: runs the server as srs.service does, with its ports changed by the environment.
start() {
    chroot --userspec="$3" "$root" env -C /var/lib/srs SRS_LISTEN="127.0.0.1:$port" SRS_HTTP_SERVER_LISTEN="127.0.0.1:$http" \
        SRS_HTTP_API_LISTEN="127.0.0.1:$api" "$1" -c "$2" >"$work/server.log" 2>&1 </dev/null &
    server=$!
    await_server "$server" "$port"
}
stop() {
    kill -TERM "$server"
    local status=0
    wait "$server" || status=$?
    server=
    return "$status"
}
# plays: publishes with ffmpeg and plays with another one, over RTMP and HLS.
plays() {
    ffmpeg -nostdin -v error -re -f lavfi -i testsrc=size=320x180:rate=25 -f lavfi -i sine -t 25 -c:v libx264 -preset ultrafast -g 25 -c:a aac \
        -f flv "rtmp://127.0.0.1:$port/live/livestream" </dev/null >"$work/publisher.log" 2>&1 &
    local publisher=$! status=1
    if await 10 timeout 20 ffmpeg -nostdin -v error -i "rtmp://127.0.0.1:$port/live/livestream" -t 2 -c copy -f null -; then
        await 25 timeout 5 ffmpeg -nostdin -v error -i "http://127.0.0.1:$http/live/livestream.m3u8" -t 1 -c copy -f null - && status=0
    fi
    kill "$publisher" 2>/dev/null
    wait "$publisher" 2>/dev/null
    return "$status"
}

for release in "${releases[@]}"; do
    echo "== $release"
    pristine=$roots/$release
    if [ ! -e "$pristine/etc/debian_version" ]; then
        rm -rf "$pristine"
        debootstrap --variant=minbase --include=adduser,ca-certificates "$release" "$pristine" >"$work/debootstrap.log" 2>&1 || {
            tail -n 5 "$work/debootstrap.log"
            rm -rf "$pristine"
            fail "debootstrap of $release failed"
        }
    fi
    root=$work/root
    cp -a "$pristine" "$root"
    mount -t proc proc "$root/proc" || fail "cannot mount /proc in the root"
    # Packages that apt adds (logrotate is recommended) are not part of the package.
    inside apt-get update -q >/dev/null 2>&1
    inside apt-get install -y -q logrotate init-system-helpers >/dev/null 2>&1
    files >"$work/before"
    cp "$old" "$root/tmp/old.deb"
    cp "$new" "$root/tmp/new.deb"

    check "install" inside apt-get install -y -q /tmp/old.deb
    check "the configuration is valid" chroot --userspec=srs "$root" /usr/bin/simple_rtmp_server -t -c /etc/srs/srs.conf
    check "start as the user srs" start /usr/bin/simple_rtmp_server /etc/srs/srs.conf srs:srs
    check "publish and play" plays
    check "srs_ctl" chroot --userspec=srs "$root" /usr/bin/srs_ctl --api "http://127.0.0.1:$api" streams
    check "man pages, completions" test -e "$root/usr/share/man/man5/srs.conf.5.gz" -a -e "$root/usr/share/bash-completion/completions/srs_ctl"
    echo "# a change" >>"$root/etc/srs/srs.conf"
    check "upgrade while it runs" inside apt-get install -y -q /tmp/new.deb
    check "the running server goes on" plays
    check "the changed configuration stays" grep -q "# a change" "$root/etc/srs/srs.conf"
    check "stop" stop
    check "start of the new version" start /usr/bin/simple_rtmp_server /etc/srs/srs.conf srs:srs
    check "publish and play after the upgrade" plays
    check "stop" stop
    check "files of streams are in /var/lib/srs" test -e "$root/var/lib/srs/html/live"
    check "remove" inside apt-get remove -y -q simple-rtmp-server
    check "remove keeps the configuration" test -e "$root/etc/srs/srs.conf"
    check "purge" inside apt-get purge -y -q simple-rtmp-server
    check "no configuration is left" is_absent etc/srs
    check "no user is left" bash -c "! grep '^srs:' '$root/etc/passwd'"
    files >"$work/after"
    # Backups that passwd(5) tools write.
    check "no file is left" bash -c "diff '$work/before' '$work/after' | grep '^>' | grep -v '/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' && exit 1 || exit 0"

    for tarball in "$(dirname "$new")"/simple-rtmp-server-*.tar.gz; do
        [ -e "$tarball" ] || continue
        mkdir "$root/tmp/tarball" && tar -xzf "$tarball" -C "$root/tmp/tarball" --strip-components 1
        check "tarball: install" inside sh /tmp/tarball/install.sh
        mkdir -p "$root/var/lib/srs"
        check "tarball: start" start /usr/local/bin/simple_rtmp_server /usr/local/etc/srs/srs.conf 0:0
        check "tarball: publish and play" plays
        check "tarball: stop" stop
        check "tarball: uninstall" inside sh /usr/local/lib/srs/uninstall.sh
        check "tarball: only the configuration is left" bash -c "[ \"\$(find '$root/usr/local' -type f)\" = '$root/usr/local/etc/srs/srs.conf' ]"
        break
    done
    umount "$root/proc"
    rm -rf "$root"
    root=
done

# boot DIR: boots the root with systemd; nothing in it is changed. Sets leader, its first process as this machine sees it.
boot() {
    systemd-nspawn -q -D "$1" --volatile=overlay --register=no --keep-unit --private-network -M "srs-$$" \
        --bind-ro="$old:/old.deb" --bind-ro="$new:/new.deb" -b >"$work/boot.log" 2>&1 </dev/null &
    booted=$!
    is_up() {
        leader=$(pgrep -P "$booted" | head -n 1)
        [ -n "$leader" ] && booted systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'
    }
    await 30 is_up && nsenter -t "$leader" -n ip link set lo up
}
booted() { nsenter -t "$leader" -a env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
main_pid() { booted systemctl show -p MainPID --value srs; }
is_active() { [ "$(booted systemctl is-active srs)" = active ]; }
is_stopped() { ! is_active; }
is_same() { [ "$1" = "$(main_pid)" ] && [ "$1" != 0 ]; }
is_other() { ! is_same "$1" && is_active; }
# plays_again: true once a player that was started after the line "upgrade" has played.
plays_again() { sed '1,/^upgrade/d' "$work/player.log" | grep -q '^played$'; }

release=${releases[0]}
echo "== $release with systemd"
pristine=$roots/$release-systemd
if [ ! -e "$pristine/usr/bin/systemctl" ]; then
    rm -rf "$pristine"
    cp -a "$roots/$release" "$pristine"
    chroot "$pristine" env DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -c \
        'apt-get update -q && apt-get install -y -q --no-install-recommends systemd systemd-sysv dbus procps logrotate' >"$work/systemd.log" 2>&1 ||
        { rm -rf "$pristine" && fail "systemd cannot be installed: $(tail -n 3 "$work/systemd.log")"; }
fi
if ! boot "$pristine"; then
    echo "  SKIPPED systemd does not boot here: $(tail -n 1 "$work/boot.log")"
else
    check "install" booted dpkg -i /old.deb
    check "the service runs" is_active
    check "it starts at boot" booted systemctl is-enabled srs
    check "its user is srs" booted sh -c '[ "$(ps -o user= -p "$(systemctl show -p MainPID --value srs)")" = srs ]'
    echo "          $(booted systemd-analyze security srs --no-pager | tail -n 1)"
    url=rtmp://127.0.0.1/live/livestream
    while :; do
        nsenter -t "$leader" -n ffmpeg -nostdin -v error -re -f lavfi -i testsrc=size=320x180:rate=25 -t 300 -c:v libx264 -preset ultrafast \
            -g 25 -f flv "$url" </dev/null >/dev/null 2>&1
        sleep 0.2
    done &
    publisher=$!
    while :; do
        nsenter -t "$leader" -n timeout 10 ffmpeg -nostdin -v error -i "$url" -t 2 -c copy -f null - </dev/null >/dev/null 2>&1 &&
            echo played >>"$work/player.log"
    done &
    player=$!
    check "publish and play" await 30 grep -q played "$work/player.log"
    pid=$(main_pid)
    booted sh -c 'echo "# a change" >>/etc/srs/srs.conf'
    echo upgrade >>"$work/player.log"
    check "upgrade under a player" booted dpkg -i --force-confdef --force-confold /new.deb
    check "the new version runs" is_other "$pid"
    check "the player plays again" await 30 plays_again
    check "the changed configuration stays" booted grep -q "# a change" /etc/srs/srs.conf
    pid=$(main_pid)
    check "reload" booted systemctl reload srs
    check "the process stays" is_same "$pid"
    booted sh -c 'echo "nonsense 1;" >>/etc/srs/srs.conf'
    check "installation with a configuration that is not valid" booted dpkg -i --force-confdef --force-confold /new.deb
    check "the service goes on" is_same "$pid"
    kill "$publisher" "$player" 2>/dev/null
    check "remove" booted dpkg -r simple-rtmp-server
    check "the service has stopped" is_stopped
    check "purge" booted dpkg -P simple-rtmp-server
    check "nothing is left" booted sh -c '! ls -d /etc/srs /var/lib/srs /var/log/srs /etc/systemd/system/*/srs.s* 2>/dev/null'
    booted systemctl poweroff 2>/dev/null
    wait "$booted"
    booted=
fi
[ "$bad" -eq 0 ] || fail "$bad checks failed"
echo "passed"
