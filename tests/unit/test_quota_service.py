"""When the counter of quotas counts, and what it asks of the loop: with a clock of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.planning.quota import MAX_INTERVAL
from mproutd.planning.uplinks import Facts
from mproutd.services import quota
from mproutd.services.base import ServiceContext, StateDirectory
from mproutd.services.quota import QuotaCounter
from mproutd.status.rates import Counters
from tests.lab.fake_world import World, uci
from tests.unit.test_plan import WAN1, WAN2, two_lines

M = 10**6


class Site:
    """wan2 on eth2 has a quota of 100 MB; counters, clocks and passes are ours."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.time = 1000.0, 1_796_000_000.0
        self.counters = {"eth1": Counters(0, 0), "eth2": Counters(0, 0)}
        monkeypatch.setattr(quota, "read_counters", lambda: dict(self.counters))
        monkeypatch.setattr(quota.time, "time", lambda: self.time)
        self.loop = Loop(lambda: self.clock)
        self.passes = 0
        self.events: list[str] = []
        self.world: World = two_lines()
        self.path = path
        self.service = self.make()

    def make(self, options: str = "option quota 100M\n option download 8000") -> QuotaCounter:
        context = ServiceContext(
            self.loop,
            self._request_pass,
            lambda kind, priority, text, *_, **__: self.events.append(text),
            str(self.path / "run"),
            StateDirectory(str(self.path / "state")),
        )
        self.service = QuotaCounter(context)
        self.configure(options)
        return self.service

    def configure(self, options: str) -> None:
        self.config: Config = uci(WAN1 + WAN2, f"config uplink wan2\n {options}\n")
        self.service.on_configuration(self.config)
        self.make_pass()

    def _request_pass(self) -> None:
        self.passes += 1

    def make_pass(self) -> None:
        facts = self.service.add_facts(Facts())
        self.service.on_pass(self.world.run(self.config, facts))

    def carry(self, amount: int) -> None:
        received, sent = self.counters["eth2"]
        self.counters["eth2"] = Counters(received + amount, sent)

    def wait(self, seconds: float) -> None:
        self.clock += seconds
        self.time += seconds
        self.loop.run_timers()

    @property
    def over(self) -> frozenset[str] | None:
        return self.service.add_facts(Facts()).over_quota

    @property
    def next_in(self) -> float | None:
        at = self.loop.next_at()
        return None if at is None else round(at - self.clock, 3)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    (tmp_path / "run").mkdir(mode=0o755)
    return Site(tmp_path, monkeypatch)


def test_far_from_the_limit_there_is_no_timer(site: Site) -> None:
    site.configure("option quota 100G\n option download 8000")
    assert site.next_in is None
    site.carry(M)
    site.wait(MAX_INTERVAL)
    site.make_pass()
    assert site.next_in is None
    assert site.passes == 0


def test_near_the_limit_it_counts_before_it_could_be_passed(site: Site) -> None:
    """1 MB/s at most: 50 s, then 25, then half a second."""
    assert site.next_in == 50
    site.carry(50 * M)
    site.wait(50)
    assert site.next_in == 25
    site.carry(25 * M)
    site.wait(25)
    site.carry(24 * M)
    site.wait(12.5)
    assert site.next_in == 0.5
    assert site.passes == 0
    site.carry(M)
    site.wait(0.5)
    assert site.passes == 1
    assert site.over == {"wan2"}
    assert site.next_in is None
    assert [text.split(",")[0] for text in site.events] == [
        "wan2: 99 MB of 100 MB are used (99 %)",
        "wan2: the quota is used up: 100 MB of 100 MB; its mode is backup until "
        + site.events[-1].rpartition("until ")[2],
    ]


def test_without_a_carrier_nothing_can_be_passed(site: Site) -> None:
    site.carry(99 * M)
    site.wait(50)
    assert site.next_in == 0.5
    site.world.set("eth2", carrier=False)
    site.make_pass()
    assert site.next_in is None
    site.world.set("eth2", carrier=True)
    site.make_pass()
    assert site.next_in == 0.5


def test_a_pass_counts_what_a_device_carried_that_was_created_again(site: Site) -> None:
    site.carry(90 * M)
    site.wait(50)
    site.world.remove("eth2")
    site.make_pass()
    site.world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
    site.counters["eth2"] = Counters(9 * M, 0)
    site.make_pass()
    assert site.over == frozenset()
    site.carry(M)
    site.wait(0.5)
    assert site.over == {"wan2"}


def test_requests_of_others_are_not_answered(site: Site) -> None:
    assert site.service.on_request({"command": "status"}) is None


def test_the_end_of_the_period_lets_it_carry_again(site: Site) -> None:
    site.configure("option quota 100M\n option quota_period day")
    site.carry(100 * M)
    site.wait(MAX_INTERVAL)
    site.make_pass()
    assert site.over == {"wan2"}
    before = site.passes
    site.wait(86400)
    site.make_pass()
    assert site.over == frozenset()
    assert site.events[-1].startswith("wan2: a new day begins, until ")
    assert site.passes >= before


def test_a_higher_quota_has_not_been_reached(site: Site) -> None:
    site.carry(100 * M)
    site.wait(50)
    assert site.over == {"wan2"}
    site.configure("option quota 200M")
    assert site.over == frozenset()
    assert len(site.events) == 1  # at once from below the warning to the limit
    site.carry(60 * M)
    site.wait(MAX_INTERVAL)
    site.make_pass()
    assert site.events[-1].startswith("wan2: 160 MB of 200 MB are used (80 %)")


def test_another_daemon_goes_on_where_the_first_one_stopped(site: Site) -> None:
    site.carry(30 * M)
    site.wait(50)
    site.service.close()
    site.carry(20 * M)  # while none runs
    site.make()
    site.carry(50 * M)
    site.wait(50)
    assert site.over == {"wan2"}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"uplink": "wan1", "used": 0}, "no uplink 'wan1' with a quota"),
        ({"uplink": ["x"], "used": 0}, "no uplink ['x'] with a quota"),
        ({"used": 0}, "no uplink None with a quota"),
        ({"uplink": "wan2"}, "`used` is not a number of bytes"),
        ({"uplink": "wan2", "used": -1}, "`used` is not a number of bytes"),
        ({"uplink": "wan2", "used": True}, "`used` is not a number of bytes"),
        ({"uplink": "wan2", "used": 1 << 63}, "`used` is not a number of bytes"),
    ],
)
def test_a_bad_request_changes_nothing(site: Site, request_: dict[str, object], error: str) -> None:
    assert site.service.on_request({"command": "quota", **request_}) == {"error": error}
    assert site.over == frozenset()
