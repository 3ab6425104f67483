"""OpenWrt's packages: what they install, that it runs, and that their dependencies are its own.

There is no OpenWrt here.  The Makefiles run under GNU make with a small build system of the
tests' own (openwrt_sdk.py); what they install runs under a Python that has nothing else.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mproutd
from tests.lab import TWO_UPLINKS, Daemon, Namespace, Wan, eventually
from tests.lab.openwrt import UCI
from tests.lab.openwrt_sdk import PYTHON, SITE, Sdk

ROOT = Path(__file__).parents[2]
FEED = ROOT / "packaging" / "openwrt"
MPROUTD, TENACITY = FEED / "mproutd" / "Makefile", FEED / "python-tenacity" / "Makefile"

LUCI = FEED / "luci-app-mproutd" / "Makefile"

MODULES = {str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "mproutd").rglob("*.py")}
FOR_TYPE_CHECKERS = {module for module in MODULES if module.endswith("types")}
APART = {
    "mproutd-connections": {"mproutd/netlink/diag_socket"},
    "mproutd-top": {"mproutd/status/top", "mproutd/status/top_view"},
    "mproutd-test": {module for module in MODULES if module.startswith("mproutd/pathtest/")}
    - FOR_TYPE_CHECKERS,
}
LEFT_OUT = {
    "mproutd/status/exporter",
    "mproutd/status/metrics",
    "mproutd/status/metrics_server",
    "mproutd/files",
    "mproutd/services/systemd",
    *FOR_TYPE_CHECKERS,
}
"""No package has them: the feed has no client library of Prometheus, no pip and no systemd."""

FILES = {
    "mproutd": {
        "etc/capabilities/mproutd.json": 0o644,
        "etc/config/mproutd": 0o600,
        "etc/hotplug.d/iface/30-mproutd": 0o644,
        "etc/init.d/mproutd": 0o755,
        "etc/iproute2/rt_protos.d/mproutd.conf": 0o644,
        "etc/iproute2/rt_tables.d/mproutd.conf": 0o644,
        "etc/uci-defaults/60-mproutd": 0o755,
        "lib/upgrade/keep.d/mproutd": 0o644,
        "usr/sbin/mproutd": 0o755,
        "usr/share/acl.d/mproutd.json": 0o644,
    },
    "mproutd-connections": {},
    "mproutd-top": {},
    "mproutd-test": {},
    "mproutd-rpcd": {
        "usr/libexec/rpcd/mproutd": 0o755,
        "usr/share/rpcd/acl.d/mproutd.json": 0o644,
    },
}

SPLIT_OFF = {
    **{
        name: f"python3-{name}"
        for name in "asyncio ctypes dbm decimal distutils email lib2to3 logging lzma"
        " multiprocessing pydoc readline sqlite3 unittest urllib uuid venv xml".split()
    },
    "_asyncio": "python3-asyncio",
    "_ctypes": "python3-ctypes",
    "_decimal": "python3-decimal",
    "_hashlib": "python3-openssl",
    "_lzma": "python3-lzma",
    "_sqlite3": "python3-sqlite3",
    "_ssl": "python3-openssl",
    "curses": "python3-ncurses",
    "_curses": "python3-ncurses",
    "tenacity": "python3-tenacity",
    "uci": "python3-uci",
    "pyroute2": "python3-pyroute2",
    "ssl": "python3-openssl",
    "unicodedata": "python3-codecs",
}
"""What is not in python3-light (openwrt/packages, lang/python/python3/files/python3-package-*)."""

MAY_BE_MISSING = {"systemd", "ssl", "jeepney"}
"""Not on OpenWrt; for checks by https, see docs/openwrt.md."""


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Sdk:
    return Sdk(tmp_path_factory.mktemp("sdk") / "top")


@pytest.fixture(scope="module")
def roots(sdk: Sdk) -> dict[str, Path]:
    """Each package → what it puts on a router."""
    import tenacity

    built = sdk.build(MPROUTD)
    return built | sdk.build(TENACITY, Path(tenacity.__file__).parent)


def installed(root: Path) -> dict[str, int]:
    """Path → mode."""
    return {
        str(path.relative_to(root)): path.stat().st_mode & 0o777
        for path in root.rglob("*")
        if not path.is_dir()
    }


def modules(root: Path) -> set[str]:
    return {
        path.removeprefix(SITE + "/").removesuffix(".pyc")
        for path in installed(root)
        if path.startswith(SITE)
    }


def test_the_packages_share_out_the_modules_and_each_is_in_one(roots: dict[str, Path]) -> None:
    shared = {name: modules(roots[name]) for name in FILES}
    assert {name: shared[name] for name in APART} == APART
    assert shared["mproutd-rpcd"] == set()
    assert shared["mproutd"] == MODULES - LEFT_OUT - set.union(*APART.values())
    assert set(roots) == {*FILES, "python3-tenacity"}


@pytest.mark.parametrize("name", FILES)
def test_a_package_installs_these_files_and_no_others(roots: dict[str, Path], name: str) -> None:
    modes = {
        path: mode for path, mode in installed(roots[name]).items() if not path.startswith(SITE)
    }
    assert modes == FILES[name]


def test_luci_gets_its_pages_and_what_they_share_with_cockpit(sdk: Sdk) -> None:
    modes = installed(sdk.build(LUCI)["luci-app-mproutd"])
    resources = "www/luci-static/resources"
    shared = {path.name for path in (ROOT / "web/page").iterdir()}
    assert set(modes) == {
        f"{resources}/view/mproutd/status.js",
        f"{resources}/view/mproutd/configuration.js",
        f"{resources}/view/status/include/35_mproutd.js",
        f"{resources}/mproutd/loader.js",
        *(f"{resources}/mproutd/{name}" for name in shared),
        "usr/share/luci/menu.d/luci-app-mproutd.json",
        "usr/share/rpcd/acl.d/luci-app-mproutd.json",
    }
    assert set(modes.values()) == {0o644}
    _, depends, _, _ = sdk.describe(LUCI, "luci-app-mproutd")
    assert depends == ["+luci-base", "+mproutd-rpcd"]
    assert f"PKG_VERSION:={mproutd.__version__}\n" in LUCI.read_text()


def test_the_access_lists_grant_ubus_and_uci_and_no_files() -> None:
    for path in FEED.rglob("rpcd/acl.d/*.json"):
        for group in json.loads(path.read_text()).values():
            for grants in (group["read"], group["write"]):
                assert grants.keys() == {"ubus", "uci"}, path
                assert grants["ubus"].keys() == {"mproutd"}, path


def test_nothing_for_tests_or_documents_and_no_source_gets_on_a_router(
    roots: dict[str, Path],
) -> None:
    for root in roots.values():
        assert not [path for path in installed(root) if re.search(r"\.(py|md|[0-9])$", path)]


def test_the_version_is_the_programs(sdk: Sdk) -> None:
    release = mproutd.__version__.partition("+")[0]
    assert f"PKG_VERSION:={release}\n" in MPROUTD.read_text()


def test_what_is_the_users_is_kept_at_an_upgrade(sdk: Sdk, roots: dict[str, Path]) -> None:
    _, _, user, files = sdk.describe(MPROUTD, "mproutd")
    assert files == ["/etc/config/mproutd"]
    kept = (roots["mproutd"] / "lib/upgrade/keep.d/mproutd").read_text().split()
    assert kept == [*files, "/etc/mproutd/"]
    assert user == "mproutd:mproutd"


# -- it runs ------------------------------------------------------------------------------


class Installed(Daemon):
    """The daemon as the packages install it, under a Python that has nothing else.

    `modules` of each command: what it had imported at its end.
    """

    def __init__(self, node: Namespace, roots: dict[str, Path], folder: Path) -> None:
        self._program = str(roots["mproutd"] / "usr/sbin/mproutd")
        self._noted = folder / "modules"
        (folder / "uci.py").write_text(UCI)
        (folder / "sitecustomize.py").write_text(
            "import atexit, sys\n"
            f"atexit.register(lambda: open({str(self._noted)!r}, 'w')"
            ".write(chr(10).join(sys.modules)))\n"
        )
        (folder / "ubus").write_text("#!/bin/sh\necho '{\"interface\": []}'\n")
        (folder / "ubus").chmod(0o755)
        self._environment = [
            f"PYTHONPATH={roots['mproutd'] / SITE}:{folder}",
            f"PATH={folder}:{os.environ['PATH']}",
        ]
        super().__init__(node, TWO_UPLINKS)

    def command(self, verb: str, *arguments: str) -> list[str]:
        usual = super().command(verb, *arguments)
        rest = usual[usual.index("-m") + 2 :]
        return ["env", *self._environment, PYTHON, "-s", self._program, *rest]

    def modules(self) -> set[str]:
        return set(self._noted.read_text().split())


def packages(names: set[str]) -> set[str]:
    """The packages of OpenWrt that these modules come from."""
    known = set(sys.stdlib_module_names) | {"pyroute2", "tenacity", "uci"}
    tops = {name.partition(".")[0] for name in names if name}
    ours = {"mproutd", "__main__", "sitecustomize", "_distutils_hack", "usercustomize"}
    assert tops - known - ours == set()
    return {SPLIT_OFF.get(top, "python3-light") for top in tops & known}


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(lan=False, shaped=False).usual() as world:
        yield world


@pytest.mark.kernel
def test_the_daemon_imports_what_its_package_depends_on_and_depends_on_no_more(
    sdk: Sdk, roots: dict[str, Path], wan: Wan, tmp_path: Path
) -> None:
    with Installed(wan.gateway, roots, tmp_path) as daemon:
        eventually(lambda: "10.2.2.2" in wan.gateway.ip("mptcp endpoint show"))
        wan.unplug(1)
        eventually(lambda: "10.1.1.2" not in wan.gateway.ip("mptcp endpoint show"))
        wan.plug(1)
        daemon.settle()
        assert daemon.stop() == 0
        running = daemon.modules()
    assert {"mproutd.daemon", "mproutd.services.netifd", "uci"} <= running
    assert not running & {"pyroute2", "asyncio", "dataclasses", "tenacity"}
    # What the daemon imports when a dump is interrupted.
    code = "import sys, tenacity; print(*sys.modules)"
    done = subprocess.run(
        [PYTHON, "-s", "-c", code],
        env={"PYTHONPATH": str(roots["python3-tenacity"] / SITE)},
        capture_output=True,
        text=True,
        check=True,
    )
    _, depends, _, _ = sdk.describe(MPROUTD, "mproutd")
    wanted = {word.removeprefix("+") for word in depends if word.startswith("+python3-")}
    assert packages(running | set(done.stdout.split())) == wanted
    _, depends, _, _ = sdk.describe(TENACITY, "python3-tenacity")
    assert packages(set(done.stdout.split())) == {
        *(word.removeprefix("+") for word in depends),
        "python3-tenacity",
    }


@pytest.mark.parametrize("name", ["mproutd", *APART])
def test_lazy_imports_are_packaged_too(sdk: Sdk, roots: dict[str, Path], name: str) -> None:
    """Checks, programs and the like, which a configuration asks for; but for MAY_BE_MISSING."""
    named = set()
    for module in modules(roots[name]):
        for node in ast.walk(ast.parse((ROOT / f"{module}.py").read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named.add(node.module or "")
    tops = {name.partition(".")[0] for name in named}
    depends = sdk.describe(MPROUTD, "mproutd")[1] + sdk.describe(MPROUTD, name)[1]
    wanted = {word.removeprefix("+") for word in depends}
    assert packages(tops - MAY_BE_MISSING) <= wanted


def runtime_imports(tree: ast.AST) -> Iterator[str]:
    """The modules of ours that this code imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mproutd"):
            path = str(node.module).replace(".", "/")
            yield path
            yield from (f"{path}/{alias.name}" for alias in node.names)
        yield from runtime_imports(node)


