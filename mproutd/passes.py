"""One pass: read the kernel, plan, compare, act; Pass.run() lists the steps.

A pass is level-triggered: it compares all that it read with all that is planned.  Apart from the
retries of failed subflows, only a pass changes the kernel's routing and endpoints.

Invariants: a pass without a difference writes nothing, neither to the kernel nor to the state
file; the state file is written before anything is set or added that it has to know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from errno import EEXIST
from typing import NamedTuple, Protocol

from mproutd.configuration.config import Config
from mproutd.model import (
    Endpoint,
    Failure,
    NexthopObject,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    already_deleted,
)
from mproutd.netlink.kernel import Kernel
from mproutd.planning.decision import Decision, decide
from mproutd.planning.diff import Differences, own_endpoint_deletions, replaces_all
from mproutd.planning.ownership import Ownership
from mproutd.planning.pacing import GracePeriod, RemovalLimiter, Retries
from mproutd.planning.plan import Outcome, Plan
from mproutd.planning.routes import changes_main_query
from mproutd.planning.sharing import went_with_device
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from mproutd.subflows.connections import ConnectionSnapshot
from mproutd.subflows.relocation import last_endpoints, relocate, without
from mproutd.verification import misrouted_addresses


class Store(Protocol):
    """The state file."""

    state: State

    def save(self, state: State) -> None: ...


class Deleter(Protocol):
    """Deletes endpoints in the background."""

    @property
    def busy(self) -> bool: ...

    def start(self, operations: Sequence[Operation]) -> None: ...


class Collaborators(NamedTuple):
    """What all passes of one reconciler share."""

    kernel: Kernel
    store: Store
    removals: RemovalLimiter
    retries: Retries
    grace_period: GracePeriod
    deleter: Deleter | None = None
    """None outside of a daemon."""


class PassOptions(NamedTuple):
    """How one pass is made."""

    sweep: bool = False
    """Read every table that may hold routes of ours, not only those in use."""
    full: bool = True
    """Read everything from the kernel; else what had no event comes from the cache."""
    touched: Collection[int] | None = None
    """ifindexes with events since the last pass; None for any."""
    background: bool = False
    """Delete endpoints in the background and grant misrouted ones a grace period."""
    keep_misrouted: bool = False
    """Keep the endpoints of misrouted addresses: this pass may still correct their routing."""
    force: bool = False
    """Delete endpoints even if that ends connections."""


class Pass:
    """One pass; made and run once."""

    _snapshot: Snapshot
    _decision: Decision
    _plan: Plan
    _differences: Differences
    _misrouted: tuple[str, ...]
    _withheld: frozenset[str]

    def __init__(
        self, collaborators: Collaborators, config: Config, facts: Facts, options: PassOptions
    ) -> None:
        self._kernel, self._store = collaborators.kernel, collaborators.store
        self._removals, self._retries = collaborators.removals, collaborators.retries
        self._grace_period = collaborators.grace_period
        self._deleter = collaborators.deleter if options.background else None
        self._config, self._facts, self._options = config, facts, options
        self._state = collaborators.store.state
        """As before this pass."""
        self._done: list[Operation] = []
        self._failures: list[Failure] = []
        self._deleting = self._deleter is not None and self._deleter.busy
        """Endpoints are being deleted in the background: until that is done the path manager
        blocks, and their rules and routes have to stay."""
        self._make_before_break = False
        self._repaired_routing = self._incomplete_routing = False
        self._run_again = False
        self._kept: dict[str, int] = {}

    def run(self) -> Outcome:
        """Make the pass.  OSError when the kernel does not answer.

        1. Read the snapshot.
        2. Plan, and compare the plan with the snapshot.
        3. Delete endpoints: what a lost path carried moves to the others at once.
        4. Add routes and rules, and delete rules that steer traffic without endpoints.
        5. Verify by lookups that each endpoint's packets leave through its own uplink.
        6. Add endpoints where they do, and delete the others.
        7. Delete rules and routes that no endpoint uses any more.

        While endpoints are being deleted in the background, the last two wait for another pass.
        """
        self._read_snapshot()
        self._make_plan()
        self._delete_endpoints()
        self._add_routes()
        self._verify_routing()
        self._add_endpoints()
        self._delete_routes()
        return self._outcome()

    # -- the steps ------------------------------------------------------------------------

    def _read_snapshot(self) -> None:
        options = self._options
        self._snapshot = self._kernel.snapshot(
            snapshot_request(
                self._config,
                self._state,
                sweep=options.sweep,
                full=options.full,
                facts=self._facts,
                probe=True,
            )
        )

    def _make_plan(self) -> None:
        self._decision = decide(self._config, self._snapshot, self._state, self._facts)
        self._plan, self._differences = self._decision.plan, self._decision.differences
        self._make_before_break = self._decision.replaces_all
        self._relocate_connections()

    def _relocate_connections(self) -> None:
        """Where a family's last endpoints go, have connections outlive them (relocation.py)."""
        differences, plan = self._differences, self._plan
        last = last_endpoints(self._snapshot, plan, differences.delete_endpoints)
        if not last:
            return
        addresses = [endpoint.address for endpoint in last]
        connections = ConnectionSnapshot(*self._kernel.subflows(addresses))
        deletions, force = differences.delete_endpoints, self._options.force
        relocation = relocate(self._snapshot, plan, deletions, last, connections, force=force)
        self._kept = relocation.kept
        _, *others = (without(step, self._kept, self._snapshot) for step in differences)
        self._differences = Differences(relocation.deletions, *others)
        self._make_before_break = replaces_all(self._snapshot, plan, relocation.deletions)
        state = plan.state._replace(endpoints=plan.state.endpoints | relocation.wildcards)
        self._plan = plan._replace(state=state)

    def _delete_endpoints(self) -> None:
        deletions, state = self._differences.delete_endpoints, self._plan.state
        later = self._deleting or self._make_before_break
        if later or any(operation.verb == "add" for operation in deletions):
            # An address that departed stays on file until its subflows are being closed.
            on_file = state.without_endpoint | self._state.without_endpoint
            self._store.save(state._replace(without_endpoint=on_file))
        if not later:
            self._delete(deletions)
            self._store.save(state)

    def _add_routes(self) -> None:
        done_before = len(self._done)
        self._apply(self._differences.add_routes)
        done = len(self._done) - done_before
        self._repaired_routing = done > 0
        self._incomplete_routing = done < len(self._differences.add_routes)
        self._apply(self._differences.delete_steering)

    def _verify_routing(self) -> None:
        self._misrouted = misrouted_addresses(self._kernel, self._decision.expected_routes)
        tolerated = set(self._tolerated()) - self._facts.withheld
        self._withheld = frozenset(self._misrouted) - tolerated
        modes = {uplink.config.mode for uplink in self._plan.uplinks if uplink.usable}
        if "handover" in modes and self._withheld != self._facts.withheld:
            self._run_again = True  # with a handover uplink in place of what carries nothing

    def _add_endpoints(self) -> None:
        if self._deleting:
            return
        withdrawn = self._misrouted_endpoints()
        additions = self._verified_additions()
        if not self._make_before_break:
            self._delete(withdrawn)
        if additions:
            self._kernel.flush_unreachable_neighbours(self._decision.new_gateways)
        incomplete = self._incomplete_uplinks()
        self._apply(
            [
                operation
                for operation in additions
                if operation.verb != "add" or operation.uplink not in incomplete
            ]
        )
        if self._make_before_break:
            self._delete([*self._differences.delete_endpoints, *withdrawn])
            self._store.save(self._plan.state)

    def _delete_routes(self) -> None:
        # Without our rule, the lookups in main found nothing; the next pass knows better.
        blind = changes_main_query(self._config, self._differences.add_routes)
        if not self._deleting and not blind:
            self._apply(self._differences.delete_routes)

    def _outcome(self) -> Outcome:
        # The next pass may see another default of a device.
        main_query_changed = changes_main_query(self._config, self._done)
        done = set(self._done)
        wanted = (*self._differences.add_routes, *self._verified_additions())
        missing = [operation.value for operation in wanted if operation not in done]
        missing += [
            endpoint
            for endpoint in self._plan.endpoints
            if endpoint.address in self._misrouted or endpoint.address in self._kept
        ]
        return Outcome(
            self._snapshot,
            self._plan,
            tuple(self._done),
            tuple(self._failures),
            self._misrouted,
            main_query_changed or self._deleting or self._run_again,
            tuple(missing),
            self._withheld,
            self._kept,
        )

    # -- helpers --------------------------------------------------------------------------

    def _apply(self, operations: Sequence[Operation]) -> None:
        """Do what may be done now; failures stop nothing."""
        permitted = self._permitted(operations)
        if not permitted:
            return
        failures = self._kernel.apply(permitted)
        failed = [failure.operation for failure in failures]
        self._done += [done for done in permitted if done not in failed] if failed else permitted
        self._failures += [
            failure for failure in failures if not already_deleted(failure.operation, failure.errno)
        ]

    def _delete(self, operations: Sequence[Operation]) -> None:
        """Delete endpoints, in the background where there is one."""
        if self._deleter is None:
            self._apply(operations)
            return
        permitted = self._permitted(operations)
        if permitted:
            self._deleter.start(permitted)
            self._done += permitted
            self._deleting = True

    def _permitted(self, operations: Sequence[Operation]) -> list[Operation]:
        """Without what failed or was removed by others too recently."""
        touched = self._options.touched
        return [
            operation
            for operation in operations
            if self._retries.ready(operation)
            and (
                touched is None
                or not self._removals.restores(operation)
                or went_with_device(operation.value, self._plan.nexthops, touched)
                or self._is_on_new_device(operation, touched)
                or self._removals.allow(operation, touched)
            )
        ]

    def _is_on_new_device(self, operation: Operation, touched: Collection[int]) -> bool:
        """Whether it is a sysctl of a device that was made anew, and has the kernel's value."""
        setting = operation.value
        return isinstance(setting, Sysctl) and any(
            link.name == setting.device and link.index in touched
            for link in self._snapshot.links.values()
        )

    def _verified_additions(self) -> list[Operation]:
        """Limits, and the endpoints to add or change whose addresses are not misrouted."""
        if not self._misrouted:
            return self._differences.add_endpoints
        return [
            operation
            for operation in self._differences.add_endpoints
            if not isinstance(operation.value, Endpoint)
            or operation.value.address not in self._misrouted
        ]

    def _misrouted_endpoints(self) -> list[Operation]:
        """The endpoints to delete because their addresses are misrouted.

        None while a handover uplink may take their place, and right after this pass has repaired
        the routing: another program may be changing the rules at this moment, so the next pass
        has to agree.
        """
        if not self._withheld:
            return []
        ownership = Ownership(self._config, self._state)
        deletions = own_endpoint_deletions(ownership, self._snapshot, self._withheld)
        going = {operation.value for operation in self._differences.delete_endpoints}
        withdrawn = [operation for operation in deletions if operation.value not in going]
        if withdrawn and (self._repaired_routing or self._run_again):
            self._run_again = True
            return []
        return withdrawn

    def _tolerated(self) -> Collection[str]:
        """The misrouted addresses that keep their endpoint for now."""
        if self._options.keep_misrouted:
            return self._misrouted
        return self._grace_period.grant(self._misrouted) if self._deleter else ()

    def _incomplete_uplinks(self) -> set[str]:
        """The uplinks whose routes or rules are not all there: they get no endpoint yet.

        Where another program's object is in the place of ours, the lookup decides.
        """
        if not self._incomplete_routing:
            return set()
        in_place = {
            *self._done,
            *(failure.operation for failure in self._failures if failure.errno == EEXIST),
        }
        return {
            operation.uplink
            for operation in self._differences.add_routes
            if isinstance(operation.value, Route | Rule | NexthopObject)
            and operation not in in_place
        }
