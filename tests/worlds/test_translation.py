"""nat6 with real traffic: weights, replies, port forwards, ICMPv6 errors and the path MTU."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.lab import SERVER6, Daemon, Echo, Namespace, eventually
from tests.lab.delegated import ULA, DelegatedLan
from tests.lab.forwarding import ASK, ECHO
from tests.lab.wan import address

pytestmark = pytest.mark.kernel

OWN = """\
config uplink 'wan1'
	list prefix '2001:db8:a001::/56'
	option nat6 'prefix'
	option weight '1'

config uplink 'wan2'
	option nat6 'masquerade'
	option weight '1'
"""
HOST = f"{ULA}10"
TRANSLATED = {"wan1": "2001:db8:a001::10", "wan2": address(2, 6)}


@pytest.fixture
def lan() -> Iterator[DelegatedLan]:
    with DelegatedLan(prefixes=(), ula=True) as made:
        assert made.lan
        made.lan.ip(f"address add {HOST}/64 dev eth0 nodad", f"route add default via {ULA}1")
        yield made


@contextlib.contextmanager
def serving(node: Namespace, port: int) -> Iterator[None]:
    process = node.popen(sys.executable, "-c", ECHO, str(port), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def ask(node: Namespace, host: str, port: int, kind: str = "SOCK_STREAM") -> str:
    """Who asked, as the other end saw it; empty for no reply."""
    argv = node.command(sys.executable, "-W", "ignore", "-c", ASK, kind, host, str(port))
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def in_place(lan: DelegatedLan) -> bool:
    listed = subprocess.run(
        lan.gateway.command("nft", "list", "table", "inet", "mproutd"),
        capture_output=True,
        text=True,
    ).stdout
    return "snat ip6 prefix to 2001:db8:a001::/64" in listed and "masquerade" in listed


def test_hosts_with_a_ula_use_every_uplink(lan: DelegatedLan) -> None:
    host, server = lan.lan, lan.server
    assert host
    with Daemon(lan.gateway, own=OWN) as daemon:
        eventually(lambda: in_place(lan), 30)
        with serving(server, 7), contextlib.ExitStack() as stack:
            eventually(lambda: ask(host, SERVER6, 7) in TRANSLATED.values(), 30)
            seen: set[str] = set()

            def both(kind: str) -> bool:
                seen.add(ask(host, SERVER6, 7, kind))
                return set(TRANSLATED.values()) <= seen

            for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
                seen.clear()
                eventually(lambda kind=kind: both(kind), 60)
                assert seen == set(TRANSLATED.values())
            flows = [
                stack.enter_context(Echo(host, server, SERVER6, mptcp=False)) for _ in range(4)
            ]
            daemon.configure(own=OWN.replace("weight '1'", "weight '9'", 1))
            daemon.reconcile()
            for flow in flows:
                sent = flow.report().sent
                eventually(lambda flow=flow, sent=sent: flow.report().received > sent + 5, 20)

            # A router beyond the uplink says that there is no way; the host gets the message.
            for router in lan.routers.values():
                router.ip("route add unreachable 2001:db8:dead::/64", family=6)
            done = subprocess.run(
                host.command("ping", "-6", "-c", "1", "-W", "5", "2001:db8:dead::1"),
                capture_output=True,
                text=True,
            )
            assert "nreachable" in done.stdout, done
            for n, router in lan.routers.items():
                router.ip("link set core mtu 1300")
                server.ip(f"link set eth{n} mtu 1300")
            argv = "ping -6 -M do -c 3 -i 0.2 -W 5 -s 1400".split()
            done = subprocess.run(
                host.command(*argv, SERVER6), capture_output=True, text=True, timeout=60
            )
            assert "oo big" in done.stdout or "too long" in done.stdout + done.stderr, done
            eventually(lambda: "mtu 1300" in host.ip(f"route get {SERVER6}", family=6), 20)

        lan.unplug(1)
        eventually(lambda: daemon.query_status()["default"].get("ipv6") == "wan2", 30)
        with serving(server, 7):
            assert ask(host, SERVER6, 7) == TRANSLATED["wan2"]
        # The gateway's own connections keep their address.
        own = address(2, 6)
        lan.gateway.ip("address add 2001:db8:2::99/64 dev eth2 nodad", family=6)  # masquerade's
        code = f"""import socket
print(socket.create_connection(("{SERVER6}", 8), 20, ("{own}", 0)).recv(100).decode())"""
        with serving(server, 8):
            assert lan.gateway.run(sys.executable, "-c", code).strip() == own


def test_a_port_forward_to_a_translated_host(lan: DelegatedLan) -> None:
    host = lan.lan
    assert host
    lan.gateway.run(
        *("nft", "-f", "-"),
        input=f"""table inet forwards {{ chain in {{
            type nat hook prerouting priority dstnat;
            iifname {{ "eth1", "eth2" }} meta nfproto ipv6 tcp dport 80 dnat ip6 to {HOST}
        }}
        }}""",
    )
    with Daemon(lan.gateway, own=OWN), serving(host, 80):
        eventually(lambda: in_place(lan), 30)
        for to in ("2001:db8:a001::1", "2001:db8:a001::10", address(1, 6), address(2, 6)):
            # Who asks stays known, and the reply leaves by the uplink that the request came by.
            assert ask(lan.server, to, 80) == SERVER6, to


def test_the_lan_and_prefixes_may_come_later(lan: DelegatedLan) -> None:
    lan.gateway.ip(f"address delete {ULA}1/64 dev br-lan")
    without = OWN.replace("\tlist prefix '2001:db8:a001::/56'\n", "")
    with Daemon(lan.gateway, own=without) as daemon:

        def codes() -> list[str]:
            return [problem["code"] for problem in daemon.query_status()["problems"]]

        eventually(lambda: "nat6-without-prefix" in codes(), 30)
        daemon.configure(own=OWN)
        daemon.reconcile()
        eventually(lambda: "nat6-without-prefix" not in codes(), 30)
        assert not in_place(lan)
        lan.gateway.ip(f"address add {ULA}1/64 dev br-lan nodad")
        eventually(lambda: in_place(lan), 30)
        daemon.configure(own="config mproutd 'globals'\n\toption pin_flows '0'\n\n" + OWN)
        daemon.reconcile()
        eventually(lambda: in_place(lan) and daemon.query_status()["pins_flows"] is None, 30)
        daemon.configure(own="config mproutd 'globals'\n\toption pin_flows '0'\n")
        daemon.reconcile()
        eventually(lambda: "mproutd" not in lan.gateway.run("nft", "list", "tables"), 30)
