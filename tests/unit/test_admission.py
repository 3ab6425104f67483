"""The places on the control socket: who gets one, who waits, and who is turned away."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from mproutd.control.admission import (
    MAX_CLIENTS,
    MAX_USER_CLIENTS,
    MAX_USER_WAITING,
    MAX_WAITING,
    ROOT,
    Admission,
)

MALLORY, ALICE = 1001, 1002


class Client(NamedTuple):
    user: int
    number: int


class Places(Admission[Client]):
    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()

    def come(self, user: int, count: int = 1) -> list[str]:
        """What becomes of each."""
        return [self._come(user) for _ in range(count)]

    def _come(self, user: int) -> str:
        client = Client(user, next(self._numbers))
        if not self.admit(client):
            return "turned away"
        return "served" if client in self.served else "waits"


def test_one_user_gets_a_part_of_the_places_and_others_are_not_kept_waiting() -> None:
    places = Places()
    became = places.come(MALLORY, 1000)
    assert became.count("served") == MAX_USER_CLIENTS
    assert became.count("waits") == MAX_USER_WAITING
    assert set(places.come(ALICE, MAX_USER_CLIENTS)) == {"served"}
    assert places.crowded_users() == {MALLORY}


def test_root_has_places_of_its_own() -> None:
    places = Places()
    for user in range(1000, 1100):
        places.come(user, 20)
    assert len(places.served) == MAX_CLIENTS
    assert len(places.waiting) == MAX_WAITING
    became = places.come(ROOT, 1000)
    assert became.count("served") == MAX_CLIENTS
    assert became.count("waits") == MAX_WAITING
    assert became.count("turned away") == 1000 - MAX_CLIENTS - MAX_WAITING


def test_root_is_not_hurried_for_others_nor_others_for_root() -> None:
    places = Places()
    places.come(ROOT, MAX_CLIENTS)
    places.come(MALLORY, MAX_USER_CLIENTS + 1)
    assert places.crowded_users() == {MALLORY}
    places = Places()
    places.come(MALLORY, MAX_USER_CLIENTS)
    places.come(ROOT, MAX_CLIENTS + 1)
    assert places.crowded_users() == {ROOT}


def test_who_waits_gets_the_place_of_who_goes_in_order() -> None:
    places = Places()
    places.come(MALLORY, MAX_USER_CLIENTS + 2)
    places.come(ALICE, 1)
    second, third = places.waiting
    assert places.leave(places.served[-1]) is None, "it was not in Mallory's way"
    assert places.leave(places.served[0]) == second
    assert places.leave(places.served[0]) == third
    assert places.leave(places.served[0]) is None
    assert places.crowded_users() == set()


def test_where_all_places_are_taken_whoever_holds_one_is_hurried() -> None:
    places = Places()
    for user in range(1000, 1000 + MAX_CLIENTS // MAX_USER_CLIENTS):
        places.come(user, MAX_USER_CLIENTS)
    assert places.crowded_users() == set()
    assert places.come(ALICE + 1000) == ["waits"]
    assert len(places.crowded_users()) == MAX_CLIENTS // MAX_USER_CLIENTS


@given(st.lists(st.tuples(st.booleans(), st.sampled_from((ROOT, 1, 2, 3, 4, 5, 6)))))
def test_no_client_waits_while_a_slot_is_free(steps: list[tuple[bool, int]]) -> None:
    places = Places()
    for comes, user in steps:
        if comes:
            places.come(user, 5)
        else:
            mine = [client for client in places.served if client.user == user]
            if mine:
                places.leave(mine[0])
        for waiting in places.waiting:
            alike = [c for c in places.served if (c.user == ROOT) == (waiting.user == ROOT)]
            own = [c for c in alike if c.user == waiting.user]
            assert len(alike) == MAX_CLIENTS or len(own) == MAX_USER_CLIENTS
