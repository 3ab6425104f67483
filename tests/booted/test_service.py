"""mproutd.service on a booted Debian: who it runs as, what it may touch, what it says, and when."""

from __future__ import annotations

import json
import re

import pytest

from mproutd.planning.uplinks import REASONS
from tests.booted import Booted, Providers
from tests.booted.providers import lease
from tests.booted.system import REPOSITORY
from tests.lab import TWO_UPLINKS, eventually
from tests.networks.guide import Guide

pytestmark = pytest.mark.booted

INTERFACES = """\
auto lo
iface lo inet loopback

auto eth1
iface eth1 inet dhcp

auto eth2
iface eth2 inet dhcp
"""
BOTH = "2 of 2 uplinks usable: wan1 wan2"
CAPABILITIES = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
"""linux/capability.h."""

# As the daemon, in its view of the machine: every file and folder that it could write.  Not those
# of its own process, nor sockets and devices, where writing is asking.
WRITABLE = """\
pid=$(systemctl show --value --property=MainPID mproutd)
cut -d' ' -f5 /proc/$pid/mountinfo | while read -r mount; do
	nsenter --target $pid --mount setpriv --reuid mproutd --regid mproutd --clear-groups find \\
		"$mount" -xdev \\( -type f -o -type d \\) -writable -not -path '/proc/[0-9]*' 2>/dev/null
done | sort -u
"""


@pytest.fixture(scope="module")
def machine(package):
    with Providers() as providers, Booted(providers.plug_in) as made:
        made.install(package)
        made.write("/etc/network/interfaces", INTERFACES)
        yield made


@pytest.fixture
def gateway(machine):
    """Both uplinks have their lease and are in use by the unit as we ship it."""
    machine.run(
        "systemctl stop mproutd; mproutd flush; rm -rf /etc/systemd/system/mproutd.service.d"
    )
    machine.write("/etc/mproutd/network", TWO_UPLINKS)
    machine.run("ip link set eth2 up; ifup eth1 eth2")
    machine.run("systemctl daemon-reload; systemctl reset-failed; systemctl start mproutd")
    eventually(lambda: machine.unit_state("mproutd", "StatusText") == BOTH, 10)
    return machine


def entries(machine: Booted, *match: str) -> list[dict[str, str]]:
    """What journalctl(1) finds of this boot, with all fields."""
    lines = machine.journal("--output=json", "-b", *match).splitlines()
    return [json.loads(line) for line in lines]


