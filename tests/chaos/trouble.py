"""What the world does to a gateway, and what other programs and people do by hand."""

from __future__ import annotations

import re
import time

from mproutd.model import Limits
from tests.chaos.site import FOREIGN, Site
from tests.lab import LabError, address, router_address
from tests.lab.advertise import advertise

# -- the world ----------------------------------------------------------------------------


def toggle_addresses(site: Site) -> None:
    n = site.victim()
    if site.dice.random() < 0.4:
        site.ip(f"address delete {address(n)}/24 dev eth{n}")
    elif site.dice.random() < 0.3:
        site.ip(f"address delete {address(n, 6)}/64 dev eth{n}")
    else:
        site.ip(
            f"address replace {address(n)}/24 dev eth{n}",
            f"address replace {address(n, 6)}/64 dev eth{n} nodad",
        )


def more_addresses(site: Site) -> None:
    n = site.any_uplink()
    verb = site.dice.choice(("replace", "delete"))
    site.ip(
        f"address {verb} 10.{n}.{n}.77/24 dev eth{n}",
        f"address {verb} 2001:db8:{n}::77/64 dev eth{n}",
    )


def shared_subnet(site: Site) -> None:
    n = site.victim()
    verb = site.dice.choice(("replace", "delete", "delete"))
    if verb == "replace":
        if site.anchor_waits():
            return
        site.shared.add(n)
    site.ip(f"address {verb} 10.{site.anchor}.{site.anchor}.9{n}/24 dev eth{n}")


def deprecate(site: Site) -> None:
    n = site.victim()
    lifetime = site.dice.choice(("0", "forever"))
    site.ip(f"address change {address(n, 6)}/64 dev eth{n} preferred_lft {lifetime}")


def default_routes(site: Site) -> None:
    n = site.victim()
    for family in (4, 6):
        if site.dice.random() < 0.4:
            site.ip(f"route flush exact default dev eth{n} table main", family=family)
        else:
            metric = site.dice.choice((n, n, 50 + n))
            site.ip(
                f"route flush exact default dev eth{n} table main",
                f"route add default via {router_address(n, family)} dev eth{n} metric {metric}",
                family=family,
            )


def nexthop_route(site: Site) -> None:
    """Main's default route by a nexthop object."""
    n = site.victim()
    for family in (4, 6):
        via = router_address(n, family)
        number = 10 * n + family
        site.ip(
            f"nexthop replace id {number} via {via} dev eth{n}",
            f"route flush exact default dev eth{n} table main",
            f"route add default nhid {number} metric {n}",
            family=family,
        )


def nexthops_flushed(site: Site) -> None:
    """The kernel deletes their routes with them; the anchor has none."""
    site.ip("nexthop flush")


def lease_renewed(site: Site) -> None:
    """As dhcpcd does it: the address goes and comes back without a route of the kernel's, and
    both routes have a metric of its own."""
    n = site.victim()
    metric = 1000 + n
    site.ip(f"address delete {address(n)}/24 dev eth{n}")
    time.sleep(site.dice.choice((0, 0.01, 0.05)))
    site.ip(
        f"address add {address(n)}/24 dev eth{n} noprefixroute",
        f"route add 10.{n}.{n}.0/24 dev eth{n} src {address(n)} metric {metric}",
        f"route add default via {router_address(n)} dev eth{n} src {address(n)} metric {metric}",
    )


def advertised(site: Site) -> None:
    """A flood of router advertisements, each with prefixes that are over in two seconds."""
    n = site.victim()
    if not site.has(n):
        return
    site.gateway.sysctl(f"net.ipv6.conf.eth{n}.accept_ra", 2)
    for _ in range(40):
        part = site.dice.randrange(0xF000, 0xFFFF)
        prefixes = [f"2001:db8:{part:x}:{low}::/64" for low in range(3)]
        try:
            advertise(site.wan.routers[n], "access", *prefixes, lifetime=0, preferred=1, valid=2)
        except OSError:  # the cable is unplugged
            return


