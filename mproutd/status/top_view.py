"""The picture of `mproutd top`: what is known in, lines out.  Pure.

What must hold: never more lines and columns than the terminal has, whatever its size; every
uplink has a line as long as there is one for each, and graphs get what is left; what is not
known is drawn as nothing, and not as zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mproutd.format import format_age, format_rate, safe, truncate
from mproutd.status.render import FAMILIES, state_word

PLAIN, BOLD, DIM, GOOD, BAD = range(5)
"""Styles of a piece."""
ORDERS = {"name": "name", "received": "rate in", "sent": "rate out"}
KEYS = "q quit   s sort   space pause"
BLOCKS = "▁▂▃▄▅▆▇█"
_NOTHING_MOVED = "·"
_LEAST_SCALE = 10_000
_LABEL, _RATE, _SCALE = 5, 11, 14
_NAME = 16


class Rates(NamedTuple):
    """Bits a second between two samples; None for what is not known."""

    received: float | None = None
    sent: float | None = None


class Piece(NamedTuple):
    """Text in one style."""

    text: str
    style: int = PLAIN


Line = list[Piece]


class View(NamedTuple):
    """All that a picture shows."""

    status: Mapping[str, Any]
    """As docs/status.md has it."""
    rates: Mapping[str, Sequence[Rates]]
    """By device, the newest last."""
    subflows: Mapping[str, int] | None
    """By uplink; None where they cannot be counted."""
    order: str = "name"
    """A key of ORDERS."""
    note: str = ""
    """What is not as usual with the screen itself: paused, no answer."""
    now: float = 0.0
    """Epoch second."""
    clock: str = ""


class History:
    """Rates of devices, made from their counters."""

    def __init__(self, most: int = 600) -> None:
        self._most = most
        self._last: tuple[float, dict[str, tuple[int, int]]] | None = None
        self._moved: dict[str, deque[Rates]] = {}

    def add(
        self, now: float, counters: Mapping[str, tuple[int, int]], devices: Iterable[str]
    ) -> None:
        """Bytes (received, sent) since each device was made, at `now` in seconds of any clock."""
        before, found = self._last, {each: counters[each] for each in devices if each in counters}
        self._last = now, found
        moved = {each: self._moved.get(each) or deque(maxlen=self._most) for each in devices}
        if before is not None and now > before[0]:
            for device, rates in moved.items():
                first, last = before[1].get(device), found.get(device)
                rates.append(_between(first, last, now - before[0]))
        self._moved = moved

    def rates(self) -> dict[str, list[Rates]]:
        """A copy, by device."""
        return {device: list(rates) for device, rates in self._moved.items()}


def _between(first: tuple[int, int] | None, last: tuple[int, int] | None, seconds: float) -> Rates:
    if first is None or last is None or last[0] < first[0] or last[1] < first[1]:
        return Rates()  # it was not there, or was made again in between
    return Rates((last[0] - first[0]) * 8 / seconds, (last[1] - first[1]) * 8 / seconds)


def scale(rates: Iterable[float | None]) -> int:
    """The upper end of a graph, bits a second: 1, 2 or 5 with zeros, and all of them fit."""
    peak, size = max((each for each in rates if each is not None), default=0), _LEAST_SCALE
    while True:
        for step in (1, 2, 5):
            if peak <= size * step:
                return size * step
        size *= 10


def graph(rates: Sequence[float | None], width: int, height: int, top: float) -> list[str]:
    """`height` lines of `width` columns, the newest at the right.

    A rate above zero shows, however small; zero is a dot; what is not known stays empty.
    """
    shown = list(rates)[-width:] if width > 0 else []
    columns = [_column(each, height, top) for each in shown]
    return [
        "".join(column[row] for column in columns).rjust(max(0, width))
        for row in reversed(range(height))
    ]


def _column(value: float | None, height: int, top: float) -> str:
    """From the bottom up."""
    if value is None:
        return " " * height
    if value <= 0:
        return _NOTHING_MOVED.ljust(height)
    eighths = min(8 * height, max(1, round(value / top * 8 * height)))
    full, part = divmod(eighths, 8)
    return (BLOCKS[-1] * full + (BLOCKS[part - 1] if part else "")).ljust(height)


# -- the picture --------------------------------------------------------------------------


def screen_lines(view: View, columns: int, rows: int) -> list[Line]:
    """The whole picture, at most `rows` lines of at most `columns` columns."""
    uplinks = ordered(view)
    room = rows - 2
    body: list[Line] = []
    for height, addresses, gap in _LAYOUTS:
        body = []
        for place, uplink in enumerate(uplinks):
            if gap and place:
                body.append([])
            body += _block(view, uplink, columns, height, addresses)
        if len(body) <= room:
            break
    if len(body) > room:
        left = max(0, room - 1)
        more = f"… and {len(body) - left} more; make the window taller"
        body = [*body[:left], [Piece(more, BAD)]]
    if not uplinks:
        body = [[Piece("no uplink is configured")]]
    empty: list[Line] = [[] for _ in range(room - len(body))]
    sorting = f"{KEYS}   sorted by {ORDERS[view.order]}"
    picture = [_head(view, uplinks), *body, *empty, [Piece(sorting, DIM)]]
    return [clip(line, columns) for line in picture[: max(0, rows)]]


_LAYOUTS = (
    (6, True, True),
    (4, True, True),
    (3, True, True),
    (2, True, True),
    (1, True, True),
    (1, True, False),
    (1, False, False),
    (0, False, False),
)
"""From roomy to tight: lines of a graph (0: none), addresses, an empty line in between."""


def ordered(view: View) -> list[Mapping[str, Any]]:
    """The uplinks as they are sorted: by name, else the fastest first."""
    uplinks = sorted(view.status["uplinks"], key=lambda uplink: str(uplink["name"]))
    if view.order == "name":
        return uplinks
    return sorted(uplinks, key=lambda uplink: -(getattr(_now(view, uplink), view.order) or 0.0))


def clip(line: Line, columns: int) -> Line:
    """The line's beginning that fits."""
    kept: Line = []
    for piece in line:
        text = safe(piece.text)
        kept.append(piece._replace(text=text[: max(0, columns)]))
        columns -= len(text)
    return [piece for piece in kept if piece.text]


