"""on_up and on_down: the user's programs, when they run, and how they may misbehave."""

from __future__ import annotations

import os
import time

import pytest

from tests.lab import TWO_UPLINKS, Daemon, Wan, eventually
from tests.lab.daemon import RUNTIME_DIR

pytestmark = pytest.mark.kernel

OWN = """\
config uplink 'wan2'
	option on_up '/bin/sh /run/act "came back"'
	option on_down '/bin/sh /run/act'
	option action_timeout '1'
"""


ACTED = f"{RUNTIME_DIR}/actions"
TIMED_OUT = "timed out and was terminated"


@pytest.fixture
def world():
    with Wan(ipv6=False, shaped=False, lan=False).usual() as wan:
        yield wan


class Acting:
    """The daemon with a program for wan2 that writes each of its runs into a file."""

    def __init__(self, world: Wan, script: str = "", own: str = OWN) -> None:
        self.world, node = world, world.gateway
        self.runs_file = node.path("/run/runs")
        node.path("/run/act").write_text(f"echo $MPROUTD_EVENT $1 >>/run/runs\n{script}\n")
        self.daemon = Daemon(node, TWO_UPLINKS, own)

    def __enter__(self) -> Acting:
        self.daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.stop()

    def runs(self) -> list[str]:
        return self.runs_file.read_text().splitlines() if self.runs_file.exists() else []

    def ran(self, *runs: str) -> None:
        """Wait until these have begun, and the last of them has ended; then there is no more."""
        eventually(lambda: self.runs() == list(runs), 5, f"runs {runs}, not {self.runs()}")
        eventually(lambda: self.last() and self.last()["exit_status"] is not None, 10, "its end")
        assert self.runs() == list(runs)

    def last(self):
        return self.daemon.uplink("wan2")["action"]


def test_up_at_the_first_start_down_and_up_again(world):
    with Acting(world, 'echo "done $MPROUTD_UPLINK"') as acting:
        acting.ran("up came back")
        world.unplug(2)
        acting.ran("up came back", "down")
        world.plug(2)
        acting.ran("up came back", "down", "up came back")
        last = acting.last()
        assert (last["event"], last["exit_status"], last["output"]) == ("up", 0, "done wan2")
        words = acting.daemon.call("status", "wan2").words
        assert "on_up /bin/sh exited with status 0 after" in words
        assert words.count("done wan2") == 1
        log = acting.daemon.log()
        assert "wan2: on_down /bin/sh exited with status 0: done wan2" in log


def test_the_environment_of_the_program(world):
    with Acting(world, "env | sort >/run/env.$MPROUTD_EVENT; pwd; readlink /proc/self/fd/0") as it:
        it.ran("up came back")
        world.unplug(2)
        it.ran("up came back", "down")
        assert it.last()["output"] == "/dev/null"
    variables = {}
    for event in ("up", "down"):
        lines = world.gateway.path(f"/run/env.{event}").read_text().splitlines()
        variables[event] = dict(line.split("=", 1) for line in lines)
        for shell in ("PWD", "_", "OLDPWD", "SHLVL"):  # the shell's own
            variables[event].pop(shell, None)
    assert variables["up"] == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "MPROUTD_EVENT": "up",
        "MPROUTD_UPLINK": "wan2",
        "MPROUTD_DEVICE": "eth2",
        "MPROUTD_MODE": "on",
        "MPROUTD_REASON": "",
        "MPROUTD_ADDRESS": "10.2.2.2",
        "MPROUTD_ADDRESS6": "",
        "MPROUTD_GATEWAY": "10.2.2.1",
        "MPROUTD_GATEWAY6": "",
        "MPROUTD_TABLE": "7002",
        "MPROUTD_TABLE6": "7002",
        "MPROUTD_MARK": "0x2000000/0x7f000000",
        "MPROUTD_USABLE": "wan1 wan2",
    }
    down = {"MPROUTD_EVENT": "down", "MPROUTD_REASON": "no-carrier", "MPROUTD_USABLE": "wan1"}
    assert variables["down"] == variables["up"] | down


def test_one_that_takes_too_long_is_ended_and_the_loop_goes_on(world):
    """It ignores SIGTERM, and so does what it started; status answers all the while."""
    with Acting(world, "trap '' TERM; sleep 99 & echo $! >/run/child; wait") as acting:
        eventually(lambda: acting.runs() == ["up came back"], 5)
        slowest = 0.0
        while acting.last()["exit_status"] is None:
            began = time.monotonic()
            acting.daemon.query_status()
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.05)
        last = acting.last()
        assert (last["exit_status"], last["text"]) == (-9, TIMED_OUT)
        assert last["duration"] >= 3, "a second, and two more after SIGTERM"
        assert slowest < last["duration"] / 2
        child = int(world.gateway.path("/run/child").read_text())
        eventually(lambda: not world.gateway.path(f"/proc/{child}/environ").exists(), 5)
        assert TIMED_OUT in acting.daemon.call("status", "wan2").words


