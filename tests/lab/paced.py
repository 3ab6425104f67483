"""An MPTCP connection whose sender keeps a rate, which can be changed while it runs.

`Paced` is what tests use; the rest of the file is the program at both ends.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.namespace import Namespace

IPPROTO_MPTCP = 262
TICK = 0.005
"""Seconds between two writes."""
LISTENERS: list[socket.socket] = []
"""They stay open: subflows that join later arrive there."""
MAX_CREDIT = 0.05
"""Seconds of its rate that a sender may send at once after it was blocked."""


def connection(role: str, address: str, port: int, bind: str) -> socket.socket:
    """A connected socket; a listener prints its port first."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if role == "listen":
        made.bind((address, port))
        made.listen()
        print(made.getsockname()[1], flush=True)
        LISTENERS.append(made)
        return made.accept()[0]
    if bind:
        made.bind((bind, 0))
    made.connect((address, port))
    return made


def send(peer: socket.socket, mbit: float) -> None:
    """Send at this rate; a line on stdin is a new one."""
    peer.setblocking(False)
    data, credit, last = bytes(1 << 16), 0.0, time.monotonic()
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], TICK)
        if readable:
            line = sys.stdin.readline()
            if not line:
                return
            mbit = float(line)
        now = time.monotonic()
        credit = min(credit + (now - last) * mbit * 125_000, MAX_CREDIT * mbit * 125_000)
        last = now
        while credit >= 1:
            try:
                credit -= peer.send(data[: int(credit)])
            except BlockingIOError:
                break


def receive(peer: socket.socket) -> None:
    """Read everything; a line on stdin asks for what arrived since the last one."""
    received, gap, last = 0, 0.0, time.monotonic()
    while True:
        readable, _, _ = select.select([peer, sys.stdin], [], [])
        now = time.monotonic()
        if peer in readable:
            part = peer.recv(1 << 18)
            if not part:
                return
            received, gap, last = received + len(part), max(gap, now - last), now
        if sys.stdin in readable:
            if not sys.stdin.readline():
                return
            print(json.dumps({"bytes": received, "gap": max(gap, now - last)}), flush=True)
            received, gap = 0, 0.0


class Paced:
    """One connection from `client` to `server`; with `download` the server sends."""

    def __init__(
        self,
        client: Namespace,
        server: Namespace,
        address: str,
        *,
        mbit: float = 10,
        download: bool = False,
        bind: str = "",
    ) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        roles = ("receive", "send") if download else ("send", "receive")
        listening = self._run(server, roles[1], "listen", address, "0", mbit, "")
        assert listening.stdout is not None
        port = listening.stdout.readline().strip()
        connecting = self._run(client, roles[0], "connect", address, port, mbit, bind)
        pair = (listening, connecting) if download else (connecting, listening)
        self._sender, self._receiver = pair
        self.port = int(port)

    def _run(self, node: Namespace, *arguments: object) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = node.popen(
            sys.executable,
            __file__,
            *map(str, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def rate(self, mbit: float) -> None:
        """From now on."""
        assert self._sender.stdin is not None
        self._sender.stdin.write(f"{mbit}\n")
        self._sender.stdin.flush()

    def arrived(self) -> dict[str, Any]:
        """Since the last call: bytes, and the longest time in which none arrived."""
        assert self._receiver.stdin is not None
        assert self._receiver.stdout is not None
        self._receiver.stdin.write("\n")
        self._receiver.stdin.flush()
        line = self._receiver.stdout.readline()
        assert line, "the connection has ended"
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def __enter__(self) -> Paced:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    kind, role, host, number, speed, source = sys.argv[1:]
    with connection(role, host, int(number), source) as other:
        if kind == "send":
            send(other, float(speed))
        else:
            receive(other)
