"""The snapshot's cache: after any events it holds what the kernel has."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from mproutd.model import ANY_DEVICE, FAMILIES, Snapshot
from mproutd.netlink.kernel import NetlinkKernel, SnapshotRequest
from mproutd.planning import decision
from mproutd.planning.plan import Plan
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile
from tests.lab import TWO_UPLINKS, Wan, eventually

pytestmark = pytest.mark.kernel

MASK = 0x7F000000
REQUEST = SnapshotRequest({"eth1", "eth2"}, [7000, 7001, 7002], MASK, full=False, any_device=True)
RULES = [
    f"rule add priority 7000 fwmark {MASK}/{MASK} lookup main",
    *(f"rule add priority 730{n} oif eth{n} lookup 700{n}" for n in (1, 2)),
]


INITIAL = [
    "address add 10.1.1.2/24 dev eth1",
    "route add default via 10.1.1.1 dev eth1 metric 1",
    "address add 2001:db8:1::2/64 dev eth1 nodad",
    "-6 route add default via 2001:db8:1::1 dev eth1 metric 1",
    "-6 route add default from 2001:db8:1::/48 via 2001:db8:1::1 dev eth1",
]


def changes(n: int) -> list[str]:
    """What happens to the network of one uplink."""
    device, v4, v6 = f"dev eth{n}", f"10.{n}.{n}", f"2001:db8:{n}"
    return [
        f"address add {v4}.2/24 {device}",
        f"address delete {v4}.2/24 {device}",
        f"address add {v4}.3/24 {device} noprefixroute",
        f"address delete {v4}.3/24 {device}",
        f"address add 10.66.{n}.2/24 {device}",
        f"address delete 10.66.{n}.2/24 {device}",
        f"address add {v6}::2/64 {device} nodad",
        f"address delete {v6}::2/64 {device}",
        f"address add {v6}:1::2/64 {device} nodad noprefixroute",
        f"address delete {v6}:1::2/64 {device}",
        f"route add {v4}.0/24 {device} scope link metric 7",
        f"route delete {v4}.0/24 {device} metric 7",
        f"route add default via {v4}.1 {device} metric {n}",
        f"route replace default via {v4}.1 {device} metric 5",
        f"route delete default {device}",
        f"route add default via {v4}.1 {device} src {v4}.2 metric 8",
        f"route add default via {v4}.1 {device} table 700{n}",
        f"route add default via {v4}.1 {device} table 7000",
        f"route flush table 700{n}",
        f"-6 route add default via {v6}::1 {device} metric {n}",
        f"-6 route replace default via {v6}::1 {device} metric 5",
        f"-6 route delete default {device}",
        f"-6 route add default from {v6}::/48 via {v6}::1 {device}",
        f"-6 route delete default from {v6}::/48 {device}",
        f"-6 route add default via {v6}::1 {device} table 700{n}",
        f"link set eth{n} down",
        f"link set eth{n} up",
        f"link set eth{n} up",
        f"link set eth{n} mtu 1400",
        f"link set eth{n} mtu 1500",
        f"nexthop add id 9{n} via {v4}.1 {device}",
        f"route add default nhid 9{n} metric 3",
        f"nexthop delete id 9{n}",
    ]


def by_device(snapshot: Snapshot) -> Snapshot:
    """With the addresses of each device together, in the kernel's order."""
    return snapshot._replace(
        addresses=tuple(sorted(snapshot.addresses, key=lambda address: address.link))
    )


@pytest.mark.parametrize("seed", range(2))
def test_what_is_kept_is_what_a_fresh_look_finds(bare_wan: Wan, seed: int) -> None:
    """Also with routes that count only while there is carrier."""
    gateway, dice = bare_wan.gateway, random.Random(seed)
    gateway.ip(*RULES)
    gateway.ip(*RULES, family=6)
    for name in ("all", "eth1", "eth2") if seed % 2 else ():
        for version in ("ipv4", "ipv6"):
            gateway.sysctl(f"net.{version}.conf.{name}.ignore_routes_with_linkdown", 1)
    possible = [*changes(1), *changes(2)]
    with gateway.enter():
        kept, fresh = NetlinkKernel(), NetlinkKernel()
        events = kept.events()
    kept.snapshot(REQUEST._replace(full=True))
    values: set[object] = set()

    def compare() -> bool:
        """Addresses become valid some time after the command; a later event says so."""
        with gateway.enter():  # for the sysctls
            kept.on_events(events.read())
        cached = by_device(kept.snapshot(REQUEST))
        assert cached == by_device(fresh.snapshot(REQUEST._replace(full=True)))
        values.update((key[0] == ANY_DEVICE, key[1]) for key in cached.defaults)
        values.update(name for name in ("connected", "sourced") if getattr(cached, name))
        return True

    for turn in range(100):
        if turn % 5 == 4:
            bare_wan.unplug(1) if turn % 10 == 4 else bare_wan.plug(1)
        done = dice.sample(possible, dice.randint(1, 3)) if turn else INITIAL
        for change in done:
            gateway.run("sh", "-c", f"ip {change} 2>/dev/null || :")
        eventually(compare, what=f"the same after {done}")
    assert values >= {(best, family) for best in (True, False) for family in FAMILIES}
    assert {"connected", "sourced"} <= values


