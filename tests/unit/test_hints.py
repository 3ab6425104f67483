"""Hints: what hooks leave, and what is not believed."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest

from mproutd.hints import MAX_HINT_BYTES, Hints, HintsWatch, hints_directory
from mproutd.planning.gateways import Gateway


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "run"


def hints(runtime: Path) -> Path:
    return Path(hints_directory(str(runtime)))


def leave(runtime: Path, device: str, text: str) -> None:
    folder = hints(runtime)
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / device).write_text(text)


def test_a_hint_names_a_gateway_for_each_family(runtime: Path) -> None:
    leave(runtime, "eth2", "interface=wan2\ngateway=10.2.2.1\ngateway6=FE80::1\nreason=BOUND\n")
    assert Hints(str(runtime)).read(["eth1", "eth2"]) == {
        ("eth2", AF_INET): (Gateway("10.2.2.1", "lease"),),
        ("eth2", AF_INET6): (Gateway("fe80::1", "lease"),),
    }


def test_the_file_of_a_family_speaks_of_it_alone_and_goes_before_the_common_one(
    runtime: Path,
) -> None:
    leave(runtime, "eth2", "gateway=10.2.2.1\ngateway6=fe80::1\n")
    leave(runtime, "eth2:4", "gateway=10.2.2.254\ngateway6=fe80::bad\n")
    leave(runtime, "eth3:6", "gateway=10.3.3.1\ngateway6=fe80::3\nreason=post-up\n")
    leave(runtime, "eth2.4", "gateway=10.2.2.77\n")
    assert Hints(str(runtime)).read(["eth2", "eth3"]) == {
        ("eth2", AF_INET): (Gateway("10.2.2.254", "lease"),),
        ("eth2", AF_INET6): (Gateway("fe80::1", "lease"),),
        ("eth3", AF_INET6): (Gateway("fe80::3", "ifupdown"),),
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gateway=",
        "gateway=fe80::1",
        "gateway6=10.2.2.1",
        "gateway=0.0.0.0",
        "gateway=127.0.0.1",
        "gateway=224.0.0.1",
        "gateway=255.255.255.255",
        "gateway6=::",
        "gateway6=ff02::1",
        "gateway=10.2.2.1; reboot",
        "gateway=10.2.2.1\x00",
        "\xff\xfe",
    ],
)
def test_what_makes_no_sense_is_no_gateway(runtime: Path, text: str) -> None:
    leave(runtime, "eth2", text)
    read = Hints(str(runtime))
    assert read.read(["eth2"]) == {}
    assert read.error == ""


def test_a_link_a_fifo_and_a_folder_are_no_hints(runtime: Path) -> None:
    leave(runtime, "real", "gateway=10.2.2.1\n")
    folder = hints(runtime)
    (folder / "eth1").symlink_to(folder / "real")
    os.mkfifo(folder / "eth2")
    (folder / "eth3").mkdir()
    assert Hints(str(runtime)).read(["eth1", "eth2", "eth3"]) == {}


def test_a_folder_that_others_may_write_is_not_believed(runtime: Path) -> None:
    leave(runtime, "eth2", "gateway=10.2.2.1\n")
    read = Hints(str(runtime))
    (hints(runtime)).chmod(0o777)
    assert read.read(["eth2"]) == {}
    assert "writable by other users" in read.error
    (hints(runtime)).chmod(0o755)
    assert read.read(["eth2"])
    assert read.error == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_foreign_folder_is_not_trusted(runtime: Path) -> None:
    leave(runtime, "eth2", "gateway=10.2.2.1\n")
    os.chown(hints(runtime), 12345, -1)
    read = Hints(str(runtime))
    assert read.read(["eth2"]) == {}
    assert "belongs to user 12345" in read.error


def test_a_huge_hint_is_refused(runtime: Path) -> None:
    text = "gateway=10.2.2.1\n"
    leave(runtime, "eth1", text + "x" * (MAX_HINT_BYTES - len(text)))
    leave(runtime, "eth2", text + "x" * (MAX_HINT_BYTES - len(text) + 1))
    read = Hints(str(runtime))
    assert set(read.read(["eth1", "eth2"])) == {("eth1", AF_INET)}
    assert "eth2 is larger than 4096 bytes" in read.error


def test_without_descriptors_hints_are_as_they_were(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an uplink would lose its gateway because many ask for the status."""
    leave(runtime, "eth2:4", "gateway=10.2.2.1\n")
    read = Hints(str(runtime))
    before = read.read(["eth2"])
    assert before
    real = os.open
    for missing in (0, 1):
        left = [missing]

        def limited(*arguments: Any, left: list[int] = left, **named: Any) -> int:
            if not left[0]:
                raise OSError(errno.EMFILE, "Too many open files")
            left[0] -= 1
            return real(*arguments, **named)

        monkeypatch.setattr(os, "open", limited)
        assert read.read(["eth2"]) == before
        assert "Too many open files" in read.error
    monkeypatch.setattr(os, "open", real)
    assert read.read(["eth2"]) == before
    assert read.error == ""
    (hints(runtime) / "eth2:4").unlink()
    assert read.read(["eth2"]) == {}


