"""Every operation of every kind of change, failing with every errno that the kernel may give.

On the fake kernel, since a healthy one refuses little on demand.  Invariants: what was
refused is all that is missing, the next pass that is let through ends where nothing had failed,
and no pass ends in an exception.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

import pytest

from mproutd.configuration.config import Config
from mproutd.model import Operation
from mproutd.planning.plan import Outcome
from tests.lab.fake_world import World, interface, run_pass, uci

ERRORS = (
    "EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST ENODEV"
    " EINVAL ENOSPC EROFS ERANGE EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN"
    " ENETUNREACH ENOBUFS EHOSTUNREACH EPROTO EMSGSIZE EMFILE"
).split()
ALREADY_DELETED = {"ENOENT", "ESRCH", "ENODEV"}
"""What a delete meets that others were quicker with; of endpoints it is EINVAL."""

WAN1, WAN2 = interface("wan1", "eth1", "master"), interface("wan2", "eth2", "on")
TWO = uci(WAN1 + WAN2)
BACKUP = uci(WAN1 + interface("wan2", "eth2", "backup"))


class Refusing(World):
    """A kernel that refuses the change at one place, whenever it comes."""

    refused: Operation | None = None
    number = 0

    def _refusal(self, operation: Operation) -> int:
        return self.number if operation == self.refused else 0


def two_lines() -> Refusing:
    world = Refusing()
    for n in (1, 2):
        world.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        world.device(f"eth{n}", f"2001:db8:{n}::2/64", gateway6=f"fe80::{n}")
        world.set(f"eth{n}", rp_filter=1)
    return world


def a_pass(world: World, config: Config) -> Outcome:
    return run_pass(world, config)


def settle(world: World, config: Config) -> Outcome:
    for _ in range(8):
        outcome = a_pass(world, config)
        if not outcome.done and not outcome.failures and not outcome.run_again:
            return outcome
    raise AssertionError(f"it does not settle: {outcome.failures}")


class Change(NamedTuple):
    """From one state to another."""

    before: Config
    happens: Callable[[World], None]
    after: Config


def _nothing(world: World) -> None:
    pass


def _another_gateway(world: World) -> None:
    world.forget_default("eth2")
    world.default("eth2", "10.2.2.99")


def _another_address(world: World) -> None:
    world.delete_address("eth2", "10.2.2.2")
    world.add_address("eth2", "10.2.2.3/24")
    world.default("eth2", "10.2.2.1")


CHANGES = {
    "coming up": Change(uci(""), _nothing, TWO),
    "taken back": Change(TWO, _nothing, uci(WAN1, enabled=False)),
    "one uplink less": Change(TWO, _nothing, uci(WAN1)),
    "on becomes backup": Change(TWO, _nothing, BACKUP),
    "another gateway": Change(TWO, _another_gateway, TWO),
    "another address": Change(TWO, _another_address, TWO),
    "elsewhere": Change(
        TWO,
        _nothing,
        uci(WAN1 + WAN2, "config mproutd 'globals'\n option table_base '9000'\n"),
    ),
}


def at_start(change: Change) -> Refusing:
    world = two_lines()
    settle(world, change.before)
    change.happens(world)
    world.done.clear()
    return world


@pytest.mark.parametrize("name", CHANGES)
def test_each_operation_fails_with_each_errno(name: str) -> None:
    change = CHANGES[name]
    world = at_start(change)
    settle(world, change.after)
    expected, operations = world.state(), list(world.done)
    assert operations
    for operation in operations:
        for error in ERRORS:
            world = at_start(change)
            world.refused, world.number = operation, getattr(errno, error)
            failures = a_pass(world, change.after).failures
            note = f"{name}: {operation} refused with {error}"
            kind = type(operation.value).__name__
            accepted = ALREADY_DELETED | ({"EINVAL"} if kind == "Endpoint" else set())
            vanished = kind == "Sysctl" and error in ("ENOENT", "ENODEV")
            if vanished or (operation.verb == "delete" and error in accepted):
                assert not failures, note
            else:
                assert {failure.operation for failure in failures} == {operation}, note
            world.refused = None
            settle(world, change.after)
            assert world.state() == expected, note


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_need_it_is_done_all_the_same(name: str) -> None:
    """An uplink with a failed operation delays no other."""
    change = CHANGES[name]
    world = at_start(change)
    settle(world, change.after)
    operations = list(world.done)
    for operation in operations:
        world = at_start(change)
        world.refused, world.number = operation, errno.EPERM
        a_pass(world, change.after)
        a_pass(world, change.after)
        others = {other for other in operations if other.uplink not in ("", operation.uplink)}
        if operation.uplink:
            assert others <= set(world.done), f"{name}: {operation}"
