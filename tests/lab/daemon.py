"""mproutd itself in a node, by its command line only: what a user can do, a test does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.namespace import Namespace
from tests.lab.ubus import BIN
from tests.lab.wait import eventually, scaled

REPOSITORY = Path(__file__).resolve().parents[2]
RUNTIME_DIR = "/run/mproutd"
CONFIG_DIR = "/run/mproutd-config"
STATE_DIR = "/run/mproutd-state"

TWO_UPLINKS = """\
config globals 'globals'
	option multipath 'enable'

config interface 'wan1'
	option device 'eth1'
	option multipath 'master'

config interface 'wan2'
	option device 'eth2'
	option multipath 'on'
"""
"""The configuration of most tests: wan1 master on eth1, wan2 on on eth2."""


class Answer(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it printed in one line: a status is wrapped to the width of a terminal."""
        return " ".join(self.out.split())


class Daemon:
    """`mproutd` in `node`, with its configuration and its runtime directory in the node's /run.

    `network` and `own` are the texts of the two configuration files.  Nothing runs
    before start(); the commands work without a daemon too.  `with` starts and ends it.
    With `verbose` the daemon logs every change of the kernel, which writes() returns.
    """

    def __init__(
        self, node: Namespace, network: str = TWO_UPLINKS, own: str = "", verbose: bool = False
    ) -> None:
        self.node = node
        self._verbose = verbose
        self._log_position = 0
        self.process: subprocess.Popen[Any] | None = None
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (close() does)
        self.configure(network, own)

    def configure(self, network: str | None = None, own: str | None = None) -> None:
        """Write the configuration files anew (None: leave it; "" : there is none)."""
        directory = self.node.path(CONFIG_DIR)
        directory.mkdir(exist_ok=True)
        for name, text in (("network", network), ("mproutd", own)):
            if text:
                (directory / name).write_text(text)
            elif text is not None:
                (directory / name).unlink(missing_ok=True)

    def command(self, verb: str, *arguments: str) -> list[str]:
        """The command line for `mproutd VERB` with this daemon's directories."""
        return [
            "env",
            f"PYTHONPATH={REPOSITORY}",
            f"MPROUTD_STATE_DIR={STATE_DIR}",
            f"PATH={BIN}:{os.environ['PATH']}",
            sys.executable,
            "-m",
            "mproutd",
            verb,
            "--config-dir",
            CONFIG_DIR,
            "--runtime-dir",
            RUNTIME_DIR,
            *arguments,
        ]

    def start(self, timeout: float = 10.0) -> Daemon:
        """Run the daemon and wait until its control socket accepts.

        AssertionError with the daemon's own words when it ends or takes too long.
        """
        assert self.process is None or self.process.poll() is not None, "it runs already"
        words = ["--verbose"] if self._verbose else []
        argv = self.command("run", *words)
        self.process = self.node.popen(*argv, stdout=self._log, stderr=self._log)
        deadline = time.monotonic() + scaled(timeout)
        while not self._answers():
            if self.process.poll() is not None:
                raise AssertionError(f"mproutd ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no control socket within {timeout:g} s:\n{self.log()}")
            time.sleep(0.002)
        return self

    @contextmanager
    def _control_socket(self) -> Iterator[socket.socket]:
        # By a descriptor of the directory: a socket's path has no room for /proc/PID/root.
        at = os.open(self.node.path(RUNTIME_DIR), os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(scaled(10))
                connection.connect(f"/proc/self/fd/{at}/control.sock")
                yield connection
        finally:
            os.close(at)

    def _answers(self) -> bool:
        try:
            with self._control_socket():
                return True
        except OSError:
            return False

    def query_status(self) -> dict[str, Any]:
        """The status by the control socket, without the cost of a command."""
        with self._control_socket() as connection:
            connection.sendall(b'{"command": "status"}\n')
            reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        decoded: dict[str, Any] = json.loads(reply)
        return decoded

    def settle(self, timeout: float = 5.0) -> dict[str, Any]:
        """Wait until every event so far is handled; return the status after that.

        A reply follows the events that were queued before the request, so with the
        second one their pass is over, and whatever it had to write is written.
        """

        def settled() -> dict[str, Any] | None:
            first, second = self.query_status(), self.query_status()
            return None if first["drift"] or second["drift"] else second

        return eventually(settled, timeout, "nothing left to do") or {}

    def writes(self) -> list[str]:
        """The changes of the kernel since the last call, as commands; settle() first."""
        assert self._verbose, "Daemon(verbose=True) is needed"
        log = self.log()
        lines, self._log_position = log[self._log_position :].splitlines(), len(log)
        lines = [line.removeprefix("mproutd: ") for line in lines]
        return [line for line in lines if line.startswith(("ip ", "sysctl "))]

    def uplink(self, name: str) -> dict[str, Any]:
        """One uplink of the status."""
        uplinks = [uplink for uplink in self.query_status()["uplinks"] if uplink["name"] == name]
        assert uplinks, f"no uplink {name}"
        return uplinks[0]

    def call(
        self, verb: str, *arguments: str, timeout: float = 20, prefix: tuple[str, ...] = ()
    ) -> Answer:
        """Run another command of mproutd in the node: call("check"), call("flush").

        `prefix` runs it by another program, for example unshare(1).
        """
        argv = self.node.command(*prefix, *self.command(verb, *arguments))
        done = subprocess.run(argv, text=True, capture_output=True, timeout=scaled(timeout))
        return Answer(done.returncode, done.stdout, done.stderr)

    def status(self) -> dict[str, Any]:
        """`mproutd status --json`, decoded.  AssertionError when it prints no JSON."""
        result = self.call("status", "--json")
        try:
            decoded: dict[str, Any] = json.loads(result.out)
        except ValueError:
            raise AssertionError(f"status: {result}\n{self.log()}") from None
        return decoded

    def reconcile(self, *arguments: str) -> str:
        """`mproutd reconcile`: what it printed.  AssertionError unless it exits with 0."""
        result = self.call("reconcile", *arguments)
        assert result.code == 0, f"reconcile: {result}\n{self.log()}"
        return result.out

    def log(self) -> str:
        """What every run of this daemon wrote to stdout and stderr."""
        self._log.flush()
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def kill9(self) -> None:
        """kill -9 the daemon, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self, timeout: float = 5.0) -> int:
        """SIGTERM, and its exit status; AssertionError when it does not end in time."""
        return self._end(signal.SIGTERM, timeout)

    def _end(self, number: signal.Signals, timeout: float = 5.0) -> int:
        assert self.process is not None, "it was never started"
        self.process.send_signal(number)
        try:
            return self.process.wait(scaled(timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"mproutd did not end on {number.name}:\n{self.log()}") from None

    def close(self) -> None:
        """End the daemon if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self._log.close()

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Exception):
            sys.stderr.write(f"--- mproutd's own words ---\n{self.log()}")
        self.close()
