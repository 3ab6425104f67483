"""A node that looks like a Debian machine of its own: /etc, /var/lib and the programs.

The packages of packaging/debian-packages.txt that are only unpacked appear at their real
places (ifup wants /sbin/dhclient, and that wants /sbin/dhclient-script), and what these write
stays in the node.  Must hold: nothing of it is seen outside the node's mount namespace.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.lab import Namespace

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / ".build/unpacked"
DHCLIENT_HOOK = "etc/dhcp/dhclient-exit-hooks.d/mproutd"
IFUP_HOOK = "if-up.d/mproutd"

# /usr/sbin is where /sbin leads; the real one stays in reach for the links into it.
PRIVATE = """
set -eu
private() { mkdir -p "/run/own/$1"; cp -a "/$1/." "/run/own/$1"; mount --bind "/run/own/$1" "/$1"; }
private etc
mount -t tmpfs -o mode=755 own /var/lib
mkdir -p /run/own/programs /run/own/sbin /run/network /var/lib/dhcp
mount --bind /usr/sbin /run/own/programs
ln -s /run/own/programs/* /run/own/sbin
for program in "$1"/sbin/* "$1"/usr/sbin/* "$1"/usr/bin/*; do
	[ -e "$program" ] && ln -sf "$program" /run/own/sbin
done
mount --bind /run/own/sbin /usr/sbin
rm -rf /etc/dhcp /etc/network /etc/openvpn /etc/resolv.conf
mkdir -p /etc/network/if-pre-up.d /etc/network/if-up.d /etc/network/if-down.d
mkdir -p /etc/network/if-post-down.d /etc/openvpn /etc/mproutd
: >/etc/resolv.conf
for name in dhcp keepalived; do
	[ ! -d "$1/etc/$name" ] || cp -a "$1/etc/$name" /etc
done
"""


def why_not(*more: str) -> str:
    """Why these networks cannot be built here; empty when they can.  `more`: further programs."""
    wanted = ("ifup", "dhclient", "dnsmasq", "ss-redir", "redsocks", "microsocks")
    wanted += ("openvpn", "dhcpd", *more)
    places = [UNPACKED / "sbin", UNPACKED / "usr/sbin", UNPACKED / "usr/bin"]
    missing = [
        name
        for name in wanted
        if not any((folder / name).exists() for folder in places) and not shutil.which(name)
    ]
    return f"no {', '.join(missing)} here: packaging/setup.sh unpack" if missing else ""


class Machine(Namespace):
    """A node with /etc, /var/lib and /usr/sbin of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.run("sh", "-c", PRIVATE, "sh", str(UNPACKED))

    def write(self, path: str, text: str) -> None:
        """A file of the node; executable if it is a script."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)

    def install_hooks(self) -> None:
        """Ours, where the packages look for them."""
        hook = (ROOT / IFUP_HOOK).read_text()
        self.write("/etc/network/if-up.d/mproutd", hook)
        self.write("/etc/network/if-post-down.d/mproutd", hook)
        self.write("/" + DHCLIENT_HOOK, (ROOT / DHCLIENT_HOOK).read_text())

    def ifup(self, device: str) -> str:
        """ifup(8); a host name that a server might send stays in a namespace too."""
        return self.run("unshare", "--uts", "ifup", "-v", device, timeout=40)

    def ifdown(self, device: str) -> str:
        return self.run("unshare", "--uts", "ifdown", "-v", device, timeout=40)

    def service(self, command: str) -> subprocess.Popen[Any]:
        """Start a program by the line that a guide has for it; it ends with the node."""
        log = self.path("/run/services.log").open("ab")
        try:
            return self.popen("sh", "-c", f"exec {command}", stdout=log, stderr=log)
        finally:
            log.close()

    def services_said(self) -> str:
        """What the programs wrote, for when a test fails."""
        log = self.path("/run/services.log")
        return log.read_text(errors="replace") if log.exists() else ""
