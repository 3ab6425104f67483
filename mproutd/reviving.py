"""Brings failed subflows back: hears how they end, and opens their endpoint anew.

The kernel uses an endpoint up for a connection whose subflow failed.  Of what failed before the
start, or while events were lost, nobody tells: so connections are also looked at, now and then,
and what one misses there gets one try.  What must hold: how often
an endpoint is closed for that is bounded (planning/revival.py), none whose closing would end
a plain TCP connection is, and none for a connection that the peer began.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mproutd import log
from mproutd.keeper import Keeper
from mproutd.model import Operation
from mproutd.netlink import pm
from mproutd.netlink.eventfilter import subflow_losses
from mproutd.netlink.mptcp import Closer, PathManager
from mproutd.parts.part import Tell
from mproutd.planning.endpoints import is_ours, joins
from mproutd.planning.revival import Revival

FIRST_LOOK, LOOK = 1.0, 60.0
"""Seconds until connections are looked at: from the start or lost events, and between looks."""
SHARE, ASK_SHARE = 0.001, 0.01
"""Of the time, what looking may take at most, and asking who began what failed."""


class Reviving:
    """The ends of subflows, as the kernel's path manager tells them; readable by fileno()."""

    def __init__(
        self,
        keeper: Keeper,
        path_manager: PathManager,
        tell: Tell,
        unexplained: Callable[[], None],
    ) -> None:
        """OSError when there are no events.  `unexplained`: a subflow of ours is gone without a
        reason; look whether its endpoint is."""
        self._keeper, self._path_manager, self._tell = keeper, path_manager, tell
        self._unexplained = unexplained
        self._events = path_manager.events()
        self._all = False
        """Whether the events of subflows that join are heard too."""
        self._events.attach(subflow_losses(everything=self._all))
        self._revival = Revival(time.monotonic)
        self._look_at, self._soon = time.monotonic() + FIRST_LOOK, True
        """When to look; if not soon, then whenever the loop is awake after that."""
        self._ask_at = 0.0
        self._tried: set[tuple[int, str]] = set()
        """(token, address) that looking has brought a try."""

    def fileno(self) -> int:
        return self._events.fileno()

    def due(self) -> float | None:
        """Seconds until turn() has something to do; None for never."""
        now = time.monotonic()
        again = self._revival.due()
        waits = [] if again is None else [max(again, self._ask_at - now)]
        if self._soon:
            waits.append(max(0.0, self._look_at - now))
        return min(waits, default=None)

    def hear(self) -> None:
        """Read what has ended.  While something waits to come back, what joins is heard too."""
        messages = self._events.read()
        if messages is None:
            self._revival.lost()
            self._look_at, self._soon = time.monotonic() + FIRST_LOOK, True
        for message in messages or ():
            event = pm.event(message.body)
            if self._revival.hear(event) and self._is_wanted(event.source):
                self._unexplained()
        self._heed()

    def _heed(self) -> None:
        """Let the kernel send what is of use now."""
        if bool(self._revival.missing()) != self._all:
            self._all = not self._all
            self._events.attach(subflow_losses(everything=self._all))

    def _look(self) -> None:
        """Which connections miss a subflow by an endpoint that is there."""
        last = self._keeper.last
        wanted = last.desired.endpoints if last else ()
        addresses = [each.address for each in wanted if joins(each.flags)]
        began = time.monotonic()
        missing = self._keeper.kernel.missing(addresses) if addresses else set()
        ended = time.monotonic()
        self._look_at, self._soon = ended + max(LOOK, (ended - began) / SHARE), False
        for token, address in missing - self._tried:
            self._revival.seen(address, token)
        self._tried = missing

    def _leave_theirs(self) -> None:
        """Forget the failures of connections that the peer began."""
        began = time.monotonic()
        here = self._keeper.kernel.began_here(self._revival.waiting())
        ended = time.monotonic()
        self._ask_at = ended + (ended - began) / ASK_SHARE
        self._revival.drop({token for token, ours in here.items() if not ours})

    def _is_wanted(self, address: str) -> bool:
        last = self._keeper.last
        endpoints = last.desired.endpoints if last else ()
        return any(address == endpoint.address for endpoint in endpoints)

    def turn(self, closer: Closer) -> None:
        """Close the endpoints whose subflows failed; the next pass opens them again."""
        if closer.busy or not self._keeper.last:
            return
        if time.monotonic() >= self._look_at:
            self._look()
        if self._revival.due() == 0.0 and time.monotonic() >= self._ask_at:
            self._leave_theirs()
            if self._revival.due() == 0.0:
                self._open_again(closer)
        self._heed()

    def _open_again(self, closer: Closer) -> None:
        memory = self._keeper.state.memory
        ours = {
            endpoint.address: endpoint
            for endpoint in self._path_manager.read(full=False).endpoints
            if is_ours(endpoint, memory) and joins(endpoint.flags)
        }
        again = [ours[address] for address in self._revival.take(ours)]
        if again:
            found_there = self._keeper.kernel.connections([each.address for each in again])
            plain = {each.address for each in found_there if each.open and each.plain}
            again = [endpoint for endpoint in again if endpoint.address not in plain]
        for endpoint in again:
            text = f"subflows from {endpoint.address} failed; opening it again"
            self._tell("decision", log.INFO, text)
        if again:
            closer.start([Operation("delete", endpoint) for endpoint in again])
            self._keeper.restraint.expect(again)

    def close(self) -> None:
        self._events.close()
