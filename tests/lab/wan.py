"""The world of most tests: a gateway, N uplinks through a router each, a server behind all.

                 eth1 10.1.1.2 ── 10.1.1.1 router1 10.9.1.1 ── eth1
    lan ── br-lan gateway                                        server  lo 10.9.9.9
                 eth2 10.2.2.2 ── 10.2.2.1 router2 10.9.2.1 ── eth2         2001:db8:9::9

IPv6 likewise: 2001:db8:1::2/64, router 2001:db8:1::1, and so on.  The server's service
address is one hop away from every link: a peer that answers ARP for it on the link
itself would let a subflow join without any route, and tests would pass falsely.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.lab.links import TunCable, bridge, veth
from tests.lab.namespace import Namespace
from tests.lab.resources import Closing

SERVER, SERVER6 = "10.9.9.9", "2001:db8:9::9"
LAN_HOST = "192.168.70.10"
SHAPE = "tbf rate 20mbit burst 20kb latency 50ms"


def address(uplink: int, family: int = 4) -> str:
    """The gateway's address on an uplink: address(1) is 10.1.1.2."""
    return f"10.{uplink}.{uplink}.2" if family == 4 else f"2001:db8:{uplink}::2"


def router_address(uplink: int, family: int = 4) -> str:
    """The router's address on an uplink, the gateway's gateway: 10.1.1.1."""
    return f"10.{uplink}.{uplink}.1" if family == 4 else f"2001:db8:{uplink}::1"


