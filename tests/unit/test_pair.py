"""Standby, the numbers of a pair, and what two configurations must have in common."""

from __future__ import annotations

import re
from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest

from mproutd.configuration.config import Config, ConfigError
from mproutd.planning.modes import is_standby
from mproutd.planning.numbering import assign_numbers, assign_policy_numbers
from mproutd.planning.pair import differences
from mproutd.planning.plan import Plan
from mproutd.planning.state import State, decode, encode
from mproutd.planning.uplinks import Facts
from mproutd.services.base import ServiceContext
from mproutd.services.standby import Standby
from mproutd.status.render import status_lines
from mproutd.status.usable import usable_uplinks
from tests.lab.fake_world import interface, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, part, two_lines
from tests.unit.test_status import Site

PAIR = "config mproutd 'globals'\n option pair 1\n"
ACTIVE, STANDBY = Facts(standby=False), Facts(standby=True)


class Record:
    """A state file that was read or not."""

    def __init__(self, state: State, error: str = "") -> None:
        self.state, self.error = state, error


def pair(network: str = WAN1 + WAN2, more: str = "", own: str = "") -> Config:
    return uci(network, PAIR + more + own)


# -- standby ------------------------------------------------------------------------------


def test_in_standby_tables_and_rules_stay_and_nothing_carries() -> None:
    world, config = two_lines(), pair()
    world.run(config, ACTIVE)
    active = world.ours()
    assert len(endpoints(world)) == 2
    world.run(config, STANDBY)
    gone = set(active.splitlines()) - set(world.ours().splitlines())
    assert {line for line in gone if "lookup" in line} == set()
    assert endpoints(world) == []
    assert part(world.ours(), "default", "table 7000") == []
    assert part(world.ours(), "default", "table 7001") != []
    world.run(config, ACTIVE)
    assert world.ours() == active


def test_a_change_of_the_gateway_writes_no_rule_and_no_table_of_an_uplink() -> None:
    world, config = two_lines(), pair()
    world.run(config, ACTIVE)
    for facts in (STANDBY, ACTIVE):
        done = world.once(config, facts).done
        kinds = {type(operation.value).__name__ for operation in done}
        assert kinds <= {"Endpoint", "Limits", "Route", "Sysctl"}
        tables = [o.value.table for o in done if type(o.value).__name__ == "Route"]
        assert set(tables) == {7000}


def test_shared_traffic_has_no_share_in_standby() -> None:
    own = "config uplink wan1\n option weight 3\nconfig uplink wan2\n option weight 1\n"
    world, config = two_lines(), pair(own=own)
    world.run(config, ACTIVE)
    assert "nhid" in world.ours()
    world.run(config, STANDBY)
    assert part(world.ours(), "default", "table 7000") == []


def test_an_uplink_that_is_off_still_carries_nothing_of_this_host() -> None:
    network = WAN1 + interface("wan2", "eth2", "off")
    world, config = two_lines(), pair(network)
    outcome = world.run(config, STANDBY)
    assert [uplink.config.mode for uplink in outcome.plan.uplinks] == ["standby", "off"]


@pytest.mark.parametrize("hard", [0, 1])
def test_a_quota_that_is_used_up_ends_no_way_out_in_standby(hard: int) -> None:
    own = "".join(
        f"config uplink {name}\n option quota 1G\n option quota_action off\n"
        f" option quota_hard {hard}\n"
        for name in ("wan1", "wan2")
    )
    world, config = two_lines(), pair(own=own)
    outcome = world.run(config, STANDBY._replace(over_quota=frozenset(["wan1", "wan2"])))
    modes = {uplink.config.mode for uplink in outcome.plan.uplinks}
    assert modes == ({"off"} if hard else {"standby"})


@pytest.mark.parametrize(
    ("commanded", "recorded", "expected"),
    [
        (None, None, True),
        (None, False, False),
        (None, True, True),
        (False, True, False),
        (True, False, True),
    ],
)
def test_a_gateway_that_boots_is_in_standby(
    commanded: bool | None, recorded: bool | None, expected: bool
) -> None:
    """The state file does not outlive a reboot."""
    state, facts = State(standby=recorded), Facts(standby=commanded)
    assert is_standby(pair(), state, facts) is expected
    assert is_standby(uci(WAN1), state, facts) is False


def test_the_state_file_has_what_was_commanded() -> None:
    world, config = two_lines(), pair()
    for facts, recorded in ((Facts(), True), (ACTIVE, False), (Facts(), False), (STANDBY, True)):
        world.run(config, facts)
        assert world.store.state.standby is recorded
        assert decode(encode(world.store.state)).standby is recorded
    world.run(uci(WAN1 + WAN2))
    assert world.store.state.standby is None
    assert decode({**encode(State()), "standby": 1}).standby is None


