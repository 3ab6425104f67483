"""The control socket: whatever is sent there, the daemon goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import RUNTIME_DIR, Daemon, Wan, eventually
from tests.lab import daemon as lab_daemon

pytestmark = pytest.mark.kernel


@pytest.fixture
def daemon():
    with Wan(shaped=False, lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.wan = wan
        yield daemon


def client(daemon: Daemon) -> socket.socket:
    """A connection to its socket, from outside the node by a descriptor of the directory."""
    at = os.open(daemon.node.path(RUNTIME_DIR), os.O_PATH)
    try:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        made.connect(f"/proc/self/fd/{at}/control.sock")
        return made
    finally:
        os.close(at)


def read_reply(connection: socket.socket) -> bytes:
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (b"garbage\n", "JSON"),
        (b"\xff\xfe\x00\n", "JSON"),
        (b"[1, 2]\n", "JSON object"),
        (b"[" * 60000 + b"\n", "JSON"),
        (b"{}\n", "None"),
        (b'{"command": "dance"}\n', "'dance'"),
        (b'{"command": ["status"]}\n', "['status']"),
        (b'{"command": {"a": 1}}\n', "{'a': 1}"),
    ],
)
def test_what_is_no_request_gets_an_error(daemon, request_, word):
    with client(daemon) as connection:
        connection.sendall(request_)
        reply = json.loads(read_reply(connection))
        assert reply.keys() == {"error"}
        assert word in reply["error"]
    assert daemon.call("status").code == 0


def test_odd_values_in_a_request_do_no_harm(daemon):
    for directory in (1, ["x"], {}, "\0", "x" * 5000):
        with client(daemon) as connection:
            request = {"command": "reconcile", "directory": directory, "dry_run": "yes"}
            connection.sendall(json.dumps(request).encode() + b"\n")
            assert isinstance(json.loads(read_reply(connection)), dict)
    assert daemon.call("status").code == 0
    assert "Traceback" not in daemon.log()


def test_a_huge_request_is_cut_off(daemon):
    with client(daemon) as connection:
        try:
            for _ in range(64):
                connection.sendall(b"x" * (1 << 16))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert read_reply(connection) == b""
    assert daemon.call("status").code == 0


def test_clients_that_go_away_in_the_middle(daemon):
    for request in (b"", b"{", b'{"command": "status"}\n', b'{"command": "reconcile"}\n'):
        client_ = client(daemon)
        client_.sendall(request)
        client_.close()
    assert daemon.call("status").code == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("from mproutd.model import OF_ANOTHER_VERSION", "cannot import name 'OF_ANOTHER_VERSION'"),
        ("def build_status(inspection): return {}", "build_status() takes 1 positional argument"),
    ],
    ids=["name", "arguments"],
)
def test_files_that_an_upgrade_replaced_before_the_restart(tmp_path, monkeypatch, code, error):
    """What a request needs is imported with the first one."""
    shutil.copytree(lab_daemon.REPOSITORY / "mproutd", tmp_path / "mproutd")
    monkeypatch.setattr(lab_daemon, "REPOSITORY", tmp_path)
    with Wan(shaped=False, lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        Path(tmp_path, "mproutd/status/build.py").write_text(code)
        Path(tmp_path, "mproutd/__init__.py").write_text("__version__ = 'another'")
        assert f"restart it: {error}" in daemon.call("status").err
        wan.unplug(1)
        eventually(lambda: "endpoint 10.1.1.2" not in daemon.node.state())


def test_forty_silent_clients_delay_no_other_client_for_long(daemon):
    silent = [client(daemon) for _ in range(40)]
    daemon.wan.unplug(1)
    eventually(lambda: "endpoint 10.1.1.2" not in daemon.node.state())
    # They are dropped after five seconds; whoever comes then is answered.
    assert daemon.call("status", timeout=15).code == 1
    assert read_reply(silent[0]) == b""
    for connection in silent:
        connection.close()


def test_a_client_that_never_reads_its_answer(daemon):
    slow = [client(daemon) for _ in range(5)]
    for connection in slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(b'{"command": "status"}\n')
    assert daemon.call("status").code == 0
    for connection in slow:
        connection.close()


def test_requests_that_come_in_pieces(daemon):
    with client(daemon) as connection:
        for piece in (b'{"comm', b'and": "st', b'atus"', b"}", b"\n"):
            connection.sendall(piece)
        assert json.loads(read_reply(connection))["version"] == 1


def test_a_hundred_slow_clients_and_endless_ones_keep_neither_passes_nor_people_waiting(daemon):
    silent = [client(daemon) for _ in range(100)]
    half = [client(daemon) for _ in range(20)]
    for connection in half:
        connection.sendall(b'{"command": ')
        connection.shutdown(socket.SHUT_WR)
    stop = threading.Event()

    def talk() -> None:
        """Whoever is thrown out comes again, and says as much as it can."""
        while not stop.is_set():
            with client(daemon) as one:
                one.settimeout(0.2)
                try:
                    while not stop.is_set():
                        one.sendall(b"x" * 4096)
                        time.sleep(0.001)
                except OSError:
                    pass

    talkers = [threading.Thread(target=talk) for _ in range(4)]
    for connection in talkers:
        connection.start()
    try:
        for _ in range(3):
            daemon.wan.unplug(1)
            eventually(lambda: "endpoint 10.1.1.2" not in daemon.node.state())
            daemon.wan.plug(1)
            eventually(lambda: "endpoint 10.1.1.2" in daemon.node.state())
        assert daemon.call("status", timeout=15).code == 0
    finally:
        stop.set()
        for connection in talkers:
            connection.join()
        for connection in [*silent, *half]:
            connection.close()
    assert "Traceback" not in daemon.log()


def test_the_requester_of_a_change_is_logged(daemon):
    daemon.reconcile("--dry-run")
    assert "process" not in daemon.log()
    daemon.reconcile()
    (line,) = [line for line in daemon.log().splitlines() if "process" in line]
    assert re.fullmatch(r"mproutd: reconcile [a-z ]+ process [1-9]\d* of user 0", line)


FILL = """\
import os, resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
held = []
print("ready", flush=True)
while True:
    made = socket.socket(socket.AF_UNIX)
    made.setblocking(False)
    try:
        made.connect(sys.argv[1])
        held.append(made)
    except OSError:
        select.select([], [], [], 0.001)
    if len(held) > 1500:
        held.pop(0).close()
