"""Sums of connections by peer and by local port."""

from __future__ import annotations

from typing import Any

from mproutd.status.connection_groups import group_lines, grouped


def connection(
    token: str | None, remotes: list[str], sent: int | None = 0, port: int = 8401, **more: Any
) -> Any:
    subflows = [{"remote": remote} for remote in remotes]
    local = f"10.9.9.9:{port}"
    return {
        "token": token,
        "local": local,
        "remote": remotes[0],
        "fallback": False,
        "sent": sent,
        "received": 0,
        "subflows": subflows,
        **more,
    }


ONE = connection("0000000a", ["10.1.1.2:1000", "10.2.1.2:2000"], sent=1000)
TWO = connection("0000000b", ["10.1.1.2:1001"], sent=500, received=40)
OTHER = connection("0000000c", ["[2001:db8::1]:7", "10.2.1.2:8"], sent=9000, port=8402)


def test_the_address_that_connections_began_with_is_the_peer() -> None:
    other, gateway = grouped("peer", [ONE, TWO, OTHER])
    assert (gateway["key"], gateway["connections"], gateway["subflows"]) == ("10.1.1.2", 2, 3)
    assert (gateway["sent"], gateway["received"]) == (1500, 40)
    assert gateway["addresses"] == ["10.1.1.2", "10.2.1.2"]
    assert gateway["sent_rate"] is gateway["received_rate"] is None
    assert (other["key"], other["addresses"]) == ("2001:db8::1", ["2001:db8::1", "10.2.1.2"])


def test_by_local_port() -> None:
    assert [group["key"] for group in grouped("port", [ONE, TWO, OTHER])] == ["8402", "8401"]


def test_rates_are_of_what_was_sent_since() -> None:
    """All of a new connection is; one that ended is not in them, nor less than nothing."""
    later = [{**ONE, "sent": 3000}, TWO]
    assert grouped("peer", later, [ONE, OTHER], 2.0)[0]["sent_rate"] == (2000 + 500) * 8 / 2
    assert grouped("peer", later, [ONE, OTHER], 2.0)[0]["received_rate"] == 40 * 8 / 2
    assert grouped("peer", [ONE], [{**ONE, "sent": 4000}], 2.0)[0]["sent_rate"] == 0


def test_connections_without_a_token_are_not_taken_for_another() -> None:
    """Those that fell back to plain TCP when they began."""
    idle = connection(None, ["10.1.1.2:1000"], sent=9000, fallback=True)
    busy = connection(None, ["10.1.1.2:1001"], sent=100, fallback=True)
    for previous in ([idle, busy], [busy, idle]):
        [group] = grouped("peer", [idle, {**busy, "sent": 400}], previous, 1.0)
        assert (group["fallback"], group["sent_rate"]) == (2, 300 * 8)


def test_unknown_counts_stay_unknown() -> None:
    unknown = connection(None, ["10.1.1.2:1"], None, received=None)
    [group] = grouped("peer", [unknown], [unknown], 1.0)
    assert (group["sent"], group["sent_rate"]) == (None, None)
    assert grouped("peer", [unknown, TWO])[0]["sent"] == 500


def test_the_table() -> None:
    plain = connection("0000000d", ["10.1.2.2:1"], 20_000_000, fallback=True)
    groups = grouped("peer", [{**ONE, "sent": 3000}, TWO, plain], [ONE, TWO, plain], 1.0)
    assert group_lines("peer", groups) == [
        "PEER      CONNECTIONS  SUBFLOWS  SENT    RECEIVED  OUT        IN",
        "10.1.2.2  1            1         20 MB   0 B       0 bit/s    0 bit/s",
        "    plain TCP: 1",
        "10.1.1.2  2            3         3.5 kB  40 B      16 kbit/s  0 bit/s",
        "    addresses: 10.2.1.2",
    ]
    assert group_lines("peer", []) == ["no MPTCP connection"]


def test_many_addresses_are_shortened() -> None:
    remotes = [f"10.1.1.{number}:1" for number in range(7)]
    lines = group_lines("port", grouped("port", [connection("0000000e", remotes)]))
    assert lines[2] == "    addresses: 10.1.1.0, 10.1.1.1, 10.1.1.2, 10.1.1.3, 3 more"
