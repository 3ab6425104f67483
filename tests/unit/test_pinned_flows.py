"""pin_flows and failback: the table, the marks, conflicts with others, and what is forgotten."""

from __future__ import annotations

import struct
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.config import Config, UplinkConfig
from mproutd.configuration.uci import load
from mproutd.firewall.flows import Hosts, default_uplinks, failing_back, hosts, lost
from mproutd.firewall.nft import Found, Record
from mproutd.firewall.ruleset import (
    connection_marks,
    make_table,
    overwriting_rules,
    wants_table,
)
from mproutd.firewall.script import script
from mproutd.firewall.table import NO_TABLE, pending_change
from mproutd.iproute2 import describe, ip_command
from mproutd.model import Address, Link, NftTable, Operation, Route
from mproutd.netlink import conntrack, nft_events, nft_values, nftables
from mproutd.netlink.nlmsg import DecodeError, Message, messages, put
from mproutd.planning.numbering import Numbers, assign_numbers
from mproutd.planning.uplinks import ObservedUplink
from mproutd.planning.uplinks import Path as UplinkPath
from mproutd.status.changes import table_changes
from mproutd.status.render import change_lines

WAN1, WAN2, WAN3 = (UplinkConfig(f"wan{n}", f"eth{n}", "on") for n in (1, 2, 3))
TWO = Config(uplinks=(WAN1, WAN2))
MASK = 0x7F000000

TABLE = """\
add table inet mproutd
delete table inet mproutd
table inet mproutd {
	chain incoming {
		type filter hook prerouting priority -149; policy accept;
		ct mark & 0x7f000000 vmap { 0x00000000 : goto arriving, \
0x01000000 : goto to_wan1, 0x02000000 : goto to_wan2 }
	}
	chain outgoing {
		type nat hook postrouting priority -199; policy accept;
		ct mark & 0x7f000000 == 0x00000000 goto leaving
	}
	chain replies {
		type route hook output priority -149; policy accept;
		ct direction == 1 ct status & 0x00000020 != 0 ct mark & 0x7f000000 vmap \
{ 0x01000000 : goto to_wan1, 0x02000000 : goto to_wan2 }
	}
	chain arriving {
		iifname vmap { "eth1" : goto note_wan1, "eth2" : goto note_wan2 }
	}
	chain leaving {
		oifname vmap { "eth1" : goto note_wan1, "eth2" : goto note_wan2 }
	}
	chain note_wan1 {
		ct mark set ct mark | 0x01000000
	}
	chain to_wan1 {
		iifname != "eth1" meta mark set meta mark & 0x80ffffff | 0x01000000
	}
	chain note_wan2 {
		ct mark set ct mark | 0x02000000
	}
	chain to_wan2 {
		iifname != "eth2" meta mark set meta mark & 0x80ffffff | 0x02000000
	}
}
"""


def table_of(config: Config) -> nft_values.Table:
    return make_table(config, config.uplinks, assign_numbers(config, {}))


# -- the table ----------------------------------------------------------------------------


def test_the_table_of_two_uplinks() -> None:
    assert script(table_of(TWO)) == TABLE


def test_without_mains_routes_what_arrives_from_an_uplink_is_not_steered() -> None:
    text = script(table_of(TWO._replace(main_routes=False)))
    assert '\t\tiifname vmap { "eth1" : return, "eth2" : return }\n' in text
    assert text.count("== 0x00000000 goto arriving") == 1


def test_who_has_no_table() -> None:
    waiting = Config(uplinks=(WAN1._replace(device=""),))
    assert table_of(waiting) == NO_TABLE
    assert script(NO_TABLE) == "add table inet mproutd\ndelete table inet mproutd\n"
    assert wants_table(TWO)
    for config in (TWO._replace(enabled=False), TWO._replace(pin_flows=False), Config()):
        assert not wants_table(config)


def test_a_long_name_and_odd_devices() -> None:
    long = UplinkConfig("a" * 40, "ppp*", "on")
    text = script(table_of(Config(uplinks=(long,))))
    assert "chain to_slot.1 {" in text
    assert '"ppp\\*"' in text


