"""Lines that are up and dead, in the laboratory: what the checks make of them.

Configuration: wan1 master on eth1, wan2 on on eth2; wan1 is checked, twenty times as fast as by
the defaults.  tests/lab/outages.py has the troubles, and measures them with the defaults.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lab import SERVER, SERVER6, TWO_UPLINKS, Daemon, Echo, Namespace, Wan, eventually
from tests.lab.outages import (
    NAME,
    NOBODY,
    PICKY,
    QUICK,
    TROUBLES,
    flap,
    inside,
    measure,
    node,
    own,
    until,
    warmed,
)

pytestmark = pytest.mark.kernel

PROMISED = 0.3 + 0.2 + 0.2
"""interval + (down - 1) * timeout + timeout, with QUICK."""
MARGIN = 2.0


def check(daemon: Daemon, index: int = 0) -> dict[str, Any]:
    """The check of wan1."""
    check: dict[str, Any] = daemon.uplink("wan1")["health"][index]
    return check


def codes(daemon: Daemon) -> list[str]:
    """Those of the problems that the status has."""
    return [problem["code"] for problem in daemon.query_status()["problems"]]


def reconfigure(daemon: Daemon, text: str) -> None:
    """Another configuration of our own, while it runs."""
    daemon.configure(own=text)
    daemon.reconcile()


# -- what can be wrong with an uplink ------------------------------------------------------


@pytest.mark.parametrize("name", ["dead", "one-way"])
def test_a_dead_uplink_fails_and_recovers_in_time(name: str) -> None:
    measured = measure(TROUBLES[name], QUICK, PROMISED + MARGIN, 1.0)
    assert measured.out is not None, "it stays in"
    assert measured.back is not None, "it stays out"
    assert measured.out > 0.2  # not before the second round has failed
    assert measured.stall < measured.out + MARGIN
    # Two endpoints, two defaults, two mark rules; and the same again.
    assert measured.writes == 12


@pytest.mark.parametrize("name", ["lossy", "slow"])
def test_a_lossy_uplink_fails_where_quality_counts(name: str) -> None:
    measured = measure(TROUBLES[name], {**QUICK, "timeout": "1"}, 30, 0.5)
    assert measured.out is not None, "it stays in"
    assert measured.back is not None, "it stays out"
    assert measured.writes % 12 == 0


@pytest.mark.parametrize("name", ["dns", "one-dead-host"])
def test_a_working_uplink_stays_in_use(name: str) -> None:
    measured = measure(TROUBLES[name], QUICK, 0, 1.5)
    assert (measured.out, measured.writes) == (None, 0)


def test_a_flapping_uplink_is_held_for_longer_each_time() -> None:
    options = {**QUICK, "recovery_interval": "0.1"}
    without = flap(options, 0.6, 5)
    flaps = flap({**options, "hold": "1.5", "hold_max": "30"}, 0.6, 5)
    assert without.outs >= 3
    assert flaps.outs < without.outs
    assert flaps.writes < without.writes


def test_a_hold_is_reported() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "hold": "60"})
        with Daemon(wan.gateway, own=text) as daemon:
            warmed(daemon, 1)
            for _ in range(2):
                wan.blackhole(1)
                assert until(wan, False, 5) is not None
                wan.repair(1)
                until(wan, True, 2)
            assert not inside(wan)
            status = check(daemon)
            assert (status["failed"], status["flaps"]) == (True, 1)
            assert 50 < status["hold"] <= 60
            eventually(lambda: check(daemon)["good_rounds"] > 5)
            assert re.search(r"for 5\d s", daemon.call("status").words)
            assert re.search(
                r"wan1: health check failed \(IPv4\): 0 of 1 hosts reply; held down for 60 s",
                daemon.log(),
            )


# -- what stays ---------------------------------------------------------------------------


def test_the_verdict_outlives_restart_reload_and_kill() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "recovery_interval": "1", "up": "2"})
        with Daemon(wan.gateway, own=text, verbose=True) as daemon:
            wan.blackhole(1)
            assert until(wan, False, 5) is not None
            daemon.settle()
            state, _ = wan.gateway.state(ids=True), daemon.writes()
            daemon.stop()
            assert daemon.reconcile() == ""
            daemon.start()
            daemon.settle()
            daemon.kill9()
            daemon.start()
            daemon.settle()
            daemon.reconcile()
            reconfigure(daemon, text.replace("'0.3'", "'0.4'"))
            assert daemon.writes() == []
            assert wan.gateway.state(ids=True) == state
            wan.repair(1)
            assert until(wan, True, 10) is not None
            reconfigure(daemon, "")
            assert "health" not in daemon.uplink("wan1")


def test_who_fails_without_carrier_too_comes_back_only_by_answers() -> None:
    with (
        Wan(lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, own=own({**QUICK, "up": "5"})) as daemon,
    ):
        warmed(daemon, 1)
        wan.unplug(1)
        eventually(lambda: not check(daemon)["running"])
        sent = check(daemon)["hosts"][0]["sent"]
        time.sleep(0.5)
        assert check(daemon)["hosts"][0]["sent"] == sent
        wan.plug(1)
        assert until(wan, True, 5) is not None  # it had not failed, so nothing waits
        assert not check(daemon)["failed"]
        wan.blackhole(1)
        assert until(wan, False, 5) is not None
        wan.unplug(1)
        eventually(lambda: not check(daemon)["running"])
        wan.repair(1)
        wan.plug(1)
        eventually(lambda: check(daemon)["running"])
        assert not inside(wan)
        assert until(wan, True, 10) is not None


def test_an_uplink_may_have_to_prove_itself_first() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "initial_state": "offline", "up": "4"})
        with Daemon(wan.gateway, own=text) as daemon:
            assert not inside(wan)
            assert until(wan, True, 5) is not None
            assert not check(daemon)["failed"]
            daemon.stop()
            daemon.start()
            assert inside(wan)
            wan.unplug(1)
            eventually(lambda: not check(daemon)["running"])
            wan.plug(1)
            eventually(lambda: check(daemon)["running"])
            assert not inside(wan)
            assert until(wan, True, 5) is not None


@pytest.mark.parametrize("lost", ["carrier", "address"])
@pytest.mark.parametrize("state", ["online", "offline"])
def test_a_recovering_uplink_gets_neither_family_before_it_replies(lost: str, state: str) -> None:
    """IPv4 hosts decide for IPv6 too, also while there is no IPv4 to probe them."""
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "up": "1000", "initial_state": state})
        text += "\toption gateway '10.1.1.1'\n\toption gateway6 '2001:db8:1::1'\n"
        with Daemon(wan.gateway, own=text, verbose=True) as daemon:
            if state == "online":
                warmed(daemon, 1)
                wan.blackhole(1)
            eventually(lambda: _reasons(daemon) == ["check-failed", "check-failed"])
            if lost == "carrier":
                wan.settle()
                wan.unplug(1)
                eventually(lambda: _reasons(daemon)[0] == "no-carrier")
                wan.plug(1)
            else:
                wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
                eventually(lambda: _reasons(daemon)[0] == "no-address")
                assert _reasons(daemon)[1] == "check-failed"
                wan.gateway.ip("address add 10.1.1.2/24 dev eth1")
            eventually(
                lambda: (
                    _reasons(daemon) == ["check-failed", "check-failed"]
                    and check(daemon)["running"]
                )
            )
            daemon.settle()
            added = [command for command in daemon.writes() if "mptcp endpoint add" in command]
            assert [
                command for command in added if " dev eth1" in command and state == "offline"
            ] == []
            assert sum("2001:db8:1::2 " in command for command in added) == (state == "online")


def _reasons(daemon: Daemon) -> list[str | None]:
    """Of wan1, IPv4 and IPv6."""
    return [family["reason"] for family in daemon.uplink("wan1")["families"]]


def test_a_reload_that_gives_ipv6_hosts_of_its_own_believes_the_others_until_they_speak() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        slow = {**QUICK, "up": "1000", "down": "1000"}
        with Daemon(wan.gateway, own=own({**slow, "down": "2"}), verbose=True) as daemon:
            warmed(daemon, 1)
            wan.blackhole(1)
            eventually(lambda: _reasons(daemon) == ["check-failed", "check-failed"])
            daemon.settle()
            daemon.writes()
            reconfigure(daemon, own(slow, SERVER, SERVER6))
            daemon.settle()
            assert (_reasons(daemon), daemon.writes()) == (["check-failed", "check-failed"], [])
            reconfigure(daemon, own(slow, SERVER6))
            daemon.settle()
            assert (_reasons(daemon), daemon.writes()) == (["check-failed", "check-failed"], [])


class Impatient(Daemon):
    """A daemon for which a minute is half a second (health/checker.py, VERDICT_SHARE_TIMEOUT)."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        words = super().command(verb, *arguments)
        index = words.index("-m")
        words[index : index + 2] = [
            "-c",
            "import sys; from mproutd.services.health import checker;"
            " checker.VERDICT_SHARE_TIMEOUT = 0.5;"
            " from mproutd.cli import main; sys.exit(main(sys.argv[1:]))",
        ]
        return words


