"""The MPTCP path manager of the running kernel, over generic netlink.

Deleting an endpoint closes its subflows at once, but the kernel acknowledges it only after an
RCU grace period (6 to 18 ms measured) and blocks the sender that long.  So a thread of its own
deletes endpoints, and the event loop goes on.  While it is busy, the path manager must not be
queried: that request would block as well.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Collection, Sequence
from functools import partial

from mproutd.model import LAMINAR, Endpoint, Limits, Mptcp, Operation
from mproutd.netlink import mptcp_pm
from mproutd.netlink.mptcp_info import IPPROTO_MPTCP, parse_counters
from mproutd.netlink.nlmsg import Ack, DecodeCache, EncodeCache
from mproutd.netlink.sockets import Encode, Events, Requests

_NETLINK_GENERIC = 16
_SYSCTLS = "/proc/sys/net/mptcp/"
_FULL = (errno.ERANGE, errno.EINVAL)
"""The kernel's reply to one endpoint too many; EINVAL on Linux 6.1."""
_UNASSIGNED = "192.0.2.77"
"""An address that no host has (RFC 5737)."""


_HANDOVER_TIMEOUT = 0.1
"""Seconds; the thread takes a batch within a fraction of a millisecond."""
_PAUSED_COUNTER = "MPCapableSYNTXDisabled"


class PathManager:
    """The generic netlink family mptcp_pm in the network namespace of the opening thread."""

    def __init__(self) -> None:
        """OSError (ENOENT) when the kernel has no MPTCP."""
        self._requests = Requests(_NETLINK_GENERIC)
        reply = self._requests.query([mptcp_pm.get_family])[0]
        if isinstance(reply, OSError):
            self._requests.close()
            raise reply
        self._family = mptcp_pm.family(reply.body)
        self._max_limit = mptcp_pm.max_limit(self._accepts)
        self._max_endpoints = mptcp_pm.max_endpoints(self._max_limit)
        self._get_limits = partial(mptcp_pm.get_limits, self._family.id)
        self._get_endpoints = partial(mptcp_pm.dump_endpoints, self._family.id)
        self._encoded: EncodeCache[Operation] = EncodeCache(
            lambda operation, sequence: mptcp_pm.change(operation, self._family.id, sequence)
        )
        self._decode_endpoint: DecodeCache[Endpoint] = DecodeCache(mptcp_pm.endpoint, 256)
        self._decode_limits: DecodeCache[Limits] = DecodeCache(mptcp_pm.limits, 16)
        self._enabled, self._name = True, "kernel"
        self._laminar: bool | None = None
        """Whether the kernel knows the flag; None until it was probed."""
        self._deleter: EndpointDeleter | None = None

    def close(self) -> None:
        if self._deleter:
            self._deleter.close()
        self._requests.close()

    def _accepts(self, candidate: int) -> bool | None:
        """Whether the kernel accepts a limit of `candidate`; None where it does not say."""
        probe = partial(mptcp_pm.probe, self._family.id, candidate=candidate)
        failed = self._requests.change([probe])
        return mptcp_pm.accepted(failed[0]) if failed else None

    def events(self) -> Events:
        """Subscribe to the events of connections: to all, until a filter is attached."""
        return Events(_NETLINK_GENERIC, [self._family.groups[mptcp_pm.EVENTS_GROUP]])

    def read(self, full: bool, probe_laminar: bool = False) -> Mptcp:
        """Endpoints and limits; with `full` also the two sysctls, which have no events.

        `probe_laminar`: find out whether the kernel knows that flag, once, by a write.
        """
        if full:
            self._enabled = _read_sysctl("enabled", "1") != "0"
            self._name = _path_manager()
        reply, bodies = self._requests.query_and_dump(self._get_limits, self._get_endpoints)
        if isinstance(reply, OSError):
            raise reply
        endpoints = tuple(self._decode_endpoint[body] for body in bodies)
        if probe_laminar and self._laminar is None:
            self._laminar = self._knows_laminar(endpoints)
        return Mptcp(
            endpoints,
            self._decode_limits[reply.body],
            self._max_limit,
            self._enabled,
            self._name,
            self._max_endpoints,
            self._laminar is not False,
        )

    def _dump_endpoints(self) -> list[bytes]:
        return self._requests.dump(self._get_endpoints)

    def change(self, operations: Sequence[Operation]) -> dict[int, Ack]:
        """Do them in order and wait for all; return the failures by index."""
        failed = self._requests.change(self._encoded.requests(operations))
        refusals = {
            ack.errno
            for index, ack in failed.items()
            if operations[index].verb == "add" and isinstance(operations[index].value, Endpoint)
        }
        if not refusals.isdisjoint(_FULL):
            self._learn_max_endpoints(refusals)
        return failed

    def _learn_max_endpoints(self, refusals: Collection[int]) -> None:
        """After a refused endpoint: if it was one too many, the kernel takes what is there now.

        EINVAL, on Linux 6.1, may have another reason as long as there are fewer than SHARED_MAX.
        """
        count = len(self._dump_endpoints())
        if errno.ERANGE in refusals or self._max_limit <= mptcp_pm.SHARED_MAX <= count:
            self._max_endpoints = count

    def _knows_laminar(self, existing: Sequence[Endpoint]) -> bool | None:
        """Whether the kernel knows the endpoint flag `laminar`; None where the probe fails.

        Kernels accept every flag and drop those that they do not know (seen on 6.1 to 7.2).  The
        probe adds an endpoint that no connection uses, as it is neither `subflow` nor `signal`,
        reads it back and deletes it, all in one send.
        """
        if any(endpoint.flags & LAMINAR for endpoint in existing):
            return True
        used = {endpoint.id for endpoint in existing}
        free = next((number for number in range(1, mptcp_pm.MAX_ID + 1) if number not in used), 0)
        probe = Endpoint(_UNASSIGNED, 0, LAMINAR, free)
        add, delete = _requests(
            [Operation("add", probe), Operation("delete", probe)], self._family.id
        )
        read = partial(mptcp_pm.get_endpoint, self._family.id, number=free)
        _, reply, _ = self._requests.query([add, read, delete])
        if isinstance(reply, OSError):
            return None
        return bool(mptcp_pm.endpoint(reply.body).flags & LAMINAR)

    def deleter(self) -> EndpointDeleter:
        """The thread that deletes endpoints, created on first use."""
        if self._deleter is None:
            self._deleter = EndpointDeleter(self._family.id)
        return self._deleter


