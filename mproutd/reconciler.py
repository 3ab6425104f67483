"""Reconciles the kernel with the configuration, one pass at a time.

What the daemon and a command without a daemon have in common: the configuration in use, the
facts of all sources, the outcome of the last pass, and what is to be retried when.

Invariants: a configuration that is rejected changes nothing; an operation that fails stops no
other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.netifd import resolve_devices
from mproutd.configuration.uci import load
from mproutd.hints import Hints
from mproutd.model import BACKUP, Snapshot
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.netlink.path_manager import EndpointDeleter
from mproutd.netlink.sysctls import forwarding_devices
from mproutd.passes import Collaborators, Pass, PassOptions
from mproutd.planning.anticipation import anticipate
from mproutd.planning.bookkeeping import remembered_gateways
from mproutd.planning.decision import expected_routes
from mproutd.planning.diff import compare
from mproutd.planning.endpoints import carries
from mproutd.planning.last_changes import LastChanges
from mproutd.planning.ownership import Ownership
from mproutd.planning.pacing import GatewayMemory, GracePeriod, RemovalLimiter, Retries
from mproutd.planning.plan import Outcome, Plan, make_plan
from mproutd.planning.uplinks import Facts, by_name
from mproutd.snapshot_request import snapshot_request
from mproutd.statefile import StateFile
from mproutd.subflows.relocation import without
from mproutd.verification import misrouted_addresses

if TYPE_CHECKING:
    from mproutd.planning.inspection import Inspection, Preview
    from mproutd.planning.traffic import Flow

HANDBACK_DELAY = 1.0
"""Seconds that a handover uplink stays in use beside a regular one that has recovered."""
MAX_PASSES = 5
"""Of one command; all but the last found more to do."""


class Reconciler:
    """Makes passes, and keeps what one pass needs from the last.  For one thread."""

    def __init__(
        self,
        kernel: NetlinkKernel,
        state_file: StateFile,
        directory: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`directory` is that of the configuration."""
        self.kernel, self.state_file = kernel, state_file
        self.directory = directory
        self.config = self._loaded = Config(enabled=False)
        """In use, with the devices that netifd names; and as loaded from the files."""
        self.config_error = ""
        """Why the configuration on disk is not in use; empty when it is."""
        self.last: Outcome | None = None
        """Of the last pass."""
        self.passes = self.writes = self.failed_writes = 0
        """Since the start."""
        self.removals = RemovalLimiter(clock)
        self.retries = Retries(clock)
        self._grace_period = GracePeriod(clock)
        self._collaborators = Collaborators(
            kernel, state_file, self.removals, self.retries, self._grace_period
        )
        self._gateway_memory = GatewayMemory(clock)
        self._hints = Hints(state_file.directory)
        self._hinted = Facts()
        """What the hints say."""
        self.add_service_facts: Callable[[Facts], Facts] = lambda facts: facts
        """What services know besides."""
        self._clock = clock
        self._last_changes = LastChanges()
        self._usable_since: dict[str, float] = {}
        self._hand_back_at: float | None = None
        """When the handover uplink in use is no longer needed."""

    # -- configuration and facts ----------------------------------------------------------

    def configure(self) -> None:
        """Load the configuration; ConfigError leaves the one in use."""
        try:
            self._loaded = self.config = load(self.directory)
            self.config_error = ""
        except ConfigError as error:
            self.config_error = str(error)
            raise
        self._collect_facts()

    def refresh(self) -> bool:
        """Read the hints again; return whether they have changed."""
        before, self._hinted = self._hinted, self._read_hints(self.config)
        return before != self._hinted

    def _read_hints(self, config: Config) -> Facts:
        devices = (uplink.device for uplink in config.uplinks if uplink.device)
        gateways = self._hints.read(devices)
        return Facts(gateways, resolvers=self._hints.resolvers)

    def _collect_facts(self) -> Facts:
        """The facts of all sources; the configuration in use gets the devices that they name."""
        facts = self.add_service_facts(self._hinted)
        config = self._resolve(self._loaded, facts)
        if config is not self.config and config != self.config:
            self.config = config
            self.refresh()  # hints are kept by device
            facts = self.add_service_facts(self._hinted)
        return facts

    def _resolve(self, config: Config, facts: Facts) -> Config:
        """The configuration with the real names of its devices."""
        links = by_name(self.last.snapshot.links) if self.last else {}
        named = {name for uplink in config.uplinks for name in (uplink.device, *uplink.iif)}
        unknown = named - links.keys() - {""}
        names = {device: self.kernel.real_name(device) for device in unknown}
        real_names = {device: name for device, name in names.items() if device != name}
        return resolve_devices(config, facts.devices, real_names)

    def _current_facts(self) -> Facts:
        """The facts of all sources, which addresses are misrouted, and which uplinks have settled.

        Before the first pass, every usable uplink counts as settled.
        """
        facts = self._collect_facts()
        withdrawn = self._gateway_memory.withdrawn()
        if self.last is None:
            return facts._replace(withdrawn=withdrawn)
        latest = self._clock() - HANDBACK_DELAY
        settled = (name for name, since in self._usable_since.items() if since <= latest)
        return facts._replace(
            withdrawn=withdrawn, withheld=self.last.withheld, settled=frozenset(settled)
        )

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
        force: bool = False,
    ) -> Outcome:
        """Make one pass; the options are those of PassOptions.

        OSError when the kernel does not answer.
        """
        if full:
            self.refresh()
        config_before = self.config
        facts = self._current_facts()
        if self.last is None:
            facts = facts._replace(withheld=self._misrouted_before(facts))
        # There were no events for a device that netifd has only now named.
        full = full or self.config is not config_before
        options = PassOptions(sweep, full, touched, background, keep_misrouted, force)
        outcome = Pass(self._collaborators, self.config, facts, options).run()
        self._record(outcome)
        return outcome

    def converge(self, *, force: bool = False) -> list[Outcome]:
        """Make passes until one finds nothing more to do.  OSError.

        `force`: delete endpoints even if that ends connections.
        """
        outcomes: list[Outcome] = []
        while len(outcomes) < MAX_PASSES:
            # Old rules may misroute an address until the first pass has deleted them.
            keep_misrouted = len(outcomes) < 2
            outcomes.append(
                self.reconcile(sweep=not outcomes, keep_misrouted=keep_misrouted, force=force)
            )
            last = outcomes[-1]
            if keep_misrouted and last.misrouted:
                continue
            if not last.run_again and (not last.done or len(outcomes) > 1):
                break
        return outcomes

    def flush(self, *, force: bool = False) -> list[Outcome]:
        """Remove everything of ours, whatever the configuration says, and the state file.

        Without `force`, endpoints stay that connections cannot do without.
        """
        self._loaded = self._loaded._replace(enabled=False)
        self.config = self.config._replace(enabled=False)
        outcomes = self.converge(force=force)
        if not outcomes[-1].failures and not outcomes[-1].kept:
            self.state_file.remove()
        return outcomes

    def _record(self, outcome: Outcome) -> None:
        plan = outcome.plan
        self.passes += 1
        self.writes += len(outcome.done) + len(outcome.failures)
        self.failed_writes += len(outcome.failures)
        wanted = (plan.routes, plan.rules, plan.nexthops, plan.endpoints, plan.sysctls)
        self.removals.record_pass(wanted, outcome.missing)
        self.retries.record_pass((failure.operation, failure.text) for failure in outcome.failures)
        self._last_changes.record(plan.uplinks, time.time())
        self._record_usable(plan, outcome.misrouted)
        self._gateway_memory.record_pass(*remembered_gateways(outcome.snapshot, plan.uplinks))
        self.last = outcome

    def _record_usable(self, plan: Plan, misrouted: Collection[str]) -> None:
        """Since when each uplink is usable, and when a handover uplink is no longer needed."""
        now = self._clock()
        since = now - HANDBACK_DELAY if self.last is None else now
        modes = {uplink.config.name: uplink.config.mode for uplink in plan.uplinks}
        self._usable_since = {
            uplink.config.name: self._usable_since.get(uplink.config.name, since)
            for uplink in plan.uplinks
            if carries(
                uplink._replace(withheld=uplink.withheld.union(misrouted)) if misrouted else uplink
            )
        }
        regular = [
            since
            for name, since in self._usable_since.items()
            if modes[name] not in ("handover", "off")
        ]
        modes_in_use = {
            modes[name]
            for endpoint, name in plan.endpoints.items()
            if not endpoint.flags & BACKUP  # a backup ends when others come, not after a time
        }
        self._hand_back_at = None
        if "handover" in modes_in_use and regular:
            self._hand_back_at = min(regular) + HANDBACK_DELAY

    def anticipate(self) -> None:
        """Decide in advance about what is likely to be next."""
        config, state = self.config, self.state_file.state
        facts = self._current_facts()
        request = snapshot_request(config, state, sweep=False, full=False, facts=facts)
        with suppress(OSError):  # the next pass reports that the kernel does not answer
            anticipate(config, self.kernel.snapshot(request), state, facts)

    def next_at(self) -> float | None:
        """When the next pass without an event is worth making; None for never.

        On the reconciler's clock.
        """
        times = (
            self.removals.next_at(),
            self._grace_period.next_at(),
            self.retries.next_at(),
            self._gateway_memory.next_at(),
            self._hand_back_at,
        )
        return min((at for at in times if at is not None), default=None)

    # -- reports --------------------------------------------------------------------------

    def inspect(self) -> Inspection:
        """Read everything from the kernel and compare, without changing anything.  OSError."""
        from mproutd.planning.inspection import Counts, Inspection, lookup_sources

        self.refresh()
        facts = self._current_facts()
        state = self.state_file.state
        request = snapshot_request(self.config, state, sweep=True, full=True, facts=facts)
        snapshot = self.kernel.snapshot(request)
        plan, misrouted = self._verified_plan(snapshot, facts)
        drift = compare(Ownership(self.config, state), snapshot, plan).operations
        kept = self.last.kept if self.last else {}
        drift = without(drift, kept, snapshot)
        sources = lookup_sources(plan.uplinks)
        routes = self.kernel.lookups([(source, 0) for source in sources])
        lookups = dict(zip(sources, routes, strict=True))
        listed = self._flows(snapshot, plan)
        packet_routes = self.kernel.packet_routes([flow.packet for flow in listed])
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
            kept=kept,
            flows=list(zip(listed, packet_routes, strict=True)),
            lookups=lookups,
            lists_connections=snapshot.mptcp is None or self.kernel.lists_connections(),
            mptcp_paused=snapshot.mptcp is not None and self.kernel.mptcp_paused(),
            blackhole_defaults=self.kernel.blackhole_defaults()
            if misrouted or None in routes
            else (),
            failed=self.retries.still_wanted(drift),
            now=self._clock(),
            time=time.time(),
            restored=self.removals.restored(),
            rate_limited=self.removals.rate_limited(),
            last_changes=self._last_changes,
            remembered=self._gateway_memory.ages(),
            default_tables=self._default_tables(plan),
            netifd=facts.devices,
            ignores_advertisements=[
                uplink.config.device
                for uplink in plan.uplinks
                if uplink.paths[1].reason in ("no-address", "no-gateway")
                and self.kernel.ignores_advertisements(uplink.config.device)
            ],
            counts=Counts(self.passes, self.writes, self.failed_writes, self.removals.total),
            config_error=self.config_error,
            state_file_error=self.state_file.error,
            hints_error=self._hints.error,
            netifd_error=self.add_service_facts(self._hinted).source_error,
        )

    def _flows(self, snapshot: Snapshot, plan: Plan) -> list[Flow]:
        """The kinds of traffic that a status asks the kernel about."""
        from mproutd.planning.traffic import flows

        own_rules = Ownership(self.config, self.state_file.state).own_rules(snapshot.rules)
        routers = forwarding_devices(link.name for link in snapshot.links.values())
        return flows(snapshot, plan, own_rules, routers)

    def _misrouted_before(self, facts: Facts) -> frozenset[str]:
        """The addresses that are misrouted before the first pass, although their routing is there.

        Else that pass would delete the endpoints of a handover uplink in their place.
        """
        if all(uplink.mode != "handover" for uplink in self.config.uplinks):
            return frozenset()
        state = self.state_file.state
        snapshot = self.kernel.snapshot(
            snapshot_request(self.config, state, sweep=False, full=True, facts=facts)
        )
        plan = make_plan(self.config, snapshot, state, facts)
        differences = compare(Ownership(self.config, state), snapshot, plan)
        incomplete = {operation.uplink for operation in differences.add_routes}
        uplinks = {endpoint.address: name for endpoint, name in plan.endpoints.items()}
        return frozenset(
            address
            for address in misrouted_addresses(self.kernel, expected_routes(plan))
            if uplinks[address] not in incomplete
        )

    def _verified_plan(self, snapshot: Snapshot, facts: Facts) -> tuple[Plan, tuple[str, ...]]:
        """(the plan, misrouted addresses); without a pass, these count as withheld at once."""
        state = self.state_file.state
        plan = make_plan(self.config, snapshot, state, facts)
        misrouted = misrouted_addresses(self.kernel, expected_routes(plan))
        if self.last is None and misrouted:
            facts = facts._replace(withheld=frozenset(misrouted))
            plan = make_plan(self.config, snapshot, state, facts)
        return plan, misrouted

    def _default_tables(self, plan: Plan) -> dict[tuple[str, int], list[int]]:
        """The tables of other programs with a default through a device without a gateway."""
        own = Ownership(self.config, self.state_file.state).tables
        return {
            (uplink.config.device, path.family): sorted(
                table
                for table in self.kernel.default_tables(uplink.link.index, path.family)
                if table not in own
            )
            for uplink in plan.uplinks
            for path in uplink.paths
            if uplink.link and path.reason == "no-gateway"
        }

    def preview(self) -> Preview:
        """What reconcile() would do with the configuration as it is on disk.  ConfigError."""
        from mproutd.planning.inspection import Preview

        loaded, state = load(self.directory), self.state_file.state
        config = self._resolve(loaded, self.add_service_facts(self._hinted))
        facts = self.add_service_facts(self._read_hints(config))
        if self.last:
            facts = facts._replace(withheld=self.last.withheld)
        snapshot = self.kernel.snapshot(snapshot_request(config, state, sweep=True, full=True))
        plan = make_plan(config, snapshot, state, facts)
        operations = compare(Ownership(config, state), snapshot, plan).operations
        return Preview(config, snapshot, plan, operations)
