"""Random rules and packets in the real kernel: each leaves where `mproutd explain` says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from random import Random
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.explain.request import Request
from tests.lab import CONFIG_DIR, RUNTIME_DIR, Daemon, Namespace, eventually
from tests.lab.daemon import REPOSITORY
from tests.lab.fake_world import ENABLED
from tests.lab.forwarding import Forwarding
from tests.lab.random_rules import (
    DESTINATIONS,
    NETWORK,
    UPLINKS,
    Match,
    packet,
    policies,
    rules,
)

pytestmark = pytest.mark.kernel

EXPLAIN = """
import argparse, json, sys
from mproutd import commands
from mproutd.explain.decide import explain
from mproutd.explain.kernel import FlowKernel
from mproutd.explain.request import Request
from mproutd.explain.world import read_world
config, runtime = sys.argv[1:]
options = argparse.Namespace(config_dir=config, runtime_dir=runtime)
kernel = FlowKernel()
world = read_world(commands.reconciler(options, change=False).preview(), runtime, kernel)
json.dump([explain(Request(*fields), world, kernel) for fields in json.load(sys.stdin)], sys.stdout)
"""
"""What the command does, for many flows in one process."""
SEND = """
import json, os, socket, sys
kept = []
for target, source, protocol, sport, dport, _, uid, _, dscp, _ in json.load(sys.stdin):
    six = ":" in target
    os.seteuid(uid or 0)
    made = socket.socket(socket.AF_INET6 if six else socket.AF_INET,
                         socket.SOCK_STREAM if protocol == 6 else socket.SOCK_DGRAM)
    os.seteuid(0)
    made.setblocking(False)
    kept.append(made)
    if six:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
    made.bind((source, sport))
    try:
        made.connect((target, dport))
        made.send(b"x")
    except OSError:
        pass
"""
WATCH = """
table inet watch {
    set seen { type ifname . inet_service; flags dynamic; size 65535; }
    chain out {
        type filter hook postrouting priority -10;
        ip daddr { 198.51.100.0/24, 203.0.113.0/24 } update @seen { oifname . th sport }
        ip6 daddr { 2001:db8:100::/48, 2001:db8:113::/48 } update @seen { oifname . th sport }
    }
}
"""


def python(node: Namespace, code: str, packets: list[Request], *arguments: str) -> str:
    """A program's output; it reads the packets."""
    command = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        node.command(*command), input=json.dumps(packets), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(world: Forwarding) -> dict[int, str]:
    """Source port → the device by which a packet has left."""
    listing = json.loads(world.gateway.run("nft", "-j", "list", "set", "inet", "watch", "seen"))
    found = next(item["set"] for item in listing["nftables"] if "set" in item)
    pairs = (element["concat"] for element in found.get("elem", ()))
    return {int(port): device for device, port in pairs}


def agrees(world: Forwarding, wanted: dict[int, str], packets: list[Request]) -> bool:
    """True; AssertionError with the packets that left elsewhere."""
    found = seen(world)
    packets = [request for request in packets if not open_to(request, wanted)]
    elsewhere = [
        (wanted.get(request.source_port), found.get(request.source_port), request)
        for request in packets
        if wanted.get(request.source_port) != found.get(request.source_port)
    ]
    assert not elsewhere, elsewhere
    return True


def open_to(request: Request, wanted: dict[int, str]) -> bool:
    """Whether the kernel chooses an IPv6 address and looks up again: see SECOND_LOOKUP."""
    own6 = not request.source and request.family == AF_INET6
    return own6 and request.source_port not in wanted


@pytest.fixture
def world() -> Iterator[Forwarding]:
    with Forwarding("", uplinks=UPLINKS) as made:
        assert made.lan
        for n in (11, 12):
            made.lan.ip(
                f"address add 192.168.70.{n}/24 dev eth0",
                f"address add 2001:db8:70::{n}/64 dev eth0 nodad",
            )
        made.nft(WATCH)
        yield made


def numbered(random: Random, packets: list[Request]) -> list[Request]:
    """With source ports that no other packet has."""
    low, high = iter(range(8000, 9000)), iter(range(20000, 30000))
    return [
        request._replace(source_port=next(low if random.random() < 0.5 else high))
        for request in packets
    ]


def test_random_packets_leave_where_it_says(world: Forwarding) -> None:
    """Three sets of rules, one after the other; two uplinks are down during the last one."""
    random = Random(7)
    lan = world.lan
    assert lan
    mac = lan.run("cat", "/sys/class/net/eth0/address").strip()
    match = Match((mac, "02:00:00:00:00:02"), sticky=False)
    lan.run("ping", "-c", "1", "192.168.70.1")
    lan.run("ping", "-c", "1", "2001:db8:70::1")
    applied = unreachable = 0
    with Daemon(world.gateway, ENABLED + NETWORK) as daemon:
        for number in range(3):
            head = policies(random)
            daemon.configure(own=head + rules(random, 10, match, head))
            if number == 2:
                world.gateway.ip("link set eth2 down", "link set eth3 down")
                eventually(lambda: not daemon.uplink("wan3")["usable"], 30)
            assert daemon.call("reconcile").code == 0
            fill_sets(random, world)
            packets = numbered(
                random,
                [
                    packet(random, random.random() < 0.3, mac, family)
                    for _ in range(20)
                    for family in (AF_INET, AF_INET6)
                ],
            )
            world.gateway.run("nft", "flush", "set", "inet", "watch", "seen")
            world.gateway.run("conntrack", "-F", check=False)
            paths = [str(world.gateway.path(path)) for path in (CONFIG_DIR, RUNTIME_DIR)]
            said: list[Any] = json.loads(python(world.gateway, EXPLAIN, packets, *paths))
            expected = {
                request.source_port: found["device"]
                for request, found in zip(packets, said, strict=True)
                if found["device"]
            }
            for node, own in ((world.gateway, True), (lan, False)):
                chosen = [request for request in packets if (request.uid is not None) is own]
                python(node, SEND, chosen)
            eventually(partial(agrees, world, expected, packets), 20)
            applied += sum(found["applies"] for found in said)
            unreachable += sum(found["device"] is None for found in said)
    assert applied > 30
    assert unreachable > 0


def fill_sets(random: Random, world: Forwarding) -> None:
    """Some destinations in the sets that rules ask for."""
    listing = json.loads(world.gateway.run("nft", "-j", "list", "sets"))
    for item in listing["nftables"]:
        own = item.get("set", {})
        if own.get("table") == "mproutd":
            family = AF_INET if own["name"].endswith("4") else AF_INET6
            elements = ", ".join(random.sample(DESTINATIONS[family], 2))
            world.nft(f"add element inet mproutd {own['name']} {{ {elements} }}")
