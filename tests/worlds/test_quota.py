"""Worlds in which an uplink uses up its quota."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.lab import SERVER, Daemon, Wan, device_bytes, eventually, subflows
from tests.lab.daemon import STATE_DIR
from tests.lab.modes import Carried, network
from tests.lab.paced import Paced

pytestmark = pytest.mark.kernel

LIMIT = 4_000_000
LEDGER = f"{STATE_DIR}/quota.json"


def own(**options: str) -> str:
    """For wan2; quota="4M" sets `option quota '4M'`."""
    lines = "".join(f"\toption {name} '{value}'\n" for name, value in options.items())
    return f"config uplink 'wan2'\n{lines}"


def carried(wan: Wan) -> int:
    """Bytes of eth2 since it was created."""
    counters = device_bytes(wan.gateway)["eth2"]
    return counters.received + counters.sent


def used(daemon: Daemon) -> int:
    return int(daemon.uplink("wan2")["quota"]["used"])


def effective(daemon: Daemon) -> str:
    return str(daemon.uplink("wan2")["effective_mode"])


def test_at_the_limit_the_transfer_goes_on_by_the_other_uplink(wan: Wan) -> None:
    script = "env >>/run/on_quota; echo sent"
    wan.gateway.path("/run/notify").write_text(f"#!/bin/sh\n{script}\n")
    wan.gateway.path("/run/notify").chmod(0o755)
    options = own(quota="4M", on_quota="/run/notify")
    with (
        Daemon(wan.gateway, network(eth1="on", eth2="on"), options) as daemon,
        Paced(wan.gateway, wan.server, SERVER, mbit=30) as upload,
    ):
        eventually(lambda: "10.2.2.2 id" in wan.gateway.ip("mptcp endpoint show"))
        eventually(lambda: effective(daemon) == "backup", 60)
        at_limit = carried(wan)
        # Not before the limit, and by no more than what two counts half a second apart let pass.
        assert LIMIT <= at_limit < LIMIT + 2 * 0.5 * 2_600_000 + 1_000_000
        assert "10.2.2.2 id 2 subflow backup" in wan.gateway.ip("mptcp endpoint show")
        before = Carried(wan.gateway)
        upload.arrived()
        time.sleep(2)
        assert before.by("eth2") < 0.1 * before.by("eth1")
        assert upload.arrived()["bytes"] > 1_000_000
        assert len(subflows(wan.gateway, upload.port)) == 2

        log = wan.gateway.path("/run/on_quota")
        eventually(lambda: log.read_text().count("MPROUTD_EVENT=") == 2)
        text = log.read_text().splitlines()
        assert [line for line in text if "EVENT" in line] == [
            "MPROUTD_EVENT=warn",
            "MPROUTD_EVENT=limit",
        ]
        # The mode of then: the limit has changed it.
        assert [line for line in text if "MODE" in line] == [
            "MPROUTD_MODE=on",
            "MPROUTD_MODE=backup",
        ]
        assert "MPROUTD_UPLINK=wan2" in text
        assert f"MPROUTD_QUOTA={LIMIT}" in text
        reported = {problem["code"]: problem for problem in daemon.query_status()["problems"]}
        assert set(reported) == {"quota-reached"}
        assert "its mode is backup until" in reported["quota-reached"]["text"]

        # The provider counts less: the uplink carries again.
        result = daemon.call("quota", "wan2", "--set", "1M")
        assert result.code == 0, result
        assert "4.0 MB" in result.out
        eventually(lambda: effective(daemon) == "on")
        assert "backup" not in wan.gateway.ip("mptcp endpoint show")
        assert "wan2: the quota is used up: " in daemon.log()


def test_a_kill_loses_nothing_that_the_kernel_still_knows(wan: Wan) -> None:
    options = own(quota="1G")
    with Daemon(wan.gateway, network(eth1="on", eth2="on"), options) as daemon:
        before = carried(wan) - used(daemon)
        with Paced(wan.gateway, wan.server, SERVER, mbit=30):
            eventually(lambda: carried(wan) > 2_000_000, 30)
            daemon.call("quota", "wan2", "--set", "500M")
            counted_at = carried(wan)
            daemon.process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
            daemon.process.wait()  # type: ignore[union-attr]
            eventually(lambda: carried(wan) > counted_at + 2_000_000, 30)
        daemon.start()
        lost = 500_000_000 + carried(wan) - counted_at - used(daemon)
        assert abs(lost) < 300_000, (lost, before)
        # What a device carried that was created again counts as well.
        daemon.stop()
        kept = json.loads(daemon.node.path(LEDGER).read_text())["uplinks"]["wan2"]["used"]
        wan.remove_device(2)
        wan.create_device(2)
        wan.address_up(2)
        wan.default_route(2)
        daemon.start()
        wan.gateway.run("ping", "-q", "-c3", "-i0.2", "-s1000", "-I", "10.2.2.2", SERVER)
        assert used(daemon) - kept >= 6 * 1000


@pytest.mark.parametrize("hard", [False, True])
def test_the_last_usable_uplink_is_switched_off_only_if_hard(wan: Wan, hard: bool) -> None:
    options = own(quota="10k", quota_action="off", **({"quota_hard": "1"} if hard else {}))
    with Daemon(wan.gateway, network(eth1="master", eth2="on"), options) as daemon:
        assert daemon.call("quota", "wan2", "--set", "10k").code == 0
        eventually(lambda: effective(daemon) == "off")
        assert "eth2" not in wan.gateway.ip("mptcp endpoint show")
        wan.unplug(1)
        if hard:
            eventually(lambda: not daemon.uplink("wan1")["usable"])
            daemon.settle()
            assert effective(daemon) == "off"
            assert "eth2" not in wan.gateway.ip("mptcp endpoint show")
            assert "dev eth2" not in wan.gateway.ip("route show table 7000")
            return
        eventually(lambda: "eth2" in wan.gateway.ip("mptcp endpoint show"))
        assert "dev eth2" in wan.gateway.ip("route show table 7000")
        codes = {problem["code"] for problem in daemon.query_status()["problems"]}
        assert codes == {"quota-in-use"}
        wan.plug(1)
        eventually(lambda: effective(daemon) == "off")


def test_a_full_disk_and_a_damaged_ledger_stop_nothing(wan: Wan) -> None:
    directory = wan.gateway.path(STATE_DIR)
    directory.mkdir()
    wan.gateway.path(LEDGER).write_text('{"version": 1')
    with Daemon(wan.gateway, network(eth1="on", eth2="on"), own(quota="1G")) as daemon:
        (reported,) = daemon.query_status()["problems"]
        assert reported["code"] == "ledger-error"
        assert "kept as quota.json.damaged" in reported["text"]
        assert wan.gateway.path(LEDGER + ".damaged").read_text() == '{"version": 1'
        assert daemon.call("quota", "wan2", "--set", "5M").code == 0
        eventually(lambda: not daemon.query_status()["problems"])
        # Full: the file system has room for nothing more.
        wan.gateway.run("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "none", STATE_DIR)
        assert daemon.call("quota", "wan2", "--set", "6M").code == 0
        eventually(lambda: daemon.query_status()["problems"])
        (reported,) = daemon.query_status()["problems"]
        assert reported["code"] == "ledger-error"
        assert "No space left on device" in reported["text"]
        assert used(daemon) >= 6_000_000
        wan.gateway.run("umount", STATE_DIR)
        assert daemon.call("quota", "wan2", "--set", "7M").code == 0
        eventually(lambda: not daemon.query_status()["problems"])
    written = json.loads(wan.gateway.path(LEDGER).read_text())
    assert written["uplinks"]["wan2"]["used"] >= 7_000_000


REFUSED = [
    (("wan1",), 2, "no uplink 'wan1' with a quota"),
    (("wan1", "--set", "1G"), 1, "no uplink 'wan1' with a quota"),
    (("--set", "1G"), 2, "name the uplink: mproutd quota UPLINK --set AMOUNT"),
    (("wan2", "--set", "lots"), 2, "--set: 'lots' is not an amount of data, such as 20G"),
]


def test_what_the_command_refuses(wan: Wan) -> None:
    with Daemon(wan.gateway, network(eth1="on", eth2="on"), own(quota="1G")) as daemon:
        for arguments, code, text in REFUSED:
            result = daemon.call("quota", *arguments)
            assert result.code == code, result
            assert text in result.err
        daemon.stop()
        result = daemon.call("quota")
        assert (result.code, "not running" in result.err) == (3, True)
