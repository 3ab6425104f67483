"""What the exporter prints for real daemons, from one state of a gateway to the next.

A story is the output of one daemon in the order of time, so that its counters only rise.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.lab import SERVER, TWO_UPLINKS, Daemon, Wan, eventually
from tests.lab.outages import QUICK
from tests.lab.wan import address

NETWORK = (
    TWO_UPLINKS
    + """
config interface 'lte'
	option device 'eth3'
	option multipath 'backup'
"""
)
CHECK = f"\tlist track_ip '{SERVER}'\n" + "".join(
    f"\toption {name} '{value}'\n" for name, value in QUICK.items()
)
OWN = f"""\
config uplink 'wan1'
{CHECK}
config uplink 'wan2'
{CHECK}
config uplink 'lte'
	option quota '1G'

config member 'first'
	option interface 'wan2'

config policy 'voice'
	list use_member 'first'

config rule 'calls'
	option use_policy 'voice'
	option dest_port '5060'
	option proto 'udp'
"""
"""Three uplinks, two health checks, a quota and a policy."""
PATIENCE = 60


class Recorder:
    """Collects the metrics of a daemon once they contain something."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.texts: list[str] = []

    def until(self, *patterns: str) -> None:
        """Record the first output that contains all patterns.  AssertionError after a minute."""

        def reached() -> bool:
            self.texts.append(self._daemon.call("metrics").out)
            if all(re.search(pattern, self.texts[-1], re.MULTILINE) for pattern in patterns):
                return True
            self.texts.pop()
            return False

        eventually(reached, PATIENCE, " and ".join(patterns))


def shows(daemon: Daemon, pattern: re.Pattern[str]) -> bool:
    return pattern.search(daemon.call("metrics").out) is not None


def usable(uplink: str, value: int) -> str:
    return rf'^mproutd_uplink_usable{{family="ipv4",uplink="{uplink}"}} {value}'


def healthy_then_broken(wan: Wan, daemon: Daemon) -> Iterator[str]:
    """Every state that an alert or a panel is about, and the daemon's end."""
    record = Recorder(daemon)
    healthy = [usable(uplink, 1) for uplink in ("wan1", "wan2", "lte")]
    record.until(*healthy, "^mproutd_degraded 0", "latency_seconds{")
    for _ in range(5):
        wan.unplug(2)
        record.until(usable("wan2", 0), "no-carrier")
        wan.plug(2)
        record.until(*healthy)
    wan.blackhole(1)
    record.until(usable("wan1", 0), "check-failed")
    wan.unplug(2)
    wan.unplug(3)
    record.until(*(usable(uplink, 0) for uplink in ("wan2", "lte")))
    wan.plug(2)
    wan.plug(3)
    wan.repair(1)
    record.until(*healthy)
    rule = f"priority 100 from {address(2)} lookup 1000"
    wan.gateway.ip(
        f"route add default via {address(1).rsplit('.', 1)[0]}.1 dev eth1 table 1000",
        f"rule add {rule}",
    )
    record.until('problems{code="misrouted"} 1|problems{code="foreign-rule"} 1')
    wan.gateway.ip(f"rule delete {rule}")
    own_rule = next(
        line.split(":", 1)
        for line in wan.gateway.ip("rule show").splitlines()
        if f"from {address(2)} " in line
    )
    for count in range(1, 13):
        wan.gateway.ip(f"rule delete priority {own_rule[0]}")
        restored = re.compile(rf"^mproutd_restores_total {count}\.", re.MULTILINE)
        eventually(partial(shows, daemon, restored), PATIENCE)
    record.until("^mproutd_restores_total 12")
    assert daemon.call("quota", "lte", "--set", "950M").code == 0
    record.until(r"quota_used_bytes.* 9\.5\d*e\+08", "quota_reached.* 0")
    assert daemon.call("quota", "lte", "--set", "1001M").code == 0
    record.until("quota_reached.* 1")
    daemon.stop()
    record.until("^mproutd_up 0")
    yield from record.texts


def refused(wan: Wan, daemon: Daemon) -> Iterator[str]:
    """Another program uses a table of ours, so that the kernel refuses a route again and again."""
    daemon.stop()
    daemon.call("flush")
    wan.gateway.ip("route add default via 10.1.1.254 dev eth1 table 7001 proto static")
    daemon.start()
    record = Recorder(daemon)
    record.until('problems{code="operation-failed"} 1')
    for _ in range(4):
        time.sleep(1)
        record.until('problems{code="operation-failed"} 1')
    yield from record.texts


def recorded(story: Callable[[Wan, Daemon], Iterator[str]]) -> list[str]:
    """A story in a laboratory of its own."""
    with (
        Wan(uplinks=3, lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, NETWORK, OWN) as daemon,
    ):
        daemon.settle()
        return list(story(wan, daemon))
