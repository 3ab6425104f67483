"""From the sections of two UCI files to one Config.  Pure.

Invariant: every mistake is a ConfigError, one line with file, line, section and option; of
several the first in the files is raised.

Three steps: the sections become uplinks with parsed values (resolve.py), what uplinks may not
share is checked (resolve.py), and the health checks and quota of each are built (health.py,
cost.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mproutd.configuration.cost import complete_quota, without_effect
from mproutd.configuration.health import HealthConfig, build_health, ignored
from mproutd.configuration.options import GLOBALS, UPLINK, OptionSpec
from mproutd.configuration.parsers import program, quoted
from mproutd.configuration.resolve import Resolver, UplinkSections, conflicts
from mproutd.configuration.sections import ConfigError, OptionValue, Section

if TYPE_CHECKING:
    from mproutd.configuration.policies import Policies, PolicyConfig, RuleConfig

__all__ = ["Config", "ConfigError", "UplinkConfig", "build", "without_programs"]


def _default(name: str, table: Mapping[str, OptionSpec] = UPLINK) -> Any:
    return table[name].default_value


class UplinkConfig(NamedTuple):
    """An uplink as configured; it is identified by its device."""

    name: str
    """The first section that manages the device."""
    device: str
    """Empty where netifd makes the device and has not made it yet (netifd.py)."""
    mode: str = "on"
    table: int | None = _default("table")
    mark: int | None = _default("mark")
    mask: int | None = None
    """Table and mark are None where the slot gives them, mask where it is mark_mask."""
    gateway: str = _default("gateway")
    gateway6: str = _default("gateway6")
    default_route: bool = _default("default_route")
    """False: it leads to its own subnets only."""
    role: str | None = _default("role")
    """None: that of the configuration."""
    prefix: tuple[str, ...] = _default("prefix")
    nat6: str | None = _default("nat6")
    iif: tuple[str, ...] = _default("iif")
    dns: tuple[str, ...] = _default("dns")
    weight: int | None = _default("weight")
    metric: int | None = _default("metric")
    """None where planning/sharing.py chooses: without any, other traffic is not shared."""
    strict: bool = _default("strict")
    ula: bool = _default("ula")
    fullmesh: bool = _default("fullmesh")
    laminar: bool = _default("laminar")
    port: int | None = _default("port")
    """Of announced endpoints; None for that of the connection."""
    flush_conntrack: bool = _default("flush_conntrack")
    failback: str = _default("failback")
    on_up: tuple[str, ...] = _default("on_up")
    on_down: tuple[str, ...] = _default("on_down")
    action_timeout: int = _default("action_timeout")
    """Seconds."""
    on_quota: tuple[str, ...] = _default("on_quota")
    download: int | None = _default("download")
    upload: int | None = _default("upload")
    """kbit/s; None: the highest rates of the last day."""
    overflow: int | None = _default("overflow")
    """Percent; None: never, beyond what the mode says."""
    metered: bool = _default("metered")
    quota: int | None = _default("quota")
    """Bytes, in and out; None: unlimited."""
    quota_period: str = _default("quota_period")
    quota_start: int | None = _default("quota_start")
    """Where a period begins, see cost.STARTS; None without a quota."""
    quota_warn: int = _default("quota_warn")
    quota_action: str | None = _default("quota_action")
    """The mode from the limit on; None without a quota."""
    quota_hard: bool = _default("quota_hard")
    health: HealthConfig | None = None
    """None: nothing is checked."""
    interfaces: tuple[str, ...] = ()
    """The interfaces of network on this device, the one that names the uplink first."""
    netifd_interface: str = ""
    """The interface whose device netifd makes; empty where mproutd's own file names the device."""


class Config(NamedTuple):
    """The configuration of both files."""

    enabled: bool = True
    """False: nothing of ours stays in the kernel."""
    role: str = _default("role", GLOBALS)
    subflows: int | None = _default("subflows", GLOBALS)
    add_addr_accepted: int | None = _default("add_addr_accepted", GLOBALS)
    """Limits are None for the highest that the kernel accepts."""
    rule_priority: int = _default("rule_priority", GLOBALS)
    table_base: int = _default("table_base", GLOBALS)
    mark_mask: int = _default("mark_mask", GLOBALS)
    main_routes: bool = _default("main_routes", GLOBALS)
    policy_mask: int = _default("policy_mask", GLOBALS)
    pin_flows: bool = _default("pin_flows", GLOBALS)
    deprecate_prefixes: bool = _default("deprecate_prefixes", GLOBALS)
    pair: bool = _default("pair", GLOBALS)
    """One of two gateways."""
    virtual_address: tuple[str, ...] = _default("virtual_address", GLOBALS)
    """Those that the active gateway of a pair has."""
    uplinks: tuple[UplinkConfig, ...] = ()
    """In the order of the files: network, then those that only mproutd has."""
    policies: tuple[PolicyConfig, ...] = ()
    """Those that rules name: the policies in the order of the file, then uplinks."""
    rules: tuple[RuleConfig, ...] = ()
    """In the order of the file; the first one that matches counts."""
    warnings: tuple[str, ...] = ()
    """Each a line like a ConfigError's."""


