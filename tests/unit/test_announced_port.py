"""`option port`: announced addresses with a port of their own."""

from __future__ import annotations

import pytest

from mproutd.configuration.config import ConfigError
from mproutd.model import SIGNAL, SUBFLOW, Endpoint, Operation
from mproutd.netlink.sock_diag import Connection, Subflow
from mproutd.planning.pacing import FailedOperation
from mproutd.status.problems import PORT_TAKEN, failed_operations
from mproutd.subflows.connections import ConnectionSnapshot
from mproutd.subflows.relocation import relocate
from tests.lab.fake_world import interface, uci
from tests.unit.test_plan import WAN1, WAN2, endpoints, two_lines
from tests.unit.test_relocation import deletions, plan, snapshot

HANDOVER = interface("wan2", "eth2", "handover")


def own(port: object, role: str = "server") -> str:
    option = f"\toption port '{port}'\n" if port else ""
    return f"config mproutd 'globals'\n\toption role '{role}'\n\nconfig uplink 'wan1'\n{option}"


def test_it_comes_changes_and_goes() -> None:
    world = two_lines()
    world.run(uci(WAN1 + WAN2, own(5300)))
    second = "10.2.2.2 signal dev eth2"
    assert sorted(endpoints(world)) == ["10.1.1.2 signal dev eth1 port 5300", second]
    world.run(uci(WAN1 + WAN2, own(5301)))
    assert sorted(endpoints(world)) == ["10.1.1.2 signal dev eth1 port 5301", second]
    assert not world.run(uci(WAN1 + WAN2, own(5301))).done
    world.run(uci(WAN1 + WAN2, own(0)))
    assert sorted(endpoints(world)) == ["10.1.1.2 signal dev eth1", second]
    world.run(uci(WAN1 + WAN2, own(5300)))
    world.run(uci(WAN1 + WAN2, own(5300), enabled=False))
    assert endpoints(world) == []


@pytest.mark.parametrize("role", ["client", "both"])
def test_an_address_with_subflows_of_its_own_has_none(role: str) -> None:
    world = two_lines()
    config = uci(WAN1, own(5300, role))
    world.run(config)
    assert "port" not in endpoints(world)[0]
    (warning,) = config.warnings
    reason = f"has no effect with role {role}: only server announces with a port"
    assert warning == f"mproutd:5: uplink 'wan1', option 'port': {reason}"


def test_a_port_without_effect_or_meaning_is_named() -> None:
    (warning,) = uci(interface("wan1", "eth1", "off"), own(5300)).warnings
    assert warning.endswith("has no effect: wan1 is off")
    for port in ("-1", "0", "65536", "http"):
        with pytest.raises(ConfigError) as caught:
            uci(WAN1, own(port))
        assert str(caught.value).startswith(f"mproutd:5: uplink 'wan1', option 'port': '{port}'")


@pytest.mark.parametrize(
    ("other", "in_place"),
    [
        (Endpoint("10.1.1.2", 0, SIGNAL, port=5300), False),
        (Endpoint("10.1.1.2", 3, SIGNAL, port=5300), True),
        (Endpoint("10.1.1.2", 0, SUBFLOW), False),
        (Endpoint("10.1.1.2", 3, SIGNAL, port=5301), False),
    ],
)
def test_only_the_same_port_of_another_program_takes_its_place(
    other: Endpoint, in_place: bool
) -> None:
    """And a handover uplink that of the address, if what is there leads elsewhere."""
    world = two_lines()
    world.foreign(other)
    world.run(uci(WAN1 + HANDOVER, own(5300)))
    ours = "10.1.1.2 signal dev eth1 port 5300"
    assert (ours in endpoints(world)) == (other.port != 5300)
    assert ("10.2.2.2" in "".join(endpoints(world))) == in_place


ANNOUNCED = Endpoint("10.1.1.2", 2, SIGNAL, 7, 5300)


def kept(*subflows: Subflow) -> dict[str, int]:
    """What keeps the announced endpoint while it is to be deleted."""
    connections = ConnectionSnapshot([Connection("10.1.1.2", 1, False, True, 9)], subflows)
    return relocate(
        snapshot(ANNOUNCED), plan(), deletions(ANNOUNCED), [ANNOUNCED], connections
    ).kept


def test_a_connection_that_began_elsewhere_does_not_keep_it() -> None:
    initial = Subflow(9, "10.1.1.2", initial=True, initiated_locally=False)
    joined = Subflow(9, "10.1.1.2", initial=False, initiated_locally=False, local_id=7)
    assert kept(initial, joined) == {}
    assert kept(initial, joined._replace(local_id=0)) == {}
    assert kept(joined) == {"10.1.1.2": 1}
    assert kept(joined, joined._replace(local_id=8)) == {}
    assert kept(joined, initial._replace(established=False)) == {"10.1.1.2": 1}


def test_the_advice_for_a_port_in_use() -> None:
    def advice(value: Endpoint) -> str:
        failure = FailedOperation(Operation("add", value), "error", 1, 5.0)
        return failed_operations([failure], 4.0, str)[0]["advice"]

    assert advice(ANNOUNCED) == PORT_TAKEN
    assert advice(ANNOUNCED._replace(port=0)) != PORT_TAKEN
