"""An MPTCP connection that sends a numbered message every 20 ms and wants it back.

`Echo` is what tests use.  The rest of the file is also the program at both ends
(`python echo.py serve|send ADDRESS PORT ...`), so that no interpreter but its own
decides the times.  The echo proves that the connection lives, that no byte is lost or
changed, and how long it stood still at worst.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.lab.namespace import Namespace

IPPROTO_MPTCP = 262
SOL_MPTCP, MPTCP_INFO = 284, 1
MESSAGE = struct.Struct("!Qd48s")


def open_socket(address: str, protocol: int = IPPROTO_MPTCP) -> socket.socket:
    """A stream socket for the address' family, an MPTCP one unless another is asked for."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def serve(address: str, port: int, protocol: int = IPPROTO_MPTCP) -> None:
    """Echo every connection until killed."""
    listener = open_socket(address, protocol)
    listener.bind((address, port))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    sockets = [listener]
    while True:
        for ready in select.select(sockets, [], [])[0]:
            if ready is listener:
                sockets.append(listener.accept()[0])
                continue
            try:
                data = ready.recv(65536)
                if data:
                    ready.sendall(data)
                    continue
            except OSError:
                pass
            sockets.remove(ready)
            ready.close()


def send(address: str, port: int, every: float, bind: str, protocol: int) -> None:
    """Send, check and measure; a line on stdin asks for a report line on stdout."""
    connection = open_socket(address, protocol)
    if bind:
        connection.bind((bind, 0))
    connection.settimeout(10)
    connection.connect((address, port))
    connection.setblocking(False)
    print("connected", flush=True)
    body = bytes(range(48))
    sent = received = 0
    outgoing = incoming = b""
    gap = delay = 0.0
    error = ""
    now = arrived = due = time.monotonic()
    while True:
        wanted = [connection, sys.stdin] if not error else [sys.stdin]
        writing = [connection] if outgoing and not error else []
        readable, writable, _ = select.select(wanted, writing, [], max(0.0, due - now))
        now = time.monotonic()
        if now >= due:
            due += every
            if not error:
                outgoing += MESSAGE.pack(sent, now, body)
                sent += 1
                writable = [connection]
        try:
            if writable:
                with contextlib.suppress(BlockingIOError):
                    outgoing = outgoing[connection.send(outgoing) :]
            if connection in readable:
                data = connection.recv(65536)
                if not data:
                    raise ConnectionError("closed by the peer")
                incoming += data
                while len(incoming) >= MESSAGE.size:
                    number, then, text = MESSAGE.unpack_from(incoming)
                    incoming = incoming[MESSAGE.size :]
                    if number != received or text != body:
                        raise ConnectionError(f"message {received} came back changed")
                    received += 1
                    delay = max(delay, now - then)
                gap, arrived = max(gap, now - arrived), now
        except OSError as problem:
            error = error or str(problem)
        if sys.stdin in readable:
            if not sys.stdin.readline():
                return
            # What stands still right now counts too.
            gap = max(gap, now - arrived)
            print(
                json.dumps(
                    {
                        "sent": sent,
                        "received": received,
                        "gap": gap,
                        "delay": delay,
                        "error": error,
                        "mptcp": is_mptcp(connection),
                    }
                ),
                flush=True,
            )
            gap = delay = 0.0


def is_mptcp(connection: socket.socket) -> bool:
    """Whether the connection is still MPTCP, not fallen back to TCP (MPTCP_INFO, mptcp.h)."""
    try:
        info = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 128)
    except OSError:
        return False
    (flags,) = struct.unpack_from("I", info, 8)
    return not flags & 1  # MPTCP_INFO_FLAG_FALLBACK


class Report(NamedTuple):
    """What an Echo saw since the report before."""

    sent: int
    received: int
    """Messages since the beginning; each was checked."""
    gap: float
    """The longest time between two arrivals, in seconds; `every` when all is well."""
    delay: float
    """The longest time from a message's birth to its return, in seconds."""
    error: str
    """Why the connection ended; empty while it lives."""
    mptcp: bool
    """False: it fell back to plain TCP."""


class Echo:
    """The connection, from a process in `client` to one in `server`.  close() or `with`."""

    def __init__(
        self,
        client: Namespace,
        server: Namespace,
        address: str,
        every: float = 0.02,
        bind: str = "",
        listen: str = "",
        mptcp: bool = True,
        answers_mptcp: bool = True,
    ) -> None:
        """`listen`: the server's socket is bound there instead ("0.0.0.0": to any address,
        so that subflows to its other addresses find it).  `mptcp`: what the client asks for;
        `answers_mptcp`: whether the server's program knows it, else the connection falls back."""
        program = [sys.executable, "-I", "-S", __file__]
        self.server = server.popen(
            *program,
            "serve",
            listen or address,
            "0",
            str(IPPROTO_MPTCP if answers_mptcp else socket.IPPROTO_TCP),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._line(self.server))
        """The server's port, to find the subflows by."""
        self.client = client.popen(
            *program,
            "send",
            address,
            str(self.port),
            str(every),
            bind,
            str(IPPROTO_MPTCP if mptcp else socket.IPPROTO_TCP),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._line(self.client)

    @staticmethod
    def _line(process: subprocess.Popen[Any]) -> str:
        line: str = process.stdout.readline() if process.stdout else ""
        if not line:
            raise AssertionError("the echo's process ended; see its standard error")
        return line

    def report(self) -> Report:
        """What happened since the last report (or the beginning)."""
        assert self.client.stdin
        self.client.stdin.write("\n")
        self.client.stdin.flush()
        return Report(**json.loads(self._line(self.client)))

    def close(self) -> None:
        """End both processes."""
        for process in (self.client, self.server):
            process.terminate()
            process.wait()

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
