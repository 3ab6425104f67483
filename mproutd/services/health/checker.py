"""Health checks in the daemon: which lines are asked, and what the passes hear of it.

A line is asked while it has carrier, an address and a gateway, used or not; without one, its
verdict stands and nothing is counted.  What must hold: before the first pass the verdicts are
those that the memory keeps, so that a restart changes nothing; and each pass finds a verdict
there before it plans, so that not even one lets a line in that has to answer first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING, Any

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.health import HealthConfig
from mproutd.eventloop import Worker
from mproutd.model import FAMILIES, FAMILY_NAMES
from mproutd.planning.health import Failed, initially_offline
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts, ObservedUplink, Path
from mproutd.services.base import Service, ServiceContext
from mproutd.services.health.probe import ProbePath, Prober
from mproutd.services.health.resolver import NameCache
from mproutd.services.health.timers import Timer, Timers
from mproutd.services.health.tracker import Tracker, TrackerContext

if TYPE_CHECKING:
    from mproutd.status.types import CheckStatus, Family, Status

FIRST_ROUND_SPREAD = 1.0
"""Seconds over which the first rounds of all lines are spread."""
VERDICT_SHARE_TIMEOUT = 60.0
"""Seconds after which a family without hosts of its own no longer goes by the other's verdict,
where that one has had no way to ask all the while, and this one has a way."""
GOLDEN_RATIO = 0.618034
"""Multiples of it, without their whole part, lie far from each other however many they are."""


class HealthChecker(Service):
    """Every line that is checked."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._uplinks: dict[str, UplinkConfig] = {}
        self._trackers: dict[tuple[str, int], Tracker] = {}
        self._timers = Timers(context.clock)
        self._worker = Worker(context.loop)
        self._tools = TrackerContext(
            context.clock,
            self._timers,
            NameCache(self._worker, context.clock),
            self._asker,
            self._changed,
        )
        self._failed: list[tuple[str, int]] = []
        """Those that were found dead, in that order."""
        self._alone: dict[tuple[str, int], Timer] = {}
        """Who cannot be asked while the other family could be used; done: who no longer speaks for
        that."""
        self._begun = False
        self._known: Collection[str] = ()
        """The uplinks that the passes remember."""
        self._news: list[Tracker] = []
        self._contexts: dict[bool, Any] = {}
        """For HTTPS, with and without verifying; or why there is none."""

    def on_configuration(self, config: Config) -> None:
        self._uplinks = {uplink.name: uplink for uplink in config.uplinks if uplink.health}
        wanted = {
            (uplink.name, family): uplink.health
            for uplink in self._uplinks.values()
            if uplink.health
            for family in FAMILIES
            if uplink.health.targets(family)
        }
        stood = self._verdicts()
        for key in self._trackers.keys() - wanted.keys():
            self._trackers.pop(key).move(None, "", 0.0)
            self._leave(key, alone=False)
            self._failed = [each for each in self._failed if each != key]
        for key, asked in wanted.items():
            if key in self._trackers:
                self._trackers[key].change(asked)
            else:
                self._trackers[key] = Tracker(self._tools, *key, asked)
                if key in stood:
                    self._doubt(key)
        if self._begun:
            for key in initially_offline(config, self._known):
                if key in self._trackers:
                    self._doubt(key)

    def on_pass(self, outcome: Outcome) -> None:
        if not self._begun:
            self._begun = True
            for key in outcome.plan.state.failed:
                if key in self._trackers:
                    self._doubt(key)
        self._known = outcome.plan.state.slots
        paths = {
            (uplink.config.name, path.family): (uplink, path)
            for uplink in outcome.plan.uplinks
            for path in uplink.paths
        }
        for place, (key, tracker) in enumerate(self._trackers.items()):
            way, gateway = _way(*paths[key]) if key in paths else (None, "")
            if way is None and tracker.hysteresis.asked.initial_state == "offline":
                self._doubt(key)
            sister = paths.get((key[0], _other(key[1])))
            self._leave(key, alone=way is None and sister is not None and bool(_way(*sister)[0]))
            # One that is out is asked at once, since the sooner it is back the better.
            wait = (
                0.0
                if tracker.hysteresis.failed
                else place * GOLDEN_RATIO % 1.0 * FIRST_ROUND_SPREAD
            )
            tracker.move(way, gateway, min(wait, tracker.hysteresis.asked.interval))
        news, self._news = self._news, []
        for tracker in news:
            self._tell(tracker, paths.get((tracker.uplink, tracker.family)))

    def _leave(self, key: tuple[str, int], alone: bool) -> None:
        """Let the other family go its own way, if it stays `alone`."""
        if not alone and key in self._alone:
            self._alone.pop(key).cancel()
        elif alone and key not in self._alone:
            self._alone[key] = self._timers.later(VERDICT_SHARE_TIMEOUT, self._context.request_pass)

    def _doubt(self, key: tuple[str, int]) -> None:
        """It has to prove itself before it is used."""
        if not self._trackers[key].hysteresis.failed:
            self._trackers[key].hysteresis.failed = True
            self._failed.append(key)

    def add_facts(self, facts: Facts) -> Facts:
        return facts._replace(failed=self._verdicts()) if self._begun else facts

    def _verdicts(self) -> Failed:
        """A family without hosts of its own goes by the other's, asked or not just now."""
        failed = []
        for key in self._failed:
            failed.append(key)
            sister, alone = (key[0], _other(key[1])), self._alone.get(key)
            if sister not in self._trackers and (alone is None or alone.live):
                failed.append(sister)
        return tuple(failed)

    def due(self) -> float | None:
        return self._timers.due()

    def turn(self) -> None:
        self._timers.turn()

    def close(self) -> None:
        for tracker in self._trackers.values():
            tracker.move(None, "", 0.0)
        self._worker.close()

    # -- verdicts -------------------------------------------------------------------------

    def _changed(self, tracker: Tracker) -> None:
        key = tracker.uplink, tracker.family
        self._failed = [each for each in self._failed if each != key]
        if tracker.hysteresis.failed:
            self._failed.append(key)
        self._news.append(tracker)
        self._context.request_pass()

    def _tell(self, tracker: Tracker, seen: tuple[ObservedUplink, Path] | None) -> None:
        hysteresis, family = tracker.hysteresis, FAMILY_NAMES[tracker.family]
        device = self._uplinks[tracker.uplink].device if tracker.uplink in self._uplinks else ""
        if not hysteresis.failed:
            text = f"{tracker.uplink} works again ({family}): {hysteresis.why}"
            self._context.publish("decision", log.INFO, text, tracker.uplink, device)
            return
        text = f"{tracker.uplink} failed ({family}): {hysteresis.why}"
        if hysteresis.wait(self._context.clock()):
            wait = hysteresis.wait(self._context.clock())
            text += f"; out for {wait:.0f} s at least, since it did not stay the last time"
        if seen and seen[1].usable:
            text += "; it stays in use, since no other line is usable there"
        self._context.publish("decision", log.WARNING, text, tracker.uplink, device)

    # -- the status -----------------------------------------------------------------------

    def add_to_status(self, status: Status) -> None:
        for uplink in status["uplinks"]:
            usable = {each["family"]: each["usable"] for each in uplink["families"]}
            uplink["health"] = [
                self._line(tracker, usable)
                for key, tracker in self._trackers.items()
                if key[0] == uplink["name"]
            ] or None

    def _line(self, tracker: Tracker, usable: Mapping[Family, bool]) -> CheckStatus:
        hysteresis, now = tracker.hysteresis, self._context.clock()
        family: Family = "ipv6" if tracker.family == AF_INET6 else "ipv4"
        return {
            "family": family,
            "method": hysteresis.asked.track_method,  # type: ignore[typeddict-item]
            "failed": hysteresis.failed,
            "since": tracker.since,
            "running": tracker.running,
            "in_use": hysteresis.failed and usable.get(family, False),
            "good_rounds": hysteresis.good,
            "bad_rounds": hysteresis.bad,
            "down": hysteresis.asked.down,
            "up": hysteresis.asked.up,
            "flaps": hysteresis.flaps,
            "hold": round(hysteresis.wait(now), 1) if hysteresis.failed else 0.0,
            "summary": hysteresis.why or None,
            "error": tracker.error or None,
            "hosts": [
                {
                    "host": name,
                    "address": host.address or None,
                    "reachable": host.answers,
                    "error": host.fault or None,
                    "sent": host.sent,
                    "replies": host.answered,
                    "loss": round(hysteresis.quality(name).loss, 1),
                    "latency": hysteresis.quality(name).latency,
                }
                for name, host in tracker.hosts.items()
            ],
        }

    # -- how ------------------------------------------------------------------------------

    def _asker(self, asked: HealthConfig, way: ProbePath) -> Prober:
        """One method by one line; imported only where it is asked for."""
        if asked.track_method == "ping":
            from mproutd.services.health.icmp import IcmpProber

            return IcmpProber(self._context.loop, way, asked.size, asked.max_ttl)
        from mproutd.services.health.tcp import TcpProber, Web

        web = None
        if asked.track_method == "http":
            web = Web(asked.track_path, asked.track_status)
        elif asked.track_method == "https":
            verify = asked.track_verify
            self._prepare(verify)
            web = Web(asked.track_path, asked.track_status, lambda: self._contexts[verify])
        return TcpProber(self._context.loop, way, asked.port, asked.max_ttl, web)

    def _prepare(self, verify: bool) -> None:
        """Reading the certificates of all authorities takes long on a router: in the thread."""
        if verify not in self._contexts:
            self._contexts[verify] = "certificates are being read"
            self._worker.submit(
                lambda: _context(verify),
                lambda made, error: self._contexts.update({verify: made or error}),
            )


def _context(verify: bool) -> Any:
    import ssl

    made = ssl.create_default_context()
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def _other(family: int) -> int:
    return AF_INET6 if family == AF_INET else AF_INET


def _way(uplink: ObservedUplink, path: Path) -> tuple[ProbePath | None, str]:
    """By which line this path is asked, and its gateway; none where it cannot be used anyway."""
    link = uplink.link
    if link is None or path.gateway is None or not path.eligible:
        return None, ""
    if not path.usable and path.reason != "check-failed":
        return None, ""
    return ProbePath(
        path.family, link.name, link.index, path.eligible[0].address
    ), path.gateway.address
