"""An uplink that carries one family, and why the other one is not there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mproutd.model import DAD_FAILED, DEPRECATED, TENTATIVE
from mproutd.planning.last_changes import LastChanges
from mproutd.planning.uplinks import REASONS
from mproutd.status import path_problems
from mproutd.status.path_problems import LOSS_NAMED, LOST, NO_ADDRESS, NO_GATEWAY, ONLY_LOCAL
from mproutd.status.problems import ADVICE
from tests.lab.fake_world import World, interface
from tests.unit.test_status import Site

ADDRESS, GATEWAY = "2001:db8:1::2/64", "fe80::1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    world = World()
    world.device("eth1", "10.1.1.2/24", ADDRESS, gateway="10.1.1.1", gateway6=GATEWAY)
    made = Site(tmp_path, world)
    made.write(interface("wan1", "eth1", "on"))
    return made


def causes(site: Site) -> list[str]:
    site.settle()
    return [problem["cause"] for problem in site.problems() if problem["code"] == "family-unusable"]


def remove_address(site: Site) -> None:
    site.world.delete_address("eth1", "2001:db8:1::2")


def test_with_both_families_nothing_is_missed(site: Site) -> None:
    assert causes(site) == []


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (DEPRECATED, [REASONS["deprecated"]]),
        (DAD_FAILED | TENTATIVE, [REASONS["dad-failed"]]),
        (TENTATIVE, []),
    ],
)
def test_the_state_of_the_only_address(site: Site, flag: int, expected: list[str]) -> None:
    site.world.flag_address("2001:db8:1::2", flag)
    assert causes(site) == expected


def test_addresses_without_a_gateway(site: Site) -> None:
    site.world.forget_default("eth1")
    site.world.default("eth1", "10.1.1.1")
    assert causes(site) == [NO_GATEWAY]


def test_a_gateway_without_an_address(site: Site) -> None:
    remove_address(site)
    assert causes(site) == [NO_ADDRESS]
    (found,) = site.problems()
    assert found["text"] == f"wan1: IPv6 is not used: {NO_ADDRESS}"
    assert found["advice"] == ADVICE["no-address"].replace("DEVICE", "eth1")


def test_an_uplink_that_is_off_is_not_expected_to_carry_anything(site: Site) -> None:
    site.write(interface("wan1", "eth1", "off"))
    remove_address(site)
    assert causes(site) == []


def test_a_gateway_and_a_unique_local_address(site: Site) -> None:
    remove_address(site)
    site.world.add_address("eth1", "fd00::2/64")
    assert causes(site) == [ONLY_LOCAL]
    assert "`ula` '1'" in site.problems()[0]["advice"]


def test_a_prefix_for_the_lan_needs_no_address_on_the_uplink(site: Site) -> None:
    remove_address(site)
    site.world.device("lan0", "2001:db8:7::1/64")
    assert causes(site) == []
    site.world.delete_address("lan0", "2001:db8:7::1")
    site.world.add_address("lan0", "fd00:7::1/64")
    assert causes(site) == [NO_ADDRESS]
    site.write(
        interface("wan1", "eth1", "on"), "config uplink 'wan1'\n list prefix 'fd00:7::/64'\n"
    )
    assert causes(site) == []


def test_a_family_that_was_lost_is_missed_for_a_day(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_left() -> None:
        remove_address(site)
        site.world.forget_default("eth1")
        site.world.default("eth1", "10.1.1.1")

    site.settle()
    nothing_left()
    assert causes(site) == [LOST]
    later = time.time() + LOSS_NAMED + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert causes(site) == []


def test_a_family_that_never_was_there_is_not_missed(site: Site) -> None:
    remove_address(site)
    site.world.forget_default("eth1")
    site.world.default("eth1", "10.1.1.1")
    assert causes(site) == []


def test_when_a_family_was_lost(site: Site) -> None:
    changes = LastChanges()
    for now, reason in enumerate(("", "", "no-address", "no-address", "", "no-gateway")):
        site.settle()
        outcome = site.reconciler.last
        assert outcome
        (uplink,) = outcome.plan.uplinks
        paths = (uplink.paths[0], uplink.paths[1]._replace(usable=not reason, reason=reason))
        changes.record([uplink._replace(paths=paths)], float(now))
        assert changes.lost("wan1", 10) == (None if now < 2 else 2.0 if now < 5 else 5.0)
        assert sum(changes.outages("wan1", 10).values()) == (now >= 2) + (now >= 5)
    assert changes.outages("wan1", 10) == {"no-address": 1, "no-gateway": 1}
    assert changes.outages("wan1", 2) == {}
    assert changes.lost("wan1", 2) is None
    changes.record([], 6.0)
    assert changes.outages("wan1", 10) == {}
    assert path_problems.LOSS_NAMED > 3600
