#!/bin/sh
# Runs a command in a fresh clone of this checkout, in a bare Debian:
#
#   packaging/bare.sh [COMMAND...]      make demo, where none is named
#
# Bare is what debootstrap makes, with git, make and python3.  DEBIAN=13 chooses the release, see
# packaging/root.sh.  What is not committed is not tried.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- make demo
root=$(packaging/root.sh git make python3)
[ -z "$(git status --porcelain)" ] || echo "bare: there are uncommitted changes, not tried" >&2
clone=$(mktemp -d .build/bare.XXXXXX)
trap 'rm -rf "$clone"' EXIT INT TERM
git clone --quiet --no-local "file://$PWD" "$clone"
# shellcheck disable=SC2016  # expanded inside
packaging/inside.sh "$root" "$PWD/$clone=/root/mproutd" -- \
	sh -c 'cd /root/mproutd && exec "$@"' sh "$@"
