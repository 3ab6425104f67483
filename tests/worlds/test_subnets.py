"""Uplinks that share a subnet, a gateway, or even an address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import (
    SERVER,
    SERVER6,
    Capture,
    Daemon,
    Echo,
    Iperf,
    Packet,
    Switched,
    Wan,
    device_bytes,
    eventually,
    subflows,
)

pytestmark = pytest.mark.kernel

OWN = {
    "eth1": ("10.1.1.2", "2001:db8:1::2"),
    "eth2": ("10.1.1.3", "2001:db8:1::3"),
}


@pytest.fixture
def switched() -> Iterator[Switched]:
    with Switched() as world:
        yield world


def strays(packets: list[Packet]) -> list[Packet]:
    """What left the gateway with the address of one uplink by the other."""
    owner = {address: device for device, addresses in OWN.items() for address in addresses}
    return [
        packet
        for packet in packets
        if packet.outgoing and owner.get(packet.source, packet.device) != packet.device
    ]


def talk(world: Switched) -> None:
    """Every pair that has to ask for the other's hardware address, both ways."""
    for node, devices in ((world.gateway, ("eth1", "eth2")), (world.router, ("access",))):
        for device in devices:
            node.ip(f"neigh flush dev {device}")
    for old, new in OWN.values():
        world.gateway.run("ping", "-c1", "-W2", "-I", old, "10.1.1.1")
        world.gateway.run("ping", "-c1", "-W2", "-I", old, SERVER)
        world.gateway.run("ping", "-c1", "-W2", "-I", new, "2001:db8:1::1")
        world.gateway.run("ping", "-c1", "-W2", "-I", new, SERVER6)
    world.router.ip("neigh flush dev access")
    for old, new in OWN.values():
        world.router.run("ping", "-c1", "-W2", old)
        world.router.run("ping", "-c1", "-W2", new)
        world.server.run("ping", "-c1", "-W2", old)


def test_each_address_leaves_by_its_own_device(switched: Switched) -> None:
    gateway = switched.gateway
    with Daemon(gateway) as daemon, Capture(gateway) as here, Capture(switched.router) as there:
        daemon.settle()
        here.take()
        talk(switched)
        packets = here.take()
        sent = {(packet.source, packet.device) for packet in packets if packet.outgoing}
        assert {(source, device) for device, own in OWN.items() for source in own} <= sent
        assert strays(packets) == []
        announced = {
            (packet.source, packet.link)
            for packet in there.seen()
            if packet.kind == "arp" and packet.device == "access" and not packet.outgoing
        }
        assert announced == {(OWN[device][0], switched.hardware(device)) for device in OWN}


def test_one_connection_uses_both(switched: Switched) -> None:
    gateway = switched.gateway
    with Daemon(gateway) as daemon, Capture(gateway) as here:
        daemon.settle()
        before = device_bytes(gateway)
        run = Iperf(gateway, switched.server, SERVER, 2)
        here.take()
        assert run.result().completed
        after = device_bytes(gateway)
        for device in OWN:
            assert after[device].sent - before[device].sent > 1e6, device
        assert strays(here.take()) == []


def test_what_was_set_for_it_goes_with_it(switched: Switched) -> None:
    """The second uplink's address goes: rules and sysctls are as for any lone uplink."""
    gateway = switched.gateway

    def settings() -> list[str]:
        return [
            gateway.sysctl(f"net.ipv4.conf.{device}.{key}")
            for device in OWN
            for key in ("arp_ignore", "arp_announce")
        ]

    with Daemon(gateway) as daemon:
        daemon.settle()
        assert settings() == ["1", "2", "1", "2"]
        shared = [line for line in gateway.state().splitlines() if "rule 7005" in line]
        assert shared == [
            "-4 rule 7005 from 10.1.1.2 to 10.1.1.0/24 lookup 7001 proto 77",
            "-4 rule 7005 from 10.1.1.3 to 10.1.1.0/24 lookup 7002 proto 77",
            "-6 rule 7005 from 2001:db8:1::2 to 2001:db8:1::/64 lookup 7001 proto 77",
            "-6 rule 7005 from 2001:db8:1::3 to 2001:db8:1::/64 lookup 7002 proto 77",
        ]
        gateway.ip("address flush dev eth2")
        daemon.settle()
        assert settings() == ["0", "0", "0", "0"]
        assert "7005" not in gateway.state()


