#!/bin/sh
# A Debian in a folder, made once:
#
#   packaging/root.sh PACKAGE...     prints its path, .build/roots/DEBIAN-KEY
#
# with these packages installed; of +PACKAGE only the files are kept, so that apt in there
# installs it without a network.  DEBIAN=12 (the default), 13 or the name of a suite chooses the
# release.  The key is the list and this file: what is there is used again.
# Where packages come from, and through which proxy, is what apt of this machine says.
set -eu

release=${DEBIAN:-12}
case $release in
	12) suite=bookworm ;;
	13) suite=trixie ;;
	*[!a-z]* | '') echo "root: DEBIAN=$release: 12, 13 or the name of a suite" >&2; exit 2 ;;
	*) suite=$release ;;
esac
cd "$(dirname "$0")/.."
roots=$PWD/.build/roots
export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes LC_ALL=C.UTF-8
exec </dev/null

say() { echo "root: $*" >&2; }
die() { say "$*"; exit 1; }

mirror() {
	apt-get indextargets --format "\$(COMPONENT) \$(REPO_URI)" 'Created-By: Packages' 'Origin: Debian' |
		sed -n '/security/d; s/^main //p' | head -n 1
}

# The part of apt's configuration that says how to fetch.
fetching() {
	apt-config dump --no-empty | grep '^Acquire::' | grep -v -e ::IndexTargets:: -e ::CompressionTypes::
}

# inside ROOT COMMAND...: with this machine's network, names and certificates, of which it can
# change nothing: packages start no service, and set nothing of the kernel.
inside() {
	# shellcheck disable=SC2016  # expanded inside
	unshare --mount --pid --fork --kill-child sh -c '
		set -eu
		cd "$1"
		shift
		mount -t proc -o ro proc proc
		mount -t tmpfs run run
		: >run/certificates
		for file in resolv.conf hosts; do
			[ ! -e "/etc/$file" ] || mount -o bind,ro "/etc/$file" "etc/$file"
		done
		certificates=/etc/ssl/certs/ca-certificates.crt
		[ ! -e $certificates ] || mount -o bind,ro $certificates run/certificates
		exec chroot . "$@"
	' sh "$@"
}

# base DIRECTORY: what debootstrap makes of nothing.
base() {
	from=$(mirror)
	if [ -z "$from" ]; then
		apt-get -qq update >&2 || true
		from=$(mirror)
	fi
	[ -n "$from" ] || die "apt of this machine knows no mirror of Debian: /etc/apt/sources.list"
	proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
	say "debootstrap $suite"
	http_proxy=${http_proxy:-$proxy} debootstrap --variant=minbase "$suite" "$1" "$from" \
		>"$1.log" 2>&1 || die "debootstrap failed: see $1.log: $(tail -n 1 "$1.log")"
	echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io"
	: >"$1/etc/resolv.conf"
	: >"$1/etc/hosts"
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
	chmod 755 "$1/usr/sbin/policy-rc.d"
	{
		[ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
			echo 'Acquire::https::CaInfo "/run/certificates";'
		fetching
	} >"$1/etc/apt/apt.conf.d/90fetching"
	# Only what was asked for, as minbase says; and the files of what is fetched stay.
	echo 'APT::Install-Recommends "false";' >"$1/etc/apt/apt.conf.d/10minimal"
	rm -f "$1"/var/cache/apt/archives/*.deb
	inside "$1" apt-get -qq update
}

[ $# -gt 0 ] || die "which packages?"
[ "$(id -u)" = 0 ] || die "needs root: debootstrap makes files for all users"
command -v debootstrap >/dev/null || die "debootstrap is missing: packaging/setup.sh"

kept='' installed=''
for package in "$@"; do
	case $package in
		+*) kept="$kept ${package#+}" ;;
		*) installed="$installed $package" ;;
	esac
done

mkdir -p "$roots"
exec 9>"$roots/lock"
flock 9
made_from=$(cksum <"packaging/root.sh" | cut -d' ' -f1)
root=$roots/$release-$(echo "$made_from $*" | cksum | cut -d' ' -f1)
if [ ! -d "$root" ]; then
	begun=$roots/base-$release-$made_from
	new=$roots/new
	rm -rf --one-file-system "$new"
	if [ ! -d "$begun" ]; then
		base "$new"
		mv "$new" "$begun"
	fi
	say "installing$installed; fetching$kept"
	cp -a "$begun" "$new"
	# shellcheck disable=SC2086  # one word a package
	{
		inside "$new" apt-get -qq install --yes $installed
		inside "$new" apt-get clean
		[ -z "$kept" ] || inside "$new" apt-get -qq install --yes --download-only $kept
	} >"$new.log" 2>&1 || die "apt-get failed: see $new.log: $(tail -n 1 "$new.log")"
	rm "$new/usr/sbin/policy-rc.d"
	echo "$*" >"$new.packages"
	mv "$new" "$root"
	mv "$new.packages" "$root.packages"
	rm -f "$new.log"
fi
echo "$root"
