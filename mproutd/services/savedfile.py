"""A small file of a service that outlives a reboot.

On a disk it is written at most once a minute, on flash at most every 30 minutes, and at the end;
on flash, a copy in the runtime directory (in memory) is as fresh as the file on a disk.

Invariants: a reader sees a whole file, the old one or the new one, also after a power failure;
the loop never waits for the disk but at the end; an error is reported, and stops nothing.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from mproutd.eventloop import Worker
from mproutd.safefile import open_directory, read_file, replace_file
from mproutd.services.base import ServiceContext

MAX_BYTES = 1 << 20
WRITE_INTERVAL, FLASH_INTERVAL = 60.0, 1800.0
"""Seconds between two writes."""
DAMAGED = ".damaged"
"""Appended to the name of a file that cannot be read."""


class SavedFile:
    """One file, by the same name in both directories."""

    def __init__(self, context: ServiceContext, name: str) -> None:
        self._context, self._name = context, name
        self._directory, self._on_flash = context.state_dir
        self.error = ""
        """Why it could not be read or written; empty when it could."""
        self._worker = Worker(context.loop)
        self._write_lock = threading.Lock()
        self._written_at: dict[str, float] = {}
        """Directory → when it was written last."""
        self._make: Callable[[], Any] | None = None
        """Makes what is to be written; None when nothing is new."""

    @property
    def path(self) -> str:
        return os.path.join(self._directory, self._name)

    def load(self, decode: Callable[[Any], tuple[Any, float]]) -> Any | None:
        """What the newer one of the files holds; None if there is none.

        `decode` returns it with the time at which it was written; ValueError where it is invalid.
        A damaged file is set aside.
        """
        saved = []
        for directory in dict.fromkeys((self._directory, self._context.runtime_dir)):
            path = os.path.join(directory, self._name)
            try:
                os.close(open_directory(directory, follow_link=True))
            except FileNotFoundError:
                continue
            except OSError as error:
                self.error = f"{directory}: {error.strerror}"
                continue
            try:
                saved.append(decode(json.loads(read_file(path, MAX_BYTES))))
            except FileNotFoundError:
                continue
            except (OSError, ValueError, RecursionError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)[:200]
                self.error = f"{path}: {reason}"
                self._set_aside(path)
        return max(saved, key=lambda loaded: loaded[1])[0] if saved else None

    def _set_aside(self, path: str) -> None:
        try:
            os.replace(path, path + DAMAGED)
        except OSError:
            return
        self.error += f"; kept as {self._name}{DAMAGED}"

    def save(self, make: Callable[[], Any], urgent: bool = False) -> bool:
        """Write what `make` returns if it is time or urgent, else not before close().

        Return whether it is being written.
        """
        self._make = make
        directories = {self._directory: FLASH_INTERVAL if self._on_flash else WRITE_INTERVAL}
        if self._on_flash:
            directories[self._context.runtime_dir] = WRITE_INTERVAL
        now = self._context.clock()
        due = [
            directory
            for directory, interval in directories.items()
            if urgent or now - self._written_at.setdefault(directory, now) >= interval
        ]
        if due:
            data = json.dumps(make()).encode()
            self._written_at |= dict.fromkeys(due, now)
            if self._directory in due:
                self._make = None
            self._worker.submit(partial(self._write, due, data), self._on_written)
        return bool(due)

    def _write(self, directories: list[str], data: bytes) -> str:
        """The error; empty for none."""
        error = ""
        with self._write_lock:
            for directory in directories:
                path = os.path.join(directory, self._name)
                try:
                    os.makedirs(directory, mode=0o755, exist_ok=True)
                    replace_file(path, data, durable=True)
                except OSError as problem:
                    error = f"{path}: {problem.strerror}"
        return error

    def _on_written(self, error: str | None, failure: str) -> None:
        self.error = error or failure

    def close(self) -> None:
        """Write what is new, and wait for it."""
        self._worker.close()
        if self._make is not None:
            self._write([self._directory], json.dumps(self._make()).encode())
            self._make = None
