"""Every option that mproutd reads: the one table of them.

An option exists exactly when it is listed here, with its parser, its default, its summary and
whether it is a list.  The reader and its suggestions, the defaults of Config, UplinkConfig and
HealthConfig, and the tests of the manual page all use these tables.  A new option needs a line
here and, for its type, a field of the same name in one of those classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from mproutd.configuration.matches import (
    LAST_RESORTS,
    MAX_SET_NAME,
    domain,
    dscp,
    mac_address,
    name_of,
    negatable,
    network_prefix,
    port_range,
    protocol,
    several,
    user,
)
from mproutd.configuration.parsers import (
    U32,
    amount,
    boolean,
    device,
    device_or_alias,
    domain_name,
    family,
    gateway,
    integer,
    mark,
    mark_mask,
    one_of,
    own_address,
    program,
    resolver,
    seconds,
    source_prefix,
    table,
    target,
    url_path,
)
from mproutd.model import TABLE_LOCAL

MODES = ("on", "master", "off", "backup", "handover")
ROLES = ("client", "server", "both")
QUOTA_PERIODS = ("month", "week", "day")
QUOTA_ACTIONS = ("backup", "handover", "off")
METHODS = ("ping", "tcp", "http", "https", "dns")
FAILBACK = ("keep", "move")
NAT6 = ("prefix", "masquerade")
DEVICE_PROTOCOLS = ("none", "static", "dhcp", "dhcpv6")
"""netifd's protocols that use the section's own device.  Any other (pppoe, wwan, qmi, 6in4,
wireguard …) makes a device of its own, and `device` is at most the one below it."""
MAX_UPLINKS = 198
"""Slots are 1..198: the rules of one kind are 200 priorities apart from the next, and the last
priority of the last kind is that of the rules of resolvers."""
OWN_RULES, MAX_OWN_RULES = 900, 1000
"""The priorities of rules for this host's own traffic, from rule_priority on, and their number."""
RULE_SPAN = OWN_RULES + MAX_OWN_RULES
"""Our rules use this many priorities from rule_priority on."""
POLICY_TABLES, TABLE_SPAN = 256, 512
"""The policies' tables, from table_base on, and the end of all tables."""
MAX_WEIGHT, MAX_METRIC = 255, 256
"""A kernel before 6.12 takes weights up to 256; mwan3 takes metrics up to 256."""
MAX_MEMBER_WEIGHT = 1000
"""As in mwan3."""
MAX_STICKY = 7 * 86400
MAX_KBIT = 10**9
"""1 Tbit/s."""
MAX_PRIORITY = 32763
"""The next ones are taken: 32764 and 32765 by our rules for other traffic, 32766 by main."""


class OptionSpec(NamedTuple):
    """An option that mproutd reads."""

    parse: Callable[[str], Any]
    """Of one value.  ValueError says what is wrong with it."""
    summary: str
    default: str | None = None
    """As it would be written; None where there is none, "" where it is empty."""
    is_list: bool = False
    unset: Any = None
    """What the daemon uses where the option is not set and has no default."""

    @property
    def default_value(self) -> Any:
        """The default as the daemon uses it."""
        return self.parse(self.default) if self.default else self.unset


MODE = OptionSpec(
    one_of("mode", MODES), "what the uplink is for: on, master, off, backup or handover"
)
DEVICE = OptionSpec(device_or_alias, "its network device, or @ and an interface that has it")
IFNAME = DEVICE._replace(summary="the older spelling of device")
DISABLED = OptionSpec(boolean, "the section is ignored, as netifd and LuCI do", "0")

