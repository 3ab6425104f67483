"""What all ways to ask a host have in common: by which line, and what comes of it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from socket import AF_INET6
from typing import NamedTuple, Protocol

from mproutd.eventloop import Loop

LOCAL_ERRORS = frozenset(
    (
        errno.EPERM,
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.ENODEV,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EMFILE,
        errno.ENFILE,
        errno.EAGAIN,
    )
)
"""Errors that say nothing of the line: the host counts as not asked."""

Done = Callable[[str], None]
"""Told once when a probe is over: "" for an answer, else what is wrong in a few words."""


class ProbePath(NamedTuple):
    """The line by which probes leave, and the address that they come from."""

    family: int
    device: str
    index: int  # type: ignore[assignment]  # instead of tuple.index(), which nobody calls
    source: str


class Prober(Protocol):
    """One method by one line."""

    def ask(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Ask the host at `address`; `name` is what it is called.  What ends the asking.

        `done` is called later, never from in here; OSError where nothing could be asked.
        """

    def close(self) -> None: ...


def open_probe_socket(way: ProbePath, kind: int, protocol: int, max_ttl: int) -> socket.socket:
    """A socket that leaves by this line alone and never waits.  OSError.

    Being bound to a device is also what says on which link a link-local address is.
    """
    made = socket.socket(way.family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(way.device))
        if way.family == AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, max_ttl)
        else:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, max_ttl)
        made.bind((way.source, 0))
    except OSError:
        made.close()
        raise
    return made


def error_text(code: int) -> str:
    """An error of the kernel in its own words, in small letters."""
    return os.strerror(code).lower()


def close_socket(loop: Loop, made: socket.socket) -> None:
    """Close a socket that the loop may watch.  Harmless a second time."""
    if made.fileno() >= 0:
        loop.unwatch(made)
        made.close()
