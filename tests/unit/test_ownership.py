"""What is ours, and what only looks like it."""

from __future__ import annotations

from socket import AF_INET

import pytest

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.model import (
    IMPLICIT,
    PROTOCOL,
    SIGNAL,
    SUBFLOW,
    TABLE_MAIN,
    Endpoint,
    Limits,
    Route,
    Rule,
)
from mproutd.planning.ownership import OUR_SYSCTLS, Ownership
from mproutd.planning.state import State

CONFIG = Config(uplinks=(UplinkConfig("wan1", "eth1"), UplinkConfig("wan2", "eth2", table=100)))
STATE = State(
    tables=frozenset({7001, 9003}),
    priorities=frozenset({7000, 12000}),
    endpoints=frozenset({("10.1.1.2", 2)}),
    limits=(Limits(2, 0), Limits(8, 8), Limits(4, 4)),
    sysctls={(2, "rp_filter"): 1, (2, "another_version's"): 1},
)
OWNERSHIP = Ownership(CONFIG, STATE)


def route(table: int, protocol: int = PROTOCOL) -> Route:
    return Route(AF_INET, table, "default", 2, "10.1.1.1", protocol=protocol)


@pytest.mark.parametrize("table", [7000, 7001, 7255, 100, 9003])
def test_a_route_in_a_table_of_this_or_an_earlier_configuration_is_ours(table: int) -> None:
    assert OWNERSHIP.own_routes((route(table),)) == {route(table)}


@pytest.mark.parametrize("table", [TABLE_MAIN, 99, 6999, 7512, 9002])
def test_a_route_elsewhere_is_not_ours_whatever_its_protocol(table: int) -> None:
    assert OWNERSHIP.own_routes((route(table),)) == frozenset()


def test_a_route_of_another_protocol_is_not_ours() -> None:
    assert OWNERSHIP.own_routes((route(7001, protocol=4),)) == frozenset()


@pytest.mark.parametrize("priority", [7000, 7899, 12000, 12899, 32764, 32765])
def test_a_rule_at_one_of_our_priorities_is_ours(priority: int) -> None:
    rule = Rule(AF_INET, priority, 7001)
    assert OWNERSHIP.own_rules((rule,)) == {rule}
    assert OWNERSHIP.own_rules((rule._replace(protocol=4),)) == frozenset()
    assert OWNERSHIP.own_rules((rule._replace(plain=False),)) == frozenset()


@pytest.mark.parametrize("priority", [0, 6999, 8900, 11999, 13900, 32763, 32766])
def test_a_rule_elsewhere_is_not_ours(priority: int) -> None:
    assert OWNERSHIP.own_rules((Rule(AF_INET, priority, 7001),)) == frozenset()


def test_an_endpoint_is_ours_by_address_and_device() -> None:
    ours = Endpoint("10.1.1.2", 2, SUBFLOW, id=7)
    assert OWNERSHIP.owns_endpoint(ours)
    assert not OWNERSHIP.owns_endpoint(ours._replace(device=3))
    assert not OWNERSHIP.owns_endpoint(ours._replace(address="10.2.2.2"))
    assert not OWNERSHIP.owns_endpoint(ours._replace(port=80))


def test_only_a_real_foreign_endpoint_occupies_an_address() -> None:
    foreign = Endpoint("10.2.2.2", 3, SUBFLOW, id=1)
    others = (
        Endpoint("10.1.1.2", 2, SUBFLOW, id=2),
        Endpoint("10.3.3.2", 4, IMPLICIT, id=3),
        Endpoint("10.4.4.2", 5, SUBFLOW, id=4, port=80),
    )
    keys = {("10.2.2.2", 0), ("10.4.4.2", 80)}
    assert OWNERSHIP.foreign_keys((foreign, *others)) == keys


def test_an_endpoint_with_a_port_is_ours_by_address_device_and_port() -> None:
    state = State(ports=frozenset({("10.1.1.2", 2, 5300)}))
    ownership = Ownership(Config(), state)
    ours = Endpoint("10.1.1.2", 2, SIGNAL, id=7, port=5300)
    assert ownership.owns_endpoint(ours)
    for other in (ours._replace(port=0), ours._replace(port=5301), ours._replace(device=3)):
        assert not ownership.owns_endpoint(other)


def test_a_sysctl_is_ours_while_it_is_on_record_and_has_our_value() -> None:
    assert OWNERSHIP.owns_sysctl(2, "rp_filter", OUR_SYSCTLS["rp_filter"])
    assert not OWNERSHIP.owns_sysctl(2, "rp_filter", 0)
    assert not OWNERSHIP.owns_sysctl(2, "rp_filter", None)
    assert not OWNERSHIP.owns_sysctl(3, "rp_filter", OUR_SYSCTLS["rp_filter"])
    assert not OWNERSHIP.owns_sysctl(2, "another_version's", None)


@pytest.mark.parametrize(
    ("current", "original"),
    [
        (Limits(8, 8), Limits(2, 0)),
        (Limits(4, 4), Limits(2, 0)),
        (Limits(4, 8), Limits(2, 0)),
        (Limits(8, 5), Limits(2, 5)),
        (Limits(3, 8), Limits(3, 0)),
    ],
)
def test_each_limit_of_ours_goes_back_to_the_original(current: Limits, original: Limits) -> None:
    assert OWNERSHIP.original_limits(current) == original
    assert Ownership(CONFIG, State()).original_limits(current) == current
