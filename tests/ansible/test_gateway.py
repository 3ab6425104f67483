"""The role mproutd: a gateway with two uplinks."""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.conftest import RunRole
from tests.ansible.state import repack, state
from tests.booted import Booted, Providers
from tests.booted.conftest import copy_sources
from tests.booted.system import REPOSITORY
from tests.lab import SERVER, Echo, eventually, subflows

SECONDS = 60
"""For a state to be reached on a busy machine."""
FIRST_RUN = [
    "Make the directory of the configuration",
    "Install the Debian package",
    "Write the configuration network",
    "Write the configuration mproutd",
    "Enable and start the service",
]
GATEWAY: dict[str, Any] = {
    "mproutd_globals": {"role": "client"},
    "mproutd_uplinks": [
        {"name": "wan1", "device": "eth1", "multipath": "master"},
        {
            "name": "wan2",
            "device": "eth2",
            "multipath": True,  # as YAML reads `multipath: on`
            "strict": True,
            "quota": "20G",
            "weight": 3,
        },
    ],
    "mproutd_members": [{"name": "second", "interface": "wan2"}],
    "mproutd_policies": [{"name": "guests", "use_member": ["second"]}],
    "mproutd_rules": [
        {"name": "from_guests", "src_ip": ["192.168.2.0/24"], "use_policy": "guests"}
    ],
}
NETWORK = """\
# Written by Ansible, role mproutd: changes made here are lost.

config globals 'globals'
	option multipath 'enable'

config interface 'wan1'
	option device 'eth1'
	option multipath 'master'

config interface 'wan2'
	option device 'eth2'
	option multipath 'on'
"""


@pytest.fixture
def gateway(package: Path) -> dict[str, Any]:
    """The variables of the role."""
    return {**copy.deepcopy(GATEWAY), "mproutd_package": str(package)}


def addresses(machine: Booted) -> None:
    """An address on both uplinks."""
    for n in (1, 2):
        machine.network.ip(f"link set eth{n} up")
        machine.network.ip(
            f"address add 10.{n}.{n}.50/24 dev eth{n}",
            f"route add default via 10.{n}.{n}.1 dev eth{n} metric {n}",
        )


@pytest.fixture
def wired(machine: Booted) -> Booted:
    """The machine with an address on both uplinks."""
    addresses(machine)
    return machine


def endpoints(machine: Booted) -> set[str]:
    lines = machine.network.ip("mptcp endpoint show").splitlines()
    return {f"{line.split()[0]}{' backup' if 'backup' in line else ''}" for line in lines}


def connected(machine: Booted, providers: Providers) -> Echo:
    """A connection over both uplinks."""
    eventually(lambda: len(endpoints(machine)) == 2, SECONDS)
    echo = Echo(machine.network, providers.server, SERVER)
    eventually(lambda: len(subflows(machine.network, echo.port)) == 2, SECONDS)
    return echo


def continues(echo: Echo) -> None:
    seen = echo.report()
    eventually(lambda: echo.report().received > seen.received + 50, SECONDS)
    assert echo.report().error == ""


