"""Whatever ends mproutd on a gateway, its open MPTCP connections go on, or the command says which
does not allow that and what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.booted import Booted
from tests.booted.providers import lease
from tests.lab import SERVER, TWO_UPLINKS, Echo, Iperf, eventually, subflows

pytestmark = pytest.mark.booted

INTERFACES = "auto eth1 eth2\niface eth1 inet dhcp\niface eth2 inet dhcp\n"
BOTH = {lease(1), lease(2)}
SECONDS = 60
"""For a state to be reached on a busy machine."""


def endpoints(machine: Booted) -> set[str]:
    return {line.split()[0] for line in machine.network.ip("mptcp endpoint show").splitlines()}


def start(machine: Booted) -> None:
    """The package is there and active, with both leases in use."""
    if machine.call("test -x /usr/bin/mproutd").returncode:
        machine.run("apt-get install --yes /root/mproutd_*.deb")
    machine.write("/etc/mproutd/network", TWO_UPLINKS)
    machine.run("systemctl restart mproutd")
    eventually(lambda: endpoints(machine) == BOTH, SECONDS)


def continues(echo: Echo) -> None:
    """Messages come back from now on, over MPTCP."""
    seen = echo.report()
    eventually(lambda: echo.report().received > seen.received + 50, SECONDS)
    now = echo.report()
    assert now.error == ""
    assert now.mptcp


def stop(machine: Booted) -> None:
    machine.run("systemctl stop mproutd")


def flush(machine: Booted) -> None:
    machine.run("systemctl stop mproutd")
    assert "mproutd: " not in machine.run("mproutd flush")


def disable(machine: Booted) -> None:
    machine.write("/etc/mproutd/network", TWO_UPLINKS.replace("'enable'", "'disable'"))
    machine.run("systemctl reload mproutd")


def remove(machine: Booted) -> None:
    assert "mproutd: " not in machine.run("apt-get remove --yes mproutd")


def purge(machine: Booted) -> None:
    assert "mproutd: " not in machine.run("apt-get purge --yes mproutd")


@pytest.fixture
def machine(debian: Booted) -> Booted:
    debian.write("/etc/network/interfaces", INTERFACES)
    debian.run("ifup eth1 eth2")
    start(debian)
    return debian


def test_connections_go_on_without_mproutd(machine, providers):
    for end in (stop, flush, disable, remove, purge):
        start(machine)
        with Echo(machine.network, providers.server, SERVER) as echo:
            eventually(lambda echo=echo: len(subflows(machine.network, echo.port)) == 2, SECONDS)
            iperf = Iperf(machine.network, providers.server, SERVER, 4)
            end(machine)
            assert endpoints(machine) == (BOTH if end is stop else set()), end.__name__
            assert ("proto 77" in machine.network.state()) == (end is stop), end.__name__
            continues(echo)
            result = iperf.result(SECONDS)
            assert result.completed, f"{end.__name__}: {result.error}"
    assert machine.call("test -e /run/mproutd").returncode != 0


ENDS = ("mproutd flush", "apt-get remove --yes mproutd")


@pytest.mark.parametrize("command", ENDS)
def test_a_connection_that_needs_its_endpoint_is_named(machine, providers, command: str):
    """The peer opened it, and main would send its packets out by the other uplink."""
    run: Callable[[str], str] = machine.run
    with Echo(providers.server, machine.network, lease(2)) as accepted:
        run("systemctl stop mproutd")
        ended = machine.call(command)
        kept = f"mproutd: {lease(2)}: its endpoint stays, since 1 connection ends with it"
        assert kept in ended.stdout
        assert endpoints(machine) == {lease(2)}
        continues(accepted)
        if "apt" in command:
            assert ended.returncode == 0
            assert "install mproutd again" in ended.stdout
        else:
            assert ended.returncode == 1
            assert "--force" in ended.stdout
            assert "mproutd: " not in machine.run("mproutd flush --force")
            assert endpoints(machine) == set()
    if "apt" in command:
        # As the advice says: the new installation knows that the endpoint is its own.
        start(machine)
        assert "foreign" not in run("mproutd status")
        assert "mproutd: " not in run(command)
        assert endpoints(machine) == set()
        assert "proto 77" not in machine.network.state()
        assert machine.call("test -e /run/mproutd").returncode != 0
