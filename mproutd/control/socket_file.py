"""The control socket's file: for root and a group, from the moment it can be found."""

from __future__ import annotations

import grp
import os
import socket
import stat

GROUP = "mproutd"


def bind(server: socket.socket, path: str) -> None:
    """Bind to `path`: for the group where it exists and we may give it, else for us alone.

    The socket is made with its group and mode.  Changed afterwards, by its name, they might end up
    at another file, put in its place.
    """
    own, umask = os.getegid(), os.umask(0o177)
    try:
        if _enter_group(os.path.dirname(path)):
            os.umask(0o117)
        server.bind(path)
    finally:
        if os.getegid() != own:
            os.setegid(own)
        os.umask(umask)


def _enter_group(directory: str) -> bool:
    """Make what we create in this directory the group's; False where that is impossible."""
    try:
        group = grp.getgrnam(GROUP).gr_gid
        if os.stat(directory).st_mode & stat.S_ISGID:
            return False  # what is made there gets the directory's group
        if os.getegid() != group:
            os.setegid(group)
    except (KeyError, OSError):  # not root, or a group that this user namespace does not know
        return False
    return True
