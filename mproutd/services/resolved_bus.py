"""Sets `default-route` of links in systemd-resolved, over D-Bus; also for commands.

The record of what was set lies in the runtime directory, so that a later process can undo it.  A
link that systemd-networkd manages has to be set there; systemd-resolved follows.  All of this
blocks, for a few seconds at most.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mproutd.environment import RESOLVED_DIRECTORY
from mproutd.planning.plan import Plan
from mproutd.planning.resolved import (
    Change,
    Links,
    LinkState,
    Record,
    decode,
    encode,
    plan_changes,
    plan_links,
)
from mproutd.safefile import read_file, replace_file, unlink_if_present

RECORD_FILE = "resolved.json"
SOCKET = "/run/dbus/system_bus_socket"
TIMEOUT = 5.0
"""Seconds until a call is given up."""
_MAX_BYTES = 1 << 16
_RESOLVED, _NETWORKD = "org.freedesktop.resolve1", "org.freedesktop.network1"
_NO_LINK, _MANAGED = f"{_RESOLVED}.NoSuchLink", f"{_RESOLVED}.LinkBusy"
_NOT_RUNNING = (
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
)
_DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)


class NotRunningError(OSError):
    """systemd-resolved does not run."""


class Bus(Protocol):
    """systemd-resolved."""

    def state(self, index: int) -> LinkState | None:
        """None for a link that it does not know.  OSError."""

    def set_default_route(self, index: int, value: bool) -> None:
        """OSError."""

    def close(self) -> None: ...


class SystemBus:
    """The system bus.  OSError when it cannot be reached."""

    def __init__(self) -> None:
        if not os.path.exists(SOCKET):
            raise OSError(f"there is no D-Bus ({SOCKET})")
        try:
            from jeepney import DBusErrorResponse
            from jeepney.io.blocking import open_dbus_connection
        except ImportError:
            raise OSError("the Python package jeepney is not installed") from None
        try:
            self._connection = open_dbus_connection(bus=f"unix:path={SOCKET}")
        except (ValueError, DBusErrorResponse) as error:  # ValueError: authentication
            raise OSError(f"D-Bus: {error}") from None

    def state(self, index: int) -> LinkState | None:
        error, body = self._call(_RESOLVED, "resolve1", "Manager", "GetLink", "i", index)
        if error == _NO_LINK:
            return None
        _raise(error, body)
        (path,) = body
        error, body = self._send(
            path, _RESOLVED, "org.freedesktop.DBus.Properties", "GetAll", "s", f"{_RESOLVED}.Link"
        )
        _raise(error, body)
        properties = {name: value for name, (_, value) in body[0].items()}
        return LinkState(bool(properties.get("DefaultRoute")), bool(properties.get("DNS")))

    def set_default_route(self, index: int, value: bool) -> None:
        method = "SetLinkDefaultRoute"
        error, body = self._call(_RESOLVED, "resolve1", "Manager", method, "ib", index, value)
        if error == _MANAGED:
            error, body = self._call(_NETWORKD, "network1", "Manager", method, "ib", index, value)
        _raise(error, body)

    def _call(
        self, name: str, path: str, interface: str, method: str, signature: str, *arguments: Any
    ) -> tuple[str, Any]:
        path = f"/org/freedesktop/{path}"
        return self._send(path, name, f"{name}.{interface}", method, signature, *arguments)

    def _send(
        self, path: str, name: str, interface: str, method: str, signature: str, *arguments: Any
    ) -> tuple[str, Any]:
        """(the name of the error or "", what the reply contains)."""
        from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_method_call

        message = new_method_call(DBusAddress(path, name, interface), method, signature, arguments)
        message.header.flags |= MessageFlag.no_auto_start
        reply = self._connection.send_and_get_reply(message, timeout=TIMEOUT)
        if reply.header.message_type == MessageType.error:
            return reply.header.fields[HeaderFields.error_name], reply.body
        return "", reply.body

    def close(self) -> None:
        self._connection.close()


def _raise(error: str, body: Any) -> None:
    """OSError for an error."""
    if error in _NOT_RUNNING:
        raise NotRunningError("systemd-resolved does not run")
    if error in _DENIED:
        raise OSError("permission denied by polkit")
    if error:
        raise OSError(" ".join(map(str, body[:1])) or error)


class RecordFile:
    """The record, kept in RUNTIME/resolved.json."""

    def __init__(self, runtime_dir: str) -> None:
        self._path = os.path.join(runtime_dir, RECORD_FILE)
        self.record: Record = {}
        self.unconfirmed: set[int] = set()
        """ifindexes on record whose call had no reply: they may have been set, or still be."""
        try:
            self.record = decode(json.loads(read_file(self._path, _MAX_BYTES)))
        except (OSError, ValueError, RecursionError):
            pass  # none, or none that can be trusted: then nothing is ours

    def save(self, record: Record) -> None:
        """OSError."""
        if record == self.record:
            return
        try:
            if record:
                replace_file(self._path, json.dumps(encode(record)).encode())
            else:
                unlink_if_present(self._path)
        except OSError as error:
            raise OSError(error.errno, f"{self._path}: {error.strerror}") from None
        self.record = record


class Result(NamedTuple):
    """What became of the changes."""

    done: tuple[Change, ...] = ()
    failed: Mapping[Change, str] = {}
    """With the error."""


def apply(links: Links, file: RecordFile, bus: Bus) -> Result:
    """Set what has to be set, and record it before.  OSError."""
    indexes = {*links.silent, *links.carrying, *file.record}
    try:
        states = {index: state for index in indexes if (state := bus.state(index)) is not None}
    except NotRunningError:
        if file.record:
            raise
        return Result()
    unset = {index for index in file.unconfirmed & states.keys() if states[index].default_route}
    record = {index: name for index, name in file.record.items() if index not in unset}
    file.unconfirmed.clear()
    changes, record = plan_changes(links, states, record)
    file.save(record)
    done, failed = [], {}
    for change in changes:
        before = file.record
        file.save({**before, change.index: change.device})
        try:
            bus.set_default_route(change.index, change.default_route)
        except OSError as error:
            failed[change] = error_text(error)
            if isinstance(error, TimeoutError):
                file.unconfirmed.add(change.index)
            else:
                file.save(before)
        else:
            done.append(change)
            if change.default_route:
                file.save({i: name for i, name in before.items() if i != change.index})
    return Result(tuple(done), failed)


def error_text(error: OSError | ValueError) -> str:
    """What to print about it."""
    return getattr(error, "strerror", "") or str(error) or "no reply"


def command(device: str, value: bool) -> str:
    """What an administrator types for the same."""
    return f"resolvectl default-route {device} {'yes' if value else 'no'}"


def update(runtime_dir: str, enabled: bool, plan: Plan) -> list[str]:
    """What a daemon does after a pass, done at once; what failed."""
    file, links = RecordFile(runtime_dir), plan_links(plan.uplinks, enabled)
    if not file.record and (not links.silent or not os.path.isdir(RESOLVED_DIRECTORY)):
        return []
    try:
        bus = SystemBus()
        try:
            failed = apply(links, file, bus).failed
        finally:
            bus.close()
    except (OSError, ValueError) as error:
        undo = [Change(index, name, True) for index, name in file.record.items()]
        failed = dict.fromkeys(undo, error_text(error))
    return [
        f"systemd-resolved: {error}; by hand: {command(change.device, change.default_route)}"
        for change, error in failed.items()
    ]
