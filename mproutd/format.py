"""Amounts for people, and texts that are safe to print.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PREFIXES = ("", "k", "M", "G", "T", "P")
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def _scaled(value: float, unit: str) -> str:
    """Two or three significant digits, in powers of ten."""
    step = 0
    while value >= 999.5 and step < len(_PREFIXES) - 1:
        value, step = value / 1000, step + 1
    digits = 1 if step and value < 9.95 else 0
    return f"{value:.{digits}f} {_PREFIXES[step]}{unit}"


def format_bytes(count: float | None) -> str:
    """`1.2 MB`, in powers of ten; `-` when unknown."""
    return "-" if count is None else _scaled(count, "B")


def format_rate(bits: float | None) -> str:
    """Bits per second, `1.2 Mbit/s`; `-` when unknown."""
    return "-" if bits is None else _scaled(bits, "bit/s")


def format_duration(seconds: float | None) -> str:
    """The two largest units that are not zero, `3 d 2 h`; `-` when unknown."""
    if seconds is None:
        return "-"
    total = max(0, int(seconds))
    index = next((at for at, (_, size) in enumerate(_UNITS) if total >= size), -1)
    unit, size = _UNITS[index]
    text = f"{total // size} {unit}"
    if size > 60:
        smaller_unit, smaller_size = _UNITS[index + 1]
        rest = total % size // smaller_size
        text += f" {rest} {smaller_unit}" if rest else ""
    return text


def format_age(seconds: float | None) -> str:
    """A duration for a narrow column: the largest unit alone, `3 d`."""
    return " ".join(format_duration(seconds).split(" ")[:2])


def safe(text: str) -> str:
    """One line without control characters: names come from the kernel and from files."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def safe_values(value: Any) -> Any:
    """A plain value (as JSON has them) with every text in it made safe."""
    if isinstance(value, str):
        return value if value.isprintable() else safe(value)
    if isinstance(value, dict):
        return {safe_values(key): safe_values(item) for key, item in value.items()}
    return [safe_values(item) for item in value] if isinstance(value, list) else value


def truncate(text: str, width: int) -> str:
    """At most `width` characters; the rest becomes `…`."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def address_port(address: str, port: int) -> str:
    """ADDRESS:PORT as in RFC 5952, section 6; IPv4-mapped addresses (RFC 4291) as IPv4."""
    if address.startswith("::ffff:") and "." in address:
        address = address[7:]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def shortened(lines: Sequence[str], most: int = 5) -> list[str]:
    """The first of them, and how many more there are."""
    if len(lines) <= most:
        return [*lines]
    return [*lines[: most - 1], f"and {len(lines) - most + 1} more"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, with columns as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
