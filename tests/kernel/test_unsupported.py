"""Kernels and Pythons that lack what mproutd needs, real ones: what it says, what it still does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows, uml
from tests.lab.modes import network

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.kernel

PREPARE = f"""
ip link add eth1 type veth peer name far1
ip link set eth1 up
ip link set far1 up
ip address add 10.1.1.2/24 dev eth1
ip route add default via 10.1.1.1 dev eth1 metric 1
cat >/run/config/network <<'E'
{network(eth1="master")}E
"""


def section(output: str, name: str) -> list[str]:
    """The lines that the script printed between `== name` and the next such line."""
    return output.split(f"== {name}\n", 1)[1].split("== ", 1)[0].splitlines()


@pytest.fixture(scope="module")
def without_mptcp() -> str:
    """What the commands print on Debian's user-mode Linux."""
    if not uml.DEBIAN.exists():
        pytest.skip("no user-mode Linux here: packaging/setup.sh unpack")
    script = (
        PREPARE
        + """
echo "== start"
mproutd run &
daemon=$!
while [ ! -S /run/mproutd/control.sock ]; do sleep 0.1; done
for command in status connections reconcile "test wan1 --to 10.1.1.2:7000"; do
	echo "== $command"
	mproutd $command
	echo "exit $?"
done
echo "== rules"
ip -color=never rule
echo "== end"
kill $daemon
wait $daemon
mproutd flush
echo "== flushed"
ip -color=never rule
"""
    )
    return uml.run_in_uml(uml.DEBIAN, script, uml.modules("veth"))


def test_without_mptcp_routes_and_rules_are_maintained(without_mptcp: str) -> None:
    rules = "\n".join(section(without_mptcp, "rules"))
    assert "7501:\tfrom 10.1.1.2 lookup 7001 proto 77" in rules
    assert "proto 77" not in "\n".join(section(without_mptcp, "flushed"))


def test_without_mptcp_status_names_it_once(without_mptcp: str) -> None:
    lines = section(without_mptcp, "status")
    assert sum("does not support MPTCP" in line for line in lines) == 1
    assert "CONFIG_MPTCP=y" in "\n".join(lines)
    assert lines[-1] == "exit 1"


@pytest.mark.parametrize("command", ["connections", "test wan1 --to 10.1.1.2:7000"])
def test_without_mptcp_a_command_that_needs_it_reports_it(without_mptcp: str, command: str) -> None:
    text = "\n".join(section(without_mptcp, command))
    assert text.count("does not support MPTCP") == 1
    assert "CONFIG_MPTCP=y" in text
    assert "Traceback" not in without_mptcp


@pytest.mark.parametrize("family", uml.WITHOUT_RULES)
def test_without_policy_routing_it_refuses_and_changes_nothing(family: str) -> None:
    kernel = uml.WITHOUT_RULES[family]
    if not kernel.exists():
        pytest.skip("such a kernel takes minutes to build: tests/qemu/build-uml")
    script = (
        PREPARE
        + """
ip address add 2001:db8:1::2/64 dev eth1 nodad
ip route add default via 2001:db8:1::1 dev eth1 metric 1
routes() { ip route; ip -6 route; }
routes >/run/before
for command in run status reconcile flush; do
	echo "== $command"
	(mproutd $command)
	echo "exit $?"
done
echo "== routes"
routes | diff /run/before -
"""
    )
    output = uml.run_in_uml(kernel, script)
    for command in ("run", "status", "reconcile", "flush"):
        line, status = section(output, command)
        assert line.startswith(f"mproutd: the kernel has no policy routing for {family}: ")
        assert status == "exit 2"
    assert section(output, "routes") == []


