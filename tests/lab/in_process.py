"""The daemon's reconciler in this process, on a node's kernel, to count what it requests."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mproutd.iproute2 import device_names, ip_command
from mproutd.model import Mptcp
from mproutd.netlink.kernel import NetlinkKernel
from mproutd.planning.plan import Outcome
from mproutd.reconciler import Reconciler
from mproutd.statefile import StateFile
from mproutd.status.build import build_status
from mproutd.status.changes import changes
from tests.lab import Namespace
from tests.lab.resources import Closing


class InProcess(Closing):
    """A Reconciler with these two files; within `with`, in the node's namespace.

    `max_endpoints` and `laminar`: what the kernel seems to take and to know, where that differs
    from what it does.
    """

    def __init__(
        self,
        node: Namespace,
        network: str,
        own: str = "",
        max_endpoints: int = 0,
        laminar: bool | None = None,
    ) -> None:
        self._scope = ExitStack()
        self._scope.enter_context(node.enter())
        self._directory = Path(self._scope.enter_context(tempfile.TemporaryDirectory()))
        kernel = NetlinkKernel()
        self._scope.callback(kernel.close)
        assert kernel.path_manager
        if max_endpoints:
            kernel.path_manager._max_endpoints = max_endpoints
        kernel.path_manager._laminar = laminar
        self.manager = kernel.path_manager
        self.reconciler = Reconciler(kernel, StateFile(str(self._directory)), str(self._directory))
        self.configure(network, own)

    def configure(self, network: str, own: str = "") -> None:
        """Another configuration."""
        for name, text in (("network", network), ("mproutd", own)):
            (self._directory / name).write_text(text)
        self.reconciler.configure()

    def a_pass(self) -> Outcome:
        """One pass."""
        return self.reconciler.reconcile(sweep=True)

    def settle(self) -> list[str]:
        """Passes until one finds nothing to do; every change requested, refused ones too."""
        return [change["command"] for change in changes(self.reconciler.converge())]

    def requested(self, outcome: Outcome) -> list[str]:
        """What a pass requested for endpoints and limits, as ip commands."""
        name = device_names(outcome.snapshot.links)
        operations = [*outcome.done, *(failure.operation for failure in outcome.failures)]
        texts = [ip_command(operation, name) for operation in operations]
        return [text for text in texts if " mptcp " in text]

    def existing(self) -> Mptcp:
        """What the kernel holds."""
        return self.manager.read(full=True)

    def status(self) -> dict[str, Any]:
        """The status, as a command without a daemon builds it."""
        return build_status(self.reconciler.inspect())

    def problems(self) -> list[str]:
        """The codes of the problems that status names."""
        return [problem["code"] for problem in self.status()["problems"]]

    def close(self) -> None:
        self._scope.close()
