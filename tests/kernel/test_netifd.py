"""What netifd says leads to the right kernel state, and what netifd does costs no connection.

`ubus` is scripted (tests/lab/ubus.py) and says what stands in tests/fixtures/netifd/written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import (
    RUNTIME_DIR,
    SERVER,
    SERVER6,
    Capture,
    Daemon,
    Echo,
    Ubus,
    Wan,
    eventually,
    subflows,
)

pytestmark = pytest.mark.kernel

REPOSITORY = Path(__file__).parents[2]
WRITTEN = REPOSITORY / "tests" / "fixtures" / "netifd" / "written"
ON = "config globals 'globals'\n\toption multipath 'enable'\n"
LAN6 = "2001:db8:a{}00::10"


def dump_fixture(name: str) -> str:
    return (WRITTEN / f"{name}.json").read_text()


def section(name: str, mode: str, *options: str) -> str:
    lines = [f"config interface '{name}'", f"option multipath '{mode}'"]
    return "\n\t".join([*lines, *(f"option {option}" for option in options)]) + "\n"


def wake(daemon: Daemon) -> None:
    """What every hook does in the end."""
    Path(daemon.node.path(f"{RUNTIME_DIR}-hints/.netifd")).write_text("")


def hotplug(daemon: Daemon, **facts: str) -> None:
    """netifd's hook as netifd runs it: sourced, with what it tells in the environment."""
    hook = REPOSITORY / "hotplug" / "iface" / "30-mproutd"
    environment = {**os.environ, "MPROUTD_RUNTIME_DIR": RUNTIME_DIR, **facts}
    daemon.node.run("sh", "-c", f". {hook}", env=environment)


def ours(wan: Wan) -> list[str]:
    """Rules and routes of ours, without the protocol; endpoints."""
    lines = wan.gateway.state().splitlines()
    kept = [line for line in lines if "proto 77" in line or " endpoint " in f" {line}"]
    return [line.replace(" proto 77", "").rstrip() for line in kept]


def reason(daemon: Daemon, name: str) -> str | None:
    reason: str | None = daemon.uplink(name)["families"][0]["reason"]
    return reason


def codes(daemon: Daemon) -> list[str]:
    return [problem["code"] for problem in daemon.query_status()["problems"]]


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(shaped=False, lan=False) as world:
        yield world


def test_a_gateway_that_netifd_keeps_to_itself(wan: Wan) -> None:
    """defaultroute 0: main has no default route; a command without a daemon knows it, too."""
    for n in wan.uplinks:
        wan.address_up(n)
    Ubus(wan.gateway, dump_fixture("without-defaults"))
    daemon = Daemon(wan.gateway)
    daemon.reconcile()
    alone = ours(wan)
    assert "-4 route default via 10.2.2.1 dev eth2 table 7002 src 10.2.2.2" in alone
    assert "-4 endpoint 10.2.2.2 subflow dev eth2" in alone
    daemon.call("flush")
    assert ours(wan) == []
    with daemon:
        eventually(lambda: ours(wan) == alone)
        v4 = daemon.uplink("wan2")["families"][0]
        assert (v4["gateway"], v4["gateway_from"]) == ("10.2.2.1", "netifd")


RECORDED = WRITTEN.parent


