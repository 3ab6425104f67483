"""What can happen: to the world, by others' hands, to the configuration, to the daemon itself.

Each is a function of the site; its name in ACTIONS is the line of the table in
docs/reliability.md, and the number is how often it is drawn.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import NamedTuple

from tests.chaos import configurations, trouble
from tests.chaos.site import Site


class Action(NamedTuple):
    """One kind of trouble."""

    name: str
    weight: int
    do: Callable[[Site], None]


# -- the configuration --------------------------------------------------------------------


def rewritten(site: Site) -> None:
    site.write(site.draw())
    if site.daemon.alive and site.dice.random() < 0.5:
        site.daemon.process.send_signal(signal.SIGHUP)


def rewritten_badly(site: Site) -> None:
    if site.frozen or not site.disk.good:
        return
    if site.unread or not site.daemon.alive:
        read_now(site)
        if site.unread:
            return
    site.write(configurations.broken(site.dice, site.disk))
    if site.dice.random() < 0.5 and site.daemon.alive:
        site.daemon.process.send_signal(signal.SIGHUP)
    else:
        read_now(site)


def read_now(site: Site) -> None:
    """`mproutd reconcile`, with a daemon or without."""
    if site.frozen:
        return
    result = site.daemon.call("reconcile")
    assert "Traceback" not in result.err, result.err
    if not site.disk.good:
        assert result.code == 2 or not site.daemon.alive, result
    elif result.code == 0:
        site.in_use, site.unread = site.disk, False


# -- the daemon ---------------------------------------------------------------------------


def killed(site: Site) -> None:
    if site.daemon.alive:
        site.daemon.kill9()
        site.frozen = False


def killed_between(site: Site) -> None:
    """A new daemon, or a command, that dies after so many changes."""
    after = int(site.dice.choice((0, 1, 2, 5, 10, 20, 40)) * (1 + site.dice.random()))
    if site.daemon.alive:
        site.daemon.kill9()
        site.frozen = False
    site.daemon.begin(after)


def command_killed_between(site: Site) -> None:
    if site.daemon.alive:
        return
    site.daemon.dies_after = site.dice.randrange(30)
    verb = "reconcile" if site.dice.random() < 0.7 else "flush"
    site.daemon.call(verb)
    site.daemon.dies_after = -1
    if verb == "flush":
        site.silent = True


def stopped(site: Site) -> None:
    if site.daemon.alive and not site.frozen:
        site.daemon.stop()


def started(site: Site) -> None:
    if not site.daemon.alive:
        site.daemon.begin()


def frozen(site: Site) -> None:
    if site.daemon.alive and not site.frozen:
        site.daemon.process.send_signal(signal.SIGSTOP)
        site.frozen = True


def beside(site: Site) -> None:
    """`mproutd reconcile` or another daemon beside the one that runs, not waited for."""
    verb = site.dice.choice(("reconcile", "status", "run"))
    if verb == "run" and not site.daemon.alive:
        return
    process = site.gateway.popen(
        *site.daemon.command(verb), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    site.waiting.append(process)


ACTIONS = (
    Action("addresses are removed or added", 6, trouble.toggle_addresses),
    Action("additional addresses are added or removed", 3, trouble.more_addresses),
    Action("an address in another uplink's subnet is added", 1, trouble.shared_subnet),
    Action("an address is deprecated or preferred again", 1, trouble.deprecate),
    Action("default routes in main change or are removed", 4, trouble.default_routes),
    Action("a default route through a nexthop object", 2, trouble.nexthop_route),
    Action("a lease is renewed as by dhcpcd", 2, trouble.lease_renewed),
    Action("a flood of router advertisements", 1, trouble.advertised),
    Action("the peer announces foreign addresses", 2, trouble.announced),
    Action("a link is set down", 2, trouble.set_down),
    Action("a link is set up", 2, trouble.set_up),
    Action("a carrier is lost or restored", 5, trouble.carrier),
    Action("a carrier flaps", 2, trouble.flapping),
    Action("a device is removed", 1, trouble.device_deleted),
    Action("a device is replaced by another with the same name", 2, trouble.device_anew),
    Action("a device is renamed and renamed back", 1, trouble.device_renamed),
    Action("an uplink is restored completely", 4, trouble.healed),
    Action("238 events in a burst", 1, trouble.flood),
    Action("foreign: flush one of our tables", 2, trouble.flush_table),
    Action("foreign: flush all our routes", 1, trouble.flush_routes),
    Action("foreign: flush all our rules", 1, trouble.flush_rules),
    Action("foreign: delete a rule", 2, trouble.delete_rules),
    Action("foreign: delete an uplink's endpoints", 2, trouble.endpoints_deleted),
    Action("foreign: delete all endpoints", 1, trouble.endpoints_flushed),
    Action("foreign: change the flags of endpoints", 2, trouble.endpoints_changed),
    Action("foreign: add or delete an endpoint at our address", 2, trouble.endpoint_taken),
    Action("foreign: lower the limits", 2, trouble.limits_set),
    Action("foreign: set rp_filter", 2, trouble.filter_set),
    Action("foreign: add or delete a rule that misroutes an address", 1, trouble.rule_in_front),
    Action("foreign: flush all nexthop objects", 1, trouble.nexthops_flushed),
    Action("foreign: flush the nft ruleset", 1, trouble.ruleset_flushed),
    Action("foreign: rules like those of wg-quick are added", 1, trouble.tunnel_up),
    Action("foreign: rules like those of wg-quick are deleted", 2, trouble.tunnel_down),
    Action("foreign: rules like those of Tailscale are added or deleted", 1, trouble.mesh_toggled),
    Action("another valid configuration", 4, rewritten),
    Action("an invalid configuration", 2, rewritten_badly),
    Action("`mproutd reconcile`", 1, read_now),
    Action("kill -9 of the daemon", 2, killed),
    Action("kill -9 between two operations", 5, killed_between),
    Action("kill -9 of a command between two operations", 3, command_killed_between),
    Action("the daemon is stopped", 2, stopped),
    Action("the daemon is started", 3, started),
    Action("the daemon hangs (SIGSTOP)", 1, frozen),
    Action("a second daemon or a command in parallel", 2, beside),
)
