"""Which of a name's addresses is asked, by which line, and when it is looked up again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from socket import AF_INET
from typing import Any

import pytest

from mproutd.services.health import resolver
from mproutd.services.health.resolver import REFRESH_INTERVAL, RETRY_INTERVAL, NameCache

NAME = "probe.example"
A, B, C = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class World:
    """A name server, a clock, and a thread that does its work at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.lookups = 0.0, 0
        self.served = [A, B, C]
        self.names = NameCache(self, lambda: self.now)  # type: ignore[arg-type]
        monkeypatch.setattr(resolver, "_resolve", self._resolve)

    def _resolve(self, name: str, family: int) -> list[str]:
        self.lookups += 1
        if not self.served:
            raise OSError(-3, "Temporary failure in name resolution")
        return list(self.served)

    def submit(self, work: Callable[[], Any], done: Callable[[Any, str], None]) -> None:
        try:
            done(work(), "")
        except OSError as error:
            done(None, str(error.strerror))

    def asked(self, seconds: float, dead: tuple[str, ...] = (), line: str = "wan1") -> list[str]:
        """Who is asked in this time, in this order; a round every second."""
        found, end = [""], self.now + seconds
        while self.now < end:
            found.append(self.names.address(line, NAME, AF_INET, found[-1] in dead))
            self.now += 1.0
        return [each for before, each in pairwise(found) if each != before]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_the_same_one_is_asked_as_long_as_it_answers(world: World) -> None:
    assert world.asked(1) == [A]
    world.served = [C, B, A]
    assert world.asked(3 * REFRESH_INTERVAL) == [A]
    assert world.lookups == 4
    world.served = [C, B]
    assert world.asked(REFRESH_INTERVAL) == [A, C]


@pytest.mark.parametrize(
    ("dead", "asked"), [((A,), [A, B]), ((A, B), [A, B, C]), ((A, B, C), [A, B, C, A])]
)
def test_while_one_does_not_answer_the_next_is_asked(
    world: World, dead: tuple[str, ...], asked: list[str]
) -> None:
    assert world.asked(3 * RETRY_INTERVAL + 5, dead) == asked


def test_a_server_that_turns_its_answers_round_hides_none(world: World) -> None:
    found = []
    for served in ([A, B, C], [B, C, A], [C, A, B], [A, B, C]):
        world.served = served
        found += world.asked(RETRY_INTERVAL, (A, B))
    assert [each for each in (A, B, C) if each in found] == [A, B, C]
    assert found[-1] == C


def test_a_dead_line_moves_no_other_line(world: World) -> None:
    assert world.asked(1, line="wan2") == [A]
    assert world.asked(3 * RETRY_INTERVAL, (A, B, C)) == [A, B, C]
    assert world.asked(RETRY_INTERVAL, line="wan2") == [A]


def test_without_a_name_server_the_last_address_is_asked(world: World) -> None:
    world.served = []
    assert world.asked(1) == []
    assert "name resolution" in world.names.error("wan1", NAME, AF_INET)
    world.served = [A]
    assert world.asked(RETRY_INTERVAL) == [A]
    assert world.names.error("wan1", NAME, AF_INET) == ""
    world.served = []
    assert world.asked(2 * REFRESH_INTERVAL, (A,)) == [A]
    world.served = [A]
    assert world.asked(2 * RETRY_INTERVAL, (A,)) == [A]