def test_the_recordings() -> None:
    """netifd's own words and configuration; `wan3` has its table with netifd, `lte` no device."""
    with Wan(uplinks=3, ipv6=False, shaped=False, lan=False) as wan:
        for n in wan.uplinks:
            wan.gateway.ip(
                f"link set eth{n} down", f"link set eth{n} name w{n}", f"link set w{n} up"
            )
        wan.gateway.ip(
            "address add 10.1.1.2/24 dev w1",
            "route add default via 10.1.1.1 dev w1 proto static metric 1",
            "address add 10.2.2.2/24 dev w2",
            "address add 10.3.3.2/24 dev w3 noprefixroute",
            *(rule.replace("10.2.2", "10.3.3").replace("eth2", "w3") for rule in netifd_keeps(103)),
        )
        ubus = Ubus(wan.gateway, (RECORDED / "interface-dump-up.json").read_text())
        with Daemon(wan.gateway, (RECORDED / "network").read_text()) as daemon:
            second = [
                "-4 endpoint 10.2.2.2 subflow dev w2",
                "-4 route 10.2.2.0/24 dev w2 table 7002 scope link src 10.2.2.2",
                "-4 route default via 10.2.2.1 dev w2 table 7002 src 10.2.2.2",
                "-4 rule 7102 from all fwmark 0x2000000/0x7f000000 lookup 7002",
                "-4 rule 7302 from all oif w2 lookup 7002",
                "-4 rule 7502 from 10.2.2.2 lookup 7002",
            ]
            whole = [
                "-4 endpoint 10.1.1.2 subflow dev w1",
                "-4 endpoint 10.3.3.2 subflow backup dev w3",
                "-4 route 10.1.1.0/24 dev w1 table 7001 scope link src 10.1.1.2",
                "-4 route default via 10.1.1.1 dev w1 table 7000",
                "-4 route default via 10.1.1.1 dev w1 table 7001",
                "-4 rule 32764 from all lookup main suppress_prefixlength 0",
                "-4 rule 32765 from all lookup 7000",
                "-4 rule 7000 from all fwmark 0x7f000000/0x7f000000 lookup main",
                "-4 rule 7010 from all lookup main suppress_prefixlength 7",
                "-4 rule 7101 from all fwmark 0x1000000/0x7f000000 lookup 7001",
                "-4 rule 7103 from all fwmark 0x3000000/0x7f000000 lookup 103",
                "-4 rule 7301 from all oif w1 lookup 7001",
                "-4 rule 7303 from all oif w3 lookup 103",
                "-4 rule 7501 from 10.1.1.2 lookup 7001",
            ]
            eventually(lambda: ours(wan) == sorted(whole + second))
            reasons = [
                (uplink["name"], uplink["families"][0]["reason"]) for uplink in uplinks(daemon)
            ]
            assert reasons == [("wan1", None), ("wan2", None), ("wan3", None), ("lte", "no-device")]
            assert daemon.query_status()["drift"] == []

            # ubus call network.interface.wan2 down: netifd takes its address away.
            ubus.set_reply((RECORDED / "interface-dump-wan2-down.json").read_text())
            wan.gateway.ip("address delete 10.2.2.2/24 dev w2")
            wake(daemon)
            eventually(lambda: ours(wan) == sorted(whole))
            assert reason(daemon, "wan2") == "no-address"


def uplinks(daemon: Daemon) -> list[dict[str, Any]]:
    uplinks: list[dict[str, Any]] = daemon.query_status()["uplinks"]
    return uplinks


PPPOE = (
    ON
    + section("wan", "master", "proto 'pppoe'", "device 'eth7'")
    + section("wan2", "on", "proto 'dhcp'", "device 'eth2'")
    + section("wan6", "on", "proto 'dhcpv6'", "device 'pppoe-wan'")
)
PPPOE_IS_UP = [
    "-4 endpoint 10.1.1.2 subflow dev pppoe-wan",
    "-4 route 10.1.1.1 dev pppoe-wan table 7001 scope link src 10.1.1.2",
    "-4 route default via 10.1.1.1 dev pppoe-wan table 7001 src 10.1.1.2",
    "-4 rule 7301 from all oif pppoe-wan lookup 7001",
    "-6 rule 7301 from all oif pppoe-wan lookup 7001",
    "-6 rule 7501 from 2001:db8:a100::/56 lookup 7001",
]


def dial(wan: Wan) -> None:
    wan.gateway.ip(
        "link set eth1 down",
        "link set eth1 name pppoe-wan",
        "link set pppoe-wan up",
        "address add 10.1.1.2 peer 10.1.1.1/32 dev pppoe-wan",
    )


