"""The control socket, both ends: any bytes in any pieces, any order of coming and going."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mproutd import cli
from mproutd.control import client
from mproutd.control.admission import MAX_CLIENTS, MAX_LISTENERS, MAX_WAITING
from mproutd.control.server import MAX_QUEUED_BYTES, MAX_REQUEST_BYTES, Server
from mproutd.eventloop import Loop
from mproutd.status.events import make_event
from mproutd.status.render import event_line
from tests.fuzz.material import JSON, mutated, quick
from tests.fuzz.test_fuzz_reports import DOCS, shaped

REQUESTS = st.one_of(
    st.sampled_from(
        (
            b'{"command": "status"}\n',
            b'{"command": "monitor"}\n',
            b'{"command": "reconcile", "dry_run": true}\n',
            b"\n",
            b"[" * 5000 + b"\n",
            b'{"command": "\\ud800"}\n',
            b"x" * MAX_REQUEST_BYTES,
        )
    ),
    JSON.map(lambda value: json.dumps(value).encode() + b"\n"),
)
STEPS = st.one_of(
    st.tuples(st.just("come"), st.none()),
    st.tuples(st.just("say"), mutated(REQUESTS)),
    st.tuples(st.just("go"), st.none()),
    st.tuples(st.just("half"), st.none()),
    st.tuples(st.just("receive"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from((0.0, 0.1, 1.0, 6.0))),
    st.tuples(st.just("happen"), st.integers(0, 3000)),
)


class Serving:
    """A server with a clock of its own, and the clients that it has had."""

    def __init__(self, directory: str) -> None:
        self.now = 0.0
        self.path = os.path.join(directory, "control.sock")
        self.loop = Loop(lambda: self.now)
        self.server = Server(self.path, self.loop, self.answer, self.initial_events)
        self.sockets: list[socket.socket] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"answer": request.get("command")}

    def initial_events(self) -> list[dict[str, Any]]:
        return [make_event("begin", self.now, "begins")]

    def turn(self) -> None:
        """As the daemon's loop does."""
        self.loop.run_once(0)
        assert len(self.server.clients) <= MAX_CLIENTS
        assert len(self.server.waiting) <= MAX_WAITING
        assert not self.server.waiting or len(self.server.clients) == MAX_CLIENTS
        assert sum(client.listening for client in self.server.clients) <= MAX_LISTENERS
        for connected in self.server.clients:
            assert len(connected.request) <= MAX_REQUEST_BYTES + (1 << 12)
            assert len(connected.output) <= MAX_QUEUED_BYTES + (1 << 10)

    def come(self) -> None:
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        try:
            made.connect(self.path)
        except BlockingIOError:
            made.close()
        else:
            self.sockets.append(made)

    def act(self, what: str, value: Any, which: int) -> None:
        if what == "come":
            self.come()
        elif what == "wait":
            self.now += value
        elif what == "happen":
            self.server.publish(make_event("other", self.now, "x" * value))
        elif self.sockets:
            one = self.sockets[which % len(self.sockets)]
            try:
                if what == "say":
                    one.send(value)
                elif what == "go":
                    one.close()
                    self.sockets.remove(one)
                elif what == "half":
                    one.shutdown(socket.SHUT_WR)
                elif what == "receive":
                    one.recv(1 << 12)
            except OSError:
                pass

    def close(self) -> None:
        for client_socket in self.sockets:
            client_socket.close()
        self.server.close()
        self.loop.close()


@contextmanager
def serving() -> Iterator[Serving]:
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        made = Serving(directory)
        try:
            yield made
        finally:
            made.close()


@quick
@given(st.lists(st.tuples(STEPS, st.integers(0, 7)), max_size=40))
@example([(("come", None), 0), (("half", None), 0), (("wait", 6.0), 0)])
@example([(("come", None), 0), (("say", b'{"command": "monitor"}\n'), 0), (("go", None), 0)])
@example(
    [(("come", None), 0), (("say", b'{"command": "monitor"}\n'), 0), (("wait", 0.0), 0)]
    + [(("happen", 3000), 0)] * 300
)
@example([(("come", None), n) for n in range(200)])
def test_whoever_comes_the_next_one_is_answered(
    steps: list[tuple[tuple[str, Any], int]],
) -> None:
    with serving() as made:
        for (what, value), which in steps:
            made.act(what, value, which)
            made.turn()
        made.now += 6
        made.turn()
        with socket.socket(socket.AF_UNIX) as polite:
            polite.settimeout(5)
            polite.connect(made.path)
            for piece in (b'{"comm', b'and": "sta', b'tus"}\n'):
                polite.sendall(piece)
                for _ in range(10):
                    made.turn()
                    made.now += 0.1
            assert json.loads(polite.recv(1 << 16)) == {"answer": "status"}
            assert polite.recv(1) == b""


