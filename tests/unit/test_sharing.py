"""Other traffic shared by weight and metric."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest

from mproutd.configuration.config import Config, ConfigError
from mproutd.firewall.flows import failing_back
from mproutd.iproute2 import device_names, ip_command
from mproutd.model import Nexthop, NexthopObject, Operation, Route, Rule
from mproutd.planning.plan import Outcome
from mproutd.planning.sharing import NEXTHOP_IDS, went_with_device
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from mproutd.status.changes import decisions
from mproutd.status.metrics import samples
from mproutd.status.render import status_lines
from mproutd.status.render_traffic import share_list, ways_out
from tests.lab.fake_kernel import Killed
from tests.lab.fake_world import World, dry_run, interface, run_pass, uci
from tests.unit.test_plan import part
from tests.unit.test_status import Site

GROUP, FIRST, SECOND, THIRD = NEXTHOP_IDS[:4]
IDS = f"{FIRST},3/{SECOND},1"


def config(*uplinks: str, modes: str = "master on on", own: str = "") -> Config:
    """wan1, wan2 … with these options: "weight 3 metric 2", or "" for none."""
    network, sections = "", own
    for number, (options, mode) in enumerate(zip(uplinks, modes.split(), strict=False), 1):
        network += interface(f"wan{number}", f"eth{number}", mode)
        words = options.split()
        sections += f"config uplink 'wan{number}'\n"
        for name, value in zip(words[::2], words[1::2], strict=True):
            sections += f" option {name} '{value}'\n"
    return uci(network, sections)


def world(uplinks: int = 2, ipv6: bool = False) -> World:
    made = World()
    for n in range(1, uplinks + 1):
        made.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        if ipv6:
            made.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
    return made


def shared(made: World) -> list[str]:
    """The nexthop objects and the defaults of table 7000."""
    lines = [line for line in made.ours().splitlines() if line.startswith("nexthop ")]
    return lines + part(made.ours(), "table 7000")


def group(members: str, number: int = GROUP) -> str:
    kind = "type resilient buckets 1024 idle_timer 1"
    return f"nexthop id {number} group {members} {kind}"


def single(number: int, uplink: int) -> str:
    return f"nexthop id {number} via 10.{uplink}.{uplink}.1 dev eth{uplink}"


ONE, TWO = single(FIRST, 1), single(SECOND, 2)
DEFAULT = f"default nhid {GROUP} table 7000"
THREE_TO_ONE = config("weight 3", "weight 1")


# -- who shares -------------------------------------------------------------------------------


def test_a_group_of_all_uplinks_with_their_weights() -> None:
    made = world()
    outcome = made.run(THREE_TO_ONE)
    assert shared(made) == [ONE, TWO, group(IDS), DEFAULT]
    assert outcome.plan.shares == {AF_INET: (("wan1", 3), ("wan2", 1))}
    assert outcome.plan.default == {AF_INET: "wan1"}


def test_without_weights_the_best_uplink_carries_all() -> None:
    made = world()
    made.run(config("", ""))
    assert shared(made) == ["default via 10.1.1.1 dev eth1 table 7000"]


@pytest.mark.parametrize(
    ("uplinks", "modes", "shares"),
    [
        (("weight 3", "", ""), "master on on", "wan1 3, wan2 1, wan3 1"),
        (("weight 3", "weight 2", ""), "on on backup", "wan1 3, wan2 2"),
        (("", "", "weight 5"), "handover backup on", "wan3 5"),
        (("weight 1", "", ""), "handover backup backup", "wan2 1, wan3 1"),
        (("metric 2", "metric 1 weight 4", "metric 1"), "master on on", "wan2 4, wan3 1"),
        (("metric 1", "metric 1", ""), "on backup handover", "wan1 1, wan2 1"),
        (("metric 200", "metric 256", ""), "on on backup", "wan1 1"),
        (("", "weight 3", "weight 9"), "on on off", "wan1 1, wan2 3"),
    ],
)
def test_the_lowest_metric_shares(uplinks: tuple[str, ...], modes: str, shares: str) -> None:
    plan = world(3).run(config(*uplinks, modes=modes)).plan
    found = ", ".join(f"{name} {weight}" for name, weight in plan.shares[AF_INET])
    assert found == shares


def test_the_next_metric_takes_over() -> None:
    made, wanted = world(3), config("metric 1", "metric 2 weight 3", "metric 2")
    made.run(wanted)
    assert shared(made) == [ONE, group(f"{FIRST},1"), f"{DEFAULT}"]
    made.set("eth1", carrier=False)
    made.run(wanted)
    expected = [TWO, single(THIRD, 3), group(f"{SECOND},3/{THIRD},1"), DEFAULT]
    assert sorted(shared(made)) == sorted(expected)


def test_a_weight_of_an_uplink_that_is_off_shares_nothing() -> None:
    made = world()
    wanted = config("weight 3", "", modes="off master")
    made.run(wanted)
    assert shared(made)[0] == "default via 10.2.2.1 dev eth2 table 7000"
    assert wanted.warnings == (
        "mproutd:2: uplink 'wan1', option 'weight': "
        "has no effect: wan1 is off and carries no other traffic",
    )


@pytest.mark.parametrize("value", ["0", "-1", "256", "300", "3.5", "three"])
def test_a_weight_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(f"weight {value}")
    text = str(caught.value)
    assert text.startswith(f"mproutd:2: uplink 'wan1', option 'weight': '{value}' is ")
    assert "\n" not in text
    assert ("is out of range: 1 to 255" in text) == value.lstrip("-").isdecimal()


@pytest.mark.parametrize("value", ["0", "257"])
def test_a_metric_out_of_range_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="is out of range: 1 to 256"):
        config(f"metric {value}")


def test_a_vpn_keeps_other_traffic() -> None:
    made = world()
    made.device("tun0", "10.8.0.2/24")
    made.default("tun0", "10.8.0.1", 50)
    made.run(THREE_TO_ONE)
    assert shared(made) == []


def test_off_is_barred() -> None:
    made = world(3)
    made.run(config("weight 1", "", "", modes="on on off"))
    assert shared(made)[-1] == "unreachable default table 7000 metric 4278198272"
    for name in ("eth1", "eth2"):
        made.forget_default(name)
        made.set(name, carrier=False)
    outcome = made.run(config("weight 1", "", "", modes="on on off"))
    assert shared(made) == ["unreachable default table 7000 metric 4278198272"]
    assert made.walk("198.51.100.1") is None
    assert outcome.plan.shares == {}


def test_a_second_nexthop_of_main_through_off_is_barred_too() -> None:
    """Main's only default has two nexthops, and the second is through an uplink that is off."""
    made = world(2)
    made.routes = [route for route in made.routes if route.destination != "default"]
    eth1, eth2 = made.link("eth1").index, made.link("eth2").index
    hops = (Nexthop("10.1.1.1", 1, False, eth1), Nexthop("10.2.2.1", 1, False, eth2))
    made.foreign(Route(AF_INET, 254, "default", nexthops=hops, protocol=4))
    made.set("eth1", carrier=False)
    outcome = made.run(config("", "", modes="master off"))
    assert outcome.plan.barred == {AF_INET}


