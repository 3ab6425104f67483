"""Keeps the kernel as the configuration says, a pass at a time.

What the daemon's loop and a command without a daemon have in common: the configuration in
use, the memory, what failed and when it is tried again.  What must hold: a configuration
that is refused changes nothing, and a failure of one operation stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from mproutd import passes
from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.netifd import resolve_devices
from mproutd.configuration.uci import load
from mproutd.hints import Hints
from mproutd.iproute2 import command, names
from mproutd.model import BACKUP, Object, Operation, Snapshot
from mproutd.netlink.kernel import NetlinkKernel, SnapshotRequest
from mproutd.netlink.path_manager import EndpointDeleter
from mproutd.planning.pacing import GracePeriod, RemovalLimiter, Retries
from mproutd.planning.plan import Outcome, Plan, make_plan
from mproutd.planning.uplinks import Facts
from mproutd.statefile import StateFile
from mproutd.status.build import sources, status
from mproutd.status.changes import Since, change, changes
from mproutd.status.problems import problem, refused, removed
from mproutd.status.rates import Rates

HANDBACK_DELAY = 1.0
"""Seconds: how long a handover uplink goes on beside a regular one that came back."""
PASSES = 5
"""How many passes a command makes at most; each one but the last found more to do."""


class Reconciler:
    """The pass, with what it needs from one to the next.  For one thread."""

    def __init__(
        self,
        kernel: NetlinkKernel,
        state_file: StateFile,
        directory: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kernel, self.state_file = kernel, state_file
        self.directory = directory
        self.config = self._written = Config(enabled=False)
        """In use, with the devices that netifd says; and as it is written."""
        self.refused = ""
        """Why the configuration on disk is not in use; empty when it is."""
        self.last: Outcome | None = None
        self.passes = self.writes = 0
        """Made, and changes of the kernel asked for, since the start."""
        self.removals = RemovalLimiter(clock)
        self._patience = GracePeriod(clock)
        self._hints = Hints(state_file.directory)
        self._facts = Facts()
        self.add_service_facts: Callable[[Facts], Facts] = lambda facts: facts
        """What the parts of a daemon know beside it."""
        self._clock = clock
        self.retries = Retries(clock)
        self._since = Since()
        self._rates = Rates(clock)
        self._steady: dict[str, float] = {}
        self._hand_back_at: float | None = None

    # -- configuration --------------------------------------------------------------------

    def configure(self) -> None:
        """Read the configuration; ConfigError leaves the one in use."""
        try:
            self._written = self.config = load(self.directory)
            self.refused = ""
        except ConfigError as error:
            self.refused = str(error)
            raise
        self._resolve()

    def refresh(self) -> None:
        """Ask the sources other than the kernel again."""
        self._facts = self._read_facts(self.config)

    def _read_facts(self, config: Config) -> Facts:
        return Facts(self._hints.read(each.device for each in config.uplinks if each.device))

    def _facts_now(self) -> Facts:
        """With what time alone decides.  Before the first pass, all that is usable is settled."""
        facts = self._resolve()
        if self.last is None:
            return facts
        latest = self._clock() - HANDBACK_DELAY
        settled = (name for name, since in self._steady.items() if since <= latest)
        return facts._replace(settled=frozenset(settled))

    def _resolve(self) -> Facts:
        """The facts of all sources; the configuration gets the devices that they name."""
        facts = self.add_service_facts(self._facts)
        config = resolve_devices(self._written, facts.devices)
        if facts.devices is not None and config != self.config:
            self.config = config
            self.refresh()  # hints are by device
            facts = self.add_service_facts(self._facts)
        return facts

    # -- passes ---------------------------------------------------------------------------

    def reconcile(
        self,
        *,
        sweep: bool = False,
        full: bool = True,
        touched: Collection[int] | None = (),
        deleter: EndpointDeleter | None = None,
        trusting: bool = False,
    ) -> Outcome:
        """One pass.  `touched`: the ifindexes that had events since the last; None for any.

        With `closer`, endpoints are closed in its thread, and the pass after it is done goes
        on where this one left off.  `trusting`: an address that is led away keeps its endpoint,
        since clearing may lead it back.  OSError when the kernel does not answer.
        """

        if full:
            self.refresh()
            self._rates.sample()

        def patience(misrouted: Collection[str]) -> Collection[str]:
            if trusting:
                return misrouted
            return self._patience.grant(misrouted) if deleter else ()

        def allow(operation: Operation) -> bool:
            if not self.retries.ready(operation):
                return False
            return touched is None or self.removals.allow(operation, touched)

        before = self.config
        facts = self._facts_now()
        # Nobody listened for a device that netifd has only now named.
        full = full or self.config is not before
        outcome = passes.reconcile(
            self.kernel,
            self.state_file,
            self.config,
            facts,
            sweep=sweep,
            full=full,
            close=deleter.start if deleter else None,
            closing=deleter.busy if deleter else False,
            allow=allow,
            patience=patience,
        )
        self._note(outcome)
        return outcome

    def converge(self) -> list[Outcome]:
        """Passes until one finds nothing more to do, for a command."""
        outcomes: list[Outcome] = []
        while len(outcomes) < PASSES:
            trusting = len(outcomes) < 2
            outcomes.append(self.reconcile(sweep=not outcomes, trusting=trusting))
            last = outcomes[-1]
            if trusting and last.misrouted:
                continue
            if not last.run_again and (not last.done or len(outcomes) > 1):
                break
        return outcomes

    def flush(self) -> list[Outcome]:
        """Remove everything of ours, whatever the configuration says, and forget it."""
        self._written = self._written._replace(enabled=False)
        self.config = self.config._replace(enabled=False)
        outcomes = self.converge()
        if not any(outcome.failures for outcome in outcomes[-1:]):
            self.state_file.remove()
        return outcomes

    def _note(self, outcome: Outcome) -> None:
        plan = outcome.plan
        self.passes += 1
        self.writes += len(outcome.done) + len(outcome.failures)
        wanted: list[Object] = [*plan.routes, *plan.rules, *plan.endpoints]
        self.removals.record_pass(wanted, outcome.missing)
        self._since.note(plan.uplinks, time.time())
        self._note_steady(plan)
        self.retries.record_pass((failure.operation, failure.text) for failure in outcome.failures)
        self.last = outcome

    def _note_steady(self, plan: Plan) -> None:
        """Since when each uplink is usable, and when a handover uplink has to end."""
        begun = -HANDBACK_DELAY if self.last is None else 0.0
        now = self._clock()
        modes = {uplink.config.name: uplink.config.mode for uplink in plan.uplinks}
        self._steady = {
            uplink.config.name: self._steady.get(uplink.config.name, now + begun)
            for uplink in plan.uplinks
            if uplink.usable
        }
        regular = [
            since for name, since in self._steady.items() if modes[name] not in ("handover", "off")
        ]
        carrying = {
            modes[name]
            for endpoint, name in plan.endpoints.items()
            if not endpoint.flags & BACKUP  # what stands by ends when others come, not in time
        }
        self._hand_back_at = None
        if "handover" in carrying and regular:
            self._hand_back_at = min(regular) + HANDBACK_DELAY

    def due(self) -> float | None:
        """Seconds until another pass is worth making without an event; None for never."""
        timers = (self.removals.due(), self._patience.due(), self.retries.due())
        waits = [wait for wait in timers if wait is not None]
        if self._hand_back_at is not None:
            waits.append(max(0.0, self._hand_back_at - self._clock()))
        return min(waits, default=None)

    # -- reports --------------------------------------------------------------------------

    def inspect(self) -> tuple[Snapshot, Plan, list[Operation]]:
        """Read everything, change nothing: (found, wanted, the difference)."""
        self.refresh()
        facts = self._facts_now()
        request: SnapshotRequest = passes.snapshot_request(
            self.config, self.state_file.state, sweep=True, full=True, facts=facts
        )
        snapshot = self.kernel.snapshot(request)
        state = self.state_file.state
        plan = make_plan(self.config, snapshot, state, facts)
        return snapshot, plan, passes.difference(self.config, snapshot, state, plan)

    def preview(self) -> list[dict[str, Any]]:
        """What reconcile would do with the configuration as it is on disk.  ConfigError."""
        written, state = load(self.directory), self.state_file.state
        config = resolve_devices(written, self.add_service_facts(self._facts).devices)
        facts = self.add_service_facts(self._read_facts(config))
        snapshot = self.kernel.snapshot(
            passes.snapshot_request(config, state, sweep=True, full=True)
        )
        name = names(snapshot.links)
        return [
            change(operation, command(operation, name))
            for operation in passes.dry_run(config, snapshot, state, facts)
        ]

    def status(self) -> dict[str, Any]:
        """The status, from the kernel as it is now."""
        snapshot, plan, drift = self.inspect()
        misrouted = passes.misrouted_addresses(self.kernel, plan)
        name = names(snapshot.links)
        problems = []
        if self.refused:
            problems.append(problem("configuration-rejected", error=self.refused))
        if self.state_file.problem:
            problems.append(problem("state-file-error", error=self.state_file.problem))
        if self._hints.problem:
            problems.append(problem("hints-ignored", error=self._hints.problem))
        trouble = self.add_service_facts(self._facts).source_error
        if trouble:
            problems.append(problem("netifd-unreachable", error=trouble))
        problems += refused(self.retries.still_wanted(drift), self._clock(), name)
        problems += removed(self.removals.restored(), self.removals.rate_limited(), name)
        asked = sources(plan.uplinks)
        lookups = dict(zip(asked, self.kernel.lookups([(each, 0) for each in asked]), strict=True))
        astray = misrouted or None in lookups.values()
        told = status(
            self.config,
            snapshot,
            self.state_file.state,
            plan,
            [
                operation
                for operation in drift
                if getattr(operation.value, "address", None) not in misrouted
            ],
            unproved=misrouted,
            problems=problems,
            since=self._since.of,
            lookups=lookups,
            blackhole_defaults=self.kernel.blackhole_defaults() if astray else (),
        )
        self._rates.sample()
        for uplink in told["uplinks"]:
            uplink.update(self._rates.told(uplink["device"]))
        told["counts"] = {"passes": self.passes, "writes": self.writes}
        told["configuration"] = {"directory": self.directory, "error": self.refused or None}
        return told

    def changes(self, outcomes: Collection[Outcome]) -> list[dict[str, Any]]:
        """What passes did and could not do, for reconcile's report."""
        return changes(outcomes)
