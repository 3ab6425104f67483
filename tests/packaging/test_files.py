"""`mproutd files`: what pip brings, and where it puts that."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

from mproutd import cli, files
from mproutd.commands import FAILED, INVALID, OK, CommandError

ROOT = Path(__file__).parents[2]
CARRIED = ("etc", "if-up.d", "docs/man", "packaging/completions", "web")
OPENWRT = {
    "etc/capabilities/mproutd.json",
    "etc/config/mproutd",
    "etc/init.d/mproutd",
    "etc/uci-defaults/60-mproutd",
}
"""In OpenWrt's packages, and not in the wheel."""


def data_files() -> dict[str, str]:
    """Place below the prefix → source, as setup.cfg has it."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.optionxform = str  # type: ignore[method-assign,assignment]
    setup.read(ROOT / "setup.cfg")
    return {
        f"{folder}/{Path(source).name}": source
        for folder, sources in setup["options.data_files"].items()
        for pattern in sources.split()
        for source in sorted(str(file.relative_to(ROOT)) for file in ROOT.glob(pattern))
    }


class Record:
    """A wheel's RECORD, installed in a prefix."""

    def __init__(self, prefix: Path, modules: Path) -> None:
        self.files = []
        modules.mkdir(parents=True)
        for target, source in data_files().items():
            file = prefix / target
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes((ROOT / source).read_bytes())
            path = metadata.PackagePath(PurePosixPath(os.path.relpath(file, modules)))
            path.dist = metadata.PathDistribution(modules / "mproutd.dist-info")
            self.files.append(path)


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation as pip leaves it, of which `mproutd` is the program."""
    prefix = tmp_path / "venv"
    record = Record(prefix, prefix / "lib/python3/site-packages")
    monkeypatch.setattr(metadata, "files", lambda name: record.files)
    monkeypatch.setattr(sys, "argv", [str(prefix / "bin/mproutd")])
    return prefix


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian with ifupdown, dhclient, polkit and Cockpit, of which only the folders are there."""
    folders = ("etc/network", "etc/dhcp", "etc/NetworkManager", "etc/polkit-1/rules.d")
    for folder in (*folders, "usr/share/cockpit"):
        (tmp_path / "root" / folder).mkdir(parents=True)
    return tmp_path / "root"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    status = cli.main(["files", *arguments])
    return status, capsys.readouterr().out.splitlines()


def test_every_file_for_a_system_is_in_the_wheel() -> None:
    there = {
        str(file.relative_to(ROOT))
        for folder in CARRIED
        for file in (ROOT / folder).rglob("*")
        if file.is_file()
    }
    assert set(data_files().values()) == there - OPENWRT


def test_installed_listed_changed_and_removed(
    prefix: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, listed = run(capsys, "--root", str(root))
    assert status == FAILED
    assert {line.split()[0] for line in listed} == {"missing"}
    places = [line.split()[1] for line in listed]
    assert len(places) == len(data_files())
    assert "/etc/network/if-up.d/mproutd" in places
    assert "/usr/local/share/man/man8/mproutd.8" in places

    status, output = run(capsys, "--install", "--root", str(root))
    assert (status, output) == (OK, [f"installed {place}" for place in places])
    assert run(capsys, "--install", "--root", str(root)) == (OK, [])
    status, listed = run(capsys, "--root", str(root))
    assert status == OK
    assert {line.split()[0] for line in listed} == {"installed"}
    modes = {place: (root / place[1:]).stat().st_mode & 0o777 for place in places}
    assert {path for path, mode in modes.items() if mode == 0o755} == {
        "/etc/network/if-up.d/mproutd",
        "/etc/network/if-post-down.d/mproutd",
        "/etc/NetworkManager/dispatcher.d/60-mproutd",
    }
    assert set(modes.values()) == {0o755, 0o644}

    # -- a configuration that was changed stays, a hook that was changed does not
    for path in ("etc/mproutd/network", "etc/network/if-up.d/mproutd"):
        (root / path).write_text("# mine\n")
    status, listed = run(capsys, "--root", str(root))
    assert status == FAILED
    assert [line for line in listed if "installed" not in line] == [
        "yours      /etc/mproutd/network",
        "differs    /etc/network/if-up.d/mproutd",
    ]
    assert run(capsys, "--install", "--root", str(root)) == (
        OK,
        ["installed /etc/network/if-up.d/mproutd"],
    )
    assert run(capsys, "--remove", "--root", str(root))[0] == OK
    remaining = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    assert remaining == {"etc/mproutd/network", "etc/mproutd/mproutd"}
    assert (root / "etc/mproutd/network").read_text() == "# mine\n"


def test_a_hook_needs_the_program_that_runs_it(
    prefix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc/dhcp").mkdir(parents=True)
    _, listed = run(capsys, "--root", str(tmp_path))
    assert [line for line in listed if "/etc/network/" in line or "cockpit" in line] == []
    assert len([line for line in listed if "/etc/dhcp/" in line]) == 1


def unit(root: Path) -> str:
    return (root / files.UNIT[1:]).read_text()


def test_the_unit_names_a_program_that_systemd_would_not_find(
    prefix: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(capsys, "--install", "--root", str(root))
    program = str(prefix / "bin/mproutd")
    for line in (f"ExecStart={program} run", f"|| {program} check", f"ExecReload={program} rec"):
        assert f"{line}" in unit(root)
    assert "Unit" in unit(root)
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/mproutd"])
    run(capsys, "--install", "--root", str(root))
    assert unit(root) == (ROOT / "etc/systemd/system/mproutd.service").read_text()
    monkeypatch.setattr(sys, "argv", ["/opt/a b/mproutd"])
    assert cli.main(["files", "--install", "--root", str(root)]) == INVALID
    assert "/opt/a b/mproutd: systemd cannot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prefix_of", "program", "hidden"),
    [
        ("/root/.venv", "/root/.venv/bin/mproutd", "/root/.venv"),
        ("/opt/mproutd", "/home/me/.local/bin/mproutd", "/home/me/.local/bin/mproutd"),
        ("/opt/mproutd", "/opt/mproutd/bin/mproutd", ""),
        ("/rooted", "/homes/mproutd", ""),
    ],
)
def test_what_the_service_cannot_see(
    monkeypatch: pytest.MonkeyPatch, prefix_of: str, program: str, hidden: str
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix_of)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "argv", [program])
    assert files.hidden_program() == hidden


def test_from_a_checkout_and_from_a_package_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "files", lambda name: [])
    with pytest.raises(CommandError, match="runs from its sources"):
        files.find_files()

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", absent)
    with pytest.raises(CommandError, match="dpkg -L mproutd"):
        files.find_files()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pip makes it of this tree; setuptools comes with the environment or from pip's index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    done = subprocess.run([*command, ROOT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [made] = folder.iterdir()
    return made


def test_a_real_installation_knows_its_files(wheel: Path, tmp_path: Path, root: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, program = tmp_path / "venv/bin/python", tmp_path / "venv/bin/mproutd"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", wheel],
        check=True,
        capture_output=True,
    )
    shown = subprocess.run(
        [program, "files", "--install", "--root", root], check=True, capture_output=True, text=True
    )
    assert len(shown.stdout.splitlines()) == len(data_files())
    assert f"ExecStart={program} run" in unit(root)
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    assert version == f"mproutd {wheel.name.split('-')[1]}\n"
