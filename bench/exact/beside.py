"""What mproutd is compared with, in the same guest: mptcpd, the classic scripts, and the floor.

The floor is what Python itself costs (prepared.py): a loop that answers the event with the same
operations, encoded beforehand, without reading or deciding anything.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import down, up
from bench.exact import probes
from bench.exact.worlds import PYTHON, REST, Connected, environment
from bench.site import configuration, start
from tests.lab import Daemon, address

Samples = dict[str, list[float]]


def rows(rounds: int) -> Iterator[tuple[str, str, list[float]]]:
    """(row of mproutd's, what it is compared with, a sample for each round)."""
    for name, samples in _mptcpd(rounds).items():
        yield name, "mptcpd, endpoint only", samples
    for name, samples in _prepared(rounds).items():
        yield name, "Python, operations encoded beforehand", samples
    for trigger in up.TRIGGERS:
        for name, samples in _if_up(trigger, rounds).items():
            yield name, "if-up script", samples
    for name, samples in _if_down(rounds).items():
        yield name, "if-post-down script", samples


def _address_comes(contender: up.Contender, process: int, rounds: int) -> Samples:
    """An address for a program that runs already: until its endpoint, and all that it costs."""
    samples: Samples = defaultdict(list)
    for turn in range(-up.WARM, rounds):
        time.sleep(REST)
        before = _spent(process)
        probes.clear()
        began = time.monotonic()
        contender.site.do(contender.change)
        time.sleep(REST)
        spent = _spent(process) - before
        contender.check()
        if turn >= 0:
            found = probes.hits(process)
            samples["address: endpoint"].append(probes.first(found, "endpoint", began))
            samples["address: processor"].append(spent)
        contender.go_down()
    return samples


def _spent(process: int) -> float:
    """Processor time of all threads of a process so far, in seconds."""
    return time.clock_gettime(~process << 3 | 2)


def _mptcpd(rounds: int) -> Samples:
    with ExitStack() as scope:
        site = up.network(scope)
        return _address_comes(up.Mptcpd(site), up.start_mptcpd(site).pid, rounds)


class _Prepared(up.Contender):
    """The loop undoes nothing."""

    def clear(self) -> None:
        self.site.remove_endpoint(self.address)
        with self.site.gateway.enter():
            os.waitpid(start("sh", "-c", up.UNDO), 0)
        super().clear()


def _prepared(rounds: int) -> Samples:
    with ExitStack() as scope:
        site = up.network(scope)
        daemon = site.daemon(["master", "on"])
        daemon.reconcile()
        variables = {**os.environ, **environment(os.getcwd())}
        words = (PYTHON, "-m", "bench.exact.prepared", "10.2.2.2", "eth2")
        child = site.gateway.popen(*words, env=variables)
        time.sleep(REST)
        return _address_comes(_Prepared(site), child.pid, rounds)


def _run(event: Callable[[], object], script: str, *arguments: str) -> float:
    """Start the script at the moment of the event, in the calling thread's namespace, and wait;
    when the event was."""
    probes.clear()
    began = time.monotonic()
    event()
    os.waitpid(start("sh", script, *arguments), 0)
    return began


def _if_up(trigger: str, rounds: int) -> Samples:
    name = f"{trigger}: endpoint"
    samples: Samples = defaultdict(list)
    with ExitStack() as scope:
        script = up.script(scope, trigger)
        assert isinstance(script, up.Script)
        for turn in range(-up.WARM, rounds):
            script.prepare()
            event = script.change
            with script.site.gateway.enter():
                began = _run(lambda event=event: script.site.do(event), script.path, script.address)
            script.check()
            if turn >= 0:
                samples[name].append(probes.first(probes.of_others(), "endpoint", began))
            script.go_down()
    return samples


class _ScriptedConnection(Connected):
    """The same connection, and a script in place of the daemon."""

    def __init__(self, scope: ExitStack) -> None:
        super().__init__(scope, "")
        self.scripts = {}
        for name, text in (("down", down.DOWN), ("up", down.UP)):
            path = self.gateway.path(f"/run/{name}")
            Path(path).write_text(text)
            self.scripts[name] = str(path)

    def manage(self, scope: ExitStack, tree: str) -> None:
        Daemon(self.gateway, *configuration(["master", "on"])).reconcile()

    def lose(self) -> float:
        """When the carrier was lost."""
        with self.gateway.enter():
            return _run(lambda: self.change_carrier(False), self.scripts["down"])

    def restore(self) -> None:
        self.change_carrier(True)
        time.sleep(REST)
        with self.gateway.enter():
            os.waitpid(start("sh", self.scripts["up"]), 0)
        self.await_subflows({address(1), address(2)})


def _if_down(rounds: int) -> Samples:
    samples: Samples = defaultdict(list)
    with ExitStack() as scope:
        connection = _ScriptedConnection(scope)
        for turn in range(-up.WARM, rounds):
            time.sleep(REST)
            began = connection.lose()
            found = probes.of_others()
            times = {name: probes.first(found, name, began) for name in ("closed", "route")}
            connection.await_subflows({address(2)})
            connection.restore()
            if turn >= 0:
                for name, seconds in times.items():
                    samples[f"carrier-lost: {name}"].append(seconds)
                samples["carrier-lost: both"].append(max(times.values()))
    return samples
