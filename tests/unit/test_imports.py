"""What each module may import, held in one table.

Pure modules decide, and must give the same answer for the same values: they have
no clock, no file and no socket.  The others do I/O, and each knows no more of the
project than its line says.  pyroute2 costs a quarter of a second and 25 MB, so only
the two modules that speak netlink may import it, and no quick command may.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mproutd"

# A module, and what it imports of this project.
PURE = {
    "model": "",
    "wire": "",
    "codec": "model wire",
    "requests": "codec model wire",
    "pm": "model wire",
    "diag": "wire",
    "conntrack": "wire",
    "eventfilter": "codec model wire",
    "spelling": "",
    "sections": "spelling",
    "tracking": "model sections spelling",
    "options": "model spelling tracking",
    "ucitext": "sections spelling",
    "reading": "options sections spelling",
    "claims": "sections spelling",
    "config": "claims options reading sections spelling tracking",
    "devices": "config",
    "judge": "tracking",
    "echoes": "",
    "memo": "",
    "memory": "model",
    "slots": "config memo model",
    "addresses": "config model",
    "paths": "addresses config memo memory model",
    "netifd": "memo model options paths",
    "settings": "config memo memory model paths",
    "endpoints": "config memory model paths",
    "records": "config endpoints memory model paths settings slots",
    "subnets": "memo model paths",
    "verdicts": "config memory model paths",
    "plan": "config endpoints memo memory model paths records settings slots subnets verdicts",
    "diff": "config endpoints memo memory model paths plan settings slots",
    "restraint": "model",
    "retries": "model",
    "revival": "pm",
    "standing": "diag",
    "decisions": "model paths plan",
    "ipsyntax": "model",
    "since": "paths",
    "statusline": "config paths",
    "families": "advice ipsyntax model paths",
    "problems": "advice ipsyntax model retries",
    "rivals": "problems",
    "status": "config endpoints families ipsyntax memory model paths plan problems",
    "subflows": "wire",
    "happenings": "pm subflows",
    "units": "",
    "advice": "",
    "checked": "units",
    "report": "checked units",
    "detail": "checked report units",
    "screen": "report units",
    "metrics": "problems",
    "socketinfo": "",
    "wording": "",
    "verdict": "",
    "place": "",
    "saying": "report units verdict",
}

# A module that does I/O, what it imports of this project, and other people's packages.
OUTER = {
    "uci": ("config options sections spelling trust ucitext", "uci uciparse"),
    "trust": ("", ""),
    "state": ("memory model trust", ""),
    "sockets": ("eventfilter wire", "pyroute2 tenacity"),
    "mptcp": ("model pm sockets wire", "pyroute2 tenacity"),
    "reader": ("codec model requests sockets wire", "tenacity"),
    "kernel": (
        "codec diag eventfilter model mptcp reader requests sockets wire",
        "pyroute2 tenacity",
    ),
    "connections": ("subflows", "pyroute2"),
    "asking": ("loop", ""),
    "pings": ("asking echoes loop", ""),
    "streams": ("asking loop", ""),
    "worker": ("loop", ""),
    "names": ("worker", ""),
    "timers": ("", ""),
    "track": ("asking judge names timers tracking", ""),
    "checks": (
        "asking config log model names part paths pings reconcile streams timers track tracking"
        " verdicts worker",
        "",
    ),
    "log": ("", "systemd"),
    "control": ("", ""),
    "loop": ("", ""),
    "programs": ("", ""),
    "ubus": ("config log loop netifd part paths programs reconcile trust", ""),
    "part": ("config loop paths reconcile", ""),
    "kinds": ("actions checks config forwarded notify part paths programs reconcile ubus", ""),
    "actions": ("child config log part paths reconcile slots trust", ""),
    "child": ("", ""),
    "forwarded": ("config conntrack log model part reconcile sockets worker", ""),
    "notify": ("config part reconcile statusline", ""),
    "server": ("happenings log loop", ""),
    "monitor": (
        "decisions happenings ipsyntax keeper log model plan pm reconcile server sockets subflows"
        " wire",
        "",
    ),
    "rates": ("", ""),
    "top": ("command connections control rates screen subflows", ""),
    "exporter": ("command metrics units", "prometheus_client"),
    "path": ("place socketinfo", ""),
    "beside": ("path place wording", ""),
    "attempt": ("beside path place socketinfo verdict wording", ""),
    "listener": ("path place socketinfo wording", ""),
    "entry": ("attempt command listener path place saying", ""),
    "command": (
        "config connections control keeper kernel programs rivals state subflows ubus units",
        "",
    ),
    "reconcile": (
        "config diff endpoints kernel memory model mptcp paths plan slots verdicts",
        "tenacity",
    ),
    "hints": ("model paths trust", ""),
    "changes": ("ipsyntax model reconcile", ""),
    "keeper": (
        "changes config devices families hints ipsyntax kernel model mptcp paths plan problems"
        " rates reconcile restraint retries since state status uci",
        "tenacity",
    ),
    "reviving": ("endpoints eventfilter keeper log model mptcp part pm revival standing wire", ""),
    "daemon": (
        "config eventfilter hints keeper kinds log loop monitor mptcp part plan reconcile reviving"
        " server state subnets wire",
        "systemd tenacity",
    ),
    "__main__": ("cli", ""),
    "cli": ("* any, but only inside the function that needs it", ""),
}

# What a pure module may take from the standard library.
PURE_LIBRARY = frozenset(
    "__future__ array bisect collections collections.abc difflib enum errno functools ipaddress"
    " itertools json math operator re shlex string struct textwrap types typing".split()
)

# Of modules that do more, the names that only compute.
PURE_PARTS = {
    "socket": "AF_INET AF_INET6 AF_UNSPEC inet_ntop inet_pton htonl htons ntohl ntohs".split(),
    "sys": ["byteorder"],
    "os": ["strerror"],
}

# They cost more time and memory than a small router has to spare.
TOO_HEAVY = frozenset("asyncio dataclasses".split())

# What --help and check must do without.
QUICK_WITHOUT = frozenset("pyroute2 asyncio dataclasses".split())


def imports(source: str) -> Iterator[tuple[str, str, int]]:
    """Each imported (module, name or "", line), wherever in the file the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, "", node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                yield node.module or "", alias.name, node.lineno


