"""What table main says about the way out of a device, on the real kernel."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

METRICS = "mtu lock 1400 advmss 1360 hoplimit 65 initcwnd 20 features ecn initrwnd 30 quickack 1"


def attributes(line: str, *without: str) -> list[str]:
    """The words of a route that `ip` prints, without these and what follows each of them."""
    words = line.split()
    return [
        word
        for index, word in enumerate(words)
        if word not in without and words[max(0, index - 1)] not in without
    ]


@pytest.mark.parametrize("family", [4, 6])
def test_mains_default_and_ours_are_the_same(wan: Wan, family: int) -> None:
    gateway = wan.gateway
    via, own = ("10.1.1.1", "10.1.1.2") if family == 4 else ("2001:db8:1::1", "2001:db8:1::2")
    with Daemon(gateway) as daemon:
        for metrics in (METRICS, "mtu 1300", ""):
            gateway.ip(
                f"route replace default via {via} dev eth1 proto dhcp src {own} metric 1 {metrics}",
                family=family,
            )
            daemon.settle()
            lines = [
                gateway.ip(f"route show default dev eth1 table {table}", family=family)
                for table in ("main", "7001", "7000")
            ]
            routes = [attributes(line.splitlines()[0], "proto", "metric") for line in lines]
            assert routes[0] == routes[1] == routes[2]
            assert ("mtu" in routes[0]) == bool(metrics)
        assert daemon.status()["problems"] == []


def default_by_object(wan: Wan) -> None:
    """Main's default by eth1 has nexthop object 7; 10.1.1.254 is another address of its router."""
    wan.routers[1].ip("address add 10.1.1.254/24 dev access")
    wan.gateway.ip(
        "route delete default dev eth1",
        "nexthop add id 7 via 10.1.1.1 dev eth1",
        "route add default nhid 7 metric 1",
        family=4,
    )


def test_a_nexthop_object_is_followed(wan: Wan) -> None:
    gateway = wan.gateway
    default_by_object(wan)
    with Daemon(gateway) as daemon:
        daemon.settle()
        assert "default via 10.1.1.1 dev eth1 table 7001" in gateway.state()
        gateway.ip("nexthop replace id 7 via 10.1.1.254 dev eth1", family=4)
        eventually(lambda: "default via 10.1.1.254 dev eth1 table 7001" in gateway.state())


@pytest.mark.parametrize("compat", [1, 0])
def test_nexthop_objects_in_one_and_in_both_uplinks(wan: Wan, compat: int) -> None:
    """Also where routes do not tell what the object has, and beside a default without one."""
    gateway = wan.gateway
    gateway.sysctl("net.ipv4.nexthop_compat_mode", compat)
    default_by_object(wan)
    with Daemon(gateway) as daemon:
        assert daemon.settle()["problems"] == []
        for n in (1, 2):
            assert f"default via 10.{n}.{n}.1 dev eth{n} table 700{n}" in gateway.state()
        assert daemon.status()["default"]["ipv4"] == "wan1"
        gateway.ip("nexthop replace id 7 via 10.1.1.254 dev eth1", family=4)
        eventually(lambda: "default via 10.1.1.254 dev eth1 table 7001" in gateway.state())
        gateway.run("ip", "-4", "route", "delete", "default", "dev", "eth2")
        gateway.run("ip", "nexthop", "add", "id", "8", "via", "10.2.2.1", "dev", "eth2")
        gateway.run("ip", "nexthop", "add", "id", "9", "group", "7,3/8")
        gateway.run("ip", "-4", "route", "replace", "default", "nhid", "9", "metric", "1")
        eventually(lambda: "default via 10.2.2.1 dev eth2 table 7002" in gateway.state())
        assert daemon.settle()["problems"] == []
        gateway.ip("nexthop delete id 8")
        if compat:
            daemon.reconcile()  # the resync would find it: the kernel has no event for the route
        eventually(lambda: "10.2.2.1 dev eth2 table 7002" not in gateway.state(), 30)