class Wan(Closing):
    """Builds the picture above.  The gateway's uplinks are up, but have no address and no route.

    What a test drives then: address_up(), default_route(), unplug() and so on, each with
    the uplink's number from 1; usual() does the ordinary set-up for all of them.
    `shaped`: 20 Mbit/s on every path, both ways.  `node` makes each of the machines.
    Context manager; close() removes all.
    """

    def __init__(
        self,
        uplinks: int = 2,
        ipv6: bool = True,
        shaped: bool = True,
        lan: bool = True,
        node: Callable[[str], Namespace] = Namespace,
    ) -> None:
        if not 1 <= uplinks <= 8:
            raise ValueError("uplinks: 1 to 8, the address plan ends there")
        self.uplinks = range(1, uplinks + 1)
        self.ipv6 = ipv6
        self.gateway = node("gateway")
        self.server = node("server")
        self.lan = node("lan") if lan else None
        self.routers = {n: node(f"router{n}") for n in self.uplinks}
        self.cables: list[TunCable] = []
        self.nodes = [
            node for node in (self.gateway, self.server, self.lan, *self.routers.values()) if node
        ]
        try:
            self._build(shaped)
            self._carrier_changed = time.monotonic()
        except BaseException:
            self.close()
            raise

    def _build(self, shaped: bool) -> None:
        for node in self.nodes:
            node.sysctl("net.ipv6.conf.default.accept_dad", 0)
            node.sysctl("net.ipv6.conf.all.accept_dad", 0)
            # What every kernel has and allows here, so that its own choice decides no figure.
            node.sysctl("net.ipv4.tcp_congestion_control", "reno")
        for node in (self.gateway, *self.routers.values()):
            node.sysctl("net.ipv4.ip_forward", 1)
            node.sysctl("net.ipv6.conf.all.forwarding", 1)
        for n, router in self.routers.items():
            # A router's IPv6 addresses outlast unplug(), as a real one's do.
            router.sysctl("net.ipv6.conf.all.keep_addr_on_down", 1)
            router.sysctl("net.ipv6.conf.default.keep_addr_on_down", 1)
            veth(self.gateway, f"eth{n}", router, "access")
            veth(self.server, f"eth{n}", router, "core")
            lines = [
                f"address add {router_address(n)}/24 dev access",
                f"address add 10.9.{n}.1/24 dev core",
                f"route add {SERVER} via 10.9.{n}.2",
            ]
            if self.ipv6:
                lines += [
                    f"address add {router_address(n, 6)}/64 dev access nodad",
                    f"address add 2001:db8:90{n}::1/64 dev core nodad",
                    f"route add {SERVER6} via 2001:db8:90{n}::2",
                ]
            router.ip(*lines)
            if shaped:
                router.tc(*(f"qdisc replace dev {dev} root {SHAPE}" for dev in ("access", "core")))
        lines = [
            f"address add {SERVER}/32 dev lo",
            "mptcp limits set subflows 8 add_addr_accepted 8",
        ]
        for n in self.uplinks:
            lines += [
                f"address add 10.9.{n}.2/24 dev eth{n}",
                f"route add 10.{n}.{n}.0/24 via 10.9.{n}.1 src {SERVER}",
            ]
        if self.ipv6:
            lines.append(f"address add {SERVER6}/128 dev lo nodad")
            for n in self.uplinks:
                lines += [
                    f"address add 2001:db8:90{n}::2/64 dev eth{n} nodad",
                    f"route add 2001:db8:{n}::/64 via 2001:db8:90{n}::1 src {SERVER6}",
                ]
        self.server.ip(*lines)
        if self.lan:
            veth(self.gateway, "lan0", self.lan, "eth0")
            bridge(self.gateway, "br-lan", "lan0", address="192.168.70.1/24")
            self.lan.ip(f"address add {LAN_HOST}/24 dev eth0", "route add default via 192.168.70.1")

    # What happens to an uplink, at the gateway's end.

    def address_up(self, n: int, dad: bool = False) -> None:
        """Give uplink `n` its addresses.  With `dad`, the IPv6 one is tentative for a second."""
        lines = [f"address replace {address(n)}/24 dev eth{n}"]
        if self.ipv6:
            if dad:
                self.gateway.sysctl(f"net.ipv6.conf.eth{n}.accept_dad", 1)
            flag = "" if dad else " nodad"
            lines.append(f"address replace {address(n, 6)}/64 dev eth{n}{flag}")
        self.gateway.ip(*lines)

    def address_down(self, n: int) -> None:
        """Take the addresses of uplink `n` away again."""
        lines = [f"address delete {address(n)}/24 dev eth{n}"]
        if self.ipv6:
            lines.append(f"address delete {address(n, 6)}/64 dev eth{n}")
        self.gateway.ip(*lines)

    def default_route(self, n: int, metric: int | None = None) -> None:
        """Main's default route by uplink `n`, with its number as metric by default."""
        at = n if metric is None else metric
        lines = [f"route replace default via {router_address(n)} dev eth{n} metric {at}"]
        if self.ipv6:
            lines.append(f"route replace default via {router_address(n, 6)} dev eth{n} metric {at}")
        self.gateway.ip(*lines)

    def usual(self) -> Wan:
        """Every uplink with addresses and a default route: metric 1 by eth1, 2 by eth2 …"""
        for n in self.uplinks:
            self.address_up(n)
        for n in self.uplinks:
            self.default_route(n)
        return self

    def admin_down(self, n: int) -> None:
        """`ip link set down` at the gateway: routes vanish, the IPv4 address stays."""
        self.gateway.ip(f"link set eth{n} down")

    def admin_up(self, n: int) -> None:
        """`ip link set up` at the gateway: only main's connected route comes back by itself."""
        self.gateway.ip(f"link set eth{n} up")

    def remove_device(self, n: int) -> None:
        """Delete the gateway's device, as when a USB modem is pulled out."""
        self.gateway.ip(f"link delete eth{n}")

    def create_device(self, n: int, shaped: bool = True) -> None:
        """Make the device again under the same name, up, without addresses."""
        router = self.routers[n]
        veth(self.gateway, f"eth{n}", router, "access")
        lines = [f"address add {router_address(n)}/24 dev access"]
        if self.ipv6:
            lines.append(f"address add {router_address(n, 6)}/64 dev access nodad")
        router.ip(*lines)
        if shaped:
            router.tc(f"qdisc replace dev access root {SHAPE}")

    # What happens outside, without the gateway being asked.

    def settle(self) -> None:
        """Wait until the next carrier change is reported at once; for tests that measure time.

        The kernel batches such news to once a second for the whole machine
        (net/core/link_watch.c, linkwatch_nextevent), so the first unplug() in a new world,
        one soon after another, or one beside another busy world is heard up to 1 s late.
        """
        time.sleep(max(0.0, self._carrier_changed + 1.2 - time.monotonic()))

    def unplug(self, n: int) -> None:
        """Pull the cable: the gateway's device loses its carrier.  See settle()."""
        self.routers[n].ip("link set access down")
        self._carrier_changed = time.monotonic()

    def plug(self, n: int) -> None:
        """Put the cable back."""
        self.routers[n].ip("link set access up")
        self._carrier_changed = time.monotonic()

    def blackhole(self, n: int) -> None:
        """The path loses every packet without a word; carrier and router are still there."""
        for family in (4, 6):
            self.routers[n].ip(
                *(f"rule add priority 1 iif {device} blackhole" for device in ("access", "core")),
                family=family,
            )

    def swallow(self, n: int, device: str = "core") -> None:
        """What comes in there is lost: "core" what comes back by the path, "access" what goes."""
        for family in (4, 6):
            self.routers[n].ip(f"rule add priority 1 iif {device} blackhole", family=family)

    def spit(self, n: int) -> None:
        """Undo swallow()."""
        for family in (4, 6):
            self.routers[n].ip("rule delete priority 1", family=family)

    def lossy(self, n: int, percent: int) -> None:
        """The router loses so much of what it forwards to the server; 0: nothing any more."""
        hook = "type filter hook forward priority 0"
        drop = f'iifname "access" numgen random mod 100 < {percent} drop;' if percent else ""
        self.routers[n].run(
            "nft",
            "-f",
            "-",
            input=f"table inet loss\ndelete table inet loss\n"
            f"table inet loss {{ chain way {{ {hook}; {drop} }}; }}\n",
        )

    def slow(self, n: int) -> TunCable:
        """Put a slow cable between router and server; its `delay` is each way's."""
        router, own, far = self.routers[n], f"10.9.{n}.1", f"10.9.{n}.2"
        router.ip("link delete core")
        cable = TunCable(router, "core", self.server, f"eth{n}")
        router.ip(
            f"address add {own}/24 dev core",
            f"route add {SERVER} via {far}",
        )
        lines = [f"address add {far}/24 dev eth{n}"]
        self.server.ip(*lines, f"route add 10.{n}.{n}.0/24 via {own} src {SERVER}")
        if self.ipv6:
            six = f"2001:db8:90{n}"
            router.ip(
                f"address add {six}::1/64 dev core nodad", f"route add {SERVER6} via {six}::2"
            )
            self.server.ip(
                f"address add {six}::2/64 dev eth{n} nodad",
                f"route add 2001:db8:{n}::/64 via {six}::1 src {SERVER6}",
            )
        self.cables.append(cable)
        return cable

    def repair(self, n: int) -> None:
        """Undo blackhole()."""
        for family in (4, 6):
            self.routers[n].ip("rule delete priority 1", "rule delete priority 1", family=family)

    def masquerade(self) -> None:
        """The LAN's way out: source NAT on the uplinks, the server has no route to the LAN."""
        devices = ", ".join(f'"eth{n}"' for n in self.uplinks)
        self.gateway.run(
            "nft",
            "-f",
            "-",
            input=(
                "table inet lab { chain out { type nat hook postrouting priority srcnat;"
                f" oifname {{ {devices} }} ip saddr 192.168.70.0/24 masquerade; }}; }}\n"
            ),
        )

    def by_hand(self, *uplinks: int) -> None:
        """What the classic if-up script does: a table, a source rule and an endpoint for each."""
        self.gateway.ip("mptcp limits set subflows 8 add_addr_accepted 8")
        for n in uplinks or self.uplinks:
            own, net, via = address(n), f"10.{n}.{n}.0/24", router_address(n)
            self.gateway.ip(
                f"route add {net} dev eth{n} scope link src {own} table {100 + n}",
                f"route add default via {via} dev eth{n} src {own} table {100 + n}",
                f"rule add from {own} priority {1000 + n} table {100 + n}",
                f"mptcp endpoint add {own} dev eth{n} subflow",
            )

    def close(self) -> None:
        """Remove every node.  Harmless a second time."""
        for cable in self.cables:
            cable.close()
        for node in self.nodes:
            node.close()
