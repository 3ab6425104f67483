"""What a service manager receives from the daemon, through a real datagram socket."""

from __future__ import annotations

import os
import resource
import signal
import time

import pytest

from tests.lab import TWO_UPLINKS, eventually
from tests.lab.notify_socket import Supervised

pytestmark = pytest.mark.kernel

BOTH = "STATUS=2 of 2 uplinks usable: wan1 wan2"


def test_ready_once_the_kernel_is_as_wanted_and_the_daemon_answers(wan):
    with Supervised(wan.gateway) as daemon:
        assert eventually(daemon.messages) == ["READY=1", BOTH]
        assert "10.2.2.2" in wan.gateway.ip("mptcp endpoint show")
        daemon.reconcile()
        wan.gateway.ip("address add 192.0.2.1/32 dev lo")
        daemon.settle()
        spoken = [line.partition("=")[0] for line in daemon.messages()[2:]]
        assert spoken == ["RELOADING", "MONOTONIC_USEC", "READY"], "nothing new, no new status"
        daemon.forget()
        daemon.stop()
        assert daemon.messages() == ["STOPPING=1"]


def test_ready_without_any_uplink(bare_wan):
    bare_wan.unplug(2)
    with Supervised(bare_wan.gateway, TWO_UPLINKS.replace("eth1", "wwan0")) as daemon:
        eventually(daemon.messages)
        assert daemon.messages() == [
            "READY=1",
            "STATUS=0 of 2 uplinks usable; wan1 no device; wan2 no carrier",
        ]


def test_the_status_follows_the_uplinks(wan):
    with Supervised(wan.gateway) as daemon:
        eventually(daemon.messages)
        daemon.forget()
        wan.unplug(2)
        eventually(daemon.messages)
        assert daemon.messages() == ["STATUS=1 of 2 uplinks usable: wan1; wan2 no carrier"]
        daemon.forget()
        wan.plug(2)
        eventually(lambda: BOTH in daemon.messages())


@pytest.mark.parametrize("method", ["reconcile", "SIGHUP"])
def test_a_reload_is_notified_from_start_to_end(wan, method):
    with Supervised(wan.gateway) as daemon:
        eventually(daemon.messages)
        for text, code, status in (
            (TWO_UPLINKS.replace("'wan2'", "'lte'"), 0, "2 of 2 uplinks usable: wan1 lte"),
            (
                TWO_UPLINKS.replace("'on'", "'maybe'"),
                2,
                "configuration rejected",
            ),
            (TWO_UPLINKS, 0, "2 of 2 uplinks usable: wan1 wan2"),
            (
                TWO_UPLINKS.replace("enable", "disable"),
                0,
                "multipath is not enabled in the configuration",
            ),
        ):
            daemon.forget()
            daemon.configure(text)
            begun = time.monotonic_ns() // 1000
            if method == "SIGHUP":
                assert daemon.process
                daemon.process.send_signal(signal.SIGHUP)
            else:
                assert daemon.call("reconcile").code == code
            eventually(lambda: "READY=1" in daemon.messages())
            heard = daemon.messages()
            assert heard[0] == "RELOADING=1"
            at = int(heard[1].removeprefix("MONOTONIC_USEC="))
            assert begun <= at <= time.monotonic_ns() // 1000
            states = [line for line in heard if line.startswith("STATUS=")]
            assert states[-1].startswith(f"STATUS={status}"), heard


def test_the_loop_feeds_the_watchdog(wan):
    with Supervised(wan.gateway, watchdog=0.4) as daemon:
        eventually(lambda: daemon.messages().count("WATCHDOG=1") >= 3)
        assert daemon.messages()[0] == "READY=1"
        begun = time.monotonic()
        daemon.forget()
        eventually(lambda: daemon.messages().count("WATCHDOG=1") >= 5)
        took = time.monotonic() - begun
        assert took > 0.7, f"half of the limit is enough: 5 in {took:.2f} s"


def test_a_loop_that_is_stuck_in_a_pass_is_not_fed(wan):
    """A setting of a device is a FIFO with nobody at its other end, so that the pass waits."""
    with Supervised(wan.gateway, watchdog=0.4) as daemon:
        eventually(lambda: "WATCHDOG=1" in daemon.messages())
        fifo, setting = "/run/fifo", "/proc/sys/net/ipv4/conf/eth2/rp_filter"
        os.mkfifo(wan.gateway.path(fifo))
        assert daemon.process
        daemon.process.send_signal(signal.SIGSTOP)  # or it would repair the setting at once
        wan.gateway.sysctl("net.ipv4.conf.eth2.rp_filter", 1)
        wan.gateway.run("mount", "--bind", fifo, setting)
        daemon.process.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        daemon.forget()
        time.sleep(0.6)
        assert daemon.messages() == []
        daemon.kill9()


def test_no_watchdog_no_feeding(wan):
    with Supervised(wan.gateway) as daemon:
        eventually(daemon.messages)
        time.sleep(0.3)
        assert "WATCHDOG=1" not in daemon.messages()


def test_a_reload_without_descriptors_ends_neither_the_daemon_nor_the_reloading(wan):
    with Supervised(wan.gateway) as daemon:
        eventually(daemon.messages)
        daemon.forget()
        assert daemon.process
        used = max(int(name) for name in os.listdir(f"/proc/{daemon.process.pid}/fd"))
        limit = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (used + 1, limit[1]))
        wan.unplug(2)
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "READY=1" in daemon.messages())
        assert "too many open files" in eventually(lambda: daemon.messages()[-1])
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, limit)
        wan.plug(2)
        eventually(lambda: daemon.reconcile() == "" and daemon.messages()[-1] == BOTH)
