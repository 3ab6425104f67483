"""The options of an uplink's health checks: their names, how each is spelt, what they are together.

Names are those of mwan3 where it has one, since its users know them.  Without track_ip nothing
is checked, and the other options say nothing.  Seconds may have a fraction: 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from mproutd.configuration.parsers import (
    ConfigError,
    OptionSpec,
    OptionValue,
    between,
    boolean,
    one_of,
    shown,
)
from mproutd.model import canonical, family_of

METHODS = ("ping", "tcp", "http", "https")
PORTS = {"tcp": 443, "http": 80, "https": 443}
"""Where a method asks unless told."""
GATEWAYS: dict[str, int] = {"gateway": AF_INET, "gateway6": AF_INET6}
"""The words that stand for the uplink's own gateway, as the options of that name."""
_FAMILIES: dict[str, int] = {"ipv4": AF_INET, "ipv6": AF_INET6}


class Target(NamedTuple):
    """Whom to ask."""

    text: str
    """An address, a name, or a key of GATEWAYS."""
    family: int
    """0 for a name, until track_family has been read."""

    @property
    def is_name(self) -> bool:
        return self.text not in GATEWAYS and not _is_address(self.text)


class HealthConfig(NamedTuple):
    """How an uplink is checked.  Times in seconds, latencies in milliseconds, losses in percent."""

    track_ip: tuple[Target, ...] = ()
    track_method: str = "ping"
    track_port: int | None = None
    track_path: str = "/"
    track_status: int | None = None
    """None: everything below 400."""
    track_verify: bool = True
    track_family: int = AF_INET
    initial_state: str = "online"
    reliability: int = 1
    count: int = 1  # type: ignore[assignment]  # instead of tuple.count(), which nobody calls
    size: int = 56
    max_ttl: int = 60
    timeout: float = 2.0
    interval: float = 5.0
    failure_interval: float = 1.0
    recovery_interval: float | None = None
    """None: as interval."""
    down: int = 3
    up: int = 3
    check_quality: bool = False
    failure_loss: int = 40
    recovery_loss: int = 10
    failure_latency: int = 1000
    recovery_latency: int = 500
    quality_window: int = 10
    """Probes to a host that its loss and latency are taken from."""
    hold: float = 10.0
    hold_max: float = 300.0

    def targets(self, family: int) -> tuple[Target, ...]:
        """Those that judge this family."""
        return tuple(target for target in self.track_ip if target.family == family)

    @property
    def port(self) -> int:
        return self.track_port or PORTS.get(self.track_method, 0)


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Seconds with up to three decimals."""

    def parse(text: str) -> float:
        whole, point, rest = text.partition(".")
        digits = whole + rest if point else whole
        if not (digits.isascii() and digits.isdigit() and whole) or (point and not rest):
            raise ValueError(f"{shown(text)} is no number of seconds")
        if len(whole) > 9 or len(rest) > 3 or not low <= float(text) <= high:
            raise ValueError(f"{shown(text)} is not within {low:g}..{high:g} (steps of 0.001)")
        return float(text)

    return parse


def _is_address(text: str) -> bool:
    try:
        canonical(text)
    except (OSError, ValueError):
        return False
    return True


def target(text: str) -> Target:
    """An address, a host's name, or one of the words for the gateway."""
    if text in GATEWAYS:
        return Target(text, GATEWAYS[text])
    if _is_address(text):
        address = canonical(text)
        first = address.partition(".")[0]
        if address in ("::", "0.0.0.0", "::1", "255.255.255.255") or first == "127":
            raise ValueError(f"{shown(text)} is nobody behind the uplink")
        if address.startswith("ff") or (family_of(address) == AF_INET and int(first) >= 224):
            raise ValueError(f"{shown(text)} is a multicast or reserved address")
        return Target(address, family_of(address))
    labels = text.removesuffix(".").split(".")
    good = all(
        label.isascii()
        and label.replace("-", "a").replace("_", "a").isalnum()
        and len(label) <= 63
        and label[0] != "-" != label[-1]
        for label in labels
    )
    if not good or len(text) > 253 or labels[-1].isdigit():
        raise ValueError(
            f"{shown(text)} is neither an address nor a name; `gateway` and `gateway6` "
            "stand for the uplink's own"
        )
    return Target(text.lower(), 0)


def path(text: str) -> str:
    """What is asked of a web server (RFC 9112, origin-form)."""
    if not text.startswith("/") or not all("!" <= c <= "~" for c in text) or len(text) > 1000:
        raise ValueError(f"{shown(text)} is no path: it begins with / and has no blanks")
    return text


def family(text: str) -> int:
    return _FAMILIES[one_of("family", tuple(_FAMILIES))(text)]


