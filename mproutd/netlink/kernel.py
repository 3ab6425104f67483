"""The running kernel over netlink: read it, change it, subscribe to its events.

A kernel here is the network namespace of the thread that opens it.

Invariants: what the kernel changes without an event is read at every pass (cache.py has the
exceptions); every error is returned with the operation that it belongs to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from socket import AF_INET, AF_INET6, if_indextoname
from typing import NamedTuple, Protocol

from mproutd.model import (
    FALLBACK_DESTINATION,
    FAMILY_NAMES,
    IMPLICIT,
    LOOKUP_DESTINATION,
    Endpoint,
    Failure,
    Limits,
    Mptcp,
    NexthopObject,
    Operation,
    Packet,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    family_of,
)
from mproutd.netlink import bpf, rtnl_decode, rtnl_encode, sock_diag, sysctls
from mproutd.netlink.cache import RtnlCache, RtnlSnapshot
from mproutd.netlink.nlmsg import Ack, DecodeCache, EncodeCache, Message
from mproutd.netlink.packet_routes import packet_routes, without_usage
from mproutd.netlink.path_manager import PathManager, mptcp_paused
from mproutd.netlink.sockets import Encode, Events, Requests

_NETLINK_ROUTE, _NETLINK_SOCK_DIAG = 0, 4
"""linux/netlink.h."""
_EVENT_GROUPS = (1, 5, 7, 8, 9, 11, 19, 24, 25)
"""linux/rtnetlink.h, RTNLGRP_*: LINK, IPV4_IFADDR, _ROUTE, _RULE, IPV6_IFADDR, _ROUTE, _RULE,
IPV4_NETCONF, IPV6_NETCONF."""
_UNSUPPORTED = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)
"""How kernels without tcp_diag or mptcp_diag refuse a dump."""
_NO_RULES = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT)
"""How kernels without policy routing, for any family or for one, refuse to list rules."""
_CHANNELS = {Rule: Route, NexthopObject: Route, Limits: Endpoint}
"""Kind of object → the one whose channel it shares."""


class UnsupportedKernel(Exception):
    """The kernel lacks what mproutd cannot do without."""


class Kernel(Protocol):
    """What a pass needs of a kernel.  NetlinkKernel is one; the tests have another."""

    def snapshot(self, want: SnapshotRequest) -> Snapshot: ...

    def apply(self, operations: Sequence[Operation]) -> list[Failure]: ...

    def lookups(self, sources: Sequence[tuple[str, int]]) -> list[Route | None]: ...

    def flush_unreachable_neighbours(self, neighbours: Sequence[tuple[str, int]]) -> None: ...

    def subflows(
        self, addresses: Collection[str]
    ) -> tuple[list[sock_diag.Connection] | None, list[sock_diag.Subflow]]: ...


class SnapshotRequest(NamedTuple):
    """What a snapshot must contain."""

    devices: Collection[str]
    """Names of the devices whose default route in table main matters."""
    tables: Iterable[int]
    mark: int
    """The mark whose rule sends a lookup to table main; 0 for none."""
    without_endpoint: Collection[str] = ()
    """Addresses that lost their endpoint: once one is gone from its device, the snapshot says
    whether a connection still depends on it."""
    full: bool = True
    """Read everything anew; else only what events may have changed."""
    suspect_devices: Collection[str] = ()
    """Names of devices whose link counts as dead whatever its carrier."""
    remembered: Collection[tuple[str, int]] = ()
    """(device, family) with a remembered gateway: where main has no default for one, the snapshot
    has main's default through any device, with ifindex 0."""
    any_device: bool = False
    """Main's default route for traffic without a device matters too."""
    nexthops: range = range(0)
    """The ids of the nexthop objects to read."""
    probe_laminar: bool = False
    """Find out whether the kernel knows the endpoint flag `laminar`, which takes a write."""