def test_a_pppoe_session_comes_and_goes(wan: Wan) -> None:
    wan.address_up(2)
    wan.default_route(2)
    wan.gateway.ip("address add 192.168.8.2/24 dev lo")  # eth7, below it, is no uplink
    ubus = Ubus(wan.gateway, dump_fixture("pppoe-down"))
    with Daemon(wan.gateway, PPPOE) as daemon:
        eventually(lambda: reason(daemon, "wan") == "awaiting-device")
        assert [uplink["name"] for uplink in daemon.query_status()["uplinks"]] == [
            "wan",
            "wan2",
            "wan6",
        ]

        dial(wan)
        ubus.set_reply(dump_fixture("pppoe-up"))
        hotplug(daemon, ACTION="ifup", INTERFACE="wan", DEVICE="pppoe-wan")
        eventually(lambda: set(PPPOE_IS_UP) <= set(ours(wan)))
        status = daemon.query_status()
        assert [uplink["name"] for uplink in status["uplinks"]] == ["wan", "wan2"]
        assert "wan6" in " ".join(status["warnings"])
        assert (status["default"]["ipv4"], status["drift"]) == ("wan", [])
        up = wan.gateway.state(ids=True)

        # pppd has died, and netifd has not heard of it yet: the kernel knows.
        wan.gateway.ip("link set pppoe-wan down", "link set pppoe-wan name ppp-old")
        eventually(lambda: reason(daemon, "wan") == "no-device")
        eventually(lambda: not [line for line in ours(wan) if "10.1.1.2" in line])
        ubus.set_reply(dump_fixture("pppoe-down"))
        hotplug(daemon, ACTION="ifdown", INTERFACE="wan")
        eventually(lambda: reason(daemon, "wan") == "awaiting-device")
        assert daemon.query_status()["default"]["ipv4"] == "wan2"

        wan.gateway.ip("link set ppp-old name pppoe-wan", "link set pppoe-wan up")
        ubus.set_reply(dump_fixture("pppoe-up"))
        wake(daemon)
        eventually(lambda: set(PPPOE_IS_UP) <= set(ours(wan)))

        # A new daemon knows it before netifd has answered, and writes nothing.
        daemon.stop()
        up = wan.gateway.state(ids=True)
        ubus.set_reply(dump_fixture("pppoe-up"), delay=60)
        with Daemon(wan.gateway, PPPOE, verbose=True) as second:
            assert second.writes() == []
            assert wan.gateway.state(ids=True) == up


def test_a_modem_has_no_device_until_it_has_registered(wan: Wan) -> None:
    wan.address_up(2)
    wan.default_route(2)
    ubus = Ubus(wan.gateway, dump_fixture("wwan-starting"))
    lte = section("lte", "backup", "proto 'wwan'", "device '/dev/cdc-wdm0'")
    with Daemon(wan.gateway, ON + section("wan2", "on", "device 'eth2'") + lte) as daemon:
        assert reason(daemon, "lte") == "awaiting-device"
        wan.gateway.ip(
            "link set eth1 down",
            "link set eth1 name wwan0",
            "link set wwan0 up",
            "address add 10.1.1.2/32 dev wwan0",
        )
        ubus.set_reply(dump_fixture("wwan-up"))
        wake(daemon)
        eventually(lambda: "-4 endpoint 10.1.1.2 subflow backup dev wwan0" in ours(wan))
        assert "-4 route default dev wwan0 table 7002 scope link src 10.1.1.2" in ours(wan)


def test_hosts_leave_via_the_uplink_of_their_prefix() -> None:
    """wan1 has an address beside its prefix; wan2 brought the prefix alone."""
    with Wan(shaped=False) as wan:
        lan = wan.lan
        assert lan
        for n, router in wan.routers.items():
            router.ip(f"address add fe80::{n}/64 dev access nodad")
            router.ip(f"route add 2001:db8:a{n}00::/56 via fe80::99 dev access")
            wan.gateway.ip(f"address add fe80::99/64 dev eth{n} nodad")
            wan.gateway.ip(f"address add 2001:db8:a{n}00::1/64 dev br-lan nodad")
            wan.server.ip(f"route add 2001:db8:a{n}00::/56 via 2001:db8:90{n}::1")
            lan.ip(f"address add {LAN6.format(n)}/64 dev eth0 nodad")
        lan.ip("route add default via 2001:db8:a100::1")
        wan.address_up(1)
        wan.gateway.ip("address add 10.2.2.2/24 dev eth2")
        Ubus(wan.gateway, dump_fixture("delegated"))
        with Daemon(wan.gateway) as daemon:
            for n in wan.uplinks:
                rule = f"-6 rule 750{n} from 2001:db8:a{n}00::/56 lookup 700{n}"
                eventually(lambda rule=rule: rule in ours(wan), what=rule)  # type: ignore[misc]
            default = "-6 route default via fe80::2 dev eth2 table 7002 metric 1024 pref medium"
            assert default in ours(wan)
            assert daemon.uplink("wan2")["families"][1]["prefixes"] == ["2001:db8:a200::/56"]
            for n in wan.uplinks:
                with Capture(wan.gateway) as capture:
                    source = LAN6.format(n)
                    lan.run("ping", "-6", "-c", "1", "-W", "5", "-I", source, SERVER6)
                    devices = capture.devices(
                        lambda p, source=source: p.source == source  # type: ignore[misc]
                    )
                assert devices == {f"eth{n}"}
            # The LAN wins, whatever the line: main knows it by a longer prefix than 6 bits.
            to_lan = wan.gateway.ip(
                f"route get {LAN6.format(1)} from {LAN6.format(2)} iif br-lan", family=6
            )
            assert "dev br-lan" in to_lan


