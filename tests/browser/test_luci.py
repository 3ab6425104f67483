"""LuCI's views on a gateway of the laboratory, with the daemon behind rpcd's plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mproutd.configuration.options import OPTIONS
from mproutd.planning.uplinks import REASONS
from mproutd.status.problems import ADVICE
from tests.browser.chromium import Chromium
from tests.browser.luci import CONFIGURATION, OVERVIEW, STATUS, Luci
from tests.lab import CONFIG_DIR, SERVER, TWO_UPLINKS, Daemon, Echo, Wan, eventually, subflows

Browse = Callable[..., Chromium]
POLL = 1.0


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(lan=False, shaped=False).usual() as world:
        yield world


@pytest.fixture
def daemon(wan: Wan) -> Iterator[Daemon]:
    with Daemon(wan.gateway) as running:
        yield running


@pytest.fixture
def luci(daemon: Daemon) -> Iterator[Luci]:
    with Luci(daemon, interval=POLL) as server:
        yield server


@pytest.fixture
def page(luci: Luci, browse: Browse) -> Chromium:
    """The status view, with both uplinks up."""
    browser = browse(luci.daemon.node)
    browser.open(STATUS)
    browser.wait(lambda: "2 of 2 uplinks usable" in browser.text(".headline"))
    return browser


def test_an_unplugged_uplink_shows_within_one_poll_with_reason_and_advice(
    page: Chromium, wan: Wan
) -> None:
    assert "10.1.1.2 endpoint 1 subflow" in page.text('article[data-key="wan1"]')
    wan.settle()
    wan.unplug(2)
    page.wait(lambda: "1 of 2 uplinks usable" in page.text(".headline"), POLL + 1.0)
    assert REASONS["no-carrier"] in page.text(".problems")
    assert ADVICE["no-carrier"] in page.text(".problems")
    wan.plug(2)
    page.wait(lambda: "Everything is as configured." in page.text())


def test_shares_of_other_traffic_are_shown(page: Chromium, daemon: Daemon) -> None:
    sections = [
        f"config uplink 'wan{n}'\n\toption weight '{weight}'\n" for n, weight in ((1, 3), (2, 1))
    ]
    daemon.configure(own="\n".join(sections))
    daemon.reconcile()
    shown = ["IPv4", "wan1 75 %", "wan2 25 %", "IPv6", "wan1 75 %", "wan2 25 %"]
    page.wait(lambda: page.text("#mproutd-other ~ dl").split("\n") == shown)


def test_connections_are_listed_with_their_subflows_by_uplink(page: Chromium, wan: Wan) -> None:
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        page.click("summary", "Connections")
        page.wait(lambda: f"{SERVER}:{echo.port}" in page.text(".connections"))
        assert "10.2.2.2:" in page.text(".connections")


def test_a_reconcile_shows_first_what_it_would_do(page: Chromium, daemon: Daemon) -> None:
    daemon.configure(network=TWO_UPLINKS.replace("'on'", "'backup'"))
    page.click("button", "Reconcile")
    page.wait(lambda: "ip mptcp endpoint change id 2 backup" in page.text("#modal"))
    assert "backup" not in daemon.node.ip("mptcp endpoint show")
    page.click("#modal button", "Apply")
    eventually(lambda: daemon.node.ip("mptcp endpoint show").count("backup") == 2)
    page.wait(lambda: page.text('article[data-key="wan2"] .mode') == "backup")


def test_a_configuration_that_is_refused_cannot_be_applied(page: Chromium, daemon: Daemon) -> None:
    daemon.configure(network=TWO_UPLINKS.replace("'on'", "'onn'"))
    page.click("button", "Reconcile")
    page.wait(lambda: f"{CONFIG_DIR}/network:10: interface 'wan2'" in page.text("#modal"))
    apply = "return Array.from(document.querySelectorAll('#modal button')).at(-1).disabled"
    assert page.script(apply) is True


def test_a_mode_set_in_the_form_reaches_the_kernel(
    luci: Luci, daemon: Daemon, browse: Browse
) -> None:
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    mode = "document.querySelector('[data-option=\"network.wan2.multipath\"]')"
    page.wait(lambda: page.script(f"return {mode} && {mode}.value") == "on")
    page.script(f"{mode}.value = 'backup'")
    page.click("#save")
    eventually(lambda: daemon.node.ip("mptcp endpoint show").count("backup") == 2)
    written = (daemon.node.path(CONFIG_DIR) / "network").read_text()
    assert written.split() == TWO_UPLINKS.replace("'on'", "'backup'").split()


def test_the_form_switches_everything_off(luci: Luci, daemon: Daemon, browse: Browse) -> None:
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    box = "document.querySelector('[data-option=\"network.globals.multipath\"]')"
    page.wait(lambda: page.script(f"return {box} && {box}.checked"))
    page.script(f"{box}.checked = false")
    page.click("#save")
    eventually(lambda: "7001" not in daemon.node.ip("rule show"))
    assert "multipath 'disable'" in (daemon.node.path(CONFIG_DIR) / "network").read_text()
    page.open(STATUS)
    page.wait(lambda: "Multipath is not enabled." in page.text())


def test_options_of_an_uplink_are_added_and_taken_away(
    luci: Luci, daemon: Daemon, browse: Browse
) -> None:
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    page.wait(lambda: page.text("[data-add-button]"))
    page.script("document.querySelector('[data-add=uplink]').value = 'wan2'")
    page.click("[data-add-button]")
    table = "document.querySelector('[data-option=\"mproutd.wan2.table\"]')"
    page.wait(lambda: page.script(f"return {table} !== null"))
    page.script(
        f"{table}.value = '7042';"
        "document.querySelector('[data-option=\"mproutd.wan2.iif\"]').value = 'lan1\\nlan2';"
        "document.querySelector('[data-option=\"mproutd.wan2.strict\"]').checked = true;"
    )
    page.click("#save")
    eventually(lambda: "lookup 7042" in daemon.node.ip("rule show"))
    written = (daemon.node.path(CONFIG_DIR) / "mproutd").read_text()
    assert written.split("\n") == [
        "",
        "config uplink 'wan2'",
        "\toption table '7042'",
        "\tlist iif 'lan1'",
        "\tlist iif 'lan2'",
        "\toption strict '1'",
        "",
    ]
    assert "iif lan2" in daemon.node.ip("rule show")


def test_the_form_has_every_option_and_no_other(luci: Luci, daemon: Daemon, browse: Browse) -> None:
    daemon.configure(own="config mproutd 'globals'\nconfig uplink 'wan1'\n")
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    page.wait(lambda: page.script("return document.querySelectorAll('[data-option]').length"))
    shown = set(
        page.script(
            "return Array.from(document.querySelectorAll('[data-option]'), e => e.dataset.option)"
        )
    )
    wanted = {f"mproutd.globals.{name}" for name in OPTIONS["mproutd", "mproutd"]}
    wanted |= {f"mproutd.wan1.{name}" for name in OPTIONS["mproutd", "uplink"] if name != "ifname"}
    wanted |= {"network.globals.multipath", "network.wan1.multipath", "network.wan2.multipath"}
    assert shown == wanted
    choices = "return Array.from(document.querySelector(a[0]).options, e => e.value).join(' ')"
    mode = '[data-option="network.wan1.multipath"]'
    assert page.script(choices, mode) == " on master backup handover off"


def test_a_form_that_is_saved_as_it_is_changes_nothing(
    luci: Luci, daemon: Daemon, browse: Browse
) -> None:
    own = (
        "config mproutd 'globals'\n\toption main_routes '0'\n"
        "config uplink 'wan1'\n\toption track_verify '0'\n\tlist iif 'lan1'\n"
    )
    daemon.configure(own=own)
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    page.wait(lambda: page.script("return document.querySelectorAll('[data-option]').length"))
    page.click("#save")
    page.wait(lambda: page.script("return document.body.dataset.applied") == "yes")
    assert (daemon.node.path(CONFIG_DIR) / "mproutd").read_text().split() == own.split()
    assert (daemon.node.path(CONFIG_DIR) / "network").read_text().split() == TWO_UPLINKS.split()


SET = "document.querySelector(`[data-option='${a[0]}']`).value = a[1]"


def configuration_page(daemon: Daemon, browse: Browse) -> Chromium:
    page = browse(daemon.node)
    page.open(CONFIGURATION)
    page.wait(lambda: page.script("return document.querySelectorAll('[data-option]').length"))
    return page


def test_a_pair_is_set_in_the_form_and_its_standby_shown(
    luci: Luci, daemon: Daemon, browse: Browse
) -> None:
    page = configuration_page(daemon, browse)
    page.script("document.querySelector('[data-option=\"mproutd.globals.pair\"]').checked = true")
    page.script(SET, "mproutd.globals.virtual_address", "10.1.1.2\n2001:db8::9")
    page.click("#save")
    page.wait(lambda: page.script("return document.body.dataset.applied") == "yes")
    written = (daemon.node.path(CONFIG_DIR) / "mproutd").read_text()
    assert written.split("\n") == [
        "",
        "config mproutd 'globals'",
        "\toption pair '1'",
        "\tlist virtual_address '10.1.1.2'",
        "\tlist virtual_address '2001:db8::9'",
        "",
    ]
    assert daemon.call("check").code == 0
    page.open(STATUS)
    shown = "in standby: the other gateway of the pair carries the traffic."
    page.wait(lambda: shown in page.text(".headline"))
    page.wait(lambda: "this gateway has the virtual address 10.1.1.2" in page.text(".problems"))
    assert ADVICE["standby-with-address"] in page.text(".problems")
    daemon.call("standby", "off")
    page.wait(lambda: shown not in page.text(".headline"))
    page.wait(lambda: "2001:db8::9" in page.text(".problems"))
    daemon.call("standby", "on")
    page.wait(lambda: shown in page.text(".headline"))
    daemon.stop()
    page.wait(lambda: "mproutd is not running" in page.text(".headline"), 15)


def test_an_announced_port_set_in_the_form_reaches_the_kernel(
    luci: Luci, daemon: Daemon, browse: Browse
) -> None:
    daemon.configure(own="config mproutd 'globals'\n\nconfig uplink 'wan1'\n")
    page = configuration_page(daemon, browse)
    page.script(SET, "mproutd.wan1.role", "server")
    page.script(SET, "mproutd.wan1.port", "8443")
    page.click("#save")
    eventually(lambda: "10.1.1.2 port 8443" in daemon.node.ip("mptcp endpoint show"))
    check = daemon.call("check")
    assert (check.code, check.err) == (0, "")


@pytest.mark.parametrize(
    ("option", "value", "title"),
    [
        ("wan1.port", "0", "Announced port"),
        ("wan1.port", "65536", "Announced port"),
        ("wan1.port", "https", "Announced port"),
        ("wan1.track_port", "0", "Port"),
        ("globals.virtual_address", "10.1.1.2\n10.1.1.0/24", "Virtual addresses"),
        ("globals.virtual_address", "gateway", "Virtual addresses"),
    ],
)
def test_a_wrong_value_is_refused_with_one_line(
    luci: Luci, daemon: Daemon, browse: Browse, option: str, value: str, title: str
) -> None:
    own = "config mproutd 'globals'\n\nconfig uplink 'wan1'\n"
    daemon.configure(own=own)
    page = configuration_page(daemon, browse)
    page.script(SET, f"mproutd.{option}", value)
    page.click("#save")
    page.wait(lambda: page.text("[role=alert]"))
    assert page.text("[role=alert]") == f'Option "{title}" contains an invalid input value.'
    assert page.script("return document.body.dataset.applied") is None
    assert (daemon.node.path(CONFIG_DIR) / "mproutd").read_text() == own
    uplink, _, name = option.partition(".")
    section = "config mproutd 'globals'" if uplink == "globals" else f"config uplink '{uplink}'"
    keyword = "list" if name == "virtual_address" else "option"
    lines = [f"\t{keyword} {name} '{word}'\n" for word in value.split("\n")]
    daemon.configure(own=section + "\n" + "".join(lines))
    assert daemon.call("check").code != 0  # the daemon refuses what the form refuses


def test_who_may_only_read_cannot_reconcile(daemon: Daemon, browse: Browse) -> None:
    with Luci(daemon, write=False) as luci:
        page = browse(daemon.node)
        page.open(STATUS)
        page.wait(lambda: "2 of 2 uplinks usable" in page.text())
        assert page.script("return document.querySelector('button').disabled") is True
        denied = luci.ubus({"id": 1, "params": ["0", "mproutd", "reconcile", {}]})
        assert denied["error"]["message"] == "Access denied"


def test_who_may_nothing_sees_why(daemon: Daemon, browse: Browse) -> None:
    with Luci(daemon, read=False, write=False):
        page = browse(daemon.node)
        page.open(STATUS)
        page.wait(lambda: "The status of mproutd cannot be read." in page.text())
        assert "Access denied" in page.text()


def test_a_stopped_daemon_is_named_and_the_page_comes_back_with_it(
    page: Chromium, daemon: Daemon
) -> None:
    daemon.stop()
    page.wait(lambda: "mproutd is not running" in page.text())
    daemon.start()
    page.wait(lambda: "mproutd is not running" not in page.text(), 15)


def test_the_overview_has_a_box_that_follows(luci: Luci, wan: Wan, browse: Browse) -> None:
    page = browse(wan.gateway)
    page.open(OVERVIEW)
    page.wait(lambda: "wan2" in page.text("table"))
    assert page.text("h3") == "Uplinks"
    rows = page.text("tbody").splitlines()
    assert [row.split()[:3] for row in rows] == [["wan1", "master", "up"], ["wan2", "on", "up"]]
    wan.unplug(2)
    page.wait(lambda: REASONS["no-carrier"] in page.text("table"))
    assert "Problems: 1" in page.text()


@pytest.mark.parametrize("width", [320, 1600])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    luci: Luci, wan: Wan, browse: Browse, width: int, theme: str
) -> None:
    wan.unplug(2)
    page = browse(wan.gateway)
    for url in (STATUS, OVERVIEW):
        page.open(f"{url}&theme={theme}", width)
        page.wait(lambda: "not usable" in page.text())
        assert page.script("return document.querySelector('.mproutd').dataset.theme") == theme
        assert page.violations() == []
        too_wide = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        assert page.script(too_wide) == 0
