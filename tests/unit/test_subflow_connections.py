"""Which connections lack a subflow, and which addresses are their only path."""

from __future__ import annotations

import pytest

from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.subflows.connections import ConnectionSnapshot, off_uplink_addresses

WAN1, WAN2, WAN2_IPV6 = "10.1.1.2", "10.2.2.2", "2001:db8:2::2"
CONNECTION = Connection(WAN1, 0, False, True, token=7, max_extra_subflows=8)


INITIAL = Subflow(7, WAN1, initial=True, initiated_locally=True)
JOINED = Subflow(7, WAN2, initial=False, initiated_locally=True)
ACCEPTED, ACCEPTED_JOIN = (
    INITIAL._replace(initiated_locally=False),
    JOINED._replace(initiated_locally=False),
)
ATTEMPT = JOINED._replace(established=False)


@pytest.mark.parametrize(
    ("subflows", "initiated"),
    [
        ([INITIAL, JOINED], {7: True}),
        ([ACCEPTED, ATTEMPT], {7: False}),
        ([ACCEPTED, JOINED], {7: False}),  # at an address that the client announced
        ([ACCEPTED_JOIN, INITIAL], {7: True}),
        ([JOINED, ACCEPTED_JOIN], {7: True}),
        ([ACCEPTED_JOIN, JOINED], {7: True}),
        ([ACCEPTED_JOIN, ATTEMPT], {7: False}),
        ([ATTEMPT], {}),
        ([INITIAL, ACCEPTED._replace(token=8)], {7: True, 8: False}),
    ],
)
def test_who_began_a_connection(subflows: list[Subflow], initiated: dict[int, bool]) -> None:
    assert ConnectionSnapshot([], subflows).initiated_locally() == initiated


@pytest.mark.parametrize(
    ("connection", "subflows", "missing"),
    [
        (CONNECTION, [INITIAL], {(7, WAN2)}),
        (CONNECTION, [INITIAL, JOINED], set()),
        (CONNECTION, [INITIAL, ATTEMPT], set()),
        (CONNECTION, [INITIAL._replace(token=8)], {(7, WAN1), (7, WAN2)}),
        (CONNECTION, [ACCEPTED], set()),
        (CONNECTION._replace(fallback=True), [], set()),
        (CONNECTION._replace(open=False), [], set()),
        (CONNECTION._replace(can_send=False), [INITIAL], set()),
        (CONNECTION._replace(extra_subflows=8), [], set()),
        (CONNECTION._replace(address="2001:db8:1::2"), [], {(7, WAN2_IPV6)}),
    ],
)
def test_which_connections_lack_a_subflow(
    connection: Connection, subflows: list[Subflow], missing: set[tuple[int, str]]
) -> None:
    assert ConnectionSnapshot([connection], subflows).missing([WAN1, WAN2, WAN2_IPV6]) == missing


def test_connections_to_the_lan_lack_nothing() -> None:
    """A connection that began at 192.168.70.1, on br-lan."""
    lan = CONNECTION._replace(address="192.168.70.1")
    snapshot = ConnectionSnapshot([lan], [INITIAL._replace(address=lan.address)])
    assert snapshot.missing([WAN1, WAN2]) == {(7, WAN1), (7, WAN2)}
    initiated = off_uplink_addresses(
        [(1, "127.0.0.1"), (5, lan.address), (2, WAN1), (3, WAN2)], {2, 3}
    )
    assert initiated == {"127.0.0.1", lan.address}
    assert snapshot.missing([WAN1, WAN2], initiated) == set()
    assert snapshot.beyond_help(initiated) == {7}
    assert snapshot.beyond_help(()) == set()


@pytest.mark.parametrize(
    ("connection", "subflows", "sole_paths"),
    [
        (CONNECTION, [INITIAL], {WAN1}),
        (CONNECTION, [INITIAL, JOINED], set()),
        (CONNECTION, [INITIAL, ATTEMPT], {WAN1}),
        (CONNECTION, [JOINED], set()),  # its peer accepts subflows
        (CONNECTION, [ACCEPTED], {WAN1}),
        (
            CONNECTION,
            [ACCEPTED, ACCEPTED_JOIN._replace(address=WAN1)],
            {WAN1},
        ),  # its client has two uplinks
        (CONNECTION, [ACCEPTED, ACCEPTED_JOIN], {WAN1, WAN2}),
        (CONNECTION, [], set()),
        (CONNECTION, [INITIAL, JOINED._replace(address=WAN1)], set()),
        (CONNECTION, [INITIAL._replace(token=8)], set()),
        (CONNECTION._replace(open=False), [INITIAL], set()),
        (CONNECTION._replace(can_send=False), [INITIAL], {WAN1}),
        (CONNECTION._replace(open=False, can_send=False, delivering=True), [INITIAL], {WAN1}),
        (CONNECTION._replace(open=False, can_send=False), [INITIAL], set()),  # all is delivered
        (CONNECTION._replace(fallback=True, token=0), [], {WAN1}),
        (CONNECTION._replace(fallback=True, open=False), [], set()),
    ],
)
def test_which_addresses_are_a_sole_path(
    connection: Connection, subflows: list[Subflow], sole_paths: set[str]
) -> None:
    assert ConnectionSnapshot([connection], subflows).sole_paths() == sole_paths


def test_a_kernel_without_mptcp_diag() -> None:
    """Without mptcp_diag every subflow may be the only one of its connection."""
    snapshot = ConnectionSnapshot(
        None, [INITIAL, INITIAL._replace(token=8), JOINED._replace(token=8)]
    )
    assert snapshot.missing([WAN1, WAN2]) == set()
    assert snapshot.sole_paths() == {WAN1}
    assert snapshot.beyond_help({WAN1}) == set()
    assert snapshot.ended([7, 9]) == set()


def test_which_connections_have_ended() -> None:
    snapshot = ConnectionSnapshot([CONNECTION], [JOINED._replace(token=8)])
    assert snapshot.ended([7, 8, 9]) == {9}
