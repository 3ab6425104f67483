"""What runs beside the passes in the daemon's one loop, and only where it is asked for.

A part hears what passes saw, says what the kernel cannot (Facts), and adds to the status.  It
is imported when the configuration wants it, so that a router pays for nothing else.  What must
hold: a part never waits, and none knows of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts

if TYPE_CHECKING:
    from mproutd.status.types import EventKind, Status


class Publish(Protocol):
    """Say something to the log and to whoever listens (Monitor.tell)."""

    def __call__(
        self,
        kind: EventKind,
        priority: int,
        text: str,
        uplink: str = "",
        device: str = "",
        operation: str = "",
    ) -> None: ...


class ServiceContext(NamedTuple):
    """What a part may ask of the daemon that it is in."""

    loop: Loop
    """Where it waits for its descriptors."""
    request_pass: Callable[[], None]
    """Ask for a pass: the facts have changed."""
    publish: Publish
    clock: Callable[[], float]
    """Seconds; only differences count."""
    runtime_dir: str
    """The runtime directory."""


class Service:
    """One part.  All methods may be left as they are; each says when it is called."""

    persistent = False
    """Whether it is there until the daemon ends, also when nobody asks for it any more."""

    def on_configuration(self, config: Config) -> None:
        """A configuration is in use, at the start and whenever it was read again."""

    def on_hint(self) -> None:
        """A hook has something to say."""

    def on_pass(self, outcome: Outcome) -> None:
        """A pass is done."""

    def on_reload_start(self) -> None:
        """The configuration is about to be read again."""

    def on_reload_end(self, refused: str) -> None:
        """It was, and its passes are done; or why it is refused, so that the old one stays."""

    def add_facts(self, facts: Facts) -> Facts:
        """What other sources know, with what this one adds.  Quick: every pass asks."""
        return facts

    def add_to_status(self, status: Status) -> None:
        """Add to a status before it goes out."""

    def due(self) -> float | None:
        """Seconds until turn() has something to do; None for never."""
        return None

    def turn(self) -> None:
        """Do what time has brought; called after every wait."""

    def close(self) -> None:
        """The daemon ends, or nobody asks for this part any more and it does not stay."""
