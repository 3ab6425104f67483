"""The gateway that chaos happens to, and what is known about it beside the kernel.

Known here is what a clean start could not see in the kernel: what is somebody else's, and what
the limits and settings would be without us.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable

from mproutd.hints import Hints
from mproutd.model import Limits
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.planning.state import State, decode
from mproutd.planning.uplinks import Facts
from tests.chaos.configurations import Written, drawn, usual
from tests.lab import RUNTIME_DIR, SERVER, SERVER6, Echo, Wan, address, router_address
from tests.lab.crashing import Mortal
from tests.lab.resources import Closing

UPLINKS = (1, 2, 3)
FOREIGN = (
    "-4 route add 203.0.113.0/24 dev br-lan proto 77",
    "-4 route add 198.51.100.0/24 dev br-lan table 7001 proto 4",
    "-4 route add 192.0.2.0/24 dev br-lan table 8999 proto 77",
    "-6 route add 2001:db8:77::/64 dev br-lan table 7002 proto 4",
    "-4 rule add from 10.1.1.200 lookup 7001 priority 7501",
    "-4 rule add from 10.1.1.200 lookup 7001 priority 8900 protocol 77",
    "-4 rule add from all lookup main suppress_prefixlength 7 priority 7010 protocol 4",
    "-4 rule add from 10.8.8.8 ipproto tcp lookup 7001 priority 7501 protocol 77",
    "-6 rule add from 2001:db8:3::200 lookup 7003 priority 7503 protocol 3",
)
"""Objects of other programs that resemble ours; each command names its family."""
ENDPOINTS = ("192.0.2.77 dev br-lan signal", "192.168.70.1 port 5000 signal")


class Site(Closing):
    """A gateway with three uplinks, mproutd on it, and two connections over it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.wan = Wan(len(UPLINKS), shaped=False)
        self.gateway = self.wan.gateway
        self.journal: list[str] = []
        """What was done in this round."""
        self.silent = False
        """Something was changed that no event tells of."""
        self.frozen = False
        self.waiting: list[subprocess.Popen[bytes]] = []
        """Commands under way beside the daemon."""
        self.misrouted: set[int] = set()
        """Uplinks with somebody else's rule before ours."""
        self.looks = 0
        """At the status, so far."""
        self.kept: set[str] = set()
        """Addresses whose endpoint stays although there is to be none, for connections."""
        self.mesh = False
        """Whether there are rules like Tailscale's."""
        self.shared: set[int] = set()
        """Uplinks that may have an address in another one's subnet."""
        self.limits = Limits(2, 0)
        self.filters: dict[int, int] = {}
        """rp_filter by ifindex, as somebody else set it; 1 for any other device."""
        self.taken: set[str] = set()
        """Our addresses with somebody else's endpoint, not bound to a device."""
        self.echoes: list[Echo] = []
        self.anchor = dice.choice(UPLINKS)
        self.disk = self.in_use = usual(self.anchor)
        self.unread = False
        """The configuration on disk may not be the one in use."""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.gateway.sysctl("net.ipv4.conf.default.rp_filter", 1)
        # As systemd has it: else a second address of the anchor may take the first one along.
        self.gateway.sysctl("net.ipv4.conf.all.promote_secondaries", 1)
        for n in UPLINKS:
            self.gateway.sysctl(f"net.ipv4.conf.eth{n}.rp_filter", 1)
        self.gateway.ip("link set lo up")
        self.add_foreign(FOREIGN)
        self.gateway.ip(*(f"mptcp endpoint add {endpoint}" for endpoint in ENDPOINTS))
        lines = self.gateway.state().splitlines()
        self.admins_own = {
            line for line in lines if " dev eth" not in line and " limits " not in line
        }
        """Everything that has to be there at any time, since it is no concern of ours."""
        self.wan.usual()
        with self.gateway.enter():
            self.kernel = NetlinkKernel()
            self.kernel.lists_connections()  # opens its socket for that here
        self.daemon = Mortal(self.gateway, self.disk.network, self.disk.own)
        self.daemon.start()
        self.daemon.settle()
        self.echoes = [self.connect(SERVER), self.connect(SERVER6)]

    def connect(self, server: str) -> Echo:
        """A connection to the server, ten messages a second."""
        return Echo(self.gateway, self.wan.server, server, every=0.1)

    # -- doing ----------------------------------------------------------------------------

    def ip(self, *commands: str, family: int = 0) -> None:
        """Run every command, whatever fails: an object may be missing or exist already."""
        argv = ["ip", *([f"-{family}"] if family else []), "-force", "-batch", "-"]
        with self.gateway.enter():
            subprocess.run(argv, input="\n".join(commands) + "\n", text=True, capture_output=True)

    def add_foreign(self, commands: Iterable[str]) -> None:
        """Add these objects of other programs where they are missing."""
        by_family: dict[int, list[str]] = {4: [], 6: []}
        for command in commands:
            by_family[int(command[1])].append(command[3:])
        for family, own in by_family.items():
            self.ip(*own, family=family)

    def victim(self) -> int:
        """An uplink that may lose everything."""
        return self.dice.choice([n for n in UPLINKS if n != self.anchor])

    def any_uplink(self) -> int:
        return self.dice.choice(UPLINKS)

    def has(self, n: int) -> bool:
        return f"eth{n}" in self.devices().values()

    def devices(self) -> dict[int, str]:
        """ifindex → name."""
        with self.gateway.enter():
            links = json.loads(
                subprocess.run(
                    ["ip", "-j", "link", "show"], capture_output=True, text=True, check=True
                ).stdout
            )
        return {link["ifindex"]: link["ifname"] for link in links}

    def make_whole(self, n: int) -> None:
        """Give an uplink everything that it needs to work, and no rule that misroutes it."""
        if not self.has(n):
            self.wan.create_device(n, shaped=False)
        self.misrouted.discard(n)
        self.shared.discard(n)
        self.ip(
            f"rule delete from {address(n)} priority 500",
            f"link set eth{n} up",
            *(f"address delete 10.{other}.{other}.9{n}/24 dev eth{n}" for other in UPLINKS),
        )
        self.wan.plug(n)
        self.wan.address_up(n)
        # An address may be there that came without one.
        self.ip(
            f"route replace 10.{n}.{n}.0/24 dev eth{n} src {address(n)} proto kernel scope link"
        )
        self.wan.default_route(n)

    def may_be_misrouted(self) -> bool:
        """Whether an uplink looks usable and may not be."""
        return bool(self.misrouted or self.shared)

    def anchor_waits(self) -> bool:
        """Whether the anchor is, or may be by now, a handover uplink."""
        section = f"option device 'eth{self.anchor}'\n\toption multipath 'handover'"
        return section in self.disk.network + self.in_use.network

    def draw(self) -> Written:
        """A good configuration with which the anchor carries whenever no other uplink can."""
        return drawn(self.dice, self.anchor, reserve=not self.may_be_misrouted())

    def write(self, written: Written) -> None:
        """Another configuration on disk."""
        self.daemon.configure(written.network, written.own)
        self.disk, self.unread = written, self.unread or written.good

    # -- knowing --------------------------------------------------------------------------

    def state(self) -> State:
        """What mproutd has on file."""
        text = self.gateway.path(f"{RUNTIME_DIR}/state.json").read_text()
        return decode(json.loads(text))

    def history(self) -> State:
        """What a clean start could not know, and has no influence but by name: each uplink's
        slot, and the gateways seen.  AssertionError for a wrong gateway."""
        state = self.state()
        for (device, own), gateway in state.gateways.items():
            right = router_address(int(device[3:]), 6 if ":" in own else 4)
            assert gateway == right, f"{device} {own}: remembered {gateway}"
        assert len(set(state.slots.values())) == len(state.slots), state.slots
        return State(slots=state.slots, gateways=state.gateways, attributes=state.attributes)

    def facts(self) -> Facts:
        """What hooks left."""
        hints = Hints(str(self.gateway.path(RUNTIME_DIR)))
        return Facts(hints.read(f"eth{n}" for n in UPLINKS))

    def close(self) -> None:
        for echo in self.echoes:
            echo.close()
        for process in self.waiting:
            process.kill()
            process.wait()
        if hasattr(self, "daemon"):
            if self.daemon.alive:
                self.daemon.kill9()
            self.daemon.close()
        if hasattr(self, "kernel"):
            self.kernel.close()
        self.wan.close()