@quick
@given(mutated(REQUESTS), st.lists(st.integers(1, 2000), max_size=12))
def test_a_request_is_answered_by_one_object_in_one_line(data: bytes, sizes: list[int]) -> None:
    data = data[: data.index(b"\n") + 1] if b"\n" in data else data + b"\n"
    with serving() as made:
        made.come()
        one = made.sockets[0]
        try:
            for size in [*sizes, MAX_REQUEST_BYTES]:
                one.send(data[:size])
                data = data[size:]
                made.turn()
                made.turn()
            for _ in range(MAX_REQUEST_BYTES >> 11):
                made.turn()
            reply = one.recv(1 << 18)
        except OSError:
            return  # it sent too much
        if reply:
            assert reply.endswith(b"\n")
            assert isinstance(json.loads(reply), dict)


# -- the end of those who ask -------------------------------------------------------------


@contextmanager
def speaker(pieces: list[bytes]) -> Iterator[str]:
    """A daemon that sends this, whatever the request, and closes."""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz") as directory,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        path = os.path.join(directory, "control.sock")
        listening.bind(path)
        listening.listen(1)

        def speak() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(1 << 16)
                    for piece in pieces:
                        connection.sendall(piece)
                except OSError:
                    pass

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            yield path
        finally:
            thread.join()


REQUESTS = JSON.map(lambda value: json.dumps(value).encode() + b"\n")
LINES = st.one_of(
    REQUESTS,
    st.builds(
        lambda kind, text, now, more: json.dumps({**make_event("begin", 0.0, ""), **more}
            | {"kind": kind, "text": text, "time": now}).encode() + b"\n",
        JSON, JSON, JSON, st.dictionaries(st.sampled_from(("uplink", "device", "error")), JSON),
    ),
)  # fmt: skip


@quick
@given(st.lists(mutated(REQUESTS), max_size=3))
@example([b"[" * 100_000])
@example([b"\xff\xfe"])
@example([b'{"error": ["x"]}'])
def test_any_answer_is_an_object_or_one_error(pieces: list[bytes]) -> None:
    with speaker(pieces) as path, suppress(OSError):
        assert isinstance(client.call(path, {"command": "status"}, timeout=5), dict)


@quick
@given(st.lists(LINES | mutated(LINES), max_size=4))
@example([b"[]\n"])
@example([b"[" * 100_000 + b"\n"])
@example([b'{"error": 7}\n'])
@example([b'{"kind": "x"}\n'])
@example([b'{"kind": "x", "text": "y", "time": 1e300}\n'])
@example([b'{"kind": "x", "text": "y", "time": NaN}\n'])
@example([b'{"kind": "x", "text": "y", "time": 1, "uplink": {}}\n', b""])
def test_any_line_for_a_listener_can_be_printed_or_is_one_error(pieces: list[bytes]) -> None:
    reading, writing = os.pipe()
    try:
        with speaker(pieces) as path:
            try:
                for event in client.listen(path, writing):
                    assert event_line(event, "12:00:00").isprintable()
            except (OSError, client.ConnectionLost, client.Refused):
                pass
    finally:
        os.close(reading)
        os.close(writing)


ANSWERS = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {
            "running": st.booleans() | JSON,
            "degraded": st.booleans() | JSON,
            "enabled": st.booleans() | JSON,
            "uplinks": st.lists(st.fixed_dictionaries({"name": JSON, "mode": JSON})) | JSON,
            "changes": st.lists(st.fixed_dictionaries({"command": JSON, "error": JSON})) | JSON,
        },
        optional=dict.fromkeys(("default", "problems", "drift", "warnings", "refused"), JSON),
    ),
    shaped(json.loads((DOCS / "status.schema.json").read_text())),
)


@quick
@given(
    ANSWERS.map(lambda value: json.dumps(value).encode() + b"\n"),
    st.sampled_from((["status"], ["status", "--json"], ["status", "wan1"], ["reconcile"]))
    | st.sampled_from((["reconcile", "--json"], ["metrics"])),
)
@example(b'{"uplinks": [], "running": true}\n', ["status"])
@example(b'{"changes": [{"command": "\\ud800", "error": 7}]}\n', ["reconcile"])
@example(b'{"error": {"a": "\\u001b"}}\n', ["status"])
def test_any_reply_is_printed_or_reported_in_one_line(answer: bytes, words: list[str]) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2))
    with speaker([answer]) as path, redirect_stdout(out), redirect_stderr(err):
        code = cli.main([*words, "--runtime-dir", os.path.dirname(path)])
    out.flush()
    err.flush()
    errors = err.buffer.getvalue().decode()  # type: ignore[attr-defined]
    printed = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert code in (0, 1, 2, 3)
    assert all(line.isprintable() for line in (errors + printed).split("\n"))
    if errors:
        assert errors.startswith("mproutd: ")
        assert errors.count("\n") == 1
