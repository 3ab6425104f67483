"""Twenty gateways at one far end, all at once: rates, fairness, processor time.

    make far-end                  runs it, and writes the figures into docs/far-end.md
    python -m tests.networks.fleet --clients 5 --seconds 4

Every gateway has two uplinks and runs mproutd; the server's link is the bottleneck, so that the
gateways compete for it.
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
from tests.networks.far_end import TARGET, Client, FarEnd
from tests.networks.guide import replace_block

UPLINK_MBIT, CORE_MBIT = 4, 60
FIRST_PORT = 5201
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = Path(__file__).resolve().parents[2] / "docs/far-end.md"


class Result(NamedTuple):
    """What a run measured."""

    clients: int
    seconds: float
    rates: tuple[float, ...]
    """Mbit/s of each gateway."""
    single: int
    """The first of them, which use one of their uplinks."""
    server_daemon: float
    """Processor seconds of mproutd on the server while the traffic ran."""
    gateway_daemons: float
    """The same of all gateways' daemons together."""
    proxies: float
    """The same of all ss-server together."""
    memory: int
    """Resident bytes of the server's mproutd afterwards."""
    counted: float
    """What the firewall's counters have, by what the gateways' hosts sent."""

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


def measure(clients: int, seconds: float, single: int = 0, fair: bool = False) -> Result:
    """One plain-TCP connection from every gateway's host through its proxy, all at once.

    The first `single` gateways have no mproutd, and use one uplink.  `fair`: a class of
    HTB for each gateway at the bottleneck, instead of one queue.
    """
    with ExitStack() as scope:
        far_end = scope.enter_context(FarEnd(clients, UPLINK_MBIT, CORE_MBIT))
        if fair:
            _share(far_end)
        server = scope.enter_context(Daemon(far_end.server, *far_end.configuration()))
        joining = far_end.clients[single:]
        daemons = [scope.enter_context(Daemon(client)) for client in joining]
        for client in far_end.clients:
            far_end.tunnel(client, FIRST_PORT + client.number, TARGET)
        before = [_used(server), sum(map(_used, daemons)), _proxies(far_end)]
        runs = [_start(far_end, client, seconds) for client in far_end.clients]
        eventually(lambda: all(map(_joined, joining)), 30, "both uplinks of every gateway")
        rates = [run.result(60).mbit for run in runs]
        after = [_used(server), sum(map(_used, daemons)), _proxies(far_end)]
        assert server.process
        sent = sum(rates) * 1e6 / 8 * seconds
        counted = sum(size for _, size in far_end.counted("from_gateways").values())
        used = [last - first for first, last in zip(before, after, strict=True)]
        memory = resident(server.process.pid)
    return Result(clients, seconds, tuple(rates), single, *used, memory, counted / sent)


def _share(far_end: FarEnd) -> None:
    """Every gateway gets its part of the bottleneck, and what the others leave."""
    part = f"{1000 * CORE_MBIT // len(far_end.clients)}kbit"
    classes, rules = [], []
    for client in far_end.clients:
        name = f"1:{client.number + 10:x}"
        classes.append(
            f"class add dev core parent 1:1 classid {name} htb rate {part} ceil {CORE_MBIT}mbit"
        )
        classes.append(f"qdisc add dev core parent {name} pfifo limit 50")
        rules.append(f"tcp dport {client.port} meta priority set {name}")
    far_end.internet.tc(
        "qdisc replace dev core root handle 1: htb",
        f"class add dev core parent 1: classid 1:1 htb rate {CORE_MBIT}mbit",
        *classes,
    )
    chain = "type filter hook forward priority 0;\n" + "\n".join(rules)
    table = f"table inet share {{\nchain forward {{\n{chain}\n}}\n}}\n"
    far_end.internet.run("nft", "-f", "-", input=table)


def _start(far_end: FarEnd, client: Client, seconds: float) -> Iperf:
    port = FIRST_PORT + client.number
    return Iperf(client, far_end.internet, "127.0.0.1", seconds, port=port, mptcp=False)


def _joined(client: Client) -> bool:
    return {flow.local for flow in subflows(client, client.port)} == set(client.addresses)


def _used(daemon: Daemon) -> float:
    assert daemon.process
    return processor_seconds(daemon.process.pid)


def _proxies(far_end: FarEnd) -> float:
    return sum(processor_seconds(service.pid) for service in far_end.services)


def table(result: Result) -> str:
    """The figures, for a guide."""
    rates, seconds = result.rates, result.seconds
    carried = sum(rates) * seconds / 8000  # GB

    def share(used: float) -> str:
        return f"{used:.2f} s ({100 * used / seconds:.1f} % of a processor)"

    rows = [
        ("gateways, on both uplinks", f"{result.clients}, {result.clients - result.single}"),
        ("all gateways together", f"{sum(rates):.1f} Mbit/s"),
        ("lowest, highest", f"{min(rates):.2f}, {max(rates):.2f} Mbit/s"),
        ("fairness (Jain's index)", f"{result.fairness:.3f}"),
        ("mproutd on the server", share(result.server_daemon)),
        ("mproutd on all gateways", share(result.gateway_daemons)),
        ("all ss-server", f"{share(result.proxies)}, {result.proxies / carried:.1f} s for 1 GB"),
        ("memory of mproutd on the server", f"{result.memory / 1e6:.1f} MB"),
        ("counted by nftables, of the payload", f"{100 * result.counted:.1f} %"),
    ]
    if result.single:
        ones, twos = rates[: result.single], rates[result.single :]
        both = f"{sum(ones) / len(ones):.2f}, {sum(twos) / len(twos):.2f} Mbit/s"
        rows.insert(3, ("mean on one uplink, on both", both))
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name.ljust(width)}  {value}\n" for name, value in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--write", action="store_true", help="into docs/far-end.md")
    options = parser.parse_args()
    half = options.clients // 2
    for name, single, fair in (
        ("fleet", 0, False),
        ("fair fleet", 0, True),
        ("mixed fleet", half, True),
    ):
        text = table(measure(options.clients, options.seconds, single, fair))
        print(f"{name}\n{text}")
        if options.write:
            replace_block(PAGE, "sample", name, text)


if __name__ == "__main__":
    main()
