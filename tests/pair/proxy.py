"""The far end of the proxy, as in docs/networks/proxy.md, and a web server behind it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.lab import eventually
from tests.networks.guide import Guide
from tests.networks.machine import Machine

ECHO = Path(__file__).parents[1] / "lab/echo.py"


def serve_proxy(server: Machine) -> None:
    server.service(f"{sys.executable} {ECHO} serve 0.0.0.0 80 {socket.IPPROTO_TCP}")
    proxy = Guide("proxy")
    for path, text in proxy.files("router-b").items():
        server.write(path, text)
    for command in proxy.commands("router-b"):
        server.service(command)
    eventually(lambda: ":8388" in server.run("ss", "-Hltn"), 20)