def test_never_two_at_once_and_what_is_undone_does_not_run(world):
    """While `up` runs the cable goes and comes back twice: nothing is left to say."""
    own = "test -e /run/busy && echo both >>/run/runs; touch /run/busy; sleep 0.7; rm /run/busy"
    with Acting(world, own) as acting:
        eventually(lambda: acting.runs() == ["up came back"], 5)
        for _ in range(2):
            world.unplug(2)
            acting.daemon.settle()
            world.plug(2)
            acting.daemon.settle()
        acting.ran("up came back")
        world.unplug(2)
        acting.daemon.settle()
        world.plug(2)
        acting.daemon.settle()
        world.unplug(2)
        acting.ran("up came back", "down")


@pytest.mark.parametrize("how", ["stop", "kill9"])
def test_a_restart_repeats_nothing_and_misses_nothing(world, how):
    acting = Acting(world)
    daemon = acting.daemon.start()
    acting.ran("up came back")
    getattr(daemon, how)()
    daemon.start()
    daemon.settle()
    assert daemon.uplink("wan2")["action"] is None
    assert acting.runs() == ["up came back"]
    getattr(daemon, how)()
    world.unplug(2)
    daemon.start()
    acting.ran("up came back", "down")
    daemon.stop()


def test_a_stop_ends_what_runs_and_the_next_start_runs_it_again(world):
    acting = Acting(world, "sleep 0.9; echo whole >>/run/runs")
    daemon = acting.daemon.start()
    eventually(lambda: acting.runs() == ["up came back"], 5)
    daemon.stop()
    daemon.start()
    eventually(lambda: acting.runs() == ["up came back", "up came back", "whole"], 5)
    daemon.stop()


DISABLED = TWO_UPLINKS.replace("'enable'", "'disable'")
ALONE = TWO_UPLINKS[: TWO_UPLINKS.index("config interface 'wan2'")]
RENAMED = TWO_UPLINKS.replace("wan2", "lte")


@pytest.mark.parametrize(
    ("network", "own", "reason", "usable"),
    [
        (DISABLED, OWN, "disabled", ""),
        (ALONE, "", "removed", "wan1"),
        (RENAMED, "", "removed", "wan1"),
    ],
    ids=["disabled", "removed", "renamed"],
)
def test_an_uplink_that_a_reload_takes_away_is_down(world, network, own, reason, usable):
    """Its old on_down runs once, with what was known last; added again, the uplink is up."""
    script = "echo $MPROUTD_EVENT $MPROUTD_UPLINK $MPROUTD_ADDRESS $MPROUTD_TABLE >/run/events\n"
    script += "echo $MPROUTD_REASON: $MPROUTD_USABLE >>/run/events"
    with Acting(world, script) as acting:
        acting.ran("up came back")
        daemon = acting.daemon
        daemon.configure(network, own)
        daemon.reconcile()
        ended = "wan2: on_down /bin/sh exited with status 0"
        eventually(lambda: ended in daemon.log(), 5, "its end")
        lines = world.gateway.path("/run/events").read_text().splitlines()
        assert lines == ["down wan2 10.2.2.2 7002", f"{reason}: {usable}".strip()]
        daemon.reconcile()
        daemon.stop()
        daemon.start()
        daemon.settle()
        assert acting.runs() == ["up came back", "down"]
        assert world.gateway.path(ACTED).read_text() == "wan2 down\n"
        daemon.configure(TWO_UPLINKS, OWN)
        daemon.reconcile()
        acting.ran("up came back", "down", "up came back")


def test_taken_away_and_given_back_while_programs_run(world):
    """Each runs to its end, in this order; what has been undone by then does not run."""
    script = "until test -e /run/go.$MPROUTD_EVENT; do sleep 0.05; done; echo end >>/run/runs"
    own = OWN.replace("action_timeout '1'", "action_timeout '60'")
    with Acting(world, script, own) as acting:
        eventually(lambda: acting.runs() == ["up came back"], 5)
        for network, text in ((ALONE, ""), (TWO_UPLINKS, own), (ALONE, "")):
            acting.daemon.configure(network, text)
            acting.daemon.reconcile()
        world.gateway.path("/run/go.up").touch()
        whole = ["up came back", "end", "down"]
        eventually(lambda: acting.runs() == whole, 5)
        acting.daemon.configure(TWO_UPLINKS, own)
        acting.daemon.reconcile()
        assert acting.runs() == whole
        world.gateway.path("/run/go.down").touch()
        acting.ran(*whole, "end", "up came back", "end")


def test_programs_that_a_reload_takes_away_do_not_run(world):
    """The uplink stays: nothing is undone, and nothing repeated when they are back."""
    with Acting(world) as acting:
        acting.ran("up came back")
        for own in ("", OWN):
            acting.daemon.configure(own=own)
            acting.daemon.reconcile()
            assert ("action" in acting.daemon.uplink("wan2")) == bool(own)
            assert acting.runs() == ["up came back"]
        world.unplug(2)
        acting.ran("up came back", "down")


