"""Sockets of a test, bound to an uplink's address and device, and what the kernel says of them.

Invariants: nothing here waits beyond the end of the test; no socket leaves through another device
than the uplink's.
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

from mproutd.format import address_port
from mproutd.netlink import mptcp_info
from mproutd.netlink.mptcp_info import FALLBACK_INFO, NO_TCP_INFO, MptcpInfo, TcpInfo
from mproutd.pathtest.select import Peer, Source

_libc = ctypes.CDLL(None, use_errno=True)
_SIOCGIFMTU = 0x8921
_LINGER = Struct("=ii")
"""struct linger, socket(7)."""
_IFREQ = Struct("=16si20x")
_RECEIVE_BYTES = 1 << 16
_MAX_REPLY_BYTES = 1 << 17
"""Bytes that one exchange reads, whatever a peer sends."""
_POLL_INTERVAL = 0.1
_INFO_BYTES = 256
"""More than struct tcp_info or struct mptcp_info has."""
_COUNTERS = "/proc/thread-self/net/netstat"
_SYN_RETRANSMISSIONS = "/proc/sys/net/mptcp/syn_retrans_before_tcp_fallback"


class Deadline:
    """The end of the test, on time.monotonic()."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, limit: float = 3600.0) -> float:
        """Seconds that a step may take: `limit`, or less if the test ends before."""
        return max(0.001, min(limit, self._end - time.monotonic()))

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end


class PathConnection:
    """One connection of the test, as a context manager.  OSError; TimeoutError is one."""

    def __init__(self, source: Source, peer: Peer, mptcp: bool, mss: int = 0) -> None:
        """`mss`: limit for the segments in both directions, in bytes; 0 for none.

        OSError: ENOPROTOOPT or EPROTONOSUPPORT where the kernel has no MPTCP.
        """
        self._peer = peer
        family = socket.AF_INET6 if ":" in source.address else socket.AF_INET
        protocol = mptcp_info.IPPROTO_MPTCP if mptcp else socket.IPPROTO_TCP
        self._socket = socket.socket(family, socket.SOCK_STREAM, protocol)
        try:
            device = source.device.encode()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._socket.bind((source.address, 0))
            if mss:
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
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

    def connect(self, timeout: float) -> None:
        self._socket.settimeout(timeout)
        self._socket.connect((self._peer.address, self._peer.port))

    def exchange(
        self, data: bytes, complete: Callable[[bytes], bool], stall: float, deadline: Deadline
    ) -> bytes:
        """Send `data` and read until the reply is complete.

        Ends early, with the reply so far, when the peer closes.  TimeoutError when nothing moves
        for `stall` seconds, or at the deadline.
        """
        unsent, reply = memoryview(data), b""
        last_progress = time.monotonic()
        self._socket.setblocking(False)
        while not complete(reply):
            if deadline.over or time.monotonic() - last_progress > stall:
                self._reset_on_close()
                raise TimeoutError(errno.ETIMEDOUT, "no progress")
            try:
                if unsent:  # only fills the socket's buffer, so this is no progress
                    unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                pass
            self._wait(bool(unsent), deadline.left(_POLL_INTERVAL))
            try:
                received = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                continue
            if not received:
                break
            reply += received
            last_progress = time.monotonic()
            if len(reply) > _MAX_REPLY_BYTES:
                break
        return reply

    def _reset_on_close(self) -> None:
        """A FIN would wait behind the data that is lost, and the peer keep its socket."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))

    def _wait(self, writable: bool, seconds: float) -> None:
        with contextlib.suppress(InterruptedError):
            select.select([self._socket], [self._socket] if writable else [], [], seconds)

    def mptcp_info(self) -> MptcpInfo:
        """FALLBACK_INFO once the socket is no MPTCP socket any more."""
        return read_mptcp_info(self._socket)

    def tcp_info(self) -> TcpInfo:
        """Of the first subflow, or of the plain connection."""
        return read_tcp_info(self._socket)

    def subflows(self) -> list[tuple[str, str]]:
        """Local and remote address of each connected subflow; empty for plain TCP."""
        infos = self._read_subflow_option(mptcp_info.MPTCP_TCPINFO)
        addresses = self._read_subflow_option(mptcp_info.MPTCP_SUBFLOW_ADDRS)
        return mptcp_info.parse_subflows(infos, addresses)

    def _read_subflow_option(self, option: int) -> bytes:
        """An option that reads its buffer first, which Python's getsockopt cannot pass."""
        request = mptcp_info.subflow_request(option)
        buffer = ctypes.create_string_buffer(request, len(request))
        size = ctypes.c_uint(len(request))
        arguments = (self._socket.fileno(), mptcp_info.SOL_MPTCP, option)
        failed = _libc.getsockopt(*arguments, buffer, ctypes.byref(size))
        return b"" if failed else buffer.raw[: size.value]

    @property
    def local(self) -> str:
        """The local ADDRESS:PORT."""
        address, port = self._socket.getsockname()[:2]
        return address_port(address, port)