TRACKING: Mapping[str, OptionSpec] = {
    "track_ip": OptionSpec(target, "hosts that are asked whether the uplink works", many=True),
    "track_method": OptionSpec(one_of("method", METHODS), "ping, tcp, http or https", "ping"),
    "track_port": OptionSpec(between(1, 65535), "the port of tcp, http and https"),
    "track_path": OptionSpec(path, "what http and https ask for", "/"),
    "track_status": OptionSpec(between(100, 599), "the only status of http and https that counts"),
    "track_verify": OptionSpec(boolean, "https believes only certificates that are valid", "1"),
    "track_family": OptionSpec(family, "ipv4 or ipv6: where names are looked up", "ipv4"),
    "initial_state": OptionSpec(
        one_of("state", ("online", "offline")), "online: used before the first check", "online"
    ),
    "reliability": OptionSpec(between(1, 100), "how many hosts of a family must answer", "1"),
    "count": OptionSpec(between(1, 20), "probes for each host in a round", "1"),
    "size": OptionSpec(between(16, 1472), "bytes of data in a ping", "56"),
    "max_ttl": OptionSpec(between(1, 255), "how many routers a probe may pass", "60"),
    "timeout": OptionSpec(seconds(0.05, 60), "seconds to wait for an answer", "2"),
    "interval": OptionSpec(seconds(0.1, 86400), "seconds between rounds while all is well", "5"),
    "failure_interval": OptionSpec(
        seconds(0.1, 86400), "seconds between rounds while the last one failed", "1"
    ),
    "recovery_interval": OptionSpec(seconds(0.1, 86400), "seconds between rounds while it is out"),
    "down": OptionSpec(between(1, 1000), "failed rounds in a row until it is out", "3"),
    "up": OptionSpec(between(1, 1000), "good rounds in a row until it is back", "3"),
    "check_quality": OptionSpec(boolean, "loss and latency count too", "0"),
    "failure_loss": OptionSpec(between(1, 100), "percent lost that a host fails with", "40"),
    "recovery_loss": OptionSpec(between(0, 100), "percent lost that it may have to be back", "10"),
    "failure_latency": OptionSpec(between(1, 60000), "milliseconds that a host fails with", "1000"),
    "recovery_latency": OptionSpec(
        between(1, 60000), "milliseconds that it may have to be back", "500"
    ),
    "quality_window": OptionSpec(between(2, 1000), "the last probes that loss is taken from", "10"),
    "hold": OptionSpec(
        seconds(0, 86400), "seconds out, at least, when it fails again; doubles", "10"
    ),
    "hold_max": OptionSpec(
        seconds(0, 86400), "the longest hold, and how long back forgets it", "300"
    ),
}
"""In the order of the manual."""


def health(
    said: Mapping[str, Sequence[OptionValue]],
) -> tuple[HealthConfig | None, list[ConfigError]]:
    """An uplink's checks from what its sections say, and what does not fit together."""
    told = {name: said[name] for name in TRACKING if said.get(name)}
    if "track_ip" not in told:
        return None, []
    values = {name: each[0].value for name, each in told.items() if name != "track_ip"}
    names_in = values.get("track_family", HealthConfig().track_family)
    targets = tuple(
        dict.fromkeys(
            one.value._replace(family=one.value.family or names_in) for one in told["track_ip"]
        )
    )
    asked = HealthConfig(targets, **values)
    return asked, _misfits(asked, told)


def idle(said: Mapping[str, Sequence[OptionValue]]) -> list[ConfigError]:
    """What is said about checks that nobody asked for: a warning."""
    if said.get("track_ip"):
        return []
    told = [said[name][0] for name in TRACKING if said.get(name)]
    return [one.error("has no effect without track_ip") for one in told[:1]]


def _misfits(asked: HealthConfig, told: Mapping[str, Sequence[OptionValue]]) -> list[ConfigError]:
    most = max(len(asked.targets(family)) for family in (AF_INET, AF_INET6))
    pairs = [
        (
            asked.reliability > most,
            ("reliability", "track_ip"),
            f"{asked.reliability} hosts must answer, and {most} of one family are asked",
        ),
        (
            asked.check_quality and asked.recovery_loss > asked.failure_loss,
            ("recovery_loss", "failure_loss"),
            f"recovery_loss {asked.recovery_loss} is more than failure_loss {asked.failure_loss}",
        ),
        (
            asked.check_quality and asked.recovery_latency > asked.failure_latency,
            ("recovery_latency", "failure_latency"),
            f"recovery_latency {asked.recovery_latency} is more than failure_latency "
            f"{asked.failure_latency}",
        ),
        (
            asked.check_quality and asked.failure_latency > asked.timeout * 1000,
            ("failure_latency", "timeout", "check_quality"),
            f"failure_latency {asked.failure_latency} ms is never seen: an answer after "
            f"timeout {asked.timeout:g} s is lost",
        ),
        (
            asked.hold > asked.hold_max,
            ("hold", "hold_max"),
            f"hold {asked.hold:g} is more than hold_max {asked.hold_max:g}",
        ),
    ]
    return [
        next(told[name][0] for name in names if name in told).error(reason)
        for wrong, names, reason in pairs
        if wrong
    ]
