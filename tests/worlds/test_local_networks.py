"""Direct cables between two MPTCP hosts: networks without a default route, on the real kernel."""

from __future__ import annotations

import pytest

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows, veth
from tests.lab.modes import endpoints, network

pytestmark = pytest.mark.kernel

CABLES = (1, 2)
NEAR = {n: f"10.5{n}.0.1" for n in CABLES}
FAR = {n: f"10.5{n}.0.2" for n in CABLES}


def uplinks(*options: str) -> str:
    """Both cables as uplinks with default_route 0 and these options set."""
    return "".join(
        f"config uplink 'cable{n}'\n\toption default_route '0'\n"
        + "".join(f"\toption {option}\n" for option in options)
        for n in CABLES
    )


def interfaces() -> str:
    return "".join(
        f"config interface 'cable{n}'\n\toption device 'cable{n}'\n\toption multipath 'on'\n"
        for n in CABLES
    )


def test_two_cables_carry_a_connection_and_no_internet_traffic(wan: Wan) -> None:
    """The server announces its second address; the client joins it by the second cable."""
    client, server = wan.gateway, wan.server
    for n in CABLES:
        veth(client, f"cable{n}", server, f"cable{n}")
        client.ip(f"address add {NEAR[n]}/24 dev cable{n}")
        server.ip(f"address add {FAR[n]}/24 dev cable{n}")
    client_files = (network(eth1="master") + interfaces(), uplinks("fullmesh '1'"))
    server_files = (network() + interfaces(), uplinks("role 'server'"))
    with Daemon(client, *client_files) as daemon, Daemon(server, *server_files):
        eventually(lambda: endpoints(server).keys() >= set(FAR.values()))
        status = daemon.settle()
        assert (status["problems"], status["degraded"]) == ([], False)
        assert "no gateway needed (own subnets only)" in daemon.call("status", "cable1").out
        with Echo(client, server, FAR[1], listen="0.0.0.0") as echo:
            pairs = {(NEAR[n], FAR[n]) for n in CABLES}

            def ends() -> set[tuple[str, str]]:
                current = subflows(client, echo.port)
                return {(subflow.local, subflow.remote) for subflow in current}

            eventually(lambda: pairs <= ends())
            server.ip("link set cable1 down")
            eventually(lambda: NEAR[1] not in endpoints(client))
            begun = echo.report().received
            eventually(lambda: echo.report().received >= begun + 5)
            assert (echo.report().error, echo.report().mptcp) == ("", True)
        with Echo(client, server, SERVER) as echo:
            eventually(lambda: echo.report().received >= 20)
            assert {subflow.local for subflow in subflows(client, echo.port)} == {"10.1.1.2"}
            assert SERVER not in client.run("ip", "neigh")
        output = client.run("sh", "-c", f"ip route get {SERVER} from {NEAR[2]} 2>&1 || :")
        assert "No route to host" in output
        assert "dev eth1" in client.run("ip", "route", "get", "198.51.100.1")


def test_a_check_of_the_other_host_takes_the_cable_out(wan: Wan) -> None:
    client, server = wan.gateway, wan.server
    veth(client, "cable1", server, "cable1")
    client.ip(f"address add {NEAR[1]}/24 dev cable1")
    server.ip(f"address add {FAR[1]}/24 dev cable1")
    own = uplinks(f"track_ip '{FAR[1]}'", "interval '0.2'", "timeout '0.2'", "down '1'", "up '1'")
    with Daemon(client, network(eth1="master") + interfaces().split("config interface 'cable2'")[0],
                own.split("config uplink 'cable2'")[0]) as daemon:  # fmt: skip
        eventually(lambda: NEAR[1] in endpoints(client))
        server.ip(f"address delete {FAR[1]}/24 dev cable1")
        reason = lambda: daemon.status()["uplinks"][1]["families"][0]["reason"]  # noqa: E731
        eventually(lambda: reason() == "check-failed", 20)
        server.ip(f"address add {FAR[1]}/24 dev cable1")
        eventually(lambda: reason() is None, 20)
