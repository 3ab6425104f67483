"""Health checks: which paths are probed, and the verdicts that passes get from them.

A path is probed while it has carrier, an address and a gateway, whether it is used or not;
without one of these its verdict stays and nothing is counted.

Invariants: before the first pass, the verdicts are those of the state file, so that a restart
changes nothing; a verdict is there before the pass that needs it, so that an uplink that has to
prove itself first (`initial_state offline`) is not used for even one pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import TYPE_CHECKING, Any

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.health import HealthConfig
from mproutd.eventloop import Timer, Worker
from mproutd.model import FAMILIES, FAMILY_NAMES
from mproutd.planning.health import Failed, initially_offline
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts, ObservedUplink, Path
from mproutd.services.base import Service, ServiceContext
from mproutd.services.health.probe import ProbePath, Prober
from mproutd.services.health.resolver import NameCache
from mproutd.services.health.tracker import Tracker, TrackerContext
from mproutd.status.problems import add_problems, problem

if TYPE_CHECKING:
    from mproutd.status.types import CheckStatus, Family, Status, UplinkStatus

Key = tuple[str, int]
"""(uplink, family)"""

FIRST_ROUND_SPREAD = 1.0
"""Seconds over which the first rounds of all paths are spread."""
VERDICT_SHARE_TIMEOUT = 60.0
"""Seconds until a family without hosts of its own no longer shares the other's verdict, when only
the other one has no path to probe."""
STANDBY_MODES = ("backup", "handover", "off", "standby")
GOLDEN_RATIO = 0.618034
"""The fractions of its multiples are far apart, however many there are."""


class HealthChecker(Service):
    """The checks of all uplinks."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._uplinks: dict[str, UplinkConfig] = {}
        """Those with a check."""
        self._trackers: dict[Key, Tracker] = {}
        self._worker = Worker(context.loop)
        self._tracker_context = TrackerContext(
            context.loop,
            NameCache(self._worker, context.clock),
            self._make_prober,
            self._on_change,
        )
        self._failed: list[Key] = []
        """In the order in which they failed."""
        self._share_timers: dict[Key, Timer] = {}
        """Trackers of which only the other family has a path; when the timer has expired, they no
        longer share their verdict."""
        self._had_pass = False
        self._known: Collection[str] = ()
        """The uplinks in the state file."""
        self._changed: list[Tracker] = []
        """To report after the next pass."""
        self._tls_contexts: dict[bool, Any] = {}
        """With and without verification: a context, or why there is none yet."""

    def on_configuration(self, config: Config) -> None:
        self._uplinks = {uplink.name: uplink for uplink in config.uplinks if uplink.health}
        wanted = {
            (uplink.name, family): uplink.health
            for uplink in self._uplinks.values()
            if uplink.health
            for family in FAMILIES
            if uplink.health.targets(family)
        }
        failed_before = self._verdicts()
        for key in self._trackers.keys() - wanted.keys():
            self._trackers.pop(key).set_path(None, "", 0.0)
            self._set_sibling_only(key, sibling_only=False)
            self._failed = [failed for failed in self._failed if failed != key]
        for key, options in wanted.items():
            if key in self._trackers:
                self._trackers[key].set_options(options)
            else:
                self._trackers[key] = Tracker(self._tracker_context, *key, options)
                if key in failed_before:
                    self._set_failed(key)
        if self._had_pass:
            for key in initially_offline(config, self._known):
                if key in self._trackers:
                    self._set_failed(key)

    def on_pass(self, outcome: Outcome) -> None:
        if not self._had_pass:
            self._had_pass = True
            for key in outcome.plan.state.failed:
                if key in self._trackers:
                    self._set_failed(key)
        self._known = outcome.plan.state.slots
        observed = {
            (uplink.config.name, path.family): (uplink, path)
            for uplink in outcome.plan.uplinks
            for path in uplink.paths
        }
        idle_metered = _idle_metered(outcome.plan.uplinks)
        for number, (key, tracker) in enumerate(self._trackers.items()):
            path, gateway = _probe_path(*observed[key]) if key in observed else (None, "")
            hysteresis = tracker.hysteresis
            if path is None and hysteresis.options.initial_state == "offline":
                self._set_failed(key)
            sibling = observed.get((key[0], _other_family(key[1])))
            sibling_path = _probe_path(*sibling)[0] if sibling else None
            self._set_sibling_only(key, sibling_only=path is None and sibling_path is not None)
            # A failed path is probed at once, since it should be back as soon as possible.
            delay = number * GOLDEN_RATIO % 1.0 * FIRST_ROUND_SPREAD
            delay = 0.0 if hysteresis.failed else min(delay, hysteresis.options.interval)
            tracker.set_path(path, gateway, delay)
            tracker.set_rare(key[0] in idle_metered)
        changed, self._changed = self._changed, []
        for tracker in changed:
            self._report(tracker, observed.get((tracker.uplink, tracker.family)))

    def _set_sibling_only(self, key: Key, sibling_only: bool) -> None:
        """Whether only the other family of its uplink has a path to probe."""
        if not sibling_only and key in self._share_timers:
            self._share_timers.pop(key).cancel()
        elif sibling_only and key not in self._share_timers:
            self._share_timers[key] = self._context.loop.call_later(
                VERDICT_SHARE_TIMEOUT, self._context.request_pass
            )

    def _set_failed(self, key: Key) -> None:
        """It has to prove itself before it is used."""
        if not self._trackers[key].hysteresis.failed:
            self._trackers[key].hysteresis.failed = True
            self._failed.append(key)

    # -- verdicts -------------------------------------------------------------------------

    def add_facts(self, facts: Facts) -> Facts:
        return facts._replace(failed=self._verdicts()) if self._had_pass else facts

    def _verdicts(self) -> Failed:
        """What has failed; a family without hosts of its own shares the other's verdict."""
        failed = []
        for key in self._failed:
            failed.append(key)
            sibling, timer = (key[0], _other_family(key[1])), self._share_timers.get(key)
            if sibling not in self._trackers and (timer is None or timer.active):
                failed.append(sibling)
        return tuple(failed)

    def _on_change(self, tracker: Tracker) -> None:
        key = tracker.uplink, tracker.family
        self._failed = [failed for failed in self._failed if failed != key]
        if tracker.hysteresis.failed:
            self._failed.append(key)
        self._changed.append(tracker)
        self._context.request_pass()

    def _report(self, tracker: Tracker, observed: tuple[ObservedUplink, Path] | None) -> None:
        hysteresis, family = tracker.hysteresis, FAMILY_NAMES[tracker.family]
        uplink = self._uplinks.get(tracker.uplink)
        device = uplink.device if uplink else ""
        check = f"{tracker.uplink}: health check"
        if not hysteresis.failed:
            text = f"{check} recovered ({family}): {hysteresis.summary}"
            self._context.publish("decision", log.INFO, text, tracker.uplink, device)
            return
        text = f"{check} failed ({family}): {hysteresis.summary}"
        hold = hysteresis.hold_remaining(self._context.clock())
        if hold:
            text += f"; held down for {hold:.0f} s because it failed again soon after a recovery"
        if observed and observed[1].usable:
            text += "; it stays in use because no other uplink is usable"
        self._context.publish("decision", log.WARNING, text, tracker.uplink, device)

    # -- the status -----------------------------------------------------------------------

    def add_to_status(self, status: Status) -> None:
        for uplink in status["uplinks"]:
            usable = {family["family"]: family["usable"] for family in uplink["families"]}
            uplink["health"] = [
                self._check_status(tracker, usable)
                for key, tracker in self._trackers.items()
                if key[0] == uplink["name"]
            ] or None
            if reason := _why_idle(uplink):
                idle = problem("check-idle", uplink=uplink["name"], reason=reason)
                add_problems(status, [idle])

    def _check_status(self, tracker: Tracker, usable: Mapping[Family, bool]) -> CheckStatus:
        hysteresis, now = tracker.hysteresis, self._context.clock()
        family: Family = "ipv6" if tracker.family == AF_INET6 else "ipv4"
        return {
            "family": family,
            "method": hysteresis.options.track_method,  # type: ignore[typeddict-item]
            "failed": hysteresis.failed,
            "since": tracker.since,
            "running": tracker.running,
            "in_use": hysteresis.failed and usable.get(family, False),
            "good_rounds": hysteresis.good_rounds,
            "bad_rounds": hysteresis.bad_rounds,
            "down": hysteresis.options.down,
            "up": hysteresis.options.up,
            "flaps": hysteresis.flaps,
            "hold": round(hysteresis.hold_remaining(now), 1) if hysteresis.failed else 0.0,
            "summary": hysteresis.summary or None,
            "error": tracker.error or None,
            "hosts": [
                {
                    "host": name,
                    "address": host.address or None,
                    "reachable": host.reachable,
                    "error": host.error or None,
                    "sent": host.sent,
                    "replies": host.replies,
                    "loss": round(hysteresis.quality(name).loss, 1),
                    "latency": hysteresis.quality(name).latency,
                }
                for name, host in tracker.hosts.items()
            ],
        }

    # -- probers --------------------------------------------------------------------------

    def _make_prober(self, options: HealthConfig, path: ProbePath) -> Prober:
        """Imports the method's module.  OSError."""
        if options.track_method == "ping":
            from mproutd.services.health.icmp import IcmpProber

            return IcmpProber(self._context.loop, path, options.size, options.max_ttl)
        if options.track_method == "dns":
            from mproutd.services.health.dns import DnsProber

            name = options.track_name
            return DnsProber(self._context.loop, path, options.port, options.max_ttl, name)
        from mproutd.services.health.tcp import HttpCheck, TcpProber

        http = None
        if options.track_method == "http":
            http = HttpCheck(options.track_path, options.track_status)
        elif options.track_method == "https":
            verify = options.track_verify
            self._load_certificates(verify)
            http = HttpCheck(
                options.track_path, options.track_status, lambda: self._tls_contexts[verify]
            )
        return TcpProber(self._context.loop, path, options.port, options.max_ttl, http)

    def _load_certificates(self, verify: bool) -> None:
        """In the worker thread: on a router this takes long."""
        if verify not in self._tls_contexts:
            self._tls_contexts[verify] = "certificates are being loaded"
            self._worker.submit(
                lambda: _tls_context(verify),
                lambda made, error: self._tls_contexts.update({verify: made or error}),
            )

    def close(self) -> None:
        for tracker in self._trackers.values():
            tracker.set_path(None, "", 0.0)
        for timer in self._share_timers.values():
            timer.cancel()
        self._worker.close()


