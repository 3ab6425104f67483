"""`mproutd monitor`: what it tells, how it ends, and that nobody has to wait for its reader."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time

import pytest

from mproutd.planning.uplinks import REASONS
from mproutd.status.events import EVENT_KINDS
from tests.lab import RUNTIME_DIR, SERVER, Daemon, Echo, Wan, eventually, subflows

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False) as wan:
        yield wan.usual()


class Listening:
    """A `mproutd monitor` that runs, and all that it has printed."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        self.process = daemon.node.popen(
            *daemon.command("monitor", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.text = ""
        eventually(lambda: "\n" in self.read())

    def read(self) -> str:
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.process.stdout.fileno(), 1 << 16):
                self.text += part.decode()
        return self.text

    def lines(self) -> list[str]:
        """Without the time of day."""
        return [line.partition(" ")[2] for line in self.read().splitlines()]


def connect(daemon: Daemon) -> socket.socket:
    at = os.open(daemon.node.path(RUNTIME_DIR), os.O_PATH)
    try:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(f"/proc/self/fd/{at}/control.sock")
        return made
    finally:
        os.close(at)


def event_sockets(daemon: Daemon) -> int:
    """How many generic netlink sockets of the daemon are in a multicast group."""
    text = daemon.node.run("cat", f"/proc/{daemon.process.pid}/net/netlink")
    rows = [line.split() for line in text.splitlines()[1:]]
    return sum(row[1] == "16" and int(row[3], 16) != 0 for row in rows)


def test_one_stream_of_decisions_and_events_with_uplink_names(world):
    with Daemon(world.gateway) as daemon:
        listening = Listening(daemon)
        eventually(lambda: "10.2.2.2 via 10.2.2.1 (main)" in listening.read())
        with Echo(world.gateway, world.server, SERVER) as echo:
            eventually(lambda: len(subflows(world.gateway, echo.port)) == 2)
            world.unplug(2)
            eventually(lambda: "wan2: subflow closed" in listening.read())
            world.plug(2)
            eventually(lambda: listening.read().count("wan2: subflow established") == 2)
        eventually(lambda: " closed\n" in listening.read())
        daemon.stop()
        assert listening.process.wait(5) == 0
    text = "\n".join(re.sub(r":\d{4,5}\b", ":PORT", line) for line in listening.lines())
    text = re.sub(r"connection \w{8}", "connection TOKEN", text)
    wanted = [
        "wan1: connection TOKEN created 10.1.1.2:PORT → 10.9.9.9:PORT",
        "wan1: connection TOKEN established 10.1.1.2:PORT → 10.9.9.9:PORT",
        "wan2: subflow established 10.2.2.2:PORT → 10.9.9.9:PORT (connection TOKEN)",
        f"wan2 is not usable (IPv4): {REASONS['no-carrier']}",
        "wan2: ip mptcp endpoint delete id 2",
        "wan2: subflow closed 10.2.2.2:PORT → 10.9.9.9:PORT (connection TOKEN)",
        "wan2 is usable (IPv4): 10.2.2.2 via 10.2.2.1 (main)",
        "wan2: ip mptcp endpoint add 10.2.2.2 dev eth2 subflow",
        "wan2: subflow established 10.2.2.2:PORT → 10.9.9.9:PORT (connection TOKEN)",
        "connection TOKEN closed",
        "mproutd stops; the kernel stays as it is",
    ]
    rest = text.splitlines()
    for line in wanted:
        assert line in rest, f"{line}\nis not in what is left of\n{text}"
        rest = rest[rest.index(line) + 1 :]


