"""What of an OpenWrt router its scripts can see, for tests: its shell, its programs, its folders.

Busybox is the shell, and the PATH holds nothing but the applets that a default image has.  What
procd, netifd and rpcd do to a script is written here, as short as it can be and from their
behaviour; what they are asked is recorded.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BUSYBOX = "/usr/bin/busybox"

APPLETS = (
    "[ ash awk basename cat chgrp chmod chown cp cut date dirname du echo egrep env expr false"
    " fgrep find flock free grep head hexdump id ip kill killall ln logger ls md5sum mkdir mkfifo"
    " mknod mktemp mount mv nice nslookup passwd pgrep pidof ping printf ps pwd readlink reset rm"
    " rmdir sed seq sh sha256sum sleep sort strings sync sysctl tail tar tee test time top touch"
    " tr true umount uname uniq uptime vi wc which xargs yes zcat"
).split()
"""Applets of a default image (package/utils/busybox), as far as Debian's busybox has them."""

CALL_HOTPLUG = """\
for script in "$ROOT"/etc/hotplug.d/"$1"/*; do
	( [ ! -f "$script" ] || . "$script" )
done
"""
"""What hotplug-call does: each script is sourced in a subshell, in the order of their names."""


class Router:
    """A root folder, and programs that see only what a router has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = self.folder("applets")
        for name in APPLETS:
            (self.path / name).symlink_to(BUSYBOX)

    def folder(self, path: str) -> Path:
        """A folder of the router, made if it is missing."""
        made = self.root / path
        made.mkdir(parents=True, exist_ok=True)
        return made

    def program(self, name: str, text: str) -> Path:
        """One more program on the PATH, a shell script."""
        file = self.path / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!{BUSYBOX} sh\n{text}")
        file.chmod(0o755)
        return file

    def variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": str(self.path), "ROOT": str(self.root), **variables}

    def command(self, *arguments: str) -> list[str]:
        return [BUSYBOX, "sh", *arguments]

    def sh(
        self,
        script: str,
        variables: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        stdin: str = "",
    ) -> str:
        """Run a script; AssertionError unless it ends with status 0 and says nothing on stderr."""
        done = subprocess.run(
            self.command("-c", script, "sh", *arguments),
            env=self.variables(variables or {}),
            cwd=self.root,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=20,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{script}\n{done}"
        return done.stdout

    def hotplug(self, subsystem: str, variables: Mapping[str, str]) -> str:
        """What netifd does for an event of `subsystem`."""
        return self.sh(CALL_HOTPLUG, variables, [subsystem])


UCI = """\
class UciException(Exception):
    pass


class Uci:
    def __init__(self, savedir="", confdir="/etc/config"):
        self._confdir = confdir

    def get(self, package):
        found = {}
        with open(f"{self._confdir}/{package}") as file:
            for line in file:
                words = line.split("#")[0].split(None, 2)
                if words[:1] == ["config"]:
                    name = words[2].strip().strip("'") if words[2:] else f"cfg{len(found):06x}"
                    section = found[name] = {}
                elif words[:1] == ["option"]:
                    section[words[1]] = words[2].strip().strip("'")
                elif words[:1] == ["list"]:
                    section[words[1]] = (*section.get(words[1], ()), words[2].strip().strip("'"))
        return found
"""
"""A module with pyuci's interface, for a Python that has none: plain files, no libuci."""
