"""Which uplink an interface of network is: interfaces on one device are one uplink.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mproutd.configuration.parsers import quoted
from mproutd.configuration.resolve import LOOPBACK, Resolver
from mproutd.configuration.sections import Section
from mproutd.importers.draft import Draft, DraftSection

_VIRTUAL = ("_6", "_4")
"""netifd names the IPv6 half of `wan` wan_6 where the protocol brings both families."""


class Interfaces:
    """The interfaces of network, and the uplinks that they become."""

    def __init__(self, network: Sequence[Section], wanted: Iterable[str]) -> None:
        """`wanted`: those that will be uplinks; ones with `multipath` in network already are."""
        sections = {s.name: s for s in network if s.type == "interface" and s.name}
        self._known = sections.keys()
        self._modes = {
            name: section.options["multipath"].values[-1]
            for name, section in sections.items()
            if "multipath" in section.options
        }
        groups = Resolver(network, ()).interfaces_by_device()
        self._device = {name: device for device, names in groups.items() for name in names}
        managed = {self._own_name(name) for name in wanted} | self._modes.keys()
        self._uplinks: dict[str, str] = {}
        for device, names in groups.items():
            first = next((name for name in names if name in managed), "")
            if first and device != LOOPBACK:
                self._uplinks |= dict.fromkeys(names, first)

    @property
    def uplinks(self) -> set[str]:
        """The names of all uplinks."""
        return {*self._uplinks.values()}

    def _own_name(self, name: str) -> str:
        """The section of network: `wan` for wan_6."""
        shorter = name[:-2]
        virtual = name not in self._known and name.endswith(_VIRTUAL) and shorter in self._known
        return shorter if virtual else name

    def uplink(self, name: str) -> str:
        """The uplink's name; "" where there is none, see problem()."""
        return self._uplinks.get(self._own_name(name), "")

    def problem(self, name: str) -> str:
        """Why an interface cannot be an uplink."""
        own = self._own_name(name)
        if own not in self._known:
            return f"network has no interface {quoted(name)}"
        if own not in self._device:
            return f"interface {quoted(own)} is disabled in network, or has no device there"
        return f"interface {quoted(own)} is the loopback device, or not an uplink"

    def has_mode(self, uplink: str) -> bool:
        """Whether network has its mode already."""
        return any(self._uplinks.get(name) == uplink for name in self._modes)

    def draft(self, draft: Draft, name: str, mode: str) -> DraftSection | None:
        """The section of the interface's uplink, added with this mode where it has none."""
        uplink = self.uplink(name)
        if not uplink:
            return None
        section = draft.find("uplink", uplink)
        if section is None:
            section = draft.add("uplink", uplink)
            if not self.has_mode(uplink):
                section.set("multipath", mode)
        return section
