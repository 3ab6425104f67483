"""A chart as SVG: cost against size, one panel for each thing that grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 320, 220, 50
COLORS = ("#3b6ea5", "#b03a2e")


class Curve(NamedTuple):
    """Sizes and costs, in ms."""

    name: str
    points: Sequence[tuple[float, float]]


class Panel(NamedTuple):
    title: str
    unit: str
    """Of the horizontal axis."""
    curves: Sequence[Curve]


def svg(panels: Sequence[Panel], columns: int = 2) -> str:
    """The same values give the same text."""
    rows = math.ceil(len(panels) / columns)
    width, height = columns * (WIDTH + MARGIN) + 20, rows * (HEIGHT + 70)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for index, panel in enumerate(panels):
        x = index % columns * (WIDTH + MARGIN) + MARGIN
        y = index // columns * (HEIGHT + 70) + 30
        parts.append(f'<g transform="translate({x} {y})">{_panel(panel)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> str:
    points = [point for curve in panel.curves for point in curve.points]
    right, top = (_round_up(max(values)) for values in zip(*points, strict=True))
    plot_width, plot_height = WIDTH - 20, HEIGHT - 20
    parts = [f'<text x="0" y="-10" font-size="13">{panel.title}</text>']
    for n in range(5):
        y, x = plot_height * (1 - n / 4), plot_width * n / 4
        parts += [
            f'<line x1="0" x2="{plot_width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{top * n / 4:g}</text>',
            f'<text x="{x:.1f}" y="{plot_height + 15}" text-anchor="middle">'
            f"{right * n / 4:,.10g}</text>",
        ]
    parts.append(
        f'<text x="{plot_width / 2}" y="{plot_height + 32}" text-anchor="middle">'
        f"{panel.unit}</text>"
    )
    for index, (curve, color) in enumerate(zip(panel.curves, COLORS, strict=False)):
        places = [
            (size / right * plot_width, plot_height * (1 - cost / top))
            for size, cost in curve.points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        label = f'<text x="8" y="{14 + 15 * index}" fill="{color}">{curve.name}</text>'
        parts.append(label)
    return "\n".join(parts)


def _round_up(value: float) -> float:
    """To 1, 2, 4 or 8 times a power of ten, so that a quarter is a round number."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value)