class NetlinkKernel:
    """The kernel over netlink sockets, for one thread."""

    def __init__(self) -> None:
        """UnsupportedKernel, or OSError."""
        self._requests = Requests(_NETLINK_ROUTE)
        self._require_policy_routing()
        self.path_manager: PathManager | None = None
        try:
            self.path_manager = PathManager()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT):
                raise
        self._cache = RtnlCache(self._requests)
        self._encoded: EncodeCache[Operation] = EncodeCache(rtnl_encode.change)
        self._decode_lookup: DecodeCache[Route] = DecodeCache(rtnl_decode.lookup_reply, 256)
        self._diag: Requests | None = None
        self._lists_connections, self._rp_filter_all = False, 0

    def _require_policy_routing(self) -> None:
        """A kernel without it has table main alone, and puts the routes of all tables there."""
        for family, option in ((AF_INET, "IP"), (AF_INET6, "IPV6")):
            try:
                self._requests.dump(partial(rtnl_encode.dump_rules, family=family))
            except OSError as error:
                if error.errno not in _NO_RULES:
                    raise
                if family == AF_INET or os.path.exists("/proc/net/if_inet6"):
                    self._requests.close()
                    raise UnsupportedKernel(
                        f"the kernel has no policy routing for {FAMILY_NAMES[family]}:"
                        f" use one with CONFIG_{option}_MULTIPLE_TABLES=y"
                    ) from None

    def close(self) -> None:
        if self.path_manager:
            self.path_manager.close()
        if self._diag:
            self._diag.close()
        self._requests.close()

    def events(self) -> Events:
        """Subscribe to links, addresses, rules and relevant routes, without our own changes."""
        events = Events(_NETLINK_ROUTE, _EVENT_GROUPS)
        with suppress(OSError):
            events.join(32)  # linux/rtnetlink.h, RTNLGRP_NEXTHOP: since Linux 5.3
        events.attach(bpf.event_filter(self._requests.port, sysctls.hides_nexthops()))
        return events

    # -- read -----------------------------------------------------------------------------

    def on_events(self, messages: Iterable[Message] | None) -> None:
        """Account for all messages of events(), relevant or not; None when some were lost."""
        if messages is None:
            self._cache.invalidate()
        else:
            for message in messages:
                self._cache.on_event(message)
                if (
                    message.type == rtnl_decode.RTM_NEWNETCONF
                    and bpf.netconf_ifindex(message.body) == bpf.ALL_DEVICES
                ):
                    self._rp_filter_all = sysctls.read("all", "rp_filter")

    def snapshot(self, want: SnapshotRequest) -> Snapshot:
        """Everything that a pass decides on.  OSError when the kernel does not answer."""
        if want.full:
            self._cache.invalidate()
            self._rp_filter_all = sysctls.read("all", "rp_filter")
        routing = self._cache.read(
            want.devices, tuple(want.tables), want.mark, want.remembered, want.any_device
        )
        mptcp = None
        if self.path_manager:
            mptcp = self.path_manager.read(want.full, want.probe_laminar)
        sole_path = self._sole_paths(want, routing, mptcp)
        idle = self._idle_implicit(mptcp)
        snapshot = Snapshot(*routing, mptcp, self._rp_filter_all, sole_path, idle)
        return self._cache.nexthops.added_to(snapshot, want.nexthops)

    def _idle_implicit(self, mptcp: Mptcp | None) -> frozenset[str]:
        """The addresses of implicit endpoints without a subflow, while no endpoint is free."""
        if mptcp is None or len(mptcp.endpoints) < mptcp.max_endpoints:
            return frozenset()
        implicit = {endpoint.address for endpoint in mptcp.endpoints if endpoint.flags & IMPLICIT}
        if implicit:
            implicit.difference_update(subflow.address for subflow in self.subflows(implicit)[1])
        return frozenset(implicit)

    def _sole_paths(
        self, want: SnapshotRequest, routing: RtnlSnapshot, mptcp: Mptcp | None
    ) -> frozenset[str]:
        """The addresses that an open connection cannot do without.

        Two kinds are checked: those that lost their endpoint and are gone from their device, where
        a connection without a further subflow counts; and endpoints on dead links, where a
        connection that fell back to plain TCP does.
        """
        departed = set(want.without_endpoint)
        if departed:
            departed.difference_update(address.address for address in routing.addresses)
        unreachable = {
            endpoint.address
            for endpoint in (mptcp.endpoints if mptcp else ())
            if (link := routing.links.get(endpoint.device))
            and (not (link.up and link.carrier) or link.name in want.suspect_devices)
        }
        if not departed and not unreachable:
            return frozenset()
        return frozenset(
            connection.address
            for connection in self.connections(departed | unreachable)
            if connection.open
            and (
                (connection.address in departed and not connection.extra_subflows)
                or (connection.address in unreachable and connection.fallback)
            )
        )

    def lists_connections(self) -> bool:
        """Whether the kernel has mptcp_diag, found out by a dump of no connection at all."""
        if not self._lists_connections:
            probe = partial(sock_diag.dump_mptcp, states=0)
            self._lists_connections = self._diag_dump(probe, ()) is not None
        return self._lists_connections

    def connections(self, addresses: Collection[str]) -> list[sock_diag.Connection]:
        """The MPTCP sockets that began at `addresses`; none where the kernel has no mptcp_diag."""
        replies = self._diag_dump(sock_diag.dump_mptcp, addresses) or ()
        connections = map(sock_diag.connection, replies)
        return [connection for connection in connections if connection.address in addresses]

    def subflows(
        self, addresses: Collection[str]
    ) -> tuple[list[sock_diag.Connection] | None, list[sock_diag.Subflow]]:
        """All connections and subflows in the families of `addresses`.

        The connections are None where the kernel has no mptcp_diag.
        """
        replies = self._diag_dump(sock_diag.dump_mptcp, addresses)
        connections = None if replies is None else list(map(sock_diag.connection, replies))
        # Subflows last: one that joins in between is then not taken for missing.
        replies = self._diag_dump(sock_diag.dump_tcp, addresses) or []
        subflows = map(sock_diag.subflow, replies)
        return connections, [subflow for subflow in subflows if subflow and subflow.token]

    def sockets(self) -> tuple[list[sock_diag.Socket], list[sock_diag.Socket]]:
        """All MPTCP and all TCP sockets; none of the former where the kernel has no mptcp_diag."""
        families = tuple(LOOKUP_DESTINATION.values())
        states = sock_diag.CONNECTED_STATES
        # TCP last: a connection that begins in between appears by its subflows.
        mptcp = self._diag_dump(partial(sock_diag.dump_mptcp, states=states), families) or ()
        tcp = self._diag_dump(partial(sock_diag.dump_tcp, states=states), families) or ()
        return list(map(sock_diag.parse_socket, mptcp)), list(map(sock_diag.parse_socket, tcp))

    def _diag_dump(
        self, encode: Callable[[int, int], bytes], addresses: Collection[str]
    ) -> list[bytes] | None:
        """The replies for IPv6, which serves IPv4 peers too, and the families of `addresses`.

        None where the kernel supports the dump for no family (no mptcp_diag, no tcp_diag).
        """
        if self._diag is None:
            self._diag = Requests(_NETLINK_SOCK_DIAG)
        replies: list[bytes] | None = None
        for family in {family_of(address) for address in addresses} | {AF_INET6}:
            try:
                bodies = self._diag.dump(partial(encode, family))
                replies = [*(replies or ()), *bodies]
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        return replies

    def mptcp_paused(self) -> bool:
        """Whether the kernel uses MPTCP for no new connection for a while."""
        return mptcp_paused()

    def real_name(self, name: str) -> str:
        """The name of the device that has this one, which may be an alternative name (altname in
        ip-link(8)); `name` itself if there is none."""
        reply = self._requests.query([partial(rtnl_encode.get_link, name=name)])[0]
        link = None if isinstance(reply, OSError) else rtnl_decode.link(reply.body)
        return link.name if link else name

    def lookups(self, sources: Sequence[tuple[str, int]]) -> list[Route | None]:
        """The route that a packet from each (address, ifindex) takes to the Internet, or None.

        One failed lookup may be due to a single route in main (a list of bogons), so only a
        failure for a second destination counts.
        """
        routes = self._look_up(sources, LOOKUP_DESTINATION)
        failed = [index for index, route in enumerate(routes) if route is None or not route.table]
        if failed:
            retried = self._look_up([sources[index] for index in failed], FALLBACK_DESTINATION)
            for index, route in zip(failed, retried, strict=True):
                routes[index] = route
        return routes

    def _look_up(
        self, sources: Sequence[tuple[str, int]], destination: Mapping[int, str]
    ) -> list[Route | None]:
        requests: list[Encode] = [
            partial(
                rtnl_encode.lookup,
                destination=destination[family_of(address)],
                source=address,
                device=device,
            )
            for address, device in sources
        ]
        return [
            None if isinstance(reply, OSError) else self._decode_lookup[without_usage(reply.body)]
            for reply in self._requests.query(requests)
        ]

    def default_tables(self, device: int, family: int) -> set[int]:
        """The tables with a default route through a device."""
        return self._cache.default_tables(device, family)

    def ignores_advertisements(self, device: str) -> bool:
        """Whether the kernel ignores router advertisements, although accept_ra permits them."""
        return sysctls.ignores_advertisements(device)

    def packet_routes(self, packets: Sequence[Packet]) -> list[Route | None]:
        """The entry of a routing table that leads each packet to the internet, or None."""
        return packet_routes(self._requests, self._cache.nexthops, packets)

    def blackhole_defaults(self) -> list[Route]:
        """Routes in main that discard all traffic without a better route."""
        return self._cache.blackhole_defaults()

    def flush_unreachable_neighbours(self, neighbours: Sequence[tuple[str, int]]) -> None:
        """Delete the entries of those (address, ifindex) that did not answer so far.

        Packets sent during an outage leave the gateway's entry INCOMPLETE or FAILED.  The first
        packet of a new subflow would then fail with EHOSTUNREACH, and the kernel does not try a
        subflow twice.
        """
        replies = self._requests.query(
            [_neighbour(rtnl_decode.RTM_GETNEIGH, *neighbour) for neighbour in neighbours]
        )
        unresolved = [
            neighbour
            for neighbour, reply in zip(neighbours, replies, strict=True)
            if not isinstance(reply, OSError) and rtnl_decode.is_unresolved(reply.body)
        ]
        if unresolved:
            self._requests.change(
                [_neighbour(rtnl_decode.RTM_DELNEIGH, *neighbour) for neighbour in unresolved]
            )

    # -- change ---------------------------------------------------------------------------

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Do all of them in order, whatever fails, and return what failed.

        Consecutive routes and rules share one send, and so do endpoints and limits.
        """
        failures: list[Failure] = []
        for kind, batch in _batches(operations):
            failed: Mapping[int, Ack]
            if kind is Sysctl:
                failed = sysctls.write(batch, self._cache.link)
            elif kind is Endpoint:
                assert self.path_manager is not None
                failed = self.path_manager.change(batch)
            else:
                failed = self._requests.change(self._encoded.requests(batch))
            failures += [
                Failure(batch[index], ack.errno, ack.text or os.strerror(ack.errno))
                for index, ack in sorted(failed.items())
            ]
        self._cache.on_applied(operations, certain=not failures)
        return failures


def _batches(operations: Sequence[Operation]) -> list[tuple[type, list[Operation]]]:
    """Runs of operations that go over the same channel, in order."""
    batches: list[tuple[type, list[Operation]]] = []
    for operation in operations:
        kind: type = _CHANNELS.get(type(operation.value), type(operation.value))
        if not batches or batches[-1][0] is not kind:
            batches.append((kind, []))
        batches[-1][1].append(operation)
    return batches


def _neighbour(kind: int, address: str, device: int) -> Encode:
    return partial(rtnl_encode.neighbour, kind, device=device, address=address)


def device_name(index: int) -> str:
    """The name of the device with this ifindex; `ifN` for one that no longer exists."""
    try:
        return if_indextoname(index)
    except OSError:
        return f"if{index}"
