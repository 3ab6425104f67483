"""Kernel objects, changes of them, and the snapshot of a pass, as immutable values.

Values are canonical: addresses are text as inet_ntop(3) prints them, a host prefix has no length
("10.1.1.2", not "10.1.1.2/32"), and the whole address space is "default".  Two values are equal
exactly when the kernel treats them as the same object, so the difference between the kernel and
the plan is a set difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from errno import EINVAL, ENODEV, ENOENT, ESRCH
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Literal, NamedTuple

from mproutd.lan_address import LanAddress

PROTOCOL = 77
"""Marks routes, rules and nexthop objects as ours (rtm_protocol, FRA_PROTOCOL, nh_protocol)."""
BUCKETS = 1024
"""Of a resilient group, in 24 kB: enough for the shares of any two weights.  It cannot change."""
TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 253, 254, 255
"""linux/rtnetlink.h, enum rt_class_t: tables that mproutd never writes to."""
SCOPE_GLOBAL, SCOPE_LINK = 0, 253
"""linux/rtnetlink.h, enum rt_scope_t."""
UNICAST, BLACKHOLE, UNREACHABLE = 1, 6, 7
"""linux/rtnetlink.h, RTN_*: the route types that mproutd writes."""
TO_TABLE = 1
"""linux/fib_rules.h, FR_ACT_TO_TBL: the action of the rules that mproutd writes."""
TEMPORARY, DAD_FAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40
"""linux/if_addr.h, IFA_F_*.  0x01 means temporary for IPv6, secondary for IPv4."""
SIGNAL, SUBFLOW, BACKUP, FULLMESH, IMPLICIT, LAMINAR = 1, 2, 4, 8, 16, 32
"""linux/mptcp_pm.h, MPTCP_PM_ADDR_FLAG_*."""
ANY_DEVICE = 0
"""In place of an ifindex."""
FAMILIES = (AF_INET, AF_INET6)
FAMILY_NAMES: dict[int, str] = {AF_INET: "IPv4", AF_INET6: "IPv6"}
LOOKUP_DESTINATION: dict[int, str] = {AF_INET: "240.0.0.1", AF_INET6: "2000::1"}
"""Destination of lookups: reserved (RFC 1112) or unassigned, so that only default routes match."""
FALLBACK_DESTINATION: dict[int, str] = {AF_INET: "192.52.193.1", AF_INET6: "2001:3::1"}
"""For where main discards the first in a list of bogons: assigned, but to AMT relays (RFC 7450)."""


def family_of(address: str) -> int:
    """The address family of an address or prefix in text."""
    return AF_INET6 if ":" in address else AF_INET


def bits(family: int) -> int:
    """The length of an address of this family, in bits."""
    return 128 if family == AF_INET6 else 32


def canonical(address: str) -> str:
    """An address as inet_ntop(3) prints it.  OSError when it is not an address."""
    family = family_of(address)
    return inet_ntop(family, inet_pton(family, address))


def prefix(address: bytes, length: int, family: int) -> str:
    """A prefix as text, with the host bits cleared: "default", "10.1.1.0/24", "10.1.1.2"."""
    if length == 0:
        return "default"
    size = bits(family)
    if length >= size:
        return inet_ntop(family, address)
    host_bits = size - length
    network = int.from_bytes(address, "big") >> host_bits << host_bits
    return f"{inet_ntop(family, network.to_bytes(size // 8, 'big'))}/{length}"


def split_prefix(text: str, family: int) -> tuple[bytes, int]:
    """The inverse of prefix(): (address, length in bits)."""
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
    """(leading bits as a number, length) of a prefix other than "default"."""
    family = family_of(network)
    base, length = split_prefix(network, family)
    return int.from_bytes(base, "big") >> bits(family) - length, length


@lru_cache(8192)
def _network(address: str, length: int) -> str:
    family = family_of(address)
    return prefix(inet_pton(family, address), length, family)


class Link(NamedTuple):
    """A network device (RTM_NEWLINK)."""

    index: int  # type: ignore[assignment]  # hides tuple.index(), which is not used
    name: str
    up: bool = True
    """IFF_UP: set by the administrator."""
    carrier: bool = True
    """IFF_LOWER_UP and IFF_RUNNING: it can carry packets."""
    pointopoint: bool = False
    """IFF_POINTOPOINT or IFF_NOARP: it needs no gateway."""
    rp_filter: int = 0
    arp_ignore: int = 0
    arp_announce: int = 0
    """net.ipv4.conf.DEVICE.*, as IFLA_AF_SPEC carries them."""
    port: bool = False
    """Of a bridge or a bond, which takes what arrives."""


class Address(NamedTuple):
    """An address on a device (RTM_NEWADDR)."""

    link: int
    """The device's ifindex."""
    address: str
    prefixlen: int
    peer: str = ""
    """Of a point-to-point device, where it is not the address itself."""
    scope: int = SCOPE_GLOBAL
    flags: int = 0

    @property
    def family(self) -> int:
        return family_of(self.address)

    @property
    def network(self) -> str:
        """The prefix of the connected route that the address brings."""
        return _network(self.peer or self.address, self.prefixlen)


