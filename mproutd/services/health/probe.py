"""What all probe methods share: the path of a probe, and its result."""

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
"""Errors of this machine, which say nothing about the path: the probe counts as not sent."""

Done = Callable[[str], None]
"""Called once with the result of a probe: "" for a reply, else the error in a few words."""


class ProbePath(NamedTuple):
    """The device that probes leave by, and their source address."""

    family: int
    device: str
    index: int  # type: ignore[assignment]  # hides tuple.index(), which is not used
    source: str


class Prober(Protocol):
    """One probe method on one path."""

    def probe(self, address: str, name: str, done: Done) -> Callable[[], None]:
        """Probe `address`, configured as `name`; return a function that cancels the probe.

        `done` is called later, never from within.  OSError when nothing could be sent.
        """

    def close(self) -> None: ...


def open_probe_socket(path: ProbePath, kind: int, protocol: int, max_ttl: int) -> socket.socket:
    """A non-blocking socket bound to the path's device and source.  OSError.

    The device also gives link-local destinations their scope.
    """
    opened = socket.socket(path.family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(path.device))
        if path.family == AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, max_ttl)
        else:
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, max_ttl)
        opened.bind((path.source, 0))
    except OSError:
        opened.close()
        raise
    return opened


def error_text(code: int) -> str:
    """The text of an error number, in lower case."""
    return os.strerror(code).lower()


def close_socket(loop: Loop, opened: socket.socket) -> None:
    """Unwatch and close a socket.  Harmless a second time."""
    if opened.fileno() >= 0:
        loop.unwatch(opened)
        opened.close()
