"""Marks, tables, sets and devices, and the uplinks and policies that they belong to.  Pure."""

from __future__ import annotations

from socket import AF_INET

from mproutd.configuration.config import Config
from mproutd.configuration.policies import DEFAULT, PolicyConfig, RuleConfig
from mproutd.firewall.policies import domain_set
from mproutd.firewall.ruleset import chain_name, connection_marks
from mproutd.planning.numbering import assign_policy_numbers, sticky_key
from mproutd.planning.plan import Plan


class Marks:
    """Of one configuration and its plan."""

    def __init__(self, config: Config, plan: Plan) -> None:
        self._config, self._plan = config, plan
        self._connections = {
            mark: uplink for uplink, mark in connection_marks(config, plan.numbers).items()
        }
        self._devices = {
            uplink.link.index: uplink.config.name for uplink in plan.uplinks if uplink.link
        }
        self._policies = {policy.name: policy for policy in config.policies}
        self._numbers = {}
        if config.policies:
            self._numbers = assign_policy_numbers(config, plan.state.policies)

    def uplink_of_device(self, index: int) -> str:
        """ "" for a device that is no uplink."""
        return self._devices.get(index, "")

    def uplink_of_connection(self, mark: int) -> str:
        """ "" for a connection that keeps no uplink."""
        return self._connections.get(mark & self._config.mark_mask, "")

    def of_uplink(self, name: str) -> tuple[int, int]:
        """(mark, mask) that lead to its table; (0, 0) for no uplink."""
        if not name:
            return 0, 0
        numbers = self._plan.numbers[name]
        return numbers.mark, numbers.mask

    # -- policies -------------------------------------------------------------------------

    def of_rule(self, rule: RuleConfig) -> tuple[int, int]:
        """(mark, mask) that a packet gets by a rule; (0, 0) for none."""
        if rule.policy == DEFAULT:
            return 0, 0
        own = self._numbers[sticky_key(rule) if rule.sticky else rule.policy]
        return own.mark, self._config.policy_mask

    def of_connection(self, mark: int) -> tuple[int, int]:
        """The same for a packet of a connection whose first packet got one."""
        mask = self._config.policy_mask
        known = {own.mark for own in self._numbers.values()}
        return (mark & mask, mask) if mark & mask in known else (0, 0)

    def policy_of_mark(self, mark: int) -> PolicyConfig | None:
        """The policy of a packet's mark."""
        mark &= self._config.policy_mask
        tables = [own.table for own in self._numbers.values() if own.mark == mark]
        return self.policy_of_table(tables[0]) if tables else None

    def policy(self, name: str) -> PolicyConfig | None:
        """None for `default`."""
        return self._policies.get(name)

    def policy_of_table(self, table: int) -> PolicyConfig | None:
        """The policy whose routes are in this table."""
        names = [name for name, own in self._numbers.items() if own.table == table]
        return next((self._policies[name] for name in names if name in self._policies), None)

    # -- sets -----------------------------------------------------------------------------

    def destination_sets(self, rule: RuleConfig, family: int) -> list[str]:
        """The sets that a rule's destination has to be in, all of them."""
        names = [domain_set(rule, family)] if rule.domains else []
        return [*names, f"{rule.set}_{_suffix(family)}"] if rule.set else names

    def sticky_sets(self, rule: RuleConfig, family: int) -> dict[str, str]:
        """The set of the sources that a sticky rule keeps on an uplink → this uplink."""
        policy = self._policies.get(rule.policy)
        if policy is None or not rule.sticky:
            return {}
        configs = {uplink.config.name: uplink.config for uplink in self._plan.uplinks}
        return {
            f"sticky_{rule.name}_{chain_name(configs[name], self._plan.numbers)}"
            f"_{_suffix(family)}": name
            for name in (member.uplink for member in policy.members)
            if name in self._connections.values()
        }


def _suffix(family: int) -> str:
    return "4" if family == AF_INET else "6"
