"""The file for dnsmasq: its lines, when it is written, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mproutd.configuration.config import Config
from mproutd.configuration.uci import load
from mproutd.eventloop import Loop
from mproutd.firewall.domains import HEADER, nftset_lines, wants_domains
from mproutd.services.base import ServiceContext
from mproutd.services.domains import DomainFile
from tests.lab.policies import BY_WAN2, NETWORK
from tests.unit.test_policy_rules import parse

RULES = (
    BY_WAN2
    + """
config rule 'one'
	option domain 'a.test b.test'
	option use_policy 'by_wan2'
config rule 'two'
	option domain 'b.test'
	option family 'ipv6'
	option use_policy 'by_wan2'
"""
)


def test_one_line_for_each_domain_with_all_of_its_sets() -> None:
    config = parse(RULES)
    assert nftset_lines(config) == (
        HEADER
        + "nftset=/a.test/4#inet#mproutd#domain_one_4,6#inet#mproutd#domain_one_6\n"
        + "nftset=/b.test/4#inet#mproutd#domain_one_4,6#inet#mproutd#domain_one_6,"
        + "6#inet#mproutd#domain_two_6\n"
    )
    assert wants_domains(config)
    assert not wants_domains(config._replace(enabled=False))
    assert not wants_domains(parse(BY_WAN2))


def service(root: Path) -> tuple[DomainFile, list[str]]:
    texts: list[str] = []

    def publish(kind: str, priority: int, text: str, *_: str) -> None:
        texts.append(text)

    context = ServiceContext(Loop(), lambda: None, publish, str(root))  # type: ignore[arg-type]
    return DomainFile(context), texts


def passes(own: DomainFile, config: Config) -> None:
    outcome: Any = None
    own.on_configuration(config)
    own.on_pass(outcome)
    own.on_pass(outcome)


def test_it_is_written_deleted_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "dnsmasq.d/mproutd.conf"
    config = parse(RULES)._replace(enabled=True)
    own, texts = service(tmp_path)
    passes(own, config)
    passes(own, config)
    assert file.read_text() == nftset_lines(config)
    assert texts == [f"wrote {file}; restart dnsmasq to use it"]
    passes(service(tmp_path)[0], config)
    passes(own, Config())
    assert not file.exists()
    assert texts[1:] == [f"deleted {file}; restart dnsmasq to use it"]


def test_a_file_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.d").write_text("in the way")
    own, texts = service(tmp_path)
    passes(own, parse(RULES)._replace(enabled=True))
    file = tmp_path / "dnsmasq.d/mproutd.conf"
    assert texts == [f"cannot write {file}: Not a directory"]
    (tmp_path / "dnsmasq.d").unlink()
    outcome: Any = None
    own.on_pass(outcome)
    assert texts[1:] == [f"wrote {file}; restart dnsmasq to use it"]


def test_without_dnsmasq_there_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "network").write_text(NETWORK)
    (tmp_path / "mproutd").write_text(RULES)
    monkeypatch.setattr("mproutd.configuration.uci.find_program", lambda name: "")
    *covered, warning = load(str(tmp_path)).warnings
    reason = "has no effect: dnsmasq, which resolves it for the hosts, is not installed"
    assert warning == f"{tmp_path}/mproutd:8: rule 'one', option 'domain': {reason}"
    monkeypatch.setattr("mproutd.configuration.uci.find_program", lambda name: name)
    assert load(str(tmp_path)).warnings == tuple(covered)
