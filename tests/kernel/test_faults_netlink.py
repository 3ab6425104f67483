"""Netlink at its worst on the real kernel: buffers that overflow, dumps that are interrupted; and
a clock that jumps, and little memory."""

from __future__ import annotations

import resource
import subprocess
import threading
import time

import pytest

from mproutd.netlink import sockets
from mproutd.netlink.kernel import NetlinkKernel, SnapshotRequest
from tests.kernel.test_faults import Prepared
from tests.lab import Daemon, Namespace, Wan, address, eventually
from tests.lab.modes import endpoints, network

pytestmark = pytest.mark.kernel

SMALL_EVENTS = """
import mproutd.netlink.sockets as sockets
sockets._EVENT_BUFFER = 2048
"""
SMALL_ANSWERS = """
import mproutd.netlink.sockets as sockets, socket
plain = sockets.Requests.__init__
def small(self, family):
    plain(self, family)
    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
sockets.Requests.__init__ = small
"""
CLOCK = """
import time
plain_time = time.time
def jumping():
    try:
        with open("/run/jump") as file:
            return plain_time() + float(file.read() or 0)
    except OSError:
        return plain_time()
time.time = jumping
"""


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def storm(node: Namespace, rounds: int) -> None:
    for low in range(rounds):
        node.ip(
            *(
                f"address {verb} 10.1.1.{host}/24 dev eth1"
                for host in range(20, 60)
                for verb in ("add", "delete")
            ),
            f"route replace default via 10.1.1.1 dev eth1 metric {1 + low % 2}",
        )


@pytest.mark.parametrize("lines", [SMALL_EVENTS, SMALL_ANSWERS], ids=["events", "answers"])
def test_a_receive_buffer_that_overflows_all_the_time(world, lines):
    """ENOBUFS: nothing is missed in the end, and what is written is written once."""
    daemon = Prepared(world.gateway)
    daemon.lines = lines
    with daemon:
        eventually(lambda: daemon.query_status().get("drift") == [], 15)
        before = world.gateway.state()
        world.gateway.ip(
            *(f"rule add priority {9000 + n} from 10.66.0.{n} lookup main" for n in range(200))
        )
        storm(world.gateway, 4)
        world.address_down(2)
        eventually(lambda: address(2) not in endpoints(world.gateway))
        world.gateway.ip(*(f"rule delete priority {9000 + n}" for n in range(200)))
        world.gateway.ip("route flush default")
        world.address_up(2)
        world.default_route(2)
        world.default_route(1)
        eventually(lambda: world.gateway.state() == before, 15)
        assert daemon.settle()["drift"] == []
        assert "Traceback" not in daemon.log()


def test_dumps_that_others_interrupt_are_whole(world):
    """NLM_F_DUMP_INTR: while addresses come and go, what stays is in every snapshot."""
    steady = {f"10.60.{n // 250}.{1 + n % 250}" for n in range(1000)}
    world.gateway.ip(
        "link add more type bridge",
        *(f"address add {operation}/32 dev more" for operation in steady),
    )
    over = threading.Event()

    def upset() -> None:
        while not over.is_set():
            world.gateway.ip(
                *(
                    f"address {verb} 10.61.0.{n}/32 dev eth1"
                    for n in range(1, 100)
                    for verb in ("add", "delete")
                )
            )

    with world.gateway.enter():
        kernel = NetlinkKernel()
    asked_again = 0
    plain = kernel._requests._retry_dump

    def counted(encode: sockets.Encode) -> list[bytes]:
        nonlocal asked_again
        asked_again += 1
        return plain(encode)

    kernel._requests._retry_dump = counted
    upsetting = threading.Thread(target=upset)
    upsetting.start()
    try:
        until = time.monotonic() + 10
        while asked_again < 5 and time.monotonic() < until:
            snapshot = kernel.snapshot(SnapshotRequest(["eth1"], [7001], 0))
            assert steady <= {address.address for address in snapshot.addresses}
    finally:
        over.set()
        upsetting.join()
        kernel.close()
    assert asked_again >= 5


def test_a_wall_clock_that_jumps(world):
    """Ten years on, and forty back: passes come at their time, and no figure is absurd."""
    daemon = Prepared(world.gateway)
    daemon.lines = CLOCK
    jump = world.gateway.path("/run/jump")
    jump.write_text("0")
    with daemon:
        for seconds in (10 * 365 * 86400, -40 * 365 * 86400, 0):
            jump.write_text(str(seconds))
            world.address_down(2)
            eventually(lambda: address(2) not in endpoints(world.gateway))
            world.address_up(2)
            world.default_route(2)
            eventually(lambda: address(2) in endpoints(world.gateway))
            daemon.reconcile()
            result = eventually(lambda: (seen := daemon.call("status")).code == 0 and seen)
            assert "Traceback" not in result.err + daemon.log()
            ages = [line.split()[4] for line in result.out.splitlines() if line.startswith("wan")]
            assert all(age.isdigit() or age == "-" for age in ages), result.out
            ours = daemon.query_status()
            assert all(uplink["since"] for uplink in ours["uplinks"])


def test_forty_megabytes_are_enough_for_34_uplinks(nodes):
    """Of address space for data, as RLIMIT_DATA counts it: 34 uplinks, two families, a storm."""
    node = nodes("crowded")
    node.ip(
        *(f"link add eth{n} type veth peer name far{n}" for n in range(1, 35)),
        *(f"link set {end}{n} up" for n in range(1, 35) for end in ("eth", "far")),
        *(f"address add 10.1.{n}.2/24 dev eth{n}" for n in range(1, 35)),
        *(f"route add default via 10.1.{n}.1 dev eth{n} metric {n}" for n in range(1, 35)),
        *(f"address add 2001:db8:{n}::2/64 dev eth{n} nodad" for n in range(1, 35)),
        *(f"route add default via 2001:db8:{n}::1 dev eth{n} metric {n}" for n in range(1, 35)),
    )
    modes = network(**{f"eth{n}": "on" for n in range(1, 35)})
    with Daemon(node, modes) as daemon:
        assert daemon.process
        most = 40 << 20
        resource.prlimit(daemon.process.pid, resource.RLIMIT_DATA, (most, most))
        for _ in range(5):
            node.ip(
                *(
                    f"address {verb} 10.1.{n}.77/24 dev eth{n}"
                    for n in range(1, 35)
                    for verb in ("add", "delete")
                )
            )
            daemon.query_status()
        daemon.settle()
        resident = subprocess.run(
            ["grep", "VmHWM", f"/proc/{daemon.process.pid}/status"], capture_output=True, text=True
        ).stdout.split()[1]
        assert int(resident) < 40 << 10
        assert "Traceback" not in daemon.log()
        assert daemon.query_status()["problems"]  # more addresses than the kernel takes endpoints
