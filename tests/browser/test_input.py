"""What the pages make of hostile, large and incomplete input, in both shells."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from mproutd.planning.uplinks import REASONS
from mproutd.status.problems import ADVICE, PROBLEMS, merge, problem
from tests.browser.chromium import Chromium
from tests.browser.cockpit import URL, Cockpit
from tests.browser.luci import OVERVIEW, STATUS, Luci
from tests.browser.pretender import answering
from tests.browser.test_messages import messages  # noqa: F401 (a fixture)
from tests.lab import SERVER, Daemon, Echo, Namespace, Wan, eventually, veth

Browse = Callable[..., Chromium]
HOSTILE = '<img src=x onerror="window.hacked=1">\'\u202egnp.\u0007'
SHOWN = '<img src=x onerror="window.hacked=1">\'\\u{202e}gnp.\\u{7}'


@pytest.fixture
def wan() -> Iterator[Wan]:
    with Wan(lan=False, shaped=False).usual() as world:
        yield world


@pytest.fixture
def real(wan: Wan) -> dict[str, Any]:
    """The answers of a real daemon, with a connection."""
    own = "config uplink 'wan1'\n\tlist track_ip '10.9.9.9'\n"
    with Daemon(wan.gateway, own=own) as daemon, Echo(wan.gateway, wan.server, SERVER):
        eventually(lambda: SERVER in daemon.call("connections").out)
        connections = json.loads(daemon.call("connections", "--json").out)
        return {"status": daemon.settle(), "connections": connections}


def poisoned(value: Any, key: str = "") -> Any:
    """The same with every text hostile, but for the codes that decide what is shown."""
    if isinstance(value, dict):
        return {name: poisoned(value, name) for name, value in value.items()}
    if isinstance(value, list):
        return [poisoned(item, key) for item in value]
    return HOSTILE if isinstance(value, str) else value


def with_a_problem(status: dict[str, Any]) -> dict[str, Any]:
    """One that has everything that a page can show."""
    status = json.loads(json.dumps(status))
    status["problems"] = [{"code": "x", "text": "x", "template": "{x}: x", "advice": "x", "x": "x"}]
    status["drift"] = ["ip rule add"]
    status["warnings"] = ["a warning"]
    one, two = status["uplinks"]
    one["flows"] = 12
    one["quota"] = {"used": 5e9, "limit": 2e10, "end": status["time"] + 3600, "state": "below"}
    one["effective_mode"] = "overflow"
    one["overflow"] = {"carrying": True, "reason": "wan2 is at 93 % (download)"}
    one["action"] = {"event": "up", "program": "/x", "text": "done", "output": "x"}
    two["usable"] = False
    for family in two["families"]:
        family.update(usable=False, reason="x", text="x", advice="x DEVICE")
    return status


def check_hostile(page: Chromium) -> None:
    page.wait(lambda: SHOWN in page.text(".problems"))
    text = page.text()
    assert page.script("return window.hacked") is None
    assert page.script("return document.querySelectorAll('.mproutd img').length") == 0
    assert "\u202e" not in text
    assert text.count(SHOWN) > 20
    page.click("summary", "Connections")
    page.wait(lambda: SHOWN in page.text(".connections"))
    assert page.script("return window.hacked") is None


def test_hostile_texts_stay_text_in_cockpit(real: dict[str, Any], wan: Wan, browse: Browse) -> None:
    answers = poisoned({**real, "status": with_a_problem(real["status"])})
    with answering(wan.gateway, answers), Cockpit(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        page.open(URL)
        check_hostile(page)


def test_hostile_texts_stay_text_in_luci(real: dict[str, Any], wan: Wan, browse: Browse) -> None:
    answers = poisoned({**real, "status": with_a_problem(real["status"])})
    with answering(wan.gateway, answers), Luci(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        page.open(OVERVIEW)
        page.wait(lambda: SHOWN in page.text("table"))
        page.open(STATUS)
        check_hostile(page)


def test_a_hostile_device_is_an_uplink_like_any_other(wan: Wan, browse: Browse) -> None:
    name = "<u>&lt;\"'$(x)"
    wan.gateway.run("ip", "link", "set", "eth2", "down")
    wan.gateway.run("ip", "link", "set", "eth2", "name", name)
    quoted = name.replace('"', '\\"')
    network = (
        "config globals\n\toption multipath enable\n"
        "config interface 'wan1'\n\toption device 'eth1'\n\toption multipath 'on'\n"
        f'config interface wan2\n\toption device "{quoted}"\n\toption multipath on # ours\n'
    )
    with Daemon(wan.gateway, network) as daemon, Cockpit(daemon):
        page = browse(wan.gateway)
        page.open(URL)
        page.wait(lambda: ADVICE["link-down"].replace("DEVICE", name) in page.text(".problems"))
        assert name in page.text('article[data-key="wan2"]')
        page.script(
            "const select = document.querySelectorAll('select')[1];"
            "select.value = 'off'; select.dispatchEvent(new Event('change'));"
        )
        page.wait(lambda: "Apply" in page.text("dialog"))
        page.click("dialog button", "Apply")
        eventually(lambda: daemon.uplink("wan2")["mode"] == "off")


def other_traffic(
    family: str, origin: str | None, table: int, *shares: tuple[str | None, str, int]
) -> dict[str, Any]:
    """One of a status; a share is (uplink, device, weight)."""
    names = ("uplink", "device", "weight")
    listed = [dict(zip(names, share, strict=True)) for share in shares]
    return {"family": family, "origin": origin, "shares": listed, "table": table, "barred": []}


def test_everything_that_a_status_can_have_is_shown(
    real: dict[str, Any], wan: Wan, browse: Browse
) -> None:
    status = with_a_problem(real["status"])
    status["other_traffic"] = [
        other_traffic("ipv4", None, 7000, ("wan1", "eth1", 3), ("wan2", "eth2", 1)),
        other_traffic("ipv6", None, 7000),
        other_traffic("ipv4", "br-lan", 254, (None, "wg0", 1)),
    ]
    with answering(wan.gateway, {**real, "status": status}), Luci(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        page.open(STATUS)
        page.wait(lambda: "5.0 GB of 20 GB" in page.text())
        card = page.text('article[data-key="wan1"]')
        cost = ("Mode in use\noverflow", "carries wan2 is at 93 % (download)", "a new period in ")
        for words in ("Flows\n12", "/x done", "IPv4 by ping", f"{SERVER} ", *cost):
            assert words in card
        other = page.text("#mproutd-other ~ dl").split("\n")
        assert other == [
            *("IPv4", "wan1 75 %", "wan2 25 %", "IPv6", "unreachable"),
            *("IPv4 br-lan", "wg0 (main)"),
        ]
        assert "Drift, repairing: ip rule add" in page.text(".problems")
        assert "a warning" in page.text(".problems")
        assert "x eth2" in page.text(".problems")
        assert page.violations() == []


PARTS = ("uplinks", "families", "problems", "endpoints", "rate", "health", "lookups")
PARTS += ("other_traffic", "shares")
VALUES = (None, 7, "text", [None, 3], [{}], {})


def replaced(value: Any, part: str, other: Any) -> Any:
    """The same with something else for every field of this name."""
    if isinstance(value, dict):
        return {
            name: other if name == part else replaced(value, part, other)
            for name, value in value.items()
        }
    return [replaced(item, part, other) for item in value] if isinstance(value, list) else value


def test_a_status_with_parts_that_are_not_as_documented_is_shown_all_the_same(
    real: dict[str, Any], wan: Wan, browse: Browse
) -> None:
    answers: dict[str, Any] = {**real, "status": {"version": 99}}
    with answering(wan.gateway, answers), Luci(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        for part in PARTS:
            for value in VALUES:
                answers["status"] = replaced(real["status"], part, value)
                page.open(STATUS)
                page.wait(lambda: "usable" in page.text() or "No uplink" in page.text())
                assert page.complaints() == [], (part, value)


def test_the_state_decides_and_not_the_browsers_clock(
    real: dict[str, Any], wan: Wan, browse: Browse
) -> None:
    status = real["status"]
    status["time"] = 2000.0
    status["uplinks"][0]["since"] = 2000.0 - 3 * 86400 - 7200
    with answering(wan.gateway, {**real, "status": status}), Luci(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        page.open(STATUS)
        page.wait(lambda: "for 3 d 2 h" in page.text('article[data-key="wan1"]'))


def test_the_graph_draws_the_rates_with_the_newest_at_the_right(
    real: dict[str, Any], wan: Wan, browse: Browse
) -> None:
    uplink = real["status"]["uplinks"][0]
    uplink["rate"] = {"seconds": 1, "received": 0, "sent": 0}
    graph = "article[data-key=wan1] .graph"
    with answering(wan.gateway, real), Luci(Daemon(wan.gateway)):
        page = browse(wan.gateway)
        page.open(STATUS)
        page.wait(lambda: page.script("return document.querySelector(a[0])", graph))
        uplink["rate"] = {"seconds": 1, "received": 2e6, "sent": 1e6}
        page.wait(lambda: "2.0 Mbit/s" in page.text(".rates"))
        uplink["rate"] = None
        page.wait(lambda: "bit" not in page.text("article[data-key=wan1] .rates"))
        drawn = "return a[0].map(s => document.querySelector(s).getAttribute('points'))"
        received, sent = page.script(drawn, [f"{graph} .received", f"{graph} .sent"])
        assert re.search(r" \S+,1\.0 (\S+,31\.0 )*120\.0,31\.0 120,32$", received)
        assert re.search(r" \S+,16\.0 (\S+,31\.0 )*120\.0,31\.0$", sent)
        label = page.script("return document.querySelector(a[0]).ariaLabel", graph)
        assert label.endswith("updates, at most 2.0 Mbit/s")


# -- many uplinks -------------------------------------------------------------------------

MANY = 34


def many(gateway: Namespace, far: Namespace) -> str:
    """34 uplinks with an address and a gateway each; the configuration."""
    network = "config globals\n\toption multipath enable\n"
    for n in range(1, MANY + 1):
        veth(gateway, f"eth{n}", far, f"far{n}")
        gateway.ip(
            f"address add 10.1.{n}.2/24 dev eth{n}",
            f"route add default via 10.1.{n}.1 dev eth{n} metric {n}",
        )
        network += (
            f"config interface wan{n}\n\toption device eth{n}\n"
            f"\toption multipath {'master' if n == 1 else 'on'}\n"
        )
    return network


def test_34_uplinks(nodes: Callable[[str], Namespace], browse: Browse) -> None:
    gateway, far = nodes("gateway"), nodes("far")
    with Daemon(gateway, many(gateway, far)) as daemon, Cockpit(daemon):
        page = browse(gateway)
        page.open(URL)
        page.wait(lambda: f"{MANY} of {MANY} uplinks usable" in page.text(".headline"))
        assert page.script("return document.querySelectorAll('article').length") == MANY
        far.ip("link set far20 down")
        page.wait(lambda: f"{MANY - 1} of {MANY} uplinks usable" in page.text(".headline"), 5)
        assert "wan20 is not usable" in page.text(".problems")
        for width in (320, 1600):
            page.resize(width)
            too_wide = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
            assert page.script(too_wide) == 0
        assert page.violations() == []
    with Daemon(gateway, many_again(daemon)) as daemon, Luci(daemon):
        page.open(STATUS)
        page.wait(lambda: f"{MANY - 1} of {MANY} uplinks usable" in page.text(".headline"))


def many_again(daemon: Daemon) -> str:
    return (daemon.node.path("/run/mproutd-config") / "network").read_text()


# -- German -------------------------------------------------------------------------------


def check_german(page: Chromium, catalog: Mapping[str, str]) -> None:
    page.wait(lambda: "1 von 2 Uplinks nutzbar" in page.text(".headline"))
    problems = page.text(".problems")
    assert f"wan2 ist nicht nutzbar: {catalog[REASONS['no-carrier']]}" in problems
    assert "seit " in problems
    assert catalog[ADVICE["no-carrier"]] in problems
    parts = re.split(r"[{]\w+[}]", catalog[PROBLEMS["misrouted"]])
    assert [part for part in parts if part not in problems] == []
    assert "10.1.1.2" in problems
    assert "zurückgehalten" in page.text('article[data-key="wan1"]')
    assert "Übriger Verkehr" in page.text()
    assert page.script("return document.querySelectorAll('.mproutd [lang=en]').length") == 0
    assert page.violations() == []


def test_german(wan: Wan, browse: Browse, messages: Any) -> None:  # noqa: F811
    wan.unplug(2)
    wan.gateway.ip(
        "route add default via 10.1.1.9 dev eth1 table 100",
        "rule add from 10.1.1.2 lookup 100 priority 99",
    )
    with Daemon(wan.gateway) as daemon, Cockpit(daemon):
        page = browse(wan.gateway, language="de")
        page.open(URL)
        catalog = messages.catalog(messages.languages()["de"])
        check_german(page, catalog)
        assert "Abgleichen …" in page.text("#toolbar")
        assert page.script("return document.documentElement.lang") == "de"
        with Luci(daemon, language="de", catalog=catalog):
            page.open(STATUS)
            check_german(page, catalog)
            assert "Abgleichen …" in page.text("button")


def test_a_problem_that_stands_for_several_is_translated_and_names_them(
    real: dict[str, Any],
    wan: Wan,
    browse: Browse,
    messages: Any,  # noqa: F811
) -> None:
    device, command = "eth1", "ip route get"
    problems = [
        problem("misrouted", uplink="wan1", address=f"10.1.1.{n}", device=device, command=command)
        for n in range(1, 9)
    ]
    (one,) = merge(problems)
    where = {"address": "10.2.2.2", "gateway": "10.2.2.1", "device": "eth2"}
    real["status"]["problems"] = [one, problem("address-without-gateway", uplink="wan2", **where)]
    catalog = messages.catalog(messages.languages()["de"])
    with (
        answering(wan.gateway, real),
        Luci(Daemon(wan.gateway), language="de", catalog=catalog),
    ):
        page = browse(wan.gateway)
        page.open(STATUS)
        page.wait(lambda: "10.1.1.1 und 7 weitere" in page.text(".problems"))
        assert "10.1.1.2, 10.1.1.3, 10.1.1.4" in page.text(".problems")
        assert "eth2" in page.text(".problems .advice")
        assert page.script("return document.querySelectorAll('.problems [lang=en]').length") == 0


def test_what_is_not_translated_is_marked_as_english(
    real: dict[str, Any],
    wan: Wan,
    browse: Browse,
    messages: Any,  # noqa: F811
) -> None:
    status = with_a_problem(real["status"])
    status["problems"][0]["text"] = "a sentence of tomorrow"
    catalog = messages.catalog(messages.languages()["de"])
    with (
        answering(wan.gateway, {**real, "status": status}),
        Luci(Daemon(wan.gateway), language="de", catalog=catalog),
    ):
        page = browse(wan.gateway)
        page.open(STATUS)
        page.wait(lambda: "a sentence of tomorrow" in page.text(".problems [lang=en]"))
