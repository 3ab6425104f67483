"""Beside systemd-networkd, NetworkManager and mptcpd, each as Debian has and sets it.

The files and commands are those of docs/beside.md, and docs/performance.md gets the figures.  What
each of the others does, and what it costs, is counted under a connection that uses both uplinks.
`make booted DEBIAN=13` runs the same beside those of Debian 13.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.booted.providers import lease
from tests.booted.system import RELEASE
from tests.lab import SERVER, TWO_UPLINKS, Echo, eventually, subflows
from tests.networks.guide import Guide

pytestmark = pytest.mark.booted

PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping"),
    *("python3", "python3-tenacity", "python3-pyroute2", "python3-systemd", "adduser"),
    *("network-manager", "mptcpd", "mptcpd-plugins"),
)
LIMIT = 30
"""Seconds: a lease takes one or two, where nothing else runs."""


@contextmanager
def booted(package: Path, providers: Providers, *without: str) -> Iterator[Booted]:
    """A gateway with the package, not started, and `without` some services."""

    def before(root: Path) -> None:
        shutil.copy(package, root / "root" / package.name)
        for unit in without:
            (root / f"etc/systemd/system/{unit}.service").symlink_to("/dev/null")

    with Booted(providers.plug_in, PACKAGES, before) as machine:
        machine.run("apt-get install --yes /root/mproutd_*.deb")
        machine.write("/etc/mproutd/network", TWO_UPLINKS)
        yield machine


@pytest.fixture
def networkd(package: Path, providers: Providers) -> Iterator[Booted]:
    with booted(package, providers, "NetworkManager", "mptcp") as machine:
        yield machine


@pytest.fixture
def networkmanager(package: Path, providers: Providers) -> Iterator[Booted]:
    with booted(package, providers, "systemd-networkd") as machine:
        machine.run("systemctl disable --now mptcp")
        yield machine


def status(machine: Booted) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(machine.call("mproutd status --json").stdout)
    return status


def codes(machine: Booted) -> set[str]:
    return {problem["code"] for problem in status(machine)["problems"]}


def states(machine: Booted) -> dict[str, str]:
    """Each wanted endpoint and how it is."""
    return {
        endpoint["address"]: endpoint["state"]
        for uplink in status(machine)["uplinks"]
        for endpoint in uplink["endpoints"]
    }


def ours(machine: Booted) -> bool:
    return states(machine) == {lease(1): "ok", lease(2): "ok"}


def gateways(machine: Booted) -> dict[str, str]:
    """Each uplink's in IPv4, and who named it."""
    ipv4 = {uplink["name"]: uplink["families"][0] for uplink in status(machine)["uplinks"]}
    return {name: f"{path['gateway']} {path['gateway_from']}" for name, path in ipv4.items()}


def kept(machine: Booted) -> list[str]:
    """Our rules and tables."""
    rules_and_routes = machine.network.ip("rule show").splitlines()
    for table in (7000, 7001, 7002):
        rules_and_routes += machine.network.ip(f"route show table {table}").splitlines()
    return [line.strip() for line in rules_and_routes]


