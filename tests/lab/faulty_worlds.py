"""A world with a fault for each code of a status: how to produce it, and its symptom.

For the tests, and for docs/troubleshooting.md, which is printed from here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mproutd.status.path_problems import MEMORY_UNNAMED
from tests.lab import (
    RUNTIME_DIR,
    SERVER,
    SERVER6,
    TWO_UPLINKS,
    Daemon,
    Echo,
    Ubus,
    Wan,
    address,
    bridge,
    eventually,
    veth,
)
from tests.lab.daemon import STATE_DIR
from tests.lab.kernel_limits import max_endpoints

_connections: list[Echo] = []
"""They have to stay open, and end with their world."""


class Broken(NamedTuple):
    """One world."""

    symptom: str
    """What is noticed before the cause is known."""
    make: Callable[[Wan, Daemon], None]
    """Break it, while the daemon is running."""


ELSEWHERE = {
    "no-mptcp": "needs a kernel without MPTCP; see tests/kernel/test_unsupported.py",
    "no-mptcp-diag": "needs a kernel without mptcp_diag; see tests/qemu",
    "no-nexthop-objects": "needs a kernel before 5.3; see tests/unit/test_sharing.py",
    "no-conntrack-netlink": "needs a kernel without ctnetlink; see tests/unit/test_firewall.py",
    "laminar-unsupported": "needs a kernel before 6.18; see tests/unit/test_status.py",
}
"""What cannot be produced on the kernel of this machine."""

UNPACKED = Path(__file__).parents[2] / ".build/unpacked"
OWN = "config mproutd 'globals'\n"


def _policy_without_uplink(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(
        own="config member 'second'\n option interface 'wan2'\n"
        "config policy 'guests'\n list use_member 'second'\n"
        "config rule 'from_guests'\n option src_ip '192.168.70.0/24'\n option use_policy 'guests'\n"
    )
    daemon.reconcile()
    wan.unplug(2)


def _no_address(wan: Wan, daemon: Daemon) -> None:
    wan.address_down(2)


def _dad(wan: Wan, flag: str) -> None:
    wan.gateway.ip("address flush dev eth2")
    if flag == "dad-failed":
        wan.routers[2].ip("address add 2001:db8:2::2/64 dev access nodad")
    wan.gateway.sysctl("net.ipv6.conf.eth2.accept_dad", 1)
    wan.gateway.sysctl("net.ipv6.conf.eth2.dad_transmits", 20 if flag == "tentative" else 1)
    wan.gateway.ip("address add 2001:db8:2::2/64 dev eth2")


def _deprecated(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("address flush dev eth2", family=4)
    wan.gateway.ip("address change 2001:db8:2::2/64 dev eth2 preferred_lft 0 nodad")


def _no_gateway(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("address flush dev eth2 scope global")
    wan.gateway.ip("address add 10.2.2.77/24 dev eth2")


def _endpoint_in_use(wan: Wan, daemon: Daemon) -> None:
    _connections.append(Echo(wan.server, wan.gateway, address(1)))
    daemon.configure(own=OWN + "\toption role 'both'\n")
    daemon.call("reconcile")


def _without_gateway(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("address add 192.168.8.100/24 dev eth2")


def _remembered(wan: Wan, daemon: Daemon) -> None:
    wan.admin_down(2)
    wan.admin_up(2)
    time.sleep(MEMORY_UNNAMED + 1)


def _address_conflict(wan: Wan, daemon: Daemon) -> None:
    wan.address_down(2)
    wan.gateway.ip("address add 10.1.1.2/24 dev eth2", "route add default via 10.1.1.1 dev eth2")


def _path_manager(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.sysctl("net.mptcp.pm_type", 1)


def _configuration(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(TWO_UPLINKS.replace("'master'", "'sideways'"))
    daemon.call("reconcile")


def _state_file(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    state = daemon.node.path(f"{RUNTIME_DIR}/state.json")
    state.unlink()
    state.mkdir()
    daemon.start()


def _hints(wan: Wan, daemon: Daemon) -> None:
    daemon.node.path(f"{RUNTIME_DIR}-hints").chmod(0o777)


def _no_device_yet(wan: Wan, daemon: Daemon) -> None:
    made = "option proto 'pppoe'\n\toption device 'eth2'"
    daemon.configure(TWO_UPLINKS.replace("option device 'eth2'", made))
    daemon.call("reconcile")


def _netifd(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    Ubus(wan.gateway, "Command failed: Not found")
    daemon.start()


def _endpoint_limit(wan: Wan, daemon: Daemon) -> None:
    hosts = range(3, min(255, 3 + max_endpoints()))
    more = [f"address add 10.2.2.{host}/24 dev eth2" for host in hosts]
    wan.gateway.ip(*more)
    daemon.reconcile()


def _foreign_endpoint(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    daemon.call("flush")
    wan.gateway.ip("mptcp endpoint add 10.2.2.2 signal")
    daemon.start()


def _misrouted(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip(
        "route add default via 10.2.2.9 dev eth2 table 100",
        "rule add from 10.2.2.2 lookup 100 priority 99",
    )
    daemon.call("reconcile")


def _blackhole_default(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(own="config uplink 'wan2'\n\toption gateway '10.2.2.1'\n")
    wan.gateway.ip(
        "route delete default via 10.2.2.1 dev eth2 metric 2",
        "route add blackhole default metric 254",
    )
    daemon.call("reconcile")


def _no_mark(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(
        own=OWN + "\toption mark_mask '0x3'\n\nconfig uplink 'wan2'\n\toption table '7003'\n"
    )
    daemon.call("reconcile")


def _removed(times: int) -> Callable[[Wan, Daemon], None]:
    def make(wan: Wan, daemon: Daemon) -> None:
        for _ in range(times):
            eventually(lambda: "7502:" in wan.gateway.ip("rule show"), timeout=10)
            wan.gateway.ip("rule delete priority 7502")

    return make


def _operation_failed(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    daemon.call("flush")
    wan.gateway.ip("route add default via 10.1.1.254 dev eth1 table 7001 proto static")
    daemon.start()


def _paused(wan: Wan, daemon: Daemon) -> None:
    """Behind wan1 SYNs with MP_CAPABLE are lost: the kernel falls back after the third."""
    drop = "tcp flags & syn == syn tcp option mptcp exists drop"
    text = f"table inet box {{ chain way {{ type filter hook forward priority 0; {drop}; }}; }}"
    wan.routers[1].run("nft", "-f", "-", input=text)
    code = "import socket; s = socket.socket(2, 1, 262); s.settimeout(15)\n"
    code += f"s.bind(({address(1)!r}, 0))\ntry: s.connect(({SERVER!r}, 9))\nexcept OSError: pass"
    listener = "import socket, time; s = socket.create_server(('', 9)); time.sleep(20)"
    wan.server.popen(sys.executable, "-c", listener)
    wan.gateway.run(sys.executable, "-c", code)


def _no_ipv6_gateway(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    daemon.call("flush")
    wan.gateway.ip("route delete default dev eth2", family=6)
    daemon.start()


def _idle_check(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("address flush dev eth2 scope global", family=6)
    daemon.configure(own=f"config uplink 'wan2'\n\tlist track_ip '{SERVER6}'\n")
    daemon.call("reconcile")


def _low_limits(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(own=OWN + "\toption subflows '100'\n")
    daemon.call("reconcile")


def _limit_not_lowered(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(own=OWN + "\toption subflows '1'\n")
    daemon.call("reconcile")


def _announced_addresses(wan: Wan, daemon: Daemon) -> None:
    """Main's default route with the lowest metric leaves via eth1."""
    daemon.configure(
        TWO_UPLINKS.replace("'master'", "'handover'"), own=OWN + "\toption add_addr_accepted '4'\n"
    )
    daemon.call("reconcile")


