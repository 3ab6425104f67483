"""Connections joined from MPTCP and TCP sockets, with structs as Linux 6.18 sends them."""

from __future__ import annotations

from struct import pack
from typing import Any

import pytest

from mproutd.format import address_port
from mproutd.model import DEPRECATED
from mproutd.netlink.nlmsg import DecodeError
from mproutd.netlink.sock_diag import Socket
from mproutd.status.connections import (
    UplinkNames,
    connections,
    observed_uplink_names,
    reply,
    uplink_names,
)
from mproutd.status.render import connection_lines
from tests.unit.test_plan import WAN1, WAN2, two_lines

SERVER = "10.9.9.9"
WHERE = UplinkNames({"10.1.1.2": "wan1", "10.2.2.2": "wan2"}, {3: "wan2"})
BACKUP_REMOTE, BACKUP_LOCAL = 1 << 4, 1 << 5


def attribute(kind: int, payload: bytes) -> bytes:
    return pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) & 3)


def ulp(token: int, local_id: int = 0, flags: int = 0, remote_id: int = 0) -> bytes:
    inner = attribute(1, pack("=L", 0)) + attribute(2, pack("=L", token))
    inner += attribute(8, pack("=L", flags))
    inner += attribute(9, bytes([remote_id])) + attribute(10, bytes([local_id]))
    return attribute(1, b"mptcp\0") + attribute(3, inner)


def tcp_info(rtt: int = 12_300, again: int = 0, received: int = 600, sent: int = 6000) -> bytes:
    """struct tcp_info up to tcpi_bytes_sent."""
    info = bytearray(208)
    info[68:72], info[100:104] = pack("=L", rtt), pack("=L", again)
    info[128:136], info[200:208] = pack("=Q", received), pack("=Q", sent)
    return bytes(info)


def mptcp_info(token: int, sent: int = 6000, received: int = 600, fallback: bool = False) -> bytes:
    info = bytearray(100)
    info[8:12], info[12:16] = pack("=L", fallback), pack("=L", token)
    info[56:64], info[64:72] = pack("=Q", sent), pack("=Q", received)
    return bytes(info)


def master(token: int, source: str = "10.1.1.2", **more: Any) -> Socket:
    return Socket(source, 41313, SERVER, 5201, 0, 1, mptcp_info(token, **more))


def flow(source: str, port: int, info: bytes, more: bytes, device: int = 0) -> Socket:
    return Socket(source, port, SERVER, 5201, device, 1, info, more)


FIRST_FLOW = flow("10.1.1.2", 41313, tcp_info(), ulp(0x1A2B3C4D))
SECOND_FLOW = flow(
    "10.2.2.2", 39911, tcp_info(sent=0, received=0), ulp(0x1A2B3C4D, 2, BACKUP_LOCAL), 3
)


def listed(masters: list[Socket], sockets: list[Socket]) -> list[dict[str, Any]]:
    return connections(masters, sockets, WHERE, lambda index: f"eth{index - 1}")


def test_a_connection_with_two_subflows() -> None:
    other = flow("10.1.1.2", 50000, tcp_info(), b"")
    [connection] = listed([master(0x1A2B3C4D)], [SECOND_FLOW, other, FIRST_FLOW])
    assert (connection["token"], connection["remote"], connection["fallback"]) == (
        "1a2b3c4d",
        f"{SERVER}:5201",
        False,
    )
    assert [
        (
            subflow["uplink"],
            subflow["device"],
            subflow["local_id"],
            subflow["backup"],
            subflow["rtt_ms"],
        )
        for subflow in connection["subflows"]
    ] == [("wan1", None, 0, False, 12.3), ("wan2", "eth2", 2, True, 12.3)]


def test_the_lines_for_people() -> None:
    assert connection_lines(listed([master(0x1A2B3C4D)], [SECOND_FLOW, FIRST_FLOW])) == [
        "1a2b3c4d to 10.9.9.9:5201  sent 6.0 kB, received 600 B",
        "  wan1  10.1.1.2:41313  12.3 ms  out 6.0 kB  in 600 B",
        "  wan2  10.2.2.2:39911  12.3 ms  out 0 B     in 0 B    backup",
    ]
    assert connection_lines([]) == ["no MPTCP connection"]


