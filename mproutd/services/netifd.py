"""What netifd knows, asked through the program `ubus` (OpenWrt).

netifd is queried at the start, when a hook wakes the daemon, when an uplink's link or addresses
have changed, after the configuration was read again, and once a minute.  OpenWrt's feed has no
ubus module for Python, so a query is a child process of a few milliseconds.

Invariants: the loop never blocks; there is one query at a time, and a reason to ask during one
causes one more; a query that takes too long is killed; while netifd does not reply, its last
reply is used, also after a restart (RUNTIME/netifd.json), and the delay between queries grows.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.environment import find_program
from mproutd.eventloop import Loop, Timer
from mproutd.planning.netifd import Interface, add_netifd_facts, parse_dump
from mproutd.planning.plan import Outcome
from mproutd.planning.uplinks import Facts
from mproutd.safefile import read_file, replace_file
from mproutd.services.base import Service, ServiceContext

UBUS_CALL = ("call", "network.interface", "dump")
QUERY_TIMEOUT = 3.0
"""Seconds; a router's netifd replies within a few milliseconds."""
COMMAND_TIMEOUT = 1.0
"""The same for a command, which a person waits for."""
MAX_REPLY_BYTES = 1 << 20
"""An interface takes about 2000."""
REFRESH_INTERVAL = 60.0
"""Seconds between queries without a reason."""
SETTLE_DELAY = 0.05
"""Seconds from a kernel event to the query: netifd handles the same events first."""
INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 60.0
"""Seconds until the next query after a failed one; doubled each time."""
CACHE_FILE = "netifd.json"


class Descriptor:
    """A file descriptor as a source of the Loop."""

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        os.close(self._number)


