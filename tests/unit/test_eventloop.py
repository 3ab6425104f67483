"""The event loop: timers on a clock of their own, and the worker thread."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from mproutd.eventloop import MIN_COMPACTION, Loop, Worker
from tests.lab.wait import eventually
from tests.unit.test_pacing import Clock


def test_timers_run_in_order_and_only_once() -> None:
    clock, ran = Clock(), []
    loop = Loop(clock)

    def run(word: str) -> Callable[[], None]:
        return lambda: ran.append(word)

    loop.call_later(2, run("second"))
    first = loop.call_later(1, run("first"))
    cancelled = loop.call_later(0.5, run("never"))
    cancelled.cancel()
    assert loop.next_at() == clock.now + 1
    clock.now += 1
    loop.run_timers()
    assert ran == ["first"]
    assert not first.active
    first.cancel()
    loop.call_later(0, lambda: loop.call_later(0, run("third")))
    clock.now += 1
    loop.run_timers()
    assert ran == ["first", "second"]
    loop.run_timers()
    assert ran == ["first", "second", "third"]
    assert loop.next_at() is None
    loop.close()


def test_a_timer_can_cancel_one_that_is_due_with_it() -> None:
    clock, ran = Clock(), []
    loop = Loop(clock)
    loop.call_later(1, lambda: other.cancel())
    other = loop.call_later(1, lambda: ran.append("other"))
    clock.now += 1
    loop.run_timers()
    assert ran == []
    loop.close()


def test_cancelled_timers_do_not_pile_up() -> None:
    loop, ran = Loop(Clock()), []
    for _ in range(20 * MIN_COMPACTION):
        loop.call_later(60, lambda: ran.append(1)).cancel()
    kept = loop.call_later(60, lambda: ran.append(1))
    assert len(loop._timers) <= 2 * MIN_COMPACTION
    loop.clock.now += 60  # type: ignore[attr-defined]
    loop.run_timers()
    assert (ran, kept.active) == ([1], False)
    loop.close()


def test_run_once_waits_for_the_next_timer_and_runs_descriptors_first() -> None:
    loop, ran = Loop(), []
    loop.call_later(0.05, lambda: ran.append("timer"))
    began = time.monotonic()
    loop.run_once()
    assert ran == ["timer"]
    assert time.monotonic() - began > 0.04
    ours, theirs = socket.socketpair()
    theirs.send(b".")
    loop.watch(ours, lambda: ran.append(ours.recv(1)))
    loop.call_later(0, lambda: ran.append("timer"))
    loop.run_once()
    assert ran[1:] == [b".", "timer"]
    for end in (ours, theirs):
        end.close()
    loop.close()


def test_without_descriptors_there_is_no_thread_and_the_work_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exhausted() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    loop, results = Loop(), []
    worker = Worker(loop)
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", exhausted)
        worker.submit(lambda: 7, lambda *result: results.append(result))
        assert results == []
        loop.run_once(0)
        assert results == [(None, "Too many open files")]
    worker.submit(lambda: 7, lambda *result: results.append(result))
    eventually(lambda: loop.run_once(0.01) or len(results) == 2)
    assert results[1] == (7, "")
    worker.close()
    loop.close()


def test_the_thread_reports_in_the_loop_and_never_blocks_it() -> None:
    loop, results = Loop(), []
    worker = Worker(loop)

    def done(result: object, error: str) -> None:
        results.append((result, error))

    worker.submit(lambda: 7, done)
    worker.submit(lambda: os.stat("/nowhere"), done)
    eventually(lambda: loop.run_once(0.01) or len(results) == 2)
    assert results == [(7, ""), (None, "No such file or directory")]
    release, ended = threading.Event(), []
    worker.submit(lambda: ended.append(release.wait(30)), done)
    worker.close()
    assert ended == [], "close() does not wait for the call"
    release.set()
    loop.close()
