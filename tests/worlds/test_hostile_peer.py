"""Worlds with an MPTCP server that announces addresses of its choice (ADD_ADDR)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import SERVER, Daemon, Echo, Namespace, Wan, eventually, join_attempts
from tests.lab.modes import endpoints
from tests.lab.wan import LAN_HOST

pytestmark = pytest.mark.kernel

ACCEPTING = "config mproutd 'globals'\n\toption add_addr_accepted '8'\n"
PAGE = Path(__file__).parents[2] / "docs/security.md"


def announce(server: Namespace, *addresses: str) -> None:
    server.ip(*(f"mptcp endpoint add {address} signal" for address in addresses))


@contextmanager
def counted(node: Namespace, match: str) -> Iterator[list[int]]:
    """Counts incoming SYNs of MP_JOIN that match; the list has their number afterwards."""
    rule = f"{match} tcp flags syn tcp option mptcp subtype 1 counter"
    node.run(
        "nft",
        "-f",
        "-",
        input="table inet counted { chain way { type filter hook input priority 0;"
        f" {rule}; }}; }}\n",
    )
    found: list[int] = []
    try:
        yield found
        shown = node.run("nft", "list", "table", "inet", "counted")
        number = re.search(r"packets (\d+)", shown)
        assert number
        found.append(int(number[1]))
    finally:
        node.run("nft", "delete", "table", "inet", "counted")


def test_by_default_no_announced_address_is_joined(wan: Wan) -> None:
    announce(wan.server, LAN_HOST, "127.0.0.1", "10.2.2.1")
    with Daemon(wan.gateway), Echo(wan.gateway, wan.server, SERVER):
        eventually(lambda: join_attempts(wan.gateway) == 1)  # wan2's own
        time.sleep(0.5)
        assert join_attempts(wan.gateway) == 1
        assert set(endpoints(wan.gateway)) >= {"10.1.1.2", "10.2.2.2"}
        assert len(endpoints(wan.gateway)) == 4


def test_implicit_endpoints_do_not_take_multipath_away(wan: Wan) -> None:
    """Each announced address that leads through another one of ours leaves one behind, until the
    kernel takes no more: an uplink that comes up then would have none."""
    gateway = wan.gateway
    networks = range(71, 79)
    gateway.ip(*(f"address add 192.168.{n}.1/24 dev br-lan" for n in networks))
    wan.address_down(2)
    announce(wan.server, *(f"192.168.{n}.10" for n in networks))
    with Daemon(gateway, own=ACCEPTING) as daemon:
        with Echo(gateway, wan.server, SERVER):
            eventually(lambda: "192.168.73.1" in endpoints(gateway))
            time.sleep(0.5)  # its connection is there, and so are failing subflows
        taken = len(endpoints(gateway))
        filler = [f"mptcp endpoint add 192.0.2.{n} signal" for n in range(8 - taken)]
        gateway.ip(*filler)
        assert len(endpoints(gateway)) == 8
        wan.address_up(2)
        wan.default_route(2)
        eventually(lambda: {"10.2.2.2", "2001:db8:2::2"} <= set(endpoints(gateway)), 20)
        assert daemon.settle()["problems"] == []


def commands(device: str) -> Iterable[list[str]]:
    """The nft commands of the page, for an uplink that is `off` on this device."""
    found = re.findall(r"^    (nft .*announced.*)$", PAGE.read_text(), re.M)
    assert len(found) == 5
    for line in found:
        yield [
            word.strip("'") for word in re.findall(r"'[^']*'|\S+", line.replace("wwan0", device))
        ]


@pytest.mark.parametrize("protected", [False, True])
def test_the_rule_against_subflows_to_the_lan(wan: Wan, protected: bool) -> None:
    assert wan.lan
    wan.gateway.ip("route add 203.0.113.0/24 via 10.2.2.1 dev eth2")
    if protected:
        for command in commands("eth2"):
            wan.gateway.run(*command)
    announce(wan.server, LAN_HOST, "127.0.0.1", "203.0.113.9")
    with (
        counted(wan.lan, "ip daddr 192.168.70.10") as to_lan,
        counted(wan.gateway, "iif lo") as to_loopback,
        counted(wan.routers[2], "ip daddr 203.0.113.9") as out_by_off,
    ):
        wan.routers[2].ip("address add 203.0.113.9/32 dev lo")
        modes = Daemon(wan.gateway, own=ACCEPTING)
        modes.configure(
            network="config globals 'globals'\n\toption multipath 'enable'\n"
            "config interface 'wan1'\n\toption device 'eth1'\n\toption multipath 'on'\n"
        )
        with modes, Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: join_attempts(wan.gateway) >= 1)
            time.sleep(0.5)
            assert not echo.report().error
    sent = [bool(found[0]) for found in (to_lan, to_loopback, out_by_off)]
    assert sent == [not protected] * 3
