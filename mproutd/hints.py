"""What hooks leave for us: a small file for a device and family, and a byte in a FIFO.

A hook knows what the kernel does not, above all the gateway of a lease that dhclient-script
could not put into main (Debian's meets EEXIST for the second default route and hides it).
It starts no program of ours and never waits: it writes RUNTIME/hints/DEVICE:4 (or :6) beside
and renames it, and wakes the daemon through RUNTIME/wake.  A file for each family, since two
hooks at once could not share one without a lock.  RUNTIME/hints/DEVICE alone may name both; what
the file of a family names goes before it.  No device has a colon in its name (net/core/dev.c,
dev_valid_name).

    interface=wan1          whose event it was, where the hook knows a name
    address=10.2.2.50       what the lease gave
    gateway=10.2.2.1        its router; gateway6 likewise
    reason=BOUND            what happened, in the hook's words; post-up: ifupdown's stanza says it

What must hold: a hint outlives a restart of the daemon; whatever stands in it can do no more
than name a gateway for its own device; a folder that others may write is not believed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from socket import AF_INET, AF_INET6

from mproutd.model import canonical, family_of
from mproutd.planning.gateways import Gateway
from mproutd.safefile import why_untrusted

HINTS_DIRECTORY, WAKE_FIFO = "hints", "wake"
FAMILIES = (int(AF_INET), int(AF_INET6))
MAX_HINT_BYTES = 4096
"""Bytes of a hint that are read."""


class Hints:
    """The hints of one runtime directory."""

    def __init__(self, runtime: str) -> None:
        self._directory = os.path.join(runtime, HINTS_DIRECTORY)
        self.problem = ""
        """Why hints are not believed; empty when all is well."""

    def read(self, devices: Iterable[str]) -> dict[tuple[str, int], tuple[Gateway, ...]]:
        """(device, family) → the gateway that a hint names.  Reads the named devices' only."""
        why = why_untrusted(self._directory)
        self.problem = f"{self._directory} {why}" if why else ""
        gateways: dict[tuple[str, int], tuple[Gateway, ...]] = {}
        if self.problem:
            return gateways
        try:
            there = frozenset(os.listdir(self._directory))
        except OSError:
            return gateways
        for device in devices:
            for name, families in ((device, FAMILIES), *_own(device)):
                if name in there:
                    found = _hint(os.path.join(self._directory, name))
                    for family in families:
                        if family in found:
                            gateways[device, family] = (found[family],)
        return gateways


def _own(device: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The files that speak of one family of a device only."""
    return (f"{device}:4", FAMILIES[:1]), (f"{device}:6", FAMILIES[1:])


def _hint(path: str) -> Mapping[int, Gateway]:
    """Family → gateway and who has it, a stanza or a lease; nothing for what makes no sense."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return {}
        text = os.read(descriptor, MAX_HINT_BYTES).decode("ascii", "replace")
    except OSError:
        return {}
    finally:
        os.close(descriptor)
    told = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    origin = "ifupdown" if told.get("reason") == "post-up" else "lease"
    found = {}
    for key, family in (("gateway", AF_INET), ("gateway6", AF_INET6)):
        try:
            gateway = canonical(told.get(key, ""))
        except (OSError, ValueError):
            continue
        if family_of(gateway) == family and _is_host(gateway):
            found[int(family)] = Gateway(gateway, origin)
    return found


def _is_host(address: str) -> bool:
    """Neither unspecified, loopback nor multicast, nor above: nothing of these is a gateway."""
    if ":" in address:
        return address not in ("::", "::1") and not address.startswith("ff")
    first = int(address.partition(".")[0])
    return 0 < first < 224 and first != 127


class WakeFifo:
    """The FIFO through which a hook wakes the loop."""

    def __init__(self, runtime: str) -> None:
        """OSError when it cannot be made.  Open at both ends, so it never says it ended."""
        path = os.path.join(runtime, WAKE_FIFO)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path, 0o600)
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.makedirs(os.path.join(runtime, HINTS_DIRECTORY), mode=0o755, exist_ok=True)

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        """Take whatever hooks have written."""
        try:
            while os.read(self._descriptor, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._descriptor)
