"""Names through several uplinks, with the real dnsmasq at the providers and on the gateway."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from tests.lab import RUNTIME_DIR, TWO_UPLINKS, Daemon, eventually
from tests.lab.names import GATEWAY, Names, answer, lookups, resolver

pytestmark = pytest.mark.kernel


def dns(*resolvers: tuple[str, ...]) -> str:
    """The configuration of mproutd with the resolvers of wan1, wan2 …"""
    return "".join(
        f"config uplink 'wan{n}'\n" + "".join(f"\tlist dns '{address}'\n" for address in named)
        for n, named in enumerate(resolvers, 1)
    )


OWN = dns((resolver(1), resolver(1, 6)), (resolver(2), resolver(2, 6)))


@pytest.fixture
def world() -> Iterator[Names]:
    with Names() as made:
        yield made


def rules(world: Names) -> list[str]:
    lines = (world.gateway.ip("rule show") + world.gateway.ip("rule show", family=6)).splitlines()
    return sorted(line for line in lines if line.startswith("7899:"))


def test_a_stranger_has_no_answer(world: Names) -> None:
    """What mproutd is for here; else the other tests would pass without it."""
    assert world.ask(world.gateway, resolver(1)) == answer(1)
    assert world.ask(world.gateway, resolver(2)) == ""
    assert world.ask(world.gateway, resolver(2, 6)) == ""


def test_every_resolver_is_asked_through_its_uplink(world: Names) -> None:
    with Daemon(world.gateway, own=OWN, verbose=True) as daemon:
        eventually(lambda: len(rules(world)) == 4, 20)
        for n in world.uplinks:
            for family in (4, 6):
                assert world.ask(world.gateway, resolver(n, family)) == answer(n), (n, family)
        file = world.gateway.path(f"{RUNTIME_DIR}/resolv.conf")
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert world.resolv_conf() == [resolver(n, f) for n in (1, 2) for f in (4, 6)]
        assert not daemon.query_status()["problems"]
        changed = file.stat().st_mtime_ns
        daemon.settle()
        daemon.writes()
        daemon.reconcile()
        assert daemon.writes() == []
        assert file.stat().st_mtime_ns == changed


def test_hosts_behind_the_gateway_ask_them_too(world: Names) -> None:
    world.masquerade()
    with Daemon(world.gateway, own=OWN):
        eventually(lambda: len(rules(world)) == 4, 20)
        assert world.lan
        assert world.ask(world.lan, resolver(2)) == answer(2)


def test_a_failover_costs_few_lookups(world: Names) -> None:
    """A lookup every 100 ms; none fails for longer than it takes to notice the carrier."""
    assert world.lan
    with Daemon(world.gateway, own=OWN):
        eventually(lambda: len(rules(world)) == 4, 20)
        world.start_gateway_resolver()
        lan = world.lan
        eventually(lambda: world.ask(lan, GATEWAY) in (answer(1), answer(2)), 20)
        with lookups(lan) as running:
            world.settle()
            world.unplug(1)
            eventually(lambda: world.resolv_conf() == [resolver(2), resolver(2, 6)], 30)
            eventually(lambda: world.ask(lan, GATEWAY) == answer(2), 20)
            world.settle()
            world.plug(1)
            eventually(lambda: resolver(1) in world.resolv_conf(), 30)
            world.settle()
            done = running.stop()
    failed = [lookup for lookup in done if lookup.failed]
    print(f"{len(failed)} of {len(done)} lookups failed")
    assert len(failed) < len(done) / 2
    assert not done[-1].failed


def test_one_that_both_name_has_no_rule(world: Names) -> None:
    shared = resolver(1)
    with Daemon(world.gateway, own=dns((shared,), (shared, resolver(2)))) as daemon:
        eventually(lambda: len(rules(world)) == 1, 20)
        assert resolver(2) in rules(world)[0]
        assert world.resolv_conf() == [shared, resolver(2)]
        first = daemon.uplink("wan1")["resolvers"]
        assert [(item["no_rule"], item["shared_with"]) for item in first] == [("shared", ["wan2"])]
        assert not daemon.query_status()["problems"]
        world.unplug(1)
        eventually(lambda: "wan2" in daemon.query_status()["default"].values(), 20)
        assert not daemon.query_status()["problems"], "wan2 names it too"


def test_one_that_dies_while_its_uplink_lives(world: Names) -> None:
    """dnsmasq asks all of them after 50 queries, and other traffic stays where it is."""
    assert world.lan
    lan = world.lan
    with Daemon(world.gateway, own=OWN) as daemon:
        eventually(lambda: len(rules(world)) == 4, 20)
        world.start_gateway_resolver()
        eventually(lambda: world.ask(lan, GATEWAY) in (answer(1), answer(2)), 20)
        world.stop_resolver(1)
        with lookups(lan, interval=0.02):
            eventually(lambda: world.ask(lan, GATEWAY, 2) == answer(2), 100)
        assert daemon.query_status()["default"]["ipv4"] == "wan1"


def test_a_check_that_asks_it_takes_the_uplink_out(world: Names) -> None:
    check = (
        f"\tlist track_ip '{resolver(1)}'\n\toption track_method 'dns'\n"
        "\toption track_name 'a.test'\n\toption interval '0.3'\n"
        "\toption failure_interval '0.1'\n\toption timeout '0.5'\n\toption hold '0'\n"
    )
    own = OWN.replace("config uplink 'wan1'\n", f"config uplink 'wan1'\n{check}")
    with Daemon(world.gateway, own=own) as daemon:
        eventually(lambda: daemon.uplink("wan1")["health"][0]["good_rounds"] > 1, 20)
        world.stop_resolver(1)
        eventually(lambda: world.resolv_conf() == [resolver(2), resolver(2, 6)], 30)
        assert len(rules(world)) == 2
        world.start_resolver(1)
        eventually(lambda: len(rules(world)) == 4, 60)
        eventually(lambda: world.resolv_conf()[0] == resolver(1), 20)


def test_kill_restart_and_flush(world: Names) -> None:
    before = world.gateway.state()
    daemon = Daemon(world.gateway, own=OWN).start()
    eventually(lambda: len(rules(world)) == 4, 20)
    daemon.kill9()
    world.unplug(2)
    daemon.start()
    eventually(lambda: len(rules(world)) == 2, 20)
    eventually(lambda: world.resolv_conf() == [resolver(1), resolver(1, 6)], 20)
    daemon.kill9()
    world.plug(2)
    eventually(lambda: "NO-CARRIER" not in world.gateway.ip("link show eth2"), 20)
    daemon.start()
    eventually(lambda: len(rules(world)) == 4, 20)
    daemon.stop()
    assert len(rules(world)) == 4
    assert len(world.resolv_conf()) == 4
    daemon.call("flush")
    assert rules(world) == []
    assert not world.gateway.path(f"{RUNTIME_DIR}/resolv.conf").exists()
    eventually(lambda: world.gateway.state() == before, 20)


def test_without_a_daemon_and_without_multipath(world: Names) -> None:
    daemon = Daemon(world.gateway, own=OWN)
    printed = daemon.call("reconcile", "--dry-run").out
    assert f"to {resolver(1)} lookup 7001" in printed, printed
    assert rules(world) == []
    daemon.call("reconcile")
    assert len(rules(world)) == 4
    assert len(world.resolv_conf()) == 4
    daemon.start()
    daemon.configure(TWO_UPLINKS.replace("'enable'", "'disable'"))
    daemon.reconcile()
    eventually(lambda: rules(world) == [] and world.resolv_conf() == [], 20)
    daemon.stop()


def test_a_file_of_somebody_else_is_never_followed(world: Names) -> None:
    runtime = world.gateway.path(RUNTIME_DIR)
    runtime.mkdir(mode=0o755)
    (runtime / "resolv.conf").symlink_to("/run/precious")
    world.gateway.path("/run/precious").write_text("precious")
    with Daemon(world.gateway, own=OWN):
        eventually(lambda: len(world.resolv_conf()) == 4, 20)
        assert not (runtime / "resolv.conf").is_symlink()
        assert world.gateway.path("/run/precious").read_text() == "precious"