def _mptcpd(wan: Wan, daemon: Daemon) -> None:
    libraries = next(UNPACKED.glob("usr/lib/*-linux-gnu"))
    wan.gateway.popen(
        *("env", f"LD_LIBRARY_PATH={libraries}", UNPACKED / "usr/libexec/mptcpd"),
        *(f"--plugin-dir={libraries}/mptcpd", "--path-manager=addr_adv", "--log=null"),
    )


def _checked(*dead: int) -> Callable[[Wan, Daemon], None]:
    def make(wan: Wan, daemon: Daemon) -> None:
        quick = "option interval '0.3'\n\toption failure_interval '0.1'\n\toption timeout '0.2'"
        daemon.configure(
            own="".join(
                f"config uplink 'wan{n}'\n\tlist track_ip '{SERVER}'\n\t{quick}\n\n"
                for n in wan.uplinks
            )
        )
        daemon.call("reconcile")
        for n in dead:
            wan.blackhole(n)

    return make


def _foreign_rule(wan: Wan, daemon: Daemon) -> None:
    veth(wan.gateway, "wg0", wan.server, "wg0")
    wan.gateway.ip(
        "address add 10.8.0.2/24 dev wg0",
        "route add default via 10.8.0.1 dev wg0 table 51820",
        "rule add not fwmark 51820 lookup 51820",
    )