@pytest.mark.parametrize("state", ["online", "offline"])
def test_an_uplink_left_with_ipv6_alone_ignores_the_ipv4_hosts(state: str) -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "initial_state": state})
        if state == "offline":
            wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
        with Impatient(wan.gateway, own=text) as daemon:
            if state == "online":
                warmed(daemon, 1)
                wan.blackhole(1)
                eventually(lambda: _reasons(daemon) == ["check-failed", "check-failed"])
                wan.gateway.ip("address delete 10.1.1.2/24 dev eth1")
            eventually(lambda: _reasons(daemon) == ["no-address", None], 5)
            if state == "online":
                wan.repair(1)
            wan.gateway.ip(
                "address add 10.1.1.2/24 dev eth1",
                "route add default via 10.1.1.1 dev eth1 metric 1",
            )
            eventually(lambda: _reasons(daemon) == [None, None], 5)


def test_an_uplink_that_a_reload_adds_may_have_to_prove_itself_too() -> None:
    """wan2 is checked already; wan1 comes with a reload, and is dead at first."""
    wan2 = own(QUICK, uplink="wan2")
    wan1 = own({**QUICK, "initial_state": "offline", "down": "1000"})
    alone = TWO_UPLINKS[: TWO_UPLINKS.index("config interface 'wan1'")]
    alone += TWO_UPLINKS[TWO_UPLINKS.index("config interface 'wan2'") :]
    with Wan(lan=False, shaped=False).usual() as wan:
        wan.blackhole(1)
        with Daemon(wan.gateway, alone, wan2, verbose=True) as daemon:
            eventually(lambda: daemon.uplink("wan2")["health"][0]["good_rounds"] > 1)
            daemon.configure(TWO_UPLINKS, wan2 + wan1)
            assert "endpoint" not in daemon.reconcile("--dry-run")
            assert "endpoint" not in daemon.reconcile()
            daemon.settle()
            assert _reasons(daemon) == ["check-failed", "check-failed"]
            assert not any("endpoint add 10.1.1.2" in command for command in daemon.writes())
            wan.repair(1)
            assert until(wan, True, 10) is not None
            # A reload that changes its options, or gives a known one such, is nothing new.
            reconfigure(daemon, wan2 + wan1.replace("'1000'", "'999'"))
            assert inside(wan)


