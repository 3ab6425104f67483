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

from mproutd.netlink.mptcp_info import Tcp, counted
from mproutd.pathtest import connection, protocol
from mproutd.pathtest.baseline import BULK, HELLO_STALL, STALL, Beside, whole
from mproutd.pathtest.connection import Clock, Line
from mproutd.pathtest.select import Peer, Place, others, owner
from mproutd.pathtest.verdict import VERSION, View, judge, side

JOIN = 1.0
"""Seconds that a second subflow may take."""


def result(place: Place | None, to: Peer | None, code: str, **told: Any) -> dict[str, Any]:
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
        "uplink": place.uplink if place else None,
        "device": place.device if place else None,
        "to": None if to is None else {"address": to.address, "port": to.port},
        **empty,
        "mtu": {**mtu, "proved": False},
        "joins": {"expected": [], "found": []},
        "counters": {},
        **told,
    }


class Trial:
    """One test.  run() is all."""

    def __init__(self, place: Place, peer: Peer, status: Mapping[str, Any], clock: Clock) -> None:
        self._place, self._peer, self._status, self._clock = place, peer, status, clock
        self._beside = Beside(place, peer, clock)
        self._told: dict[str, Any] = {}
        self._mtu: dict[str, Any] = {
            "device": connection.device_mtu(place.device),
            "there": None,
            "back": None,
            "segment": None,
            "proved": False,
        }
        self._before = connection.counters()

    def run(self) -> dict[str, Any]:
        code = judge(self._look())
        if code in _BY_CHANCE and not self._clock.over:
            again = judge(self._look())
            code = code if again == "no-time" else again
        if code == "big-lost":
            largest = self._beside.largest()
            self._mtu |= {"there": largest, "back": largest, "proved": largest is not None}
        self._told["counters"] = counted(self._before, connection.counters())
        self._told["mtu"] = self._mtu
        return result(self._place, self._peer, code, **self._told)

    # -- the connection -------------------------------------------------------------------

    def _look(self) -> View:
        try:
            line = Line(self._place, self._peer, mptcp=True)
        except OSError as error:
            if error.errno in (errno.ENOPROTOOPT, errno.EPROTONOSUPPORT):
                return View(own="off")
            if isinstance(error, PermissionError):
                raise
            return self._not_connected(error)
        with line:
            begun, patience = time.monotonic(), self._clock.left(connection.syn_patience())
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

    def _not_connected(self, error: OSError) -> View:
        """And would plain TCP be?"""
        failed = _why(error)
        self._told["error"] = error.strerror or str(error)
        if failed == "no-route":
            return View(failed=failed)
        return View(failed=failed, plain=self._beside.plain(data=False).passed)

    def _use(self, line: Line) -> View:
        begin = line.multipath()
        since = counted(self._before, connection.counters())
        view = View(offered=begin.key_received)
        self._told["checksums"] = None if begin.fallback else begin.checksums
        if begin.fallback:
            # Its first data may have undone it before it was asked; the kernel counted why.
            quiet = not since.get("MPCapableFallbackSYNACK") and not since.get(_PAUSED)
            view = view._replace(
                own="paused" if since.get(_PAUSED) else "", offered=bool(self._before) and quiet
            )
        view = self._greet(line, view)
        if view.peer is None or line.multipath().fallback:
            if view.peer is not None:
                view = self._bulk(line, view, b"")
            elif view.acked:
                self._join(line)
            return self._finish(line, view)
        self._join(line)
        line.close()
        return self._alone(view)

    def _greet(self, line: Line, view: View) -> View:
        """One line: a listener of ours answers it, any other service acknowledges it."""
        begun = time.monotonic()
        came = b""
        try:
            came = line.exchange(protocol.HELLO, bool, HELLO_STALL, self._clock)
            self._told["first_byte_ms"] = _ms(begun) if came else None
            if came.startswith(b"{") and not whole(came):
                came += line.exchange(b"", whole, HELLO_STALL, self._clock)
        except OSError:
            pass  # closed, reset or silent: what the socket knows says the rest
        acked = bool(came) or _acknowledged(line)
        if not acked and not self._clock.over:
            view = view._replace(plain=self._beside.plain(data=True).passed)
        return view._replace(acked=acked, peer=protocol.read(came))

    def _alone(self, view: View) -> View:
        """Full packets by a connection of their own, in its first flight.

        A subflow by another uplink joins a round trip later at the earliest, and then its MPTCP
        hides what this path loses.  So what matters is what the first subflow itself got through.
        """
        with Line(self._place, self._peer, mptcp=True) as line:
            try:
                line.connect(self._clock.left(connection.syn_patience()))
            except OSError:
                return self._finish(line, view._replace(big=False, kept=True))
            return self._finish(line, self._bulk(line, view, protocol.HELLO))

    def _bulk(self, line: Line, view: View, hello: bytes) -> View:
        """Full packets there and back, and what the listener says then."""
        sent = os.urandom(BULK)

        def body(came: bytes) -> bytes:
            return came.partition(b"\n")[2] if hello else came

        try:
            came = line.exchange(
                hello + protocol.echo(BULK) + sent,
                lambda came: len(body(came)) >= BULK,
                STALL,
                self._clock,
            )
            self._told["echoed"] = len(body(came))
            view = view._replace(same=body(came) == sent)
            tcp = self._settled(line)
            told = line.exchange(protocol.TELL, whole, HELLO_STALL, self._clock)
            view = view._replace(peer=protocol.read(told) or view.peer)
        except OSError:
            return self._lost(view)
        if self._gone(line):
            return view._replace(same=view.same and not self._noticed())
        if tcp.unacked or (view.peer and view.peer["unacked"]):
            return self._lost(view)
        self._mtu["proved"] = tcp.received is not None and tcp.received >= BULK
        return view._replace(big=True)

    def _lost(self, view: View) -> View:
        """Full packets do not pass by MPTCP: do they by plain TCP?"""
        if self._clock.over:
            return view
        self._told["echoed"] = None  # if all of it came back, then by another uplink
        if self._noticed():
            return view._replace(same=False)
        plain = self._beside.plain(data=True, bulk=True)
        same = False if plain.same is False else view.same
        return view._replace(big=False, plain_big=plain.big, same=same)

    def _noticed(self) -> bool:
        """A checksum did not fit, at either end: the kernel gave this subflow up."""
        return bool(counted(self._before, connection.counters()).keys() & _NOTICED)

    def _settled(self, line: Line) -> Tcp:
        """The first subflow when all it sent is acknowledged, or when nothing moves any more."""
        last, moved = line.tcp(), time.monotonic()
        while last.unacked or (last.received or BULK) < BULK:
            if self._clock.over or time.monotonic() - moved > STALL or self._gone(line):
                break
            time.sleep(0.02)
            now = line.tcp()
            if now != last:
                last, moved = now, time.monotonic()
        return last

    def _gone(self, line: Line) -> bool:
        """This path's subflow was reset, and another uplink's carries on."""
        flows = line.subflows()
        return bool(flows) and self._place.address not in {own for own, _ in flows}

    def _join(self, line: Line) -> None:
        """Do others join?  The kernel's path manager does it by itself."""
        if line.multipath().fallback:
            return
        expected = others(self._status, self._place)
        end = time.monotonic() + self._clock.left(JOIN)
        while True:
            found = [each for each in line.subflows() if each[0] != self._place.address]
            if len(found) >= len(expected) or time.monotonic() >= end:
                break
            time.sleep(0.02)
        self._told["joins"] = {
            "expected": expected,
            "found": [
                {"uplink": owner(self._status, own), "local": own, "remote": peer}
                for own, peer in found
            ],
        }

    def _finish(self, line: Line, view: View) -> View:
        end, tcp = line.multipath(), line.tcp()
        kept = not end.fallback and not self._gone(line)
        self._told |= {
            "offered": view.offered,
            "mptcp": kept,
            "rtt_ms": tcp.rtt_ms,
            "listener": view.peer,
        }
        self._mtu |= {
            "there": tcp.pmtu,
            "back": view.peer["path_mtu"] if view.peer else None,
            "segment": tcp.mss,
        }
        return view._replace(kept=kept)


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


def _acknowledged(line: Line) -> bool:
    """Whether the other end has what was sent: its MPTCP, or TCP where it is plain."""
    told = line.multipath()
    return told.unacked == 0 if not told.fallback else line.tcp().unacked == 0


def _ms(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)
