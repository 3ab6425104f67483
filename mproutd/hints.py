"""What hooks tell the daemon: a small file for each device and family, in a watched directory.

A hook knows what the kernel does not, above all the gateway of a lease that dhclient-script could
not put into main (Debian's ignores EEXIST for the second default route).  Hooks run no program of
ours and never block: they write DEVICE:4 (or :6) to a temporary file and rename it.  There is a
file for each family because two hooks at once could not share one without a lock.  DEVICE alone may
name both gateways; the file of a family takes precedence.  A device name contains no colon
(net/core/dev.c, dev_valid_name).

    interface=wan1          the interface, where the hook knows its name
    address=10.2.2.50       the address of the lease
    gateway=10.2.2.1        its router; gateway6 likewise
    dns=10.2.2.53 10.2.2.54 its resolvers, of either family
    reason=BOUND            the hook's event; post-up: from an ifupdown stanza

The directory lies beside the runtime directory, not in it: hooks run as root, and the runtime
directory belongs to the daemon's user, who could put a link to anywhere in its place.

The kernel reports changes of the directory by SIGIO (fcntl(2), F_NOTIFY), for which Python needs
no module beyond its own; inotify(7) would need ctypes.  A kernel without it (CONFIG_DNOTIFY,
OpenWrt) leaves only looking once a second.

Invariants: a hint outlives a restart of the daemon; a hint can do no more than name a gateway and
resolvers for its own device; a directory that other users can write to is ignored.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6

from mproutd.model import canonical, family_of
from mproutd.planning.gateways import Gateway
from mproutd.planning.resolver_sources import Resolver, is_unicast, parse_resolvers
from mproutd.safefile import open_directory

DIRECTORY_SUFFIX = "-hints"
"""The directory is RUNTIME-hints."""
NETIFD_FILE = ".netifd"
"""netifd's hook writes nothing to it, as a sign of a change that netifd knows about."""
FAMILIES = (int(AF_INET), int(AF_INET6))
MAX_HINT_BYTES = 4096
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
CHANGES = fcntl.DN_MULTISHOT | fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MODIFY
"""What hooks do in the directory; not DN_ACCESS, since the daemon reads there."""


def hints_directory(runtime_dir: str) -> str:
    """The directory of the hints that belongs to a runtime directory."""
    return os.path.normpath(runtime_dir) + DIRECTORY_SUFFIX


class Hints:
    """The hints of one runtime directory."""

    def __init__(self, runtime_dir: str) -> None:
        self._directory = hints_directory(runtime_dir)
        self.error = ""
        """Why hints are ignored; empty when they are not."""
        self.resolvers: dict[str, tuple[Resolver, ...]] = {}
        """Device → the resolvers of its hints, as of the last read()."""
        self._last: dict[tuple[str, int], tuple[Gateway, ...]] = {}
        """The result of the last time that they could be read."""

    def read(self, devices: Iterable[str]) -> dict[tuple[str, int], tuple[Gateway, ...]]:
        """(device, family) → the gateway of its hint, for these devices.

        Without a descriptor or memory to read them, they are as they were.
        """
        self.error = ""
        gateways: dict[tuple[str, int], tuple[Gateway, ...]] = {}
        resolvers: dict[str, tuple[Resolver, ...]] = {}
        try:
            directory = open_directory(self._directory)
        except FileNotFoundError:
            self.resolvers = resolvers
            return gateways
        except OSError as error:
            self.error = f"{self._directory} {error.strerror}"
            if error.errno in EXHAUSTED:
                return self._last
            self.resolvers = resolvers
            return gateways
        try:
            names = frozenset(os.listdir(directory))
            for device in devices:
                for name, families in ((device, FAMILIES), *_family_files(device)):
                    if name not in names:
                        continue
                    fields = self._read_hint(directory, name)
                    hinted = _gateways(fields)
                    for family in families:
                        if family in hinted:
                            gateways[device, family] = (hinted[family],)
                    if "dns" in fields:
                        named = parse_resolvers(fields["dns"].split(), _origin(fields))
                        resolvers[device] = resolvers.get(device, ()) + named
        except OSError as error:
            self.error = f"{self._directory} {error.strerror}"
            if error.errno in EXHAUSTED:
                return self._last
        finally:
            os.close(directory)
        self._last, self.resolvers = gateways, resolvers
        return gateways

    def _read_hint(self, directory: int, name: str) -> Mapping[str, str]:
        """The fields of a hint; none of one that is not valid."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=directory)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            return {}
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return {}
            text = os.read(descriptor, MAX_HINT_BYTES + 1).decode("ascii", "replace")
        except OSError:
            return {}
        finally:
            os.close(descriptor)
        if len(text) > MAX_HINT_BYTES:
            path = os.path.join(self._directory, name)
            self.error = f"{path} is larger than {MAX_HINT_BYTES} bytes; remove it"
            return {}
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _family_files(device: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The hints for one family of a device."""
    return (f"{device}:4", FAMILIES[:1]), (f"{device}:6", FAMILIES[1:])


def _origin(fields: Mapping[str, str]) -> str:
    return "ifupdown" if fields.get("reason") == "post-up" else "lease"


def _gateways(fields: Mapping[str, str]) -> Mapping[int, Gateway]:
    """Family → gateway, with its origin; without what is not valid."""
    gateways = {}
    for key, family in (("gateway", AF_INET), ("gateway6", AF_INET6)):
        try:
            address = canonical(fields.get(key, ""))
        except (OSError, ValueError):
            continue
        if family_of(address) == family and is_unicast(address):
            gateways[int(family)] = Gateway(address, _origin(fields))
    return gateways


class HintsWatch:
    """Asks the kernel for a SIGIO whenever hooks change something in the directory."""

    def __init__(self, runtime_dir: str) -> None:
        self._path = hints_directory(runtime_dir)
        self._descriptor: int | None = None
        self.supported = True
        """Whether the kernel reports changes; else has_changed() has to be called now and then."""
        try:
            # Only root can make it where the hooks look; for others the unit makes it.
            os.mkdir(self._path, 0o755)
        except OSError:
            pass
        self._observed: object = None
        self.has_changed()

    def renew(self) -> None:
        """Watch the directory that is there now.  Call it now and then: it may have been made, or
        removed and made again, since the last call.

        SIGIO has to have a handler, since it ends the process by default.
        """
        try:
            status = os.lstat(self._path)
            if self._descriptor is not None:
                if os.path.samestat(status, os.fstat(self._descriptor)):
                    return
                self.close()
            self._descriptor = open_directory(self._path)
            fcntl.fcntl(self._descriptor, fcntl.F_NOTIFY, CHANGES)
        except OSError as error:
            # EINVAL: without CONFIG_DNOTIFY (fs/fcntl.c).  Other errors: no directory yet.
            self.supported = self._descriptor is None or error.errno != errno.EINVAL
            self.close()

    def has_changed(self) -> bool:
        """Whether the directory or netifd's sign in it differ from the last call."""
        observed = self._observed
        self._observed = [_changed_at(self._path), _changed_at(f"{self._path}/{NETIFD_FILE}")]
        return observed != self._observed

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _changed_at(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0
