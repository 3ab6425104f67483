"""An uplink comes up: from the last thing that was missing to table, rules and endpoint.

The clock starts just before the kernel gets the change and ends when a look at the path
manager shows the endpoint, which mproutd and the script both add last; then table and rules
have to be there.  The contenders have a network each and take turns.
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
"""Of the uplink that comes up, wan2."""
WAYS = {"address": "the address", "route": "the default route"}

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
ip route add default via 10.2.2.1 dev eth2 src $1 table 7002 protocol 77
ip rule add fwmark 0x2000000/0x7f000000 lookup 7002 priority 7102 protocol 77
ip mptcp endpoint add $1 dev eth2 subflow
""",
}
"""The classic if-up script, with what mproutd does for the same event and no more."""

UNDO = """\
#!/bin/sh
ip rule delete priority 7102
ip rule delete priority 7302
ip rule delete priority 7502
ip route flush table 7002
exit 0
"""


class Contender:
    """A network, and who keeps it.  `way` says what the last missing thing is."""

    def __init__(self, site: Site, way: str = "address") -> None:
        self.site, self.way = site, way
        self.host = 2

    @property
    def own(self) -> str:
        return f"10.2.2.{self.host}"

    def prepare(self) -> None:
        """Everything but the last thing."""
        if self.way == "route":
            # An address that mproutd has not seen: of another it remembers the gateway.
            self.host = self.host % 250 + 1
            self.site.do(self.site.address(True, 2, self.host))
            self.prepared()
        time.sleep(0.02)

    def prepared(self) -> None:
        """What the contender has to have done by now."""
        self.site.settle(lambda: len(self.site.rules(TABLE)) == 2, "rules of the address")

    @property
    def last(self) -> Encode:
        if self.way == "route":
            return self.site.default_route(True, 2)
        return self.site.address(True, 2, self.host)

    def come_up(self) -> float:
        """Seconds from the last missing thing to the endpoint."""
        own = self.own
        began = time.perf_counter()
        self.site.do(self.last)
        self.react()
        took = until(lambda: self.site.endpoint(own), began, f"endpoint {own}")
        self.check()
        return took

    def react(self) -> None:
        """What has to be started by hand, for who does not see the event himself."""

    def check(self) -> None:
        """LabError unless table and rules are there as well."""
        routes, rules = self.site.routes(TABLE), self.site.rules(TABLE)
        if len(routes) != 2 or len(rules) != 3:
            raise LabError(f"endpoint without its table and rules: {routes} {rules}")

    def go_down(self) -> None:
        """Take the uplink away again, and wait until nothing of it is left."""
        if self.way == "route":
            self.site.do(self.site.default_route(False, 2))
        self.site.do(self.site.address(False, 2, self.host))
        self.clear()

    def clear(self) -> None:
        self.site.settle(self.gone, f"{self.own} cleared away")

    def gone(self) -> bool:
        """Whether nothing of the uplink is left."""
        site = self.site
        return not (site.endpoint(self.own) or site.rules(TABLE) or site.routes(TABLE))


class Script(Contender):
    """The classic script, started the moment the change is made."""

    def __init__(self, site: Site, way: str = "address") -> None:
        super().__init__(site, way)
        self.path = str(site.gateway.path("/run/if-up"))
        Path(self.path).write_text(SCRIPT[way])
        self.undo = str(site.gateway.path("/run/if-down"))
        Path(self.undo).write_text(UNDO)

    def prepared(self) -> None:
        self.site.gateway.ip(
            f"route add 10.2.2.0/24 dev eth2 scope link src {self.own} table 7002 protocol 77",
            "rule add oif eth2 lookup 7002 priority 7302 protocol 77",
            f"rule add from {self.own} lookup 7002 priority 7502 protocol 77",
        )

    def come_up(self) -> float:
        with self.site.gateway.enter():
            took = super().come_up()
            os.waitpid(self.pid, 0)
        return took

    def react(self) -> None:
        self.pid = start("sh", self.path, self.own)

    def clear(self) -> None:
        self.site.remove_endpoint(self.own)
        with self.site.gateway.enter():
            os.waitpid(start("sh", self.undo), 0)
        super().clear()


