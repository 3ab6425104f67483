"""The laboratory: worlds of network namespaces for the tests, the demo and the benchmark.

A test in five minutes:

    from tests.lab import Daemon, Wan, eventually

    def test_endpoint_goes_with_the_carrier(wan):         # fixture: both uplinks configured
        with Daemon(wan.gateway):                         # wan1 master on eth1, wan2 on on eth2
            eventually(lambda: "10.1.1.2" in wan.gateway.ip("mptcp endpoint show"))
            wan.unplug(1)
            eventually(lambda: "10.1.1.2" not in wan.gateway.ip("mptcp endpoint show"))

Fixtures (tests/conftest.py): `wan` two uplinks with addresses and default routes; `bare_wan`
the same, nothing configured at the gateway; `node` a lone machine; `nodes` makes as many as
you want.  See wan.py for the picture and for what can happen to an uplink.

Nodes:    node.ip("address add ...", ...), tc(), sysctl(), run("ping", ...), popen(), state(),
          enter() for netlink sockets of your own, path("/run/x") to read the node's files.
Cables:   veth(), bridge(), TunCable() with device names of your choice.
Traffic:  Iperf (rate over time), Echo (is it alive, how long did it stand still),
          subflows(), device_bytes(), mptcp_counters().
Watching: Capture (packets on every device), Monitor (`ip monitor route rule`),
          Daemon(verbose=True) with settle() and writes().
Seeing:   Terminal (what a program draws, and keys for it).
Netifd:   Ubus (the program that answers for it).
Sending:  advertise() sends a router advertisement.
Waiting:  eventually(condition).  Never sleep and hope.

Needs root (or `unshare -Urnm`).  Nothing touches the host's network, and whatever ends
the process, SIGKILL too, ends the world with it.
"""

from tests.lab.advertise import advertise
from tests.lab.capture import Capture, Packet
from tests.lab.daemon import CONFIG_DIR, RUNTIME_DIR, TWO_UPLINKS, Answer, Daemon
from tests.lab.echo import Echo
from tests.lab.links import TunCable, bridge, veth
from tests.lab.monitor import Monitor
from tests.lab.namespace import LabError, Namespace
from tests.lab.shared_switch import Switched
from tests.lab.terminal import Terminal
from tests.lab.traffic import (
    Iperf,
    Measured,
    Subflow,
    device_bytes,
    join_attempts,
    mptcp_counters,
    subflows,
)
from tests.lab.ubus import Ubus
from tests.lab.wait import eventually
from tests.lab.wan import LAN_HOST, SERVER, SERVER6, Wan, address, router_address

__all__ = [
    "CONFIG_DIR",
    "LAN_HOST",
    "RUNTIME_DIR",
    "SERVER",
    "SERVER6",
    "TWO_UPLINKS",
    "Answer",
    "Capture",
    "Daemon",
    "Echo",
    "Iperf",
    "LabError",
    "Measured",
    "Monitor",
    "Namespace",
    "Packet",
    "Subflow",
    "Switched",
    "Terminal",
    "TunCable",
    "Ubus",
    "Wan",
    "address",
    "advertise",
    "bridge",
    "device_bytes",
    "eventually",
    "join_attempts",
    "mptcp_counters",
    "router_address",
    "subflows",
    "veth",
]
