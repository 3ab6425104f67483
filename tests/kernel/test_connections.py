"""`mproutd connections` compared with ss(8), with real connections."""

from __future__ import annotations

import errno
import json
import re
import socket

import pytest
from pyroute2 import DiagSocket
from pyroute2.netlink.exceptions import NetlinkError

from mproutd.status.top import _count_subflows
from tests.kernel.test_faults import Prepared
from tests.lab import SERVER, SERVER6, Daemon, Echo, Wan, eventually, subflows
from tests.lab.daemon import REPOSITORY

pytestmark = pytest.mark.kernel
MPTCP = 262


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False) as wan:
        yield wan.usual()


def connections(daemon):
    result = daemon.call("connections", "--json")
    assert result.code == 0, result
    decoded = json.loads(result.out)
    assert decoded["version"] == 1
    return decoded["connections"]


def test_both_families_by_uplink_with_or_without_a_daemon(world):
    with Daemon(world.gateway) as daemon:
        with (
            Echo(world.gateway, world.server, SERVER) as four,
            Echo(world.gateway, world.server, SERVER6) as six,
        ):
            for echo in (four, six):
                eventually(lambda echo=echo: len(subflows(world.gateway, echo.port)) == 2)
            eventually(lambda: four.report().received > 5)
            with_daemon = connections(daemon)
            daemon.stop()
            without_daemon = connections(daemon)
            tokens = re.findall(r"token:(\w+)", world.gateway.run("ss", "-HMni"))
        for listed in (with_daemon, without_daemon):
            assert {int(connection["token"], 16) for connection in listed} == {
                int(token, 16) for token in tokens
            }
            for connection in listed:
                assert [flow["uplink"] for flow in connection["subflows"]] == ["wan1", "wan2"]
                assert connection["subflows"][0]["local_id"] == 0
                assert (connection["state"], connection["fallback"]) == ("established", False)
        first = next(
            connection
            for connection in without_daemon
            if connection["remote"] == f"{SERVER}:{four.port}"
        )
        assert first["sent"] > 5 * 64
        assert first["received"] > 5 * 64
        assert first["subflows"][0]["rtt_ms"] > 0
        daemon.start()


def test_backup_follows_the_mode(world):
    with Daemon(world.gateway) as daemon, Echo(world.gateway, world.server, SERVER) as echo:
        eventually(lambda: len(subflows(world.gateway, echo.port)) == 2)
        assert [flow["backup"] for flow in connections(daemon)[0]["subflows"]] == [False, False]
        network = daemon.node.path("/run/mproutd-config/network").read_text()
        daemon.configure(network.replace("'on'", "'backup'"))
        daemon.reconcile()
        assert [flow["backup"] for flow in connections(daemon)[0]["subflows"]] == [False, True]
        assert "backup" in daemon.call("connections").out.splitlines()[2]


def test_a_fallback_to_tcp_is_listed(world):
    with world.server.enter():
        server = socket.create_server((SERVER, 7777))
    with world.gateway.enter():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP)
    with Daemon(world.gateway) as daemon, server, client:
        client.connect((SERVER, 7777))
        client.sendall(b"hello")
        [listed] = connections(daemon)
        assert (listed["fallback"], listed["sent"]) == (True, 5)
        assert [flow["uplink"] for flow in listed["subflows"]] == ["wan1"]
        assert "fell back to plain TCP" in daemon.call("connections").out


def test_none_and_without_a_configuration(world):
    daemon = Daemon(world.gateway, network="")
    result = daemon.call("connections")
    assert (result.code, result.out) == (0, "no MPTCP connection\n")
    daemon.configure(network="config interface\n\toption multipath 'sideways\n")
    result = daemon.call("connections")
    assert (result.code, result.out) == (0, "no MPTCP connection\n")
    assert result.err.count("\n") == 1
    assert "/network:2: " in result.err
    daemon.close()


REFUSED = """
import pyroute2
from pyroute2.netlink.exceptions import NetlinkError
def refused(self, *arguments, **more):
    raise NetlinkError({number})
pyroute2.DiagSocket.nlm_request = refused
"""


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM])
def test_an_error_of_sock_diag_is_one_line(world, number):
    daemon = Prepared(world.gateway)
    daemon.lines = REFUSED.format(number=number)
    result = daemon.call("connections")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    assert ("sock_diag" if number == errno.ENOENT else "CAP_NET_ADMIN") in result.err
    daemon.close()


def test_the_live_screen_goes_on_without_sock_diag(world, monkeypatch):
    def refused(*arguments, **more):
        raise NetlinkError(errno.ENOENT)

    with Daemon(world.gateway) as daemon, world.gateway.enter():
        status = daemon.status()
        assert _count_subflows(status) == {}
        monkeypatch.setattr(DiagSocket, "nlm_request", refused)
        assert _count_subflows(status) is None


# -- every version of pyroute2 ------------------------------------------------------------

VERSIONS = ("0.7.2", "0.7.9")
"""Debian 12's and that of OpenWrt's releases; the other tests use the one of .venv."""

COUNT = """
import json, sys
import pyroute2
from mproutd.netlink.diag_socket import sockets
from mproutd.status import top
from mproutd.control import client
status = client.call(sys.argv[1], {"command": "status"}, 30.0)
print(pyroute2.__file__, json.dumps(top._count_subflows(status)))
"""


class With(Daemon):
    """mproutd with the pyroute2 of a folder in front of all others."""

    def __init__(self, node, folder):
        self.folder = folder
        super().__init__(node)

    def command(self, verb, *arguments):
        return [
            word + f":{self.folder}" if word.startswith("PYTHONPATH=") else word
            for word in super().command(verb, *arguments)
        ]


@pytest.mark.parametrize("version", VERSIONS)
def test_with_other_versions_of_pyroute2(world, version):
    """`connections` without a daemon, and what `top` counts."""
    folder = REPOSITORY / ".build/unpacked/pyroute2" / version
    if not folder.is_dir():
        pytest.skip(f"pyroute2 {version} is not there: packaging/setup.sh unpack")
    with With(world.gateway, folder) as daemon, Echo(world.gateway, world.server, SERVER) as four:
        eventually(lambda: len(subflows(world.gateway, four.port)) == 2)
        argv = daemon.command("")
        python = argv[: argv.index("-m")]
        socket_path = daemon.node.path("/run/mproutd/control.sock")
        counted = world.gateway.run(*python, "-c", COUNT, str(socket_path))
        assert counted == f'{folder}/pyroute2/__init__.py {{"wan1": 1, "wan2": 1}}\n'
        daemon.stop()
        [listed] = connections(daemon)
        assert [flow["uplink"] for flow in listed["subflows"]] == ["wan1", "wan2"]
        assert listed["remote"] == f"{SERVER}:{four.port}"
        daemon.start()