class Watched:
    """A connection over both uplinks, and what happens to it and to the kernel."""

    def __init__(self, machine: Booted, echo: Echo) -> None:
        self._machine, self._echo = machine, echo
        eventually(lambda: len(self.flows()) == 2, LIMIT)
        self._wanted = kept(machine)
        self.table = ""

    def flows(self) -> set[tuple[str, str, int]]:
        current = subflows(self._machine.network, self._echo.port)
        return {(flow.token, flow.local, flow.local_port) for flow in current}

    def costs(
        self, what: str, act: str | Callable[[], object], at_least: int = 0
    ) -> tuple[int, set[str]]:
        """(the writes of mproutd, the addresses whose subflow is the same), when all is well again.

        `at_least` so many writes come, however late the other daemon acts.
        """
        flows, written = self.flows(), status(self._machine)["counts"]["writes"]
        self._echo.report()
        if callable(act):
            act()
        else:
            self._machine.run(act)

        def writes() -> int:
            return int(status(self._machine)["counts"]["writes"]) - written

        eventually(lambda: writes() >= at_least, LIMIT, "writes")
        eventually(lambda: kept(self._machine) == self._wanted, LIMIT, "rules and tables")
        eventually(lambda: len(self.flows()) == 2, LIMIT, "both subflows")
        time.sleep(0.5)
        assert kept(self._machine) == self._wanted
        count = self._echo.report().received
        eventually(lambda: self._echo.report().received >= count + 5)
        report = self._echo.report()
        assert (report.error, report.mptcp) == ("", True)
        same = self.flows() & flows
        self.table += f"{what:50}{writes():4} writes, {len(same)} of 2 subflows stay\n"
        return writes(), {address for _, address, _ in same}


def configured(machine: Booted) -> bool:
    """networkd has done with both."""
    return machine.run("networkctl --no-legend").count(" configured") == 2


def test_beside_networkd(networkd: Booted, providers: Providers) -> None:
    machine, guide = networkd, Guide("../beside")
    for path, text in guide.files("networkd").items():
        machine.write(path, text)
    machine.run("systemctl restart systemd-networkd && systemctl start mproutd")
    eventually(lambda: ours(machine), LIMIT)
    main = machine.network.ip("route show default table main").splitlines()
    assert [line.split()[-1] for line in main] == ["1024", "1024"]  # the same metric
    assert gateways(machine) == {"wan1": "10.1.1.1 main", "wan2": "10.2.2.1 main"}
    tables = [machine.network.ip(f"route show default table {n}").split()[2] for n in (7001, 7002)]
    assert tables == ["10.1.1.1", "10.2.2.1"]
    eventually(lambda: configured(machine), LIMIT)

    with Echo(machine.network, providers.server, SERVER) as echo:
        watched = Watched(machine, echo)

        # -- a restart: since 257 networkd deletes then what it did not make, the subflows stay
        restart = "systemctl restart systemd-networkd"
        deletes = int(machine.run("systemctl --version").split()[1]) >= 257
        writes, same = watched.costs(restart, restart, at_least=10 if deletes else 0)
        assert 0 <= writes <= (20 if deletes else 0)
        assert same == {lease(1), lease(2)}
        assert codes(machine) == ({"removed-externally"} if deletes else set())
        eventually(lambda: configured(machine), LIMIT)

        # -- nothing is taken away
        for command in ("networkctl reload", "networkctl renew eth2"):
            writes, same = watched.costs(command, command)
            assert (writes, same) == (0, {lease(1), lease(2)})
            eventually(lambda: configured(machine), LIMIT)

        # -- all rules are, of the other uplink too; its subflow stays
        writes, same = watched.costs(
            "networkctl reconfigure eth1", "networkctl reconfigure eth1", at_least=10
        )
        assert writes <= 20
        assert same == {lease(2)}
        advice = [problem["advice"] for problem in status(machine)["problems"]]
        assert codes(machine) == {"removed-externally"}
        assert all("ManageForeignRoutingPolicyRules=no" in text for text in advice)
        again = "echo >>/etc/systemd/network/uplink2.network && networkctl reload"
        writes, same = watched.costs("networkctl reload, a file has changed", again, at_least=10)
        assert writes <= 20
        assert lease(1) in same  # networkd 257 keeps the address of the other one, too
        flap = "ip link set eth2 down; sleep 1; ip link set eth2 up"
        writes, same = watched.costs("eth2 down and up", flap, at_least=4)
        assert writes <= 20
        assert same == {lease(1)}

        # -- as often as one likes: bounded, named, and over within seconds
        time.sleep(1)
        often = "for turn in 1 2 3 4 5 6 7 8; do networkctl reconfigure eth1; sleep 0.4; done"
        before = status(machine)["counts"]["writes"]
        machine.run(often)
        eventually(lambda: "rate-limited" in codes(machine))
        output = machine.call("mproutd status").stdout
        assert "/etc/systemd/networkd.conf.d/mproutd.conf" in output
        assert output.count("ManageForeignRoutes=no") == 1  # not once for each rule
        writes, same = watched.costs("the end of eight in 3 s", "true")
        assert same >= {lease(2)}
        after = status(machine)["counts"]["writes"]
        assert after - before <= 8 * 20
        time.sleep(2)
        assert status(machine)["counts"]["writes"] == after

        # -- what the status advises
        machine.run("systemctl restart mproutd")  # which forgets the past
        for path, text in guide.files("networkd-leaves-others").items():
            machine.write(path, text)
        for command in guide.commands("networkd-leaves-others"):
            machine.run(command)
        eventually(lambda: configured(machine), LIMIT)
        writes, same = watched.costs(f"with the setting: {restart}", restart)
        assert (writes, same) == (0, {lease(1), lease(2)})
        eventually(lambda: configured(machine), LIMIT)
        writes, same = watched.costs(
            "with the setting: networkctl reconfigure eth1",
            "networkctl reconfigure eth1",
            at_least=1,
        )
        assert lease(2) in same
        assert codes(machine) == set()
    guide.measured(f"networkd-{RELEASE}", watched.table)
    machine.reboot()
    eventually(lambda: ours(machine), LIMIT)
    assert status(machine)["degraded"] is False


