"""What the nftables table costs a router: 10,000 masqueraded UDP flows through a gateway, with the
table and without it, in turns.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from bench.figure import Figure
from bench.site import configuration
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.firewall.ruleset import TABLE, make_table
from mproutd.netlink.nft_values import Table
from mproutd.netlink.nftables import NETLINK_NETFILTER, transaction
from mproutd.netlink.nlmsg import NLM_F_ACK, request
from mproutd.netlink.sockets import Requests
from mproutd.planning.numbering import assign_numbers
from tests.lab import Daemon, Namespace
from tests.lab.links import veth

FLOWS, PER_FLOW, RUNS, WARM = 10_000, 8, 15, 2
"""Flows, packets of each in a run, and runs of each kind."""
LAN, SINK = "192.168.70.10", "10.9.9.9"
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE = 1, 2
"""linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h."""
_BATCH = 1000
"""Packets of one sendmmsg(2)."""


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("name_size", ctypes.c_uint),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", _Header), ("sent", ctypes.c_uint)]


class Sender:
    """A raw socket of the LAN host, and a packet of each flow.

    Forwarding happens in the sender's system call: veth hands packets on in the same context.
    """

    family, sink = socket.AF_INET, SINK

    def __init__(self, lan: Namespace) -> None:
        with lan.enter():
            self._socket = socket.socket(self.family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._socket.connect((self.sink, 0))
        self._library = ctypes.CDLL(None, use_errno=True)
        self._packets = [self._packet(10_000 + n) for n in range(FLOWS)]
        vectors = (_Iovec * FLOWS)(*(_Iovec(packet, len(packet)) for packet in self._packets))
        self._messages = (_Message * FLOWS)()
        for message, vector in zip(self._messages, vectors, strict=True):
            message.header.iov, message.header.iov_count = ctypes.pointer(vector), 1
        self._vectors = vectors

    @staticmethod
    def _packet(port: int) -> bytes:
        addresses = socket.inet_aton(LAN) + socket.inet_aton(SINK)
        data = struct.pack(">HHHH", port, 7, 8 + 18, 0) + bytes(18)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), 0, 0, 64, 17, 0)
        return head + addresses + data

    def run(self, per_flow: int = PER_FLOW) -> float:
        """Send every packet; seconds of processor time, which other load does not change."""
        began = time.thread_time()
        for _ in range(per_flow):
            for start in range(0, FLOWS, _BATCH):
                first = ctypes.byref(self._messages[start])
                sent = self._library.sendmmsg(self._socket.fileno(), first, _BATCH, 0)
                if sent != _BATCH:
                    raise OSError(ctypes.get_errno(), f"sendmmsg: {sent} packets")
        return time.thread_time() - began

    def close(self) -> None:
        self._socket.close()


def forget_connections(nftables: Requests, family: int) -> None:
    """Flush connection tracking: the next packet of each flow opens a connection."""
    body = struct.pack("=BBH", family, 0, 0)
    flush = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    failed = nftables.change([lambda n: request(flush, NLM_F_ACK, n, body)])
    if failed:
        raise OSError(failed)


class Router:
    """A gateway with `uplinks` uplinks; eth1 is the master, and leads to the sink."""

    def __init__(self, scope: ExitStack, uplinks: int) -> None:
        self.gateway, lan, self.far = (
            scope.enter_context(Namespace(name)) for name in ("gateway", "lan", "far")
        )
        veth(self.gateway, "lan0", lan, "eth0")
        devices = [f"eth{n}" for n in range(1, uplinks + 1)]
        for device in devices:
            veth(self.gateway, device, self.far, device)
        lan.ip(f"address add {LAN}/24 dev eth0", "route add default via 192.168.70.1")
        self.gateway.sysctl("net.ipv4.ip_forward", 1)
        self.gateway.ip("address add 192.168.70.1/24 dev lan0")
        for n in range(1, uplinks + 1):
            self.gateway.ip(f"address add 10.{n}.{n}.2/24 dev eth{n}")
            self.far.ip(f"address add 10.{n}.{n}.1/24 dev eth{n}")
        self.far.ip(f"address add {SINK}/32 dev lo")
        nat = 'type nat hook postrouting priority srcnat; oifname "eth*" masquerade'
        self.gateway.run("nft", "-f", "-", input=f"table ip nat {{ chain out {{\n{nat}\n}}\n}}\n")
        sink = "type filter hook prerouting priority raw; udp dport 7 counter drop"
        self.far.run("nft", "-f", "-", input=f"table ip sink {{ chain in {{\n{sink}\n}}\n}}\n")
        self._make_tables(scope, uplinks)
        self.sender = Sender(lan)
        scope.callback(self.sender.close)

    def _make_tables(self, scope: ExitStack, uplinks: int) -> None:
        """Routes and rules by a daemon that then stops; the table is ours to switch."""
        modes = ["master"] + ["on"] * (uplinks - 1)
        network, own = configuration(modes)
        off = "config mproutd 'globals'\n\toption pin_flows '0'\n"
        with Daemon(self.gateway, network, own + off) as daemon:
            daemon.settle(30)
        pinned = tuple(UplinkConfig(f"wan{n}", f"eth{n}", mode) for n, mode in enumerate(modes, 1))
        config = Config(uplinks=pinned)
        self._table = make_table(config, pinned, assign_numbers(config, {}))
        with self.gateway.enter():
            self._nftables = Requests(NETLINK_NETFILTER)
        scope.callback(self._nftables.close)

    def switch(self, on: bool) -> None:
        failed = self._nftables.transaction(transaction(self._table if on else Table(TABLE)))
        if failed:
            raise OSError(failed)

    def delivered(self) -> int:
        """Packets that have reached the sink."""
        listing = self.far.run("nft", "list", "table", "ip", "sink")
        return int(listing.partition("packets ")[2].split()[0])


def forward(log: Callable[[str], None]) -> Iterable[Figure]:
    for uplinks in (2, 50):
        with ExitStack() as scope:
            router = Router(scope, uplinks)
            log(f"forward: {RUNS} runs of 2, {uplinks} uplinks")
            times: tuple[list[float], list[float]] = ([], [])
            for turn in range(WARM + RUNS):
                for index, on in enumerate((True, False)):
                    router.switch(on)
                    took = router.sender.run()
                    if turn >= WARM:
                        times[index].append(took / (FLOWS * PER_FLOW))
            sent = (WARM + RUNS) * 2 * FLOWS * PER_FLOW
            if router.delivered() < 0.99 * sent:
                raise AssertionError(f"only {router.delivered()} of {sent} packets arrived")
        yield Figure(
            "forward",
            f"processor time to forward a packet, {FLOWS:,} masqueraded flows, {uplinks} uplinks",
            times[0],
            "µs",
            "the same without pin_flows",
            times[1],
            1.075,
            1.042,
            f"{len(times[0])} runs of {FLOWS * PER_FLOW:,} packets; processor time of the sender, "
            "in whose context they are forwarded",
        )
