"""The manual pages, the completions and ip's names say what the program says.

The pages are read as they are written, in mdoc(7): an option of the command line is `.Fl -NAME`
under its command's `.It Ic NAME`, an option of the configuration `.It Cm NAME` in its section.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_INET

import pytest

from mproutd.cli import _parser
from mproutd.commands import FAILED, INVALID, NOT_RUNNING, OK
from mproutd.configuration.options import MODES, OPTIONS
from mproutd.configuration.uci import load
from mproutd.hints import Hints
from mproutd.planning.gateways import Gateway
from tests.lab import Namespace

ROOT = Path(__file__).parents[2]
MAN = ROOT / "docs" / "man"
PAGES = sorted(MAN.iterdir())
BASH = ROOT / "packaging" / "completions" / "mproutd.bash"
ZSH = ROOT / "packaging" / "completions" / "_mproutd"
IPROUTE2 = ROOT / "etc" / "iproute2"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Each command of the command line and its parser."""
    (subparsers,) = (
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(subparsers.choices)


def spellings(parser: argparse.ArgumentParser) -> set[str]:
    return {text for action in parser._actions for text in action.option_strings}


COMMANDS = commands()
COMMON = set.intersection(*map(spellings, COMMANDS.values()))


def part(page: str, begin: str, end: str) -> str:
    """What stands between the line `begin` and the next line that begins with `end`."""
    _, marker, rest = (MAN / page).read_text().partition(f"\n{begin}\n")
    assert marker, f"{page} has no line {begin}"
    return re.split(rf"^(?:{end})", rest, maxsplit=1, flags=re.MULTILINE)[0]


def items(text: str, macro: str) -> dict[str, str]:
    """Each `.It MACRO WORD` and the text below it, with nested lists."""
    pieces = re.split(rf"^\.It {macro} (\S+).*\n", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def flags(text: str) -> set[str]:
    """The options that are explained in a list: `.It Fl h , Fl -help`."""
    lines = re.findall(r"^\.It (Fl .*)", text, re.MULTILINE)
    return {f"-{word}" for line in lines for word in re.findall(r"Fl ([^\s,]+)", line)}


# -- the pages ----------------------------------------------------------------------------


def test_the_commands_are_those_of_the_program() -> None:
    assert items(part("mproutd.8", ".Sh COMMANDS", r"\.S[hs] "), "Ic").keys() == COMMANDS.keys()
    synopsis = part("mproutd.8", ".Sh SYNOPSIS", r"\.Sh ")
    assert re.findall(r"^\.Ic (\S+)", synopsis, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_under_it(command: str) -> None:
    own = spellings(COMMANDS[command]) - COMMON
    text = items(part("mproutd.8", ".Sh COMMANDS", r"\.S[hs] "), "Ic")[command]
    assert flags(text) == own
    synopsis = part("mproutd.8", ".Sh SYNOPSIS", r"\.Sh ").split(f"\n.Ic {command}\n")[1]
    named = re.findall(r"Fl (\S+)", synopsis.split("\n.Nm\n")[0])
    assert {f"-{name}" for name in named} == own


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_of_a_command_is_named(command: str) -> None:
    text = items(part("mproutd.8", ".Sh COMMANDS", r"\.S[hs] "), "Ic")[command]
    for action in COMMANDS[command]._actions:
        if not action.option_strings:
            assert f"\n.Ar {action.metavar}" in text


def test_the_options_of_all_commands_and_of_none() -> None:
    text = part("mproutd.8", ".Ss Common options", r"\.Sh ")
    assert flags(text) == COMMON | spellings(_parser())


def test_every_exit_status_of_a_command() -> None:
    text = part("mproutd.8", ".Sh EXIT STATUS", r"\.Sh ")
    named = {int(word) for word in re.findall(r"^\.It (\d+)", text, re.MULTILINE)}
    assert named == {OK, FAILED, INVALID, NOT_RUNNING, 130}


def test_every_variable_that_the_program_reads() -> None:
    pattern = r'(?:environ\.get|environment)\("(\w+)"'
    texts = [file.read_text() for file in (ROOT / "mproutd").rglob("*.py")]
    read = {name for text in texts for name in re.findall(pattern, text)}
    text = part("mproutd.8", ".Sh ENVIRONMENT", r"\.Sh ")
    assert set(re.findall(r"^\.It Ev (\w+)", text, re.MULTILINE)) >= read
    assert {"MPROUTD_CONFIG_DIR", "RUNTIME_DIRECTORY", "NO_COLOR"} <= read  # it finds them


SECTIONS = {
    ("network", "globals"): "config globals 'globals'",
    ("network", "interface"): "config interface 'NAME'",
    ("mproutd", "mproutd"): "config mproutd 'globals'",
    ("mproutd", "uplink"): "config uplink 'NAME'",
    ("mproutd", "member"): "config member 'NAME'",
    ("mproutd", "policy"): "config policy 'NAME'",
    ("mproutd", "rule"): "config rule 'NAME'",
}


def configuration(file: str, kind: str) -> Mapping[str, str]:
    title = SECTIONS[file, kind]
    return items(part("mproutd.conf.5", f".Ss {title}", r"\.S[hs] "), "Cm")


@pytest.mark.parametrize("kind", OPTIONS, ids=" ".join)
def test_every_option_of_the_configuration_with_its_default(kind: tuple[str, str]) -> None:
    text = configuration(*kind)
    assert list(text) == list(OPTIONS[kind])
    for name, known in OPTIONS[kind].items():
        if known.default is None:
            wanted = "No default"
        elif known.default:
            default = r"\&." if known.default == "." else known.default  # mdoc(7)
            wanted = f"Default: .Cm {default}"
        else:
            wanted = "Default: empty"
        words = " ".join(text[name].split()) + " "
        assert re.search(re.escape(wanted) + r"[ .:,]", words), f"{name}: {wanted}"


def test_every_mode_is_in_the_manual() -> None:
    assert items(part("mproutd.conf.5", ".Sh MODES", r"\.Sh "), "Cm").keys() == set(MODES)


def test_the_example_of_the_configuration_is_accepted(tmp_path: Path) -> None:
    examples = part("mproutd.conf.5", ".Sh EXAMPLES", r"\.Sh ")
    texts = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", examples, re.MULTILINE | re.DOTALL)
    for name, text in zip(("network", "mproutd"), texts, strict=True):
        (tmp_path / name).write_text(text)
    config = load(str(tmp_path))
    assert [f"{uplink.name} {uplink.mode}" for uplink in config.uplinks] == [
        "wan1 master",
        "wan2 on",
        "lte handover",
    ]
    assert config.enabled
    assert config.warnings == ()
    assert (config.uplinks[1].mark, config.uplinks[1].mask) == (3, 0xFF)


def test_the_example_of_a_hook_leaves_a_hint(tmp_path: Path) -> None:
    examples = part("mproutd-hooks.7", ".Sh EXAMPLES", r"\.Sh ")
    text = "#!" + examples.split("#!", 1)[1].split("\n.Ed", 1)[0].replace(r"\e", "\\")
    script = text.replace("/run/mproutd", str(tmp_path))
    environment = {"PATH": "/usr/bin:/bin", "DEVICE": "eth2", "GATEWAY": "10.2.2.1"}
    subprocess.run(["sh", "-eu", "-c", script], env=environment, check=True)
    assert Hints(str(tmp_path)).read(["eth2"]) == {
        ("eth2", AF_INET): (Gateway("10.2.2.1", "lease"),)
    }
    assert [file.name for file in Path(f"{tmp_path}-hints").iterdir()] == ["eth2:4"]


def hook_variables(file: Path) -> set[str]:
    """What a hook reads of the environment that its program gives it."""
    text = file.read_text()
    assigned = set(re.findall(r"\b(\w+)=", text)) | {"line"}
    return set(re.findall(r"\$\{?([A-Za-z_]\w+)", text)) - assigned


@pytest.mark.parametrize(
    "hook",
    [
        "if-up.d/mproutd",
        "etc/dhcp/dhclient-exit-hooks.d/mproutd",
        "etc/NetworkManager/dispatcher.d/60-mproutd",
        "hotplug/iface/30-mproutd",
    ],
)
def test_every_variable_that_a_hook_reads_is_in_its_manual(hook: str) -> None:
    read = hook_variables(ROOT / hook)
    assert {"MPROUTD_RUNTIME_DIR"} < read
    lines = re.findall(r"^\.It Ev (.*)", (MAN / "mproutd-hooks.7").read_text(), re.MULTILINE)
    assert read - {name for line in lines for name in line.split(" , ")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_renders_without_a_warning(page: Path) -> None:
    if not shutil.which("man"):
        pytest.skip("needs the program man")
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(
        ["man", "--warnings", "--local-file", str(page)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert f"{page.stem.upper()}({page.suffix[1:]})" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_is_good_mdoc(page: Path) -> None:
    unpacked = ROOT / ".build" / "unpacked" / "usr" / "bin" / "mandoc"
    mandoc = shutil.which("mandoc") or (str(unpacked) if unpacked.exists() else None)
    if not mandoc:
        pytest.skip("needs the program mandoc")
    done = subprocess.run(
        [mandoc, "-T", "lint", "-W", "warning", str(page)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_of_ours_that_is_referred_to_exists(page: Path) -> None:
    named = re.findall(r"^\.Xr (mproutd\S*) (\d)", page.read_text(), re.MULTILINE)
    assert {f"{name}.{section}" for name, section in named} <= {item.name for item in PAGES}
    assert named


# -- completion ---------------------------------------------------------------------------


def bash_completion(*words: str, path: str = "/usr/bin:/bin") -> list[str]:
    """What bash offers for the last of `words`, after the others."""
    script = (
        'set -u; . "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        "complete -p mproutd >&2; _mproutd; "
        '[ ${#COMPREPLY[@]} = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script, str(BASH), "mproutd", *words],
        env={"PATH": path, "HOME": "/root"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "complete -F _mproutd mproutd\n"
    return done.stdout.splitlines()


def test_the_completion_of_bash_passes_shellcheck() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("needs the program shellcheck")
    done = subprocess.run(["shellcheck", "--shell=bash", BASH], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_bash_offers_the_commands() -> None:
    assert bash_completion("") == list(COMMANDS)
    assert bash_completion("rec") == ["reconcile"]
    assert set(bash_completion("-")) == spellings(_parser())


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_offers_the_options_of_a_command(command: str) -> None:
    assert set(bash_completion(command, "-")) == spellings(COMMANDS[command])
    assert bash_completion(command, "--runtime-dir", "/tmp/x", "--he") == ["--help"]


def test_bash_offers_folders_where_a_folder_goes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").write_text("")
    start = f"{tmp_path}/o"
    assert bash_completion("run", "--config-dir", start) == [f"{tmp_path}/one"]
    assert bash_completion("run", "--runtime-dir", "=", start) == [f"{tmp_path}/one"]
    assert f"{tmp_path}/one" in bash_completion("check", start)


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A PATH on which mproutd is this checkout's."""
    script = tmp_path / "bin" / "mproutd"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m mproutd "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:/usr/bin:/bin"


def test_bash_offers_the_uplinks_of_the_configuration(tmp_path: Path, program: str) -> None:
    (tmp_path / "network").write_text(
        "config interface wan1\n\toption device eth1\n\toption multipath master\n"
        "config interface lan\n\toption device eth0\n"
        "config interface lte\n\toption device wwan0\n\toption multipath handover\n"
    )
    line = ("status", "--config-dir", str(tmp_path))
    assert bash_completion(*line, "", path=program) == ["wan1", "lte"]
    assert bash_completion(*line, "w", path=program) == ["wan1"]
    (tmp_path / "network").write_text("")
    assert bash_completion(*line, "", path=program) == []
    (tmp_path / "network").write_text("nonsense\n")
    assert bash_completion(*line, "", path=program) == []


def zsh_parts() -> Iterator[tuple[str, str]]:
    """Each command that zsh's completion knows, and what it does for it."""
    text = ZSH.read_text()
    rest = text.split("case $words[1] in\n", 1)[1].split("\n\t\t\tesac\n", 1)[0]
    yield from re.findall(r"^\t{4}(\w+)\)\n(.*?)^\t{5};;", rest, re.M | re.DOTALL)


def zsh_options(text: str) -> set[str]:
    pairs = {word for pair in re.findall(r"\{(-[^}]*)\}'\[", text) for word in pair.split(",")}
    return pairs | set(re.findall(r"'(?:\([^)]*\))?(--?[\w-]+)\[", text))


def test_zsh_completes_the_commands_with_the_texts_of_the_help() -> None:
    text = ZSH.read_text()
    assert text.startswith("#compdef mproutd\n")
    listed = text.split("commands=(\n", 1)[1].split("\n\t)\n", 1)[0]
    helps = dict(re.findall(r"^\s*'(\w+):(.*)'$", listed, re.MULTILINE))
    (action,) = (
        action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    assert {
        name: text.replace(r"'\''", "'").replace(r"\:", ":") for name, text in helps.items()
    } == {item.dest: item.help for item in action._choices_actions}
    assert [name for name, _ in zsh_parts()] == list(COMMANDS)
    outer = text.split("_arguments -C", 1)[1].split("&& return", 1)[0]
    assert {word for word in re.findall(r"--?[\w]+", outer) if word != "-C"} >= spellings(_parser())


@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_knows_the_options_of_a_command(command: str) -> None:
    common = ZSH.read_text().split("common=(\n", 1)[1].split("\n\t)\n", 1)[0]
    body = dict(zsh_parts())[command]
    assert "$common" in body
    assert zsh_options(common) | zsh_options(body) == spellings(COMMANDS[command])


# -- the names of iproute2 ----------------------------------------------------------------


@pytest.mark.kernel
def test_ip_shows_the_names_of_the_protocol_and_of_the_tables(
    node: Namespace, tmp_path: Path
) -> None:
    """The sample's own lines for uplinks, with their # taken away as it says."""
    shutil.copytree(IPROUTE2, tmp_path / "iproute2")
    sample = tmp_path / "iproute2" / "rt_tables.d" / "mproutd.conf"
    text = sample.read_text()
    assert re.findall(r"^[^#\n].*", text, re.MULTILINE) == ["7000\tmproutd"]
    sample.write_text(re.sub(r"^#(?=\d)", "", text, flags=re.MULTILINE))
    node.run("mount", "-t", "tmpfs", "-o", "mode=755", "lab", "/etc")
    node.run("cp", "-r", str(tmp_path / "iproute2"), "/etc/")

    node.run("ip", "route", "add", "default", "dev", "lo", "table", "7001", "proto", "77")
    node.run("ip", "route", "add", "default", "dev", "lo", "table", "7000", "proto", "mproutd")
    node.run("ip", "rule", "add", "priority", "32765", "lookup", "7000", "protocol", "77")
    shown = node.run("ip", "route", "show", "table", "wan1")
    assert " ".join(shown.split()) == "default dev lo proto mproutd scope link"
    everything = node.run("ip", "route", "show", "table", "all", "proto", "mproutd")
    assert sorted(re.findall(r" table (\S+)", everything)) == ["mproutd", "wan1"]
    assert "from all lookup mproutd proto mproutd" in node.run("ip", "rule", "show")
