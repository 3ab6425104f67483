#!/bin/sh
# Builds the Debian package and its source package, and has lintian check both:
#
#   packaging/deb.sh [VERSION]      prints its path, .build/deb/mproutd_VERSION_all.deb
#
# in a Debian of its own: DEBIAN=13 chooses the release, see packaging/root.sh.  A package built
# in either runs in both.  The same sources give the same package, byte for byte.
# VERSION: another than that of packaging/python/version.py.
set -eu

cd "$(dirname "$0")/.."
exec </dev/null
die() { echo "deb: $*" >&2; exit 1; }

version=${1:-$(.venv/bin/python packaging/python/version.py)}
date=$(git log -1 --format=%cD 2>/dev/null || sed -n 's/^ -- .*>  //p' packaging/debian/changelog)
root=$(packaging/root.sh debhelper dh-python dpkg-dev python3 lintian)
mkdir -p .build/deb
work=$(mktemp -d .build/deb/work.XXXXXX)
trap 'rm -rf "$work"' EXIT INT TERM

source=$work/mproutd
mkdir "$source"
tar -c --exclude=__pycache__ --exclude=packaging/openwrt \
	mproutd etc if-up.d web docs packaging README.md CHANGELOG.md LICENSE |
	tar -x -C "$source"
mv "$source/packaging/debian" "$source/debian"
sed -i "1s/(.*)/($version)/; s/^ -- \(.*>\)  .*/ -- \1  $date/" "$source/debian/changelog"
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" "$source/mproutd/__init__.py"
chmod -R u=rwX,go=rX "$work"

# build-essential is not there, nor needed: nothing is compiled.  Nor is the network.
# shellcheck disable=SC2016  # expanded inside
unshare --net packaging/inside.sh "$root" "$PWD/$work=/build" -- sh -c '
	set -eu
	cd /build/mproutd
	export LC_ALL=C.UTF-8
	SOURCE_DATE_EPOCH=$(dpkg-parsechangelog --show-field Timestamp)
	export SOURCE_DATE_EPOCH
	find . -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
	dpkg-buildpackage --no-check-builddeps --no-sign >../log 2>&1
	cd ..
	lintian --allow-root --fail-on error,warning --tag-display-limit 0 ./*.changes
' >&2 || {
	tail -n 40 "$work/log" >&2
	die "no package: see above"
}
mv "$work"/mproutd_*.deb "$work"/mproutd_*.dsc "$work"/mproutd_*.tar.xz .build/deb/
echo "$PWD/.build/deb/mproutd_${version}_all.deb"
