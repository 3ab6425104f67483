"""Beside mwan3 and pbr: all three have their say, and none takes away what is another's.

Their rules, marks and clean-ups as they are in openwrt/packages: mwan3 has four priorities for
each interface between 1001 and 3999 and its marks in 0x3f00, and deletes any rule there whose
priority ends in an interface's number; pbr has 29745 to 30001, and 0x00ff0000.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.lab import SERVER, SERVER6, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

MWAN3 = [
    line
    for n in (1, 2)
    for line in (
        f"rule add priority {1000 + n} iif eth{n} lookup main",
        f"rule add priority {2000 + n} fwmark {n << 8:#x}/0x3f00 lookup {n}",
        f"rule add priority {3000 + n} fwmark {n << 8:#x}/0x3f00 unreachable",
    )
] + [
    "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
    "rule add priority 2062 fwmark 0x3e00/0x3f00 unreachable",
]
PBR = [
    "rule add priority 29997 fwmark 0x10000/0xff0000 lookup 256",
    "rule add priority 29998 fwmark 0x20000/0xff0000 lookup 257",
    "rule add priority 30000 lookup main suppress_prefixlength 1",
]
VIA = {4: ("10.1.1.1", "10.2.2.1"), 6: ("2001:db8:1::1", "2001:db8:2::1")}
TO = {4: SERVER, 6: SERVER6}
FROM = {4: ("10.1.1.2", "10.2.2.2"), 6: ("2001:db8:1::2", "2001:db8:2::2")}


def tables(family: int) -> list[str]:
    return [
        f"route add default via {via} dev eth{n} table {table}"
        for n, via in enumerate(VIA[family], 1)
        for table in (n, 255 + n)
    ]


@pytest.fixture
def world() -> Iterator[Wan]:
    with Wan(shaped=False).usual() as wan:
        for family in (4, 6):
            wan.gateway.ip(*MWAN3, *PBR, *tables(family), family=family)
        yield wan


def clean_up(wan: Wan, ours: Callable[[int], bool]) -> int:
    """Delete every rule whose priority is theirs, as their scripts do; how many that were."""
    lost = 0
    for family in (4, 6):
        shown = wan.gateway.ip("rule show", family=family)
        for priority in map(int, re.findall(r"^(\d+):", shown, re.MULTILINE)):
            if ours(priority):
                wan.gateway.ip(f"rule delete priority {priority}", family=family)
                lost += 1
    return lost


def device(wan: Wan, family: int, words: str = "") -> str:
    """The device by which a packet to the server leaves."""
    route = wan.gateway.ip(f"route get {TO[family]} {words}", family=family)
    match = re.search(r" dev (\S+)", route)
    assert match, route
    return match[1]


def test_all_three_are_right_and_outlast_each_other(world: Wan) -> None:
    theirs = {line for line in world.gateway.state().splitlines() if "limits" not in line}
    daemon = Daemon(world.gateway, verbose=True).start()
    eventually(lambda: world.gateway.ip("mptcp endpoint show").count("subflow") == 4)
    assert not daemon.settle()["degraded"]

    def untouched() -> bool:
        return theirs <= set(world.gateway.state().splitlines())

    assert untouched()
    for family in (4, 6):
        for n, address in enumerate(FROM[family], 1):
            assert device(world, family, f"from {address}") == f"eth{n}"  # ours
            assert device(world, family, f"oif eth{n}") == f"eth{n}"
            assert device(world, family, f"mark {n << 24:#x}") == f"eth{n}"
            assert device(world, family, f"mark {n << 8:#x}") == f"eth{n}"  # mwan3's
            assert device(world, family, f"mark {n << 16:#x}") == f"eth{n}"  # pbr's
        # mwan3 comes before us, and we before pbr.
        assert device(world, family, "mark 0x1000200") == "eth2"
        assert device(world, family, "mark 0x1020000") == "eth1"
        # A policy of mwan3 that marks our own subflow misroutes it; its policy "default" does not.
        assert device(world, family, f"from {FROM[family][0]} mark 0x200") == "eth2"
        assert device(world, family, f"from {FROM[family][0]} mark 0x3f00") == "eth1"
    whole = world.gateway.state()
    daemon.writes()

    # mwan3 ifdown, then ifup, of its first interface; then pbr's reload.
    assert clean_up(world, lambda p: 1001 <= p <= 3999 and p % 1000 == 1) == 6
    for family in (4, 6):
        world.gateway.ip(*(line for line in MWAN3 if "001 " in line), family=family)
    assert clean_up(world, lambda p: 29745 <= p <= 30001) == 6
    for family in (4, 6):
        world.gateway.ip(*PBR, family=family)
    daemon.settle()
    assert world.gateway.state() == whole
    assert daemon.writes() == []

    world.unplug(1)
    eventually(lambda: "10.1.1.2" not in world.gateway.ip("mptcp endpoint show"))
    daemon.kill9()
    world.plug(1)
    daemon.start()
    eventually(lambda: "10.1.1.2" in world.gateway.ip("mptcp endpoint show"))
    daemon.settle()
    assert world.gateway.state() == whole
    daemon.stop()
    assert daemon.call("flush").code == 0
    assert theirs <= set(world.gateway.state().splitlines())
    assert "proto 77" not in world.gateway.state()


def test_where_they_share_a_priority_only_the_one_that_is_not_ours_is_touched(world: Wan) -> None:
    """Somebody moves our rules below 4000: they come back when mwan3 has deleted one of them."""
    with Daemon(
        world.gateway, own="config mproutd 'globals'\n\toption rule_priority '1900'\n"
    ) as daemon:
        eventually(lambda: world.gateway.ip("mptcp endpoint show").count("subflow") == 4)
        daemon.settle()
        whole = world.gateway.state()
        assert "2001 from all fwmark 0x1000000/0x7f000000" in re.sub(r"rule (\d+):?", r"\1", whole)
        clean_up(world, lambda p: p == 2001)
        for family in (4, 6):
            world.gateway.ip(*(line for line in MWAN3 if " 2001 " in line), family=family)
        eventually(lambda: world.gateway.state() == whole)
