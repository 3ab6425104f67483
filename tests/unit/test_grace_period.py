"""An endpoint that carries is closed for its route only when two looks agree."""

from __future__ import annotations

from collections.abc import Sequence

from mproutd.model import Route
from mproutd.planning.plan import Outcome
from tests.lab.fake_world import World, interface, run_pass, uci

CONFIG = uci(interface("wan1", "eth1", "master"))


class Flushed(World):
    """Somebody takes the rules away, and once more between our writing and our looking."""

    blind = 0

    def lookups(self, questions: Sequence[tuple[str, int]]) -> list[Route | None]:
        if self.blind:
            self.blind -= 1
            return [None for _ in questions]
        return super().lookups(questions)

    def a_pass(self) -> Outcome:
        return run_pass(self, CONFIG)

    def endpoints(self) -> list[str]:
        return [endpoint.address for endpoint in (self.mptcp.endpoints if self.mptcp else ())]


def up() -> Flushed:
    world = Flushed()
    world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
    while world.a_pass().done:
        pass
    assert world.endpoints() == ["10.1.1.2"]
    return world


def test_a_look_in_the_middle_of_a_flush_closes_nothing() -> None:
    world = up()
    world.rules = [rule for rule in world.rules if rule.protocol != 77]
    world.blind = 1
    outcome = world.a_pass()
    assert outcome.run_again
    assert world.endpoints() == ["10.1.1.2"]
    world.a_pass()
    assert world.endpoints() == ["10.1.1.2"]


def test_what_is_still_led_elsewhere_at_the_second_look_is_closed() -> None:
    world = up()
    world.rules = [rule for rule in world.rules if rule.protocol != 77]
    world.blind = 2
    assert world.a_pass().run_again
    world.a_pass()
    assert world.endpoints() == []
