"""Which addresses in the LAN are deprecated and put back, their messages, and the status."""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd import environment
from mproutd.configuration.config import UplinkConfig
from mproutd.iproute2 import describe, ip_command
from mproutd.lan_address import FOREVER, LanAddress
from mproutd.model import DAD_FAILED, TEMPORARY, Link, Operation
from mproutd.netlink import lifetimes
from mproutd.netlink.nlmsg import DecodeError, Message, messages
from mproutd.planning.gateways import Gateway
from mproutd.planning.prefixes import (
    Changes,
    Original,
    Record,
    decode,
    encode,
    has_prefixes,
    identity,
    out,
    plan_changes,
)
from mproutd.planning.uplinks import ObservedUplink, Path
from mproutd.status.prefixes import (
    add_announcers,
    add_deprecated,
    deprecated_addresses,
)
from mproutd.status.render_prefixes import announcers_line, deprecated_line

P1, P2, NEW = "2001:db8:a001::/56", "2001:db8:a002::/56", "2001:db8:a003::/56"
LAN = 10


def uplink(n: int, usable: bool = True, mode: str = "on", **options: Any) -> ObservedUplink:
    """wan1 or wan2, with the prefix of its number unless `prefixes` says otherwise."""
    prefixes = options.pop("prefixes", (f"2001:db8:a00{n}::/56",))
    config = UplinkConfig(f"wan{n}", f"eth{n}", mode, **options)
    paths = Path(AF_INET, True, ""), Path(AF_INET6, usable, "", prefixes=prefixes)
    return ObservedUplink(config, Link(n, f"eth{n}"), paths)


def address(n: int, preferred: int = 1800, valid: int = 3600, **more: Any) -> LanAddress:
    """The router's own in the LAN, of this uplink's prefix; 0 for a ULA."""
    text = f"2001:db8:a00{n}::1" if n else "fd00::1"
    return LanAddress(LAN, "br-lan", text, 64, preferred, valid)._replace(**more)


def originals(*numbers: int, until: float | None = 2000.0) -> Record:
    """A record with the addresses of these uplinks."""
    return Record(
        {address(n).key: Original(f"wan{n}", until) for n in numbers},
        {f"wan{n}": (f"2001:db8:a00{n}::/56",) for n in (1, 2)},
    )


def changed(changes: Changes) -> list[tuple[str, int]]:
    return [
        (operation.uplink, operation.value.preferred)
        for _, operation in changes.operations
        if isinstance(operation.value, LanAddress)
    ]


BOTH = [address(1), address(2)]


def test_nothing_is_written_while_both_carry() -> None:
    changes = plan_changes([uplink(1), uplink(2)], BOTH, Record(), 100)
    assert not changes.operations
    assert not changes.deprecated
    assert changes.record == Record({}, {"wan1": (P1,), "wan2": (P2,)})


@pytest.mark.parametrize(
    "first",
    [
        uplink(1, usable=False),
        uplink(1, mode="off"),
        uplink(1, mode="handover"),
        uplink(1, mode="backup"),
        uplink(1, default_route=False),
    ],
)
def test_an_uplink_that_carries_nothing(first: ObservedUplink) -> None:
    uplinks = [first, uplink(2)]
    changes = plan_changes(uplinks, BOTH, Record(), 100)
    assert changed(changes) == [("wan1", 0)]
    assert changes.record.addresses == {address(1).key: Original("wan1", 1900.0)}
    assert changes.after == changes.record
    assert changes.deprecated == {identity(address(1)): "wan1"}
    assert out(uplinks, Record())

    again = [address(1, 0), address(2)]
    settled = plan_changes(uplinks, again, changes.record, 200)
    assert not settled.operations
    assert settled.record == changes.record
    assert settled.deprecated == changes.deprecated


@pytest.mark.parametrize("reason", ["no-address", "tentative", "dad-failed"])
def test_hosts_need_no_address_of_the_uplink_itself(reason: str) -> None:
    first = uplink(1)
    path = first.paths[1]._replace(usable=False, reason=reason, gateway=Gateway("fe80::1", "main"))
    works = first._replace(paths=(first.paths[0], path))
    assert not plan_changes([works, uplink(2)], BOTH, Record(), 100).operations
    dead = [
        works._replace(paths=(first.paths[0]._replace(reason="check-failed"), path)),
        works._replace(paths=(first.paths[0], path._replace(gateway=None))),
        works._replace(paths=(first.paths[0], path._replace(reason="no-carrier"))),
    ]
    for lost in dead:
        assert changed(plan_changes([lost, uplink(2)], BOTH, Record(), 100)) == [("wan1", 0)]