# -- changes ----------------------------------------------------------------------------------


def changes(outcome: Outcome) -> list[str]:
    return [
        f"{operation.verb} {type(operation.value).__name__}"
        for operation in outcome.done
        if isinstance(operation.value, NexthopObject)
        or (isinstance(operation.value, Route) and operation.value.table == 7000)
    ]


def test_a_changed_weight_is_one_message() -> None:
    made = world()
    made.run(THREE_TO_ONE)
    assert changes(made.once(config("weight 3", "weight 2"))) == ["replace NexthopObject"]
    assert shared(made)[2] == group(f"{FIRST},3/{SECOND},2")


def test_a_failed_check_takes_a_member_out() -> None:
    made = world(3)
    wanted = config("weight 3 track_ip 192.0.2.1", "weight 1", "weight 1")
    made.run(wanted)
    outcome = made.once(wanted, Facts(failed=(("wan1", AF_INET),)))
    assert changes(outcome) == ["replace NexthopObject", "delete NexthopObject"]
    assert shared(made)[-2:] == [group(f"{SECOND},1/{THIRD},1"), DEFAULT]


def test_a_carrier_that_goes_needs_no_write_and_comes_back() -> None:
    made = world()
    made.run(THREE_TO_ONE)
    made.set("eth1", carrier=False)
    assert shared(made) == [TWO, group(f"{SECOND},1"), DEFAULT]
    assert changes(made.once(THREE_TO_ONE)) == []
    made.set("eth1", carrier=True)
    assert changes(made.once(THREE_TO_ONE)) == ["add NexthopObject", "replace NexthopObject"]
    assert sorted(shared(made)) == sorted([ONE, TWO, group(IDS), DEFAULT])