def test_a_route_to_the_subnet_that_comes_and_goes(bare_wan: Wan) -> None:
    gateway = bare_wan.gateway
    gateway.ip(
        "address add 10.1.1.2/24 dev eth1 noprefixroute",
        "route add 10.1.1.1 dev eth1 scope link",
        "route add default via 10.1.1.1 dev eth1",
    )
    connected = "10.1.1.0/24 dev eth1 table 7001"
    with Daemon(gateway) as daemon:
        daemon.settle()
        assert connected not in gateway.state()
        gateway.run("ping", "-c1", "-W2", "-I", "10.1.1.2", SERVER)
        gateway.ip("route add 10.1.1.0/24 dev eth1 scope link")
        eventually(lambda: connected in gateway.state())
        gateway.ip("route delete 10.1.1.0/24 dev eth1")
        eventually(lambda: connected not in gateway.state())


def test_a_deleted_default_is_followed_and_a_link_that_flaps_is_not(wan: Wan) -> None:
    gateway = wan.gateway
    with Daemon(gateway) as daemon:
        daemon.settle()
        wan.admin_down(2)
        daemon.settle()
        wan.admin_up(2)
        eventually(lambda: "endpoint 10.2.2.2" in gateway.state())
        gateway.ip("route delete default dev eth1", family=4)
        eventually(lambda: "endpoint 10.1.1.2" not in gateway.state(), 4)
        uplinks = daemon.status()["uplinks"]
        assert uplinks[0]["families"][0]["reason"] == "no-gateway"
        assert uplinks[1]["families"][0]["gateway_from"] == "remembered"


def test_a_table_that_another_program_keeps(wan: Wan) -> None:
    gateway = wan.gateway
    gateway.ip(
        "route delete default dev eth2",
        "route add 10.2.2.0/24 dev eth2 table 101",
        "route add default via 10.2.2.1 dev eth2 proto dhcp metric 1024 table 101",
        family=4,
    )
    own = "config uplink 'wan2'\n\toption table '101'\n"
    with Daemon(gateway) as daemon:
        path = daemon.settle()["uplinks"][1]["families"][0]
        assert (path["reason"], "table 101" in path["advice"]) == ("no-gateway", True)
        daemon.configure(own=own)
        daemon.reconcile()
        status = daemon.settle()
        path = status["uplinks"][1]["families"][0]
        assert (path["gateway"], path["gateway_from"]) == ("10.2.2.1", "table")
        assert status["problems"] == []
        daemon.stop()
        assert daemon.call("flush").code == 0
    assert gateway.ip("route show table 101").count("eth2") == 2


def test_a_lan_host_uses_the_uplink_of_its_prefix(wan: Wan) -> None:
    gateway, prefix = wan.gateway, "2001:db8:2:100::"
    gateway.ip(
        f"address add {prefix}1/64 dev br-lan nodad",
        f"route add unreachable {prefix}/56 metric 2147483647",
        family=6,
    )
    with Daemon(gateway) as daemon:
        assert daemon.settle()["uplinks"][1]["families"][1]["prefixes"] == [f"{prefix}/56"]
        assert "dev eth2" in gateway.ip(
            f"route get 2001:db8:9::9 from {prefix}10 iif br-lan", family=6
        )


def test_the_advice_names_accept_ra_where_the_kernel_ignores_routers(wan: Wan) -> None:
    """A router forwards, and with accept_ra 1 that means no router advertisements."""
    gateway = wan.gateway
    gateway.sysctl("net.ipv6.conf.eth2.forwarding", 1)
    gateway.sysctl("net.ipv6.conf.eth2.accept_ra", 1)
    gateway.ip("route delete default dev eth2", family=6)
    with Daemon(gateway) as daemon:
        advice = lambda: daemon.settle()["uplinks"][1]["families"][1]["advice"]  # noqa: E731
        assert "sysctl -w net/ipv6/conf/eth2/accept_ra=2" in advice()
        gateway.sysctl("net.ipv6.conf.eth2.accept_ra", 2)
        assert "accept_ra=2" not in advice()