def test_a_plain_connection_continues_over_a_failed_uplink() -> None:
    """The hosts are dead, not the uplink; the peer of one connection does not support MPTCP."""
    with (
        Wan(lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, own=own(QUICK, NOBODY)) as daemon,
        Echo(wan.gateway, wan.server, SERVER, bind="10.1.1.2", answers_mptcp=False) as plain,
    ):
        eventually(lambda: not daemon.uplink("wan1")["usable"])
        eventually(
            lambda: (
                "10.1.1.2 id" in wan.gateway.ip("mptcp endpoint show")
                and "subflow backup dev eth1" in wan.gateway.ip("mptcp endpoint show")
            )
        )
        received = plain.report().received
        eventually(lambda: plain.report().received > received + 20)
        assert plain.report().error == ""


def test_a_connection_survives_when_every_host_of_its_family_is_dead() -> None:
    """Both uplinks have IPv6 too, whose host replies; the connection is IPv4 only."""
    text = own(QUICK, NOBODY, SERVER6) + own(QUICK, NOBODY, SERVER6, uplink="wan2")
    with (
        Wan(lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, own=text) as daemon,
        Echo(wan.gateway, wan.server, SERVER) as echo,
    ):
        eventually(lambda: daemon.log().count("failed (IPv4)") == 2)
        problems = eventually(lambda: daemon.query_status()["problems"])
        assert [problem["code"] for problem in problems] == ["failed-in-use"]
        last = problems[0]["uplink"]
        assert problems[0]["families"] == "IPv4"
        daemon.settle()
        here = wan.gateway.ip("mptcp endpoint show")
        four = {"wan1": "10.1.1.2", "wan2": "10.2.2.2"}
        assert [name for name, address in four.items() if f"{address} " in here] == [last]
        received = echo.report().received
        eventually(lambda: echo.report().received > received + 50)
        assert echo.report().error == ""


