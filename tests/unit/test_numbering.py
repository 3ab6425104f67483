"""Tables and marks stay with their uplink, whatever happens to the file around it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.options import MAX_UPLINKS
from mproutd.planning.numbering import assign_numbers, deposit, marks_overlap
from tests.lab.fake_world import interface, uci


def file(*names: str) -> str:
    return "".join(interface(name, f"dev-{name}", "on") for name in names)


def slots(names: str, known: dict[str, int], own: str = "") -> dict[str, int]:
    places = assign_numbers(uci(file(*names.split()), own), known)
    return {name: numbers.slot for name, numbers in places.items()}


def test_a_fresh_start_follows_the_file() -> None:
    assert slots("a b c", {}) == {"a": 1, "b": 2, "c": 3}


def test_sections_added_reordered_and_removed_renumber_no_other() -> None:
    known = slots("a b c", {})
    known = slots("x a b c", known)
    assert known == {"a": 1, "b": 2, "c": 3, "x": 4}
    known = slots("c x a", known)
    assert known == {"a": 1, "c": 3, "x": 4}
    assert slots("y c x a z", known) == {"a": 1, "y": 2, "c": 3, "x": 4, "z": 5}


def test_a_pinned_table_takes_its_slot_from_who_had_it() -> None:
    own = "config uplink 'b'\n option table '7001'\n"
    assert slots("a b", {"a": 1, "b": 2}, own) == {"a": 2, "b": 1}


def test_a_pinned_table_elsewhere_takes_none() -> None:
    config = uci(file("a", "b"), "config uplink 'a'\n option table '123'\n")
    places = assign_numbers(config, {})
    assert [(place.slot, place.table) for place in places.values()] == [(1, 123), (2, 7002)]


def test_no_slot_whose_mark_somebody_pinned() -> None:
    config = uci(file("a", "b"), "config uplink 'b'\n option mark '0x01000000'\n")
    places = assign_numbers(config, {})
    assert (places["a"].mark, places["b"].mark) == (0x02000000, 0x01000000)
    places = assign_numbers(config, {"a": 1, "b": 2})
    assert (places["a"].mark, places["b"].mark) == (0x03000000, 0x01000000)


def test_a_pinned_mark_in_other_bits_is_no_obstacle() -> None:
    places = assign_numbers(uci(file("a", "b"), "config uplink 'b'\n option mark '3/0xff'\n"), {})
    assert (places["a"].slot, places["a"].mark) == (1, 0x01000000)
    assert (places["b"].mark, places["b"].mask) == (3, 0xFF)


def test_a_pinned_table_whose_mark_another_pinned_has_none() -> None:
    own = "config uplink 'a'\n option table '7001'\nconfig uplink 'b'\n option mark '0x01000000'\n"
    numbers = assign_numbers(uci(file("a", "b"), own), {})["a"]
    assert (numbers.table, numbers.mark, numbers.mask) == (7001, 0, 0)


def test_many_uplinks_beside_a_greedy_mark_stay_within_the_windows() -> None:
    names = [f"u{n}" for n in range(150)]
    own = "config mproutd 'globals'\n option mark_mask '0xff0000'\n"
    own += "config uplink 'u0'\n option mark '0x10000/0x30000'\n"
    places = assign_numbers(uci(file(*names), own), {})
    slots = [numbers.slot for numbers in places.values()]
    assert len(set(slots)) == 150
    assert max(slots) <= MAX_UPLINKS
    marks = [place.mark for place in places.values() if place.mark]
    assert len(set(marks)) == len(marks)
    assert not any(mark & 0x30000 == 0x10000 for mark in marks[1:])


def test_marks_lie_in_the_mask_and_never_are_the_question_to_main() -> None:
    config = uci(file(*"abc"), "config mproutd 'globals'\n option mark_mask '0x0505'\n")
    marks = [numbers.mark for numbers in assign_numbers(config, {}).values()]
    assert marks == [0x0001, 0x0004, 0x0005]
    small = uci(file("a", "b"), "config mproutd 'globals'\n option mark_mask '0x3'\n")
    assert [numbers.mark for numbers in assign_numbers(small, {"b": 3}).values()] == [1, 0]


@given(st.integers(0, 1 << 20), st.integers(1, 0xFFFFFFFF))
def test_deposit_lays_each_value_its_own_way(value: int, mask: int) -> None:
    laid = deposit(value, mask)
    if value < 1 << mask.bit_count():
        assert laid & ~mask == 0
        assert laid.bit_count() == value.bit_count()
        assert (value == 0) == (laid == 0)
    else:
        assert laid == -1


def test_overlap() -> None:
    assert marks_overlap(0x01, 0x0F, 0x11, 0xFF)
    assert not marks_overlap(0x01, 0x0F, 0x12, 0xFF)
    assert not marks_overlap(0x01, 0x0F, 0x10, 0xF0)
