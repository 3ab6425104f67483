"""An uplink comes up: from the last prerequisite to table, rules and endpoint.

The clock starts just before the kernel receives the change and stops when polling the path
manager shows the endpoint, which mproutd and the script both add last; by then table and
rules must be in place.  Every contender has its own network, and they take turns.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.figure import Figure
from bench.site import Site, start, until
from mproutd.netlink.sockets import Encode
from tests.lab import LabError

RUNS, WARM = 40, 3
TREE = Path(__file__).resolve().parent.parent / ".build/unpacked"
TABLE = 7002
"""The table of wan2, the uplink that comes up."""
TRIGGERS = {"address": "address", "route": "default route"}
"""What the uplink was waiting for."""

SCRIPT = {
    "address": """\
#!/bin/sh
ip route add 10.2.2.0/24 dev eth2 scope link src $1 table 7002 protocol 77
ip route add default via 10.2.2.1 dev eth2 src $1 table 7002 protocol 77
ip rule add fwmark 0x2000000/0x7f000000 lookup 7002 priority 7102 protocol 77
ip rule add oif eth2 lookup 7002 priority 7302 protocol 77
ip rule add from $1 lookup 7002 priority 7502 protocol 77
ip mptcp endpoint add $1 dev eth2 subflow
""",
    "route": """\
#!/bin/sh
ip route add default via 10.2.2.1 dev eth2 table 7002 protocol 77
ip rule add fwmark 0x2000000/0x7f000000 lookup 7002 priority 7102 protocol 77
ip mptcp endpoint add $1 dev eth2 subflow
""",
}
"""The classic if-up script, reduced to what mproutd does for the same event."""

UNDO = """\
#!/bin/sh
ip rule delete priority 7102
ip rule delete priority 7302
ip rule delete priority 7502
ip route flush table 7002
exit 0
"""


class Contender:
    """A network and the program that configures it.  `trigger`: a key of TRIGGERS."""

    def __init__(self, site: Site, trigger: str = "address") -> None:
        self.site, self.trigger = site, trigger
        self.host = 2

    @property
    def address(self) -> str:
        return f"10.2.2.{self.host}"

    def prepare(self) -> None:
        """Bring the uplink up except for the trigger."""
        if self.trigger == "route":
            # A new address each time, since mproutd remembers the gateway of a known one.
            self.host = self.host % 250 + 1
            self.site.do(self.site.address(True, 2, self.host))
            self.prepared()
        time.sleep(0.02)

    def prepared(self) -> None:
        """Wait for, or do, what the contender does before the trigger."""
        self.site.settle(lambda: len(self.site.rules(TABLE)) == 2, "rules of the address")

    @property
    def change(self) -> Encode:
        """The request that brings the uplink up."""
        if self.trigger == "route":
            return self.site.default_route(True, 2)
        return self.site.address(True, 2, self.host)

    def come_up(self) -> float:
        """Seconds from the trigger to the endpoint."""
        address = self.address
        began = time.perf_counter()
        self.site.do(self.change)
        self.react()
        took = until(lambda: self.site.endpoint(address), began, f"endpoint {address}")
        self.check()
        return took

    def react(self) -> None:
        """Start what does not see the event itself."""

    def check(self) -> None:
        """Raise LabError unless table and rules are in place."""
        routes, rules = self.site.routes(TABLE), self.site.rules(TABLE)
        if len(routes) != 2 or len(rules) != 3:
            raise LabError(f"endpoint without its table and rules: {routes} {rules}")

    def go_down(self) -> None:
        """Take the uplink down and wait until its configuration is gone."""
        if self.trigger == "route":
            self.site.do(self.site.default_route(False, 2))
        self.site.do(self.site.address(False, 2, self.host))
        self.clear()

    def clear(self) -> None:
        self.site.settle(self.gone, f"{self.address} removed")

    def gone(self) -> bool:
        """Whether table, rules and endpoint are gone."""
        site = self.site
        return not (site.endpoint(self.address) or site.rules(TABLE) or site.routes(TABLE))


class Script(Contender):
    """The classic script, started at the moment of the change."""

    def __init__(self, site: Site, trigger: str = "address") -> None:
        super().__init__(site, trigger)
        self.path = str(site.gateway.path("/run/if-up"))
        Path(self.path).write_text(SCRIPT[trigger])
        self.undo = str(site.gateway.path("/run/if-down"))
        Path(self.undo).write_text(UNDO)

    def prepared(self) -> None:
        self.site.gateway.ip(
            f"route add 10.2.2.0/24 dev eth2 scope link src {self.address} table 7002 protocol 77",
            "rule add oif eth2 lookup 7002 priority 7302 protocol 77",
            f"rule add from {self.address} lookup 7002 priority 7502 protocol 77",
        )

    def come_up(self) -> float:
        with self.site.gateway.enter():
            took = super().come_up()
            os.waitpid(self.pid, 0)
        return took

    def react(self) -> None:
        self.pid = start("sh", self.path, self.address)

    def clear(self) -> None:
        self.site.remove_endpoint(self.address)
        with self.site.gateway.enter():
            os.waitpid(start("sh", self.undo), 0)
        super().clear()


class Mptcpd(Contender):
    """Debian's mptcpd, which only adds the endpoint."""

    def check(self) -> None:
        pass

    def clear(self) -> None:
        time.sleep(0.02)
        self.site.remove_endpoint(self.address)  # unless mptcpd already did


