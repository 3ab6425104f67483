"""What can be wrong with an uplink whose link is up, and how health checks react.

    python -m tests.lab.outages          measures into docs/performance.md; needs root

Each trouble happens to wan1, the master, while an MPTCP connection runs over both uplinks.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tests.lab import SERVER, Daemon, Echo, Namespace, Wan, eventually, subflows
from tests.lab.marked import filled

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
NAME, RESOLVER = "probe.example", "10.9.9.9"
NOBODY = "10.9.9.77"

QUICK = {
    "interval": "0.3",
    "failure_interval": "0.1",
    "recovery_interval": "0.2",
    "timeout": "0.2",
    "down": "2",
    "up": "2",
    "hold": "0",
    "quality_window": "5",
}
"""For tests."""
PICKY = {
    "interval": "1",
    "timeout": "1",
    "check_quality": "1",
    "failure_loss": "20",
    "recovery_loss": "10",
    "failure_latency": "500",
    "recovery_latency": "200",
}


def own(options: Mapping[str, str], *hosts: str, uplink: str = "wan1") -> str:
    """A section for mproutd's file."""
    lines = [f"list track_ip '{host}'" for host in hosts or (SERVER,)]
    lines += [f"option {name} '{value}'" for name, value in options.items()]
    return f"config uplink '{uplink}'\n" + "".join(f"\t{line}\n" for line in lines)


class Trouble(NamedTuple):
    """One fault, and its repair."""

    title: str
    begin: Callable[[Wan], object]
    end: Callable[[Wan], object]
    out: bool = True
    """Whether the uplink has to go out."""
    options: Mapping[str, str] = MappingProxyType({})
    hosts: tuple[str, ...] = (SERVER,)
    prepare: Callable[[Wan], object] = lambda wan: None
    mwan3: str = ""
    """What mwan3 does with its defaults: by its script, not measured."""


def _delay(seconds: float) -> Callable[[Wan], object]:
    def change(wan: Wan) -> None:
        wan.cables[0].delay = seconds

    return change


MWAN3 = "60 to 70 s, 40 to 54 s"
TROUBLES = {
    "dead": Trouble(
        "loses everything, both ways",
        lambda wan: wan.blackhole(1),
        lambda wan: wan.repair(1),
        mwan3=MWAN3,
    ),
    "one-way": Trouble(
        "loses what comes back",
        lambda wan: wan.swallow(1),
        lambda wan: wan.spit(1),
        mwan3=MWAN3,
    ),
    "lossy": Trouble(
        "loses 40 % (`check_quality`, `failure_loss` 20)",
        lambda wan: wan.lossy(1, 40),
        lambda wan: wan.lossy(1, 0),
        options=PICKY,
        mwan3="stays in: single pings, and five in a row have to be lost",
    ),
    "slow": Trouble(
        "800 ms (`check_quality`, `failure_latency` 500)",
        _delay(0.4),
        _delay(0.0),
        options=PICKY,
        prepare=lambda wan: wan.slow(1),
        mwan3="stays in, with `check_quality` too (1000 ms)",
    ),
    "dns": Trouble(
        "nothing; but DNS is gone, and the host is a name",
        lambda wan: wan.server.run("nft", "-f", "-", input=NO_DNS),
        lambda wan: wan.server.run("nft", "delete", "table", "inet", "nodns"),
        out=False,
        hosts=(NAME,),
        mwan3="out: a name without an address counts as lost",
    ),
    "one-dead-host": Trouble(
        "nothing; but one of two hosts is dead",
        lambda wan: wan.server.ip(f"address delete {NOBODY}/32 dev lo"),
        lambda wan: wan.server.ip(f"address add {NOBODY}/32 dev lo"),
        out=False,
        hosts=(NOBODY, SERVER),
        prepare=lambda wan: wan.server.ip(f"address add {NOBODY}/32 dev lo"),
        mwan3="stays in",
    ),
}
NO_DNS = (
    "table inet nodns { chain in { type filter hook input priority 0; udp dport 53 drop; }; }\n"
)


class Measured(NamedTuple):
    """Seconds; None for what did not happen."""

    out: float | None
    back: float | None
    stall: float
    """The longest time in which the connection brought nothing, while the trouble lasted."""
    writes: int
    """Changes of the kernel, from before the trouble until after it."""


def node(name: str) -> Namespace:
    """A machine; the gateway asks our name server."""
    files = {"/etc/resolv.conf": f"nameserver {RESOLVER}\n"} if name == "gateway" else None
    return Namespace(name, files)


@contextmanager
def world(
    trouble: Trouble, options: Mapping[str, str], checked: bool = True
) -> Iterator[tuple[Wan, Daemon, Echo]]:
    """Two lines, a daemon that checks wan1, and a connection over both."""
    with Wan(lan=False, shaped=False, node=node) as wan:
        trouble.prepare(wan)
        wan.usual()
        resolver = str(Path(__file__).parents[1] / "lab" / "resolver.py")
        argv = [sys.executable, "-I", "-S", resolver, RESOLVER, NAME, SERVER]
        wan.server.popen(*argv, stdout=subprocess.DEVNULL)
        text = own({**trouble.options, **options}, *trouble.hosts) if checked else ""
        with Daemon(wan.gateway, own=text) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
            yield wan, daemon, echo


