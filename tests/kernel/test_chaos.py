"""A little chaos by fixed seeds, and a short long run: `make chaos` and `make longrun` do more."""

from __future__ import annotations

import pytest

from tests.chaos import longrun
from tests.chaos.rounds import Chaos

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("seed", [4, 9, 103])
def test_the_kernel_is_as_from_a_clean_start_after_each_burst(seed):
    with Chaos(seed) as chaos:
        chaos.run(rounds=8)
        assert chaos.lost == 0


def test_a_thousand_events_leave_the_daemon_as_large_as_it_was():
    """But for caches that fill: a large leak would be seen, and a second descriptor."""
    samples = list(longrun.run(1000, seed=1, looks=4))
    memory, descriptors, threads = longrun.grown(samples, settled=0.25)
    assert memory <= 384
    assert descriptors <= 1  # the socket that asks about connections is opened when first needed
    assert threads <= longrun.THREADS
