"""Twenty gateways at one far end, all at once: rates, fairness, processor time.

    make far-end                  runs it, and writes the figures into docs/far-end.md
    python -m tests.networks.fleet --clients 5 --seconds 4 --only download

Every gateway has two uplinks and runs mproutd; the server's link is the bottleneck in both
directions, so that the gateways compete for it.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.lab import Daemon, Iperf, eventually, subflows
from tests.networks.far_end import SHAPE, TARGET, Client, FarEnd
from tests.networks.guide import replace_block

UPLINK_MBIT, CORE_MBIT = 4, 60
FIRST_PORT = 5201
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = Path(__file__).resolve().parents[2] / "docs/far-end.md"


class Arrangement(NamedTuple):
    """One run: what the gateways do, and how the server's link is shared."""

    name: str
    downloads: float = 0.0
    """The part of the gateways whose hosts receive; the others send."""
    classes: bool = False
    """A class for each gateway in both directions, instead of one queue each."""
    single: float = 0.0
    """The part of the gateways that have no mproutd, and use one uplink."""


RUNS = (
    Arrangement("upload, one queue"),
    Arrangement("upload, classes", classes=True),
    Arrangement("download, one queue", downloads=1),
    Arrangement("download, classes", downloads=1, classes=True),
    Arrangement("half of each, one queue", downloads=0.5),
    Arrangement("half of each, classes", downloads=0.5, classes=True),
    Arrangement("upload, half on one uplink", classes=True, single=0.5),
    Arrangement("download, half on one uplink", downloads=1, classes=True, single=0.5),
)


class Result(NamedTuple):
    """What a run measured."""

    arrangement: Arrangement
    seconds: float
    rates: tuple[float, ...]
    """Mbit/s of each gateway; those that use one uplink come first."""
    server_daemon: float
    """Processor seconds of mproutd on the server while the traffic ran."""
    gateway_daemons: float
    """The same of all gateways' daemons together."""
    proxies: float
    """The same of all ss-server together."""
    memory: int
    """Resident bytes of the server's mproutd afterwards."""
    counted: float
    """What the firewall's counters have, by what the hosts received."""

    @property
    def fairness(self) -> float:
        return jain(self.rates)


