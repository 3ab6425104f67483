"""What a test tries beside its MPTCP connection, by plain TCP over the same path.

Only the comparison tells a path that loses MPTCP from one that loses everything.
"""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from mproutd.pathtest import protocol
from mproutd.pathtest.connection import Deadline, PathConnection
from mproutd.pathtest.select import Peer, Source, family_name

BULK_BYTES = 12_000
"""Bytes that are echoed: fewer than ten full packets, so that they leave in the first flight
(TCP_INIT_CWND, RFC 6928)."""
PROBE_SIZES = (1492, 1480, 1452, 1420, 1400, 1380, 1340, 1280)
"""Bytes in a packet, tried where full ones are lost: PPPoE, tunnels, IPv6's least."""
_HEADERS = {"ipv4": 40, "ipv6": 60}
STALL_TIMEOUT, HELLO_TIMEOUT = 2.5, 2.0
"""Seconds without a byte after which full packets, or the first line, count as lost."""
CONNECT_TIMEOUT, SIZE_TIMEOUT = 2.2, 1.5


def whole(came: bytes) -> bool:
    """A line is there."""
    return b"\n" in came


class BaselineResult(NamedTuple):
    """How far plain TCP came.  None: not tried, or the time was over."""

    passed: bool | None
    big: bool | None = None
    """Full packets came back."""
    same: bool | None = None
    """As they were sent."""


class Baseline:
    """Plain TCP by the same place to the same peer, within the time of the test."""

    def __init__(self, source: Source, peer: Peer, deadline: Deadline) -> None:
        self._source, self._peer, self._deadline = source, peer, deadline

    def plain(self, *, data: bool, bulk: bool = False) -> BaselineResult:
        """Whether it connects, or with `data` gets its first line through; and, with `bulk`,
        full packets."""
        try:
            with PathConnection(self._source, self._peer, mptcp=False) as line:
                line.connect(self._deadline.left(CONNECT_TIMEOUT))
                if not data:
                    return BaselineResult(True)
                try:
                    enough = whole if bulk else bool
                    came = line.exchange(protocol.HELLO, enough, HELLO_TIMEOUT, self._deadline)
                except OSError:
                    came = b""
                passed = bool(came) or line.tcp().unacked == 0 or self._unknown
                if not (bulk and passed):
                    return BaselineResult(passed)
                came, sent = self._echo(line, BULK_BYTES, STALL_TIMEOUT)
                big = len(came) == len(sent) or self._unknown
                return BaselineResult(True, big, came == sent if big else None)
        except OSError:
            return BaselineResult(self._unknown)

    @property
    def _unknown(self) -> bool | None:
        """What did not come: missing, unless the time was over."""
        return None if self._deadline.over else False

    def largest(self) -> int | None:
        """Bytes in the largest packet of SIZES that passes both ways; all are tried at once."""
        headers = _HEADERS[family_name(self._source.address)]
        passed: list[int] = []

        def attempt(size: int) -> None:
            try:
                with PathConnection(self._source, self._peer, False, size - headers) as line:
                    line.connect(self._deadline.left(SIZE_TIMEOUT))
                    line.exchange(protocol.HELLO, whole, SIZE_TIMEOUT, self._deadline)
                    came, sent = self._echo(line, 3 * size, SIZE_TIMEOUT)
                    if len(came) == len(sent):
                        passed.append(size)
            except OSError:
                pass

        trying = [
            threading.Thread(target=attempt, args=(size,), daemon=True) for size in PROBE_SIZES
        ]
        for each in trying:
            each.start()
        for each in trying:
            each.join(self._deadline.left(3 * SIZE_TIMEOUT))
        return max(passed, default=None)

    def _echo(self, line: PathConnection, count: int, stall: float) -> tuple[bytes, bytes]:
        """What came back of so many bytes from a listener that was greeted, and what was sent."""
        sent = os.urandom(count)
        asked = protocol.echo(count) + sent
        try:
            return line.exchange(
                asked, lambda came: len(came) >= count, stall, self._deadline
            ), sent
        except OSError:
            return b"", sent
