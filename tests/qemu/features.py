"""Asks the running kernel what it can do, in network namespaces of its own.

    python -m tests.qemu.features         prints one JSON object: name of the feature → answer

Every answer comes from trying it, none from the kernel's version.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mproutd.model import (
    FULLMESH,
    LAMINAR,
    SIGNAL,
    SUBFLOW,
    TABLE_MAIN,
    Endpoint,
    Operation,
    Rule,
)
from mproutd.netlink import mptcp_pm, rtnl_encode, sock_diag
from mproutd.netlink.mptcp_info import IPPROTO_MPTCP, MPTCP_INFO, SOL_MPTCP
from tests.lab import (
    SERVER,
    Echo,
    Namespace,
    Wan,
    address,
    eventually,
    kernel_limits,
    mptcp_counters,
    subflows,
)
from tests.lab.kernel_limits import RawPathManager, path_manager
from tests.lab.raw_netlink import NETLINK_GENERIC, Netlink

UNKNOWN_FLAG = 1 << 20
SOCK_DIAG = 4
ANSWERS: dict[str, Callable[[], str]] = {}
"""Every feature by its name in docs/kernels.md, in the order of the table."""


def feature(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def register(test: Callable[[], str]) -> Callable[[], str]:
        ANSWERS[name] = test
        return test

    return register


def yes(result: object) -> str:
    return "yes" if result else "no"


def error_name(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else "accepted"


@contextmanager
def connection(
    node: Namespace, protocol: int = IPPROTO_MPTCP
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a connection over the node's loopback, the client's first."""
    with node.enter():
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    with server, client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.settimeout(60)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            # MPTCP is settled once data went both ways.
            client.sendall(b"x")
            accepted.recv(1)
            accepted.sendall(b"x")
            client.recv(1)
            yield client, accepted


def sysctl(name: str) -> bool:
    return Path("/proc/sys/net/mptcp", name).exists()


# -- routing --------------------------------------------------------------------------------


@feature("policy routing, IPv4 and IPv6")
def policy_routing() -> str:
    with Namespace("asked") as node:
        with node.enter():
            wire = Netlink()
        with wire:
            answers = [
                wire.ask(
                    rtnl_encode.change(Operation("add", Rule(family, 7001, TABLE_MAIN, prefix)), 5)
                )[1].errno
                for family, prefix in (
                    (socket.AF_INET, "192.0.2.1"),
                    (socket.AF_INET6, "2001:db8::1"),
                )
            ]
    return ", ".join(error_name(error) for error in answers) if any(answers) else "yes"


# -- the path manager -----------------------------------------------------------------------


@feature("limits, at most")
def limits() -> str:
    return str(kernel_limits.max_limit())


@feature("says without a change which limits it would accept")
def limits_asked() -> str:
    with path_manager() as manager:
        return yes(manager.accepts(1) is not None)


@feature("endpoints, at most")
def endpoints() -> str:
    with path_manager() as manager:
        refused = manager.add_strangers(300)
        return f"{len(manager.endpoints())}, then {error_name(refused)}"


@feature("the same endpoint again")
def twice() -> str:
    with path_manager() as manager:
        manager.add(Endpoint("192.0.2.1", 0, SUBFLOW))
        return error_name(manager.add(Endpoint("192.0.2.1", 0, SUBFLOW)))


@feature("`signal` with `fullmesh`")
def signal_fullmesh() -> str:
    with path_manager() as manager:
        return error_name(manager.add(Endpoint("192.0.2.1", 0, SIGNAL | FULLMESH)))


def _flag(flag: int) -> str:
    with path_manager() as manager:
        refused = manager.add(Endpoint("192.0.2.1", 0, SUBFLOW | flag))
        if refused:
            return error_name(refused)
        return "kept" if manager.endpoints()[0].flags & flag else "accepted, dropped"


@feature("endpoint flag `laminar`")
def laminar() -> str:
    return _flag(LAMINAR)


@feature("an endpoint flag that nobody knows")
def unknown_flag() -> str:
    return _flag(UNKNOWN_FLAG)


@feature("sysctl `path_manager`")
def sysctl_path_manager() -> str:
    return "yes" if sysctl("path_manager") else "no, pm_type" if sysctl("pm_type") else "no"


@feature("sysctl `scheduler`")
def sysctl_scheduler() -> str:
    return yes(sysctl("scheduler"))


@feature("sysctl `close_timeout`")
def sysctl_close_timeout() -> str:
    return yes(sysctl("close_timeout"))


@feature("sysctl `blackhole_timeout`")
def sysctl_blackhole_timeout() -> str:
    return yes(sysctl("blackhole_timeout"))


@feature("sysctl `syn_retrans_before_tcp_fallback`")
def sysctl_syn_retrans() -> str:
    return yes(sysctl("syn_retrans_before_tcp_fallback"))


# -- what it tells --------------------------------------------------------------------------


@contextmanager
def events() -> Iterator[tuple[Namespace, Callable[[], list[mptcp_pm.Event]]]]:
    """A node, and a function that returns the path manager's events there since the last call."""
    with Namespace("asked") as node:
        manager = RawPathManager(node)
        with manager.socket, node.enter():
            listener = Netlink(NETLINK_GENERIC)
        with listener:
            listener.join(manager.family.groups[mptcp_pm.EVENTS_GROUP])
            yield node, lambda: [mptcp_pm.event(message.body) for message in listener.pending()]


