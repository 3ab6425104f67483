"""Hints: what hooks leave, and what is not believed."""

from __future__ import annotations

import os
from pathlib import Path
from socket import AF_INET, AF_INET6

import pytest

from mproutd.hints import Hints, WakeFifo
from mproutd.planning.gateways import Gateway


def leave(runtime: Path, device: str, text: str) -> None:
    folder = runtime / "hints"
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / device).write_text(text)


def test_a_hint_names_a_gateway_for_each_family(tmp_path: Path) -> None:
    leave(tmp_path, "eth2", "interface=wan2\ngateway=10.2.2.1\ngateway6=FE80::1\nreason=BOUND\n")
    assert Hints(str(tmp_path)).read(["eth1", "eth2"]) == {
        ("eth2", AF_INET): (Gateway("10.2.2.1", "lease"),),
        ("eth2", AF_INET6): (Gateway("fe80::1", "lease"),),
    }


def test_the_file_of_a_family_speaks_of_it_alone_and_goes_before_the_common_one(
    tmp_path: Path,
) -> None:
    leave(tmp_path, "eth2", "gateway=10.2.2.1\ngateway6=fe80::1\n")
    leave(tmp_path, "eth2:4", "gateway=10.2.2.254\ngateway6=fe80::bad\n")
    leave(tmp_path, "eth3:6", "gateway=10.3.3.1\ngateway6=fe80::3\nreason=post-up\n")
    leave(tmp_path, "eth2.4", "gateway=10.2.2.77\n")
    assert Hints(str(tmp_path)).read(["eth2", "eth3"]) == {
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
def test_what_makes_no_sense_is_no_gateway(tmp_path: Path, text: str) -> None:
    leave(tmp_path, "eth2", text)
    hints = Hints(str(tmp_path))
    assert hints.read(["eth2"]) == {}
    assert hints.error == ""


def test_a_link_a_fifo_and_a_folder_are_no_hints(tmp_path: Path) -> None:
    leave(tmp_path, "real", "gateway=10.2.2.1\n")
    folder = tmp_path / "hints"
    (folder / "eth1").symlink_to(folder / "real")
    os.mkfifo(folder / "eth2")
    (folder / "eth3").mkdir()
    assert Hints(str(tmp_path)).read(["eth1", "eth2", "eth3"]) == {}


def test_a_folder_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    leave(tmp_path, "eth2", "gateway=10.2.2.1\n")
    hints = Hints(str(tmp_path))
    (tmp_path / "hints").chmod(0o777)
    assert hints.read(["eth2"]) == {}
    assert "writable by other users" in hints.error
    (tmp_path / "hints").chmod(0o755)
    assert hints.read(["eth2"])
    assert hints.error == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_somebody_elses_folder_is_not_believed(tmp_path: Path) -> None:
    leave(tmp_path, "eth2", "gateway=10.2.2.1\n")
    os.chown(tmp_path / "hints", 12345, -1)
    hints = Hints(str(tmp_path))
    assert hints.read(["eth2"]) == {}
    assert "belongs to user 12345" in hints.error


def test_a_hook_wakes_whoever_waits_and_never_waits_itself(tmp_path: Path) -> None:
    wake = WakeFifo(str(tmp_path))
    try:
        command = f"[ -p {tmp_path}/wake ] && printf . 1<>{tmp_path}/wake"
        assert os.system(command) == 0
        assert os.read(wake.fileno(), 10) == b"."
        assert os.system(command) == 0
        wake.drain()
        with pytest.raises(BlockingIOError):
            os.read(wake.fileno(), 10)
    finally:
        wake.close()
    assert os.system(command) == 0  # nobody is there: the byte is gone with the hook
