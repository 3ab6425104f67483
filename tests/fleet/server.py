"""A real Prometheus in a namespace of its own, with what it costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from tests.fleet import RULES, program
from tests.lab import Namespace, eventually

URL = "http://127.0.0.1:9090"
TICKS = os.sysconf("SC_CLK_TCK")
CONFIGURATION = """\
global:
  scrape_interval: {interval}s
  scrape_timeout: {interval}s
  evaluation_interval: 15s
rule_files: [{rules}]
scrape_configs:
  - job_name: mproutd
    static_configs:
      - targets: [{targets}]
"""


class Block(NamedTuple):
    """A block of the database: bytes of its parts, and what it contains."""

    chunks: int
    index_size: int
    samples: int
    series: int


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int, name: str = "VmRSS") -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


class Prometheus:
    """Scrapes `targets` in the node from start() on.  The node's end ends it."""

    def __init__(self, node: Namespace, folder: Path, targets: list[str], interval: int) -> None:
        self._node, self.folder = node, folder
        shutil.copy(RULES, folder)
        quoted = ", ".join(f'"{target}"' for target in targets)
        configuration = CONFIGURATION.format(interval=interval, rules=RULES.name, targets=quoted)
        (folder / "prometheus.yml").write_text(configuration)
        self.process = node.popen(
            program("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:9090",
            "--web.enable-admin-api",
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("w"),
        )
        eventually(lambda: self.get("/-/ready"), 60, "Prometheus")

    def get(self, path: str, **parameters: str) -> bytes:
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with (
            self._node.enter(),
            urllib.request.urlopen(f"{URL}{path}{query}", timeout=60) as answer,
        ):
            body: bytes = answer.read()
        return body

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query; AssertionError with Prometheus' words if it has none."""
        try:
            reply = json.loads(self.get("/api/v1/query", query=expression))
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        result: list[dict[str, Any]] = reply["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        (result,) = self.query(expression)
        return float(result["value"][1])

    def panel(self, expression: str, span: float, step: float) -> tuple[int, float]:
        """The series of a panel over the last `span` seconds, and the seconds that it takes."""
        start = time.monotonic()
        now = time.time()
        times = {"start": str(now - span), "end": str(now), "step": str(step)}
        reply = json.loads(self.get("/api/v1/query_range", query=expression, **times))
        return len(reply["data"]["result"]), time.monotonic() - start

    def snapshot(self) -> Block:
        """What the head is as a block on disk."""
        with self._node.enter():
            request = urllib.request.Request(f"{URL}/api/v1/admin/tsdb/snapshot", method="POST")
            with urllib.request.urlopen(request, timeout=100) as answer:
                name = json.load(answer)["data"]["name"]
        blocks = [
            path.parent for path in (self.folder / "data/snapshots" / name).glob("*/meta.json")
        ]
        parts = [json.loads((block / "meta.json").read_text())["stats"] for block in blocks]
        return Block(
            sum(file.stat().st_size for block in blocks for file in (block / "chunks").iterdir()),
            sum((block / "index").stat().st_size for block in blocks),
            sum(part["numSamples"] for part in parts),
            max(part["numSeries"] for part in parts),
        )