def test_it_works_as_an_unprivileged_user_and_can_write_nothing_else(gateway):
    assert {lease(1), lease(2)} == {
        line.split()[0] for line in gateway.network.ip("mptcp endpoint show").splitlines()
    }

    status = gateway.run("cat /proc/$(systemctl show --value -p MainPID mproutd)/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    uid = gateway.run("id -u mproutd").strip()
    assert fields["Uid"].split() == [uid] * 4
    assert uid != "0"
    assert {int(fields[name], 16) for name in CAPABILITIES} == {NET_ADMIN | NET_RAW}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"

    # Nothing but its own folder, its private temporary ones, and the three settings of devices,
    # for which the kernel asks for CAP_NET_ADMIN and not for the owner of the file.
    assert {
        re.sub(r"^/run/mproutd/.*", "/run/mproutd/…", path)
        for path in gateway.run(WRITABLE).splitlines()
        # Since 254 systemd gives a service its own memory.pressure, for notifications.
        if not path.startswith("/proc/pressure/")
        and not path.endswith("/mproutd.service/memory.pressure")
    } == {"/run/mproutd", "/run/mproutd/…", "/tmp", "/var/lib/mproutd", "/var/tmp"}
    modes = gateway.run("stat -c '%n %U %a' /run/mproutd /run/mproutd-hints /run/mproutd/*")
    modes_by_path = dict(line.split(" ", 1) for line in modes.splitlines())
    assert modes_by_path == {
        "/run/mproutd": "mproutd 755",
        "/run/mproutd-hints": "root 755",
        "/run/mproutd/control.sock": "mproutd 660",
        "/run/mproutd/lock": "mproutd 600",
        "/run/mproutd/state.json": "mproutd 600",
    }
    gateway.run("sysctl -w net.ipv4.conf.eth1.rp_filter=1 && mproutd reconcile")
    assert gateway.network.sysctl("net.ipv4.conf.eth1.rp_filter") == "2"
    seccomp = entries(gateway, "_AUDIT_TYPE_NAME=SECCOMP")
    assert seccomp == []

    # Members of the group may ask, others not.
    gateway.run("useradd --groups mproutd friend && useradd stranger")
    assert "wan2" in gateway.run("setpriv --reuid friend --init-groups mproutd status")
    refused = gateway.call("setpriv --reuid stranger --init-groups mproutd status")
    assert refused.returncode == 1
    assert "permission denied" in refused.stdout

    # What root's commands leave behind, the daemon can read and write.
    gateway.run("systemctl stop mproutd && mproutd flush && mproutd reconcile")
    before = gateway.network.state(ids=True)
    gateway.run("systemctl start mproutd && mproutd status")
    assert gateway.network.state(ids=True) == before
    assert gateway.run("stat -c %U /run/mproutd/state.json").strip() == "mproutd"

    assert gateway.call("systemd-analyze verify mproutd.service").stdout == ""
    score = gateway.run("systemd-analyze --no-pager security mproutd.service").splitlines()[-1]
    assert float(score.split(":")[1].split()[0]) <= 2.0, score


def test_the_journal_can_be_filtered_by_uplink(gateway):
    ending = f"{lease(2)} via 10.2.2.1 (lease)"
    usable, *_ = [
        entry["MESSAGE"]
        for entry in entries(gateway, "UPLINK=wan2")
        if entry["MESSAGE"].endswith(ending)
    ]
    assert usable not in [entry["MESSAGE"] for entry in entries(gateway, "UPLINK=wan1")]
    *_, event = [entry for entry in entries(gateway, "DEVICE=eth2") if entry["MESSAGE"] == usable]
    assert event["PRIORITY"] == "6"
    assert event["_SYSTEMD_UNIT"] == "mproutd.service"
    assert event["_TRANSPORT"] == "journal"
    assert event["SYSLOG_IDENTIFIER"] == "mproutd"

    # Leases that are renewed, and a reload of what is in use: nothing is decided, nothing said.
    count = len(entries(gateway, "UPLINK=wan1", "+", "UPLINK=wan2"))
    gateway.run("systemctl reload mproutd && dhclient -1 eth2 && systemctl reload mproutd")
    assert len(entries(gateway, "UPLINK=wan1", "+", "UPLINK=wan2")) == count

    gateway.run("ip link set eth2 down")
    eventually(lambda: "wan2" not in gateway.unit_state("mproutd", "StatusText").split(";")[0])
    (lost,) = entries(gateway, "UPLINK=wan2", "PRIORITY=4")[-1:]
    assert lost["MESSAGE"].endswith(REASONS["link-down"])


def test_a_reload_fails_with_a_wrong_configuration_and_succeeds_with_a_right_one(gateway):
    pid = gateway.unit_state("mproutd", "MainPID")
    before = gateway.network.state(ids=True)
    gateway.write("/etc/mproutd/network", TWO_UPLINKS.replace("'on'", "'sometimes'"))
    assert gateway.call("systemctl reload mproutd").returncode == 1
    assert gateway.unit_state("mproutd") == "active"
    text = gateway.unit_state("mproutd", "StatusText")
    assert text.startswith("configuration rejected, using the last good one: /etc/mproutd/")
    assert text.endswith(BOTH)
    assert gateway.network.state(ids=True) == before
    gateway.write("/etc/mproutd/network", TWO_UPLINKS.replace("'wan2'", "'lte'"))
    for command in ("systemctl reload mproutd", "systemctl kill --signal=HUP mproutd"):
        gateway.run(command)
        eventually(
            lambda: gateway.unit_state("mproutd", "StatusText") == BOTH.replace("wan2", "lte")
        )
        assert gateway.unit_state("mproutd", "SubState") == "running"
        gateway.run("mproutd status")
    assert gateway.unit_state("mproutd", "MainPID") == pid
    # A start with a wrong one fails for good, and is not tried again and again.
    gateway.write("/etc/mproutd/network", "nonsense\n")
    assert gateway.call("systemctl restart mproutd").returncode == 1
    assert gateway.unit_state("mproutd") == "failed"
    assert gateway.unit_state("mproutd", "ExecMainStatus") == "2"
    # Not enabled: what an earlier run left is taken back, and the next boot starts nothing.
    gateway.write("/etc/mproutd/network", TWO_UPLINKS.replace("enable", "disable"))
    gateway.run("systemctl restart mproutd")
    eventually(lambda: "proto 77" not in gateway.network.state())
    assert gateway.unit_state("mproutd", "StatusText").startswith("multipath is not enabled")
    gateway.reboot()
    assert gateway.unit_state("mproutd", "Result") == "exec-condition"
    assert gateway.unit_state("mproutd", "MainPID") == "0"


def test_pings_work_inside_its_walls_and_a_door_can_be_opened_for_programs(gateway):
    gateway.write(
        "/usr/local/sbin/record", '#!/bin/sh\necho "$MPROUTD_EVENT" >>/var/lib/events/$1\n'
    )
    gateway.run("install -d -o mproutd /var/lib/events")
    section = "config uplink 'wan{n}'\n\tlist track_ip '10.{n}.{n}.1'\n\toption interval '0.2'\n"
    section += "\toption on_up '/usr/local/sbin/record wan{n}'\n"
    section += "\toption on_down '/usr/local/sbin/record wan{n}'\n"
    gateway.write("/etc/mproutd/mproutd", section.format(n=1) + section.format(n=2))
    gateway.run("systemctl restart mproutd")
    try:
        eventually(lambda: "Read-only file system" in gateway.journal("-b", "-u", "mproutd"), 10)
        assert gateway.run("ls /var/lib/events") == ""
        door = "[Service]\nReadWritePaths=/var/lib/events\n"
        gateway.write("/etc/systemd/system/mproutd.service.d/door.conf", door)
        gateway.run("systemctl daemon-reload && systemctl restart mproutd")
        gateway.run("ip link set eth2 down && sleep 0.5 && ip link set eth2 up")
        eventually(lambda: gateway.run("cat /var/lib/events/wan2") == "down\nup\n", 10)

        def verdicts() -> list[str]:
            status = json.loads(gateway.run("mproutd status --json"))
            return [
                family["summary"] for uplink in status["uplinks"] for family in uplink["health"]
            ]

        eventually(lambda: verdicts() == ["1 of 1 hosts reply"] * 2)
    finally:
        gateway.run("rm -f /etc/mproutd/mproutd /run/mproutd/actions")


def test_the_metrics_are_served_by_the_documented_unit(gateway):
    """With Debian's own library: 0.16 in Debian 12, 0.21 in Debian 13."""
    gateway.run("apt-get install --yes python3-prometheus-client")
    for path, text in Guide("../metrics").files("gateway").items():
        gateway.write(path, text.replace("10.0.0.1", "[::1]"))
    gateway.run("systemctl daemon-reload && systemctl enable --now mproutd-metrics")
    scrape = (
        "import urllib.request as web; print(web.urlopen('http://[::1]:9785/').read().decode())"
    )
    try:
        eventually(lambda: "mproutd_up 1.0" in gateway.call(f'python3 -c "{scrape}"').stdout, 10)
        assert gateway.unit_state("mproutd-metrics") == "active"
        pid = gateway.unit_state("mproutd-metrics", "MainPID")
        assert gateway.run(f"stat --format=%u /proc/{pid}").strip() != "0"
    finally:
        gateway.run("systemctl disable --now mproutd-metrics", check=False)
        gateway.run("rm -f /etc/systemd/system/mproutd-metrics.service")


def test_what_the_source_package_has_for_autopkgtest_passes(gateway):
    gateway.run("systemctl stop mproutd; mproutd flush; ifdown eth1 eth2")
    gateway.run("cp /usr/share/mproutd/network /etc/mproutd/")
    for script in ("uplinks", "service"):
        text = (REPOSITORY / "packaging/debian/tests" / script).read_text()
        gateway.write(f"/root/{script}", text)
        done = gateway.call(f"AUTOPKGTEST_TMP=$(mktemp -d) /root/{script}")
        assert done.returncode == 0, done.stdout


def test_a_stuck_loop_logs_where_and_is_restarted(gateway):
    gateway.write("/etc/systemd/system/mproutd.service.d/soon.conf", "[Service]\nWatchdogSec=2s\n")
    gateway.run("systemctl daemon-reload && systemctl restart mproutd")
    before, pid = gateway.network.state(ids=True), gateway.unit_state("mproutd", "MainPID")
    gateway.run("systemctl kill --signal=STOP mproutd")
    eventually(lambda: gateway.unit_state("mproutd", "NRestarts") == "1", 20)
    eventually(lambda: gateway.unit_state("mproutd") == "active", 20)
    assert gateway.unit_state("mproutd", "MainPID") not in ("0", pid)
    assert gateway.network.state(ids=True) == before
    log = gateway.journal("-b", "-u", "mproutd")
    assert "Watchdog timeout (limit 2s)!" in log
    assert re.search(r'File ".*/eventloop\.py", line \d+ in run_once', log)
    for _ in range(6):  # systemd would give up after five in ten seconds
        pid = gateway.unit_state("mproutd", "MainPID")
        gateway.run("systemctl kill --signal=KILL mproutd")
        eventually(lambda: gateway.unit_state("mproutd", "MainPID") not in ("0", pid), 20)  # noqa: B023
    eventually(lambda: gateway.unit_state("mproutd") == "active", 20)
    assert gateway.network.state(ids=True) == before


def test_a_boot_waits_for_no_uplink(gateway):
    """Neither device is there, nor ever will be."""
    missing = TWO_UPLINKS.replace("eth1", "wwan0").replace("eth2", "wwan1")
    gateway.write("/etc/mproutd/network", missing)
    gateway.reboot()
    assert (
        gateway.unit_state("mproutd", "StatusText")
        == "0 of 2 uplinks usable; wan1 no device; wan2 no device"
    )
    # Started before what uses the network, and wanting nothing of it.
    after = gateway.unit_state("mproutd", "After").split()
    assert not {"network-online.target", "network.target", "networking.service"} & set(after)
    at = {
        (unit, what): int(gateway.unit_state(unit, f"{what}TimestampMonotonic"))
        for unit in ("mproutd", "network.target", "multi-user.target")
        for what in ("InactiveExit", "ActiveEnter")
    }
    ready = at["mproutd", "ActiveEnter"]
    assert (
        0 < ready <= at["network.target", "ActiveEnter"] <= at["multi-user.target", "ActiveEnter"]
    )
    took = (ready - at["mproutd", "InactiveExit"]) / 1e6
    print(f"from start to ready: {took:.2f} s")
    print(gateway.run("systemd-analyze --no-pager critical-chain mproutd.service"))
