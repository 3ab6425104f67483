"""What setup.cfg says about the package is so."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module, metadata
from pathlib import Path

import pytest

import mproutd

ROOT = Path(__file__).parents[2]

# Where the name of a distribution is not the name that one imports.
IMPORTED_AS = {
    "ansible-core": "ansible",
    "pyuci": "uci",
    "pyyaml": "yaml",
    "systemd-python": "systemd",
}


@pytest.fixture
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> set[str]:
    """The names that these requirements make importable."""
    names = re.findall(r"^\s*([\w.-]+)", text, re.MULTILINE)
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def third_party(files: Iterable[Path]) -> set[str]:
    """What these files import that is neither Python's nor ours."""
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"mproutd", "tests", "bench"}


def test_the_version_is_a_release_number_or_that_of_an_sdist() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+[\w.]+)?", mproutd.__version__)


def test_the_installed_package_has_this_version() -> None:
    try:
        installed = metadata.version("mproutd")
    except metadata.PackageNotFoundError:
        pytest.skip("runs from a checkout that is not installed")
    assert installed == mproutd.__version__


def test_the_ansible_collection_has_this_version() -> None:
    """The collection is released with the program, so that an installed one is upgraded."""
    release = mproutd.__version__.partition("+")[0]
    galaxy = (ROOT / "packaging" / "ansible" / "galaxy.yml").read_text()
    assert f"\nversion: {release}\n" in galaxy


def test_every_folder_of_modules_is_packaged(setup: configparser.ConfigParser) -> None:
    folders = {
        ".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "mproutd").rglob("*.py")
    }
    assert set(setup["options"]["packages"].split()) == folders


def declared(setup: configparser.ConfigParser, *extras: str) -> set[str]:
    """What can be imported where mproutd is installed with these extras."""
    known = requirements(setup["options"]["install_requires"])
    return known.union(*(requirements(setup["options.extras_require"][name]) for name in extras))


def test_what_the_package_imports_is_required(setup: configparser.ConfigParser) -> None:
    files = (ROOT / "mproutd").rglob("*.py")
    assert third_party(files) <= declared(setup, "systemd", "uci", "metrics", "top", "resolved")


def test_what_the_tests_import_is_in_an_extra(setup: configparser.ConfigParser) -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    extras = ("systemd", "test", "uci", "figures", "fuzz", "browser")
    assert third_party(files) <= declared(setup, *extras)


def test_debian_packages_each_say_why() -> None:
    lines = (ROOT / "packaging" / "debian-packages.txt").read_text().splitlines()
    entries = [line.split(maxsplit=2) for line in lines if line and not line.startswith("#")]
    assert entries
    assert [entry for entry in entries if len(entry) != 3] == []
    assert {entry[0] for entry in entries} <= {"install", "unpack", "browser", "kernels"}
    names = [entry[1] for entry in entries]
    assert len(names) == len(set(names))


@pytest.mark.skipif(not (ROOT / "mproutd" / "cli.py").exists(), reason="no command line yet")
def test_the_console_script_answers_help(setup: configparser.ConfigParser) -> None:
    script = setup["options.entry_points"]["console_scripts"]
    name, module, function = re.fullmatch(r"\s*(\w+) = ([\w.]+):(\w+)", script).groups()
    assert name == "mproutd"
    assert callable(getattr(import_module(module), function))
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "reconcile" in done.stdout


def test_every_target_of_make_has_a_rule() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())
    assert set(re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE)) == targets
    assert set(re.findall(r"^\t@echo 'make ([\w-]+) ", text, re.MULTILINE)) <= targets
