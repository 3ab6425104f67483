"""What `mproutd monitor` says of each event of the kernel's path manager."""

from __future__ import annotations

import pytest

from mproutd.netlink.mptcp_pm import Event
from mproutd.status.connections import UplinkNames
from mproutd.status.events import kernel_event

WHERE = UplinkNames({"10.1.1.2": "wan1"}, {2: "wan1"})
FLOW = Event("", 0xABCD, 1, 2, "10.1.1.2", "192.0.2.9", 4711, 443, 2)
ENDS = "10.1.1.2:4711 → 192.0.2.9:443"


@pytest.mark.parametrize(
    ("event", "kind", "text"),
    [
        (FLOW._replace(kind="created"), "connection", f"connection 0000abcd begins {ENDS}"),
        (
            FLOW._replace(kind="established"),
            "connection",
            f"connection 0000abcd established {ENDS}",
        ),
        (Event("closed", 0xABCD), "connection", "connection 0000abcd closed"),
        (
            FLOW._replace(kind="sub-established"),
            "subflow",
            f"subflow established {ENDS} (connection 0000abcd)",
        ),
        (
            FLOW._replace(kind="sub-closed"),
            "subflow",
            f"subflow closed {ENDS} (connection 0000abcd)",
        ),
        (
            FLOW._replace(kind="sub-closed", error=111, reset_reason=6),
            "subflow",
            f"subflow closed {ENDS}: Connection refused; a middlebox interferes"
            " (connection 0000abcd)",
        ),
        (
            FLOW._replace(kind="sub-priority", backup=True),
            "subflow",
            f"subflow {ENDS}: the peer wants it as backup (connection 0000abcd)",
        ),
        (
            FLOW._replace(kind="sub-priority"),
            "subflow",
            f"subflow {ENDS}: the peer wants it in full use (connection 0000abcd)",
        ),
        (
            Event("announced", 0xABCD, remote_id=3, destination="192.0.2.7"),
            "address",
            "the peer announces 192.0.2.7, id 3 (connection 0000abcd)",
        ),
        (
            Event("announced", 0xABCD, remote_id=3, destination="192.0.2.7", dport=8080),
            "address",
            "the peer announces 192.0.2.7:8080, id 3 (connection 0000abcd)",
        ),
        (
            Event("removed", 0xABCD, remote_id=3),
            "address",
            "the peer takes back its address with id 3 (connection 0000abcd)",
        ),
        (
            Event("listener-created", source="10.1.1.2", sport=80),
            "listener",
            "listener opened 10.1.1.2:80",
        ),
        (
            Event("listener-closed", source="10.1.1.2", sport=80),
            "listener",
            "listener closed 10.1.1.2:80",
        ),
        (Event("99"), "other", "event 99"),
    ],
)
def test_an_event_in_words(event: Event, kind: str, text: str) -> None:
    told = kernel_event(event, 1000.0, WHERE, lambda index: f"eth{index}")
    assert (told["kind"], told["text"], told["event"]) == (kind, text, event.kind)
    assert told.get("token") == ("0000abcd" if event.token else None)


def test_every_field_of_a_subflow_that_closed() -> None:
    event = FLOW._replace(kind="sub-closed", error=110)
    assert kernel_event(event, 1000.1234567, WHERE, lambda index: f"eth{index}") == {
        "version": 1,
        "time": 1000.123457,
        "kind": "subflow",
        "event": "sub-closed",
        "uplink": "wan1",
        "device": "eth2",
        "text": f"subflow closed {ENDS}: Connection timed out (connection 0000abcd)",
        "token": "0000abcd",
        "local": "10.1.1.2:4711",
        "local_id": 1,
        "remote": "192.0.2.9:443",
        "remote_id": 2,
        "backup_by_peer": False,
        "error": "Connection timed out",
    }
    stranger = FLOW._replace(kind="sub-established", source="192.0.2.1", device=0)
    told = kernel_event(stranger, 0.0, WHERE, lambda index: f"eth{index}")
    assert (told["uplink"], told["device"], told["error"]) == (None, None, None)
