#!/bin/sh
# Makes a checkout ready: Debian packages that are missing, then .venv.
#
#   packaging/setup.sh           what the demo, the tests and lint need
#   packaging/setup.sh unpack    and in .build/unpacked the programs that are not installed, and
#                                the other versions of pyroute2 that are in use
#   packaging/setup.sh browser   and a browser, Cockpit, and what drives and audits pages
#   packaging/setup.sh ansible   and ansible-lint, beside the programs of `unpack`
#   packaging/setup.sh fleet     and Grafana's types, beside the programs of `unpack`
#   packaging/setup.sh kernels   and qemu, beside what `unpack` does
#
# Silent and quick when everything is there.  Outside the checkout it only installs packages.
set -eu

cd "$(dirname "$0")/.."
list=packaging/debian-packages.txt
apt='apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root'
export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes
exec </dev/null

say() { echo "set-up: $*"; }
die() { echo "set-up: $*" >&2; exit 1; }

named() { sed -n "s/^$1  *\([^ ]*\).*/\1/p" $list; }

# Those of the packages $* that are not installed, by their own name or as a name that an
# installed package provides: libev4 is libev4t64 since Debian 13.
missing() {
	# shellcheck disable=SC2016  # fields of dpkg-query
	dpkg-query --show --showformat '${db:Status-Status} ${Package}, ${Provides}\n' |
		sed -n 's/^installed //; t names; d; :names; s/([^)]*)//g; s/[, ][, ]*/\n/g; p' |
		awk -v wanted="$*" '
			{ installed[$1] }
			END {
				count = split(wanted, names)
				for (n = 1; n <= count; n++)
					if (!(names[n] in installed)) printf " %s", names[n]
			}'
}

# apt-get with these arguments; once more with fresh package lists where they are missing or stale.
fetch() {
	$apt "$@" >/dev/null 2>&1 && return
	say "apt-get update"
	$apt update
	$apt "$@" >/dev/null
}

# install PACKAGE...: on the system.
install() {
	[ "$(id -u)" = 0 ] || die "run this as root once, or install: $*"
	say "installing $*"
	fetch install --yes --no-install-recommends "$@"
}

# debian_packages KIND: those of the list that are missing.
debian_packages() {
	# shellcheck disable=SC2046  # one word a package
	lacking=$(missing $(named "$1"))
	# shellcheck disable=SC2086
	[ -z "$lacking" ] || install $lacking
}

# The first Python that is new enough and can make virtual environments.
python() {
	for candidate in "${PYTHON:-/usr/bin/python3}" /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
		if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			echo "$candidate"
			return
		fi
	done
	die "needs Python 3.11 or later, with venv"
}

# What .venv was made from; the path too, since its scripts carry it.
fingerprint() {
	pwd
	cat setup.cfg pyproject.toml $list | cksum
}

environment() {
	stamp=.venv/made-from
	[ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$(fingerprint)" ] && return
	if [ ! -x .venv/bin/python ] || [ "$(head -n 1 $stamp 2>/dev/null)" != "$(pwd)" ]; then
		interpreter=$(python)
		say "virtual environment in .venv, with $("$interpreter" --version)"
		"$interpreter" -m venv --clear .venv
	fi
	say "pip install --editable .[test,lint]"
	rm -f $stamp
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir \
		--editable '.[test,lint]' || die "pip failed: see above; the next run tries again"
	fingerprint >$stamp
	say "ready"
}

# The libraries that the packages $* lack on this system, as apt resolves their dependencies.
# Programs among the dependencies are left out: those that are needed are in the list.
libraries() {
	resolved=$($apt --simulate install --no-install-recommends "$@") ||
		die "apt cannot resolve the dependencies of: $*"
	echo "$resolved" | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
		xargs -r apt-cache show --no-all-versions |
		awk '$1 == "Package:" { name = $2 } $1 == "Section:" && $2 ~ "(^|/)libs$" { print name }'
}

# All of them in one tree, as if it were the root of a system; their libraries on the system.
unpacked() {
	packages=$(named unpack | xargs)
	# shellcheck disable=SC2046
	[ "$(cat .build/unpacked/packages 2>/dev/null)" = "$packages" ] &&
		[ -e .build/unpacked/libraries ] &&
		[ -z "$(missing $(cat .build/unpacked/libraries))" ] && return
	say "unpacking $packages into .build/unpacked"
	rm -rf .build/new
	mkdir -p .build/new/tree
	# shellcheck disable=SC2086  # one word a package
	(cd .build/new && fetch download $packages)
	for package in .build/new/*.deb; do
		dpkg-deb --extract "$package" .build/new/tree
	done
	# shellcheck disable=SC2086
	needed=$(libraries $packages)
	# shellcheck disable=SC2086
	[ -z "$needed" ] || install $needed
	echo "$needed" >.build/new/tree/libraries
	echo "$packages" >.build/new/tree/packages
	rm -rf .build/unpacked
	mv .build/new/tree .build/unpacked
	rm -rf .build/new
}

# Those of Debian 12 and of OpenWrt's releases; .venv has a recent one.
pyroute2='0.7.2 0.7.9'

# Each in a folder of its own: tests put one in front of Python's path.
other_pyroute2() {
	for version in $pyroute2; do
		folder=.build/unpacked/pyroute2/$version
		[ -d "$folder" ] && continue
		say "pip install pyroute2==$version, into $folder"
		rm -rf "$folder.new"
		.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir \
			--no-deps --target "$folder.new" "pyroute2==$version" ||
			die "pip failed: see above; the next run tries again"
		mv "$folder.new" "$folder"
	done
}

# Grafana's own types of a dashboard, and the compiler that checks them.
grafana='@grafana/schema@13.2.3 @grafana/grafana-foundation-sdk@0.0.21 typescript@5.9.3'

fleet() {
	[ "$(cat .build/grafana/made-from 2>/dev/null)" != "$grafana" ] || return 0
	command -v npm >/dev/null || fetch install --yes --no-install-recommends npm
	say "npm install $grafana"
	# shellcheck disable=SC2086  # one word a package
	npm install --silent --no-save --no-audit --no-fund --prefix .build/grafana $grafana >&2 ||
		die "npm failed: see above; the next run tries again"
	echo "$grafana" >.build/grafana/made-from
}

axe='axe-core@4.14.1'

browser() {
	debian_packages browser
	.venv/bin/python -c 'import selenium' 2>/dev/null || .venv/bin/python -m pip install --quiet \
		--disable-pip-version-check --no-cache-dir --editable '.[browser]' ||
		die "pip failed: see above; the next run tries again"
	[ "$(cat .build/browser/made-from 2>/dev/null)" != $axe ] || return 0
	command -v npm >/dev/null || fetch install --yes --no-install-recommends npm
	say "npm install $axe"
	npm install --silent --no-save --no-audit --no-fund --prefix .build/browser $axe >&2 ||
		die "npm failed: see above; the next run tries again"
	echo $axe >.build/browser/made-from
}

exec 9<.
flock 9
debian_packages install
environment
case ${1:-} in
	unpack)
		unpacked
		other_pyroute2
		;;
	browser) browser ;;
	ansible)
		unpacked
		.venv/bin/python -c 'import ansiblelint' 2>/dev/null || .venv/bin/python -m pip install \
			--quiet --disable-pip-version-check --no-cache-dir --editable '.[ansible]' ||
			die "pip failed: see above; the next run tries again"
		;;
	fleet)
		unpacked
		fleet
		;;
	kernels)
		unpacked
		other_pyroute2
		debian_packages kernels
		;;
esac
