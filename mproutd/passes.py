"""One pass: read the kernel, plan, compare, act.

Four steps, in this order: close the endpoints that go; raise the routes and rules that
come; prove by a lookup that each address leaves by its own uplink, and open the endpoints
of those that do; clear the rules and routes that go.  While endpoints are being closed in
the background, the last two wait: another pass does them.

What must hold: a pass without a difference writes nothing, neither to the kernel nor to
the state file; the state file is written before what it speaks of is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from errno import EEXIST, EINVAL
from typing import Protocol

from mproutd.configuration.config import Config
from mproutd.model import (
    FAMILIES,
    Endpoint,
    Failure,
    Operation,
    Route,
    Rule,
    Snapshot,
    family_of,
)
from mproutd.netlink.kernel import Kernel, SnapshotRequest
from mproutd.planning import diff
from mproutd.planning.endpoints import max_endpoints
from mproutd.planning.health import effective
from mproutd.planning.numbering import assign_numbers
from mproutd.planning.plan import ASK_MAIN, Outcome, Plan, make_plan, own_tables
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts

NO_FACTS = Facts()

ALREADY_DELETED = frozenset((2, 3, 19))
"""errno(3) ENOENT, ESRCH, ENODEV: a delete that meets one of these has found its aim."""


def already_deleted(operation: Operation, number: int) -> bool:
    """Whether what was to be deleted had gone before; the path manager says EINVAL for that
    (net/mptcp/pm_kernel.c, mptcp_pm_nl_del_addr_doit)."""
    if operation.verb != "delete":
        return False
    return number in ALREADY_DELETED or (number == EINVAL and isinstance(operation.value, Endpoint))


class Store(Protocol):
    """Where the memory is kept."""

    state: State

    def save(self, state: State) -> None: ...


def snapshot_request(
    config: Config, state: State, *, sweep: bool, full: bool, facts: Facts = NO_FACTS
) -> SnapshotRequest:
    """What to read.  `sweep` looks into every table that could hold something of ours."""
    if sweep or not config.enabled:
        tables = own_tables(config, state)
    else:
        numbers = assign_numbers(config, state.slots).values()
        tables = state.tables | {own.table for own in numbers} | {config.table_base}
    devices = {uplink.device for uplink in config.uplinks}
    dead = {name for name, _ in effective(config, state, facts)}
    doubted = {uplink.device for uplink in config.uplinks if uplink.name in dead}
    return SnapshotRequest(
        devices, sorted(tables), config.mark_mask, state.without_endpoint, full, doubted
    )


def dry_run(config: Config, snapshot: Snapshot, state: State, facts: Facts) -> list[Operation]:
    """Everything that differs, without doing it: for --dry-run."""
    return difference(config, snapshot, state, make_plan(config, snapshot, state, facts))


def difference(config: Config, snapshot: Snapshot, state: State, plan: Plan) -> list[Operation]:
    """Everything in which the snapshot differs from what should be there."""
    raising, clearing = diff.routing(config, snapshot, state, plan)
    closing, opening = diff.endpoints(snapshot, state, plan)
    return closing + raising + opening + clearing


def reconcile(
    kernel: Kernel,
    store: Store,
    config: Config,
    facts: Facts,
    *,
    sweep: bool = False,
    full: bool = True,
    close: Callable[[Sequence[Operation]], None] | None = None,
    closing: bool = False,
    allow: Callable[[Operation], bool] = lambda operation: True,
    patience: Callable[[Collection[str]], Collection[str]] = lambda addresses: (),
) -> Outcome:
    """One pass.

    `close` takes endpoints to be closed in the background; without it they are closed here,
    and waited for.  `closing` says that such work is under way.  `allow` may hold back an
    operation until later.  `patience` says which addresses that are led away keep the endpoint
    that they have for now.  OSError when the kernel does not answer.
    """
    state = store.state
    snapshot = kernel.snapshot(snapshot_request(config, state, sweep=sweep, full=full, facts=facts))
    plan = make_plan(config, snapshot, state, facts)
    raising, clearing = diff.routing(config, snapshot, state, plan)
    endpoints_going, opening = diff.endpoints(snapshot, state, plan)
    left = state.without_endpoint - plan.state.without_endpoint
    # What tells of an address that was left is kept until its subflows are being closed.
    store.save(plan.state._replace(without_endpoint=plan.state.without_endpoint | left))

    done: list[Operation] = []
    failures: list[Failure] = []

    def act(operations: Sequence[Operation]) -> None:
        permitted = [operation for operation in operations if allow(operation)]
        if permitted:
            failed = kernel.apply(permitted)
            refused = {failure.operation for failure in failed}
            done.extend(operation for operation in permitted if operation not in refused)
            failures.extend(
                failure
                for failure in failed
                if not already_deleted(failure.operation, failure.errno)
            )

    def shut(operations: Sequence[Operation]) -> bool:
        """Whether the closing goes on in the background."""
        if close is None:
            act(operations)
            return False
        permitted = [operation for operation in operations if allow(operation)]
        if permitted:
            close(permitted)
            done.extend(permitted)
        return bool(permitted)

    moving = _moving(snapshot, plan, endpoints_going)
    if not closing and not moving:
        closing = shut(endpoints_going)
        store.save(plan.state)
    before = len(done)
    act(raising)
    mended = len(done) > before
    misrouted = misrouted_addresses(kernel, plan)
    doubtful = False
    if not closing:
        more, opening = diff.endpoints(snapshot, plan.state, plan, misrouted, patience(misrouted))
        already = set(endpoints_going)
        more = [operation for operation in more if operation not in already]
        if mended and more:
            # Somebody may be at the rules right now: what carries is closed on a second look.
            more, doubtful = [], True
        closing = not moving and shut(more)
        kernel.flush_unreachable_neighbours(_gateways(plan, opening))
        waiting = _incomplete(raising, done, failures)
        act([each for each in opening if each.verb != "add" or each.uplink not in waiting])
        if moving:
            closing = shut([*endpoints_going, *more])
            store.save(plan.state)
    if not closing:
        act(clearing)
    blind = any(
        isinstance(operation.value, Rule)
        and operation.value.priority == config.rule_priority + ASK_MAIN
        for operation in done
    )
    made = set(done)
    missing = [each.value for each in (*raising, *opening) if each not in made]
    missing += [endpoint for endpoint in plan.endpoints if endpoint.address in misrouted]
    return Outcome(
        snapshot,
        plan,
        tuple(done),
        tuple(failures),
        misrouted,
        blind or closing or doubtful,
        tuple(missing),
    )


def _incomplete(
    raising: Sequence[Operation], done: Sequence[Operation], failures: Sequence[Failure]
) -> set[str]:
    """The uplinks whose routes or rules are not all there, so that no endpoint may follow.

    Where somebody else's object is in the place of ours, the lookup decides.
    """
    there = {*done, *(failure.operation for failure in failures if failure.errno == EEXIST)}
    return {
        each.uplink
        for each in raising
        if isinstance(each.value, Route | Rule) and each not in there
    }


def _moving(snapshot: Snapshot, plan: Plan, going: Sequence[Operation]) -> bool:
    """Whether in some family nothing that carries stays, so that the new comes first, if there
    is room for it.  Otherwise closing comes first: what a dead path holds moves to the others
    at once.
    """
    if snapshot.mptcp is None or not going or not plan.endpoints:
        return False
    found = {endpoint.address for endpoint in snapshot.mptcp.endpoints}
    coming = {endpoint.address for endpoint in plan.endpoints}
    if len(found | coming) > max_endpoints(snapshot.mptcp):
        return False
    left = {each.value.address for each in going if isinstance(each.value, Endpoint)} - coming
    return any(
        found.isdisjoint(new) and not left.isdisjoint(old)
        for old, new in zip(_by_family(found), _by_family(coming), strict=True)
        if new
    )


def _by_family(addresses: Collection[str]) -> list[set[str]]:
    return [
        {address for address in addresses if family_of(address) == family} for family in FAMILIES
    ]


def _gateways(plan: Plan, opening: Sequence[Operation]) -> list[tuple[str, int]]:
    """(gateway, ifindex) of the paths whose endpoints are about to be opened."""
    devices = {
        operation.value.device
        for operation in opening
        if operation.verb == "add" and isinstance(operation.value, Endpoint)
    }
    return [
        (path.gateway.address, uplink.link.index)
        for uplink in plan.uplinks
        if uplink.link and uplink.link.index in devices
        for path in uplink.paths
        if path.usable and path.gateway and path.gateway.address
    ]


def misrouted_addresses(kernel: Kernel, plan: Plan) -> tuple[str, ...]:
    """The addresses whose packets would not leave as planned (DESIGN: endpoint last)."""
    expected: dict[str, tuple[int, str]] = {}
    for uplink in plan.uplinks:
        for path in uplink.paths:
            if path.usable and path.gateway and uplink.link:
                for address in path.eligible:
                    expected[address.address] = (uplink.link.index, path.gateway.address)
    questions = [
        (endpoint.address, endpoint.device)
        for endpoint in plan.endpoints
        if endpoint.address in expected
    ]
    if not questions:
        return ()
    return tuple(
        address
        for (address, _), route in zip(questions, kernel.lookups(questions), strict=True)
        if route is None or not route.table or (route.device, route.gateway) != expected[address]
    )
