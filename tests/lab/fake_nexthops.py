"""The nexthop objects of the fake kernel, with the errno of net/ipv4/nexthop.c."""

from __future__ import annotations

import errno

from mproutd.model import Nexthop, NexthopObject


class FakeNexthops(list[NexthopObject]):
    """All of them, whoever made them."""

    supported = True
    """False: as Linux before 5.3."""
    resilient = True
    """False: as Linux before 5.13."""

    def snapshot(self, ids: range) -> tuple[NexthopObject, ...] | None:
        if not ids:
            return ()
        return tuple(each for each in self if each.id in ids) if self.supported else None

    def get(self, number: int) -> NexthopObject | None:
        return next((each for each in self if each.id == number), None)

    def hops(self, number: int) -> tuple[Nexthop, ...]:
        """What a route by this object has; none when there is no such object."""
        found = self.get(number)
        if found is None:
            return ()
        members = [(self.get(member), weight) for member, weight in found.members]
        return tuple(
            Nexthop(each.gateway, weight, each.onlink, each.device)
            for each, weight in members or [(found, 1)]
            if each is not None
        )

    def change(self, verb: str, value: NexthopObject) -> int:
        found = self.get(value.id)
        if not self.supported:
            return errno.EOPNOTSUPP
        if verb == "delete":
            if found is None:
                return errno.ENOENT
            self._remove(found)
            return 0
        if found is not None and verb == "add":
            return errno.EEXIST
        if value.resilient and not self.resilient:
            return errno.EINVAL
        if not all(self.get(member) for member, _ in value.members):
            return errno.EINVAL
        if found is None:
            self.append(value)
            return 0
        if (bool(found.members), found.resilient) != (bool(value.members), value.resilient):
            return errno.EINVAL
        self[self.index(found)] = value
        return 0

    def flush(self, device: int) -> None:
        """A link is gone or has lost its carrier."""
        for each in [each for each in self if not each.members and each.device == device]:
            self._remove(each)

    def _remove(self, gone: NexthopObject) -> None:
        """It leaves its groups, and a group goes with its last member."""
        self.remove(gone)
        for place, each in reversed(list(enumerate(self))):
            members = tuple(member for member in each.members if member[0] != gone.id)
            if members != each.members:
                if members:
                    self[place] = each._replace(members=members)
                else:
                    del self[place]
