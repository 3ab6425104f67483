"""What is remembered: the state file's content, there and back; answers of the last pass."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.model import Limits
from mproutd.planning.cache import MAX_ENTRIES, cache_last_by
from mproutd.planning.state import REMEMBERED_GATEWAYS, State, decode, encode
from tests.lab.generated import FAMILIES, NAMES, U32, metrics, texts
from tests.unit.test_plan import WAN1, WAN2, two_lines

ADDRESSES = FAMILIES.flatmap(texts)
LIMITS = st.builds(Limits, st.integers(0, 255), st.integers(0, 255))
MEMORIES = st.builds(
    State,
    st.dictionaries(NAMES, U32, max_size=4),
    st.frozensets(U32.filter(lambda table: table not in (0, 253, 254, 255)), max_size=4),
    st.frozensets(U32, max_size=4),
    st.dictionaries(st.tuples(NAMES, ADDRESSES), ADDRESSES | st.just(""), max_size=4),
    st.frozensets(st.tuples(ADDRESSES, U32), max_size=4),
    st.frozensets(ADDRESSES, max_size=4),
    st.none() | st.tuples(LIMITS, LIMITS) | st.tuples(LIMITS, LIMITS, LIMITS),
    st.dictionaries(st.tuples(U32, NAMES), U32, max_size=4),
    st.lists(st.tuples(NAMES, U32), max_size=4).map(tuple),
    st.dictionaries(
        st.tuples(NAMES, ADDRESSES),
        st.tuples(ADDRESSES | st.just(""), metrics()),
        max_size=4,
    ),
    st.frozensets(st.tuples(NAMES, ADDRESSES), max_size=4),
    policies=st.dictionaries(NAMES, U32, max_size=4),
    ports=st.frozensets(st.tuples(ADDRESSES, U32, st.integers(1, 65535)), max_size=4),
)


@given(MEMORIES)
def test_it_comes_back_as_it_went(state: State) -> None:
    again = decode(json.loads(json.dumps(encode(state))))
    assert again == state
    assert list(again.gateways) == list(state.gateways)  # the oldest is forgotten first


def spoilt(**changes: object) -> dict[str, object]:
    return {**encode(State()), **changes}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        7,
        {},
        spoilt(version=3),
        spoilt(version="1"),
        spoilt(slots=[]),
        spoilt(slots={"wan1": True}),
        spoilt(slots={"wan1": "1"}),
        spoilt(tables=[-1]),
        spoilt(tables=[254]),
        spoilt(tables=[1 << 32]),
        spoilt(priorities=None),
        spoilt(gateways=[["eth1", "10.1.1.2"]]),
        spoilt(gateways=[["eth1", "10.1.1.2", "no address"]]),
        spoilt(gateways=[["eth1", "x", "10.1.1.1"]]),
        spoilt(gateways=[[1, "10.1.1.2", "10.1.1.1"]]),
        spoilt(endpoints=[["10.1.1.2", None]]),
        spoilt(endpoints=[["10.1.1.2\0", 2]]),
        spoilt(without_endpoint=[7]),
        spoilt(limits=[[2, 0], [8]]),
        spoilt(limits=[1, 2]),
        spoilt(limits={"a": 1}),
        spoilt(sysctls=[[5, 7, 1]]),
        spoilt(attributes=[["eth1", "10.1.1.2", ""]]),
        spoilt(attributes=[["eth1", "10.1.1.2", "", [["mtu", 1400]]]]),
        spoilt(dropped=[["eth1", "no address"]]),
        spoilt(failed=[["wan1"]]),
        spoilt(failed=[["wan1", "ipv4"]]),
        spoilt(failed={"wan1": 2}),
    ],
    ids=repr,
)
def test_what_is_no_state(data: object) -> None:
    with pytest.raises(ValueError, match="not a state of mproutd"):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.sampled_from(sorted(encode(State()))), JSON)
def test_a_damaged_one_is_a_memory_or_refused(key: str, value: object) -> None:
    try:
        state = decode(spoilt(**{key: value}))
    except ValueError:
        return
    assert decode(encode(state)) == state


def test_the_oldest_gateways_of_departed_addresses_are_forgotten() -> None:
    world = two_lines()
    old = {("eth1", f"10.9.9.{n}"): "10.9.9.254" for n in range(REMEMBERED_GATEWAYS)}
    world.store.state = State(gateways=old)
    world.run(WAN1 + WAN2)
    assert [*world.store.state.gateways] == [
        *[*old][2:],
        ("eth1", "10.1.1.2"),
        ("eth2", "10.2.2.2"),
    ]


def test_an_answer_is_worked_out_once_and_all_are_forgotten_when_there_are_too_many() -> None:
    calls = []

    @cache_last_by(lambda name, *_: name)
    def double(name: str, number: int) -> int:
        """Twice."""
        calls.append((name, number))
        return 2 * number

    assert [double("a", 1), double("a", 1), double("a", 2), double("a", 1)] == [2, 2, 4, 2]
    assert calls == [("a", 1), ("a", 2), ("a", 1)]
    for number in range(MAX_ENTRIES - 1):
        double(f"b{number}", 1)
    calls.clear()
    double("a", 1)
    assert calls == []
    double("c", 1)
    double("a", 1)
    assert calls == [("c", 1), ("a", 1)]
    assert double.__doc__ == "Twice."
