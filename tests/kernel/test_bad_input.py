"""Bad input: one line that names file, line, section and option, and the kernel untouched."""

from __future__ import annotations

import signal

import pytest

from tests.lab import CONFIG_DIR, TWO_UPLINKS, Daemon, Wan, eventually

pytestmark = pytest.mark.kernel

NETWORK, OWN = f"{CONFIG_DIR}/network", f"{CONFIG_DIR}/mproutd"


def uplink(name: str, option: str) -> str:
    return f"config uplink '{name}'\n\toption {option}\n"


def globals_(option: str) -> str:
    return f"config mproutd 'globals'\n\toption {option}\n"


def interface(name: str, device: str, mode: str) -> str:
    return f"config interface '{name}'\n\toption device '{device}'\n\toption multipath '{mode}'\n"


BAD = {
    "malformed": (TWO_UPLINKS + "option\n", "", f"{NETWORK}:11: "),
    "unterminated": (TWO_UPLINKS + "config interface 'x\n", "", f"{NETWORK}:11"),
    "unknown mode": (
        TWO_UPLINKS.replace("'on'", "'sideways'"),
        "",
        f"{NETWORK}:10: interface 'wan2', option 'multipath': 'sideways'",
    ),
    "two sections that disagree": (
        TWO_UPLINKS + interface("wan6", "eth2", "backup"),
        "",
        f"{NETWORK}:13: interface 'wan6', option 'multipath': ",
    ),
    "128 characters": (
        TWO_UPLINKS + interface("wan3", "a" * 128, "on"),
        "",
        f"{NETWORK}:12: interface 'wan3', option 'device': ",
    ),
    "gateway of the wrong family": (
        TWO_UPLINKS,
        uplink("wan1", "gateway 'fe80::1'"),
        f"{OWN}:2: uplink 'wan1', option 'gateway': ",
    ),
    "gateway6 of the wrong family": (
        TWO_UPLINKS,
        uplink("wan1", "gateway6 '10.1.1.1'"),
        f"{OWN}:2: uplink 'wan1', option 'gateway6': ",
    ),
    "table taken twice": (
        TWO_UPLINKS,
        uplink("wan1", "table '300'") + uplink("wan2", "table '300'"),
        f"{OWN}:4: uplink 'wan2', option 'table': ",
    ),
    "mark outside the mask": (
        TWO_UPLINKS,
        uplink("wan1", "mark '0x00000001'"),
        f"{OWN}:2: uplink 'wan1', option 'mark': ",
    ),
    "mark_mask of no number": (
        TWO_UPLINKS,
        globals_("mark_mask 'many'"),
        f"{OWN}:2: mproutd 'globals', option 'mark_mask': ",
    ),
    **{
        f"table {number}": (
            TWO_UPLINKS,
            uplink("wan1", f"table '{number}'"),
            f"{OWN}:2: uplink 'wan1', option 'table': ",
        )
        for number in (0, 253, 254, 255, -1, 4294967296)
    },
}


@pytest.fixture
def world():
    with Wan(shaped=False, lan=False).usual() as wan:
        yield wan


@pytest.mark.parametrize("case", BAD)
def test_it_is_refused_in_one_line_and_the_kernel_is_untouched(nodes, case):
    network, own, message = BAD[case]
    node = nodes("node")
    node.ip("link add eth1 type veth peer name eth2", "address add 10.1.1.2/24 dev eth1")
    before = node.state()
    daemon = Daemon(node, network, own)
    for verb in ("check", "run", "reconcile", "status"):
        result = daemon.call(verb)
        assert (result.code, result.out) == (2, ""), verb
        assert result.err.startswith(f"mproutd: {message}"), result.err
        assert result.err.count("\n") == 1
    assert node.state() == before
    assert not node.path("/run/mproutd/state.json").exists()


def test_files_that_cannot_be_read(node):
    daemon = Daemon(node)
    file = node.path(NETWORK)
    foul = b"config interface '\xff\xfe'\n\0"
    for make in (file.mkdir, lambda: file.write_bytes(foul)):
        file.rmdir() if file.is_dir() else file.unlink()
        make()
        result = daemon.call("check")
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith(f"mproutd: {NETWORK}")
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("how", ["reconcile", "sighup"])
def test_a_daemon_keeps_its_last_good_configuration(world, how):
    with Daemon(world.gateway) as daemon:
        before = world.gateway.state(ids=True)
        daemon.configure(TWO_UPLINKS.replace("'on'", "'sideways'"))
        message = f"{NETWORK}:10: interface 'wan2', option 'multipath': 'sideways'"
        if how == "reconcile":
            result = daemon.call("reconcile")
            assert (result.code, result.out) == (2, "")
            assert message in result.err
            assert result.err.count("\n") == 1
        else:
            daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: message in daemon.log())
        assert world.gateway.state(ids=True) == before
        status = daemon.call("status")
        assert status.code == 1
        assert message in " ".join(status.out.split())
        assert message in daemon.status()["configuration"]["error"]
        # It still works with the one it has.
        world.unplug(1)
        eventually(lambda: "endpoint 10.1.1.2" not in world.gateway.state())
        world.plug(1)
        eventually(lambda: "endpoint 10.1.1.2" in world.gateway.state())
        daemon.configure(TWO_UPLINKS.replace("'on'", "'backup'"))
        daemon.reconcile()
        assert "endpoint 10.2.2.2 subflow backup dev eth2" in world.gateway.state()
        assert daemon.call("status").code == 0


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"version": 99}', b"\xff\0"])
def test_a_damaged_state_file_is_logged_and_does_not_stop_it(world, damage):
    daemon = Daemon(world.gateway).start()
    before = world.gateway.state(ids=True)
    daemon.kill9()
    world.gateway.path("/run/mproutd/state.json").write_bytes(damage)
    with daemon:
        assert "state.json: " in daemon.log()
        assert "Traceback" not in daemon.log()
        assert world.gateway.state(ids=True) == before
        # Nobody can know whose the endpoints are: they are left, and said to be somebody's.
        problems = daemon.status()["problems"]
        foreign = {
            problem["address"] for problem in problems if problem["code"] == "foreign-endpoint"
        }
        assert "10.1.1.2" in foreign
