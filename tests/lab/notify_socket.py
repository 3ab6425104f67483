"""mproutd under a service manager: the messages that it sends to NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
from typing import Any

from tests.lab.daemon import Daemon
from tests.lab.namespace import Namespace

NOTIFIED = "/run/notify"


class Supervised(Daemon):
    """A Daemon with a real datagram socket as NOTIFY_SOCKET, and a watchdog if requested.

    `watchdog` in seconds, as WatchdogSec= of systemd.service(5); None for none.
    """

    def __init__(self, node: Namespace, *arguments: Any, watchdog: float | None = None) -> None:
        super().__init__(node, *arguments)
        self._watchdog = watchdog
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        at = os.open(node.path("/run"), os.O_PATH)
        try:
            self._socket.bind(f"/proc/self/fd/{at}/notify")
        finally:
            os.close(at)
        self._messages: list[str] = []

    def command(self, verb: str, *arguments: str) -> list[str]:
        env, *rest = super().command(verb, *arguments)
        variables = [f"NOTIFY_SOCKET={NOTIFIED}"]
        if self._watchdog is not None:
            variables.append(f"WATCHDOG_USEC={self._watchdog * 1e6:.0f}")
        return [env, *variables, *rest]

    def messages(self) -> list[str]:
        """Every message so far, in order."""
        while True:
            try:
                self._messages += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._messages

    def forget(self) -> None:
        """Drop the messages so far."""
        self.messages()
        self._messages = []

    def close(self) -> None:
        super().close()
        self._socket.close()
