"""Two contenders in turns: an event, and everything back as it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Losing(Protocol):
    """Something that loses an uplink."""

    def lose(self) -> float:
        """Seconds until it has reacted."""
        ...

    def restore(self) -> None: ...


def losses(
    name: str, contenders: Sequence[Losing], runs: int, warm: int, log: Callable[[str], None]
) -> list[list[float]]:
    """The times of each, without those of the first `warm` turns."""
    log(f"{name}: {runs} runs of {len(contenders)}")
    times: list[list[float]] = [[] for _ in contenders]
    for turn in range(warm + runs):
        for contender, taken in zip(contenders, times, strict=True):
            took = contender.lose()
            contender.restore()
            if turn >= warm:
                taken.append(took)
    return times