def announced(site: Site) -> None:
    """A hostile peer announces addresses of the LAN, of the gateway itself and of nobody."""
    shown = site.wan.server.ip("mptcp endpoint show").splitlines()
    numbers = [line.split()[2] for line in shown if "signal" in line]
    site.wan.server.ip(*(f"mptcp endpoint delete id {number}" for number in numbers))
    if not numbers or site.dice.random() < 0.5:
        addresses = ("192.168.70.10", "127.0.0.1", "10.2.2.1", "10.3.3.1", "203.0.113.9")
        chosen = site.dice.sample(addresses, 3)
        site.wan.server.ip(*(f"mptcp endpoint add {own} signal" for own in chosen))


def set_down(site: Site) -> None:
    site.ip(f"link set eth{site.victim()} down")


def set_up(site: Site) -> None:
    n = site.victim()
    site.ip(f"link set eth{n} up")


def carrier(site: Site) -> None:
    n = site.victim()
    try:
        site.dice.choice((site.wan.unplug, site.wan.plug))(n)
    except LabError:  # with the device, the cable is gone
        pass


def flapping(site: Site) -> None:
    n = site.victim()
    commands = ["link set access down", "link set access up"] * site.dice.randrange(2, 8)
    try:
        site.wan.routers[n].ip(*commands)
    except LabError:
        pass


def device_deleted(site: Site) -> None:
    site.ip(f"link delete eth{site.victim()}")


def device_anew(site: Site) -> None:
    n = site.victim()
    site.ip(f"link delete eth{n}")
    time.sleep(site.dice.choice((0, 0.005)))
    site.make_whole(n)


def device_renamed(site: Site) -> None:
    n = site.victim()
    site.ip(
        f"link set eth{n} down",
        f"link set eth{n} name other{n}",
        *([f"link set other{n} up"] * (site.dice.random() < 0.5)),
        f"link set other{n} down",
        f"link set other{n} name eth{n}",
        f"link set eth{n} up",
    )


def healed(site: Site) -> None:
    site.make_whole(site.victim())


def flood(site: Site) -> None:
    n = site.victim()
    site.ip(
        *(
            f"address {verb} 10.99.{n}.{low}/32 dev eth{n}"
            for low in range(1, 120)
            for verb in ("add", "delete")
        )
    )


# -- others -------------------------------------------------------------------------------


def tunnel_up(site: Site) -> None:
    """Rules as wg-quick adds them, in front of all others."""
    for family in (4, 6):
        site.ip(
            "rule add not fwmark 51820 table 51820",
            "rule add table main suppress_prefixlength 0",
            family=family,
        )
    site.ip("route replace 10.8.0.0/24 dev br-lan table 51820")


def tunnel_down(site: Site) -> None:
    for family in (4, 6):
        site.ip(
            "rule delete not fwmark 51820 table 51820",
            "rule delete table main suppress_prefixlength 0 protocol boot",
            family=family,
        )


def mesh_toggled(site: Site) -> None:
    """Rules as Tailscale adds them."""
    verb = site.dice.choice(("add", "delete"))
    site.mesh = verb == "add"
    for family in (4, 6):
        site.ip(
            f"rule {verb} priority 5210 fwmark 0x80000/0xff0000 lookup main",
            f"rule {verb} priority 5230 fwmark 0x80000/0xff0000 lookup default",
            f"rule {verb} priority 5250 fwmark 0x80000/0xff0000 unreachable",
            f"rule {verb} priority 5270 lookup 52",
            family=family,
        )
    site.ip("route replace 100.64.0.0/10 dev br-lan table 52")


def ruleset_flushed(site: Site) -> None:
    """`systemctl reload nftables`: everybody's tables go, and its own come back."""
    text = "flush ruleset\ntable inet theirs { chain c { type filter hook input priority 0; }; }\n"
    site.gateway.run("nft", "-f", "-", input=text)


def flush_table(site: Site) -> None:
    table = site.dice.choice((7000, 7001, 7002, 7003, 9000, 9001, 9002))
    for family in (4, 6):
        site.ip(f"route flush table {table} proto 77", family=family)


