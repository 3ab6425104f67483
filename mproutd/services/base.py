"""What services have in common: optional parts of the daemon that run in its event loop.

A service adds facts that the kernel does not know, reacts to passes, and adds to the status.
Its module is imported only when the configuration or the environment needs it.

Invariants: a service never blocks, and none depends on another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from mproutd.configuration.config import Config
from mproutd.eventloop import Loop
from mproutd.netlink.path_manager import PathManager
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts

if TYPE_CHECKING:
    from mproutd.model import Operation
    from mproutd.planning.inspection import Preview
    from mproutd.status.event_types import EventKind
    from mproutd.status.types import Status


class Publish(Protocol):
    """Write an event to the log and send it to the listeners (Monitor.publish)."""

    def __call__(
        self,
        kind: EventKind,
        priority: int,
        text: str,
        uplink: str = "",
        device: str = "",
        operation: str = "",
    ) -> None: ...


class StateDirectory(NamedTuple):
    """Where a service keeps what has to outlive a reboot."""

    path: str
    on_flash: bool = False
    """Writes wear it out."""


class ServiceContext(NamedTuple):
    """What the daemon provides to its services."""

    loop: Loop
    request_pass: Callable[[], None]
    """The facts have changed."""
    publish: Publish
    runtime_dir: str
    state_dir: StateDirectory = StateDirectory("")
    path_manager: PathManager | None = None
    """None without MPTCP."""

    def clock(self) -> float:
        """Seconds; only differences matter."""
        return self.loop.clock()


class Service:
    """One service; its methods do nothing unless overridden."""

    persistent = False
    """Whether it is kept, once made, when the configuration no longer needs it."""

    def on_configuration(self, config: Config) -> None:
        """This configuration is in use: at the start, and after each reload."""

    def on_hint(self) -> None:
        """A hook has woken the daemon."""

    def on_pass(self, outcome: Outcome) -> None:
        """A pass is done."""

    def on_reload_start(self) -> None:
        """The configuration is about to be read again."""

    def on_reload_end(self, error: str) -> None:
        """The reload and its passes are done; `error` says why the new configuration is rejected,
        so that the old one stays in use."""

    def add_facts(self, facts: Facts) -> Facts:
        """The facts of the other sources with those of this one.  Called by every pass."""
        return facts

    def on_request(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The reply to a request of the control socket; None for one of another service."""
        return None

    def preview(self, preview: Preview) -> Sequence[Operation]:
        """What it would change in the kernel, for a dry run."""
        return ()

    def add_to_status(self, status: Status) -> None:
        """Add to a status before it is sent."""

    def close(self) -> None:
        """The daemon ends, or the configuration needs a non-persistent service no longer."""
