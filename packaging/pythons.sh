#!/bin/sh
# Runs the tests that need no root with each Python that Debian has:
#
#   packaging/pythons.sh [ARGUMENT of pytest]...
#
# 3.11 is Debian 12's, 3.13 is Debian 13's, 3.14 and later are sid's; PYTHONS='3.13 3.15' chooses.
# Each runs in a Debian of its own (packaging/root.sh), with a virtual environment in .build/pythons.
# No Debian has 3.12 any more.
set -eu

cd "$(dirname "$0")/.."
status=0 summary=''

# In that Debian; the checkout is where it is outside, since environments have absolute paths.
# shellcheck disable=SC2016  # expanded inside
tests='
	set -eu
	cd "$1"
	python=$2
	shift 2
	environment=.build/pythons/$python
	made_from=$(cat setup.cfg pyproject.toml | cksum)
	if [ "$(cat $environment/made-from 2>/dev/null)" != "$made_from" ]; then
		$python -m venv --clear $environment
		$environment/bin/python -m pip install --quiet --disable-pip-version-check \
			--no-cache-dir --editable ".[test]"
		echo "$made_from" >$environment/made-from
	fi
	exec $environment/bin/python -B -m pytest -q -p no:cacheprovider -m "not kernel" "$@"
'

mkdir -p .build/pythons
# Of a worktree, git's own folder is elsewhere.
common=$(git rev-parse --path-format=absolute --git-common-dir 2>/dev/null || pwd)
for version in ${PYTHONS:-3.11 3.13 3.14}; do
	case $version in
		3.11) release=12 ;;
		3.13) release=13 ;;
		*) release=sid ;;
	esac
	echo "== Python $version, Debian $release"
	root=$(DEBIAN=$release packaging/root.sh "python$version-venv" ca-certificates git \
		make iproute2 procps busybox socat man-db)
	if packaging/inside.sh "$root" "$common=$common" "$PWD=$PWD" -- sh -c "$tests" sh "$PWD" "python$version" "$@"; then
		summary="$summary$version passed  "
	else
		status=1 summary="$summary$version FAILED  "
	fi
done
echo "== $summary"
exit $status
