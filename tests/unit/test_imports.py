"""What each module may import, held in one table.

Pure modules decide, and must give the same answer for the same values: they have
no clock, no file and no socket.  The others do I/O, and each knows no more of the
project than its package's line says.  pyroute2 costs a quarter of a second and 25 MB, so only
netlink may import it, and no quick command may.
"""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mproutd"

# Package or module -> the packages and modules of this project that it may import.  A module
# without a line of its own is held to its package's.
MAY_IMPORT = {
    "lan_address": "",
    "model": "lan_address",
    "format": "",
    "iproute2": "lan_address model",
    "eventloop": "",
    "environment": "",
    "safefile": "",
    "log": "",
    "limits": "eventloop",
    "configuration": "model configuration",
    "configuration.uci": "configuration environment safefile",
    "planning": "lan_address model configuration planning",
    "netlink": "lan_address model netlink",
    "status": "lan_address model configuration format iproute2 netlink.mptcp_info netlink.mptcp_pm"
    " netlink.sock_diag planning status",
    "status.rates": "status.types",
    "status.exporter": "commands format status",
    "status.metrics_server": "limits status.types",
    "status.top": "commands control.client netlink.diag_socket status",
    "firewall.ruleset": "configuration firewall.policies firewall.translation netlink.nft_values"
    " planning",
    "firewall.policies": "configuration model netlink.nft_values planning",
    "firewall.script": "netlink.nft_values",
    "firewall.domains": "configuration firewall.policies firewall.ruleset",
    "firewall.translation": "configuration model netlink.nft_values planning",
    "firewall.flows": "model netlink.conntrack planning",
    "firewall.table": "configuration firewall model netlink planning status",
    "firewall.nft": "environment firewall.ruleset firewall.script netlink safefile",
    "importers": "configuration model importers",
    "import_command": "commands configuration importers.draft importers.header",
    "explain": "configuration explain firewall.policies firewall.ruleset format iproute2 model"
    " netlink.conntrack planning",
    "explain.kernel": "explain.request model netlink",
    "explain.world": "explain firewall planning",
    "explain_command": "commands configuration explain",
    "statefile": "environment planning.cache planning.state safefile",
    "hints": "model planning.gateways planning.resolver_sources safefile",
    "resolv_conf": "planning safefile",
    "verification": "model planning netlink.kernel",
    "snapshot_request": "configuration model netlink.kernel planning",
    "passes": "model configuration planning netlink.kernel netlink.path_manager snapshot_request"
    " subflows.connections subflows.relocation verification",
    "reconciler": "model configuration planning netlink passes hints snapshot_request statefile"
    " subflows.relocation verification",
    "subflows": "netlink subflows",
    "subflows.relocation": "model planning subflows",
    "subflows.retry": "eventloop log model netlink planning reconciler services.base subflows",
    "control.client": "",
    "control.admission": "",
    "control.socket_file": "",
    "control.server": "control.admission control.socket_file eventloop limits log status.events",
    "monitor": "control.server eventloop iproute2 limits log model netlink planning reconciler"
    " status",
    "services": "configuration environment eventloop firewall format lan_address log model netlink"
    " planning resolv_conf safefile services status",
    "services.health": "configuration eventloop log model planning services status.problems"
    " status.types",
    "daemon": "configuration control environment eventloop hints limits log model monitor netlink"
    " passes planning reconciler services statefile status subflows",
    "pathtest": "format limits netlink.mptcp_info pathtest",
    "pathtest.render": "format status.render pathtest",
    "pathtest.command": "commands pathtest",
    "commands": "configuration control.client environment firewall.table format netlink reconciler"
    " resolv_conf services.at_once services.base services.lan_prefixes services.leases"
    " services.netifd services.resolved_bus services.scripts statefile status",
    "help_formatter": "",
    "connections_command": "commands status",
    "pair_command": "commands configuration planning statefile",
    "check_command": "commands configuration planning.pair",
    "quota_command": "commands configuration.parsers format status",
    "files": "commands safefile",
    "cli": "*",
    "__main__": "cli",
}

# No clock, no file, no socket: the same values give the same answer.
PURE = (
    "lan_address model format iproute2 configuration planning status netlink.nlmsg"
    " netlink.rtnl_decode netlink.rtnl_encode netlink.rtnl_nexthops netlink.mptcp_pm"
    " netlink.sock_diag netlink.mptcp_info netlink.conntrack netlink.bpf netlink.nftables"
    " netlink.nft_values netlink.nft_events netlink.nft_elements firewall.ruleset firewall.flows"
    " firewall.translation firewall.policies firewall.domains firewall.script importers explain"
    " subflows.policy subflows.connections subflows.relocation"
    " services.health.hysteresis services.health.dns_message control.admission"
    " pathtest.protocol pathtest.verdict pathtest.select pathtest.render"
).split()
IMPURE = (
    "configuration.uci explain.kernel explain.world status.rates status.exporter"
    " status.metrics_server status.top"
).split()

