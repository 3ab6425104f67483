"""Rounds of chaos: a burst of actions, then a quiet moment in which everything is checked."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from typing import NamedTuple

from tests.chaos import checks, configurations
from tests.chaos.actions import ACTIONS, Action, read_now
from tests.chaos.site import UPLINKS, Site
from tests.lab import SERVER, SERVER6, address, eventually, subflows
from tests.lab.resources import Closing

CONVERGENCE_TIMEOUT = 25.0
"""Seconds until the kernel has to be right: what others remove again and again comes back
every 5 s, and what the kernel refused is tried again ever more rarely."""
MAX_STALL = 30.0
"""Seconds that a connection may stand still, at most, before it counts as lost."""
ROUNDS_PER_ANCHOR = 10
"""Rounds with one anchor."""


class Trial(NamedTuple):
    """What came of the rounds in which something was done."""

    times: int = 0
    slowest: float = 0.0
    """Seconds from the end of the burst until the kernel was right."""


class Chaos(Closing):
    """A world for one seed.  round() raises AssertionError, with all that was done, if
    something is not as it should be."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.site = Site(self.dice)
        self.rounds = self.actions = self.moved = self.unmoved = self.lost = 0
        self.connections = len(self.site.echoes)
        self.trials: dict[str, Trial] = {}
        self.settled: list[float] = []
        self.stalled = 0.0
        """The longest silence of a connection, in seconds."""

    def close(self) -> None:
        self.site.close()

    def run(self, rounds: int, until: float = float("inf")) -> Chaos:
        """So many rounds, or as many as there is time for until then (time.monotonic)."""
        while self.rounds < rounds and time.monotonic() < until:
            self.round()
        return self

    def round(self) -> None:
        """One burst, and the quiet moment after it."""
        site, dice = self.site, self.dice
        self.rounds += 1
        site.journal.clear()
        site.silent = False
        try:
            done = self._burst()
            took = self._quiet()
            for name in {action.name for action in done}:
                old = self.trials.get(name, Trial())
                count = sum(action.name == name for action in done)
                self.trials[name] = Trial(old.times + count, max(old.slowest, took))
            self.settled.append(took)
            self.actions += len(done)
            if dice.random() < 0.04:
                self._special("mproutd flush", self._flush)
            elif dice.random() < 0.04:
                self._special("an empty configuration", self._nothing)
            if self.rounds % ROUNDS_PER_ANCHOR == 0:
                self._move_anchor()
        except Exception as problem:
            raise AssertionError(
                f"seed {self.seed}, round {self.rounds}, anchor eth{site.anchor}: "
                f"{type(problem).__name__}: {problem}\n"
                f"done: {'; '.join(site.journal)}\n--- configuration\n"
                f"{site.in_use.network}{site.in_use.own}\n--- the kernel\n{_described(site)}\n"
                "--- the daemon's last words\n" + "\n".join(site.daemon.log().splitlines()[-25:])
            ) from problem

    # -- the burst ------------------------------------------------------------------------

    def _burst(self) -> list[Action]:
        site, dice = self.site, self.dice
        weights = [action.weight for action in ACTIONS]
        actions = dice.choices(ACTIONS, weights, k=dice.randrange(1, 9))
        for action in actions:
            site.journal.append(action.name)
            action.do(site)
            if dice.random() < 0.4:
                time.sleep(dice.choice((0.0005, 0.002, 0.01, 0.04)))
        return actions

    # -- the quiet moment -----------------------------------------------------------------

    def _quiet(self) -> float:
        site = self.site
        if site.frozen and site.daemon.alive:
            site.daemon.process.send_signal(signal.SIGCONT)
        site.frozen = False
        begun = time.monotonic()
        for process in site.waiting:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # a second daemon, when the first one was gone
                process.kill()
                process.wait()
        site.waiting.clear()
        self._running()
        self._right()
        took = time.monotonic() - begun
        # The last events may come between a look at the kernel and the question.
        eventually(lambda: checks.check_status(site, checks.compare(site)), 5)
        eventually(lambda: checks.table_is_right(site), 10, "the nftables table")
        checks.check_foreign_objects(site)
        self._connections_live()
        return took

    def _running(self) -> None:
        """The daemon runs, and has read the configuration that is on disk."""
        site = self.site
        if site.daemon.mortal and site.daemon.alive:
            site.daemon.kill9()
        for _ in range(5):
            if not site.daemon.alive:
                if not site.disk.good:
                    site.write(site.draw())
                site.daemon.begin()
            if eventually(self._answers_or_is_dead, 10) == "dead":
                continue
            if not site.unread:
                return
            read_now(site)
        raise AssertionError("the daemon does not stay")

    def _answers_or_is_dead(self) -> str:
        if not self.site.daemon.alive:
            return "dead"
        return "answers" if self.site.daemon._answers() else ""

    def _right(self) -> None:
        site = self.site
        last: list[str] = []

        def right() -> checks.Comparison | None:
            if site.silent:
                site.daemon.query_status()
            seen = checks.compare(site)
            last[:] = seen.wrong
            return None if seen.wrong else seen

        try:
            eventually(right, CONVERGENCE_TIMEOUT, "the kernel as from a clean start")
        except AssertionError as problem:
            raise AssertionError("\n".join(last) or str(problem)) from None

    def _connections_live(self) -> None:
        site = self.site
        for index, echo in enumerate(site.echoes):
            report = echo.report()
            before = report.received
            self.stalled = max(self.stalled, report.gap)

            def continues(echo=echo, before=before) -> bool:
                return echo.report().received > before

            try:
                assert not report.error, f"connection {index} was lost: {report}"
                eventually(continues, MAX_STALL, f"connection {index} continues")
            except AssertionError:
                self.lost += 1
                raise

    # -- now and then ---------------------------------------------------------------------

    def _special(self, name: str, do) -> None:
        self.site.journal.append(name)
        do()
        self._quiet()
        old = self.trials.get(name, Trial())
        self.trials[name] = Trial(old.times + 1, old.slowest)

    def _flush(self) -> None:
        site = self.site
        site.daemon.stop()
        result = site.daemon.call("flush")
        kept = re.findall(r"^mproutd: (\S+): its endpoint stays", result.err, re.M)
        assert result.code == int(bool(kept)), result
        checks.check_flushed(site, kept)

    def _nothing(self) -> None:
        site = self.site
        if not site.disk.good:
            site.write(site.in_use)
        before = site.disk
        site.write(configurations.nothing(self.dice))
        site.daemon.reconcile()
        site.in_use = site.disk
        problems = site.daemon.query_status()["problems"]
        site.kept = {
            problem["address"] for problem in problems if problem["code"] == "endpoint-in-use"
        }
        for own in site.kept:
            assert any(subflow.local == own for subflow in subflows(site.gateway)), f"{own} is kept"
        self._right()
        site.kept = set()
        site.write(before)

    def _move_anchor(self) -> None:
        """Another uplink is the one that works at all times, and one connection is a new one."""
        site = self.site
        old, new = site.anchor, self.dice.choice([n for n in UPLINKS if n != site.anchor])
        site.journal.append(f"eth{new} becomes the anchor")
        site.make_whole(new)
        if address(new) in site.taken:
            shown = site.gateway.ip("mptcp endpoint show")
            number = shown[shown.index(address(new)) :].split()[2]
            site.gateway.ip(f"mptcp endpoint delete id {number}")
            site.taken.discard(address(new))
            site.silent = True
        site.write(configurations.usual(new))
        self._quiet()
        index = self.dice.randrange(2)
        site.echoes.pop(index).close()
        site.echoes.insert(index, site.connect((SERVER, SERVER6)[index]))
        self.connections += 1
        try:
            for echo, family in zip(site.echoes, (4, 6), strict=True):
                own = address(new, family)
                eventually(
                    lambda echo=echo, own=own: (
                        own in {subflow.local for subflow in subflows(site.gateway, echo.port)}
                    ),
                    10,
                )
            site.anchor = new
            self.moved += 1
        except AssertionError:
            self.unmoved += 1
            site.anchor = old


def _described(site: Site) -> str:
    commands = ("address show", "mptcp endpoint show", "mptcp limits show")
    shown = [site.gateway.ip(*commands), site.gateway.state()]
    shown += map(str, subflows(site.gateway))
    shown += [str(echo.report()) for echo in site.echoes if echo.client.poll() is None]
    return "\n".join(shown)
