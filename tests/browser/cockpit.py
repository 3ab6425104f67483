"""Debian's Cockpit in a node, with the page of this checkout.

`make browser DEBIAN=13` runs that of Debian 13, in a root of its own beside the rest.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from tests.browser.programs import install_command, install_program
from tests.lab import Daemon, eventually
from tests.lab.daemon import REPOSITORY
from tests.lab.ubus import BIN

HOME = "/run/cockpit"
PORT = 9090
URL = f"http://127.0.0.1:{PORT}/cockpit/@localhost/mproutd/index.html"
"""The page alone."""
FRAMED = f"http://127.0.0.1:{PORT}/mproutd"
"""The page within Cockpit's own."""
PACKAGES = ("cockpit-ws", "cockpit-bridge", "cockpit-system", "python3")

_INSIDE = """
set -eu
mount --bind "$1" /mnt
mount --rbind /run /mnt/run
mount --rbind /dev /mnt/dev
mount --bind "$2" /mnt/srv
mount -t proc proc /mnt/proc
shift 2
exec chroot /mnt "$@"
"""
"""The checkout is /srv there."""


@functools.cache
def root() -> Path | None:
    """Where another Debian is; None for this machine's own."""
    if os.environ.get("DEBIAN", "12") == "12":
        return None
    argv = [REPOSITORY / "packaging/root.sh", *PACKAGES]
    return Path(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def inside(*argv: str) -> list[str]:
    """The command line in that Debian."""
    if root() is None:
        return list(argv)
    enter = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh")
    return [*enter, str(root()), str(REPOSITORY), *argv]


def command(daemon: Daemon) -> list[str]:
    """`mproutd` by the Python of that Debian; its verb is a variable of the shell."""
    usual = daemon.command('"$verb"')
    if root() is None:
        return usual
    site = Path(sysconfig.get_path("purelib")).relative_to(REPOSITORY)
    return ["env", f"PYTHONPATH=/srv:/srv/{site}", "python3", *usual[usual.index("-m") :]]


AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups "


class Cockpit:
    """cockpit-ws beside `daemon`, as root's session or `as_nobody`'s.  Use as a context manager.

    One server serves one browser.
    """

    def __init__(self, daemon: Daemon, *, as_nobody: bool = False) -> None:
        node = daemon.node
        home = node.path(HOME)
        shutil.rmtree(home, ignore_errors=True)
        package = home / "share/cockpit/mproutd"
        install(package)
        (home / "etc").mkdir()
        install_command(daemon, command(daemon))
        bridge = AS_NOBODY if as_nobody else ""
        install_program(node, "bridge", f"#!/bin/sh\nexec {bridge}cockpit-bridge\n")
        if as_nobody:
            home.chmod(0o755)
            shutil.chown(home, 65534, 65534)
        environment = {
            "LANG": "C.UTF-8",
            "HOME": HOME,
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            # Else each server leaves a dbus-daemon and an ssh-agent behind.
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
            "SSH_AUTH_SOCK": "/nonexistent",
            "XDG_CONFIG_DIRS": f"{HOME}/etc",
            "XDG_DATA_DIRS": f"{HOME}/share:/usr/share",
        }
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (close() does)
        self._server = node.popen(
            *inside(
                *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
                *("/usr/lib/cockpit/cockpit-ws", "--address", "127.0.0.1", "--port", str(PORT)),
                f"--local-session={BIN}/bridge",
            ),
            stdout=self._log,
            stderr=self._log,
        )
        with node.enter():
            eventually(self._answers)

    def _answers(self) -> bool:
        assert self._server.poll() is None, self.log()
        socket.create_connection(("127.0.0.1", PORT), 1).close()
        return True

    def log(self) -> str:
        """What the server and its bridge have written."""
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        self._server.terminate()
        self._server.wait()
        self._log.close()

    def __enter__(self) -> Cockpit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def install(package: Path) -> None:
    """The page as the Debian package installs it."""
    shutil.copytree(REPOSITORY / "web/cockpit", package)
    shutil.copytree(REPOSITORY / "web/page", package / "page")
