"""docs/far-end.md on booted servers: Debian 12 and 13, their packages and their units."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.booted import Booted
from tests.lab import SERVER, Daemon, Iperf, eventually, subflows
from tests.networks.far_end import TARGET, Gateways

pytestmark = pytest.mark.booted

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping"),
    *("nftables", "shadowsocks-libev", "mptcpize", "wireguard-tools"),
    *("+python3", "+python3-tenacity", "+python3-pyroute2", "+python3-systemd", "+adduser"),
)
INSTANCE = "shadowsocks-libev-server@gw{:02}"


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    with Gateways(2) as built:
        yield built


@pytest.fixture(params=("12", "13"))
def server(package: Path, gateways: Gateways, request: pytest.FixtureRequest) -> Iterator[Booted]:
    """A server with the packages of the guide and the .deb, and the guide's files."""

    def bring(root: Path) -> None:
        shutil.copy(package, root / "root" / package.name)
        # The lab sets its address, so systemd-networkd would wait for one that it sets.
        (root / "etc/systemd/system/systemd-networkd-wait-online.service").symlink_to("/dev/null")

    with Booted(gateways.plug_in, PACKAGES, bring, request.param) as machine:
        for path, text in gateways.files().items():
            machine.write(path, text)
        machine.run("apt-get install --yes -o Dpkg::Options::=--force-confold /root/mproutd_*.deb")
        yield machine


def runs(gateways: Gateways) -> bool:
    """Whether a connection of the first gateway uses both of its uplinks."""
    first = gateways.clients[0]
    iperf = Iperf(first, gateways.internet, "127.0.0.1", 3, port=5201, mptcp=False)
    used = eventually(
        lambda: (
            len(s := {flow.local for flow in subflows(first) if flow.remote == SERVER}) == 2 and s
        )
    )
    return iperf.result().completed and used == set(first.addresses)


def test_the_units_serve_gateways_also_after_a_reboot(server, gateways):
    first = gateways.clients[0]
    for command in gateways.guide.commands("start"):
        server.run(command)
    for path, text in gateways.guide.files("classes").items():
        server.write(path, text)
    for command in gateways.guide.commands("classes"):
        server.run(command)
    gateways.tunnel(first, 5201, TARGET)
    with Daemon(first):
        assert runs(gateways)
        server.reboot()
        assert runs(gateways)
    for number in (1, 2):
        assert server.unit_state(INSTANCE.format(number)) == "active"
    assert server.unit_state(INSTANCE.format(1), "LimitNOFILE") == "16384"
    assert "drop" in server.run("nft list table inet far_end")
    assert server.run("stat --format=%a /etc/shadowsocks-libev/gw01.json").strip() == "600"
    assert f"{SERVER} id 1 signal" in server.run("ip mptcp endpoint show")
    for device in ("eth0", "ifb0"):
        assert "class htb 1:23 parent 1:3 leaf" in server.run(f"tc class show dev {device}")  # gw20
    sent = server.run("tc -statistics class show dev eth0 classid 1:10")  # gw01
    assert "Sent 0 bytes" not in sent
    received = server.run("tc -statistics class show dev ifb0 classid 1:10")
    assert "Sent 0 bytes" not in received
    for command in gateways.guide.commands("undo"):
        server.run(command)
    assert not server.run("ip mptcp endpoint show").strip()
    assert "far_end" not in server.run("nft list tables")
    assert "ifb0" not in server.run("ip -brief link")
    assert not {"htb", "clsact"} & set(server.run("tc qdisc show dev eth0").split())
    assert not server.run("systemctl --failed --no-legend --plain").strip()