class Mptcpd(Contender):
    """Debian's mptcpd, which adds the endpoint only."""

    def check(self) -> None:
        pass

    def clear(self) -> None:
        time.sleep(0.02)
        self.site.remove_endpoint(self.own)  # where it has not done so itself


def start_mptcpd(site: Site) -> subprocess.Popen[bytes]:
    """Run it in the gateway until the endpoint of wan1 is there."""
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
    """A gateway with wan1 up, and the others too but wan2."""
    site = scope.enter_context(Site(uplinks, other=1))
    site.do(*(site.address(True, n) for n in range(1, uplinks + 1) if n != 2))
    site.do(*(site.default_route(True, n) for n in range(1, uplinks + 1) if n != 2))
    if foreign:
        site.fill_main(foreign)
    return site


def daemon(scope: ExitStack, way: str = "address", uplinks: int = 2, foreign: int = 0) -> Contender:
    """mproutd at work; where the address comes last, the gateways are configured."""
    site = network(scope, uplinks, foreign)
    modes = ["master", "on"] + ["off"] * (uplinks - 2)
    scope.enter_context(site.daemon(modes, gateways=way == "address"))
    site.settle(lambda: site.endpoint("10.1.1.2"), "mproutd's endpoint of wan1")
    return Contender(site, way)


def script(scope: ExitStack, way: str = "address") -> Contender:
    """The same state of the kernel to begin with, and nobody at work."""
    site = network(scope)
    made = site.daemon(["master", "on"], gateways=way == "address")
    made.reconcile()
    return Script(site, way)


def mptcpd(scope: ExitStack) -> Contender:
    site = network(scope)
    start_mptcpd(site)
    return Mptcpd(site)


def rotate(contenders: Sequence[Contender], runs: int = RUNS) -> list[list[float]]:
    """The times of each, taken in turn; the first ones, when caches are cold, are dropped."""
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(WARM + runs):
        for place, contender in enumerate(contenders):
            contender.prepare()
            took = contender.come_up()
            contender.go_down()
            if turn >= WARM:
                times[place].append(took)
    return times


def same_objects(one: Contender, other: Contender) -> None:
    """LabError unless both have the kernel in the same state when the uplink is up."""
    states = []
    for contender in (one, other):
        contender.prepare()
        contender.come_up()
        time.sleep(0.05)
        states.append(set(contender.site.gateway.state().splitlines()))
        contender.go_down()
    if states[0] != states[1]:
        difference = "\n".join(sorted(states[0] ^ states[1]))
        raise LabError(f"not the same objects:\n{difference}")


def up(say: Callable[[str], None]) -> Iterable[Figure]:
    """mproutd, the script and mptcpd."""
    for way, text in WAYS.items():
        with ExitStack() as scope:
            contenders = [daemon(scope, way), script(scope, way)]
            same_objects(*contenders)
            if way == "address":
                contenders.append(mptcpd(scope))
            say(f"up, last comes {text}: {RUNS} times {len(contenders)}")
            ours, theirs, *more = rotate(contenders)
        what = f"{text} arrives → table, rules and endpoint are there, two uplinks"
        yield Figure(f"up-{way}", what, ours, "ms", "if-up script", theirs, 0.3, 0.1)
        if more:
            yield Figure(
                "up-mptcpd", "the same", ours, "ms", "mptcpd, endpoint only", more[0], 5, 2
            )


def beside(
    name: str,
    text: str,
    most: float,
    aim: float,
    uplinks: int = 2,
    foreign: int = 0,
    note: str = "",
) -> Callable[[Callable[[str], None]], Iterable[Figure]]:
    """The same in a larger world, against itself in the small one."""

    def measure(say: Callable[[str], None]) -> Iterable[Figure]:
        with ExitStack() as scope:
            say(f"{name}: building")
            contenders = [daemon(scope, uplinks=uplinks, foreign=foreign), daemon(scope)]
            say(f"{name}: {RUNS} times 2")
            ours, theirs = rotate(contenders)
        yield Figure(name, text, ours, "ms", "itself without", theirs, most, aim, note)

    return measure


main = beside("main", "the same with 1,000,000 foreign routes in main", 1.2, 1.05, foreign=1000000)
many = beside(
    "many",
    "the same with 32 other uplinks",
    1.5,
    1.2,
    uplinks=34,
    note="the 32 are off (tables and rules, no endpoint), so that the kernel's cap has room",
)
