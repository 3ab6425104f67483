"""Delegated prefixes in lease files: what dhclient 4.4.3 and dhcpcd 9.4.1 wrote, and damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.eventloop import Loop
from mproutd.planning.leases import dhclient_prefixes, dhcpcd_prefixes
from mproutd.planning.plan import Outcome, make_plan
from mproutd.planning.state import State
from mproutd.planning.uplinks import Facts
from mproutd.services import leases
from mproutd.services.base import ServiceContext
from tests.unit.test_pacing import Clock

STARTS = 1796075917
LEASE = r"""
lease6 {
  interface "eth1";
  ia-pd 3a:ee:8f:2d {
    starts 1796075917;
    renew 0;
    rebind 0;
    iaprefix 2001:db8:a001:ff00::/56 {
      starts 1796075917;
      preferred-life 300;
      max-life 600;
    }
  }
  option dhcp6.client-id 0:1:0:1:32:a0:ae:b:9a:ee:3a:ee:8f:2d;
}
"""
DUID = r'default-duid "\000\001\000\0012\240\256\013\232\"\356:{};\217-";'
MESSAGE = bytes.fromhex(
    "0766101600030028000000010000000000000000000500182001"
    "0db80001000000000000000001570000012c0000025800190029000000020000000000000000"
    "001a00190000012c000002583820010db8a001fe0000000000000000000001000e"
    "0001000132a0ae2b7ed18b75ee680002000e0001000132a0ae228a798d7fac05"
)


def read(text: str, now: float = STARTS + 10) -> dict[str, tuple[str, ...]]:
    return dhclient_prefixes(text, now)


def test_a_lease_of_dhclient() -> None:
    assert read(DUID + LEASE) == {"eth1": ("2001:db8:a001:ff00::/56",)}


def test_a_lease_that_has_ended() -> None:
    assert read(LEASE, STARTS + 599) == {"eth1": ("2001:db8:a001:ff00::/56",)}
    assert read(LEASE, STARTS + 600) == {}
    assert read(LEASE.replace("life 600", "life 4294967295"), STARTS + 10**9)


def test_the_last_lease_of_a_device_counts() -> None:
    other = LEASE.replace("a001:ff00", "a001:fe00")
    assert read(LEASE + other) == {"eth1": ("2001:db8:a001:fe00::/56",)}
    assert read(LEASE + other.replace("eth1", "eth2")) == {
        "eth1": ("2001:db8:a001:ff00::/56",),
        "eth2": ("2001:db8:a001:fe00::/56",),
    }
    released = LEASE.replace('"eth1";', '"eth1";\n  released;')
    assert read(LEASE + released) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2001:db8:a001:ff00::/56", "2001:db8::/12"),
        ("2001:db8:a001:ff00::/56", "2001:db8::/129"),
        ("2001:db8:a001:ff00::/56", "2001:db8::"),
        ("2001:db8:a001:ff00::/56", "10.0.0.0/24"),
        ("2001:db8:a001:ff00::/56", "a b"),
        ("max-life 600", "max-life"),
        ("max-life 600", "max-life x"),
        ('interface "eth1";', ""),
        ("lease6", "lease"),
        ("}", ""),
        (";", ""),
    ],
)
def test_what_makes_no_sense_is_left_out(old: str, new: str) -> None:
    assert read(LEASE.replace(old, new)) == {}
    assert read("} ; }" + LEASE.replace(old, new)) == {}


@given(st.text(alphabet='{};/: \n"abilefx', max_size=200), st.integers(0, len(LEASE)))
def test_any_text_and_any_part_of_a_lease(text: str, end: int) -> None:
    read(text)
    assert set(read(LEASE[:end]).values()) <= {("2001:db8:a001:ff00::/56",)}


def test_a_lease_of_dhcpcd() -> None:
    assert dhcpcd_prefixes(MESSAGE, 599) == ("2001:db8:a001:fe00::/56",)
    assert dhcpcd_prefixes(MESSAGE, 600) == ()
    forever = MESSAGE.replace(
        bytes.fromhex("0000012c000002583820"), bytes.fromhex("f" * 16 + "3820")
    )
    assert dhcpcd_prefixes(forever, 10**9) == ("2001:db8:a001:fe00::/56",)
    too_short = MESSAGE.replace(bytes.fromhex("025838"), bytes.fromhex("025808"))
    assert dhcpcd_prefixes(too_short, 0) == ()
    assert dhcpcd_prefixes(b"\x02" + MESSAGE[1:], 0) == ()


@given(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255))
def test_damaged_replies(position: int, value: int) -> None:
    assert len(dhcpcd_prefixes(MESSAGE[:position], 0)) <= 1
    assert dhcpcd_prefixes(MESSAGE[:60], 0) == ()
    dhcpcd_prefixes(MESSAGE[:position] + bytes([value]) + MESSAGE[position + 1 :], 0)


# -- the service --------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(leases, "DHCLIENT_FILES", f"{tmp_path}/dhclient6*.leases")
    monkeypatch.setattr(leases, "DHCPCD_FILES", f"{tmp_path}/*.lease6")
    monkeypatch.setattr("time.time", lambda: STARTS + 10.0)
    return tmp_path


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, (STARTS, STARTS))


def test_files_of_both_clients(directory: Path) -> None:
    write(directory / "dhclient6.eth1.leases", LEASE.encode())
    write(directory / "dhclient6.leases", LEASE.replace("ff00", "fd00").encode())
    write(directory / "eth1.lease6", MESSAGE)
    write(directory / "eth2.lease6", b"")
    (directory / "eth3.lease6").symlink_to(directory / "eth1.lease6")
    (directory / "dhclient6.eth9.leases").mkdir()
    facts = leases.add_lease_facts(Facts(prefixes={"eth1": ("2001:db8::/56",)}))
    assert facts.prefixes == {
        "eth1": (
            "2001:db8::/56",
            "2001:db8:a001:ff00::/56",
            "2001:db8:a001:fd00::/56",
            "2001:db8:a001:fe00::/56",
        )
    }


def test_a_file_is_noticed_with_a_hint_and_with_a_pass(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[None] = []
    clock = Clock()
    loop = Loop(clock)
    context = ServiceContext(loop, lambda: requested.append(None), lambda *_, **__: None, "")
    service = leases.Leases(context)
    config = Config(uplinks=(UplinkConfig("wan1", "eth1"),))
    from mproutd.model import Snapshot

    outcome = Outcome(Snapshot({}), make_plan(config, Snapshot({}), State(), Facts()))
    service.on_configuration(config)
    assert service.add_facts(Facts()) == Facts()
    path = directory / "dhclient6.leases"
    write(path, LEASE.encode())
    service.on_pass(outcome)
    assert not requested, "not so soon"
    clock.now += leases.INTERVAL
    service.on_pass(outcome)
    assert len(requested) == 1
    assert service.add_facts(Facts()).prefixes == {"eth1": ("2001:db8:a001:ff00::/56",)}
    service.on_hint()
    assert len(requested) == 1
    clock.now += leases.REFRESH_INTERVAL
    monkeypatch.setattr("time.time", lambda: STARTS + 700.0)
    service.on_pass(outcome)
    assert len(requested) == 2, "it has ended"
    path.unlink()
    write(path, LEASE.replace("600", "6000").encode())
    service.on_hint()
    assert len(requested) == 3
    loop.close()