def test_all_lost_and_back() -> None:
    made = world(2, ipv6=True)
    made.run(THREE_TO_ONE)
    before = sorted(made.ours().splitlines())
    for name in ("eth1", "eth2"):
        made.set(name, carrier=False)
    made.run(THREE_TO_ONE)
    assert shared(made) == []
    for name in ("eth1", "eth2"):
        made.set(name, carrier=True)
    made.run(THREE_TO_ONE)
    assert sorted(made.ours().splitlines()) == before


@pytest.mark.parametrize("ipv6", [False, True])
def test_killed_at_any_point(ipv6: bool) -> None:
    expected = world(2, ipv6=ipv6)
    expected.run(THREE_TO_ONE)
    for after in range(expected.writes + 1):
        made = world(2, ipv6=ipv6)
        made.die_after = after
        with suppress(Killed):
            made.run(THREE_TO_ONE)
        made.die_after = None
        made.run(THREE_TO_ONE)
        assert sorted(shared(made)) == sorted(shared(expected))
        made.run(config("", ""))
        assert shared(made)[0] == "default via 10.1.1.1 dev eth1 table 7000"
        assert not made.nexthops


def test_weights_removed_and_flushed() -> None:
    made = world()
    made.run(THREE_TO_ONE)
    assert made.store.state.nexthops
    outcome = made.once(config("", ""))
    assert (
        changes(outcome) == ["replace Route", "delete NexthopObject"] + ["delete NexthopObject"] * 2
    )
    assert not made.nexthops
    made.run(config("", ""))
    assert not made.store.state.nexthops
    made.run(THREE_TO_ONE)
    made.run(uci("config globals 'globals'\n option multipath 'disable'\n", enabled=False))
    assert made.ours() == "\n"


def test_not_read_without_weights() -> None:
    """Not after an event; a start reads everything."""
    made = world()
    made.run(config("", ""))
    asked = []
    snapshot = made.snapshot
    made.snapshot = lambda want: asked.append(want.nexthops) or snapshot(want)  # type: ignore
    run_pass(made, config("", ""))
    run_pass(made, THREE_TO_ONE)
    run_pass(made, config("", ""))
    run_pass(made, config("", ""))
    assert [bool(ids) for ids in asked] == [False, True, True, True]


def test_a_dry_run_names_the_objects() -> None:
    made = world()
    request = snapshot_request(THREE_TO_ONE, made.store.state, sweep=True, full=True)
    operations = dry_run(THREE_TO_ONE, made.snapshot(request), made.store.state)
    commands = [ip_command(operation, device_names(made.links)) for operation in operations]
    assert f"ip nexthop add id {FIRST} via 10.1.1.1 dev eth1 protocol 77" in commands
    assert f"ip nexthop add {group(IDS)[8:]} protocol 77" in commands
    assert f"ip route add default nhid {GROUP} table 7000 proto 77" in commands
    delete = ip_command(Operation("delete", NexthopObject(FIRST, AF_INET)), str)
    assert delete == f"ip nexthop delete id {FIRST}"


# -- other programs, and lesser kernels -------------------------------------------------------


def test_foreign_objects_are_left_and_their_ids_avoided() -> None:
    made = world()
    foreign = [
        NexthopObject(GROUP, AF_INET, made.link("eth1").index, "10.1.1.9", protocol=3),
        NexthopObject(SECOND, AF_INET, made.link("eth2").index, "10.2.2.9", protocol=3),
        NexthopObject(7, AF_INET, made.link("eth2").index, "10.2.2.9"),
    ]
    made.foreign(*foreign)
    made.run(THREE_TO_ONE)
    assert [nexthop for nexthop in made.nexthops if nexthop in foreign] == foreign
    other = SECOND + 10_000
    assert group(f"{FIRST},3/{other},1", GROUP + 10_000) in shared(made)
    made.run(config("", ""))
    assert made.nexthops == foreign


def test_a_kernel_without_nexthop_objects() -> None:
    made = world()
    made.nexthops.supported = False
    made.run(THREE_TO_ONE)
    assert shared(made) == [
        "default table 7000 nexthop via 10.1.1.1 dev eth1 weight 3 "
        "nexthop via 10.2.2.1 dev eth2 weight 1"
    ]


def test_a_kernel_without_resilient_groups() -> None:
    made = world()
    made.nexthops.resilient = False
    made.run(THREE_TO_ONE)
    assert shared(made)[2] == f"nexthop id {GROUP} group {IDS}"


