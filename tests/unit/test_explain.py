"""`mproutd explain`: which way a flow leaves and why, without the real kernel."""

from __future__ import annotations

import errno
import re
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import pytest

from mproutd.explain.decide import UnknownDeviceError, World, explain
from mproutd.explain.ip_rules import matching_rule
from mproutd.explain.render import explanation_lines
from mproutd.explain.request import Request, parse_request
from mproutd.model import NO_SELECTORS, Route, Rule, Selectors
from mproutd.netlink import nft_elements
from mproutd.netlink.conntrack import Connection, End
from mproutd.netlink.conntrack import connection as connection_of
from mproutd.netlink.nlmsg import DecodeError, Message, put, put_address
from mproutd.planning.plan import make_plan
from mproutd.planning.uplinks import Facts
from mproutd.snapshot_request import snapshot_request
from tests.lab.fake_flows import Flows
from tests.lab.fake_world import World as FakeWorld
from tests.lab.fake_world import interface, uci

FAR = "198.51.100.9"
HOST = "192.168.70.10"
TWO = interface("wan1", "eth1", "master") + interface("wan2", "eth2", "on")


class Site:
    """A gateway with two uplinks and a LAN, after the daemon's passes."""

    def __init__(self, own: str = "", network: str = TWO) -> None:
        self.world = FakeWorld()
        for n in (1, 2):
            self.world.device(f"eth{n}", f"10.{n}.{n}.2/24", gateway=f"10.{n}.{n}.1")
        self.world.device("br-lan", "192.168.70.1/24")
        self.config = uci(network, own)
        self.world.run(self.config)
        self.kernel = Flows(self.world)
        self.pins: bool | None = True
        self.sets: set[tuple[str, str]] = set()

    def explain(self, **given: str) -> Any:
        state, facts = self.world.store.state, Facts()
        snapshot = self.world.snapshot(snapshot_request(self.config, state, sweep=True, full=True))
        plan = make_plan(self.config, snapshot, state, facts)
        request = parse_request({"uid": None, **given})
        world = World(
            self.config,
            snapshot,
            plan,
            lambda name, address: (name, address) in self.sets,
            self.pins,
        )
        return explain(request, world, self.kernel)

    def text(self, **given: str) -> str:
        return "\n".join(explanation_lines(self.explain(**given)))

    def mark(self, uplink: int) -> int:
        return uplink << 24


def flow(source: str, target: str, ports: tuple[int, int] = (0, 0), protocol: int = 6) -> End:
    return End(source, target, protocol, *ports)


def test_own_traffic_follows_the_default_for_other_traffic() -> None:
    assert Site().text(to=FAR, uid="1000") == (
        f"this host to {FAR} as uid 1000: leaves via wan1 (eth1), gateway 10.1.1.1\n"
        "  ip rule   32765: from all lookup 7000 protocol 77\n"
        "  route     default via 10.1.1.1 dev eth1 table 7000 proto 77\n"
        "  next      wan2, then what table main has"
    )


def test_the_source_that_the_kernel_chose() -> None:
    found = Site().explain(to=FAR)
    assert "  source    10.1.1.2" in explanation_lines({**found, "source": "10.1.1.2"})


def test_an_address_of_an_uplink_decides_before_other_traffic() -> None:
    found = Site().explain(**{"from": "10.2.2.2", "to": FAR})
    assert (found["kind"], found["uplink"], found["table"]) == ("own", "wan2", 7002)
    assert found["ip_rule"].startswith("7502: from 10.2.2.2 ")
    assert found["standby"] == [{"uplink": "wan1", "usable": True, "reason": None}]
    assert found["notes"] == ["10.2.2.2 is an MPTCP endpoint: its subflows go this way"]


def test_a_strict_uplink_has_nothing_behind_it() -> None:
    site = Site("config uplink 'wan2'\n option strict '1'\n")
    found = site.explain(**{"from": "10.2.2.2", "to": FAR})
    assert (found["standby"], found["last_resort"]) == ([], "unreachable")
    site.world.down("eth2")
    site.world.run(site.config)
    found = site.explain(to=FAR, mark=hex(site.mark(2)))
    assert found["error"] == "the route is unreachable"
    assert found["device"] is None
    assert f"does not leave: {found['error']}" in "\n".join(explanation_lines(found))


def test_an_uplink_that_is_out_stands_in_line_with_the_reason() -> None:
    site = Site()
    site.world.set("eth2", carrier=False)
    site.world.run(site.config)
    found = site.explain(to=FAR)
    assert found["standby"] == [{"uplink": "wan2", "usable": False, "reason": "no-carrier"}]
    assert "next      wan2 (unusable: the link has no carrier), then what" in site.text(to=FAR)


