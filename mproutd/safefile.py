"""Reading and writing files that other users must not influence.

A name in a directory that another user can write to may become another file between two looks at
it.  So such a directory is not trusted, nothing is made in it, and what is read has to be a regular
file of root's, our own or the daemon's user, is opened without blocking, and has a maximum size.
"""

from __future__ import annotations

import errno
import os
import stat

TEMPORARY_SUFFIX = ".new"
"""Of a file until it is complete; always the same, so that crashes leave at most one."""
USER = "mproutd"
"""The daemon's user where it is not root."""


def writable_by_others(path: str) -> str:
    """Who else can change a configuration file or directory; empty when nobody can.

    Neither can a member of the group that asks for the status, nor the daemon's user where we are
    root: the configuration names programs that we run.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return f"user {status.st_uid} can change it"
    if status.st_mode & stat.S_IWOTH:
        return "every user can change it"
    if status.st_mode & stat.S_IWGRP and not _is_group_of_one(status.st_gid):
        return f"group {status.st_gid} can change it"
    return ""


def replaceable_by_others(path: str) -> str:
    """Who else can put another directory in the place of one of its parents; empty when nobody."""
    directory = os.path.dirname(os.path.realpath(path))
    while directory != "/":
        try:
            status = os.stat(directory)
        except OSError:  # the path leads through another mount namespace (/proc/PID/root)
            return ""
        sticky = status.st_mode & stat.S_ISVTX and status.st_uid in (0, os.geteuid())
        if not sticky and (who := writable_by_others(directory)):
            return f"{directory}: {who}"
        directory = os.path.dirname(directory)
    return ""


def _is_group_of_one(group: int) -> bool:
    """Root's group, or our own with nobody else in it."""
    if group == 0:
        return True
    import grp  # rarely needed

    try:
        return group == os.getegid() and not grp.getgrgid(group).gr_mem
    except KeyError:
        return True


def read_file(path: str, max_bytes: int) -> bytes:
    """The content of a file.  OSError, also when it is not trusted or larger than `max_bytes`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file")
        if fault := _fault(status):
            raise OSError(errno.EPERM, fault)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def open_directory(path: str, follow_link: bool = False) -> int:
    """A descriptor of a directory that other users cannot change.  OSError says why not.

    What is opened relative to it stays in it, whatever becomes of the name.  `follow_link`: follow
    a symbolic link whose owner is trusted.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        if not follow_link or not _is_trusted(status.st_uid):
            raise OSError(errno.ENOTDIR, "is not a directory; remove it", path)
    elif not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "is not a directory; remove it", path)
    else:
        flags |= os.O_NOFOLLOW
    descriptor = os.open(path, flags)
    if fault := _fault(os.fstat(descriptor)):
        os.close(descriptor)
        raise OSError(errno.EPERM, fault, path)
    return descriptor


def replace_file(path: str, data: bytes, *, durable: bool = False, mode: int = 0o600) -> None:
    """Write a small file, readable by us alone unless `mode` says else, and rename it over the old
    one.  OSError.

    Root's file is given to the owner of the directory, a daemon that is not root.
    With `durable`, a power failure leaves the old file or the new one; that waits for the disk.
    """
    temporary = path + TEMPORARY_SUFFIX
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, 0o600)
    except FileExistsError:
        unlink_if_present(temporary)  # left by a crash, perhaps of another user
        descriptor = os.open(temporary, flags, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, os.stat(os.path.dirname(path) or ".").st_uid, -1)
        if mode != 0o600:
            os.fchmod(descriptor, mode)  # not by open(): the umask takes bits away
        if os.write(descriptor, data) != len(data):  # the file is small, so the disk is full
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def unlink_if_present(path: str) -> None:
    """Delete a file, if it exists.  OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _fault(status: os.stat_result) -> str:
    """Why a file or directory with this status is not trusted; empty when it is."""
    if not _is_trusted(status.st_uid):
        return f"belongs to user {status.st_uid} instead of root; remove it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "is writable by other users; set its mode to 0755"
    return ""


def _is_trusted(user: int) -> bool:
    if user in (0, os.geteuid()):
        return True
    import pwd  # rarely needed: for a command of root's beside a daemon that is not root

    try:
        return pwd.getpwuid(user).pw_name == USER
    except KeyError:
        return False