def _idle_metered(uplinks: Sequence[ObservedUplink]) -> set[str]:
    """The metered uplinks that only stand by, while another uplink is usable."""
    usable = {uplink.config.name for uplink in uplinks if uplink.usable}
    return {
        uplink.config.name
        for uplink in uplinks
        if uplink.config.metered
        and uplink.config.mode in STANDBY_MODES
        and usable - {uplink.config.name}
    }


def _why_idle(uplink: UplinkStatus) -> str:
    """Why no host of a usable uplink is probed; empty if one is, or if nobody asked for it."""
    checks = uplink["health"] if uplink["usable"] else None
    if not checks or any(check["running"] and not check["error"] for check in checks):
        return ""
    errors = [check["error"] for check in checks if check["running"] and check["error"]]
    return errors[0] if errors else "the hosts are of a family in which it has no path"


def _tls_context(verify: bool) -> Any:
    import ssl

    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _other_family(family: int) -> int:
    return AF_INET6 if family == AF_INET else AF_INET


def _probe_path(uplink: ObservedUplink, path: Path) -> tuple[ProbePath | None, str]:
    """(path to probe, gateway); no path where it could not be used, whatever the verdict."""
    link = uplink.link
    if link is None or path.gateway is None or not path.eligible:
        return None, ""
    if not path.usable and path.reason != "check-failed":
        return None, ""
    return ProbePath(path.family, link.name, link.index, path.probe_source), path.gateway.address