def test_networkd_and_nexthop_objects(networkd: Booted) -> None:
    """Other traffic shared by weight: networkd deletes the objects, and they come back."""
    machine, guide = networkd, Guide("../beside")
    for path, text in guide.files("networkd").items():
        machine.write(path, text)
    machine.write("/etc/mproutd/mproutd", "config uplink 'wan1'\n\toption weight '3'\n")
    machine.run("systemctl restart systemd-networkd && systemctl start mproutd")

    def shared() -> bool:
        network = machine.network
        group = "group 1770000001,3/1770000002" in network.ip("nexthop show proto 77")
        return group and "nhid 1770000000" in network.ip("route show table 7000")

    eventually(lambda: ours(machine) and shared() and configured(machine), 4 * LIMIT)

    def named() -> dict[str, str]:
        """The advice for each kind of object that another program has removed."""
        problems = status(machine)["problems"]
        return {
            problem["text"].split()[0]: problem["advice"]
            for problem in problems
            if problem["code"] == "removed-externally"
        }

    # -- networkd 257 deletes them when it starts, 252 with an address
    if int(machine.run("systemctl --version").split()[1]) >= 257:
        machine.run("systemctl restart systemd-networkd")
        advice = eventually(lambda: named().get("nexthop"), 4 * LIMIT)
        assert "ManageForeignNextHops=no" in advice
    else:
        machine.run("networkctl reconfigure eth1")
    eventually(lambda: configured(machine) and ours(machine) and shared(), 4 * LIMIT)

    # -- as often as one likes: at a bounded rate
    before = status(machine)["counts"]["writes"]
    machine.run("for turn in 1 2 3 4 5 6 7 8; do networkctl reconfigure eth1; sleep 0.4; done")
    eventually(lambda: configured(machine) and ours(machine) and shared(), 4 * LIMIT)
    assert status(machine)["counts"]["writes"] - before <= 8 * 30

    # -- with the setting, where networkd knows it
    machine.run("systemctl stop mproutd")
    for path, text in guide.files("networkd-leaves-others").items():
        machine.write(path, text)
    for command in guide.commands("networkd-leaves-others"):
        machine.run(command)
    eventually(lambda: configured(machine), 4 * LIMIT)
    machine.run("systemctl start mproutd")
    eventually(lambda: ours(machine) and shared(), 4 * LIMIT)
    machine.run("systemctl restart systemd-networkd")
    eventually(lambda: configured(machine), 4 * LIMIT)
    time.sleep(1)
    assert shared()
    assert named() == {}


