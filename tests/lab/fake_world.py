"""What an admin, a cable and a DHCP client do to the fake kernel, and how it prints itself.

world = World()
world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
world.run("config interface 'wan1' ...")        # passes until there is nothing to do
assert world.ours() == ...                      # routes, rules, endpoints in ip syntax
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from socket import AF_INET, AF_INET6

from mproutd.configuration.config import Config, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.iproute2 import describe, device_names
from mproutd.model import (
    PROTOCOL,
    SCOPE_GLOBAL,
    SCOPE_LINK,
    TABLE_MAIN,
    Address,
    Endpoint,
    Link,
    NexthopObject,
    Object,
    Operation,
    Route,
    Rule,
    Snapshot,
    family_of,
)
from mproutd.passes import Collaborators, Deleter, Pass, PassOptions
from mproutd.planning.diff import compare
from mproutd.planning.ownership import Ownership
from mproutd.planning.pacing import GracePeriod, RemovalLimiter, Retries
from mproutd.planning.plan import Outcome, make_plan
from mproutd.planning.state import State, decode, encode
from mproutd.planning.uplinks import Facts
from tests.lab.fake_kernel import BY_KERNEL, FakeKernel

ENABLED = "config globals 'globals'\n option multipath 'enable'\n"
STATIC = 4
"""RTPROT_STATIC: an admin's."""


def uci(network: str, own: str = "", enabled: bool = True) -> Config:
    """The configuration that two texts ask for; `enabled` puts globals.multipath in front."""
    network = (ENABLED if enabled else "") + network
    return build(parse_sections("network", network), parse_sections("mproutd", own))


def interface(name: str, device: str, mode: str) -> str:
    """A section of the file network."""
    return f"config interface '{name}'\n option device '{device}'\n option multipath '{mode}'\n"


