"""The HTTP server of the metrics: strangers, floods, and connections that say nothing."""

from __future__ import annotations

import itertools
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import make_wsgi_app

from mproutd.limits import first_to_go
from mproutd.status import metrics_server
from mproutd.status.exporter import registry
from mproutd.status.metrics_server import (
    MAX_CONNECTIONS,
    STATUS_AGE,
    LimitedServer,
    RecentStatus,
)
from tests.lab import eventually


def test_the_oldest_of_whoever_has_most_goes_first() -> None:
    assert first_to_go(["a", "b", "b", "a", "b"]) == 1
    assert first_to_go(["a", "b"]) == 0
    assert first_to_go(["a"]) == 0


def test_a_status_is_used_again_for_a_while_also_a_missing_one() -> None:
    now, made = [100.0], itertools.count(1)
    status = RecentStatus(lambda: {"n": next(made)}, lambda: now[0])  # type: ignore[typeddict-item]
    assert [status() for _ in range(1000)] == [{"n": 1}] * 1000
    now[0] += STATUS_AGE
    assert status() == {"n": 2}
    missing = RecentStatus(lambda: next(made) and None, lambda: now[0])
    assert [missing(), missing()] == [None, None]
    assert next(made) == 4


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LimitedServer]:
    monkeypatch.setattr(metrics_server, "MAX_SECONDS", 1.0)
    made = LimitedServer("127.0.0.1", 0)
    made.set_app(make_wsgi_app(registry(lambda: None)))
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def connect(server: LimitedServer) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=60)


def scrape(server: LimitedServer) -> str:
    port = server.server_address[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def test_idle_connections_keep_no_scrape_out_and_are_dropped(server: LimitedServer) -> None:
    idle = [connect(server) for _ in range(4 * MAX_CONNECTIONS)]
    for _ in range(3):
        assert "mproutd_up 0.0" in scrape(server)
        assert len(server._open) <= MAX_CONNECTIONS
    for connection in idle:
        assert connection.recv(100) == b"", "dropped"
        connection.close()
    eventually(lambda: not server._open)


@pytest.mark.parametrize("piece", [b"G", b"\xff"])
def test_one_that_goes_on_for_ever_is_cut_off(server: LimitedServer, piece: bytes) -> None:
    with connect(server) as slow:

        def refused() -> bool:
            try:
                slow.sendall(piece)
            except OSError:
                return True
            time.sleep(0.05)
            return False

        eventually(refused, 60)
    assert "mproutd_up 0.0" in scrape(server)


def test_both_families_can_be_listened_on() -> None:
    for address in ("127.0.0.1", "::1"):
        server = LimitedServer(address, 0)
        assert server.server_address[0] == address
        server.server_close()
