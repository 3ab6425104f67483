"""The table of services, and those in use as one object."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from mproutd.configuration.config import Config
from mproutd.environment import (
    RESOLVED_DIRECTORY,
    find_program,
    has_lease_files,
    keeps_resolvers,
)
from mproutd.planning.modes import may_overflow
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.services.base import Service, ServiceContext

if TYPE_CHECKING:
    from mproutd.planning.inspection import Preview
    from mproutd.status.types import Status


class ServiceType(NamedTuple):
    """An entry of the table."""

    name: str
    needed: Callable[[Config], bool]
    """Whether the configuration, or the environment, needs it."""
    make: Callable[[ServiceContext], Service]
    """Imports the service's module."""
    leftover: str = ""
    """A file in the runtime directory: while it exists, there is something to clean up."""
    applies: Callable[[Outcome], bool] | None = None
    """Whether a pass has found what the service is for: until then it is not made."""


def _any_sets(config: Config, *options: str) -> bool:
    return any(getattr(uplink, option) for uplink in config.uplinks for option in options)


def _conntrack(context: ServiceContext) -> Service:
    from mproutd.services.conntrack import ConntrackFlusher

    return ConntrackFlusher(context)


def _pinned_flows(context: ServiceContext) -> Service:
    from mproutd.services.nftables import PinnedFlows

    return PinnedFlows(context)


def _pins_flows(config: Config) -> bool:
    return config.enabled and config.pin_flows and bool(config.uplinks)


def _needs_nftables(config: Config) -> bool:
    return _pins_flows(config) or (config.enabled and any(r.forwarded for r in config.rules))


def _names_domains(config: Config) -> bool:
    return config.enabled and any(rule.domains for rule in config.rules)


def _domain_file(context: ServiceContext) -> Service:
    from mproutd.services.domains import DomainFile

    return DomainFile(context)


def _scripts(context: ServiceContext) -> Service:
    from mproutd.services.scripts import Scripts

    return Scripts(context)


def _health(context: ServiceContext) -> Service:
    from mproutd.services.health.checker import HealthChecker

    return HealthChecker(context)


def _systemd(context: ServiceContext) -> Service:
    from mproutd.services.systemd import SystemdNotifier

    return SystemdNotifier(context, os.environ)


def _netifd(context: ServiceContext) -> Service:
    from mproutd.services.netifd import Netifd

    return Netifd(context)


def _quota(context: ServiceContext) -> Service:
    from mproutd.services.quota import QuotaCounter

    return QuotaCounter(context)


def _overflow(context: ServiceContext) -> Service:
    from mproutd.services.overflow import OverflowWatcher

    return OverflowWatcher(context)


def _overflows(config: Config) -> bool:
    return config.enabled and any(map(may_overflow, config.uplinks))


def _prefixes(context: ServiceContext) -> Service:
    from mproutd.services.prefixes import PrefixDeprecator

    return PrefixDeprecator(context)


def _resolver_files(context: ServiceContext) -> Service:
    from mproutd.services.resolver_files import ResolverFiles

    return ResolverFiles(context)


def _has_resolver_files(config: Config) -> bool:
    return config.enabled and bool(config.uplinks) and keeps_resolvers()


def _leases(context: ServiceContext) -> Service:
    from mproutd.services.leases import Leases

    return Leases(context)


def _resolvers(context: ServiceContext) -> Service:
    from mproutd.services.resolvers import ResolvConf

    return ResolvConf(context)


def _resolved(context: ServiceContext) -> Service:
    from mproutd.services.resolved import ResolvedLinks

    return ResolvedLinks(context)


def _standby(context: ServiceContext) -> Service:
    from mproutd.services.standby import Standby

    return Standby(context)


def _delays_names(outcome: Outcome) -> bool:
    """Whether systemd-resolved runs and may wait for an uplink that is not used."""
    uplinks = outcome.plan.uplinks
    if all(uplink.usable and not uplink.over_quota for uplink in uplinks):
        return False
    if not os.path.isdir(RESOLVED_DIRECTORY):
        return False
    from mproutd.planning.resolved import plan_links

    return bool(plan_links(uplinks).silent)


def _always(outcome: Outcome) -> bool:
    """For what has nothing to do before the first pass: the endpoints come before its imports."""
    return True


def _may_deprecate(config: Config) -> bool:
    return config.enabled and (config.deprecate_prefixes or _any_sets(config, "nat6"))


def _has_prefixes(outcome: Outcome) -> bool:
    """Whether hosts may have addresses from an uplink's prefix, or from one to be translated."""
    return any(
        uplink.paths[1].prefixes or uplink.config.prefix or uplink.config.nat6
        for uplink in outcome.plan.uplinks
    )


