"""A UDP flow that keeps its port: a host sends every 20 ms, and the server replies with the source.

The program at both ends.  A line on the host's stdin asks for a report line on stdout: the longest
time without a reply since the last report; the replies, and every source that the server had, since
the beginning.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time

INTERVAL = 0.02


def open_socket(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, port))
    return made


def serve(address: str, port: int) -> None:
    """Reply to every datagram with its source address and port, until killed."""
    server = open_socket(address, port)
    print("ready", flush=True)
    while True:
        with contextlib.suppress(OSError):
            _, source = server.recvfrom(2048)
            server.sendto(f"{source[0]} {source[1]}".encode(), source)


def send(own: str, address: str, port: int) -> None:
    """Send and measure."""
    client = open_socket(own, port)
    client.setblocking(False)
    arrived = due = time.monotonic()
    gap, received = 0.0, 0
    sources: list[str] = []
    while True:
        ready, _, _ = select.select([client, sys.stdin], [], [], max(0.0, due - time.monotonic()))
        now = time.monotonic()
        if now >= due:
            due = now + INTERVAL
            with contextlib.suppress(OSError):
                client.sendto(b"?" * 64, (address, port))
        if client in ready:
            with contextlib.suppress(OSError):
                source = client.recv(2048).decode()
                if source not in sources:
                    sources.append(source)
                received += 1
                gap, arrived = max(gap, now - arrived), now
        if sys.stdin in ready:
            if not sys.stdin.readline():
                return
            gap = max(gap, now - arrived)
            print(json.dumps({"gap": gap, "received": received, "sources": sources}), flush=True)
            gap = 0.0


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], sys.argv[3], int(sys.argv[4]))
