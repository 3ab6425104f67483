"""systemd-resolved: which links it should not ask, and the service that sets it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import AF_INET
from typing import Any

import pytest

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.planning.plan import Outcome
from mproutd.planning.resolved import (
    Change,
    Links,
    LinkState,
    decode,
    encode,
    plan_changes,
    plan_links,
)
from mproutd.planning.uplinks import Facts
from mproutd.services import registry, resolved_bus
from mproutd.services.base import ServiceContext
from mproutd.services.registry import SERVICES, Services
from mproutd.services.resolved import INITIAL_BACKOFF, ResolvedLinks
from mproutd.services.resolved_bus import NotRunningError, RecordFile, apply
from tests.lab.fake_world import World, interface, uci

NETWORK = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")
CHECKED = "config uplink 'wan1'\n list track_ip '192.0.2.1'\n"
CONFIG = uci(NETWORK, CHECKED)
ON, OFF, NO_SERVERS = LinkState(True, True), LinkState(False, True), LinkState(True, False)


class FakeBus:
    """systemd-resolved."""

    def __init__(self, **states: LinkState) -> None:
        self.states = {int(index[1:]): state for index, state in states.items()}
        self.calls: list[tuple[int, bool]] = []
        self.error: OSError | None = None
        self.unreachable: OSError | None = None
        self.closed = 0

    def connect(self) -> FakeBus:
        if self.unreachable:
            raise self.unreachable
        return self

    def state(self, index: int) -> LinkState | None:
        return self.states.get(index)

    def set_default_route(self, index: int, value: bool) -> None:
        self.calls.append((index, value))
        if self.error:
            raise self.error
        self.states[index] = self.states[index]._replace(default_route=value)

    def close(self) -> None:
        self.closed += 1


class Site:
    """Two uplinks, a loop with a clock of its own, and a fake systemd-resolved."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = runtime
        self.loop = Loop(lambda: self.now)
        self.now = 100.0
        self.published: list[str] = []
        self.context = ServiceContext(
            self.loop,
            lambda: None,
            lambda kind, priority, text, *_, **__: self.published.append(text),
            str(runtime),
        )
        self.world = World()
        self.world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
        self.world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")
        self.one, self.two = (self.world.link(name).index for name in ("eth1", "eth2"))
        self.bus = FakeBus(**{f"i{self.one}": ON, f"i{self.two}": ON})

    def outcome(self, *failed: str, config: Config = CONFIG, **facts: Any) -> Outcome:
        keys = tuple((name, AF_INET) for name in failed)
        return self.world.run(config, Facts(failed=keys, **facts))

    def wait(self, condition: Callable[[], object]) -> None:
        """Run the loop until the thread is done."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.loop.run_once(0.02)

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.loop.run_once(0.0)

    @property
    def record(self) -> Any:
        path = self.runtime / "resolved.json"
        return json.loads(path.read_text())["links"] if path.exists() else {}

    def problems(self, service: ResolvedLinks) -> list[Any]:
        status: Any = {"problems": [], "degraded": False}
        service.add_to_status(status)
        found: list[Any] = status["problems"]
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.loop.close()


# -- which links ----------------------------------------------------------------------------


def test_a_failed_uplink_with_a_carrier_is_silent(site: Site) -> None:
    assert plan_links(site.outcome().plan.uplinks) == Links({}, frozenset({site.one, site.two}))
    failed = site.outcome("wan1").plan.uplinks
    assert plan_links(failed) == Links({site.one: "eth1"}, frozenset({site.two}))
    assert plan_links(failed, enabled=False) == Links()


def test_systemd_resolved_knows_itself_that_a_carrier_is_lost(site: Site) -> None:
    site.world.set("eth1", carrier=False)
    links = plan_links(site.outcome("wan1").plan.uplinks)
    assert links == Links({}, frozenset({site.two}))
    site.world.set("eth1", carrier=True, up=False)
    assert plan_links(site.outcome("wan1").plan.uplinks).silent == {}
    site.world.remove("eth1")
    assert plan_links(site.outcome("wan1").plan.uplinks).silent == {}


def test_no_link_is_silent_while_no_other_carries(site: Site) -> None:
    site.world.set("eth2", carrier=False)
    failed = site.outcome("wan1").plan.uplinks
    assert plan_links(failed).silent == {}
    # planning/health.py keeps it in use; even otherwise nothing would be switched off
    wan1, wan2 = site.outcome("wan1").plan.uplinks
    dead = tuple(path._replace(usable=False, reason="check-failed") for path in wan1.paths)
    assert plan_links([wan1._replace(paths=(dead[0], dead[1])), wan2]) == Links()


def test_an_uplink_that_its_quota_switches_off_is_silent(site: Site) -> None:
    config = uci(NETWORK, "config uplink 'wan1'\n option quota '1GB'\n option quota_action 'off'\n")
    uplinks = site.outcome(config=config, over_quota=frozenset({"wan1"})).plan.uplinks
    assert plan_links(uplinks).silent == {site.one: "eth1"}
    config = uci(NETWORK, "config uplink 'wan1'\n option quota '1GB'\n")
    uplinks = site.outcome(config=config, over_quota=frozenset({"wan1"})).plan.uplinks
    assert plan_links(uplinks).silent == {}


def test_one_that_is_configured_off_or_leads_nowhere_is_left_alone(site: Site) -> None:
    network = interface("wan1", "eth1", "off") + interface("wan2", "eth2", "on")
    uplinks = site.outcome(config=uci(network)).plan.uplinks
    assert plan_links(uplinks) == Links({}, frozenset({site.two}))
    network = interface("wan1", "eth1", "on") + interface("wan2", "eth2", "on")
    config = uci(network, CHECKED + " option default_route '0'\n")
    assert plan_links(site.outcome("wan1", config=config).plan.uplinks).silent == {}


def test_one_without_an_address_is_left_alone(site: Site) -> None:
    site.world.addresses = [item for item in site.world.addresses if item.link != site.one]
    assert plan_links(site.outcome().plan.uplinks).silent == {}


# -- what has to be set ---------------------------------------------------------------------

SILENT = Links({1: "eth1"}, frozenset({2}))
WELL = Links({}, frozenset({1, 2}))


@pytest.mark.parametrize(
    ("links", "states", "record", "changes", "remaining"),
    [
        pytest.param(SILENT, {1: ON, 2: ON}, {}, [Change(1, "eth1", False)], {}, id="silent"),
        pytest.param(SILENT, {1: OFF, 2: ON}, {}, [], {}, id="somebody else's"),
        pytest.param(SILENT, {2: ON}, {}, [], {}, id="unknown link"),
        pytest.param(SILENT, {1: NO_SERVERS, 2: ON}, {}, [], {}, id="nothing to ask there"),
        pytest.param(SILENT, {1: ON, 2: NO_SERVERS}, {}, [], {}, id="nobody else answers"),
        pytest.param(SILENT, {1: ON, 2: OFF}, {}, [], {}, id="nobody else is asked"),
        pytest.param(SILENT, {1: ON}, {}, [], {}, id="the other link is unknown"),
        pytest.param(SILENT, {1: OFF, 2: ON}, {1: "eth1"}, [], {1: "eth1"}, id="done"),
        pytest.param(SILENT, {1: ON, 2: ON}, {1: "eth1"}, [], {1: "eth1"}, id="set by others"),
        pytest.param(
            WELL, {1: OFF, 2: ON}, {1: "eth1"}, [Change(1, "eth1", True)], {1: "eth1"}, id="well"
        ),
        pytest.param(WELL, {1: ON, 2: ON}, {1: "eth1"}, [], {}, id="others were first"),
        pytest.param(WELL, {1: OFF, 2: ON}, {}, [], {}, id="not on record"),
        pytest.param(WELL, {2: ON}, {1: "eth1"}, [], {}, id="gone"),
    ],
)
def test_changes(links: Any, states: Any, record: Any, changes: Any, remaining: Any) -> None:
    assert plan_changes(links, states, record) == (changes, remaining)


def test_the_record() -> None:
    assert decode(json.loads(json.dumps(encode({3: "eth1"})))) == {3: "eth1"}
    for document in ([], {}, {"links": []}, {"links": {"x": "eth1"}}, {"links": {"1": 2}}):
        with pytest.raises(ValueError, match="not a record"):
            decode(document)


# -- the service ----------------------------------------------------------------------------


@pytest.fixture
def service(site: Site) -> Iterator[ResolvedLinks]:
    made = ResolvedLinks(site.context, site.bus.connect)
    made.on_configuration(CONFIG)
    yield made
    made.close()


def test_set_and_put_back(site: Site, service: ResolvedLinks) -> None:
    service.on_pass(site.outcome())
    assert site.bus.closed == 0, "nothing is called while all is well"
    service.on_pass(site.outcome("wan1"))
    site.wait(lambda: site.published)
    assert site.record == {str(site.one): "eth1"}
    assert site.published == ["systemd-resolved: resolvectl default-route eth1 no"]
    service.on_pass(site.outcome("wan1"))
    service.on_pass(site.outcome())
    site.wait(lambda: len(site.published) > 1)
    assert site.record == {}
    assert site.bus.calls == [(site.one, False), (site.one, True)]
    assert site.bus.closed == 2
    assert site.problems(service) == []


def test_a_change_during_a_call_is_not_lost(site: Site, service: ResolvedLinks) -> None:
    service.on_pass(site.outcome("wan1"))
    service.on_pass(site.outcome())
    site.wait(lambda: len(site.published) > 1)
    assert site.bus.calls == [(site.one, False), (site.one, True)]


def test_a_later_process_undoes_it(site: Site, service: ResolvedLinks) -> None:
    service.on_pass(site.outcome("wan1"))
    site.wait(lambda: site.published)
    later = ResolvedLinks(site.context, site.bus.connect)
    later.on_configuration(CONFIG._replace(enabled=False))
    later.on_pass(site.outcome("wan1"))
    site.wait(lambda: len(site.published) > 1)
    assert site.bus.states[site.one].default_route
    assert site.record == {}
    later.close()


def test_a_refusal_is_reported_once_and_retried(site: Site, service: ResolvedLinks) -> None:
    site.bus.error = OSError("permission denied by polkit")
    service.on_pass(site.outcome("wan1"))
    site.wait(lambda: site.published)
    (found,) = site.problems(service)
    assert found["code"] == "resolved-unchanged"
    assert found["text"].startswith("eth1: ")
    assert found["text"].endswith("to no: permission denied by polkit")
    assert found["advice"].endswith("by hand: resolvectl default-route eth1 no")
    assert site.record == {}
    site.pause(INITIAL_BACKOFF)
    site.wait(lambda: site.bus.closed == 2 and not service._busy)
    assert len(site.published) == 1
    site.pause(INITIAL_BACKOFF)
    assert site.bus.closed == 2, "the delay doubles"
    site.bus.error = None
    site.pause(INITIAL_BACKOFF)
    site.wait(lambda: len(site.published) > 1)
    assert site.problems(service) == []


def test_a_problem_goes_with_its_cause(site: Site, service: ResolvedLinks) -> None:
    site.bus.unreachable = OSError(111, "Connection refused")
    service.on_pass(site.outcome("wan1"))
    site.wait(lambda: site.published)
    assert [item["error"] for item in site.problems(service)] == ["Connection refused"]
    service.on_pass(site.outcome())
    assert site.problems(service) == []


def test_what_cannot_be_put_back_is_reported(site: Site, service: ResolvedLinks) -> None:
    service.on_pass(site.outcome("wan1"))
    site.wait(lambda: site.published)
    site.bus.unreachable = OSError("no reply")
    service.on_pass(site.outcome())
    site.wait(lambda: len(site.published) > 1)
    assert [item["value"] for item in site.problems(service)] == ["yes"]
    assert site.record == {str(site.one): "eth1"}


def test_a_call_without_a_reply_stays_on_record(site: Site, tmp_path: Path) -> None:
    site.bus.error = TimeoutError()
    file, links = RecordFile(str(tmp_path)), Links({site.one: "eth1"}, frozenset({site.two}))
    result = apply(links, file, site.bus)
    assert list(result.failed.values()) == ["no reply"]
    assert site.record == {str(site.one): "eth1"}
    site.bus.error = None
    assert apply(links, file, site.bus).done == (Change(site.one, "eth1", False),)
    site.bus.error = TimeoutError()
    well = Links({}, frozenset({site.one, site.two}))
    apply(well, file, site.bus)
    assert site.record == {str(site.one): "eth1"}, "it is put back later"


def test_a_call_that_was_carried_out_without_a_reply(site: Site, tmp_path: Path) -> None:
    site.bus.error = TimeoutError()
    file, links = RecordFile(str(tmp_path)), Links({site.one: "eth1"}, frozenset({site.two}))
    apply(links, file, site.bus)
    site.bus.states[site.one] = OFF
    site.bus.error = None
    assert apply(links, file, site.bus).done == ()
    assert site.record == {str(site.one): "eth1"}
    well = Links({}, frozenset({site.one, site.two}))
    assert apply(well, file, site.bus).done == (Change(site.one, "eth1", True),)
    assert site.record == {}


def test_while_systemd_resolved_does_not_run(site: Site, tmp_path: Path) -> None:
    class Stopped(FakeBus):
        def state(self, index: int) -> LinkState | None:
            raise NotRunningError("systemd-resolved does not run")

    file, links = RecordFile(str(tmp_path)), Links({site.one: "eth1"}, frozenset({site.two}))
    assert apply(links, file, Stopped()) == ((), {})
    file.save({site.one: "eth1"})
    with pytest.raises(NotRunningError):
        apply(links, file, Stopped())


def test_a_record_that_cannot_be_used(site: Site, tmp_path: Path) -> None:
    (tmp_path / "resolved.json").write_text("[")
    assert RecordFile(str(tmp_path)).record == {}
    file = RecordFile(str(tmp_path / "missing"))
    with pytest.raises(OSError, match=r"missing/resolved\.json: No such file"):
        file.save({1: "eth1"})


def test_it_is_made_only_beside_systemd_resolved(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "resolve"
    monkeypatch.setattr(registry, "RESOLVED_DIRECTORY", str(directory))
    kinds = tuple(kind for kind in SERVICES if kind.name == "resolved")
    services = Services(site.context, kinds)
    services.on_configuration(CONFIG)
    services.on_pass([site.outcome()])
    services.on_pass([site.outcome("wan1")])
    assert not services._services
    directory.mkdir()
    services.on_pass([site.outcome()])
    assert not services._services
    services.on_pass([site.outcome("wan1")])
    assert list(services._services) == ["resolved"]
    services.close()


def test_a_command_does_the_same(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, plan = str(tmp_path), site.outcome("wan1").plan
    monkeypatch.setattr(resolved_bus, "SystemBus", site.bus.connect)
    monkeypatch.setattr(resolved_bus, "RESOLVED_DIRECTORY", runtime + "/none")
    assert resolved_bus.update(runtime, True, plan) == []
    assert site.bus.closed == 0
    monkeypatch.setattr(resolved_bus, "RESOLVED_DIRECTORY", runtime)
    assert resolved_bus.update(runtime, True, plan) == []
    assert site.bus.calls == [(site.one, False)]
    site.bus.error = OSError("refused")
    assert resolved_bus.update(runtime, False, plan) == [
        "systemd-resolved: refused; by hand: resolvectl default-route eth1 yes"
    ]
    site.bus.unreachable = OSError("no D-Bus")
    assert resolved_bus.update(runtime, False, plan) == [
        "systemd-resolved: no D-Bus; by hand: resolvectl default-route eth1 yes"
    ]
    site.bus.error = site.bus.unreachable = None
    assert resolved_bus.update(runtime, False, plan) == []
    assert site.record == {}
    assert resolved_bus.update(runtime, False, plan) == []
