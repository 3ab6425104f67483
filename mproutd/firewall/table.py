"""What has to be done about the table `inet mproutd`, and doing it without a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd.configuration.config import Config
from mproutd.firewall import nft
from mproutd.firewall.ruleset import connection_marks, overwriting_rules, ruleset, wants_table
from mproutd.model import NftTable, Operation, Snapshot
from mproutd.netlink.sysctls import forwarding_devices
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Plan
from mproutd.status.problems import problem, removed_objects

if TYPE_CHECKING:
    from mproutd.planning.inspection import Inspection
    from mproutd.status.types import Problem, Status


def is_router(snapshot: Snapshot) -> bool:
    """Whether this host forwards what it receives by one of its devices."""
    return bool(forwarding_devices(link.name for link in snapshot.links.values()))


def wanted_table(config: Config, plan: Plan, forwards: bool) -> str:
    """The table for this plan; empty for none."""
    if not forwards or not wants_table(config):
        return ""
    return ruleset(config, [uplink.config for uplink in plan.uplinks], plan.numbers)


def pending_change(record: nft.Record, wanted: str, listing: str) -> Operation | None:
    """What has to be done about the table in the kernel; None for nothing."""
    if record.table == wanted and (record.is_as_left(listing) or not (wanted or listing)):
        return None
    if not wanted:
        return Operation("delete", NftTable()) if listing else None
    return Operation("replace" if listing else "add", NftTable(wanted))


def table_problems(
    error: nft.NftError | None,
    conflicts: Sequence[tuple[str, str]],
    limiter: RemovalLimiter | None = None,
) -> list[Problem]:
    """What is wrong with the table, for a status."""
    found = [problem(error.code, error=error.text)] if error is not None else []
    found += [problem("mark-overwritten", table=table, rule=rule) for table, rule in conflicts]
    if limiter is not None:
        found += removed_objects(limiter.restored(), limiter.rate_limited(), str)
    return found


# -- without a daemon ---------------------------------------------------------------------


def change_now(
    runtime_dir: str, config: Config, plan: Plan, snapshot: Snapshot, *, dry_run: bool = False
) -> list[tuple[Operation, str]]:
    """What a daemon would do about the table, done at once: the change, and the error of nft.

    Without multipath, the table is looked for even if there is no record of it.
    """
    record = nft.Record(runtime_dir)
    wanted = wanted_table(config, plan, is_router(snapshot))
    if config.enabled and not wanted and not record.table:
        return []
    try:
        listing = nft.table_listing()
        change = pending_change(record, wanted, listing)
        if change is not None and not dry_run:
            listing = nft.write(wanted, listing, record.is_as_left(listing))
            record.save(wanted, listing)
    except nft.NftError as error:
        return [(Operation("add", NftTable(wanted)), error.text)] if wanted else []
    return [(change, "")] if change is not None else []


def add_to_own_status(status: Status, runtime_dir: str, inspection: Inspection) -> None:
    """The same fields as the service's, as this process sees them."""
    config, plan = inspection.config, inspection.plan
    wanted = wanted_table(config, plan, is_router(inspection.snapshot))
    status["pins_flows"] = None
    if not wanted:
        return
    try:
        listing = nft.table_listing()
        marks = connection_marks(config, plan.numbers).values()
        conflicts = overwriting_rules(nft.whole_listing(), config.mark_mask, marks)
        error = None
    except nft.NftError as failure:
        listing, conflicts, error = "", [], failure
    status["pins_flows"] = pending_change(nft.Record(runtime_dir), wanted, listing) is None
    found = table_problems(error, conflicts)
    status["problems"] += found
    status["degraded"] |= bool(found)