def test_install_change_and_disable(
    wired: Booted, providers: Providers, gateway: dict[str, Any], run_role: RunRole
) -> None:
    before = state(wired)
    predicted = run_role("mproutd", gateway, "--check", "--diff")
    assert predicted.changed == FIRST_RUN, predicted.output
    assert "+	option multipath 'master'" in predicted.output
    assert state(wired) == before

    first = run_role("mproutd", gateway)
    assert first.changed == FIRST_RUN, first.output
    assert wired.run("cat /etc/mproutd/network") == NETWORK
    assert wired.unit_state("mproutd") == "active"
    assert wired.unit_state("mproutd", "UnitFileState") == "enabled"
    again = run_role("mproutd", gateway)
    assert (again.status, again.changed) == (0, []), again.output

    with connected(wired, providers) as echo:
        pid = wired.unit_state("mproutd", "ExecMainPID")
        gateway["mproutd_uplinks"][1]["multipath"] = "backup"
        before = state(wired)
        reload = ["Write the configuration network", "Reload mproutd"]
        predicted = run_role("mproutd", gateway, "--check", "--diff")
        assert predicted.changed == reload, predicted.output
        difference = [line for line in predicted.output.splitlines() if line[:2] in ("-\t", "+\t")]
        assert difference == ["-\toption multipath 'on'", "+\toption multipath 'backup'"]
        assert state(wired) == before

        assert run_role("mproutd", gateway).changed == reload
        eventually(lambda: endpoints(wired) == {"10.1.1.50", "10.2.2.50 backup"}, SECONDS)
        assert wired.unit_state("mproutd", "ExecMainPID") == pid
        continues(echo)

        gateway["mproutd_enabled"] = False
        assert run_role("mproutd", gateway).changed == reload
        eventually(lambda: endpoints(wired) == set(), SECONDS)
        assert run_role("mproutd", gateway).changed == []
        continues(echo)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("option of an uplink", {"mproutd_uplinks": [{"name": "a", "devize": "eth1"}]}, "devize"),
    ("global option", {"mproutd_globals": {"rolle": "client"}}, "rolle"),
    ("missing name", {"mproutd_uplinks": [{"device": "eth1"}]}, "name"),
    ("type", {"mproutd_uplinks": {"wan1": "eth1"}}, "mproutd_uplinks"),
    (
        "value",
        {"mproutd_uplinks": [{"name": "wan1", "device": "eth1", "multipath": "offf"}]},
        "network:8: interface 'wan1', option 'multipath'",
    ),
    (
        "number",
        {"mproutd_uplinks": [{**GATEWAY["mproutd_uplinks"][0], "weight": 256}]},
        "weight",
    ),
    (
        "uplink of a member",
        {"mproutd_members": [{"name": "second", "interface": "wan9"}]},
        "wan9",
    ),
    (
        "policy of a rule",
        {"mproutd_rules": [{"name": "r", "proto": ["tcp"], "use_policy": "guest"}]},
        "guest",
    ),
    ("quoting", {"mproutd_globals": {"role": "client'\n\toption role 'server"}}, "role"),
    ("package", {"mproutd_package": "/tmp/mproutd.deb"}, "mproutd_VERSION_all.deb"),
    ("no package", {"mproutd_package": "mproutd"}, "apt on machine has no package mproutd"),
]


def test_wrong_variables_are_refused_before_anything_changes(
    wired: Booted, gateway: dict[str, Any], run_role: RunRole
) -> None:
    def refuses_all(flags: tuple[str, ...] = ()) -> None:
        for kind, wrong, named in REFUSED:
            if kind == "no package" and "active" in wired.unit_state("mproutd").split():
                continue  # any installed version will do
            before = state(wired)
            refused = run_role("mproutd", {**gateway, **wrong}, *flags)
            assert refused.status == 2, f"{kind}: {refused.output}"
            assert named in refused.output, f"{kind}: {refused.output}"
            assert refused.changed == []
            assert state(wired) == before, kind

    refuses_all()
    assert run_role("mproutd", gateway).status == 0
    refuses_all()


def test_other_versions(
    wired: Booted,
    providers: Providers,
    gateway: dict[str, Any],
    run_role: RunRole,
    package: Path,
    tmp_path: Path,
) -> None:
    older, newer = repack(package, "0.0.9", tmp_path), repack(package, "9.0", tmp_path)
    assert run_role("mproutd", {**gateway, "mproutd_package": str(older)}).changed == FIRST_RUN
    with connected(wired, providers) as echo:
        before, pid = state(wired), wired.unit_state("mproutd", "ExecMainPID")
        upgrade = ["Install the Debian package"]
        assert run_role("mproutd", gateway, "--check").changed == upgrade
        assert state(wired) == before
        assert run_role("mproutd", gateway).changed == upgrade
        assert wired.unit_state("mproutd", "ExecMainPID") != pid
        assert run_role("mproutd", gateway).changed == []
        continues(echo)
        assert len(subflows(wired.network, echo.port)) == 2

        assert run_role("mproutd", {**gateway, "mproutd_package": str(newer)}).changed == upgrade
        before = state(wired)
        refused = run_role("mproutd", gateway)
        assert refused.status == 2
        assert "mproutd 9.0 is installed, which is newer" in refused.output
        assert state(wired) == before

        wanted = {**gateway, "mproutd_allow_downgrade": True}
        assert run_role("mproutd", wanted).changed == upgrade
        assert run_role("mproutd", wanted).changed == []
        continues(echo)


