"""Marks, tables and devices, and the uplinks and policies that they belong to.  Pure."""

from __future__ import annotations

from mproutd.configuration.config import Config
from mproutd.configuration.policies import PolicyConfig
from mproutd.firewall.ruleset import connection_marks
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

    def uplink_of_device(self, index: int) -> str:
        """ "" for a device that is no uplink."""
        return self._devices.get(index, "")

    def uplink_of_connection(self, mark: int) -> str:
        """ "" for a connection that keeps no uplink."""
        return self._connections.get(mark & self._config.mark_mask, "")

    def of_uplink(self, name: str) -> tuple[int, int]:
        """(mark, mask) that lead to its table."""
        numbers = self._plan.numbers[name]
        return numbers.mark, numbers.mask

    def of_policy(self, name: str) -> tuple[int, int]:
        """(mark, mask) that lead to its table; (0, 0) for none."""
        return 0, 0

    def policy_of_table(self, table: int) -> PolicyConfig | None:
        """The policy whose routes are in this table."""
        return None
