"""From any state to any other on the real kernel, with kills on the way.

What tests/unit/test_states.py does hundreds of times on the fake kernel, a few dozen times where
Linux itself decides: devices come and go, lose their carrier and are set down, addresses
change, and what looks like ours and is not stays.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mproutd.model import Failure, Operation
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.planning.endpoints import active
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile
from tests.lab import Namespace
from tests.lab.fake_kernel import Killed
from tests.lab.fake_world import ENABLED, interface
from tests.unit.test_states import ETH1, ETH2, Device

pytestmark = pytest.mark.kernel

Nodes = Callable[[str], Namespace]

WAN1, WAN2 = interface("wan1", "eth1", "master"), interface("wan2", "eth2", "on")
BOTH = {"eth1": ETH1, "eth2": ETH2}
SHARED = {
    "eth1": Device(("10.1.1.2/24", "2001:db8:1::2/64"), ("10.1.1.1", "fe80::1")),
    "eth2": Device(("10.1.1.3/24", "10.1.1.4/24"), ("10.1.1.1",)),
}
LONE = Device(("10.2.2.2/32",), ())
STATES: dict[str, tuple[str, str, dict[str, Device]]] = {
    "two uplinks": (WAN1 + WAN2, "", BOTH),
    "one backup": (WAN1 + interface("wan2", "eth2", "backup"), "", BOTH),
    "handover alone": (
        WAN1 + interface("wan2", "eth2", "handover"),
        "",
        {"eth1": ETH1._replace(carrier=False), "eth2": ETH2},
    ),
    "eth1 is gone": (WAN1 + WAN2, "", {"eth2": ETH2}),
    "eth1 is down": (WAN1 + WAN2, "", {"eth1": ETH1._replace(up=False), "eth2": ETH2}),
    "no carrier at all": (
        WAN1 + WAN2,
        "",
        {name: link._replace(carrier=False) for name, link in BOTH.items()},
    ),
    "one subnet": (WAN1 + WAN2, "", SHARED),
    "one address": (WAN1 + WAN2, "", {"eth1": ETH2, "eth2": ETH2}),
    "strict": (
        WAN1 + WAN2,
        "config uplink 'wan1'\n option strict '1'\n list iif 'br-lan'\n",
        {"eth2": ETH2},
    ),
    "elsewhere, a server": (
        WAN1 + WAN2,
        "config mproutd 'globals'\n option table_base '9000'\n option rule_priority '12000'\n"
        " option role 'server'\n option subflows '4'\n",
        BOTH,
    ),
    "an address alone": (
        WAN1 + WAN2,
        "config uplink 'wan2'\n option gateway '10.255.0.1'\n",
        {"eth1": ETH1, "eth2": LONE},
    ),
    "nothing managed": ("", "", BOTH),
}
FOREIGN = (
    "route add 203.0.113.0/24 dev lan0 proto 77",
    "route add 198.51.100.0/24 dev lan0 table 7001 proto 4",
    "route add 192.0.2.0/24 dev lan0 table 8999 proto 77",
    "rule add from 10.1.1.2 lookup 7001 priority 7501",
    "rule add from 10.1.1.2 lookup 7001 priority 8900 protocol 77",
    "rule add from all lookup main suppress_prefixlength 7 priority 7010 protocol 4",
    "rule add from 10.8.8.8 ipproto tcp lookup 7001 priority 7501 protocol 77",
    "mptcp endpoint add 192.0.2.77 dev lan0 signal",
    "mptcp endpoint add 192.168.70.1 port 5000 signal",
)


class Gateway:
    """A lone node whose uplinks end in the node itself; the other ends are never addressed."""

    def __init__(self, node: Namespace) -> None:
        self.node = node
        self.now: dict[str, Device] = {}
        node.sysctl("net.ipv6.conf.default.accept_dad", 0)
        node.sysctl("net.ipv6.conf.all.accept_dad", 0)
        node.sysctl("net.ipv4.conf.default.rp_filter", 1)
        self.create("lan0")
        node.ip("address add 192.168.70.1/24 dev lan0", *FOREIGN)

    def create(self, name: str) -> None:
        self.node.ip(
            f"link add {name} type veth peer name {name}-far",
            f"link set {name} up",
            f"link set {name}-far up",
        )

    def become(self, devices: dict[str, Device], dice: random.Random) -> None:
        names = sorted({*devices, *self.now})
        dice.shuffle(names)
        for name in names:
            old, new = self.now.get(name), devices.get(name)
            if old and (new is None or dice.random() < 0.2):
                self.node.ip(f"link delete {name}")
                old = None
            if new is None:
                continue
            if old is None:
                self.create(name)
            if old != new:
                self._alter(name, old or Device(), new)
        self.now = dict(devices)

    def _alter(self, name: str, old: Device, new: Device) -> None:
        for family in (4, 6):
            self.node.ip(f"route flush exact default dev {name} table main", family=family)
        lines = [f"link set {name} up", f"link set {name}-far {'up' if new.carrier else 'down'}"]
        kept = old.addresses if old.addresses == new.addresses and old.up else ()
        if not kept:
            lines.append(f"address flush dev {name} scope global")
            lines += [f"address add {address} dev {name}" for address in new.addresses]
        lines += [
            f"route replace default via {gateway} dev {name} metric {name[-1]}00"
            for gateway in new.gateways
        ]
        lines += [f"link set {name} down"] * (not new.up)
        self.node.ip(*lines)

    def text(self) -> str:
        filters = [
            f"{link} {self.node.sysctl(f'net.ipv4.conf.{link}.{key}')}"
            for link in sorted(self.now)
            for key in ("rp_filter", "arp_ignore", "arp_announce")
        ]
        return self.node.state() + "\n".join(filters)


class Mortal(NetlinkKernel):
    """The kernel of a daemon that is killed after so many changes."""

    remaining = -1
    writes = 0

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        self.writes += len(operations)
        if 0 <= self.left < len(operations):
            super().apply(operations[: self.left])
            raise Killed
        self.left -= len(operations) if self.left > 0 else 0
        return super().apply(operations)


class Site:
    """A gateway and mproutd's directories."""

    def __init__(self, gateway: Gateway, root: Path) -> None:
        self.gateway, self.root = gateway, root
        self.state_file = root / "state.json"
        root.mkdir(exist_ok=True)

    def configure(self, network: str, own: str) -> None:
        (self.root / "network").write_text(ENABLED + network)
        (self.root / "mproutd").write_text(own)

    def run(self, killed_after: int = -1) -> tuple[Reconciler, Mortal]:
        """A daemon's first passes, until one does nothing; or Killed."""
        with self.gateway.node.enter():
            kernel = Mortal()
            kernel.left = killed_after
            try:
                state = StateFile(str(self.root))
                state.load()
                reconciler = Reconciler(kernel, state, str(self.root))
                reconciler.configure()
                for _ in range(6):
                    outcome = reconciler.reconcile(sweep=True)
                    assert outcome.failures == ()
                    if not outcome.done and not outcome.run_again:
                        break
                else:
                    raise AssertionError(f"it does not settle: {outcome.done}")
                reconciler.reconcile(sweep=True)
                before = (kernel.writes, self.state_file.stat().st_ino)
                reconciler.reconcile(sweep=True)
                assert before == (kernel.writes, self.state_file.stat().st_ino)
                return reconciler, kernel
            finally:
                kernel.close()

    def text(self, reconciler: Reconciler) -> str:
        """The kernel, without what may stay while no uplink is usable."""
        lines = self.gateway.text().splitlines()
        assert reconciler.last is not None
        seen = reconciler.last.plan.uplinks
        if seen and not active(seen):
            ends = ("-4 endpoint 10.", "-4 endpoint 2001:")
            lines = [line for line in lines if not line.startswith(ends)]
            lines = [line for line in lines if not line.startswith("eth")]
        return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_any_state_to_any_other(seed: int, nodes: Nodes, tmp_path: Path) -> None:
    dice = random.Random(seed)
    site = Site(Gateway(nodes("walker")), tmp_path / "walker")
    foreign = {line for line in site.gateway.text().splitlines() if "limits" not in line}
    path = []
    for step in range(12):
        name = dice.choice(list(STATES))
        path.append(name)
        network, own, devices = STATES[name]
        site.configure(network, own)
        site.gateway.become(devices, dice)
        if dice.random() < 0.5:
            try:
                site.run(killed_after=dice.randrange(12))
            except Killed:
                path.append("killed")
        reconciler, _ = site.run()
        text = site.text(reconciler)
        with nodes(f"fresh{step}") as node:
            fresh = Site(Gateway(node), tmp_path / f"fresh{step}")
            fresh.configure(network, own)
            fresh.gateway.become(devices, random.Random(0))
            expected = fresh.text(fresh.run()[0])
        assert text == expected, f"seed {seed}: {path}"
        assert foreign - set(site.gateway.text().splitlines()) == set(), path


def test_an_endpoint_with_a_port_beside_ours_is_foreign(nodes: Nodes, tmp_path: Path) -> None:
    site = Site(Gateway(nodes("gateway")), tmp_path)
    site.configure(WAN1, "")
    site.gateway.become({"eth1": ETH1}, random.Random(0))
    site.run()
    node = site.gateway.node
    node.ip("mptcp endpoint add 10.1.1.2 dev eth1 port 5000 signal")
    site.run()
    site.configure("", "")
    site.run()
    shown = node.ip("mptcp endpoint show")
    assert "10.1.1.2 port 5000" in shown
    assert "subflow" not in shown
