"""What is ours, in which order it changes, and what happens where the kernel refuses."""

from __future__ import annotations

import errno
from socket import AF_INET

import pytest

from mproutd.model import BACKUP, IMPLICIT, SIGNAL, SUBFLOW, Endpoint, Route, Rule, Sysctl
from mproutd.planning.state import State
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_world import ManualDeleter, Store, World, dry_run, interface, run_pass, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, part, two_lines

TWO = uci(WAN1 + WAN2)


def steps(world: World) -> list[str]:
    return [f"{operation.verb} {world.show([operation.value])[0]}" for operation in world.done]


def test_up_is_connected_route_default_rules_endpoint() -> None:
    world = two_lines()
    world.run(WAN1)
    assert steps(world) == [
        "add 10.1.1.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.1.2",
        "add default via 10.1.1.1 dev eth1 table 7001 proto 77",
        "add default via 10.1.1.1 dev eth1 table 7000 proto 77",
        "add 7101: from all fwmark 0x1000000/0x7f000000 lookup 7001 protocol 77",
        "add 7301: from all oif eth1 lookup 7001 protocol 77",
        "add 7501: from 10.1.1.2 lookup 7001 protocol 77",
        "add 7000: from all fwmark 0x7f000000/0x7f000000 lookup main protocol 77",
        "add 7010: from all lookup main suppress_prefixlength 7 protocol 77",
        "add 32764: from all lookup main suppress_prefixlength 0 protocol 77",
        "add 32765: from all lookup 7000 protocol 77",
        "add 10.1.1.2 subflow dev eth1",
    ]


def test_down_is_endpoint_rules_routes() -> None:
    world = two_lines()
    world.run(TWO)
    world.done.clear()
    world.run(WAN2)
    assert steps(world) == [
        "delete 10.1.1.2 subflow dev eth1",
        "delete 7101: from all fwmark 0x1000000/0x7f000000 lookup 7001 protocol 77",
        "delete 7301: from all oif eth1 lookup 7001 protocol 77",
        "delete 7501: from 10.1.1.2 lookup 7001 protocol 77",
        "delete 32764: from all lookup main suppress_prefixlength 0 protocol 77",
        "delete 32765: from all lookup 7000 protocol 77",
        "delete default via 10.1.1.1 dev eth1 table 7000 proto 77",
        "delete default via 10.1.1.1 dev eth1 table 7001 proto 77",
        "delete 10.1.1.0/24 dev eth1 table 7001 proto 77 scope link src 10.1.1.2",
    ]


def test_while_endpoints_are_being_deleted_rules_and_routes_stay() -> None:
    """But those by a mark, which no endpoint uses."""
    world = two_lines()
    world.run(TWO)
    kept = [line for line in world.ours().splitlines() if not line.startswith("7102: ")]
    deleter = ManualDeleter(world)
    outcome = run_pass(world, uci(WAN1), deleter=deleter)
    assert world.ours().splitlines() == kept
    assert outcome.run_again
    run_pass(world, uci(WAN1), deleter=deleter)
    assert world.ours().splitlines() == kept
    assert len(deleter.operations) == 1
    deleter.finish()
    world.run(WAN1)
    assert not part(world.ours(), "eth2")


def test_a_departed_address_waits_while_others_are_being_deleted() -> None:
    world = two_lines()
    config = uci(WAN1 + interface("wan2", "eth2", "off"))
    world.run(config)
    world.delete_address("eth2", "10.2.2.2")
    deleter = ManualDeleter(world)
    deleter.busy = True
    run_pass(world, config, deleter=deleter)
    assert world.closed_initial == []
    assert deleter.operations == []
    world.run(config)
    assert world.closed_initial == ["10.2.2.2"]


# -- whose it is ----------------------------------------------------------------------------


def test_a_daemon_without_memory_knows_its_routes_and_rules() -> None:
    world = two_lines()
    world.run(TWO)
    before = world.ours()
    world.store = Store()
    world.done.clear()
    world.run(TWO)
    assert world.ours() == before
    assert world.done == []
    world.run(TWO._replace(enabled=False))
    assert world.ours() == "10.1.1.2 subflow dev eth1\n10.2.2.2 subflow dev eth2\n"


def test_what_looks_alike_and_is_not_ours_survives_everything() -> None:
    world = two_lines()
    world.device("lan0", "192.168.70.1/24")
    lan = world.link("lan0").index
    route = Route(AF_INET, 7001, "192.0.2.0/24", lan, scope=253)
    others = [
        route._replace(protocol=4),
        route._replace(table=254),
        route._replace(table=6999),
        route._replace(table=7512),
        Rule(AF_INET, 7501, 7001, "10.1.1.2", protocol=0),
        Rule(AF_INET, 6999, 7001, "10.1.1.2"),
        Rule(AF_INET, 8900, 7001, "10.1.1.2"),
        Rule(AF_INET, 7501, 7001, "10.7.7.7", plain=False),
        Rule(AF_INET, 32766, 7000),
        Endpoint("192.0.2.7", lan, SIGNAL),
    ]
    world.foreign(*others)
    ours = [
        route._replace(table=7511),
        Rule(AF_INET, 8899, 7001, "10.7.7.8"),
        Rule(AF_INET, 32765, 1, "10.7.7.8"),
    ]
    world.foreign(*ours)
    world.run(TWO)
    world.run(TWO._replace(enabled=False))
    assert set(others[:9]) <= {*world.routes, *world.rules}
    assert not set(ours) & {*world.routes, *world.rules}
    assert endpoints(world) == ["192.0.2.7 signal dev lan0"]


