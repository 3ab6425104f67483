"""One gateway of a pair: standby by command, over a restart, and while connections run."""

from __future__ import annotations

import os
import signal

import pytest

from tests.lab import RUNTIME_DIR, SERVER, Daemon, Echo, Wan, eventually, subflows
from tests.lab.daemon import TWO_UPLINKS

PAIR = "config mproutd 'globals'\n\toption pair '1'\n"
BOTH = {"10.1.1.2", "10.2.2.2"}

pytestmark = pytest.mark.kernel


def endpoints(wan: Wan) -> set[str]:
    lines = wan.gateway.ip("mptcp endpoint show").splitlines()
    return {line.split()[0] for line in lines if ":" not in line.split()[0]}


def test_standby_outlives_a_restart_and_not_a_reboot(wan: Wan) -> None:
    with Daemon(wan.gateway, own=PAIR) as daemon:
        assert daemon.call("standby").out == "standby\n"
        assert endpoints(wan) == set()
        assert wan.gateway.ip("route show table 7000") == ""
        tables = wan.gateway.ip("route show table 7001", "route show table 7002", "rule show")
        assert daemon.call("standby", "off").out == "active\n"
        eventually(lambda: endpoints(wan) == BOTH)
        assert "default via 10.1.1.1" in wan.gateway.ip("route show table 7000")
        daemon.stop()
        daemon.start()
        assert daemon.call("standby").out == "active\n"
        assert endpoints(wan) == BOTH
        daemon.call("standby", "on")
        eventually(lambda: endpoints(wan) == set())
        eventually(lambda: daemon.call("status").code == 0)
        assert daemon.call("status").out.startswith("standby: ")
        again = wan.gateway.ip("route show table 7001", "route show table 7002", "rule show")
        assert again == tables
        daemon.stop()
        assert daemon.call("standby").out == "standby\n"
        assert daemon.call("standby", "off").out == "active, once mproutd runs\n"
        daemon.start()
        assert endpoints(wan) == BOTH
        daemon.stop()
        wan.gateway.path("/run/mproutd/state.json").unlink()  # as at a reboot
        daemon.start()
        assert daemon.call("standby").out == "standby\n"


def test_a_connection_of_the_gateway_itself_lives_on_in_both_directions(wan: Wan) -> None:
    with Daemon(wan.gateway, own=PAIR) as daemon:
        daemon.call("standby", "off")
        with Echo(wan.gateway, wan.server, SERVER, listen="0.0.0.0") as echo:

            def carried_by(*addresses: str) -> bool:
                return {one.local for one in subflows(wan.gateway, echo.port)} == set(addresses)

            eventually(lambda: carried_by(*BOTH), 20)
            assert "subflows 3" in wan.gateway.ip("mptcp limits show")
            for state, addresses in (("on", set()), ("off", BOTH)):
                daemon.call("standby", state)
                eventually(lambda wanted=addresses: endpoints(wan) == wanted, 20)
                before = echo.report().received
                eventually(lambda seen=before: echo.report().received > seen + 20, 20)
                report = echo.report()
                assert not report.error
                assert report.mptcp
            eventually(lambda: carried_by(*BOTH), 20)


def test_usable_is_an_exit_status(wan: Wan) -> None:
    with Daemon(wan.gateway, own=PAIR) as daemon:
        assert daemon.call("status", "--usable").out == "usable: wan1, wan2\n"
        assert daemon.call("status", "--usable", "wan1").code == 2
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            answer = daemon.call("status", "--usable")  # well before keepalived ends it
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        assert answer.code == 1
        assert "does not reply" in answer.err
        for n in wan.uplinks:
            wan.unplug(n)
        answer = eventually(
            lambda: answer if (answer := daemon.call("status", "--usable")).code else None, 20
        )
        assert answer.code == 1
        assert answer.out == "no uplink is usable: wan1 (no carrier), wan2 (no carrier)\n"
        daemon.stop()
        assert daemon.call("status", "--usable").code == 3


def test_a_command_counts_without_multipath_and_fails_where_it_cannot_be_kept(wan: Wan) -> None:
    with Daemon(wan.gateway, own=PAIR) as daemon:
        daemon.call("standby", "off")
        daemon.configure(TWO_UPLINKS.replace("'enable'", "'disable'"))
        daemon.call("reconcile")
        assert "multipath is not enabled" in daemon.call("status", "--usable").out
        assert daemon.call("standby", "on").out == "standby\n"
        daemon.configure(TWO_UPLINKS)
        daemon.call("reconcile")
        assert endpoints(wan) == set()
        daemon.call("standby", "off")
        wan.gateway.run("mount", "--bind", RUNTIME_DIR, RUNTIME_DIR)
        wan.gateway.run("mount", "-o", "remount,bind,ro", RUNTIME_DIR)
        answer = daemon.call("standby", "on")
        assert answer.code == 1
        assert answer.err.startswith("mproutd: standby, until mproutd restarts: ")
        assert endpoints(wan) == set()
        wan.gateway.run("umount", RUNTIME_DIR)
        assert daemon.call("standby", "on").code == 0  # written, although nothing changes
        assert '"standby": true' in wan.gateway.path(f"{RUNTIME_DIR}/state.json").read_text()


def test_standby_needs_a_pair(wan: Wan) -> None:
    with Daemon(wan.gateway) as daemon:
        assert daemon.call("standby").out.startswith("no gateway of a pair")
        for _ in range(2):
            answer = daemon.call("standby", "on")
            assert answer.code == 2
            assert "option pair" in answer.err
            daemon.stop()
            assert daemon.call("standby").out.startswith("no gateway of a pair")


def test_check_compares_with_the_other_gateway(wan: Wan) -> None:
    daemon = Daemon(wan.gateway, own=PAIR)
    other = wan.gateway.path("/run/other")
    other.mkdir()
    for name in ("network", "mproutd"):
        text = wan.gateway.path(f"/run/mproutd-config/{name}").read_text()
        (other / name).write_text(text.replace("eth1", "enp3s0"))
    answer = daemon.call("check", "--pair", "/run/other")
    assert answer.code == 0, answer
    assert "equal" in answer.out
    (other / "mproutd").write_text(PAIR + "\toption mark_mask '0xff0000'\n")
    answer = daemon.call("check", "--pair", "/run/other")
    assert answer.code == 1
    assert len(answer.out.splitlines()) == 3
    assert answer.out.startswith("mproutd, option mark_mask: 0x7f000000 in /run/mproutd-config, ")
    for itself in ("", "/run/../run/mproutd-config"):
        answer = daemon.call("check", "--pair", itself)
        assert answer.code == 2
        assert "other gateway" in answer.err
    (other / "mproutd").write_text("config mproutd\n\toption nonsense 1\n")
    assert daemon.call("check", "--pair", "/run/other").code == 2
    daemon.close()