def test_a_group_of_the_other_type_is_replaced_without_a_gap() -> None:
    made = world()
    made.nexthops.resilient = False
    made.run(THREE_TO_ONE)
    made.nexthops.resilient = True
    outcome = made.once(THREE_TO_ONE)
    assert changes(outcome) == ["add NexthopObject", "replace Route", "delete NexthopObject"]
    assert f"default nhid {GROUP + 10_000} table 7000" in shared(made)


def test_a_refused_object_is_retried_and_stops_nothing() -> None:
    made = world()
    made.refuse(errno.ENOMEM, "nexthopobject", 2)
    first = made.once(THREE_TO_ONE)
    assert [failure.errno for failure in first.failures][:2] == [errno.ENOMEM] * 2
    made.run(THREE_TO_ONE)
    assert shared(made) == [ONE, TWO, group(IDS), DEFAULT]


# -- IPv6, and several gateways ---------------------------------------------------------------


def test_ipv6_is_shared_by_a_multipath_route() -> None:
    made = world(2, ipv6=True)
    made.run(THREE_TO_ONE)
    assert part(made.ours(), "-6 default table 7000") == [
        "-6 default table 7000 metric 1024 nexthop via fe80::1 dev eth1 weight 3 "
        "nexthop via fe80::2 dev eth2 weight 1"
    ]
    made.set("eth2", carrier=False)
    made.run(THREE_TO_ONE)
    assert part(made.ours(), "table 7000")[-1:] == [
        "-6 default via fe80::1 dev eth1 table 7000 metric 1024"
    ]


def test_ipv6_through_a_tunnel_without_a_gateway() -> None:
    made = world(1, ipv6=True)
    made.create("eth2", pointopoint=True)
    made.device("eth2", "2001:db8:2::2/64", "10.2.2.2/32")
    made.run(THREE_TO_ONE)
    assert "nexthop via fe80::77 dev eth2 weight 1" in part(made.ours(), "-6 default table 7000")[0]
    assert f"nexthop id {SECOND} dev eth2" in shared(made)


def sourced(made: World, n: int, gateway: str) -> None:
    """Main's default by eth`n` for its own prefix only."""
    made.foreign(
        Route(
            AF_INET6, 254, "default", made.link(f"eth{n}").index, gateway, metric=1024,
            protocol=4, from_prefix=f"2001:db8:{n}::/64",
        )
    )  # fmt: skip


def test_ipv6_for_some_sources_and_the_rest_shared() -> None:
    """An address of an uplink decides; what has none yet is shared."""
    made = world(2)
    for n in (1, 2):
        made.device(f"eth{n}", f"2001:db8:{n}::2/64")
        sourced(made, n, f"fe80::{n}")
    made.run(THREE_TO_ONE)
    assert part(made.ours(), "-6 default", "table 7000") == [
        "-6 default from 2001:db8:1::/64 via fe80::1 dev eth1 table 7000 metric 1024",
        "-6 default from 2001:db8:2::/64 via fe80::2 dev eth2 table 7000 metric 1024",
        "-6 default table 7000 metric 1024 nexthop via fe80::1 dev eth1 weight 3 "
        "nexthop via fe80::2 dev eth2 weight 1",
    ]


def test_ipv6_for_some_sources_only() -> None:
    """Two routers on one link, each for its own prefix: no default is for everybody."""
    made = world(1)
    made.device("eth1", "2001:db8:1::2/64", "2001:db8:2::2/64")
    sourced(made, 1, "fe80::1")
    made.foreign(made.routes[-1]._replace(from_prefix="2001:db8:2::/64", gateway="fe80::2"))
    made.run(config("weight 3"))
    lines = part(made.ours(), "-6 default", "table 7000")
    assert len(lines) == 2
    assert all(" from 2001:db8:" in line for line in lines)


def with_two_gateways(made: World, weights: tuple[int, int] = (1, 1)) -> None:
    """Main's default by eth1 has two nexthops."""
    made.forget_default("eth1")
    hops = (Nexthop("10.1.1.1", weights[0]), Nexthop("10.1.1.9", weights[1]))
    index = made.link("eth1").index
    made.foreign(Route(AF_INET, 254, "default", index, "10.1.1.1", nexthops=hops, protocol=4))