@pytest.mark.parametrize("iif", ["", "br-lan"])
def test_a_forwarded_flow_without_a_connection(iif: str) -> None:
    given = {"from": HOST, "to": FAR, "proto": "tcp", "port": "443"} | ({"iif": iif} if iif else {})
    found = Site().explain(**given)
    assert (found["kind"], found["flow"]["iif"], found["uplink"]) == ("forwarded", "br-lan", "wan1")
    assert (found["mark"], found["kept_uplink"], found["flow"]["uid"]) == (None, None, None)
    assert any("--iif says more" in note for note in found["notes"]) is not bool(iif)


def connection(
    site: Site, uplink: int, ports: tuple[int, int] = (40000, 443), source: str = HOST
) -> Connection:
    """A masqueraded one from the LAN."""
    original = flow(source, FAR, ports)
    reply = flow(FAR, f"10.{uplink}.{uplink}.2", ports[::-1])
    return Connection(original, reply, site.mark(uplink))


def test_a_connection_keeps_its_uplink() -> None:
    site = Site()
    site.kernel.tracked = [connection(site, 2)]
    given = {"from": HOST, "to": FAR, "proto": "tcp", "port": "443"}
    found = site.explain(**given, sport="40000")
    assert (found["kept_uplink"], found["uplink"]) == ("wan2", "wan2")
    assert found["mark"] == "0x2000000/0x7f000000"
    assert found["ip_rule"].startswith("7102: ")
    text = site.text(**given, sport="40000")
    assert "keeps     wan2, where it began" in text
    assert site.explain(**given, sport="40001")["kept_uplink"] is None
    site.kernel.tracked = [*site.kernel.tracked, connection(site, 1, (40001, 443))]
    found = site.explain(**given)
    assert found["kept_uplink"] is None
    assert "a new connection; tracked ones keep wan1 and wan2: name" in found["notes"][-1]
    site.kernel.tracked = [connection(site, 2)._replace(mark=0)]
    found = site.explain(**given)
    assert (found["kept_uplink"], len(found["notes"])) == (None, 1)


def test_what_arrives_by_the_uplink_itself_is_not_marked() -> None:
    site = Site()
    there, here = flow(FAR, HOST, (40000, 80)), flow(HOST, FAR, (80, 40000))
    site.kernel.tracked = [Connection(there, here, site.mark(2))]
    given = {"from": FAR, "to": HOST, "iif": "eth2", "proto": "tcp"}
    found = site.explain(**given, sport="40000", port="80")
    assert (found["kept_uplink"], found["device"], found["uplink"]) == (None, "br-lan", None)
    assert (found["standby"], found["last_resort"]) == ([], None)
    assert "leaves via br-lan, no gateway needed" in "\n".join(explanation_lines(found))
    given = {"from": HOST, "to": FAR, "iif": "br-lan", "proto": "tcp"}
    back = site.explain(**given, sport="80", port="40000")
    assert (back["kept_uplink"], back["uplink"]) == ("wan2", "wan2")


def test_own_replies_of_a_redirected_port_are_marked() -> None:
    site = Site()
    lan = "192.168.70.1"
    there, here = flow(FAR, "10.2.2.2", (40000, 80)), flow(lan, FAR, (80, 40000))
    translated = Connection(there, here, site.mark(2))
    site.kernel.tracked = [translated]
    given = {"from": lan, "to": FAR, "proto": "tcp", "sport": "80", "port": "40000"}
    assert site.explain(**given)["kept_uplink"] == "wan2"
    site.kernel.tracked = [translated._replace(original=there._replace(destination=lan))]
    assert site.explain(**given)["kept_uplink"] is None


@pytest.mark.parametrize(
    ("pins", "tracked", "note"),
    [
        (True, None, "connection tracking cannot be read"),
        (False, (), "the table inet mproutd is not in place"),
        (None, (), ""),
    ],
)
def test_without_the_firewalls_table(pins: bool | None, tracked: Any, note: str) -> None:
    site = Site()
    site.pins, site.kernel.tracked = pins, tracked
    found = site.explain(**{"from": HOST, "to": FAR, "iif": "br-lan"})
    assert found["kept_uplink"] is None
    assert note in " ".join(found["notes"])


def test_what_is_for_this_host_goes_nowhere() -> None:
    site = Site()
    local = Route(2, 255, "10.2.2.2", site.world.link("eth2").index, type=2)
    site.world.foreign(local)
    found = site.explain(**{"from": HOST, "to": "10.2.2.2"})
    assert (found["kind"], found["uplink"], found["device"]) == ("to-host", None, None)
    assert "stays on this host" in "\n".join(explanation_lines(found))


