"""Keeps the kernel as the configuration says, a pass at a time.

What the daemon's loop and a command without a daemon have in common: the configuration in
use, the memory, what failed and when it is tried again.  What must hold: a configuration
that is refused changes nothing, and a failure of one operation stops no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.netifd import resolve_devices
from mproutd.configuration.uci import load
from mproutd.hints import Hints
from mproutd.model import BACKUP, Object
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.netlink.path_manager import EndpointDeleter
from mproutd.passes import (
    Collaborators,
    Pass,
    PassOptions,
    compare,
    misrouted_addresses,
    snapshot_request,
)
from mproutd.planning.inspection import Inspection, LastChanges, Preview, lookup_sources
from mproutd.planning.ownership import Ownership
from mproutd.planning.pacing import GracePeriod, RemovalLimiter, Retries
from mproutd.planning.plan import Outcome, Plan, make_plan
from mproutd.planning.uplinks import Facts
from mproutd.statefile import StateFile

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
        self.retries = Retries(clock)
        self._grace_period = GracePeriod(clock)
        self._collaborators = Collaborators(
            kernel, state_file, self.removals, self.retries, self._grace_period
        )
        self._hints = Hints(state_file.directory)
        self._facts = Facts()
        self.add_service_facts: Callable[[Facts], Facts] = lambda facts: facts
        """What the parts of a daemon know beside it."""
        self._clock = clock
        self._last_changes = LastChanges()
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

    def use_deleter(self, deleter: EndpointDeleter) -> None:
        """Let passes with `background` delete endpoints in this thread."""
        self._collaborators = self._collaborators._replace(deleter=deleter)

    def reconcile(
        self,
        *,
        sweep: bool = False,
        full: bool = True,
        touched: Collection[int] | None = (),
        background: bool = False,
        keep_misrouted: bool = False,
    ) -> Outcome:
        """Make one pass; the options are those of PassOptions.

        OSError when the kernel does not answer.
        """
        if full:
            self.refresh()
        before = self.config
        facts = self._facts_now()
        # There were no events for a device that netifd has only now named.
        full = full or self.config is not before
        options = PassOptions(sweep, full, touched, background, keep_misrouted)
        outcome = Pass(self._collaborators, self.config, facts, options).run()
        self._record(outcome)
        return outcome

    def converge(self) -> list[Outcome]:
        """Passes until one finds nothing more to do, for a command."""
        outcomes: list[Outcome] = []
        while len(outcomes) < PASSES:
            keep_misrouted = len(outcomes) < 2
            outcomes.append(self.reconcile(sweep=not outcomes, keep_misrouted=keep_misrouted))
            last = outcomes[-1]
            if keep_misrouted and last.misrouted:
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

    def _record(self, outcome: Outcome) -> None:
        plan = outcome.plan
        self.passes += 1
        self.writes += len(outcome.done) + len(outcome.failures)
        wanted: list[Object] = [*plan.routes, *plan.rules, *plan.endpoints, *plan.sysctls]
        self.removals.record_pass(wanted, outcome.missing)
        self._last_changes.record(plan.uplinks, time.time())
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

    def next_at(self) -> float | None:
        """When the next pass without an event is worth making; None for never.

        On the reconciler's clock.
        """
        times = (
            self.removals.next_at(),
            self._grace_period.next_at(),
            self.retries.next_at(),
            self._hand_back_at,
        )
        return min((at for at in times if at is not None), default=None)

    # -- reports --------------------------------------------------------------------------

    def inspect(self) -> Inspection:
        """Read everything from the kernel and compare, without changing anything.  OSError."""
        self.refresh()
        facts = self._facts_now()
        state = self.state_file.state
        request = snapshot_request(self.config, state, sweep=True, full=True, facts=facts)
        snapshot = self.kernel.snapshot(request)
        plan = make_plan(self.config, snapshot, state, facts)
        drift = compare(Ownership(self.config, state), snapshot, plan).operations
        misrouted = misrouted_addresses(self.kernel, plan)
        sources = lookup_sources(plan.uplinks)
        routes = self.kernel.lookups([(source, 0) for source in sources])
        lookups = dict(zip(sources, routes, strict=True))
        return Inspection(
            config=self.config,
            directory=self.directory,
            snapshot=snapshot,
            plan=plan,
            state=state,
            drift=[
                operation
                for operation in drift
                if getattr(operation.value, "address", None) not in misrouted
            ],
            misrouted=misrouted,
            lookups=lookups,
            blackhole_defaults=self.kernel.blackhole_defaults()
            if misrouted or None in routes
            else (),
            failed=self.retries.still_wanted(drift),
            now=self._clock(),
            time=time.time(),
            restored=self.removals.restored(),
            rate_limited=self.removals.rate_limited(),
            last_changes=self._last_changes,
            passes=self.passes,
            writes=self.writes,
            config_error=self.refused,
            state_file_error=self.state_file.problem,
            hints_error=self._hints.problem,
            netifd_error=self.add_service_facts(self._facts).source_error,
        )

    def preview(self) -> Preview:
        """What reconcile() would do with the configuration as it is on disk.  ConfigError."""
        written, state = load(self.directory), self.state_file.state
        config = resolve_devices(written, self.add_service_facts(self._facts).devices)
        facts = self.add_service_facts(self._read_facts(config))
        snapshot = self.kernel.snapshot(snapshot_request(config, state, sweep=True, full=True))
        plan = make_plan(config, snapshot, state, facts)
        return Preview(snapshot, compare(Ownership(config, state), snapshot, plan).operations)