def test_nothing_imports_the_types_of_json() -> None:
    for module in MODULES - FOR_TYPE_CHECKERS:
        imported = set(runtime_imports(ast.parse((ROOT / f"{module}.py").read_text())))
        assert not imported & FOR_TYPE_CHECKERS, module


@pytest.mark.kernel
def test_every_command_of_the_package_runs_and_the_others_say_what_they_need(
    roots: dict[str, Path], wan: Wan, tmp_path: Path
) -> None:
    with Installed(wan.gateway, roots, tmp_path) as daemon:
        assert daemon.status()["running"]
        for verb in ("check", "status", "reconcile", "connections"):
            result = daemon.call(verb)
            assert (result.code, result.err) == (0, ""), (verb, result)
        apart = {
            ("top",): "this command's package, mproutd-top, is not installed",
            ("test", "wan1", "--to", "192.0.2.1:80"): "this command's package, mproutd-test, is not"
            " installed",
            ("metrics",): "this command is not packaged here: mproutd.status.exporter is not"
            " installed",
        }
        for words, text in apart.items():
            result = daemon.call(*words)
            assert (result.code, result.err) == (1, f"mproutd: {text}\n"), (words, result)
    assert "(OpenWrt: mproutd-connections)" in daemon.call("connections").err
    assert daemon.call("flush").code == 0
    assert "7001" not in wan.gateway.ip("rule show")


def test_all_packages_together_answer_help(roots: dict[str, Path], tmp_path: Path) -> None:
    program = roots["mproutd"] / "usr/sbin/mproutd"
    assert os.access(program, os.X_OK)
    done = subprocess.run(
        [PYTHON, "-s", program, "--help"],
        env={"PYTHONPATH": str(roots["mproutd"] / SITE)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "reconcile" in done.stdout
