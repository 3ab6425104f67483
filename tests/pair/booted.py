"""The two gateways of docs/pair.md as booted Debian machines, with Debian's packages and units."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.booted import Booted
from tests.lab import eventually
from tests.lab.resources import Closing
from tests.networks.guide import Guide
from tests.pair.world import GATEWAY, Site, on_gateway_b

SYSTEM = ("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping", "ifupdown")
NEEDED = ("python3", "python3-tenacity", "python3-pyroute2", "python3-systemd", "adduser")
GUIDE = ("keepalived", "conntrackd", "netbase", "nftables", "radvd", "shadowsocks-libev")
"""What the guide installs."""
PACKAGES = (*SYSTEM, *(f"+{name}" for name in (*NEEDED, *GUIDE)))


class Gateway(Closing):
    """One of the two."""

    def __init__(self, site: Site, name: str, release: str, package: Path) -> None:
        self.name, self.guide = name, Guide("../pair")

        def bring(root: Path) -> None:
            shutil.copy(package, root / "root" / package.name)
            # ifupdown sets the addresses; systemd-networkd would wait for some of its own
            wait = root / "etc/systemd/system/systemd-networkd-wait-online.service"
            wait.symlink_to("/dev/null")

        letter = name[-1]
        self.machine = Booted(
            lambda network: site.plug(network, letter, up=False), PACKAGES, bring, release
        )

    def set_up(self) -> None:
        """What the guide says, up to the reboot."""
        machine = self.machine
        machine.run(f"apt-get install --yes {' '.join(GUIDE)} /root/mproutd_*.deb", timeout=240)
        for path, text in self.guide.files("gateway-a").items():
            machine.write(path, text if self.name == "gateway-a" else on_gateway_b(text))
        for command in self.guide.commands("units"):
            machine.run(command)
        machine.stop()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.machine.run("mproutd status --json", check=False))
        return found

    def is_active(self) -> bool:
        assert f" {GATEWAY}/" in self.machine.network.ip("address show")
        return self.machine.run("mproutd standby").strip() == "active"

    def is_ready(self) -> bool:
        """It would take over, and has nothing to complain about."""
        assert f" {GATEWAY}/" not in self.machine.network.ip("address show")
        assert self.machine.run("mproutd standby").strip() == "standby"
        assert self.states()[-1:] == ["BACKUP"]
        return self.status()["problems"] == []

    def states(self) -> list[str]:
        """Those that keepalived entered since this boot."""
        journal = self.machine.journal("--boot", "--unit=keepalived")
        return re.findall(r"\(gateway\) Entering (\w+) STATE", journal)

    def services_said(self) -> str:
        """The journal since this boot, for when a test fails."""
        return self.machine.journal("--boot")

    def wait(self, state: str) -> None:
        """Until it is active, or ready."""
        condition = self.is_active if state == "active" else self.is_ready
        eventually(condition, 60, f"{self.name} is {state}")

    def close(self) -> None:
        self.machine.close()
