"""More addresses than the kernel has endpoints for, and its limits."""

from __future__ import annotations

import json

import pytest

from tests.lab import Daemon, Namespace, eventually
from tests.lab.in_process import InProcess
from tests.lab.kernel_limits import is_stranger, leave_room, max_endpoints, max_limit
from tests.lab.modes import endpoints, network

pytestmark = pytest.mark.kernel

SIX = network(
    eth1="backup", eth2="on", eth3="on", eth4="on", eth5="handover", eth6="master", eth7="on"
)
"""Six uplinks that carry: by rank eth6, eth2, eth3, eth4, eth7, eth1."""
EIGHT = "config mproutd 'globals'\n\toption subflows '8'\n\toption add_addr_accepted '8'\n"


@pytest.fixture
def node(node: Namespace) -> Namespace:
    """Seven uplinks, each with one address of each family: 10.N.N.2 and 2001:db8:N::2.

    The kernel has room for eight endpoints, whatever it takes in all.
    """
    # No event later on: an address that leaves its tentative state would be one.
    node.sysctl("net.ipv6.conf.default.accept_dad", 0)
    lines = []
    for n in range(1, 8):
        lines += [
            f"link add eth{n} type veth peer name far{n}",
            f"link set eth{n} up",
            f"link set far{n} up",
            f"address add 10.{n}.{n}.2/24 dev eth{n}",
            f"address add 2001:db8:{n}::2/64 dev eth{n} nodad",
            f"route add default via 10.{n}.{n}.1 dev eth{n} metric {n}",
            f"route add default via 2001:db8:{n}::1 dev eth{n} metric {n}",
        ]
    node.ip(*lines)
    leave_room(node, 8)
    return node


def taken(node: Namespace) -> set[str]:
    """The addresses of all endpoints but of those that fill the kernel."""
    return {address for address in endpoints(node) if not is_stranger(address)}


def v4(*uplinks: int) -> set[str]:
    return {f"10.{n}.{n}.2" for n in uplinks}


def v6(*uplinks: int) -> set[str]:
    return {f"2001:db8:{n}::2" for n in uplinks}


def without(in_process: InProcess) -> list[str]:
    """The addresses without a slot, as status names them, in the order of their rank."""
    problems = in_process.status()["problems"]
    return [problem["address"] for problem in problems if problem["code"] == "endpoint-limit"]


def test_each_uplink_gets_one_before_any_gets_two_by_mode(node):
    with InProcess(node, SIX) as in_process:
        in_process.settle()
        assert taken(node) == v4(6, 2, 3, 4, 7, 1) | v6(6, 2)
        assert without(in_process) == [f"2001:db8:{n}::2" for n in (3, 4, 7, 1)]
        assert in_process.settle() == []
        problem, *_ = in_process.status()["problems"]
        assert (problem["code"], problem["uplink"]) == ("endpoint-limit", "wan3")
        assert (problem["address"], problem["endpoints_max"]) == (
            "2001:db8:3::2",
            max_endpoints(),
        )


def test_an_uplink_with_many_addresses_takes_none_from_the_others(node):
    node.ip(*(f"address add 10.6.6.{n}/24 dev eth6" for n in range(10, 20)))
    with InProcess(node, network(eth6="master", eth2="on", eth1="backup")) as in_process:
        in_process.settle()
        assert taken(node) == v4(6, 2, 1) | v6(6, 2, 1) | {"10.6.6.10", "10.6.6.11"}


def test_an_uplink_that_goes_leaves_its_slots_and_takes_them_again(node):
    with Daemon(node, SIX):
        node.ip("link set far6 down")
        eventually(lambda: taken(node) == v4(2, 3, 4, 7, 1) | v6(2, 3, 4))
        node.ip("link set far6 up")
        eventually(lambda: taken(node) == v4(6, 2, 3, 4, 7, 1) | v6(6, 2))


