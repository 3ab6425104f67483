"""Rules with `domain`, with Debian's dnsmasq: both families, CNAMEs, two rules, restarts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import RUNTIME_DIR, SERVER, SERVER6, Daemon, eventually
from tests.lab.names import program
from tests.lab.policies import BY_WAN2, NETWORK, PolicyWorld, use

pytestmark = pytest.mark.kernel

SITE = """
config rule 'site'
	option domain 'video.test'
	option proto 'tcp'
	option dest_port '7'
	option use_policy 'by_wan2'

config rule 'site_too'
	option domain 'video.test elsewhere.test'
	option proto 'tcp'
	option dest_port '9'
	option use_policy 'by_wan2'
"""
QUERY = """
import socket, struct, sys
server, name, kind = sys.argv[1:]
labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.sendto(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">2H", int(kind), 1),
         (server, 53))
print(struct.unpack_from(">6H", s.recv(512))[3])
"""
"""Prints how many records the reply has; dig and nslookup are in other packages."""


@pytest.fixture
def world() -> Iterator[PolicyWorld]:
    with PolicyWorld() as made:
        upstream = ("--port=53", "--no-resolv", "--local-ttl=600")
        records = (f"--host-record=cdn.test,{SERVER},{SERVER6}", "--cname=www.video.test,cdn.test")
        records += (f"--host-record=other.test,{SERVER},{SERVER6}",)
        dnsmasq(made, made.server, *upstream, *records)
        yield made


def dnsmasq(world: PolicyWorld, node: Any, *options: str) -> subprocess.Popen[Any]:
    process = node.popen(
        program(),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        f"--pid-file=/run/dnsmasq-{node.name}.pid",
        "--no-hosts",
        *options,
    )
    world.started.append(process)
    return process  # type: ignore[no-any-return]


def forwarder(world: PolicyWorld) -> subprocess.Popen[Any]:
    """The gateway's dnsmasq, as the manual starts it."""
    directory = f"--conf-dir={RUNTIME_DIR}/dnsmasq.d"
    process = dnsmasq(world, world.gateway, "--no-resolv", f"--server={SERVER}", directory)
    eventually(lambda: resolves(world, "other.test"), 20)
    return process


def resolves(world: PolicyWorld, name: str, kind: int = 1) -> bool:
    """Whether the gateway's dnsmasq has an address for the LAN host; 28 asks for IPv6."""
    assert world.lan
    command = world.lan.command(sys.executable, "-c", QUERY, "192.168.70.1", name, str(kind))
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() not in ("", "0")


def test_what_a_host_resolves_goes_by_the_policy(world: PolicyWorld) -> None:
    with Daemon(world.gateway, NETWORK, BY_WAN2 + SITE) as daemon:
        daemon.settle()
        use(daemon, BY_WAN2 + SITE)
        path = Path(world.gateway.path(RUNTIME_DIR)) / "dnsmasq.d/mproutd.conf"
        eventually(path.exists, 20)
        first = forwarder(world)
        assert [world.uplink(4), world.uplink(6)] == ["wan1", "wan1"], "nobody has asked"
        assert resolves(world, "www.video.test")
        assert resolves(world, "www.video.test", 28)
        assert [world.uplink(4), world.uplink(6)] == ["wan2", "wan2"]
        assert world.uplink(4, port=9) == "wan2", "in the second rule as well"
        written = path.stat().st_mtime_ns
        use(daemon, BY_WAN2 + SITE.replace("dest_port '9'", "dest_port '8-9'"))
        assert path.stat().st_mtime_ns == written, "the same sets: no restart is needed"
        assert [world.uplink(4), world.uplink(6, port=9)] == ["wan2", "wan2"]

        first.kill()
        first.wait()
        forwarder(world)
        assert world.uplink(4) == "wan2", "a restart of dnsmasq changes nothing"
        use(daemon, BY_WAN2)
        eventually(lambda: not path.exists(), 20)
        assert world.uplink(4) == "wan1"


def test_dnsmasq_before_the_sets_exist(world: PolicyWorld) -> None:
    """It logs that a set is missing; the answers after they exist are taken."""
    with Daemon(world.gateway, NETWORK) as daemon:
        daemon.settle()
        path = Path(world.gateway.path(RUNTIME_DIR)) / "dnsmasq.d/mproutd.conf"
        path.parent.mkdir()
        path.write_text("nftset=/video.test/4#inet#mproutd#domain_site_4\n")
        forwarder(world)
        assert resolves(world, "www.video.test")
        use(daemon, BY_WAN2 + SITE)
        assert world.uplink(4) == "wan1", "that answer was lost"
        eventually(lambda: resolves(world, "video.test") or resolves(world, "www.video.test"), 20)
        assert "domain_site_4" in world.table()
