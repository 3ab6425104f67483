"""What changes in a node's routes and rules, by `ip monitor`: the kernel's word, not ours."""

from __future__ import annotations

import itertools
import os
import re
import tempfile

from tests.lab.namespace import Namespace
from tests.lab.resources import Closing
from tests.lab.wait import eventually

MARK = 4_000_000
"""The tables that this file uses to know how far `ip monitor` has come."""


class Monitor(Closing):
    """`ip monitor route rule` in a node, from now on.  close() or `with`."""

    def __init__(self, node: Namespace) -> None:
        self._node = node
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 (close() does)
        self._process = node.popen("ip", "-o", "monitor", "route", "rule", stdout=self._out)
        self._number = itertools.count(MARK)
        self._read = 0
        eventually(lambda: self.lines(0.1) is not None, what="ip monitor")

    def lines(self, timeout: float = 5.0) -> list[str]:
        """What changed since the last call, as `ip monitor` has it.  AssertionError: it is mute."""
        number = next(self._number)
        self._node.ip(f"route add blackhole 192.0.2.1 table {number}")
        self._node.ip(f"route delete blackhole 192.0.2.1 table {number}")
        end = f"table {number}".encode()
        text = eventually(
            lambda: (
                (output := os.pread(self._out.fileno(), 1 << 20, self._read)).count(end) == 2
                and output.endswith(b"\n")
                and output
            ),
            timeout,
            "ip monitor",
        )
        self._read += len(text)
        lines = [re.sub(r"\s+", " ", line).strip() for line in text.decode().splitlines()]
        return [line for line in lines if not re.search(r"table 40\d{5}\b", line)]

    def ours(self) -> list[str]:
        """Of these, what carries mproutd's protocol number."""
        return [line for line in self.lines() if re.search(r"\bproto(col)? 77\b", line)]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._out.close()
