"""Which programs are installed and which other network daemons run.

Imports nothing, since every command calls it.
"""

from __future__ import annotations

import os

RESOLVER_DIRECTORIES = (
    "/run/systemd/netif/links",
    "/run/resolvconf/interface",
    "/run/dhcpcd/hook-state/resolv.conf",
)
"""Where systemd-networkd, resolvconf(8) and dhcpcd keep the resolvers of each device."""
RESOLVED_DIRECTORY = "/run/systemd/resolve"
"""Where systemd-resolved keeps its files while it runs."""
NETWORKD_ENABLED = "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service"


def network_namespace() -> int:
    """The inode of this process' network namespace (namespaces(7)); 0 where /proc is missing."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


def package_version() -> tuple[int, int]:
    """What changes when an upgrade replaces mproutd's files; (0, 0) while they are missing."""
    try:
        status = os.stat(os.path.join(os.path.dirname(__file__), "__init__.py"))
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def find_program(name: str) -> str:
    """The path of a program, as execvp(3) would find it; empty when there is none."""
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def has_lease_files() -> bool:
    """Whether a DHCP client keeps its leases where services.leases looks for them."""
    return any(map(os.path.isdir, ("/var/lib/dhcp", "/var/lib/dhcpcd")))


CONFLICTING_DAEMONS = {
    "dhcpcd": "dhcpcd",
    "mptcpd": "mptcpd",
    "systemd-network": "systemd-networkd",
    "NetworkManager": "NetworkManager",
}
"""Daemons that also change addresses, routes, rules or endpoints, by their process name, of which
the kernel keeps 15 characters (proc(5), comm)."""
ANNOUNCERS = {"dnsmasq": "dnsmasq", "odhcpd": "odhcpd", "radvd": "radvd"}
"""Programs that send router advertisements, likewise; systemd-networkd only where configured."""
NETWORKD_DIRECTORIES = ("/etc/systemd/network", "/run/systemd/network")
PID_MAX = 1 << 22
"""The highest value of kernel.pid_max (proc(5))."""


def conflicting_daemons() -> set[str]:
    """Those of CONFLICTING_DAEMONS that run in this network namespace."""
    return _daemons(CONFLICTING_DAEMONS)


def announcers() -> set[str]:
    """The programs that may announce prefixes in this network namespace."""
    known = {**ANNOUNCERS, "systemd-network": "systemd-networkd"}
    running = _daemons(known)
    return running if _networkd_announces() else running - {"systemd-networkd"}


def _networkd_announces() -> bool:
    """Whether a file of systemd-networkd asks for it (IPv6SendRA= in systemd.network(5))."""
    for directory in NETWORKD_DIRECTORIES:
        for folder, _, names in os.walk(directory):
            for name in names:
                try:
                    with open(os.path.join(folder, name), errors="replace") as file:
                        lines = [line.replace(" ", "").strip().lower() for line in file]
                except OSError:
                    continue
                if any(f"ipv6sendra={value}" in lines for value in ("yes", "true", "1", "on")):
                    return True
    return False


def _daemons(known: dict[str, str]) -> set[str]:
    """Those of the `known` that have a netlink socket in this network namespace.

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
                names.add(known.get(comm.read().rstrip("\n"), ""))
        except OSError:
            pass
    return names - {""}


def keeps_resolvers() -> bool:
    """Whether a program keeps the resolvers of each device in a file, or may start and do so."""
    return (
        any(map(os.path.isdir, RESOLVER_DIRECTORIES))
        or os.path.lexists(NETWORKD_ENABLED)
        or bool(find_program("resolvconf") or find_program("dhcpcd"))
    )
