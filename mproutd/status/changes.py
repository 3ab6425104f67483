"""What passes changed, and what they decided, for reports and the log.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import strerror
from typing import TYPE_CHECKING, NamedTuple

from mproutd.configuration.config import Config
from mproutd.iproute2 import device_names, ip_command
from mproutd.model import FAMILIES, FAMILY_NAMES, NftTable, Operation
from mproutd.planning.gateways import Gateway
from mproutd.planning.plan import Outcome, Plan
from mproutd.planning.uplinks import REASONS, ObservedUplink, Path
from mproutd.status.render_traffic import share_list

if TYPE_CHECKING:
    from mproutd.planning.inspection import Preview
    from mproutd.status.change_types import Change

MAX_STATUS_LENGTH = 1000
"""Characters of status_line(): a service manager accepts datagrams of 4096 bytes."""
_ORIGINS = {"configuration": "configured", "remembered": "last known"}
"""How a gateway's origin is printed, where not as it is."""


# -- changes of the kernel ----------------------------------------------------------------


def changes(outcomes: Iterable[Outcome]) -> list[Change]:
    """Every change that was made or failed, in order."""
    made = []
    for outcome in outcomes:
        name = device_names(outcome.snapshot.links)
        for operation in outcome.done:
            made.append(_change(operation, ip_command(operation, name)))
        for failure in outcome.failures:
            error = strerror(failure.errno)
            if failure.text != error:
                error = f"{failure.text} ({error})"
            made.append(_change(failure.operation, ip_command(failure.operation, name), error))
    return made


def planned_changes(preview: Preview) -> list[Change]:
    """Every change that a reconciliation would make, in order."""
    name = device_names(preview.snapshot.links)
    return [_change(operation, ip_command(operation, name)) for operation in preview.operations]


def table_changes(done: Iterable[tuple[Operation, str]]) -> list[Change]:
    """Changes of the nftables table, each with its error."""
    return [_change(operation, ip_command(operation, str), error) for operation, error in done]


def _change(operation: Operation, command: str, error: str = "") -> Change:
    change: Change = {
        "verb": operation.verb,
        "uplink": operation.uplink or None,
        "command": command,
        "error": error or None,
    }
    if isinstance(operation.value, NftTable) and operation.verb != "delete" and not error:
        change["input"] = operation.value.script
    return change


# -- decisions ----------------------------------------------------------------------------


class Decision(NamedTuple):
    """An uplink, or other traffic, that is used differently than before."""

    text: str
    uplink: str = ""
    device: str = ""
    good: bool = True
    """False for what is logged as a warning: an uplink that cannot be used."""


def decisions(before: Plan | None, now: Plan) -> list[Decision]:
    """The differences between two plans; without an old one, the state of every uplink."""
    previous = {uplink.config.name: uplink for uplink in before.uplinks} if before else {}
    decided = []
    # The services say why a mode changes by itself.
    services = now.state.over_quota | now.state.overflowing
    services |= before.state.over_quota | before.state.overflowing if before else frozenset()
    for uplink in now.uplinks:
        name = uplink.config.name
        earlier = previous.pop(name, None)
        if earlier is not uplink:
            decided += _uplink_decisions(earlier, uplink, name in services)
    decided += [Decision(f"{name} is no longer configured", name) for name in sorted(previous)]
    shares_before = before.shares if before else {}
    for family in FAMILIES:
        shares = now.shares.get(family, ())
        if shares != shares_before.get(family, ()):
            traffic = f"other traffic ({FAMILY_NAMES[family]})"
            text = f"{traffic} leaves via {share_list(shares)}"
            if not shares:
                barred = family in now.barred
                text = f"{traffic} has no way out" if barred else f"{traffic} follows table main"
            decided.append(Decision(text, now.default.get(family, "")))
    return decided


def _uplink_decisions(
    before: ObservedUplink | None, now: ObservedUplink, by_itself: bool
) -> list[Decision]:
    """`by_itself`: the mode is not only the configured one."""
    decided = []
    name, device = now.config.name, now.config.device
    for index, path in enumerate(now.paths):
        old = before.paths[index] if before else None
        if old is not None and _visible_state(old) == _visible_state(path):
            continue
        family = FAMILY_NAMES[path.family]
        if path.usable:
            text = f"{name} is usable ({family}): {_addresses(path)}"
            decided.append(Decision(text, name, device))
        elif (old is not None and old.usable) or (
            path.covered and (old is None or path.reason != old.reason)
        ):
            text = f"{name} is not usable ({family}): {REASONS[path.reason]}"
            decided.append(Decision(text, name, device, False))
    if not decided and not any(path.covered for path in now.paths):
        # Neither family had an address before: one line for both, if the reason is new.
        reason = now.paths[0].reason
        if before is None or reason not in ("no-address", before.paths[0].reason):
            text = f"{name} is not usable: {REASONS[reason]}"
            decided.append(Decision(text, name, device, False))
    if before is not None and before.config.mode != now.config.mode and not by_itself:
        text = f"{name} changes its mode to {now.config.mode}"
        decided.append(Decision(text, name, device))
    return decided


def _visible_state(path: Path) -> tuple[object, ...]:
    """What of a path is worth a line when it changes."""
    addresses = tuple(address.address for address in path.eligible)
    return path.usable, path.reason, addresses if path.usable else (), path.gateway


def _addresses(path: Path) -> str:
    assert path.gateway is not None
    addresses = ", ".join(address.address for address in path.eligible)
    return f"{addresses} {_gateway(path.gateway)}"


def _gateway(gateway: Gateway) -> str:
    if not gateway.address:
        return "without a gateway"
    return f"via {gateway.address} ({_ORIGINS.get(gateway.origin, gateway.origin)})"


# -- the service manager's line -----------------------------------------------------------


def status_line(config: Config, uplinks: Sequence[ObservedUplink]) -> str:
    """As in: 2 of 3 uplinks usable: wan1 wan2; wan3 no carrier."""
    if not config.enabled:
        return "multipath is not enabled in the configuration"
    if not uplinks:
        return "no uplink is configured"
    usable = [uplink.config.name for uplink in uplinks if uplink.usable]
    others = [f"{uplink.config.name} {_reason(uplink)}" for uplink in uplinks if not uplink.usable]
    count = f"{len(usable)} of {len(uplinks)} uplinks usable"
    first = f"{count}: {' '.join(usable)}" if usable else count
    return "; ".join([first, *others])[:MAX_STATUS_LENGTH]


def _reason(uplink: ObservedUplink) -> str:
    """The reason of a family that has an address, if one has: that one is meant to work."""
    reasons = [path.reason for path in uplink.paths]
    reason = next((reason for reason in reasons if reason != "no-address"), reasons[0])
    return reason.replace("-", " ")
