"""What the host does meanwhile: TCP and UDP by IPv4 and IPv6, and a client of the proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.lab import SERVER, SERVER6, Echo, Namespace, eventually
from tests.lab.resources import Closing
from tests.pair.world import HOSTS, HOSTS6

COLUMNS = ("TCP", "TCP, IPv6", "UDP", "UDP, IPv6", "proxy")
FOLDER = Path(__file__).parent


class Program(Closing):
    """A program that reports on request."""

    def __init__(self, node: Namespace, *words: str | int) -> None:
        command = [sys.executable, "-I", "-S", *map(str, words)]
        pipe = subprocess.PIPE
        self._process = node.popen(*command, stdin=pipe, stdout=pipe, text=True)

    def line(self) -> str:
        assert self._process.stdout
        text: str = self._process.stdout.readline()
        return text

    def report(self) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        report: dict[str, Any] = json.loads(self.line())
        return report

    def longest(self) -> float:
        """The longest time without a reply since the last call, once replies arrive again."""
        reports = [self.report()]

        def goes_on() -> bool:
            reports.append(self.report())
            return bool(reports[-1]["received"] > reports[0]["received"] + 20)

        eventually(goes_on, 30, "replies")
        return max(float(report["gap"]) for report in reports)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Tcp(Closing):
    """A connection, which must stay the same one."""

    def __init__(self, host: Namespace, server: Namespace, address: str) -> None:
        self.echo = Echo(host, server, address, mptcp=False)

    def longest(self) -> float:
        """As Program.longest."""
        reports = [self.echo.report()]

        def goes_on() -> bool:
            reports.append(self.echo.report())
            return reports[-1].received > reports[0].received + 20

        try:
            eventually(goes_on, 30, "replies")
        finally:
            assert not reports[-1].error, reports[-1]
        return max(report.gap for report in reports)

    def is_reset(self) -> bool:
        return "reset" in self.echo.report().error

    def close(self) -> None:
        self.echo.close()


class Udp(Closing):
    """A flow from every one of the host's addresses, all from the same port.

    The gateway has to give all but the first another port, and the flows have to keep them.
    """

    PORT = 7777

    def __init__(self, host: Namespace, server: Namespace, address: str, own: list[str]) -> None:
        program = FOLDER / "datagrams.py"
        self._stack = ExitStack()
        serving = self._stack.enter_context(Program(server, program, "serve", address, self.PORT))
        assert serving.line() == "ready\n"
        self._flows = []
        for source in own:
            flow = Program(host, program, "send", source, address, self.PORT)
            self._flows.append(self._stack.enter_context(flow))
        self.sources = eventually(self._seen, 30, "a reply for every flow")

    def _seen(self) -> list[list[str]]:
        """The sources that the server had, by flow."""
        sources = [flow.report()["sources"] for flow in self._flows]
        return sources if all(sources) else []

    def longest(self) -> float:
        """As Program.longest, of the flow that waited longest."""
        longest = max(flow.longest() for flow in self._flows)
        assert (seen := self._seen()) == self.sources, (seen, self.sources)
        return longest

    def close(self) -> None:
        self._stack.close()


class Browser(Program):
    """A host that goes by the proxy, and connects again if it has to."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host, FOLDER / "client.py", SERVER, 80)

    def opened(self) -> int:
        return int(self.report()["opened"])


class Traffic(Closing):
    """All of it, from a host to the server."""

    def __init__(self, host: Namespace, server: Namespace) -> None:
        self._stack = ExitStack()
        try:
            self.tcp = self._stack.enter_context(Tcp(host, server, SERVER))
            self.tcp6 = self._stack.enter_context(Tcp(host, server, SERVER6))
            self.udp = self._stack.enter_context(Udp(host, server, SERVER, HOSTS))
            self.udp6 = self._stack.enter_context(Udp(host, server, SERVER6, HOSTS6))
            self.browser = self._stack.enter_context(Browser(host))
            self.longest()
        except BaseException:
            self.close()
            raise

    def longest(self) -> list[float]:
        """In the order of COLUMNS: the longest time without a reply since the last call."""
        kinds = (self.tcp, self.tcp6, self.udp, self.udp6, self.browser)
        return [kind.longest() for kind in kinds]

    def close(self) -> None:
        self._stack.close()
