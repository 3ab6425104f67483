"""What the running kernel does with devices, found by trying it in a namespace of its own."""

from __future__ import annotations

import functools

import pytest

from tests.lab.namespace import LabError, Namespace


@functools.cache
def renames_while_up() -> bool:
    """Whether a device can be renamed while it is up (not on Linux 6.1)."""
    with Namespace("tried") as node:
        try:
            node.ip("link add eth1 up type veth peer name far1", "link set eth1 name eth2")
        except LabError:
            return False
    return True


def needs_renames_while_up() -> None:
    """Skip the test where the kernel refuses that."""
    if not renames_while_up():
        pytest.skip("this kernel renames no device that is up")
