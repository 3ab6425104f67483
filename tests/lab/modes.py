"""Configurations by mode, and questions of the tests about modes: who carries what."""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.lab import SERVER, Namespace, device_bytes, veth

ENABLED = "config globals 'globals'\n\toption multipath 'enable'\n"


def network(**modes: str) -> str:
    """The file network: network(eth1="master", eth2="on") names the uplinks wan1 and wan2."""
    return ENABLED + "".join(
        f"\nconfig interface 'wan{device[3:]}'\n"
        f"\toption device '{device}'\n\toption multipath '{mode}'\n"
        for device, mode in modes.items()
    )


def own(role: str = "client", **options: str) -> str:
    """The file mproutd: own("server", wan1="fullmesh") sets that option of that uplink."""
    return f"config mproutd 'globals'\n\toption role '{role}'\n" + "".join(
        f"\nconfig uplink '{uplink}'\n\toption {option} '1'\n" for uplink, option in options.items()
    )


def endpoints(node: Namespace) -> dict[str, str]:
    """Address -> the rest of its line in `ip mptcp endpoint show`, without the id."""
    lines = [line.split() for line in node.ip("mptcp endpoint show").splitlines()]
    return {words[0]: " ".join(words[3:]) for words in lines}


class Carried:
    """The bytes that each device of a node carried, either way, since the last look."""

    def __init__(self, node: Namespace) -> None:
        self._node = node
        self.reset()

    def reset(self) -> None:
        """From now on."""
        self._before = device_bytes(self._node)

    def by(self, device: str) -> int:
        """Bytes by this device since reset()."""
        now, before = device_bytes(self._node)[device], self._before[device]
        return now.sent - before.sent + now.received - before.received


class Visitors:
    """A plain TCP listener on `node` that tells from where new connections arrive."""

    def __init__(self, node: Namespace, address: str = SERVER) -> None:
        self._at = address
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with node.enter():
            self._listener = socket.create_server((address, 0), family=family)
        self._listener.settimeout(1)

    def source(self, client: Namespace) -> str:
        """The address from which a new connection of `client` arrives.  OSError if none does."""
        with client.enter():
            family = self._listener.family
            made = socket.socket(family, socket.SOCK_STREAM)
        with made:
            made.settimeout(0.3)
            made.connect(self._listener.getsockname()[:2])
            while True:
                seen, peer = self._listener.accept()
                seen.close()
                if peer[1] == made.getsockname()[1] or peer[0] != made.getsockname()[0]:
                    return str(peer[0])

    def __enter__(self) -> Visitors:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def crossing(make: Callable[[str], Namespace]) -> tuple[Namespace, Namespace]:
    """A client (10.1.1.2 on eth1, 10.2.2.2 on eth2) and a server (10.3.3.2, 10.4.4.2).

    One router between them, so that every address reaches every other.
    """
    client, router, server = make("client"), make("router"), make("server")
    router.sysctl("net.ipv4.ip_forward", 1)
    for node, device, net in (
        (client, "eth1", "10.1.1"),
        (client, "eth2", "10.2.2"),
        (server, "eth1", "10.3.3"),
        (server, "eth2", "10.4.4"),
    ):
        port = f"{node.name}{device[-1]}"
        veth(node, device, router, port)
        router.ip(f"address add {net}.1/24 dev {port}")
        node.ip(
            f"address add {net}.2/24 dev {device}",
            f"route add default via {net}.1 dev {device} metric {device[-1]}",
        )
    return client, server
