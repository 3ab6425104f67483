"""The hook of netifd: which events wake the daemon, and that nobody waits for it.

The environments are those that a real netifd gave (fixtures/netifd/hotplug-env.txt), and what
its source says of the others (interface-event.c): DEVICE only with ifup and ifupdate, an
IFUPDATE_ variable for each thing that an ifupdate changed, and no call for a link.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mproutd import commands
from mproutd.hints import HintsWatch
from tests.lab import RUNTIME_DIR, Daemon, Namespace, Ubus, Wan, eventually, veth
from tests.lab.openwrt import CALL_HOTPLUG, Router

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "hotplug" / "iface" / "30-mproutd"
RECORDED = [
    dict(word.split("=", 1) for word in line.split()[1:])
    for line in (ROOT / "tests/fixtures/netifd/hotplug-env.txt").read_text().splitlines()
]
UP = {"ACTION": "ifup", "INTERFACE": "wan2", "DEVICE": "w2"}
UPDATE = UP | {"ACTION": "ifupdate"}


class Box(Router):
    """A router with the hook in its place, and what a daemon would see of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        shutil.copy(HOOK, self.folder("etc/hotplug.d/iface") / HOOK.name)
        self.runtime = self.folder("var/run/mproutd")
        self._watch = HintsWatch(str(self.runtime))

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        return {**variables, "MPROUTD_RUNTIME_DIR": str(self.runtime)}

    def event(self, variables: Mapping[str, str]) -> bool:
        """Whether it wakes the daemon."""
        self.hotplug("iface", self.environment(variables))
        assert os.listdir(self.runtime) == []
        return self.woke()

    def woke(self) -> bool:
        return self._watch.has_changed()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_the_recorded_events_wake_once_each_but_for_loopback(box: Box) -> None:
    assert {environment["ACTION"] for environment in RECORDED} == {"ifup", "ifdown"}
    for variables in RECORDED:
        assert box.event(variables) == (variables["INTERFACE"] != "loopback"), variables


def test_on_ifdown_there_is_no_device_and_none_is_needed(box: Box) -> None:
    (down,) = [environment for environment in RECORDED if environment["ACTION"] == "ifdown"]
    assert down["DEVICE"] == ""
    assert box.event(down) == 1
    assert box.event({key: down[key] for key in down if key != "DEVICE"}) == 1


@pytest.mark.parametrize(
    ("changed", "wakes"),
    [
        ((), 0),
        (("IFUPDATE_DATA",), 0),
        (("IFUPDATE_ADDRESSES",), 1),
        (("IFUPDATE_ROUTES",), 1),
        (("IFUPDATE_PREFIXES",), 1),
        (("IFUPDATE_ADDRESSES", "IFUPDATE_ROUTES", "IFUPDATE_PREFIXES", "IFUPDATE_DATA"), 1),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, tuple) else "",
)
def test_only_an_update_that_renews_a_lease_causes_no_pass(
    box: Box, changed: tuple[str, ...], wakes: int
) -> None:
    assert box.event(UPDATE | dict.fromkeys(changed, "1")) == wakes


@pytest.mark.parametrize(
    "action",
    ["", "link-up", "link-down", "iflink", "ifup-failed", "create", "free", "reload", "ifupx"],
)
def test_an_event_that_the_kernel_reports_too_causes_no_pass(box: Box, action: str) -> None:
    assert box.event(UP | {"ACTION": action, "IFUPDATE_ROUTES": "1"}) == 0


@pytest.mark.parametrize("missing", sorted(UP))
def test_a_variable_may_be_missing(box: Box, missing: str) -> None:
    assert box.event({key: UP[key] for key in UP if key != missing}) == (missing == "DEVICE")
    assert box.event({}) == 0


@pytest.mark.parametrize(
    "interface",
    ["wan_6", "wan.4", "a b", "$(touch injected)", "`touch injected`", "';x", "*", "-n"],
)
def test_no_name_gets_further_than_its_variable(box: Box, interface: str) -> None:
    assert box.event(UP | {"INTERFACE": interface, "DEVICE": interface}) == 1
    assert not list(box.root.rglob("injected"))


def test_without_a_daemon_nothing_waits_and_nothing_is_made(box: Box) -> None:
    folder = box.root / "var/run/mproutd-hints"
    box.hotplug("iface", box.environment(UP))
    assert os.listdir(folder) == [".netifd"]
    shutil.rmtree(folder)
    box.hotplug("iface", box.environment(UP))
    assert not folder.exists()
    # What somebody else could replace is left alone.
    folder.symlink_to(box.folder("etc"))
    box.hotplug("iface", box.environment(UP))
    assert ".netifd" not in os.listdir(box.root / "etc")


def test_other_scripts_of_the_folder_run_on_as_if_nothing_had_been(box: Box) -> None:
    folder = box.folder("etc/hotplug.d/iface")
    (folder / "31-next").write_text('echo "$ACTION $INTERFACE"\n')
    assert box.hotplug("iface", box.environment(UP)) == "ifup wan2\n"
    # and where a caller sources it without a subshell, with its own options
    script = f'set -eu; hints=mine runtime=mine; . "{HOOK}"; echo "$hints $runtime"'
    for action in ("ifup", "ifupdate", "link-up"):
        assert box.sh(script, box.environment(UP | {"ACTION": action})) == "mine mine\n"


