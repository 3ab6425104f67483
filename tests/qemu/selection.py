"""Which tests run on every kernel."""

from __future__ import annotations

CHOSEN = (
    "tests/kernel/test_mptcp.py",
    "tests/kernel/test_events.py",
    "tests/kernel/test_endpoint_cap.py",
    "tests/kernel/test_modes.py",
    "tests/kernel/test_roles.py",
    "tests/kernel/test_connections.py",
    "tests/kernel/test_connection_survival.py",
    "tests/kernel/test_plain_tcp.py",
    "tests/kernel/test_restart.py",
    "tests/kernel/test_pathtest.py",
    "tests/kernel/test_unsupported.py::test_without_mptcp_diag",
    "tests/worlds",
)
"""Events, endpoints and their limits, modes, roles, handover, connections and how they survive,
path test, and the worlds, revival among them."""

SMOKE = (
    "tests/kernel/test_mptcp.py",
    "tests/kernel/test_events.py::test_the_endpoint_goes_with_the_carrier_and_the_routes_stay",
    "tests/kernel/test_endpoint_cap.py::test_limits_are_raised_to_what_is_needed_and_put_back",
    "tests/worlds/test_revival.py::test_a_subflow_that_was_refused_joins_again",
    "tests/kernel/test_unsupported.py::test_without_mptcp_diag",
)
"""A few seconds each, and each of another part that depends on the kernel."""

ALL = ("-m", "kernel and not booted")

CHAOS_ROUNDS = 100

PYTEST = (
    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "tests.qemu.outcomes"),
    *("--timeout", "900", "--quiet", "--tb", "short"),
)
"""In the order of the files, so that two runs compare, with a time limit for a slow machine."""