def test_an_uplink_with_two_gateways_shares_its_weight_among_them() -> None:
    made = world()
    with_two_gateways(made, (2, 1))
    made.run(THREE_TO_ONE)
    other = FIRST + 1_000
    assert f"nexthop id {other} via 10.1.1.9 dev eth1" in shared(made)
    assert group(f"{FIRST},2/{SECOND},1/{other},1") in shared(made)


def test_weights_stay_below_the_kernels_maximum() -> None:
    made = world()
    with_two_gateways(made, (200, 1))
    made.run(config("weight 255", "weight 1"))
    other = FIRST + 1_000
    assert group(f"{FIRST},256/{SECOND},1/{other},1") in shared(made)


# -- attributes -------------------------------------------------------------------------------


def with_metrics(made: World, n: int, *metrics: tuple[int, int]) -> None:
    made.forget_default(f"eth{n}")
    route = Route(AF_INET, 254, "default", made.link(f"eth{n}").index, f"10.{n}.{n}.1", metric=n)
    source = f"10.{n}.{n}.2"
    made.foreign(route._replace(protocol=4, source=source, metrics=metrics))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (((2, 1400),), (), " mtu 1400"),
        (((2, 1400),), ((2, 1300),), " mtu 1300"),
        (((2, 1400), (8, 1200)), ((2, 1400), (8, 1200)), " mtu 1400 advmss 1200"),
        (((8, 1200), (11, 10)), ((8, 1200), (11, 20)), " advmss 1200"),
        (((1, 4), (2, 1400)), (), " mtu lock 1400"),
        (((1, 4), (2, 1400)), ((2, 1300),), " mtu 1300"),
        (((11, 10),), ((11, 20),), ""),
    ],
)
def test_metrics_that_all_have_and_the_smallest_mtu(
    first: tuple[tuple[int, int], ...], second: tuple[tuple[int, int], ...], expected: str
) -> None:
    made = world()
    with_metrics(made, 1, *first)
    with_metrics(made, 2, *second)
    made.run(THREE_TO_ONE)
    assert part(made.ours(), "default nhid") == [DEFAULT + expected]


def test_the_only_member_keeps_its_source() -> None:
    made = world()
    with_metrics(made, 1, (2, 1400))
    made.run(config("metric 1", "metric 2"))
    assert part(made.ours(), "default nhid") == [f"{DEFAULT} src 10.1.1.2 mtu 1400"]


# -- restoring --------------------------------------------------------------------------------


def test_what_went_with_a_device_was_removed_by_nobody() -> None:
    objects = [
        NexthopObject(FIRST, AF_INET, 5, "10.1.1.1"),
        NexthopObject(GROUP, members=((FIRST, 1),)),
    ]
    route = Route(AF_INET, 7000, "default", nexthop_id=GROUP)
    for value in (*objects, route):
        assert went_with_device(value, objects, {5})
        assert not went_with_device(value, objects, {6})
    assert not went_with_device(Route(AF_INET, 7000, "default", 5), objects, {5})


# -- beside pinned flows ----------------------------------------------------------------------


def test_flows_that_are_not_pinned_have_longer() -> None:
    made = world()
    made.run(
        config("weight 3", "weight 1", own="config mproutd 'globals'\n option pin_flows '0'\n")
    )
    assert shared(made)[2] == group(IDS).replace("idle_timer 1", "idle_timer 120")


def test_failback_moves_the_flows_of_those_that_share_no_longer() -> None:
    made = world(3)
    wanted = config("metric 1", "metric 1 failback move", "metric 2 failback move")
    made.set("eth1", carrier=False)
    made.set("eth2", carrier=False)
    before = made.run(wanted).plan
    assert before.default == {AF_INET: "wan3"}
    made.set("eth1", carrier=True)
    made.set("eth2", carrier=True)
    now = made.run(wanted).plan
    moving = failing_back(now.uplinks, before.default, now.shares)
    assert moving == [("wan3", AF_INET)]


def test_failback_follows_the_metric_and_not_the_file() -> None:
    made = world(2)
    wanted = config("metric 2 failback move", "metric 1")
    made.set("eth2", carrier=False)
    before = made.run(wanted).plan
    made.set("eth2", carrier=True)
    now = made.run(wanted).plan
    assert failing_back(now.uplinks, before.default, now.shares) == [("wan1", AF_INET)]
    assert failing_back(now.uplinks, now.default, before.shares) == []


# -- what is said of it -----------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.world.create("br0")
    made.write(
        interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on"),
        "config uplink 'wan1'\n option weight '3'\n",
    )
    made.settle()
    return made


