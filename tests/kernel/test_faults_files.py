"""What mproutd keeps in files, and whom it shares them with: full, read-only, damaged, taken, two
at once; and too few descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mproutd.planning.state import State
from mproutd.statefile import StateFile
from tests.lab import RUNTIME_DIR, Daemon, Wan, eventually
from tests.lab.crashing import Mortal

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def files(world) -> set[str]:
    return {file.name for file in world.gateway.path(RUNTIME_DIR).iterdir()}


def test_kills_around_the_writing_of_the_state_file_leave_one_file_and_flush_none(world):
    daemon = Mortal(world.gateway)
    seen = set()
    for after in range(8):
        daemon.begin(dies_after=after)
        assert daemon.process.wait(10) == -9
        seen |= {name for name in files(world) if "state" in name}
    assert seen == {"state.json", "state.json.new"}
    with daemon:
        pass
    assert daemon.call("flush").code == 0
    assert not {name for name in files(world) if "state" in name}


def test_a_runtime_directory_that_becomes_read_only(world):
    """EROFS: it is logged, the kernel is kept correct all the same, and it recovers by itself."""
    world.gateway.path(RUNTIME_DIR).mkdir(exist_ok=True)
    try:
        with Daemon(world.gateway) as daemon:
            world.gateway.run("mount", "--bind", RUNTIME_DIR, RUNTIME_DIR)
            world.gateway.run("mount", "-o", "remount,bind,ro", RUNTIME_DIR)
            world.gateway.ip("address add 10.2.2.50/24 dev eth2")
            eventually(lambda: "endpoint 10.2.2.50" in world.gateway.state())
            result = daemon.call("status")
            assert result.code == 1
            assert "Read-only file system" in result.out
            world.gateway.run("mount", "-o", "remount,bind,rw", RUNTIME_DIR)
            assert daemon.call("reconcile").code == 0
            assert daemon.call("status").code == 0
            world.gateway.ip("address delete 10.2.2.50/24 dev eth2")
            eventually(lambda: "endpoint 10.2.2.50" not in world.gateway.state())
        world.gateway.run("mount", "-o", "remount,bind,ro", RUNTIME_DIR)
        for verb in ("run", "reconcile", "flush"):
            result = daemon.call(verb)
            assert result.code == 1
            assert result.err.count("\n") == 1, result.err
            assert "Read-only file system" in result.err
        world.gateway.run("mount", "-o", "remount,bind,rw", RUNTIME_DIR)
        assert daemon.call("flush").code == 0
    finally:
        world.gateway.run("umount", "-l", RUNTIME_DIR)


def test_every_truncation_of_a_state_file_is_survived(tmp_path):
    """Wherever it ends: no exception, and the reason said."""
    whole = StateFile(str(tmp_path))
    state = State(
        slots={"wan1": 1},
        tables=frozenset((7000, 7001)),
        gateways={("eth1", "10.1.1.2"): "10.1.1.1"},
        endpoints=frozenset({("10.1.1.2", 3)}),
    )
    whole.save(state)
    path = tmp_path / "state.json"
    text = path.read_bytes()
    for end in range(len(text)):
        path.write_bytes(text[:end])
        cut = StateFile(str(tmp_path))
        cut.load()
        assert cut.state == State(), end
        assert cut.error, end
    for offset in range(0, len(text), 3):
        path.write_bytes(text[:offset] + bytes([text[offset] ^ 0x55]) + text[offset + 1 :])
        StateFile(str(tmp_path)).load()
    path.write_bytes(text)
    again = StateFile(str(tmp_path))
    again.load()
    assert again.state == state


@pytest.mark.parametrize("there", ["folder", "file", "link", "fifo"])
def test_a_control_socket_that_somebody_else_created(world, there):
    """It gives way, and what a link leads to is not touched; a folder is said in one line."""
    directory = world.gateway.path(RUNTIME_DIR)
    directory.mkdir(exist_ok=True)
    at, victim = directory / "control.sock", directory / "victim"
    victim.write_text("precious")
    if there == "folder":
        at.mkdir()
    elif there == "file":
        at.write_text("")
    elif there == "link":
        at.symlink_to("victim")
    else:
        os.mkfifo(at)
    daemon = Daemon(world.gateway)
    if there == "folder":
        result = daemon.call("run")
        assert result.code == 1
        assert "Traceback" not in result.err
        assert "control.sock" in result.err.splitlines()[-1]
    else:
        with daemon:
            assert daemon.call("status").code == 0
    assert victim.read_text() == "precious"


def test_of_two_daemons_at_once_one_runs(world):
    for _ in range(3):
        daemon = Daemon(world.gateway)
        argv = daemon.command("run")
        both = [
            world.gateway.popen(*argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        eventually(lambda both=both: any(daemon.poll() is not None for daemon in both), 10)
        loser = next(daemon for daemon in both if daemon.poll() is not None)
        (winner,) = (daemon for daemon in both if daemon is not loser)
        assert loser.returncode == 1
        assert "/lock: held by another mproutd" in loser.stderr.read()
        eventually(lambda daemon=daemon: daemon.call("status").code == 0)
        assert winner.poll() is None
        winner.kill()
        winner.wait()


def test_too_few_descriptors_at_the_start(world):
    """EMFILE wherever it strikes: it runs, or ends with one line."""
    daemon = Daemon(world.gateway)
    ended = ran = 0
    for most in range(8, 24):
        limited = ["prlimit", f"--nofile={most}"]
        hello = [*limited, sys.executable, "-m", "mproutd", "--help"]
        if subprocess.run(hello, capture_output=True).returncode:
            continue  # Python itself needs more
        process = world.gateway.popen(
            *limited, *daemon.command("run"), stdout=-1, stderr=subprocess.STDOUT, text=True
        )
        eventually(lambda process=process: process.poll() is not None or daemon._answers(), 10)
        if process.poll() is None:
            ran += 1
            process.kill()
        words = process.communicate()[0]
        assert "Traceback" not in words, f"{most}: {words}"
        if process.returncode != -9:
            ended += 1
            assert process.returncode == 1, f"{most}: {words}"
            assert "Too many open files" in words.splitlines()[-1], f"{most}: {words}"
    assert ended
    assert ran


def test_descriptors_run_out_while_it_runs(world):
    """More clients than descriptors: what happens is still followed, and nothing spins."""
    with Daemon(world.gateway) as daemon:
        pid = daemon.process.pid
        have = len(os.listdir(f"/proc/{pid}/fd"))
        subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={have + 4}"], check=True)
        with_clients = []
        try:
            for _ in range(20):
                with_clients.append(daemon._control_socket())
                with_clients[-1].__enter__()
            spent = cpu(pid)
            time.sleep(1)
            assert cpu(pid) - spent < 0.3
            world.gateway.ip("address add 10.2.2.50/24 dev eth2")
            eventually(lambda: "endpoint 10.2.2.50" in world.gateway.state())
        finally:
            for supervised in with_clients:
                supervised.__exit__(None, None, None)
        world.gateway.ip("address delete 10.2.2.50/24 dev eth2")
        eventually(lambda: daemon.call("status").code == 0, 10)
        assert "Traceback" not in daemon.log()


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has used (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
