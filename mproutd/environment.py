"""Which programs and daemons are there.  Light: who lacks one pays for the question alone."""

from __future__ import annotations

import os


def find_program(name: str) -> str:
    """The path of a program, as execvp(3) would find it; empty when there is none."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


CONFLICTING_DAEMONS = {
    "dhcpcd": "dhcpcd",
    "mptcpd": "mptcpd",
    "systemd-network": "systemd-networkd",
    "NetworkManager": "NetworkManager",
}
"""Daemons that change addresses, routes, rules or endpoints too, by their process' name, of which
the kernel keeps 15 characters (proc(5), comm)."""
PID_MAX = 1 << 22
"""No process has a higher number (proc(5), pid_max)."""


def conflicting_daemons() -> set[str]:
    """Those of CONFLICTING_DAEMONS with a netlink socket in this network namespace.

    The kernel lists its netlink sockets by a port number, which is the process for the first
    socket of a kind (net/netlink/af_netlink.c, netlink_autobind).  One that is in another PID
    namespace, or hidden (hidepid), is not seen.
    """
    names: set[str] = set()
    try:
        with open("/proc/self/net/netlink", encoding="ascii") as table:
            ports = {int(line.split()[2]) for line in table.readlines()[1:]}
    except (OSError, ValueError, IndexError):
        return names
    for port in ports:
        if not 0 < port <= PID_MAX:  # 0 is the kernel
            continue
        try:
            with open(f"/proc/{port}/comm", errors="replace") as comm:
                names.add(CONFLICTING_DAEMONS.get(comm.read().rstrip("\n"), ""))
        except OSError:
            pass
    return names - {""}
