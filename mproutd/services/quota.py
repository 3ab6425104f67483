"""Quotas: counts what an uplink carries, and says when its volume is used up.

Counts with the passes that are made anyway, once a minute, and with a timer of its own only when
the limit could be passed before the next one.  planning/quota.py decides, planning/modes.py
changes the mode; on_quota runs at quota_warn, at the limit, and when a period with one of these
has ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mproutd import log
from mproutd.configuration.config import Config, UplinkConfig
from mproutd.eventloop import Timer
from mproutd.format import format_bytes
from mproutd.model import Link
from mproutd.planning.plan import Outcome
from mproutd.planning.quota import (
    MAX_INTERVAL,
    NONE,
    REACHED,
    WARNED,
    Calendar,
    Count,
    Device,
    Usage,
    advance,
    decode,
    encode,
    interval,
    stage,
)
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext
from mproutd.services.programs import PATH, Program, Programs
from mproutd.services.savedfile import SavedFile
from mproutd.status.problems import add_problems, problem
from mproutd.status.rates import Counters, read_counters

if TYPE_CHECKING:
    from mproutd.status.cost_types import QuotaStatus
    from mproutd.status.types import Status

FILE = "quota.json"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MIN_PASS_INTERVAL = 5.0
"""Seconds since the last count after which a pass makes one."""
_WORTH_SAVING = 64_000
"""Bytes; less is written every half an hour, so that a quiet gateway stays quiet."""
_MAX_UNSAVED = 1800.0
STATES = {NONE: "below", WARNED: "warned", REACHED: "reached"}
EVENTS = {NONE: "reset", WARNED: "warn", REACHED: "limit"}
"""Stage → MPROUTD_EVENT of on_quota when it begins."""


class QuotaCounter(Service):
    """The ledger of all uplinks with a quota."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._calendar = Calendar(time.localtime, time.mktime)
        self._file = SavedFile(context, FILE)
        self._ledger: dict[str, Usage] = self._file.load(decode) or {}
        if self._file.error:
            text = f"the ledger of quotas is not usable: {self._file.error}"
            context.publish("quota", log.WARNING, text)
        self._damage = self._file.error
        """Why the file could not be read; empty when it could."""
        self._boot = _read_boot_id()
        self._uplinks: dict[str, UplinkConfig] = {}
        self._links: dict[str, Link] = {}
        """Uplink → its device."""
        self._modes: dict[str, str] = {}
        """Uplink → its effective mode."""
        self._given: frozenset[str] = frozenset()
        """What the last pass knew."""
        self._counted_at: float | None = None
        self._count_at = 0.0
        """When the next count is due; with a timer only if that is before the next pass."""
        self._saved = context.clock(), 0
        """When the ledger was handed over to be written, and the bytes in it."""
        self._timer: Timer | None = None
        self._programs = Programs(context.loop, self._on_program_end)
        self._waiting: dict[str, list[str]] = {}
        """Uplink → events whose program has not run yet."""

    def on_configuration(self, config: Config) -> None:
        before = self._uplinks
        self._uplinks = {uplink.name: uplink for uplink in config.uplinks if uplink.quota}
        now = time.time()
        self._ledger = {
            name: usage
            for name, usage in self._ledger.items()
            if name in self._uplinks or usage.period.includes(now)
        }
        for name, uplink in self._uplinks.items():
            # A period that has ended meanwhile is noticed by the first count.
            usage = self._ledger.get(name) or advance(None, None, now, uplink, self._calendar)
            if name in before and before[name] != uplink:  # a higher quota has not been reached
                usage = usage._replace(stage=min(usage.stage, stage(usage.used, uplink)))
            self._ledger[name] = usage
        self._count_at = 0.0

    def on_pass(self, outcome: Outcome) -> None:
        links = {
            uplink.config.name: uplink.link
            for uplink in outcome.plan.uplinks
            if uplink.link and uplink.config.name in self._uplinks
        }
        self._modes = {uplink.config.name: uplink.config.mode for uplink in outcome.plan.uplinks}
        changed = _states(links) != _states(self._links)
        self._links = links
        clock = self._context.clock()
        counted_at = -MAX_INTERVAL if self._counted_at is None else self._counted_at
        if changed or clock >= self._count_at or clock - counted_at >= _MIN_PASS_INTERVAL:
            self._count()
        self._run_waiting()

    def add_facts(self, facts: Facts) -> Facts:
        self._given = self._over_quota()
        return facts._replace(over_quota=self._given)

    def _over_quota(self) -> frozenset[str]:
        now = time.time()
        return frozenset(
            name
            for name, uplink in self._uplinks.items()
            if stage(self._ledger[name].used, uplink) == REACHED
            and now < self._ledger[name].period.end
        )

    # -- counting -------------------------------------------------------------------------

    def _count(self) -> None:
        now, clock = time.time(), self._context.clock()
        seconds = None if self._counted_at is None else max(clock - self._counted_at, 0.001)
        self._counted_at = clock
        counters, delay, urgent = read_counters(), MAX_INTERVAL, False
        for name, uplink in self._uplinks.items():
            before = self._ledger[name]
            usage = advance(before, self._read(name, counters), now, uplink, self._calendar)
            grown = max(0, usage.used - before.used)
            reached = stage(usage.used, uplink)
            if usage.stage < before.stage:
                self._report(name, uplink, usage, NONE)
                urgent = True
            if reached > usage.stage:
                usage = usage._replace(stage=reached)
                self._report(name, uplink, usage, reached)
                urgent = True
            self._ledger[name] = usage
            if (link := self._links.get(name)) and link.carrier:
                delay = min(delay, interval(usage, grown / seconds if seconds else 0.0, uplink))
        self._arm(clock, delay)
        self._save(urgent)
        if self._over_quota() != self._given:
            self._context.request_pass()
        else:
            self._run_waiting()

    def _read(self, name: str, counters: dict[str, Counters]) -> Count | None:
        link = self._links.get(name)
        if link is None or link.name not in counters:
            return None
        return Count(Device(link.name, link.index, self._boot), *counters[link.name])

    def _arm(self, clock: float, delay: float) -> None:
        self._count_at = clock + delay
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if delay < MAX_INTERVAL:
            self._timer = self._context.loop.call_at(self._count_at, self._count)

    def _save(self, urgent: bool = False) -> None:
        """Write the ledger if enough has been added to it."""
        clock, total = self._context.clock(), sum(usage.used for usage in self._ledger.values())
        saved_at, saved = self._saved
        worth = abs(total - saved) >= _WORTH_SAVING or clock - saved_at >= _MAX_UNSAVED
        if (urgent or worth or self._file.error) and self._file.save(self._encoded, urgent):
            self._saved = clock, total

    def _encoded(self) -> dict[str, Any]:
        return encode(self._ledger, time.time())

    # -- reports --------------------------------------------------------------------------

    def _report(self, name: str, uplink: UplinkConfig, usage: Usage, begun: int) -> None:
        """A stage has begun; the service's facts follow."""
        assert uplink.quota is not None
        amount = f"{format_bytes(usage.used)} of {format_bytes(uplink.quota)}"
        end = _date(usage.period.end)
        text = {
            NONE: f"a new {uplink.quota_period} begins, until {end}",
            WARNED: f"{amount} are used ({usage.used * 100 // uplink.quota} %), until {end}",
            REACHED: f"the quota is used up: {amount}; {_consequence(uplink)} until {end}",
        }[begun]
        priority = log.INFO if begun == NONE else log.WARNING
        self._context.publish("quota", priority, f"{name}: {text}", name, uplink.device)
        if uplink.on_quota:
            self._waiting.setdefault(name, []).append(EVENTS[begun])

    def _run_waiting(self) -> None:
        """Run the programs once the modes are as their events say."""
        if self._over_quota() == self._given:
            for name in list(self._waiting):
                self._run_next(name)

    def _run_next(self, name: str) -> None:
        uplink, waiting = self._uplinks.get(name), self._waiting.get(name)
        if uplink is None or not uplink.on_quota or not waiting or name in self._programs:
            return
        event = waiting.pop(0)
        try:
            variables = self._environment(event, uplink)
            self._programs.start(name, uplink.on_quota, variables, uplink.action_timeout)
        except OSError as error:
            text = f"{name}: on_quota {uplink.on_quota[0]} cannot be run: {error.strerror}"
            self._context.publish("action", log.WARNING, text, name, uplink.device)

    def _environment(self, event: str, uplink: UplinkConfig) -> dict[str, str]:
        """The program's environment; documented in mproutd.conf(5), PROGRAMS."""
        usage = self._ledger[uplink.name]
        assert uplink.quota is not None
        return {
            "PATH": PATH,
            "MPROUTD_EVENT": event,
            "MPROUTD_UPLINK": uplink.name,
            "MPROUTD_DEVICE": uplink.device,
            "MPROUTD_MODE": self._modes.get(uplink.name, uplink.mode),
            "MPROUTD_QUOTA": str(uplink.quota),
            "MPROUTD_USED": str(usage.used),
            "MPROUTD_PERCENT": str(usage.used * 100 // uplink.quota),
            "MPROUTD_PERIOD_END": str(int(usage.period.end)),
        }

    def _on_program_end(self, name: str, program: Program, status: int) -> None:
        uplink = self._uplinks.get(name)
        if uplink and uplink.on_quota:
            output = f": {program.line}" if program.line else ""
            text = f"{name}: on_quota {uplink.on_quota[0]} {program.describe_end(status)}{output}"
            priority = log.INFO if status == 0 and not program.timed_out else log.WARNING
            self._context.publish("action", priority, text, name, uplink.device)
        self._run_next(name)

    # -- the control socket ---------------------------------------------------------------

    def on_request(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """{"command": "quota", "uplink": NAME, "used": BYTES}: the provider's own figure."""
        if request.get("command") != "quota":
            return None
        name, used = request.get("uplink"), request.get("used")
        uplink = self._uplinks.get(name) if isinstance(name, str) else None
        if uplink is None:
            return {"error": f"no uplink {name!r} with a quota"}
        if not isinstance(used, int) or isinstance(used, bool) or not 0 <= used < 1 << 63:
            return {"error": "`used` is not a number of bytes"}
        self._count()
        usage = self._ledger[uplink.name].with_used(used, uplink)
        self._ledger[uplink.name] = usage
        self._damage = ""
        text = f"{uplink.name}: {format_bytes(used)} are used, as entered"
        self._context.publish("quota", log.INFO, text, uplink.name, uplink.device)
        self._count_at = 0.0  # the limit may be nearer now
        self._save(urgent=True)
        self._context.request_pass()
        return {"quota": self._status(uplink, usage)}

    def add_to_status(self, status: Status) -> None:
        self._count()
        for uplink_status in status["uplinks"]:
            uplink = self._uplinks.get(uplink_status["name"])
            if uplink is None:
                uplink_status["quota"] = None
                continue
            usage, mode = self._ledger[uplink.name], uplink_status["effective_mode"]
            uplink_status["quota"] = self._status(uplink, usage)
            if usage.used >= (uplink.quota or 0):
                in_use = uplink.quota_action == "off" and mode != "off"
                reached = problem(
                    "quota-in-use" if in_use else "quota-reached",
                    uplink=uplink.name,
                    used=format_bytes(usage.used),
                    limit=format_bytes(uplink.quota),
                    mode=mode,
                    until=_date(usage.period.end),
                )
                add_problems(status, [reached])
        if error := self._file.error or self._damage:
            add_problems(status, [problem("ledger-error", error=error)])

    def _status(self, uplink: UplinkConfig, usage: Usage) -> QuotaStatus:
        assert uplink.quota is not None
        return {
            "limit": uplink.quota,
            "used": usage.used,
            "percent": round(usage.used * 100 / uplink.quota, 1),
            "period": uplink.quota_period,  # type: ignore[typeddict-item]
            "start": usage.period.start,
            "end": usage.period.end,
            "warn": uplink.quota_warn,
            "action": uplink.quota_action,  # type: ignore[typeddict-item]
            "hard": uplink.quota_hard,
            "state": STATES[stage(usage.used, uplink)],  # type: ignore[typeddict-item]
        }

    def close(self) -> None:
        if self._uplinks and self._counted_at is not None:
            self._count()
            self._file.save(self._encoded)
        if self._timer is not None:
            self._timer.cancel()
        self._programs.close()
        self._file.close()


def _states(links: Mapping[str, Link]) -> dict[str, tuple[int, bool]]:
    """What makes a count worthwhile when it changes."""
    return {name: (link.index, link.carrier) for name, link in links.items()}


def _consequence(uplink: UplinkConfig) -> str:
    if uplink.quota_hard:
        return "it is off"
    if uplink.quota_action == "off":
        return "it is off while another uplink is usable"
    return f"its mode is {uplink.quota_action}"


def _date(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch))


def _read_boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
