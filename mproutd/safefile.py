"""Whose folders and files are believed: root's, our own, and those of the daemon's user.

A name in a folder that somebody else may write can become another file between two looks at it.
So nothing is decided, and nothing made, in such a folder; and what is read there has to be a
regular file, is never waited for, and has an end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

TEMPORARY_SUFFIX = ".new"
"""What a file's name ends in until it is whole; one name, so that no kill leaves many."""
USER = "mproutd"
"""Who the daemon is where it is not root."""


def why_untrusted(path: str, link: bool = False) -> str:
    """Why a folder is not believed: "belongs to …"; empty when it is, or is not there.

    `link`: a symbolic link is followed, if it is somebody's who is believed.
    """
    try:
        status = os.lstat(path)
        if link and stat.S_ISLNK(status.st_mode) and _is_believed(status.st_uid):
            status = os.stat(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return _fault(status) if stat.S_ISDIR(status.st_mode) else "is no directory; remove it"


def writable_by_others(path: str) -> str:
    """Who else may change a file or folder of the configuration; empty when nobody may."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    what = "can change it, and with it routes and programs that are run"
    if not _is_believed(status.st_uid):
        return f"user {status.st_uid} {what}"
    if status.st_mode & stat.S_IWOTH:
        return f"everybody {what}"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"group {status.st_gid} {what}"
    return ""


def read_file(path: str, most: int) -> bytes:
    """What stands in a file.  OSError, also when it is not believed or has more than `most`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        if fault := _fault(status):
            raise OSError(errno.EPERM, fault)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def replace_file(
    path: str, data: bytes, made: Callable[[int], None] = lambda descriptor: None
) -> None:
    """Write a small file anew, for us alone: beside, whatever stands there, and renamed.  OSError.

    `made` is given the descriptor of the new file before anything is in it.
    """
    beside = path + TEMPORARY_SUFFIX
    unlink_if_present(beside)  # of one that was killed just here, as another user perhaps
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600)
    try:
        made(descriptor)
        if os.write(descriptor, data) != len(data):  # small, so there was no room for the whole
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
    os.replace(beside, path)


def unlink_if_present(path: str) -> None:
    """Remove a file, if it is there.  OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _fault(status: os.stat_result) -> str:
    if not _is_believed(status.st_uid):
        return f"belongs to user {status.st_uid}, not to root; remove it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "can be written by others; set it to 0755"
    return ""


def _is_believed(user: int) -> bool:
    if user in (0, os.geteuid()):
        return True
    import pwd  # next to never: a command of root's beside a daemon that is not

    try:
        return pwd.getpwuid(user).pw_name == USER
    except KeyError:
        return False
