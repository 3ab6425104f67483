#!/bin/sh
# Runs a command in a fresh clone of this checkout, in a bare Debian:
#
#   packaging/bare.sh [COMMAND...]      make demo, where none is named
#
# Bare is what debootstrap makes, with git, make and python3.  DEBIAN=13 chooses the release, see
# packaging/root.sh.  Nothing that the command does to its Debian stays.  What is not committed is
# not tried.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- make demo
root=$(packaging/root.sh git make python3)
[ -z "$(git status --porcelain)" ] || echo "bare: there are uncommitted changes, not tried" >&2

# The network and the certificates are this machine's; devices too, for terminals and tunnels.
# shellcheck disable=SC2016  # expanded inside
exec unshare --mount --pid --fork --kill-child sh -c '
	set -eu
	root=$1 checkout=$2
	shift 2
	mount -t tmpfs -o mode=755 layer /mnt
	mkdir /mnt/upper /mnt/work /mnt/root
	mount -t overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" layer /mnt/root
	mount -t proc proc /mnt/root/proc
	mount --rbind /sys /mnt/root/sys
	mount --rbind /dev /mnt/root/dev
	mount -t tmpfs -o mode=755 run /mnt/root/run
	: >/mnt/root/run/certificates
	for file in resolv.conf hosts; do
		[ ! -e "/etc/$file" ] || mount -o bind,ro "/etc/$file" "/mnt/root/etc/$file"
	done
	certificates=/etc/ssl/certs/ca-certificates.crt
	[ ! -e $certificates ] || mount -o bind,ro $certificates /mnt/root/run/certificates
	git clone --quiet --no-local "file://$checkout" /mnt/root/root/mproutd
	# Its root, not a chroot: the laboratory enters mount namespaces, where a chroot is undone.
	cd /mnt/root
	mkdir old
	pivot_root . old
	umount --lazy old
	exec env -i HOME=/root PATH="$PATH" TERM="${TERM:-dumb}" LANG=C.UTF-8 \
		PIP_CERT=/run/certificates sh -c "cd /root/mproutd && exec \"\$@\"" sh "$@"
' sh "$root" "$PWD" "$@"