def test_a_command_counts_while_multipath_is_not_enabled() -> None:
    """The other gateway carries meanwhile, and after a reload that enables it."""
    world, config = two_lines(), pair()
    world.run(config, ACTIVE)
    disabled = config._replace(enabled=False)
    for facts, recorded in ((Facts(), False), (STANDBY, True), (Facts(), True)):
        assert world.run(disabled, facts).plan.state.standby is recorded
    assert world.run(config).plan.state.standby is True
    assert world.run(disabled._replace(pair=False)).plan.state.standby is None


def test_the_service_keeps_a_command_until_the_next_and_reports_changes() -> None:
    requests: list[None] = []
    events: list[str] = []
    context = ServiceContext(
        None,  # type: ignore[arg-type]
        lambda: requests.append(None),
        lambda kind, priority, text, *_, **__: events.append(f"{kind}: {text}"),
        "/nonexistent",
    )
    service, world, config = Standby(context), two_lines(), pair()

    def make_pass() -> None:
        service.on_pass(world.run(config, service.add_facts(Facts())))

    make_pass()
    assert service.on_request({"command": "quota"}) is None
    assert "error" in (service.on_request({"command": "standby", "standby": "no"}) or {})
    assert requests == []
    assert service.on_request({"command": "standby", "standby": False}) == {"standby": False}
    assert requests == [None]
    make_pass()
    make_pass()
    config = uci(WAN1 + WAN2)
    make_pass()
    assert [event.partition(":")[0] for event in events] == ["standby"] * 2
    assert [event.partition(": ")[2].partition(":")[0] for event in events] == ["standby", "active"]


# -- virtual addresses --------------------------------------------------------------------


def virtual(*addresses: str) -> Config:
    return pair(more="".join(f" list virtual_address {address}\n" for address in addresses))


def test_a_virtual_address_has_a_source_rule_and_no_endpoint() -> None:
    world = two_lines()
    world.device("eth1", "10.1.1.2/24", "10.1.1.100/24", gateway="10.1.1.1")
    world.run(virtual("10.1.1.100"), ACTIVE)
    assert not [line for line in endpoints(world) if "10.1.1.100" in line]
    assert part(world.ours(), "from 10.1.1.100") != []
    world.run(virtual("10.2.2.100"), ACTIVE)
    assert [line for line in endpoints(world) if "10.1.1.100" in line] != []


def test_the_only_address_of_a_device_has_an_endpoint_although_it_is_virtual() -> None:
    world = two_lines()
    world.run(virtual("10.1.1.2"), ACTIVE)
    assert len(endpoints(world)) == 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("10.1.1.1/24", "is not an address"),
        ("0.0.0.0", "is every host's own"),
        ("127.0.0.1", "is every host's own"),
        ("::1", "is every host's own"),
        ("224.0.0.18", "is a multicast"),
        ("FF02::12", "is a multicast"),
    ],
)
def test_a_virtual_address_is_one_that_a_gateway_can_have(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=f"virtual_address': '{re.escape(text)}' {error}"):
        virtual(text)


@pytest.mark.parametrize(
    ("standby", "address", "code"),
    [
        (True, "10.1.1.2", "standby-with-address"),
        (False, "10.1.1.9", "active-without-address"),
        (True, "10.1.1.9", ""),
        (False, "10.1.1.2", ""),
    ],
)
def test_a_status_says_where_vrrp_has_another_view(
    tmp_path: Path, standby: bool, address: str, code: str
) -> None:
    site = Site(tmp_path)
    site.state.save(State(standby=standby))
    site.write(WAN1 + WAN2, PAIR + f" list virtual_address {address}\n" * 2)
    site.settle()
    status = site.status()
    assert [problem["code"] for problem in status["problems"]] == ([code] if code else [])
    assert status["standby"] is standby
    assert (status_lines(status)[0].partition(":")[0] == "standby") is standby
    assert {uplink["effective_mode"] for uplink in status["uplinks"]} == (
        {"standby"} if standby else {"master", "on"}
    )


# -- usable -------------------------------------------------------------------------------


def test_usable_names_those_that_work_in_standby_too() -> None:
    world, config = two_lines(), pair()

    def reply(plan: Plan | None, **changes: Any) -> dict[str, Any]:
        return usable_uplinks(plan, config._replace(**changes), Record(world.store.state))

    state = {"enabled": True, "standby": True, "state_file_error": ""}
    assert reply(None) == {"usable": [], "reasons": {}, **state}
    plan = world.run(config, STANDBY).plan
    assert reply(plan) == {"usable": ["wan1", "wan2"], "reasons": {}, **state}
    assert reply(plan, pair=False)["standby"] is None
    world.set("eth1", carrier=False)
    plan = world.run(config, STANDBY).plan
    assert reply(plan)["reasons"] == {"wan1": "no-carrier"}


