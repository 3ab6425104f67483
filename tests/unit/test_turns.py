"""Tests that have to be alone, and those that need not."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

from tests.turns import turn


class Other:
    """A test of another process: it begins when its turn comes, and runs until end()."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self._arguments, self._begun, self._end = (alone, folder), Event(), Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with turn(*self._arguments):
            self._begun.set()
            self._end.wait()

    def runs(self, within: float = 20) -> bool:
        return self._begun.wait(within)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


def test_one_that_has_to_be_alone_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    first, second = Other(tmp_path, False), Other(tmp_path, False)
    assert first.runs()
    assert second.runs()
    alone = Other(tmp_path, True)
    assert not alone.runs(0.1)
    later = Other(tmp_path, False)
    assert not later.runs(0.1)
    first.end()
    assert not alone.runs(0.1)
    second.end()
    assert alone.runs()
    assert not later.runs(0.1)
    alone.end()
    assert later.runs()
    later.end()
