"""What hostile input is made of."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

EXAMPLES = "MPROUTD_FUZZ_EXAMPLES"
_AT_LENGTH = EXAMPLES in os.environ
quick = settings(
    max_examples=int(os.environ.get(EXAMPLES, "60")),
    deadline=None,
    derandomize=not _AT_LENGTH,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate] + [Phase.shrink] * _AT_LENGTH,
)
"""What the suite spends on a target, always on the same cases, so that a change is what breaks it.
__main__.py looks for others, longer, and makes what fails small."""

NASTY = (
    "",
    "\n",
    "a\nb=c",
    "'",
    '"',
    "\\",
    "`id`",
    "$(id)",
    ";id",
    "../../etc/passwd",
    "..",
    "/",
    "-n",
    "%s%n",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x7f",
    "\r",
    "\b",
    "\u2028",
    "\u202e",
    "\udcff",
    "\ud800",
    "\U000e0001",
    "é",
    "e\u0301",
    "漢" * 5,
    "x" * 300,
    " ",
    "a b",
    "{}",
    "None",
    "0",
    "-1",
    "4294967296",
    "1e309",
)
"""Pieces that have broken somebody's program once."""

TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=12),
    st.lists(st.sampled_from(NASTY), max_size=3).map("".join),
)
PRINTED = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zl", "Zp", "Zs", "Cn", "Co")), max_size=15
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Real bytes, with a few places changed, cut out, doubled or put in."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(("change", "cut", "double", "insert", "end")))
        if how == "change" and at < len(data):
            data[at] = draw(st.sampled_from((0, 1, 3, 4, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 8))]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 32))]
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "end":
            del data[at:]
    return bytes(data)