def netifd_keeps(table: int) -> list[str]:
    """What the real netifd had put there for `ip4table` (README of the recordings)."""
    return [
        f"rule add from 10.2.2.2 lookup {table} priority 10000",
        f"rule add from all to 10.2.2.2/24 lookup {table} priority 20000",
        f"rule add from all iif lo lookup {table} priority 90004",
        f"route add 10.2.2.0/24 dev eth2 table {table} proto static scope link src 10.2.2.2",
        f"route add default via 10.2.2.1 dev eth2 table {table} proto static src 10.2.2.2",
    ]


def test_a_table_of_netifds_is_used_and_left_alone(wan: Wan) -> None:
    wan.address_up(1)
    wan.default_route(1)
    wan.gateway.ip("address add 10.2.2.2/24 dev eth2 noprefixroute", *netifd_keeps(103))
    before = wan.gateway.state()
    ubus = Ubus(wan.gateway, dump_fixture("table-103"))
    with Daemon(wan.gateway) as daemon:
        second = [line for line in ours(wan) if re.search(r"103|eth2|7.02|10\.2\.2", line)]
        assert second == [
            "-4 endpoint 10.2.2.2 subflow dev eth2",
            "-4 rule 7102 from all fwmark 0x2000000/0x7f000000 lookup 103",
            "-4 rule 7302 from all oif eth2 lookup 103",
        ]
        status = daemon.query_status()
        assert (status["degraded"], status["drift"]) == (False, [])
        v4 = status["uplinks"][1]["families"][0]
        assert (v4["table"], v4["table_from"], v4["lookups"][0]["matches"]) == (103, "netifd", True)

        # The table changes: netifd puts all of it elsewhere, and says so.
        away = [rule.replace(" add ", " delete ") for rule in reversed(netifd_keeps(103))]
        wan.gateway.ip(*away, *netifd_keeps(104))
        ubus.set_reply(dump_fixture("table-104"))
        wake(daemon)
        eventually(lambda: "-4 rule 7302 from all oif eth2 lookup 104" in ours(wan))
        daemon.settle()
        assert not [line for line in ours(wan) if "103" in line]
        assert "-4 endpoint 10.2.2.2 subflow dev eth2" in ours(wan)

        # No table of its own any more: it becomes ours.
        away = [rule.replace(" add ", " delete ") for rule in reversed(netifd_keeps(104))]
        wan.gateway.ip(*away, "route add 10.2.2.0/24 dev eth2 proto static scope link")
        ubus.set_reply(dump_fixture("without-defaults"))
        wake(daemon)
        eventually(lambda: "-4 rule 7502 from 10.2.2.2 lookup 7002" in ours(wan))
        daemon.settle()
        assert not [line for line in ours(wan) if "104" in line]

        wan.gateway.ip("route delete 10.2.2.0/24 dev eth2", *netifd_keeps(103))
        ubus.set_reply(dump_fixture("table-103"))
        wake(daemon)
        eventually(lambda: "-4 rule 7302 from all oif eth2 lookup 103" in ours(wan))
        daemon.stop()
        daemon.call("flush")
    assert wan.gateway.state() == before


