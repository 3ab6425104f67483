"""What hooks tell the daemon: a small file for each device and family, and a byte in a FIFO.

A hook knows what the kernel does not, above all the gateway of a lease that dhclient-script could
not put into main (Debian's ignores EEXIST for the second default route).  Hooks run no program of
ours and never block: they write RUNTIME/hints/DEVICE:4 (or :6) to a temporary file, rename it, and
write to the FIFO RUNTIME/wake.  There is a file for each family because two hooks at once could not
share one without a lock.  RUNTIME/hints/DEVICE alone may name both gateways; the file of a family
takes precedence.  A device name contains no colon (net/core/dev.c, dev_valid_name).

    interface=wan1          the interface, where the hook knows its name
    address=10.2.2.50       the address of the lease
    gateway=10.2.2.1        its router; gateway6 likewise
    reason=BOUND            the hook's event; post-up: from an ifupdown stanza

Invariants: a hint outlives a restart of the daemon; a hint can do no more than name a gateway for
its own device; a directory that other users can write to is ignored.
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


class Hints:
    """The hints of one runtime directory."""

    def __init__(self, runtime_dir: str) -> None:
        self._directory = os.path.join(runtime_dir, HINTS_DIRECTORY)
        self.error = ""
        """Why hints are ignored; empty when they are not."""

    def read(self, devices: Iterable[str]) -> dict[tuple[str, int], tuple[Gateway, ...]]:
        """(device, family) → the gateway of its hint, for these devices."""
        fault = why_untrusted(self._directory)
        self.error = f"{self._directory} {fault}" if fault else ""
        gateways: dict[tuple[str, int], tuple[Gateway, ...]] = {}
        if self.error:
            return gateways
        try:
            names = frozenset(os.listdir(self._directory))
        except OSError:
            return gateways
        for device in devices:
            for name, families in ((device, FAMILIES), *_family_files(device)):
                if name in names:
                    hinted = _read_hint(os.path.join(self._directory, name))
                    for family in families:
                        if family in hinted:
                            gateways[device, family] = (hinted[family],)
        return gateways


def _family_files(device: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The hints for one family of a device."""
    return (f"{device}:4", FAMILIES[:1]), (f"{device}:6", FAMILIES[1:])


def _read_hint(path: str) -> Mapping[int, Gateway]:
    """Family → gateway, with its origin; without what is not valid."""
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
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    origin = "ifupdown" if fields.get("reason") == "post-up" else "lease"
    gateways = {}
    for key, family in (("gateway", AF_INET), ("gateway6", AF_INET6)):
        try:
            address = canonical(fields.get(key, ""))
        except (OSError, ValueError):
            continue
        if family_of(address) == family and _is_host(address):
            gateways[int(family)] = Gateway(address, origin)
    return gateways


def _is_host(address: str) -> bool:
    """Whether it can be a gateway: not unspecified, loopback, multicast or reserved."""
    if ":" in address:
        return address not in ("::", "::1") and not address.startswith("ff")
    first = int(address.partition(".")[0])
    return 0 < first < 224 and first != 127


class WakeFifo:
    """The FIFO through which hooks wake the loop."""

    def __init__(self, runtime_dir: str) -> None:
        """OSError when it cannot be made."""
        path = os.path.join(runtime_dir, WAKE_FIFO)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.mkfifo(path, 0o600)
        # Also open for writing, so that it never reads as ended (fifo(7)).
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.makedirs(os.path.join(runtime_dir, HINTS_DIRECTORY), mode=0o755, exist_ok=True)

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        """Read and ignore what hooks have written."""
        try:
            while os.read(self._descriptor, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._descriptor)
