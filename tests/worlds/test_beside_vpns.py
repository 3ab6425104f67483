"""WireGuard and Tailscale beside mproutd, with the files and commands of docs/beside.md.

Neither program runs: a cable stands for its device, and their rules are added as they add them.
"""

from __future__ import annotations

import re

import pytest

from tests.lab import TWO_UPLINKS, Daemon, Wan, eventually
from tests.networks.guide import Guide
from tests.worlds.test_other_traffic import FAR, LAN, codes, device, tunnel

pytestmark = pytest.mark.kernel

GUIDE = Guide("../beside")
WG_QUICK = (
    "route add default via 10.8.0.1 dev wg0 table 51820",
    "rule add not fwmark 51820 table 51820",
    "rule add table main suppress_prefixlength 0",
)
TAILSCALE = (
    "rule add priority 5210 fwmark 0x80000/0xff0000 lookup main",
    "rule add priority 5230 fwmark 0x80000/0xff0000 lookup default",
    "rule add priority 5250 fwmark 0x80000/0xff0000 unreachable",
    "rule add priority 5270 lookup 52",
)
ITS_OWN = "mark 0x80000"


def uplinks_own(wan: Wan) -> list[str]:
    """Where the traffic leaves that belongs to wan2."""
    return [device(wan, FAR, words) for words in ("from 10.2.2.2", "mark 0x2000000")]


@pytest.mark.parametrize("first", ["wg-quick", "mproutd"])
def test_wg_quick_as_it_comes(wan, first):
    """Its rules land before mproutd's if it starts later, and behind them if it starts first."""
    tunnel(wan, "wg0")
    if first == "wg-quick":
        wan.gateway.ip(*WG_QUICK)
    with Daemon(wan.gateway) as daemon:
        if first == "mproutd":
            wan.gateway.ip(*WG_QUICK)
        daemon.settle()
        for words in ("", LAN):
            assert device(wan, FAR, words) == "wg0"
        status = daemon.call("status")
        assert "other traffic: IPv4 via wg0, IPv6 via wan1" in status.out
        if first == "wg-quick":
            assert uplinks_own(wan) == ["eth2", "eth2"]
            assert (codes(daemon), status.code) == ([], 0)
            return
        assert uplinks_own(wan) == ["wg0", "wg0"]
        (problem,) = daemon.query_status()["problems"]
        assert problem["code"] == "foreign-rule"
        assert re.fullmatch(r"\d+: not from all fwmark 0xca6c lookup 51820", problem["rule"])
        assert problem["traffic"] == "the mark of wan1, wan2; the addresses of wan1, wan2"
        assert (problem["actual"], status.code) == ("wg0", 1)


def test_wireguard_as_the_guide_has_it(wan):
    tunnel(wan, "wg0")
    (text,) = GUIDE.files("wireguard").values()
    commands = re.findall(r"^PostUp = (.*)$", text, re.MULTILINE)
    assert len(commands) == 2
    with Daemon(wan.gateway) as daemon:
        for command in commands:
            wan.gateway.run("sh", "-c", command.replace("%i", "wg0"))
        for words in ("", LAN):
            assert device(wan, FAR, words) == "wg0"
        assert uplinks_own(wan) == ["eth2", "eth2"]
        assert device(wan, FAR, "mark 51820") == "eth1"
        assert codes(daemon) == []
        wan.settle()
        wan.unplug(1)
        eventually(lambda: device(wan, FAR, "mark 51820") == "eth2")
        for command in re.findall(r"^PostDown = (.*)$", text, re.MULTILINE):
            wan.gateway.run("sh", "-c", command)
        assert device(wan) == "eth2"


def test_tailscales_packets_follow_the_master(wan):
    wan.gateway.ip(*TAILSCALE, family=4)
    with Daemon(wan.gateway) as daemon:
        assert device(wan, FAR, ITS_OWN) == "eth1"
        assert codes(daemon) == [], "nothing is wrong while the master is usable"
        wan.settle()
        wan.unplug(1)
        eventually(lambda: device(wan) == "eth2")
        assert device(wan, FAR, ITS_OWN) == "eth1", "main's default is still there"
        eventually(lambda: codes(daemon) == ["mark-follows-main"])
        (problem,) = daemon.query_status()["problems"]
        assert problem["rule"] == "5210: from all fwmark 0x80000/0xff0000 lookup main"
        assert (problem["actual"], problem["expected"]) == ("wan1 (eth1)", "wan2")
        assert f"{problem['command']}" in daemon.call("status").words
        for command in GUIDE.commands("tailscale"):
            wan.gateway.run("sh", "-c", command)
        assert device(wan, FAR, ITS_OWN) == "eth2"
        assert codes(daemon) == []


def test_an_exit_node(wan):
    tunnel(wan, "tailscale0")
    wan.gateway.ip(*TAILSCALE, "route add default via 10.8.0.1 dev tailscale0 table 52", family=4)
    with Daemon(wan.gateway, TWO_UPLINKS) as daemon:
        assert uplinks_own(wan) == ["tailscale0", "tailscale0"]
        assert codes(daemon) == ["foreign-rule"]
        (own,) = GUIDE.files("tailscale").values()
        daemon.configure(own=own)
        daemon.reconcile()
        assert uplinks_own(wan) == ["eth2", "eth2"]
        assert device(wan, FAR, LAN) == "tailscale0"
        assert codes(daemon) == []
