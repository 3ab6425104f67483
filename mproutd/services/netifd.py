"""Asks netifd what it knows, through the program `ubus` (OpenWrt).

It is asked at the start, when a hook wakes the daemon, when an uplink's link or addresses have
changed, when the configuration was read again, and once a minute.  The feed has no ubus for
Python, so each question is a child process of a few milliseconds.

What must hold: the loop never waits for it; one question at a time, and what happens meanwhile
makes one more; a child that is slow is killed; without an answer what was said last counts, also
after a restart (RUNTIME/netifd.json), and it is asked again after growing delays.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.environment import find_program
from mproutd.eventloop import Loop
from mproutd.planning.netifd import Interface, add_netifd_facts, parse_dump
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.safefile import read_file, replace_file
from mproutd.services.base import Service, ServiceContext

UBUS_CALL = ("call", "network.interface", "dump")
QUERY_TIMEOUT = 3.0
"""Seconds that an answer may take; from a router's netifd it takes a few milliseconds."""
COMMAND_TIMEOUT = 1.0
"""The same for a command, which somebody waits for."""
MAX_REPLY_BYTES = 1 << 20
"""Bytes of an answer; an interface takes about 2000."""
REFRESH_INTERVAL = 60.0
"""Seconds between questions without a reason."""
SETTLE_DELAY = 0.05
"""Seconds after an event of the kernel, since several come together and netifd hears them too."""
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until it is asked again when it does not answer, doubling from the first."""
CACHE_FILE = "netifd.json"


class Descriptor:
    """A file descriptor in the Loop."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        os.close(self._number)


