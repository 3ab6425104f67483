"""Beside systemd-resolved and systemd-networkd of Debian 13, with providers that refuse strangers.

systemd-resolved asks each link's resolver through that link, by mproutd's rules, and takes the
first good answer, so that a lost uplink costs no lookup.  It reports that a name does not exist
only when all links have replied: while one is dead and has a carrier, it waits, unless mproutd
may switch off the link's `default-route`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.lab import TWO_UPLINKS, Namespace, address, eventually, router_address
from tests.lab.names import LOOKUPS, PIPES, Lookup, Lookups, answer, resolver
from tests.lab.names import program as dnsmasq

pytestmark = pytest.mark.booted

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping", "systemd-resolved"),
    *("+python3", "+python3-tenacity", "+python3-pyroute2", "+python3-systemd"),
    *("+python3-jeepney", "+polkitd"),
)
NETWORK = """\
[Match]
Name=eth{n}

[Network]
Address={address}/24
DNS={resolver}
LinkLocalAddressing=no
LLMNR=no
MulticastDNS=no

[Route]
Gateway={router}
Metric={n}
"""
TEST, NX = r"\4test", r"\2nx"
"""Labels in the text of the program: names below nx.test do not exist."""
CHECK = (
    "\tlist track_ip '10.9.9.9'\n\toption interval '1'\n\toption failure_interval '0.5'\n"
    "\toption timeout '1'\n\toption hold '0'\n\toption up '1'\n"
)


@pytest.fixture
def machine(package: Path, providers: Providers) -> Iterator[Booted]:
    """Both resolvers can be reached through both uplinks, and answer their own customers only."""
    server = providers.wan.server
    server.sysctl("net.ipv4.ip_forward", 1)
    for n, router in providers.wan.routers.items():
        other = 3 - n
        server.ip(f"route add {resolver(n)} via 10.9.{n}.1")
        router.ip(
            f"address add {resolver(n)}/32 dev lo",
            f"route add {resolver(other)} via 10.9.{n}.2",
            f"route add 10.{other}.{other}.0/24 via 10.9.{n}.2",
        )

    def plug_in(network: Any) -> None:
        providers.plug_in(network)
        for n, router in providers.wan.routers.items():
            router.popen(
                *(dnsmasq(), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
                *(
                    "--no-hosts",
                    "--local-service",
                    f"--address=/test/{answer(n)}",
                    "--address=/nx.test/",
                ),
                *("--pid-file=/run/names.pid", "--log-facility=/run/names.log", "--log-queries"),
            )

    def before(root: Path) -> None:
        shutil.copy(package, root / "root" / package.name)
        for n in (1, 2):
            text = NETWORK.format(
                n=n, address=address(n), resolver=resolver(n), router=router_address(n)
            )
            (root / f"etc/systemd/network/eth{n}.network").write_text(text)
        wants = root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / "systemd-networkd.service").symlink_to(
            "/usr/lib/systemd/system/systemd-networkd.service"
        )

    with Booted(plug_in, PACKAGES, before, release="13") as made:
        made.run("apt-get install --yes /root/mproutd_*.deb")
        made.write("/etc/mproutd/network", TWO_UPLINKS)
        made.write("/etc/mproutd/mproutd", f"config uplink 'wan1'\n{CHECK}")
        made.write("/root/lookups.py", LOOKUPS)
        made.write("/root/missing.py", LOOKUPS.replace(TEST, NX + TEST))
        yield made


def status(machine: Booted) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.call("mproutd status --json").stdout)
    return found


def lookups(machine: Booted, script: str = "lookups") -> Lookups:
    """A lookup every 100 ms at systemd-resolved's stub."""
    program = machine.command("python3", f"/root/{script}.py", "127.0.0.53", "0.1", "5")
    return Lookups(subprocess.Popen(program, **PIPES))


def hole(router: Namespace) -> None:
    """Nothing arrives at the router any more, for its own resolver neither."""
    chain = 'type filter hook prerouting priority raw; iifname "access" drop;'
    router.run("nft", "-f", "-", input=f"table inet hole {{ chain way {{ {chain} }}; }}")


def open_again(router: Namespace) -> None:
    router.run("nft", "delete", "table", "inet", "hole")