class UbusCall:
    """One `ubus` process, from its start to its end."""

    def __init__(self, program: str) -> None:
        """OSError when it cannot be started."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        # Our end only: a child whose output does not block would lose what the pipe cannot hold.
        os.set_blocking(reading, False)
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
        """Readable when the process has ended (pidfd_open(2))."""
        self.reply = bytearray()

    def read(self) -> bool:
        """Read what is available; return whether more may follow."""
        try:
            while part := os.read(self.output.fileno(), 1 << 16):
                self.reply += part
                if len(self.reply) > MAX_REPLY_BYTES:
                    self.kill()
                    return False
        except BlockingIOError:
            return True
        return False

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)  # not reaped before finish(), so the PID is still ours

    def finish(self) -> int:
        """Reap a process that has ended; its exit status, negative for a signal."""
        _, status = os.waitpid(self._pid, 0)
        self.output.close()
        self.end.close()
        return os.waitstatus_to_exitcode(status)


class Netifd(Service):
    """The latest reply of netifd, kept current."""

    def __init__(
        self, context: ServiceContext, timeout: float = QUERY_TIMEOUT, cache: bool = True
    ) -> None:
        """`cache`: write replies to a file, for the next start."""
        self._context, self._timeout, self._cache = context, timeout, cache
        self._cache_path = os.path.join(context.runtime_dir, CACHE_FILE)
        self._interfaces: dict[str, Interface] | None = self._read_cache()
        self._error = ""
        """Why the last query failed; empty when it did not."""
        self._failures = 0
        """In a row."""
        self._call: UbusCall | None = None
        self._timer: Timer | None = None
        """The start of the next query or, during one, its timeout."""
        self._timed_out = self._query_again = False
        self._observed: Any = None

    # -- when to ask ----------------------------------------------------------------------

    def on_configuration(self, config: Config) -> None:
        self._query_within(0.0)

    def on_hint(self) -> None:
        self._query_within(0.0)

    def on_pass(self, outcome: Outcome) -> None:
        observed = [
            (uplink.link and uplink.link[:4], *(path.covered for path in uplink.paths))
            for uplink in outcome.plan.uplinks
        ]
        if self._observed not in (None, observed):
            self._query_within(SETTLE_DELAY)
        self._observed = observed

    def _query_within(self, delay: float) -> None:
        """Ask in at most `delay` seconds; during a query, ask again after it."""
        if self._call is not None:
            self._query_again = True
            return
        at = self._context.clock() + delay
        if self._timer is None or not self._timer.active or at < self._timer.at:
            self._arm(delay, self.query)

    def _arm(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._context.loop.call_later(delay, callback)

    # -- a query --------------------------------------------------------------------------

    @property
    def querying(self) -> bool:
        return self._call is not None

    def query(self) -> None:
        """Ask now.  Not during a query."""
        self._timed_out = self._query_again = False
        program = find_program("ubus")
        if not program:
            self._fail("the program ubus is missing")
            return
        try:
            self._call = UbusCall(program)
        except OSError as error:
            self._fail(f"ubus: {error.strerror}")
            return
        self._context.loop.watch(self._call.output, self._on_output)
        self._context.loop.watch(self._call.end, self._on_end)
        self._arm(self._timeout, self._on_timeout)

    def _on_output(self) -> None:
        if self._call is not None and not self._call.read():
            self._context.loop.unwatch(self._call.output)

    def _on_timeout(self) -> None:
        if self._call is not None:
            self._timed_out = True
            self._call.kill()

    def _on_end(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        self._unwatch(call)
        call.read()
        status = call.finish()
        if self._timed_out:
            self._fail(f"no reply within {self._timeout:g} s")
        elif len(call.reply) > MAX_REPLY_BYTES:
            self._fail(f"the reply exceeds {MAX_REPLY_BYTES >> 20} MiB")
        elif status:
            self._fail(f"ubus exited with status {status}")
        else:
            self._on_reply(call.reply.decode(errors="replace"))
        if self._query_again:
            self._query_within(0.0)

    def _unwatch(self, call: UbusCall) -> None:
        self._context.loop.unwatch(call.output)
        self._context.loop.unwatch(call.end)

    def _on_reply(self, text: str) -> None:
        try:
            interfaces = parse_dump(text)
        except ValueError as error:
            self._fail(str(error))
            return
        if self._error:
            log.event(log.INFO, "netifd replies again")
        self._error, self._failures = "", 0
        self._arm(REFRESH_INTERVAL, self.query)
        if interfaces != self._interfaces:
            self._interfaces = interfaces
            if self._cache:
                self._write_cache(text)
            self._context.request_pass()

    def _fail(self, error: str) -> None:
        if not self._error:
            log.event(log.WARNING, f"cannot query netifd: {error}; using its last reply")
        self._error = error
        delay = min(INITIAL_BACKOFF * 2.0**self._failures, MAX_BACKOFF)
        self._failures = min(self._failures + 1, 16)
        self._arm(delay, self.query)

    # -- the reply ------------------------------------------------------------------------

    def add_facts(self, facts: Facts) -> Facts:
        if self._interfaces is not None:
            facts = add_netifd_facts(self._interfaces, facts)
        return facts._replace(source_error=self._error) if self._error else facts

    def _read_cache(self) -> dict[str, Interface] | None:
        """The last reply before this start."""
        try:
            return parse_dump(read_file(self._cache_path, MAX_REPLY_BYTES).decode(errors="replace"))
        except (OSError, ValueError):
            return None

    def _write_cache(self, text: str) -> None:
        """A failure only means that the next start has to wait for its first reply."""
        try:
            replace_file(self._cache_path, text.encode())
        except OSError as error:
            log.event(log.WARNING, f"cannot write {self._cache_path}: {error.strerror}")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._call is not None:
            call, self._call = self._call, None
            self._unwatch(call)
            call.kill()
            call.finish()


def query_once(runtime_dir: str, cache: bool) -> Callable[[Facts], Facts]:
    """Ask once, for at most COMMAND_TIMEOUT seconds; what a command adds to its facts."""
    loop = Loop()
    context = ServiceContext(loop, lambda: None, lambda *_, **__: None, runtime_dir)
    service = Netifd(context, COMMAND_TIMEOUT, cache)
    try:
        service.query()
        while service.querying:
            loop.run_once()
    finally:
        service.close()
        loop.close()
    return service.add_facts
