"""What `mproutd explain` says of rules and policies, and where packets really leave."""

from __future__ import annotations

from collections import Counter
from random import Random
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.explain.decide import World, explain
from mproutd.explain.render import explanation_lines
from mproutd.explain.request import Request
from mproutd.firewall.ruleset import make_table
from mproutd.netlink.conntrack import Connection, End
from mproutd.netlink.nft_values import META_MARK
from mproutd.planning.numbering import assign_policy_numbers
from mproutd.planning.plan import make_plan
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_flows import Flows
from tests.lab.fake_world import World as FakeWorld
from tests.lab.fake_world import uci
from tests.lab.nft_machine import Machine
from tests.lab.random_rules import (
    DESTINATIONS,
    NETWORK,
    SOURCES,
    UPLINKS,
    Match,
    packet,
    policies,
    rules,
)


class Site:
    """A gateway with these policies and rules, after the daemon's passes."""

    def __init__(self, own: str, lost: tuple[int, ...] = ()) -> None:
        self.world = FakeWorld()
        for n in range(1, UPLINKS + 1):
            gateways = {"gateway": f"10.{n}.{n}.1", "gateway6": f"fe80::{n}"}
            self.world.device(f"eth{n}", f"10.{n}.{n}.2/24", f"2001:db8:{n}::2/64", **gateways)
        self.world.device("br-lan", "192.168.70.1/24", "2001:db8:70::1/64")
        self.config = uci(NETWORK, own)
        self.world.run(self.config)
        for n in lost:
            self.world.down(f"eth{n}")
        self.world.run(self.config)
        state = self.world.store.state
        request = snapshot_request(self.config, state, sweep=True, full=True)
        self.snapshot = self.world.snapshot(request)
        self.plan = make_plan(self.config, self.snapshot, state, Facts())
        numbers = assign_policy_numbers(self.config, state.policies)
        uplinks = [uplink.config for uplink in self.plan.uplinks]
        self.table = make_table(self.config, uplinks, self.plan.numbers, (), numbers)
        self.sets: dict[str, set[str]] = {own.name: set() for own in self.table.sets}
        self.kernel = Flows(self.world)
        self.asked: set[str] = set()

    def explain(self, request: Request) -> Any:
        def in_set(name: str, address: str) -> bool:
            self.asked.add(name)
            return address in self.sets[name]

        world = World(self.config, self.snapshot, self.plan, in_set)
        return explain(request, world, self.kernel)

    def leaves_by(self, request: Request, **connection: Any) -> tuple[int, str]:
        """(the mark of the packet, the device that it leaves by or "")."""
        mark, iif = request.mark, 0
        if request.iif:
            machine = Machine(self.table, request, self.sets, **connection)
            machine.run("incoming")
            mark = machine.numbers[META_MARK]
            iif = self.world.link(request.iif).index
        chosen = self.kernel.route(request, iif, mark).chosen
        return mark, self.world.links[chosen.device].name if chosen else ""


def fill(random: Random, site: Site) -> None:
    """Addresses in some sets."""
    for own in site.table.sets:
        pool = SOURCES if own.name.startswith("sticky_") else DESTINATIONS
        family = AF_INET if own.name.endswith("4") else AF_INET6
        site.sets[own.name] = set(random.sample(pool[family], random.randint(0, 2)))


def tracked(random: Random, site: Site, request: Request) -> dict[str, Any]:
    """An existing connection that the packet belongs to, in one of its directions."""
    marks = [own.mark for own in site.plan.numbers.values()]
    numbers = assign_policy_numbers(site.config, site.world.store.state.policies)
    mark = random.choice((0, *marks)) | random.choice((0, *(own.mark for own in numbers.values())))
    ports = (request.source_port, request.destination_port)
    there = End(request.source, request.destination, request.protocol, *ports)
    back = End(request.destination, request.source, request.protocol, *ports[::-1])
    reply = random.random() < 0.3
    ends = (back, there) if reply else (there, back)
    site.kernel.tracked = [Connection(*ends, mark)]
    return {"ct_mark": mark, "new": False, "reply": reply}


