"""web/cockpit/uci.js beside the daemon's own parser: the mode changes, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mproutd.configuration.config import Config, ConfigError
from mproutd.configuration.uci import load
from mproutd.configuration.uci_parser import parse_statements
from tests.browser.chromium import Chromium
from tests.browser.cockpit import URL, Cockpit
from tests.lab import Daemon, Namespace

ROUNDS = 300
MODES = ("on", "backup", "handover", "off")
"""Without master: of two, one is none."""


@pytest.fixture(scope="module")
def node() -> Iterator[Namespace]:
    with Namespace("editor") as made:
        yield made


@pytest.fixture(scope="module")
def browser(node: Namespace) -> Iterator[Chromium]:
    """A page with `edit(files, uplink, mode)` of the editor."""
    with Cockpit(Daemon(node)), Chromium(node) as opened:
        opened.open(URL)
        opened.script(
            "const module = await import(new URL('uci.js', location.href));"
            "window.edit = module.filesWithMode;"
        )
        yield opened


def edited(
    browser: Chromium, files: dict[str, Any], name: str, device: str, mode: str
) -> dict[str, Any]:
    changed = browser.script(
        "return edit(a[0], { key: a[1], device: a[2] }, a[3])", files, name, device, mode
    )
    return {**files, **changed}


def read(folder: Path, files: dict[str, str]) -> Config:
    for name, text in files.items():
        (folder / name).write_text(text)
    return load(str(folder))


def options(files: dict[str, str]) -> list[tuple[str, str, str]]:
    """Every statement but the modes."""
    return [
        (statement.keyword, statement.name, statement.value)
        for name, text in files.items()
        for statement in parse_statements(name, text)
        if statement.name != "multipath"
    ]


SPELLINGS = ("{}", "'{}'", '"{}"', "'{}'''", "\\{}", "''{}")


class Files:
    """Random files of one to four uplinks, spelt in every way that UCI has."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random
        self.uplinks = [(f"wan{n}", f"eth{n}") for n in range(1, pick.randint(2, 5))]
        network, own = ["config globals globals\n\toption multipath enable\n"], []
        for name, device in self.uplinks:
            where = pick.choice(("network", "both", "own", "neither", "family"))
            mode = pick.choice(MODES)
            lines = [self.option("device", device)]
            if where == "own":
                own += [self.head("uplink", name), *lines, self.option("multipath", mode)]
                continue
            if where in ("network", "both", "family"):
                lines.append(self.option("multipath", mode))
            pick.shuffle(lines)
            network += [self.head("interface", name), *lines]
            if where == "family":
                network += [self.head("interface", f"{name}6"), self.option("device", f"@{name}")]
                network += [self.option("multipath", mode)] * pick.randint(0, 1)
            if where in ("both", "neither"):
                own.append(self.head("uplink", name))
            if where == "both":
                own.append(self.option("multipath", mode))
        self.texts = {"network": "".join(network), "mproutd": "".join(own)}
        if pick.random() < 0.2:
            self.texts = {name: text.rstrip("\n") for name, text in self.texts.items()}

    def word(self, value: str) -> str:
        return self.random.choice(SPELLINGS).format(value)

    def noise(self) -> str:
        return self.random.choice(("", "", "\n", "# config interface 'x'\n", "\t\n", "\r\n"))

    def end(self) -> str:
        return self.random.choice(("\n", "\n", " # multipath\n", "\t\n", "\r\n"))

    def head(self, kind: str, name: str) -> str:
        keyword = self.random.choice(("config", "config", "c"))
        return f"{self.noise()}{keyword} {self.word(kind)} {self.word(name)}{self.end()}"

    def option(self, name: str, value: str) -> str:
        keyword = self.random.choice(("option", "option", "o", "\toption", "  option"))
        gap = self.random.choice((" ", "\t", "\\\n "))
        return f"{self.noise()}{keyword} {self.word(name)}{gap}{self.word(value)}{self.end()}"


def test_the_mode_changes_and_nothing_else_does(browser: Chromium, tmp_path: Path) -> None:
    changed = 0
    for seed in range(ROUNDS):
        files = Files(seed)
        try:
            before = read(tmp_path, files.texts)
        except ConfigError:
            continue  # modes that do not agree, or an uplink that is in neither file
        name, device = files.random.choice(files.uplinks)
        mode = files.random.choice(MODES)
        uplink = next((uplink for uplink in before.uplinks if uplink.name == name), None)
        if uplink is None:
            continue
        after_texts = edited(browser, files.texts, name, device, mode)
        after = read(tmp_path, after_texts)
        wanted = {uplink.name: uplink.mode for uplink in before.uplinks} | {name: mode}
        modes = {uplink.name: uplink.mode for uplink in after.uplinks}
        assert modes == wanted, (seed, files.texts, after_texts)
        assert after_texts == files.texts or options(after_texts) == options(files.texts), seed
        changed += after_texts != files.texts
    assert changed > ROUNDS / 4


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("config interface wan\n\toption multipath on", "on → off"),
        ("config interface wan # here\n", "added"),
        ("config interface wan", "added"),
        ("config interface wan\n\toption multipath\n", "given"),
        ("config interface wan\n option multipath on\n option multipath 'on'\n", "last"),
        ("config uplink wan\n\toption multipath on\n", "none"),
    ],
)
def test_special_cases(browser: Chromium, text: str, wanted: str) -> None:
    changed = edited(browser, {"network": text, "mproutd": ""}, "wan", "eth0", "off")["network"]
    assert (
        changed
        == {
            "on → off": "config interface wan\n\toption multipath 'off'",
            "added": text.rstrip("\n") + "\n\toption multipath 'off'" + "\n" * text.count("\n"),
            "given": "config interface wan\n\toption multipath 'off'\n",
            "last": "config interface wan\n option multipath on\n option multipath 'off'\n",
            "none": text,
        }[wanted]
    )


def test_a_missing_file_is_an_empty_one(browser: Chromium) -> None:
    files = {"network": "config interface wan\n\toption multipath on\n", "mproutd": None}
    changed = edited(browser, files, "wan", "", "off")
    assert changed["mproutd"] is None
    assert "'off'" in changed["network"]
