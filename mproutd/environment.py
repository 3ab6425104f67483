"""Which programs are installed and which other network daemons run.

Imports nothing, since every command calls it.
"""

from __future__ import annotations

import os


def network_namespace() -> int:
    """The inode of this process' network namespace (namespaces(7)); 0 where /proc is missing."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


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
"""Daemons that also change addresses, routes, rules or endpoints, by their process name, of which
the kernel keeps 15 characters (proc(5), comm)."""
PID_MAX = 1 << 22
"""The highest value of kernel.pid_max (proc(5))."""


def conflicting_daemons() -> set[str]:
    """Those of CONFLICTING_DAEMONS that have a netlink socket in this network namespace.

    /proc/net/netlink lists the sockets by port number, which is the PID for the first socket of a
    protocol (net/netlink/af_netlink.c, netlink_autobind).  Processes of another PID namespace, or
    hidden ones (hidepid), are not found.
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
