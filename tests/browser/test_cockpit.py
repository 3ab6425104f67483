"""The page in Debian's Cockpit, on a gateway of the laboratory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from mproutd.planning.uplinks import REASONS
from mproutd.status.problems import ADVICE
from tests.browser.chromium import Chromium
from tests.browser.cockpit import FRAMED, URL, Cockpit
from tests.browser.pretender import answering
from tests.lab import (
    CONFIG_DIR,
    RUNTIME_DIR,
    SERVER,
    TWO_UPLINKS,
    Daemon,
    Echo,
    Wan,
    eventually,
    subflows,
)

Browse = Callable[..., Chromium]
POLL = 2.0
"""Seconds between two looks of the page."""


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(lan=False, shaped=False).usual() as world:
        yield world


@pytest.fixture
def daemon(wan: Wan) -> Iterator[Daemon]:
    with Daemon(wan.gateway) as running:
        yield running


@pytest.fixture
def page(daemon: Daemon, browse: Browse) -> Iterator[Chromium]:
    """The page of a root session, with both uplinks up."""
    with Cockpit(daemon):
        browser = browse(daemon.node)
        browser.open(URL)
        browser.wait(lambda: "2 of 2 uplinks usable" in browser.text(".headline"))
        yield browser


@pytest.mark.skipif(
    os.environ.get("DEBIAN", "12") != "12",
    reason="without D-Bus the frame of a newer Cockpit ends its own bridge, on any page",
)
def test_cockpits_menu_leads_to_it(daemon: Daemon) -> None:
    # Without D-Bus and systemd other pages of Cockpit complain on the console.
    with Cockpit(daemon), Chromium(daemon.node) as browser:
        browser.open(FRAMED.removesuffix("/mproutd"))
        browser.wait(lambda: "Uplinks" in browser.text("nav"))
        browser.click("nav a", "Uplinks")
        frame = "iframe[name='cockpit1:localhost/mproutd']"
        browser.wait(lambda: browser.script("return document.querySelector(a[0])", frame))
        browser.enter(frame)
        browser.wait(lambda: "2 of 2 uplinks usable" in browser.text(".headline"))


def test_it_follows_the_style_that_is_chosen_in_cockpit(page: Chromium) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.script(background) == "rgb(243, 244, 246)"
    page.script(
        "localStorage.setItem('shell:style', 'dark');"
        "window.dispatchEvent(new CustomEvent('cockpit-style', { detail: { style: 'dark' } }));"
    )
    assert page.script(background) == "rgb(22, 24, 28)"
    assert page.script("return document.querySelector('#page').dataset.theme") == "dark"


def card(browser: Chromium, uplink: str) -> str:
    return browser.text(f'article[data-key="{uplink}"]')


def choose_mode(browser: Chromium, uplink: str, mode: str) -> None:
    browser.script(
        "const select = document.querySelector(`article[data-key='${a[0]}'] select`);"
        "select.value = a[1]; select.dispatchEvent(new Event('change'));",
        uplink,
        mode,
    )
    browser.wait(lambda: browser.text("dialog"))


def network(daemon: Daemon) -> str:
    return (daemon.node.path(CONFIG_DIR) / "network").read_text()


def test_it_shows_both_uplinks(page: Chromium) -> None:
    one = card(page, "wan1")
    for words in ("wan1", "up", "eth1", "10.1.1.2 endpoint 1 subflow", "via 10.1.1.1"):
        assert words in one
    assert "2001:db8:1::2" in one
    assert "Everything is as configured." in page.text()
    assert page.text("#mproutd-other ~ dl").split() == ["IPv4", "wan1", "IPv6", "wan1"]


def test_shares_of_other_traffic_are_shown(page: Chromium, daemon: Daemon) -> None:
    sections = [
        f"config uplink 'wan{n}'\n\toption weight '{weight}'\n" for n, weight in ((1, 3), (2, 1))
    ]
    daemon.configure(own="\n".join(sections))
    daemon.reconcile()
    shown = ["IPv4", "wan1 75 %", "wan2 25 %", "IPv6", "wan1 75 %", "wan2 25 %"]
    page.wait(lambda: page.text("#mproutd-other ~ dl").split("\n") == shown)


def test_an_unplugged_uplink_shows_within_one_poll_with_reason_and_advice(
    page: Chromium, wan: Wan
) -> None:
    wan.settle()
    wan.unplug(2)
    page.wait(lambda: "1 of 2 uplinks usable" in page.text(".headline"), POLL + 1.0)
    problems = page.text(".problems")
    assert f"wan2 is not usable: {REASONS['no-carrier']}" in problems
    assert ADVICE["no-carrier"] in problems
    assert "not usable" in card(page, "wan2")
    assert "no endpoint" in card(page, "wan2")
    wan.plug(2)
    page.wait(lambda: "Everything is as configured." in page.text(), POLL + 2.0)


def test_standby_is_shown_while_the_daemon_runs(page: Chromium, daemon: Daemon) -> None:
    shown = "in standby: the other gateway of the pair carries the traffic."
    daemon.configure(
        own="config mproutd 'globals'\n\toption pair '1'\n\tlist virtual_address '10.1.1.2'\n"
    )
    daemon.reconcile()
    page.wait(lambda: shown in page.text(".headline"))
    page.wait(lambda: "this gateway has the virtual address 10.1.1.2" in page.text(".problems"))
    assert ADVICE["standby-with-address"] in page.text(".problems")
    daemon.call("standby", "off")
    page.wait(lambda: page.text(".headline") == "2 of 2 uplinks usable")
    daemon.call("standby", "on")
    page.wait(lambda: shown in page.text(".headline"))
    daemon.stop()
    page.wait(lambda: "mproutd is not running" in page.text(".headline"), 15)


def test_connections_are_listed_with_their_subflows_by_uplink(page: Chromium, wan: Wan) -> None:
    with Echo(wan.gateway, wan.server, SERVER) as echo:
        eventually(lambda: len(subflows(wan.gateway, echo.port)) == 2)
        page.click("summary", "Connections")
        page.wait(lambda: f"{SERVER}:{echo.port}" in page.text(".connections"))
        first, second = page.script(
            "return Array.from(document.querySelectorAll('.connections tbody tr'),"
            " row => Array.from(row.cells, cell => cell.textContent))"
        )
        assert first[0] == "wan1"
        assert first[1].startswith("10.1.1.2:")
        assert second[0] == "wan2"
        assert second[1].startswith("10.2.2.2:")
    page.wait(lambda: "There is no MPTCP connection." in page.text())


def test_a_mode_is_changed_after_its_commands_were_shown(page: Chromium, daemon: Daemon) -> None:
    gateway = daemon.node
    choose_mode(page, "wan2", "backup")
    page.wait(lambda: "These commands would be executed" in page.text("dialog"))
    assert "ip mptcp endpoint change id 2 backup" in page.text("dialog .lines")
    assert "backup" not in gateway.ip("mptcp endpoint show")
    page.click("dialog button", "Apply")
    eventually(lambda: gateway.ip("mptcp endpoint show").count("backup") == 2)
    assert network(daemon) == TWO_UPLINKS.replace("multipath 'on'", "multipath 'backup'")
    shown = "return document.querySelectorAll('select')[1].value"
    page.wait(lambda: page.script(shown) == "backup")


def test_a_change_that_is_undone_leaves_file_and_kernel_as_they_were(
    page: Chromium, daemon: Daemon
) -> None:
    before = daemon.node.state(ids=True)
    choose_mode(page, "wan1", "off")
    page.wait(lambda: "delete" in page.text("dialog"))
    assert "multipath 'off'" in network(daemon)
    page.click("dialog button", "Undo")
    page.wait(lambda: not page.text("dialog"))
    eventually(lambda: network(daemon) == TWO_UPLINKS)
    assert daemon.reconcile() == ""
    assert daemon.node.state(ids=True) == before


def test_the_configuration_is_edited_and_what_is_refused_says_where(
    page: Chromium, daemon: Daemon
) -> None:
    page.click("button", "Edit network")
    page.wait(lambda: page.text("dialog"))
    area = "document.querySelector('dialog textarea')"
    assert page.script(f"return {area}.value") == TWO_UPLINKS
    page.script(f"{area}.value = {area}.value.replace(\"'on'\", \"'onn'\")")
    page.click("dialog button", "Save")
    page.wait(lambda: "would be refused" in page.text("dialog"))
    assert f"{CONFIG_DIR}/network:10: interface 'wan2'" in page.text("dialog")
    assert "'onn' is not a mode" in page.text("dialog")
    page.click("dialog button", "Undo")
    eventually(lambda: network(daemon) == TWO_UPLINKS)


def test_a_file_that_somebody_else_changes_meanwhile_is_not_overwritten(
    page: Chromium, daemon: Daemon
) -> None:
    page.click("button", "Edit network")
    page.wait(lambda: page.text("dialog"))
    theirs = TWO_UPLINKS + "# theirs\n"
    daemon.configure(network=theirs)
    area = "document.querySelector('dialog textarea')"
    page.script(f"{area}.value = {area}.value + '# ours'")
    page.click("dialog button", "Save")
    page.wait(lambda: "was not saved" in page.text("dialog"))
    assert "The file has changed since it was read." in page.text("dialog")
    assert network(daemon) == theirs


def test_a_reconcile_shows_first_what_it_would_do(page: Chromium, daemon: Daemon) -> None:
    page.click("button", "Reconcile")
    page.wait(lambda: "Nothing would change in the kernel." in page.text("dialog"))
    page.click("dialog button", "Cancel")
    daemon.configure(network=TWO_UPLINKS.replace("'on'", "'backup'"))
    page.wait(lambda: not page.text("dialog"))
    page.wait(lambda: page.script("return !document.querySelector('#toolbar button').disabled"))
    page.click("button", "Reconcile")
    page.wait(lambda: "backup" in page.text("dialog .lines"))
    page.click("dialog button", "Apply")
    eventually(lambda: daemon.node.ip("mptcp endpoint show").count("backup") == 2)


def test_a_stopped_daemon_is_named_and_the_page_comes_back_with_it(
    page: Chromium, daemon: Daemon
) -> None:
    daemon.stop()
    page.wait(lambda: "mproutd is not running" in page.text(), 10)
    page.wait(lambda: "this is what it would find" in page.text(".headline"))  # by the command
    daemon.start()
    page.wait(lambda: "mproutd is not running" not in page.text(), 15)
    assert "2 of 2 uplinks usable" in page.text(".headline")


def test_a_daemon_of_another_version_is_not_misread(page: Chromium, daemon: Daemon) -> None:
    daemon.stop()
    with answering(daemon.node, {"version": 99, "uplinks": "who knows"}):
        page.wait(lambda: "have different versions" in page.text(), 15)
        assert "version 99" in page.text()
        assert page.text("article") == ""


def test_who_has_no_right_sees_why(daemon: Daemon, browse: Browse) -> None:
    with Cockpit(daemon, as_nobody=True):
        browser = browse(daemon.node)
        browser.open(URL)
        browser.wait(lambda: "You are not allowed to read the status" in browser.text())
        assert "Only root and members of the group mproutd" in browser.text()
        browser.wait(lambda: "Limited access" in browser.text("#toolbar"))
        working = "return document.querySelectorAll('select:enabled, button').length"
        assert browser.script(working) == 0


def test_who_may_read_and_not_change_has_no_control_that_works(
    daemon: Daemon, browse: Browse
) -> None:
    (daemon.node.path(RUNTIME_DIR) / "control.sock").chmod(0o666)
    with Cockpit(daemon, as_nobody=True):
        browser = browse(daemon.node)
        browser.open(URL)
        browser.wait(lambda: "2 of 2 uplinks usable" in browser.text())
        browser.wait(lambda: "Limited access" in browser.text("#toolbar"))
        assert browser.script("return document.querySelectorAll('select:enabled').length") == 0


def test_nothing_is_fetched_from_elsewhere(page: Chromium) -> None:
    names = page.script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in names if not name.startswith("http://127.0.0.1:9090/")] == []
    assert any("page/page.js" in name for name in names)


def test_the_keyboard_reaches_everything_and_a_poll_takes_nothing_away(page: Chromium) -> None:
    page.script(
        "const summary = document.querySelector('article summary');"
        "summary.focus(); summary.click(); document.activeElement.dataset.mine = '1'"
    )
    first = page.text("article time")
    page.wait(lambda: page.text("article time") != first)
    assert page.script("return document.activeElement.tagName") == "SUMMARY"
    assert page.script("return document.querySelector('article details').open")
    assert "ip route get" in page.text("article details")
    assert "7101: from all fwmark" in page.text("article details")


def test_a_screen_reader_announces_a_problem_once(page: Chromium, wan: Wan) -> None:
    wan.unplug(2)
    page.wait(lambda: "wan2 is not usable" in page.text(".problems"))
    page.script(
        "window.changed = [];"
        "new MutationObserver(records => window.changed.push(...records.map(r => r.target)"
        "  .filter(n => !(n.nodeType === 3 ? n.parentElement : n).closest('[aria-hidden]'))"
        "  .map(n => n.textContent)))"
        ".observe(document.querySelector('[aria-live=polite]'),"
        " { subtree: true, childList: true, characterData: true });"
    )
    shown = page.text(".problems time")
    page.wait(lambda: page.text(".problems time") != shown)
    assert page.script("return window.changed") == []


@pytest.mark.parametrize("width", [320, 1600])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_and_nothing_is_cut_off(
    daemon: Daemon, wan: Wan, browse: Browse, width: int, dark: bool
) -> None:
    wan.unplug(2)
    with Echo(wan.gateway, wan.server, SERVER), Cockpit(daemon):
        browser = browse(daemon.node, dark=dark)
        browser.open(URL, width)
        browser.wait(lambda: "1 of 2 uplinks usable" in browser.text())
        browser.click("summary", "Connections")
        browser.click("article summary", "Routes and rules")
        browser.wait(lambda: f"{SERVER}:" in browser.text(".connections"))
        assert browser.script("return getComputedStyle(document.body).backgroundColor") == (
            "rgb(22, 24, 28)" if dark else "rgb(243, 244, 246)"
        )
        assert browser.violations() == []
        too_wide = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        assert browser.script(too_wide) == 0
        browser.click("button", "Reconcile")
        browser.wait(lambda: "Nothing would change" in browser.text("dialog"))
        assert browser.violations() == []
