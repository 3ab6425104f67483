"""The running kernel: read it, change it, hear from it.

What must hold: what the kernel changes without telling is read at every pass (see reader.py
for what is not); every error comes back with the operation it belongs to.

A kernel here is the network namespace of the thread that opens it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from socket import AF_INET6, if_nametoindex
from typing import NamedTuple, Protocol

from mproutd.model import (
    FALLBACK_DESTINATION,
    LOOKUP_DESTINATION,
    Endpoint,
    Failure,
    Limits,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    family_of,
)
from mproutd.netlink import bpf, rtnl_decode, rtnl_encode, sock_diag
from mproutd.netlink.cache import RtnlCache
from mproutd.netlink.nlmsg import Ack, Message
from mproutd.netlink.path_manager import PathManager
from mproutd.netlink.sockets import Events, Requests

_ROUTE, _SOCK_DIAG = 0, 4
"""linux/netlink.h, NETLINK_*."""
_GROUPS = (1, 5, 7, 8, 9, 11, 19)
"""linux/rtnetlink.h, RTNLGRP_*: LINK, IPV4_IFADDR, _ROUTE, _RULE, IPV6_IFADDR, _ROUTE, _RULE."""

_CONF = "/proc/sys/net/ipv4/conf/"
_SYSCTLS = frozenset(("rp_filter", "arp_ignore", "arp_announce"))


class Kernel(Protocol):
    """What a pass needs of a kernel; the tests have one of their own."""

    def snapshot(self, want: SnapshotRequest) -> Snapshot: ...

    def apply(self, operations: Sequence[Operation]) -> list[Failure]: ...

    def lookups(self, questions: Sequence[tuple[str, int]]) -> list[Route | None]: ...

    def flush_unreachable_neighbours(self, neighbours: Sequence[tuple[str, int]]) -> None: ...


class SnapshotRequest(NamedTuple):
    """What a snapshot has to hold."""

    devices: Collection[str]
    """Names whose default route in main matters."""
    tables: Iterable[int]
    mark: int
    """The mark whose rule leads a lookup to main; 0 for none."""
    without_endpoint: Collection[str] = ()
    """Addresses to look for connections at, once they are gone."""
    full: bool = True
    """Everything from the kernel as it is now; else what events did not touch may be older."""
    suspect_devices: Collection[str] = ()
    """Names of devices behind which the line is taken for dead, carrier or not."""


class NetlinkKernel:
    """The kernel over netlink sockets, for one thread."""

    def __init__(self) -> None:
        self._requests = Requests(_ROUTE)
        self.path_manager: PathManager | None = None
        try:
            self.path_manager = PathManager()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT):
                raise
        self._cache = RtnlCache(self._requests)
        self._diag: Requests | None = None
        self._rp_filter_all = 0

    def close(self) -> None:
        if self.path_manager:
            self.path_manager.close()
        if self._diag:
            self._diag.close()
        self._requests.close()

    def events(self) -> Events:
        """Links, addresses, rules and the routes that matter, without our own echoes."""
        events = Events(_ROUTE, _GROUPS)
        events.attach(bpf.event_filter(self._requests.port))
        return events

    # -- read -----------------------------------------------------------------------------

    def on_events(self, messages: Iterable[Message] | None) -> None:
        """What events() brought, whether it wakes anybody or not; None when some were lost."""
        if messages is None:
            self._cache.invalidate()
        else:
            for message in messages:
                self._cache.on_event(message)

    def snapshot(self, want: SnapshotRequest) -> Snapshot:
        """Everything that a pass decides on.  OSError when the kernel does not answer."""
        if want.full:
            self._cache.invalidate()
            self._rp_filter_all = _read_sysctl("all", "rp_filter")
        found = self._cache.read(want.devices, tuple(want.tables), want.mark)
        mptcp = self.path_manager.read(want.full) if self.path_manager else None
        left = set(want.without_endpoint).difference(each.address for each in found.addresses)
        out = {
            endpoint.address
            for endpoint in (mptcp.endpoints if mptcp else ())
            if (link := found.links.get(endpoint.device))
            and (not (link.up and link.carrier) or link.name in want.suspect_devices)
        }
        sole_path = frozenset[str]()
        if left or out:
            open_ones = [each for each in self.connections({*left, *out}) if each.open]
            sole_path = frozenset(
                each.address
                for each in open_ones
                if (each.address in left and not each.extra_subflows)
                or (each.address in out and each.fallback)
            )
        return Snapshot(*found, mptcp, self._rp_filter_all, sole_path)

    def connections(self, addresses: Collection[str]) -> list[sock_diag.Connection]:
        """The MPTCP sockets that began at these; none where the kernel cannot say."""
        found = map(sock_diag.connection, self._sockets(sock_diag.dump_mptcp, addresses) or ())
        return [each for each in found if each.address in addresses]

    def subflows(
        self, addresses: Collection[str]
    ) -> tuple[list[sock_diag.Connection] | None, list[sock_diag.Subflow]]:
        """All connections and subflows in the families of these addresses; None for connections
        where the kernel cannot say."""
        told = self._sockets(sock_diag.dump_mptcp, addresses)
        # The subflows last: what joins in between is then no miss.
        found = map(sock_diag.subflow, self._sockets(sock_diag.dump_tcp, addresses) or ())
        connections = None if told is None else list(map(sock_diag.connection, told))
        return connections, [each for each in found if each]

    def _sockets(
        self, encode: Callable[[int, int], bytes], addresses: Collection[str]
    ) -> list[bytes] | None:
        """The answers; None where no family has any (no mptcp_diag, no tcp_diag)."""
        if self._diag is None:
            self._diag = Requests(_SOCK_DIAG)
        found: list[bytes] | None = None
        for family in {family_of(address) for address in addresses} | {AF_INET6}:
            try:
                more = self._diag.dump(lambda n, family=family: encode(n, family))  # type: ignore[misc]
                found = [*(found or ()), *more]
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        return found

    def lookups(self, questions: Sequence[tuple[str, int]]) -> list[Route | None]:
        """Which route a packet from (address, ifindex) takes to the world; None for none.

        An error may be that of one route in main alone (a list of bogons), so only one for a
        second destination is believed.
        """
        answers = self._look_up(questions, LOOKUP_DESTINATION)
        lost = [place for place, route in enumerate(answers) if route is None or not route.table]
        if lost:
            again = self._look_up([questions[place] for place in lost], FALLBACK_DESTINATION)
            for place, route in zip(lost, again, strict=True):
                answers[place] = route
        return answers

    def _look_up(
        self, questions: Sequence[tuple[str, int]], destination: Mapping[int, str]
    ) -> list[Route | None]:
        answers = self._requests.query(
            [
                lambda n, address=address, device=device: rtnl_encode.lookup(  # type: ignore[misc]
                    n, destination[family_of(address)], source=address, device=device
                )
                for address, device in questions
            ]
        )
        return [
            None if isinstance(each, OSError) else rtnl_decode.lookup_reply(each.body)
            for each in answers
        ]

    def blackhole_defaults(self) -> list[Route]:
        """Main's routes that throw away what it has no better ones for."""
        return self._cache.blackhole_defaults()

    def flush_unreachable_neighbours(self, neighbours: Sequence[tuple[str, int]]) -> None:
        """Let (address, ifindex) be asked for anew if it did not answer so far.

        Whatever was sent while the line was out left the gateway's neighbour entry waiting
        or failed; the first packet of a new subflow would fail with it (EHOSTUNREACH), and
        the kernel does not try a subflow twice.
        """
        answers = self._requests.query(
            [
                lambda n, address=address, device=device: rtnl_encode.neighbour(  # type: ignore[misc]
                    rtnl_decode.RTM_GETNEIGH, n, device, address
                )
                for address, device in neighbours
            ]
        )
        silent = [
            neighbour
            for neighbour, answer in zip(neighbours, answers, strict=True)
            if not isinstance(answer, OSError) and rtnl_decode.is_unresolved(answer.body)
        ]
        if silent:
            self._requests.change(
                [
                    lambda n, address=address, device=device: rtnl_encode.neighbour(  # type: ignore[misc]
                        rtnl_decode.RTM_DELNEIGH, n, device, address
                    )
                    for address, device in silent
                ]
            )

    # -- change ---------------------------------------------------------------------------

    def apply(self, operations: Sequence[Operation]) -> list[Failure]:
        """Do all of them in order, whatever fails, and return what failed.

        Consecutive routes and rules go in one send, and so do endpoints and limits.
        """
        failures: list[Failure] = []
        for kind, batch in _batches(operations):
            failed: Mapping[int, Ack]
            if kind is Sysctl:
                failed = self._write_sysctls(batch)
            elif kind is Endpoint:
                assert self.path_manager is not None
                failed = self.path_manager.change(batch)
            else:
                failed = self._requests.change(
                    [lambda n, each=each: rtnl_encode.change(each, n) for each in batch]  # type: ignore[misc]
                )
            failures += [
                Failure(batch[place], ack.errno, ack.text or os.strerror(ack.errno))
                for place, ack in sorted(failed.items())
            ]
        self._cache.on_applied(operations, certain=not failures)
        return failures

    def _write_sysctls(self, operations: Sequence[Operation]) -> dict[int, Ack]:
        """Not over a value that somebody has set since it was read, since no event tells of that;
        and not that of another device that has come under the name: nobody would set it back."""
        failed = {}
        for place, operation in enumerate(operations):
            setting = operation.value
            assert isinstance(setting, Sysctl)
            known = self._cache.link(setting.device)
            try:
                with open(_sysctl_path(setting.device, setting.key), "w", encoding="ascii") as file:
                    value = _read_sysctl(setting.device, setting.key)
                    if known and _index(setting.device) != known.index:
                        failed[place] = Ack(errno.ENODEV)
                    elif known and value != getattr(known, setting.key):
                        failed[place] = Ack(errno.EAGAIN, "somebody has just changed it")
                    else:
                        file.write(str(setting.value))
            except OSError as error:
                failed[place] = Ack(error.errno or errno.EIO)
        return failed


def _batches(operations: Sequence[Operation]) -> list[tuple[type, list[Operation]]]:
    batches: list[tuple[type, list[Operation]]] = []
    for operation in operations:
        kind: type = type(operation.value)
        kind = {Rule: Route, Limits: Endpoint}.get(kind, kind)
        if not batches or batches[-1][0] is not kind:
            batches.append((kind, []))
        batches[-1][1].append(operation)
    return batches


def _index(device: str) -> int:
    """Its ifindex; 0 when there is none of that name."""
    try:
        return if_nametoindex(device)
    except OSError:
        return 0


def _read_sysctl(device: str, key: str) -> int:
    try:
        with open(_sysctl_path(device, key), encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _sysctl_path(device: str, key: str) -> str:
    """OSError (EINVAL) for a name that would lead anywhere else."""
    if key not in _SYSCTLS or "/" in device or device in ("", ".", "..", "default"):
        raise OSError(errno.EINVAL, f"not a setting of a device: {device}.{key}")
    return f"{_CONF}{device}/{key}"