Values = Mapping[str, Sequence[OptionValue]]
"""An uplink's values by option, from all of its sections."""


def build(network: Sequence[Section], mproutd: Sequence[Section] = ()) -> Config:
    """The configuration of both files.  ConfigError for the first mistake in them."""
    resolver = Resolver(network, mproutd)
    resolver.parse_interfaces()
    globals_ = resolver.parse_mproutd()
    sections = resolver.uplinks()
    resolver.raise_first()

    names = resolver.interfaces_by_device()
    values: list[Values] = [
        {name: resolver.merged(uplink, name) for name in UPLINK if name not in ("device", "ifname")}
        for uplink in sections
    ]
    uplinks = [
        _build_uplink(uplink, given, names.get(uplink.device.value, ()))
        for uplink, given in zip(sections, values, strict=True)
    ]
    config = Config(**globals_)
    devices = [uplink.device for uplink in sections]
    resolver.errors += conflicts(
        config.table_base, config.mark_mask, list(zip(devices, values, strict=True))
    )
    for index, given in enumerate(values):
        health, errors = build_health(given)
        defaults, quota_errors = complete_quota(given)
        resolver.errors += [*errors, *quota_errors]
        uplinks[index] = uplinks[index]._replace(health=health, **defaults)
    warnings: list[ConfigError] = []
    if any(map(resolver.of_type, ("member", "policy", "rule"))):
        policies, warnings = _build_policies(resolver, config, uplinks, values)
        config = config._replace(policies=policies.policies, rules=policies.rules)
    resolver.raise_first()

    enabled, switch_warnings = _read_switch(network)
    warnings = [*switch_warnings, *resolver.warnings, *warnings]
    for uplink, given in zip(uplinks, values, strict=True):
        warning = ignored(given)
        warnings += [*([warning] if warning else []), *without_effect(given, uplink.mode)]
    if uplinks and enabled is None:
        reason = "mproutd is inactive: set option multipath 'enable' in config globals of network"
        warnings.append(ConfigError(reason, resolver.files[0]))
    warnings += _keep_one_master(uplinks, values)
    warnings += _ignored_failback(config, uplinks, values)
    warnings += _ignored_shares(uplinks, values)
    warnings += _ignored_ports(config.role, uplinks, values)
    return config._replace(
        enabled=bool(enabled), uplinks=tuple(uplinks), warnings=tuple(map(str, warnings))
    )


def _build_policies(
    resolver: Resolver, config: Config, uplinks: Sequence[UplinkConfig], values: Sequence[Values]
) -> tuple[Policies, list[ConfigError]]:
    """The policies and rules, and warnings about them."""
    from mproutd.configuration.policies import build_policies
    from mproutd.configuration.policy_checks import number_conflicts, rule_warnings

    policies, warnings = build_policies(resolver, {one.name: one.strict for one in uplinks})
    masks = config.mark_mask, config.policy_mask
    resolver.errors += number_conflicts(resolver, policies, config.table_base, masks, values)
    devices = {uplink.device: uplink.name for uplink in uplinks if uplink.device}
    local = [uplink.name for uplink in uplinks if not uplink.default_route]
    if not resolver.errors:
        warnings += rule_warnings(resolver, policies, devices, local, config.pin_flows)
    return policies, warnings


def without_programs(config: Config, faults: Sequence[str]) -> Config:
    """The configuration without the programs that it names, since others can change it.

    Routing goes on: a mistake of permissions should not take the network down, and who may change
    routes can do no more than that.
    """
    names = [name for name, option in UPLINK.items() if option.parse is program]
    ignored_names = sorted(
        {name for name in names for uplink in config.uplinks if getattr(uplink, name)}
    )
    consequence = "and with it all routes"
    if ignored_names:
        verb = "is" if len(ignored_names) == 1 else "are"
        consequence = f"so {', '.join(ignored_names)} {verb} ignored"
    warnings = [f"{fault}, {consequence}; chown root, chmod go-w" for fault in faults]
    none: dict[str, Any] = dict.fromkeys(names, ())
    return config._replace(
        uplinks=tuple(uplink._replace(**none) for uplink in config.uplinks),
        warnings=(*config.warnings, *warnings),
    )