def test_long_addresses_fit_80_columns() -> None:
    long = "2001:db8:1234:5678:9abc:def0:1234:5678"
    peer = long.replace("2001", "2002")
    sockets = [
        Socket(long, 41313, peer, 65201, 3, 2, tcp_info(again=12345), ulp(7, 4, BACKUP_LOCAL))
    ]
    lines = connection_lines(listed([Socket(long, 1, peer, 65201, 0, 1, mptcp_info(7))], sockets))
    assert max(map(len, lines)) <= 80
    assert lines == [
        f"00000007 to [{peer}]:65201",
        "    sent 6.0 kB, received 600 B",
        f"  wan2  [{long}]:41313",
        "    12.3 ms  out 6.0 kB  in 600 B  syn-sent, backup, 12345 retransmitted",
    ]


def test_the_peers_backup_is_not_ours() -> None:
    [connection] = listed([master(7)], [flow("10.1.1.2", 1, tcp_info(), ulp(7, 0, BACKUP_REMOTE))])
    [subflow] = connection["subflows"]
    assert (subflow["backup"], subflow["backup_by_peer"]) == (False, True)


def test_a_fallback_keeps_its_one_subflow_with_or_without_a_token() -> None:
    for minimal in (ulp(9), b""):
        sockets = [flow("10.1.1.2", 41313, tcp_info(), minimal)]
        [connection] = listed([master(9, fallback=True)], sockets)
        assert connection["fallback"] is True
        assert [subflow["local"] for subflow in connection["subflows"]] == ["10.1.1.2:41313"]


def test_a_kernel_that_lists_no_mptcp_sockets_or_counts_no_bytes() -> None:
    [connection] = listed([], [FIRST_FLOW, SECOND_FLOW])
    assert (connection["token"], connection["sent"], len(connection["subflows"])) == (
        "1a2b3c4d",
        6000,
        2,
    )
    short = master(0x1A2B3C4D)._replace(info=mptcp_info(0x1A2B3C4D)[:44])
    assert listed([short], [FIRST_FLOW, SECOND_FLOW])[0]["received"] == 600


def test_the_reply_of_a_daemon() -> None:
    sockets = [FIRST_FLOW, SECOND_FLOW]
    answer = reply([master(0x1A2B3C4D)], sockets, WHERE, lambda index: f"eth{index - 1}")
    assert answer == {"version": 1, "connections": listed([master(0x1A2B3C4D)], sockets)}


def test_the_device_decides_where_two_uplinks_have_one_address() -> None:
    assert WHERE.of("10.1.1.2", 3) == "wan2"
    assert WHERE.of("10.1.1.2", 0) == "wan1"
    assert WHERE.of("192.168.70.1", 9) is None


def test_hidden_tokens_are_a_permission_error() -> None:
    hidden = flow("10.1.1.2", 41313, tcp_info(), attribute(1, b"mptcp\0"))
    nothing = flow("10.1.1.2", 41313, tcp_info(), b"")
    for connection in (hidden, nothing):
        with pytest.raises(PermissionError):
            listed([master(7)], [connection])


@pytest.mark.parametrize("broken", [b"\1", b"\xff\xff\3\0", attribute(3, b"\7\0\2\0xyz\0")])
def test_broken_attributes(broken: bytes) -> None:
    with pytest.raises(DecodeError):
        listed([], [flow("10.1.1.2", 1, b"", broken)])


def test_address_and_port_as_in_rfc_5952() -> None:
    assert address_port("2001:db8::1", 80) == "[2001:db8::1]:80"
    assert address_port("::ffff:10.1.1.2", 80) == "10.1.1.2:80"


def test_uplinks_from_a_status() -> None:
    family = {"addresses": ["10.1.1.2"], "sources": ["10.1.1.2", "10.1.1.3"]}
    status = {"uplinks": [{"name": "wan1", "ifindex": 2, "families": [family]}]}
    assert uplink_names(status) == UplinkNames(
        {"10.1.1.2": "wan1", "10.1.1.3": "wan1"}, {2: "wan1"}
    )


def test_an_uplink_has_the_addresses_that_only_old_connections_use_as_well() -> None:
    world = two_lines()
    world.add_address("eth2", "10.2.2.7/24", flags=DEPRECATED)
    world.remove("eth1")
    names = observed_uplink_names(world.run(WAN1 + WAN2).plan.uplinks)
    index = world.link("eth2").index
    assert names == UplinkNames({"10.2.2.2": "wan2", "10.2.2.7": "wan2"}, {index: "wan2"})


def test_an_uplink_without_a_device_has_no_number() -> None:
    families = [{"addresses": ["10.1.1.2"]}]
    status = {"uplinks": [{"name": "wan1", "ifindex": None, "families": families}]}
    assert uplink_names(status) == UplinkNames({"10.1.1.2": "wan1"}, {})
