"""Who is served on the control socket, who waits, and who is turned away.  Pure.

Every connection is accepted at once, so that the kernel's queue, which knows no users, never fills.
Root has places of its own; the members of the group share the others, and none gets more than
MAX_USER_CLIENTS of them.  Whoever finds no place waits for one, within the same kind of limits.

Invariants: no number of other users' connections keeps root waiting; no number of one user's
connections keeps another user waiting, unless there are more than MAX_CLIENTS / MAX_USER_CLIENTS
such users.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

ROOT = 0
MAX_CLIENTS, MAX_USER_CLIENTS = 32, 8
"""At once: for root, and again for all others; for one of the others."""
MAX_WAITING, MAX_USER_WAITING = 256, 64
"""The same for those who wait."""
MAX_LISTENERS, MAX_USER_LISTENERS = 8, 4
"""The same for listeners, which stay connected and must leave room for requests."""


class Connected(Protocol):
    """A connection, as far as this module looks at it."""

    user: int


C = TypeVar("C", bound=Connected)


def has_room(user: int, others: Iterable[Connected], most: int, most_of_user: int) -> bool:
    """Whether there is a place for one more of this user's beside `others`."""
    alike = [other.user for other in others if (other.user == ROOT) == (user == ROOT)]
    return len(alike) < most and (user == ROOT or alike.count(user) < most_of_user)


class Admission(Generic[C]):
    """The connections, in the order in which they came."""

    def __init__(self) -> None:
        self.served: list[C] = []
        self.waiting: list[C] = []

    def admit(self, client: C) -> bool:
        """Give it a place, or let it wait for one; False when it has to be turned away."""
        if self._has_place(client):
            self.served.append(client)
        elif has_room(client.user, self.waiting, MAX_WAITING, MAX_USER_WAITING):
            self.waiting.append(client)
        else:
            return False
        return True

    def leave(self, client: C) -> C | None:
        """Forget one that was served; the one that gets its place, if any waits for it."""
        self.served.remove(client)
        for waiting in self.waiting:
            if self._has_place(waiting):
                self.waiting.remove(waiting)
                self.served.append(waiting)
                return waiting
        return None

    def crowded_users(self) -> set[int]:
        """The users whose places others wait for."""
        crowded: set[int] = set()
        if not self.waiting:
            return crowded
        waiting = {client.user for client in self.waiting}
        users = [client.user for client in self.served]
        for user in set(users):
            rivals = (rival for rival in waiting if (rival == ROOT) == (user == ROOT))
            if any(
                rival in (ROOT, user) or users.count(rival) < MAX_USER_CLIENTS for rival in rivals
            ):
                crowded.add(user)
        return crowded

    def _has_place(self, client: C) -> bool:
        return has_room(client.user, self.served, MAX_CLIENTS, MAX_USER_CLIENTS)
