"""The hooks under any environment: nothing runs, nothing is written but a hint, nobody is held up.

Each injection writes a file named `pwned` where the shell stands: one file anywhere is a find.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mproutd.hints import MAX_HINT_BYTES, Hints
from tests.fuzz.material import NASTY, quick
from tests.packaging.test_hooks import DHCLIENT, IFUP, LEASE, PATH, STANZA

HOTPLUG = Path(__file__).parents[2] / "hotplug/iface/30-mproutd"
SHELLS = [
    words for words in (["dash"], ["busybox", "sh"]) if shutil.which(words[0])
] or [["sh"]]  # fmt: skip
HOTPLUGGED = {
    "ACTION": "ifup",
    "INTERFACE": "wan",
    "DEVICE": "eth2",
    "IFUPDATE_ADDRESSES": "",
    "IFUPDATE_DATA": "1",
}
HOOKS = {
    "dhclient": (DHCLIENT, {**LEASE, "new_rfc3442_classless_static_routes": ""}),
    "if-up": (IFUP, STANZA),
    "hotplug": (HOTPLUG, HOTPLUGGED),
}
INJECTIONS = (
    "$(: >pwned)",
    "`: >pwned`",
    ";: >pwned;",
    "'; : >pwned; '",
    '"; : >pwned; "',
    "\n: >pwned\n",
    "|: >pwned",
    "&: >pwned",
    "a[$(: >pwned)]",
    "${x:-$(: >pwned)}",
    "10.2.2.1 $(: >pwned)",
    "%s%c%999999999d",
    "\\047; : >pwned; \\047",
    "../pwned",
    "/../../pwned",
    "*",
    "?",
    "[!a]",
    "~",
    "-e",
    "10.2.2.1\ngateway=6.6.6.6",
    "fe80::1\ngateway6=6::6",
)
ENVIRONED = st.one_of(
    st.sampled_from(INJECTIONS),
    st.sampled_from(NASTY),
    st.lists(st.sampled_from(INJECTIONS + NASTY), min_size=1, max_size=3).map("".join),
    st.text(st.characters(exclude_characters="\0"), max_size=20),
)
LINE = re.compile(
    rb"interface=[^\x00-\x1f\x7f]+|address=[0-9.]+|gateway=[0-9.]+|gateway6=[0-9A-Fa-f:.]+"
    rb"|dns=[0-9A-Fa-f:. ]+"
    rb"|reason=[A-Za-z0-9-]+"
)


@st.composite
def environments(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    hook = draw(st.sampled_from(sorted(HOOKS)))
    known = HOOKS[hook][1]
    hostile = draw(st.dictionaries(st.sampled_from(sorted(known)), ENVIRONED, max_size=4))
    unset = draw(st.sets(st.sampled_from(sorted(known)), max_size=2))
    more = draw(
        st.dictionaries(
            st.sampled_from(("IFS", "hint", "hints", "new", "nl", "runtime", "line", "TMPDIR")),
            ENVIRONED,
            max_size=2,
        )
    )
    return hook, {**{key: known[key] for key in known if key not in unset}, **hostile, **more}


@settings(quick, max_examples=max(40, quick.max_examples // 4))
@given(environments())
@example(("dhclient", LEASE | {"interface": "../pwned"}))
@example(("if-up", STANZA | {"IFACE": "-e", "LOGICAL": "$(: >pwned)"}))
@example(("hotplug", HOTPLUGGED | {"INTERFACE": "`: >pwned`", "ACTION": "ifupdate"}))
def test_no_variables_do_more_than_be_values(case: tuple[str, dict[str, str]]) -> None:
    under(*case)


@pytest.mark.parametrize(
    ("hook", "variable"),
    [(hook, variable) for hook, (_, known) in HOOKS.items() for variable in known],
)
def test_no_variable_does_more_than_be_a_value(hook: str, variable: str) -> None:
    known = HOOKS[hook][1]
    for text in (
        "$(: >pwned)",
        "'; : >pwned; '\"; : >pwned; \"",
        f"{known[variable]}`: >pwned`\n: >pwned\n",
    ):
        under(hook, {**known, variable: text})


def under(hook: str, variables: dict[str, str]) -> None:
    """Run it with these, and look at what is there afterwards."""
    given_ = {
        key: value.encode("utf-8", "surrogateescape" if "\udcff" in value else "replace")
        for key, value in variables.items()
        if "\0" not in value and "\ud800" not in value
    }
    file = HOOKS[hook][0]
    if not file.exists():
        pytest.skip(f"no {file.name}")
    for shell in SHELLS:
        with tempfile.TemporaryDirectory(prefix="fuzz") as directory:
            runtime, stands = Path(directory, "run"), Path(directory, "stands")
            runtime.mkdir(mode=0o755)
            stands.mkdir()
            folder = Path(directory, "run-hints")
            folder.mkdir(mode=0o755)
            sourced = [*shell, "-c", '. "$1"', "sh", str(file)]
            done = subprocess.run(
                [*shell, str(file)] if hook == "if-up" else sourced,
                env={b"HOME": os.fsencode(stands)}
                | {os.fsencode(key): value for key, value in given_.items()}
                | {b"PATH": PATH.encode(), b"MPROUTD_RUNTIME_DIR": os.fsencode(runtime)},
                cwd=stands,
                capture_output=True,
                timeout=10,
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), shell
            assert os.listdir(stands) == []
            assert sorted(os.listdir(directory)) == ["run", "run-hints", "stands"]
            assert os.listdir(runtime) == []
            for hint in folder.iterdir():
                assert hint.is_file()
                assert hint.stat().st_size <= MAX_HINT_BYTES
                if hook == "hotplug":
                    assert (hint.name, hint.stat().st_size) == (".netifd", 0)
                    continue
                assert hint.name.endswith((":4", ":6")), hint
                for line in hint.read_bytes().splitlines():
                    assert LINE.fullmatch(line), line
                hints = Hints(str(runtime))
                hints.read([os.fsdecode(hint.name)[:-2]])
                assert hints.error == ""