def test_main_decides_without_a_master() -> None:
    site = Site(network=TWO.replace("master", "on"))
    found = site.explain(to=FAR)
    assert (found["table"], found["standby"], found["last_resort"]) == (254, [], None)
    found = site.explain(**{"from": "10.2.2.2", "to": FAR})
    assert (found["standby"], found["last_resort"]) == ([], "main")


def test_another_programs_rule_is_named() -> None:
    site = Site()
    vpn = Route(2, 51820, "default", site.world.link("br-lan").index, protocol=3)
    rule = Rule(2, 5000, 51820, protocol=3, plain=False, selectors=Selectors((1000, 1999)))
    site.world.foreign(vpn, rule)
    found = site.explain(to=FAR, uid="1500")
    assert (found["ip_rule"], found["device"]) == (
        "5000: from all uidrange 1000-1999 lookup 51820 protocol 3",
        "br-lan",
    )
    assert site.explain(to=FAR, uid="2000")["uplink"] == "wan1"


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (errno.EINVAL, "the kernel drops it: 203.0.113.5 is not expected on br-lan"),
        (errno.EXDEV, "the kernel drops it"),
        (errno.ENETUNREACH, "there is no route"),
        (errno.EHOSTUNREACH, "the route is unreachable"),
        (errno.EACCES, "the route is prohibit"),
    ],
)
def test_why_a_flow_does_not_leave(refused: int, error: str) -> None:
    site = Site()
    site.kernel.refuses = refused
    found = site.explain(**{"from": "203.0.113.5", "to": FAR, "iif": "br-lan"})
    assert found["error"].startswith(error)
    assert (found["table"], found["ip_rule"]) == (None, None)


def test_ipv6_reports_a_route_that_discards() -> None:
    site = Site()
    link = site.world.link("eth1").index
    site.world.foreign(Route(10, 254, "2001:db8::/32", link, type=6))
    found = site.explain(to="2001:db8::9")
    assert (found["error"], found["table"]) == ("the route is blackhole", 254)
    assert found["notes"][0].startswith("a socket without an address gets one of any device")
    site.kernel.refuses = errno.EINVAL
    assert site.explain(to=FAR)["error"] == "the route is blackhole"


def test_a_host_that_no_route_leads_to() -> None:
    site = Site()
    site.world.rules = []
    found = site.explain(**{"from": HOST, "to": FAR})
    assert (found["kind"], found["error"]) == ("forwarded", "there is no route")
    with pytest.raises(UnknownDeviceError):
        site.explain(**{"from": HOST, "to": FAR, "iif": "eth9"})


# -- the request --------------------------------------------------------------------------


