"""Netlink sockets: ask, dump, and send many requests at once.

pyroute2's sockets are not used here: each brings an event loop (10 MB) and 100 to 200 µs
a request, and a pass makes a dozen.  What must hold: requests and events never share a
socket, since a broadcast with our sequence number would be taken for an answer.

Errors of the kernel are `OSError` with its own words in `strerror` where it has any.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence

from mproutd.netlink.bpf import SO_ATTACH_FILTER, Instruction, sock_fprog
from mproutd.netlink.nlmsg import (
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
_SO_RCVBUFFORCE = 33
_EVENT_BUFFER = 1 << 20
"""Bytes of socket memory for events that wait; an overflow costs nothing but a pass."""
_RECEIVE = 1 << 16
_BATCH = 64
"""Requests a send: few enough for the answers to fit into a default receive buffer."""
_LONGEST = struct.pack("@ll", 5, 0)
"""struct timeval: how long an answer is waited for."""
_ATTEMPTS, _PAUSE = 10, 0.002
"""How often an interrupted dump is asked for again before its last answer is taken; between
two attempts, seconds at most.  What interrupts it also brings an event, and another pass."""

Encode = Callable[[int], bytes]
"""A request that still wants its sequence number."""


class Requests:
    """A socket for requests of one netlink family (NETLINK_ROUTE, NETLINK_GENERIC)."""

    def __init__(self, family: int) -> None:
        """OSError (EPROTONOSUPPORT) when the kernel lacks the netlink family."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family
        )
        for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        # The kernel has answered when send(2) returns, so waiting longer is waiting for nothing.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LONGEST)
        self._socket.bind((0, 0))
        self._sequence = 0
        self._batch = _BATCH

    @property
    def port(self) -> int:
        """nlmsg_pid of what these requests cause."""
        number: int = self._socket.getsockname()[0]
        return number

    def close(self) -> None:
        self._socket.close()

    def dump(self, encode: Encode) -> list[bytes]:
        """All bodies of a dump; asked again when the table changed meanwhile."""
        found, interrupted = self._dump(encode)
        return self._dump_again(encode) if interrupted else found

    def _dump_again(self, encode: Encode) -> list[bytes]:
        """NLM_F_DUMP_INTR: objects may be missing.  Rare, so what it takes is imported here."""
        from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random

        retrying = Retrying(
            retry=retry_if_result(lambda answer: bool(answer[1])),
            wait=wait_random(0, _PAUSE),
            stop=stop_after_attempt(_ATTEMPTS),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        found: list[bytes] = retrying(self._dump, encode)[0]
        return found

    def _dump(self, encode: Encode) -> tuple[list[bytes], bool]:
        self._sequence = sequence = self._sequence + 1 & 0x7FFFFFFF
        self._socket.send(encode(sequence))
        found: list[bytes] = []
        interrupted = False
        while True:
            for message in messages(self._receive()):
                if message.sequence != sequence:
                    continue
                interrupted |= message.interrupted
                if message.type in (NLMSG_DONE, NLMSG_ERROR):
                    _raise(acknowledgement(message))
                    return found, interrupted
                found.append(message.body)

    def query(self, requests: Sequence[Encode]) -> list[Message | OSError]:
        """One answer for each request that has an answer or fails, in the same order."""
        answers: list[Message | OSError] = []
        size = self._batch
        for start in range(0, len(requests), size):
            answers += self._query(requests[start : start + size])
        return answers

    def _query(self, requests: Sequence[Encode]) -> list[Message | OSError]:
        first = self._send(requests)
        answers: dict[int, Message | OSError] = {}
        while len(answers) < len(requests):
            for message in messages(self._receive()):
                place = message.sequence - first
                if not 0 <= place < len(requests):
                    continue
                if message.type == NLMSG_ERROR:
                    answers[place] = _error(acknowledgement(message))
                else:
                    answers[place] = message
        return [answers[place] for place in range(len(requests))]

    def change(self, requests: Sequence[Encode]) -> dict[int, Ack]:
        """Do all of them, in order; return what failed, by place.

        Only the last of a batch is acknowledged: the kernel works in order and reports every
        error, so silence is success.
        """
        failed: dict[int, Ack] = {}
        size = self._batch
        for start in range(0, len(requests), size):
            batch = requests[start : start + size]
            silent: list[Encode] = [_silent(encode) for encode in batch[:-1]]
            first = self._send([*silent, batch[-1]])
            last = first + len(batch) - 1
            while True:
                sequences = []
                for message in messages(self._receive()):
                    if message.type == NLMSG_ERROR and first <= message.sequence <= last:
                        ack = acknowledgement(message)
                        if ack.errno:
                            failed[start + message.sequence - first] = ack
                        sequences.append(message.sequence)
                if last in sequences:
                    break
        return failed

    def _receive(self) -> bytes:
        """What came next.  OSError when answers were lost (ENOBUFS): the rest is thrown away, as
        the kernel says so once and drops more in silence until all is read
        (net/netlink/af_netlink.c, netlink_overrun); and fewer are asked for at once.
        """
        try:
            return self._socket.recv(_RECEIVE)
        except OSError:
            self._batch = max(1, self._batch // 4)
            self._throw_away()
            raise

    def _throw_away(self) -> None:
        while True:
            try:
                self._socket.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return

    def _send(self, requests: Iterable[Encode]) -> int:
        first = self._sequence + 1
        if first > 0x7FFF0000:
            first = 1
        data = [encode(first + place) for place, encode in enumerate(requests)]
        self._sequence = first + len(data)
        self._socket.send(b"".join(data))
        return first


class Events:
    """A socket that only listens.  What it brings says that something happened, not what is."""

    def __init__(self, family: int, groups: Iterable[int]) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            family,
        )
        for option in (_SO_RCVBUFFORCE, socket.SO_RCVBUF):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, _EVENT_BUFFER)
                break
            except PermissionError:
                continue
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def attach(self, program: list[Instruction]) -> None:
        """Let the kernel drop what the classic BPF program rejects, instead of any before it."""
        value, memory = sock_fprog(program)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)
        del memory  # the kernel has its own copy

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self, most: int = 0) -> list[Message] | None:
        """All that waits; None when the kernel had to drop some (ENOBUFS): anything may be.

        `most`: stop when there are so many, and leave the others for the next time; 0: never.
        """
        found: list[Message] = []
        overflow = False
        while True:
            if most and len(found) >= most and not overflow:
                return found
            try:
                found += messages(self._socket.recv(_RECEIVE))
            except BlockingIOError:
                return None if overflow else found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overflow = True
                found.clear()


def _silent(encode: Encode) -> Encode:
    return lambda sequence: without_acknowledgement(encode(sequence))


def _error(ack: Ack) -> OSError:
    return OSError(ack.errno, ack.text or os.strerror(ack.errno))


def _raise(ack: Ack) -> None:
    if ack.errno:
        raise _error(ack)
