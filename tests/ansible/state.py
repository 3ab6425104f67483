"""What must not change on a machine while a role is refused or runs with --check."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.booted import Booted

FILES = (
    "find /etc /usr /opt /var/lib/dpkg /var/lib/systemd /tmp -xdev "
    "-not -path '/tmp/systemd-private-*' -not -path '*/timesync*' "
    "\\( -type d -printf '%p %m\\n' -o -printf '%p %y %m %s %T@ %l\\n' \\) | sort"
)
SERVICES = "systemctl show --property=Id,ActiveState,ExecMainPID,StateChangeTimestamp '*.service'"


def state(machine: Booted) -> str:
    """Files with their times, packages, services, and the kernel's routes, rules and endpoints."""
    own = ("mproutd", "shadowsocks", "nftables", "wg-quick")
    services = [
        block for block in machine.run(SERVICES).split("\n\n") if any(name in block for name in own)
    ]
    return "\n".join(
        [
            machine.run(FILES),
            machine.run("dpkg-query --show --showformat '${Package} ${Version} ${Status}\\n'"),
            *sorted(services),
            machine.network.ip("rule show"),
            *(x for x in machine.network.ip("route show table all").splitlines() if "::" not in x),
            machine.network.ip("mptcp endpoint show"),
            machine.network.ip("mptcp limits show"),
        ]
    )


def repack(deb: Path, version: str, folder: Path) -> Path:
    """The same package with another version."""
    tree = folder / f"tree-{version}"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text(
        "".join(f"Version: {version}\n" if x.startswith("Version:") else x for x in lines)
    )
    made = folder / f"mproutd_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, made], check=True)
    return made