def test_beside_networkmanager_and_mptcpd(networkmanager: Booted, providers: Providers) -> None:
    machine, guide = networkmanager, Guide("../beside")

    def endpoints() -> str:
        return machine.network.ip("mptcp endpoint show")

    eventually(lambda: lease(1) in endpoints() and lease(2) in endpoints(), LIMIT)
    theirs = endpoints()
    machine.run("systemctl start mproutd")
    assert gateways(machine) == {"wan1": "10.1.1.1 main", "wan2": "10.2.2.1 main"}
    assert states(machine) == {lease(1): "foreign", lease(2): "foreign"}
    assert codes(machine) == {"foreign-endpoint"}
    assert endpoints() == theirs
    advised = " ".join(machine.call("mproutd status").stdout.split())
    by_line = guide.commands("networkmanager-lines")
    assert all(command in advised for command in by_line[:2])

    with Echo(machine.network, providers.server, SERVER) as echo:
        watched = Watched(machine, echo)

        # -- beside NetworkManager's endpoints, and after what the status advises
        writes, same = watched.costs(
            "systemctl restart NetworkManager", "systemctl restart NetworkManager"
        )
        assert (writes, same) == (0, {lease(1), lease(2)})
        for n, command in enumerate(by_line[:2], 1):
            begun = time.monotonic()
            machine.run(command)
            eventually(lambda n=n: states(machine)[lease(n)] == "ok", 20)
            took = time.monotonic() - begun
            watched.table += f"mptcp-flags disabled for eth{n}, until ours is there{took:6.1f} s\n"
            eventually(lambda: len(watched.flows()) == 2, LIMIT)
        for command in by_line[2:]:
            machine.run(command)
        assert ours(machine)
        for what in ("systemctl restart NetworkManager", "nmcli device reapply eth1"):
            writes, same = watched.costs(what, what)
            assert (writes, same) == (0, {lease(1), lease(2)})
        up, down = (f'nmcli connection {verb} "Wired connection 1"' for verb in ("up", "down"))
        for what, command in (
            ("nmcli connection up (of eth1)", up),
            ("nmcli connection down, up (of eth1)", f"{down}; sleep 1; {up}"),
        ):
            # The address may be back before it is missed.
            writes, same = watched.costs(what, command)
            assert writes <= 20
            assert lease(2) in same
        assert ours(machine)
        assert endpoints().count("subflow") == 2

        # -- mptcpd: reported; no endpoint is touched
        machine.run("systemctl start mptcp")
        eventually(lambda: "mptcpd-running" in codes(machine))
        reply = machine.call("mproutd status")
        assert reply.returncode == 1
        assert "systemctl disable --now mptcp" in reply.stdout
        machine.run('nmcli connection up "Wired connection 2"')  # a race for the address
        eventually(lambda: states(machine).keys() == {lease(1), lease(2)}, LIMIT)
        assert set(states(machine).values()) <= {"ok", "foreign"}
        for command in guide.commands("mptcpd"):
            machine.run(command)
        eventually(lambda: ours(machine), LIMIT)
        eventually(lambda: len(watched.flows()) == 2, LIMIT)
        assert echo.report().error == ""
        assert "mptcpd-running" not in codes(machine)
    guide.measured(f"networkmanager-{RELEASE}", watched.table)

    # -- the same setting for all connections, from the boot on
    machine.run("rm /etc/NetworkManager/system-connections/*")
    for path, text in guide.files("networkmanager-all").items():
        machine.write(path, text)
    machine.reboot()
    eventually(lambda: ours(machine), LIMIT)
    assert status(machine)["degraded"] is False
    assert endpoints().count("subflow") == 2