@pytest.mark.parametrize("without", [(ALONE, ""), (DISABLED, OWN)], ids=["removed", "disabled"])
def test_what_goes_while_no_daemon_runs_was_not_undone(world, without):
    """Nobody knows any more what to run; when it is back, its last state still counts."""
    with Acting(world) as acting:
        acting.ran("up came back")
        for network, own in (without, (TWO_UPLINKS, OWN)):
            acting.daemon.stop()
            acting.daemon.configure(network, own)
            acting.daemon.start()
            acting.daemon.settle()
            assert acting.runs() == ["up came back"]
        world.unplug(2)
        acting.ran("up came back", "down")


def test_after_a_flush_all_begins_anew(world):
    with Acting(world) as acting:
        acting.ran("up came back")
        acting.daemon.stop()
        for _ in range(2):
            assert acting.daemon.call("flush").code == 0
            assert not world.gateway.path(ACTED).exists()
        acting.daemon.start()
        acting.ran("up came back", "up came back")


def test_a_program_without_an_owner_is_ended_in_time(world):
    """It ignores SIGTERM; the reload that takes the last program away leaves no descriptor."""
    with Acting(
        world, "trap '' TERM; echo $$ >/run/pid; sleep 99 & wait; wait; sleep 99"
    ) as acting:
        daemon = acting.daemon

        def descriptors() -> list[str]:
            folder = f"/proc/{daemon.process.pid}/fd"
            try:
                targets = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
            except FileNotFoundError:  # closed while we looked
                return descriptors()
            return [target for target in targets if "pipe:" in target or "pidfd" in target]

        eventually(lambda: world.gateway.path("/run/pid").exists(), 5)
        daemon.configure(own="config mproutd 'globals'\n")
        daemon.reconcile()
        assert len(descriptors()) == 2, "its output, and what tells of its end"
        eventually(lambda: TIMED_OUT in daemon.log(), 10, "its end")
        assert descriptors() == []
        pid = int(world.gateway.path("/run/pid").read_text())
        eventually(lambda: not world.gateway.path(f"/proc/{pid}").exists(), 5)


def test_a_program_that_is_not_there_and_one_that_fails(world):
    own = OWN.replace('/bin/sh /run/act "came back"', "/run/nowhere")
    daemon = Daemon(world.gateway, TWO_UPLINKS, own).start()
    assert "wan2: on_up /run/nowhere cannot be run: No such file or directory" in daemon.log()
    assert daemon.uplink("wan2")["action"]["exit_status"] == 127
    world.gateway.path("/run/act").write_text("printf '\\033[31mno\\n' >&2; exit 4")
    world.unplug(2)
    eventually(
        lambda: (daemon.uplink("wan2")["action"] or {}).get("exit_status") == 4, 5, "its end"
    )
    assert "\x1b" not in daemon.call("status", "wan2").out + daemon.log()
    assert "on_down /bin/sh exited with status 4" in daemon.log()
    assert daemon.call("status").code == 1, "for the cable, and nothing else"
    assert daemon.query_status()["problems"] == []
    daemon.stop()


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("printf 'first\\nno newline'", "no newline"),
        ("printf 'first\\n\\n  \\n'", "first"),
        ("printf '10 %%\\r20 %%\\r'", "20 %"),
        ("printf 'half '; sleep 0.2; printf 'and half'", "half and half"),
        ("printf 'whole\\ncut off he'; exec sleep 5", "whole"),
        ("printf 'nothing else'; exec sleep 5", "nothing else"),
        ("printf '%0500d\\n' 7", "0" * 200),
    ],
)
def test_the_last_line_of_what_it_wrote(world, script, line):
    with Acting(world, script) as acting:
        acting.ran("up came back")
        assert acting.last()["output"] == line


def test_a_flood_of_words_stops_nothing(world):
    with Acting(world, "exec yes loud") as acting:
        eventually(lambda: acting.runs() == ["up came back"], 5)
        acting.daemon.query_status()
        eventually(lambda: acting.last()["exit_status"] is not None, 10, "its end")
        assert acting.last()["output"] == "loud"
        assert acting.last()["text"] == TIMED_OUT


def test_no_program_no_cost(world):
    """What is not asked for is not imported, and status says nothing of it."""
    with Daemon(world.gateway) as daemon:
        assert "action" not in daemon.uplink("wan2")
        maps = world.gateway.path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "_posixsubprocess" not in maps


def test_a_program_that_ends_by_a_signal_without_a_name(world):
    with Acting(world, "kill -40 $$") as acting:
        acting.ran("up came back")
        assert acting.last()["text"] == "was terminated by signal 40"
        assert acting.daemon.call("status").code == 0
