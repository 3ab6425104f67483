"""What the journal and syslog receive.

A real datagram socket is journald, to which systemd-python speaks, or logd, to which libc speaks.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading

import pytest

from mproutd.planning.uplinks import REASONS
from tests.lab import TWO_UPLINKS, Daemon, eventually
from tests.lab.daemon import REPOSITORY
from tests.lab.namespace import Namespace

pytestmark = pytest.mark.kernel

PACKAGES = REPOSITORY / ".build/unpacked/usr/lib/python3/dist-packages"
"""Debian's python3-systemd."""


def has_systemd_python() -> bool:
    return any((PACKAGES / "systemd").glob(f"_journal.{sys.implementation.cache_tag}-*.so"))


needs_systemd = pytest.mark.skipif(
    not has_systemd_python(), reason="python3-systemd for this Python is not unpacked"
)


class Journalled(Daemon):
    """A Daemon whose stderr leads to a journal, as systemd says it; `systemd`: with the package."""

    def __init__(
        self, node: Namespace, *, systemd: bool = True, stream: str = "", verbose: bool = False
    ) -> None:
        super().__init__(node, verbose=verbose)
        status = os.fstat(self._log.fileno())
        self._stream = stream or f"{status.st_dev}:{status.st_ino}"
        self._systemd = systemd
        folder = node.path("/run/systemd/journal")
        folder.mkdir(parents=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        at = os.open(folder, os.O_PATH)
        try:
            self._socket.bind(f"/proc/self/fd/{at}/socket")
        finally:
            os.close(at)
        self._entries: list[dict[str, str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """A socket's queue is short: whoever does not read holds the writer up."""
        while text := self._socket.recv(1 << 16).decode():
            self._entries.append(dict(line.split("=", 1) for line in text.splitlines()))

    def command(self, verb: str, *arguments: str) -> list[str]:
        env, python_path, *rest = super().command(verb, *arguments)
        if self._systemd:
            python_path += f":{PACKAGES}"
        return [env, python_path, f"JOURNAL_STREAM={self._stream}", *rest]

    def entries(self) -> list[dict[str, str]]:
        """Every entry so far, field → value."""
        return list(self._entries)

    def messages(self, **fields: str) -> list[str]:
        """The messages with these fields, as `journalctl UPLINK=wan2` would find them."""
        return [
            entry["MESSAGE"]
            for entry in self.entries()
            if all(entry.get(key) == value for key, value in fields.items())
        ]

    def close(self) -> None:
        super().close()
        self._socket.shutdown(socket.SHUT_RD)
        self._socket.close()


@needs_systemd
def test_one_event_for_each_decision_with_its_fields(wan):
    wan.gateway.ip("address flush dev eth2 scope global", family=6)
    with Journalled(wan.gateway) as daemon:
        wan.unplug(2)
        eventually(lambda: daemon.messages(UPLINK="wan2", PRIORITY="4"))
        (lost,) = daemon.messages(UPLINK="wan2", PRIORITY="4")
        assert lost.endswith(REASONS["no-carrier"])
        usable, then = daemon.messages(UPLINK="wan2", DEVICE="eth2")
        assert [fact for fact in ("10.2.2.2", "10.2.2.1", "main") if fact not in usable] == []
        assert then == lost
        assert daemon.messages(UPLINK="wan1", DEVICE="")[:1] == []
        assert any("other traffic (IPv4)" in text for text in daemon.messages(UPLINK="wan1"))
        assert {entry["SYSLOG_IDENTIFIER"] for entry in daemon.entries()} == {"mproutd"}
        assert daemon.log() == "", "not a second time on stderr"


@needs_systemd
def test_changes_name_their_operation(wan):
    setting = "/proc/sys/net/ipv4/conf/eth2/rp_filter"
    wan.gateway.sysctl("net.ipv4.conf.eth2.rp_filter", 1)
    wan.gateway.run("mount", "--bind", setting, setting)
    wan.gateway.run("mount", "-o", "remount,bind,ro", setting)
    with Journalled(wan.gateway, verbose=True) as daemon:
        refused = eventually(lambda: daemon.messages(OPERATION="change-sysctl"))[0]
        assert refused.startswith("sysctl -w net/ipv4/conf/eth2/rp_filter=2: Read-only file system")
        assert refused in daemon.messages(UPLINK="wan2", DEVICE="eth2", PRIORITY="4")
        (added,) = daemon.messages(OPERATION="add-endpoint", UPLINK="wan2", DEVICE="eth2")[:1]
        assert added.startswith("ip mptcp endpoint add 10.2.2.2 dev eth2")
        assert daemon.messages(OPERATION="add-rule", UPLINK="wan1", PRIORITY="7")


@needs_systemd
def test_nothing_is_logged_while_nothing_changes(wan):
    with Journalled(wan.gateway) as daemon:
        daemon.settle()
        before = len(daemon.entries())
        for lifetime in (3600, 7200):
            wan.gateway.ip(
                f"address change 10.1.1.2/24 dev eth1 valid_lft {lifetime} preferred_lft 1800",
                "route replace default via 10.1.1.1 dev eth1 metric 1",
                f"route add 198.51.{lifetime // 100}.0/24 via 10.1.1.1",
                "link set eth2 mtu 1400",
                "rule delete priority 7501",  # it comes back: a change, and no decision
            )
            daemon.settle()
        assert daemon.reconcile() == ""
        assert daemon.process
        daemon.process.send_signal(signal.SIGHUP)
        daemon.settle()
        messages = [entry["MESSAGE"] for entry in daemon.entries()[before:]]
        assert [line for line in messages if not line.startswith("reconcile requested by")] == []


@needs_systemd
def test_a_refused_configuration_is_an_error(wan):
    with Journalled(wan.gateway) as daemon:
        daemon.configure(TWO_UPLINKS.replace("'on'", "'on\t\x1b[31m'"))
        assert daemon.call("reconcile").code == 2
        (message,) = daemon.messages(PRIORITY="3")
        assert message.startswith("configuration rejected")
        assert "\x1b" not in message


@pytest.mark.parametrize(
    ("systemd", "stream", "front"),
    [(False, "", "<6>"), (True, "1:1", "mproutd: "), (False, "nonsense", "mproutd: ")],
    ids=["without systemd-python", "stderr leads elsewhere", "nonsense"],
)
def test_else_stderr(wan, systemd, stream, front):
    with Journalled(wan.gateway, systemd=systemd, stream=stream) as daemon:
        wan.unplug(2)
        eventually(lambda: REASONS["no-carrier"] in daemon.log())
        lines = daemon.log().splitlines()
        assert all(line.startswith((front, front.replace("6", "4"))) for line in lines)
        assert f"{front}ready, 2 uplinks" in lines
        assert daemon.entries() == []


DEV = """
mkdir -p /run/dev && mount --rbind /dev /run/dev && mount -t tmpfs tmpfs /dev
for name in null zero random urandom; do ln -s /run/dev/$name /dev/$name; done
[ ! -S /run/log ] || ln -s /run/log /dev/log
exec "$@"
"""
"""A /dev of its own, whose `log` is the test's."""


class Syslogged(Daemon):
    """A daemon with --syslog; `logd`: something receives."""

    def __init__(self, node: Namespace, *, logd: bool = True) -> None:
        super().__init__(node)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if logd:
            folder = os.open(node.path("/run"), os.O_PATH)
            try:
                self._socket.bind(f"/proc/self/fd/{folder}/log")
            finally:
                os.close(folder)

    def command(self, verb: str, *arguments: str) -> list[str]:
        words = super().command(verb, *arguments)
        if verb != "run":
            return words
        return ["unshare", "--mount", "sh", "-ec", DEV, "sh", *words, "--syslog"]

    def lines(self) -> list[str]:
        """Every message so far, as the socket received it."""
        records = []
        while True:
            try:
                records.append(self._socket.recv(1 << 16, socket.MSG_DONTWAIT).decode())
            except BlockingIOError:
                return records

    def close(self) -> None:
        super().close()
        self._socket.close()


def test_syslog_has_the_priority_of_each_event(wan):
    with Syslogged(wan.gateway) as daemon:
        lines: list[str] = []
        wan.unplug(2)
        eventually(lambda: lines.extend(daemon.lines()) or REASONS["no-carrier"] in "".join(lines))
        daemon.configure(TWO_UPLINKS.replace("'on'", "'sideways'"))
        assert daemon.call("reconcile").code == 2
        eventually(lambda: lines.extend(daemon.lines()) or "rejected" in "".join(lines))
        matches = [re.fullmatch(r"<(\d+)>.{15} mproutd\[\d+\]: (.*)", line) for line in lines]
        assert None not in matches
        levels = {text: int(number) - 24 for number, text in (match.groups() for match in matches)}
        assert levels["ready, 2 uplinks"] == 6
        lost = {n for text, n in levels.items() if text.endswith(REASONS["no-carrier"])}
        assert lost == {4}
        assert {n for text, n in levels.items() if "configuration rejected" in text} == {3}
        assert daemon.log() == "", "not a second time on stderr"


def test_without_a_syslog_it_is_stderr(wan):
    with Syslogged(wan.gateway, logd=False) as daemon:
        assert "mproutd: ready, 2 uplinks" in daemon.log().splitlines()
