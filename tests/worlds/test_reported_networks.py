"""Networks from public reports about other programs, each as its rules and routes make it."""

from __future__ import annotations

from tests.lab import Daemon, Wan, eventually
from tests.worlds.test_other_traffic import FAR, codes, device, tunnel


def all_work(daemon: Daemon) -> bool:
    """Every uplink is usable in both families, with its endpoints."""
    return all(
        family["usable"] and all(each["state"] == "ok" for each in uplink["endpoints"])
        for uplink in daemon.settle()["uplinks"]
        for family in uplink["families"]
    )


def test_one_of_two_defaults_for_a_source_goes(wan: Wan) -> None:
    """odhcp6c after a new prefix: what both give together must stay."""
    gateway = wan.gateway
    via = "via 2001:db8:1::1 dev eth1 metric 512"
    gateway.ip(
        "route delete default dev eth1",
        "address add 2001:db8:1:f::2/64 dev eth1 nodad",
        f"route add default from 2001:db8:1::/64 {via}",
        f"route add default from 2001:db8:1:f::/64 {via}",
        family=6,
    )
    with Daemon(gateway) as daemon:
        assert all_work(daemon)
        gateway.ip("address delete 2001:db8:1:f::2/64 dev eth1", family=6)
        gateway.ip(f"route delete default from 2001:db8:1:f::/64 {via}", family=6)
        eventually(lambda: "from 2001:db8:1:f::/64" not in gateway.state())
        assert all_work(daemon)
        assert "default via 2001:db8:1::1 dev eth1 table 7000" in gateway.state()


def test_every_rule_is_removed(wan: Wan) -> None:
    """systemd-networkd at a restart, with the kernel's own rules for main and default."""
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        for family in ("-4", "-6"):
            listed = wan.gateway.run("ip", family, "rule")
            for line in listed.splitlines():
                priority = line.partition(":")[0]
                if priority != "0":
                    wan.gateway.run("ip", family, "rule", "delete", "priority", priority)
        eventually(lambda: device(wan, FAR) == "eth1", 20)
        assert all_work(daemon)


def test_mullvad_beside_tailscale(wan: Wan) -> None:
    tunnel(wan, "wg0")
    wan.gateway.ip(
        "route add default dev wg0 table 1836018789",
        "rule add priority 5208 lookup main suppress_prefixlength 0",
        "rule add priority 5209 not fwmark 0x6d6f6c65 lookup 1836018789",
        "rule add priority 5210 fwmark 0x80000/0xff0000 lookup main",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        assert device(wan, FAR) == "wg0"
        assert codes(daemon) == ["foreign-rule"]


def test_rules_for_marks_of_other_balancers(wan: Wan) -> None:
    """mwan3's and VyOS's: their marks are not ours, and nothing is diverted."""
    wan.gateway.ip(
        "route add default via 10.2.2.1 table 3",
        "rule add priority 1003 iif eth2 lookup 3",
        "rule add priority 2003 fwmark 0x300/0x3f00 lookup 3",
        "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
        "rule add priority 201 fwmark 0xc9 lookup main suppress_prefixlength 0",
        family=4,
    )
    with Daemon(wan.gateway) as daemon:
        assert all_work(daemon)
        assert codes(daemon) == []
