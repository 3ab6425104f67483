"""The baseline of a test: how far plain TCP gets on the same path.

Only this comparison distinguishes a path that loses MPTCP from one that loses everything.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

from mproutd.pathtest import protocol
from mproutd.pathtest.connection import Deadline, PathConnection
from mproutd.pathtest.select import Peer, Source, family_name

BULK_BYTES = 12_000
"""Bytes that are echoed: fewer than ten full packets, so that they leave in the first flight
(TCP_INIT_CWND, RFC 6928)."""
PACKET_SIZES = (1492, 1480, 1452, 1420, 1400, 1380, 1340, 1280)
"""Bytes, tried where full-size packets are lost: PPPoE, tunnels, IPv6's minimum MTU."""
_HEADER_BYTES = {"ipv4": 40, "ipv6": 60}
STALL_TIMEOUT, HELLO_TIMEOUT = 2.5, 2.0
"""Seconds without progress after which full-size packets, or the first line, count as lost."""
_CONNECT_TIMEOUT, _PACKET_SIZE_TIMEOUT = 2.2, 1.5


def has_line(reply: bytes) -> bool:
    return b"\n" in reply


class BaselineResult(NamedTuple):
    """How far plain TCP got.  None: not tried, or the test ran out of time."""

    passed: bool | None
    full_size: bool | None = None
    """Full-size packets came back."""
    intact: bool | None = None
    """They were what had been sent."""


class Baseline:
    """Plain TCP from the same source to the same peer, within the time of the test."""

    def __init__(self, source: Source, peer: Peer, deadline: Deadline) -> None:
        self._source, self._peer, self._deadline = source, peer, deadline

    def run(self, *, data: bool, bulk: bool = False) -> BaselineResult:
        """Connect; with `data` send the first line, and with `bulk` full-size packets too."""
        try:
            with PathConnection(self._source, self._peer, mptcp=False) as connection:
                connection.connect(self._deadline.left(_CONNECT_TIMEOUT))
                if not data:
                    return BaselineResult(True)
                passed = self._greet(connection, has_line if bulk else bool)
                if not (bulk and passed):
                    return BaselineResult(passed)
                sent, echoed = self._echo(connection, BULK_BYTES, STALL_TIMEOUT)
                full_size = len(echoed) == len(sent) or self._lost
                return BaselineResult(True, full_size, echoed == sent if full_size else None)
        except OSError:
            return BaselineResult(self._lost)

    def _greet(self, connection: PathConnection, complete: Callable[[bytes], bool]) -> bool | None:
        """Whether the peer answered or acknowledged the first line."""
        try:
            reply = connection.exchange(protocol.HELLO, complete, HELLO_TIMEOUT, self._deadline)
        except OSError:
            reply = b""
        return bool(reply) or connection.tcp_info().unacked == 0 or self._lost

    @property
    def _lost(self) -> bool | None:
        """What a missing reply means: False for lost, None if the test is out of time."""
        return None if self._deadline.over else False

    def largest_packet(self) -> int | None:
        """The largest of PACKET_SIZES that passes both ways, in bytes; all are tried at once."""
        headers = _HEADER_BYTES[family_name(self._source.address)]
        passed: list[int] = []

        def attempt(size: int) -> None:
            try:
                mss = size - headers
                with PathConnection(self._source, self._peer, False, mss) as connection:
                    connection.connect(self._deadline.left(_PACKET_SIZE_TIMEOUT))
                    connection.exchange(
                        protocol.HELLO, has_line, _PACKET_SIZE_TIMEOUT, self._deadline
                    )
                    sent, echoed = self._echo(connection, 3 * size, _PACKET_SIZE_TIMEOUT)
                    if len(echoed) == len(sent):
                        passed.append(size)
            except OSError:
                pass

        threads = [
            threading.Thread(target=attempt, args=(size,), daemon=True) for size in PACKET_SIZES
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self._deadline.left(3 * _PACKET_SIZE_TIMEOUT))
        return max(passed, default=None)

    def _echo(self, connection: PathConnection, count: int, stall: float) -> tuple[bytes, bytes]:
        """Random bytes for a listener after HELLO, and what it echoed."""
        sent = os.urandom(count)
        request = protocol.echo(count) + sent
        try:
            echoed = connection.exchange(
                request, lambda reply: len(reply) >= count, stall, self._deadline
            )
        except OSError:
            echoed = b""
        return sent, echoed
