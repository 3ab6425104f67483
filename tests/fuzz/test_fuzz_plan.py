"""Whatever is configured, found and remembered: only what is ours is changed, and it can be sent.

The kernel that is read here is one that no daemon has been at: our protocol number in odd
places, endpoints of others, links with any name, addresses on devices that are not there.
"""

from __future__ import annotations

import json
from socket import AF_INET, AF_INET6

from hypothesis import assume, example, given
from hypothesis import strategies as st

from mproutd.configuration.config import Config, ConfigError, build
from mproutd.configuration.uci_parser import parse_sections
from mproutd.format import safe
from mproutd.iproute2 import device_names, ip_command
from mproutd.model import (
    PROTOCOL,
    Address,
    Endpoint,
    Limits,
    Link,
    Mptcp,
    Operation,
    Route,
    Rule,
    Snapshot,
    Sysctl,
    canonical,
    family_of,
)
from mproutd.netlink import mptcp_pm, rtnl_encode
from mproutd.netlink.sysctls import _sysctl_path
from mproutd.planning.diff import own_endpoint_deletions
from mproutd.planning.gateways import Gateway
from mproutd.planning.inspection import Inspection
from mproutd.planning.ownership import Ownership
from mproutd.planning.plan import make_plan
from mproutd.planning.state import State, decode, encode
from mproutd.planning.uplinks import Facts
from mproutd.status.build import build_status
from tests.fuzz.material import quick
from tests.lab.fake_world import ENABLED, dry_run
from tests.unit.test_state import MEMORIES

