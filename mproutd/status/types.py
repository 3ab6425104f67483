"""The JSON of `mproutd status`, as types.

Used by the type checker and by tests/docs/schema.py, which generates the JSON schemas and the
tables of docs/ from the annotations and docstrings here; no command imports this module.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from mproutd.status.cost_types import LoadStatus, OverflowStatus, QuotaStatus
from mproutd.status.mptcp_types import MptcpStatus
from mproutd.status.policy_types import PolicyStatus
from mproutd.status.prefix_types import Announcer, DeprecatedAddress
from mproutd.status.resolver_types import ResolverStatus
from mproutd.status.traffic_types import Defaults, OtherTraffic

Count = Annotated[int, ("minimum", 0)]
Seconds = Annotated[float, ("minimum", 0)]
Time = Annotated[float, ("minimum", 0)]
"""Seconds since the epoch."""

Family = Literal["ipv4", "ipv6"]
Mode = Literal["on", "master", "off", "backup", "handover"]
EffectiveMode = Literal["on", "master", "off", "backup", "handover", "overflow", "standby"]
Method = Literal["ping", "tcp", "http", "https", "dns"]
Reason = Literal[
    "awaiting-device",
    "no-device",
    "link-down",
    "no-carrier",
    "bridge-port",
    "no-address",
    "tentative",
    "dad-failed",
    "deprecated",
    "no-gateway",
    "check-failed",
    "address-conflict",
]
EndpointState = Literal["ok", "missing", "differs", "foreign", "misrouted"]


# -- status -------------------------------------------------------------------------------


class Lookup(TypedDict):
    """A route lookup in the kernel."""

    command: str
    """the lookup as a command"""
    result: str | None
    """gateway, device and table; null for no route"""
    matches: bool
    """whether that is this uplink's device and gateway"""


class FamilyStatus(TypedDict):
    """One address family of an uplink."""

    family: Family
    """ipv4 or ipv6"""
    usable: bool
    """whether it can carry traffic"""
    since: Time | None
    """when `usable` or `reason` last changed, in epoch seconds; null without a daemon"""
    outages: dict[str, Count]
    """reason → how often the family was usable and ceased to be for it, since the daemon started;
reasons that never applied are missing"""
    reason: Reason | None
    """why it is not usable, a code of the table below; null when usable"""
    text: str | None
    """the reason in words"""
    advice: str | None
    """what to do about it; DEVICE stands for the device"""
    addresses: list[str]
    """addresses used for new connections"""
    sources: list[str]
    """addresses with a source rule: also temporary and deprecated ones, for the connections
that use them"""
    prefixes: list[str]
    """IPv6 prefixes delegated for the hosts behind this one (netifd, leases, `prefix`); they have
source rules as well"""
    table: Count
    """the routing table of this family"""
    table_from: str | None
    """netifd where netifd maintains that table (ip4table, ip6table); null where mproutd does"""
    gateway: str | None
    """the gateway; null when unknown or not needed"""
    gateway_from: str | None
    """its origin: configuration, netifd, lease, ifupdown (an interfaces(5) stanza), main (a
default route of the device in table main), table (another program's, in the uplink's pinned
table), remembered, point-to-point (none needed), or local (none, by default_route 0); null when
unknown"""
    lookups: list[Lookup]
    """where packets from each of `sources` are routed, without naming a device"""


class Comparison(TypedDict):
    """Kernel objects as ip(8) prints them; those of IPv6 begin with -6."""

    desired: list[str]
    """what should be there"""
    actual: list[str]
    """what the kernel has of mproutd's"""


class EndpointStatus(TypedDict):
    """A desired MPTCP endpoint."""

    address: str
    """its address"""
    port: Count | None
    """the port it is announced with; null for that of the connection"""
    id: Count | None
    """the kernel's id; null when the endpoint is missing"""
    flags: list[str]
    """desired flags, as ip-mptcp(8) names them"""
    state: EndpointState
    """ok; missing; differs (flags or device); foreign (another program's endpoint has the
address); misrouted (packets from the address leave through another device, so the endpoint is
withheld)"""
    actual: str | None
    """the endpoint that the kernel has at that address; null for none"""


