"""Retries failed subflows: watches how subflows end, and has their endpoints tried again.

The kernel tries an endpoint once for each connection and address: after a failure the
connection stays without that subflow.  The kernel does not report failures from before the
start or from a netlink overrun, and a clean close does not say which connection lost a subflow.
So connections are also scanned now and then, and a subflow that a scan finds missing gets one
retry in each way.  A peer refuses subflows beyond its limit, so the same subflow gets another
retry in each way when the connection has lost one of its others.

Invariants: the number of retries is bounded (policy.py); no endpoint is retried for a connection
that it cannot help, and none cycled while another connection has its only subflow there
(connections.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from mproutd import log
from mproutd.eventloop import Loop, Timer
from mproutd.model import FULLMESH, IMPLICIT, Endpoint, Operation, family_of
from mproutd.netlink import mptcp_pm
from mproutd.netlink.bpf import subflow_event_filter
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.path_manager import EndpointDeleter, PathManager
from mproutd.planning.endpoints import is_client_endpoint
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import Plan
from mproutd.planning.wildcard import chosen_address, has_room, open_subflows
from mproutd.reconciler import Reconciler
from mproutd.services.base import Publish
from mproutd.subflows.connections import ConnectionSnapshot, off_uplink_addresses
from mproutd.subflows.policy import INITIAL_BACKOFF, RetryPolicy

INITIAL_SCAN_DELAY, SCAN_INTERVAL = 1.0, 60.0
"""Seconds: from the start, lost events or an error to a scan; and between scans without reason."""
SCAN_TIME_SHARE, QUERY_TIME_SHARE = 0.001, 0.01
"""Of all time, what scans without reason may take at most, and all queries."""


class SubflowRetrier:
    """Watches the path manager's events; a source of the loop by fileno()."""

    def __init__(
        self,
        reconciler: Reconciler,
        path_manager: PathManager,
        deleter: EndpointDeleter,
        loop: Loop,
        publish: Publish,
        on_unexplained: Callable[[], None],
    ) -> None:
        """OSError when the kernel has no such events.

        `on_unexplained`: called when a subflow of ours was closed without an error; somebody may
        have deleted its endpoint.
        """
        self._reconciler, self._path_manager, self._deleter = reconciler, path_manager, deleter
        self._loop, self._publish, self._on_unexplained = loop, publish, on_unexplained
        self._events = path_manager.events()
        self._all_events = False
        """Whether the filter lets the events of established subflows through."""
        self._events.attach(subflow_event_filter(everything=self._all_events))
        self._policy = RetryPolicy(loop.clock)
        self._timer: Timer | None = None
        self._scan_at, self._scan_on_time = loop.clock() + INITIAL_SCAN_DELAY, True
        """When to scan: with a timer, or by the first pass after that."""
        self._query_at = 0.0
        """No query of the connections before this time."""
        self._retried: dict[tuple[int, str], int] = {}
        """(token, address) that a scan found missing, so that retries were made → how many
        subflows had joined then or later.  Once there are fewer, the peer may accept one again."""
        self._refused: set[int] = set()
        """The tokens in `_retried`."""

    def fileno(self) -> int:
        return self._events.fileno()

    # -- events ---------------------------------------------------------------------------

    def on_events(self) -> None:
        """Read the events; while a subflow is missing, those of established ones too."""
        messages = self._events.read()
        if messages is None:
            self._policy.on_events_lost()
            self._scan_within(INITIAL_SCAN_DELAY)
        for message in messages or ():
            event = mptcp_pm.event(message.body)
            unexplained = self._policy.on_event(event)
            if unexplained and self._has_endpoint(event.source):
                self._on_unexplained()
                self._scan_within(INITIAL_BACKOFF)
            if (unexplained or event.error) and event.token in self._refused:
                self._scan_within(INITIAL_SCAN_DELAY)
        self._update_filter()
        self._arm()

    def on_pass(self) -> None:
        """A pass is done.  A scan without reason waits for one, so as not to wake the loop."""
        last = self._reconciler.last
        if last and any(
            operation.verb == "delete" and isinstance(operation.value, Endpoint)
            for operation in last.done
        ):
            self._scan_within(INITIAL_SCAN_DELAY)
        if self._loop.clock() >= self._scan_at:
            self._run()
        else:
            self._arm()

    def _update_filter(self) -> None:
        if bool(self._policy.missing_tokens()) != self._all_events:
            self._all_events = not self._all_events
            self._events.attach(subflow_event_filter(everything=self._all_events))

    def _has_endpoint(self, address: str) -> bool:
        last = self._reconciler.last
        endpoints = last.plan.endpoints if last else ()
        return any(address == endpoint.address for endpoint in endpoints)

    # -- when -----------------------------------------------------------------------------

    def _scan_within(self, delay: float) -> None:
        """Scan in at most `delay` seconds, as far as queries may be made then."""
        at = max(self._loop.clock() + delay, self._query_at)
        if not self._scan_on_time or at < self._scan_at:
            self._scan_at, self._scan_on_time = at, True

    def _arm(self) -> None:
        """Set the timer.  The pass that follows a deletion in the background calls this again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._deleter.busy or not self._reconciler.last:
            return
        now = self._loop.clock()
        retry_delay = self._policy.delay()
        delays = [] if retry_delay is None else [max(retry_delay, self._query_at - now)]
        if self._scan_on_time:
            delays.append(max(0.0, self._scan_at - now))
        if delays:
            self._timer = self._loop.call_later(min(delays), self._run)

    # -- what -----------------------------------------------------------------------------

    def _run(self) -> None:
        """Scan and retry, as far as either is due."""
        if self._deleter.busy or not self._reconciler.last:
            return
        try:
            if self._loop.clock() >= self._scan_at:
                self._scan()
            now = self._loop.clock()
            if self._policy.delay() == 0.0 and now >= self._query_at and not self._deleter.busy:
                self._retry()
        except (OSError, DecodeError) as error:
            text = f"cannot query connections: {error}; again in {INITIAL_SCAN_DELAY:g} s"
            self._publish("decision", log.WARNING, text)
            self._query_at = self._loop.clock() + INITIAL_SCAN_DELAY
            self._scan_at = max(self._scan_at, self._query_at)
        self._update_filter()
        self._arm()

    def _scan(self) -> None:
        """Find the connections that miss a subflow from an endpoint of ours."""
        last = self._reconciler.last
        addresses = _with_way_out(last.plan) if last else []
        connections, duration = ConnectionSnapshot((), ()), 0.0
        if addresses:
            connections, duration = self._query(addresses)
        missing = connections.missing(addresses, self._lan_addresses())
        pause = max(SCAN_INTERVAL, duration / SCAN_TIME_SHARE)
        self._scan_at, self._scan_on_time = self._loop.clock() + pause, False
        joined, retried = connections.joined(), self._retried
        self._retried = {}
        for token, address in missing:
            before, now = retried.get((token, address)), joined[token]
            if before is None or now < before:
                self._policy.add_missing(address, token)
                before = now
            self._retried[token, address] = max(before, now)
        self._refused = {token for token, _ in missing}
        self._close_departed(connections)

    def _close_departed(self, connections: ConnectionSnapshot) -> None:
        """Close initial subflows from addresses that are on no device any more.

        A connection that began before there was an endpoint keeps that subflow when the endpoint is
        deleted, and its peer goes on sending there.
        """
        last = self._reconciler.last
        present = {address.address for address in last.snapshot.addresses} if last else set()
        departed = sorted(connections.departed(present)) if present else []
        if departed:
            text = f"closing what began at {', '.join(departed)}, which is on no device any more"
            self._publish("decision", log.INFO, text)
            self._deleter.start([Operation("delete", Endpoint(address)) for address in departed])

    def _retry(self) -> None:
        """Choose an endpoint and have it tried again; the pass that follows restores it."""
        connections, _ = self._query(self._policy.missing_counts())
        ended = connections.ended(self._policy.missing_tokens())
        self._policy.discard(ended | connections.beyond_help(self._lan_addresses()))
        self._policy.on_subflows(connections.established())
        mptcp = self._path_manager.read(full=False)
        own, foreign = self._endpoints(mptcp.endpoints)
        present = {**foreign, **own}
        retry = self._policy.next_retry(
            present,
            connections.sole_paths() | foreign.keys(),
            self._wildcard_addresses(present.values()) if has_room(mptcp) else (),
            toggle_fullmesh=connections.connections is not None,
        )
        if retry is None:
            return
        endpoint = present[retry.address]
        text = f"subflows from {endpoint.address} failed; retrying its endpoint"
        self._publish("decision", log.INFO, text)
        if retry.method == "fullmesh":
            toggled = endpoint._replace(flags=endpoint.flags ^ FULLMESH)
            self._deleter.start([Operation("change", toggled), Operation("change", endpoint)])
        elif retry.method == "wildcard":
            self._start_wildcard(endpoint, mptcp.endpoints)
        else:
            self._deleter.start([Operation("delete", endpoint)])
            self._reconciler.removals.expect_removal([endpoint])

    def _start_wildcard(self, endpoint: Endpoint, existing: Collection[Endpoint]) -> None:
        """Recorded first, so that one that a crash leaves behind is deleted by the next pass."""
        operations = open_subflows(endpoint, existing)
        file = self._reconciler.state_file
        recorded = {
            (operation.value.address, operation.value.device)
            for operation in operations
            if isinstance(operation.value, Endpoint)
        }
        file.save(file.state._replace(endpoints=file.state.endpoints | recorded))
        self._deleter.start(operations)

    def _endpoints(
        self, existing: Collection[Endpoint]
    ) -> tuple[dict[str, Endpoint], dict[str, Endpoint]]:
        """By address: our endpoints, and those of other programs that take the place of ours.

        The latter with the device of the uplink, which they may not name.
        """
        ownership = Ownership(self._reconciler.config, self._reconciler.state_file.state)
        last = self._reconciler.last
        planned = {endpoint.address: endpoint for endpoint in (last.plan.endpoints if last else ())}
        own, foreign = {}, {}
        for endpoint in existing:
            if not is_client_endpoint(endpoint.flags):
                continue
            if ownership.owns_endpoint(endpoint):
                own[endpoint.address] = endpoint
            elif endpoint.address in planned and not endpoint.flags & IMPLICIT:
                foreign[endpoint.address] = endpoint._replace(
                    device=planned[endpoint.address].device
                )
        return own, foreign

    def _wildcard_addresses(self, endpoints: Iterable[Endpoint]) -> set[str]:
        """Of the addresses of these endpoints, those that a wildcard endpoint would use."""
        last = self._reconciler.last
        assert last  # see _run()
        return {
            endpoint.address
            for endpoint in endpoints
            if endpoint.address
            == chosen_address(last.snapshot.addresses, endpoint.device, family_of(endpoint.address))
        }

    def _query(self, addresses: Collection[str]) -> tuple[ConnectionSnapshot, float]:
        """The connections of now, and how long the query took, in seconds."""
        began = self._loop.clock()
        connections = ConnectionSnapshot(*self._reconciler.kernel.subflows(addresses))
        ended = self._loop.clock()
        self._query_at = ended + (ended - began) / QUERY_TIME_SHARE
        return connections, ended - began

    def _lan_addresses(self) -> set[str]:
        """The addresses on devices that are no uplinks."""
        last = self._reconciler.last
        assert last  # see _run()
        uplinks = {uplink.link.index for uplink in last.plan.uplinks if uplink.link}
        addresses = ((address.link, address.address) for address in last.snapshot.addresses)
        return off_uplink_addresses(addresses, uplinks)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._events.close()


def _with_way_out(plan: Plan) -> list[str]:
    """The addresses of client endpoints from which any peer may be reached.

    From an uplink with default_route 0 only few are, so a connection without a subflow there
    usually lacks nothing.
    """
    local = {uplink.config.name for uplink in plan.uplinks if not uplink.config.default_route}
    return [
        endpoint.address
        for endpoint, uplink in plan.endpoints.items()
        if is_client_endpoint(endpoint.flags) and uplink not in local
    ]