def _build_uplink(uplink: UplinkSections, values: Values, names: Sequence[str]) -> UplinkConfig:
    """One uplink; `names` are the interfaces of network on its device.

    An uplink section without a mode anywhere is `off`: it gets its table and rules, and no
    traffic that does not ask for it.
    """
    name = uplink.sections[0].name
    mark, mask = values["mark"][0].value if values["mark"] else (None, None)
    device = str(uplink.device.value)
    by_netifd = device.startswith("@")
    in_network = uplink.device.section.type == "interface"
    plain = {
        option: given[0].value
        for option, given in values.items()
        if given
        and option in UplinkConfig._fields
        and option not in ("mark", "prefix", "iif", "dns")
    }
    return UplinkConfig(
        name=name,
        device="" if by_netifd else device,
        mode=values["multipath"][0].value if values["multipath"] else "off",
        mark=mark,
        mask=mask,
        prefix=tuple(dict.fromkeys(item.value for item in values["prefix"])),
        iif=tuple(item.value for item in values["iif"]),
        dns=tuple(dict.fromkeys(item.value for item in values["dns"])),
        interfaces=tuple(sorted(names, key=lambda interface: interface != name)),
        netifd_interface=device[1:] if by_netifd else name if in_network else "",
        **plain,
    )


def _read_switch(network: Sequence[Section]) -> tuple[bool | None, list[ConfigError]]:
    """(whether globals.multipath is enable; None without the option, warnings)."""
    enabled, warnings = None, []
    for section in network:
        option = section.options.get("multipath")
        if option and "globals" in (section.type, section.name):
            value, line = option.values[-1], option.lines[-1]
            enabled = value == "enable"
            if value not in ("enable", "disable"):
                switch = OptionValue(value, section, "multipath", line)
                reason = f"{quoted(value)} is neither enable nor disable: mproutd is inactive"
                warnings.append(switch.error(reason))
    return enabled, warnings


def _keep_one_master(uplinks: list[UplinkConfig], values: Sequence[Values]) -> list[ConfigError]:
    """Make every master but the first `on`, with a warning."""
    masters = [index for index, uplink in enumerate(uplinks) if uplink.mode == "master"]
    warnings = []
    for index in masters[1:]:
        first, other = (values[i]["multipath"][0] for i in (masters[0], index))
        reason = f"treated as on: there is a master already, at {first.location}"
        warnings.append(other.error(reason))
        uplinks[index] = uplinks[index]._replace(mode="on")
    return warnings


def _ignored_failback(
    config: Config, uplinks: Sequence[UplinkConfig], values: Sequence[Values]
) -> list[ConfigError]:
    """A warning wherever `failback` can have no effect."""
    warnings = []
    for uplink, given in zip(uplinks, values, strict=True):
        for option in given["failback"][:1]:
            if uplink.mode == "off":
                reason = f"has no effect: {uplink.name} is off and carries no other traffic"
                warnings.append(option.error(reason))
            elif option.value == "move" and not config.pin_flows:
                warnings.append(option.error("has no effect with pin_flows 0"))
    return warnings


def _ignored_shares(uplinks: Sequence[UplinkConfig], values: Sequence[Values]) -> list[ConfigError]:
    """A warning for each weight and metric of an uplink that is off."""
    return [
        option.error(
            f"has no effect: {uplink.name} "
            + ("is off" if uplink.mode == "off" else "has default_route 0")
            + " and carries no other traffic"
        )
        for uplink, given in zip(uplinks, values, strict=True)
        if uplink.mode == "off" or not uplink.default_route
        for option in (*given["weight"][:1], *given["metric"][:1])
    ]


def _ignored_ports(
    role: str, uplinks: Sequence[UplinkConfig], values: Sequence[Values]
) -> list[ConfigError]:
    """A warning for each port of an uplink whose address is not only announced."""
    warnings = []
    for uplink, given in zip(uplinks, values, strict=True):
        own_role = uplink.role or role
        for option in given["port"][:1]:
            if own_role != "server":
                reason = f"has no effect with role {own_role}: only server announces with a port"
                warnings.append(option.error(reason))
            elif uplink.mode == "off":
                warnings.append(option.error(f"has no effect: {uplink.name} is off"))
    return warnings