def test_a_foreign_route_in_the_place_of_ours_is_not_replaced() -> None:
    world = two_lines()
    index = world.link("eth1").index
    foreign = Route(AF_INET, 7001, "10.1.1.0/24", index, scope=253, protocol=4)
    world.foreign(foreign)
    outcome = world.run(TWO)
    assert not outcome.failures
    assert foreign in world.routes
    assert len(endpoints(world)) == 2  # the way is there, whoever made it
    world.routes.remove(foreign)
    world.run(TWO)
    assert part(world.ours(), "10.1.1.0/24") == [
        "10.1.1.0/24 dev eth1 table 7001 scope link src 10.1.1.2"
    ]


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["route", "rule"])
def test_no_endpoint_while_a_route_or_rule_of_its_uplink_is_refused(kind: str) -> None:
    world = two_lines()
    world.refuse(errno.EPERM, kind)  # the first is wan1's
    outcome = world.once(TWO)
    assert [failure.errno for failure in outcome.failures] == [errno.EPERM]
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    world.once(TWO)
    assert sorted(endpoints(world)) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 subflow dev eth2"]


def test_a_setting_that_cannot_be_written_stops_nothing() -> None:
    world = two_lines()
    world.set("eth1", rp_filter=1)
    world.refuse(errno.EROFS, "sysctl")
    world.once(TWO)
    assert len(endpoints(world)) == 2


def test_one_refusal_stops_no_other() -> None:
    world = two_lines()
    world.refuse(errno.ERANGE, "endpoint")
    outcome = world.once(TWO)
    assert endpoints(world) == ["10.2.2.2 subflow dev eth2"]
    assert outcome.missing == (Endpoint("10.1.1.2", world.link("eth1").index, 2),)


def test_an_object_already_deleted_is_no_failure() -> None:
    world = two_lines()
    world.run(TWO)
    world.refuse(errno.ENOENT, "rule")
    world.refuse(errno.ESRCH, "route")
    assert world.once(TWO._replace(enabled=False)).failures == ()


def test_a_sysctl_that_is_gone_with_its_device_is_no_failure() -> None:
    """A macvlan is deleted between the snapshot and the write."""
    world = two_lines()
    world.set("eth2", rp_filter=1)
    world.refuse(errno.ENOENT, "sysctl")
    outcome = world.once(TWO)
    assert outcome.failures == ()
    assert [operation for operation in outcome.done if isinstance(operation.value, Sysctl)] == []


def test_a_misrouted_address_gets_no_endpoint_and_an_existing_one_is_deleted() -> None:
    world = two_lines()
    world.run(TWO)
    index = world.link("eth2").index
    world.foreign(Route(AF_INET, 100, "default", index, "10.2.2.9", protocol=4))
    world.foreign(Rule(AF_INET, 99, 100, "10.2.2.2", protocol=0))
    outcome = world.run(TWO)
    assert outcome.misrouted == ("10.2.2.2",)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    world.rules = [rule for rule in world.rules if rule.protocol != 0]
    world.run(TWO)
    assert len(endpoints(world)) == 2


def test_a_dry_run_lists_what_a_pass_would_do() -> None:
    world = two_lines()
    snapshot = world.snapshot(snapshot_request(TWO, State(), sweep=True, full=True))
    previewed = dry_run(TWO, snapshot, State())
    world.run(TWO)
    assert [*previewed] == world.done


# -- the order, and the uplink of each operation --------------------------------------------


def by_uplink(world: World) -> list[str]:
    """Each change with its uplink, `*` for none."""
    names = ["*" if operation.uplink == "" else operation.uplink for operation in world.done]
    return [f"{name}: {line}" for name, line in zip(names, steps(world), strict=True)]


def test_connected_routes_come_before_the_defaults_and_the_common_ones_last() -> None:
    world = two_lines()
    world.run(TWO)
    assert [line.partition(" proto")[0] for line in by_uplink(world) if " table " in line] == [
        "wan1: add 10.1.1.0/24 dev eth1 table 7001",
        "wan2: add 10.2.2.0/24 dev eth2 table 7002",
        "wan1: add default via 10.1.1.1 dev eth1 table 7001",
        "wan2: add default via 10.2.2.1 dev eth2 table 7002",
        "wan1: add default via 10.1.1.1 dev eth1 table 7000",
    ]