def start_mptcpd(site: Site) -> subprocess.Popen[bytes]:
    """Start it in the gateway and wait for the endpoint of wan1."""
    libraries = next(TREE.glob("usr/lib/*-linux-gnu"), None)
    if libraries is None:
        raise LabError("mptcpd is not in .build/unpacked: packaging/setup.sh unpack")
    child: subprocess.Popen[bytes] = site.gateway.popen(
        str(TREE / "usr/libexec/mptcpd"),
        f"--plugin-dir={libraries}/mptcpd",
        "--path-manager=addr_adv",
        "--addr-flags=subflow",
        "--notify-flags=existing,skip_link_local,skip_loopback",
        "--log=null",
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    site.settle(lambda: site.endpoint("10.1.1.2"), "mptcpd's endpoint of wan1", rest=0.1)
    return child


def network(scope: ExitStack, uplinks: int = 2, foreign: int = 0) -> Site:
    """A gateway with every uplink up except wan2."""
    site = scope.enter_context(Site(uplinks, other=1))
    site.do(*(site.address(True, n) for n in range(1, uplinks + 1) if n != 2))
    site.do(*(site.default_route(True, n) for n in range(1, uplinks + 1) if n != 2))
    if foreign:
        site.fill_main(foreign)
    return site


def daemon(
    scope: ExitStack, trigger: str = "address", uplinks: int = 2, foreign: int = 0
) -> Contender:
    """A running mproutd; if the trigger is the address, the gateways are configured."""
    site = network(scope, uplinks, foreign)
    modes = ["master", "on"] + ["off"] * (uplinks - 2)
    scope.enter_context(site.daemon(modes, gateways=trigger == "address"))
    site.settle(lambda: site.endpoint("10.1.1.2"), "mproutd's endpoint of wan1")
    return Contender(site, trigger)


def script(scope: ExitStack, trigger: str = "address") -> Contender:
    """The same initial kernel state, without a daemon."""
    site = network(scope)
    daemon = site.daemon(["master", "on"], gateways=trigger == "address")
    daemon.reconcile()
    return Script(site, trigger)


def mptcpd(scope: ExitStack) -> Contender:
    site = network(scope)
    start_mptcpd(site)
    return Mptcpd(site)


def rotate(contenders: Sequence[Contender], runs: int = RUNS) -> list[list[float]]:
    """Seconds of every contender, taken in turns; the first WARM runs are dropped."""
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(WARM + runs):
        for index, contender in enumerate(contenders):
            contender.prepare()
            took = contender.come_up()
            contender.go_down()
            if turn >= WARM:
                times[index].append(took)
    return times


def same_objects(one: Contender, other: Contender) -> None:
    """Raise LabError unless both lead to the same kernel state."""
    states = []
    for contender in (one, other):
        contender.prepare()
        contender.come_up()
        time.sleep(0.05)
        states.append(set(contender.site.gateway.state().splitlines()))
        contender.go_down()
    if states[0] != states[1]:
        difference = "\n".join(sorted(states[0] ^ states[1]))
        raise LabError(f"the kernel states differ:\n{difference}")


def up(log: Callable[[str], None]) -> Iterable[Figure]:
    """mproutd, the script and mptcpd."""
    for trigger, text in TRIGGERS.items():
        with ExitStack() as scope:
            contenders = [daemon(scope, trigger), script(scope, trigger)]
            same_objects(*contenders)
            if trigger == "address":
                contenders.append(mptcpd(scope))
            log(f"up ({text}): {RUNS} runs of {len(contenders)} contenders")
            ours, theirs, *more = rotate(contenders)
        what = f"{text} added → table, rules and endpoint in place, two uplinks"
        yield Figure(f"up-{trigger}", what, ours, "ms", "if-up script", theirs, 0.3, 0.1)
        if more:
            yield Figure(
                "up-mptcpd", "the same", ours, "ms", "mptcpd, endpoint only", more[0], 5, 2
            )


def against_itself(
    name: str,
    text: str,
    limit: float,
    goal: float,
    uplinks: int = 2,
    foreign: int = 0,
    note: str = "",
) -> Callable[[Callable[[str], None]], Iterable[Figure]]:
    """An address added on a larger system, compared with the small one."""

    def measure(log: Callable[[str], None]) -> Iterable[Figure]:
        with ExitStack() as scope:
            log(f"{name}: setting up")
            contenders = [daemon(scope, uplinks=uplinks, foreign=foreign), daemon(scope)]
            log(f"{name}: {RUNS} runs of 2")
            ours, theirs = rotate(contenders)
        yield Figure(name, text, ours, "ms", "mproutd without them", theirs, limit, goal, note)

    return measure


main = against_itself(
    "main", "address added, with 1,000,000 other routes in main", 1.2, 1.05, foreign=1_000_000
)
many = against_itself(
    "many",
    "address added, with 32 more uplinks",
    1.5,
    1.2,
    uplinks=34,
    note="the 32 have mode off (tables and rules, no endpoint), to stay below the endpoint limit",
)