"""
FLOOD = """\
import socket, sys
print("ready", flush=True)
while True:
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.connect(sys.argv[1])
            made.sendall(b'{"command": "reconcile"}\\n')
            made.recv(100)
        except OSError:
            pass
"""


@contextmanager
def as_member(daemon: Daemon, script: str, processes: int) -> Iterator[None]:
    """Run it as another user who may connect, as a member of the group may."""
    daemon.node.path(f"{RUNTIME_DIR}/control.sock").chmod(0o666)
    running = [
        daemon.node.popen(
            *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
            # Where every user may read it, unlike a virtual environment.
            *(os.path.realpath(sys.executable), "-c", script, f"{RUNTIME_DIR}/control.sock"),
            stdout=subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
        time.sleep(1)
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_a_member_of_the_group_cannot_keep_root_out(daemon):
    with as_member(daemon, FILL, processes=3):
        for _ in range(3):
            result = daemon.call("status", timeout=60)
            assert result.code == 0, result
            assert daemon.call("reconcile", timeout=60).code == 0
    assert "Traceback" not in daemon.log()


def test_a_member_of_the_group_cannot_fill_the_journal(daemon):
    with as_member(daemon, FLOOD, processes=2):
        time.sleep(4)
        assert daemon.call("status", timeout=60).code == 0
    eventually(lambda: "more times by user 12345" in daemon.log(), 60)
    lines = [line for line in daemon.log().splitlines() if "12345" in line]
    assert 2 <= len(lines) <= 10, lines
