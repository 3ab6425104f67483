"""What the demonstration draws, and that Ctrl-C ends it cleanly.  `make demo` is its own test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.lab import eventually
from tests.lab.chart import chart, marks, spark, time_axis
from tests.lab.daemon import REPOSITORY


def test_chart_draws_bars_and_the_levels_behind_them():
    assert chart([40, 20, 5, 0], 40, rows=4, levels={20: "half"}) == [
        "   40 ┤█",
        "      │█┈┈┈┈┈ half",
        "   20 ┤██",
        "      │██▄",
    ]


def test_chart_cuts_off_what_is_higher_than_its_top():
    assert chart([100], 10, rows=2) == ["   10 ┤█", "      │█"]


def test_the_axis_has_a_number_under_each_of_its_marks():
    ruler, numbers = time_axis(20, 0.5, 5)
    assert [i for i, c in enumerate(ruler) if c == "┴"] == [numbers.index("0"), numbers.index("5")]


def test_a_mark_stands_under_its_moment():
    line = marks({7.0: "unplugged", 13.0: "plugged"}, 0.5)
    assert line.index("▲ unplugged") == 14
    assert line.index("▲ plugged") == 26


def test_nothing_at_all_is_a_dot_and_a_little_is_not():
    assert spark([0, 1, 10, 20], 20) == "·▁▄█"


def processes_below(pid: int) -> set[int]:
    """The processes whose ancestor is `pid`, by /proc/PID/stat."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
    pids = {pid}
    while more := {child for child, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return pids - {pid}


@pytest.mark.kernel
def test_ctrl_c_ends_the_demonstration_and_leaves_nothing():
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
    )
    assert demo.stdout
    output = ""
    while "Baseline" not in output:
        line = demo.stdout.readline()
        assert line, f"it ended by itself:\n{output}"
        output += line
    children = eventually(lambda: len(seen := processes_below(demo.pid)) > 6 and seen)
    demo.send_signal(signal.SIGINT)
    rest = demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, rest
    assert rest.rstrip().endswith("Nothing is left behind.")
    assert "Traceback" not in rest
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))
