"""A program: the exporters of many gateways, from recorded output.

    python -m tests.fleet.exporters STORIES.json COUNT [PORT]

Gateway N answers at 127.77.0.N.  Most of them stay healthy; one in ten goes through a story, a
state for every STATE_SCRAPES scrapes, and the last of them stops answering.  Traffic, probes and
latencies move with every scrape, and a few gateways have an older version, which no single daemon
would show.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATE_SCRAPES = 4
OLD_VERSION = "0.1.9"
BYTES_MOVE = ("mproutd_uplink_received_bytes_total", "mproutd_uplink_sent_bytes_total")
PROBES_MOVE = ("mproutd_uplink_health_host_sent_total", "mproutd_uplink_health_host_replies_total")
LATENCY_MOVES = "mproutd_uplink_health_host_latency_seconds"


def address(number: int) -> str:
    return f"127.77.0.{number}"


class Gateway:
    """The metrics of one gateway, which move from scrape to scrape."""

    def __init__(self, number: int, stories: list[list[str]], count: int) -> None:
        self._random = random.Random(number)
        self._moved: defaultdict[str, float] = defaultdict(float)
        self._rate = self._random.uniform(1e4, 5e6)
        self._scrapes = 0
        self._old = number % 50 == 1
        self._silent = number == count
        if number % 10:
            self._story = stories[0][:1]
        else:
            self._story = stories[number // 10 % len(stories)]

    def text(self) -> str | None:
        """The next output; None once the gateway is gone."""
        state = self._scrapes // STATE_SCRAPES
        self._scrapes += 1
        if self._silent and state > 1:
            return None
        recorded = self._story[min(state, len(self._story) - 1)]
        if self._old:
            recorded = self._aged(recorded)
        return "\n".join(self._moving(line) for line in recorded.splitlines()) + "\n"

    def _aged(self, text: str) -> str:
        prefix = 'mproutd_build_info{version="'
        before, found, after = text.partition(prefix)
        return before + found + OLD_VERSION + after[after.index('"') :] if found else text

    def _moving(self, line: str) -> str:
        name = line.partition("{")[0]
        if name in BYTES_MOVE:
            change = float(int(self._rate * self._random.uniform(0.5, 1.5)))
        elif name in PROBES_MOVE:
            change = 1.0
        elif name == LATENCY_MOVES:
            series, _, value = line.rpartition(" ")
            return f"{series} {float(value) * self._random.uniform(0.8, 1.5)!r}"
        else:
            return line
        series, _, value = line.rpartition(" ")
        self._moved[series] += change
        return f"{series} {float(value) + self._moved[series]!r}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the exporter does: compressed, if the client accepts that."""

    protocol_version = "HTTP/1.1"
    gateways: dict[str, Gateway]

    def do_GET(self) -> None:
        text = self.gateways[self.connection.getsockname()[0]].text()
        if text is None:
            self.send_error(503)
            return
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


def main(stories: str, count: str, port: str = "9785") -> None:
    recorded = json.loads(Path(stories).read_text())
    Handler.gateways = {
        address(number): Gateway(number, recorded, int(count))
        for number in range(1, int(count) + 1)
    }
    ThreadingHTTPServer.request_queue_size = 256
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer(("0.0.0.0", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
