"""Pictures of the pages, from the laboratory into docs/screens; needs root.

make screens        after the screens of the commands
"""

from __future__ import annotations

import time

from tests.browser.chromium import Chromium
from tests.browser.cockpit import FRAMED, URL, Cockpit
from tests.browser.luci import STATUS, Luci
from tests.lab import SERVER, Daemon, Iperf, Wan
from tests.lab.daemon import REPOSITORY

SCREENS = REPOSITORY / "docs/screens"
CHECKED = "config uplink 'wan1'\n\tlist track_ip '10.9.9.9'\n\tlist track_ip 'gateway'\n"
WIDE, NARROW, FRAME = 1000, 320, (1280, 1060)


def picture(browser: Chromium, name: str, width: int, selector: str = "article") -> None:
    browser.wait(lambda: browser.text(selector))
    browser.resize(width)
    time.sleep(0.2)
    browser.screenshot(SCREENS / f"page-{name}.png")


def change_mode(browser: Chromium, index: int, mode: str) -> None:
    browser.script(
        "const select = document.querySelectorAll('select')[a[0]];"
        "select.value = a[1]; select.dispatchEvent(new Event('change'));",
        index,
        mode,
    )
    browser.wait(lambda: "ip " in browser.text("dialog .lines"))


def under_load(wan: Wan, daemon: Daemon) -> None:
    """An upload over both uplinks, of which one is unplugged for a while."""
    transfer = Iperf(wan.gateway, wan.server, SERVER, 100)
    with Cockpit(daemon), Chromium(wan.gateway) as browser:
        browser.open(FRAMED, *FRAME)
        frame = "iframe[name='cockpit1:localhost/mproutd']"
        browser.wait(lambda: browser.script("return document.querySelector(a[0])", frame))
        browser.enter(frame)
        time.sleep(25)
        wan.unplug(2)
        time.sleep(14)
        wan.plug(2)
        time.sleep(16)
        browser.click("summary", "Connections")
        browser.wait(lambda: browser.text(".connections"))
        browser.screenshot(SCREENS / "page-cockpit.png", whole=False)
    with Cockpit(daemon), Chromium(wan.gateway) as browser:
        browser.open(URL, WIDE, 620)
        browser.wait(lambda: browser.text("select"))
        change_mode(browser, 1, "backup")
        browser.screenshot(SCREENS / "page-change.png", whole=False)
        browser.click("dialog button", "Undo")
        browser.wait(lambda: not browser.text("dialog"))
    with Luci(daemon), Chromium(wan.gateway) as browser:
        browser.open(STATUS, WIDE)
        time.sleep(8)
        picture(browser, "luci", WIDE)
    transfer.result()


def in_trouble(wan: Wan, daemon: Daemon) -> None:
    """A cable is out, and a rule of somebody else's leads an address elsewhere."""
    wan.unplug(2)
    wan.gateway.ip(
        "route add default via 10.1.1.9 dev eth1 table 100",
        "rule add from 10.1.1.2 lookup 100 priority 99",
    )
    with Cockpit(daemon), Chromium(wan.gateway, dark=True) as browser:
        browser.open(URL, WIDE)
        time.sleep(5)
        picture(browser, "problems", WIDE, ".problems")
        picture(browser, "narrow", NARROW, ".problems")


def main() -> None:
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway, own=CHECKED) as daemon:
        daemon.settle()
        under_load(wan, daemon)
        in_trouble(wan, daemon)


if __name__ == "__main__":
    main()
