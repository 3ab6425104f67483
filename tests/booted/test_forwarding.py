"""pin_flows on a booted Debian whose own firewall is nftables.service, in the service's sandbox."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.booted.system import PACKAGES
from tests.lab import SERVER, TWO_UPLINKS, Echo, Namespace, eventually
from tests.lab.links import veth

pytestmark = pytest.mark.booted

FIREWALL = """\
#!/usr/sbin/nft -f
flush ruleset
table ip nat {
	chain out {
		type nat hook postrouting priority srcnat;
		oifname "eth1" snat to 10.1.1.2
		oifname "eth2" snat to 10.2.2.2
	}
}
"""


class Router:
    """A booted gateway with a LAN host behind it."""

    def __init__(self, providers: Providers, package: Path) -> None:
        self.providers = providers
        self.lan = Namespace("lan")

        def before(root: Path) -> None:
            shutil.copy(package, root / "root" / package.name)

        self.machine = Booted(self._plug_in, (*PACKAGES, "nftables"), before)

    def _plug_in(self, network: Namespace) -> None:
        self.providers.plug_in(network)
        veth(network, "lan0", self.lan, "eth0")
        self.lan.ip("address add 192.168.70.10/24 dev eth0", "route add default via 192.168.70.1")

    def set_up(self) -> None:
        machine = self.machine
        machine.run("apt-get install --yes /root/mproutd_*.deb")
        machine.write("/etc/mproutd/network", TWO_UPLINKS)
        machine.write("/etc/nftables.conf", FIREWALL)
        machine.run("sysctl -w net.ipv4.ip_forward=1")
        machine.network.ip("address add 192.168.70.1/24 dev lan0")
        for n in (1, 2):
            machine.network.ip(
                f"link set eth{n} up",
                f"address add 10.{n}.{n}.2/24 dev eth{n}",
                f"route add default via 10.{n}.{n}.1 dev eth{n} metric {n}",
            )
        machine.run("systemctl restart nftables mproutd")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.machine.run("mproutd status --json", check=False))
        return found

    def close(self) -> None:
        self.machine.close()
        self.lan.close()


@pytest.fixture
def router(package: Path, providers: Providers) -> Iterator[Router]:
    made = Router(providers, package)
    try:
        yield made
    finally:
        made.close()


def test_connections_outlive_restarts_of_nftables_and_mproutd(
    router: Router, newer_package: Path
) -> None:
    """And an upgrade."""
    router.set_up()
    machine, wan = router.machine, router.providers.wan
    eventually(lambda: router.status()["pins_flows"], 60)
    wan.unplug(1)
    eventually(lambda: router.status()["default"].get("ipv4") == "wan2", 60)
    with Echo(router.lan, wan.server, SERVER, mptcp=False) as flow:
        wan.plug(1)
        eventually(lambda: router.status()["default"].get("ipv4") == "wan1", 60)

        def goes_on() -> None:
            before = flow.report()
            assert not before.error
            eventually(lambda: flow.report().received > before.sent + 20, 60)

        for command in (
            "systemctl restart nftables",
            "systemctl reload nftables",
            "systemctl restart mproutd",
            "systemctl kill --signal=KILL mproutd",
        ):
            machine.run(command)
            eventually(lambda: "chain incoming" in machine.run("nft list ruleset"), 60, command)
            goes_on()
        machine.install(newer_package)
        eventually(lambda: router.status().get("pins_flows"), 60)
        goes_on()
        machine.run("systemctl stop mproutd")
        goes_on()
        machine.run("systemctl start mproutd")
        eventually(lambda: router.status()["pins_flows"], 60)
        machine.run("systemctl restart nftables")
        problems = eventually(lambda: router.status()["problems"], 60)
        assert {problem["code"] for problem in problems} == {"removed-externally"}
        assert router.status()["uplinks"][1]["flows"] >= 1
        goes_on()
    assert "restoring it" in machine.journal("-u", "mproutd")
    machine.run("systemctl stop mproutd")
    machine.run("mproutd flush")
    assert "mproutd" not in machine.run("nft list tables")
