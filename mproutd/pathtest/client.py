"""The client of a path test: connects over the uplink and collects the evidence.

Invariants: it ends in time, whatever the peer and the path do.  A peer that is somebody else's
service receives one line of text and nothing more.  Other connections of this machine are not
affected (see connection.syn_timeout).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mproutd.netlink.mptcp_info import TcpInfo, counter_increase
from mproutd.pathtest import protocol
from mproutd.pathtest.baseline import BULK_BYTES, HELLO_TIMEOUT, STALL_TIMEOUT, Baseline, has_line
from mproutd.pathtest.connection import (
    Deadline,
    PathConnection,
    device_mtu,
    read_counters,
    syn_timeout,
)
from mproutd.pathtest.select import Peer, Source, joinable_uplinks, uplink_of
from mproutd.pathtest.verdict import VERSION, Evidence, diagnose, side

if TYPE_CHECKING:
    from mproutd.pathtest.types import PathTestResult

JOIN_TIMEOUT = 1.0
"""Seconds to wait for further subflows."""
_POLL_INTERVAL = 0.02

_REPEATED = ("syn-dropped", "data-dropped", "ack-stripped", "data-stripped")
"""Verdicts that need a second attempt: random loss may hit MPTCP and spare plain TCP, and a kernel
that loses the wrong packets falls back by itself."""
_CHECKSUM_COUNTERS = {"MPFailTx", "MPFailRx", "DataCsumErr"}
_PAUSED_COUNTER = "MPCapableSYNTXDisabled"
_FAILURES = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "no-route",
    errno.EADDRNOTAVAIL: "no-route",
    errno.ENODEV: "no-route",
    errno.ENETDOWN: "no-route",
}
"""errno of connect(2) → Evidence.failed; all others are `no-answer`."""


def result(source: Source | None, peer: Peer | None, code: str, **fields: Any) -> PathTestResult:
    """What `mproutd test --json` prints, see docs/test.md; `fields` replace the empty ones."""
    unknown: dict[str, Any] = dict.fromkeys(
        (
            "error",
            "local",
            "connect_ms",
            "first_byte_ms",
            "rtt_ms",
            "synack_mp_capable",
            "mptcp",
            "checksums",
            "echoed",
            "listener",
        )
    )
    whole = {
        "version": VERSION,
        "verdict": code,
        "side": side(code),
        "uplink": source.uplink if source else None,
        "device": source.device if source else None,
        "peer": None if peer is None else {"address": peer.address, "port": peer.port},
        **unknown,
        "mtu": {**dict.fromkeys(("device", "forward", "reverse", "mss")), "verified": False},
        "joins": {"expected": [], "found": []},
        "counters": {},
        **fields,
    }
    return cast("PathTestResult", whole)


class PathTest:
    """One test; call run() once."""

    def __init__(
        self, source: Source, peer: Peer, status: Mapping[str, Any], deadline: Deadline
    ) -> None:
        self._source, self._peer, self._status, self._deadline = source, peer, status, deadline
        self._baseline = Baseline(source, peer, deadline)
        self._fields: dict[str, Any] = {}
        """Of the result."""
        self._mtu: dict[str, Any] = {
            "device": device_mtu(source.device),
            "forward": None,
            "reverse": None,
            "mss": None,
            "verified": False,
        }
        self._counters_before = read_counters()

    def run(self) -> PathTestResult:
        code = diagnose(self._collect())
        if code in _REPEATED and not self._deadline.over:
            second = diagnose(self._collect())
            if second != "timeout" and not self._deadline.over:  # else its evidence is incomplete
                code = second
        if code == "pmtu-blackhole":
            size = self._baseline.largest_packet()
            self._mtu |= {"forward": size, "reverse": size, "verified": size is not None}
        self._fields["counters"] = self._counter_increase()
        self._fields["mtu"] = self._mtu
        return result(self._source, self._peer, code, **self._fields)

    def _counter_increase(self) -> dict[str, int]:
        """The MPTCP counters of the machine that rose since the test began."""
        return counter_increase(self._counters_before, read_counters())

    # -- the connection -------------------------------------------------------------------

    def _collect(self) -> Evidence:
        try:
            connection = PathConnection(self._source, self._peer, mptcp=True)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                return Evidence(local="unsupported")
            if error.errno == errno.ENOPROTOOPT:
                return Evidence(local="disabled")
            if isinstance(error, PermissionError):
                raise
            return self._not_connected(error)
        with connection:
            began, timeout = time.monotonic(), self._deadline.left(syn_timeout())
            try:
                connection.connect(timeout)
            except OSError as error:
                connection.close()  # before the kernel retries without MP_CAPABLE
                if isinstance(error, TimeoutError) and not error.errno:
                    error = TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout:.1f} s")
                return self._not_connected(error)
            self._fields["error"] = None
            self._fields["connect_ms"] = _milliseconds_since(began)
            self._fields["local"] = connection.local
            return self._use(connection)

    def _not_connected(self, error: OSError) -> Evidence:
        failed = _FAILURES.get(error.errno or 0, "no-answer")
        self._fields["error"] = error.strerror or str(error)
        if failed == "no-route":
            return Evidence(failed=failed)
        return Evidence(failed=failed, plain_tcp=self._baseline.run(data=False).passed)

    def _use(self, connection: PathConnection) -> Evidence:
        evidence = self._greet(connection, self._handshake(connection))
        if evidence.listener is None or connection.mptcp_info().fallback:
            if evidence.listener is not None:
                evidence = self._echo_full_size(connection, evidence)
            elif evidence.acked:
                self._await_joins(connection)
            return self._finish(connection, evidence)
        self._await_joins(connection)
        connection.close()
        return self._echo_first_flight(evidence)

    def _handshake(self, connection: PathConnection) -> Evidence:
        info = connection.mptcp_info()
        self._fields["checksums"] = None if info.fallback else info.checksums
        if not info.fallback:
            return Evidence(synack_mp_capable=info.key_received)
        # The socket no longer knows: it may have fallen back on the first data.  The counters do.
        counters = self._counter_increase()
        paused = bool(counters.get(_PAUSED_COUNTER))
        later = not paused and not counters.get("MPCapableFallbackSYNACK")
        return Evidence(
            local="paused" if paused else "",
            synack_mp_capable=bool(self._counters_before) and later,
        )

    def _greet(self, connection: PathConnection, evidence: Evidence) -> Evidence:
        """Send one line: our listener answers it, any other service acknowledges it."""
        began = time.monotonic()
        reply = b""
        try:
            reply = connection.exchange(protocol.HELLO, bool, HELLO_TIMEOUT, self._deadline)
            self._fields["first_byte_ms"] = _milliseconds_since(began) if reply else None
            if reply.startswith(b"{") and not has_line(reply):
                reply += connection.exchange(b"", has_line, HELLO_TIMEOUT, self._deadline)
        except OSError:
            pass  # closed, reset or silent: the socket's own state tells the rest
        acked = bool(reply) or _is_acknowledged(connection)
        if not acked and not self._deadline.over:
            evidence = evidence._replace(plain_tcp=self._baseline.run(data=True).passed)
        return evidence._replace(acked=acked, listener=protocol.parse_view(reply))

    def _echo_first_flight(self, evidence: Evidence) -> Evidence:
        """Full-size packets in the first flight of a connection of their own.

        A subflow over another uplink joins a round trip later at the earliest; from then on MPTCP
        repairs there what this path loses.  So only what the first subflow itself got through
        counts.
        """
        with PathConnection(self._source, self._peer, mptcp=True) as connection:
            try:
                connection.connect(self._deadline.left(syn_timeout()))
            except OSError:
                return self._finish(connection, evidence._replace(full_size=False, mptcp=True))
            evidence = self._echo_full_size(connection, evidence, hello=True)
            return self._finish(connection, evidence)

    def _echo_full_size(
        self, connection: PathConnection, evidence: Evidence, hello: bool = False
    ) -> Evidence:
        """Full-size packets to the listener and back, then its view of them."""
        sent = os.urandom(BULK_BYTES)
        request = protocol.HELLO if hello else b""

        def echo_in(reply: bytes) -> bytes:
            return reply.partition(b"\n")[2] if hello else reply

        try:
            reply = connection.exchange(
                request + protocol.echo(BULK_BYTES) + sent,
                lambda reply: len(echo_in(reply)) >= BULK_BYTES,
                STALL_TIMEOUT,
                self._deadline,
            )
            echoed = echo_in(reply)
            self._fields["echoed"] = len(echoed)
            evidence = evidence._replace(intact=echoed == sent)
            tcp = self._await_acknowledgement(connection)
            view = connection.exchange(protocol.REPORT, has_line, HELLO_TIMEOUT, self._deadline)
            evidence = evidence._replace(listener=protocol.parse_view(view) or evidence.listener)
        except OSError:
            return self._compare(evidence)
        if self._is_subflow_closed(connection):
            return evidence._replace(intact=evidence.intact and not self._checksum_failed())
        if tcp.unacked or (evidence.listener and evidence.listener["unacked"]):
            return self._compare(evidence)
        self._mtu["verified"] = tcp.received is not None and tcp.received >= BULK_BYTES
        return evidence._replace(full_size=True)

    def _compare(self, evidence: Evidence) -> Evidence:
        """Full-size packets do not pass by MPTCP: do they by plain TCP?"""
        if self._deadline.over:
            return evidence
        self._fields["echoed"] = None  # if everything came back, then over another uplink
        if self._checksum_failed():
            return evidence._replace(intact=False)
        baseline = self._baseline.run(data=True, bulk=True)
        intact = False if baseline.intact is False else evidence.intact
        return evidence._replace(full_size=False, plain_full_size=baseline.full_size, intact=intact)

    def _checksum_failed(self) -> bool:
        """A DSS checksum did not match at either end, so the kernel gave the subflow up."""
        return bool(self._counter_increase().keys() & _CHECKSUM_COUNTERS)

    def _await_acknowledgement(self, connection: PathConnection) -> TcpInfo:
        """The first subflow once everything it sent is acknowledged, or nothing moves."""
        last, last_progress = connection.tcp_info(), time.monotonic()
        while last.unacked or (last.received or BULK_BYTES) < BULK_BYTES:
            stalled = time.monotonic() - last_progress > STALL_TIMEOUT
            if stalled or self._deadline.over or self._is_subflow_closed(connection):
                break
            time.sleep(_POLL_INTERVAL)
            current = connection.tcp_info()
            if current != last:
                last, last_progress = current, time.monotonic()
        return last

    def _is_subflow_closed(self, connection: PathConnection) -> bool:
        """Whether this path's subflow was reset while another uplink's carries on."""
        subflows = connection.subflows()
        return bool(subflows) and self._source.address not in {local for local, _ in subflows}

    def _await_joins(self, connection: PathConnection) -> None:
        """Record which further subflows the kernel's path manager adds."""
        if connection.mptcp_info().fallback:
            return
        expected = joinable_uplinks(self._status, self._source)
        end = time.monotonic() + self._deadline.left(JOIN_TIMEOUT)
        while True:
            joined = [pair for pair in connection.subflows() if pair[0] != self._source.address]
            if len(joined) >= len(expected) or time.monotonic() >= end:
                break
            time.sleep(_POLL_INTERVAL)
        self._fields["joins"] = {
            "expected": expected,
            "found": [
                {"uplink": uplink_of(self._status, local), "local": local, "remote": remote}
                for local, remote in joined
            ],
        }

    def _finish(self, connection: PathConnection, evidence: Evidence) -> Evidence:
        tcp, listener = connection.tcp_info(), evidence.listener
        mptcp = not connection.mptcp_info().fallback and not self._is_subflow_closed(connection)
        self._fields |= {
            "synack_mp_capable": evidence.synack_mp_capable,
            "mptcp": mptcp,
            "rtt_ms": tcp.rtt_ms,
            "listener": listener,
        }
        self._mtu |= {
            "forward": tcp.pmtu,
            "reverse": listener["pmtu"] if listener else None,
            "mss": tcp.mss,
        }
        return evidence._replace(mptcp=mptcp)


def _is_acknowledged(connection: PathConnection) -> bool:
    """Whether the peer has everything that was sent: by DATA_ACK, or by TCP after a fallback."""
    info = connection.mptcp_info()
    return (connection.tcp_info() if info.fallback else info).unacked == 0


def _milliseconds_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
