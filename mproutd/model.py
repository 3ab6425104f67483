"""The values that everything else speaks in.

Each kernel object is one immutable value, canonical as it is made: addresses are
text as inet_ntop(3) prints them, a host prefix has no length ("10.1.1.2", not
"10.1.1.2/32"), the whole address space is "default".  Two values are equal
exactly when the kernel could not tell them apart, so a difference between what
is wanted and what is found is a set difference.

They are named tuples rather than data classes: a third of the cost to make, and a
router neither has the 2.7 MB nor the 11 ms that `import dataclasses` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Literal, NamedTuple

PROTOCOL = 77
"""The route and rule protocol that marks an object as ours (rtm_protocol, FRA_PROTOCOL)."""

TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 253, 254, 255
"""linux/rtnetlink.h, enum rt_class_t: the tables that are never ours."""

SCOPE_GLOBAL, SCOPE_LINK = 0, 253
"""linux/rtnetlink.h, enum rt_scope_t."""

UNICAST, UNREACHABLE = 1, 7
"""linux/rtnetlink.h, RTN_*: the route types that we write."""

TEMPORARY, DAD_FAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40
"""linux/if_addr.h, IFA_F_*.  0x01 means temporary for IPv6, secondary for IPv4."""

SIGNAL, SUBFLOW, BACKUP, FULLMESH, IMPLICIT, LAMINAR = 1, 2, 4, 8, 16, 32
"""linux/mptcp_pm.h, MPTCP_PM_ADDR_FLAG_*."""

FAMILIES = (AF_INET, AF_INET6)
FAMILY_NAMES: dict[int, str] = {AF_INET: "IPv4", AF_INET6: "IPv6"}

LOOKUP_DESTINATION: dict[int, str] = {AF_INET: "240.0.0.1", AF_INET6: "2000::1"}
"""Where nobody is: reserved (RFC 1112) and unassigned, so that only a default route fits."""

FALLBACK_DESTINATION: dict[int, str] = {AF_INET: "192.52.193.1", AF_INET6: "2001:3::1"}
"""To ask again where main lets nothing go to the first: lists of bogons have that, and leave out
what is assigned, as this is to relays that next to nobody runs (RFC 7450)."""


def family_of(address: str) -> int:
    """The address family of an address or prefix in text."""
    return AF_INET6 if ":" in address else AF_INET


def bits(family: int) -> int:
    """How long an address of this family is, in bits."""
    return 128 if family == AF_INET6 else 32


def canonical(address: str) -> str:
    """An address as inet_ntop(3) prints it.  OSError when it is none."""
    family = family_of(address)
    return inet_ntop(family, inet_pton(family, address))


def prefix(address: bytes, length: int, family: int) -> str:
    """A prefix as text, host bits cleared: "default", "10.1.1.0/24", "10.1.1.2"."""
    if length == 0:
        return "default"
    size = bits(family)
    if length >= size:
        return inet_ntop(family, address)
    spare = size - length
    network = int.from_bytes(address, "big") >> spare << spare
    return f"{inet_ntop(family, network.to_bytes(size // 8, 'big'))}/{length}"


def split_prefix(text: str, family: int) -> tuple[bytes, int]:
    """The inverse of prefix(): the address' bytes and the length in bits."""
    if text == "default":
        return bytes(bits(family) // 8), 0
    address, _, length = text.partition("/")
    return inet_pton(family, address), int(length) if length else bits(family)


@lru_cache(1024)
def contains(network: str, address: str) -> bool:
    """Whether the prefix `network` covers `address`; never across families."""
    family = family_of(address)
    if network == "default":
        return True
    if family_of(network) != family:
        return False
    start, length = leading_bits(network)
    return int.from_bytes(inet_pton(family, address), "big") >> bits(family) - length == start


@lru_cache(1024)
def leading_bits(network: str) -> tuple[int, int]:
    """A prefix other than "default" as a number of its leading bits, and how many these are."""
    family = family_of(network)
    base, length = split_prefix(network, family)
    return int.from_bytes(base, "big") >> bits(family) - length, length


@lru_cache(1024)
def _network(address: str, length: int) -> str:
    family = family_of(address)
    return prefix(inet_pton(family, address), length, family)


class Link(NamedTuple):
    """A network device (RTM_NEWLINK)."""

    index: int  # type: ignore[assignment]  # instead of tuple.index(), which nobody calls
    name: str
    up: bool = True
    """IFF_UP: the administrator wants it."""
    carrier: bool = True
    """IFF_LOWER_UP and IFF_RUNNING: it can carry packets."""
    pointopoint: bool = False
    """IFF_POINTOPOINT or IFF_NOARP: whatever is sent arrives; no gateway is needed."""
    rp_filter: int = 0
    arp_ignore: int = 0
    arp_announce: int = 0
    """net.ipv4.conf.DEVICE.*, as IFLA_AF_SPEC carries them."""


class Address(NamedTuple):
    """An address on a device (RTM_NEWADDR)."""

    link: int
    """The device's ifindex."""
    address: str
    prefixlen: int
    peer: str = ""
    """The other end of a point-to-point device, where it is not the address itself."""
    scope: int = SCOPE_GLOBAL
    flags: int = 0

    @property
    def family(self) -> int:
        return family_of(self.address)

    @property
    def network(self) -> str:
        """The prefix that this address makes reachable on its device."""
        return _network(self.peer or self.address, self.prefixlen)


class Route(NamedTuple):
    """A route (RTM_NEWROUTE); the fields are those that can be read back."""

    family: int
    table: int
    destination: str
    device: int = 0
    """ifindex; 0 for a route without a device (unreachable)."""
    gateway: str = ""
    source: str = ""
    metric: int = 0
    """RTA_PRIORITY.  The kernel turns 0 into 1024 for IPv6."""
    scope: int = SCOPE_GLOBAL
    type: int = UNICAST
    protocol: int = PROTOCOL
    onlink: bool = False
    """RTNH_F_ONLINK: the gateway counts as reachable by the device without a route to it."""

    @property
    def key(self) -> tuple[int, int, str, int]:
        """What the kernel allows once: family, table, destination and metric."""
        return (self.family, self.table, self.destination, self.metric)


class Rule(NamedTuple):
    """A policy routing rule (RTM_NEWRULE)."""

    family: int
    priority: int
    table: int
    source: str = ""
    destination: str = ""
    iif: str = ""
    oif: str = ""
    fwmark: int = 0
    fwmask: int = 0
    suppress_prefixlength: int = -1
    """-1: nothing is suppressed."""
    protocol: int = PROTOCOL
    plain: bool = True
    """False when the rule holds something that this class has no field for: never ours."""


class Endpoint(NamedTuple):
    """An address of the MPTCP path manager (MPTCP_PM_CMD_GET_ADDR)."""

    address: str
    device: int = 0
    """ifindex that its subflows are bound to; 0 for none."""
    flags: int = 0
    id: int = 0
    """Chosen by the kernel; 0 for one that is only wanted yet."""
    port: int = 0


class Limits(NamedTuple):
    """The path manager's limits (MPTCP_PM_CMD_GET_LIMITS), for each connection."""

    subflows: int
    add_addr_accepted: int


class Sysctl(NamedTuple):
    """A setting below net.ipv4.conf, which is the only place where we write any."""

    device: str
    key: str
    value: int


class Mptcp(NamedTuple):
    """What the kernel's MPTCP can do and holds now."""

    endpoints: tuple[Endpoint, ...] = ()
    limits: Limits = Limits(2, 0)
    max_limit: int = 8
    """The highest limit that this kernel accepts, for either of the two."""
    enabled: bool = True
    """net.mptcp.enabled."""
    path_manager: str = "kernel"
    """net.mptcp.path_manager: "kernel" or another's name."""
    max_endpoints: int = 8
    """How many endpoints it takes."""
    laminar: bool = True
    """It knows the endpoint flag `laminar`, as far as it was asked."""


class Snapshot(NamedTuple):
    """What one pass read from the kernel."""

    links: Mapping[int, Link]
    addresses: tuple[Address, ...] = ()
    """In the kernel's order: a device's first address is its primary one."""
    routes: tuple[Route, ...] = ()
    """Of the tables that were asked for, everybody's."""
    defaults: Mapping[tuple[int, int], Route] = {}
    """Main's best default route by (ifindex, family)."""
    rules: tuple[Rule, ...] = ()
    mptcp: Mptcp | None = None
    """None: this kernel has no MPTCP."""
    rp_filter_all: int = 0
    """net.ipv4.conf.all.rp_filter, which counts where it is the higher one."""
    sole_path: frozenset[str] = frozenset()
    """Addresses where closing would end a connection: gone ones with one that has no other path,
    and those whose link is out with one that is plain TCP and can have no other."""


Object = Route | Rule | Endpoint | Limits | Sysctl


class Operation(NamedTuple):
    """One change of the kernel.

    `add` fails if the object is there, `delete` if it is not; `replace` is for a
    route with the same key, `change` for an endpoint's flags, for limits and sysctls.
    """

    verb: Literal["add", "replace", "change", "delete"]
    value: Object
    uplink: str = ""
    """Whose it is; empty for what belongs to no uplink alone."""


class Failure(NamedTuple):
    """An operation that the kernel refused."""

    operation: Operation
    errno: int
    text: str
