"""Brings failed subflows back: hears how they end, and has their endpoint tried again.

The kernel uses an endpoint up for a connection whose subflow failed.  Of what failed before the
start, or while events were lost, nobody tells: so connections are also looked at, now and then,
and what one misses there gets one try in each way.  What must hold: how often an endpoint is
closed for that is bounded (planning/revival.py), it is closed for nobody whom it cannot help,
and for nobody when another connection needs it (planning/standing.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from mproutd import log
from mproutd.model import FULLMESH, Operation
from mproutd.netlink import mptcp_pm
from mproutd.netlink.bpf import subflow_event_filter
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.path_manager import EndpointDeleter, PathManager
from mproutd.planning.endpoints import is_client_endpoint
from mproutd.planning.ownership import Ownership
from mproutd.reconciler import Reconciler
from mproutd.services.base import Publish
from mproutd.subflows.connections import ConnectionSnapshot, off_uplink_addresses
from mproutd.subflows.policy import INITIAL_BACKOFF, RetryPolicy

INITIAL_SCAN_DELAY, SCAN_INTERVAL = 1.0, 60.0
"""Seconds until connections are looked at: from the start or lost events, and between looks."""
SCAN_TIME_SHARE, QUERY_TIME_SHARE = 0.001, 0.01
"""Of the time, what looking may take at most, and asking who began what failed."""


class SubflowRetrier:
    """The ends of subflows, as the kernel's path manager tells them; readable by fileno()."""

    def __init__(
        self,
        reconciler: Reconciler,
        path_manager: PathManager,
        publish: Publish,
        unexplained: Callable[[], None],
    ) -> None:
        """OSError when there are no events.  `unexplained`: a subflow of ours is gone without a
        reason; look whether its endpoint is."""
        self._reconciler, self._path_manager, self._publish = reconciler, path_manager, publish
        self._unexplained = unexplained
        self._events = path_manager.events()
        self._all = False
        """Whether the events of subflows that join are heard too."""
        self._events.attach(subflow_event_filter(everything=self._all))
        self._revival = RetryPolicy(time.monotonic)
        self._look_at, self._soon = time.monotonic() + INITIAL_SCAN_DELAY, True
        """When to look; if not soon, then whenever the loop is awake after that."""
        self._ask_at = 0.0
        self._tried: set[tuple[int, str]] = set()
        """(token, address) that looking has brought a try."""

    def fileno(self) -> int:
        return self._events.fileno()

    def due(self) -> float | None:
        """Seconds until turn() has something to do; None for never."""
        if not self._reconciler.last:
            return None
        now = time.monotonic()
        again = self._revival.delay()
        waits = [] if again is None else [max(again, self._ask_at - now)]
        if self._soon:
            waits.append(max(0.0, self._look_at - now))
        return min(waits, default=None)

    def on_events(self) -> None:
        """Read what has ended.  While something waits to come back, what joins is heard too."""
        messages = self._events.read()
        if messages is None:
            self._revival.on_events_lost()
            self._look_soon(INITIAL_SCAN_DELAY)
        for message in messages or ():
            event = mptcp_pm.event(message.body)
            if self._revival.on_event(event) and self._is_wanted(event.source):
                self._unexplained()
                self._look_soon(INITIAL_BACKOFF)
        self._heed()

    def _heed(self) -> None:
        """Let the kernel send what is of use now."""
        if bool(self._revival.missing_tokens()) != self._all:
            self._all = not self._all
            self._events.attach(subflow_event_filter(everything=self._all))

    def _look_soon(self, wait: float) -> None:
        """Look at the connections so many seconds from now, unless it is done sooner anyway."""
        at = max(time.monotonic() + wait, self._ask_at)
        if not self._soon or at < self._look_at:
            self._look_at, self._soon = at, True

    def _look(self) -> None:
        """Which connections miss a subflow by an endpoint that is there."""
        last = self._reconciler.last
        wanted = last.plan.endpoints if last else ()
        addresses = [each.address for each in wanted if is_client_endpoint(each.flags)]
        standing, took = self._ask(addresses) if addresses else (ConnectionSnapshot((), ()), 0.0)
        missing = standing.missing(addresses, self._inside())
        self._look_at, self._soon = (
            time.monotonic() + max(SCAN_INTERVAL, took / SCAN_TIME_SHARE),
            False,
        )
        for token, address in missing - self._tried:
            self._revival.add_missing(address, token)
        self._tried = missing

    def _ask(self, addresses: Collection[str]) -> tuple[ConnectionSnapshot, float]:
        """What stands, and how long it took to ask for it, in seconds."""
        began = time.monotonic()
        standing = ConnectionSnapshot(*self._reconciler.kernel.subflows(addresses))
        ended = time.monotonic()
        self._ask_at = ended + (ended - began) / QUERY_TIME_SHARE
        return standing, ended - began

    def _inside(self) -> set[str]:
        """The addresses on devices that are no uplinks."""
        last = self._reconciler.last
        assert last  # or it is not the turn of anything
        uplinks = {uplink.link.index for uplink in last.plan.uplinks if uplink.link}
        return off_uplink_addresses(
            ((each.link, each.address) for each in last.snapshot.addresses), uplinks
        )

    def _is_wanted(self, address: str) -> bool:
        last = self._reconciler.last
        endpoints = last.plan.endpoints if last else ()
        return any(address == endpoint.address for endpoint in endpoints)

    def turn(self, deleter: EndpointDeleter) -> None:
        """Close the endpoints whose subflows failed; the next pass opens them again."""
        if deleter.busy or not self._reconciler.last:
            return
        try:
            self._turn(deleter)
        except (OSError, DecodeError) as error:
            text = f"failed subflows wait for {INITIAL_SCAN_DELAY:g} s: {error}"
            self._publish("decision", log.WARNING, text)
            self._ask_at = time.monotonic() + INITIAL_SCAN_DELAY
            self._look_at = max(self._look_at, self._ask_at)
        self._heed()

    def _turn(self, deleter: EndpointDeleter) -> None:
        if time.monotonic() >= self._look_at:
            self._look()
        if self._revival.delay() == 0.0 and time.monotonic() >= self._ask_at:
            standing, _ = self._ask(self._revival.missing_counts())
            gone = standing.ended(self._revival.missing_tokens())
            self._revival.discard(gone | standing.beyond_help(self._inside()))
            self._try_again(deleter, standing)

    def _try_again(self, deleter: EndpointDeleter, standing: ConnectionSnapshot) -> None:
        ownership = Ownership(self._reconciler.config, self._reconciler.state_file.state)
        ours = {
            endpoint.address: endpoint
            for endpoint in self._path_manager.read(full=False).endpoints
            if ownership.owns_endpoint(endpoint) and is_client_endpoint(endpoint.flags)
        }
        gently = standing.connections is not None
        again = self._revival.next_retry(ours, standing.sole_paths(), toggle_fullmesh=gently)
        if again is None:
            return
        endpoint = ours[again.address]
        text = f"subflows from {endpoint.address} failed; opening it again"
        self._publish("decision", log.INFO, text)
        if again.toggle_fullmesh:
            other = endpoint._replace(flags=endpoint.flags ^ FULLMESH)
            deleter.start([Operation("change", other), Operation("change", endpoint)])
        else:
            deleter.start([Operation("delete", endpoint)])
            self._reconciler.removals.expect_removal([endpoint])

    def close(self) -> None:
        self._events.close()
