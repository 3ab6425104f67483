"""The services of resolvers: files of other programs, and our resolv.conf."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mproutd import resolv_conf
from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.planning.plan import Outcome
from mproutd.planning.resolver_sources import (
    Resolver,
    parse_nameservers,
    parse_networkd_link,
)
from mproutd.planning.resolvers import HEADER
from mproutd.planning.uplinks import Facts
from mproutd.services.base import ServiceContext
from mproutd.services.registry import Services, ServiceType
from mproutd.services.resolver_files import REFRESH_INTERVAL, ResolverFiles, Source
from mproutd.services.resolvers import ResolvConf
from tests.lab.fake_world import World, interface, uci

NETWORK = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")
CONFIG = uci(NETWORK)


class Site:
    """A loop with a clock of its own, and the directories of other programs."""

    def __init__(self, root: Path) -> None:
        self.now = 100.0
        self.runtime = root / "run"
        self.runtime.mkdir()
        self.loop = Loop(lambda: self.now)
        self.passes = 0
        self.published: list[str] = []
        self.context = ServiceContext(
            self.loop,
            self._request_pass,
            lambda kind, priority, text, *_, **__: self.published.append(text),
            str(self.runtime),
        )
        self.sources = tuple(
            Source(str(root / name), parse, by_index)
            for name, parse, by_index in (
                ("netif", parse_networkd_link, True),
                ("resolvconf", parse_nameservers, False),
            )
        )
        for source in self.sources:
            Path(source.path).mkdir()
        self.world = World()
        self.world.device("eth1", "10.1.1.2/24", gateway="10.1.1.1")
        self.world.device("eth2", "10.2.2.2/24", gateway="10.2.2.1")

    def _request_pass(self) -> None:
        self.passes += 1

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.loop.run_once(0.0)

    def outcome(self, facts: Facts | None = None, config: Config = CONFIG) -> Outcome:
        return self.world.run(config, facts)

    def leave(self, source: int, name: str, text: str) -> Path:
        path = Path(self.sources[source].path, name)
        path.write_text(text)
        path.chmod(0o644)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.loop.close()


def facts(*addresses: str) -> Facts:
    named = tuple(Resolver(address, "lease") for address in addresses)
    return Facts(resolvers={"eth1": named} if named else {})


# -- files of other programs --------------------------------------------------------------


@pytest.fixture
def files(site: Site) -> ResolverFiles:
    service = ResolverFiles(site.context, site.sources)
    service.on_configuration(CONFIG)
    return service


def known(service: ResolverFiles) -> dict[str, list[str]]:
    resolvers = service.add_facts(Facts()).resolvers
    return {device: [item.address for item in named] for device, named in resolvers.items()}


def test_they_are_read_soon_after_an_address_came(site: Site, files: ResolverFiles) -> None:
    assert known(files) == {}
    files.on_pass(site.outcome())
    index = site.world.link("eth1").index
    site.leave(0, str(index), "DNS=10.1.1.53\n")
    site.leave(1, "eth2.dhclient", "domain test\nnameserver 10.2.2.53\nnameserver\n")
    site.wait(0.5)
    assert site.passes == 0
    site.wait(0.6)
    assert site.passes == 1
    assert known(files) == {"eth1": ["10.1.1.53"], "eth2": ["10.2.2.53"]}
    files.on_pass(site.outcome())
    site.wait(5)
    assert site.passes == 1


def test_later_by_a_hook_or_with_a_pass_after_a_minute(site: Site, files: ResolverFiles) -> None:
    files.on_pass(site.outcome())
    site.wait(2)
    path = site.leave(1, "eth1.ppp", "nameserver 10.1.1.53\n")
    files.on_pass(site.outcome())
    site.wait(2)
    assert known(files) == {}
    files.on_hint()
    files.on_hint()
    site.wait(0)
    assert known(files) == {"eth1": ["10.1.1.53"]}
    path.unlink()
    site.wait(REFRESH_INTERVAL)
    assert known(files) == {"eth1": ["10.1.1.53"]}, "there is no timer"
    files.on_pass(site.outcome())
    site.wait(2)
    assert known(files) == {}
    assert site.passes == 2
    files.on_hint()
    files.close()
    site.wait(9)


def test_they_stand_behind_what_hints_name(site: Site, files: ResolverFiles) -> None:
    site.leave(1, "eth1.inet", "nameserver 10.1.1.53\n")
    files.on_configuration(CONFIG)
    merged = files.add_facts(facts("10.1.1.1")).resolvers["eth1"]
    assert [item.address for item in merged] == ["10.1.1.1", "10.1.1.53"]


def test_a_vlan_is_another_device(site: Site, files: ResolverFiles) -> None:
    site.leave(1, "eth1.300.dhcp", "nameserver 10.1.1.53\n")
    files.on_configuration(CONFIG)
    assert known(files) == {}
    files.on_configuration(uci(interface("wan1", "eth1.300", "on")))
    assert known(files) == {"eth1.300": ["10.1.1.53"]}


def test_before_the_first_pass_the_index_is_the_kernels(site: Site) -> None:
    index = Path("/sys/class/net/lo/ifindex").read_text().strip()
    site.leave(0, index, "DNS=10.1.1.53\n")
    service = ResolverFiles(site.context, site.sources)
    config = CONFIG._replace(uplinks=(CONFIG.uplinks[0]._replace(device="lo"),))
    service.on_configuration(config)
    assert known(service) == {"lo": ["10.1.1.53"]}


def test_what_others_can_write_is_not_read(site: Site, files: ResolverFiles) -> None:
    text = "nameserver 10.1.1.53\n"
    site.leave(1, "eth1.open", text).chmod(0o666)
    (Path(site.sources[1].path) / "eth1.folder").mkdir()
    os.mkfifo(Path(site.sources[1].path) / "eth1.pipe")
    target = site.leave(1, "real", text)
    (Path(site.sources[1].path) / "eth1.link").symlink_to(target)
    files.on_configuration(CONFIG)
    assert known(files) == {}


def test_a_directory_that_goes_away(site: Site, files: ResolverFiles) -> None:
    for source in site.sources:
        Path(source.path).rmdir()
    files.on_configuration(CONFIG)
    assert known(files) == {}


def test_a_file_that_cannot_be_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ResolverFiles(site.context, site.sources)
    site.leave(1, "eth1.dhcp", "nameserver 10.1.1.53\n")

    def read(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mproutd.services.resolver_files.os.read", read)
    service.on_configuration(CONFIG)
    assert known(service) == {}


# -- our resolv.conf ----------------------------------------------------------------------


def text(site: Site) -> str:
    return (site.runtime / "resolv.conf").read_text()


def test_it_is_written_when_it_differs(site: Site) -> None:
    service = ResolvConf(site.context)
    service.on_configuration(CONFIG)
    service.on_pass(site.outcome(facts("198.51.100.1")))
    assert text(site) == f"{HEADER}# wan1\nnameserver 198.51.100.1\n"
    assert site.published == ["resolvers in use: 198.51.100.1"]
    path = site.runtime / "resolv.conf"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = path.stat().st_ino
    service.on_pass(site.outcome(facts("198.51.100.1")))
    ResolvConf(site.context).on_pass(site.outcome(facts("198.51.100.1")))
    assert path.stat().st_ino == before
    service.on_pass(site.outcome(facts("198.51.100.2")))
    assert "198.51.100.2" in text(site)
    service.on_pass(site.outcome(facts()))
    assert "198.51.100.2" in text(site), "an old resolver is better than none"
    service.close()


def test_it_goes_with_multipath(site: Site) -> None:
    service = ResolvConf(site.context)
    service.on_configuration(CONFIG)
    service.on_pass(site.outcome(facts("198.51.100.1")))
    off = CONFIG._replace(enabled=False)
    service.on_configuration(off)
    service.on_pass(site.outcome(config=off))
    assert not (site.runtime / "resolv.conf").exists()
    service.on_pass(site.outcome(config=off))


def test_an_error_is_reported_and_retried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    service, full = ResolvConf(site.context), True

    def replace(path: str, data: bytes, **_: Any) -> None:
        if full:
            raise OSError(28, "No space left on device")
        Path(path).write_bytes(data)

    monkeypatch.setattr(resolv_conf, "replace_file", replace)
    service.on_pass(site.outcome(facts("198.51.100.1")))
    status: Any = {"problems": [], "degraded": False}
    service.add_to_status(status)
    assert [problem["code"] for problem in status["problems"]] == ["resolv-conf-error"]
    assert f"cannot write {site.runtime}/resolv.conf: No space" in status["problems"][0]["text"]
    full = False
    site.wait(11)
    assert "198.51.100.1" in text(site)
    status = {"problems": [], "degraded": False}
    service.add_to_status(status)
    assert status["problems"] == []
    service.close()


def test_only_our_own_file_is_removed(site: Site) -> None:
    path = site.runtime / "resolv.conf"
    resolv_conf.remove(str(site.runtime))
    path.write_text("nameserver 9.9.9.9\n")
    resolv_conf.remove(str(site.runtime))
    assert path.exists()
    path.unlink()
    path.symlink_to("elsewhere")
    resolv_conf.remove(str(site.runtime))
    assert path.is_symlink()


def test_a_command_does_the_same(site: Site) -> None:
    plan = site.outcome(facts("198.51.100.1")).plan
    resolv_conf.update(str(site.runtime), True, plan)
    assert "198.51.100.1" in text(site)
    resolv_conf.update(str(site.runtime), True, site.outcome(facts()).plan)
    assert "198.51.100.1" in text(site)
    resolv_conf.update(str(site.runtime), False, plan)
    assert not (site.runtime / "resolv.conf").exists()


def test_the_service_is_made_when_a_resolver_is_known(site: Site) -> None:
    made: list[ResolvConf] = []

    def make(context: ServiceContext) -> ResolvConf:
        made.append(ResolvConf(context))
        return made[-1]

    services = Services(
        site.context,
        (ServiceType("resolvers", lambda _: True, make, applies=lambda o: bool(o.plan.resolvers)),),
    )
    services.on_configuration(CONFIG)
    services.on_pass([site.outcome(facts())])
    assert made == []
    services.on_pass([site.outcome(facts("198.51.100.1"))])
    services.on_pass([site.outcome(facts("198.51.100.1"))])
    assert len(made) == 1
    assert "198.51.100.1" in text(site)
    services.close()
