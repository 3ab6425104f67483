"""The request socket, where the real kernel cannot be made to reply on demand."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from mproutd.netlink import sockets
from mproutd.netlink.nlmsg import NLM_F_DUMP_INTR, NLMSG_DONE, request


class Scripted:
    """A socket with prepared replies: a list of (type, flags, body) for each dump."""

    def __init__(self, *dumps: list[tuple[int, int, bytes]]) -> None:
        self.dumps = list(dumps)
        self.requests_sent = 0
        self.waiting: list[bytes] = []

    def send(self, data: bytes) -> int:
        sequence = int.from_bytes(data[8:12], "little")
        self.requests_sent += 1
        for kind, flags, body in self.dumps.pop(0):
            self.waiting.append(pack("=LHHLL", 16 + len(body), kind, flags, sequence, 0) + body)
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.waiting.pop(0)


def requests_over(scripted: Any) -> sockets.Requests:
    requests = object.__new__(sockets.Requests)
    requests._socket = scripted
    requests._sequence = 0
    return requests


DONE = (NLMSG_DONE, 0, b"\0\0\0\0")


def test_an_interrupted_dump_is_repeated() -> None:
    script = Scripted([(20, NLM_F_DUMP_INTR, b"half"), DONE], [(20, 0, b"all!"), DONE])
    bodies = requests_over(script).dump(lambda n: request(22, 0, n, b""))
    assert (bodies, script.requests_sent) == ([b"all!"], 2)


def test_the_last_dump_is_used_when_all_are_interrupted() -> None:
    dumps = [
        [(20, NLM_F_DUMP_INTR, b"%04d" % number), DONE]
        for number in range(sockets._MAX_DUMP_RETRIES + 5)
    ]
    script = Scripted(*dumps)
    bodies = requests_over(script).dump(lambda n: request(22, 0, n, b""))
    assert (bodies, script.requests_sent) == (
        [b"%04d" % sockets._MAX_DUMP_RETRIES],
        sockets._MAX_DUMP_RETRIES + 1,
    )


def test_an_error_that_ends_a_dump_is_raised() -> None:
    script = Scripted([(2, 0, pack("=l", -19) + bytes(16))])
    with pytest.raises(OSError, match="No such device") as caught:
        requests_over(script).dump(lambda n: request(22, 0, n, b""))
    assert caught.value.errno == 19
