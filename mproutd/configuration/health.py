"""An uplink's health checks: their configuration, and what does not fit together in it.  Pure.

Without track_ip nothing is checked, and the other options have no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from mproutd.configuration.options import HEALTH
from mproutd.configuration.parsers import Target
from mproutd.configuration.sections import ConfigError, OptionValue

DEFAULT_PORTS = {"tcp": 443, "http": 80, "https": 443, "dns": 53}
"""Of a method, where track_port is not set."""


def _default(name: str) -> Any:
    return HEALTH[name].default_value


class HealthConfig(NamedTuple):
    """How an uplink is checked.  Times in seconds, latencies in milliseconds, losses in percent."""

    track_ip: tuple[Target, ...] = _default("track_ip")
    track_method: str = _default("track_method")
    track_port: int | None = _default("track_port")
    track_path: str = _default("track_path")
    track_name: str = _default("track_name")
    track_status: int | None = _default("track_status")
    """None: everything below 400."""
    track_verify: bool = _default("track_verify")
    track_family: int = _default("track_family")
    initial_state: str = _default("initial_state")
    reliability: int = _default("reliability")
    count: int = _default("count")  # type: ignore[assignment]  # tuple.count() is not used
    size: int = _default("size")
    max_ttl: int = _default("max_ttl")
    timeout: float = _default("timeout")
    interval: float = _default("interval")
    failure_interval: float = _default("failure_interval")
    recovery_interval: float | None = _default("recovery_interval")
    """None: as interval."""
    down: int = _default("down")
    up: int = _default("up")
    check_quality: bool = _default("check_quality")
    failure_loss: int = _default("failure_loss")
    recovery_loss: int = _default("recovery_loss")
    failure_latency: int = _default("failure_latency")
    recovery_latency: int = _default("recovery_latency")
    quality_window: int = _default("quality_window")
    hold: float = _default("hold")
    hold_max: float = _default("hold_max")

    def targets(self, family: int) -> tuple[Target, ...]:
        """The hosts that decide for this family."""
        return tuple(target for target in self.track_ip if target.family == family)

    @property
    def port(self) -> int:
        return self.track_port or DEFAULT_PORTS.get(self.track_method, 0)


Values = Mapping[str, Sequence[OptionValue]]
"""An uplink's values by option, from all of its sections."""


def build_health(values: Values) -> tuple[HealthConfig | None, list[ConfigError]]:
    """An uplink's checks, None without any, and what does not fit together."""
    given = {name: values[name] for name in HEALTH if values.get(name)}
    if "track_ip" not in given:
        return None, []
    plain = {name: listed[0].value for name, listed in given.items() if name != "track_ip"}
    name_family = plain.get("track_family", _default("track_family"))
    targets = tuple(
        dict.fromkeys(
            item.value._replace(family=item.value.family or name_family)
            for item in given["track_ip"]
        )
    )
    health = HealthConfig(targets, **plain)
    return health, list(_conflicts(health, given))


def ignored(values: Values) -> ConfigError | None:
    """A warning where an option of the checks is set, but no host to probe."""
    if values.get("track_ip"):
        return None
    given = [values[name][0] for name in HEALTH if values.get(name)]
    return given[0].error("has no effect without track_ip") if given else None


def _conflicts(health: HealthConfig, given: Values) -> Iterator[ConfigError]:
    """Each at the first of the options concerned that is set."""

    def conflict(options: str, reason: str) -> ConfigError:
        return next(given[name][0] for name in options.split() if name in given).error(reason)

    most = max(len(health.targets(family)) for family in (AF_INET, AF_INET6))
    if health.reliability > most:
        yield conflict(
            "reliability track_ip",
            f"reliability is {health.reliability}, but track_ip has at most {most} hosts "
            "of one family",
        )
    if health.check_quality:
        for kind in ("loss", "latency"):
            failure = getattr(health, f"failure_{kind}")
            recovery = getattr(health, f"recovery_{kind}")
            if recovery > failure:
                yield conflict(
                    f"recovery_{kind} failure_{kind}",
                    f"recovery_{kind} {recovery} is above failure_{kind} {failure}",
                )
        if health.failure_latency > health.timeout * 1000:
            yield conflict(
                "failure_latency timeout check_quality",
                f"failure_latency {health.failure_latency} ms is never reached: a reply after "
                f"timeout {health.timeout:g} s counts as lost",
            )
    if health.hold > health.hold_max:
        yield conflict(
            "hold hold_max", f"hold {health.hold:g} is above hold_max {health.hold_max:g}"
        )
