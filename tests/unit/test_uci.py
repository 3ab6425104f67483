"""Reading the two files: the same from both readers, and one line for what cannot be read.

libuci is on OpenWrt and hardly anywhere else.  Where it is missing, its half is
skipped, and a stand-in takes its place that has pyuci's interface (a dictionary of
sections, tuples for lists, exceptions without a text) and reads the file it is
pointed to, so that the exchange with libuci is tested all the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mproutd.configuration import uci
from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.sections import Option, Section
from mproutd.configuration.uci_parser import parse_sections

ROOT = Path(__file__).parents[2]


def libuci_missing() -> str:
    try:
        from uci import Uci  # noqa: F401
    except ImportError as error:
        return f"no pyuci with libuci here ({error})"
    return ""


class StandIn:
    """pyuci's class as far as it is used; the grammar is a small one of its own."""

    def __init__(self, savedir: str, confdir: str) -> None:
        assert not os.path.exists(os.path.join(savedir, "network"))
        self.confdir = confdir

    def get(self, package: str) -> dict[str, dict[str, str | tuple[str, ...]]]:
        assert package.replace("_", "a").isalnum(), "what libuci takes for the name of a file"
        text = Path(self.confdir, package).read_bytes().decode()
        sections: dict[str, dict[str, str | tuple[str, ...]]] = {}
        for section in parse_sections("", text):
            name = section.name or f"cfg{len(sections):06x}"
            sections[name] = {
                key: option.values if option.is_list else option.values[0]
                for key, option in section.options.items()
            }
        return sections


