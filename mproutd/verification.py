"""Asks the kernel whether packets from endpoints leave through their own uplinks."""

from __future__ import annotations

from collections.abc import Sequence

from mproutd.netlink.kernel import Kernel
from mproutd.planning.decision import ExpectedRoute


def misrouted_addresses(kernel: Kernel, expected: Sequence[ExpectedRoute]) -> tuple[str, ...]:
    """The addresses of endpoints whose packets would not leave as expected."""
    if not expected:
        return ()
    routes = kernel.lookups([(address, bound_to) for address, bound_to, _, _ in expected])
    return tuple(
        address
        for (address, _, device, gateways), route in zip(expected, routes, strict=True)
        if route is None
        or not route.table
        or route.device != device
        or route.gateway not in gateways
    )
