"""When a health check fails and recovers, by tables and by any sequence of rounds."""

from __future__ import annotations

from socket import AF_INET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mproutd.configuration.health import HealthConfig
from mproutd.configuration.parsers import Target
from mproutd.services.health.hysteresis import Hysteresis

HOST, OTHER = "192.0.2.1", "192.0.2.2"
BASIC = HealthConfig((Target(HOST, AF_INET), Target(OTHER, AF_INET)), down=3, up=2, hold=0)


def story(options: HealthConfig, rounds: str, every: float = 1.0) -> str:
    """Rounds of both hosts as `+` (both reply), `1` (one), `-` (none), `.` (no probe was sent).

    Returns the state after each round: `u` up, `F` failed.
    """
    hysteresis, out = Hysteresis(options), ""
    for number, what in enumerate(rounds):
        replies = {
            "+": {HOST: [0.01], OTHER: [0.02]},
            "1": {HOST: [0.01], OTHER: [None]},
            "-": {HOST: [None], OTHER: [None]},
            ".": {},
        }[what]
        before = hysteresis.failed
        changed = hysteresis.record_round(number * every, replies)
        assert changed == (hysteresis.failed != before)
        out += "F" if hysteresis.failed else "u"
    return out


@pytest.mark.parametrize(
    ("options", "rounds", "states"),
    [
        (BASIC, "++--++", "uuuuuu"),
        (BASIC, "+---++", "uuuFFu"),
        (BASIC, "+--+---+-++", "uuuuuuFFFFu"),
        # one dead host of two
        (BASIC, "111111", "uuuuuu"),
        (BASIC._replace(reliability=2), "111+", "uuFF"),
        # rounds without probes say nothing
        (BASIC, "--...-++", "uuuuuFFu"),
        (BASIC, "......", "uuuuuu"),
        # quick and slow
        (BASIC._replace(down=1, up=1), "-+-+", "FuFu"),
        (BASIC._replace(down=5, up=5), "----+-----++++-+++++", "u" * 9 + "F" * 10 + "u"),
    ],
)
def test_rounds_in_a_row(options: HealthConfig, rounds: str, states: str) -> None:
    assert story(options, rounds) == states


def test_reliability_counts_only_hosts_that_were_probed() -> None:
    hysteresis = Hysteresis(BASIC._replace(reliability=2, down=1))
    assert not hysteresis.record_round(0, {HOST: [0.01]})
    assert hysteresis.record_round(1, {HOST: [0.01], OTHER: [None]})
    assert hysteresis.summary == "1 of 2 hosts reply"


def test_one_reply_to_several_probes_is_enough() -> None:
    hysteresis = Hysteresis(BASIC._replace(down=1, count=3))
    assert not hysteresis.record_round(0, {HOST: [None, None, 0.3]})
    assert hysteresis.record_round(1, {HOST: [None, None, None]})


def test_the_interval_depends_on_the_state() -> None:
    hysteresis = Hysteresis(
        BASIC._replace(interval=5, failure_interval=1, recovery_interval=9, down=2)
    )
    assert hysteresis.interval() == 5
    hysteresis.record_round(0, {HOST: [None]})
    assert hysteresis.interval() == 1
    hysteresis.record_round(0, {HOST: [None]})
    assert hysteresis.interval() == 9
    hysteresis.set_options(hysteresis.options._replace(recovery_interval=None))
    assert hysteresis.interval() == 5


# -- flapping -----------------------------------------------------------------------------


def test_each_flap_doubles_the_hold() -> None:
    hysteresis = Hysteresis(BASIC._replace(down=1, up=1, hold=10, hold_max=60))
    now, out = 0.0, []
    for _ in range(6):
        assert hysteresis.record_round(now, {HOST: [None]})
        failed = now
        while hysteresis.failed:
            now += 1
            hysteresis.record_round(now, {HOST: [0.01]})
        out.append(now - failed)
        now += 1
    assert out == [1, 10, 20, 40, 60, 60]
    assert hysteresis.flaps == 5


def test_a_long_recovery_resets_the_flaps() -> None:
    hysteresis = Hysteresis(BASIC._replace(down=1, up=1, hold=10, hold_max=60))
    for now, answer in ((0, None), (1, 0.01), (2, None), (12, 0.01), (72, None)):
        assert hysteresis.record_round(now, {HOST: [answer]})
    assert (hysteresis.flaps, hysteresis.held_until) == (0, None)
    assert hysteresis.record_round(73, {HOST: [0.01]})


def test_good_rounds_during_the_hold_count() -> None:
    hysteresis = Hysteresis(BASIC._replace(down=1, up=3, hold=10, hold_max=60))
    for now in range(4):
        hysteresis.record_round(now, {HOST: [None if now == 0 else 0.01]})
    assert not hysteresis.failed
    hysteresis.record_round(4, {HOST: [None]})
    assert hysteresis.hold_remaining(5) == 9
    for now in range(5, 14):
        assert not hysteresis.record_round(now, {HOST: [0.01]})
    assert hysteresis.record_round(14, {HOST: [0.01]})
    assert hysteresis.hold_remaining(15) == 0


# -- quality ------------------------------------------------------------------------------

PICKY = BASIC._replace(check_quality=True, down=2, up=2, quality_window=10)