@pytest.fixture(params=["parser", "libuci", "stand-in"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "libuci":
        if why := libuci_missing():
            pytest.skip(why)
    else:
        module = types.ModuleType("uci")
        if request.param == "stand-in":
            module.Uci = StandIn  # type: ignore[attr-defined]
            module.UciException = type("UciException", (Exception,), {})  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "uci", module)
    return str(request.param)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return tmp_path / "network"


def refusal(directory: Path) -> str:
    """The one line, with the directory cut off."""
    with pytest.raises(ConfigError) as caught:
        uci.load(str(directory))
    return str(caught.value).replace(f"{directory}/", "")


def outcome(directory: Path) -> str:
    """The one line, or nothing where there is a configuration."""
    try:
        uci.load(str(directory))
    except ConfigError as error:
        return str(error)
    return ""


SPELLINGS = {
    # one value as libuci takes it, in the ways that it may be written
    "bare": ("option v eth1", "eth1"),
    "single quotes": ("option v 'a b'", "a b"),
    "double quotes": ('option v "a b"', "a b"),
    "the other quotes inside": ("""option v "it's" """, "it's"),
    "a quote as uci itself writes it": (r"option v 'it'\''s'", "it's"),
    "a backslash in double quotes": (r'option v "a\"b\\c"', 'a"b\\c'),
    "a backslash in single quotes is one": (r"option v 'a\b'", r"a\b"),
    "a backslash outside": (r"option v a\ b\#c", "a b#c"),
    "parts put together": ("""option v a'b'"c"d""", "abcd"),
    "a line continued": ("option v a\\\nb", "ab"),
    "a line continued in double quotes": ('option v "a\\\nb"', "ab"),
    "two lines": ("option v 'a\n\tb'", "a\n\tb"),
    "a comment": ("option v a # b", "a"),
    "a comment at once": ("option v a#b", "a"),
    "a comment with quotes": ("option v 'a' # say 'b'", "a"),
    "a comment with a single quote": ("option v 'a' # it's", "a"),
    "a comment sign in quotes": ("option v 'a # b'", "a # b"),
    "a semicolon in quotes": ("option v 'a;b'", "a;b"),
    "the name in quotes": ("""option 'v' "a" """, "a"),
    "tabs": ("\t\toption\tv\ta", "a"),
    "carriage return": ("option v 'a'\r", "a"),
    "one letter for the keyword": ("o v a", "a"),
    "not ASCII": ("option v 'é\u2028\x85x'", "é\u2028\x85x"),
    "control characters": ("option v 'a\x01\b\x1cb'", "a\x01\b\x1cb"),
    "a blank at the end": ("option v 'a '", "a "),
    "quotes in double quotes, twice": ("""option v "'a' 'b'" """, "'a' 'b'"),
    "nothing": ("option v ''", None),
    "no value at all": ("option v", None),
    "set twice": ("option v a\noption v bc", "bc"),
    "set twice, the second time to nothing": ("option v a\noption v ''", "a"),
    "a list": ("list v a\nlist v 'b c'", ("a", "b c")),
    "a list with nothing in it": ("list v ''\nlist v b", ("", "b")),
    "an option, then a list": ("option v a\nlist v b", ("a", "b")),
    "a list, then an option": ("list v a\noption v b", "b"),
}


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_value(
    reader: str, network: Path, text: str, expected: str | tuple[str, ...] | None
) -> None:
    network.write_text(f"config t 'n'\n{text}\noption last '1'\n", newline="")
    sections = uci.read(str(network))
    assert sections is not None
    (section,) = sections
    assert (section.type, section.name, section.line) == ("t", "n", 1)
    assert section.options["last"].values == ("1",)
    option = section.options.get("v")
    if expected is None:
        assert option is None
    else:
        assert option is not None
        assert option.is_list == isinstance(expected, tuple)
        assert option.values == (expected if isinstance(expected, tuple) else (expected,))


def test_lines_and_sections(reader: str, network: Path) -> None:
    network.write_text(
        "package network\n\n# a comment\nconfig wifi-device 'radio0'\n\toption a '1\n2'\n"
        "\tlist l x\n\n\tlist l y\nconfig t\n\toption a 1\nconfig t\nconfig u n\n\toption a 1\n"
        "config t ''\nconfig u n\n\toption a 2"
    )
    assert uci.read(str(network)) == tuple(
        Section(str(network), line, kind, name, options)
        for line, kind, name, options in (
            (4, "wifi-device", "radio0", {
                "a": Option(("1\n2",), (5,)), "l": Option(("x", "y"), (7, 9), True)
            }),
            (10, "t", "", {"a": Option(("1",), (11,))}),
            (12, "t", "", {}),
            (13, "u", "n", {"a": Option(("2",), (17,))}),
            (15, "t", "", {}),
        )
    )  # fmt: skip


MALFORMED = {
    "conifg interface a": (1, "'conifg' 'config'"),
    "{}": (1, "'{}'"),
    "'config' a": (1, "'config' quoted"),
    "option a b": (1, "option before config"),
    "config": (1, "config type"),
    "config a\n\n  option": (3, "option name"),
    "config a\n\n  option ''": (3, "option name"),
    "config a b c": (1, "'c' quotes"),
    "config a\noption desc my line": (2, "'line' quotes"),
    "config a wan-1": (1, "'wan-1' section name"),
    "package a b": (1, "'b' quotes"),
    "package 'a b'": (1, "'a b' package name"),
    "config a\noption b-c d": (2, "'b-c' option name"),
    "config é": (1, "'é' section type"),
    "config a\noption b 'c\noption d e\n": (2, "unterminated '"),
    'config a\noption b "c\noption d e\n': (2, 'unterminated "'),
    "config a\noption b c;option d e": (2, "';' per line"),
    "config a n\nconfig b n": (2, "'n' 'b' 'a' line 1"),
}
"""Text → the line of the mistake, and what its message has to name."""


@pytest.mark.parametrize(("text", "expected"), MALFORMED.items(), ids=map(repr, MALFORMED))
def test_malformed(reader: str, network: Path, text: str, expected: tuple[int, str]) -> None:
    network.write_text(text)
    line, facts = expected
    message = refusal(network.parent)
    assert message.startswith(f"network:{line}: ")
    assert [fact for fact in facts.split() if fact not in message.partition(": ")[2]] == []
    assert message.isprintable()


def test_a_file_that_libuci_alone_refuses(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(StandIn):
        def get(self, package: str) -> dict[str, dict[str, str | tuple[str, ...]]]:
            raise error

    module = types.ModuleType("uci")
    module.Uci = Refusing  # type: ignore[attr-defined]
    module.UciException = type("UciException", (Exception,), {})  # type: ignore[attr-defined]
    error = module.UciException()
    monkeypatch.setitem(sys.modules, "uci", module)
    network.write_text("config a\n")
    assert refusal(network.parent).startswith("network: libuci cannot read it")


SAVED = """
mount -t tmpfs none /tmp && mkdir -p /tmp/.uci /tmp/config && cd /tmp/config
printf "config interface wan\\n option device eth1\\n option multipath on\\n" > network
echo "network.wan.multipath=backup" > /tmp/.uci/network
exec "$@"
"""
ASKED = """
from uci import Uci
from mproutd.configuration.uci import load
print(Uci(confdir="/tmp/config").get("network", "wan", "multipath").strip())
print(load("/tmp/config").uplinks[0].mode)
"""


@pytest.mark.kernel
@pytest.mark.skipif(bool(libuci_missing()), reason=libuci_missing())
def test_what_is_saved_and_not_committed_does_not_count() -> None:
    """`uci set` alone: libuci gives the new value to whoever asks it by the file's name."""
    argv = ["unshare", "-m", "sh", "-ec", SAVED, "sh", sys.executable, "-c", ASKED]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["backup", "on"]


def test_libuci_that_reads_something_else(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Losing(StandIn):
        def get(self, package: str) -> dict[str, dict[str, str | tuple[str, ...]]]:
            return {name: {} for name in super().get(package)}

    module = types.ModuleType("uci")
    module.Uci = Losing  # type: ignore[attr-defined]
    module.UciException = type("UciException", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uci", module)
    network.write_text("config a\n option b c\n")
    assert refusal(network.parent).startswith("network: libuci reads it differently")


# -- the files themselves ----------------------------------------------------------


def test_no_network_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "network: no such file"
    assert refusal(tmp_path / "nowhere") == "network: no such file"


def test_no_mproutd_file(reader: str, network: Path) -> None:
    network.write_text("config globals globals\n option multipath enable\n")
    assert uci.load(str(network.parent)) == Config()


def test_a_bad_mproutd_file_is_named(reader: str, network: Path) -> None:
    network.write_text("")
    network.with_name("mproutd").write_text("config uplink wan\n option device eth1\n option x y\n")
    assert refusal(network.parent) == "mproutd:3: uplink 'wan', option 'x': unknown option"


@pytest.mark.parametrize("name", ["network", "mproutd"])
def test_a_directory_or_a_fifo_instead_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "network").write_text("")
    file = tmp_path / name
    file.unlink(missing_ok=True)
    file.mkdir()
    assert refusal(tmp_path) == f"{name}: is a directory"
    file.rmdir()
    os.mkfifo(file)
    assert refusal(tmp_path) == f"{name}: is not a regular file"


@pytest.fixture
def nobody() -> Iterator[None]:
    """Somebody without privileges, for as long as the test takes."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


def test_no_permission(
    network: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    network.write_text("")
    network.chmod(0)
    network.parent.chmod(0o755)
    monkeypatch.chdir(network.parent)  # whose parents are closed to others
    request.getfixturevalue("nobody")
    assert refusal(Path()) == "network: permission denied"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"config a\noption b '\xff'\n", "network:2: byte 0xff is not UTF-8"),
        (b"config a\nlist b \xc3\xbc\nlist b '\xfc'\n", "network:3: byte 0xfc is not UTF-8"),
        ("config a\n".encode("utf-16"), "network: is UTF-16; save it as UTF-8"),
        (b"config a\n\noption b '\0'\n", "network:3: contains a NUL byte"),
        (b"#" * (1 << 20) + b"\n", "network: is larger than 1 MiB, too large for a configuration"),
    ],
)
def test_no_text(network: Path, data: bytes, line: str) -> None:
    network.write_bytes(data)
    assert refusal(network.parent) == line


def test_a_comment_in_latin_1(network: Path) -> None:
    network.write_bytes(b"# B\xfcro\nconfig a # \xe4\n\toption b '\xc3\xbc'\n")
    (section,) = uci.read(str(network)) or ()
    assert section.options["b"].values == ("\u00fc",)


def test_a_name_that_is_no_name(tmp_path: Path) -> None:
    assert refusal(Path("/nowhere/\x1b[2J\n")) == "network: no such file".replace(
        "network", r"/nowhere/\x1b[2J\n/network"
    )
    assert refusal(tmp_path / ("n" * 300)) == "network: file name too long"


@pytest.mark.parametrize(
    "piece",
    [
        "config interface\n option multipath x\n",
        "config interface a\n option device @b\n option multipath on\n",
        "list iif a\n",
        "option a 'b'\\\n",
        "a'b\"",
        "\\",
        "'" * 2,
    ],
    ids=repr,
)
@pytest.mark.timeout(60)
def test_the_largest_file_ends_too(network: Path, piece: str) -> None:
    text = "config interface a\n" + piece * (1_040_000 // len(piece))
    network.write_text(text)
    assert outcome(network.parent).isprintable()


@pytest.mark.timeout(60)
def test_a_great_many_different_aliases_end_too(network: Path) -> None:
    network.write_text(
        "".join(f"config interface a{n}\n option device @a{n + 1}\n" for n in range(20_000))
        + "config interface b\n option device @a0\n option multipath on\n"
    )
    assert "too many aliases" in refusal(network.parent)


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            ["config ", "option ", "list ", "interface", "uplink", "mproutd", " 'wan'", "\n", "\n",
             "\t", "'", '"', "\\", "#", ";", "device", "multipath", " 'eth1'", " on", " '@wan'",
             "globals", " 'globals'", " enable", "table", "mark", " 3/0xff", "\r\n", "\\\n", "x"]
        ),
        st.text(max_size=3),
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(PIECES, PIECES)
@example("config t\noption v '\\'\n", "config mproutd\nlist role ''\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_a_config_or_one_line(
    network: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    monkeypatch.setitem(sys.modules, "uci", types.ModuleType("uci"))
    network.write_bytes(first.encode(errors="replace"))
    network.with_name("mproutd").write_bytes(second.encode(errors="replace"))
    assert outcome(network.parent).isprintable()


QUOTED = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(QUOTED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_uci_writes_is_read_back(
    network: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setitem(sys.modules, "uci", types.ModuleType("uci"))
    written = value.replace("'", r"'\''")
    network.write_text(f"config t\n\toption v '{written}'\n", newline="")
    sections = uci.read(str(network))
    assert sections is not None
    assert sections[0].options["v"].values == (value,)


# -- what comes with the project ---------------------------------------------------


@pytest.mark.parametrize("text_of", ["as it is", "with every option set"])
def test_the_samples(reader: str, tmp_path: Path, text_of: str) -> None:
    for name in ("network", "mproutd"):
        text = (ROOT / "etc/mproutd" / name).read_text()
        if text_of != "as it is":
            lines = (line.lstrip("#") if line[:1] == "#" else line for line in text.splitlines())
            text = "\n".join(
                line for line in lines if line.split()[:1] in (["config"], ["option"], ["list"])
            )
        (tmp_path / name).write_text(text)
    config = uci.load(str(tmp_path))
    assert not config.enabled
    names = [uplink.name for uplink in config.uplinks]
    assert names == ([] if text_of == "as it is" else ["wan1", "wan2", "lte"])


def test_both_systems_get_the_same_sample() -> None:
    one, other = (ROOT / "etc" / system / "mproutd" for system in ("mproutd", "config"))
    assert one.read_text() == other.read_text()


def test_the_recording_of_netifd(reader: str) -> None:
    config = uci.load(str(ROOT / "tests/fixtures/netifd"))
    assert [f"{u.name} {u.device} {u.mode}" for u in config.uplinks] == [
        "wan1 w1 master",
        "wan2 w2 on",
        "wan3 w3 backup",
        "lte wwan0 handover",
    ]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    network = tmp_path / "network"
    network.write_bytes(b"\xef\xbb\xbfconfig interface 'wan'\n\toption device 'eth1'\n")
    (section,) = uci.read(str(network)) or ()
    assert (section.name, section.line) == ("wan", 1)


def test_an_override_counts_instead_of_openwrts_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, overrides, elsewhere = (tmp_path / name for name in ("config", "uci", "elsewhere"))
    for folder, name in ((own, "dsl"), (overrides, "lte"), (elsewhere, "fibre")):
        folder.mkdir()
        (folder / "network").write_text(
            f"config globals\n\toption multipath enable\n"
            f"config interface {name}\n\toption device eth0\n\toption multipath on\n"
        )
    monkeypatch.setattr(uci, "OPENWRT_DIRECTORY", str(own))
    monkeypatch.setattr(uci, "OVERRIDES", str(overrides))

    def names(folder: Path) -> list[str]:
        return [uplink.name for uplink in uci.load(f"{folder}/").uplinks]

    assert names(elsewhere) == ["fibre"]
    assert names(own) == ["lte"]
    (overrides / "mproutd").write_text("config uplink lte\n\toption table x\n")
    with pytest.raises(ConfigError, match=f"^{overrides}/mproutd:2: "):
        names(own)
    (overrides / "network").unlink()
    (overrides / "mproutd").unlink()
    assert names(own) == ["dsl"]
    (overrides / "network").write_text("")
    assert names(own) == []
    (overrides / "network").chmod(0o666)
    assert [str(overrides) in text for text in uci.load(str(own)).warnings] == [True]