def flush_routes(site: Site) -> None:
    for family in (4, 6):
        site.ip("route flush table all proto 77", family=family)
    site.add_foreign(FOREIGN)


def flush_rules(site: Site) -> None:
    for family in (4, 6):
        site.ip("rule flush protocol 77", family=family)
    site.add_foreign(FOREIGN)


def delete_rules(site: Site) -> None:
    base, n = site.dice.choice((7000, 12000)), site.any_uplink()
    priority = site.dice.choice((base, base + 5, base + 10, base + 300 + n, 32764, 32765))
    for family in (4, 6):
        site.ip(f"rule delete priority {priority} protocol 77", family=family)


def endpoints_deleted(site: Site) -> None:
    ids = _ids(site, site.any_uplink())
    if ids:
        site.ip(*(f"mptcp endpoint delete id {id}" for id in ids))
        _note_taken(site)
        site.silent = True


def endpoints_flushed(site: Site) -> None:
    """All but those that are announced: one of these that is added while a connection has no
    subflow waits for one to be announced by, and the kernel makes none meanwhile
    (net/mptcp/pm_kernel.c, mptcp_pm_create_subflow_or_signal_addr)."""
    shown = site.gateway.ip("mptcp endpoint show")
    ids = re.findall(r"id (\d+)", re.sub(".* signal.*", "", shown))
    site.ip(*(f"mptcp endpoint delete id {id}" for id in ids))
    _note_taken(site)
    site.silent = True


def endpoints_changed(site: Site) -> None:
    """Not to fullmesh: that closes its subflows, and with no other one there is nowhere to join."""
    ids = _ids(site, site.any_uplink())
    flag = site.dice.choice(("backup", "nobackup"))
    if ids:
        site.ip(*(f"mptcp endpoint change id {id} {flag}" for id in ids))
        site.silent = True


def endpoint_taken(site: Site) -> None:
    """Somebody else's endpoint where ours would be; or the end of one."""
    n = site.victim()
    own = address(n)
    if own in site.taken:
        site.ip(*(f"mptcp endpoint delete id {id}" for id in _ids(site, n, (4,))))
    else:
        site.ip(
            *(f"mptcp endpoint delete id {id}" for id in _ids(site, n, (4,))),
            f"mptcp endpoint add {own} subflow",
        )
    _note_taken(site)
    site.silent = True


def _note_taken(site: Site) -> None:
    shown = site.gateway.ip("mptcp endpoint show")
    site.taken = {
        line.split()[0]
        for line in shown.splitlines()
        if line.startswith("10.")
        and " dev " not in line
        and " port " not in line
        and "implicit" not in line
        and "rawflags 10" not in line
    }


def _ids(site: Site, n: int, families: tuple[int, ...] = (4, 6)) -> list[str]:
    shown = site.gateway.ip("mptcp endpoint show")
    return [
        match[1]
        for family in families
        for match in re.finditer(rf"^{re.escape(address(n, family))} id (\d+)", shown, re.M)
    ]


def limits_set(site: Site) -> None:
    """Never to a number that mproutd may have set: that one would count as its own."""
    site.limits = Limits(0, site.dice.randrange(4))
    site.ip(
        f"mptcp limits set subflows {site.limits.subflows}"
        f" add_addr_accepted {site.limits.add_addr_accepted}"
    )
    site.silent = True


def filter_set(site: Site) -> None:
    index, name = site.dice.choice(
        [item for item in site.devices().items() if item[1].startswith("eth")]
    )
    value = site.dice.choice((0, 1))
    site.gateway.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
    site.filters[index] = value
    site.silent = True


def rule_in_front(site: Site) -> None:
    n = site.victim()
    if n in site.misrouted:
        site.misrouted.discard(n)
        site.ip(f"rule delete from {address(n)} priority 500")
    elif not site.anchor_waits():
        site.misrouted.add(n)
        site.ip(f"rule add from {address(n)} priority 500 prohibit")