def test_from_a_repository(
    wired: Booted, gateway: dict[str, Any], run_role: RunRole, package: Path, tmp_path: Path
) -> None:
    for version in ("1.0", "2.0"):
        deb = repack(package, version, tmp_path)
        wired.path(f"/srv/{deb.name}").write_bytes(deb.read_bytes())
        control = subprocess.run(
            ["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True
        ).stdout
        with wired.path("/srv/Packages").open("a") as index:
            index.write(
                f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\n"
                f"SHA256: {hashlib.sha256(deb.read_bytes()).hexdigest()}\n\n"
            )
    wired.write("/etc/apt/sources.list.d/local.list", "deb [trusted=yes] file:/srv ./\n")
    wired.run(
        "apt-get update --option Dir::Etc::SourceList=/dev/null --option APT::Get::List-Cleanup=0"
    )
    install = [FIRST_RUN[0], "Install from apt's repositories", *FIRST_RUN[2:]]

    def installed() -> str:
        return wired.run("dpkg-query --show --showformat '${Version}' mproutd")

    exact = {**gateway, "mproutd_package": "mproutd=1.0"}
    predicted = run_role("mproutd", exact, "--check")
    assert predicted.changed == install, predicted.output
    assert run_role("mproutd", exact).changed == install
    assert run_role("mproutd", exact).changed == []
    assert installed() == "1.0"
    any_version = {**gateway, "mproutd_package": "mproutd"}
    assert run_role("mproutd", any_version).changed == []
    newer = {**gateway, "mproutd_package": "mproutd=2.0"}
    assert run_role("mproutd", newer).changed == install[1:2]
    assert installed() == "2.0"
    refused = run_role("mproutd", {**gateway, "mproutd_package": "mproutd=3.0"})
    assert refused.status == 2
    assert "3.0" in refused.output


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two versions, the older one first."""
    made: list[Path] = []
    for version in ("0.3.0", "0.4.0"):
        folder = tmp_path_factory.mktemp("wheel")
        source = folder / "sources"
        copy_sources(source)
        for name in ("setup.cfg", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, source)
        module = source / "mproutd/__init__.py"
        number = re.compile('(?m)^__version__ = ".*"$')
        module.write_text(number.sub(f'__version__ = "{version}"', module.read_text()))
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
            + ["--wheel-dir", folder, source],
            check=True,
        )
        made += folder.glob("*.whl")
    return made


WHEEL = "Install the wheel with its service and hooks"


def test_a_wheel(
    wired: Booted, gateway: dict[str, Any], run_role: RunRole, wheels: list[Path]
) -> None:
    old, new = ({**gateway, "mproutd_package": str(wheel)} for wheel in wheels)
    before = state(wired)
    predicted = run_role("mproutd", old, "--check")
    assert predicted.status == 0, predicted.output
    assert state(wired) == before
    first = run_role("mproutd", old)
    assert first.status == 0, first.output
    assert first.changed == predicted.changed
    assert first.changed[1:3] == ["Install the libraries", WHEEL]
    eventually(lambda: len(endpoints(wired)) == 2, SECONDS)
    assert run_role("mproutd", old).changed == []
    upgrade = run_role("mproutd", new)
    assert upgrade.changed == [WHEEL, "Restart the service with the new version"], upgrade.output
    version = wheels[1].name.split("-")[1]
    assert wired.run("/opt/mproutd/bin/mproutd --version") == f"mproutd {version}\n"
    assert run_role("mproutd", new).changed == []
    before = state(wired)
    refused = run_role("mproutd", gateway)
    assert refused.status == 2
    assert f"mproutd {version} is installed in /opt/mproutd; remove it first" in refused.output
    assert run_role("mproutd", old).status == 2
    assert state(wired) == before
