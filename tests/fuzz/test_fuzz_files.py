"""The files that are read: configuration, hints, state.  Any bytes may stand in them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import AF_INET, AF_INET6

from hypothesis import example, given
from hypothesis import strategies as st

from mproutd.configuration import options, parsers, uci
from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.sections import Section
from mproutd.hints import MAX_HINT_BYTES, Hints, hints_directory
from mproutd.model import canonical, family_of, prefix, split_prefix
from mproutd.planning import netifd
from mproutd.planning.state import State, decode, encode
from mproutd.planning.uplinks import Facts
from mproutd.statefile import StateFile
from tests.fuzz.material import JSON, NASTY, TEXTS, mutated, quick
from tests.unit.test_state import MEMORIES

ROOT = Path(__file__).parents[2]


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
        yield Path(directory)


# -- the configuration --------------------------------------------------------------------

SETTINGS = sorted({name for known in options.OPTIONS.values() for name in known})
VALUES = st.one_of(
    TEXTS,
    st.sampled_from(
        ("enable", "on", "master", "off", "backup", "handover", "eth1", "eth2", "@wan1", "7001")
        + ("0x7f000000", "3/0xff", "10.1.1.1", "fe80::1", "1", "0", "8", "255", "client")
    ),
)


@st.composite
def spelt(draw: st.DrawFn, words: st.SearchStrategy[str]) -> str:
    word = draw(words)
    return draw(
        st.sampled_from(
            (
                word,
                "'" + word + "'",
                '"' + word + '"',
                "'" + word.replace("'", "'\\''") + "'",
                '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"',
            )
        )
    )


@st.composite
def uci_texts(draw: st.DrawFn) -> bytes:
    """Statements that are mostly well formed, with values that are mostly not."""
    lines = []
    for _ in range(draw(st.integers(0, 10))):
        keyword = draw(st.sampled_from(("config", "option", "option", "option", "list", "o", "#")))
        if keyword == "config":
            kind = draw(st.sampled_from(("interface", "globals", "mproutd", "uplink", "x")))
            name = draw(spelt(st.sampled_from(("wan1", "wan2", "globals", "")) | TEXTS))
            lines.append(f"config {kind} {name}")
        else:
            name = draw(st.sampled_from(SETTINGS) | TEXTS)
            lines.append(f"\t{keyword} {name} {draw(spelt(VALUES))}")
    text = draw(st.sampled_from(("\n", "\n", "\r\n", " ; "))).join(lines)
    return text.encode("utf-8", "surrogatepass")


def one_line(text: str) -> None:
    """A message for a terminal and a log."""
    assert text.isprintable(), repr(text)
    assert len(text) < 10_000


@quick
@given(mutated(uci_texts()), mutated(uci_texts()) | st.none())
@example(b"config interface 'wan1'\n\toption device '\xc3\xa9\xcc\x81'\n", None)
@example(b"config globals 'globals'\n\toption multipath '\x1b[2J'\n", b"")
@example(b"'" * 50_000, None)
@example(b'"\\' * 50_000, None)
@example(b"config a\n" * 5000, None)
def test_a_configuration_is_read_or_refused_in_one_line(network: bytes, own: bytes | None) -> None:
    with folder() as directory:
        (directory / "network").write_bytes(network)
        if own is not None:
            (directory / "mproutd").write_bytes(own)
        try:
            config = uci.load(str(directory))
        except ConfigError as error:
            one_line(str(error))
            return
    assert isinstance(config, Config)
    for warning in config.warnings:
        one_line(warning)
    for uplink in config.uplinks:
        assert parsers.device(uplink.device) == uplink.device
        assert uplink.name.replace("_", "a").isalnum()
        for address in filter(None, (uplink.gateway, uplink.gateway6)):
            assert canonical(address) == address
        assert uplink.table is None or uplink.table not in (0, 253, 254, 255)


@quick
@given(mutated(uci_texts()))
@example(b"config t 'n'\n\toption v 'a\x0bb'\n")
@example("config t 'n'\n\toption v 'a\u2028b'\n".encode())
@example(b"config t 'n'\n\toption v ' '\n")
@example(b"config t 'n'\n\toption v \"it's\"\n")
@example(b"config t 'n'\n\toption v '''\n")
def test_what_was_read_is_read_again_from_its_plainest_spelling(data: bytes) -> None:
    with folder() as directory:
        file = directory / "network"
        file.write_bytes(data)
        try:
            sections = uci.read(str(file))
        except ConfigError as error:
            one_line(str(error))
            return
        assert sections is not None
        file.write_text(plainest(sections), newline="")
        again = uci.read(str(file))
    assert again is not None
    assert values(again) == values(sections)


def plainest(sections: Iterable[Section]) -> str:
    """The sections as `uci export` writes them: one statement in a line, all in single quotes."""

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "'\\''") + "'"

    lines = []
    for section in sections:
        lines.append(f"config {quoted(section.type)} {quoted(section.name)}")
        for name, option in section.options.items():
            keyword = "list" if option.is_list else "option"
            lines += [f"{keyword} {name} {quoted(value)}" for value in option.values]
    return "\n".join(lines)


def values(sections: Iterable[Section]) -> list[object]:
    return [
        (
            section.type,
            section.name,
            {name: (option.values, option.is_list) for name, option in section.options.items()},
        )
        for section in sections
    ]


# -- hints --------------------------------------------------------------------------------

HINT_LINES = st.lists(
    st.tuples(
        st.sampled_from(("interface", "address", "gateway", "gateway6", "reason", "")) | TEXTS,
        TEXTS | st.sampled_from(("10.2.2.1", "fe80::1", "fe80::1%eth0", "::ffff:10.0.0.1", "1.2")),
    ).map("=".join)
).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


@quick
@given(mutated(HINT_LINES))
@example(b"gateway=10.2.2.1\x00\n")
@example(b"gateway=127.0.0.1\ngateway6=ff02::1\n")
@example(b"gateway=\xb2.1.1.1\n")
@example(b"gateway6=::ffff:127.0.0.1\n")
def test_a_hint_names_a_gateway_or_nothing(data: bytes) -> None:
    with folder() as runtime:
        directory = Path(hints_directory(str(runtime / "run")))
        directory.mkdir(mode=0o755)
        (directory / "eth2").write_bytes(data)
        hints = Hints(str(runtime / "run"))
        decoded = hints.read(["eth2"])
        assert bool(hints.error) == (len(data) > MAX_HINT_BYTES)
    for (device, family), gateways in decoded.items():
        assert device == "eth2"
        for gateway in gateways:
            assert canonical(gateway.address) == gateway.address
            assert family_of(gateway.address) == family
            assert family in (AF_INET, AF_INET6)
            assert not gateway.address.startswith(("127.", "0.", "ff", "224."))
            assert gateway.address not in ("::", "::1")


# -- the state file -----------------------------------------------------------------------


@st.composite
def damaged_states(draw: st.DrawFn) -> object:
    """A memory of ours, with values of another kind in it."""
    state = encode(draw(MEMORIES))
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(state)))
        value = state[key]
        if isinstance(value, list) and value and draw(st.booleans()):
            position = draw(st.integers(0, len(value) - 1))
            value[position] = draw(JSON)
        else:
            state[key] = draw(JSON)
    return state


def is_a_memory(state: State) -> None:
    """Values of the right kind everywhere, since plans are made of them."""
    for address, device in state.endpoints:
        assert canonical(address) == address
        assert type(device) is int
    for number in (*state.slots.values(), *state.tables, *state.priorities):
        assert type(number) is int
        assert 0 <= number < 1 << 32
    assert decode(encode(state)) == state


@quick
@given(damaged_states())
def test_a_damaged_state_is_a_memory_or_refused(data: object) -> None:
    try:
        state = decode(data)
    except ValueError:
        return
    is_a_memory(state)


@quick
@given(mutated(MEMORIES.map(lambda state: json.dumps(encode(state)).encode())))
@example(b"[" * 100_000)
@example(b'{"version": ' + b"9" * 5000 + b"}")
@example(b"\xff\xfe")
@example(b'{"version": 1, "version": NaN}')
def test_any_bytes_may_be_the_state_file(data: bytes) -> None:
    with folder() as runtime:
        (runtime / "state.json").write_bytes(data)
        state = StateFile(str(runtime))
        state.load()
        if state.error:
            assert state.state == State()
            assert str(runtime) in state.error
        is_a_memory(state.state)
        kept = State(slots={"wan1": 1}, without_endpoint=frozenset(("10.1.1.2",)))
        state.save(kept)
        assert state.error == ""
        again = StateFile(str(runtime))
        again.load()
        assert (again.state, again.error) == (kept, "")
        assert os.listdir(runtime) == ["state.json"]


@quick
@given(st.sampled_from(NASTY) | TEXTS)
def test_a_device_name_of_the_configuration_is_no_path(text: str) -> None:
    """What parsers.device lets through names a file in the hints' folder, and none elsewhere."""
    try:
        name = parsers.device(text)
    except ValueError as error:
        one_line(str(error))
        return
    with folder() as runtime:
        (runtime / "hints").mkdir(mode=0o755)
        path = os.path.join(runtime, "hints", name)
        assert os.path.dirname(os.path.normpath(path)) == str(runtime / "hints")
        assert Hints(str(runtime)).read([name]) == {}


