"""The MPTCP path manager of the running kernel, over generic netlink.

Deleting an endpoint closes its subflows at once but is acknowledged only after an RCU
grace period (6 to 18 ms measured), and the sender sleeps that long.  So endpoints are
closed by a thread of their own, and the loop goes on; `closing` says that some are under
way, and the path manager must not be asked anything then, since it would wait as well.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Sequence

from mproutd.model import Endpoint, Mptcp, Operation
from mproutd.netlink import mptcp_pm
from mproutd.netlink.nlmsg import Ack, DecodeCache
from mproutd.netlink.sockets import Events, Requests

_GENERIC = 16
_SETTINGS = "/proc/sys/net/mptcp/"


class PathManager:
    """The family mptcp_pm in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        """OSError (ENOENT) when the kernel has no MPTCP."""
        self._requests = Requests(_GENERIC)
        answer = self._requests.query([mptcp_pm.get_family])[0]
        if isinstance(answer, OSError):
            self._requests.close()
            raise answer
        self._family = mptcp_pm.family(answer.body)
        self._cap = mptcp_pm.cap(self._accepts)
        self._endpoint: DecodeCache[Endpoint] = DecodeCache(mptcp_pm.endpoint, 256)
        self._enabled, self._name = True, "kernel"
        self._max_endpoints = 255
        self._laminar = supports_laminar(os.uname().release)
        self._deleter: EndpointDeleter | None = None

    def close(self) -> None:
        if self._deleter:
            self._deleter.close()
        self._requests.close()

    def _accepts(self, candidate: int) -> bool | None:
        answer = self._requests.change([lambda n: mptcp_pm.probe(self._family.id, n, candidate)])
        return mptcp_pm.accepted(answer[0]) if answer else None

    def events(self) -> Events:
        """What happens to connections: all of it, until a filter is attached."""
        return Events(_GENERIC, [self._family.groups[mptcp_pm.EVENTS_GROUP]])

    def read(self, full: bool) -> Mptcp:
        """Endpoints and limits; `full` also reads the two sysctls that no event tells of."""
        if full:
            self._enabled = _setting("enabled", "1") != "0"
            self._name = _path_manager()
        kind = self._family.id
        bodies = self._requests.dump(lambda n: mptcp_pm.dump_endpoints(kind, n))
        answer = self._requests.query([lambda n: mptcp_pm.get_limits(kind, n)])[0]
        if isinstance(answer, OSError):
            raise answer
        return Mptcp(
            tuple(self._endpoint[body] for body in bodies),
            mptcp_pm.limits(answer.body),
            self._cap,
            self._enabled,
            self._name,
            self._max_endpoints,
            self._laminar,
        )

    def change(self, operations: Sequence[Operation]) -> dict[int, Ack]:
        """Do them in order, wait for all; return what failed, by place."""
        kind = self._family.id
        failed = self._requests.change(
            [lambda n, each=each: mptcp_pm.change(each, kind, n) for each in operations]  # type: ignore[misc]
        )
        if any(
            ack.errno == errno.ERANGE and isinstance(operations[place].value, Endpoint)
            for place, ack in failed.items()
        ):
            # It takes fewer endpoints than its limits go up to: as many as there are now.
            self._max_endpoints = len(
                self._requests.dump(lambda n: mptcp_pm.dump_endpoints(kind, n))
            )
        return failed

    @property
    def closing(self) -> bool:
        return self._deleter is not None and self._deleter.busy

    def deleter(self) -> EndpointDeleter:
        """The thread that closes endpoints; made when it is first wanted."""
        if self._deleter is None:
            self._deleter = EndpointDeleter(self._family.id)
        return self._deleter


class EndpointDeleter:
    """Closes endpoints in a thread; readable (fileno) when all that was given is done.

    The thread waits from the beginning: to start one takes 1 ms, and an uplink that is lost
    would wait for it.
    """

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._requests = Requests(_GENERIC)
        self._done = os.eventfd(0, os.EFD_CLOEXEC)
        self._busy = False
        self._work: list[Operation] | None = []
        self._failed: list[tuple[Operation, Ack]] = []
        self._given = threading.Lock()
        self._given.acquire()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._done

    @property
    def busy(self) -> bool:
        """Whether work is under way whose result was not collected yet."""
        return self._busy

    def start(self, operations: Sequence[Operation]) -> None:
        """Begin to close these endpoints.  Only while not busy."""
        assert not self._busy
        self._busy = True
        self._work = list(operations)
        self._given.release()

    def _serve(self) -> None:
        """The thread: each turn takes what was given, until that is None."""
        while True:
            self._given.acquire()
            if self._work is None:
                return
            self._run(self._work)
            os.eventfd_write(self._done, 1)

    def _run(self, operations: list[Operation]) -> None:
        try:
            failed = self._requests.change(
                [lambda n, each=each: mptcp_pm.change(each, self._kind, n) for each in operations]  # type: ignore[misc]
            )
            self._failed = [(operations[place], ack) for place, ack in failed.items()]
        except (OSError, ValueError) as error:
            ack = Ack(getattr(error, "errno", None) or errno.EIO, str(error))
            self._failed = [(operation, ack) for operation in operations]

    def collect(self) -> list[tuple[Operation, Ack]]:
        """Wait for the thread's work, and return what failed."""
        if self._busy:
            os.eventfd_read(self._done)
            self._busy = False
        failed, self._failed = self._failed, []
        return failed

    def close(self) -> None:
        self.collect()
        self._work = None
        self._given.release()
        self._thread.join()
        os.close(self._done)
        self._requests.close()


def supports_laminar(release: str) -> bool:
    """Whether a kernel of this release (uname -r) has the endpoint flag `laminar`.

    It cannot be asked: an older kernel accepts every flag, and either keeps it without a
    meaning or drops it, so that the endpoint would never be found as it is wanted.
    """
    numbers = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return numbers >= [6, 18]


def _setting(name: str, otherwise: str) -> str:
    try:
        with open(_SETTINGS + name, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return otherwise


def _path_manager() -> str:
    """net.mptcp.path_manager (Linux 6.16), or what net.mptcp.pm_type meant before."""
    name = _setting("path_manager", "")
    return name or ("kernel" if _setting("pm_type", "0") == "0" else "userspace")