def faults(module: str, source: str) -> list[str]:
    """What `module` imports and the table does not allow, as "line N: reason"."""
    pure = module in PURE
    ours, others = (PURE[module], "") if pure else OUTER[module]
    found = []
    for name, part, line in imports(source):
        top, _, rest = name.partition(".")
        if top == "mproutd":
            inner = rest.rpartition(".")[2]
            if inner in ("", *FOLDERS):
                inner = part
            if inner in PURE or inner in OUTER:
                if inner not in ours.split() and not ours.startswith("*"):
                    found.append(f"line {line}: {module} may not import {inner}")
            elif rest:
                found.append(f"line {line}: {inner} is not in the table")
        elif top not in sys.stdlib_module_names:
            if top not in others.split():
                found.append(f"line {line}: {module} may not import {top}")
        elif top in TOO_HEAVY:
            found.append(f"line {line}: {top} is too heavy for the daemon")
        elif pure and part in PURE_PARTS.get(name, ()):
            continue
        elif pure and name not in PURE_LIBRARY:
            found.append(f"line {line}: {module} is pure and imports {name} {part}".rstrip())
    return list(dict.fromkeys(found))


FILES = {path.stem: path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
"""Module → file; no two have one name, so that the table needs no folders."""

FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_module_imports_only_what_its_line_allows(module: str) -> None:
    assert module in PURE or module in OUTER, f"say in this table what {module} may import"
    assert faults(module, FILES[module].read_text()) == []


def test_no_two_modules_have_one_name() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert len(files) == len(FILES)


@pytest.mark.parametrize("folder", ["", *FOLDERS])
def test_a_package_imports_nothing_by_itself(folder: str) -> None:
    assert list(imports((PACKAGE / folder / "__init__.py").read_text())) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("plan", "import os"),
        ("plan", "import socket"),
        ("plan", "from socket import AF_INET, socket"),
        ("plan", "import time"),
        ("plan", "def f():\n    from subprocess import run"),
        ("plan", "from pyroute2 import IPRoute"),
        ("plan", "from mproutd.netlink.kernel import snapshot"),
        ("plan", "from mproutd.netlink import kernel"),
        ("model", "import mproutd.planning.plan"),
        ("daemon", "import pyroute2.netlink"),
        ("daemon", "import asyncio"),
        ("kernel", "from dataclasses import dataclass"),
        ("kernel", "from mproutd.planning.plan import desired"),
    ],
)
def test_the_table_refuses(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("plan", "from socket import AF_INET, inet_pton"),
        ("plan", "from mproutd.model import Route"),
        ("plan", "from mproutd.planning import slots"),
        ("cli", "def f():\n    from mproutd.daemon import run"),
        ("kernel", "import os, socket\nimport pyroute2.netlink"),
        ("model", "from mproutd import __version__"),
    ],
)
def test_the_table_allows(module: str, source: str) -> None:
    assert faults(module, source) == []


def loaded(statements: str) -> set[str]:
    """The modules that a fresh interpreter holds after these statements."""
    code = f"import sys\ntry:\n    {statements}\nexcept SystemExit:\n    pass\n"
    code += "print('\\n'.join(sys.modules), file=sys.stderr)\n"
    without_coverage = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=without_coverage,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


no_cli = pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="no command line yet")


@no_cli
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check", "--help"], ["check", "/nonexistent"], ["status", "--help"]],
    ids=" ".join,
)
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(f"sys.argv[1:] = {arguments!r}; import mproutd.cli; mproutd.cli.main()")
    assert "mproutd.cli" in modules
    assert not modules & QUICK_WITHOUT


@no_cli
def test_checking_a_good_configuration_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "network").write_text(
        "config globals 'globals'\n\toption multipath 'enable'\n\n"
        "config interface 'wan1'\n\toption device 'eth1'\n\toption multipath 'on'\n"
    )
    modules = loaded(
        f"sys.argv[1:] = ['check', {str(tmp_path)!r}]; import mproutd.cli; mproutd.cli.main()"
    )
    assert "mproutd.configuration.config" in modules
    assert not modules & QUICK_WITHOUT
