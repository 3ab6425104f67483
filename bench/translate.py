"""What `nat6` costs a router: 10,000 UDP flows of a LAN host over IPv6, translated to a delegated
prefix by mproutd's table, and masqueraded by an administrator's, in turns.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bench.figure import Figure
from bench.forward import FLOWS, PER_FLOW, RUNS, WARM, Sender, forget_connections
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.firewall.ruleset import TABLE, make_table
from mproutd.firewall.translation import Translation
from mproutd.netlink.nft_values import Table
from mproutd.netlink.nftables import NETLINK_NETFILTER, transaction
from mproutd.netlink.sockets import Requests
from mproutd.planning.numbering import assign_numbers
from tests.lab import Namespace
from tests.lab.links import veth

LAN, SINK = "fd00:70::10", "2001:db8:9::9"
NETWORK, DELEGATED = "fd00:70::/64", "2001:db8:1:70::/64"
_RULES = 'type nat hook postrouting priority srcnat; oifname "eth1" masquerade'


class Sender6(Sender):
    """The same over IPv6."""

    family, sink = socket.AF_INET6, SINK

    @staticmethod
    def _packet(port: int) -> bytes:
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, text) for text in (LAN, SINK))
        length = 8 + 18
        data = struct.pack(">HHHH", port, 7, length, 0) + bytes(18)
        words = struct.unpack(">29H", addresses + struct.pack(">HH", length, 17) + data[:22])
        total = sum(words)
        total = (total & 0xFFFF) + (total >> 16)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        data = data[:6] + struct.pack(">H", checksum) + data[8:]
        return struct.pack(">IHBB", 0x60000000, length, 17, 64) + addresses + data


class _Router:
    """A gateway with one uplink, and the table that `nat6` `prefix` makes for it."""

    def __init__(self, scope: ExitStack) -> None:
        self.gateway, lan, self.far = (
            scope.enter_context(Namespace(name)) for name in ("gateway", "lan", "far")
        )
        veth(self.gateway, "lan0", lan, "eth0")
        veth(self.gateway, "eth1", self.far, "eth1")
        for node in (self.gateway, self.far):
            node.sysctl("net.ipv6.conf.all.forwarding", 1)
        lan.ip(f"address add {LAN}/64 dev eth0 nodad", "route add default via fd00:70::1")
        self.gateway.ip(
            "address add fd00:70::1/64 dev lan0 nodad",
            "address add 2001:db8:1::2/64 dev eth1 nodad",
            "route add default via 2001:db8:1::1",
        )
        self.far.ip(
            "address add 2001:db8:1::1/64 dev eth1 nodad", f"address add {SINK}/128 dev lo nodad"
        )
        rules = f"type filter hook prerouting priority raw; ip6 saddr {DELEGATED} counter; "
        rules += "udp dport 7 counter drop"
        self.far.run("nft", "-f", "-", input=f"table ip6 sink {{ chain in {{\n{rules}\n}}\n}}\n")
        uplink = UplinkConfig("wan1", "eth1", "master")
        config = Config(uplinks=(uplink,), pin_flows=False)
        listed = [Translation("wan1", "eth1", ("2001:db8:1::/48",), ((NETWORK, DELEGATED),))]
        numbers = assign_numbers(config, {})
        self._table = make_table(config, (uplink,), numbers, listed)
        with self.gateway.enter():
            self._nftables = Requests(NETLINK_NETFILTER)
        scope.callback(self._nftables.close)
        # While a neighbour is unknown, packets for it are dropped.
        self.gateway.run("ping", "-c", "1", "-w", "20", SINK)
        self.sender = Sender6(lan)
        scope.callback(self.sender.close)

    def use(self, ours: bool) -> None:
        """mproutd's table, or the other."""
        failed = self._nftables.transaction(transaction(self._table if ours else Table(TABLE)))
        if failed:
            raise OSError(failed)
        text = "" if ours else f"table ip6 other {{ chain out {{\n{_RULES}\n}}\n}}\n"
        text = f"table ip6 other\ndelete table ip6 other\n{text}"
        self.gateway.run("nft", "-f", "-", input=text)
        forget_connections(self._nftables, socket.AF_INET6)

    def counted(self) -> tuple[int, int]:
        """Packets that arrived from the delegated prefix, and all."""
        listing = self.far.run("nft", "list", "table", "ip6", "sink")
        first, second = (int(part.split()[0]) for part in listing.split("packets ")[1:])
        return first, second


def nat6(log: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        router = _Router(scope)
        log(f"nat6: {RUNS} runs of 2")
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(WARM + RUNS):
            for index, ours in enumerate((True, False)):
                router.use(ours)
                router.sender.run(1)
                took = router.sender.run()
                if turn >= WARM:
                    times[index].append(took / (FLOWS * PER_FLOW))
        half = (WARM + RUNS) * (1 + PER_FLOW) * FLOWS
        translated, arrived = router.counted()
        if arrived < 0.99 * 2 * half or not 0.99 * half < translated <= half:
            raise AssertionError(f"{translated} translated packets, {arrived} of {2 * half} in all")
    yield Figure(
        "nat6",
        f"processor time to forward a packet, {FLOWS:,} IPv6 flows translated by `nat6`",
        times[0],
        "µs",
        "masqueraded by an nft rule",
        times[1],
        1.1,
        1.05,
        f"{RUNS} runs of {FLOWS * PER_FLOW:,} packets of known connections",
    )
