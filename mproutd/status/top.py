"""`mproutd top`: the terminal, and the sources of what it shows.

Once a second it asks the daemon for its status and reads the counters of the devices itself,
so the daemon does no more than for any status.  The subflows are counted with sock_diag, rarely
enough to take at most MAX_COUNTING_SHARE of the time.  The terminal is restored however the
command ends.  top_view draws.
"""

from __future__ import annotations

import locale
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from mproutd.commands import INVALID, NOT_RUNNING, OK, CommandError, no_reply
from mproutd.control import client
from mproutd.status import connections
from mproutd.status.rates import read_counters
from mproutd.status.top_view import BAD, BOLD, DIM, GOOD, ORDERS, PLAIN, History, View, screen_lines

try:
    import curses
except ImportError:
    raise CommandError(
        "top needs Python's curses; on OpenWrt, install the package python3-ncurses"
    ) from None

if TYPE_CHECKING:
    from mproutd.status.types import Status

INTERVAL = 1.0
"""Seconds between two screens."""
REPLY_TIMEOUT = 2.0
"""Seconds."""
MAX_COUNTING_SHARE = 1 / 20
_ASCII = str.maketrans("▁▂▃▄▅▆▇█·…", "_.-:=+*#.~")


class _Terminated(Exception):
    """A signal ends the command."""


def show(path: str) -> int:
    """Run until q or a signal.  `path`: the control socket."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal; for scripts use: mproutd status", INVALID)
    source = _Source(path)
    try:
        source.query()
    except client.NotRunning:
        raise CommandError(
            "mproutd is not running; start it first: mproutd run", NOT_RUNNING
        ) from None
    except OSError as error:
        raise CommandError(no_reply(path, error)) from None
    _set_up_terminal()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    try:
        curses.wrapper(_Screen(source).run)
    except _Terminated as terminated:
        return 128 + int(terminated.args[0])
    return OK


def _set_up_terminal() -> None:
    locale.setlocale(locale.LC_CTYPE, "")
    if locale.nl_langinfo(locale.CODESET) != "UTF-8":
        try:
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        except locale.Error:
            pass
    try:
        curses.setupterm()
    except curses.error:
        term = os.environ.get("TERM", "")
        raise CommandError(f"unknown terminal type TERM={term!r}", INVALID) from None


def _terminate(number: int, frame: object) -> None:
    raise _Terminated(number)


class _Source:
    """The data for the screen, updated by tick()."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._status: Status | None = None
        self._history = History()
        self._subflows: Mapping[str, int] | None = None
        self._next_count = 0.0
        self._note = ""

    def query(self) -> Status:
        """The daemon's status.  NotRunning; OSError when it does not reply."""
        reply = client.call(self._path, {"command": "status"}, REPLY_TIMEOUT)
        if "uplinks" not in reply:
            raise OSError(5, str(reply.get("error", "its reply is not a status")))
        self._status = cast("Status", reply)
        return self._status

    def tick(self) -> None:
        """Update everything.  While the daemon is away its last status stays."""
        assert self._status is not None
        try:
            self.query()
            self._note = ""
        except client.NotRunning:
            self._note = "mproutd is not running; this is its last status"
        except OSError:
            self._note = "mproutd does not reply; this is its last status"
        devices = [uplink["device"] for uplink in self._status["uplinks"]]
        self._history.add(time.monotonic(), read_counters(), devices)
        start = time.monotonic()
        if start >= self._next_count:
            self._subflows = _count_subflows(self._status)
            elapsed = time.monotonic() - start
            self._next_count = start + max(INTERVAL, elapsed / MAX_COUNTING_SHARE)

    def view(self) -> View:
        """What is known now."""
        assert self._status is not None
        now = time.time()
        return View(
            self._status,
            self._history.rates(),
            self._subflows,
            note=self._note,
            now=now,
            clock=time.strftime("%H:%M:%S", time.localtime(now)),
        )


def _count_subflows(status: Status) -> Mapping[str, int] | None:
    """Established subflows by uplink; None where the kernel or a missing package hides them."""
    try:
        from mproutd.netlink.diag_socket import sockets

        listed = connections.connections(*sockets(), connections.uplink_names(status), str)
    except (ImportError, OSError, ValueError):
        return None
    return Counter(
        subflow["uplink"] or ""
        for connection in listed
        for subflow in connection["subflows"]
        if subflow["state"] == "established"
    )


class _Screen:
    """The terminal: keys in, screens out."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._order = 0
        self._paused: View | None = None
        self._styles: dict[int, int] = {}

    def run(self, window: curses.window) -> None:
        """Until q."""
        self._set_up_styles()
        next_tick = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= next_tick:
                self._source.tick()
                # Ticks missed during a suspend are not made up for.
                next_tick = max(next_tick + INTERVAL, time.monotonic())
            self._draw(window)
            window.timeout(max(1, int((next_tick - time.monotonic()) * 1000)))
            key = window.getch()
            if key in (ord("q"), ord("Q")):
                return
            if key == curses.KEY_RESIZE:
                window.clear()  # the terminal may have moved what it showed
            elif key == ord("s"):
                self._order = (self._order + 1) % len(ORDERS)
            elif key == ord(" "):
                self._paused = None if self._paused else self._source.view()

    def _set_up_styles(self) -> None:
        try:
            curses.curs_set(0)
        except curses.error:
            pass  # this terminal cannot hide the cursor
        self._styles = {PLAIN: 0, BOLD: curses.A_BOLD, DIM: curses.A_DIM, GOOD: 0, BAD: 0}
        if curses.has_colors() and not os.environ.get("NO_COLOR"):
            curses.use_default_colors()
            for style, color in ((GOOD, curses.COLOR_GREEN), (BAD, curses.COLOR_RED)):
                curses.init_pair(style, color, -1)
                self._styles[style] = curses.color_pair(style)

    def _draw(self, window: curses.window) -> None:
        view = self._paused or self._source.view()
        if self._paused:
            view = view._replace(note="paused; press space to continue")
        view = view._replace(order=list(ORDERS)[self._order])
        ascii_only = locale.nl_langinfo(locale.CODESET) != "UTF-8"
        rows, columns = self._size(window)
        window.erase()
        for row, line in enumerate(screen_lines(view, columns, rows)):
            column = 0
            for text, style in line:
                shown = text.translate(_ASCII) if ascii_only else text
                try:
                    window.addstr(row, column, shown, self._styles[style])
                except curses.error:
                    pass  # the last cell is drawn, but the cursor cannot move behind it
                column += len(text)
        window.refresh()

    def _size(self, window: curses.window) -> tuple[int, int]:
        """(rows, columns).  ncurses can miss one of two changes in quick succession."""
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return window.getmaxyx()
        if rows > 0 and columns > 0 and (rows, columns) != window.getmaxyx():
            curses.resizeterm(rows, columns)
            window.clear()
        return window.getmaxyx()