def test_ten_at_once_all_wake(box: Box) -> None:
    environment = box.environment(UP)
    argv = box.command("-c", CALL_HOTPLUG, "hotplug-call", "iface")
    running = [
        subprocess.Popen(argv, env=box.variables(environment), stdin=subprocess.DEVNULL)
        for _ in range(10)
    ]
    assert [process.wait(10) for process in running] == [0] * 10
    assert box.woke()


def test_the_hook_and_the_daemon_agree_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenWrt has no /run, and what is made there lies on the flash and outlives a boot."""
    for name in ("MPROUTD_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    options = argparse.Namespace(runtime_dir=None)
    assert commands.runtime_dir(options) == "/run/mproutd"
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/etc/openwrt_release")
    assert commands.runtime_dir(options) == "/var/run/mproutd"
    assert "${MPROUTD_RUNTIME_DIR:-/var/run/mproutd}" in HOOK.read_text()


def test_it_starts_no_program(box: Box) -> None:
    """What is left is the shell's own work: netifd has the next event wait for this one."""
    script = f'PATH=/nonexistent; for i in 1 2 3 4 5 6 7 8 9 10; do . "{HOOK}"; done'
    box.sh(script, box.environment(UP))
    assert box.woke()


@pytest.mark.kernel
def test_a_daemon_looks_at_once_and_an_interface_of_nobodys_changes_nothing(
    tmp_path: Path,
) -> None:
    box = Router(tmp_path)
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway, verbose=True) as daemon:
        environment = {"MPROUTD_RUNTIME_DIR": str(wan.gateway.path(RUNTIME_DIR))}
        daemon.settle()
        daemon.writes()
        ubus = Ubus(wan.gateway, '{"interface": []}')
        daemon.reconcile()
        for variables in RECORDED:
            before = ubus.calls()
            box.sh(f'. "{HOOK}"', variables | environment)
            if variables["INTERFACE"] != "loopback":
                eventually(lambda n=before: ubus.calls() > n)
        daemon.settle()
        assert daemon.writes() == []


NETIFD = ROOT / "tests/fixtures/netifd"
MADE_BY_NETIFD = [
    "route add default via 10.1.1.1 dev w1 metric 1 proto static",
    "route add 10.3.3.0/24 dev w3 table 103 proto static",
    "route add default via 10.3.3.1 dev w3 table 103 proto static",
    "rule add priority 10000 from 10.3.3.2 lookup 103",
    "rule add priority 20000 to 10.3.3.2/24 lookup 103",
    "rule add priority 90004 iif lo lookup 103",
]


@pytest.mark.kernel
def test_the_recorded_router_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    """The configuration, the dumps and the events of one router (fixtures/netifd).

    wan2's gateway is nowhere in the kernel (defaultroute 0), and netifd says it after the
    address is there: without the hook nobody would ask again for a minute.
    """
    box = Router(tmp_path)
    addresses = {"w1": "10.1.1.2/24", "w2": "10.2.2.2/24", "w3": "10.3.3.2/24"}
    with Namespace("router") as router, Namespace("outside") as outside:
        veth(router, "l0", outside, "l0")
        for device, address in addresses.items():
            veth(router, device, outside, device)
            router.ip(f"address add {address} dev {device}")
        router.ip("address add 192.168.70.1/24 dev l0", *MADE_BY_NETIFD)
        theirs = set(router.state().splitlines())
        ubus = Ubus(router, (NETIFD / "interface-dump-wan2-down.json").read_text())
        environment = {"MPROUTD_RUNTIME_DIR": str(router.path(RUNTIME_DIR))}

        def event(action: str, interface: str) -> None:
            (variables,) = {
                tuple(sorted(environment.items()))
                for environment in RECORDED
                if (environment["ACTION"], environment["INTERFACE"]) == (action, interface)
            }
            box.sh(f'. "{HOOK}"', dict(variables) | environment)

        def quiet() -> bool:
            """Nobody asks netifd just now because of the kernel's events."""
            before = ubus.calls()
            time.sleep(0.4)
            return ubus.calls() == before

        def endpoints() -> set[str]:
            return {line.split()[0] for line in router.ip("mptcp endpoint show").splitlines()}

        with Daemon(router, network=(NETIFD / "network").read_text()) as daemon:
            eventually(lambda: endpoints() == {"10.1.1.2", "10.3.3.2"})
            daemon.settle()
            eventually(quiet)
            assert endpoints() == {"10.1.1.2", "10.3.3.2"}
            for _ in range(2):  # the second time the gateway is remembered
                ubus.set_reply((NETIFD / "interface-dump-up.json").read_text())
                event("ifup", "wan2")
                eventually(lambda: endpoints() == {"10.1.1.2", "10.2.2.2", "10.3.3.2"})
                slots = {
                    uplink["name"]: uplink["table"] for uplink in daemon.query_status()["uplinks"]
                }
                table = router.ip(f"route show table {slots['wan2']}")
                assert "default via 10.2.2.1 dev w2 proto 77" in table
                assert "oif w3 lookup 103 proto 77" in router.ip("rule show")

                router.ip("address delete 10.2.2.2/24 dev w2")
                ubus.set_reply((NETIFD / "interface-dump-wan2-down.json").read_text())
                event("ifdown", "wan2")
                eventually(lambda: endpoints() == {"10.1.1.2", "10.3.3.2"})
                router.ip("address add 10.2.2.2/24 dev w2")
                daemon.settle()
            state = router.state()
            assert {line for line in theirs if "limits" not in line} <= set(state.splitlines())
            assert " table 103 proto 77" not in state