def test_loss_has_two_thresholds() -> None:
    hysteresis = Hysteresis(PICKY)
    replies = [0.01] * 10 + [None, 0.01] * 4
    for now, latency in enumerate(replies):
        hysteresis.record_round(now, {HOST: [latency]})
    # With the fourth of ten a round is silent, and the next one is lossy: two in a row.
    assert hysteresis.failed
    assert hysteresis.summary == "0 of 1 hosts are good (40 % lost)"
    states = ""
    for now in range(10):
        hysteresis.record_round(100 + now, {HOST: [0.01]})
        states += "F" if hysteresis.failed else "u"
        if now == 5:
            assert hysteresis.quality(HOST).loss == 20
    assert states == "FFFFFFFuuu"


def test_latency_has_two_thresholds() -> None:
    hysteresis = Hysteresis(PICKY._replace(quality_window=2))
    verdicts = ""
    for now, delay in enumerate([0.9, 0.9, 1.2, 1.2, 0.7, 0.7, 0.4, 0.4, 0.4]):
        hysteresis.record_round(now, {HOST: [delay]})
        verdicts += "F" if hysteresis.failed else "u"
    assert verdicts == "uuuFFFFFu"


def test_the_summary_of_a_slow_uplink() -> None:
    hysteresis = Hysteresis(PICKY._replace(quality_window=2, down=1))
    hysteresis.record_round(0, {HOST: [1.5, 1.3], OTHER: [None, None]})
    assert hysteresis.summary == "0 of 2 hosts are good (1400 ms)"


def test_losses_of_an_outage_do_not_count_after_it() -> None:
    hysteresis = Hysteresis(PICKY)
    for now in range(20):
        hysteresis.record_round(now, {HOST: [0.01 if now < 8 else None]})
    assert hysteresis.failed
    assert not hysteresis.record_round(20, {HOST: [0.01]})
    assert hysteresis.record_round(21, {HOST: [0.01]})


def test_an_uplink_in_use_does_not_fail_by_its_first_probes() -> None:
    hysteresis = Hysteresis(PICKY._replace(down=1))
    for now, latency in enumerate([0.01, None, 0.01, 0.01, None, 0.01][0:1] + [5.0] * 8):
        hysteresis.record_round(now, {HOST: [latency]})
    assert not hysteresis.failed


# -- whatever happens ---------------------------------------------------------------------

rounds = st.lists(
    st.tuples(
        st.floats(0.1, 30),
        st.dictionaries(
            st.sampled_from([HOST, OTHER]),
            st.lists(st.none() | st.floats(0, 2), min_size=1, max_size=3),
        ),
    ),
    max_size=60,
)
options = st.builds(
    lambda down, up, hold, reliability, quality: BASIC._replace(
        down=down, up=up, hold=hold, reliability=reliability, check_quality=quality, hold_max=100.0
    ),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([0.0, 5.0, 40.0]),
    st.integers(1, 2),
    st.booleans(),
)


@given(options, st.booleans(), rounds)
def test_a_verdict_is_neither_early_nor_late(
    options: HealthConfig, failed: bool, sequence: list[tuple[float, dict[str, list[float | None]]]]
) -> None:
    hysteresis, now = Hysteresis(options, failed), 0.0
    since = 0
    """Rounds with probes since the last change of the verdict."""
    for pause, replies in sequence:
        now += pause
        before, held_until = hysteresis.failed, hysteresis.held_until
        changed = hysteresis.record_round(now, replies)
        assert changed == (before != hysteresis.failed)
        since += bool(replies)
        if changed:
            if hysteresis.failed:
                assert hysteresis.bad_rounds >= options.down
                assert (hysteresis.held_until or now) - now <= options.hold_max
            else:
                assert hysteresis.good_rounds >= options.up
                assert held_until is None or now >= held_until
            since = 0
        latencies = [latency for probes in replies.values() for latency in probes]
        silent = bool(replies) and all(latency is None for latency in latencies)
        assert not (silent and hysteresis.good_rounds)
        assert hysteresis.failed or hysteresis.bad_rounds < options.down
        if replies and hysteresis.failed and hysteresis.good_rounds >= options.up:
            assert hysteresis.hold_remaining(now) > 0
        assert 0 <= hysteresis.quality(HOST).loss <= 100


@given(options, rounds)
def test_a_repaired_uplink_recovers(
    options: HealthConfig, sequence: list[tuple[float, dict[str, list[float | None]]]]
) -> None:
    hysteresis, now = Hysteresis(options), 0.0
    for pause, replies in sequence:
        now += pause
        hysteresis.record_round(now, replies)
    latest = now + hysteresis.hold_remaining(now)
    for _ in range(options.quality_window + options.up + 1):
        latest = max(latest, now) + 1
        now += 1
        hysteresis.record_round(now, {HOST: [0.01], OTHER: [0.01]})
    hysteresis.record_round(latest, {HOST: [0.01], OTHER: [0.01]})
    assert not hysteresis.failed


def test_the_same_options_again_change_nothing() -> None:
    hysteresis = Hysteresis(BASIC)
    hysteresis.record_round(0, {HOST: [None], OTHER: [None]})
    hysteresis.set_options(BASIC._replace())
    assert hysteresis.bad_rounds == 1
    hysteresis.set_options(BASIC._replace(down=4))
    assert hysteresis.bad_rounds == 0


@pytest.mark.parametrize(
    ("rounds", "settled"), [("", True), ("+", True), ("-", False), ("---", True), ("---+", False)]
)
def test_settled_while_no_round_speaks_against_the_verdict(rounds: str, settled: bool) -> None:
    hysteresis = Hysteresis(BASIC)
    for number, what in enumerate(rounds):
        replies = {HOST: [0.01 if what == "+" else None]}
        hysteresis.record_round(float(number), replies)
    assert hysteresis.settled == settled
