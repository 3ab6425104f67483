"""The devices that only netifd or the kernel knows.  Pure.

The files say which interfaces are uplinks, and for many of them the device.  But the device of
`proto pppoe`, `wwan` or `6in4` is made when the interface comes up, and it may turn out to be
one that another section names.  A file may also use one of a device's alternative names
(ip-link(8), altname), which rules cannot.  A pass uses resolve_devices(), the configuration with
what netifd and the kernel report now.

Invariants: without both nothing changes; one device is one uplink, named after the first.
"""

from __future__ import annotations

from collections.abc import Mapping

from mproutd.configuration.config import Config, UplinkConfig

NO_NAMES: Mapping[str, str] = {}


def resolve_devices(
    config: Config, devices: Mapping[str, str] | None, real_names: Mapping[str, str] = NO_NAMES
) -> Config:
    """The configuration with the devices' real names.

    `devices`: interface → netifd's device, empty for none; None without netifd, or before its
    first reply.  Where netifd has none, the device that the file names stays.  `real_names`:
    alternative name → name.  A second uplink on a device is merged into the first: its gateways
    and `iif` count where the first has none, everything else is the first's.
    """
    if devices is None and not real_names:
        return config
    devices = devices or {}
    uplinks: dict[str, UplinkConfig] = {}
    by_device: dict[str, str] = {}
    warnings = list(config.warnings)
    for uplink in config.uplinks:
        device = devices.get(uplink.netifd_interface, "") or uplink.device
        device = real_names.get(device, device)
        iif = tuple(real_names.get(name, name) for name in uplink.iif)
        uplink = uplink._replace(device=device, iif=iif)
        first = by_device.setdefault(device, uplink.name) if device else uplink.name
        if first == uplink.name:
            uplinks[first] = uplink
            continue
        if uplink.mode not in (uplinks[first].mode, "off"):
            warnings.append(
                f"network: uplink '{uplink.name}': shares its device {device} with '{first}', "
                f"so both are one uplink, and its mode {uplink.mode} is ignored"
            )
        uplinks[first] = _merge(uplinks[first], uplink)
    if tuple(uplinks.values()) == config.uplinks:
        return config
    return config._replace(uplinks=tuple(uplinks.values()), warnings=tuple(warnings))


def _merge(first: UplinkConfig, second: UplinkConfig) -> UplinkConfig:
    return first._replace(
        gateway=first.gateway or second.gateway,
        gateway6=first.gateway6 or second.gateway6,
        iif=tuple(dict.fromkeys((*first.iif, *second.iif))),
        interfaces=tuple(dict.fromkeys((*first.interfaces, *second.interfaces))),
    )
