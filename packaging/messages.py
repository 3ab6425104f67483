"""The translations of the pages: gathers the texts, and makes Cockpit's catalogs.

    make messages       writes po/templates, updates po/*, writes web/cockpit/po.*.js

The texts are those of the pages and what the daemon says in fixed sentences: reasons, problems
and advice.  The translations are in packaging/openwrt/luci-app-mproutd/po, where LuCI wants them.
"""

from __future__ import annotations

import gettext
import io
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mproutd.planning.uplinks import REASONS  # noqa: E402 (the checkout's)
from mproutd.status.problems import ADVICE, PROBLEMS, TABLE_REMOVED  # noqa: E402

APP = Path("packaging/openwrt/luci-app-mproutd")
PO = APP / "po"
TEMPLATE = PO / "templates/mproutd.pot"
MENU = APP / "root/usr/share/luci/menu.d/luci-app-mproutd.json"
COCKPIT = Path("web/cockpit")

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8"\n\n'
XGETTEXT = "xgettext --language=JavaScript --from-code=UTF-8 --keyword=_ --keyword=N_".split()
XGETTEXT += "--add-location=file --no-wrap --output=-".split()


def run(*argv: str | Path, text: str | None = None) -> str:
    done = subprocess.run(argv, cwd=ROOT, input=text, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{argv[0]}: {done.stderr}")
    return done.stdout


def calls(texts: Iterable[str]) -> str:
    """Texts from elsewhere in the form that xgettext reads."""
    return "".join(f"_({json.dumps(text)});\n" for text in dict.fromkeys(texts))


def scripts(*folders: Path) -> list[str]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.js")]
    return sorted(str(path.relative_to(ROOT)) for path in files if not path.name.startswith("po."))


def daemon_texts() -> list[str]:
    """What the daemon says, as the pages look it up."""
    templates = [text for text in PROBLEMS.values() if text != "{error}"]
    return [*REASONS.values(), *templates, *ADVICE.values(), TABLE_REMOVED]


def menu_titles() -> list[str]:
    return [page["title"] for page in json.loads((ROOT / MENU).read_text()).values()]


def gathered(files: Iterable[str], more: Iterable[str]) -> str:
    """The texts of files, and more, as a template: one entry for each."""
    pot = run(*XGETTEXT, *files, "-", text=calls(more))
    return HEADER + pot.partition("\n\n")[2].replace("standard input", "mproutd")


def template() -> str:
    """The text of the template."""
    more = [*menu_titles(), *daemon_texts()]
    return gathered(scripts(Path("web"), APP / "htdocs"), more)


def catalog(po: Path) -> dict[str, str]:
    """What a file of translations says, text → translation."""
    compiled = subprocess.run(
        ["msgfmt", "--check", "--output-file=-", po], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    catalog = gettext.GNUTranslations(io.BytesIO(compiled.stdout))._catalog  # type: ignore[attr-defined]
    return {text: translation for text, translation in catalog.items() if text}


def messages(po: str) -> set[str]:
    """The texts of a file of translations."""
    entries: list[list[str]] = []
    inside = False
    for line in po.splitlines():
        if line.startswith("msgid "):
            entries.append([json.loads(line[6:])])
        elif line.startswith('"') and inside:
            entries[-1].append(json.loads(line))
        inside = line.startswith(("msgid ", '"')) and (inside or line.startswith("msgid "))
    return {"".join(parts) for parts in entries}


def cockpit_catalog(po: Path, language: str) -> str:
    """The same for Cockpit, of what its page can say."""
    wanted = messages(gathered(scripts(Path("web")), daemon_texts()))
    rows = "".join(
        _row(text, translation)
        for text, translation in sorted(catalog(po).items())
        if text in wanted
    )
    head = f'{{ "language": "{language}", "plural-forms": n => n !== 1 }}'
    return f'// Made by packaging/messages.py.\ncockpit.locale({{\n\t"": {head},\n{rows}}});\n'


def _row(text: str, translation: str) -> str:
    key = json.dumps(text, ensure_ascii=False)
    value = f"[null, {json.dumps(translation, ensure_ascii=False)}]"
    # lintian takes a file with a line of more than 512 characters for generated code.
    between = " " if len(key) + len(value) < 400 else "\n\t\t"
    return f"\t{key}:{between}{value},\n"


def languages() -> dict[str, Path]:
    return {path.parent.name: path for path in (ROOT / PO).glob("*/*.po")}


def main() -> None:
    (ROOT / TEMPLATE).write_text(template())
    for language, po in languages().items():
        update = "msgmerge --update --backup=none --no-fuzzy-matching --no-wrap --quiet".split()
        run(*update, po, ROOT / TEMPLATE)
        po.write_text(run("msgattrib", "--no-obsolete", "--no-wrap", po))
        (ROOT / COCKPIT / f"po.{language}.js").write_text(cockpit_catalog(po, language))


if __name__ == "__main__":
    main()
