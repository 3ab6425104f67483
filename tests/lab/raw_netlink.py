"""A minimal netlink socket for tests of the codec: sends bytes, reads messages."""

from __future__ import annotations

import socket
import sys
from types import TracebackType

from mproutd.netlink.nlmsg import NLMSG_DONE, NLMSG_ERROR, Ack, Message, acknowledgement, messages

NETLINK_ROUTE, NETLINK_GENERIC, SOL_NETLINK = 0, 16, 270
ADD_MEMBERSHIP, CAP_ACK, EXT_ACK, GET_STRICT_CHK = 1, 10, 11, 12
GROUPS = {"link": 1, "ipv4 address": 5, "ipv4 route": 7, "ipv4 rule": 8,
          "ipv6 address": 9, "ipv6 route": 11, "ipv6 rule": 19}  # fmt: skip


class Netlink:
    """Opened inside `with node.enter()`, it stays in the node's namespace."""

    def __init__(self, protocol: int = NETLINK_ROUTE, capped: bool = True) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.socket.bind((0, 0))
        self.socket.settimeout(2)
        options = [EXT_ACK, GET_STRICT_CHK] + [CAP_ACK] * capped
        for option in options:
            self.socket.setsockopt(SOL_NETLINK, option, 1)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[0])

    def join(self, *groups: int) -> None:
        for group in groups:
            self.socket.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)

    def receive(self) -> list[Message]:
        return messages(self.socket.recv(1 << 17))

    def ask(self, request: bytes) -> tuple[list[Message], Ack]:
        """The answers to a request up to the acknowledgement, or alone if there is none."""
        self.socket.send(request)
        answers: list[Message] = []
        while True:
            for message in self.receive():
                assert message.sequence == int.from_bytes(request[8:12], sys.byteorder)
                if message.type in (NLMSG_ERROR, NLMSG_DONE):
                    return answers, acknowledgement(message)
                answers.append(message)
                if not message.flags & 0x2:
                    return answers, Ack(0)

    def pending(self) -> list[Message]:
        """The events that are there by now; the kernel queues them before it answers."""
        self.socket.setblocking(False)
        received: list[Message] = []
        try:
            while True:
                received += self.receive()
        except BlockingIOError:
            return received

    def __enter__(self) -> Netlink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.socket.close()