def _now(view: View, uplink: Mapping[str, Any]) -> Rates:
    moved = view.rates.get(uplink["device"], ())
    return moved[-1] if moved else Rates()


def _head(view: View, uplinks: Sequence[Mapping[str, Any]]) -> Line:
    line = [Piece("mproutd", BOLD), Piece(f"  {view.clock}  ")]
    if view.note:
        return [*line, Piece(view.note, BAD)]
    if not view.status["enabled"]:
        return [*line, Piece("multipath is not enabled", BAD)]
    if not view.status["degraded"]:
        return [*line, Piece("all as wanted", GOOD)]
    out = sum(each["mode"] != "off" and not each["usable"] for each in uplinks)
    other = len(view.status["problems"]) + len(view.status["drift"])
    words = [f"{out} of {len(uplinks)} not usable"] if out else []
    words += [f"{other} problem{'s' if other > 1 else ''}"] if other else []
    return [*line, Piece(", ".join(words), BAD), Piece("; see: mproutd status", DIM)]


def _block(
    view: View, uplink: Mapping[str, Any], columns: int, height: int, addresses: bool
) -> list[Line]:
    moved = view.rates.get(uplink["device"], ())
    block = [_title(view, uplink, rates=not height)]
    if addresses:
        block.append([Piece("  " + _addresses(uplink), DIM)])
    if height:
        block += _graph("in", [each.received for each in moved], columns, height)
        block += _graph("out", [each.sent for each in moved], columns, height)
    return block


def _title(view: View, uplink: Mapping[str, Any], rates: bool) -> Line:
    names = [len(safe(each["name"])) for each in view.status["uplinks"]]
    devices = [len(safe(each["device"])) for each in view.status["uplinks"]]
    usable = uplink["usable"]
    lasting = f" {format_age(view.now - uplink['since'])}" if uplink["since"] else ""
    line = [
        Piece(truncate(safe(uplink["name"]), _NAME).ljust(min(_NAME, max(names)) + 2), BOLD),
        Piece(uplink["mode"].ljust(10)),
        Piece((safe(uplink["device"]) or "-").ljust(max(devices) + 2)),
        Piece(f"{state_word(dict(uplink))}{lasting}".ljust(12) + "  ", GOOD if usable else BAD),
    ]
    if rates:
        now = _now(view, uplink)
        text = f"in {format_rate(now.received)}  out {format_rate(now.sent)}"
        return [*line, Piece(text)]
    if view.subflows is not None:
        count = view.subflows.get(uplink["name"], 0)
        line.append(Piece(f"{count} subflow{'' if count == 1 else 's'}  "))
    families = [FAMILIES[f] for f, name in view.status["default"].items() if name == uplink["name"]]
    if families:
        line.append(Piece("default " + " ".join(families), DIM))
    return line


def _addresses(uplink: Mapping[str, Any]) -> str:
    told = []
    for family in uplink["families"]:
        way = f" via {family['gateway']}" if family["gateway"] else ""
        told += [f"{address}{way}" for address in family["addresses"]]
    return ", ".join(told) or "no address"


def _graph(label: str, rates: Sequence[float | None], columns: int, height: int) -> list[Line]:
    width = columns - 2 - _LABEL - _RATE - _SCALE
    top = scale(list(rates)[-width:] if width > 0 else [])
    now = format_rate(rates[-1] if rates else None)
    drawn = graph(rates, width, height, top)
    first = [
        Piece(f"  {label.ljust(_LABEL)}{now.rjust(_RATE)} "),
        Piece(drawn[0], GOOD),
        Piece(f" {format_rate(top).rjust(_SCALE - 2)}", DIM),
    ]
    indent = " " * (2 + _LABEL + _RATE + 1)
    return [first, *([Piece(indent), Piece(row, GOOD)] for row in drawn[1:])]