# Other people's packages, and who may import them.
OTHERS = {
    "pyroute2": "netlink",
    "tenacity": "netlink statefile",
    "jeepney": "services.resolved_bus",
    "systemd": "log",
    "uciparse": "configuration.uci",
    "uci": "configuration.uci",
    "prometheus_client": "status.exporter",
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

# What a command or the daemon starts without: the cost of a start is that of its imports.
STARTS_WITHOUT = {
    "import mproutd.cli": "mproutd.configuration mproutd.control mproutd.model json socket",
    "import mproutd.cli, mproutd.control.client, mproutd.status.render": "mproutd.configuration"
    " mproutd.model mproutd.netlink mproutd.planning mproutd.reconciler mproutd.services",
    "import mproutd.cli, mproutd.configuration.uci": "mproutd.configuration.policies"
    " mproutd.control mproutd.netlink mproutd.planning mproutd.reconciler mproutd.status json",
    "import mproutd.cli, mproutd.daemon, mproutd.configuration.uci": "mproutd.control.client"
    " mproutd.explain mproutd.firewall mproutd.importers mproutd.pathtest"
    " mproutd.planning.inspection mproutd.planning.traffic mproutd.services.conntrack"
    " mproutd.services.nftables"
    " mproutd.resolv_conf mproutd.services.health mproutd.status.build mproutd.status.problems"
    " mproutd.status.render mproutd.status.traffic mproutd.status.types mproutd.status.uplink",
}

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


def covers(names: str | list[str], module: str) -> bool:
    """Whether `module`, or a package that it lies in, is among `names`."""
    listed = names.split() if isinstance(names, str) else names
    return "*" in listed or any(module == name or module.startswith(name + ".") for name in listed)


def is_pure(module: str) -> bool:
    return covers(PURE, module) and not covers(IMPURE, module)


def allowance(module: str) -> str:
    """The line of the table that holds for `module`."""
    name = module
    while name not in MAY_IMPORT:
        name = name.rpartition(".")[0]
        assert name, f"MAY_IMPORT has no line for {module}"
    return MAY_IMPORT[name]


def targets(name: str, part: str) -> str:
    """The module of this project that `import name` or `from name import part` loads."""
    inner = name.removeprefix("mproutd").removeprefix(".")
    return f"{inner}.{part}".strip(".") if f"{inner}.{part}".strip(".") in FILES else inner


def faults(module: str, source: str) -> list[str]:
    """What `module` imports and the table does not allow, as "line N: reason"."""
    pure = is_pure(module)
    wrong = []
    for name, part, line in imports(source):
        top = name.partition(".")[0]
        if top == "mproutd":
            inner = targets(name, part)
            if inner and not covers(allowance(module), inner):
                wrong.append(f"line {line}: {module} may not import {inner}")
        elif top not in sys.stdlib_module_names:
            if not covers(OTHERS.get(top, ""), module):
                wrong.append(f"line {line}: {module} may not import {top}")
        elif top in TOO_HEAVY:
            wrong.append(f"line {line}: {top} is too heavy for the daemon")
        elif pure and part in PURE_PARTS.get(name, ()):
            continue
        elif pure and name not in PURE_LIBRARY:
            wrong.append(f"line {line}: {module} is pure and imports {name} {part}".rstrip())
    return list(dict.fromkeys(wrong))


FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}
"""Module, dotted and without the project's name -> file."""

PACKAGES = sorted(
    ".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.py")
)


@pytest.mark.parametrize("module", sorted(FILES))
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    assert faults(module, FILES[module].read_text()) == []


def test_every_line_of_the_table_names_something() -> None:
    known = {*FILES, *PACKAGES, "*"}
    named = {*MAY_IMPORT, *PURE, *IMPURE}
    named |= {name for line in (*MAY_IMPORT.values(), *OTHERS.values()) for name in line.split()}
    assert named - known == set()


def test_no_import_goes_in_a_circle() -> None:
    graph = {
        module: {
            targets(name, part)
            for name, part, _ in imports(path.read_text())
            if name.partition(".")[0] == "mproutd"
        }
        & FILES.keys()
        for module, path in FILES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_nothing_by_itself(package: str) -> None:
    folder = PACKAGE.joinpath(*package.split("."))
    names = [name for name, _, _ in imports((folder / "__init__.py").read_text())]
    assert names == ([] if package else ["sys"])  # which refuses an old Python


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("planning.plan", "import os"),
        ("planning.plan", "import socket"),
        ("planning.plan", "from socket import AF_INET, socket"),
        ("planning.plan", "import time"),
        ("planning.plan", "def f():\n    from subprocess import run"),
        ("planning.plan", "from pyroute2 import IPRoute"),
        ("planning.plan", "from mproutd.netlink.kernel import snapshot"),
        ("planning.plan", "from mproutd.netlink import kernel"),
        ("model", "import mproutd.planning.plan"),
        ("daemon", "import pyroute2.netlink"),
        ("daemon", "import asyncio"),
        ("netlink.kernel", "from dataclasses import dataclass"),
        ("netlink.kernel", "from mproutd.planning.plan import make_plan"),
    ],
)
def test_the_table_refuses(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("planning.plan", "from socket import AF_INET, inet_pton"),
        ("planning.plan", "from mproutd.model import Route"),
        ("planning.plan", "from mproutd.planning import numbering"),
        ("cli", "def f():\n    from mproutd.daemon import run"),
        ("netlink.kernel", "import os, socket\nimport pyroute2.netlink"),
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


def test_a_status_is_printed_without_what_makes_it() -> None:
    modules = loaded("import mproutd.control.client, mproutd.status.render")
    assert "mproutd.status.render" in modules
    makers = ("mproutd.model", "mproutd.planning", "mproutd.configuration", "mproutd.netlink")
    assert not [name for name in modules if name.startswith(makers)]


@pytest.mark.parametrize("statements", STARTS_WITHOUT)
def test_a_start_imports_only_what_it_needs(statements: str) -> None:
    assert {
        name for name in loaded(statements) if covers(STARTS_WITHOUT[statements], name)
    } == set()
