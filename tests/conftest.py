"""Fixtures: worlds from tests/lab.  See the docstring of tests.lab for how to use them."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.lab import LabError, Namespace, Wan
from tests.turns import turn

STARTED_BY_A_TEST = "PYTEST_CURRENT_TEST" in os.environ
"""Then it is that test's turn; to wait for another one could be to wait for each other."""


@functools.cache
def why_no_lab() -> str:
    """Why no namespace can be made here; empty when one can."""
    if os.geteuid() != 0:
        return "needs root: run as root, or under `unshare -Urnm`"
    try:
        with Namespace("probe") as probe:
            probe.ip("link show lo")
    except (LabError, OSError) as error:
        return f"cannot make network namespaces: {error}"
    return ""


def pytest_configure() -> None:
    """A shell ignores Ctrl-C for what it runs in the background, and so would all that we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says more about the machine's other work than about the code.
    settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--booted", action="store_true", help="with the tests that boot a machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the lab is marked `kernel`, so that `-m 'not kernel'` needs no root."""
    for item in items:
        if {"nodes", "node", "wan", "bare_wan"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kernel)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the test's turn, which does not count for its timeout."""
    if STARTED_BY_A_TEST:
        return (yield)
    with turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the kernel where it cannot be had; in CI that is an error instead."""
    if item.get_closest_marker("kernel") and why_no_lab():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI is set, but the lab {why_no_lab()}", pytrace=False)
        pytest.skip(why_no_lab())


@pytest.fixture
def nodes() -> Iterator[Callable[[str], Namespace]]:
    """A function that makes nodes by name; all of them go after the test."""
    made: list[Namespace] = []

    def make(name: str) -> Namespace:
        made.append(Namespace(name))
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture
def node(nodes: Callable[[str], Namespace]) -> Namespace:
    """One lone machine with nothing but lo."""
    return nodes("node")


@pytest.fixture
def bare_wan() -> Iterator[Wan]:
    """Two uplinks, with carrier, but without addresses and routes at the gateway."""
    with Wan() as world:
        yield world


@pytest.fixture
def wan(bare_wan: Wan) -> Wan:
    """Two uplinks with addresses; main's default is by eth1 metric 1 and by eth2 metric 2."""
    return bare_wan.usual()
