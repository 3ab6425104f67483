"""The role mproutd_far_end: the server of docs/far-end.md, for two gateways."""

from __future__ import annotations

import copy
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import PACKAGES, RELEASES, RunRole
from tests.ansible.state import state
from tests.booted import Booted
from tests.lab import SERVER, Namespace
from tests.networks.far_end import TARGET, Client, Gateways

ROLE = "mproutd_far_end"
ThroughProxy = Callable[[Client], socket.socket]
PORT = 7000
OTHER_GATEWAYS = re.compile(r',?\s*84(?:0[3-9]|1\d|20) comment "gw\d\d"')
FAR_END: dict[str, Any] = {
    "mproutd_far_end_gateways4": ["10.1.0.0/16"],
    "mproutd_far_end_gateways6": ["2001:db8:1::/48"],
    "mproutd_far_end_blocked": ["10.9.9.9/32"],
    "mproutd_far_end_clients": [
        {"name": f"gw0{n}", "port": 8400 + n, "password": f"choose one for gw0{n}"} for n in (1, 2)
    ],
}
MPROUTD = [
    "Make the directory of the configuration",
    "Install the Debian package",
    "Write the configuration network",
    "Write the configuration mproutd",
    "Enable and start the service",
]
WIREGUARD = {
    "mproutd_far_end_wireguard": True,
    "mproutd_far_end_wireguard_private_key": "A" * 43 + "=",
    "mproutd_far_end_wireguard_addresses": ["10.77.0.254/24"],
}


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    with Gateways(2) as made:
        yield made


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest, gateways: Gateways) -> Iterator[Booted]:
    """A bare server, as eth0 in the network of the gateways."""
    with Booted(gateways.plug_in, PACKAGES, release=request.param) as booted:
        # The addresses are not networkd's: it would wait two minutes for the network to be online.
        booted.run("systemctl mask systemd-networkd-wait-online")
        yield booted


@pytest.fixture
def far_end(package: Path) -> dict[str, Any]:
    """The variables of the role."""
    return {**copy.deepcopy(FAR_END), "mproutd_package": str(package)}


