"""`mproutd explain` beside the real kernel: what it says is what packets do."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.docs.reference import schema
from tests.lab import SERVER, SERVER6, TWO_UPLINKS, Daemon, Echo, eventually
from tests.lab.forwarding import Forwarding
from tests.lab.wan import LAN_HOST, address

pytestmark = pytest.mark.kernel


def ask(daemon: Daemon, arguments: str, code: int = 0) -> Any:
    """The JSON of an explanation."""
    done = daemon.call("explain", *arguments.split(), "--json")
    assert done.code == code, done
    found = json.loads(done.out)
    jsonschema.validate(found, schema("explain"))
    return found


def test_what_it_says_is_what_packets_do() -> None:
    """In one world, since that takes longest: own traffic, marks, users, connections, no daemon."""
    with Forwarding("snat") as world, Daemon(world.gateway) as daemon:
        gateway, lan = world.gateway, world.lan
        assert lan
        world.serve(world.server, 7)
        eventually(lambda: world.leaves_by() == address(1), 30)

        own = ask(daemon, f"--to {SERVER} --proto tcp --port 7")
        assert (own["kind"], own["uplink"], own["table"]) == ("own", "wan1", 7000)
        assert own["source"] == address(1) == world.ask(gateway, SERVER, 7)
        assert [member["uplink"] for member in own["standby"]] == ["wan2"]
        second = ask(daemon, f"--from {address(2, 6)} --to {SERVER6}")
        assert (second["uplink"], second["table"]) == ("wan2", 7002)
        assert second["ip_rule"].startswith("7502: ")
        assert "is an MPTCP endpoint" in second["notes"][0]
        marked = ask(daemon, f"--from {LAN_HOST} --to {SERVER} --mark 0x02000000")
        assert (marked["uplink"], marked["flow"]["iif"]) == ("wan2", "br-lan")

        gateway.ip("rule add priority 100 uidrange 1500-1600 lookup 7002")
        assert ask(daemon, f"--to {SERVER} --uid 1550")["uplink"] == "wan2"
        assert ask(daemon, f"--to {SERVER} --uid 1601")["uplink"] == "wan1"

        world.unplug(1)
        eventually(lambda: world.leaves_by() == address(2), 30)
        with Echo(lan, world.server, SERVER, mptcp=False) as flow:
            eventually(lambda: flow.report().received > 3, 30)
            world.plug(1)
            eventually(lambda: world.leaves_by() == address(1), 30)
            listed = lan.run("ss", "-Htn", f"dport = :{flow.port}").split()
            wanted = f"--from {LAN_HOST} --to {SERVER} --proto tcp --port {flow.port}"
            new = ask(daemon, wanted)
            assert (new["kept_uplink"], new["uplink"]) == (None, "wan1")
            assert "tracked ones keep wan2" in new["notes"][-1]
            wanted += f" --sport {listed[3].rpartition(':')[2]}"
            kept = ask(daemon, wanted)
            assert (kept["kept_uplink"], kept["uplink"]) == ("wan2", "wan2")
            assert kept["mark"] == "0x2000000/0x7f000000"

        back = ask(daemon, f"--from {SERVER} --to {LAN_HOST} --iif eth1")
        assert (back["device"], back["uplink"]) == ("br-lan", None)
        spoofed = ask(daemon, f"--from {address(1)} --to {SERVER} --iif br-lan", 1)
        assert spoofed["error"].startswith("the kernel drops it")
        home = ask(daemon, f"--to {address(1)}")
        assert (home["kind"], home["error"]) == ("to-host", None)
        daemon.stop()
        assert ask(daemon, f"--to {SERVER}")["uplink"] == "wan1"
        gateway.ip("route add blackhole 192.0.2.0/24")
        assert ask(daemon, "--to 192.0.2.1", 1)["error"] == "the route is blackhole"
        bad = daemon.call("explain", "--to", SERVER, "--from", LAN_HOST, "--iif", "eth9")
        assert (bad.code, bad.err.count("\n")) == (2, 1)
        assert "there is no device 'eth9'" in bad.err
        assert daemon.call("explain", "--to", SERVER, "--user", "nobody").code == 0
        another = ("setpriv", "--reuid", "65534", "--clear-groups")
        other = daemon.call("explain", "--to", SERVER, prefix=another)
        if other.code != 126:  # a checkout below /root, where that user cannot start anything
            assert (other.code, other.err.count("\n")) == (1, 1)
            assert "only root may read it" in other.err
        assert "no user 'x'" in daemon.call("explain", "--to", SERVER, "--user", "x").err


def test_a_strict_uplink_without_a_route() -> None:
    with Forwarding() as world:
        own = "config uplink 'wan2'\n\toption strict '1'\n"
        with Daemon(world.gateway, TWO_UPLINKS, own) as daemon:
            eventually(lambda: daemon.uplink("wan2")["usable"], 30)
            world.gateway.ip("link set eth2 down")
            eventually(lambda: not daemon.uplink("wan2")["usable"], 30)
            found = ask(daemon, f"--from {LAN_HOST} --to {SERVER} --mark 0x02000000", 1)
            assert (found["error"], found["uplink"]) == ("the route is unreachable", None)
