"""Hosts leave the prefix of an uplink that is out, with dnsmasq and the kernel's own SLAAC."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mproutd.netlink import lifetimes
from tests.lab import (
    RUNTIME_DIR,
    SERVER6,
    TWO_UPLINKS,
    Daemon,
    Echo,
    Namespace,
    Ubus,
    eventually,
)
from tests.lab.delegated import OWN, PREFERRED, VALID, DelegatedLan, lan_address, program
from tests.lab.wan import address

pytestmark = pytest.mark.kernel

CHECKED = OWN.replace(
    "56'\n",
    f"56'\n\tlist track_ip '{SERVER6}'\n\toption interval '1'\n\toption down '1'\n"
    "\toption up '1'\n",
    1,
)


@pytest.fixture
def lan() -> Iterator[DelegatedLan]:
    with DelegatedLan() as made:
        yield made


def wait_deprecated(lan: DelegatedLan, *uplinks: int) -> None:
    eventually(lambda: lan.deprecated() == set(uplinks), 30, f"deprecated: {uplinks}")


def as_leased(lan: DelegatedLan, n: int) -> bool:
    """Whether the address has the lifetimes of its lease, but for what has elapsed."""
    valid, preferred = lan.lifetimes(n)
    assert isinstance(valid, int)
    assert isinstance(preferred, int)
    return VALID - 120 < valid <= VALID and PREFERRED - 120 < preferred <= PREFERRED


def modes(mode: str) -> str:
    return TWO_UPLINKS.replace("'master'", f"'{mode}'")


def goes_on(flow: Echo) -> None:
    before = flow.report()
    assert not before.error
    eventually(lambda: flow.report().received > before.sent + 5, 20)


def test_hosts_move_whichever_way_an_uplink_fails_and_come_back(lan: DelegatedLan) -> None:
    lan.announce()
    host = lan.host_up()
    with Daemon(lan.gateway, own=CHECKED) as daemon:

        def set_mode(mode: str) -> None:
            daemon.configure(modes(mode))
            daemon.reconcile()

        def drop_probes(drop: bool) -> None:
            hook = "type filter hook forward priority 1;"
            rule = "meta l4proto ipv6-icmp drop" if drop else ""
            lan.routers[1].run(
                *("nft", "-f", "-"),
                input=f"table inet probes\ndelete table inet probes\n"
                f"table inet probes {{ chain forward {{ {hook} {rule}\n}}\n}}\n",
            )

        def plug() -> None:
            lan.plug(1)

        ways: list[tuple[Callable[[], None], Callable[[], None], bool]] = [
            (lambda: lan.unplug(1), plug, False),
            (lambda: drop_probes(True), lambda: drop_probes(False), True),
            (lambda: set_mode("handover"), lambda: set_mode("master"), True),
            (lambda: set_mode("off"), lambda: set_mode("master"), True),
        ]
        lan.wait_for_host("1", "2")
        for fail, restore, carries in ways:
            first = next(own for own in lan.host_addresses() if "a001" in own)
            with Echo(host, lan.server, SERVER6, bind=first, mptcp=False) as old:
                fail()
                wait_deprecated(lan, 1)
                lan.wait_for_host("2")
                assert "a002" in lan.source()
                with Echo(host, lan.server, SERVER6, mptcp=False) as new:
                    goes_on(new)
                if carries:
                    goes_on(old)
            assert daemon.uplink("wan1")["deprecated"] == [
                {"address": lan_address(1), "device": "br-lan"}
            ]
            restore()
            wait_deprecated(lan)
            lan.wait_for_host("1", "2")
            assert as_leased(lan, 1)
            assert as_leased(lan, 2)
        shown = daemon.call("status").words
        assert "prefixes announced by: dnsmasq (follows the kernel)" in shown
        lan.unplug(1)
        wait_deprecated(lan, 1)
        assert f"deprecated in lan: {lan_address(1)} on br-lan" in daemon.call("status").words


def test_radvd_follows_by_the_program_of_the_guide(lan: DelegatedLan) -> None:
    guide = (Path(__file__).parents[2] / "docs/ipv6.md").read_text()
    program_text = guide.partition("<!-- file: /usr/local/sbin/announce -->\n```\n")[2]
    path = lan.gateway.path("/run/announce")
    path.write_text(program_text.partition("```")[0])
    path.chmod(0o755)
    lan.host_up()
    lan.gateway.ip(f"address change {lan_address(2)}/64 dev br-lan")
    lan.started.append(lan.gateway.popen("/run/announce"))
    eventually(lambda: "infinity" in lan.gateway.path("/run/radvd.conf").read_text(), 20)
    lan.started.append(
        lan.gateway.popen(
            *(program("radvd"), "--nodaemon", "--logmethod=logfile", "--logfile=/run/radvd.log"),
            *("--config=/run/radvd.conf", "--pidfile=/run/radvd.pid"),
        )
    )
    with Daemon(lan.gateway, own=OWN) as daemon:
        lan.wait_for_host("1", "2")
        for n, other in ((1, "2"), (2, "1")):
            lan.unplug(n)
            wait_deprecated(lan, n)
            lan.wait_for_host(other)
            lan.plug(n)
            wait_deprecated(lan)
            lan.wait_for_host("1", "2")
        assert lan.lifetimes(2) == ("forever", "forever")
        codes = [problem["code"] for problem in daemon.status()["problems"]]
        assert codes == ["announcer-ignores-kernel"]


def test_renewals_restarts_and_flush(lan: DelegatedLan) -> None:
    daemon = Daemon(lan.gateway, own=OWN)
    clean = lan.gateway.ip("address show dev br-lan", family=6).count("deprecated")
    with daemon:
        lan.unplug(1)
        wait_deprecated(lan, 1)
        for _ in range(3):
            lan.lease(1)
            wait_deprecated(lan, 1)
        lan.lease(1, 1000, 2000)
        wait_deprecated(lan, 1)
        for state in ((1,), (), (1,)):
            (lan.unplug if state else lan.plug)(1)
            wait_deprecated(lan, *state)
            daemon.kill9()
            daemon.start()
            wait_deprecated(lan, *state)
        daemon.kill9()
        lan.plug(1)
        lan.unplug(2)
        daemon.start()
        wait_deprecated(lan, 2)
        valid, preferred = lan.lifetimes(1)
        assert isinstance(valid, int)
        assert isinstance(preferred, int)
        assert 900 < preferred <= 1000 < valid <= 2000, "of the last renewal"
        lan.unplug(1)
        wait_deprecated(lan)
        assert as_leased(lan, 2), "none is better"
        lan.plug(2)
        wait_deprecated(lan, 1)
        lan.plug(1)
        wait_deprecated(lan)

        lan.unplug(2)
        wait_deprecated(lan, 2)
        daemon.configure(own=OWN + "config mproutd 'globals'\n\toption deprecate_prefixes '0'\n")
        daemon.reconcile()
        wait_deprecated(lan)
        assert as_leased(lan, 2)
        daemon.configure(own=OWN)
        daemon.reconcile()
        wait_deprecated(lan, 2)
        daemon.configure(TWO_UPLINKS.replace("enable", "disable"))
        daemon.reconcile()
        wait_deprecated(lan)
        daemon.configure(TWO_UPLINKS)
        daemon.reconcile()
        wait_deprecated(lan, 2)
    assert lan.deprecated() == {2}, "a stop changes nothing"
    assert "deprecated in lan" in daemon.call("status", "wan2").words
    flushed = daemon.call("flush")
    assert f"ip addr change {lan_address(2)}/64 dev br-lan valid_lft" in flushed.out
    assert flushed.code == 0
    assert as_leased(lan, 2)
    assert lan.gateway.ip("address show dev br-lan", family=6).count("deprecated") == clean
    left = {path.name for path in lan.gateway.path(RUNTIME_DIR).iterdir()}
    assert left <= {"lock", "control.sock"}


def test_a_command_does_the_same_without_a_daemon(lan: DelegatedLan) -> None:
    daemon = Daemon(lan.gateway, own=OWN)
    lan.gateway.ip(f"address change {lan_address(2)}/64 dev br-lan noprefixroute")
    assert lan.lifetimes(2) == ("forever", "forever")
    lan.unplug(2)
    eventually(lambda: "NO-CARRIER" in lan.gateway.ip("link show dev eth2"), 20)
    planned = f"ip addr change {lan_address(2)}/64 dev br-lan valid_lft forever preferred_lft 0"
    assert f"{planned} noprefixroute\n" in daemon.reconcile("--dry-run")
    assert lan.deprecated() == set()
    assert planned in daemon.reconcile()
    assert lan.lifetimes(2) == ("forever", 0)
    assert "noprefixroute" in lan.gateway.ip(
        f"address show dev br-lan to {lan_address(2)}", family=6
    )
    assert planned not in daemon.reconcile()
    lan.plug(2)
    eventually(lambda: "NO-CARRIER" not in lan.gateway.ip("link show dev eth2"), 20)
    assert "preferred_lft forever" in daemon.reconcile()
    assert lan.lifetimes(2) == ("forever", "forever")


def test_a_program_that_insists_is_limited_and_named(lan: DelegatedLan) -> None:
    with Daemon(lan.gateway, own=OWN) as daemon:
        lan.unplug(1)
        wait_deprecated(lan, 1)

        def limited() -> bool:
            lan.lease(1)
            eventually(lambda: lan.deprecated() == {1}, 30)
            problems = daemon.query_status()["problems"]
            return any(
                problem["code"] in ("removed-externally", "rate-limited")
                and lan_address(1) in problem["object"]
                and problem["count"] >= 5
                for problem in problems
            )

        eventually(limited, 60)


def test_prefixes_that_netifd_delegates_and_withdraws(lan: DelegatedLan) -> None:
    def dump(*up: int) -> str:
        interfaces = [
            {
                "interface": f"wan{n}",
                "up": n in up,
                "l3_device": f"eth{n}",
                "ipv6-prefix": [{"address": f"2001:db8:a00{n}::", "mask": 56}],
            }
            for n in (1, 2)
        ]
        return json.dumps({"interface": interfaces})

    ubus = Ubus(lan.gateway, dump(1, 2))
    with Daemon(lan.gateway) as daemon:

        def known(*uplinks: int) -> bool:
            found = {n for n in (1, 2) if daemon.uplink(f"wan{n}")["families"][1]["prefixes"]}
            return found == set(uplinks)

        eventually(lambda: known(1, 2), 30)
        eventually(lambda: "deprecated" in daemon.uplink("wan1"), 30)
        ubus.set_reply(dump(2))
        lan.admin_down(1)
        wait_deprecated(lan, 1)
        eventually(lambda: known(2), 30)
        daemon.kill9()
        daemon.start()
        wait_deprecated(lan, 1)
        lan.lease(1)
        wait_deprecated(lan, 1)
        ubus.set_reply(dump(1, 2))
        lan.admin_up(1)
        lan.default_route(1)
        wait_deprecated(lan)
        assert as_leased(lan, 1)


def test_an_uplink_without_an_address_of_its_own(lan: DelegatedLan) -> None:
    """As many providers have it: a prefix, and the link-local addresses of both ends."""
    router, host = lan.routers[1], lan.lan
    assert host

    def link_local(node: Namespace, device: str) -> str:
        text = node.ip(f"address show dev {device} scope link", family=6)
        return text.split("inet6 ")[1].split("/")[0]

    own = eventually(lambda: link_local(lan.gateway, "eth1"))
    lan.gateway.ip(
        f"address delete {address(1, 6)}/64 dev eth1",
        f"route replace default via {link_local(router, 'access')} dev eth1 metric 1",
        family=6,
    )
    router.ip(f"route replace 2001:db8:a001::/56 via {own} dev access", family=6)
    host.ip("address add 2001:db8:a001::99/64 dev eth0 nodad", family=6)
    host.ip(f"route add default via {lan_address(1)} dev eth0", family=6)
    with Daemon(lan.gateway, own=OWN) as daemon:
        eventually(lambda: "deprecated" in daemon.uplink("wan1"), 30)
        assert daemon.uplink("wan1")["families"][1]["reason"] == "no-address"
        with Echo(host, lan.server, SERVER6, bind="2001:db8:a001::99", mptcp=False) as flow:
            goes_on(flow)
        daemon.settle()
        assert lan.deprecated() == set()
        lan.unplug(1)
        wait_deprecated(lan, 1)


def test_an_address_that_is_deleted_meanwhile_is_not_made_again(node: Namespace) -> None:
    """The kernel adds an address whose lifetimes are changed (inet6_rtm_newaddr)."""
    node.ip("link add lan0 type bridge", "link set lan0 up")
    for own in ("2001:db8::1", "2001:db8::2"):
        node.ip(f"address add {own}/64 dev lan0 valid_lft 200 preferred_lft 100 nodad")
    with node.enter():
        first, second = sorted(lifetimes.read_addresses())
        time.sleep(0.03)  # the kernel notes in hundredths of a second when an address was made
        node.ip("address delete 2001:db8::1/64 dev lan0")
        changes = [address._replace(preferred=0) for address in (first, second)]
        missing = second._replace(address="2001:db8::3", link=99)
        assert [error and error.errno for error in lifetimes.change_lifetimes([missing])] == [
            errno.ENODEV
        ]
        assert lifetimes.change_lifetimes(changes) == [None, None]
        (left,) = lifetimes.read_addresses()
    assert left == second._replace(preferred=0, valid=left.valid, flags=left.flags)