def test_marks_of_connections() -> None:
    own = WAN1._replace(mark=3, mask=0xFF)
    taken = WAN2._replace(mark=0x01000000)
    config = Config(uplinks=(own, taken, WAN3))
    numbers = assign_numbers(config, {})
    marks = connection_marks(config, numbers)
    assert marks["wan2"] == 0x01000000
    assert len({*marks.values()}) == 3
    assert all(mark & ~MASK == 0 and mark not in (0, MASK) for mark in marks.values())
    assert "meta mark set meta mark & 0xffffff00 | 0x00000003" in script(table_of(config))


def test_an_uplink_without_a_mark_is_left_out() -> None:
    config = TWO._replace(mark_mask=3)
    full = {"wan1": Numbers(1, 7001, 1, 3), "wan2": Numbers(9, 7009, 0, 0)}
    assert connection_marks(config, full) == {"wan1": 1}
    crowded = {"wan1": Numbers(1, 7001, 1, 3), "wan2": Numbers(2, 7002, 2, 3)}
    crowded["wan3"] = Numbers(3, 7003, 5, 0xFF00)
    assert "wan3" not in connection_marks(config, crowded)


def test_messages_of_a_table() -> None:
    encoded = nftables.transaction(table_of(TWO))
    kinds = [next(iter(messages(encode(n)))).type for n, encode in enumerate(encoded, 1)]
    assert kinds[0] == 0x10
    assert kinds[-1] == 0x11
    assert kinds[1:4] == [0xA00, 0xA02, 0xA00]
    assert kinds.count(0xA06) == 9
    acknowledged = [n for n, encode in enumerate(encoded) if encode(1)[6] & 4]
    assert acknowledged == [len(encoded) - 2]
    returning = nftables.transaction(table_of(TWO._replace(main_routes=False)))
    assert len(returning) > len(encoded)
    assert b"immediate" in b"".join(encode(1) for encode in returning)
    kept = nftables.transaction(table_of(TWO), ["note_old"])
    kinds = [next(iter(messages(encode(1)))).type for encode in kept]
    assert kinds[1:4] == [0xA00, 0xA08, 0xA05]
    deletion = nftables.transaction(NO_TABLE)
    assert [next(iter(messages(encode(1)))).type & 0xFF for encode in deletion] == [
        0x10,
        0,
        2,
        0x11,
    ]


def test_many_elements_take_several_messages() -> None:
    uplinks = tuple(UplinkConfig(f"w{n}", f"e{n}", "on") for n in range(1, 121))
    wide = Config(uplinks=uplinks, mark_mask=0x7FF00000)
    choice = nft_values.Choice(
        nft_values.CT_MARK, {n: nft_values.Jump("to") for n in range(450)}, wide.mark_mask
    )
    table = nft_values.Table("t", [nft_values.Chain("to", [[choice]])])
    kinds = [next(iter(messages(encode(1)))).type & 0xFF for encode in nftables.transaction(table)]
    assert kinds.count(12) == 3
    assert len(b"".join(encode(1) for encode in nftables.transaction(table_of(wide)))) < 200_000


# -- what has to be done ------------------------------------------------------------------


def test_pending_changes(tmp_path: Path) -> None:
    wanted, there = table_of(TWO), Found(b"chains and rules")
    record = Record(str(tmp_path))
    assert pending_change(record, NO_TABLE, Found()) is None
    assert pending_change(record, NO_TABLE, there) == Operation("delete", NftTable())
    assert pending_change(record, wanted, Found()) == Operation("add", NftTable(TABLE))
    assert pending_change(record, wanted, there) == Operation("replace", NftTable(TABLE))
    record.save(wanted, there)
    again = Record(str(tmp_path))
    assert pending_change(again, wanted, there) is None
    assert pending_change(again, wanted, Found(b"changed")) is not None
    assert pending_change(again, table_of(Config(uplinks=(WAN1,))), there) is not None
    again.save(wanted, Found())  # removed between the write and the look
    assert pending_change(again, wanted, Found()) == Operation("add", NftTable(TABLE))
    again.save(NO_TABLE, Found())
    assert not [*tmp_path.iterdir()]