def test_an_admins_choice_of_arp_stays(switched: Switched) -> None:
    gateway = switched.gateway
    gateway.sysctl("net.ipv4.conf.eth1.arp_ignore", 2)
    daemon = Daemon(gateway)
    daemon.reconcile()
    assert gateway.sysctl("net.ipv4.conf.eth1.arp_ignore") == "2"
    assert gateway.sysctl("net.ipv4.conf.eth2.arp_ignore") == "1"
    assert daemon.call("flush").code == 0
    assert gateway.sysctl("net.ipv4.conf.eth1.arp_ignore") == "2"
    assert gateway.sysctl("net.ipv4.conf.eth2.arp_ignore") == "0"
    daemon.close()


# -- one address on both ----------------------------------------------------------------------


@pytest.fixture
def sticks(bare_wan: Wan) -> Wan:
    """Two identical LTE sticks: 192.168.8.100 on both, each a 192.168.8.1 that does NAT."""
    for n, router in bare_wan.routers.items():
        router.ip("address add 192.168.8.1/24 dev access")
        router.run(
            "nft",
            "-f",
            "-",
            input="table ip nat { chain out { type nat hook postrouting priority srcnat;"
            ' oifname "core" masquerade; }; }\n',
        )
        bare_wan.gateway.ip(
            f"address add 192.168.8.100/24 dev eth{n}",
            f"route add default via 192.168.8.1 dev eth{n} metric {n}",
        )
        bare_wan.server.ip(f"route add 10.9.{n}.1 dev eth{n}")
    return bare_wan


def owner(wan: Wan) -> str:
    """Where the address' rule and endpoint are; both must say the same."""
    lines = wan.gateway.state().splitlines()
    rules = [line for line in lines if "from 192.168.8.100 lookup" in line]
    ends = [line for line in lines if "endpoint 192.168.8.100 " in line]
    assert len(rules) == len(ends) == 1
    name = {"7001": "eth1", "7002": "eth2"}[rules[0].split("lookup ")[1].split()[0]]
    assert ends[0].endswith(f"dev {name}")
    return name


def test_one_address_has_one_owner_and_always_the_same(sticks: Wan) -> None:
    gateway = sticks.gateway
    daemon = Daemon(gateway)
    daemon.reconcile()
    assert owner(sticks) == "eth1"
    daemon.call("flush")
    gateway.ip("address delete 192.168.8.100/24 dev eth1")  # now eth2 has it for longer
    gateway.ip(
        "address add 192.168.8.100/24 dev eth1",
        "route add default via 192.168.8.1 dev eth1 metric 1",
    )
    daemon.reconcile()
    assert owner(sticks) == "eth1"
    (other,) = [uplink for uplink in daemon.status()["uplinks"] if uplink["name"] == "wan2"]
    assert other["families"][0]["reason"] == "address-conflict"
    daemon.close()


def test_an_address_is_handed_on(sticks: Wan) -> None:
    """By the carrier, and back; by the address itself.  The connection goes along."""
    gateway = sticks.gateway
    with Daemon(gateway) as daemon, Echo(gateway, sticks.server, SERVER) as echo:
        daemon.settle()
        assert owner(sticks) == "eth1"

        def by(device: str) -> bool:
            current = subflows(gateway, echo.port)
            return any(subflow.device == device for subflow in current)

        def alive() -> None:
            seen = echo.report().received
            eventually(lambda: echo.report().received > seen + 10)
            assert not echo.report().error

        sticks.unplug(1)
        eventually(lambda: owner(sticks) == "eth2" and by("eth2"))
        alive()
        # The modem's own pages too: main's route by the dead stick would swallow this.
        gateway.run("ping", "-c1", "-W2", "-I", "192.168.8.100", "192.168.8.1")
        sticks.plug(1)
        eventually(lambda: owner(sticks) == "eth1" and by("eth1"))
        alive()
        gateway.ip("address delete 192.168.8.100/24 dev eth1")
        eventually(lambda: owner(sticks) == "eth2" and by("eth2"))
        alive()
        daemon.settle()