def test_a_program_gets_the_table_that_is_in_use(wan: Wan) -> None:
    """netifd's for IPv4, also when the interface is down, and ours for IPv6."""
    wan.address_up(1)
    wan.default_route(1)
    wan.gateway.ip("address add 10.2.2.2/24 dev eth2 noprefixroute", *netifd_keeps(103))
    text = dump_fixture("table-103")
    ubus = Ubus(wan.gateway, text)
    wan.gateway.path("/run/act").write_text(
        "echo $MPROUTD_EVENT $MPROUTD_TABLE $MPROUTD_TABLE6 >>/run/runs\n"
    )
    command = "/bin/sh /run/act"
    own = f"config uplink 'wan2'\n\toption on_up '{command}'\n\toption on_down '{command}'\n"
    with Daemon(wan.gateway, own=own):
        runs = wan.gateway.path("/run/runs")
        eventually(lambda: runs.exists() and runs.read_text() == "up 103 7002\n")
        dump = json.loads(text)
        for interface in dump["interface"]:
            if interface["interface"] == "wan2":
                interface.clear()
                interface.update(interface="wan2", up=False)
        ubus.set_reply(json.dumps(dump))
        wan.unplug(2)
        eventually(lambda: runs.read_text() == "up 103 7002\ndown 103 7002\n")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"text": "{", "status": 0}, "JSON"),
        ({"text": "Command failed: Not found", "status": 4}, "status 4"),
        ({"text": "", "delay": 60}, "within 3 s"),
        ({"text": "x" * 2_000_000}, "exceeds"),
        ({}, "ubus is missing"),
    ],
    ids=["nonsense", "refused", "slow", "endless", "absent"],
)
def test_without_a_reply_it_continues_with_the_kernels_facts_and_the_last_reply(
    wan: Wan, fault: dict[str, object], why: str
) -> None:
    wan.usual()
    wan.gateway.ip("route delete default dev eth2", family=4)
    ubus = Ubus(wan.gateway, dump_fixture("without-defaults"))
    with Daemon(wan.gateway) as daemon:
        before = wan.gateway.state(ids=True)
        assert "-4 route default via 10.2.2.1 dev eth2 table 7002 proto 77" in before
        if fault:
            ubus.set_reply(**fault)  # type: ignore[arg-type]
        else:
            ubus.remove()
        wake(daemon)
        # It waits for nothing meanwhile.
        wan.gateway.ip("route delete default table 7001", family=4)
        eventually(lambda: wan.gateway.state(ids=True) == before, timeout=2)
        eventually(lambda: "netifd-unreachable" in codes(daemon), timeout=10)
        eventually(lambda: why in daemon.call("status").words)
        assert wan.gateway.state(ids=True) == before
        assert not [
            line for line in wan.gateway.run("ps", "-eo", "args").splitlines() if "Z" in line[:1]
        ]
        calls = ubus.calls()
        ubus.set_reply(dump_fixture("without-defaults"))
        ubus.install()
        eventually(lambda: "netifd-unreachable" not in codes(daemon), timeout=20)
        assert ubus.calls() > calls
        assert wan.gateway.state(ids=True) == before


def test_a_router_with_many_interfaces(wan: Wan) -> None:
    """An answer that is larger than a pipe."""
    wan.usual()
    many = json.loads(dump_fixture("without-defaults"))
    lan = many["interface"][0]
    many["interface"][:0] = [{**lan, "interface": f"lan{n}"} for n in range(400)]
    Ubus(wan.gateway, json.dumps(many))
    with Daemon(wan.gateway) as daemon:
        eventually(lambda: daemon.uplink("wan2")["families"][0]["gateway_from"] == "netifd")
        assert codes(daemon) == []


def test_ten_hooks_at_once_are_few_questions(wan: Wan) -> None:
    wan.usual()
    ubus = Ubus(wan.gateway, dump_fixture("without-defaults"))
    with Daemon(wan.gateway) as daemon:
        eventually(lambda: ubus.calls() >= 2)
        daemon.settle()
        before, passes = ubus.calls(), daemon.query_status()["counts"]["passes"]
        for _ in range(10):
            wake(daemon)
        eventually(lambda: ubus.calls() > before)
        daemon.settle()
        assert ubus.calls() - before <= 4
        assert daemon.query_status()["counts"]["passes"] - passes <= 20


