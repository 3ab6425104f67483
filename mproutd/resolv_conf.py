"""resolv.conf in the runtime directory: the resolvers of the usable uplinks, for dnsmasq.

It is written beside and renamed, so that a reader always finds a whole file, and every user can
read it: resolv.conf(5) is no secret, and dnsmasq is not root.  Without a usable uplink that names
a resolver it stays as it is, since an old resolver is better than none.

Invariants: the file is written only when it differs; nothing is read or written through a link.
"""

from __future__ import annotations

import os

from mproutd.planning.plan import Plan
from mproutd.planning.resolvers import HEADER, in_use, resolv_conf
from mproutd.safefile import read_file, replace_file, unlink_if_present

NAME = "resolv.conf"
MAX_BYTES = 1 << 20


def wanted_text(plan: Plan) -> str:
    """What the file should hold; empty to leave it as it is."""
    resolvers = in_use(plan.resolvers, plan.uplinks)
    return resolv_conf(resolvers) if resolvers else ""


def write(runtime_dir: str, text: str) -> bool:
    """Write the file if it differs; return whether it did.  OSError."""
    path = os.path.join(runtime_dir, NAME)
    data = text.encode()
    try:
        if read_file(path, MAX_BYTES) == data:
            return False
    except OSError:
        pass  # not there yet, or somebody else's: a new file takes its place
    replace_file(path, data, mode=0o644)
    return True


def remove(runtime_dir: str) -> None:
    """Remove our file, not one that somebody else has put there.  OSError."""
    path = os.path.join(runtime_dir, NAME)
    try:
        if not read_file(path, MAX_BYTES).startswith(HEADER.encode()):
            return
    except OSError:
        return
    unlink_if_present(path)


def update(runtime_dir: str, enabled: bool, plan: Plan) -> None:
    """What a daemon does after each pass.  OSError."""
    text = wanted_text(plan)
    if not enabled:
        remove(runtime_dir)
    elif text:
        write(runtime_dir, text)