def _mark_follows_main(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("rule add priority 5210 fwmark 0x80000/0xff0000 lookup main")
    wan.unplug(1)


def _traffic_diverted(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("route add default via 2001:db8:2::1 dev eth2 metric 1 table 7000", family=6)


def _main_not_looked_up(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(TWO_UPLINKS.replace("'master'", "'on'"))
    daemon.call("reconcile")
    wan.gateway.run("ip", "-4", "rule", "delete", "priority", "32766")


def _owned_table(wan: Wan, daemon: Daemon) -> None:
    """A program that keeps its netlink socket open has a table of the same name."""
    daemon.configure(own=OWN + "\toption pin_flows '0'\n")
    daemon.reconcile()
    eventually(lambda: not wan.gateway.run("nft", "list", "tables"))
    script = "add table inet mproutd { flags owner; }\n"
    owner = wan.gateway.popen("nft", "-i", stdin=subprocess.PIPE, text=True)
    assert owner.stdin
    owner.stdin.write(script)
    owner.stdin.flush()
    eventually(lambda: "mproutd" in wan.gateway.run("nft", "list", "tables"))
    daemon.configure(own="")
    daemon.call("reconcile")


def _untranslated(wan: Wan, daemon: Daemon) -> None:
    _owned_table(wan, daemon)
    translating = "config uplink 'wan2'\n\toption nat6 'masquerade'\n"
    daemon.configure(own=f"{OWN}\toption pin_flows '0'\n\n{translating}")
    daemon.call("reconcile")


def _nothing_to_translate_to(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(own="config uplink 'wan2'\n\toption nat6 'prefix'\n")
    daemon.call("reconcile")


def _delegate(wan: Wan, daemon: Daemon) -> None:
    """Both uplinks have a prefix in the LAN."""
    bridge(wan.gateway, "br-lan")
    for n in wan.uplinks:
        wan.gateway.ip(f"address add 2001:db8:a00{n}::1/64 dev br-lan nodad")
    prefixes = (f"config uplink 'wan{n}'\n\tlist prefix '2001:db8:a00{n}::/56'\n" for n in (1, 2))
    daemon.configure(own="\n".join(prefixes))
    daemon.call("reconcile")


def _not_deprecated(wan: Wan, daemon: Daemon) -> None:
    (wan.gateway.path(RUNTIME_DIR) / "prefixes.json").mkdir()
    _delegate(wan, daemon)
    wan.unplug(2)


def _ignored_lifetimes(wan: Wan, daemon: Daemon) -> None:
    _delegate(wan, daemon)
    path = wan.gateway.path("/run/radvd.conf")
    path.write_text("interface br-lan { AdvSendAdvert on; prefix ::/64 { }; };\n")
    wan.gateway.popen(
        *(UNPACKED / "usr/sbin/radvd", "--nodaemon", "--logmethod=logfile"),
        *("--logfile=/run/radvd.log", "--config=/run/radvd.conf", "--pidfile=/run/radvd.pid"),
    )


def _overwritten_marks(wan: Wan, daemon: Daemon) -> None:
    rule = "add rule inet fw forward iifname br-lan ct mark set 0x1"
    chain = "add chain inet fw forward { type filter hook forward priority filter; }"
    wan.gateway.run("nft", f"add table inet fw; {chain}; {rule}")
    daemon.configure(TWO_UPLINKS.replace("'on'", "'backup'"))
    daemon.call("reconcile")
    daemon.stop()
    daemon.start()


def _off_has_default(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(TWO_UPLINKS.replace("'master'", "'off'").replace("'on'", "'master'"))
    daemon.call("reconcile")


def _limited(*uplinks: int, action: str = "backup") -> Callable[[Wan, Daemon], None]:
    def make(wan: Wan, daemon: Daemon) -> None:
        """Quotas that a few packets use up."""
        options = f"option quota '2k'\n\toption quota_action '{action}'\n"
        daemon.configure(own="".join(f"config uplink 'wan{n}'\n\t{options}" for n in uplinks))
        daemon.call("reconcile")
        for n in uplinks:
            wan.gateway.run("ping", "-q", "-c2", "-s1400", "-i0.2", "-I", address(n), SERVER)

    return make


PAIR = "config mproutd 'globals'\n\toption pair '1'\n\tlist virtual_address '192.168.70.100'\n"


def _active_without_address(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(own=PAIR)
    daemon.call("reconcile")
    daemon.call("standby", "off")


def _standby_with_address(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("address add 192.168.70.100/32 dev lo")
    daemon.configure(own=PAIR)
    daemon.call("reconcile")


def _ledger(wan: Wan, daemon: Daemon) -> None:
    daemon.stop()
    directory = daemon.node.path(STATE_DIR)
    directory.mkdir(exist_ok=True)
    (directory / "quota.json").write_text("{")
    daemon.configure(own="config uplink 'wan2'\n\toption quota '20G'\n")
    daemon.start()


def _unknown_capacity(wan: Wan, daemon: Daemon) -> None:
    daemon.configure(
        TWO_UPLINKS.replace("'on'", "'backup'"),
        own="config uplink 'wan2'\n\toption overflow '80'\n",
    )
    daemon.call("reconcile")


def _named_resolvers(*addresses: str) -> str:
    return "".join(
        f"config uplink 'wan{n}'\n\tlist dns '{address}'\n"
        for n, address in enumerate(addresses, 1)
    )


def _diverted_resolver(wan: Wan, daemon: Daemon) -> None:
    wan.gateway.ip("route add 198.51.100.1 via 10.2.2.1 dev eth2")
    daemon.configure(own=_named_resolvers("198.51.100.1"))
    daemon.call("reconcile")


def _shared_resolver(wan: Wan, daemon: Daemon) -> None:
    """A VPN has a route to it."""
    veth(wan.gateway, "wg0", wan.server, "wg0")
    wan.gateway.ip("address add 10.8.0.2/24 dev wg0", "route add 9.9.9.9 via 10.8.0.1 dev wg0")
    daemon.configure(own=_named_resolvers("9.9.9.9", "9.9.9.9"))
    daemon.call("reconcile")


def _unwritable_resolv_conf(wan: Wan, daemon: Daemon) -> None:
    daemon.node.path(f"{RUNTIME_DIR}/resolv.conf").mkdir()
    daemon.configure(own=_named_resolvers("198.51.100.1"))
    daemon.call("reconcile")


def _unchanged_resolved(wan: Wan, daemon: Daemon) -> None:
    """systemd-resolved seems to run, and there is no D-Bus."""
    daemon.node.path("/run/systemd/resolve").mkdir(parents=True)
    _checked(1)(wan, daemon)


BROKEN: dict[str, Broken] = {
    "no-device": Broken("a modem was unplugged", lambda wan, daemon: wan.remove_device(2)),
    "awaiting-device": Broken("an interface managed by netifd does not come up", _no_device_yet),
    "link-down": Broken("a link was taken down", lambda wan, daemon: wan.admin_down(2)),
    "no-carrier": Broken("a cable was unplugged", lambda wan, daemon: wan.unplug(2)),
    "bridge-port": Broken(
        "a device was added to a bridge", lambda wan, daemon: bridge(wan.gateway, "br-wan", "eth2")
    ),
    "no-address": Broken("the DHCP client gave up", _no_address),
    "tentative": Broken(
        "a new IPv6 address is not used yet", lambda wan, daemon: _dad(wan, "tentative")
    ),
    "dad-failed": Broken(
        "an IPv6 address is never used", lambda wan, daemon: _dad(wan, "dad-failed")
    ),
    "deprecated": Broken("the provider changed the prefix", _deprecated),
    "no-gateway": Broken("there is an address, but no gateway", _no_gateway),
    "check-failed": Broken("an uplink is up, but no replies arrive", _checked(2)),
    "address-conflict": Broken("two modems assign the same address", _address_conflict),
    "mptcp-disabled": Broken(
        "connections use only one uplink",
        lambda wan, daemon: wan.gateway.sysctl("net.mptcp.enabled", 0) and None,
    ),
    "family-unusable": Broken("IPv6 does not use an uplink that works", _no_ipv6_gateway),
    "check-idle": Broken("an uplink is dead, and its check does not notice", _idle_check),
    "mptcp-paused": Broken("new connections are plain TCP, although all seems well", _paused),
    "path-manager": Broken(
        "connections use only one uplink, although there are endpoints", _path_manager
    ),
    "configuration-rejected": Broken("a change of the configuration has no effect", _configuration),
    "state-file-error": Broken("endpoints count as another program's after a crash", _state_file),
    "hints-ignored": Broken("the gateway of a lease is not used", _hints),
    "netifd-unreachable": Broken("a gateway or device known to netifd is not used", _netifd),
    "endpoint-limit": Broken("some addresses have no endpoint", _endpoint_limit),
    "foreign-endpoint": Broken(
        "the flags of an endpoint are not those of the mode", _foreign_endpoint
    ),
    "endpoint-in-use": Broken("an endpoint does not follow a change of the role", _endpoint_in_use),
    "address-without-gateway": Broken("an address of an uplink is not used", _without_gateway),
    "gateway-remembered": Broken(
        "an uplink works although table main has no route through it", _remembered
    ),
    "misrouted": Broken("an uplink is usable, but has no endpoint", _misrouted),
    "blackhole-default": Broken(
        "an uplink stops working when main has no other default route", _blackhole_default
    ),
    "foreign-rule": Broken("traffic bound to an uplink leaves through a VPN", _foreign_rule),
    "mark-follows-main": Broken("Tailscale has no connection, all else does", _mark_follows_main),
    "traffic-diverted": Broken("other traffic leaves through the wrong uplink", _traffic_diverted),
    "main-not-looked-up": Broken(
        "only what has an uplink's address or mark gets out", _main_not_looked_up
    ),
    "policy-unusable": Broken("some hosts have no connection", _policy_without_uplink),
    "flows-not-pinned": Broken("connections break when the better uplink is back", _owned_table),
    "nat6-failed": Broken("hosts with a local IPv6 address have no connection", _untranslated),
    "nat6-without-prefix": Broken(
        "hosts with a local IPv6 address have no connection by one uplink",
        _nothing_to_translate_to,
    ),
    "prefix-not-deprecated": Broken("hosts use the IPv6 of an uplink that is out", _not_deprecated),
    "announcer-ignores-kernel": Broken(
        "hosts use the IPv6 of an uplink that is out, for hours", _ignored_lifetimes
    ),
    "mark-overwritten": Broken(
        "some connections break when the better uplink is back", _overwritten_marks
    ),
    "off-has-default": Broken("a VPN does not carry other traffic", _off_has_default),
    "quota-reached": Broken("an uplink is hardly used any more", _limited(2)),
    "quota-in-use": Broken("an uplink is used beyond its quota", _limited(1, 2, action="off")),
    "ledger-error": Broken("the volume of an uplink is counted from zero", _ledger),
    "standby-with-address": Broken("other traffic uses one uplink only", _standby_with_address),
    "active-without-address": Broken(
        "two gateways are active, or none has the LAN's address", _active_without_address
    ),
    "capacity-unknown": Broken(
        "a backup uplink does not help although the others are full", _unknown_capacity
    ),
    "no-mark": Broken("marked traffic does not use its uplink", _no_mark),
    "removed-externally": Broken("rules disappeared for a moment", _removed(2)),
    "rate-limited": Broken("rules keep disappearing", _removed(10)),
    "operation-failed": Broken("another program uses the table of an uplink", _operation_failed),
    "failed-in-use": Broken("no uplink works, but one is still used", _checked(1, 2)),
    "mptcpd-running": Broken("there are endpoints that nobody configured", _mptcpd),
    "limits-above-max": Broken("there are fewer subflows than configured", _low_limits),
    "limit-not-lowered": Broken("there are more subflows than configured", _limit_not_lowered),
    "resolver-diverted": Broken("names fail on one uplink, pings work", _diverted_resolver),
    "resolver-shared": Broken("names fail, pings work", _shared_resolver),
    "resolv-conf-error": Broken("names fail after an uplink is lost", _unwritable_resolv_conf),
    "resolved-unchanged": Broken(
        "names that do not exist take seconds while an uplink is dead", _unchanged_resolved
    ),
    "announced-addresses": Broken(
        "no subflow is opened to an address that the peer announces", _announced_addresses
    ),
}


def codes(daemon: Daemon) -> set[str]:
    """The codes in the status now."""
    status = daemon.status()
    reasons = {family["reason"] for uplink in status["uplinks"] for family in uplink["families"]}
    return {problem["code"] for problem in status["problems"]} | (reasons - {None})


def paragraph(printed: str, daemon: Daemon, code: str) -> str:
    """The lines of a printed status about `code`; the last of several, which has the advice."""
    status = daemon.status()
    texts = [problem["text"] for problem in status["problems"] if problem["code"] == code]
    texts += [
        family["text"]
        for uplink in status["uplinks"]
        for family in uplink["families"]
        if family["reason"] == code
    ]
    beginning = texts[0][:27] if texts else ""  # before any number that grows meanwhile
    blocks = []
    for block in printed.split("\n! ")[1:]:
        first, *rest = block.split("\n")
        lines = [first, *(line for line in rest if line.startswith("  "))]
        if beginning and beginning in " ".join(line.strip() for line in lines):
            blocks.append("! " + "\n".join(lines))
    return next((lines for lines in blocks if "\n  →" in lines), "".join(blocks[:1]))
