"""The recipes of docs/policies.md, as they stand there but for addresses."""

from __future__ import annotations

import pwd
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import RUNTIME_DIR, Daemon, eventually
from tests.lab.policies import NETWORK, PolicyWorld, use
from tests.lab.wan import SERVER, SERVER6
from tests.worlds.test_policy_domains import dnsmasq, resolves

pytestmark = pytest.mark.kernel

PAGE = Path(__file__).parents[2] / "docs/policies.md"


@pytest.fixture(scope="module")
def world() -> Iterator[PolicyWorld]:
    with PolicyWorld() as made:
        yield made


@pytest.fixture(scope="module")
def daemon(world: PolicyWorld) -> Iterator[Daemon]:
    with Daemon(world.gateway, NETWORK) as made:
        made.settle()
        yield made


def recipe(title: str) -> str:
    """The configuration below a heading."""
    part = PAGE.read_text().split(f"### {title}\n", 1)[1].split("\n##", 1)[0]
    lines = [line for line in part.splitlines() if not line or line.startswith("    ")]
    text = textwrap.dedent("\n".join(lines))
    text = text.partition("conf-dir=")[0].partition("table inet")[0]
    return text.replace("192.168.1.", "192.168.70.")


def network(second: str = "wan2", mode: str = "on") -> str:
    """The second uplink by another name; the LAN also as guests."""
    text = NETWORK.replace("'wan2'", f"'{second}'").replace("multipath 'on'", f"multipath '{mode}'")
    return text.replace("interface 'lan'", "interface 'guest'")


def out(world: PolicyWorld, daemon: Daemon, n: int) -> None:
    world.unplug(n)
    eventually(lambda: f"dev eth{n}" not in world.gateway.ip("route show table 7257"), 20)


def test_a_host_by_one_uplink(world: PolicyWorld, daemon: Daemon) -> None:
    use(daemon, recipe("A host by one uplink"), network())
    assert world.uplink() == "wan2"
    assert world.uplink(own_user=0) == "wan1"


def test_a_site(world: PolicyWorld, daemon: Daemon) -> None:
    records = (
        f"--host-record=www.video.example,{SERVER},{SERVER6}",
        "--host-record=o.test,1.1.1.1",
    )
    dnsmasq(world, world.server, "--port=53", "--no-resolv", *records)
    use(daemon, recipe("A site"), network())
    directory = f"--conf-dir={RUNTIME_DIR}/dnsmasq.d"
    dnsmasq(world, world.gateway, "--no-resolv", f"--server={SERVER}", directory)
    eventually(lambda: resolves(world, "o.test"), 20)
    assert world.uplink() == "wan1"
    assert resolves(world, "www.video.example")
    assert world.uplink() == "wan2"


def test_voip_by_dscp(world: PolicyWorld, daemon: Daemon) -> None:
    use(daemon, recipe("VoIP by DSCP"), network())
    voice = {"kind": "SOCK_DGRAM", "tos": 0xB8}
    assert [world.uplink(**voice), world.uplink()] == ["wan2", "wan1"]  # type: ignore[arg-type]
    out(world, daemon, 2)
    try:
        eventually(lambda: world.uplink(**voice) == "wan1", 20)  # type: ignore[arg-type]
    finally:
        world.plug(2)
        daemon.settle()


def test_guests_never_by_lte(world: PolicyWorld, daemon: Daemon) -> None:
    use(daemon, recipe("Guests never by LTE"), network("lte", "backup"))
    assert world.uplink() == "wan1"
    out(world, daemon, 1)
    try:
        assert [world.uplink(), world.uplink(6)] == ["", ""]
        eventually(lambda: world.uplink(own_user=0) == "wan2", 20)  # this host itself may use it
    finally:
        world.plug(1)
        daemon.settle()


@contextmanager
def firewall(world: PolicyWorld, title: str) -> Iterator[None]:
    """The table of nftables below a heading is in place."""
    part = PAGE.read_text().split(f"### {title}\n", 1)[1].split("\n##", 1)[0]
    text = textwrap.dedent(part[part.index("    table inet") :])
    world.gateway.run("nft", "-f", "-", input=text)
    name = text.split()[2]
    try:
        yield
    finally:
        world.gateway.run("nft", "delete", "table", "inet", name)


def test_own_user_by_vpn(world: PolicyWorld, daemon: Daemon) -> None:
    use(daemon, recipe("Own user by VPN"), network("vpn", "off"))
    user = pwd.getpwnam("backup").pw_uid
    assert world.uplink(own_user=user) == "wan2"
    assert world.uplink(6, own_user=user) == "wan2"
    assert world.uplink(own_user=user + 1) == world.uplink() == "wan1"
    out(world, daemon, 2)
    try:
        assert world.uplink(own_user=user) == ""
        # The kernel takes the address of another uplink, and with it that uplink's rule.
        assert world.uplink(6, own_user=user) == "wan1"
        with firewall(world, "Own user by VPN"):
            assert world.uplink(6, own_user=user) == ""
    finally:
        world.plug(2)
        daemon.settle()


def test_kill_switch(world: PolicyWorld, daemon: Daemon) -> None:
    assert world.lan
    mac = world.lan.run("cat", "/sys/class/net/eth0/address").strip()
    text = recipe("Kill switch").replace("02:00:00:12:34:56", mac)
    use(daemon, text, network("vpn", "off"))
    assert [world.uplink(), world.uplink(6)] == ["wan2", "wan2"]
    out(world, daemon, 2)
    try:
        assert [world.uplink(), world.uplink(6)] == ["", ""]
        assert daemon.stop() == 0
        assert [world.uplink(), world.uplink(6)] == ["", ""], "also without the daemon"
        daemon.start()
    finally:
        world.plug(2)
        daemon.settle()
