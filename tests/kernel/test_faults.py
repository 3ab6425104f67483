"""What cannot be had from a healthy kernel is injected into the real program.

A few lines run before mproutd's own: a kernel without MPTCP, a shorter time between the
passes that no event asks for.  Everything else is the program and the kernel as they are.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.lab import Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

NO_MPTCP = """
import mproutd.netlink.kernel
def absent():
    raise OSError(2, "No such file or directory")  # what CTRL_CMD_GETFAMILY answers
mproutd.netlink.kernel.PathManager = absent
"""
OFTEN = """
import mproutd.daemon
mproutd.daemon.RESYNC_INTERVAL = 0.3
"""


class Prepared(Daemon):
    """mproutd, with some lines of Python before it."""

    lines = ""

    def command(self, verb: str, *arguments: str) -> list[str]:
        argv = super().command(verb, *arguments)
        at = argv.index("-m")
        program = f"import sys\n{self.lines}\nfrom mproutd.cli import main\nsys.exit(main())"
        return [*argv[:at], "-c", program, *argv[at + 2 :]]


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def test_a_kernel_without_mptcp(world):
    """Tables and rules are kept, and one line says what is not."""
    before = world.gateway.state()
    daemon = Prepared(world.gateway)
    daemon.lines = NO_MPTCP
    with daemon:
        state = world.gateway.state()
        assert "default via 10.2.2.1 dev eth2 table 7002 proto 77" in state
        assert "7501 from 2001:db8:1::2 lookup 7001 proto 77" in state
        assert "endpoint" not in state
        assert "limits add_addr_accepted 0 subflows 2" in state
        result = daemon.call("status")
        assert result.code == 1
        assert [problem["code"] for problem in daemon.status()["problems"]] == ["no-mptcp"]
        assert daemon.status()["mptcp"] is None
        assert daemon.reconcile() == ""
        world.unplug(1)
        eventually(lambda: "default via 10.2.2.1 dev eth2 table 7000" in world.gateway.state())
        world.gateway.run("ping", "-c1", "-W2", "-I", "10.2.2.2", "10.9.9.9")
        world.plug(1)
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before


SILENT = """
import os
from mproutd.netlink.kernel import NetlinkKernel
plain = NetlinkKernel.snapshot
def silent(self, want):
    if os.path.exists("/run/silent"):
        raise OSError(105, "No buffer space available")
    return plain(self, want)
NetlinkKernel.snapshot = silent
"""


def test_a_query_without_a_reply_is_repeated_once_a_second(world):
    """Also while an operation that it refused waits to be tried again."""
    world.gateway.ip("route add default via 10.2.2.9 dev eth2 table 7002 proto static")
    daemon = Prepared(world.gateway)
    daemon.lines = SILENT
    with daemon:

        def tries() -> int:
            return daemon.log().count("the kernel does not answer")

        eventually(
            lambda: any(
                problem["code"] == "operation-failed"
                for problem in daemon.query_status()["problems"]
            )
        )
        silent = world.gateway.path("/run/silent")
        silent.touch()
        world.gateway.ip("address add 10.1.1.9/24 dev eth1")
        eventually(lambda: tries() >= 2)
        assert tries() <= 3
        silent.unlink()
        eventually(lambda: "from 10.1.1.9 lookup 7001" in world.gateway.state())


def test_a_change_without_an_event_is_found_by_the_next_resync(world):
    """Endpoints and net.mptcp.enabled change silently."""
    daemon = Prepared(world.gateway)
    daemon.lines = OFTEN
    with daemon:
        before = world.gateway.state()
        daemon.process.send_signal(signal.SIGSTOP)
        world.gateway.ip("mptcp endpoint flush")
        assert world.gateway.state() != before
        daemon.process.send_signal(signal.SIGCONT)
        eventually(lambda: world.gateway.state() == before)
        ids = re.findall(r"id (\d+)", world.gateway.ip("mptcp endpoint show"))
        world.gateway.ip(*(f"mptcp endpoint change id {id} backup" for id in ids))
        assert "backup" in world.gateway.state()
        eventually(lambda: world.gateway.state() == before)


def test_a_daemon_that_slept_through_more_events_than_its_socket_holds(world):
    with Daemon(world.gateway) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{daemon.process.pid}/stat")
        eventually(lambda: ") T " in stat.read_text())
        flood = [
            f"address {verb} 10.99.{high}.{low}/32 dev eth1"
            for high in range(8)
            for low in range(1, 250)
            for verb in ("add", "delete")
        ]
        world.gateway.ip(*flood)
        world.address_down(2)
        daemon.process.send_signal(signal.SIGCONT)
        eventually(lambda: "endpoint 10.2.2.2" not in world.gateway.state())
        eventually(lambda: "10.99." not in world.gateway.state())
        assert daemon.status()["drift"] == []
        assert "Traceback" not in daemon.log()


def test_a_storm_of_events_ends_where_a_clean_start_ends(world):
    with Daemon(world.gateway) as daemon:
        before = world.gateway.state()
        for _ in range(30):
            world.gateway.ip(
                "address delete 10.1.1.2/24 dev eth1",
                "address add 10.1.1.2/24 dev eth1",
                "route replace default via 10.1.1.1 dev eth1 metric 1",
                "address add 10.2.2.77/24 dev eth2",
                "address delete 10.2.2.77/24 dev eth2",
            )
        eventually(lambda: world.gateway.state() == before)
        assert daemon.status()["drift"] == []


@pytest.mark.parametrize("where", ["/proc/nowhere", "/etc/hosts", "/run/" + "x" * 200])
@pytest.mark.parametrize("verb", ["run", "reconcile", "status", "flush"])
def test_a_runtime_directory_that_cannot_be_is_one_line(world, verb, where):
    daemon = Daemon(world.gateway)
    result = daemon.call(verb, "--runtime-dir", where)
    assert result.code in (1, 3), result
    assert "Traceback" not in result.err
    assert result.err.count("\n") <= 1
    assert result.code == 3 or result.err


def test_output_that_cannot_be_written_is_one_line(world):
    daemon = Daemon(world.gateway)
    line = " ".join(f"'{word}'" for word in daemon.command("status"))
    output = world.gateway.run("sh", "-c", f"{line} 2>&1 >/dev/full; echo $?")
    assert "Traceback" not in output
    assert output == "mproutd: No space left on device\n1\n"
    assert world.gateway.run("sh", "-c", f"{line} 2>&1 | true") == ""