@pytest.mark.parametrize("event", ["unplug", "mtu"])
def test_routes_that_change_with_a_link_that_is_up(bare_wan: Wan, event: str) -> None:
    """Those with a nexthop object go with the carrier; IPv6 routes inherit the MTU."""
    gateway = bare_wan.gateway
    gateway.ip(*RULES)
    gateway.ip(*RULES, family=6)
    gateway.ip(
        "address add 10.1.1.2/24 dev eth1",
        "address add 2001:db8:1::2/64 dev eth1 nodad",
    )
    if event == "unplug":
        gateway.ip("nexthop add id 91 via 10.1.1.1 dev eth1", "route add default nhid 91 metric 3")
    gateway.ip("route add default via 2001:db8:1::1 dev eth1 mtu 1500", family=6)
    with gateway.enter():
        kept, fresh = NetlinkKernel(), NetlinkKernel()
        events = kept.events()
    before = kept.snapshot(REQUEST._replace(full=True))
    if event == "unplug":
        bare_wan.unplug(1)
    else:
        gateway.ip("link set eth1 mtu 1400")

    def has_changed() -> bool:
        return fresh.snapshot(REQUEST._replace(full=True)).defaults != before.defaults

    eventually(has_changed, what="another default route")

    def is_seen() -> bool:
        with gateway.enter():
            kept.on_events(events.read())
        cached = by_device(kept.snapshot(REQUEST))
        return cached == by_device(fresh.snapshot(REQUEST._replace(full=True)))

    eventually(is_seen, what="the same as a fresh look")


@pytest.mark.parametrize("family", [4, 6])
def test_routes_without_carrier_that_a_sysctl_hid(wan: Wan, family: int) -> None:
    key = f"net.ipv{family}.conf.eth1.ignore_routes_with_linkdown"
    wan.gateway.sysctl(key, 1)
    with wan.gateway.enter():
        kept = NetlinkKernel()
        events = kept.events()
    kept.snapshot(REQUEST._replace(full=True))

    def sees_default() -> bool:
        with wan.gateway.enter():
            kept.on_events(events.read())
        snapshot = kept.snapshot(REQUEST)
        eth1 = next(link for link in snapshot.links.values() if link.name == "eth1")
        seen.add(eth1.carrier)
        return (eth1.index, FAMILIES[family == 6]) in snapshot.defaults

    seen: set[bool] = set()
    assert sees_default()
    wan.unplug(1)
    eventually(lambda: not sees_default(), what="no default while it has no carrier")
    wan.gateway.sysctl(key, 0)
    eventually(sees_default, what="its default without carrier")
    assert seen == {True, False}


@pytest.mark.parametrize("uplink", [1, 2])
def test_what_is_anticipated_is_what_the_kernel_shows(
    wan: Wan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uplink: int
) -> None:
    """The first loss of a carrier, and its return, find their decisions."""
    now = [0.0]
    (tmp_path / "network").write_text(TWO_UPLINKS)
    with wan.gateway.enter():
        state = StateFile(str(tmp_path))
        reconciler = Reconciler(NetlinkKernel(), state, str(tmp_path), clock=lambda: now[0])
        reconciler.configure()
        reconciler.converge()
        events = reconciler.kernel.events()
        planned: list[object] = []
        make_plan = decision.make_plan

        def count(*arguments: Any) -> Plan:
            planned.append(arguments)
            return make_plan(*arguments)

        monkeypatch.setattr(decision, "make_plan", count)
        for change in (wan.unplug, wan.plug):
            now[0] += 10
            reconciler.kernel.on_events(events.read())
            reconciler.reconcile(full=False)
            reconciler.anticipate()
            planned.clear()
            change(uplink)

            def has_acted() -> bool:
                reconciler.kernel.on_events(events.read())
                return bool(reconciler.reconcile(full=False).done)

            eventually(has_acted, what="a pass that changes something")
            assert not planned
            for _ in range(3):
                reconciler.reconcile(full=False)
        reconciler.kernel.close()
        events.close()
