"""Bar charts of a rate over time, in block characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"


def chart(
    values: Sequence[float],
    top: float,
    *,
    rows: int = 8,
    levels: Mapping[float, str] | None = None,
) -> list[str]:
    """One bar per value, `rows` lines high; the top line is `top`.

    `levels`: value → label of horizontal dotted lines behind the bars, labelled on the
    right.  Every second row has its value on the left.
    """
    eighths = [round(min(value, top) / top * rows * 8) for value in values]
    marked = {int(height / top * rows): label for height, label in (levels or {}).items()}
    lines = []
    for row in reversed(range(rows)):
        upper = top * (row + 1) / rows
        axis = f"{upper:5.0f} ┤" if (rows - 1 - row) % 2 == 0 else "      │"
        empty = "┈" if row in marked else " "
        cells = (BLOCKS[max(0, min(8, bar - row * 8))] for bar in eighths)
        bars = "".join(empty if cell == " " else cell for cell in cells)
        tail = f"┈┈ {marked[row]}" if row in marked else ""
        lines.append((axis + bars + tail).rstrip())
    return lines


def time_axis(columns: int, per_column: float, every: float) -> list[str]:
    """The axis below the bars and its labels, one every `every` seconds."""
    step = round(every / per_column)
    ruler = "".join("┴" if i % step == 0 else "─" for i in range(columns))
    numbers = "".join(f"{i * per_column:<{step}.0f}" for i in range(0, columns, step))
    return [f"    0 └{ruler}", f"       {numbers} s"]


def spark(values: Sequence[float], top: float) -> str:
    """One line of blocks, with a dot for (nearly) nothing."""
    return "".join(
        "·" if value < top / 50 else BLOCKS[max(1, min(8, round(value / top * 8)))]
        for value in values
    )


def marks(events: Mapping[float, str], per_column: float) -> str:
    """A line with an arrow and a word at the time of each event (seconds → word)."""
    line = ""
    for seconds, word in sorted(events.items()):
        line = line.ljust(round(seconds / per_column)) + f"▲ {word} "
    return line.rstrip()
