"""Runs inside mproutd before anything of its own: kills it between two operations.

Python imports a module of this name by itself when its directory is on PYTHONPATH.  Every
change counts one: a netlink message that writes, a setting below /proc/sys, a file that is
renamed into its place.  After as many as MPROUTD_DIES_AFTER says, the process is gone, as by
kill -9: what it sends in one go is cut there, and the kernel gets the part before.
"""

import builtins
import itertools
import os
import signal
import socket
import struct
import threading

LEFT = int(os.environ["MPROUTD_DIES_AFTER"])
PM_WRITES = {1, 2, 4, 5, 7}
"""linux/mptcp_pm.h, MPTCP_PM_CMD_*: ADD_ADDR, DEL_ADDR, FLUSH_ADDRS, SET_LIMITS, SET_FLAGS."""
SET_LIMITS, SUBFLOWS, ANY_CAP = 5, 3, 255
_done = itertools.count()
_one = threading.Lock()


def last() -> bool:
    """Whether the change that is about to be made is one too many."""
    with _one:
        return next(_done) >= LEFT


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def writes(protocol: int, data: bytes, at: int, kind: int) -> bool:
    if protocol == socket.NETLINK_ROUTE:
        return kind & 3 != 2  # linux/rtnetlink.h: each object has four types, NEW, DEL, GET, SET
    if kind <= 16 or data[at + 16] not in PM_WRITES:
        return False
    return data[at + 16] != SET_LIMITS or not asks(data, at + 20)


def asks(data: bytes, at: int) -> bool:
    """A SET_LIMITS that no kernel accepts: it asks for the cap and changes nothing."""
    while at + 8 <= len(data):
        length, kind, value = struct.unpack_from("=HHI", data, at)
        if kind == SUBFLOWS:
            return value > ANY_CAP
        at += max(4, length + 3 & ~3)
    return False


def send(self, data, *rest, plain=socket.socket.send):
    if self.family == socket.AF_NETLINK:
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if writes(self.proto, data, at, kind) and last():
                if at:
                    plain(self, data[:at], *rest)
                die()
            at += max(16, length + 3 & ~3)
    return plain(self, data, *rest)


def opened(path, mode="r", *rest, plain=builtins.open, **keywords):
    if str(path).startswith("/proc/sys/") and set("wa+") & set(mode) and last():
        die()
    return plain(path, mode, *rest, **keywords)


def replaced(source, target, *rest, plain=os.replace, **keywords):
    if last():
        die()
    return plain(source, target, *rest, **keywords)


socket.socket.send = send
builtins.open = opened
os.replace = replaced
