"""The commands: what they print, where, and with which exit status."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys

import pytest

from mproutd.planning.uplinks import REASONS
from tests.lab import CONFIG_DIR, RUNTIME_DIR, TWO_UPLINKS, Daemon, Namespace, Wan, eventually
from tests.lab.daemon import REPOSITORY

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def test_status_is_0_as_wanted_1_degraded_3_not_running(world):
    daemon = Daemon(world.gateway)
    alone = daemon.call("status")
    assert alone.code == 3
    assert alone.out.startswith("mproutd is not running")
    assert json.loads(daemon.call("status", "--json").out)["running"] is False
    with daemon:
        assert daemon.call("status").code == 0
        assert daemon.status()["running"] is True
        assert daemon.status()["version"] == 1
        world.unplug(2)
        eventually(lambda: daemon.call("status").code == 1)
        printed = daemon.call("status").words
        assert "! wan2 " in printed
        assert REASONS["no-carrier"] in printed
        assert daemon.status()["degraded"] is True
    assert daemon.call("status", "--json").code == 3


def test_status_fits_80_columns_and_has_no_color_in_a_pipe(world):
    """With addresses as long as they can be, and with something to complain about."""
    world.gateway.ip("address add 2001:db8:1:2345:6789:abcd:ef01:2345/64 dev eth1 nodad")
    world.gateway.ip("mptcp endpoint add 10.1.1.2 signal")
    with Daemon(world.gateway) as daemon:
        world.unplug(2)
        eventually(lambda: daemon.call("status").out.count("carrier"))
        output = daemon.call("status").out
        for word in ("wan1", "master", "eth1", "10.1.1.1", "2001:db8:1:2345:6789:abcd:ef01:2345"):
            assert word in output
        assert "\x1b" not in output
        assert max(map(len, output.splitlines())) <= 80


def test_reconcile_prints_its_changes_and_is_0_1_or_2(world):
    daemon = Daemon(world.gateway)
    first = daemon.call("reconcile")
    assert (first.code, first.err) == (0, "")
    assert "ip mptcp endpoint add 10.1.1.2 dev eth1 subflow\n" in first.out
    assert daemon.call("reconcile") == (0, "", "")
    world.gateway.ip("rule delete priority 7502")
    reply = json.loads(daemon.call("reconcile", "--json").out)
    assert (reply["version"], reply["failed"], reply["dry_run"]) == (1, False, False)
    assert [change["command"] for change in reply["changes"]] == [
        "ip rule add from 10.2.2.2 lookup 7002 protocol 77 priority 7502"
    ]
    # Somebody else's route where ours has to be: the kernel refuses ours.
    world.gateway.ip(
        "route delete default table 7002",
        "route add default via 10.2.2.9 dev eth2 table 7002 proto static",
    )
    failed = daemon.call("reconcile")
    assert failed.code == 1
    assert "# failed: " in failed.out
    daemon.configure("config interface 'wan1'\n\toption multipath 'sideways'\n")
    assert daemon.call("reconcile").code == 2


def test_check_is_0_or_2_and_needs_no_kernel(node):
    daemon = Daemon(node)
    good = daemon.call("check")
    assert (good.code, good.err) == (0, "")
    daemon.configure(TWO_UPLINKS.replace("'on'", "'sideways'"))
    bad = daemon.call("check")
    assert (bad.code, bad.out) == (2, "")
    assert bad.err.count("\n") == 1
    assert f"{CONFIG_DIR}/network:10: interface 'wan2', option 'multipath'" in bad.err


def test_check_enabled_is_for_a_service_that_need_not_start(node):
    daemon = Daemon(node)
    assert daemon.call("check", "--enabled") == (0, "", "")
    daemon.configure(TWO_UPLINKS.replace("'enable'", "'disable'"))
    disabled = daemon.call("check", "--enabled")
    assert (disabled.code, disabled.err) == (1, "")
    assert disabled.out.endswith("wan1 master, wan2 on; multipath is not enabled\n")
    daemon.configure("nonsense\n")
    assert daemon.call("check", "--enabled").code == 2


def pasted(changes: str) -> str:
    """The commands of a dry run as a shell takes them; it must not stop at a comment."""
    return "set -e\n" + changes


def test_a_dry_run_pasted_into_a_shell_does_the_same(world):
    with Wan(shaped=False, lan=False).usual() as other:
        daemon, dry = Daemon(world.gateway), Daemon(other.gateway)
        for wan in (world, other):
            wan.gateway.sysctl("net.ipv4.conf.eth1.rp_filter", 1)
        before = other.gateway.state()
        result = dry.call("reconcile", "--dry-run")
        assert result.code == 0
        assert other.gateway.state() == before
        assert not other.gateway.path("/run/mproutd/state.json").exists()
        other.gateway.run("sh", input=pasted(result.out))
        daemon.reconcile()
        assert other.gateway.state() == world.gateway.state()
        assert other.gateway.sysctl("net.ipv4.conf.eth1.rp_filter") == "2"
        # And the way back.
        off = TWO_UPLINKS.replace("'enable'", "'disable'")
        daemon.configure(off)
        result = daemon.call("reconcile", "--dry-run")
        assert "endpoint delete id 1" in result.out
        world.gateway.run("sh", input=pasted(result.out))
        assert world.gateway.state() == before


def test_a_dry_run_beside_a_daemon_changes_nothing(world):
    with Daemon(world.gateway) as daemon:
        before = world.gateway.state(ids=True)
        daemon.configure(TWO_UPLINKS.replace("'on'", "'off'"))
        result = daemon.call("reconcile", "--dry-run")
        assert result.code == 0
        assert result.out.splitlines()[0].startswith("ip mptcp endpoint delete id ")
        assert world.gateway.state(ids=True) == before
        assert daemon.status()["uplinks"][1]["mode"] == "on"


def test_a_second_daemon_beside_the_first_reports_it(world):
    with Daemon(world.gateway) as daemon:
        second = daemon.call("run")
        assert second.code == 1
        assert f"{RUNTIME_DIR}/lock: " in second.err
        assert second.err.count("\n") == 1
        assert daemon.call("status").code == 0


def test_reconcile_beside_a_daemon_of_another_configuration_reports_it(world):
    with Daemon(world.gateway) as daemon:
        other = daemon.call("reconcile", "--config-dir", "/etc")
        assert other.code == 1
        assert CONFIG_DIR in other.err


def as_nobody(node: Namespace, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without any capability."""
    argv = [*nobody(65534), *command]
    return subprocess.run(node.command(*argv), text=True, capture_output=True, timeout=20)


