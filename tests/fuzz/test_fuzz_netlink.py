"""Kernel messages, truncated, altered and with wrong lengths: a value, or DecodeError."""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import pack, pack_into
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mproutd.model import Operation
from mproutd.netlink import bpf, mptcp_pm, rtnl_decode, rtnl_encode, sock_diag
from mproutd.netlink.cache import RtnlCache
from mproutd.netlink.nlmsg import (
    NLMSG_DONE,
    NLMSG_ERROR,
    DecodeError,
    Message,
    acknowledgement,
    attribute,
    attributes,
    messages,
    put,
    spans,
    text,
)
from mproutd.netlink.sock_diag import Socket
from mproutd.status.connections import UplinkNames, connections
from mproutd.status.events import kernel_event
from mproutd.status.render import connection_lines, event_line
from mproutd.subflows.policy import RetryPolicy
from tests.fuzz.material import mutated, quick
from tests.lab import generated, oracle

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "link": rtnl_decode.link,
    "address": rtnl_decode.address,
    "routes": rtnl_decode.routes,
    "lookup reply": rtnl_decode.lookup_reply,
    "is unresolved": rtnl_decode.is_unresolved,
    "rule": rtnl_decode.rule,
    "link cache": lambda body: rtnl_decode.LinkCache()[body],
    "family": mptcp_pm.family,
    "endpoint": mptcp_pm.endpoint,
    "limits": mptcp_pm.limits,
    "event": mptcp_pm.event,
    "connection": sock_diag.connection,
    "subflow": sock_diag.subflow,
    "ulp info": lambda body: sock_diag.subflow_of(body, "10.1.1.2", 1),
    "socket": sock_diag.parse_socket,
    "attributes": attributes,
    "spans": lambda body: list(spans(body)),
    "attribute": lambda body: attribute(body, 0, 3),
    "messages": messages,
}
"""Every decoder of kernel data."""


def event_bodies() -> st.SearchStrategy[bytes]:
    """Events of the path manager, with every attribute that it has."""
    parts = {1: 4, 3: 1, 4: 1, 5: 4, 6: 16, 7: 4, 8: 16, 9: 2, 10: 2, 11: 1, 12: 1, 13: 2,
             14: 4, 15: 4, 16: 4, 18: 1}  # fmt: skip
    chosen = st.lists(st.sampled_from(sorted(parts)), max_size=12, unique=True).flatmap(
        lambda kinds: st.tuples(
            *(st.binary(min_size=parts[k], max_size=parts[k]).map(lambda d, k=k: put(k, d))
              for k in kinds)  # type: ignore[misc]
        )
    )  # fmt: skip
    return st.builds(
        lambda command, attributes: pack("=BBxx", command, 1) + b"".join(attributes),
        st.integers(0, 20),
        chosen,
    )


def diag_replies() -> st.SearchStrategy[bytes]:
    """Replies of sock_diag, of MPTCP sockets and of subflows."""
    return st.builds(
        lambda family, head, kind, info: bytes((family,)) + head + put(kind, info),
        st.sampled_from((2, 10, 1)),
        st.binary(min_size=71, max_size=71),
        st.sampled_from((2, 19)),
        st.binary(max_size=80),
    )


BODIES = st.one_of(
    generated.messages().map(lambda message: message[16:]),
    generated.links().map(oracle.link).map(lambda message: message[16:]),
    generated.addresses().map(oracle.address).map(lambda message: message[16:]),
    generated.attribute_soup(),
    event_bodies(),
    diag_replies(),
    st.binary(max_size=60),
)