def test_a_handover_uplink_takes_over_and_hands_back() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        network = TWO_UPLINKS.replace("'on'", "'handover'")
        with (
            Daemon(wan.gateway, network, own(QUICK)) as daemon,
            Echo(wan.gateway, wan.server, SERVER) as echo,
        ):
            warmed(daemon, 1)
            assert "10.2.2.2 " not in wan.gateway.ip("mptcp endpoint show")
            wan.swallow(1)
            eventually(lambda: "10.2.2.2 " in wan.gateway.ip("mptcp endpoint show"))
            received = echo.report().received
            eventually(lambda: echo.report().received > received + 20)
            wan.spit(1)
            assert until(wan, True, 5) is not None
            eventually(lambda: "10.2.2.2 " not in wan.gateway.ip("mptcp endpoint show"))
            received = echo.report().received
            eventually(lambda: echo.report().received > received + 20)
            assert echo.report().error == ""


# -- who is asked, and how ----------------------------------------------------------------


def test_each_family_by_its_own_hosts() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        linklocal = wan.routers[1].ip("address show dev access scope link", family=6)
        linklocal = linklocal.split("inet6 ")[1].split()[0]
        text = own(QUICK, SERVER, SERVER6, "gateway6")
        text += f"\toption gateway6 '{linklocal.partition('/')[0]}'\n"
        with Daemon(wan.gateway, own=text) as daemon:
            warmed(daemon, 2)
            four, six = check(daemon, 0), check(daemon, 1)
            assert [family_check["family"] for family_check in (four, six)] == ["ipv4", "ipv6"]
            eventually(lambda: all(host["reachable"] for host in check(daemon, 1)["hosts"]))
            reconfigure(daemon, text.replace("\tlist track_ip 'gateway6'\n", ""))
            wan.routers[1].ip("rule add priority 1 iif core blackhole", family=6)
            eventually(lambda: check(daemon, 1)["failed"])
            assert not check(daemon, 0)["failed"]
            families = daemon.settle()["uplinks"][0]["families"]
            assert [family["reason"] for family in families] == [None, "check-failed"]
            endpoints = wan.gateway.ip("mptcp endpoint show")
            assert "10.1.1.2 " in endpoints
            assert "2001:db8:1::2 " not in endpoints
            # IPv4 hosts alone decide for both families.
            reconfigure(daemon, own(QUICK, NOBODY))
            eventually(
                lambda: (
                    [family["reason"] for family in daemon.uplink("wan1")["families"]]
                    == ["check-failed", "check-failed"]
                )
            )


@pytest.mark.parametrize("method", [{}, {"track_method": "tcp", "track_port": "22"}])
def test_probes_leave_via_their_own_uplink_whatever_main_has(method: dict[str, str]) -> None:
    """Main's route to the host is via the other uplink; wan1 loses outgoing packets only."""
    with Wan(lan=False, shaped=False).usual() as wan:
        wan.server.popen(
            *(sys.executable, "-I", "-c"),
            "import socket; s = socket.create_server(('10.9.9.9', 22)); "
            "[s.accept() for _ in range(999)]",
        )
        wan.gateway.ip(f"route add {SERVER} via 10.2.2.1 dev eth2")
        with Daemon(wan.gateway, own=own({**QUICK, **method})) as daemon:
            warmed(daemon, 2)
            wan.swallow(1, "access")
            assert until(wan, False, 5) is not None


@pytest.mark.parametrize("allowed", [True, False], ids=["ping-sockets", "raw-sockets"])
def test_both_kinds_of_sockets(allowed: bool) -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        wan.gateway.sysctl("net.ipv4.ping_group_range", "0 2147483647" if allowed else "1 0")
        with Daemon(wan.gateway, own=own({**QUICK, "count": "2"}, SERVER, SERVER6)) as daemon:
            warmed(daemon, 4)
            process = daemon.process
            assert process is not None
            tables = {
                name: len(Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines()) - 1
                for name in ("icmp", "icmp6", "raw", "raw6")
            }
            assert tables == dict.fromkeys(tables, 0) | (
                {"icmp": 1, "icmp6": 1} if allowed else {"raw": 1, "raw6": 1}
            )
            assert not any(check["failed"] for check in daemon.uplink("wan1")["health"])
            wan.blackhole(1)
            eventually(lambda: all(check["failed"] for check in daemon.uplink("wan1")["health"]))
            wan.repair(1)
            eventually(lambda: not any(e["failed"] for e in daemon.uplink("wan1")["health"]))