DEVICES = ("eth1", "eth2", "tun0", "br-lan", "é\u0301", "a\x1b[2J", "\udcff", "0")
HOSTS = st.sampled_from(
    ("10.1.1.2", "10.1.1.3", "10.2.2.2", "192.0.2.7", "2001:db8:1::2", "2001:db8:2::2", "fd00::2")
    + ("fe80::1", "127.0.0.1", "0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "::ffff:10.1.1.2")
).map(canonical)
INDEXES = st.integers(0, 6)
TABLES = st.sampled_from((0, 1, 100, 253, 254, 255, 7000, 7001, 7002, 7511, 7512, 0xFFFFFFFF))
PRIORITIES = st.sampled_from(
    (0, 1, 6999, 7000, 7010, 7501, 7899, 7900, 8899, 8900, 32764, 32765, 32766, 1 << 31)
)


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    mode = st.sampled_from(("on", "master", "off", "backup", "handover"))
    network = ENABLED if draw(st.integers(0, 5)) else ""
    own = ""
    for number in range(draw(st.integers(0, 3))):
        name = f"wan{number}"
        device = draw(st.sampled_from(("eth1", "eth2", "tun0", "é\u0301", "0")))
        network += f"config interface {name}\n option device '{device}'\n"
        network += f" option multipath {draw(mode)}\n"
        own += f"config uplink {name}\n"
        for option, values in (
            ("table", ("1", "100", "7001", "7511", "7512", "4294967295")),
            ("mark", ("1", "0x01000000", "3/0xff", "0xffffffff/0xffffffff")),
            ("gateway", ("10.1.1.1", "10.9.9.9", "255.255.255.254")),
            ("gateway6", ("fe80::1", "2001:db8:1::1", "::ffff:10.1.1.1")),
            ("iif", ("br-lan", "eth1")),
            ("strict", ("1",)),
            ("ula", ("1",)),
            ("fullmesh", ("1",)),
            ("laminar", ("1",)),
        ):
            if draw(st.booleans()):
                word = "list" if option == "iif" else "option"
                own += f" {word} {option} {draw(st.sampled_from(values))}\n"
    own += "config mproutd globals\n"
    for option, values in (
        ("role", ("client", "server", "both")),
        ("subflows", ("0", "255")),
        ("rule_priority", ("1", "7000", "30864")),
        ("table_base", ("256", "7000", "4294966784")),
        ("mark_mask", ("0x3", "0xffffffff", "0x80000001")),
        ("main_routes", ("0",)),
    ):
        if not draw(st.integers(0, 3)):
            own += f" option {option} {draw(st.sampled_from(values))}\n"
    try:
        return build(parse_sections("network", network), parse_sections("mproutd", own))
    except ConfigError:
        assume(False)
        raise


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    flag = st.booleans()
    links = {
        index: Link(index, name, draw(flag), draw(flag), draw(flag), *draw(
            st.tuples(*[st.integers(0, 2)] * 3)
        ))
        for index, name in enumerate(draw(st.permutations(DEVICES))[: draw(st.integers(0, 5))], 1)
    }  # fmt: skip
    addresses = []
    for _ in range(draw(st.integers(0, 5))):
        host = draw(HOSTS)
        most = 32 if family_of(host) == AF_INET else 128
        addresses.append(
            Address(
                draw(INDEXES),
                host,
                draw(st.sampled_from((0, 8, 24, 31, most))),
                draw(st.just("") | HOSTS.filter(lambda e, h=host: family_of(e) == family_of(h))),
                draw(st.sampled_from((0, 0, 0, 253, 254))),
                draw(st.sampled_from((0, 0, 0x80, 0x40, 0x20, 0x08, 0x01))),
            )
        )
    protocols = st.sampled_from((PROTOCOL, PROTOCOL, 4, 2, 0))
    routes = tuple(
        Route(
            family,
            draw(TABLES),
            draw(st.sampled_from(("default", "10.1.1.0/24", "10.9.0.0/16")))
            if family == AF_INET
            else draw(st.sampled_from(("default", "2001:db8:1::/64"))),
            draw(INDEXES),
            protocol=draw(protocols),
            metric=draw(st.sampled_from((0, 1, 1024))),
            type=draw(st.sampled_from((1, 7))),
        )
        for family in draw(st.lists(st.sampled_from((AF_INET, AF_INET6)), max_size=4))
    )
    rules = tuple(
        Rule(
            family,
            draw(PRIORITIES),
            draw(TABLES),
            draw(st.sampled_from(("", "10.1.1.2"))) if family == AF_INET else "",
            oif=draw(st.sampled_from(("", *DEVICES))),
            protocol=draw(protocols),
            plain=draw(flag),
        )
        for family in draw(st.lists(st.sampled_from((AF_INET, AF_INET6)), max_size=4))
    )
    defaults = {}
    for index in links:
        for family, gateway in ((AF_INET, "10.1.1.1"), (AF_INET6, "fe80::1")):
            if draw(flag):
                defaults[index, family] = Route(
                    family, 254, "default", index, draw(st.sampled_from(("", gateway))), protocol=4
                )
    mptcp = None
    if draw(st.integers(0, 5)):
        hosts = draw(st.lists(st.tuples(HOSTS, INDEXES), max_size=4, unique_by=lambda e: e[0]))
        existing = tuple(
            Endpoint(host, device, draw(st.integers(0, 63)), n, draw(st.sampled_from((0, 0, 80))))
            for n, (host, device) in enumerate(hosts, 1)
        )
        cap, room = (draw(st.sampled_from((8, 0, 1, 64, 255))) for _ in range(2))
        limits = Limits(draw(st.integers(0, cap)), draw(st.integers(0, cap)))
        mptcp = Mptcp(existing, limits, cap, max_endpoints=room, laminar=draw(flag))
    return Snapshot(
        links, tuple(addresses), routes, defaults,
        by_device([route for route in routes if not route.gateway]),
        by_device([route for route in routes if route.from_prefix]),
        tuple(draw(st.lists(st.just("2001:db8:7::/56"), max_size=1))),
        rules, mptcp, draw(st.integers(0, 2)), frozenset(draw(st.lists(HOSTS, max_size=2))),
    )  # fmt: skip


def by_device(routes: list[Route]) -> dict[int, tuple[Route, ...]]:
    return {
        route.device: tuple(other for other in routes if other.device == route.device)
        for route in routes
    }


@st.composite
def memories(draw: st.DrawFn) -> State:
    """What fits the kernel above, or has nothing to do with it."""
    if not draw(st.integers(0, 4)):
        return draw(MEMORIES)
    keys = st.sampled_from(("rp_filter", "arp_ignore", "forwarding", "../../kernel/x", ""))
    return State(
        slots=draw(st.dictionaries(st.sampled_from(("wan0", "wan1", "x")), st.integers(0, 300))),
        tables=frozenset(draw(st.lists(TABLES, max_size=3))),
        priorities=frozenset(draw(st.lists(PRIORITIES, max_size=3))),
        gateways=draw(st.dictionaries(st.tuples(st.sampled_from(DEVICES), HOSTS), HOSTS)),
        endpoints=frozenset(draw(st.lists(st.tuples(HOSTS, INDEXES), max_size=4))),
        without_endpoint=frozenset(draw(st.lists(HOSTS, max_size=3))),
        limits=draw(st.none() | st.just((Limits(2, 0), Limits(8, 8)))),
        sysctls=draw(st.dictionaries(st.tuples(INDEXES, keys), st.integers(0, 2), max_size=4)),
    )


FACTS = st.builds(
    Facts,
    st.dictionaries(
        st.tuples(st.sampled_from(DEVICES), st.sampled_from((AF_INET, AF_INET6))),
        st.builds(Gateway, st.sampled_from(("10.1.1.1", "fe80::1")), st.just("lease")).map(
            lambda gateway: (gateway,)
        ),
        max_size=3,
    ).map(
        lambda gateways: {
            key: gateway
            for key, gateway in gateways.items()
            if family_of(gateway[0].address) == key[1]
        }
    ),
)


def is_ours(operation: Operation, config: Config, snapshot: Snapshot, state: State) -> bool:
    """The table of docs/design.md, once more and in other words."""
    verb, value, _ = operation
    if isinstance(value, Route):
        own = value.table in range(config.table_base, config.table_base + 512)
        own |= value.table in {*state.tables, *(uplink.table for uplink in config.uplinks)}
        return value.protocol == PROTOCOL and own and value.table not in (0, 253, 254, 255)
    if isinstance(value, Rule):
        own = value.priority in (32764, 32765) or any(
            0 <= value.priority - base < 1900 for base in (config.rule_priority, *state.priorities)
        )
        return value.protocol == PROTOCOL and own and value.plain
    if isinstance(value, Endpoint):
        assert snapshot.mptcp is not None
        there = {endpoint.address: endpoint for endpoint in snapshot.mptcp.endpoints}.get(
            value.address
        )
        if verb == "add":
            return value.device in snapshot.links
        if value.id == 0:  # the initial subflows from an address that we used
            return verb == "delete" and value.address in state.without_endpoint
        assert there is not None
        if there.flags & 16:  # made by the kernel for an address of ours
            return value.address in state.without_endpoint
        return (there.address, there.device) in state.endpoints and not there.port
    if isinstance(value, Limits):
        return snapshot.mptcp is not None
    return value.key in ("rp_filter", "arp_ignore", "arp_announce") and any(
        link.name == value.device for link in snapshot.links.values()
    )


def sent(operation: Operation) -> None:
    """It has a form that the kernel can be given, and one for people."""
    value = operation.value
    if isinstance(value, Endpoint | Limits):
        mptcp_pm.change(operation, 28, 1)
    elif isinstance(value, Sysctl):
        _sysctl_path(value.device, value.key)
    else:
        rtnl_encode.change(operation, 1)


@quick
@given(configurations(), snapshots(), memories(), FACTS)
@example(
    Config(), Snapshot({}, mptcp=Mptcp()), State(sysctls={(99, "of_another_version"): 1}), Facts()
)
@example(Config(), Snapshot({1: Link(1, "eth1")}), State(sysctls={(1, "../x"): 1}), Facts())
def test_only_what_is_ours_is_changed(
    config: Config, snapshot: Snapshot, state: State, facts: Facts
) -> None:
    try:
        state = decode(json.loads(json.dumps(encode(state))))
    except ValueError:
        return  # no file of ours says so
    operations = dry_run(config, snapshot, state, facts)
    name = device_names(snapshot.links)
    for operation in operations:
        assert is_ours(operation, config, snapshot, state), operation
        sent(operation)
        assert safe(ip_command(operation, name)).isprintable()
    target = make_plan(config, snapshot, state, facts)
    addresses = [endpoint.address for endpoint in target.endpoints]
    closing = own_endpoint_deletions(Ownership(config, state), snapshot, addresses)
    assert all(is_ours(operation, config, snapshot, state) for operation in closing)
    assert decode(json.loads(json.dumps(encode(target.state)))) == target.state
    if not config.enabled:
        assert not any(operation.verb == "add" for operation in operations)
    status = build_status(
        Inspection(config, "/etc/mproutd", snapshot, target, state, operations, {}, {})
    )
    json.dumps(status).encode("ascii")