def test_json_lines_of_known_kinds(world):
    with Daemon(world.gateway) as daemon:
        listening = Listening(daemon, "--json")
        with Echo(world.gateway, world.server, SERVER) as echo:
            eventually(lambda: len(subflows(world.gateway, echo.port)) == 2)
        eventually(lambda: " closed" in listening.read())
        daemon.stop()
        listening.process.wait(5)
    events = [json.loads(line) for line in listening.read().splitlines()]
    assert {event["kind"] for event in events} <= EVENT_KINDS.keys()
    assert (events[0]["kind"], events[-1]["kind"]) == ("begin", "end")
    assert {event["version"] for event in events} == {1}
    joined = next(event for event in events if event.get("event") == "sub-established")
    assert (joined["uplink"], joined["device"], joined["local_id"]) == ("wan2", "eth2", 2)
    assert abs(joined["time"] - time.time()) < 60


def test_it_ends_with_its_pipe_with_its_daemon_and_without_one(world):
    with Daemon(world.gateway) as daemon:
        listening = Listening(daemon)
        listening.process.stdout.close()  # nothing happens, and it ends all the same
        assert listening.process.wait(5) == 0
        assert listening.process.stderr.read() == ""
        listening = Listening(daemon)
        daemon.kill9()
        assert listening.process.wait(5) == 3
        assert listening.process.stderr.read().count("\n") == 1
        result = daemon.call("monitor")
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith("mproutd: mproutd is not running")
        assert result.err.count("\n") == 1
        daemon.start()


def test_the_kernels_events_are_subscribed_to_only_while_somebody_listens(world):
    with Daemon(world.gateway) as daemon:
        before = event_sockets(daemon)
        first, second = Listening(daemon), Listening(daemon)
        eventually(lambda: event_sockets(daemon) == before + 1)
        for listening in (first, second):
            assert event_sockets(daemon) == before + 1
            listening.process.terminate()
            listening.process.wait()
        eventually(lambda: event_sockets(daemon) == before)


def test_a_stalled_reader_slows_no_other_and_learns_what_it_missed(world):
    with Daemon(world.gateway) as daemon, connect(daemon) as sleeper:
        sleeper.sendall(b'{"command": "monitor"}\n')
        eventually(lambda: sleeper.recv(1, socket.MSG_PEEK))
        link, memory = [0.0], int(daemon.node.run("ps", "-orss=", f"-p{daemon.process.pid}"))
        for _ in range(40):
            # A listening socket that comes and goes is two events; a hundred at a time.
            with world.gateway.enter():
                for _ in range(100):
                    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as server:
                        server.listen()
            began = time.monotonic()
            assert daemon.call("status").code == 0
            link.append(time.monotonic() - began)
        grown = int(daemon.node.run("ps", "-orss=", f"-p{daemon.process.pid}")) - memory
        assert grown < 4096, f"{grown} kB"
        assert sorted(link)[len(link) // 2] < 1
        received = b""
        sleeper.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while part := sleeper.recv(1 << 16):
                received += part
        lines = [json.loads(line) for line in received.splitlines()]
        dropped = [line["count"] for line in lines if line["kind"] == "dropped"]
        assert dropped
        heard = sum(line["kind"] == "listener" for line in lines)
        assert heard + sum(dropped) == 8000


def test_more_than_eight_are_refused_and_a_rude_one_changes_nothing(world):
    with Daemon(world.gateway) as daemon, contextlib.ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(connect(daemon))
            connection.sendall(b'{"command": "monitor"}\n')
            assert connection.recv(1 << 16)
            connection.sendall(b"whatever\n" * 100)
        result = daemon.call("monitor")
        assert result.code == 1
        assert "8 listeners" in result.err
        assert daemon.call("status").code == 0


def test_a_crowd_waits_and_then_has_its_turn(world):
    """Forty connections that say nothing: 32 have a place, and are hurried since others wait."""
    with Daemon(world.gateway) as daemon, contextlib.ExitStack() as stack:

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

        assert daemon.call("status").code == 0
        base = descriptors()
        for _ in range(40):
            stack.enter_context(connect(daemon))
        eventually(lambda: base + 8 <= descriptors() <= base + 40)
        assert daemon.call("status", timeout=20).code == 0
        stack.close()
        eventually(lambda: descriptors() == base)
