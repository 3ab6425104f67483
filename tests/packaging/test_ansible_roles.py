"""The Ansible roles without a machine; `make ansible` runs them against booted ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mproutd.configuration.uci import load
from tests.networks.guide import Guide
from tests.packaging.ansible_roles import (
    COLLECTION,
    ROLES,
    Case,
    Rendered,
    examples,
)

DOCS = COLLECTION.parents[1] / "docs"
PAGES = (DOCS / "ansible.md", *sorted(ROLES.glob("*/README.md")))
INVENTORY = {
    "vault_gw01": "from a vault: gw01",
    "vault_gw02": "from a vault: gw02",
    "vault_gw01_public_key": "B" * 43 + "=",
    "vault_private_key": "A" * 43 + "=",
}
"""What the examples take from elsewhere."""
GATEWAY: dict[str, Any] = {
    "mproutd_globals": {"role": "both", "subflows": 4, "virtual_address": ["192.168.1.1"]},
    "mproutd_uplinks": [
        {"name": "wan1", "device": "eth1", "multipath": "master", "gateway": "10.1.1.1"},
        {"name": "wan2", "device": "eth2", "multipath": True, "strict": False, "weight": 3}
        | {"track_ip": ["192.0.2.1", "192.0.2.2"], "on_up": '/bin/echo "it\'s up"'},
        {"name": "wan3", "device": "eth3", "multipath": False, "disabled": None},
    ],
    "mproutd_members": [{"name": "second", "interface": "wan2"}],
    "mproutd_policies": [{"name": "guests", "use_member": ["second"]}],
    "mproutd_rules": [{"name": "lan", "src_ip": ["192.168.2.0/24"], "use_policy": "guests"}],
}
KEYS = {"SERVER": "A" * 43 + "=", "GATEWAY": "B" * 43 + "="}
FAR_END: dict[str, Any] = {
    "mproutd_far_end_device": "eth0",
    "mproutd_far_end_gateways4": ["10.1.0.0/16"],
    "mproutd_far_end_gateways6": ["2001:db8:1::/48"],
    "mproutd_far_end_blocked": ["10.9.9.9/32"],
    "mproutd_far_end_clients": [
        {"name": f"gw{n:02}", "port": 8400 + n, "password": f"choose one for gw{n:02}"}
        for n in range(1, 21)
    ],
}
WIREGUARD: dict[str, Any] = {
    "mproutd_far_end_wireguard": True,
    "mproutd_far_end_wireguard_private_key": KEYS["SERVER"],
    "mproutd_far_end_wireguard_addresses": ["10.77.0.254/24"],
    "mproutd_far_end_clients": [
        FAR_END["mproutd_far_end_clients"][0]
        | {"wireguard_key": KEYS["GATEWAY"], "wireguard_address": "10.77.0.1/32"},
        *FAR_END["mproutd_far_end_clients"][1:],
    ],
}
REFUSED = [
    Case("unknown-option", "mproutd", {"mproutd_uplinks": [{"name": "a", "devize": "eth1"}]}),
    Case("without-a-name", "mproutd", {"mproutd_uplinks": [{"device": "eth1"}]}),
    Case("unknown-global", "mproutd", {"mproutd_globals": {"rolle": "client"}}),
    Case("wrong-type", "mproutd_far_end", {"mproutd_far_end_conntrack_max": "many"}),
]


def mproutd_of_the_far_end() -> dict[str, Any]:
    """The variables that mproutd_far_end gives to the role mproutd."""
    tasks = yaml.safe_load((ROLES / "mproutd_far_end/tasks/main.yml").read_text())
    (found,) = (task["vars"] for task in tasks if "ansible.builtin.include_role" in task)
    return {**found, "mproutd_far_end_device": "eth0"}


def of_examples() -> dict[str, Case]:
    """Host → the role and the variables of an example on a page."""
    cases = {}
    for page in PAGES:
        found = examples(page)
        assert found, f"{page}: no example"
        for number, text in enumerate(found):
            (play,) = yaml.safe_load(text)
            (role,) = (role["role"] for role in play["roles"])
            name = f"{page.parent.name}-{page.stem}-{number}"
            cases[name] = Case(name, role, INVENTORY, play)
    return cases


EXAMPLES = of_examples()
CASES = [
    Case("gateway", "mproutd", GATEWAY),
    Case("disabled", "mproutd", {"mproutd_enabled": False}),
    Case("server", "mproutd", mproutd_of_the_far_end()),
    Case("far-end", "mproutd_far_end", FAR_END | WIREGUARD),
    Case("bare", "mproutd_far_end", {"mproutd_far_end_mproutd": False}),
]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    cases = [*CASES, *EXAMPLES.values(), *REFUSED]
    return Rendered(tmp_path_factory.mktemp("ansible"), cases)


def configuration(rendered: Rendered, host: str, folder: Path) -> Any:
    """The configuration as the daemon reads it."""
    for path, text in rendered.files(host).items():
        (folder / Path(path).name).write_text(text)
    return load(str(folder))


def meaning(text: str) -> str:
    """A file without comments, in one spelling of nft's sets and of spaces."""
    text = " ".join(re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).split())
    return re.sub(r",? }", " }", text).replace("{ 22 }", "22")