@st.composite
def wrong_lengths(draw: st.DrawFn) -> bytes:
    """Real bytes with one 16-bit field, which may be a length, set to something else."""
    data = bytearray(draw(BODIES))
    if len(data) >= 4:
        at = draw(st.integers(0, len(data) // 4 - 1)) * 4
        pack_into("=H", data, at, draw(st.sampled_from((0, 1, 3, 4, 5, 0x7FFF, 0xFFFF, len(data)))))
    return bytes(data)


BROKEN = mutated(BODIES) | wrong_lengths()
NESTED = b""
for _ in range(2000):
    NESTED = pack("=HH", min(0xFFFF, len(NESTED) + 4), 0x8001) + NESTED


@quick
@given(BROKEN)
@example(b"")
@example(NESTED)
@example(bytes(100_000))
@example(b"\x04\0\0\0" * 25_000)
@example(pack("=HH", 0xFFFF, 1) * 20_000)
@example(bytes((2, 0, 0, 0, 254, 3, 0, 1)) + bytes(4) + put(9, b"\x08\0\0\0\0\0\0\0" * 8000))
def test_a_body_is_a_value_or_a_decode_error(body: bytes) -> None:
    for name, decode in DECODERS.items():
        begun = time.process_time()
        try:
            decode(body)
        except DecodeError:
            pass
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        assert time.process_time() - begun < 2, name


@quick
@given(BROKEN, st.sampled_from((NLMSG_ERROR, NLMSG_DONE)), st.integers(0, 0xFFFF))
@example(b"\0\0\0\x80" + bytes(20), NLMSG_ERROR, 0)
def test_an_acknowledgement_is_one_or_a_decode_error(body: bytes, kind: int, flags: int) -> None:
    try:
        ack = acknowledgement(Message(kind, flags, 1, 0, body))
    except DecodeError:
        return
    assert isinstance(ack.errno, int)
    assert isinstance(ack.text, str)


EVENT_KINDS = st.sampled_from((16, 17, 20, 21, 24, 25, 32, 33, 0, 2, 3, 28, 65535))


@quick
@given(EVENT_KINDS, BROKEN, st.integers(0, 0xFFFF))
def test_any_event_is_relevant_or_not(kind: int, body: bytes, flags: int) -> None:
    """The cache accepts it too, or raises DecodeError."""
    message = Message(kind, flags, 1, 0, body)
    assert bpf.is_relevant(message, frozenset((1, 2)), frozenset(("eth1",))) in (True, False)
    cache = RtnlCache(None)  # type: ignore[arg-type]  # nothing is read here
    try:
        cache.on_event(message)
    except DecodeError:
        pass


@quick
@given(mutated(event_bodies()), st.floats(0, 1e9))
def test_any_event_of_the_path_manager_fits_in_a_line(body: bytes, now: float) -> None:
    try:
        event = mptcp_pm.event(body)
    except DecodeError:
        return
    described = kernel_event(event, now, UplinkNames(), lambda index: f"if{index}")
    assert event_line(described, "12:00:00").isprintable()
    policy = RetryPolicy(lambda: now)
    policy.on_event(event)
    assert policy.delay() is None or policy.delay() >= 0  # type: ignore[operator]


SOCKETS = st.builds(
    Socket,
    st.sampled_from(("10.1.1.2", "::ffff:10.1.1.2", "2001:db8::1")),
    st.integers(0, 65535),
    st.sampled_from(("10.9.9.9", "2001:db8::9")),
    st.integers(0, 65535),
    st.integers(0, 9),
    st.integers(0, 20),
    st.binary(max_size=240),
    st.just(b"") | mutated(st.binary(max_size=40).map(lambda data: put(3, put(2, data)))),
)


@quick
@given(st.lists(SOCKETS, max_size=4), st.lists(SOCKETS, max_size=6))
def test_any_sockets_are_connections_or_one_error(
    masters: list[Socket], flows: list[Socket]
) -> None:
    try:
        result = connections(masters, flows, UplinkNames(), lambda index: f"if{index}")
    except (DecodeError, PermissionError):
        return
    for line in connection_lines(result):
        assert len(line) <= 80
        assert line.isprintable()


@quick
@given(generated.rules(), st.binary(max_size=15))
def test_device_names_that_are_not_utf8_survive(rule: Any, name: bytes) -> None:
    """The kernel treats a name as bytes; those that are not UTF-8 round-trip."""
    decoded = text(name.partition(b"\0")[0] + b"\0")
    rule = rule._replace(iif=decoded)
    (message,) = messages(rtnl_encode.change(Operation("add", rule), 1))
    assert rtnl_decode.rule(message.body) == rule