@pytest.mark.parametrize("seed", range(8))
def test_random_packets_leave_where_it_says(seed: int) -> None:
    """300 packets and ten sets of rules for each seed."""
    random = Random(seed)
    match = Match()
    outcomes: Counter[str] = Counter()
    for _ in range(10):
        head = policies(random)
        lost = tuple(n for n in range(1, UPLINKS + 1) if random.random() < 0.3)
        site = Site(head + rules(random, 8, match, head), lost)
        fill(random, site)
        for _ in range(30):
            own, family = random.random() < 0.3, random.choice((AF_INET, AF_INET6))
            request = packet(random, own, random.choice(match.macs), family)
            if not own and random.random() < 0.2:
                request = request._replace(iif=f"eth{random.randint(1, UPLINKS)}")
            connection: dict[str, Any] = {}
            site.kernel.tracked = ()
            if not own and random.random() < 0.3:
                connection = tracked(random, site, request)
            found = site.explain(request)
            mark, device = site.leaves_by(request, **connection)
            said = int((found["mark"] or "0").partition("/")[0], 16)
            assert (said, found["device"] or "") == (mark, device), (request, site.config.rules)
            assert explanation_lines(found)
            outcomes[found["rule"]["name"] if found["rule"] else "none"] += 1
            outcomes["applies"] += found["applies"]
            outcomes["unreachable"] += bool(found["error"])
            outcomes["tracked"] += bool(connection)
        assert site.asked <= site.sets.keys()
    assert outcomes["applies"] > 20, outcomes
    assert min(outcomes["unreachable"], outcomes["tracked"], outcomes["none"]) > 0, outcomes


# -- single cases -------------------------------------------------------------------------

MEMBERS = """
config member 'm2'
 option interface 'wan2'
 option metric '1'
config member 'm1'
 option interface 'wan1'
 option metric '2'
config policy 'office'
 list use_member 'm1'
 list use_member 'm2'
"""
HOST, FAR = "192.168.70.10", "198.51.100.1"


def rule(name: str, *options: str, to: str = "office") -> str:
    lines = "".join(f" option {option}\n" for option in options)
    return f"config rule '{name}'\n option use_policy '{to}'\n{lines}"


def forwarded(**fields: Any) -> Request:
    return Request(FAR, HOST, iif="br-lan", **fields)


def test_a_rule_its_policy_and_who_is_next() -> None:
    site = Site(MEMBERS + rule("bank", "dest_ip '198.51.100.0/24'"))
    assert "\n".join(explanation_lines(site.explain(forwarded()))) == (
        f"{HOST} to {FAR} from br-lan: leaves via wan2 (eth2), gateway 10.2.2.1\n"
        "  rule      bank (mproutd:11): office\n"
        "  mark      0x100/0x3f00\n"
        "  ip rule   7300: from all fwmark 0x100/0x3f00 lookup 7257 protocol 77\n"
        "  route     default via 10.2.2.1 dev eth2 table 7257 proto 77\n"
        "  next      wan1, then unreachable"
    )
    site = Site(MEMBERS + rule("bank", "dest_ip '198.51.100.0/24'"), lost=(2,))
    found = site.explain(forwarded())
    assert (found["uplink"], found["applies"]) == ("wan1", True)
    assert found["standby"] == [{"uplink": "wan2", "usable": False, "reason": "link-down"}]
    site = Site(MEMBERS + rule("bank", "dest_ip '198.51.100.0/24'"), lost=(1, 2))
    found = site.explain(forwarded())
    assert (found["error"], found["last_resort"]) == ("the route is unreachable", "unreachable")
    assert [member["uplink"] for member in found["standby"]] == ["wan2", "wan1"]


