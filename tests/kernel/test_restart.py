"""What changed while nobody watched: the next start, or a flush, finds its own again."""

from __future__ import annotations

import pytest

from tests.lab import CONFIG_DIR, RUNTIME_DIR, TWO_UPLINKS, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


def moved(options: str) -> str:
    return "config mproutd 'globals'\n" + "".join(f"\toption {option}\n" for option in options)


ONE = TWO_UPLINKS.split("config interface 'wan2'")[0]
PINNED = "config uplink 'wan1'\n\toption table '{table}'\n\toption mark '{mark}'\n"

CHANGES = {
    "an uplink left the file": ((TWO_UPLINKS, ""), (ONE, "")),
    "an uplink came in front": (
        (ONE, ""),
        (ONE.replace("'wan1'", "'wan0'").replace("eth1", "eth2") + ONE.split("\n\n")[1], ""),
    ),
    "other priorities and tables": (
        (TWO_UPLINKS, ""),
        (TWO_UPLINKS, moved(["rule_priority '9000'", "table_base '9000'"])),
    ),
    "another mask": ((TWO_UPLINKS, ""), (TWO_UPLINKS, moved(["mark_mask '0x00ff0000'"]))),
    "a table pinned": ((TWO_UPLINKS, ""), (TWO_UPLINKS, PINNED.format(table=300, mark="5/0xff"))),
    "another table pinned": (
        (TWO_UPLINKS, PINNED.format(table=300, mark="5/0xff")),
        (TWO_UPLINKS, PINNED.format(table=400, mark="6/0xff")),
    ),
    "no table pinned any more": (
        (TWO_UPLINKS, PINNED.format(table=300, mark="5/0xff")),
        (TWO_UPLINKS, ""),
    ),
    "another role": ((TWO_UPLINKS, ""), (TWO_UPLINKS, moved(["role 'server'"]))),
    "smaller limits": ((TWO_UPLINKS, ""), (TWO_UPLINKS, moved(["subflows '4'"]))),
    "multipath off": ((TWO_UPLINKS, ""), (TWO_UPLINKS.replace("'enable'", "'disable'"), "")),
}


@pytest.mark.parametrize("how", ["dead", "live"])
@pytest.mark.parametrize("change", CHANGES)
def test_the_file_changed(world, change, how):
    """While the daemon was dead, or before a reconcile: it ends as a fresh start would."""
    (network, own), (new_network, new_own) = CHANGES[change]
    before_start = world.gateway.state()
    daemon = Daemon(world.gateway, new_network, new_own).start()
    slots = {uplink["name"]: uplink["slot"] for uplink in daemon.status()["uplinks"]}
    clean = world.gateway.state()
    daemon.stop()
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before_start
    daemon.configure(network, own)
    daemon.start()
    if how == "dead":
        daemon.kill9()
        daemon.configure(new_network, new_own)
        daemon.start()
        daemon.settle()  # ready is after the first pass; what it closes, the second clears up
    else:
        daemon.configure(new_network, new_own)
        daemon.reconcile()
    if slots == {uplink["name"]: uplink["slot"] for uplink in daemon.status()["uplinks"]}:
        assert world.gateway.state() == clean
    else:  # slots stay with their uplinks as long as the state file lives
        assert change == "an uplink came in front"
        assert len(world.gateway.state().splitlines()) == len(clean.splitlines())
    assert daemon.call("status").code == 0
    assert daemon.reconcile() == ""
    daemon.stop()
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before_start


def test_flush_after_a_device_is_gone(world):
    with Daemon(world.gateway) as daemon:
        pass
    world.remove_device(1)
    assert daemon.call("flush").code == 0
    state = world.gateway.state()
    assert "endpoint" not in state
    assert "proto 77" not in state
    assert "limits add_addr_accepted 0 subflows 2" in state


def test_flush_without_a_state_file_takes_what_carries_our_protocol(world):
    with Daemon(world.gateway) as daemon:
        pass
    world.gateway.path(f"{RUNTIME_DIR}/state.json").unlink()
    assert daemon.call("flush").code == 0
    state = world.gateway.state()
    assert "proto 77" not in state
    assert state.count("endpoint") == 4  # nobody knows whose they are


def test_flush_with_a_configuration_that_is_refused(world):
    before_start = world.gateway.state()
    with Daemon(world.gateway) as daemon:
        pass
    daemon.configure("nonsense\n")
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before_start


def test_flush_of_tables_that_the_file_no_longer_names(world):
    before_start = world.gateway.state()
    own = PINNED.format(table=300, mark="5/0xff") + moved(["rule_priority '9000'"])
    with Daemon(world.gateway, own=own) as daemon:
        assert "table 300 proto 77" in world.gateway.state()
    daemon.configure(TWO_UPLINKS, "")
    assert daemon.call("flush").code == 0
    assert world.gateway.state() == before_start


def test_no_configuration_at_all(world):
    daemon = Daemon(world.gateway, "")
    for verb in ("check", "run"):
        result = daemon.call(verb)
        assert result.code == 2, result
        assert result.err.count("\n") == 1
        assert CONFIG_DIR in result.err


def test_a_state_directory_that_is_full(world):
    """Said in status; routing goes on; all is well again when there is room."""
    at = world.gateway.path(RUNTIME_DIR)
    at.mkdir()
    world.gateway.run("mount", "-t", "tmpfs", "-o", "size=4k,mode=755", "full", RUNTIME_DIR)
    world.gateway.run("sh", "-c", f"head -c 4096 /dev/zero > {RUNTIME_DIR}/filler")
    with Daemon(world.gateway) as daemon:
        assert "endpoint 10.1.1.2" in world.gateway.state()
        result = daemon.call("status")
        assert result.code == 1
        assert "No space left on device" in result.out
        assert "Traceback" not in daemon.log()
        world.gateway.run("rm", f"{RUNTIME_DIR}/filler")
        daemon.reconcile()
        eventually(lambda: daemon.call("status").code == 0)
        before = world.gateway.state(ids=True)
        daemon.kill9()
        daemon.start()
        assert world.gateway.state(ids=True) == before
    assert daemon.call("flush").code == 0
    assert "endpoint" not in world.gateway.state()