def test_a_slot_that_somebody_else_leaves_is_taken_without_any_event(node):
    node.ip(
        "mptcp endpoint add 192.0.2.1 id 255 signal", "mptcp endpoint add 192.0.2.2 id 254 signal"
    )
    foreign = {"192.0.2.1", "192.0.2.2"}
    with Daemon(node, SIX):
        assert taken(node) == v4(6, 2, 3, 4, 7, 1) | foreign
        node.ip("mptcp endpoint delete id 255")
        eventually(lambda: v6(6) < taken(node), timeout=4)
        node.ip("mptcp endpoint delete id 254", "address add 192.0.2.3/32 dev eth2")
        eventually(lambda: v6(6, 2) < taken(node), timeout=1)  # at the next event


def test_a_lower_endpoint_limit_of_the_kernel_is_learned_once(node):
    """It refuses with ERANGE, and the plan then goes by what it took."""
    node.ip("mptcp endpoint add 192.0.2.1 id 255 signal")
    with InProcess(node, SIX, EIGHT, max_endpoints=max_endpoints() + 56) as in_process:
        first = in_process.requested(in_process.a_pass())
        assert len([text for text in first if " endpoint add " in text]) == 12
        for _ in range(3):
            assert in_process.requested(in_process.a_pass()) == []
        assert taken(node) == v4(6, 2, 3, 4, 7, 1) | v6(6) | {"192.0.2.1"}
        assert without(in_process) == [f"2001:db8:{n}::2" for n in (2, 3, 4, 7, 1)]
        assert in_process.problems() == ["endpoint-limit"] * 5
        assert in_process.reconciler.next_at() is None
        node.ip("mptcp endpoint delete id 255")
        (added,) = in_process.requested(in_process.a_pass())
        assert added.startswith("ip mptcp endpoint add 2001:db8:2::2 ")
        assert in_process.requested(in_process.a_pass()) == []


# -- limits -------------------------------------------------------------------------------


def limits(node: Namespace) -> tuple[int, int]:
    """(subflows, add_addr_accepted)"""
    words = node.ip("mptcp limits show").split()
    limits = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return limits["subflows"], limits["add_addr_accepted"]


def option(**values: int) -> str:
    lines = "".join(f"\toption {name} '{value}'\n" for name, value in values.items())
    return f"config mproutd 'globals'\n{lines}"


def test_limits_are_raised_to_what_is_needed_and_put_back(node):
    assert limits(node) == (2, 0)
    daemon, highest = Daemon(node, SIX), max_limit()
    for own, wanted in (
        ("", (7, 0)),
        (option(subflows=4), (4, 0)),
        (option(subflows=1, add_addr_accepted=3), (2, 3)),
        (option() + "config uplink 'wan2'\n\toption fullmesh '1'\n", (highest, highest)),
        (option(subflows=200, add_addr_accepted=200), (highest, highest)),
    ):
        daemon.configure(own=own)
        daemon.reconcile()
        assert limits(node) == wanted
    codes = [
        problem["code"] for problem in json.loads(daemon.call("status", "--json").out)["problems"]
    ]
    assert "limits-above-max" in codes
    daemon.call("flush")
    assert limits(node) == (2, 0)
    daemon.close()


def test_a_limit_that_was_reset_is_restored_and_the_admins_higher_one_stays(node):
    with Daemon(node, SIX, option(subflows=4, add_addr_accepted=4)) as daemon:
        node.ip("mptcp limits set subflows 2 add_addr_accepted 0")
        daemon.reconcile()
        assert limits(node) == (4, 4)
        node.ip("mptcp limits set subflows 0 add_addr_accepted 0")
        node.ip("address add 192.0.2.3/32 dev eth2")  # at any event
        eventually(lambda: limits(node) == (4, 4))
        node.ip("mptcp limits set subflows 6 add_addr_accepted 2")
        daemon.reconcile()
        assert limits(node) == (6, 4)
    daemon = Daemon(node, SIX)
    assert daemon.call("flush").code == 0
    assert limits(node) == (6, 2)
    daemon.close()
