"""What many policies cost: 500 rules and 50 policies against 5 rules and one policy.

The rules are read, written to nftables and, on a connection's first packets, compared; the rest of
a connection follows its mark.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from bench.burst import resident
from bench.figure import Figure
from bench.forward import FLOWS, PER_FLOW, RUNS, WARM, Router, forget_connections
from bench.site import configuration
from mproutd.configuration.config import Config
from mproutd.configuration.uci import load
from mproutd.firewall.ruleset import make_table
from mproutd.netlink.nft_values import Table
from mproutd.netlink.nftables import transaction
from mproutd.planning.numbering import assign_numbers, assign_policy_numbers
from tests.lab import Daemon
from tests.lab.daemon import CONFIG_DIR

MANY, FEW = (500, 50), (5, 1)
"""Rules and policies."""
LOADS = 15


def rules(count: int, policies: int) -> str:
    """The last of the rules matches what the sender sends."""
    text = "config member 'm'\n option interface 'wan1'\n"
    for n in range(policies):
        text += f"config policy 'p{n}'\n list use_member 'm'\n option last_resort 'default'\n"
    for n in range(count):
        source = "192.168.70.0/24" if n == count - 1 else f"10.{100 + n // 250}.{n % 250}.0/24"
        text += f"config rule 'r{n}'\n option src_ip '{source}'\n option proto 'udp'\n"
        text += f" option use_policy 'p{n % policies}'\n"
    return text


class _Rig(Router):
    """The router of forward, with a table for each number of rules."""

    def __init__(self, scope: ExitStack) -> None:
        super().__init__(scope, 2)
        network, own = configuration(["master", "on"])
        self.configs: list[Config] = []
        self.memory: list[float] = []
        self.directory = Path(self.gateway.path(CONFIG_DIR))
        for size in (FEW, MANY):
            with Daemon(self.gateway, network, own + rules(*size)) as daemon:
                daemon.settle(30)
                assert daemon.process
                self.memory.append(resident(daemon.process.pid))
            self.configs.append(load(str(self.directory)))

    def table(self, config: Config) -> Table:
        numbers = assign_numbers(config, {})
        return make_table(config, config.uplinks, numbers, (), assign_policy_numbers(config, {}))

    def use(self, table: Table) -> None:
        failed = self._nftables.transaction(transaction(table))
        if failed:
            raise OSError(failed)

    def forget(self) -> None:
        forget_connections(self._nftables, socket.AF_INET)

    def load(self, size: tuple[int, int]) -> float:
        """Seconds to read the files and write the table."""
        own = configuration(["master", "on"])[1] + rules(*size)
        (self.directory / "mproutd").write_text(own)
        began = time.perf_counter()
        self.use(self.table(load(str(self.directory))))
        return time.perf_counter() - began


def policies(log: Callable[[str], None]) -> Iterable[Figure]:
    with ExitStack() as scope:
        rig = _Rig(scope)
        log(f"policies: {RUNS} runs of 2, and {LOADS} loads of 2")
        tables = [rig.table(config) for config in rig.configs]
        times: tuple[list[float], list[float]] = ([], [])
        opened: tuple[list[float], list[float]] = ([], [])
        for turn in range(WARM + RUNS):
            for index in (1, 0):
                rig.use(tables[index])
                rig.forget()
                first = rig.sender.run(1)
                took = rig.sender.run()
                if turn >= WARM:
                    opened[index].append(first / FLOWS)
                    times[index].append(took / (FLOWS * PER_FLOW))
        loads = [(rig.load(MANY), rig.load(FEW)) for _ in range(LOADS)]
    size = f"{MANY[0]} rules and {MANY[1]} policies"
    few = f"the same with {FEW[0]} rules"
    yield Figure(
        "policies",
        f"processor time to forward a packet of a known connection, {size}",
        times[1],
        "µs",
        few,
        times[0],
        1.1,
        1.05,
        f"{RUNS} runs of {FLOWS * PER_FLOW:,} packets",
    )
    yield Figure(
        "policies",
        f"processor time to forward the first packet of a connection, {size}",
        opened[1],
        "µs",
        few,
        opened[0],
        note="UDP, masqueraded; the last of the rules matches, so that all are compared",
    )
    many, small = zip(*loads, strict=True)
    what = f"time to read {size} and write the nftables table"
    yield Figure("policies", what, many, "ms", few, small, note=f"{LOADS} runs")
    what = f"resident memory of the daemon, {size}"
    yield Figure("policies", what, rig.memory[1:], "MB", few, rig.memory[:1])