def test_the_status_tells_the_shares_as_the_kernel_has_them(site: Site) -> None:
    status = site.status()
    (traffic,) = status["other_traffic"]
    assert (traffic["uplink"], traffic["device"]) == ("wan1", "eth1")
    assert traffic["shares"] == [
        {"uplink": "wan1", "device": "eth1", "weight": 3},
        {"uplink": "wan2", "device": "eth2", "weight": 1},
    ]
    assert status["default"] == {"ipv4": "wan1"}
    assert status["degraded"] is False
    assert "other traffic: IPv4 via wan1 (3) and wan2 (1)" in status_lines(status)
    found = samples(status)
    ratios = {labels[:2]: value for labels, value in found["mproutd_uplink_share_ratio"]}
    assert ratios["wan1", "ipv4"] == 0.75
    assert ratios["wan2", "ipv4"] == 0.25
    assert ratios["wan2", "ipv6"] == 0
    carrying = {labels[:2]: value for labels, value in found["mproutd_uplink_default"]}
    assert carrying["wan2", "ipv4"]
    assert not carrying["wan2", "ipv6"]


def test_three_shares_are_listed() -> None:
    assert share_list([("a", 3), ("b", 1), ("c", 1)]) == "a (3), b (1) and c (1)"
    assert share_list([("a", 3)]) == "a"
    assert share_list([]) == ""


def test_a_rule_that_leads_to_one_of_them_is_named(site: Site) -> None:
    site.world.foreign(Rule(AF_INET, 20000, 9000, protocol=4))
    index = site.world.link("eth1").index
    site.world.foreign(Route(AF_INET, 9000, "default", index, "10.1.1.1", protocol=4))
    (problem,) = site.problems()
    assert problem["code"] == "foreign-rule"
    assert problem["traffic"] == "other traffic (IPv4)"


def test_a_route_of_another_program_in_the_place_of_the_group(site: Site) -> None:
    """No rule is to blame."""
    world = site.world
    index = world.link("eth2").index
    world.routes = [route for route in world.routes if not route.nexthop_id]
    world.foreign(Route(AF_INET, 7000, "default", index, "10.2.2.1", protocol=4))
    site.settle()
    assert "operation-failed" in {problem["code"] for problem in site.problems()}
    world.routes = [route for route in world.routes if route.protocol != 4 or route.table != 7000]
    site.settle()
    assert "operation-failed" not in {problem["code"] for problem in site.problems()}


def test_marks_that_follow_main_should_share(site: Site) -> None:
    world = site.world
    world.foreign(Rule(AF_INET, 100, 254, fwmark=0x40, fwmask=0xFF, protocol=4))
    world.set("eth1", carrier=False)
    site.settle()
    world.set("eth2", carrier=True)
    (problem,) = [found for found in site.problems() if found["code"] == "mark-follows-main"]
    assert problem["expected"] == "wan2"


def test_the_decision_is_logged_with_weights() -> None:
    made = world()
    first = made.run(THREE_TO_ONE).plan
    second = made.run(config("weight 3", "weight 2")).plan
    texts = [decision.text for decision in decisions(None, first)]
    assert "other traffic (IPv4) leaves via wan1 (3) and wan2 (1)" in texts
    (changed,) = decisions(first, second)
    assert changed.text == "other traffic (IPv4) leaves via wan1 (3) and wan2 (2)"
    assert decisions(second, second) == []


def test_a_vpn_beside_an_uplink_in_one_route_of_main() -> None:
    """Both nexthops are listed; the one that is no uplink comes last."""
    made = world(1)
    made.device("tun0", "10.8.0.2/24")
    made.forget_default("eth1")
    tun0, eth1 = made.link("tun0").index, made.link("eth1").index
    hops = (Nexthop("10.8.0.1", 2, False, tun0), Nexthop("10.1.1.1", 1, False, eth1))
    made.foreign(Route(AF_INET, 254, "default", nexthops=hops, protocol=4))
    plan = made.run(config("", modes="on")).plan
    assert plan.default == {}
    assert ways_out(
        [
            {
                "family": "ipv4",
                "origin": None,
                "uplink": "wan1",
                "device": "eth1",
                "shares": [
                    {"uplink": "wan1", "device": "eth1", "weight": 1},
                    {"uplink": None, "device": "tun0", "weight": 2},
                ],
                "table": 254,
                "barred": [],
            }
        ],
        {"ipv4": "IPv4"},
    ) == ["IPv4 via wan1 (1) and tun0 (2) (main)"]
