"""The options of health checks: the configuration that they give, or one line with the mistake."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import pytest

from mproutd.configuration.health import HealthConfig
from mproutd.configuration.parsers import Target
from tests.unit.test_config import ON, WAN1, parse, refusal

PLACE = "/c/mproutd:{}: uplink 'wan1', option '{}': "


def uplink(*lines: str) -> str:
    return "config uplink wan1\n" + "".join(f" {line}\n" for line in lines)


def health_of(*lines: str) -> HealthConfig | None:
    config = parse(ON + WAN1, uplink(*lines))
    assert config.warnings == ()
    return config.uplinks[0].health


def test_without_track_ip_nothing_is_checked() -> None:
    assert health_of("option mark 0x01000000") is None
    (warning,) = parse(ON + WAN1, uplink("option interval 3", "option up 2")).warnings
    assert warning == PLACE.format(2, "interval") + "has no effect without track_ip"


def test_what_there_is_without_more() -> None:
    assert health_of("list track_ip 9.9.9.9") == HealthConfig((Target("9.9.9.9", AF_INET),))


def test_everything() -> None:
    assert health_of(
        "list track_ip gateway",
        "list track_ip gateway6",
        "list track_ip 2001:DB8:0::1",
        "list track_ip Example.org",
        "option track_method https",
        "option track_port 8443",
        "option track_path /generate_204",
        "option track_status 204",
        "option track_verify 0",
        "option track_family ipv6",
        "option initial_state offline",
        "option reliability 2",
        "option count 3",
        "option size 64",
        "option max_ttl 9",
        "option timeout 0.5",
        "option interval 2",
        "option failure_interval 0.25",
        "option recovery_interval 4",
        "option down 2",
        "option up 6",
        "option check_quality 1",
        "option failure_loss 30",
        "option recovery_loss 5",
        "option failure_latency 400",
        "option recovery_latency 200",
        "option quality_window 20",
        "option hold 0",
        "option hold_max 60",
    ) == HealthConfig(
        track_ip=(
            Target("gateway", AF_INET),
            Target("gateway6", AF_INET6),
            Target("2001:db8::1", AF_INET6),
            Target("example.org", AF_INET6),
        ),
        track_method="https",
        track_port=8443,
        track_path="/generate_204",
        track_status=204,
        track_verify=False,
        track_family=AF_INET6,
        initial_state="offline",
        reliability=2,
        count=3,
        size=64,
        max_ttl=9,
        timeout=0.5,
        interval=2.0,
        failure_interval=0.25,
        recovery_interval=4.0,
        down=2,
        up=6,
        check_quality=True,
        failure_loss=30,
        recovery_loss=5,
        failure_latency=400,
        recovery_latency=200,
        quality_window=20,
        hold=0.0,
        hold_max=60.0,
    )


def test_the_hosts_probed_for_each_family() -> None:
    health = health_of("option track_ip '192.0.2.1 gateway 2001:db8::1 one.example 192.0.2.1'")
    assert health is not None
    assert [target.text for target in health.targets(AF_INET)] == [
        "192.0.2.1",
        "gateway",
        "one.example",
    ]
    assert [target.text for target in health.targets(AF_INET6)] == ["2001:db8::1"]
    assert [target.text for target in health.track_ip if target.is_name] == ["one.example"]


@pytest.mark.parametrize(
    ("method", "port"), [("ping", 0), ("tcp", 443), ("http", 80), ("https", 443)]
)
def test_the_destination_of_each_method(method: str, port: int) -> None:
    health = health_of("list track_ip 9.9.9.9", f"option track_method {method}")
    assert health is not None
    assert health.port == port


HOST = "list track_ip 9.9.9.9"
MISTAKES = [
    (("list track_ip 300.1.1.1",), "track_ip", "'300.1.1.1'"),
    (("list track_ip http://x.example/",), "track_ip", "neither an address nor a host name"),
    (("list track_ip -x.example",), "track_ip", "neither an address nor a host name"),
    (("list track_ip a..b",), "track_ip", "neither an address nor a host name"),
    (("list track_ip 127.0.0.1",), "track_ip", "'127.0.0.1' cannot be reached"),
    (("list track_ip ::",), "track_ip", "cannot be reached"),
    (("list track_ip ff02::1",), "track_ip", "multicast"),
    ((HOST, "option track_method httping"), "track_method", "ping, tcp, http, https or dns"),
    ((HOST, "option track_port 0"), "track_port", "1 to 65535"),
    ((HOST, "option track_path generate"), "track_path", "starts with /"),
    ((HOST, "option track_path '/a b'"), "track_path", "no spaces"),
    ((HOST, "option track_family inet"), "track_family", "ipv4 or ipv6"),
    ((HOST, "option interval 0"), "interval", "0.1 to 86400"),
    ((HOST, "option interval 1e3"), "interval", "'1e3'"),
    ((HOST, "option interval .5"), "interval", "number of seconds"),
    ((HOST, "option interval 1."), "interval", "number of seconds"),
    ((HOST, "option timeout 1.2345"), "timeout", "steps of 0.001"),
    ((HOST, "option timeout -1"), "timeout", "number of seconds"),
    ((HOST, "option timeout ²"), "timeout", "number of seconds"),
    ((HOST, "option down 0"), "down", "1 to 1000"),
    ((HOST, "option reliability 2"), "reliability", "reliability is 2, but track_ip has at most 1"),
    (
        (HOST, "list track_ip ::2", "option reliability 2"),
        "reliability",
        "reliability is 2, but track_ip has at most 1",
    ),
    (
        (HOST, "option check_quality 1", "option recovery_loss 50"),
        "recovery_loss",
        "recovery_loss 50 is above failure_loss 40",
    ),
    (
        (HOST, "option check_quality 1", "option failure_latency 300"),
        "failure_latency",
        "recovery_latency 500 is above failure_latency 300",
    ),
    (
        (HOST, "option check_quality 1", "option timeout 0.5"),
        "timeout",
        "failure_latency 1000 ms is never reached: a reply after timeout 0.5 s",
    ),
    ((HOST, "option hold 400"), "hold", "hold 400 is above hold_max 300"),
]


@pytest.mark.parametrize(("lines", "option", "reason"), MISTAKES)
def test_an_error_is_one_line(lines: tuple[str, ...], option: str, reason: str) -> None:
    message = refusal(ON + WAN1, uplink(*lines))
    assert f": uplink 'wan1', option '{option}': " in message
    assert reason in message
    assert "\n" not in message