class Rate(TypedDict):
    """Mean rates over an interval."""

    seconds: Seconds
    """length of the interval"""
    received: Annotated[float, ("minimum", 0)]
    """bits per second"""
    sent: Annotated[float, ("minimum", 0)]
    """bits per second"""


class Traffic(TypedDict):
    """The traffic counters of a device, as in UplinkStatus."""

    received: Count | None
    """bytes since the device was created; null when there is no device"""
    sent: Count | None
    """bytes since the device was created; null when there is no device"""
    rate: Rate | None
    """mean rates since an earlier sample; null until there are two samples"""


class Action(TypedDict):
    """A run of `on_up` or `on_down`."""

    event: Literal["up", "down"]
    """up or down"""
    program: str
    """path of the program"""
    started: float
    """when it was started, in epoch seconds"""
    exit_status: int | None
    """exit status; negative: killed by that signal; 127: could not be run; null while it runs"""
    duration: float | None
    """seconds; null while it runs"""
    text: str
    """the outcome in words"""
    output: str
    """the last line of its output, at most 200 bytes"""


class HostStatus(TypedDict):
    """A probed host."""

    host: str
    """as configured"""
    address: str | None
    """the probed address; null until it is resolved"""
    reachable: bool | None
    """whether it answered in the last round; null when it was not probed"""
    error: str | None
    """why not"""
    sent: Count
    """probes since the start"""
    replies: Count
    """answered probes since the start"""
    loss: Annotated[float, ("minimum", 0)]
    """lost probes in percent, over the last quality_window probes"""
    latency: Seconds | None
    """mean latency in seconds over the same probes; null when none was answered"""


class CheckStatus(TypedDict):
    """The health check of one address family."""

    family: Family
    """ipv4 or ipv6"""
    method: Method
    """track_method"""
    failed: bool
    """whether the check has failed"""
    since: float | None
    """when `failed` last changed, in epoch seconds; null if not since the start"""
    running: bool
    """whether probes can be sent: carrier, address and gateway are there"""
    in_use: bool
    """failed, but in use because no other uplink is usable"""
    good_rounds: Count
    """successful rounds in a row"""
    bad_rounds: Count
    """failed rounds in a row"""
    down: Count
    """failed rounds in a row until the check fails"""
    up: Count
    """successful rounds in a row until it passes again"""
    flaps: Count
    """how many times in a row it passed and soon failed again"""
    hold: Seconds
    """seconds before it can pass again, after flapping"""
    summary: str | None
    """result of the last round; null before the first"""
    error: str | None
    """why no probe could be sent"""
    hosts: list[HostStatus]
    """the probed hosts"""


class UplinkStatus(TypedDict):
    """An uplink."""

    name: str
    """its name in the configuration"""
    device: str
    """its device; empty until netifd assigns one"""
    ifindex: Count | None
    """the device's index; null when it does not exist"""
    mode: Mode
    """the configured mode"""
    effective_mode: EffectiveMode
    """the mode in use: another one once a quota is used up, or overflow while an uplink carries
since the regular ones are full"""
    usable: bool
    """whether one of its families is"""
    since: Time | None
    """when `usable` last changed, in epoch seconds; null without a daemon"""
    slot: Count
    """the number from which its priorities and mark are derived"""
    table: Count
    """its routing table"""
    mark: str | None
    """VALUE/MASK of the firewall mark that selects the table; null when none is left"""
    families: list[FamilyStatus]
    """IPv4 and IPv6, in this order"""
    routes: Comparison
    """its routes, as ip(8) prints them; those of IPv6 begin with -6"""
    rules: Comparison
    """its rules, as ip(8) prints them; those of IPv6 begin with -6"""
    endpoints: list[EndpointStatus]
    """its desired MPTCP endpoints"""
    resolvers: list[ResolverStatus]
    """its provider's DNS servers"""
    received: Count | None
    """bytes since the device was created; null when there is no device"""
    sent: Count | None
    """bytes since the device was created; null when there is no device"""
    rate: Rate | None
    """mean rates since an earlier sample; null until there are two samples"""
    flows: NotRequired[Count | None]
    """tracked connections that keep this uplink; null when they are not known; missing without a
daemon"""
    action: NotRequired[Action | None]
    """the last run of on_up or on_down; null when there was none since the start; missing
unless one is configured"""
    quota: NotRequired[QuotaStatus | None]
    """its quota; null where this uplink has none; missing without a daemon and where no uplink has
one"""
    overflow: NotRequired[OverflowStatus | None]
    """when it carries beside the regular ones; null where `overflow` is not set or has no effect;
missing without a daemon and where no uplink has it"""
    load: NotRequired[LoadStatus | None]
    """how full it is; null for an uplink that is not regular; missing as `overflow`"""
    deprecated: NotRequired[list[DeprecatedAddress]]
    """addresses in the LAN from its prefix, deprecated while it is out; missing without one"""
    health: NotRequired[list[CheckStatus] | None]
    """health checks, by family; null where this uplink has none; missing without a daemon and
where no uplink has one"""


