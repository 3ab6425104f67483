"""make fleet: 200 gateways in a real Prometheus; what they cost, and whether panels have data.

Real daemons in several states are recorded, and their output is served at 200 addresses of one
namespace.  Prints the table of docs/fleet.md; `--write` writes it there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fleet import DASHBOARDS, ROOT
from tests.fleet.dashboards import queries
from tests.fleet.exporters import address
from tests.fleet.recording import NETWORK, OWN, healthy_then_broken, recorded, refused
from tests.fleet.server import Prometheus, processor_seconds, resident_bytes
from tests.lab import TWO_UPLINKS, Daemon, Namespace, Wan, eventually
from tests.lab.marked import filled

GUIDE = ROOT / "docs/fleet.md"
GATEWAYS, INTERVAL, USUAL_INTERVAL = 200, 5, 15
BLOCK_SECONDS, DAY = 7200, 86400
OWN_SCRAPES = 40

Row = tuple[str, str]


def samples(text: str) -> int:
    return sum(not line.startswith("#") for line in text.splitlines())


def output(network: str, own: str, uplinks: int) -> str:
    """The metrics of a healthy gateway."""
    with (
        Wan(uplinks=uplinks, lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, network, own) as daemon,
    ):
        daemon.settle()
        return daemon.call("metrics").out


def daemon_rows() -> Iterator[Row]:
    """What a scrape costs the gateway: a real daemon with its exporter."""
    with (
        Wan(uplinks=3, lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, NETWORK, OWN) as daemon,
    ):
        daemon.settle()
        exporter = wan.gateway.popen(*daemon.command("metrics", "--listen", "127.0.0.1:9785"))

        def scrape() -> bytes:
            with (
                wan.gateway.enter(),
                urllib.request.urlopen("http://127.0.0.1:9785/metrics", timeout=60) as answer,
            ):
                body: bytes = answer.read()
            return body

        eventually(scrape, 60, "the exporter")
        assert daemon.process
        pids = daemon.process.pid, exporter.pid
        idle_before = [processor_seconds(pid) for pid in pids]
        time.sleep(OWN_SCRAPES)
        before = [processor_seconds(pid) for pid in pids]
        durations = []
        for _ in range(OWN_SCRAPES):
            start = time.monotonic()
            scrape()
            durations.append(time.monotonic() - start)
            time.sleep(max(0.0, 1.05 - durations[-1]))  # a status is used again for a second
        after = [processor_seconds(pid) for pid in pids]
        costs = [
            ((end - middle) - (middle - begin) * 1.05) / OWN_SCRAPES * 1000
            for begin, middle, end in zip(idle_before, before, after, strict=True)
        ]
        yield "processor time of the daemon, per scrape", f"{max(costs[0], 0):.0f} ms"
        yield "processor time of its exporter, per scrape", f"{max(costs[1], 0):.0f} ms"
        yield (
            "duration of a scrape at the exporter, median",
            (f"{statistics.median(durations) * 1000:.0f} ms"),
        )
        memory = [resident_bytes(pid) / 1e6 for pid in pids]
        yield "resident memory of the daemon", f"{memory[0]:.0f} MB"
        yield "resident memory of the exporter", f"{memory[1]:.0f} MB"


def size_rows(plain: str, full: str) -> Iterator[Row]:
    for name, text in (("two uplinks", plain), ("three uplinks, checks, quota, policy", full)):
        compressed = len(gzip.compress(text.encode())) / 1000
        size = f"{len(text) / 1000:.1f} kB, {compressed:.1f} kB compressed"
        yield f"a scrape, {name}", f"{samples(text)} samples, {size}"


@contextmanager
def fleet(stories: list[list[str]], folder: Path) -> Iterator[Prometheus]:
    """200 exporters and a Prometheus that scrapes them, in one namespace."""
    (folder / "stories.json").write_text(json.dumps(stories))
    with Namespace("monitoring") as node:
        arguments = (str(folder / "stories.json"), str(GATEWAYS))
        node.popen(
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.fleet.exporters", *arguments
        )
        targets = [f"{address(number)}:9785" for number in range(1, GATEWAYS + 1)]
        yield Prometheus(node, folder, targets, INTERVAL)


def server_rows(server: Prometheus, seconds: int) -> Iterator[Row]:
    """Let it scrape for a while; what that cost, and what a day would."""
    pid = server.process.pid
    eventually(lambda: server.query(f"count(up == 1) >= {GATEWAYS - 1}"), 120, "scrapes")
    began, before = time.monotonic(), processor_seconds(pid)
    time.sleep(seconds)
    elapsed, spent = time.monotonic() - began, processor_seconds(pid) - before
    scrapes = elapsed / INTERVAL * GATEWAYS
    yield (
        "series per gateway",
        f"{server.value('sum(scrape_samples_scraped) / count(up == 1)'):.0f}",
    )
    head = server.value("count({__name__=~'.+'})")
    yield "series of the fleet", f"{head:,.0f}"
    median, high = (
        server.value(f"quantile({part}, scrape_duration_seconds) * 1000") for part in (0.5, 0.99)
    )
    yield "duration of a scrape, median and 99 %", f"{median:.0f} and {high:.0f} ms"
    yield "processor time of Prometheus, per scrape", f"{spent / scrapes * 1000:.1f} ms"
    share = spent / scrapes * GATEWAYS / USUAL_INTERVAL
    yield f"processor of Prometheus, every {USUAL_INTERVAL} s", f"{share:.1%} of one core"
    yield "resident memory of Prometheus, highest", f"{resident_bytes(pid, 'VmHWM') / 1e6:.0f} MB"
    rule_seconds = re.search(
        rb"^prometheus_rule_group_last_duration_seconds\{.*?\} (\S+)", server.get("/metrics"), re.M
    )
    assert rule_seconds
    yield "evaluating all alerts", f"{float(rule_seconds[1]) * 1000:.0f} ms"
    block = server.snapshot()
    each = block.chunks / block.samples
    yield "bytes per sample, without the index", f"{each:.2f}"
    per_gateway = server.value("sum(scrape_samples_scraped) / count(up == 1)") + 5
    daily = (
        per_gateway * GATEWAYS * DAY / USUAL_INTERVAL * each
        + block.index_size * DAY / BLOCK_SECONDS
    )
    yield f"database, a day at a scrape every {USUAL_INTERVAL} s", f"{daily / 1e6:.0f} MB"


def panel_rows(server: Prometheus, seconds: int) -> Iterator[Row]:
    """Every query of both dashboards has data.  AssertionError for one that has none."""
    empty, slowest = [], 0.0
    for board in DASHBOARDS:
        for query in queries(board):
            series, took = server.panel(query.expression, seconds, INTERVAL)
            if not series:
                empty.append(f"{board.name}: {query.panel}: {query.expression}")
            slowest = max(slowest, took)
    assert not empty, "queries without data:\n" + "\n".join(empty)
    yield "slowest query of a panel", f"{slowest * 1000:.0f} ms"
    firing = {
        result["metric"]["alertname"] for result in server.query('ALERTS{alertstate="firing"}')
    }
    assert firing, "no alert fires"
    print("firing:", ", ".join(sorted(firing)), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long Prometheus scrapes")
    parser.add_argument("--write", action="store_true", help="write the figures to docs/fleet.md")
    options = parser.parse_args()
    plain = output(TWO_UPLINKS, "", 2)
    stories = [recorded(healthy_then_broken), recorded(refused)]
    rows = [*size_rows(plain, stories[0][0]), *daemon_rows()]
    with tempfile.TemporaryDirectory() as folder, fleet(stories, Path(folder)) as server:
        rows += server_rows(server, options.seconds)
        rows += panel_rows(server, options.seconds)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    if options.write:
        table = "".join(f"| {name} | {value} |\n" for name, value in rows)
        text = f"| | |\n| --- | --- |\n{table}"
        GUIDE.write_text(filled(GUIDE.read_text(), {"figures": text}))


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, subprocess.SubprocessError) as error:
        sys.exit(f"make fleet: {error}")
