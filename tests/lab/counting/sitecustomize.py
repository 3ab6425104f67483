"""Runs inside mproutd before anything of its own: notes what it asks and tells the kernel.

Python imports a module of this name by itself when its directory is on PYTHONPATH.  Every
netlink message that is sent, and every file below /proc/sys that is opened for writing,
becomes a line of the file that MPROUTD_WITNESS names: "write rtnetlink 24", "read ...".
"""

import builtins
import os
import socket
import struct

LOG = os.open(os.environ["MPROUTD_WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
PM_WRITES = {1, 2, 4, 5, 7}
"""linux/mptcp_pm.h, MPTCP_PM_CMD_*: ADD_ADDR, DEL_ADDR, FLUSH_ADDRS, SET_LIMITS, SET_FLAGS."""
SET_LIMITS, SUBFLOWS, ANY_CAP = 5, 3, 255
NETLINK_NETFILTER = 12
NETFILTER_READS = {(1, 1), (10, 1), (10, 4), (10, 7), (10, 10), (10, 13), (10, 16)}
"""(subsystem, message) of ctnetlink and nf_tables: what their GET requests are."""


def is_question(body: bytes) -> bool:
    """A SET_LIMITS that no kernel accepts: it asks for the cap and changes nothing."""
    at = 4
    while at + 8 <= len(body):
        length, kind, value = struct.unpack_from("=HHI", body, at)
        if kind == SUBFLOWS:
            return value > ANY_CAP
        at += length + 3 & ~3
    return False


def note(protocol: int, data: bytes) -> None:
    lines, at = [], 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if protocol == socket.NETLINK_ROUTE:
            # linux/rtnetlink.h: each object has four types, NEW, DEL, GET and SET.
            lines.append(f"{'read' if kind & 3 == 2 else 'write'} rtnetlink {kind}\n")
        elif protocol == NETLINK_NETFILTER:
            reads = (kind >> 8, kind & 255) in NETFILTER_READS
            lines.append(f"{'read' if reads else 'write'} netfilter {kind}\n")
        else:
            command = data[at + 16]
            writes = kind > 16 and command in PM_WRITES
            if writes and command == SET_LIMITS:
                writes = not is_question(data[at + 16 : at + length])
            lines.append(f"{'write' if writes else 'read'} generic {command}\n")
        at += max(16, length + 3 & ~3)
    os.write(LOG, "".join(lines).encode())


def watched(name: str):
    plain = getattr(socket.socket, name)

    def send(self, data, *rest):
        if self.family == socket.AF_NETLINK:
            note(self.proto, b"".join(data) if name == "sendmsg" else bytes(data))
        return plain(self, data, *rest)

    return send


for method in ("send", "sendall", "sendto", "sendmsg"):
    setattr(socket.socket, method, watched(method))


def opened(path, mode="r", *rest, plain=builtins.open, **keywords):
    if str(path).startswith("/proc/sys/") and set("wa+") & set(mode):
        os.write(LOG, f"write {path}\n".encode())
    return plain(path, mode, *rest, **keywords)


builtins.open = opened