class WithoutRaw(Daemon):
    """A daemon without CAP_NET_RAW."""

    def command(self, verb: str, *arguments: str) -> list[str]:
        return ["setpriv", "--bounding-set=-net_raw", "--", *super().command(verb, *arguments)]


def test_without_permission_to_probe_nothing_is_concluded() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        wan.gateway.sysctl("net.ipv4.ping_group_range", "1 0")
        with WithoutRaw(wan.gateway, own=own(QUICK)) as daemon:
            eventually(lambda: check(daemon)["error"] == "operation not permitted")
            time.sleep(0.5)
            assert not check(daemon)["failed"]
            assert "operation not permitted" in daemon.call("status").words
            wan.gateway.sysctl("net.ipv4.ping_group_range", "0 2147483647")
            warmed(daemon, 1)
            assert check(daemon)["error"] is None


WEB = """
import http.server, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({"/good": 204, "/there": 302}.get(self.path, 500))
        self.end_headers()
    def log_message(self, *words):
        pass
server = http.server.HTTPServer(("10.9.9.9", int(sys.argv[1])), Answer)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
"""


def certificate(folder: Path) -> Path:
    """One that nobody vouches for, with its key."""
    file = folder / "own.pem"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -subj /CN={NAME} -keyout {file} -out {folder / 'cert.pem'}".split(),
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (folder / "cert.pem").read_text())
    assert ssl.PEM_cert_to_DER_cert((folder / "cert.pem").read_text())
    return file


def test_tcp_http_and_https(tmp_path: Path) -> None:
    with Wan(lan=False, shaped=False, node=node).usual() as wan:
        for port, *more in (("80",), ("443", str(certificate(tmp_path)))):
            argv = [sys.executable, "-I", "-c", WEB, port, *more]
            server = wan.server.popen(*argv, stdout=subprocess.PIPE, text=True)
            assert server.stdout.readline() == "ready\n"
        quick = {**QUICK, "timeout": "1"}
        cases: list[tuple[dict[str, str], str]] = [
            ({"track_method": "tcp", "track_port": "80"}, ""),
            ({"track_method": "tcp", "track_port": "81"}, "connection refused"),
            ({"track_method": "http", "track_path": "/good"}, ""),
            ({"track_method": "http", "track_path": "/there"}, ""),
            ({"track_method": "http", "track_path": "/bad"}, "status 500"),
            ({"track_method": "http", "track_path": "/there", "track_status": "204"}, "status 302"),
            ({"track_method": "https", "track_path": "/good", "track_verify": "0"}, ""),
            ({"track_method": "https", "track_path": "/good"}, "self-signed certificate"),
        ]
        with Daemon(wan.gateway, own=own(quick)) as daemon:
            for options, fault in cases:
                reconfigure(daemon, own({**quick, **options}))

                def seen(fault: str = fault) -> bool:
                    (host,) = check(daemon)["hosts"]
                    return bool(host["sent"]) and host["error"] == (fault or None)

                eventually(seen, what=f"{options}: {fault or 'an answer'}")
                eventually(lambda fault=fault: check(daemon)["failed"] == bool(fault))
            wan.blackhole(1)
            reconfigure(daemon, own({**quick, "track_method": "tcp", "track_port": "80"}))
            eventually(lambda: check(daemon)["hosts"][0]["error"] == "no reply")
            assert daemon.process is not None
            files = Path(f"/proc/{daemon.process.pid}/fd")
            before = len(list(files.iterdir()))
            eventually(lambda: check(daemon)["hosts"][0]["sent"] >= 4)
            assert len(list(files.iterdir())) <= before + 1  # of what is over, nothing is open


def test_a_gateway_replies_though_the_uplink_behind_it_is_dead() -> None:
    with (
        Wan(lan=False, shaped=False).usual() as wan,
        Daemon(wan.gateway, own=own(QUICK, "gateway")) as daemon,
    ):
        warmed(daemon, 1)
        wan.blackhole(1)
        sent = check(daemon)["hosts"][0]["sent"]
        eventually(lambda: check(daemon)["hosts"][0]["sent"] > sent + 4)
        assert check(daemon)["hosts"][0]["address"] == "10.1.1.1"
        assert not check(daemon)["failed"]
        wan.routers[1].ip("address delete 10.1.1.1/24 dev access")
        eventually(lambda: check(daemon)["failed"])


