"""Rules with `domain`: keeps the file that dnsmasq reads, by which it fills their sets.

The file is written after the sets exist.  dnsmasq reads it when it starts, and no signal makes it
read it again, so a change is published; mproutd restarts no program of others.

Invariants: the file is there exactly while a rule names a domain; it is not touched while it has
the right content.
"""

from __future__ import annotations

import os

from mproutd import log
from mproutd.configuration.config import Config
from mproutd.firewall.domains import nftset_lines, wants_domains
from mproutd.planning.plan import Outcome
from mproutd.safefile import read_file, replace_file, unlink_if_present
from mproutd.services.base import Service, ServiceContext

DIRECTORY, FILE = "dnsmasq.d", "dnsmasq.d/mproutd.conf"
"""In the runtime directory: for dnsmasq's conf-dir."""
_MAX_BYTES = 1 << 20


class DomainFile(Service):
    """Writes the file, and deletes it when no rule names a domain any more."""

    persistent = True

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._path = os.path.join(context.runtime_dir, FILE)
        self._wanted = ""
        self._error = ""
        self._checked = False

    def on_configuration(self, config: Config) -> None:
        self._wanted = nftset_lines(config) if wants_domains(config) else ""
        self._checked = False

    def on_pass(self, outcome: Outcome) -> None:
        if self._checked:
            return
        self._checked = True
        try:
            if self._update():
                done = "wrote" if self._wanted else "deleted"
                text = f"{done} {self._path}; restart dnsmasq to use it"
                self._context.publish("nftables", log.INFO, text)
            self._error = ""
        except OSError as error:
            text = f"cannot write {self._path}: {error.strerror or error}"
            if text != self._error:
                self._context.publish("nftables", log.WARNING, text)
            self._error, self._checked = text, False

    def _update(self) -> bool:
        """Whether the file had to be changed.  OSError."""
        try:
            content = read_file(self._path, _MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            content = ""
        if content == self._wanted:
            return False
        if not self._wanted:
            unlink_if_present(self._path)
            return True
        os.makedirs(os.path.dirname(self._path), 0o755, exist_ok=True)
        replace_file(self._path, self._wanted.encode(), mode=0o644)
        return True
