"""Generated parts of a page, each between `<!-- NAME -->` and `<!-- end -->`."""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab.namespace import LabError

END = "<!-- end -->"


def filled(page: str, texts: Mapping[str, str]) -> str:
    """A page with these texts, by name, in their places.  LabError where one has none."""
    for name, text in texts.items():
        before, begin, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise LabError(f"no place for the text {name}: <!-- {name} --> and {END}")
        lines = text.rstrip("\n") + "\n" if text else ""
        page = f"{before}{begin}{lines}{end}{after}"
    return page
