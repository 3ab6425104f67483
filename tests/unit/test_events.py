"""The line of `mproutd monitor` for each event of the kernel's path manager."""

from __future__ import annotations

import pytest

from mproutd.netlink.mptcp_pm import EVENTS, Event
from mproutd.status.connections import UplinkNames
from mproutd.status.events import kernel_event

UPLINKS = UplinkNames({"10.1.1.2": "wan1"}, {2: "wan1"})
FLOW = Event("", 0xABCD, 1, 2, "10.1.1.2", "192.0.2.9", 4711, 443, 2)
ENDS = "10.1.1.2:4711 → 192.0.2.9:443"


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (FLOW._replace(kind="created"), "connection", ENDS),
        (
            FLOW._replace(kind="established"),
            "connection",
            ENDS,
        ),
        (Event("closed", 0xABCD), "connection", "0000abcd closed"),
        (
            FLOW._replace(kind="sub-established"),
            "subflow",
            ENDS,
        ),
        (
            FLOW._replace(kind="sub-closed"),
            "subflow",
            ENDS,
        ),
        (
            FLOW._replace(kind="sub-closed", error=111, reset_reason=6),
            "subflow",
            f"{ENDS}: Connection refused; middlebox",
        ),
        (
            FLOW._replace(kind="sub-priority", backup=True),
            "subflow",
            f"{ENDS}: the peer requests backup",
        ),
        (
            FLOW._replace(kind="sub-priority"),
            "subflow",
            f"{ENDS}: the peer requests regular",
        ),
        (
            Event("announced", 0xABCD, remote_id=3, destination="192.0.2.7"),
            "address",
            "192.0.2.7, id 3",
        ),
        (
            Event("announced", 0xABCD, remote_id=3, destination="192.0.2.7", dport=8080),
            "address",
            "192.0.2.7:8080, id 3",
        ),
        (
            Event("removed", 0xABCD, remote_id=3),
            "address",
            "with id 3",
        ),
        (
            Event("listener-created", source="10.1.1.2", sport=80),
            "listener",
            "10.1.1.2:80",
        ),
        (
            Event("listener-closed", source="10.1.1.2", sport=80),
            "listener",
            "10.1.1.2:80",
        ),
        (Event("99"), "other", "99"),
    ],
)
def test_an_event_in_words(event: Event, kind: str, words: str) -> None:
    line = kernel_event(event, 1000.0, UPLINKS, lambda index: f"eth{index}")
    assert (line["kind"], line["event"]) == (kind, event.kind)
    assert words in line["text"]
    assert line.get("token") == ("0000abcd" if event.token else None)
    assert ("connection 0000abcd" in line["text"]) == bool(event.token)


def test_every_kind_of_event_has_a_text_of_its_own() -> None:
    texts = [
        kernel_event(FLOW._replace(kind=kind), 0.0, UPLINKS, str)["text"]
        for kind in EVENTS.values()
    ]
    assert len(set(texts)) == len(texts)
    assert not any("unknown" in text for text in texts)


def test_every_field_of_a_subflow_that_closed() -> None:
    event = FLOW._replace(kind="sub-closed", error=110)
    line = dict(kernel_event(event, 1000.1234567, UPLINKS, lambda index: f"eth{index}"))
    assert "Connection timed out" in line.pop("text")
    assert line == {
        "version": 1,
        "time": 1000.123457,
        "kind": "subflow",
        "event": "sub-closed",
        "uplink": "wan1",
        "device": "eth2",
        "token": "0000abcd",
        "local": "10.1.1.2:4711",
        "local_id": 1,
        "remote": "192.0.2.9:443",
        "remote_id": 2,
        "backup_by_peer": False,
        "error": "Connection timed out",
    }
    stranger = FLOW._replace(kind="sub-established", source="192.0.2.1", device=0)
    line = kernel_event(stranger, 0.0, UPLINKS, lambda index: f"eth{index}")
    assert (line["uplink"], line["device"], line["error"]) == (None, None, None)
