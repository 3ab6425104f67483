"""Metrics: Prometheus' own parser reads them, its rules name them, the dashboard knows them."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tracemalloc
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from mproutd import commands
from mproutd.control import client
from mproutd.status.metrics import COUNTER, GAUGE, METRICS, samples
from mproutd.status.problems import PROBLEMS
from tests.lab import Daemon, Wan, eventually
from tests.unit.test_status import Site

prometheus = pytest.importorskip("prometheus_client")
ROOT = Path(__file__).parents[2]

# From `promtool check metrics` and https://prometheus.io/docs/practices/naming/.
ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "m", "h", "d", "bits", "kbit"}
OTHER_UNITS = {"milliseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "percent"}

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Values:
    """Every sample, by name and labels; each has its type and its help before it."""
    from prometheus_client.parser import text_string_to_metric_families

    values: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert family.type == METRICS[sample.name].kind, sample.name
            assert family.documentation == METRICS[sample.name].text
            assert set(sample.labels) == set(METRICS[sample.name].labels)
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in values, f"{key} is there twice"
            values[key] = sample.value
    assert text.count("# TYPE ") == text.count("# HELP ") == len({name for name, _ in values})
    return values


def value(found: Values, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def exposed(status: dict[str, Any] | None) -> Values:
    from mproutd.status.exporter import metrics_text

    return parsed(metrics_text(lambda: status))


@pytest.fixture
def status(tmp_path: Path) -> dict[str, Any]:
    """wan1 is fine, wan2 has no carrier."""
    site = Site(tmp_path)
    site.settle()
    site.world.set("eth2", carrier=False)
    site.settle()
    status: dict[str, Any] = site.status()
    for uplink, count in zip(status["uplinks"], (1000, 2000), strict=True):
        uplink.update(received=count, sent=count + 1, flows=count // 1000)
    status["pins_flows"] = True
    status["standby"] = False
    resolver = {"address": "192.0.2.53", "in_use": True}
    status["uplinks"][0]["resolvers"] = [resolver, {**resolver, "in_use": False}]
    ways = [
        {"uplinks": [{"uplink": "wan1", "weight": 3}, {"uplink": "wan3", "weight": 1}]},
        {"uplinks": []},
    ]
    families = zip(("ipv4", "ipv6"), ways, strict=True)
    ways = [{"family": family, "next": [], **way} for family, way in families]
    status["policies"] = [{"name": "p", "ways": ways}]
    status["counts"].update(failed_writes=2, restores=3)
    host = {"host": "192.0.2.1", "address": "192.0.2.1", "reachable": True, "error": None}
    host.update({"sent": 9, "replies": 8, "loss": 10.0, "latency": 0.02})
    checks = {"family": "ipv4", "failed": True, "hold": 20.0, "hosts": [host]}
    status["uplinks"][0]["health"] = [checks]
    half_full = {"capacity": 20e6, "learned": False, "rate": 10e6, "percent": 50.0}
    idle = {"capacity": None, "learned": True, "rate": None, "percent": None}
    status["uplinks"][0]["load"] = {"download": half_full, "upload": idle}
    status["uplinks"][1]["overflow"] = {"carrying": True}
    quota = {"limit": 2000, "used": 2001, "end": 9e9, "state": "reached"}
    status["uplinks"][1]["quota"] = quota
    return status


@pytest.mark.parametrize("name", METRICS)
def test_names_by_prometheus_rules(name: str) -> None:
    kind, text, labels = METRICS[name]
    words = name.split("_")
    assert re.fullmatch(r"mproutd(_[a-z0-9]+)+", name)
    assert kind in (GAUGE, COUNTER)
    assert name.endswith("_total") == (kind == COUNTER)
    assert not set(words) & (ABBREVIATIONS | OTHER_UNITS)
    assert not name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not set(words) & {"gauge", "counter", "metric"}
    assert "timestamp" not in words or name.endswith("_timestamp_seconds")
    assert text.endswith(".")
    assert "\n" not in text
    for label in labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
        assert label not in {"le", "quantile", "job", "instance", "type"}
    assert len(set(labels)) == len(labels)


def test_every_metric_has_a_sample_in_a_broken_world(status: dict[str, Any]) -> None:
    assert {name for name, _ in exposed(status)} == METRICS.keys()


def test_what_no_uplink_carries_is_no_uplinks_share(status: dict[str, Any]) -> None:
    traffic = next(kind for kind in status["other_traffic"] if kind["origin"] is None)
    traffic["shares"] = [
        {"uplink": "wan1", "weight": 3, "device": "eth1"},
        {"uplink": None, "weight": 1, "device": "tun0"},
    ]
    labels = {"uplink": "wan1", "family": traffic["family"]}
    assert value(exposed(status), "mproutd_uplink_share_ratio", **labels) == 0.75


def test_the_values_are_those_of_the_status(status: dict[str, Any]) -> None:
    values = exposed(status)
    assert value(values, "mproutd_up") == 1
    assert value(values, "mproutd_degraded") == 1
    assert value(values, "mproutd_build_info", version=status["mproutd"]) == 1
    assert value(values, "mproutd_uplink_info", uplink="wan2", device="eth2", mode="on") == 1
    assert value(values, "mproutd_uplink_usable", uplink="wan1", family="ipv4") == 1
    assert value(values, "mproutd_uplink_usable", uplink="wan2", family="ipv4") == 0
    out = {"uplink": "wan2", "family": "ipv4", "reason": "no-carrier"}
    assert value(values, "mproutd_uplink_unusable_info", **out) == 1
    assert value(values, "mproutd_uplink_outages_total", **out) == 1
    assert value(values, "mproutd_uplink_outages_total", **{**out, "uplink": "wan1"}) == 0
    assert value(values, "mproutd_uplink_resolvers", uplink="wan1") == 2
    assert value(values, "mproutd_uplink_resolvers_used", uplink="wan1") == 1
    policy = {"policy": "p", "family": "ipv4"}
    assert value(values, "mproutd_policy_usable", **policy) == 1
    assert value(values, "mproutd_policy_usable", **{**policy, "family": "ipv6"}) == 0
    assert value(values, "mproutd_policy_share_ratio", **policy, uplink="wan1") == 0.75
    assert value(values, "mproutd_policy_share_ratio", **policy, uplink="wan2") is None
    assert value(values, "mproutd_write_failures_total") == 2
    assert value(values, "mproutd_restores_total") == 3
    assert value(values, "mproutd_uplink_default", uplink="wan1", family="ipv4") == 1
    assert value(values, "mproutd_uplink_default", uplink="wan2", family="ipv4") == 0
    assert value(values, "mproutd_uplink_endpoints", uplink="wan1", state="ok") == 1
    assert value(values, "mproutd_uplink_endpoints", uplink="wan1", state="missing") == 0
    assert value(values, "mproutd_uplink_received_bytes_total", uplink="wan2") == 2000
    assert value(values, "mproutd_uplink_sent_bytes_total", uplink="wan2") == 2001
    labels = {"uplink": "wan1", "direction": "download"}
    assert value(values, "mproutd_uplink_capacity_bytes_per_second", **labels) == 2.5e6
    assert value(values, "mproutd_uplink_load_ratio", **labels) == 0.5
    assert value(values, "mproutd_uplink_load_ratio", uplink="wan1", direction="upload") is None
    assert value(values, "mproutd_uplink_overflow_carrying", uplink="wan2") == 1
    assert value(values, "mproutd_uplink_quota_used_bytes", uplink="wan2") == 2001
    assert value(values, "mproutd_uplink_quota_reached", uplink="wan2") == 1
    assert value(values, "mproutd_uplink_effective_mode_info", uplink="wan2", mode="on") == 1
    assert value(values, "mproutd_uplink_flows", uplink="wan2") == 2
    assert value(values, "mproutd_pins_flows") == 1
    check = {"uplink": "wan1", "family": "ipv4"}
    assert value(values, "mproutd_uplink_health_failed", **check) == 1
    assert value(values, "mproutd_uplink_health_hold_seconds", **check) == 20
    host = {**check, "host": "192.0.2.1"}
    assert value(values, "mproutd_uplink_health_host_loss_ratio", **host) == 0.1
    assert value(values, "mproutd_uplink_health_host_latency_seconds", **host) == 0.02
    assert value(values, "mproutd_uplink_health_host_replies_total", **host) == 8
    since = status["uplinks"][1]["since"]
    assert value(values, "mproutd_uplink_since_timestamp_seconds", uplink="wan2") == since
    assert value(values, "mproutd_writes_total") == status["counts"]["writes"] > 0
    assert value(values, "mproutd_mptcp_limit_max") == status["mptcp"]["limit_max"]
    assert value(values, "mproutd_mptcp_endpoints_max") == status["mptcp"]["endpoints_max"]
    wanted = status["mptcp"]["limits"]["desired"]["subflows"]
    assert value(values, "mproutd_mptcp_limit_desired", limit="subflows") == wanted
    assert {
        code: value(values, "mproutd_problems", code=code) for code in PROBLEMS
    } == dict.fromkeys(PROBLEMS, 0)


def test_problems_are_counted_by_code(status: dict[str, Any]) -> None:
    status["problems"] = [{"code": "misrouted"}, {"code": "misrouted"}, {"code": "of-tomorrow"}]
    values = exposed(status)
    assert value(values, "mproutd_problems", code="misrouted") == 2
    assert value(values, "mproutd_problems", code="of-tomorrow") == 1
    assert value(values, "mproutd_problems", code="endpoint-limit") == 0


def test_unknown_fields_are_omitted(status: dict[str, Any]) -> None:
    status["mptcp"] = None
    status["uplinks"][0].update(received=None, sent=None, since=None)
    values = exposed(status)
    assert value(values, "mproutd_mptcp_available") == 0
    assert value(values, "mproutd_mptcp_enabled") is None
    assert value(values, "mproutd_uplink_received_bytes_total", uplink="wan1") is None
    assert value(values, "mproutd_uplink_since_timestamp_seconds", uplink="wan1") is None


def test_unexpected_names(status: dict[str, Any]) -> None:
    status["uplinks"][0]["name"] = 'a"b\\c\nd'
    values = exposed(status)
    shown = 'a"b\\c\\nd'  # a label is one line, like all that is printed of a status
    assert value(values, "mproutd_uplink_received_bytes_total", uplink=shown) == 1000


def test_without_a_daemon_only_its_absence_is_reported() -> None:
    assert samples(None) == {"mproutd_up": [((), 0.0)]}
    assert exposed(None) == {("mproutd_up", ()): 0.0}


def test_the_documented_rules_use_only_existing_metrics() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text().split("<!-- metrics -->")[0]
    names = re.findall(r"\b(mproutd_\w+)", text)
    assert names
    assert set(names) <= METRICS.keys()


# -- the command --------------------------------------------------------------------------


def test_without_the_library_the_error_names_the_package() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None; from mproutd import cli; "
        "sys.exit(cli.main(['metrics']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mproutd: metrics needs the Python package prometheus_client: "
        "apt install python3-prometheus-client, or pip install 'mproutd[metrics]'\n"
    )


@pytest.mark.kernel
def test_on_stdout_and_in_a_file() -> None:
    with Wan(lan=False, shaped=False).usual() as wan:
        daemon, file = Daemon(wan.gateway), wan.gateway.path("/run/metrics/mproutd.prom")
        file.parent.mkdir()
        words = "mproutd: mproutd is not running\n"
        absent = daemon.call("metrics")
        assert (absent.code, absent.err) == (3, words)
        assert parsed(absent.out) == {("mproutd_up", ()): 0.0}
        absent = daemon.call("metrics", "--output", "/run/metrics/mproutd.prom")
        assert absent == (3, "", words)
        assert parsed(file.read_text()) == {("mproutd_up", ()): 0.0}
        with daemon:
            daemon.settle()
            assert daemon.call("metrics", "--output", "/run/metrics/mproutd.prom") == (0, "", "")
            values = parsed(file.read_text())
            assert [item.name for item in file.parent.iterdir()] == ["mproutd.prom"]
            assert file.stat().st_mode & 0o444 == 0o444
            assert value(values, "mproutd_degraded") == 0
            assert value(values, "mproutd_uplink_endpoints", uplink="wan2", state="ok") == 2
            assert parsed(daemon.call("metrics").out).keys() == values.keys()
            nowhere = daemon.call("metrics", "--output", "/run/nowhere/mproutd.prom")
            assert (nowhere.code, nowhere.out, nowhere.err.count("\n")) == (1, "", 1)
            assert "No such file" in nowhere.err


def test_the_thousandth_scrape_takes_no_more_memory_than_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(client, "call", lambda path, request, timeout: {"uplinks": []})
    monkeypatch.setattr(commands, "replied", type(commands.replied)())
    options = argparse.Namespace(runtime_dir=str(tmp_path))

    def scraped() -> int:
        for _ in range(1000):
            assert commands.daemon_status(options)[0] == {"uplinks": []}
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = scraped()
        assert scraped() - before < 10_000, "bytes; a path for each is 130,000"
    finally:
        tracemalloc.stop()


@pytest.mark.kernel
def test_by_http_while_daemons_come_and_go() -> None:
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.settle()
        argv = daemon.command("metrics", "--listen", "127.0.0.1:9785")
        server = wan.gateway.popen(*argv, stderr=subprocess.PIPE, text=True)

        def scrape(path: str = "/metrics") -> Values:
            with (
                wan.gateway.enter(),
                urllib.request.urlopen(f"http://127.0.0.1:9785{path}", timeout=60) as answer,
            ):
                assert answer.headers["Content-Type"].startswith("text/plain")
                return parsed(answer.read().decode())

        eventually(lambda: value(scrape(), "mproutd_up") == 1, 60, "an answer")
        wan.unplug(2)
        eventually(
            lambda: value(scrape(), "mproutd_uplink_usable", uplink="wan2", family="ipv4") == 0,
            60,
        )
        daemon.stop()
        eventually(lambda: scrape() == {("mproutd_up", ()): 0.0})
        daemon.start()
        eventually(lambda: value(scrape(), "mproutd_up") == 1)
        taken = daemon.call("metrics", "--listen", "127.0.0.1:9785")
        line = "mproutd: cannot listen on 127.0.0.1:9785: Address already in use\n"
        assert taken == (1, "", line)
        for wrong in ("9785", ":9785", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:0", "::1:99999"):
            refused = daemon.call("metrics", "--listen", wrong)
            assert (refused.code, refused.err.count("\n")) == (2, 1), wrong
        server.terminate()
        assert server.wait(60) == -15
        assert server.stderr.read() == ""