def test_a_name_without_an_address_says_nothing_and_stops_nothing() -> None:
    """The name server does not answer at all, so that each look-up takes half a minute."""
    with Wan(lan=False, shaped=False, node=node).usual() as wan:
        wan.server.run(
            "nft",
            "-f",
            "-",
            input="table inet nodns { chain in { type filter hook input priority 0;"
            " udp dport 53 drop; }; }\n",
        )
        with Daemon(wan.gateway, own=own(QUICK, NAME)) as daemon:
            longest = 0.0
            until_then = time.monotonic() + 2
            while time.monotonic() < until_then:
                before = time.monotonic()
                (host,) = check(daemon)["hosts"] or [{"reachable": None}]
                longest = max(longest, time.monotonic() - before)
                assert host["reachable"] is None
                time.sleep(0.05)
            assert longest < 1
            assert not check(daemon)["failed"]
            assert host["error"] == "its name is being resolved"
            daemon.stop()  # nor does the end wait for it
            daemon.start()
            reconfigure(daemon, own(QUICK, NAME, NOBODY))
            eventually(lambda: check(daemon)["failed"])
            assert check(daemon)["summary"] == "0 of 1 hosts reply"


DEAF = "table inet deaf { chain in { type filter hook input priority 0; drop; }; }\n"


def test_a_name_with_a_dead_address_and_a_living_one() -> None:
    """The first is asked until it has not answered for a while, then the other."""

    def node(name: str) -> Namespace:
        hosts = f"{NOBODY} {NAME}\n{SERVER} {NAME}\n"
        return Namespace(name, {"/etc/hosts": hosts} if name == "gateway" else None)

    with (
        Wan(lan=False, shaped=False, node=node).usual() as wan,
        Daemon(wan.gateway, own=own(QUICK, NAME)) as daemon,
    ):
        # A name server may say anything: that nobody replies there condemns no uplink.
        eventually(lambda: check(daemon)["hosts"][0]["reachable"] is False)
        assert check(daemon)["hosts"][0]["address"] == NOBODY
        assert "has never replied" in check(daemon)["hosts"][0]["error"]
        eventually(lambda: "check-idle" in codes(daemon))
        eventually(lambda: check(daemon)["hosts"][0]["reachable"], 60)
        assert check(daemon)["hosts"][0]["address"] == SERVER
        assert "failed" not in daemon.log()
        assert "check-idle" not in codes(daemon)
        # Once it has replied through the uplink, it counts.
        wan.server.run("nft", "-f", "-", input=DEAF)
        eventually(lambda: check(daemon)["failed"], 60)


def test_hundreds_of_probes_do_not_slow_the_loop() -> None:
    """Three hundred hosts that do not reply, and an uplink that works beside them."""
    hosts = [f"10.77.{n // 250}.{n % 250 + 1}" for n in range(300)]
    with Wan(lan=False, shaped=False).usual() as wan:
        text = own({**QUICK, "timeout": "4", "interval": "5"}, *hosts)
        with Daemon(wan.gateway, own=text) as daemon:
            eventually(
                lambda: sum(host["sent"] for host in check(daemon)["hosts"]) == 300, timeout=10
            )
            for _ in range(5):
                wan.gateway.ip("address add 10.2.2.77/24 dev eth2")
                eventually(lambda: "10.2.2.77 " in wan.gateway.ip("mptcp endpoint show"))
                wan.gateway.ip("address delete 10.2.2.77/24 dev eth2")
                eventually(lambda: "10.2.2.77 " not in wan.gateway.ip("mptcp endpoint show"))
            assert not check(daemon)["failed"]  # all of them are still awaited


def test_checks_on_the_screens(wan: Wan) -> None:
    with Daemon(wan.gateway, own=own({**QUICK, **PICKY}, SERVER, NOBODY)) as daemon:
        warmed(daemon, 2)
        eventually(lambda: check(daemon)["hosts"][1]["reachable"] is False)
        assert re.search(
            r"check IPv4: 1 of 2 hosts reply, \d+(\.\d)? ms ", daemon.call("status").words
        )
        one = daemon.call("status", "wan1").words
        assert "check by ping: 1 of 2 hosts reply" in one
        assert f"{SERVER}: " in one
        assert re.search(rf"{NOBODY}: .*100 ?%", one)
        assert daemon.call("status").code == 0
