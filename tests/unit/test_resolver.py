"""Which of a name's addresses is probed, by which uplink, and when it is resolved again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from socket import AF_INET
from typing import Any

import pytest

from mproutd.services.health import resolver
from mproutd.services.health.resolver import (
    MAX_ADDRESSES,
    MAX_PROVEN,
    REFRESH_INTERVAL,
    RETRY_INTERVAL,
    NameCache,
)

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

    def probed(self, seconds: float, dead: tuple[str, ...] = (), uplink: str = "wan1") -> list[str]:
        """The addresses probed in this time, in order; a round every second."""
        addresses, end = [""], self.now + seconds
        while self.now < end:
            addresses.append(self.names.address(uplink, NAME, AF_INET, addresses[-1] in dead))
            self.now += 1.0
        return [address for before, address in pairwise(addresses) if address != before]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_an_address_is_kept_while_it_replies(world: World) -> None:
    assert world.probed(1) == [A]
    world.served = [C, B, A]
    assert world.probed(3 * REFRESH_INTERVAL) == [A]
    assert world.lookups == 4
    world.served = [C, B]
    assert world.probed(REFRESH_INTERVAL) == [A, C]


def test_an_address_that_has_replied_stays_whatever_a_name_server_says(world: World) -> None:
    key = ("wan1", NAME, AF_INET)
    assert world.probed(1) == [A]
    assert not world.names.has_replied(*key)
    world.names.on_reply(*key, A)
    assert world.names.has_replied(*key)
    assert not world.names.has_replied("wan2", NAME, AF_INET)
    world.served = [C]
    assert world.probed(3 * REFRESH_INTERVAL) == [A]
    # Once it no longer replies, what the name server says is tried, and it again after that.
    assert world.probed(3 * RETRY_INTERVAL + 5, (A, C)) == [A, C, A, C]


def test_no_answer_is_probed_without_an_end(world: World) -> None:
    world.served = [f"192.0.2.{n}" for n in range(100)]
    probed = world.probed(60 * RETRY_INTERVAL, tuple(world.served))
    assert len(set(probed)) == MAX_ADDRESSES
    for n in range(100):
        world.names.on_reply("wan1", NAME, AF_INET, f"198.51.100.{n}")
    assert len(world.names._proven["wan1", NAME, AF_INET]) == MAX_PROVEN


@pytest.mark.parametrize(
    ("dead", "probed"), [((A,), [A, B]), ((A, B), [A, B, C]), ((A, B, C), [A, B, C, A])]
)
def test_the_next_address_is_probed_while_one_does_not_reply(
    world: World, dead: tuple[str, ...], probed: list[str]
) -> None:
    assert world.probed(3 * RETRY_INTERVAL + 5, dead) == probed


def test_a_name_server_that_rotates_its_answers_hides_none(world: World) -> None:
    addresses = []
    for served in ([A, B, C], [B, C, A], [C, A, B], [A, B, C]):
        world.served = served
        addresses += world.probed(RETRY_INTERVAL, (A, B))
    assert [address for address in (A, B, C) if address in addresses] == [A, B, C]
    assert addresses[-1] == C


def test_a_dead_uplink_changes_no_other_uplinks_address(world: World) -> None:
    assert world.probed(1, uplink="wan2") == [A]
    assert world.probed(3 * RETRY_INTERVAL, (A, B, C)) == [A, B, C]
    assert world.probed(RETRY_INTERVAL, uplink="wan2") == [A]


def test_without_a_name_server_the_last_address_is_probed(world: World) -> None:
    world.served = []
    assert world.probed(1) == []
    assert "name resolution" in world.names.error("wan1", NAME, AF_INET)
    world.served = [A]
    assert world.probed(RETRY_INTERVAL) == [A]
    assert world.names.error("wan1", NAME, AF_INET) == ""
    world.served = []
    assert world.probed(2 * REFRESH_INTERVAL, (A,)) == [A]
    world.served = [A]
    assert world.probed(2 * RETRY_INTERVAL, (A,)) == [A]
