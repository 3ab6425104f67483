"""Files that outlive a reboot: how often they are written, and what is read again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mproutd.eventloop import Loop
from mproutd.services.base import ServiceContext, StateDirectory
from mproutd.services.savedfile import FLASH_INTERVAL, WRITE_INTERVAL, SavedFile


class Place:
    """Both directories, a clock of our own, and a file `x.json` in them."""

    def __init__(self, path: Path, on_flash: bool) -> None:
        self.now = 1000.0
        self.state, self.runtime = path / "state", path / "run"
        self.runtime.mkdir(mode=0o755)
        self.loop = Loop(lambda: self.now)
        self.context = ServiceContext(
            self.loop,
            lambda: None,
            lambda *_, **__: None,
            str(self.runtime),
            StateDirectory(str(self.state), on_flash),
        )
        self.file = SavedFile(self.context, "x.json")
        self.value = 0

    def make(self) -> Any:
        return {"time": self.now, "value": self.value}

    def save(self, value: int, after: float = 0.0, urgent: bool = False) -> bool:
        self.now += after
        self.value = value
        return self.file.save(self.make, urgent)

    def written(self, directory: Path) -> int | None:
        try:
            found: int = json.loads((directory / "x.json").read_text())["value"]
        except FileNotFoundError:
            return None
        return found

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the thread has done it."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self.loop.run_once(0.01)


def decode(data: Any) -> tuple[int, float]:
    if not isinstance(data, dict):
        raise ValueError("not an object")
    return data["value"], data["time"]


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    return Place(tmp_path, on_flash=False)


@pytest.fixture
def flash(tmp_path: Path) -> Place:
    return Place(tmp_path, on_flash=True)


def test_a_disk_is_written_once_a_minute(disk: Place) -> None:
    assert not disk.save(1)
    assert not disk.save(2, WRITE_INTERVAL - 1)
    assert disk.save(3, 1)
    disk.eventually(lambda: disk.written(disk.state) == 3)
    assert not disk.save(4, WRITE_INTERVAL - 1)
    assert disk.written(disk.runtime) is None


def test_flash_is_written_every_half_an_hour_and_memory_every_minute(flash: Place) -> None:
    flash.save(1)
    for value in range(2, 31):
        flash.save(value, WRITE_INTERVAL)
        flash.eventually(lambda value=value: flash.written(flash.runtime) == value)  # type: ignore[misc]
        assert flash.written(flash.state) is None
    flash.save(31, FLASH_INTERVAL - 29 * WRITE_INTERVAL)
    flash.eventually(lambda: flash.written(flash.state) == 31)


def test_what_is_urgent_is_written_at_once(flash: Place) -> None:
    assert flash.save(1, urgent=True)
    flash.eventually(lambda: flash.written(flash.state) == flash.written(flash.runtime) == 1)


def test_the_end_writes_what_is_new(flash: Place) -> None:
    flash.save(1, urgent=True)
    flash.eventually(lambda: flash.written(flash.state) == 1)
    flash.save(2)
    flash.file.close()
    assert flash.written(flash.state) == 2


def test_the_end_writes_nothing_twice(disk: Place) -> None:
    disk.save(1, urgent=True)
    disk.eventually(lambda: disk.written(disk.state) == 1)
    (disk.state / "x.json").unlink()
    disk.file.close()
    assert disk.written(disk.state) is None


@pytest.mark.parametrize(("state", "runtime", "found"), [(5, 9, 2), (9, 5, 1)])
def test_the_newer_one_counts(flash: Place, state: int, runtime: int, found: int) -> None:
    flash.state.mkdir(mode=0o755)
    for directory, written, value in ((flash.state, state, 1), (flash.runtime, runtime, 2)):
        (directory / "x.json").write_text(json.dumps({"time": written, "value": value}))
    assert flash.file.load(decode) == found
    assert flash.file.error == ""


def test_without_a_file_there_is_nothing(disk: Place) -> None:
    assert disk.file.load(decode) is None
    assert disk.file.error == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"x" * (2 << 20)])
def test_a_damaged_file_is_kept_aside_and_the_copy_counts(flash: Place, content: bytes) -> None:
    flash.state.mkdir(mode=0o755)
    (flash.state / "x.json").write_bytes(content)
    (flash.runtime / "x.json").write_text('{"time": 1, "value": 2}')
    assert flash.file.load(decode) == 2
    assert str(flash.state / "x.json") in flash.file.error
    assert flash.file.error.endswith("; kept as x.json.damaged")
    assert (flash.state / "x.json.damaged").read_bytes() == content


def test_a_directory_that_others_can_write_is_not_believed(disk: Place) -> None:
    disk.state.mkdir()
    disk.state.chmod(0o777)
    (disk.state / "x.json").write_text('{"time": 1, "value": 2}')
    assert disk.file.load(decode) is None
    assert "writable by other users" in disk.file.error


def test_an_error_is_reported_until_the_next_success(disk: Place) -> None:
    disk.state.write_text("not a directory")
    disk.save(1, urgent=True)
    disk.eventually(lambda: disk.file.error != "")
    disk.state.unlink()
    disk.save(2, urgent=True)
    disk.eventually(lambda: disk.file.error == "")
    assert disk.written(disk.state) == 2
