"""The runtime directory: the state file, and the lock that makes us the only one.

What must hold: a reader sees the whole old file or the whole new one; a file that cannot be
read or written is no reason to stop, only one to say so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from functools import partial

from mproutd.planning.state import State, decode, encode
from mproutd.safefile import (
    TEMPORARY_SUFFIX,
    read_file,
    replace_file,
    unlink_if_present,
    why_untrusted,
)

STATE_FILE, LOCK_FILE, CONTROL_SOCKET = "state.json", "lock", "control.sock"
MAX_BYTES = 1 << 20
"""Bytes of a state file; a real one has a few thousand."""
MAX_SOCKET_PATH = 107
"""Bytes of a socket's path without the terminating zero (unix(7), sun_path)."""


class StateFile:
    """The memory, kept in DIRECTORY/state.json."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._path = os.path.join(directory, STATE_FILE)
        self.state = State()
        self.problem = ""
        """Why the file could not be read or written; empty when all is well."""

    def load(self) -> None:
        """Read it.  Without a file there is nothing to remember; a broken one is set aside."""
        try:
            self.state = decode(json.loads(read_file(self._path, MAX_BYTES)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)[:200]
            self.problem = f"{self._path}: {reason}; starting without it"

    def save(self, state: State) -> None:
        """Keep it, and write it if it is new.  On an error it is kept, and `problem` says so."""
        if state == self.state and not self.problem:
            return
        self.state = state
        data = json.dumps(encode(state)).encode()
        try:
            replace_file(self._path, data, partial(_hand_over, directory=self.directory))
            self.problem = ""
        except OSError as error:
            self.problem = (
                f"{self._path}: {error.strerror}; after a crash, endpoints that are added now "
                "would be taken for somebody else's"
            )

    def remove(self) -> None:
        """Forget everything: after a flush."""
        self.state = State()
        unlink_if_present(self._path)
        unlink_if_present(self._path + TEMPORARY_SUFFIX)


def _hand_over(descriptor: int, directory: str) -> None:
    """Give a file of ours to the owner of the folder: a daemon that is not root has to read what
    a command of root's left there.  OSError."""
    owner, status = os.stat(directory).st_uid, os.fstat(descriptor)
    # Not what has another name: that may be a file which was never meant for that owner.
    if os.geteuid() == 0 and status.st_uid != owner and status.st_nlink == 1:
        os.fchown(descriptor, owner, -1)


class Lock:
    """Held by whoever may change the kernel: one daemon, or one command."""

    def __init__(self, directory: str) -> None:
        """OSError when the directory cannot be made or written, leaves its socket no room, or
        could be written by somebody who is not believed."""
        if len(os.fsencode(os.path.join(directory, CONTROL_SOCKET))) > MAX_SOCKET_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), directory)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        if why := why_untrusted(directory, link=True):
            raise OSError(errno.EINVAL, why, directory)
        path = os.path.join(directory, LOCK_FILE)
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        _hand_over(self._descriptor, directory)

    def acquire(self, patience: float = 0.0) -> bool:
        """Whether it is ours now, or within `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(0.02)
            else:
                return True

    def release(self) -> None:
        os.close(self._descriptor)