def test_no_lookup_is_lost_with_an_uplink(machine: Booted, providers: Providers) -> None:
    wan = providers.wan
    machine.run("systemctl start mproutd")
    eventually(lambda: machine.run("ip rule").count("7899:") == 2, 60)
    found = [uplink["resolvers"][0] for uplink in status(machine)["uplinks"]]
    assert [(item["address"], item["origin"]) for item in found] == [
        (resolver(1), "networkd"),
        (resolver(2), "networkd"),
    ]
    listed = machine.run("su -s /bin/cat nobody /run/mproutd/resolv.conf")
    assert listed.count("nameserver") == 2
    with lookups(machine) as present, lookups(machine, "missing") as missing:
        wan.settle()
        wan.unplug(1)
        eventually(lambda: resolver(1) not in machine.run("cat /run/mproutd/resolv.conf"), 60)
        wan.settle()
        wan.plug(1)
        eventually(lambda: machine.run("ip rule").count("7899:") == 2, 60)
        done, absent = present.stop(), missing.stop()
    report("cable", done, absent)
    assert [item for item in done if item.failed] == []
    replied = [item for item in absent if item.seconds is not None]
    assert {item.answer for item in replied} == {"code 3"}
    # One may have been on its way by wan1 when the cable was pulled.
    assert len(absent) - len(replied) <= 1

    with lookups(machine) as present, lookups(machine, "missing") as missing:
        hole(wan.routers[1])
        eventually(lambda: not status(machine)["uplinks"][0]["usable"], 60)
        done, absent = present.stop(), missing.stop()
    report("black hole", done, absent)
    assert [item for item in done if item.failed] == []

    assert "jeepney is not installed" in complaint(machine)
    assert default_route(machine) == "yes"

    machine.run("apt-get install --yes python3-jeepney")
    machine.run("systemctl restart mproutd")
    eventually(lambda: "denied by polkit" in complaint(machine), 120)
    assert default_route(machine) == "yes"

    machine.run("apt-get install --yes polkitd", timeout=300)
    eventually(lambda: default_route(machine) == "no", 120)
    eventually(lambda: not status(machine)["problems"], 60)
    with lookups(machine) as present, lookups(machine, "missing") as missing:
        time.sleep(4)
        done, absent = present.stop(), missing.stop()
    report("black hole, no default route", done, absent)
    assert [item for item in done if item.failed] == []
    assert {item.answer for item in absent} == {"code 3"}

    open_again(wan.routers[1])
    eventually(lambda: default_route(machine) == "yes", 60)
    assert status(machine)["uplinks"][0]["usable"]
    assert not status(machine)["problems"]


def test_the_default_route_is_put_back(machine: Booted, providers: Providers) -> None:
    """After a kill, by a flush, and not where somebody else has set it meanwhile."""
    router = providers.wan.routers[1]
    machine.run("apt-get install --yes python3-jeepney polkitd", timeout=300)
    machine.run("systemctl start mproutd")
    eventually(lambda: status(machine)["uplinks"][0]["usable"], 60)
    hole(router)
    eventually(lambda: default_route(machine) == "no", 60)
    machine.run("systemctl kill --signal=KILL mproutd")
    open_again(router)
    eventually(lambda: default_route(machine) == "yes", 60)

    hole(router)
    eventually(lambda: default_route(machine) == "no", 60)
    machine.run("systemctl stop mproutd")
    assert default_route(machine) == "no"
    machine.run("mproutd flush")
    assert default_route(machine) == "yes"

    machine.run("systemctl start mproutd")
    eventually(lambda: default_route(machine) == "no", 60)
    machine.run("resolvectl default-route eth1 yes")
    machine.run("mproutd reconcile")
    machine.run("resolvectl default-route eth2 no")
    open_again(router)
    eventually(lambda: status(machine)["uplinks"][0]["usable"], 60)
    eventually(lambda: machine.call("test -e /run/mproutd/resolved.json").returncode, 60)
    assert default_route(machine) == "yes"
    assert default_route(machine, "eth2") == "no"


def default_route(machine: Booted, device: str = "eth1") -> str:
    return machine.run(f"resolvectl default-route {device}").split()[-1]


def complaint(machine: Booted) -> str:
    """Why systemd-resolved is not changed."""
    problems = status(machine)["problems"]
    return "".join(item["text"] for item in problems if item["code"] == "resolved-unchanged")


def report(case: str, done: list[Lookup], absent: list[Lookup]) -> None:
    """The figures of docs/names.md, for those who run it with -s."""
    for name, listed in (("names", done), ("missing names", absent)):
        times = [item.seconds for item in listed if item.seconds is not None]
        print(f"{case}: {name}: {len(times)} of {len(listed)}, slowest {max(times):.3f} s")
