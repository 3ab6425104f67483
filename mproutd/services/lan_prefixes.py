"""Deprecates the LAN's addresses from an uplink's prefix and puts them back, also for commands.

The record of what was done lies in the runtime directory, so that a later process recognizes it.
Lifetimes are counted by the clock that the kernel uses, which starts with the boot; so does the
runtime directory.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd.configuration.config import Config
from mproutd.lan_address import LanAddress
from mproutd.model import Operation
from mproutd.netlink.lifetimes import change_lifetimes, read_addresses
from mproutd.planning.plan import Plan
from mproutd.planning.prefixes import (
    Changes,
    Record,
    decode,
    encode,
    known_prefixes,
    plan_changes,
)
from mproutd.planning.uplinks import ObservedUplink
from mproutd.safefile import read_file, replace_file, unlink_if_present
from mproutd.status.prefixes import add_deprecated, deprecated_addresses

if TYPE_CHECKING:
    from mproutd.status.types import Status

RECORD_FILE = "prefixes.json"
_MAX_BYTES = 1 << 20


class RecordFile:
    """The record, kept in RUNTIME/prefixes.json."""

    def __init__(self, runtime_dir: str) -> None:
        self._path = os.path.join(runtime_dir, RECORD_FILE)
        self.error = ""
        """Why the file could not be read or written; empty when it could."""
        self.record = Record()
        try:
            self.record = decode(json.loads(read_file(self._path, _MAX_BYTES)))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)[:200]
            self.error = f"{self._path}: {reason}; addresses that are deprecated now stay so"

    def save(self, record: Record) -> None:
        """Keep the record, and write it to the file if it is new.  OSError."""
        if record == self.record and not self.error:
            return
        try:
            if record.addresses or record.prefixes:
                replace_file(self._path, json.dumps(encode(record)).encode())
            else:
                unlink_if_present(self._path)
        except OSError as error:
            raise OSError(error.errno, f"{self._path}: {error.strerror}") from None
        self.record, self.error = record, ""


def wants_deprecation(config: Config) -> bool:
    """Whether the configuration asks for it."""
    return config.enabled and config.deprecate_prefixes and bool(config.uplinks)


def pending_changes(
    config: Config, uplinks: Sequence[ObservedUplink], record: Record
) -> tuple[Changes, list[LanAddress]]:
    """(what has to be done, the addresses as they are).  OSError."""
    addresses = read_addresses()
    enabled = wants_deprecation(config)
    return plan_changes(uplinks, addresses, record, time.monotonic(), enabled), addresses


def apply(file: RecordFile, changes: Changes, permitted: Sequence[Operation]) -> list[str]:
    """Do those of the changes that are permitted; the error of each, empty for success.  OSError.

    The record is written first, and again once something needs no record any more.
    """
    file.save(changes.record)
    errors = [""] * len(permitted)
    if permitted:
        targets = [operation.value for operation in permitted]
        outcomes = change_lifetimes([value for value in targets if isinstance(value, LanAddress)])
        errors = [error.strerror or str(error) if error else "" for error in outcomes]
    if len(permitted) == len(changes.operations) and not any(errors):
        file.save(changes.after)
    return errors


def change_now(
    runtime_dir: str, config: Config, plan: Plan, *, dry_run: bool = False
) -> list[tuple[Operation, str]]:
    """What a daemon would do, done at once: each change, and the kernel's error."""
    file = RecordFile(runtime_dir)
    record = file.record
    if not record.addresses and not wants_deprecation(config):
        if not dry_run and record.prefixes:
            file.save(Record())
        return []
    if not record.addresses and not any(map(known_prefixes, plan.uplinks)):
        return []
    changes, _ = pending_changes(config, plan.uplinks, record)
    operations = [operation for _, operation in changes.operations]
    if dry_run:
        return [(operation, "") for operation in operations]
    try:
        return list(zip(operations, apply(file, changes, operations), strict=True))
    except OSError as error:
        return [(operation, error.strerror or str(error)) for operation in operations]


def add_to_own_status(status: Status, runtime_dir: str, plan: Plan) -> None:
    """The same fields as the service's, as this process sees them."""
    record = RecordFile(runtime_dir).record
    if record.addresses or any(map(known_prefixes, plan.uplinks)):
        addresses = read_addresses() if record.addresses else []
        add_deprecated(status, deprecated_addresses(record, addresses))
