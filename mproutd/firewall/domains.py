"""The lines by which dnsmasq puts the addresses of domains into the sets of rules.  Pure."""

from __future__ import annotations

from socket import AF_INET6

from mproutd.configuration.config import Config
from mproutd.firewall.policies import domain_set
from mproutd.firewall.ruleset import TABLE

HEADER = "# Written by mproutd for its rules with `domain`.  Restart dnsmasq after a change.\n"


def wants_domains(config: Config) -> bool:
    """Whether a rule names a domain."""
    return config.enabled and any(rule.domains for rule in config.rules)


def nftset_lines(config: Config) -> str:
    """dnsmasq's configuration: a line for each domain with all of its sets.

    Of several lines for one domain, dnsmasq follows the first alone.
    """
    sets: dict[str, list[str]] = {}
    for rule in config.rules:
        for domain in rule.domains:
            for family in rule.families:
                number = 6 if family == AF_INET6 else 4
                name = f"{number}#inet#{TABLE}#{domain_set(rule, family)}"
                sets.setdefault(domain, []).append(name)
    return HEADER + "".join(
        f"nftset=/{domain}/{','.join(names)}\n" for domain, names in sets.items()
    )
