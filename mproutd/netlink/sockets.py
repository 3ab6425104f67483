"""Netlink sockets: requests, dumps, batches of changes, and events.

pyroute2's sockets are not used here: each brings an event loop (10 MB), and each request costs
100 to 200 µs, where a pass makes a dozen.

Invariant: requests and events never share a socket, since a broadcast with our sequence number
would be taken for a reply.

An error of the kernel is an `OSError`, with the kernel's own text (NETLINK_EXT_ACK) in `strerror`
where it sends one.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence

from mproutd.netlink.bpf import SO_ATTACH_FILTER, Instruction, sock_fprog
from mproutd.netlink.nlmsg import (
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Ack,
    Message,
    acknowledgement,
    messages,
    without_acknowledgement,
)

SOL_NETLINK = 270
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 1, 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_USUAL_BYTES = 100_000
_EVENT_BUFFER_BYTES = 1 << 20
"""Socket memory for pending events; an overrun only costs a full pass."""
_RECEIVE_BYTES = 1 << 16
_BATCH_SIZE = 64
"""Requests in one send: few enough for the replies to fit into a default receive buffer."""
_REPLY_TIMEOUT = struct.pack("@ll", 5, 0)
"""struct timeval."""
_MAX_DUMP_RETRIES, _MAX_RETRY_SECONDS = 10, 0.002
"""Attempts to repeat an interrupted dump before its last replies are used, and the longest pause
between two.  Whatever interrupts a dump also causes an event, and so another pass."""
_MAX_SEQUENCE = 0x7FFFFFFF

Encode = Callable[[int], bytes]
"""A request without its sequence number."""


class Requests:
    """A socket for requests of one netlink family (NETLINK_ROUTE, NETLINK_GENERIC)."""

    def __init__(self, family: int) -> None:
        """OSError (EPROTONOSUPPORT) when the kernel lacks the netlink family."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        # The kernel replies before send(2) returns, so only a lost reply makes recv(2) wait.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _REPLY_TIMEOUT)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._batch_size = _BATCH_SIZE

    @property
    def port(self) -> int:
        """nlmsg_pid of the events that these requests cause."""
        number: int = self._socket.getsockname()[0]
        return number

    def close(self) -> None:
        self._socket.close()

    def dump(self, encode: Encode) -> list[bytes]:
        """The bodies of all messages of a dump, repeated if the table changed meanwhile."""
        bodies, interrupted = self._dump(encode)
        return self._retry_dump(encode) if interrupted else bodies

    def _retry_dump(self, encode: Encode) -> list[bytes]:
        """After NLM_F_DUMP_INTR: objects may be missing.  Rare, hence the late import."""
        from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random

        retrying = Retrying(
            retry=retry_if_result(lambda result: bool(result[1])),
            wait=wait_random(0, _MAX_RETRY_SECONDS),
            stop=stop_after_attempt(_MAX_DUMP_RETRIES),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        bodies: list[bytes] = retrying(self._dump, encode)[0]
        return bodies

    def _dump(self, encode: Encode) -> tuple[list[bytes], bool]:
        """The bodies, and whether the table changed meanwhile."""
        self._sequence = sequence = self._sequence + 1 & _MAX_SEQUENCE
        self._socket.send(encode(sequence))
        return self._receive_dump(sequence, [])

    def _receive_dump(self, sequence: int, before: list[Message]) -> tuple[list[bytes], bool]:
        """See _dump(); the reply to the request before it is appended to `before`."""
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for message in messages(self._receive()):
                kind, flags, number, _, body = message
                if number != sequence:
                    if number == sequence - 1:
                        before.append(message)
                    continue
                if flags & NLM_F_DUMP_INTR:
                    interrupted = True
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    _raise(acknowledgement(message))
                    return bodies, interrupted
                bodies.append(body)

    def query_and_dump(self, query: Encode, dump: Encode) -> tuple[Message | OSError, list[bytes]]:
        """The same as query() and dump(), in one send where the receive buffer allows."""
        if self._batch_size == 1:
            return self.query([query])[0], self.dump(dump)
        sequence = self._send([query, dump])
        first: list[Message] = []
        bodies, interrupted = self._receive_dump(sequence + 1, first)
        reply: Message | OSError = first[0]
        if first[0].type == NLMSG_ERROR:
            reply = _error(acknowledgement(first[0]))
        return reply, self._retry_dump(dump) if interrupted else bodies

    def query(self, requests: Sequence[Encode]) -> list[Message | OSError]:
        """The reply or the error of each request, in order.  For requests without a dump."""
        replies: list[Message | OSError] = []
        size = self._batch_size
        for start in range(0, len(requests), size):
            replies += self._query(requests[start : start + size])
        return replies

    def _query(self, requests: Sequence[Encode]) -> list[Message | OSError]:
        first = self._send(requests)
        replies: dict[int, Message | OSError] = {}
        while len(replies) < len(requests):
            for message in messages(self._receive()):
                index = message.sequence - first
                if not 0 <= index < len(requests):
                    continue
                if message.type == NLMSG_ERROR:
                    replies[index] = _error(acknowledgement(message))
                else:
                    replies[index] = message
        return [replies[index] for index in range(len(requests))]

    def change(self, requests: Sequence[Encode]) -> dict[int, Ack]:
        """Do all of them, in order; return the failures by index.

        Only the last of a batch is acknowledged: the kernel works in order and reports every
        error, so silence is success.
        """
        failed: dict[int, Ack] = {}
        size = self._batch_size
        for start in range(0, len(requests), size):
            batch = requests[start : start + size]
            silent: list[Encode] = [_silent(encode) for encode in batch[:-1]]
            first = self._send([*silent, batch[-1]])
            last = first + len(batch) - 1
            acknowledged = False
            while not acknowledged:
                for message in messages(self._receive()):
                    if message.type == NLMSG_ERROR and first <= message.sequence <= last:
                        ack = acknowledgement(message)
                        if ack.errno:
                            failed[start + message.sequence - first] = ack
                        acknowledged |= message.sequence == last
        return failed

    def transaction(self, requests: Sequence[Encode]) -> dict[int, Ack]:
        """Do all of them or none, as one datagram (nf_tables); return the failures by index.

        The first and the last delimit them, and the last but one is acknowledged.
        """
        first = self._send(requests)
        failed: dict[int, Ack] = {}
        while True:
            for message in messages(self._receive()):
                index = message.sequence - first
                if message.type != NLMSG_ERROR or not 0 <= index < len(requests):
                    continue
                ack = acknowledgement(message)
                if ack.errno:
                    failed[index] = ack
                if index in (0, len(requests) - 2):
                    return failed

    def _receive(self) -> bytes:
        """The next datagram.  OSError, with ENOBUFS when replies were lost.

        The kernel reports an overrun once and drops silently until everything is read
        (net/netlink/af_netlink.c, netlink_overrun).  So the rest is discarded, and later batches
        are smaller.
        """
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except OSError:
            self._batch_size = max(1, self._batch_size // 4)
            self._drain()
            raise

    def _drain(self) -> None:
        """Discard everything that is pending."""
        while True:
            try:
                self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return

    def _send(self, requests: Iterable[Encode]) -> int:
        """The sequence number of the first request; the others follow."""
        first = self._sequence + 1
        if first > _MAX_SEQUENCE - 0xFFFF:
            first = 1
        data = [encode(sequence) for sequence, encode in enumerate(requests, first)]
        self._sequence = first + len(data)
        whole = b"".join(data)
        if len(whole) > _USUAL_BYTES:
            # One datagram has to fit in the buffer, whose default is net.core.wmem_default.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, len(whole))
        self._socket.send(whole)
        return first


class Events:
    """A subscription to multicast groups.

    An event is a hint that something changed, not the new state: read the kernel for that.
    """

    def __init__(self, family: int, groups: Iterable[int]) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            family,
        )
        for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _EVENT_BUFFER_BYTES)
                break
            except PermissionError:
                continue
        self._socket.bind((0, 0))
        for group in groups:
            self.join(group)

    def join(self, group: int) -> None:
        """Subscribe to one more group; OSError if the kernel does not have it."""
        self._socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def attach(self, program: list[Instruction]) -> None:
        """Filter the events in the kernel by a classic BPF program; replaces an earlier one."""
        value, memory = sock_fprog(program)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)
        del memory  # the kernel has its own copy

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, limit: int = 0) -> list[Message] | None:
        """All pending events; None after an overrun (ENOBUFS), since some are lost.

        With `limit`, stop once there are that many and leave the rest for the next call.
        """
        events: list[Message] = []
        overrun = False
        while True:
            if limit and len(events) >= limit and not overrun:
                return events
            try:
                events += messages(self._socket.recv(_RECEIVE_BYTES))
            except BlockingIOError:
                return None if overrun else events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overrun = True
                events.clear()


def _silent(encode: Encode) -> Encode:
    return lambda sequence: without_acknowledgement(encode(sequence))


def _error(ack: Ack) -> OSError:
    return OSError(ack.errno, ack.text or os.strerror(ack.errno))


def _raise(ack: Ack) -> None:
    if ack.errno:
        raise _error(ack)