class Store:
    """The state file, as it would be read again."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or State()
        self.saves = 0

    def save(self, state: State) -> None:
        if state != self.state:
            self.saves += 1
            self.state = decode(json.loads(json.dumps(encode(state))))
            assert self.state == state


class World(FakeKernel):
    """The fake kernel with its surroundings."""

    def __init__(self, max_endpoints: int = 8, max_limit: int = 8) -> None:
        super().__init__(max_endpoints, max_limit)
        self.store = Store()
        self._last_index = 1

    # -- devices --------------------------------------------------------------------------

    def link(self, name: str) -> Link:
        return next(link for link in self.links.values() if link.name == name)

    def has(self, name: str) -> bool:
        return any(link.name == name for link in self.links.values())

    def create(self, name: str, *, up: bool = True, pointopoint: bool = False) -> None:
        self._last_index += 1
        self.links[self._last_index] = Link(self._last_index, name, up, True, pointopoint)

    def device(self, name: str, *addresses: str, gateway: str = "", gateway6: str = "") -> None:
        """A device that is up, with addresses and main's default routes."""
        if not self.has(name):
            self.create(name)
        for address in addresses:
            self.add_address(name, address)
        for gateway_address in (gateway, gateway6):
            if gateway_address:
                self.default(name, gateway_address)

    def remove(self, name: str) -> None:
        """The device goes, with addresses and routes; rules and endpoints stay."""
        index = self.link(name).index
        self.addresses = [address for address in self.addresses if address.link != index]
        self._lose_routes(index)
        del self.links[index]

    def _lose_routes(self, index: int) -> None:
        """Those through a device that is gone or down, and its place in multipath routes."""
        self.flush_nexthops(index)
        self.routes = [
            route._replace(nexthops=tuple(hop for hop in route.nexthops if hop.device != index))
            if index in route.devices and route.device != index
            else route
            for route in self.routes
            if route.device != index and set(route.devices) != {index}
        ]
        for place, route in enumerate(self.routes):
            if len(route.nexthops) == 1:
                ((gateway, _, onlink, device),) = route.nexthops
                self.routes[place] = route._replace(
                    device=device, gateway=gateway, onlink=onlink, nexthops=()
                )

    def set(self, name: str, **fields: object) -> None:
        """carrier, rp_filter ..., as somebody else changes them."""
        link = self.link(name)
        self.links[link.index] = link._replace(**fields)  # type: ignore[arg-type]
        if not self.links[link.index].carrier:
            self.flush_nexthops(link.index)

    def down(self, name: str) -> None:
        """IPv4 keeps the address and loses every route; IPv6 loses both."""
        self.set(name, up=False)
        index = self.link(name).index
        self._lose_routes(index)
        self.addresses = [
            address
            for address in self.addresses
            if address.link != index or address.family == AF_INET
        ]

    def up(self, name: str) -> None:
        """Main's connected routes come back, nothing else."""
        self.set(name, up=True)
        for address in self.addresses:
            if address.link == self.link(name).index:
                self._connect(address)

    # -- addresses and routes -------------------------------------------------------------

    def add_address(self, name: str, text: str, *, flags: int = 0, scope: int = 0) -> None:
        """ "10.1.1.2/24", or "10.1.1.2 peer 10.1.1.1/32"."""
        own, _, peer = text.partition(" peer ")
        own, _, length = own.partition("/") if not peer else (own, "", peer.partition("/")[2])
        peer = peer.partition("/")[0]
        address = Address(self.link(name).index, own, int(length), peer, scope, flags)
        older = [
            position
            for position, other in enumerate(self.addresses)
            if other.link == address.link and other.family == address.family == AF_INET6
        ]  # IPv6 lists the newest first
        self.addresses.insert(min(older, default=len(self.addresses)), address)
        if self.link(name).up:
            self._connect(address)

    def flag_address(self, text: str, flags: int) -> None:
        """An IPv6 address becomes usable, deprecated ..."""
        self.addresses = [
            address._replace(flags=flags) if address.address == text else address
            for address in self.addresses
        ]

    def delete_address(self, name: str, text: str) -> None:
        """IPv4 routes with this source go without an event, all with the last address.
        IPv6 routes lose their source."""
        index = self.link(name).index
        removed = next(
            address
            for address in self.addresses
            if address.link == index and address.address == text
        )
        self.addresses.remove(removed)
        families = [address.family for address in self.addresses if address.link == index]
        alone = removed.family not in families
        elsewhere = any(address.address == text for address in self.addresses)
        same_subnet = any(
            address.link == index and address.network == removed.network
            for address in self.addresses
        )
        kept = []
        for route in self.routes:
            if route.family == AF_INET and removed.family == AF_INET:
                if (route.source == text and not elsewhere) or (alone and route.device == index):
                    continue
                if route == self._connected(removed):
                    continue
            elif (
                removed.family == AF_INET6 and route == self._connected(removed) and not same_subnet
            ):
                continue
            elif route.source == text and not elsewhere:
                route = route._replace(source="")
            kept.append(route)
        self.routes = kept

    def _connected(self, address: Address) -> Route:
        v4 = address.family == AF_INET
        return Route(
            address.family,
            TABLE_MAIN,
            address.network,
            address.link,
            "",
            address.address if v4 else "",
            0 if v4 else 256,
            SCOPE_LINK if v4 else SCOPE_GLOBAL,
            protocol=BY_KERNEL,
        )

    def _connect(self, address: Address) -> None:
        if address.network != address.address and address.scope == SCOPE_GLOBAL:
            route = self._connected(address)  # NLM_F_APPEND: the same subnet on two devices
            if route not in self.routes:
                self.routes.append(route)

    def default(self, name: str, gateway: str, metric: int = 0) -> None:
        """A default route in main, as a DHCP client writes it."""
        family = family_of(gateway) if gateway else AF_INET
        index = self.link(name).index
        self.routes.append(
            Route(
                family,
                TABLE_MAIN,
                "default",
                index,
                gateway,
                metric=metric or 100 + int(name[-1]),
                scope=SCOPE_GLOBAL if gateway else SCOPE_LINK,
                protocol=STATIC,
            )
        )

    def forget_default(self, name: str) -> None:
        index = self.link(name).index
        self.routes = [
            route
            for route in self.routes
            if (route.table, route.destination, route.device) != (TABLE_MAIN, "default", index)
        ]

    # -- what is somebody else's ----------------------------------------------------------

    def foreign(self, *values: Object) -> None:
        """Routes, rules and endpoints of others; it fails where the kernel would."""
        for value in values:
            if isinstance(value, Route):
                assert not self.change_route("add", value), value
            elif isinstance(value, Rule):
                assert not self.change_rule("add", value), value
            elif isinstance(value, Endpoint):
                assert not self.add_endpoint(value), value
            elif isinstance(value, NexthopObject):
                assert not self.nexthops.change("add", value), value

    # -- mproutd --------------------------------------------------------------------------

    def once(self, config: Config, facts: Facts | None = None) -> Outcome:
        """One pass."""
        return run_pass(self, config, facts, sweep=True)

    def run(self, config: Config | str, facts: Facts | None = None) -> Outcome:
        """Passes until one does no more than the last.  AssertionError after ten."""
        if isinstance(config, str):
            config = uci(config)
        failed: object = ()
        for _ in range(10):
            saves = self.store.saves
            outcome = self.once(config, facts)
            idle = not outcome.done and not outcome.run_again and saves == self.store.saves
            if idle and outcome.failures == failed:
                return outcome
            failed = outcome.failures
            facts = (facts or Facts())._replace(withheld=outcome.withheld)
        raise AssertionError(f"it does not settle: {outcome.done} {outcome.failures}")

    # -- print ----------------------------------------------------------------------------

    def show(self, values: Iterable[Object]) -> list[str]:
        name = device_names(self.links)
        lines = []
        for value in values:
            if isinstance(value, Endpoint):
                value = value._replace(id=0)
            prefix = "-6 " if getattr(value, "family", AF_INET) == AF_INET6 else ""
            lines.append(prefix + describe(value, name))
        return lines

    def ours(self) -> str:
        """Routes and rules of protocol 77, then every endpoint, as `ip` shows them."""
        routes = [route for route in self.routes if route.protocol == PROTOCOL]
        rules = [rule for rule in self.rules if rule.protocol == PROTOCOL]
        ends = self.mptcp.endpoints if self.mptcp else ()
        routes.sort(key=lambda route: (route.family, route.table, route.destination, route.metric))
        rules.sort(key=lambda rule: rule.family)
        own = [each for each in self.nexthops if each.protocol == PROTOCOL]
        lines = [line.replace(" protocol 77", "") for line in self.show(own)]
        lines += [line.replace(" proto 77", "") for line in self.show(routes)]
        lines += [line.replace(" protocol 77", "") for line in self.show(rules)]
        return "\n".join(lines + self.show(ends)) + "\n"

    def state(self) -> str:
        """Everything, sorted: for comparing two kernels.  Without endpoint ids."""
        lines = self.show([*self.routes, *self.rules, *self.nexthops])
        if self.mptcp:
            lines += [f"endpoint {line}" for line in self.show(self.mptcp.endpoints)]
            lines += self.show([self.mptcp.limits])
        for link in self.links.values():
            lines.append(f"{link.name} {link.rp_filter} {link.arp_ignore} {link.arp_announce}")
        return "\n".join(sorted(lines)) + "\n"