def jain(rates: Sequence[float]) -> float:
    """Jain's index: 1 where all are equal, 1/n where one has everything."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else 0.0


def processor_seconds(pid: int) -> float:
    """User and system time of a process and its threads (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1000


def measure(clients: int, seconds: float, arrangement: Arrangement) -> Result:
    """One plain-TCP connection from every gateway's host through its proxy, all at once."""
    with ExitStack() as scope:
        far_end = scope.enter_context(FarEnd(clients, UPLINK_MBIT, CORE_MBIT))
        _share(far_end, arrangement.classes)
        server = scope.enter_context(Daemon(far_end.server, *far_end.configuration()))
        joining = far_end.clients[round(clients * arrangement.single) :]
        daemons = [scope.enter_context(Daemon(client)) for client in joining]
        for client in far_end.clients:
            far_end.tunnel(client, FIRST_PORT + client.number, TARGET)
        before = [_used(server), sum(map(_used, daemons)), _proxies(far_end)]
        downloading = far_end.clients[round(clients * (1 - arrangement.downloads)) :]
        runs = [
            _start(far_end, client, seconds, client in downloading) for client in far_end.clients
        ]
        eventually(lambda: all(map(_joined, joining)), 30, "both uplinks of every gateway")
        rates = [run.result(60).mbit for run in runs]
        after = [_used(server), sum(map(_used, daemons)), _proxies(far_end)]
        assert server.process
        counted = _counted(far_end, downloading) / (sum(rates) * 1e6 / 8 * seconds)
        used = [last - first for first, last in zip(before, after, strict=True)]
        memory = resident(server.process.pid)
    return Result(arrangement, seconds, tuple(rates), *used, memory, counted)


def _share(far_end: FarEnd, classes: bool) -> None:
    """The server's own queue, towards the internet; the other one is the provider's.

    `classes`: as the guide has it, for both directions.
    """
    if not classes:
        far_end.server.tc(f"qdisc replace dev eth0 root {SHAPE.format(rate=CORE_MBIT)}")
        return
    path = "/usr/local/sbin/far-end-classes"
    far_end.server.write(path, far_end.guide.files("classes")[path])
    far_end.server.run("sh", path)


def _start(far_end: FarEnd, client: Client, seconds: float, download: bool) -> Iperf:
    port = FIRST_PORT + client.number
    return Iperf(
        *(client, far_end.internet, "127.0.0.1", seconds),
        port=port,
        mptcp=False,
        reverse=download,
    )


def _counted(far_end: FarEnd, downloading: Sequence[Client]) -> int:
    """The bytes of the firewall's counters, of each gateway in the direction of its traffic."""
    received, sent = far_end.counted("from_gateways"), far_end.counted("to_gateways")
    return sum(
        (sent if client in downloading else received)[client.port][1] for client in far_end.clients
    )


def _joined(client: Client) -> bool:
    return {flow.local for flow in subflows(client, client.port)} == set(client.addresses)


def _used(daemon: Daemon) -> float:
    assert daemon.process
    return processor_seconds(daemon.process.pid)


def _proxies(far_end: FarEnd) -> float:
    return sum(processor_seconds(service.pid) for service in far_end.services)


def table(results: Sequence[Result]) -> str:
    """How the gateways share the server's link, a row for each run."""
    head = f"{'Mbit/s':28}  together  lowest  mean  highest  Jain's index"
    return "\n".join((head, *map(_row, results), ""))


def _row(result: Result) -> str:
    rates = result.rates
    mean = sum(rates) / len(rates)
    text = (
        f"{result.arrangement.name:28}  {sum(rates):8.1f}  {min(rates):6.2f}  {mean:4.2f}"
        f"  {max(rates):7.2f}  {result.fairness:12.3f}"
    )
    if result.arrangement.single:
        half = round(len(rates) * result.arrangement.single)
        ones, twos = rates[:half], rates[half:]
        text += f"\n{'  mean on one uplink, on both':28}  {'':8}  {'':6}  "
        text += f"{sum(ones) / len(ones):.2f}, {sum(twos) / len(twos):.2f}"
    return text


def costs(results: Sequence[Result]) -> str:
    """Processor time and memory, from the lowest to the highest of the runs."""

    def span(values: Sequence[float], form: str = ".2f") -> str:
        return f"{min(values):{form}} to {max(values):{form}}"

    gigabytes = [sum(result.rates) * result.seconds / 8000 for result in results]
    each_gigabyte = [result.proxies / size for result, size in zip(results, gigabytes, strict=True)]
    rows = [
        ("mproutd on the server", f"{span([result.server_daemon for result in results])} s"),
        ("mproutd on all gateways", f"{span([result.gateway_daemons for result in results])} s"),
        ("all ss-server", f"{span([result.proxies for result in results])} s"),
        ("all ss-server, for 1 GB", f"{span(each_gigabyte, '.1f')} s"),
        (
            "memory of mproutd on the server",
            f"{span([result.memory / 1e6 for result in results], '.1f')} MB",
        ),
        (
            "counted by nftables, of the payload",
            f"{span([100 * result.counted for result in results], '.1f')} %",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name.ljust(width)}  {value}\n" for name, value in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", default="", help="the runs with this word in their name")
    parser.add_argument("--write", action="store_true", help="into docs/far-end.md")
    options = parser.parse_args()
    results = []
    for arrangement in RUNS:
        if options.only in arrangement.name:
            results.append(measure(options.clients, options.seconds, arrangement))
            print(_row(results[-1]), flush=True)
    for name, text in (("fleet", table(results)), ("cost of the fleet", costs(results))):
        print(text)
        if options.write and len(results) == len(RUNS):
            replace_block(PAGE, "sample", name, text)


if __name__ == "__main__":
    main()
