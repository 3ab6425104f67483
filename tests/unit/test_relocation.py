"""Connections outlive the endpoints of their subflows, or keep them."""

from __future__ import annotations

from collections.abc import Iterable
from socket import AF_INET

import pytest

from mproutd.model import (
    BACKUP,
    IMPLICIT,
    SIGNAL,
    SUBFLOW,
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
)
from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.planning.plan import Plan
from mproutd.planning.state import State
from mproutd.subflows.connections import ConnectionSnapshot
from mproutd.subflows.relocation import last_endpoints, relocate, without

WAN1, WAN2, WAN1_6 = (
    Endpoint("10.1.1.2", 2, SUBFLOW, 1),
    Endpoint("10.2.2.2", 3, SUBFLOW | BACKUP, 2),
    Endpoint("2001:db8:1::2", 2, SUBFLOW, 3),
)
ALL = (WAN1, WAN2, WAN1_6)


def snapshot(*endpoints: Endpoint, metrics: tuple[int, int] = (1, 2)) -> Snapshot:
    return Snapshot(
        links={2: Link(2, "eth1"), 3: Link(3, "eth2")},
        addresses=tuple(
            Address(endpoint.device, endpoint.address, 64 if ":" in endpoint.address else 24)
            for endpoint in ALL
        ),
        defaults={
            (index, AF_INET): Route(AF_INET, 254, "default", index, metric=metric)
            for index, metric in zip((2, 3), metrics, strict=True)
            if metric
        },
        mptcp=Mptcp(endpoints or ALL),
    )


def plan(*endpoints: Endpoint) -> Plan:
    wanted = dict.fromkeys(endpoints, "wan1")
    nothing: frozenset[int] = frozenset()
    return Plan({}, {}, wanted, Limits(2, 0), {}, (), {}, {}, {}, nothing, {}, State())


def deletions(*endpoints: Endpoint) -> list[Operation]:
    return [Operation("delete", endpoint) for endpoint in endpoints]


def connection(
    token: int, *addresses: str, here: bool = True, fallback: bool = False
) -> tuple[Connection, list[Subflow]]:
    """It began at the first of these addresses."""
    subflows = [
        Subflow(token, address, initial=not index, initiated_locally=here)
        for index, address in enumerate(addresses)
    ]
    made = Connection(addresses[0], len(addresses) - 1, fallback, True, token=token)
    return made, subflows


def connected(*connections: tuple[Connection, list[Subflow]]) -> ConnectionSnapshot:
    return ConnectionSnapshot(
        [connection[0] for connection in connections],
        [one for connection in connections for one in connection[1]],
    )


def described(operations: Iterable[Operation]) -> list[str]:
    return [
        f"{operation.verb} {operation.value.address} dev {operation.value.device}"
        for operation in operations
        if isinstance(operation.value, Endpoint)
    ]


BOTH = connection(7, "10.1.1.2", "10.2.2.2")


def test_the_best_goes_last_and_a_wildcard_endpoint_takes_its_place() -> None:
    relocation = relocate(snapshot(), plan(), deletions(*ALL), ALL, connected(BOTH))
    assert described(relocation.deletions) == [
        "delete 10.2.2.2 dev 3",
        "delete 2001:db8:1::2 dev 2",
        "delete 10.1.1.2 dev 2",
        "add 0.0.0.0 dev 2",
        "delete 0.0.0.0 dev 2",
    ]
    wildcard = relocation.deletions[3].value
    assert wildcard == Endpoint("0.0.0.0", 2, SUBFLOW, 4), "an id that no endpoint has"
    assert relocation.kept == {}
    assert relocation.wildcards == {("0.0.0.0", 2)}


@pytest.mark.parametrize(
    ("metrics", "device"), [((1, 2), 2), ((2, 1), 3), ((0, 5), 3), ((0, 0), 2), ((4, 4), 2)]
)
def test_the_best_is_where_main_leads_without_us(metrics: tuple[int, int], device: int) -> None:
    """Else the one where most connections began."""
    relocation = relocate(
        snapshot(metrics=metrics), plan(), deletions(WAN1, WAN2), ALL[:2], connected(BOTH)
    )
    assert described(relocation.deletions)[-1] == f"delete 0.0.0.0 dev {device}"
    flags = relocation.deletions[-1].value.flags  # type: ignore[union-attr]
    assert flags == SUBFLOW | (BACKUP if device == 3 else 0)


def test_each_family_has_its_own() -> None:
    six = connection(8, "2001:db8:1::2", "2001:db8:1::2")
    relocation = relocate(snapshot(), plan(), deletions(*ALL), ALL, connected(BOTH, six))
    assert {"add 0.0.0.0 dev 2", "add :: dev 2"} < set(described(relocation.deletions))


def test_without_connections_nothing_is_added() -> None:
    for connections in (connected(), connected(connection(8, "192.168.70.1"))):
        relocation = relocate(snapshot(), plan(), deletions(*ALL), ALL, connections)
        assert relocation.deletions == deletions(*ALL)


