"""A router that sends advertisements without a pause: what it may cost."""

from __future__ import annotations

import time

import pytest

from tests.lab import Daemon, Wan, eventually
from tests.lab.advertise import advertise

pytestmark = pytest.mark.kernel

ADVERTISEMENTS = 200


def test_addresses_that_come_and_go_fill_no_journal_and_the_last_word_is_logged():
    with Wan(shaped=False, lan=False).usual() as wan:
        for option, value in (("accept_ra", 2), ("autoconf", 1), ("accept_ra_defrtr", 0)):
            wan.gateway.sysctl(f"net.ipv6.conf.eth1.{option}", str(value))
        with Daemon(wan.gateway) as daemon:
            daemon.settle()
            before = len(daemon.log().splitlines())
            for n in range(ADVERTISEMENTS):
                advertise(wan.routers[1], "access", "2001:db8:99::/64", preferred=1800 * (n % 2))
                time.sleep(0.01)
            advertise(wan.routers[1], "access", "2001:db8:77::/64")
            eventually(lambda: "2001:db8:77:" in wan.gateway.state(), 60)
            # The other uplink is not delayed, nor are its lines left out.
            wan.unplug(2)
            eventually(lambda: "wan2 is not usable" in daemon.log(), 60)
            eventually(lambda: "2001:db8:77:" in daemon.log(), 120)
            lines = daemon.log().splitlines()[before:]
            assert len(lines) <= 50, lines
            assert any("more lines of the kind 'decision' left out" in line for line in lines)
            state = wan.gateway.state()
            daemon.settle()
            assert wan.gateway.state() == state