class Common(TypedDict):
    """What belongs to no single uplink."""

    rules: list[str]
    """desired rules"""


class Problem(TypedDict):
    """Something that needs attention; further fields hold the values in the text."""

    code: str
    """a code of the table below"""
    text: str
    """what and where, in one line"""
    template: str
    """the text with {NAME} in place of each value, for translations"""
    advice: str
    """what to do about it"""
    others: NotRequired[list[str]]
    """further addresses, objects or commands that it is about; absent for none"""


class Counts(TypedDict):
    """Totals since the daemon started."""

    passes: Count
    """passes"""
    writes: Count
    """changes requested from the kernel"""
    failed_writes: Count
    """those that it refused"""
    restores: Count
    """those that restored what another program had removed or changed"""


class ConfigurationStatus(TypedDict):
    """Where the configuration comes from."""

    directory: str
    """the directory of the two files"""
    error: str | None
    """why the files on disk are rejected; null when they are in use"""


class Status(TypedDict):
    """mproutd status --json"""

    version: Count
    """of this format: 1; incremented when a field is removed or changes its meaning, not when
one is added"""
    mproutd: str
    """version of mproutd"""
    time: Time
    """when the status was built, in epoch seconds by the clock of each `since`"""
    running: bool
    """whether the daemon answered; otherwise the command read the kernel itself"""
    pid: NotRequired[Count]
    """the daemon's process id; only while it runs"""
    namespace: NotRequired[Count]
    """inode of the daemon's network namespace; only while it runs"""
    standby: bool | None
    """whether it leaves the traffic to the other gateway of a pair; null without `pair`"""
    enabled: bool
    """whether `multipath` of `globals` is enable"""
    degraded: bool
    """whether anything needs attention: exit status 1"""
    uplinks: list[UplinkStatus]
    """the configured uplinks, in the order of the file"""
    default: Defaults
    """the uplink that carries other traffic, by family; where it is missing, table main decides"""
    other_traffic: list[OtherTraffic]
    """where the kernel sends other traffic, whatever is configured"""
    policies: list[PolicyStatus]
    """the policies that rules name, in the order of the file, then uplinks that rules name"""
    common: Common
    """what belongs to no single uplink"""
    pins_flows: NotRequired[bool | None]
    """whether forwarded connections keep their uplink, that is, mproutd's nftables table is in
place; null where it is not wanted (`pin_flows` 0, or no forwarding); missing without a daemon"""
    announcers: NotRequired[list[Announcer]]
    """programs that may announce prefixes in the LAN; missing without an uplink's prefix"""
    mptcp: MptcpStatus | None
    """the kernel's MPTCP; null where it has none"""
    drift: list[str]
    """differences that the next pass will repair, as commands; nothing repairs them while no
daemon is running"""
    warnings: list[str]
    """parts of the configuration that are valid but probably unintended"""
    problems: list[Problem]
    """what else needs attention"""
    counts: Counts
    """totals since the daemon started"""
    configuration: ConfigurationStatus
    """where the configuration comes from"""
