"""Which of these tests run, and what they need: root, and programs that boot a machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.booted import Booted, Providers
from tests.booted.system import REPOSITORY
from tests.lab import TWO_UPLINKS
from tests.networks.machine import why_not


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Left out unless named or wanted; never skipped because something is missing."""
    mine = [item for item in items if item.get_closest_marker("booted")]
    for item in mine:
        item.add_marker(pytest.mark.kernel)
        item.add_marker(pytest.mark.timeout(600))
    named = any("booted" in argument for argument in config.args)
    if mine and not named and not config.getoption("booted"):
        items[:] = [item for item in items if item not in mine]
        config.hook.pytest_deselected(items=mine)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """One clear line; tests/conftest.py has seen to it before that we are root."""
    if item.get_closest_marker("booted"):
        lacking = [name for name in ("systemd-nspawn", "debootstrap") if not shutil.which(name)]
        reason = f"no {', '.join(lacking)}: packaging/setup.sh" if lacking else why_not()
        if reason:
            pytest.fail(f"cannot boot a machine: {reason}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """With a failure comes the end of the journal of its machine."""
    report = yield
    if call.when == "call" and report.failed:
        for name, machine in getattr(item, "funcargs", {}).items():
            if isinstance(machine, Booted):
                report.sections.append((f"journal of {name}", machine.journal()[-8000:]))
                break
    return report


SOURCES = (
    *("mproutd", "etc", "if-up.d", "web", "docs", "packaging"),
    *("README.md", "CHANGELOG.md", "LICENSE"),
)


def build(checkout: Path) -> Path:
    """The package of a checkout, as `make deb` makes it; lintian has nothing to say about it."""
    done = subprocess.run([checkout / "packaging/deb.sh"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        pytest.fail("no package: see above what packaging/deb.sh says", pytrace=False)
    return Path(done.stdout.strip())


def copy_sources(to: Path) -> Path:
    """What a package is made of, in a folder of its own, with the tools of this checkout."""
    (to / ".build").mkdir(parents=True)
    (REPOSITORY / ".build/roots").mkdir(parents=True, exist_ok=True)
    for name in (".venv", ".build/roots"):
        (to / name).symlink_to(REPOSITORY / name)
    for name in SOURCES:
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, to / name)
    return to


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are now, whoever edits them meanwhile."""
    return copy_sources(tmp_path_factory.mktemp("package") / "checkout")


@pytest.fixture(scope="session")
def package(checkout: Path) -> Path:
    """The .deb."""
    return build(checkout)


@pytest.fixture(scope="session")
def newer_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files as version 9.0, but for the explanations in the configuration."""
    folder = tmp_path_factory.mktemp("newer")
    tree, newer = folder / "tree", folder / "newer.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*", "Version: 9.0", control.read_text()))
    with (tree / "usr/share/mproutd/network").open("a") as example:
        example.write("# explained better\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, newer], check=True)
    return newer


@pytest.fixture
def providers() -> Iterator[Providers]:
    """Two of them, and the server behind both."""
    with Providers() as made:
        yield made


@pytest.fixture
def debian(package: Path, providers: Providers) -> Iterator[Booted]:
    """A gateway with both providers plugged in, our .deb in /root and nothing of it yet."""
    with Booted(providers.plug_in, before=lambda root: _bring(package, root)) as machine:
        yield machine


@pytest.fixture
def gateway(debian: Booted) -> Booted:
    """The same with the package installed; wan1 (eth1) master and wan2 (eth2) on, not started."""
    debian.run("apt-get install --yes /root/mproutd_*.deb")
    debian.write("/etc/mproutd/network", TWO_UPLINKS)
    return debian


def _bring(package: Path, root: Path) -> None:
    shutil.copy(package, root / "root" / package.name)