def test_changes_as_commands() -> None:
    add, delete = Operation("add", NftTable(TABLE)), Operation("delete", NftTable())
    lines = change_lines(table_changes([(add, ""), (delete, "")]))
    assert lines[0] == "nft -f - <<'END'"
    assert lines[-2:] == ["END", "nft delete table inet mproutd"]
    assert "  chain incoming {" in lines
    assert change_lines(table_changes([(add, "no")])) == ["nft -f -    # failed: no"]
    assert describe(NftTable(), str) == "nftables table inet mproutd"
    assert ip_command(delete, str).startswith("nft delete")


# -- other programs' rules ----------------------------------------------------------------

LISTING = """\
table inet fw {{
	chain forward {{
		type filter hook {hook} priority {priority}; policy accept;
		iifname "lan0" {statement}
	}}
}}
"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ct mark set 0x00000001", True),
        ("ct mark set 0x01000000", False),
        ("ct mark set 0x03000000 accept", True),
        ("ct mark set meta mark", True),
        ("ct mark set ct mark & 0xffffff00 | 0x00000001", False),
        ("ct mark set ct mark and 0xffffff or 0x1", True),
        ("ct mark set ct mark & 0x80ffffff | 0x02000000", False),
        ("ct mark set ct mark ^ 0x04000000", True),
        ("ct mark set mark", True),
        ("ct mark set (ct mark & 0xffff0000)", False),
        ("ct mark set ip saddr map { 10.0.0.1 : 0x1 }", False),
        ("ct mark set ct mark & elephant", False),
        ("ct mark set ct mark << 0x1", False),
        ("ct mark set ct mark & 0xff ==", False),
        ("meta mark set 0x00000001", True),
        ("meta mark set ct mark", False),
        ("meta mark set ct mark & 0x000000ff", True),
        ("accept", False),
    ],
)
def test_rules_that_overwrite_our_bits(statement: str, expected: bool) -> None:
    listing = LISTING.format(hook="prerouting", priority="filter", statement=statement)
    expected = [("inet fw", f'iifname "lan0" {statement}')] if expected else []
    assert overwriting_rules(listing, MASK, [0x01000000, 0x02000000]) == expected


@pytest.mark.parametrize(
    ("hook", "priority", "expected"),
    [
        ("prerouting", "mangle", False),
        ("prerouting", "mangle + 5", True),
        ("prerouting", "filter - 10", True),
        ("prerouting", "-200", False),
        ("prerouting", "0", True),
        ("output", "filter", False),
    ],
)
def test_a_packets_mark_counts_only_after_ours_is_set(
    hook: str, priority: str, expected: bool
) -> None:
    listing = LISTING.format(hook=hook, priority=priority, statement="meta mark set 0x00000001")
    assert bool(overwriting_rules(listing, MASK, [])) == expected


def test_our_own_rules_and_unhooked_chains() -> None:
    assert overwriting_rules(TABLE, MASK, []) == []
    listing = "table ip a {\n\tchain c {\n\t\tmeta mark set 0x1\n\t\tct mark set 0x1\n\t}\n}\n"
    assert overwriting_rules(listing, MASK, []) == [("ip a", "ct mark set 0x1")]


# -- failback -----------------------------------------------------------------------------


def observed(*configs: UplinkConfig, usable: bool = True) -> list[ObservedUplink]:
    return [
        ObservedUplink(
            config,
            Link(index, config.device, True, True),
            (
                UplinkPath(AF_INET, usable, "" if usable else "no-carrier"),
                UplinkPath(AF_INET6, False, "no-address", prefixes=(f"2001:db8:{index}::/56",)),
            ),
        )
        for index, config in enumerate(configs, 1)
    ]


def test_connections_move_back_only_to_a_better_uplink() -> None:
    master = WAN1._replace(mode="master")
    moving = [uplink._replace(failback="move") for uplink in (WAN2, WAN3)]
    uplinks = observed(master, *moving)
    back = [("wan2", AF_INET), ("wan3", AF_INET)]
    assert failing_back(uplinks, {AF_INET: "wan2"}, {AF_INET: [("wan1", 1)]}) == back
    assert failing_back(uplinks, {AF_INET: "wan3"}, {AF_INET: [("wan2", 1)]}) == [("wan3", AF_INET)]
    assert failing_back(uplinks, {AF_INET: "wan1"}, {AF_INET: [("wan2", 1)]}) == []
    assert failing_back(uplinks, {}, {AF_INET: [("wan1", 1)]}) == []
    assert failing_back(uplinks, {AF_INET: "gone"}, {AF_INET: [("wan1", 1)]}) == []
    assert failing_back(observed(master, WAN2), {AF_INET: "wan2"}, {AF_INET: [("wan1", 1)]}) == []


def test_the_default_that_an_earlier_run_left() -> None:
    uplinks = observed(WAN1, WAN2, WAN3._replace(device=""))
    routes = [
        Route(AF_INET, 7000, "default", 2, "10.2.2.1"),
        Route(AF_INET, 7001, "default", 1, "10.1.1.1"),
        Route(AF_INET6, 7000, "default", 9, "fe80::1"),
        Route(AF_INET, 7000, "10.0.0.0/8", 1),
    ]
    assert default_uplinks(routes, 7000, uplinks) == {AF_INET: "wan2"}


def test_what_was_lost() -> None:
    usable, lost_paths = lost(frozenset(), observed(WAN1, WAN2))
    assert usable == {("wan1", AF_INET), ("wan2", AF_INET)}
    assert lost_paths == []
    assert lost(usable, observed(WAN1, WAN2._replace(strict=True)))[1] == [("wan2", AF_INET)]
    assert lost(usable, observed(WAN1, WAN2, usable=False)) == (frozenset(), sorted(usable))


def test_only_what_hosts_behind_began_may_move() -> None:
    addresses = [
        Address(1, "10.1.1.2", 24),
        Address(9, "192.168.70.1", 24),
        Address(9, "2001:db8:70::1", 64),
    ]
    behind = hosts(addresses, observed(WAN1))
    assert behind.behind == ("192.168.70.0/24", "2001:db8:70::/64", "2001:db8:1::/56")

    def flow(source: str, destination: str) -> conntrack.Flow:
        return conntrack.Flow(conntrack.Entry(AF_INET, b"", b""), source, destination, 0, 0)

    assert behind.may_move(flow("192.168.70.10", "9.9.9.9"))
    assert behind.may_move(flow("2001:db8:70::10", "2001:db8:9::9"))
    assert not behind.may_move(flow("10.1.1.2", "9.9.9.9")), "this host's own"
    assert not behind.may_move(flow("9.9.9.9", "10.1.1.2")), "a port forward"
    assert not behind.may_move(flow("2001:db8:9::9", "2001:db8:1::5")), "came in, routed"
    assert not Hosts(frozenset(), ("0.0.0.0/0",)).may_move(flow("1.1.1.1", "2.2.2.2"))


# -- configuration ------------------------------------------------------------------------


def configured(folder: Path, own: str, mode: str = "on") -> Config:
    (folder / "network").write_text(
        "config globals 'globals'\n\toption multipath 'enable'\n"
        f"config interface 'wan1'\n\toption device 'eth1'\n\toption multipath '{mode}'\n"
    )
    (folder / "mproutd").write_text(own)
    return load(str(folder))


def test_failback_is_an_option_of_an_uplink(tmp_path: Path) -> None:
    moves = "config uplink 'wan1'\n\toption failback 'move'\n"
    config = configured(tmp_path, moves)
    assert (config.uplinks[0].failback, config.pin_flows, config.warnings) == ("move", True, ())
    (warning,) = configured(tmp_path, moves, "off").warnings
    assert warning.endswith("has no effect: wan1 is off and carries no other traffic")
    assert "mproutd:2: uplink 'wan1', option 'failback'" in warning
    unpinned = "config mproutd 'globals'\n\toption pin_flows '0'\n"
    (warning,) = configured(tmp_path, unpinned + moves).warnings
    assert warning.endswith("has no effect with pin_flows 0")
    keeps = moves.replace("move", "keep")
    assert configured(tmp_path, unpinned + keeps).warnings == ()


# -- messages -----------------------------------------------------------------------------


def event(kind: int, body: bytes) -> Message:
    return Message(10 << 8 | kind, 0, 0, 0, body)


def test_events_about_the_table() -> None:
    name = bytes((1, 0, 0, 0)) + put(1, b"mproutd\0")
    for kind in (0, 2, 3, 5, 6, 8):
        assert nft_events.concerns(event(kind, name), "mproutd")
    assert not nft_events.concerns(event(12, name), "mproutd"), "elements of sets"
    assert not nft_events.concerns(event(2, bytes((2, 0, 0, 0)) + name[4:]), "mproutd"), "ip"
    assert not nft_events.concerns(event(2, name), "other")
    assert not nft_events.concerns(event(2, name)._replace(type=2), "mproutd")
    assert not nft_events.concerns(event(2, name[:4]), "mproutd")
    assert nft_events.concerns(event(2, name[:-3]), "mproutd"), "unreadable"
    assert nft_events.is_deleted([event(2, name)])
    assert not nft_events.is_deleted([event(2, name), event(0, name)])
    assert not nft_events.is_deleted([])
    assert nft_events.new_rule(event(6, name))
    assert not nft_events.new_rule(event(8, name))
    assert nft_events.chain_name(name + put(3, b"incoming\0")) == "incoming"
    assert nft_events.chain_name(name) == ""


def entry(family: int, source: str, destination: str, more: bytes = b"") -> bytes:
    size = 3 if family == AF_INET6 else 1
    ends = put(size, inet_pton(family, source)) + put(size + 1, inet_pton(family, destination))
    return bytes((family, 0, 0, 0)) + put(1, put(1, ends)) + more


@pytest.mark.parametrize(
    ("family", "ends"),
    [(AF_INET, ("192.168.70.10", "9.9.9.9")), (AF_INET6, ("2001:db8::1", "2001:db8::2"))],
)
def test_a_connection_of_a_dump(family: int, ends: tuple[str, str]) -> None:
    more = (
        put(3, struct.pack(">I", 1 << 14)) + put(8, struct.pack(">I", 0x02000001)) + put(12, b"7")
    )
    body = entry(family, *ends, more)
    flow = conntrack.flow(body)
    assert flow is not None
    assert (flow.source, flow.destination, flow.status, flow.mark) == (*ends, 1 << 14, 0x02000001)
    assert (flow.entry.family, flow.entry.id) == (family, b"7")
    assert conntrack.mark_of(body) == 0x02000001
    assert conntrack.mark_of(entry(family, *ends)) == 0
    assert conntrack.flow(bytes((family, 0, 0, 0))) is None
    for broken in (body[:2], entry(family, *ends, put(8, b"1"))):
        with pytest.raises(DecodeError):
            conntrack.flow(broken)


@given(st.binary(max_size=90))
def test_nonsense_is_an_error_of_ours(body: bytes) -> None:
    for family in (AF_INET, AF_INET6):
        try:
            conntrack.flow(bytes([family]) + body)
            conntrack.mark_of(bytes([family]) + body)
            nft_events.is_of(bytes([1]) + body, "mproutd")
        except DecodeError:
            pass


def test_dumps_by_mark_and_status() -> None:
    plain = conntrack.marked_requests([1, 2], MASK, AF_INET)
    offloaded = conntrack.marked_requests([1], MASK, AF_INET6, conntrack.OFFLOADED)
    assert (len(plain), len(offloaded)) == (2, 2)
    (message,) = messages(plain[0](5))
    assert (message.type, message.sequence, message.body[0]) == (0x101, 5, AF_INET)
    assert len(offloaded[0](5)) == len(plain[0](5)) + 16
    assert next(iter(messages(conntrack.all_request(3)))).sequence == 3
    for encode in (nft_events.chains_request, nft_events.rules_request("mproutd")):
        assert next(iter(messages(encode(4)))).body[0] == 1
