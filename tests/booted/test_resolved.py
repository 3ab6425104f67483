"""Beside systemd-resolved and systemd-networkd of Debian 13, with providers that refuse strangers.

systemd-resolved asks each link's resolver through that link, by mproutd's rules, and takes the
first good answer.  So a lost uplink costs no lookup, and mproutd need not change anything there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.lab import TWO_UPLINKS, address, eventually, router_address
from tests.lab.names import LOOKUPS, Lookup, answer, resolver
from tests.lab.names import program as dnsmasq

pytestmark = pytest.mark.booted

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping", "systemd-resolved"),
    *("+python3", "+python3-tenacity", "+python3-pyroute2", "+python3-systemd"),
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
        yield made


def status(machine: Booted) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machine.call("mproutd status --json").stdout)
    return found


class Lookups:
    """A lookup every 100 ms at systemd-resolved's stub."""

    def __init__(self, machine: Booted, script: str = "lookups") -> None:
        self._process = subprocess.Popen(
            machine.command("python3", f"/root/{script}.py", "127.0.0.53", "0.1", "5"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def stop(self) -> list[Lookup]:
        out, _ = self._process.communicate(timeout=60)
        return [Lookup(*entry) for entry in json.loads(out)]


def test_explore(machine: Booted, providers: Providers) -> None:
    import time

    machine.write("/root/nx.py", LOOKUPS.replace('b"\\\\4test', 'b"\\\\2nx\\\\4test'))
    print(machine.run("grep test /root/nx.py /root/lookups.py"))
    router = providers.wan.routers[1]
    chain = 'type filter hook prerouting priority raw; iifname "access" drop;'

    def hole() -> None:
        router.run("nft", "-f", "-", input=f"table inet hole {{ chain way {{ {chain} }}; }}")

    def whole() -> None:
        router.run("nft", "delete", "table", "inet", "hole")

    def lookups(what: str, do: Any, undo: Any) -> None:
        for script in ("lookups", "nx"):
            running = Lookups(machine, script)
            time.sleep(1)
            do()
            time.sleep(12)
            undo()
            time.sleep(6)
            done = running.stop()
            lost = [item for item in done if item.seconds is None]
            bad = [item for item in done if item.failed and item.seconds is not None]
            slow = sorted(item.seconds for item in done if item.seconds is not None)
            slow_count = sum(1 for x in slow if x > 0.2)
            print(
                "==",
                what,
                script,
                len(lost),
                "lost",
                len(bad),
                "bad of",
                len(done),
                "slow",
                slow_count,
                slow[-5:],
                [f.answer for f in bad][:5],
                flush=True,
            )

    machine.run("systemctl start mproutd")
    eventually(lambda: "7899" in machine.run("ip rule"), 30)
    lookups("hole with", hole, whole)
    hole()
    eventually(lambda: not status(machine)["uplinks"][0]["usable"], 60)
    print(
        machine.run("resolvectl default-route eth1 no 2>&1; resolvectl default-route", check=False)
    )
    whole()
    lookups("hole, default-route no", hole, whole)
    assert False
