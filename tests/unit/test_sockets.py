"""The request socket, where the real kernel cannot be made to answer on demand."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from mproutd.netlink import sockets
from mproutd.netlink.nlmsg import NLM_F_DUMP_INTR, NLMSG_DONE, request


class Scripted:
    """A socket whose answers are given: each a list of (type, flags, body) for one dump."""

    def __init__(self, *dumps: list[tuple[int, int, bytes]]) -> None:
        self.dumps = list(dumps)
        self.asked = 0
        self.waiting: list[bytes] = []

    def send(self, data: bytes) -> int:
        sequence = int.from_bytes(data[8:12], "little")
        self.asked += 1
        for kind, flags, body in self.dumps.pop(0):
            self.waiting.append(pack("=LHHLL", 16 + len(body), kind, flags, sequence, 0) + body)
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.waiting.pop(0)


def asked(scripted: Any) -> sockets.Requests:
    requests = object.__new__(sockets.Requests)
    requests._socket = scripted
    requests._sequence = 0
    return requests


DONE = (NLMSG_DONE, 0, b"\0\0\0\0")


def test_an_interrupted_dump_is_asked_for_again() -> None:
    script = Scripted([(20, NLM_F_DUMP_INTR, b"half"), DONE], [(20, 0, b"all!"), DONE])
    found = asked(script).dump(lambda n: request(22, 0, n, b""))
    assert (found, script.asked) == ([b"all!"], 2)


def test_the_last_answer_is_taken_when_every_dump_is_interrupted() -> None:
    dumps = [
        [(20, NLM_F_DUMP_INTR, b"%04d" % number), DONE]
        for number in range(sockets._MAX_DUMP_RETRIES + 5)
    ]
    script = Scripted(*dumps)
    found = asked(script).dump(lambda n: request(22, 0, n, b""))
    assert (found, script.asked) == (
        [b"%04d" % sockets._MAX_DUMP_RETRIES],
        sockets._MAX_DUMP_RETRIES + 1,
    )


def test_an_error_that_ends_a_dump_is_raised() -> None:
    script = Scripted([(2, 0, pack("=l", -19) + bytes(16))])
    with pytest.raises(OSError, match="No such device") as caught:
        asked(script).dump(lambda n: request(22, 0, n, b""))
    assert caught.value.errno == 19