@feature("events of listening sockets")
def listener_events() -> str:
    with events() as (node, seen), connection(node):
        return yes("listener-created" in {event.kind for event in seen()})


@feature("events name the server's side")
def server_side() -> str:
    with events() as (node, seen), connection(node):
        sides = [event.server_side for event in seen() if event.kind == "established"]
    return {(): "no", (True,): "the server's only", (True, True): "at both ends"}.get(
        tuple(side for side in sorted(sides) if side), "?"
    )


@feature("connections by sock_diag (mptcp_diag)")
def mptcp_diag() -> str:
    with Namespace("asked") as node, connection(node):
        with node.enter():
            diag = Netlink(SOCK_DIAG)
        with diag:
            answers, end = diag.ask(sock_diag.dump_mptcp(socket.AF_INET, 1))
    return error_name(end.errno) if end.errno else yes(answers)


@feature("size of `struct mptcp_info`")
def mptcp_info() -> str:
    with Namespace("asked") as node, connection(node) as (client, _):
        return f"{len(client.getsockopt(SOL_MPTCP, MPTCP_INFO, 512))} bytes"


@feature("`MPTCP_INFO` after a fallback to TCP")
def mptcp_info_of_tcp() -> str:
    with Namespace("asked") as node, connection(node, socket.IPPROTO_TCP) as (client, _):
        try:
            return f"{len(client.getsockopt(SOL_MPTCP, MPTCP_INFO, 512))} bytes"
        except OSError as error:
            return error_name(error.errno or 0)


def _counter(name: str) -> str:
    with Namespace("asked") as node:
        return yes(name in mptcp_counters(node))


@feature("counter `MPJoinSynTx`")
def counter_join() -> str:
    return _counter("MPJoinSynTx")


@feature("counter `RmAddrTx`")
def counter_remove() -> str:
    return _counter("RmAddrTx")


@feature("counter `Blackhole`")
def counter_blackhole() -> str:
    return _counter("Blackhole")


# -- what it does ---------------------------------------------------------------------------

DROP = "table ip box { chain way { type filter hook input priority 0; %s drop; }; }"
ASKS = "tcp flags & (syn|ack) == syn tcp option mptcp exists"


@feature("falls back to TCP where SYNs with MPTCP are dropped")
def fallback() -> str:
    with Namespace("asked") as node:
        node.run("nft", "-f", "-", input=DROP % ASKS)
        began = time.monotonic()
        try:
            with connection(node):
                return f"after {time.monotonic() - began:.0f} s"
        except TimeoutError:
            return "no"


def _index(wan: Wan, uplink: int) -> int:
    """The ifindex of the gateway's device for an uplink."""
    with wan.gateway.enter():
        return socket.if_nametoindex(f"eth{uplink}")


@contextmanager
def two_paths() -> Iterator[tuple[Wan, RawPathManager, Echo]]:
    """A connection that began at eth1's address and has joined over eth2, by endpoints of its own;
    the endpoint of eth1 was then added for the first time."""
    with Wan(ipv6=False, shaped=False, lan=False).usual() as wan:
        manager = RawPathManager(wan.gateway)
        wan.gateway.ip(
            "mptcp limits set subflows 8 add_addr_accepted 0",
            f"route add default via 10.1.1.1 dev eth1 table 101 src {address(1)}",
            f"route add default via 10.2.2.1 dev eth2 table 102 src {address(2)}",
            f"rule add from {address(1)} lookup 101",
            f"rule add from {address(2)} lookup 102",
        )
        manager.add(Endpoint(address(1), _index(wan, 1), SUBFLOW, 1))
        manager.add(Endpoint(address(2), _index(wan, 2), SUBFLOW, 2))
        with manager.socket, Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
            # Closes the initial subflow, as mproutd does when an address goes.
            wan.gateway.ip(
                "mptcp endpoint delete id 1",
                f"mptcp endpoint delete id 0 {address(1)}",
            )
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 1)
            manager.add(Endpoint(address(1), _index(wan, 1), SUBFLOW, 1))
            yield wan, manager, echo


def _by_first(wan: Wan, echo: Echo) -> list[str]:
    """The devices that the subflows from the first address are bound to; "" for none."""
    existing = subflows(wan.gateway, echo.port)
    return [subflow.device for subflow in existing if subflow.local == address(1)]


@feature("an endpoint opened again at a connection's first address")
def opened_again() -> str:
    with two_paths() as (wan, _, echo):
        try:
            eventually(lambda: _by_first(wan, echo))
        except AssertionError:
            return "does not join"
        return "joins, bound to its device" if _by_first(wan, echo)[0] else "joins, not bound"


@feature("subflows of that endpoint with `fullmesh` switched on, and off again")
def fullmesh_again() -> str:
    counts = []
    with two_paths() as (wan, manager, echo):
        eventually(lambda: _by_first(wan, echo))
        for flags in (SUBFLOW | FULLMESH, SUBFLOW):
            manager.set_flags(Endpoint(address(1), _index(wan, 1), flags, 1))
            time.sleep(2)
            counts.append(str(len(_by_first(wan, echo))))
    return ", ".join(counts)


def main() -> None:
    answers = {"kernel": os.uname().release, "build": os.uname().version}
    for name, test in ANSWERS.items():
        try:
            answers[name] = test()
        except (OSError, AssertionError, ValueError) as error:
            answers[name] = f"failed: {error}"
    print(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main()
