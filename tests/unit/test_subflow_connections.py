"""Which connections miss a subflow, and which need the one that they have."""

from __future__ import annotations

import pytest

from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.subflows.connections import ConnectionSnapshot, off_uplink_addresses

ONE, TWO, SIXTH = "10.1.1.2", "10.2.2.2", "2001:db8:2::2"
MINE = Connection(ONE, 0, False, True, token=7, max_extra_subflows=8)


BEGUN = Subflow(7, ONE, initial=True, initiated_locally=True)
JOINED = Subflow(7, TWO, initial=False, initiated_locally=True)
TAKEN, LET_IN = BEGUN._replace(initiated_locally=False), JOINED._replace(initiated_locally=False)
TRYING = JOINED._replace(established=False)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ([BEGUN, JOINED], {7: True}),
        ([TAKEN, TRYING], {7: False}),
        ([TAKEN, JOINED], {7: False}),  # at an address that the client announced
        ([LET_IN, BEGUN], {7: True}),
        ([JOINED, LET_IN], {7: True}),
        ([LET_IN, JOINED], {7: True}),
        ([LET_IN, TRYING], {7: False}),
        ([TRYING], {}),
        ([BEGUN, TAKEN._replace(token=8)], {7: True, 8: False}),
    ],
)
def test_who_began_a_connection(there: list[Subflow], here: dict[int, bool]) -> None:
    assert ConnectionSnapshot([], there).initiated_locally() == here


@pytest.mark.parametrize(
    ("connection", "there", "misses"),
    [
        (MINE, [BEGUN], {(7, TWO)}),
        (MINE, [BEGUN, JOINED], set()),
        (MINE, [BEGUN, TRYING], set()),
        (MINE, [BEGUN._replace(token=8)], {(7, ONE), (7, TWO)}),
        (MINE, [TAKEN], set()),
        (MINE._replace(fallback=True), [], set()),
        (MINE._replace(open=False), [], set()),
        (MINE._replace(can_send=False), [BEGUN], set()),
        (MINE._replace(extra_subflows=8), [], set()),
        (MINE._replace(address="2001:db8:1::2"), [], {(7, SIXTH)}),
    ],
)
def test_which_connections_miss_a_subflow(
    connection: Connection, there: list[Subflow], misses: set[tuple[int, str]]
) -> None:
    assert ConnectionSnapshot([connection], there).missing([ONE, TWO, SIXTH]) == misses


def test_what_goes_to_the_lan_misses_nothing() -> None:
    """A connection that began at 192.168.70.1, on br-lan."""
    lan = MINE._replace(address="192.168.70.1")
    standing = ConnectionSnapshot([lan], [BEGUN._replace(address=lan.address)])
    assert standing.missing([ONE, TWO]) == {(7, ONE), (7, TWO)}
    here = off_uplink_addresses([(1, "127.0.0.1"), (5, lan.address), (2, ONE), (3, TWO)], {2, 3})
    assert here == {"127.0.0.1", lan.address}
    assert standing.missing([ONE, TWO], here) == set()
    assert standing.beyond_help(here) == {7}
    assert standing.beyond_help(()) == set()


@pytest.mark.parametrize(
    ("connection", "there", "needed"),
    [
        (MINE, [BEGUN], {ONE}),
        (MINE, [BEGUN, JOINED], set()),
        (MINE, [BEGUN, TRYING], {ONE}),
        (MINE, [JOINED], set()),  # its peer accepts subflows
        (MINE, [TAKEN], {ONE}),
        (MINE, [TAKEN, LET_IN._replace(address=ONE)], {ONE}),  # its client has two lines
        (MINE, [TAKEN, LET_IN], {ONE, TWO}),
        (MINE, [], set()),
        (MINE, [BEGUN, JOINED._replace(address=ONE)], set()),
        (MINE, [BEGUN._replace(token=8)], set()),
        (MINE._replace(open=False), [BEGUN], set()),
        (MINE._replace(can_send=False), [BEGUN], {ONE}),
        (
            MINE._replace(open=False, can_send=False),
            [BEGUN],
            {ONE},
        ),  # what was written is on its way
        (MINE._replace(fallback=True, token=0), [], {ONE}),
        (MINE._replace(fallback=True, open=False), [], set()),
    ],
)
def test_whose_only_subflow_it_is(
    connection: Connection, there: list[Subflow], needed: set[str]
) -> None:
    assert ConnectionSnapshot([connection], there).sole_paths() == needed


def test_a_kernel_that_does_not_say_which_connections_there_are() -> None:
    """Without mptcp_diag: every subflow may be somebody's only one."""
    standing = ConnectionSnapshot(None, [BEGUN, BEGUN._replace(token=8), JOINED._replace(token=8)])
    assert standing.missing([ONE, TWO]) == set()
    assert standing.sole_paths() == {ONE}
    assert standing.beyond_help({ONE}) == set()
    assert standing.ended([7, 9]) == set()


def test_which_connections_have_ended() -> None:
    standing = ConnectionSnapshot([MINE], [JOINED._replace(token=8)])
    assert standing.ended([7, 8, 9]) == {9}
