"""docs/networks/two-laptops.md, as it says: both links in one subnet, and either may go."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab import Daemon, device_bytes, eventually
from tests.networks.laptops import SERVER_ADDRESS, Laptops
from tests.networks.run import Run, interrupted

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]


@pytest.fixture
def laptops() -> Iterator[Laptops]:
    with Laptops() as built:
        yield built


def endpoints(laptops: Laptops) -> set[str]:
    """The addresses of the client's endpoints."""
    return {line.split()[0] for line in laptops.client.ip("mptcp endpoint show").splitlines()}


@pytest.mark.alone
def test_both_links_carry_and_either_may_go(laptops):
    client, server, guide = laptops.client, laptops.server, laptops.guide
    both = {"192.168.1.10", "192.168.1.11"}

    def measured(port: str, remaining: str, shows: str = "") -> Run:
        """A connection during which one of the client's links goes and comes back."""

        def unplug() -> None:
            laptops.unplug(port)
            eventually(lambda: endpoints(laptops) == {remaining})
            if shows:
                guide.shows(shows, ours.call("status").out)

        def plug() -> None:
            laptops.plug(port)
            eventually(lambda: endpoints(laptops) == both)

        before = device_bytes(client)
        run = interrupted(client, server, SERVER_ADDRESS, 15, unplug, plug, mptcp=True)
        after = device_bytes(client)
        assert run.measured.completed
        for device in ("eth0", "wlan0"):
            assert after[device].sent - before[device].sent > 5e6
        first, one, again = run.rates
        assert 15 < one < 22  # what both had in flight counts too
        assert first > 1.4 * one
        assert again > 1.4 * one
        return run

    with (
        Daemon(server, *laptops.configuration("server")) as theirs,
        Daemon(client, *laptops.configuration("client")) as ours,
    ):
        guide.shows("status", ours.call("status").out)
        guide.shows("status-server", theirs.call("status").out)
        guide.measured("rates-wireless", measured("client-wlan0", "192.168.1.10").table())
        watching = client.popen(*ours.command("monitor"), stdout=subprocess.PIPE, text=True)
        assert watching.stdout
        first = watching.stdout.readline()  # it listens now
        run = measured("client-eth0", "192.168.1.11", "status-unplugged")
        guide.measured("rates-wired", run.table())
        watching.send_signal(signal.SIGINT)
        output = first + watching.communicate(timeout=60)[0]
        assert "wired" in output
        guide.sample("monitor", output)
        before = client.state()
    # While a connection is still ending, its endpoint stays.
    eventually(lambda: ours.call("flush").code == 0)
    eventually(lambda: theirs.call("flush").code == 0)
    assert "proto 77" in before
    assert "proto 77" not in client.state()