SERVICES = (
    ServiceType("health", lambda config: config.enabled and _any_sets(config, "health"), _health),
    ServiceType("netifd", lambda config: bool(config.uplinks and find_program("ubus")), _netifd),
    ServiceType(
        "leases",
        lambda config: bool(config.uplinks) and has_lease_files() and not find_program("ubus"),
        _leases,
    ),
    ServiceType("systemd", lambda config: "NOTIFY_SOCKET" in os.environ, _systemd),
    ServiceType(
        "nftables",
        lambda config: _needs_nftables(config) or (config.enabled and _any_sets(config, "nat6")),
        _pinned_flows,
        leftover="nftables",
        applies=_always,
    ),
    ServiceType("domains", _names_domains, _domain_file, leftover="dnsmasq.d/mproutd.conf"),
    ServiceType(
        "conntrack",
        lambda config: _pins_flows(config) or _any_sets(config, "flush_conntrack"),
        _conntrack,
        applies=_always,
    ),
    ServiceType(
        "prefixes",
        _may_deprecate,
        _prefixes,
        leftover="prefixes.json",
        applies=_has_prefixes,
    ),
    ServiceType("quota", lambda config: config.enabled and _any_sets(config, "quota"), _quota),
    ServiceType("overflow", _overflows, _overflow),
    ServiceType("resolver-files", _has_resolver_files, _resolver_files),
    ServiceType(
        "resolvers",
        lambda config: config.enabled,
        _resolvers,
        leftover="resolv.conf",
        applies=lambda outcome: bool(outcome.plan.resolvers),
    ),
    ServiceType(
        "resolved",
        lambda config: config.enabled and len(config.uplinks) > 1,
        _resolved,
        leftover="resolved.json",
        applies=_delays_names,
    ),
    ServiceType("standby", lambda config: config.pair, _standby),
    ServiceType("scripts", lambda config: _any_sets(config, "on_up", "on_down"), _scripts),
)
"""In the order in which they add their facts."""


class Services:
    """The services in use."""

    def __init__(self, context: ServiceContext, types: tuple[ServiceType, ...] = SERVICES) -> None:
        self._context, self._types = context, types
        self._services: dict[str, Service] = {}
        self._config = Config(enabled=False)
        self._waiting: list[ServiceType] = []
        """Needed, and not made before a pass says that they apply."""

    def on_configuration(self, config: Config) -> None:
        """Make the services that this configuration needs, and close those that it does not."""
        self._config, self._waiting = config, []
        for kind in self._types:
            name = kind.name
            service = self._services.get(name)
            left = self._exists(kind.leftover)
            wanted = left or kind.needed(config)
            if wanted and service is None:
                if kind.applies is None or left:
                    self._services[name] = kind.make(self._context)
                else:
                    self._waiting.append(kind)
            elif not wanted and service is not None and not service.persistent:
                self._services.pop(name).close()
        for service in self._services.values():
            service.on_configuration(config)

    def _exists(self, leftover: str) -> bool:
        return bool(leftover) and os.path.exists(os.path.join(self._context.runtime_dir, leftover))

    def on_hint(self) -> None:
        for service in self._services.values():
            service.on_hint()

    def on_pass(self, outcomes: list[Outcome]) -> None:
        for kind in [kind for kind in self._waiting if _applies(kind, outcomes)]:
            self._waiting.remove(kind)
            service = self._services[kind.name] = kind.make(self._context)
            service.on_configuration(self._config)
        for service in self._services.values():
            for outcome in outcomes:
                service.on_pass(outcome)

    def on_reload_start(self) -> None:
        for service in self._services.values():
            service.on_reload_start()

    def on_reload_end(self, error: str) -> None:
        for service in self._services.values():
            service.on_reload_end(error)

    def add_facts(self, facts: Facts) -> Facts:
        for service in self._services.values():
            facts = service.add_facts(facts)
        return facts

    def on_request(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The reply of the service that knows the request; None if none does."""
        replies = (service.on_request(request) for service in self._services.values())
        return next((reply for reply in replies if reply is not None), None)

    def preview(self, preview: Preview) -> Preview:
        """A preview of passes with what services would do as well."""
        further = [
            operation
            for service in self._services.values()
            for operation in service.preview(preview)
        ]
        return preview._replace(operations=[*preview.operations, *further])

    def add_to_status(self, status: Status) -> None:
        for service in self._services.values():
            service.add_to_status(status)

    def close(self) -> None:
        for service in self._services.values():
            service.close()
        self._services = {}


def _applies(kind: ServiceType, outcomes: list[Outcome]) -> bool:
    return kind.applies is not None and any(map(kind.applies, outcomes))