def test_an_uplink_that_is_off_or_only_kept_does_not_count() -> None:
    network = WAN1 + interface("wan2", "eth2", "off")
    own = "config uplink wan1\n list track_ip 192.0.2.1\n"
    world, config = two_lines(), pair(network, own=own)
    plan = world.run(config, ACTIVE._replace(failed=(("wan1", AF_INET),))).plan
    assert plan.uplinks[0].usable
    assert usable_uplinks(plan, config, Record(world.store.state, "read-only")) == {
        "usable": [],
        "reasons": {"wan1": "check-failed"},
        "enabled": True,
        "standby": False,
        "state_file_error": "read-only",
    }


# -- numbers, and what differs ------------------------------------------------------------


def test_numbers_follow_the_file_whatever_came_before() -> None:
    config = pair()
    assert {name: own.slot for name, own in assign_numbers(config, {"wan1": 5}).items()} == {
        "wan1": 1,
        "wan2": 2,
    }
    rules = "config rule r\n option use_policy wan2\nconfig rule s\n option use_policy wan1\n"
    numbers = assign_policy_numbers(pair(own=rules), {"wan1": 1, "wan2": 7})
    assert sorted(own.number for own in numbers.values()) == [1, 2]


def test_a_pair_with_other_devices_has_no_difference() -> None:
    other = pair(WAN1.replace("eth1", "enp1s0") + WAN2)
    assert differences(pair(), other) == []


POLICY = (
    "config member m\n option interface wan1\n option weight {weight}\n"
    "config policy p\n list use_member m\n"
    "config rule r\n option use_policy p\n option dest_ip '{to}'\n option sticky {sticky}\n"
    "config rule s\n option use_policy wan2\n"
)
STICKY = POLICY.format(weight=1, to="!198.51.100.0/24", sticky=1)
OTHER_RULE = "config rule s\n option use_policy wan2\n"
RULES = POLICY.format(weight=1, to="!198.51.100.0/24", sticky=0)


def texts(own: Config, other: Config) -> list[str]:
    return [difference.text("a", "b").partition(": ")[0] for difference in differences(own, other)]


@pytest.mark.parametrize(
    ("own", "other", "where"),
    [
        (pair(), uci(WAN1 + WAN2), ["mproutd, option pair"]),
        (
            pair(),
            pair(more=" option mark_mask 0xff0000\n"),
            ["mproutd, option mark_mask", "uplink wan1", "uplink wan2"],
        ),
        (pair(), pair()._replace(enabled=False), ["network, option multipath of globals"]),
        (pair(), pair(more=" option pin_flows 0\n"), ["mproutd, option pin_flows"]),
        (virtual("10.1.1.9"), virtual("10.1.1.8"), ["mproutd, option virtual_address"]),
        (pair(), pair(WAN1), ["uplink wan2"]),
        (pair(), pair(WAN2 + WAN1), ["uplink wan1", "uplink wan2"]),
        (pair(), pair(own="config uplink wan2\n option table 123\n"), ["uplink wan2"]),
        (
            pair(),
            pair(own="config uplink wan2\n option strict 1\n"),
            ["uplink wan2, option strict"],
        ),
        (
            pair(),
            pair(WAN1 + WAN2.replace("'on'", "'backup'")),
            ["uplink wan2, option multipath"],
        ),
        (pair(own=RULES), pair(own=RULES), []),
        (
            pair(own=RULES),
            pair(own=POLICY.format(weight=2, to="!198.51.100.0/24", sticky=0)),
            ["policy p"],
        ),
        (pair(own=RULES), pair(own=RULES.replace("dest_ip '!", "dest_ip '")), ["rule r"]),
        (pair(own=RULES), pair(own=STICKY), ["sticky rule p/r", "rule r"]),
        (pair(own=RULES), pair(own=RULES.replace("rule s", "rule t")), ["rule s", "rule t"]),
        (
            pair(own="config rule r\n option use_policy wan1\n" + OTHER_RULE),
            pair(own=OTHER_RULE + "config rule r\n option use_policy wan1\n"),
            ["policy wan1", "policy wan2", "order of the rules"],
        ),
    ],
)
def test_differences(own: Config, other: Config, where: list[str]) -> None:
    assert texts(own, other) == where