def test_the_gateway_is_as_its_variables_say(rendered: Rendered, tmp_path: Path) -> None:
    config = configuration(rendered, "gateway", tmp_path)
    uplinks = [(uplink.name, uplink.device, uplink.mode) for uplink in config.uplinks]
    assert uplinks == [
        ("wan1", "eth1", "master"),
        ("wan2", "eth2", "on"),
        ("wan3", "eth3", "off"),
    ]
    assert config.enabled
    assert config.role == "both"
    assert config.subflows == 4
    files = rendered.files("gateway")
    assert "\toption on_up '/bin/echo \"it'\\''s up\"'\n" in files["/etc/mproutd/mproutd"]
    assert files["/etc/mproutd/mproutd"].count("\tlist track_ip ") == 2


def test_a_gateway_without_uplinks(rendered: Rendered, tmp_path: Path) -> None:
    config = configuration(rendered, "disabled", tmp_path)
    assert (config.enabled, config.uplinks) == (False, ())


@pytest.mark.parametrize("host", EXAMPLES)
def test_an_example_is_accepted(rendered: Rendered, tmp_path: Path, host: str) -> None:
    assert rendered.files(host)
    if EXAMPLES[host].role == "mproutd":
        assert configuration(rendered, host, tmp_path).uplinks


def test_the_far_end_is_that_of_the_guide(rendered: Rendered) -> None:
    guide = Guide("../far-end")
    expected = {
        path.replace("{N}", f"{number:02}"): text.replace("{N}", f"{number:02}")
        for path, text in guide.files("server").items()
        for number in (range(1, 21) if "{N}" in path else (1,))
    }
    firewall = "/etc/nftables.conf"
    expected[firewall] += 'include "/etc/nftables.d/wireguard.nft"'
    for path, text in guide.files("wireguard-server").items():
        for name, key in KEYS.items():
            text = text.replace(f"PRIVATE-KEY-OF-{name}", key)
            text = text.replace(f"PUBLIC-KEY-OF-{name}", key)
        expected[path] = text
    written = rendered.files("far-end") | rendered.files("server")
    assert written.keys() == expected.keys()
    for path, text in expected.items():
        assert meaning(written[path]) == meaning(text), path


def test_a_far_end_without_gateways_wireguard_and_mproutd(rendered: Rendered) -> None:
    complete, bare = rendered.files("far-end"), rendered.files("bare")
    assert "/etc/systemd/system/mptcp-limits.service" in bare.keys() - complete.keys()
    missing = complete.keys() - bare.keys()
    assert {"/etc/nftables.d/wireguard.nft", "/etc/wireguard/wg0.conf"} < missing
    assert "51820" not in bare["/etc/nftables.conf"]
    assert "elements" not in bare["/etc/nftables.conf"]


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("unknown-option", "devize"),
        ("without-a-name", "missing required arguments: name"),
        ("unknown-global", "rolle"),
        ("wrong-type", "mproutd_far_end_conntrack_max"),
    ],
)
def test_the_specification_refuses(rendered: Rendered, host: str, named: str) -> None:
    assert named in rendered.error(host)


@pytest.mark.parametrize("role", ["mproutd", "mproutd_far_end"])
def test_defaults_are_those_of_the_specification(role: str) -> None:
    specs, defaults = (
        yaml.safe_load((ROLES / role / name).read_text())
        for name in ("meta/argument_specs.yml", "defaults/main.yml")
    )
    options = specs["argument_specs"]["main"]["options"]
    assert {
        name: spec["default"] for name, spec in options.items() if "default" in spec
    } == defaults