def inside(wan: Wan) -> bool:
    """Whether wan1 is in use, by the kernel's word."""
    return "10.1.1.2 " in wan.gateway.ip("mptcp endpoint show")


def until(wan: Wan, wanted: bool, patience: float) -> float | None:
    """Seconds until wan1 is in or out; None when it is not within `patience`."""
    begun = time.monotonic()
    while inside(wan) != wanted:
        if time.monotonic() - begun > patience:
            return None
        time.sleep(0.02)
    return time.monotonic() - begun


def warmed(daemon: Daemon, probes: int) -> None:
    """Wait until so many probes were answered by one host at least."""

    def answered() -> bool:
        checks = daemon.uplink("wan1")["health"]
        counts = [host["replies"] for check in checks for host in check["hosts"]]
        return max(counts, default=0) >= probes

    eventually(answered, 120, f"{probes} answers")


def measure(trouble: Trouble, options: Mapping[str, str], patience: float, stay: float) -> Measured:
    """Make the trouble, wait until the uplink is out (for up to `patience`), then `stay` seconds;
    repair it, and wait until it is back."""
    with world(trouble, options) as (wan, daemon, echo):
        warmed(daemon, int(options.get("quality_window", "10")) if trouble.options else 2)
        before = daemon.settle()["counts"]["writes"]
        echo.report()
        trouble.begin(wan)
        out = until(wan, False, patience if trouble.out else stay)
        time.sleep(stay)
        report = echo.report()
        trouble.end(wan)
        back = until(wan, True, 10 * patience) if out is not None else None
        assert report.error == "", report.error
        return Measured(out, back, report.gap, daemon.settle()["counts"]["writes"] - before)


def unchecked(trouble: Trouble, long: float) -> float:
    """The longest stall in so many seconds of the trouble where nothing is checked."""
    with world(trouble, {}, checked=False) as (wan, _, echo):
        echo.report()
        trouble.begin(wan)
        time.sleep(long)
        return echo.report().gap


class Flapping(NamedTuple):
    """An uplink that flaps."""

    outs: int
    """How often the uplink was taken out."""
    share: float
    """Of the time in which it was in use."""
    stall: float
    writes: int


def flap(options: Mapping[str, str], every: float, long: float) -> Flapping:
    """wan1 is dead and well in turn, `every` seconds each, for `long` seconds."""
    with world(TROUBLES["dead"], options) as (wan, daemon, echo):
        warmed(daemon, 2)
        before = daemon.settle()["counts"]["writes"]
        echo.report()
        begun = now = time.monotonic()
        dead, was, outs, seen, used = False, True, 0, 0, 0
        while now < begun + long:
            wanted = int((now - begun) / every) % 2 == 0
            if wanted != dead:
                (wan.blackhole if wanted else wan.repair)(1)
                dead = wanted
            here = inside(wan)
            outs += was and not here
            was, seen, used = here, seen + 1, used + here
            time.sleep(0.02)
            now = time.monotonic()
        if dead:
            wan.repair(1)
        report = echo.report()
        assert report.error == "", report.error
        writes = daemon.settle()["counts"]["writes"] - before
        return Flapping(outs, used / seen, report.gap, writes)


# -- the table ----------------------------------------------------------------------------

PROMISES = {
    "dead": "11 s, 15 s",
    "one-way": "11 s, 15 s",
    "lossy": "14 s, 14 s",
    "slow": "14 s, 14 s",
    "dns": "stays in",
    "one-dead-host": "stays in",
}
"""Out and in again at most, by the defaults; loss and latency need the window to fill."""

EAGER = {
    "interval": "0.5",
    "failure_interval": "0.2",
    "recovery_interval": "0.5",
    "timeout": "0.3",
    "down": "2",
    "up": "2",
}
"""So that an uplink that is dead for two seconds fails at all."""


def span(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"


def rows() -> Iterator[str]:
    head = "wan1 …,promised: out and in,out,in,longest stall,without checks,writes,mwan3".split(",")
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    for name, trouble in TROUBLES.items():
        checked, alone = measure(trouble, {}, 60, 10), unchecked(trouble, 20)
        yield (
            f"| {trouble.title} | {PROMISES[name]} | {span(checked.out)} | {span(checked.back)} "
            f"| {span(checked.stall)} | {span(alone)} | {checked.writes} | {trouble.mwan3} |"
        )


def flapping() -> Iterator[str]:
    yield "| options | times out | in use | longest stall | writes |"
    yield "| --- | --- | --- | --- | --- |"
    for title, options in (
        ("the defaults", {}),
        ("`interval` 0.5, `timeout` 0.3, `down` 2, `up` 2, `hold` 0", {**EAGER, "hold": "0"}),
        ("the same with the default `hold` (10 s, doubling)", EAGER),
    ):
        flaps = flap(options, 2, 60)
        yield (
            f"| {title} | {flaps.outs} | {flaps.share:.0%} | {span(flaps.stall)} | {flaps.writes} |"
        )


def main() -> int:
    for name, lines in (("troubles", rows()), ("flapping", flapping())):
        table = []
        for line in lines:
            print(line, flush=True)
            table.append(line)
        PAGE.write_text(filled(PAGE.read_text(), {name: "\n".join(table)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