def test_it_is_preferred_again_with_what_is_left() -> None:
    back = [uplink(1), uplink(2)]
    changes = plan_changes(back, [address(1, 0), address(2)], originals(1), 200)
    assert changed(changes) == [("wan1", 1800)]
    assert changes.record.addresses == originals(1).addresses, "it is still needed"
    assert not changes.after.addresses
    assert not changes.deprecated
    assert not plan_changes(back, BOTH, changes.record, 200).record.addresses


def test_forever_stays_forever() -> None:
    lost = [uplink(1, usable=False), uplink(2)]
    own = address(1, FOREVER, FOREVER)
    changes = plan_changes(lost, [own, address(2)], Record(), 100)
    assert changes.record.addresses == {own.key: Original("wan1", None)}
    back = plan_changes(
        [uplink(1), uplink(2)], [own._replace(preferred=0), address(2)], changes.record, 10**7
    )
    assert changed(back) == [("wan1", FOREVER)]
    shorter = plan_changes(
        [uplink(1), uplink(2)], [address(1, 0, 50), address(2)], changes.record, 10**7
    )
    assert changed(shorter) == [("wan1", 50)], "never longer than it is valid"


def test_a_lifetime_that_ends_meanwhile() -> None:
    uplinks = [uplink(1), uplink(2)]
    changes = plan_changes(uplinks, [address(1, 0), address(2)], originals(1), 2001)
    assert not changes.operations
    assert not changes.record.addresses
    uplinks = [uplink(1), uplink(2, usable=False)]
    changes = plan_changes(uplinks, [address(1, 0), address(2)], originals(1), 2001)
    assert not changes.operations, "the other one is the last"


def test_a_renewal_counts_and_is_undone() -> None:
    uplinks = [uplink(1, usable=False), uplink(2)]
    changes = plan_changes(uplinks, [address(1, 3000), address(2)], originals(1), 200)
    assert changed(changes) == [("wan1", 0)]
    assert changes.record.addresses == {address(1).key: Original("wan1", 3200.0)}
    back = [uplink(1), uplink(2)]
    assert not plan_changes(back, [address(1, 3000), address(2)], originals(1), 200).operations


def test_what_another_program_deprecated_is_left_alone() -> None:
    uplinks = [uplink(1, usable=False), uplink(2)]
    changes = plan_changes(uplinks, [address(1, 0), address(2)], Record(), 100)
    assert not changes.operations
    assert not changes.record.addresses


@pytest.mark.parametrize(
    "other",
    [
        [],
        [address(2, 0)],
        [address(2, flags=DAD_FAILED)],
        [address(2, link=11, device="br-guest")],
        [address(2, flags=TEMPORARY)],
        [address(2, link=2, device="eth2")],
        [address(0)],
        [address(9)],
    ],
    ids="alone deprecated duplicate elsewhere temporary uplink ula unknown".split(),
)
def test_never_the_last_usable_prefix_of_a_device(other: list[LanAddress]) -> None:
    uplinks = [uplink(1, usable=False), uplink(2)]
    assert not plan_changes(uplinks, [address(1), *other], Record(), 100).operations
    held = plan_changes(uplinks, [address(1, 0), *other], originals(1), 200)
    assert changed(held) == [("wan1", 1800)]


def test_both_out_and_back() -> None:
    lost = [uplink(1, usable=False), uplink(2, usable=False)]
    changes = plan_changes(lost, [address(1, 0), address(2)], originals(1), 200)
    assert changed(changes) == [("wan1", 1800)], "nothing is better"
    second = [uplink(1, usable=False), uplink(2)]
    assert changed(plan_changes(second, BOTH, changes.after, 300)) == [("wan1", 0)]


def test_backup_and_handover_serve_where_nothing_better_does() -> None:
    for mode in ("backup", "handover"):
        uplinks = [uplink(1, usable=False), uplink(2, mode=mode)]
        assert changed(plan_changes(uplinks, BOTH, Record(), 100)) == [("wan1", 0)]
    uplinks = [uplink(1, mode="handover"), uplink(2, mode="backup")]
    assert changed(plan_changes(uplinks, BOTH, Record(), 100)) == [("wan1", 0)]


def test_a_translated_ula_is_a_prefix_that_works() -> None:
    uplinks = [uplink(1, usable=False), uplink(2, prefixes=(), nat6="masquerade")]
    changes = plan_changes(uplinks, [address(1), address(0)], Record(), 100)
    assert changed(changes) == [("wan1", 0)]
    assert out(uplinks, Record())
    lost = [uplinks[0], uplink(2, usable=False, prefixes=(), nat6="masquerade")]
    assert not plan_changes(lost, [address(1), address(0)], Record(), 100).operations


