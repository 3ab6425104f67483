"""A host's program that opens another connection when the last one fails, as a browser does.

It sends a message every 20 ms and wants it back; a line on stdin asks for a report line on stdout:
the longest time without a reply since the last report, and how many connections it opened.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time

INTERVAL, PATIENCE = 0.02, 3.0
"""Seconds between two messages, and for which a connection attempt waits."""


def main(address: str, port: int) -> None:
    connection: socket.socket | None = None
    arrived, gap, opened, received = time.monotonic(), 0.0, 0, 0
    due = 0.0
    while True:
        now = time.monotonic()
        try:
            if connection is None:
                opened += 1
                connection = socket.create_connection((address, port), timeout=PATIENCE)
                connection.setblocking(False)
            if now >= due:
                due = now + INTERVAL
                with contextlib.suppress(BlockingIOError):
                    connection.send(b"?" * 64)
            ready, _, _ = select.select([connection, sys.stdin], [], [], INTERVAL)
            now = time.monotonic()
            if connection in ready:
                if not connection.recv(65536):
                    raise ConnectionError
                received += 1
                gap, arrived = max(gap, now - arrived), now
        except OSError:
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.1)
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            gap = max(gap, time.monotonic() - arrived)
            print(json.dumps({"gap": gap, "opened": opened, "received": received}), flush=True)
            gap = 0.0


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
