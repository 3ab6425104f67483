"""Which tests may run at the same time: all of them, but those marked `alone`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, LOCK_UN, flock
from pathlib import Path

FOLDER = Path(tempfile.gettempdir())
"""The same for every run on this machine, so that two runs do not disturb each other either."""


@contextmanager
def turn(alone: bool, folder: Path = FOLDER) -> Iterator[None]:
    """Wait until no test runs, or with `alone` false until no test runs that has to be alone.

    flock(2) lets those that share a lock pass whoever wants it for himself.  So each waits with a
    second lock held, for which those that come later wait.
    """
    with (
        _locked(folder / "mproutd-tests.next", LOCK_EX) as following,
        _locked(folder / "mproutd-tests", LOCK_EX if alone else LOCK_SH),
    ):
        flock(following, LOCK_UN)
        yield


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY)  # also where it is another user's
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        flock(descriptor, mode)
        yield descriptor
    finally:
        flock(descriptor, LOCK_UN)  # a process that the test left behind may have inherited it
        os.close(descriptor)
