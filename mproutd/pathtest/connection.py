"""The test's own sockets: bound to address and device, asked what they know.

What must hold: nothing here waits past the end of the test, and no socket leaves by another
device than the uplink's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from struct import Struct

from mproutd.netlink import mptcp_info
from mproutd.netlink.mptcp_info import FALLBACK_INFO, NO_TCP_INFO, MptcpInfo, TcpInfo
from mproutd.pathtest.select import Peer, Source

_libc = ctypes.CDLL(None, use_errno=True)
_SIOCGIFMTU = 0x8921
_IFREQ = Struct("=16si20x")
MAX_REPLY_BYTES = 1 << 17
"""Bytes that are read at one step, whatever a peer sends."""
_COUNTERS = "/proc/thread-self/net/netstat"


class Deadline:
    """The end of the test, on time.monotonic()."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, most: float = 3600.0) -> float:
        """Seconds that a step may take: `most`, or what is left of the test."""
        return max(0.001, min(most, self._end - time.monotonic()))

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end


class PathConnection:
    """One connection of the test.  Use as a context manager.  OSError; a TimeoutError in time."""

    def __init__(self, source: Source, peer: Peer, mptcp: bool, segment: int = 0) -> None:
        """`segment`: bytes in a segment at most, in both directions; 0 for what the path has.

        OSError: ENOPROTOOPT or EPROTONOSUPPORT where the kernel has no MPTCP.
        """
        self._peer = peer
        family = socket.AF_INET6 if ":" in source.address else socket.AF_INET
        kind = mptcp_info.IPPROTO_MPTCP if mptcp else socket.IPPROTO_TCP
        self._socket = socket.socket(family, socket.SOCK_STREAM, kind)
        try:
            device = source.device.encode()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._socket.bind((source.address, 0))
            if segment:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> PathConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def connect(self, patience: float) -> None:
        self._socket.settimeout(patience)
        self._socket.connect((self._peer.address, self._peer.port))

    def exchange(
        self, data: bytes, enough: Callable[[bytes], bool], stall: float, deadline: Deadline
    ) -> bytes:
        """Send, and read until it is enough.

        Ends early, with what came, when the peer closes; TimeoutError when for `stall` seconds
        nothing moves, or the test is over.
        """
        unsent, came = memoryview(data), b""
        moved = time.monotonic()
        self._socket.setblocking(False)
        while not enough(came):
            if deadline.over or time.monotonic() - moved > stall:
                raise TimeoutError(errno.ETIMEDOUT, "nothing moves")
            try:
                if unsent:  # what is in the socket's buffer may go no further: no move
                    unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                pass
            self._wait(bool(unsent), deadline.left(0.1))
            try:
                piece = self._socket.recv(1 << 16)
            except BlockingIOError:
                continue
            if not piece:
                break
            came += piece
            moved = time.monotonic()
            if len(came) > MAX_REPLY_BYTES:
                break
        return came

    def _wait(self, writing: bool, seconds: float) -> None:
        with contextlib.suppress(InterruptedError):
            select.select([self._socket], [self._socket] if writing else [], [], seconds)

    def mptcp_info(self) -> MptcpInfo:
        """What the MPTCP socket says of itself; FALLEN when it is none any more."""
        try:
            told = self._socket.getsockopt(mptcp_info.SOL_MPTCP, mptcp_info.MPTCP_INFO, 256)
        except OSError:
            return FALLBACK_INFO
        return mptcp_info.parse_mptcp_info(told)

    def tcp(self) -> TcpInfo:
        """Of the first subflow, or of the plain connection."""
        try:
            told = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError:
            return NO_TCP_INFO
        return mptcp_info.parse_tcp_info(told)

    def subflows(self) -> list[tuple[str, str]]:
        """Own and peer's address of each subflow that stands; empty when it is plain TCP."""
        infos, addresses = (
            self._told(option)
            for option in (mptcp_info.MPTCP_TCPINFO, mptcp_info.MPTCP_SUBFLOW_ADDRS)
        )
        return mptcp_info.parse_subflows(infos, addresses)

    def _told(self, option: int) -> bytes:
        """An option to which a question belongs, as Python's getsockopt cannot put it."""
        asked = mptcp_info.subflow_request(option)
        buffer = ctypes.create_string_buffer(asked, len(asked))
        size = ctypes.c_uint(len(asked))
        where = (self._socket.fileno(), mptcp_info.SOL_MPTCP, option)
        failed = _libc.getsockopt(*where, buffer, ctypes.byref(size))
        return b"" if failed else buffer.raw[: size.value]

    @property
    def local(self) -> str:
        """Its own ADDRESS:PORT."""
        address, port = self._socket.getsockname()[:2]
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def device_mtu(device: str) -> int | None:
    """Bytes in a packet on this device at most (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            told = fcntl.ioctl(any_socket, _SIOCGIFMTU, _IFREQ.pack(device.encode(), 0))
        except OSError:
            return None
    return int(_IFREQ.unpack(told)[1])


def counters() -> dict[str, int]:
    """The MPTCP counters of this network namespace; empty where there are none."""
    try:
        with open(_COUNTERS, encoding="ascii") as file:
            return mptcp_info.parse_counters(file.read())
    except OSError:
        return {}


def syn_patience() -> float:
    """Seconds after which Linux 6.12 and later sends a SYN without MPTCP in place of one that
    nobody answered.

    A test must not wait for that: the kernel would then ask for MPTCP no more, for any
    connection of the machine, for an hour (net.mptcp.blackhole_timeout).  The first SYNs go out
    a second apart (net.ipv4.tcp_syn_linear_timeouts).
    """
    try:
        with open("/proc/sys/net/mptcp/syn_retrans_before_tcp_fallback", encoding="ascii") as file:
            more = int(file.read())
    except (OSError, ValueError):
        more = 2
    return min(more, 4) + 0.7


def resolve(host: str, port: int, patience: float) -> list[Peer]:
    """The addresses of a name, in the order of getaddrinfo(3).  OSError; TimeoutError in time.

    The resolver of the system is asked, which knows no time limit: so in a thread, that is left
    to itself when it takes too long.
    """
    found: list[Peer] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            for told in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(Peer(str(told[4][0]), port))
        except OSError as error:
            failed.append(error)
        except UnicodeError:
            failed.append(OSError(errno.EINVAL, os.strerror(errno.EINVAL)))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    if asking.is_alive():
        raise TimeoutError(errno.ETIMEDOUT, f"the resolver did not answer within {patience:.2g} s")
    if failed:
        raise failed[0]
    return found