def _requests(operations: Sequence[Operation], family_id: int) -> list[Encode]:
    return [partial(mptcp_pm.change, operation, family_id) for operation in operations]


class EndpointDeleter:
    """Deletes endpoints in a thread; readable (fileno) when the batch is done.

    The thread is started in advance: starting one takes 1 ms, which would delay the reaction to
    the loss of an uplink.
    """

    def __init__(self, family_id: int) -> None:
        self._family_id = family_id
        self._requests = Requests(_NETLINK_GENERIC)
        self._done = os.eventfd(0, os.EFD_CLOEXEC)
        self._busy = False
        self._batch: list[Operation] | None = []
        """Work for the thread; None ends it."""
        self._failed: list[tuple[Operation, Ack]] = []
        self._ready = threading.Lock()
        """Released once for each batch."""
        self._taken = threading.Lock()
        """Released when the thread is about to send a batch."""
        self._ready.acquire()
        self._taken.acquire()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._done

    @property
    def busy(self) -> bool:
        """Whether a batch was started whose result was not collected yet."""
        return self._busy

    def start(self, operations: Sequence[Operation]) -> None:
        """Apply `operations` in the background.  Only while not busy.

        Returns once the thread has the interpreter: otherwise it might wait for that until the
        caller waits for something (sys.getswitchinterval), and the subflows close later.
        """
        assert not self._busy
        self._busy = True
        self._batch = list(operations)
        self._taken.acquire(blocking=False)  # released by a batch that was taken after the timeout
        self._ready.release()
        self._taken.acquire(timeout=_HANDOVER_TIMEOUT)

    def _serve(self) -> None:
        """The thread's main function."""
        while True:
            self._ready.acquire()
            if self._batch is None:
                return
            if self._taken.locked():  # not after a timeout
                self._taken.release()
            self._apply(self._batch)
            os.eventfd_write(self._done, 1)

    def _apply(self, operations: list[Operation]) -> None:
        try:
            failed = self._requests.change(_requests(operations, self._family_id))
            self._failed = [(operations[index], ack) for index, ack in failed.items()]
        except (OSError, ValueError) as error:
            ack = Ack(getattr(error, "errno", None) or errno.EIO, str(error))
            self._failed = [(operation, ack) for operation in operations]

    def collect(self) -> list[tuple[Operation, Ack]]:
        """Wait for the batch and return what failed."""
        if self._busy:
            os.eventfd_read(self._done)
            self._busy = False
        failed, self._failed = self._failed, []
        return failed

    def close(self) -> None:
        self.collect()
        self._batch = None
        self._ready.release()
        self._thread.join()
        os.close(self._done)
        self._requests.close()


def _read_sysctl(name: str, default: str) -> str:
    try:
        with open(_SYSCTLS + name, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return default


def _path_manager() -> str:
    """net.mptcp.path_manager (Linux 6.16), else what net.mptcp.pm_type meant before."""
    name = _read_sysctl("path_manager", "")
    return name or ("kernel" if _read_sysctl("pm_type", "0") == "0" else "userspace")


def mptcp_paused() -> bool:
    """Whether the kernel asks for MPTCP in no new connection for a while.

    It does so after a SYN with MP_CAPABLE was lost and one without was answered, for
    net.mptcp.blackhole_timeout and longer each time (net/mptcp/ctrl.c,
    mptcp_active_detect_blackhole, since Linux 6.12).  No setting shows it, so try: an MPTCP
    socket that connects while MPTCP is paused is counted.  It connects to a loopback port
    that refuses it, which the kernel neither takes for a loss nor for a success.
    """
    before = _mptcp_counters()
    if not before.get("Blackhole"):
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as connection:
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", 1))
    except OSError:  # ENOPROTOOPT while net.mptcp.enabled is 0: nothing asks for MPTCP anyway
        return False
    return _mptcp_counters().get(_PAUSED_COUNTER, 0) > before.get(_PAUSED_COUNTER, 0)


def _mptcp_counters() -> dict[str, int]:
    try:
        with open("/proc/net/netstat", encoding="ascii") as file:
            return parse_counters(file.read())
    except OSError:
        return {}