def test_what_is_not_known_leaves_a_rule_open() -> None:
    options = ("src_mac '02:00:00:00:00:01'", "proto 'tcp'", "dest_port '443'")
    site = Site(MEMBERS + rule("tv", *options) + rule("rest", to="wan3"))
    found = site.explain(forwarded())
    assert found["rule"] == {"name": "rest", "location": "mproutd:16", "policy": "wan3"}
    assert found["open_rules"] == [
        {"name": "tv", "location": "mproutd:11", "arguments": ["--proto", "--port", "--mac"]}
    ]
    assert "  open      rule tv (mproutd:11) comes first, if --proto and --port and --mac" in (
        "\n".join(explanation_lines(found))
    )
    assert site.explain(forwarded(protocol=17))["open_rules"] == []


def test_own_traffic_of_a_user() -> None:
    own = rule("mail", "user '1500'") + rule("rest", "user '1600'", to="default")
    site = Site(MEMBERS + own)
    found = site.explain(Request(FAR, uid=1500))
    assert (found["uplink"], found["applies"], found["mark"]) == ("wan2", True, None)
    assert found["ip_rule"].startswith("7900: ")
    bound = site.explain(Request(FAR, "10.1.1.2", uid=1500))
    assert (bound["uplink"], bound["applies"]) == ("wan1", False)
    assert "mail (mproutd:11): office, which does not decide here" in (
        "\n".join(explanation_lines(bound))
    )
    rest = site.explain(Request(FAR, uid=1600))
    assert (rest["uplink"], rest["applies"]) == ("wan1", True)
    assert "rest (mproutd:14): other traffic" in "\n".join(explanation_lines(rest))
    bound = site.explain(Request(FAR, "10.1.1.2", uid=1600))
    assert (bound["rule"]["name"], bound["applies"]) == ("rest", False)
    assert site.explain(Request(FAR))["open_rules"][0]["arguments"] == ["--user"]


def test_a_user_that_does_not_exist_matches_nothing() -> None:
    site = Site(MEMBERS + rule("mail", "user '1500'"))
    named = site.config.rules[0]._replace(user="nobody-here")
    site.config = site.config._replace(rules=(named,))
    assert site.explain(Request(FAR, uid=1500))["rule"] is None


def test_a_sticky_source_keeps_its_uplink_and_default_takes_no_mark() -> None:
    site = Site(MEMBERS + rule("web", "sticky '1'") + rule("x", "sticky '1'", to="default"))
    site.sets["sticky_web_wan1_4"] = {HOST}
    found = site.explain(forwarded())
    assert (found["kept_uplink"], found["kept_by"], found["uplink"]) == ("wan1", "sticky", "wan1")
    assert (found["applies"], found["mark"]) == (True, "0x1000200/0x7f003f00")
    text = "\n".join(explanation_lines(found))
    assert "keeps     wan1, where earlier connections of the sender are" in text
    assert "next      wan2, then unreachable" in text
    site = Site(MEMBERS + rule("x", "sticky '1'", to="default"))
    found = site.explain(forwarded())
    assert (found["mark"], found["applies"], found["kept_uplink"]) == (None, True, None)


@pytest.mark.parametrize(("strict", "following"), [(0, "wan1"), (1, None)])
def test_a_connection_follows_its_policy_after_its_uplink(strict: int, following: Any) -> None:
    own = f"config uplink 'wan2'\n option strict '{strict}'\n"
    site = Site(MEMBERS + rule("web", "proto 'tcp'") + own)
    request = forwarded(protocol=6, source_port=40000, destination_port=443)
    there = End(HOST, FAR, 6, 40000, 443)
    site.kernel.tracked = [Connection(there, End(FAR, "10.2.2.2", 6, 443, 40000), 0x02000100)]
    found = site.explain(request)
    assert (found["kept_uplink"], found["kept_by"], found["applies"]) == (
        "wan2", "connection", False,
    )  # fmt: skip
    assert found["mark"] == "0x2000100/0x7f003f00"
    assert [member["uplink"] for member in found["standby"]] == [following] * (not strict)
    assert found["last_resort"] == "unreachable"
    other = site.kernel.tracked[0]._replace(mark=0x02003F00)
    site.kernel.tracked = [other]
    assert site.explain(request)["mark"] == "0x2000000/0x7f000000"