def nobody(group: int) -> list[str]:
    """What makes a command somebody else's, who can still read a checkout below /root."""
    kept = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", "--reuid=65534", f"--regid={group}", "--clear-groups", *kept, "--"]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("verb", ["status", "reconcile", "run", "flush"])
def test_not_root_is_one_clear_line(world, verb, running):
    daemon = Daemon(world.gateway)
    if running:
        daemon.start()
    before = world.gateway.state(ids=True)
    done = as_nobody(world.gateway, *daemon.command(verb))
    assert "Traceback" not in done.stderr
    if verb == "status" and not running:
        assert (done.returncode, done.stderr) == (3, "")  # reading needs no privilege
    else:
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1
        assert "root" in done.stderr
    assert world.gateway.state(ids=True) == before
    daemon.close()


def test_the_socket_is_for_root_and_the_group(world):
    group = f"mproutd:x:{os.stat('/dev/null').st_gid + 4711}:\n"
    with open("/etc/group") as file:
        text = file.read()
    assert "mproutd" not in [group.gr_name for group in grp.getgrall()] or pytest.skip(
        "group exists"
    )
    etc = world.gateway.path("/run/etc-group")
    etc.write_text(text + group)
    world.gateway.run("mount", "--bind", "/run/etc-group", "/etc/group")
    with Daemon(world.gateway) as daemon:
        there = world.gateway.path(f"{RUNTIME_DIR}/control.sock").stat()
        assert (oct(there.st_mode & 0o777), there.st_uid, there.st_gid) == ("0o660", 0, 4711)
        argv = nobody(4711)
        allowed = world.gateway.run(*argv, *daemon.command("status"))
        assert "wan1" in allowed
        assert as_nobody(world.gateway, *daemon.command("status")).returncode == 1


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run", "--help"), ("--version",), ("no",)])
def test_the_command_line_never_answers_with_a_traceback(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "mproutd", *arguments],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if "--help" in arguments or "--version" in arguments else 2)


def test_the_state_of_another_network_namespace_is_left_alone(world: Wan) -> None:
    """A container that sees the host's runtime directory: what it records is not here."""
    with Daemon(world.gateway) as daemon:
        elsewhere = daemon.call("status", prefix=("unshare", "--net"))
        assert (elsewhere.code, elsewhere.out) == (1, "")
        assert "network namespace" in elsewhere.err
    for verb in ("flush", "status", "reconcile"):
        elsewhere = daemon.call(verb, prefix=("unshare", "--net"))
        assert (elsewhere.code, elsewhere.out) == (1, ""), verb
        assert "network namespace" in elsewhere.err
    with Daemon(world.gateway) as daemon:
        assert daemon.call("status").code == 0