def test_rules_go_by_priority_whatever_their_family() -> None:
    """The other order would send packets by half of what is going away.  Steering rules come
    first."""
    world = two_lines()
    world.device("eth2", "2001:db8:2::2/64", gateway6="fe80::2")
    iif = "config uplink 'wan2'\n list iif 'lan2'\n list iif 'lan1'\n"
    world.run(uci(WAN1 + WAN2, iif))
    world.done.clear()
    world.run(WAN1)
    assert [line.partition(" lookup")[0] for line in by_uplink(world) if " lookup " in line] == [
        "*: delete 7102: from all fwmark 0x2000000/0x7f000000",
        "*: delete -6 7102: from all fwmark 0x2000000/0x7f000000",
        "*: delete 7702: from all iif lan1",
        "*: delete 7702: from all iif lan2",
        "*: delete -6 7702: from all iif lan1",
        "*: delete -6 7702: from all iif lan2",
        "*: delete -6 7000: from all fwmark 0x7f000000/0x7f000000",
        "*: delete -6 7010: from all",
        "*: delete 7302: from all oif eth2",
        "*: delete -6 7302: from all oif eth2",
        "*: delete 7502: from 10.2.2.2",
        "*: delete -6 7502: from 2001:db8:2::2",
        "*: delete -6 32764: from all",
        "*: delete -6 32765: from all",
    ]


def test_each_change_of_an_endpoint_names_its_uplink() -> None:
    world = two_lines()
    world.run(TWO)
    assert world.mptcp is not None
    first, second = world.mptcp.endpoints
    spoilt = (first._replace(flags=SIGNAL), second._replace(flags=SUBFLOW | BACKUP))
    world.mptcp = world.mptcp._replace(endpoints=spoilt)
    world.done.clear()
    snapshot = world.snapshot(snapshot_request(TWO, world.store.state, sweep=True, full=True))
    dry = dry_run(TWO, snapshot, world.store.state)
    world.run(TWO)
    assert [*dry] == world.done  # each once
    assert by_uplink(world) == [
        "wan1: delete 10.1.1.2 signal dev eth1",
        "wan1: add 10.1.1.2 subflow dev eth1",
        "wan2: change 10.2.2.2 subflow dev eth2",
    ]


def test_a_misrouted_endpoint_stays_during_the_grace_period_and_others_are_added() -> None:
    world = two_lines()
    world.run(TWO)
    route = Route(AF_INET, 100, "default", world.link("eth1").index, "10.1.1.9", protocol=4)
    world.foreign(route, Rule(AF_INET, 99, 100, "10.1.1.2", protocol=0))
    world.device("eth2", "10.2.2.3/24")
    for _ in range(2):
        outcome = run_pass(world, TWO, keep_misrouted=True)
        assert outcome.misrouted == ("10.1.1.2",)
    assert sorted(endpoints(world)) == [
        "10.1.1.2 subflow dev eth1",
        "10.2.2.2 subflow dev eth2",
        "10.2.2.3 subflow dev eth2",
    ]
    run_pass(world, TWO)
    assert sorted(endpoints(world)) == ["10.2.2.2 subflow dev eth2", "10.2.2.3 subflow dev eth2"]


def test_what_the_kernel_made_at_an_address_of_ours_is_not_taken_for_ours() -> None:
    """Somebody deleted ours while a connection was on: the kernel puts one there by itself."""
    world = two_lines()
    world.run(TWO)
    assert world.mptcp is not None
    first, second = world.mptcp.endpoints
    made = first._replace(flags=IMPLICIT)
    world.mptcp = world.mptcp._replace(endpoints=(made, second))
    world.done.clear()
    world.run(TWO)
    assert by_uplink(world) == ["wan1: add 10.1.1.2 subflow dev eth1"]


def test_an_implicit_endpoint_at_a_departed_address_is_deleted_by_id() -> None:
    """By id 0, it would go on holding one of the few places."""
    world = two_lines()
    config = uci(WAN1 + interface("wan2", "eth2", "off"))
    world.run(config)
    world.foreign(Endpoint("10.2.2.2", 0, IMPLICIT))
    world.delete_address("eth2", "10.2.2.2")
    world.run(config)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1"]
    assert world.closed_initial == []


def test_a_foreign_endpoint_at_a_departed_address_is_kept() -> None:
    world = two_lines()
    config = uci(WAN1 + interface("wan2", "eth2", "off"))
    world.run(config)
    world.foreign(Endpoint("10.2.2.2", 0, SIGNAL))
    world.delete_address("eth2", "10.2.2.2")
    world.run(config)
    assert endpoints(world) == ["10.1.1.2 subflow dev eth1", "10.2.2.2 signal"]
    assert world.closed_initial == ["10.2.2.2"]


def test_a_setting_is_written_and_put_back_in_the_name_of_its_device() -> None:
    world = two_lines()
    world.set("eth1", rp_filter=1)
    world.run(TWO)
    world.run(WAN2)
    assert [line for line in by_uplink(world) if "net/" in line] == [
        "wan1: change net/ipv4/conf/eth1/rp_filter = 2",
        "*: change net/ipv4/conf/eth1/rp_filter = 1",
    ]
