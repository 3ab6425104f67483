"""Amounts for people: short, with their unit, never more digits than they are worth.  Pure."""

from __future__ import annotations

from typing import Any

_STEPS = ("", "k", "M", "G", "T", "P")
_PERIODS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def _scaled(value: float, unit: str) -> str:
    step = 0
    while value >= 999.5 and step < len(_STEPS) - 1:
        value, step = value / 1000, step + 1
    digits = 1 if step and value < 9.95 else 0
    return f"{value:.{digits}f} {_STEPS[step]}{unit}"


def format_bytes(count: float | None) -> str:
    """Bytes, in powers of ten: `1.2 MB`; `-` for what is not known."""
    return "-" if count is None else _scaled(count, "B")


def format_rate(bits: float | None) -> str:
    """Bits a second: `1.2 Mbit/s`; `-` for what is not known."""
    return "-" if bits is None else _scaled(bits, "bit/s")


def format_duration(seconds: float | None) -> str:
    """How long: the two largest units that say anything, `3 d 2 h`; `-` when not known."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    place = next((at for at, (_, size) in enumerate(_PERIODS) if left >= size), -1)
    unit, size = _PERIODS[place]
    words = f"{left // size} {unit}"
    if size > 60:
        smaller, small = _PERIODS[place + 1]
        rest = left % size // small
        words += f" {rest} {smaller}" if rest else ""
    return words


def format_age(seconds: float | None) -> str:
    """How long, for a narrow column: the largest unit alone, `3 d`."""
    return " ".join(format_duration(seconds).split(" ")[:2])


def safe(text: str) -> str:
    """One line without control characters: names come from the kernel and from files."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def safe_values(value: Any) -> Any:
    """A plain value, with all its texts made safe to print."""
    if isinstance(value, str):
        return value if value.isprintable() else safe(value)
    if isinstance(value, dict):
        return {safe_values(key): safe_values(each) for key, each in value.items()}
    return [safe_values(each) for each in value] if isinstance(value, list) else value


def truncate(text: str, width: int) -> str:
    """At most `width` characters; what was cut shows as `…`."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def address_port(address: str, port: int) -> str:
    """ADDRESS:PORT as in RFC 5952, section 6; IPv4-mapped addresses (RFC 4291) as IPv4."""
    if address.startswith("::ffff:") and "." in address:
        address = address[7:]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
