"""The runtime directory: the state file, and the lock of whoever may change the kernel.

Invariants: a reader sees either the whole old state file or the whole new one; a file that
cannot be read or written is reported and does not stop the daemon.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat

from mproutd.environment import network_namespace
from mproutd.planning.cache import cache_recent
from mproutd.planning.state import State, decode, encode
from mproutd.safefile import (
    TEMPORARY_SUFFIX,
    open_directory,
    read_file,
    replace_file,
    unlink_if_present,
)

STATE_FILE, LOCK_FILE, CONTROL_SOCKET = "state.json", "lock", "control.sock"
MAX_STATE_BYTES = 1 << 20
"""A real state file has a few thousand."""
MAX_SOCKET_PATH_BYTES = 107
"""Of sun_path, without the terminating zero (unix(7))."""
LOCK_RETRY_INTERVAL = 0.02
"""Seconds between two attempts to take the lock."""


class OtherNamespaceError(Exception):
    """The state is that of another network namespace; str() is one line that says so."""


class StateFile:
    """The state, kept in DIRECTORY/state.json, with the network namespace that it is of."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._path = os.path.join(directory, STATE_FILE)
        self._namespace = network_namespace()
        self.state = State()
        self.error = ""
        """Why the file could not be read or written; empty when it could."""
        self.denied = False
        """There is a file, but this user may not read it."""

    def load(self) -> None:
        """Read the file; without one, or with an invalid one, start with an empty state.

        OtherNamespaceError: to use it here would lose what it records there.
        """
        try:
            data = json.loads(read_file(self._path, MAX_STATE_BYTES))
            state = decode(data)
            namespace = data.get("namespace", self._namespace)
            if type(namespace) is not int:
                raise ValueError("not a state of mproutd: namespace is not a number")
            self.state = state
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)[:200]
            self.error = f"{self._path}: {reason}; starting with an empty state"
            self.denied = isinstance(error, OSError) and error.errno == errno.EACCES
            return
        if namespace != self._namespace:
            self.state = State()
            raise OtherNamespaceError(
                f"{self._path}: belongs to another network namespace, net:[{namespace}]; run this "
                "there, or use another --runtime-dir; delete the file if that namespace is gone"
            )

    def save(self, state: State) -> None:
        """Keep the state, and write it to the file if it is new."""
        if state == self.state and not self.error:
            return
        self.state = state
        try:
            replace_file(self._path, _content(state, self._namespace))
            self.error = ""
        except OSError as error:
            self.error = (
                f"{self._path}: {error.strerror}; after a crash, endpoints that are added now "
                "would count as foreign"
            )

    def remove(self) -> None:
        """Delete the file, after a flush.  OSError."""
        self.state = State()
        unlink_if_present(self._path)
        unlink_if_present(self._path + TEMPORARY_SUFFIX)


@cache_recent(4)
def _content(state: State, namespace: int) -> bytes:
    """Of the file.  An uplink that comes and goes needs the same few again."""
    return json.dumps({**encode(state), "namespace": namespace}).encode()


class Lock:
    """Held by whoever may change the kernel: one daemon, or one command.

    The service's user owns the directory, and root's commands work there too.  While root holds
    the lock, the directory belongs to root, so that nobody else can rename what root makes there;
    afterwards its owner gets it back, with the files, which a daemon that is not root has to read.
    """

    def __init__(self, directory: str) -> None:
        """OSError when the directory cannot be made or written, its path is too long for the
        control socket, or other users can write to it."""
        path = os.path.join(directory, CONTROL_SOCKET)
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), directory)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        self._directory = open_directory(directory, follow_link=True)
        self._owner = os.fstat(self._directory).st_uid
        self._lent = False
        """The directory is another user's, and root's until release()."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(LOCK_FILE, flags, 0o600, dir_fd=self._directory)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            self._close()
            text = "is not a file of its own; remove it"
            raise OSError(errno.EINVAL, text, os.path.join(directory, LOCK_FILE))

    def acquire(self, timeout: float = 0.0) -> bool:
        """Take the lock within `timeout` seconds; False when another process keeps it.  OSError
        when root may not take the directory."""
        if not self._take() and not (timeout and self._wait(timeout)):
            return False
        if os.geteuid() == 0 and self._owner != 0:
            os.fchown(self._directory, 0, -1)
            self._lent = True
        return True

    def _wait(self, timeout: float) -> bool:
        # Only a command that has to wait for another process pays for the import.
        from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

        retrying = Retrying(
            retry=retry_if_result(lambda taken: not taken),
            wait=wait_fixed(LOCK_RETRY_INTERVAL),
            stop=stop_after_delay(timeout),
            retry_error_callback=lambda state: False,
        )
        return bool(retrying(self._take))

    def _take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """After acquire()."""
        if self._lent:
            for name in os.listdir(self._directory):
                _give(self._directory, name, self._owner)
            os.fchown(self._directory, self._owner, -1)
        self._close()

    def _close(self) -> None:
        os.close(self._descriptor)
        os.close(self._directory)


def _give(directory: int, name: str, owner: int) -> None:
    """Give a file of root's to the owner of the directory that it is in."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError:
        return  # a link or a socket
    status = os.fstat(descriptor)
    # Not a file with a second name, which may belong to somebody else's directory.
    if stat.S_ISREG(status.st_mode) and status.st_uid == 0 and status.st_nlink == 1:
        os.fchown(descriptor, owner, -1)
    os.close(descriptor)