def test_every_argument() -> None:
    request = parse_request(
        {
            "from": "2001:DB8::1", "to": "2001:db8::0:9", "proto": "sctp", "port": "443",
            "sport": "1", "mac": "02-00-00-00-00-0A", "dscp": "ef", "mark": "0x10/0xff",
            "uid": "7", "iif": None,
        }
    )  # fmt: skip
    assert request == Request(
        "2001:db8::9", "2001:db8::1", 132, 1, 443, "", 7, "02:00:00:00:00:0a", 46, 16
    )
    assert request.selectors == Selectors((7, 7), (1, 1), (443, 443), 132)
    assert Request(FAR).selectors == NO_SELECTORS


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "name the destination: --to ADDRESS"),
        ({"to": "x"}, "--to: 'x' is not an address; resolve a name first, for example with dig"),
        ({"to": FAR, "from": "::1"}, "--from and --to are IPv6 and IPv4: use one family"),
        ({"to": FAR, "port": "80"}, "ports need a protocol that has them: --proto tcp, udp"),
        ({"to": FAR, "port": "80", "proto": "icmp"}, "ports need a protocol"),
        ({"to": FAR, "port": "0", "proto": "tcp"}, "--port: '0' is out of range: 1 to 65535"),
        ({"to": FAR, "proto": "tpc"}, "--proto: 'tpc' is not a protocol"),
        ({"to": FAR, "iif": "eth1"}, "--iif needs --from"),
        ({"to": FAR, "from": HOST, "iif": "eth1", "uid": "1"}, "--uid and --user are about"),
        ({"to": FAR, "mac": "x"}, "--mac: 'x' is not a MAC address"),
        ({"to": FAR, "dscp": "64"}, "--dscp: '64' is out of range"),
        ({"to": FAR, "mark": "x"}, "--mark: 'x' is not a whole number"),
        ({"to": FAR, "uid": "root"}, "--uid: 'root' is not a whole number"),
    ],
)
def test_bad_arguments(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_request(given)


# -- ip rules -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"source": "10.0.0.0/8"}, True),
        ({"source": "192.0.2.0/24"}, False),
        ({"destination": "default"}, True),
        ({"destination": "192.0.2.1"}, False),
        ({"iif": "lo"}, True),
        ({"iif": "eth1"}, False),
        ({"oif": "eth1"}, False),
        ({"fwmark": 16, "fwmask": 0xF0}, True),
        ({"fwmark": 32, "fwmask": 0xF0}, False),
        ({"selectors": Selectors((0, 9), None, (80, 90), 6)}, True),
        ({"selectors": Selectors((10, 19))}, False),
        ({"selectors": Selectors(None, (1, 9))}, False),
        ({"selectors": Selectors(None, None, (91, 99))}, False),
        ({"selectors": Selectors(protocol=17)}, False),
        ({"inverted": True, "source": "192.0.2.0/24"}, True),
        ({"inverted": True, "source": "10.0.0.0/8"}, False),
        ({"suppress_prefixlength": 0}, False),
    ],
)
def test_which_ip_rule_led_to_the_table(rule: dict[str, Any], matches: bool) -> None:
    request = Request(FAR, "10.1.1.2", 6, 0, 80, uid=5, mark=16)
    wrong = [Rule(10, 1, 7), Rule(2, 2, 8)]
    rules = [*wrong, Rule(2, 3, 7, **rule)]
    found = matching_rule(rules, request, "", 16, Route(2, 7, "default"))
    assert (found == rules[-1]) is matches
    assert matching_rule(rules, request, "", 16, Route(2, 9, "default")) is None


def test_a_specific_route_is_not_suppressed() -> None:
    rule = Rule(2, 3, 254, suppress_prefixlength=7)
    assert matching_rule([rule], Request(FAR), "", 0, Route(2, 254, "198.51.100.0/24")) == rule


# -- messages -----------------------------------------------------------------------------


def ends(source: str, target: str, ports: tuple[int, int] | None, protocol: int = 6) -> bytes:
    """The payload of CTA_TUPLE_ORIG or CTA_TUPLE_REPLY."""
    family = AF_INET6 if ":" in source else AF_INET
    kinds = (3, 4) if family == AF_INET6 else (1, 2)
    packed = [inet_pton(family, address) for address in (source, target)]
    ip = b"".join(map(put_address, kinds, packed))
    proto = put(1, bytes([protocol]))
    for kind, port in zip((2, 3), ports or (), strict=False):
        proto += put(kind, port.to_bytes(2, "big"))
    return put(1 | 0x8000, ip) + put(2 | 0x8000, proto)


@pytest.mark.parametrize(
    ("family", "source", "target"), [(AF_INET, HOST, FAR), (AF_INET6, "fd00::1", "2001:db8::1")]
)
def test_both_directions_of_a_tracked_connection(family: int, source: str, target: str) -> None:
    head = bytes((family, 0, 0, 0))
    there = put(1 | 0x8000, ends(source, target, (40000, 443)))
    back = put(2 | 0x8000, ends(target, source, (443, 40000)))
    mark = put(8, (0x02000000).to_bytes(4, "big"))
    assert connection_of(head + there + back + mark) == Connection(
        flow(source, target, (40000, 443)), flow(target, source, (443, 40000)), 0x02000000
    )
    ping = put(1, ends(source, target, None, 1)) + put(2, ends(target, source, None, 1))
    found = connection_of(head + ping)
    assert found == Connection(
        flow(source, target, protocol=1), flow(target, source, protocol=1), 0
    )
    assert connection_of(head + there) is None
    for wrong in (
        b"\2",
        head + there + put(2, put(1, put(1, b"x") + put(2, b"y") + put(3, b"z") + put(4, b"w"))),
    ):
        with pytest.raises(DecodeError):
            connection_of(wrong)


def test_a_question_about_a_set() -> None:
    """The request is tested with the real kernel: tests/worlds/test_explain.py."""
    assert nft_elements.get(1, "mproutd", "s1_4", FAR)[-4:] == inet_pton(AF_INET, FAR)
    assert nft_elements.is_found(Message(0, 0, 0, 0, b""))
    assert not nft_elements.is_found(OSError(errno.ENOENT, "x"))
    with pytest.raises(PermissionError):
        nft_elements.is_found(OSError(errno.EPERM, "x"))
