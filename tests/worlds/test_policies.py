"""Policies with real programs: each match in both families, failover, last resort, shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Daemon
from tests.lab.policies import BY_WAN2, NETWORK, PolicyWorld, use

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def world() -> Iterator[PolicyWorld]:
    with PolicyWorld() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(world: PolicyWorld) -> Iterator[Daemon]:
    with Daemon(world.gateway, NETWORK) as made:
        made.settle()
        yield made


def rule(*options: str, policy: str = "by_wan2") -> str:
    lines = ["config rule 'r'", f"\toption use_policy '{policy}'"]
    lines += [f"\t{one}" if one.startswith("list") else f"\toption {one}" for one in options]
    return BY_WAN2 + "\n".join(lines) + "\n"


@pytest.mark.parametrize("family", [4, 6])
def test_each_match_leads_to_the_policy_and_nothing_else_does(
    world: PolicyWorld, daemon: Daemon, family: int
) -> None:
    source, other = (
        ("192.168.70.10", "192.168.70.11")
        if family == 4
        else ("2001:db8:70::10", "2001:db8:70::11")
    )
    mac = world.lan.run("cat", "/sys/class/net/eth0/address").strip()
    udp = {"kind": "SOCK_DGRAM"}
    for option, matching, others in (
        (f"src_ip '{source}'", {}, None),
        (f"src_ip '{other}'", None, {}),
        (f"src_ip '!{other}'", {}, None),
        (f"src_mac '{mac}'", {}, None),
        ("src_mac '02:00:00:00:00:99'", None, {}),
        ("src_iface 'lan'", {}, None),
        ("src_iface '!lan'", None, {}),
        ("proto 'udp'", udp, {}),
        ("list proto 'tcp'\n\toption dest_port '9'", {"port": 9}, {"port": 7}),
        ("list proto 'tcp'\n\toption dest_port '!8-10'", {"port": 7}, {"port": 9}),
        ("list proto 'udp'\n\toption src_port '5000-5010'", {**udp, "sport": 5005}, udp),
        ("dscp 'ef'", {"tos": 0xB8}, {"tos": 0xA0}),
        ("dscp 'cs5,ef'", {"tos": 0xA0}, {}),
        (f"family 'ipv{family}'", {}, None),
        (f"family 'ipv{10 - family}'", None, {}),
    ):
        use(daemon, rule(option))
        if matching is not None:
            assert world.uplink(family, **matching) == "wan2", option
        if others is not None:
            assert world.uplink(family, **others) == "wan1", option