Metrics = tuple[tuple[int, int | str], ...]
"""A route's metrics as (RTAX_*, value), sorted by number and without zeros, as the kernel keeps
them; the value is text only for RTAX_CC_ALGO."""
NO_METRICS: Metrics = ()


class Nexthop(NamedTuple):
    """One of several ways of a route (struct rtnexthop)."""

    gateway: str
    weight: int = 1
    onlink: bool = False
    device: int = 0
    """ifindex, where the route has nexthops through several devices; else the route names it."""


class Route(NamedTuple):
    """A route (RTM_NEWROUTE), with the fields that the kernel reports."""

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
    """RTNH_F_ONLINK: the gateway is reachable through the device without a route to it."""
    metrics: Metrics = NO_METRICS
    """RTA_METRICS: mtu, advmss, initcwnd …"""
    from_prefix: str = ""
    """IPv6: only packets from this prefix take the route (`default from PREFIX`)."""
    nexthops: tuple[Nexthop, ...] = ()
    """All ways, where there are several; `gateway` is the first one's if they share a device."""
    nexthop_id: int = 0
    """The object that has the ways instead of us: of our own routes, and with compat_mode 0."""

    @property
    def key(self) -> tuple[int, int, str, int, str]:
        """Of which the kernel allows one route."""
        return (self.family, self.table, self.destination, self.metric, self.from_prefix)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The gateways of all its ways."""
        return tuple(hop.gateway for hop in self.nexthops) or (self.gateway,)

    @property
    def devices(self) -> tuple[int, ...]:
        """The ifindexes of all its ways, in their order."""
        return tuple(hop.device or self.device for hop in self.nexthops) or (self.device,)


class NexthopObject(NamedTuple):
    """A nexthop object (RTM_NEWNEXTHOP): one way out, or a group that shares flows among some."""

    id: int
    family: int = 0
    """Of the gateway; 0 for a group."""
    device: int = 0
    gateway: str = ""
    onlink: bool = False
    members: tuple[tuple[int, int], ...] = ()
    """(id, weight) of a group, in the order of the ids."""
    resilient: bool = False
    """A flow keeps its member until it is silent for idle_timer seconds (NEXTHOP_GRP_TYPE_RES)."""
    idle_timer: int = 0
    protocol: int = PROTOCOL


class Selectors(NamedTuple):
    """By what else a rule selects packets; of ours, those of this host's own traffic."""

    uids: tuple[int, int] | None = None
    """First and last, as in the next two."""
    sports: tuple[int, int] | None = None
    dports: tuple[int, int] | None = None
    protocol: int = 0
    """IPPROTO_*; 0 for any."""


NO_SELECTORS = Selectors()


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
    """-1 for none."""
    protocol: int = PROTOCOL
    plain: bool = True
    """False for a rule with attributes that have no field here; such a rule is never ours."""
    inverted: bool = False
    """`not`: it matches what its selectors do not.  Never plain."""
    action: int = TO_TABLE
    """With any other it is not plain."""
    selectors: Selectors = NO_SELECTORS
    """Of a rule that is not plain, those that are known."""


class Packet(NamedTuple):
    """What the rules decide on; without a destination, of a packet to the internet."""

    family: int
    source: str = ""
    """Empty for a socket that is not bound."""
    iif: int = ANY_DEVICE
    """The ifindex that it came in by; ANY_DEVICE for one from this host."""
    mark: int = 0
    selectors: Selectors = NO_SELECTORS
    """Those that it matches, by the first of each range."""
    destination: str = ""


