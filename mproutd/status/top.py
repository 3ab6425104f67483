"""`mproutd top`: the screen itself, and where what it shows comes from.

Once a second it asks the daemon for its status and reads the devices' counters here, so the
daemon does no more than for any status.  The subflows are counted with sock_diag, and so rarely
that it takes a twentieth of the time at most.  What must hold: the terminal is as it was,
whatever ends this.  screen.py draws; this is imported for the one command alone.
"""

from __future__ import annotations

import locale
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mproutd.commands import INVALID, NOT_RUNNING, OK, CommandError, no_reply
from mproutd.control import client
from mproutd.status import connections
from mproutd.status.rates import read_counters
from mproutd.status.top_view import BAD, BOLD, DIM, GOOD, ORDERS, PLAIN, History, View, screen_lines

try:
    import curses
except ImportError:  # OpenWrt has it in a package of its own
    raise CommandError(
        "top needs Python's curses; on OpenWrt: the package python3-ncurses"
    ) from None

INTERVAL = 1.0
"""Seconds from one picture to the next."""
_PATIENCE = 2.0
_COUNTING = 1 / 20
_ASCII = str.maketrans("▁▂▃▄▅▆▇█·…", "_.-:=+*#.~")


class _Ended(Exception):
    """A signal wants us to end."""


def show(path: str) -> int:
    """The screen, until q or a signal.  `path`: the control socket."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CommandError("top needs a terminal; for a pipe there is: mproutd status", INVALID)
    source = _Source(path)
    try:
        source.ask()
    except client.NotRunning:
        raise CommandError(
            "mproutd is not running; start it first: mproutd run", NOT_RUNNING
        ) from None
    except OSError as error:
        raise CommandError(no_reply(path, error)) from None
    locale.setlocale(locale.LC_CTYPE, "")
    if locale.nl_langinfo(locale.CODESET) != "UTF-8":
        try:
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        except locale.Error:
            pass
    try:
        curses.setupterm()
    except curses.error:
        kind = os.environ.get("TERM", "")
        raise CommandError(f"the terminal TERM={kind!r} is not known here", INVALID) from None
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        curses.wrapper(_Screen(source).run)
    except _Ended as ended:
        return 128 + int(ended.args[0])
    return OK


def _end(number: int, frame: object) -> None:
    raise _Ended(number)


class _Source:
    """What is known, renewed at each tick()."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._status: dict[str, Any] = {}
        self._history = History()
        self._subflows: Mapping[str, int] | None = None
        self._count_again = 0.0
        self._note = ""

    def ask(self) -> None:
        """The daemon's status.  NotRunning; OSError when it does not answer."""
        answer = client.call(self._path, {"command": "status"}, _PATIENCE)
        if "uplinks" not in answer:
            raise OSError(5, str(answer.get("error", "the daemon gave an answer that is none")))
        self._status = answer

    def tick(self) -> None:
        """Look at everything again.  A daemon that went away is waited for."""
        try:
            self.ask()
            self._note = ""
        except client.NotRunning:
            self._note = "mproutd is not running; this is what it said last"
        except OSError:
            self._note = "mproutd does not answer; this is what it said last"
        devices = [uplink["device"] for uplink in self._status["uplinks"]]
        self._history.add(time.monotonic(), read_counters(), devices)
        began = time.monotonic()
        if began >= self._count_again:
            self._subflows = _counted(self._status)
            took = time.monotonic() - began
            self._count_again = began + max(INTERVAL, took / _COUNTING)

    def view(self) -> View:
        """As it is now."""
        now = time.time()
        return View(
            self._status,
            self._history.rates(),
            self._subflows,
            note=self._note,
            now=now,
            clock=time.strftime("%H:%M:%S", time.localtime(now)),
        )


def _counted(status: Mapping[str, Any]) -> Mapping[str, int] | None:
    """Established subflows by uplink; None where the kernel or a missing package hides them."""
    try:
        from mproutd.netlink.diag_socket import sockets

        found = connections.connections(*sockets(), connections.uplink_names(status), str)
    except (ImportError, OSError, ValueError):
        return None
    return Counter(
        flow["uplink"] or ""
        for each in found
        for flow in each["subflows"]
        if flow["state"] == "established"
    )


class _Screen:
    """The terminal: keys in, pictures out."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._order = 0
        self._paused: View | None = None
        self._styles: dict[int, int] = {}

    def run(self, window: curses.window) -> None:
        """Until q."""
        self._prepare()
        tick = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= tick:
                self._source.tick()
                # What was missed while the machine slept is not made up for.
                tick = max(tick + INTERVAL, time.monotonic())
            self._draw(window)
            window.timeout(max(1, int((tick - time.monotonic()) * 1000)))
            key = window.getch()
            if key in (ord("q"), ord("Q")):
                return
            if key == curses.KEY_RESIZE:
                window.clear()  # what the terminal itself made of the change is not known
            elif key == ord("s"):
                self._order = (self._order + 1) % len(ORDERS)
            elif key == ord(" "):
                self._paused = None if self._paused else self._source.view()

    def _prepare(self) -> None:
        try:
            curses.curs_set(0)
        except curses.error:
            pass  # a terminal that cannot hide it
        self._styles = {PLAIN: 0, BOLD: curses.A_BOLD, DIM: curses.A_DIM, GOOD: 0, BAD: 0}
        if curses.has_colors() and not os.environ.get("NO_COLOR"):
            curses.use_default_colors()
            for style, colour in ((GOOD, curses.COLOR_GREEN), (BAD, curses.COLOR_RED)):
                curses.init_pair(style, colour, -1)
                self._styles[style] = curses.color_pair(style)

    def _draw(self, window: curses.window) -> None:
        view = self._paused or self._source.view()
        if self._paused:
            view = view._replace(note="paused; space goes on")
        plain = locale.nl_langinfo(locale.CODESET) != "UTF-8"
        rows, columns = self._size(window)
        window.erase()
        view = view._replace(order=list(ORDERS)[self._order])
        for row, line in enumerate(screen_lines(view, columns, rows)):
            place = 0
            for text, style in line:
                try:
                    window.addstr(
                        row, place, text.translate(_ASCII) if plain else text, self._styles[style]
                    )
                except curses.error:
                    pass  # the last cell: it is drawn, but the cursor finds no place behind it
                place += len(text)
        window.refresh()

    def _size(self, window: curses.window) -> tuple[int, int]:
        """The terminal's size now.  ncurses can miss one of two changes that follow quickly."""
        try:
            columns, rows = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return window.getmaxyx()
        if rows > 0 and columns > 0 and (rows, columns) != window.getmaxyx():
            curses.resizeterm(rows, columns)
            window.clear()
        return window.getmaxyx()