def test_a_prefix_that_is_known_only_while_the_uplink_is_up() -> None:
    before = plan_changes([uplink(1), uplink(2)], BOTH, Record(), 100).after
    gone = uplink(1, usable=False, prefixes=())
    assert has_prefixes(gone, before)
    assert not has_prefixes(gone, Record())
    changes = plan_changes([gone, uplink(2)], BOTH, before, 200)
    assert changed(changes) == [("wan1", 0)]
    assert changes.record.prefixes == before.prefixes
    moved = plan_changes([gone, uplink(2, prefixes=(P1, P2))], BOTH, before, 200)
    assert not moved.operations, "it is the other one's now"


def test_a_prefix_of_the_configuration_is_not_remembered() -> None:
    first = uplink(1, prefix=(P1, "192.0.2.0/24"))
    assert plan_changes([first, uplink(2)], BOTH, Record(), 100).after.prefixes == {"wan2": (P2,)}
    down = uplink(1, usable=False, prefixes=(), prefix=(P1, "192.0.2.0/24"))
    assert changed(plan_changes([down, uplink(2)], BOTH, Record(), 100)) == [("wan1", 0)]


def test_a_prefix_that_another_one_has_replaced() -> None:
    uplinks = [uplink(1, prefixes=(NEW,)), uplink(2)]
    changes = plan_changes(uplinks, [address(1, 0), address(2), address(3)], originals(1), 200)
    assert not changes.operations, "hosts are not to come back to it"
    assert changes.record.addresses == originals(1).addresses
    assert not plan_changes(uplinks, [*BOTH, address(3)], Record({}, {"wan1": (P1,)}), 9).operations


def test_put_back_when_it_is_switched_off_or_the_uplink_is_removed() -> None:
    held = [address(1, 0), address(2)]
    for uplinks, enabled in (([uplink(1, usable=False), uplink(2)], False), ([uplink(2)], True)):
        changes = plan_changes(uplinks, held, originals(1), 200, enabled)
        assert changed(changes) == [("wan1", 1800)]
    assert changes.after == Record({}, {"wan2": (P2,)})


def test_the_longest_prefix_decides_and_gone_addresses_are_forgotten() -> None:
    uplinks = [uplink(1, prefixes=("2001:db8::/32",)), uplink(2, usable=False)]
    assert changed(plan_changes(uplinks, BOTH, Record(), 100)) == [("wan2", 0)]
    lost = [uplink(1, usable=False), uplink(2)]
    assert not plan_changes(lost, [address(2)], originals(1), 100).record.addresses


def test_what_is_worth_watching() -> None:
    assert not out([uplink(1), uplink(2)], Record())
    assert not out([uplink(1, prefixes=()), uplink(2, usable=False, prefixes=())], Record())
    assert out([uplink(1), uplink(2)], originals(1))


STATES = st.tuples(st.booleans(), st.sampled_from(["on", "off", "backup", "handover", "master"]))


@given(st.lists(st.tuples(STATES, STATES, st.booleans()), max_size=6))
def test_any_history_leads_where_a_clean_start_leads(
    history: list[tuple[tuple[bool, str], tuple[bool, str], bool]],
) -> None:
    addresses, record = list(BOTH), Record()
    for first, second, renewed in history:
        uplinks = [uplink(n, *state) for n, state in ((1, first), (2, second))]
        changes = plan_changes(uplinks, addresses, record, 100)
        clean = plan_changes(uplinks, BOTH, Record(), 100)
        assert changes.deprecated == clean.deprecated
        new = {value.key: value for _, (_, value, _) in changes.operations}  # type: ignore[union-attr]
        addresses = [new.get(old.key, old) for old in addresses]  # type: ignore[misc]
        record = decode(encode(changes.after))
        assert record == changes.after
        assert any(address.preferred for address in addresses)
        if renewed:
            addresses = list(BOTH)
    back = plan_changes([uplink(1), uplink(2)], addresses, record, 100)
    new = {value.key: value for _, (_, value, _) in back.operations}  # type: ignore[union-attr]
    assert [new.get(old.key, old) for old in addresses] == BOTH
    assert not back.after.addresses


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"version": 2},
        {"version": 1, "addresses": [[1, "x", "wan1", None]], "prefixes": {}},
        {"version": 1, "addresses": [[1, "::1", "wan1", "soon"]], "prefixes": {}},
        {"version": 1, "addresses": [], "prefixes": {"wan1": ["x"]}},
        {"version": 1, "addresses": [], "prefixes": []},
    ],
)
def test_a_damaged_record(data: Any) -> None:
    with pytest.raises(ValueError, match=r"version|not a"):
        decode(data)


# -- messages and commands ----------------------------------------------------------------


def body_of(encoded: bytes) -> bytes:
    (message,) = messages(encoded)
    return message.body


