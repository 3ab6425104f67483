"""The test of one path: a connection by the uplink, and what it shows.

What must hold: it ends in time, whatever the peer and the path do; a peer that is somebody
else's service gets one line of text and nothing more; the machine's other connections notice
nothing (see path.syn_patience).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import Any

from mproutd.netlink.mptcp_info import TcpInfo, counter_increase
from mproutd.pathtest import connection, protocol
from mproutd.pathtest.baseline import BULK_BYTES, HELLO_TIMEOUT, STALL_TIMEOUT, Baseline, whole
from mproutd.pathtest.connection import Deadline, PathConnection
from mproutd.pathtest.select import Peer, Source, joinable_uplinks, uplink_of
from mproutd.pathtest.verdict import VERSION, Evidence, diagnose, side

JOIN_TIMEOUT = 1.0
"""Seconds that a second subflow may take."""


def result(source: Source | None, to: Peer | None, code: str, **told: Any) -> dict[str, Any]:
    """What `mproutd test --json` prints, see docs/test.md."""
    empty: dict[str, Any] = dict.fromkeys(
        (
            "error",
            "local",
            "connect_ms",
            "first_byte_ms",
            "rtt_ms",
            "offered",
            "mptcp",
            "checksums",
            "echoed",
            "listener",
        )
    )
    mtu = dict.fromkeys(("device", "there", "back", "segment"))
    return {
        "version": VERSION,
        "verdict": code,
        "side": side(code),
        "uplink": source.uplink if source else None,
        "device": source.device if source else None,
        "to": None if to is None else {"address": to.address, "port": to.port},
        **empty,
        "mtu": {**mtu, "proved": False},
        "joins": {"expected": [], "found": []},
        "counters": {},
        **told,
    }


class PathTest:
    """One test.  run() is all."""

    def __init__(
        self, source: Source, peer: Peer, status: Mapping[str, Any], deadline: Deadline
    ) -> None:
        self._source, self._peer, self._status, self._deadline = source, peer, status, deadline
        self._baseline = Baseline(source, peer, deadline)
        self._told: dict[str, Any] = {}
        self._mtu: dict[str, Any] = {
            "device": connection.device_mtu(source.device),
            "there": None,
            "back": None,
            "segment": None,
            "proved": False,
        }
        self._before = connection.counters()

    def run(self) -> dict[str, Any]:
        code = diagnose(self._look())
        if code in _BY_CHANCE and not self._deadline.over:
            again = diagnose(self._look())
            code = code if again == "no-time" else again
        if code == "big-lost":
            largest = self._baseline.largest()
            self._mtu |= {"there": largest, "back": largest, "proved": largest is not None}
        self._told["counters"] = counter_increase(self._before, connection.counters())
        self._told["mtu"] = self._mtu
        return result(self._source, self._peer, code, **self._told)

    # -- the connection -------------------------------------------------------------------

    def _look(self) -> Evidence:
        try:
            line = PathConnection(self._source, self._peer, mptcp=True)
        except OSError as error:
            if error.errno in (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT):
                return Evidence(own="off")
            if isinstance(error, PermissionError):
                raise
            return self._not_connected(error)
        with line:
            begun, patience = time.monotonic(), self._deadline.left(connection.syn_patience())
            try:
                line.connect(patience)
            except OSError as error:
                line.close()  # before the kernel tries without MPTCP
                if isinstance(error, TimeoutError) and not error.errno:
                    error = TimeoutError(errno.ETIMEDOUT, f"no answer within {patience:.1f} s")
                return self._not_connected(error)
            self._told["error"] = None
            self._told["connect_ms"] = _ms(begun)
            self._told["local"] = line.local
            return self._use(line)

    def _not_connected(self, error: OSError) -> Evidence:
        """And would plain TCP be?"""
        failed = _why(error)
        self._told["error"] = error.strerror or str(error)
        if failed == "no-route":
            return Evidence(failed=failed)
        return Evidence(failed=failed, plain=self._baseline.plain(data=False).passed)

    def _use(self, line: PathConnection) -> Evidence:
        begin = line.mptcp_info()
        since = counter_increase(self._before, connection.counters())
        evidence = Evidence(offered=begin.key_received)
        self._told["checksums"] = None if begin.fallback else begin.checksums
        if begin.fallback:
            # Its first data may have undone it before it was asked; the kernel counted why.
            quiet = not since.get("MPCapableFallbackSYNACK") and not since.get(_PAUSED)
            evidence = evidence._replace(
                own="paused" if since.get(_PAUSED) else "", offered=bool(self._before) and quiet
            )
        evidence = self._greet(line, evidence)
        if evidence.peer is None or line.mptcp_info().fallback:
            if evidence.peer is not None:
                evidence = self._bulk(line, evidence, b"")
            elif evidence.acked:
                self._join(line)
            return self._finish(line, evidence)
        self._join(line)
        line.close()
        return self._alone(evidence)

    def _greet(self, line: PathConnection, evidence: Evidence) -> Evidence:
        """One line: a listener of ours answers it, any other service acknowledges it."""
        begun = time.monotonic()
        came = b""
        try:
            came = line.exchange(protocol.HELLO, bool, HELLO_TIMEOUT, self._deadline)
            self._told["first_byte_ms"] = _ms(begun) if came else None
            if came.startswith(b"{") and not whole(came):
                came += line.exchange(b"", whole, HELLO_TIMEOUT, self._deadline)
        except OSError:
            pass  # closed, reset or silent: what the socket knows says the rest
        acked = bool(came) or _acknowledged(line)
        if not acked and not self._deadline.over:
            evidence = evidence._replace(plain=self._baseline.plain(data=True).passed)
        return evidence._replace(acked=acked, peer=protocol.read(came))

    def _alone(self, evidence: Evidence) -> Evidence:
        """Full packets by a connection of their own, in its first flight.

        A subflow by another uplink joins a round trip later at the earliest, and then its MPTCP
        hides what this path loses.  So what matters is what the first subflow itself got through.
        """
        with PathConnection(self._source, self._peer, mptcp=True) as line:
            try:
                line.connect(self._deadline.left(connection.syn_patience()))
            except OSError:
                return self._finish(line, evidence._replace(big=False, kept=True))
            return self._finish(line, self._bulk(line, evidence, protocol.HELLO))

    def _bulk(self, line: PathConnection, evidence: Evidence, hello: bytes) -> Evidence:
        """Full packets there and back, and what the listener says then."""
        sent = os.urandom(BULK_BYTES)

        def body(came: bytes) -> bytes:
            return came.partition(b"\n")[2] if hello else came

        try:
            came = line.exchange(
                hello + protocol.echo(BULK_BYTES) + sent,
                lambda came: len(body(came)) >= BULK_BYTES,
                STALL_TIMEOUT,
                self._deadline,
            )
            self._told["echoed"] = len(body(came))
            evidence = evidence._replace(same=body(came) == sent)
            tcp = self._settled(line)
            told = line.exchange(protocol.REPORT, whole, HELLO_TIMEOUT, self._deadline)
            evidence = evidence._replace(peer=protocol.read(told) or evidence.peer)
        except OSError:
            return self._lost(evidence)
        if self._gone(line):
            return evidence._replace(same=evidence.same and not self._noticed())
        if tcp.unacked or (evidence.peer and evidence.peer["unacked"]):
            return self._lost(evidence)
        self._mtu["proved"] = tcp.received is not None and tcp.received >= BULK_BYTES
        return evidence._replace(big=True)

    def _lost(self, evidence: Evidence) -> Evidence:
        """Full packets do not pass by MPTCP: do they by plain TCP?"""
        if self._deadline.over:
            return evidence
        self._told["echoed"] = None  # if all of it came back, then by another uplink
        if self._noticed():
            return evidence._replace(same=False)
        plain = self._baseline.plain(data=True, bulk=True)
        same = False if plain.same is False else evidence.same
        return evidence._replace(big=False, plain_big=plain.big, same=same)

    def _noticed(self) -> bool:
        """A checksum did not fit, at either end: the kernel gave this subflow up."""
        return bool(counter_increase(self._before, connection.counters()).keys() & _NOTICED)

    def _settled(self, line: PathConnection) -> TcpInfo:
        """The first subflow when all it sent is acknowledged, or when nothing moves any more."""
        last, moved = line.tcp(), time.monotonic()
        while last.unacked or (last.received or BULK_BYTES) < BULK_BYTES:
            if self._deadline.over or time.monotonic() - moved > STALL_TIMEOUT or self._gone(line):
                break
            time.sleep(0.02)
            now = line.tcp()
            if now != last:
                last, moved = now, time.monotonic()
        return last

    def _gone(self, line: PathConnection) -> bool:
        """This path's subflow was reset, and another uplink's carries on."""
        flows = line.subflows()
        return bool(flows) and self._source.address not in {own for own, _ in flows}

    def _join(self, line: PathConnection) -> None:
        """Do others join?  The kernel's path manager does it by itself."""
        if line.mptcp_info().fallback:
            return
        expected = joinable_uplinks(self._status, self._source)
        end = time.monotonic() + self._deadline.left(JOIN_TIMEOUT)
        while True:
            found = [each for each in line.subflows() if each[0] != self._source.address]
            if len(found) >= len(expected) or time.monotonic() >= end:
                break
            time.sleep(0.02)
        self._told["joins"] = {
            "expected": expected,
            "found": [
                {"uplink": uplink_of(self._status, own), "local": own, "remote": peer}
                for own, peer in found
            ],
        }

    def _finish(self, line: PathConnection, evidence: Evidence) -> Evidence:
        end, tcp = line.mptcp_info(), line.tcp()
        kept = not end.fallback and not self._gone(line)
        self._told |= {
            "offered": evidence.offered,
            "mptcp": kept,
            "rtt_ms": tcp.rtt_ms,
            "listener": evidence.peer,
        }
        self._mtu |= {
            "there": tcp.pmtu,
            "back": evidence.peer["path_mtu"] if evidence.peer else None,
            "segment": tcp.mss,
        }
        return evidence._replace(kept=kept)


_BY_CHANCE = ("syn-dropped", "data-dropped", "ack-stripped", "data-stripped")
"""Looked at twice: a bad line may lose any packets, where plain TCP has more luck; and a kernel
that misses the right ones goes on without MPTCP."""
_NOTICED = {"MPFailTx", "MPFailRx", "DataCsumErr"}
"""Counted where a checksum did not fit."""
_PAUSED = "MPCapableSYNTXDisabled"
_REASONS = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "no-route",
    errno.EADDRNOTAVAIL: "no-route",
    errno.ENODEV: "no-route",
    errno.ENETDOWN: "no-route",
}


def _why(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, "no-answer")


def _acknowledged(line: PathConnection) -> bool:
    """Whether the other end has what was sent: its MPTCP, or TCP where it is plain."""
    told = line.mptcp_info()
    return told.unacked == 0 if not told.fallback else line.tcp().unacked == 0


def _ms(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)
