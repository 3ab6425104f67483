"""Worlds of reverse path filters: loose where subflows arrive, and an admin's value kept."""

from __future__ import annotations

import errno

import pytest

from mproutd.model import Operation, Sysctl
from mproutd.netlink.kernel import SnapshotRequest
from tests.lab import SERVER, TWO_UPLINKS, Daemon, Wan, eventually
from tests.lab.in_process import InProcess

pytestmark = pytest.mark.kernel

ONLY_FIRST = TWO_UPLINKS[: TWO_UPLINKS.index("config interface 'wan2'")]


def rp_filter(wan: Wan, device: str = "eth2", value: int | None = None) -> int:
    return int(wan.gateway.sysctl(f"net.ipv4.conf.{device}.rp_filter", value))


def test_strict_becomes_loose_with_the_endpoint_and_strict_again_without(wan):
    rp_filter(wan, value=1)
    with Daemon(wan.gateway) as daemon:
        assert rp_filter(wan) == 2
        for interrupt in (wan.address_down, wan.unplug):
            interrupt(2)
            eventually(lambda: rp_filter(wan) == 1)
            wan.plug(2)
            wan.address_up(2)
            wan.default_route(2)
            eventually(lambda: rp_filter(wan) == 2)
        daemon.kill9()
        daemon.start()
        assert rp_filter(wan) == 2
        daemon.configure(ONLY_FIRST)
        daemon.reconcile()
        assert rp_filter(wan) == 1
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        assert rp_filter(wan) == 2
    assert rp_filter(wan) == 2, "stopping leaves the kernel as it is"
    assert daemon.call("flush").code == 0
    assert rp_filter(wan) == 1


@pytest.mark.parametrize("mode", ["on", "off", "handover"])
def test_a_steered_host_gets_replies_in_every_mode(wan, mode):
    """The firewall marks a LAN host's packets for wan2; main leads to the server by eth1."""
    for device in ("all", "eth1", "eth2"):
        rp_filter(wan, device, 1)
    wan.masquerade()
    with Daemon(wan.gateway, TWO_UPLINKS.replace("'on'", f"'{mode}'")) as daemon:
        mark = daemon.uplink("wan2")["mark"].partition("/")[0]
        hook = "type filter hook prerouting priority mangle"
        wan.gateway.run(
            *("nft", "-f", "-"),
            input="table inet steer { chain pre { "
            f'{hook}; iifname "br-lan" meta mark set {mark}; }}; }}\n',
        )
        wan.lan.run("ping", "-c1", "-W2", SERVER)
        assert rp_filter(wan) == 2


def test_what_sysctl_resets_is_loosened_again_at_once(wan):
    """`sysctl --system` after the daemon: the kernel announces each value that it writes."""
    rp_filter(wan, value=1)
    with Daemon(wan.gateway, verbose=True) as daemon:
        assert rp_filter(wan) == 2
        passes = daemon.query_status()["counts"]["passes"]
        for _ in range(3):
            rp_filter(wan, value=1)
            eventually(lambda: rp_filter(wan) == 2, timeout=2)
        rp_filter(wan, value=0)
        daemon.settle()
        assert rp_filter(wan) == 0, "looser than ours: an administrator's"
        rp_filter(wan, "all", 1)
        eventually(lambda: rp_filter(wan) == 2, timeout=2)
        assert daemon.query_status()["counts"]["passes"] - passes < 12
        (problem,) = daemon.query_status()["problems"]
        assert problem["text"].startswith("net/ipv4/conf/eth2/rp_filter = 2: ")


def test_a_default_for_future_devices_is_set_while_the_daemon_runs(wan):
    """`sysctl --system` writes net.ipv4.conf.default first; no device has its ifindex."""
    rp_filter(wan, value=1)
    with Daemon(wan.gateway) as daemon:
        daemon.settle()
        rp_filter(wan, "default", 1)
        rp_filter(wan, value=1)
        eventually(lambda: rp_filter(wan) == 2, timeout=20)
        assert daemon.settle()["uplinks"][1]["usable"]


@pytest.mark.parametrize("everywhere", [0, 2])
@pytest.mark.parametrize("value", [0, 2])
def test_what_an_admin_chose_is_kept(wan, value, everywhere):
    rp_filter(wan, value=value)
    rp_filter(wan, "all", everywhere)
    with Daemon(wan.gateway) as daemon:
        assert rp_filter(wan) == value
        daemon.configure(ONLY_FIRST)
        daemon.reconcile()
        assert rp_filter(wan) == value
    assert daemon.call("flush").code == 0
    assert rp_filter(wan) == value
    assert rp_filter(wan, "all") == everywhere


@pytest.mark.parametrize("value", [0, 1])
def test_strict_everywhere_counts_and_is_not_touched(wan, value):
    """The kernel takes the higher one of `all` and the device's."""
    rp_filter(wan, value=value)
    rp_filter(wan, "all", 1)
    with Daemon(wan.gateway) as daemon:
        assert rp_filter(wan) == 2
        daemon.configure(ONLY_FIRST)
        daemon.reconcile()
        assert rp_filter(wan) == value
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        assert rp_filter(wan) == 2
    assert daemon.call("flush").code == 0
    assert rp_filter(wan) == value
    assert rp_filter(wan, "all") == 1


def test_what_an_admin_sets_while_the_daemon_runs(wan):
    rp_filter(wan, value=1)
    with Daemon(wan.gateway) as daemon:
        assert rp_filter(wan) == 2
        rp_filter(wan, value=0)
        daemon.reconcile()
        assert rp_filter(wan) == 0
        rp_filter(wan, value=1)  # strict drops subflows: repaired by the next resync
        daemon.reconcile()
        assert rp_filter(wan) == 2
        rp_filter(wan, value=0)
        daemon.reconcile()
    assert daemon.call("flush").code == 0
    assert rp_filter(wan) == 0


def test_a_device_made_again_has_a_value_of_its_own(wan):
    """The new eth2 comes with 2, which is not ours to take back."""
    rp_filter(wan, value=1)
    with Daemon(wan.gateway) as daemon:
        assert rp_filter(wan) == 2
        wan.remove_device(2)
        eventually(lambda: daemon.uplink("wan2")["families"][0]["reason"] == "no-device")
        rp_filter(wan, "default", 2)
        wan.create_device(2)
        wan.address_up(2)
        wan.default_route(2)
        eventually(lambda: daemon.uplink("wan2")["endpoints"])
        daemon.settle()
    assert daemon.call("flush").code == 0
    assert rp_filter(wan) == 2


def test_another_device_of_the_name_gets_nothing_that_would_stay(wan):
    """The device goes, and another comes as eth2, between a pass' reading and its writing."""
    with InProcess(wan.gateway, TWO_UPLINKS) as in_process:
        kernel = in_process.reconciler.kernel
        kernel.snapshot(SnapshotRequest(["eth2"], [7002], 0))
        loose = Operation("change", Sysctl("eth2", "rp_filter", 2))
        wan.remove_device(2)
        rp_filter(wan, "default", 1)
        wan.create_device(2)
        assert [failure.errno for failure in kernel.apply([loose])] == [errno.ENODEV]
        assert rp_filter(wan) == 1
        kernel.snapshot(SnapshotRequest(["eth2"], [7002], 0))
        assert kernel.apply([loose]) == []
        assert rp_filter(wan) == 2
        kernel.snapshot(SnapshotRequest(["eth2"], [7002], 0))
        rp_filter(wan, value=0)
        assert [failure.text for failure in kernel.apply([loose])] == [
            "changed by another program just now"
        ]
        assert rp_filter(wan) == 0