@pytest.fixture
def through_proxy(gateways: Gateways) -> Iterator[ThroughProxy]:
    """A function that connects a gateway through the proxy to a host that echoes."""
    with gateways.internet.enter():
        listener = socket.create_server((TARGET, PORT))

    def echo(accepted: socket.socket) -> None:
        with accepted:
            while data := accepted.recv(4096):
                accepted.sendall(data)

    def accept() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(accepted,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    opened: list[socket.socket] = []

    def connect(client: Client) -> socket.socket:
        local = gateways.tunnel(client, PORT, TARGET)
        with client.enter():
            opened.append(socket.create_connection(("127.0.0.1", local), 30))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def echoes(connection: socket.socket) -> None:
    connection.sendall(b"hello")
    assert connection.recv(5, socket.MSG_WAITALL) == b"hello"


def listening(machine: Booted) -> set[str]:
    """The ports that accept MPTCP."""
    return set(re.findall(r":(84\d\d) ", machine.network.run("ss", "-HMltn")))


def accepts(node: Namespace, address: str) -> bool:
    """Whether the server lets a connection begin at this address."""
    with node.enter(), socket.socket() as connection:
        connection.bind((address, 0))
        connection.settimeout(2)
        try:
            connection.connect((SERVER, 8401))
        except TimeoutError:
            return False
        return True


def plain(text: str) -> list[str]:
    """Lines of a file as what counts in it: no comments, one spelling of nft's sets."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r",\s*}", " }", OTHER_GATEWAYS.sub("", text))
    text = re.sub(r"{\s+(?=8401)", "{ ", re.sub(r'",\s+', '", ', text)).replace("{ 22 }", "22")
    return [line for line in map(str.strip, text.splitlines()) if line]


def same_as_in_the_guide(machine: Booted, files: dict[str, str], without: str = "") -> None:
    for path, text in files.items():
        written = machine.run(f"cat {path}")
        expected = [line for line in plain(text) if not without or without not in line]
        assert plain(written) == expected, path


def test_set_up_and_change(
    machine: Booted,
    gateways: Gateways,
    far_end: dict[str, Any],
    run_role: RunRole,
    through_proxy: ThroughProxy,
) -> None:
    before = state(machine)
    predicted = run_role(ROLE, far_end, "--check", "--diff")
    assert predicted.status == 0, predicted.output
    assert "choose one" not in predicted.output
    assert state(machine) == before
    first = run_role(ROLE, far_end)
    assert first.status == 0, first.output
    assert first.changed[:5] == MPROUTD
    assert first.changed == predicted.changed
    again = run_role(ROLE, far_end)
    assert (again.status, again.changed) == (0, []), again.output

    same_as_in_the_guide(machine, gateways.files(), without="udp dport 51820 accept")
    assert listening(machine) == {"8401", "8402"}
    assert machine.run("cat /proc/sys/net/ipv4/tcp_rmem").split() == ["4096", "131072", "16777216"]
    assert "subflows 8" in machine.network.ip("mptcp limits show")
    assert machine.unit_state("shadowsocks-libev") == "inactive"
    one, two = gateways.clients
    connection = through_proxy(one)
    echoes(connection)
    counted = machine.run("nft list set inet far_end from_gateways")
    assert re.search(r'8401 counter packets [1-9]\d* bytes \d+ comment "gw01"', counted)
    assert accepts(two, "10.1.2.2")
    assert not accepts(two, "10.2.2.2")

    pids = [machine.unit_state(f"shadowsocks-libev-server@gw0{n}", "ExecMainPID") for n in (1, 2)]
    far_end["mproutd_far_end_clients"][1]["password"] = "another one for gw02"
    change = ["Write the instances gw02", "Run the instances gw02"]
    before = state(machine)
    predicted = run_role(ROLE, far_end, "--check")
    assert predicted.changed == change, predicted.output
    assert state(machine) == before
    assert run_role(ROLE, far_end).changed == change
    assert machine.unit_state("shadowsocks-libev-server@gw01", "ExecMainPID") == pids[0]
    assert machine.unit_state("shadowsocks-libev-server@gw02", "ExecMainPID") != pids[1]
    echoes(connection)

    far_end["mproutd_far_end_gateways4"] = ["10.1.1.0/24"]
    far_end["mproutd_far_end_clients"][1] = {"name": "gw02", "state": "absent"}
    changed = run_role(ROLE, far_end)
    assert changed.changed == [
        "Write the firewall",
        "Load the firewall",
        "Stop the instances of gateways that are gone gw02",
        "Delete the instances of gateways that are gone gw02",
    ], changed.output
    assert run_role(ROLE, far_end).changed == []
    assert listening(machine) == {"8401"}
    assert accepts(one, "10.1.1.2")
    assert not accepts(two, "10.1.2.2")
    echoes(connection)


def test_without_mproutd(machine: Booted, far_end: dict[str, Any], run_role: RunRole) -> None:
    far_end["mproutd_far_end_mproutd"] = False
    predicted = run_role(ROLE, far_end, "--check")
    first = run_role(ROLE, far_end)
    assert first.status == 0, first.output
    assert first.changed == predicted.changed
    assert run_role(ROLE, far_end).changed == []
    assert "subflows 8" in machine.network.ip("mptcp limits show")
    assert machine.call("test -e /etc/mproutd").returncode == 1


def client(**wrong: Any) -> dict[str, Any]:
    gateway = {"name": "gw01", "port": 8401, "password": "choose one for gw01", **wrong}
    return {"mproutd_far_end_clients": [gateway]}


CLIENTS = FAR_END["mproutd_far_end_clients"]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown option", client(passwd="x"), "passwd"),
    ("no port", client(port=None), "port a number from 1 to 65535"),
    ("port", client(port=84010), "port a number from 1 to 65535"),
    ("port of SSH", client(port=22), "a port of its own"),
    ("password", client(password="short"), "password at least 16 characters"),
    ("name", client(name="gw 01"), "name needs lower-case letters"),
    ("twice", {"mproutd_far_end_clients": [CLIENTS[0], CLIENTS[0]]}, "a port of its own"),
    ("address", {"mproutd_far_end_gateways4": ["10.1.0.0/33"]}, "'10.1.0.0/33' does not appear"),
    ("family", {"mproutd_far_end_gateways6": ["10.1.0.0/16"]}, "10.1.0.0/16 is not an IPv6"),
    ("overlap", {"mproutd_far_end_gateways4": ["10.0.0.0/8", "10.1.0.0/16"]}, "overlaps"),
    ("open port", {"mproutd_far_end_open_tcp_ports": ["ssh"]}, "mproutd_far_end_open_tcp_ports"),
    ("device", {"mproutd_far_end_device": "eth 0"}, "the name of a device"),
    ("package", {"mproutd_package": "/tmp/mproutd.deb"}, "mproutd_VERSION_all.deb"),
    ("key", {"mproutd_far_end_wireguard": True}, "mproutd_far_end_wireguard_private_key"),
]


def test_wrong_variables_are_refused_before_anything_changes(
    machine: Booted, far_end: dict[str, Any], run_role: RunRole
) -> None:
    before = state(machine)
    for kind, wrong, named in REFUSED:
        refused = run_role(ROLE, {**far_end, **wrong})
        assert refused.status == 2, f"{kind}: {refused.output}"
        assert named in refused.output, f"{kind}: {refused.output}"
        assert refused.changed == [], kind
    assert state(machine) == before


def test_wireguard(
    machine: Booted, gateways: Gateways, far_end: dict[str, Any], run_role: RunRole
) -> None:
    """As far as it goes where the kernel has no WireGuard."""
    far_end.update(WIREGUARD)
    far_end["mproutd_far_end_clients"][0].update(
        wireguard_key="B" * 43 + "=", wireguard_address="10.77.0.1/32"
    )
    if machine.call("test -d /sys/module/wireguard").returncode:
        before = state(machine)
        refused = run_role(ROLE, far_end)
        assert refused.status == 2
        assert "has no WireGuard" in refused.output
        assert state(machine) == before
        machine.write("/usr/local/sbin/modprobe", "#!/bin/sh\n")
    run_role(ROLE, far_end)  # ends where wg0 cannot be created
    files = gateways.guide.files("wireguard-server")
    keys = {"PRIVATE-KEY-OF-SERVER": "A" * 43 + "=", "PUBLIC-KEY-OF-GATEWAY": "B" * 43 + "="}
    for path, text in files.items():
        for name, key in keys.items():
            files[path] = text = text.replace(name, key)
    same_as_in_the_guide(machine, files)
    assert "udp dport 51820 accept" in machine.run("nft list chain inet far_end input")
    assert "masquerade" in machine.run("nft list table inet far_end_udp")
    assert "ListenPort = 51820" in machine.run("wg-quick strip wg0")