def test_a_change_keeps_what_it_does_not_change() -> None:
    own = address(1, 0, flags=0x80 | 0x100 | 0x200 | 0x20, metric=5, protocol=3, created=0)
    found = lifetimes.decode(body_of(lifetimes.encode_change(own, 1)))
    assert found == own._replace(device="", flags=0x100 | 0x200)
    plain = address(1, FOREVER, FOREVER)
    assert lifetimes.decode(body_of(lifetimes.encode_change(plain, 1))) == plain._replace(device="")


def test_addresses_of_others_and_broken_ones() -> None:
    body = body_of(lifetimes.encode_change(address(1), 1))
    assert lifetimes.decode(bytes((AF_INET,)) + body[1:]) is None
    assert lifetimes.decode(body[:3] + b"\xfd" + body[4:]) is None, "of a link"
    head = body[:8] + struct.pack("=HH16s", 20, 1, inet_pton(AF_INET6, "2001:db8::1"))
    for broken in (b"", head, body[:-2]):
        with pytest.raises(DecodeError):
            lifetimes.decode(broken)


def test_events_about_the_lan() -> None:
    body = body_of(lifetimes.encode_change(address(1), 1))
    event = Message(20, 0, 0, 0, body)
    assert lifetimes.concern_others([event], [1, 2])
    assert not lifetimes.concern_others([event], [LAN])
    assert not lifetimes.concern_others([], [])
    assert lifetimes.concern_others(None, [LAN])
    assert lifetimes.concern_others([event._replace(body=b"")], [LAN])


def test_the_command() -> None:
    lost = Operation("change", address(1, 0, flags=0x200, metric=5), "wan1")
    assert ip_command(lost, str) == (
        "ip addr change 2001:db8:a001::1/64 dev br-lan valid_lft 3600 preferred_lft 0 metric 5 "
        "noprefixroute"
    )
    forever = Operation("change", address(1, FOREVER, FOREVER), "wan1")
    assert ip_command(forever, str).endswith("valid_lft forever preferred_lft forever")
    assert describe(address(1), str) == "lifetimes of 2001:db8:a001::1/64 dev br-lan"


# -- the status ---------------------------------------------------------------------------


def status(*uplinks: Any) -> Any:
    return {"enabled": True, "degraded": False, "problems": [], "uplinks": list(uplinks)}


def wan(n: int, **more: Any) -> dict[str, Any]:
    return {"name": f"wan{n}", "families": [{"prefixes": []}, {"prefixes": [P1]}], **more}


def test_what_is_deprecated_is_listed_with_its_uplink() -> None:
    built = status(wan(1), wan(2))
    add_deprecated(built, deprecated_addresses(originals(1), [address(1, 0), address(2)]))
    first, second = built["uplinks"]
    assert first["deprecated"] == [{"address": "2001:db8:a001::1", "device": "br-lan"}]
    assert deprecated_line(first) == "deprecated in lan: 2001:db8:a001::1 on br-lan"
    assert second["deprecated"] == []
    assert deprecated_line(second) == deprecated_line({}) == ""  # type: ignore[typeddict-item]


def test_who_announces() -> None:
    built = status(wan(1, deprecated=[]), wan(2, deprecated=[]))
    assert announcers_line(built) == ""
    add_announcers(built, {"radvd", "dnsmasq"})
    assert built["announcers"] == [
        {"program": "dnsmasq", "follows": True},
        {"program": "radvd", "follows": False},
    ]
    assert [(problem["code"], problem["program"]) for problem in built["problems"]] == [
        ("announcer-ignores-kernel", "radvd")
    ]
    assert announcers_line(built) == (
        "prefixes announced by: dnsmasq (follows the kernel), radvd (does not follow the kernel)"
    )
    alone = status(wan(1, deprecated=[]))
    add_announcers(alone, {"radvd"})
    assert not alone["problems"], "hosts have no choice"
    add_announcers(alone, set())
    assert announcers_line(alone) == "prefixes announced by: no program known here"


@pytest.mark.parametrize(
    "built",
    [
        status(wan(1)),
        status({**wan(1, deprecated=[]), "families": [{"prefixes": []}]}),
        {**status(wan(1, deprecated=[])), "enabled": False},
    ],
)
def test_nobody_asks_who_announces(built: Any) -> None:
    add_announcers(built, {"radvd"})
    assert "announcers" not in built


def test_systemd_networkd_announces_where_it_is_configured(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "NETWORKD_DIRECTORIES", (str(tmp_path), "/nowhere"))
    monkeypatch.setattr(environment, "_daemons", lambda known: {"systemd-networkd", "radvd"})
    assert environment.announcers() == {"radvd"}
    (tmp_path / "gone.network").symlink_to("/nowhere")
    (tmp_path / "lan.network").write_text("[Network]\nIPv6SendRA = no\n")
    assert environment.announcers() == {"radvd"}
    (tmp_path / "lan.network").write_text("[Network]\nIPv6SendRA = yes\n")
    assert environment.announcers() == {"radvd", "systemd-networkd"}
