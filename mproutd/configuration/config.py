"""From the sections of two UCI files to one Config; pure.

What must hold: every mistake is a ConfigError of one line that names file, line,
section and option; of several, the first in the files is told; no input makes
anything else happen.  Three steps: the values by themselves (options.py), which
sections are one uplink (reading.py), and what uplinks may not share (claims.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mproutd.configuration.health import HealthConfig, health, idle
from mproutd.configuration.options import UPLINK
from mproutd.configuration.parsers import ConfigError, OptionValue, Section, shown
from mproutd.configuration.resolve import Group, Reading, conflicts

__all__ = ["Config", "ConfigError", "UplinkConfig", "build"]


class UplinkConfig(NamedTuple):
    """A line out, known by its device."""

    name: str
    """The first section that manages the device."""
    device: str
    """Empty where only netifd can say it, and has not yet (devices.py)."""
    mode: str = "on"
    table: int | None = None
    mark: int | None = None
    mask: int | None = None
    """Table and mark are None where the slot gives them, mask where it is mark_mask."""
    gateway: str = ""
    gateway6: str = ""
    iif: tuple[str, ...] = ()
    strict: bool = False
    ula: bool = False
    fullmesh: bool = False
    laminar: bool = False
    flush_conntrack: bool = False
    on_up: tuple[str, ...] = ()
    on_down: tuple[str, ...] = ()
    action_timeout: int = 30
    """Seconds."""
    health: HealthConfig | None = None
    """None: nothing is checked."""
    interfaces: tuple[str, ...] = ()
    """The interfaces of network on this device, the one that names the uplink first."""
    netifd_interface: str = ""
    """The interface whose device netifd says; empty where mproutd's own file names it."""


class Config(NamedTuple):
    """What the two files ask for."""

    enabled: bool = True
    """False: nothing of ours stays in the kernel."""
    role: str = "client"
    subflows: int | None = None
    add_addr_accepted: int | None = None
    """Limits are None where the kernel's own maximum counts."""
    rule_priority: int = 7000
    table_base: int = 7000
    mark_mask: int = 0x7F000000
    main_routes: bool = True
    uplinks: tuple[UplinkConfig, ...] = ()
    """In the order of the files: network, then what stands in mproutd alone."""
    warnings: tuple[str, ...] = ()
    """Each a line like a ConfigError's."""


PLAIN = tuple(
    "gateway gateway6 table strict ula fullmesh laminar flush_conntrack on_up on_down"
    " action_timeout".split()
)
"""Options of an uplink whose value is a field of Uplink of the same name."""


def build(network: Sequence[Section], mproutd: Sequence[Section] = ()) -> Config:
    """What the two files ask for together.  ConfigError for the first mistake in them."""
    reading = Reading(network, mproutd)
    reading.read_network()
    values = reading.read_mproutd(mproutd)
    groups = reading.groups()
    reading.stop_if_wrong()

    names = reading.interfaces_by_device()
    options = [name for name in UPLINK if name not in ("device", "ifname")]
    said = [(group, {name: reading.one(group, name) for name in options}) for group in groups]
    uplinks = [_uplink(group, told, names.get(group.device.value, ())) for group, told in said]
    config = Config(**values)
    claims = [(group.device, told) for group, told in said]
    reading.errors += conflicts(config.table_base, config.mark_mask, claims)
    for at, (_, told) in enumerate(said):
        checks, misfits = health(told)
        reading.errors += misfits
        uplinks[at] = uplinks[at]._replace(health=checks)
    reading.stop_if_wrong()

    enabled, warnings = _switch(network)
    warnings += [str(each) for _, told in said for each in idle(told)]
    if uplinks and enabled is None:
        reason = "nothing is done without option multipath 'enable' in config globals of network"
        warnings.append(str(ConfigError(reason, reading.files[0])))
    masters = [at for at, uplink in enumerate(uplinks) if uplink.mode == "master"]
    for at in masters[1:]:
        first, second = (said[i][1]["multipath"][0] for i in (masters[0], at))
        reason = f"a second master counts as on; the first is in {first.place}"
        warnings.append(str(second.error(reason)))
        uplinks[at] = uplinks[at]._replace(mode="on")
    return config._replace(enabled=bool(enabled), uplinks=tuple(uplinks), warnings=tuple(warnings))


def _uplink(group: Group, told: dict[str, list[OptionValue]], names: Sequence[str]) -> UplinkConfig:
    """The uplink that a group of sections is.

    An uplink section without a mode anywhere is `off`: its table and rules are what
    it asks for, and nothing uses it unasked.
    """
    plain = {name: told[name][0].value for name in PLAIN if told[name]}
    name = group.members[0].name
    mark, mask = told["mark"][0].value if told["mark"] else (None, None)
    device = str(group.device.value)
    made = device.startswith("@")
    in_network = group.device.section.type == "interface"
    return UplinkConfig(
        name=name,
        device="" if made else device,
        mode=told["multipath"][0].value if told["multipath"] else "off",
        mark=mark,
        mask=mask,
        iif=tuple(one.value for one in told["iif"]),
        interfaces=tuple(sorted(names, key=lambda other: other != name)),
        netifd_interface=device[1:] if made else name if in_network else "",
        **plain,
    )


def _switch(network: Sequence[Section]) -> tuple[bool | None, list[str]]:
    """Whether globals.multipath says enable; None if it says nothing.  And what is odd in it."""
    enabled, warnings = None, []
    for section in network:
        said = section.options.get("multipath")
        if said and "globals" in (section.type, section.name):
            word, line = said.values[-1], said.lines[-1]
            enabled = word == "enable"
            if word not in ("enable", "disable"):
                odd = OptionValue(word, section, "multipath", line)
                warnings.append(str(odd.error(f"{shown(word)} is not enable: nothing is done")))
    return enabled, warnings