class Endpoint(NamedTuple):
    """An address of the MPTCP path manager (MPTCP_PM_CMD_GET_ADDR)."""

    address: str
    device: int = 0
    """ifindex to which its subflows are bound; 0 for none."""
    flags: int = 0
    id: int = 0
    """Assigned by the kernel; 0 for a planned endpoint."""
    port: int = 0
    """Where the kernel listens for subflows to it; 0 for the port of the connection."""

    @property
    def key(self) -> tuple[str, int]:
        return self.address, self.port


class Limits(NamedTuple):
    """The path manager's limits (MPTCP_PM_CMD_GET_LIMITS), for each connection."""

    subflows: int
    add_addr_accepted: int


class Sysctl(NamedTuple):
    """net.ipv4.conf.DEVICE.KEY; mproutd writes no other sysctls."""

    device: str
    key: str
    value: int


class NftTable(NamedTuple):
    """The nftables table `inet mproutd`, as nft reads it."""

    script: str = ""


class Mptcp(NamedTuple):
    """The state and the abilities of the kernel's MPTCP."""

    endpoints: tuple[Endpoint, ...] = ()
    limits: Limits = Limits(2, 0)
    max_limit: int = 8
    """The highest value that this kernel accepts for either limit."""
    enabled: bool = True
    """net.mptcp.enabled."""
    path_manager: str = "kernel"
    """net.mptcp.path_manager; "kernel" is the one that mproutd configures."""
    max_endpoints: int = 8
    """How many endpoints this kernel accepts."""
    laminar: bool = True
    """Whether this kernel supports the endpoint flag `laminar`, as far as it was probed."""


class Snapshot(NamedTuple):
    """What one pass read from the kernel."""

    links: Mapping[int, Link]
    addresses: tuple[Address, ...] = ()
    """In the kernel's order: the first address of a device is its primary one."""
    routes: tuple[Route, ...] = ()
    """All routes of the requested tables, not only ours."""
    defaults: Mapping[tuple[int, int], Route] = {}
    """Main's best default route for any source, by (ifindex, family); with ANY_DEVICE for the
    ifindex, the one that main gives to whoever asks for no device."""
    connected: Mapping[int, tuple[Route, ...]] = {}
    """ifindex → main's routes to the subnets of the device's addresses."""
    sourced: Mapping[int, tuple[Route, ...]] = {}
    """ifindex → main's IPv6 defaults that only the device's own addresses take (`from PREFIX`)."""
    delegated: tuple[str, ...] = ()
    """IPv6 prefixes, of /48 or longer, that are unreachable in main except for parts of them."""
    rules: tuple[Rule, ...] = ()
    mptcp: Mptcp | None = None
    """None when the kernel has no MPTCP."""
    rp_filter_all: int = 0
    """net.ipv4.conf.all.rp_filter; the kernel uses the higher of this and the device's."""
    sole_path: frozenset[str] = frozenset()
    """Addresses where closing subflows would end a connection: gone addresses of a connection
    without another path, and addresses on a link that is down of a connection that fell back to
    plain TCP."""
    idle_implicit: frozenset[str] = frozenset()
    """Addresses of implicit endpoints without a subflow; looked for while no endpoint is free."""
    nexthops: tuple[NexthopObject, ...] | None = ()
    """The nexthop objects at our ids, where requested; None when the kernel supports none."""
    resilient_groups: bool = True


Object = Route | Rule | Endpoint | Limits | Sysctl | NftTable | NexthopObject | LanAddress


class Operation(NamedTuple):
    """One change of a kernel object.

    `add` fails if the object exists, `delete` if it does not; `replace` is for a route or nexthop
    object with the same key, `change` for an endpoint's flags, limits, sysctls and lifetimes.
    """

    verb: Literal["add", "replace", "change", "delete"]
    value: Object
    uplink: str = ""
    """The uplink's name; empty for what belongs to no single uplink."""


class Failure(NamedTuple):
    """An operation that the kernel refused."""

    operation: Operation
    errno: int
    text: str


ALREADY_DELETED = frozenset((ENOENT, ESRCH, ENODEV))


def already_deleted(operation: Operation, errno: int) -> bool:
    """Whether a delete failed because its object was gone already, or a sysctl with its device.

    For an endpoint the path manager reports EINVAL (mptcp_pm_nl_del_addr_doit).
    """
    if isinstance(operation.value, Sysctl):
        return errno in (ENOENT, ENODEV)
    if operation.verb != "delete":
        return False
    return errno in ALREADY_DELETED or (errno == EINVAL and isinstance(operation.value, Endpoint))