# -- netifd -------------------------------------------------------------------------------

DUMPED = sorted(
    {key for name in ("up", "wan2-down") for interface in json.loads(
        (ROOT / f"tests/fixtures/netifd/interface-dump-{name}.json").read_text()
    )["interface"] for key in interface}
)  # fmt: skip
HOPS = st.fixed_dictionaries(
    {},
    optional={
        "target": st.sampled_from(("0.0.0.0", "::")) | JSON,
        "mask": st.sampled_from((0, False, "0")) | JSON,
        "nexthop": st.sampled_from(("10.1.1.1", "fe80::1", "0.0.0.0", "::", "127.0.0.1")) | JSON,
        "source": st.sampled_from(("0.0.0.0/0", "::/0", "2001:db8::/64")) | JSON,
    },
)
PREFIXES = st.fixed_dictionaries(
    {}, optional={"address": st.just("2001:db8:77::") | JSON, "mask": st.integers(-1, 300) | JSON}
)
INTERFACES = st.fixed_dictionaries(
    {"interface": TEXTS | JSON, "up": st.just(True) | JSON},
    optional={
        "l3_device": st.sampled_from(("eth1", "../x", "a b")) | JSON,
        "route": st.lists(HOPS | JSON, max_size=3) | JSON,
        "inactive": st.fixed_dictionaries({"route": st.lists(HOPS, max_size=2) | JSON}) | JSON,
        "ipv6-prefix": st.lists(PREFIXES | JSON, max_size=3) | JSON,
        "ip4table": st.sampled_from((100, "100", 254, -1, True)) | JSON,
        "ip6table": JSON,
        **{key: JSON for key in DUMPED if key not in ("interface", "up")},
    },
)


@quick
@given(
    mutated(
        st.lists(INTERFACES, max_size=3).map(lambda all: json.dumps({"interface": all}).encode())
    )
    | mutated(JSON.map(lambda value: json.dumps(value).encode()))
)
@example(b"[" * 100_000)
@example(b'{"interface": [{"interface": "x", "up": true, "ip4table": 1e309}]}')
def test_any_answer_of_netifd_is_facts_or_a_value_error(data: bytes) -> None:
    try:
        interfaces = netifd.parse_dump(data.decode("utf-8", "replace"))
    except ValueError:
        return
    facts = netifd.add_netifd_facts(interfaces, Facts())
    for (device, family), ways in facts.gateways.items():
        assert parsers.device(device) == device
        for gateway in ways:
            assert gateway.address == "" or canonical(gateway.address) == gateway.address
            assert gateway.address == "" or family_of(gateway.address) == family
    for number in facts.tables.values():
        assert number not in (0, 253, 254, 255)
    for prefixes in facts.prefixes.values():
        for delegated in prefixes:
            packed, length = split_prefix(delegated, AF_INET6)
            assert prefix(packed, length, AF_INET6) == delegated
            assert length >= netifd.SHORTEST_PREFIX