class NoGrace(GracePeriod):
    """No endpoint of a misrouted address is kept."""

    def grant(self, misrouted: Collection[str]) -> frozenset[str]:
        return frozenset()


def run_pass(
    world: World,
    config: Config,
    facts: Facts | None = None,
    *,
    deleter: Deleter | None = None,
    **options: bool,
) -> Outcome:
    """One pass with nothing that limits it; with a deleter, endpoints are deleted by that."""
    collaborators = Collaborators(
        world,
        world.store,
        RemovalLimiter(lambda: 0.0),
        Retries(lambda: 0.0),
        NoGrace(lambda: 0.0),
        deleter,
    )
    chosen = PassOptions(background=deleter is not None, **options)
    return Pass(collaborators, config, facts or Facts(), chosen).run()


def dry_run(
    config: Config, snapshot: Snapshot, state: State, facts: Facts | None = None
) -> list[Operation]:
    """What a pass would do."""
    plan = make_plan(config, snapshot, state, facts or Facts())
    return compare(Ownership(config, state), snapshot, plan).operations


class ManualDeleter:
    """Keeps the endpoints that it is to delete until finish()."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.operations: list[Operation] = []
        self.busy = False

    def start(self, operations: Sequence[Operation]) -> None:
        assert not self.busy
        self.operations = list(operations)
        self.busy = True

    def finish(self) -> None:
        self._world.apply(self.operations)
        self.busy = False