RESTART = [
    "rule flush",
    "rule add priority 32766 lookup main",
    *(f"route flush table {table}" for table in ("main", 7000, 7001, 7002)),
]
"""What netifd does when it starts anew; the addresses of both uplinks are those that it wants."""
BACK = {
    4: [
        "rule add priority 32767 lookup default",
        "route add 10.1.1.0/24 dev eth1 proto static scope link src 10.1.1.2",
        "route add 10.2.2.0/24 dev eth2 proto static scope link src 10.2.2.2",
        "route add default via 10.1.1.1 dev eth1 proto static metric 1",
        "route add default via 10.2.2.1 dev eth2 proto static metric 2",
    ],
    6: [
        f"route add default via 2001:db8:{n}::1 dev eth{n} proto static metric {n}" for n in (1, 2)
    ],
}


@pytest.mark.parametrize("server", [SERVER, SERVER6], ids=["IPv4", "IPv6"])
def test_a_restart_of_netifd_costs_no_connection(wan: Wan, server: str) -> None:
    for n in wan.uplinks:
        wan.address_up(n)
    wan.gateway.ip("route flush table all dev eth1 proto kernel scope link", family=4)
    wan.gateway.ip("route flush table all dev eth2 proto kernel scope link", family=4)
    wan.gateway.ip(*BACK[4][1:], family=4)
    wan.gateway.ip(*BACK[6], family=6)
    Ubus(wan.gateway, dump_fixture("without-defaults"))
    with Daemon(wan.gateway, verbose=True) as daemon:
        daemon.settle()
        before = wan.gateway.state(ids=True)
        with Echo(wan.gateway, wan.server, server) as echo:
            eventually(lambda: len(subflows(wan.gateway, echo.port)) >= 2)
            ports = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
            echo.report()
            daemon.writes()
            wan.gateway.ip(*RESTART, family=4)
            wan.gateway.ip("rule flush", "rule add priority 32766 lookup main", family=6)
            wan.gateway.ip(*BACK[4], family=4)
            eventually(lambda: wan.gateway.state(ids=True) == before)
            daemon.settle()
            report = echo.report()
            assert {subflow.local_port for subflow in subflows(wan.gateway, echo.port)} == ports
            assert (report.error, report.mptcp) == ("", True)
            assert report.gap < 1.5
            writes = daemon.writes()
            assert not [
                command for command in writes if " mptcp " in command or " delete " in command
            ]
            lost = [line for line in before.splitlines() if "proto 77" in line]
            assert len(writes) <= 2 * len(lost)  # twice where it is taken away half-way

            # Now with wan2's address, as where its lease begins anew: wan1 goes on.
            before = wan.gateway.state()
            kept = {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}
            wan.gateway.ip("address delete 10.2.2.2/24 dev eth2", *RESTART, family=4)
            eventually(lambda: "-4 endpoint 10.2.2.2 subflow dev eth2" not in ours(wan))
            wan.gateway.ip("address add 10.2.2.2/24 dev eth2 noprefixroute", *BACK[4], family=4)
            eventually(lambda: wan.gateway.state() == before)
            again = echo.report()
            assert (again.error, again.mptcp) == ("", True)
            assert again.gap < 1.5
            assert kept & {subflow.local_port for subflow in subflows(wan.gateway, echo.port)}


def test_where_there_is_no_ubus_nothing_of_it_is_loaded(wan: Wan) -> None:
    wan.usual()
    with Daemon(wan.gateway) as daemon:
        code = (
            "import sys\n"
            "from types import SimpleNamespace\n"
            "from mproutd import commands\n"
            "from mproutd.services import registry\n"
            "from mproutd.configuration.config import Config, UplinkConfig\n"
            "config = Config(pin_flows=False, uplinks=(UplinkConfig('w', 'eth1'),))\n"
            "context = SimpleNamespace(runtime_dir='/run/nowhere')\n"
            "registry.Services(context).on_configuration(config)\n"
            "for part in ('services', 'planning'):\n"
            "    print(f'mproutd.{part}.netifd' in sys.modules)\n"
        )
        program = [*daemon.command("run")[:5], "-c", code]
        assert wan.gateway.run(*program).split() == ["False", "False"]
