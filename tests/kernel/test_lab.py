"""The laboratory itself: what it builds is real, and nothing of it stays behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    LabError,
    Namespace,
    TunCable,
    Wan,
    address,
    bridge,
    eventually,
    router_address,
    veth,
)
from tests.lab.daemon import REPOSITORY

pytestmark = pytest.mark.kernel

CHILD = """
import sys, time
from tests.lab import Wan
world = Wan().usual()
world.gateway.popen("sleep", "1000")
world.server.run("sh", "-c", "setsid sleep 1001 >/dev/null 2>&1 &")
print(*(node.pid for node in world.nodes), flush=True)
try:
    time.sleep(1000)
finally:
    world.close()
"""


def network_of(pid: int) -> int:
    """The inode of a process' network namespace; 0 when the process is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def processes_in(networks: set[int]) -> set[int]:
    """Every process whose network namespace is one of these."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid for pid in pids if network_of(pid) in networks}


def host_devices() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))


def test_nothing_of_a_world_is_on_the_host():
    before, named = host_devices(), set(Path("/run").glob("netns/*"))
    with Wan().usual() as world:
        networks = {network_of(node.pid) for node in world.nodes}
        assert len(networks) == 6 - 1
        assert network_of(os.getpid()) not in networks
        assert host_devices() == before
        world.gateway.popen("sleep", "1000")
        assert len(processes_in(networks)) == len(world.nodes) + 1
    assert not processes_in(networks)
    assert host_devices() == before
    assert set(Path("/run").glob("netns/*")) == named


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_its_world_along(number):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert child.stdout
    networks = {network_of(int(pid)) for pid in child.stdout.readline().split()}
    assert len(networks) == 5
    assert 0 not in networks
    assert len(processes_in(networks)) == 5 + 2
    child.send_signal(number)
    child.wait(60)
    child.stdout.close()
    eventually(lambda: not processes_in(networks), timeout=5)


def test_a_build_that_fails_leaves_nothing(monkeypatch):
    begun: list[Namespace] = []
    monkeypatch.setattr("tests.lab.wan.SHAPE", "no-such-qdisc")
    monkeypatch.setattr(
        Wan, "close", lambda self, close=Wan.close: (begun.extend(self.nodes), close(self))
    )
    with pytest.raises(LabError, match="no-such-qdisc"):
        Wan()
    assert begun
    assert all(node._holder.returncode is not None for node in begun)


def test_a_thread_that_ends_does_not_take_its_node_along():
    made: list[Namespace] = []

    def build() -> None:
        made.append(Namespace("thread"))
        assert made[0].pid

    thread = threading.Thread(target=build)
    thread.start()
    thread.join()
    with made[0] as node:
        assert "lo" in node.ip("link show")


def test_two_worlds_side_by_side_do_not_see_each_other():
    with Wan(shaped=False).usual() as one, Wan(shaped=False).usual() as two:
        one.unplug(1)
        assert "NO-CARRIER" in one.gateway.ip("link show eth1")
        assert "NO-CARRIER" not in two.gateway.ip("link show eth1")
        two.gateway.run("ping", "-c1", "-W2", SERVER)


def test_a_failing_command_says_what_where_and_why(node):
    with pytest.raises(LabError, match=r"node: [^$]*address add[^$]*Cannot find device"):
        node.ip("address add 10.0.0.1/24 dev nowhere")
    assert node.run("sh", "-c", "echo yes; exit 3", check=False) == "yes\n"


def test_a_node_has_its_own_run_sys_and_etc_files():
    with Namespace("node", files={"/etc/hosts": "10.0.0.1 only.here\n"}) as node:
        assert node.run("cat", "/etc/hosts") == "10.0.0.1 only.here\n"
        assert "only.here" not in Path("/etc/hosts").read_text()
        assert node.run("ls", "/sys/class/net") == "lo\n"
        node.run("touch", "/run/mark")
        assert node.path("/run/mark").exists()
        assert not Path("/run/mark").exists()


def test_enter_comes_back_after_an_error_and_nests(nodes):
    one, two, home = nodes("one"), nodes("two"), os.stat("/proc/thread-self/ns/net").st_ino
    one.sysctl("net.ipv4.conf.all.rp_filter", 1)
    assert (
        one.sysctl("net.ipv4.conf.all.rp_filter"),
        two.sysctl("net.ipv4.conf.all.rp_filter"),
    ) == ("1", "0")
    with one.enter(), two.enter():
        assert os.stat("/proc/thread-self/ns/net").st_ino == network_of(two.pid)
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    with pytest.raises(LabError), one.enter():
        two.ip("no-such-object")
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_state_is_stable_and_shows_all_that_counts(wan):
    before = wan.gateway.state()
    wan.by_hand()
    after = wan.gateway.state()
    assert after == wan.gateway.state() != before
    assert set(after.splitlines()) - set(before.splitlines()) == {
        "-4 endpoint 10.1.1.2 subflow dev eth1",
        "-4 endpoint 10.2.2.2 subflow dev eth2",
        "-4 limits add_addr_accepted 8 subflows 8",
        "-4 route 10.1.1.0/24 dev eth1 table 101 scope link src 10.1.1.2",
        "-4 route 10.2.2.0/24 dev eth2 table 102 scope link src 10.2.2.2",
        "-4 route default via 10.1.1.1 dev eth1 table 101 src 10.1.1.2",
        "-4 route default via 10.2.2.1 dev eth2 table 102 src 10.2.2.2",
        "-4 rule 1001 from 10.1.1.2 lookup 101",
        "-4 rule 1002 from 10.2.2.2 lookup 102",
    }
    assert "endpoint 10.1.1.2 id 1 subflow dev eth1" in wan.gateway.state(ids=True)


def test_carrier_admin_state_and_the_device_itself(wan):
    gateway = wan.gateway
    wan.unplug(1)
    assert "linkdown" in gateway.ip("route show dev eth1")
    wan.plug(1)
    eventually(lambda: "linkdown" not in gateway.ip("route show dev eth1"))
    gateway.run("ping", "-c1", "-W2", SERVER)
    wan.admin_down(1)
    assert gateway.ip("route show dev eth1") == ""
    wan.admin_up(1)
    eventually(lambda: gateway.ip("route show dev eth1"))
    assert "default" not in gateway.ip("route show dev eth1")
    wan.remove_device(1)
    with pytest.raises(LabError):
        gateway.ip("link show eth1")
    wan.create_device(1)
    wan.address_up(1)
    wan.default_route(1)
    gateway.run("ping", "-c1", "-W2", "-I", "eth1", SERVER)
    wan.address_down(1)
    assert address(1) not in gateway.ip("address show")


def test_carrier_news_is_fast_once_the_world_has_settled(wan):
    with wan.gateway.enter():
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    with events:
        events.bind((0, 1))  # RTMGRP_LINK
        best = 1.0
        for change in (wan.unplug, wan.plug, wan.unplug):
            wan.settle()
            while select.select([events], [], [], 0)[0]:
                events.recv(65536)
            begin = time.monotonic()
            change(1)
            assert select.select([events], [], [], 2)[0]
            best = min(best, time.monotonic() - begin)
    assert best < 0.1


def test_an_address_is_tentative_where_requested(bare_wan):
    bare_wan.address_up(1, dad=True)
    assert "tentative" in bare_wan.gateway.ip("address show dev eth1")
    bare_wan.address_up(2)
    assert "tentative" not in bare_wan.gateway.ip("address show dev eth2")


def test_both_families_the_lan_and_a_path_that_swallows(wan):
    wan.masquerade()
    wan.gateway.run("ping", "-c1", "-W2", SERVER6)
    assert wan.lan
    wan.lan.run("ping", "-c1", "-W2", SERVER)
    wan.blackhole(1)
    with pytest.raises(LabError):
        wan.gateway.run("ping", "-c1", "-W1", SERVER)
    wan.gateway.run("ping", "-c1", "-W2", router_address(1))
    wan.repair(1)
    wan.gateway.run("ping", "-c1", "-W2", SERVER)


def test_the_server_is_not_reachable_without_a_route(bare_wan):
    """The trap of a flat lab: a peer that answers ARP for its address on every link."""
    bare_wan.address_up(1)
    bare_wan.gateway.ip(f"route add {SERVER} dev eth1 scope link")
    with pytest.raises(LabError):
        bare_wan.gateway.run("ping", "-c1", "-W1", SERVER)


def test_tun_and_bridge(nodes):
    one, two = nodes("one"), nodes("two")
    cable = TunCable(one, "ppp-a", two, "ppp-b")
    one.ip("address add 10.0.0.1 peer 10.0.0.2 dev ppp-a")
    two.ip("address add 10.0.0.2 peer 10.0.0.1 dev ppp-b")
    assert "POINTOPOINT" in one.ip("link show ppp-a")
    one.run("ping", "-c1", "-W2", "10.0.0.2")
    cable.close()
    with pytest.raises(LabError):
        one.ip("link show ppp-a")
    veth(one, "port", two, "eth0")
    bridge(one, "br0", "port", address="10.7.0.1/24")
    two.ip("address add 10.7.0.2/24 dev eth0")
    two.run("ping", "-c1", "-W2", "10.7.0.1")
