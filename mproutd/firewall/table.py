"""What has to be done about the table `inet mproutd`, and doing it without a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mproutd.configuration.config import Config
from mproutd.firewall import nft
from mproutd.firewall.ruleset import (
    TABLE,
    connection_marks,
    make_table,
    overwriting_rules,
    steers,
    wants_table,
)
from mproutd.firewall.script import script
from mproutd.firewall.translation import translations, wants_translation, without_prefix
from mproutd.model import NftTable, Operation, Snapshot
from mproutd.netlink.nft_values import Table
from mproutd.netlink.sysctls import forwarding_devices
from mproutd.planning.numbering import assign_policy_numbers
from mproutd.planning.pacing import RemovalLimiter
from mproutd.planning.plan import Plan
from mproutd.planning.uplinks import ObservedUplink
from mproutd.status.problems import add_problems, problem, removed_objects

if TYPE_CHECKING:
    from mproutd.planning.inspection import Inspection
    from mproutd.status.types import Problem, Status

NO_TABLE = Table(TABLE)


def is_router(snapshot: Snapshot) -> bool:
    """Whether this host forwards what it receives by one of its devices."""
    return bool(forwarding_devices(link.name for link in snapshot.links.values()))


def wanted_table(config: Config, plan: Plan, snapshot: Snapshot, forwards: bool) -> Table:
    """The table for this plan; without chains for none."""
    wanted = wants_table(config) or wants_translation(config) or steers(config)
    if not forwards or not wanted:
        return NO_TABLE
    uplinks = [uplink.config for uplink in plan.uplinks]
    listed = translations(plan.uplinks, snapshot.addresses)
    policies = assign_policy_numbers(config, plan.state.policies) if config.policies else {}
    return make_table(config, uplinks, plan.numbers, listed, policies)


def pending_change(record: nft.Record, wanted: Table, found: nft.Found) -> Operation | None:
    """What has to be done about the table in the kernel; None for nothing."""
    if not wanted.chains:
        return Operation("delete", NftTable()) if found else None
    if record.holds(wanted) and record.is_as_left(found):
        return None
    return Operation("replace" if found else "add", NftTable(script(wanted)))


def table_problems(
    config: Config,
    error: str,
    conflicts: Sequence[tuple[str, str]],
    limiter: RemovalLimiter | None = None,
) -> list[Problem]:
    """What is wrong with the table, for a status; `error` says why it could not be written."""
    problems = []
    if error and wants_table(config):
        problems.append(problem("flows-not-pinned", error=error))
    if error and wants_translation(config):
        problems.append(problem("nat6-failed", error=error))
    problems += [problem("mark-overwritten", table=table, rule=rule) for table, rule in conflicts]
    if limiter is not None:
        problems += removed_objects(limiter.restored(), limiter.rate_limited(), str)
    return problems


def translation_problems(uplinks: Sequence[ObservedUplink]) -> list[Problem]:
    """The uplinks that have nothing to translate to."""
    return [problem("nat6-without-prefix", uplink=name) for name in without_prefix(uplinks)]


# -- without a daemon ---------------------------------------------------------------------


def change_now(
    runtime_dir: str, config: Config, plan: Plan, snapshot: Snapshot, *, dry_run: bool = False
) -> list[tuple[Operation, str]]:
    """What a daemon would do about the table, done at once: the change, and the kernel's error.

    Without multipath, the table is looked for even if there is no record of it.
    """
    record = nft.Record(runtime_dir)
    wanted = wanted_table(config, plan, snapshot, is_router(snapshot))
    if not wanted.chains and not record.script and config.enabled:
        return []
    change = None
    try:
        found = nft.read_table()
        change = pending_change(record, wanted, found)
        if change is not None and not dry_run:
            found = nft.write_table(wanted, record.is_as_left(found))
            record.save(wanted, found)
        elif not found and not dry_run:
            record.save(NO_TABLE, found)  # somebody else has deleted it
    except OSError as error:
        if not wanted.chains and change is None:
            return []  # without nf_tables there is nothing to delete
        failed = change or Operation("add", NftTable(script(wanted)))
        return [(failed, error.strerror or str(error))]
    return [(change, "")] if change is not None else []


def add_to_own_status(status: Status, runtime_dir: str, inspection: Inspection) -> None:
    """The same fields as the service's, as this process sees them."""
    config, plan = inspection.config, inspection.plan
    wanted = wanted_table(config, plan, inspection.snapshot, is_router(inspection.snapshot))
    status["pins_flows"] = None
    add_problems(status, translation_problems(plan.uplinks))
    if not wanted.chains:
        return
    marks = connection_marks(config, plan.numbers).values()
    conflicts = overwriting_rules(nft.whole_listing(), config.mark_mask, marks)
    error = ""
    try:
        found = nft.read_table()
    except OSError as failure:
        found, error = nft.Found(), failure.strerror or str(failure)
    if wants_table(config):
        status["pins_flows"] = pending_change(nft.Record(runtime_dir), wanted, found) is None
    add_problems(status, table_problems(config, error, conflicts))