class UbusCall:
    """One child process, from its start to its end."""

    def __init__(self, program: str) -> None:
        """OSError when it cannot be started."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reading, False)  # our end alone: the child would lose what has no room
        try:
            null = "/dev/null"
            self._pid = os.posix_spawn(
                program,
                (program, *UBUS_CALL),
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, null, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writing, 1),
                    (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),
                ],
                setsigdef=(signal.SIGPIPE,),
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.output = Descriptor(reading)
        self.end = Descriptor(os.pidfd_open(self._pid))
        self.answer = bytearray()

    def read(self) -> bool:
        """Take what is there; whether there may be more."""
        try:
            while service := os.read(self.output.fileno(), 1 << 16):
                self.answer += service
                if len(self.answer) > MAX_REPLY_BYTES:
                    self.kill()
                    return False
        except BlockingIOError:
            return True
        return False

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)  # ours until finish() has waited for it

    def finish(self) -> int:
        """The exit status of a child that has ended, negative for a signal."""
        _, status = os.waitpid(self._pid, 0)
        self.output.close()
        self.end.close()
        return os.waitstatus_to_exitcode(status)


class Netifd(Service):
    """What netifd says, kept up to date."""

    def __init__(
        self, context: ServiceContext, limit: float = QUERY_TIMEOUT, keep: bool = True
    ) -> None:
        """`keep`: write down what it says, for the next start."""
        self._context, self._limit, self._keep = context, limit, keep
        self._kept = os.path.join(context.runtime_dir, CACHE_FILE)
        self._interfaces: dict[str, Interface] | None = self._read()
        self._trouble = ""
        self._question: UbusCall | None = None
        self._until = 0.0
        self._late = self._again = False
        self._failures = 0
        self._ask_at = 0.0
        self._seen: Any = None

    # -- when to ask ----------------------------------------------------------------------

    def on_configuration(self, config: Config) -> None:
        self._want(0.0)

    def on_hint(self) -> None:
        self._want(0.0)

    def on_pass(self, outcome: Outcome) -> None:
        seen = [
            (uplink.link and uplink.link[:4], *(path.covered for path in uplink.paths))
            for uplink in outcome.plan.uplinks
        ]
        if self._seen not in (None, seen):
            self._want(SETTLE_DELAY)
        self._seen = seen

    def _want(self, delay: float) -> None:
        """Ask in `delay` seconds; where it is being asked, once more after that."""
        if self._question is not None:
            self._again = True
        else:
            self._ask_at = min(self._ask_at, self._context.clock() + delay)

    def due(self) -> float | None:
        at = self._until if self._question else self._ask_at
        if self._question and self._late:
            return None
        return max(0.0, at - self._context.clock())

    def turn(self) -> None:
        now = self._context.clock()
        if self._question is None:
            if now >= self._ask_at:
                self._ask(now)
        elif now >= self._until and not self._late:
            self._late = True
            self._question.kill()

    # -- asking ---------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        self._again = self._late = False
        self._until = now + self._limit
        program = find_program("ubus")
        if not program:
            self._failed("there is no program ubus any more")
            return
        try:
            self._question = UbusCall(program)
        except OSError as error:
            self._failed(f"ubus: {error.strerror}")
            return
        self._context.loop.watch(self._question.output, self._readable)
        self._context.loop.watch(self._question.end, self._ended)

    def _readable(self) -> None:
        if self._question is not None and not self._question.read():
            self._context.loop.unwatch(self._question.output)

    def _ended(self) -> None:
        question, self._question = self._question, None
        assert question is not None
        self._context.loop.unwatch(question.output)
        self._context.loop.unwatch(question.end)
        question.read()
        status = question.finish()
        if self._late:
            self._failed(f"no answer within {self._limit:g} s")
        elif len(question.answer) > MAX_REPLY_BYTES:
            self._failed("the answer has no end")
        elif status:
            self._failed(f"ubus ended with {status}")
        else:
            self._told(question.answer.decode(errors="replace"))
        if self._again:
            self._want(0.0)

    def _told(self, text: str) -> None:
        try:
            interfaces = parse_dump(text)
        except ValueError as error:
            self._failed(str(error))
            return
        if self._trouble:
            log.event(log.INFO, "netifd answers again")
        self._trouble, self._failures = "", 0
        self._ask_at = self._context.clock() + REFRESH_INTERVAL
        if interfaces != self._interfaces:
            self._interfaces = interfaces
            if self._keep:
                self._write(text)
            self._context.request_pass()

    def _failed(self, why: str) -> None:
        if not self._trouble:
            log.event(log.WARNING, f"netifd does not answer: {why}; what it said last is used")
        self._trouble = why
        delay = min(INITIAL_BACKOFF * 2.0**self._failures, MAX_BACKOFF)
        self._failures = min(self._failures + 1, 16)
        self._ask_at = self._context.clock() + delay

    # -- what it said ---------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a question is under way, or is to be asked now."""
        return self._question is not None or self.due() == 0.0

    def add_facts(self, facts: Facts) -> Facts:
        if self._interfaces is not None:
            facts = add_netifd_facts(self._interfaces, facts)
        return facts._replace(source_error=self._trouble) if self._trouble else facts

    def _read(self) -> dict[str, Interface] | None:
        """What it said before we were started."""
        try:
            return parse_dump(read_file(self._kept, MAX_REPLY_BYTES).decode(errors="replace"))
        except (OSError, ValueError):
            return None

    def _write(self, text: str) -> None:
        """Keep it; where that fails, the next start only knows less for a moment."""
        try:
            replace_file(self._kept, text.encode())
        except OSError as error:
            log.event(log.WARNING, f"{self._kept}: {error.strerror}")

    def close(self) -> None:
        if self._question is not None:
            question, self._question = self._question, None
            self._context.loop.unwatch(question.output)
            self._context.loop.unwatch(question.end)
            question.kill()
            question.finish()


def query_once(runtime: str, keep: bool) -> Callable[[Facts], Facts]:
    """Ask once, for SHORT seconds at most: what a command, or a start, knows from netifd."""
    loop = Loop()
    service = Netifd(
        ServiceContext(loop, lambda: None, lambda *_, **__: None, time.monotonic, runtime),
        COMMAND_TIMEOUT,
        keep,
    )
    try:
        while service.busy:
            service.turn()
            if service.busy:
                loop.run_once(service.due())
    finally:
        service.close()
        loop.close()
    return service.add_facts
