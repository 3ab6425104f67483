"""The HTTP server of the metrics: whatever arrives, it answers or hangs up, and ends."""

from __future__ import annotations

import functools
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("prometheus_client")

from prometheus_client import make_wsgi_app

from mproutd.status.exporter import registry
from mproutd.status.metrics_server import LimitedServer
from tests.fuzz.material import mutated, quick

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: gateway:9785\r\nAccept-Encoding: gzip\r\n\r\n"
REQUESTS = st.one_of(
    mutated(st.just(REQUEST)),
    mutated(
        st.just(REQUEST.replace(b"GET", b"POST").replace(b"Host:", b"Content-Length: 1e9\r\nH:"))
    ),
    st.binary(max_size=300),
)


@functools.cache
def server() -> LimitedServer:
    made = LimitedServer("127.0.0.1", 0)
    made.set_app(make_wsgi_app(registry(lambda: None)))
    return made


@quick
@given(REQUESTS)
@example(b"")
@example(b"GET " + b"x" * 70_000)
@example(b"GET /?name[]=%ff HTTP/9.9\r\n\r\n")
@example(b"GET /metrics?name[]=mproutd_up HTTP/1.0\r\n" + b"A: b\r\n" * 200 + b"\r\n")
def test_any_request_ends_in_a_reply_or_none(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        try:
            server().finish_request(ours, ("192.0.2.1", 1))
        except OSError:
            pass  # it hung up, which handle_error() ignores
        ours.close()
        reply = b"".join(iter(functools.partial(theirs.recv, 1 << 16), b""))
    # HTTP/0.9 has no status line: plain text, or that by gzip.
    beginnings = (b"HTTP/", b"# HELP", b"\x1f\x8b")
    assert reply.startswith(beginnings) or b"Error response" in reply or not reply
    assert b"Traceback" not in reply