def test_what_would_end_a_connection_stays() -> None:
    for only in (
        connection(8, "10.2.2.2", here=False),
        connection(8, "10.2.2.2"),  # its peer is not known to accept more
    ):
        relocation = relocate(snapshot(), plan(), deletions(*ALL), ALL, connected(BOTH, only))
        assert relocation.kept == {"10.2.2.2": 1}
        assert described(relocation.deletions)[-2:] == ["add 0.0.0.0 dev 2", "delete 0.0.0.0 dev 2"]
        assert "delete 10.2.2.2 dev 3" not in described(relocation.deletions)
        forced = relocate(
            snapshot(), plan(), deletions(*ALL), ALL, connected(BOTH, only), force=True
        )
        assert forced.kept == {}
        assert "delete 10.2.2.2 dev 3" in described(forced.deletions)


def test_plain_tcp_does_not_keep_an_endpoint() -> None:
    plain = connection(8, "10.1.1.2", fallback=True)
    assert relocate(snapshot(), plan(), deletions(*ALL), ALL, connected(plain)).kept == {}


def test_without_mptcp_diag_nothing_stays() -> None:
    unknown = ConnectionSnapshot(None, connection(8, "10.1.1.2")[1])
    relocation = relocate(snapshot(), plan(), deletions(*ALL), ALL, unknown)
    assert relocation.kept == {}
    assert described(relocation.deletions)[-1] == "delete 0.0.0.0 dev 2"


def test_without_mptcp_there_is_nothing_to_do() -> None:
    bare = snapshot()._replace(mptcp=None)
    assert relocate(bare, plan(), [], [], connected()).deletions == []


def test_which_are_the_last_ones() -> None:
    world = snapshot()
    going = deletions(*ALL)
    assert last_endpoints(world, plan(), going) == [*ALL]
    assert last_endpoints(world, plan(), []) == []
    assert last_endpoints(world, plan(WAN1), deletions(WAN2)) == [], "wan1 remains"
    assert last_endpoints(world, plan(WAN1_6), deletions(WAN1, WAN2)) == [WAN1, WAN2]
    other = Endpoint("10.3.3.2", 4, SUBFLOW)
    assert last_endpoints(world, plan(other), going) == [WAN1_6], "it comes first"
    announced = [endpoint._replace(flags=SIGNAL) for endpoint in ALL]
    assert last_endpoints(world, plan(*announced), going) == [*ALL]
    announced[1] = announced[1]._replace(address="10.3.3.2")
    assert last_endpoints(world, plan(*announced), going) == [*ALL], "it opens no subflow"


def test_what_is_replaced_keeps_connections_too() -> None:
    """With another role; the others have theirs already, since nothing kept them."""
    announced = [endpoint._replace(flags=SUBFLOW | SIGNAL) for endpoint in ALL]
    wanted, going = plan(*announced), deletions(WAN1)
    assert last_endpoints(snapshot(), wanted, going) == [WAN1]
    accepted = connection(8, "10.1.1.2", here=False)
    relocation = relocate(snapshot(), wanted, going, [WAN1], connected(BOTH, accepted))
    assert relocation.kept == {"10.1.1.2": 1}
    assert relocation.deletions == []
    relocation = relocate(snapshot(), wanted, going, [WAN1], connected(BOTH))
    assert relocation.deletions == going, "others remain"


def test_what_is_broken_is_deleted_as_ever() -> None:
    """Its subflows carry nothing, and moving off it is urgent."""
    going = deletions(WAN1)
    for link in (Link(2, "eth1", up=False), Link(2, "eth1", carrier=False)):
        world = snapshot()._replace(links={2: link})
        assert last_endpoints(world, plan(), going) == []
    assert last_endpoints(snapshot()._replace(links={}), plan(), going) == []
    assert last_endpoints(snapshot()._replace(addresses=()), plan(), going) == []
    implicit = WAN1._replace(flags=IMPLICIT)
    assert last_endpoints(snapshot(), plan(), deletions(implicit)) == []
    initial = WAN1._replace(id=0)
    assert last_endpoints(snapshot(), plan(), deletions(initial)) == []


def test_what_stays_with_an_endpoint() -> None:
    """Its rule, the table behind that and the loose rp_filter; nothing of another uplink."""
    rules = [Rule(AF_INET, 7500 + n, 7000 + n, source=f"10.{n}.{n}.2", protocol=77) for n in (1, 2)]
    common = Rule(AF_INET, 7010, 254, protocol=77)
    routes = [Route(AF_INET, 7000 + n, "default", 1 + n) for n in (1, 2)]
    strict = [Sysctl(f"eth{n}", "rp_filter", 1) for n in (1, 2)]
    going = [Operation("delete", value) for value in (*ALL, *rules, common, *routes)] + [
        Operation("change", value) for value in strict
    ]
    coming = [
        Operation("change", Limits(4, 0)),
        Operation("change", Sysctl("eth1", "rp_filter", 2)),
        Operation("replace", routes[0]),
    ]
    world = snapshot()._replace(rules=(*rules, common))
    assert without([*going, *coming], [], world) == [*going, *coming]
    left = without([*going, *coming], ["10.1.1.2"], world)
    gone = [operation.value for operation in going if operation not in left]
    assert gone == [WAN1, rules[0], routes[0], strict[0]]
    assert left[-3:] == coming
    six = without([*going, *coming], ["2001:db8:1::2"], world)
    assert [operation.value for operation in going if operation not in six] == [WAN1_6]