NETWORK_GLOBALS: Mapping[str, OptionSpec] = {
    "multipath": OptionSpec(
        str, "`enable` activates mproutd; any other value removes everything it installed"
    ),
}
INTERFACE: Mapping[str, OptionSpec] = {
    "multipath": MODE,
    "device": DEVICE,
    "ifname": IFNAME,
    "disabled": DISABLED,
    "proto": OptionSpec(
        str, "netifd's protocol for it; most protocols make a device of their own", "none"
    ),
}
GLOBALS: Mapping[str, OptionSpec] = {
    "role": OptionSpec(one_of("role", ROLES), "client, server or both", "client"),
    "subflows": OptionSpec(integer(0, 255), "additional subflows that a connection may have"),
    "add_addr_accepted": OptionSpec(
        integer(0, 255), "announced addresses that a connection accepts"
    ),
    "rule_priority": OptionSpec(
        integer(1, MAX_PRIORITY - RULE_SPAN + 1), "the priority of the first rule", "7000"
    ),
    "table_base": OptionSpec(
        integer(TABLE_LOCAL + 1, U32 - TABLE_SPAN + 1),
        "the table for other traffic; the uplinks' tables follow it",
        "7000",
    ),
    "mark_mask": OptionSpec(
        mark_mask, "the bits of a packet's mark that mproutd uses", "0x7f000000"
    ),
    "main_routes": OptionSpec(boolean, "main's specific routes precede the uplinks'", "1"),
    "policy_mask": OptionSpec(
        mark_mask, "the bits of a packet's mark that policies use", "0x00003f00"
    ),
    "pin_flows": OptionSpec(boolean, "a forwarded connection keeps its uplink (nftables)", "1"),
    "deprecate_prefixes": OptionSpec(
        boolean, "hosts in the LAN leave the IPv6 prefix of an uplink that is out", "1"
    ),
    "pair": OptionSpec(
        boolean, "one of two gateways: it starts in standby, and numbers follow the file", "0"
    ),
    "virtual_address": OptionSpec(
        own_address, "addresses of the active gateway, without endpoints", is_list=True, unset=()
    ),
}
HEALTH: Mapping[str, OptionSpec] = {
    "track_ip": OptionSpec(target, "hosts to probe through the uplink", is_list=True, unset=()),
    "track_method": OptionSpec(one_of("method", METHODS), "ping, tcp, http, https or dns", "ping"),
    "track_port": OptionSpec(integer(1, 65535), "the port for tcp, http, https and dns"),
    "track_path": OptionSpec(url_path, "the path that http and https request", "/"),
    "track_name": OptionSpec(
        domain_name, "the name that dns asks for; . for the name servers of the root", "."
    ),
    "track_status": OptionSpec(integer(100, 599), "the only HTTP status that counts as success"),
    "track_verify": OptionSpec(boolean, "https accepts only valid certificates", "1"),
    "track_family": OptionSpec(family, "ipv4 or ipv6: for host names in track_ip", "ipv4"),
    "initial_state": OptionSpec(
        one_of("state", ("online", "offline")), "online: used before the first check", "online"
    ),
    "reliability": OptionSpec(integer(1, 100), "how many hosts of a family must reply", "1"),
    "count": OptionSpec(integer(1, 20), "probes to each host in a round", "1"),
    "size": OptionSpec(integer(16, 1472), "bytes of data in a ping", "56"),
    "max_ttl": OptionSpec(integer(1, 255), "how many routers a probe may cross", "60"),
    "timeout": OptionSpec(seconds(0.05, 60), "seconds to wait for a reply", "2"),
    "interval": OptionSpec(seconds(0.1, 86400), "seconds between rounds that succeed", "5"),
    "failure_interval": OptionSpec(
        seconds(0.1, 86400), "seconds between rounds after one that failed", "1"
    ),
    "recovery_interval": OptionSpec(
        seconds(0.1, 86400), "seconds between rounds while it counts as failed"
    ),
    "down": OptionSpec(integer(1, 1000), "failed rounds in a row until it counts as failed", "3"),
    "up": OptionSpec(integer(1, 1000), "successful rounds in a row until it recovers", "3"),
    "check_quality": OptionSpec(boolean, "loss and latency count as well", "0"),
    "failure_loss": OptionSpec(integer(1, 100), "percent of loss at which a host fails", "40"),
    "recovery_loss": OptionSpec(
        integer(0, 100), "percent of loss at or below which it recovers", "10"
    ),
    "failure_latency": OptionSpec(integer(1, 60000), "milliseconds at which a host fails", "1000"),
    "recovery_latency": OptionSpec(
        integer(1, 60000), "milliseconds at or below which it recovers", "500"
    ),
    "quality_window": OptionSpec(integer(2, 1000), "probes over which loss is measured", "10"),
    "hold": OptionSpec(
        seconds(0, 86400), "seconds it stays failed when it fails again; doubles", "10"
    ),
    "hold_max": OptionSpec(
        seconds(0, 86400), "the longest hold, and the uptime that resets it", "300"
    ),
}
"""Of health checks.  Names are those of mwan3 where it has one, since its users know them."""
QUOTA: Mapping[str, OptionSpec] = {
    "quota": OptionSpec(amount, "the amount of data, in and out, that a period includes"),
    "quota_period": OptionSpec(one_of("period", QUOTA_PERIODS), "month, week or day", "month"),
    "quota_start": OptionSpec(
        integer(0, 31), "the day of the month, of the week (1 is Monday), or the hour it begins"
    ),
    "quota_warn": OptionSpec(integer(1, 100), "percent of the quota at which to warn", "80"),
    "quota_action": OptionSpec(
        one_of("quota action", QUOTA_ACTIONS), "the mode from the limit on: backup, handover or off"
    ),
    "quota_hard": OptionSpec(
        boolean, "from the limit on it is off, even as the last usable uplink", "0"
    ),
}
"""Of an uplink with a limited volume of data."""
UPLINK: Mapping[str, OptionSpec] = {
    "multipath": MODE,
    "device": DEVICE,
    "ifname": IFNAME,
    "table": OptionSpec(table, "the number of its routing table"),
    "mark": OptionSpec(mark, "the packet mark that selects it, optionally with its own mask"),
    "gateway": OptionSpec(gateway(AF_INET, "gateway6"), "its IPv4 gateway", "", unset=""),
    "gateway6": OptionSpec(gateway(AF_INET6, "gateway"), "its IPv6 gateway", "", unset=""),
    "default_route": OptionSpec(
        boolean, "0: it leads to its own subnets only, and has endpoints all the same", "1"
    ),
    "role": OptionSpec(one_of("role", ROLES), "client, server or both: for its endpoints"),
    "prefix": OptionSpec(
        source_prefix,
        "what has an address from these prefixes leaves via this uplink",
        is_list=True,
        unset=(),
    ),
    "nat6": OptionSpec(
        one_of("translation", NAT6),
        "prefix or masquerade: how IPv6 sources from elsewhere are translated",
    ),
    "iif": OptionSpec(
        device, "traffic from these devices leaves via this uplink", is_list=True, unset=()
    ),
    "dns": OptionSpec(
        resolver, "its provider's resolvers, if no lease names them", is_list=True, unset=()
    ),
    "weight": OptionSpec(integer(1, MAX_WEIGHT), "its share of other traffic: see metric"),
    "metric": OptionSpec(
        integer(1, MAX_METRIC),
        "uplinks with the lowest metric that are usable share other traffic by weight",
    ),
    "strict": OptionSpec(boolean, "its traffic never falls through to another uplink", "0"),
    "ula": OptionSpec(boolean, "unique local addresses (fc00::/7) are eligible too", "0"),
    "fullmesh": OptionSpec(boolean, "its endpoints connect to every address of the peer", "0"),
    "laminar": OptionSpec(boolean, "its endpoint connects to an announced address, once", "0"),
    "port": OptionSpec(
        integer(1, 65535), "its address is announced with this port, where the kernel then listens"
    ),
    "flush_conntrack": OptionSpec(
        boolean, "forwarded connections are forgotten when it is lost, so that they move", "0"
    ),
    "failback": OptionSpec(
        one_of("failback", FAILBACK),
        "keep or move: what its connections do when a better uplink is usable again",
        "keep",
    ),
    "on_up": OptionSpec(program, "the program to run when it becomes usable", unset=()),
    "on_down": OptionSpec(program, "the program to run when it stops being usable", unset=()),
    "on_quota": OptionSpec(
        program, "the program to run at quota_warn, at the limit, and when a period ends", unset=()
    ),
    "action_timeout": OptionSpec(integer(1, 3600), "seconds that these programs may take", "30"),
    "download": OptionSpec(integer(1, MAX_KBIT), "its capacity towards us, in kbit/s"),
    "upload": OptionSpec(integer(1, MAX_KBIT), "its capacity away from us, in kbit/s"),
    "overflow": OptionSpec(
        integer(1, 100),
        "a backup or handover uplink carries while the regular ones exceed this percentage",
    ),
    "metered": OptionSpec(
        boolean, "its traffic costs money: checks are rare while it only stands by", "0"
    ),
    **QUOTA,
    **HEALTH,
}
MEMBER: Mapping[str, OptionSpec] = {
    "interface": OptionSpec(str, "the uplink"),
    "metric": OptionSpec(
        integer(1, MAX_METRIC), "the usable members with the lowest metric carry the traffic", "1"
    ),
    "weight": OptionSpec(
        integer(1, MAX_MEMBER_WEIGHT), "its share among the members with the same metric", "1"
    ),
}
POLICY: Mapping[str, OptionSpec] = {
    "use_member": OptionSpec(str, "its members", is_list=True, unset=()),
    "last_resort": OptionSpec(
        one_of("last resort", LAST_RESORTS),
        "unreachable, blackhole or default: what happens while no member is usable",
        "unreachable",
    ),
}
RULE: Mapping[str, OptionSpec] = {
    "use_policy": OptionSpec(str, "a policy or an uplink; default: where other traffic goes"),
    "enabled": OptionSpec(boolean, "0: the rule is ignored", "1"),
    "family": OptionSpec(one_of("family", ("ipv4", "ipv6", "any")), "ipv4, ipv6 or any", "any"),
    "proto": OptionSpec(several(protocol), "tcp, udp, icmp, all or a number", is_list=True),
    "src_ip": OptionSpec(
        negatable(network_prefix), "addresses and prefixes that it comes from", is_list=True
    ),
    "src_port": OptionSpec(negatable(port_range), "ports that it comes from", is_list=True),
    "src_iface": OptionSpec(
        negatable(device), "interfaces or devices that it arrives by", is_list=True
    ),
    "src_mac": OptionSpec(
        negatable(mac_address), "Ethernet addresses that it comes from", is_list=True
    ),
    "dest_ip": OptionSpec(
        negatable(network_prefix), "addresses and prefixes that it goes to", is_list=True
    ),
    "dest_port": OptionSpec(negatable(port_range), "ports that it goes to", is_list=True),
    "dscp": OptionSpec(negatable(dscp), "code points: ef, cs5, af41 … or 0 to 63", is_list=True),
    "domain": OptionSpec(
        domain, "domains that it goes to, with their subdomains, as dnsmasq resolves", is_list=True
    ),
    "set": OptionSpec(name_of("set", MAX_SET_NAME), "an nftables set of addresses that it goes to"),
    "user": OptionSpec(user, "this host's own traffic of a user; all: of every user"),
    "sticky": OptionSpec(boolean, "later connections of a host take the same uplink", "0"),
    "timeout": OptionSpec(
        integer(1, MAX_STICKY), "seconds after the last new connection until sticky ends", "600"
    ),
}
"""Of policies and rules.  Names and meanings are those of mwan3 where it has one."""
OPTIONS: Mapping[tuple[str, str], Mapping[str, OptionSpec]] = {
    ("network", "globals"): NETWORK_GLOBALS,
    ("network", "interface"): INTERFACE,
    ("mproutd", "mproutd"): GLOBALS,
    ("mproutd", "uplink"): UPLINK,
    ("mproutd", "member"): MEMBER,
    ("mproutd", "policy"): POLICY,
    ("mproutd", "rule"): RULE,
}
"""Every option by file and type of section: what the manual page must have."""
