"""docs/openwrt.md: its configuration is accepted, its commands and options are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mproutd.configuration.config import build
from mproutd.configuration.options import MODES, OPTIONS, RULE_SPAN
from mproutd.configuration.uci import load
from tests.lab.openwrt_sdk import Sdk

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "openwrt.md").read_text()
FILES = dict(re.findall(r"<!-- file: (\w+) -->\n```\n(.*?)```", TEXT, re.DOTALL))


def test_its_configuration_is_accepted_as_it_stands(tmp_path: Path) -> None:
    assert FILES.keys() == {"network", "mproutd"}
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    config = load(str(tmp_path))
    assert config.enabled
    assert config.warnings == ()
    assert [(uplink.name, uplink.device, uplink.mode) for uplink in config.uplinks] == [
        ("wan", "wan", "master"),
        ("wanb", "lan4", "on"),
    ]


def test_the_build_keeps_the_feeds_of_the_release(tmp_path: Path) -> None:
    """feeds.conf replaces feeds.conf.default; the steps run in a tree that has only the latter."""
    steps = TEXT.split("## Build the packages", 1)[1].split("\n\n")[2]
    (tmp_path / "feeds.conf.default").write_text("src-git packages https://example.org/p.git\n")
    (tmp_path / "scripts").mkdir()
    for program in ("scripts/feeds", "make"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho "{program} $*" >>log\n')
        (tmp_path / program).chmod(0o755)
    subprocess.run(
        ["sh", "-euc", steps],
        cwd=tmp_path,
        env={"HOME": "/home/me", "PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
    )
    assert (tmp_path / "feeds.conf").read_text().splitlines() == [
        "src-git packages https://example.org/p.git",
        "src-link mproutd /home/me/mproutd/packaging/openwrt",
    ]
    log = (tmp_path / "log").read_text().splitlines()
    assert log[0].startswith("scripts/feeds update ")
    feed = {path.parent.name for path in (ROOT / "packaging/openwrt").glob("*/Makefile")}
    assert set(log[1].removeprefix("scripts/feeds install ").split()) <= feed
    assert log[-1] == "make package/mproutd/compile"


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_its_paragraph_and_its_command(mode: str) -> None:
    part = TEXT.split("## The five modes", 1)[1].split("\n## ", 1)[0]
    assert re.search(
        rf"^\*\*`{mode}`\*\* .*?\n\n    uci set network\.\w+\.multipath='{mode}'\n\n",
        part,
        re.MULTILINE | re.DOTALL,
    )


def test_the_options_that_others_map_to_exist() -> None:
    table = TEXT.split("## Migrating from OpenMPTCProuter", 1)[1].split("\n## ", 1)[0]
    for section, kind in (("NAME", "uplink"), ("globals", "mproutd")):
        named = set(re.findall(rf"`mproutd\.{section}\.([a-z_0-9]+)`", table))
        assert named
        assert named <= set(OPTIONS["mproutd", kind])


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="OpenWrt has 3.13, whose .pyc are smaller")
def test_the_reported_size_is_not_less_than_the_real_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sdk = Sdk(tmp_path_factory.mktemp("sdk") / "top")
    roots = sdk.build(ROOT / "packaging" / "openwrt" / "mproutd" / "Makefile")
    rows = dict(re.findall(r"^\| `(mproutd[\w-]*)` \| .*? \| (\d+) kB \| \d+ kB \|$", TEXT, re.M))
    assert rows.keys() == roots.keys()
    for name, root in roots.items():
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1000
        assert size < 1.25 * float(rows[name]) + 1, f"{name}: {size:.0f} kB; measure it again"


def test_the_numbers_of_the_neighbours_are_the_defaults() -> None:
    rows = re.findall(r"^\| mproutd \| (\d+)\W(\d+), 32764, 32765 \| (\w+) \| (\d+)\W", TEXT, re.M)
    ((first, last, mask, table),) = rows
    config = build((), ())
    assert (int(first), int(last)) == (config.rule_priority, config.rule_priority + RULE_SPAN - 1)
    assert int(mask, 16) == config.mark_mask
    assert int(table) == config.table_base