def test_other_hints_are_not_looked_at(runtime: Path) -> None:
    leave(runtime, "eth2", "gateway=10.2.2.1\n")
    for n in range(1000):
        (hints(runtime) / f"eth{n}:6").symlink_to("nowhere")
    assert set(Hints(str(runtime)).read(["eth2"])) == {("eth2", AF_INET)}


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What arrives."""
    arrived: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, frame: arrived.append(number))
    yield arrived
    signal.signal(signal.SIGIO, before)


def test_what_a_hook_does_is_reported_and_what_a_reader_does_is_not(
    runtime: Path, signals: list[int]
) -> None:
    watch = HintsWatch(str(runtime))
    assert stat.S_IMODE(hints(runtime).stat().st_mode) & 0o022 == 0
    watch.renew()
    if not watch.supported:
        pytest.skip("this kernel has no CONFIG_DNOTIFY")
    leave(runtime, "eth2:4", "gateway=10.2.2.1\n")
    for change in (
        lambda: (hints(runtime) / "eth2:4").rename(hints(runtime) / "eth3:4"),
        lambda: (hints(runtime) / ".netifd").write_text(""),
        lambda: (hints(runtime) / ".netifd").write_text(""),
        lambda: (hints(runtime) / "eth3:4").unlink(),
    ):
        signals.clear()
        change()
        assert signals
    signals.clear()
    assert Hints(str(runtime)).read(["eth3"]) == {}
    watch.renew()
    assert not signals
    watch.close()
    leave(runtime, "eth2:4", "gateway=10.2.2.1\n")
    assert not signals


def test_a_directory_that_is_made_anew_is_watched_again(runtime: Path, signals: list[int]) -> None:
    watch = HintsWatch(str(runtime))
    watch.renew()
    hints(runtime).rmdir()
    watch.renew()
    hints(runtime).mkdir()
    watch.renew()
    signals.clear()
    leave(runtime, "eth2:4", "gateway=10.2.2.1\n")
    assert signals or not watch.supported
    watch.close()


def test_a_kernel_that_reports_nothing_is_noticed_and_changes_are_seen_by_looking(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr("fcntl.fcntl", unsupported)
    watch = HintsWatch(str(runtime))
    watch.renew()
    assert not watch.supported
    assert not watch.has_changed()
    leave(runtime, "eth2:4", "gateway=10.2.2.1\n")
    assert watch.has_changed()
    assert not watch.has_changed()
    (hints(runtime) / ".netifd").write_text("")
    assert watch.has_changed()
    os.utime(hints(runtime) / ".netifd", (1, 1))
    assert watch.has_changed()


def test_a_directory_that_cannot_be_made_is_no_error(runtime: Path) -> None:
    watch = HintsWatch(str(runtime / "missing"))
    watch.renew()
    assert watch.supported
    assert not watch.has_changed()
    watch.close()
