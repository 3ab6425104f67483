#!/bin/sh
# Runs a command in a Debian of packaging/root.sh, in a layer that is thrown away:
#
#   packaging/inside.sh ROOT [FOLDER=PLACE]... -- COMMAND...
#
# with each FOLDER of this machine at PLACE.  The network, the names and the certificates are this
# machine's.  Nothing else that the command writes stays.
set -eu

# Its root, not a chroot: the laboratory enters mount namespaces, where a chroot is undone.
# shellcheck disable=SC2016  # expanded inside
exec unshare --mount --pid --fork --kill-child sh -c '
	set -eu
	mount -t tmpfs -o mode=755 layer /mnt
	mkdir /mnt/upper /mnt/work /mnt/root
	mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" layer /mnt/root
	shift
	cd /mnt/root
	mount -t proc proc proc
	mount --rbind /sys sys
	mount --rbind /dev dev
	mount -t tmpfs -o mode=755 run run
	: >run/certificates
	for file in resolv.conf hosts; do
		[ ! -e "/etc/$file" ] || mount -o bind,ro "/etc/$file" "etc/$file"
	done
	certificates=/etc/ssl/certs/ca-certificates.crt
	[ ! -e $certificates ] || mount -o bind,ro $certificates run/certificates
	while [ "$1" != -- ]; do
		mkdir -p "./${1#*=}"
		mount --bind "${1%%=*}" "./${1#*=}"
		shift
	done
	shift
	mkdir old
	pivot_root . old
	umount --lazy old
	exec env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 PIP_CERT=/run/certificates \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
' sh "$@"