def test_without_nf_tables() -> None:
    """A router without nfnetlink, then without the family inet: one line, and all else works."""
    if not uml.DEBIAN.exists():
        pytest.skip("no user-mode Linux here: packaging/setup.sh unpack")
    script = (
        PREPARE
        + f"""
sysctl -q net.ipv4.ip_forward=1
mproutd run 2>/run/log &
daemon=$!
while [ ! -S /run/mproutd/control.sock ]; do sleep 0.1; done
echo "== status"
mproutd status
for module in {" ".join(map(str, uml.modules("nfnetlink", "nf_tables")))}; do
	busybox insmod "$module"
done
until grep -q "family inet" /run/log; do sleep 0.1; done
echo "== rules"
ip -color=never rule
kill $daemon
wait $daemon
echo "== alone"
mproutd reconcile
echo "exit $?"
echo "== log"
cat /run/log
"""
    )
    output = uml.run_in_uml(uml.DEBIAN, script, uml.modules("veth"))
    assert "Traceback" not in output
    words = " ".join(" ".join(section(output, "status")).split())
    assert words.count("do not keep their uplink") == 1
    assert "the kernel has no nf_tables: Protocol not supported" in words
    assert "fwmark 0x1000000/0x7f000000 lookup 7001" in "\n".join(section(output, "rules"))
    alone = section(output, "alone")
    assert sum("# failed: the kernel has no nf_tables for the family inet" in x for x in alone) == 1
    assert alone[-1] == "exit 1"
    log = [line for line in section(output, "log") if "nftables table" in line]
    assert [line.partition("the kernel has no ")[2] for line in log] == [
        "nf_tables: Protocol not supported",
        "nf_tables for the family inet: Operation not supported",
    ]


@pytest.fixture
def no_mptcp_diag() -> Iterator[Callable[[], None]]:
    """The module is not to be had, until the function is called."""
    if not os.environ.get("MPROUTD_GUEST"):
        pytest.skip("hides a module from the whole machine: only in a guest of tests/qemu")
    folder = Path("/lib/modules", os.uname().release, "kernel/net/mptcp")
    (module,) = folder.glob("mptcp_diag.ko*")
    hidden = module.with_suffix(".hidden")
    subprocess.run(["modprobe", "--remove", "mptcp_diag"], check=False)
    module.rename(hidden)

    def restore() -> None:
        if hidden.exists():
            hidden.rename(module)

    yield restore
    restore()


def test_without_mptcp_diag(no_mptcp_diag: Callable[[], None], wan: Wan) -> None:
    with Daemon(wan.gateway) as daemon, Echo(wan.gateway, wan.server, SERVER) as echo:
        (problem,) = daemon.query_status()["problems"]
        assert problem["code"] == "no-mptcp-diag"
        eventually(lambda: "10.2.2.2" in daemon.call("connections").out)
        wan.unplug(1)  # everything else works
        wan.plug(1)
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        no_mptcp_diag()
        eventually(lambda: daemon.query_status()["problems"] == [])
        assert not echo.report().error


# -- Python ---------------------------------------------------------------------------------


def old_pythons() -> list[str]:
    """The interpreters here that are too old, by their commands."""
    names = [f"python3.{minor}" for minor in range(6, 11)] + ["python2.7", "pypy3"]
    programs = [path for name in names if (path := shutil.which(name))]
    programs += map(str, sorted(Path.home().glob(".pyenv/versions/*/bin/python")))
    old = "import sys; sys.exit(sys.version_info >= (3, 11))"
    return [path for path in programs if not subprocess.call([path, "-c", old], stderr=-3)]


def test_a_python_that_is_too_old() -> None:
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python before 3.11 here")
    for python in pythons:
        done = subprocess.run(
            [python, "-m", "mproutd", "--version"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("mproutd: needs Python 3.11 or later; ")


def test_a_python_that_reports_that_it_is_too_old() -> None:
    """Where there is no old one: this one, under a false version."""
    code = "import sys; sys.version_info = (3, 10, 0, 'final', 0); import mproutd"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("mproutd: needs Python 3.11 or later; ")
