#!/bin/sh
# Builds the Debian package, in a Debian 12 of its own, and asks lintian about it:
#
#   packaging/deb.sh [VERSION]      prints its path, .build/deb/mproutd_VERSION_all.deb
#
# The same sources give the same package, byte for byte.  VERSION: another than the changelog's.
set -eu

cd "$(dirname "$0")/.."
exec </dev/null
die() { echo "deb: $*" >&2; exit 1; }

written=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)
version=${1:-$written}
root=$(packaging/root.sh debhelper dh-python dpkg-dev python3 lintian)
mkdir -p .build/deb
work=$(mktemp -d .build/deb/work.XXXXXX)
trap 'rm -rf "$work"' EXIT INT TERM

source=$work/mproutd
mkdir "$source"
tar -c --exclude=__pycache__ mproutd etc if-up.d docs packaging README.md CHANGELOG.md |
	tar -x -C "$source"
cp -r packaging/debian "$source/debian"
sed -i "1s/(.*)/($version)/" "$source/debian/changelog"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
	--no-deps --only-binary :all: --require-hashes --target "$source/bundled" \
	--requirement packaging/debian/bundled.txt || die "pip failed: see above"
# Not theirs, but pip's: how they came here, and programs that nobody asked for.
(cd "$source/bundled" && rm -rf bin ./*.dist-info/INSTALLER ./*.dist-info/RECORD \
	./*.dist-info/REQUESTED ./*.dist-info/direct_url.json)
chmod -R u=rwX,go=rX "$work"

# build-essential is not there, nor needed: nothing is compiled.
# shellcheck disable=SC2016  # expanded inside
unshare --mount --pid --fork --kill-child sh -c '
	set -eu
	mount -t tmpfs layer /mnt
	mkdir /mnt/upper /mnt/work /mnt/root
	mount -t overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" layer /mnt/root
	mount -t proc -o ro proc /mnt/root/proc
	mkdir /mnt/root/build
	mount --bind "$2" /mnt/root/build
	exec chroot /mnt/root sh -c "
		set -eu
		cd /build/mproutd
		export LC_ALL=C.UTF-8 SOURCE_DATE_EPOCH=\$(dpkg-parsechangelog --show-field Timestamp)
		find . -exec touch --no-dereference --date=@\$SOURCE_DATE_EPOCH {} +
		dpkg-buildpackage --build=binary --no-check-builddeps --no-sign >../log 2>&1
		cd ..
		lintian --allow-root --fail-on error,warning --tag-display-limit 0 ./*.changes
	"
' sh "$root" "$work" >&2 || {
	tail -n 40 "$work/log" >&2
	die "no package: see above"
}
mv "$work"/mproutd_*.deb .build/deb/
echo "$PWD/.build/deb/mproutd_${version}_all.deb"
