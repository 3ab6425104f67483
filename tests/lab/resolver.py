"""A name server that knows one name: `python resolver.py ADDRESS NAME ANSWER` on port 53."""

from __future__ import annotations

import socket
import sys


def reply(query: bytes, name: bytes, address: bytes) -> bytes:
    """An A record for the name, nothing for any other question (RFC 1035)."""
    end = query.index(0, 12) + 5
    known = query[12:].lower().startswith(name) and query[end - 4 : end - 2] == b"\0\1"
    code = b"\x81\x80" if query[12:].lower().startswith(name) else b"\x81\x83"
    head = query[:2] + code + b"\0\1" + (b"\0\1" if known else b"\0\0") + bytes(4)
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + address if known else b""
    return head + query[12:end] + record


def main(at: str, name: str, address: str) -> None:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((at, 53))
        print("ready", flush=True)
        while True:
            query, sender = server.recvfrom(512)
            server.sendto(reply(query, labels, socket.inet_aton(address)), sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
