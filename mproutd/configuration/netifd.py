"""Which device each uplink has where netifd says it; pure.

The files say which interfaces are uplinks, and for many of them the device.  But the device of
`proto pppoe`, `wwan` or `6in4` is made when the interface comes up, and it may turn out to be
one that another section names.  So a pass goes by resolved(), which is the configuration with
what netifd says now.

What must hold: without netifd nothing differs; one device is one uplink, named after the first.
"""

from __future__ import annotations

from collections.abc import Mapping

from mproutd.configuration.config import Config, UplinkConfig


def resolve_devices(config: Config, devices: Mapping[str, str] | None) -> Config:
    """The configuration with netifd's devices: interface → device, empty for none; None without
    netifd, or before it has said anything.

    Where netifd has none, the device that the file names stays.  The second uplink on a device
    joins the first: the gateways and `iif` that only it names count, everything else goes by the
    first.
    """
    if devices is None:
        return config
    uplinks: dict[str, UplinkConfig] = {}
    by_device: dict[str, str] = {}
    warnings = list(config.warnings)
    for uplink in config.uplinks:
        device = devices.get(uplink.netifd_interface, "") or uplink.device
        uplink = uplink._replace(device=device)
        first = by_device.setdefault(device, uplink.name) if device else uplink.name
        if first == uplink.name:
            uplinks[first] = uplink
            continue
        if uplink.mode not in (uplinks[first].mode, "off"):
            warnings.append(
                f"network: uplink '{uplink.name}': its device is {device}, as that of "
                f"'{first}', so they are one, and its mode {uplink.mode} does not count"
            )
        uplinks[first] = _joined(uplinks[first], uplink)
    if tuple(uplinks.values()) == config.uplinks:
        return config
    return config._replace(uplinks=tuple(uplinks.values()), warnings=tuple(warnings))


def _joined(first: UplinkConfig, second: UplinkConfig) -> UplinkConfig:
    return first._replace(
        gateway=first.gateway or second.gateway,
        gateway6=first.gateway6 or second.gateway6,
        iif=tuple(dict.fromkeys((*first.iif, *second.iif))),
        interfaces=tuple(dict.fromkeys((*first.interfaces, *second.interfaces))),
    )