def read_mptcp_info(mptcp_socket: socket.socket) -> MptcpInfo:
    """FALLBACK_INFO for a socket that is no MPTCP socket, or no more."""
    try:
        data = mptcp_socket.getsockopt(mptcp_info.SOL_MPTCP, mptcp_info.MPTCP_INFO, _INFO_BYTES)
    except OSError:
        return FALLBACK_INFO
    return mptcp_info.parse_mptcp_info(data)


def read_tcp_info(any_socket: socket.socket) -> TcpInfo:
    """Of the first subflow for an MPTCP socket; NO_TCP_INFO where the kernel has none."""
    try:
        data = any_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:
        return NO_TCP_INFO
    return mptcp_info.parse_tcp_info(data)


def device_mtu(device: str) -> int | None:
    """The MTU of a device in bytes (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            ifreq = fcntl.ioctl(any_socket, _SIOCGIFMTU, _IFREQ.pack(device.encode(), 0))
        except OSError:
            return None
    return int(_IFREQ.unpack(ifreq)[1])


def read_counters() -> dict[str, int]:
    """The MPTCP counters of this network namespace; empty where the kernel has none."""
    try:
        with open(_COUNTERS, encoding="ascii") as file:
            return mptcp_info.parse_counters(file.read())
    except OSError:
        return {}


def syn_timeout() -> float:
    """Seconds until Linux 6.12 and later replaces an unanswered SYN by one without MP_CAPABLE.

    A test must give up before that: if the plain SYN is answered, the kernel sends no MP_CAPABLE
    for an hour, for any connection of the machine (net.mptcp.blackhole_timeout).  The first SYNs
    leave one second apart (net.ipv4.tcp_syn_linear_timeouts).
    """
    try:
        with open(_SYN_RETRANSMISSIONS, encoding="ascii") as file:
            retransmissions = int(file.read())
    except (OSError, ValueError):
        retransmissions = 2
    return min(retransmissions, 4) + 0.7


def resolve(host: str, port: int, timeout: float) -> list[Peer]:
    """The addresses of a name, in the order of getaddrinfo(3).  OSError; TimeoutError is one.

    getaddrinfo(3) has no timeout, so a thread calls it, and is abandoned if it takes too long.
    """
    peers: list[Peer] = []
    errors: list[OSError] = []

    def query() -> None:
        try:
            for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                peers.append(Peer(str(info[4][0]), port))
        except OSError as error:
            errors.append(error)
        except UnicodeError:
            errors.append(OSError(errno.EINVAL, os.strerror(errno.EINVAL)))

    thread = threading.Thread(target=query, daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise TimeoutError(errno.ETIMEDOUT, f"the resolver did not answer within {timeout:.2g} s")
    if errors:
        raise errors[0]
    return peers
