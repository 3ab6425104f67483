"""An uplink's resolvers, for people.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mproutd.status.render import ORIGINS

if TYPE_CHECKING:
    from mproutd.status.resolver_types import ResolverStatus

_NO_RULE = {
    "unusable": "not asked while the uplink is not usable",
    "link-local": "link-local, needs no rule",
    "local": "in a local network, needs no rule",
}


def resolver_line(resolver: ResolverStatus) -> str:
    """`resolver 10.1.1.53 (lease)`, and why it has no rule."""
    note = _NO_RULE.get(resolver["no_rule"] or "", "")
    if resolver["no_rule"] == "shared":
        note = f"no rule, since {' and '.join(resolver['shared_with'])} names it too"
    origin = ORIGINS.get(resolver["origin"], resolver["origin"])
    return f"resolver {resolver['address']} ({origin})" + (f": {note}" if note else "")
