"""Worlds of other traffic beside a master: a VPN, uplinks that are off, other programs' rules."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Wan, eventually, veth

pytestmark = pytest.mark.kernel

FIRST_OFF = TWO_UPLINKS.replace("'master'", "'off'").replace("'on'", "'master'")
FAR, FAR6 = "198.51.100.1", "2001:db8:ffff::1"
LAN = "from 192.168.70.10 iif br-lan"


def device(wan: Wan, destination: str = FAR, *words: str) -> str:
    """Where the kernel sends a packet; "" for nowhere."""
    words = ("ip", "route", "get", destination, *" ".join(words).split())
    output = wan.gateway.run(*words, check=False).split()
    return output[output.index("dev") + 1] if "dev" in output else ""


def tunnel(wan: Wan, name: str = "tun0") -> None:
    """A cable to the server that stands for a tunnel."""
    veth(wan.gateway, name, wan.server, name)
    wan.gateway.ip(f"address add 10.8.0.2/24 dev {name}")
    wan.server.ip(f"address add 10.8.0.1/24 dev {name}")


def other(daemon: Daemon) -> dict[str, Any]:
    """family or LAN → (uplink, device) of the status."""
    return {
        traffic["origin"] or traffic["family"]: (traffic["uplink"], traffic["device"])
        for traffic in daemon.query_status()["other_traffic"]
    }


def codes(daemon: Daemon) -> list[str]:
    return [problem["code"] for problem in daemon.query_status()["problems"]]


# -- a VPN with a plain default route in main -------------------------------------------------


def test_a_vpn_is_not_left_and_followed_as_it_comes_and_goes(wan):
    tunnel(wan)
    wan.gateway.ip(f"route add {SERVER} via 10.1.1.1", "route add default via 10.8.0.1 dev tun0")
    with Daemon(wan.gateway) as daemon:
        for words in ("", LAN):
            assert device(wan, FAR, words) == "tun0"
        assert device(wan, FAR, "from 10.2.2.2") == "eth2"
        assert other(daemon)["ipv4"] == (None, "tun0")
        assert daemon.query_status()["default"] == {"ipv6": "wan1"}
        assert codes(daemon) == []
        wan.gateway.ip("link set tun0 down")  # its routes go, without an event of their own
        eventually(lambda: "7000" in wan.gateway.run("ip", "route", "get", FAR), timeout=3)
        assert other(daemon)["ipv4"] == ("wan1", "eth1")
        wan.gateway.ip("link set tun0 up", "route add default via 10.8.0.1 dev tun0")
        eventually(lambda: device(wan) == "tun0", timeout=2)
        daemon.configure(
            TWO_UPLINKS + "\nconfig interface 'vpn'\n\toption device 'tun0'\n"
            "\toption multipath 'off'\n"
        )
        daemon.reconcile()
        assert device(wan) == "eth1", "off carries no other traffic"
        assert codes(daemon) == ["off-has-default"]
        assert "! vpn is off" in daemon.call("status").out


# -- uplinks that are off ---------------------------------------------------------------------


def test_nothing_leaves_via_off(wan):
    wan.gateway.ip("route delete default dev eth2", family=6)
    with Daemon(wan.gateway, FIRST_OFF) as daemon:
        assert (device(wan), device(wan, FAR6)) == ("eth2", "")
        wan.settle()
        wan.unplug(2)
        eventually(lambda: device(wan) == "")
        assert device(wan, FAR, LAN) == ""
        assert device(wan, FAR, "from 10.1.1.2") == "eth1"
        assert device(wan, FAR, "mark 0x1000000") == "eth1"
        status = daemon.call("status")
        assert "other traffic: IPv4 unreachable (wan1 off), IPv6 unreachable" in status.out
        wan.plug(2)
        eventually(lambda: device(wan) == "eth2")
    daemon.call("flush")
    assert device(wan) == "eth1"
    assert device(wan, FAR6) == "eth1"


# -- rules of other programs ------------------------------------------------------------------


def test_a_lan_that_a_foreign_rule_sends_elsewhere_is_shown(wan):
    tunnel(wan)
    wan.gateway.ip(
        "route add default via 10.8.0.1 dev tun0 table 100",
        "rule add priority 100 from 192.168.70.0/24 lookup 100",
    )
    with Daemon(wan.gateway) as daemon:
        assert other(daemon) == {
            "ipv4": ("wan1", "eth1"),
            "ipv6": ("wan1", "eth1"),
            "br-lan": (None, "tun0"),
        }
        assert codes(daemon) == []


def test_a_rule_that_takes_all_other_traffic_to_another_uplink(wan):
    wan.gateway.ip("route add default via 10.2.2.1 dev eth2 table 100")
    with Daemon(wan.gateway) as daemon:
        wan.gateway.ip("rule add priority 20000 lookup 100")
        (problem,) = daemon.query_status()["problems"]
        assert problem["code"] == "foreign-rule"
        assert problem["rule"] == "20000: from all lookup 100"
        assert problem["traffic"] == "other traffic (IPv4); traffic from br-lan (IPv4)"
        assert problem["actual"] == "wan2 (eth2)"
        assert daemon.call("status").code == 1
        wan.gateway.ip("rule delete priority 20000")
        assert codes(daemon) == []


def test_unreachable_in_front_of_all(wan):
    with Daemon(wan.gateway) as daemon:
        wan.gateway.ip("rule add priority 50 not fwmark 0x1 unreachable", family=4)
        problems = daemon.query_status()["problems"]
        problem = next(problem for problem in problems if problem["code"] == "foreign-rule")
        assert problem["rule"] == "50: not from all fwmark 0x1 unreachable"
        assert problem["actual"] == "nowhere"
        assert "IPv4 unreachable" in daemon.call("status").out


def test_rules_for_users_and_ports_are_listed_with_where_they_lead(wan):
    wan.gateway.ip(
        "route add default via 10.2.2.1 table 52",
        "rule add priority 100 uidrange 1000-1999 ipproto tcp dport 443 lookup 52",
        "rule add priority 101 ipproto udp sport 1000-1010 prohibit",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        assert codes(daemon) == []
        found = other(daemon)
        assert found["ipv4"] == ("wan1", "eth1")
        assert found["uidrange 1000-1999 ipproto tcp dport 443"] == ("wan2", "eth2")
        assert found["ipproto udp sport 1000-1010"] == (None, None)
        words = "with ipproto udp sport 1000-1010 IPv4 unreachable"
        assert words in daemon.call("status").words


def test_a_rule_that_skips_all_of_ours_is_named(wan):
    wan.gateway.ip("rule add priority 50 goto 32766", family=4)
    with Daemon(wan.gateway) as daemon:
        assert device(wan, FAR, "from 10.2.2.2") == "eth1"
        (problem,) = daemon.query_status()["problems"]
        assert (problem["code"], problem["rule"]) == ("foreign-rule", "50: from all goto")
        wan.gateway.ip("rule delete priority 50", family=4)
        assert codes(daemon) == []


def test_other_traffic_that_no_rule_leads_to_main_is_named(wan):
    with Daemon(wan.gateway, TWO_UPLINKS.replace("'master'", "'on'")) as daemon:
        assert codes(daemon) == []
        wan.gateway.run("ip", "-4", "rule", "delete", "priority", "32766")
        (problem,) = daemon.query_status()["problems"]
        assert (problem["code"], problem["family"]) == ("main-not-looked-up", "IPv4")
        wan.gateway.run("sh", "-c", problem["advice"].partition(": ")[2])
        assert codes(daemon) == []
        assert wan.gateway.run("ip", "rule").endswith(
            "32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n"
        )


def test_this_host_is_reached_where_table_local_comes_last(wan):
    """As the kernel's documentation of VRFs has it, and FRR's and SONiC's."""
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        wan.gateway.ip("rule add priority 32765 lookup local", family=4)
        wan.gateway.run("ip", "-4", "rule", "delete", "priority", "0")
        eventually(lambda: "rule 7001 from all lookup local" in wan.gateway.state())
        wan.lan.run("ping", "-c1", "-W5", "10.2.2.2")
        assert daemon.call("status").code == 0
    assert daemon.call("flush").code == 0
    assert "7001" not in wan.gateway.state()
