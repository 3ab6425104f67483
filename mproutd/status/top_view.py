"""The screen of `mproutd top`: status and rates in, lines out.  Pure.

Invariants: never more lines and columns than the terminal has; every uplink has a line as long
as there are enough lines, and graphs get what is left; what is unknown is drawn as nothing, not
as zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mproutd.format import format_age, format_rate, safe, truncate
from mproutd.status.render import state_word
from mproutd.status.render_cost import cost_words
from mproutd.status.render_health import FAMILIES
from mproutd.status.render_traffic import share_ratios

if TYPE_CHECKING:
    from mproutd.status.types import Status, UplinkStatus

PLAIN, BOLD, DIM, GOOD, BAD = range(5)
"""Styles of a piece of text."""
ORDERS = {"name": "name", "received": "rate in", "sent": "rate out"}
KEYS = "q quit   s sort   space pause"
BLOCKS = "▁▂▃▄▅▆▇█"
_ZERO = "·"
_MIN_SCALE = 10_000
"""Bits per second."""
_LABEL_WIDTH, _RATE_WIDTH, _SCALE_WIDTH, _NAME_WIDTH = 5, 11, 14, 16
_HISTORY = 600
"""Samples kept for each device."""


class Rates(NamedTuple):
    """Bits per second between two samples; None for what is unknown."""

    received: float | None = None
    sent: float | None = None


class Piece(NamedTuple):
    """Text in one style."""

    text: str
    style: int = PLAIN


Line = list[Piece]


class View(NamedTuple):
    """Everything that a screen shows."""

    status: Status
    rates: Mapping[str, Sequence[Rates]]
    """By device, the latest last."""
    subflows: Mapping[str, int] | None
    """Established subflows by uplink; None where they cannot be counted."""
    order: str = "name"
    """A key of ORDERS."""
    note: str = ""
    """What is unusual about the screen itself: paused, no reply."""
    now: float = 0.0
    """Epoch seconds."""
    clock: str = ""


class History:
    """Rates of devices, computed from their counters."""

    def __init__(self, length: int = _HISTORY) -> None:
        self._length = length
        self._last: tuple[float, dict[str, tuple[int, int]]] | None = None
        self._rates: dict[str, deque[Rates]] = {}

    def add(
        self, now: float, counters: Mapping[str, tuple[int, int]], devices: Iterable[str]
    ) -> None:
        """Add a sample: bytes (received, sent) since each device was created.

        `now` is in seconds of any clock.
        """
        devices = list(devices)
        sample = {device: counters[device] for device in devices if device in counters}
        before, self._last = self._last, (now, sample)
        self._rates = {
            device: self._rates.get(device) or deque(maxlen=self._length) for device in devices
        }
        if before is not None and now > before[0]:
            for device, rates in self._rates.items():
                first, last = before[1].get(device), sample.get(device)
                rates.append(_rates_between(first, last, now - before[0]))

    def rates(self) -> dict[str, list[Rates]]:
        """A copy, by device."""
        return {device: list(rates) for device, rates in self._rates.items()}


def _rates_between(
    first: tuple[int, int] | None, last: tuple[int, int] | None, seconds: float
) -> Rates:
    if first is None or last is None or last[0] < first[0] or last[1] < first[1]:
        return Rates()  # the device was missing, or was created again in between
    return Rates((last[0] - first[0]) * 8 / seconds, (last[1] - first[1]) * 8 / seconds)


# -- graphs -------------------------------------------------------------------------------


def scale(rates: Iterable[float | None]) -> int:
    """The upper end of a graph in bits per second: 1, 2 or 5 times a power of ten."""
    peak, power = max((rate for rate in rates if rate is not None), default=0), _MIN_SCALE
    while True:
        for factor in (1, 2, 5):
            if peak <= power * factor:
                return power * factor
        power *= 10


def graph(rates: Sequence[float | None], width: int, height: int, top: float) -> list[str]:
    """`height` lines of `width` columns, the latest rate on the right.

    Any rate above zero is visible, zero is a dot, and what is unknown stays empty.
    """
    shown = list(rates)[-width:] if width > 0 else []
    columns = [_graph_column(rate, height, top) for rate in shown]
    return [
        "".join(column[row] for column in columns).rjust(max(0, width))
        for row in reversed(range(height))
    ]


def _graph_column(rate: float | None, height: int, top: float) -> str:
    """From the bottom up."""
    if rate is None:
        return " " * height
    if rate <= 0:
        return _ZERO.ljust(height)
    eighths = min(8 * height, max(1, round(rate / top * 8 * height)))
    full, part = divmod(eighths, 8)
    return (BLOCKS[-1] * full + (BLOCKS[part - 1] if part else "")).ljust(height)


# -- the screen ---------------------------------------------------------------------------


def screen_lines(view: View, columns: int, rows: int) -> list[Line]:
    """The whole screen, at most `rows` lines of at most `columns` columns."""
    uplinks = ordered(view)
    room = rows - 2
    body: list[Line] = []
    for layout in _LAYOUTS:
        body = _body(view, uplinks, columns, layout)
        if len(body) <= room:
            break
    if len(body) > room:
        shown = max(0, room - 1)
        more = f"… and {len(body) - shown} more; make the window taller"
        body = [*body[:shown], [Piece(more, BAD)]]
    if not uplinks:
        body = [[Piece("no uplink is configured")]]
    padding: list[Line] = [[] for _ in range(room - len(body))]
    footer = [Piece(f"{KEYS}   sorted by {ORDERS[view.order]}", DIM)]
    lines = [_header(view, uplinks), *body, *padding, footer]
    return [clip(line, columns) for line in lines[: max(0, rows)]]


class _Layout(NamedTuple):
    graph_height: int
    """Lines; 0 for no graphs."""
    addresses: bool
    gap: bool
    """An empty line between uplinks."""


_LAYOUTS = (
    _Layout(6, True, True),
    _Layout(4, True, True),
    _Layout(3, True, True),
    _Layout(2, True, True),
    _Layout(1, True, True),
    _Layout(1, True, False),
    _Layout(1, False, False),
    _Layout(0, False, False),
)
"""From roomy to tight; the first that fits is used."""


def _body(view: View, uplinks: Sequence[UplinkStatus], columns: int, layout: _Layout) -> list[Line]:
    body: list[Line] = []
    for index, uplink in enumerate(uplinks):
        if layout.gap and index:
            body.append([])
        body.append(_title(view, uplink, with_rates=not layout.graph_height))
        if layout.addresses:
            body.append([Piece("  " + _addresses(uplink), DIM)])
        if layout.graph_height:
            rates = view.rates.get(uplink["device"], ())
            received, sent = [rate.received for rate in rates], [rate.sent for rate in rates]
            body += _graph_lines("in", received, columns, layout.graph_height)
            body += _graph_lines("out", sent, columns, layout.graph_height)
    return body


def ordered(view: View) -> list[UplinkStatus]:
    """The uplinks by name, or the fastest first."""
    uplinks = sorted(view.status["uplinks"], key=lambda uplink: str(uplink["name"]))
    if view.order == "name":
        return uplinks

    def rate(uplink: UplinkStatus) -> float:
        latest = _latest(view, uplink)
        return (latest.received if view.order == "received" else latest.sent) or 0.0

    return sorted(uplinks, key=lambda uplink: -rate(uplink))


def clip(line: Line, columns: int) -> Line:
    """The beginning of the line that fits."""
    clipped: Line = []
    for piece in line:
        text = safe(piece.text)
        clipped.append(piece._replace(text=text[: max(0, columns)]))
        columns -= len(text)
    return [piece for piece in clipped if piece.text]


def _latest(view: View, uplink: UplinkStatus) -> Rates:
    rates = view.rates.get(uplink["device"], ())
    return rates[-1] if rates else Rates()


def _header(view: View, uplinks: Sequence[UplinkStatus]) -> Line:
    line = [Piece("mproutd", BOLD), Piece(f"  {view.clock}  ")]
    if view.note:
        return [*line, Piece(view.note, BAD)]
    if not view.status["enabled"]:
        return [*line, Piece("multipath is not enabled", BAD)]
    if not view.status["degraded"]:
        return [*line, Piece("ok", GOOD)]
    unusable = sum(uplink["mode"] != "off" and not uplink["usable"] for uplink in uplinks)
    other = len(view.status["problems"]) + len(view.status["drift"])
    words = [f"{unusable} of {len(uplinks)} not usable"] if unusable else []
    words += [f"{other} problem{'s' if other > 1 else ''}"] if other else []
    return [*line, Piece(", ".join(words), BAD), Piece("; see: mproutd status", DIM)]


def _title(view: View, uplink: UplinkStatus, with_rates: bool) -> Line:
    uplinks = view.status["uplinks"]
    name_width = max(len(safe(uplink["name"])) for uplink in uplinks)
    device_width = max(len(safe(uplink["device"])) for uplink in uplinks)
    age = f" {format_age(view.now - uplink['since'])}" if uplink["since"] else ""
    name = truncate(safe(uplink["name"]), _NAME_WIDTH)
    line = [
        Piece(name.ljust(min(_NAME_WIDTH, name_width) + 2), BOLD),
        Piece(uplink["effective_mode"].ljust(10)),
        Piece((safe(uplink["device"]) or "-").ljust(device_width + 2)),
        Piece(f"{state_word(uplink)}{age}".ljust(12) + "  ", GOOD if uplink["usable"] else BAD),
    ]
    if with_rates:
        latest = _latest(view, uplink)
        received, sent = format_rate(latest.received), format_rate(latest.sent)
        return [*line, Piece(f"in {received}  out {sent}")]
    if view.subflows is not None:
        count = view.subflows.get(uplink["name"], 0)
        line.append(Piece(f"{count} subflow{'' if count == 1 else 's'}  "))
    families = [
        f"{FAMILIES[family]} {ratio:.0%}" if ratio < 1 else FAMILIES[family]
        for (name, family), ratio in share_ratios(view.status).items()
        if name == uplink["name"]
    ]
    if families:
        line.append(Piece("default " + " ".join(families) + "  ", DIM))
    return [*line, Piece(cost_words(uplink))]


def _addresses(uplink: UplinkStatus) -> str:
    addresses = []
    for family in uplink["families"]:
        gateway = f" via {family['gateway']}" if family["gateway"] else ""
        addresses += [f"{address}{gateway}" for address in family["addresses"]]
    return ", ".join(addresses) or "no address"


def _graph_lines(
    label: str, rates: Sequence[float | None], columns: int, height: int
) -> list[Line]:
    width = columns - 2 - _LABEL_WIDTH - _RATE_WIDTH - _SCALE_WIDTH
    top = scale(list(rates)[-width:] if width > 0 else [])
    latest = format_rate(rates[-1] if rates else None)
    rows = graph(rates, width, height, top)
    first = [
        Piece(f"  {label.ljust(_LABEL_WIDTH)}{latest.rjust(_RATE_WIDTH)} "),
        Piece(rows[0], GOOD),
        Piece(f" {format_rate(top).rjust(_SCALE_WIDTH - 2)}", DIM),
    ]
    indent = " " * (2 + _LABEL_WIDTH + _RATE_WIDTH + 1)
    return [first, *([Piece(indent), Piece(row, GOOD)] for row in rows[1:])]
