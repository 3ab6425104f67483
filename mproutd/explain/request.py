"""Which flow is asked about.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mproutd.configuration.matches import PROTOCOLS, WITH_PORTS, dscp, mac_address, protocol
from mproutd.configuration.parsers import U32, device, integer, quoted
from mproutd.model import FAMILY_NAMES, Route, Selectors, canonical, family_of


class Request(NamedTuple):
    """A packet, as far as it is known."""

    destination: str
    source: str = ""
    """Empty for one of this host whose source the kernel chooses."""
    protocol: int = 0
    """0: not known, as in the next ones."""
    source_port: int = 0
    destination_port: int = 0
    iif: str = ""
    """The device that it arrives by; empty if it is not known."""
    uid: int | None = None
    """Of the process that sends it."""
    mac: str = ""
    dscp: int = 0
    mark: int = 0

    @property
    def family(self) -> int:
        return family_of(self.destination)

    @property
    def selectors(self) -> Selectors:
        """As ip rules select by them."""
        ports = [(port, port) if port else None for port in self[3:5]]
        uids = None if self.uid is None else (self.uid, self.uid)
        return Selectors(uids, ports[0], ports[1], self.protocol)


class Reply(NamedTuple):
    """What the kernel says about its route."""

    entry: Route | None
    """The matching entry of a table; None without a route."""
    chosen: Route | None
    """The way that the packet takes: one of the entry's, with the source address."""
    error: int = 0
    """The errno of a lookup that failed."""


def _address(text: str) -> str:
    try:
        return canonical(text)
    except (OSError, ValueError):
        raise ValueError(
            f"{quoted(text)} is not an address; resolve a name first, for example with dig"
        ) from None


def _mark(text: str) -> int:
    from mproutd.configuration.parsers import mark

    return mark(text.partition("/")[0])[0]


_PARSERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "destination": ("to", _address),
    "source": ("from", _address),
    "protocol": ("proto", protocol),
    "source_port": ("sport", integer(1, 65535)),
    "destination_port": ("port", integer(1, 65535)),
    "iif": ("iif", device),
    "uid": ("uid", integer(0, U32 - 1)),
    "mac": ("mac", mac_address),
    "dscp": ("dscp", dscp),
    "mark": ("mark", _mark),
}
"""Field → the argument, and its parser."""


def parse_request(given: Mapping[str, str | None]) -> Request:
    """The request from the values of the arguments.  ValueError says what is wrong."""
    values = {}
    for field, (argument, parse) in _PARSERS.items():
        text = given.get(argument)
        if text is not None:
            try:
                values[field] = parse(text)
            except ValueError as error:
                raise ValueError(f"--{argument}: {error}") from None
    if "destination" not in values:
        raise ValueError("name the destination: --to ADDRESS")
    request = Request(**values)
    if request.source and family_of(request.source) != request.family:
        families = f"{FAMILY_NAMES[family_of(request.source)]} and {FAMILY_NAMES[request.family]}"
        raise ValueError(f"--from and --to are {families}: use one family")
    if (request.source_port or request.destination_port) and request.protocol not in WITH_PORTS:
        names = [name for name, number in PROTOCOLS.items() if number in WITH_PORTS]
        raise ValueError(f"ports need a protocol that has them: --proto {', '.join(names)}")
    if request.iif and request.uid is not None:
        raise ValueError("--uid and --user are about this host's own traffic, --iif is not")
    if request.iif and not request.source:
        raise ValueError("--iif needs --from: the host that sends it")
    return request
