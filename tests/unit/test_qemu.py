"""make kernels without a guest: what it says where it cannot run, and the page it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemu import results
from tests.qemu.guest import GuestError
from tests.qemu.outcomes import MARK
from tests.qemu.results import Outcome, Results
from tests.qemu.runner import Run

ROOT = Path(__file__).resolve().parents[2]


def make_kernels(*words: str) -> subprocess.CompletedProcess[str]:
    """Where no program is."""
    return subprocess.run(
        [sys.executable, "-m", "tests.qemu", *words],
        cwd=ROOT,
        env=os.environ | {"PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )


LACKS = "apt-get install --no-install-recommends qemu-system-x86 debootstrap cpio"


def test_what_the_machine_lacks_is_one_line() -> None:
    done = make_kernels("features")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("make kernels: this machine lacks ")
    assert LACKS in done.stderr


def test_the_smoke_test_is_skipped_where_it_cannot_run() -> None:
    done = make_kernels("smoke")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert done.stdout.startswith("make kernels-smoke: skipped: this machine lacks ")
    assert LACKS in done.stdout


PAGE = """\
# K
<!-- features -->
old
<!-- end -->
<!-- tests -->
<!-- end -->
<!-- exceptions -->
<!-- end -->
after
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "PAGE", tmp_path / "kernels.md")
    results.PAGE.write_text(PAGE)
    return tmp_path


def outcome(name: str, outcome: str = "passed", reason: str = "") -> Outcome:
    return Outcome(f"tests/kernel/test_a.py::{name}", outcome, reason, 1.0)


def test_the_page_has_the_results_of_the_kernels(folder: Path) -> None:
    old, new = Results("bookworm", "6.1.0-1-x", "6.1.9-1"), Results("sid", "7.2-x", "7.2.1-1")
    old.save("features", {"limits": "8", "kernel": "6.1.0-1-x"})
    new.save("features", {"limits": "64"})
    old.save_tests([outcome("one"), outcome("two", "failed", "E  a | b")], whole_files=True)
    new.save_tests([outcome("one"), outcome("two", "skipped", "no such flag")], whole_files=True)
    results.write_page([old, new])
    page = results.PAGE.read_text()
    assert "|  | 6.1.9-1, bookworm | 7.2.1-1, sid |" in page
    assert "| limits | 8 | 64 |" in page
    assert "6.1.0-1-x" not in page
    assert "| `tests/kernel/test_a.py` | 1, **1 failed** | 1, 1 skipped |" in page
    assert "| `tests/kernel/test_a.py::two` | 6.1.9-1 | failed | E  a \\| b |" in page
    assert "| `tests/kernel/test_a.py::two` | 7.2.1-1 | skipped | no such flag |" in page
    assert page.endswith("after\n")
    assert "old" not in page


def test_results_outlive_a_run_and_not_a_new_kernel(folder: Path) -> None:
    Results("sid", "7.2-x", "7.2.1-1").save_tests([outcome("one"), outcome("gone")], True)
    again = Results("sid", "7.2-x", "7.2.1-1")
    again.save_tests([outcome("one", "failed", "why")], whole_files=False)
    assert [outcome[1] for outcome in again.group("tests/kernel/test_a.py")] == ["failed", "passed"]
    again.save_tests([outcome("one")], whole_files=True)
    assert [outcome[0] for outcome in again.group("tests/kernel/test_a.py")] == [
        outcome("one").test
    ]
    assert Results("sid", "7.3-x", "7.3-1").group("tests/kernel/test_a.py") == []


class Machine:
    """Prints `pieces`, as a guest sends them."""

    boot_seconds = 0.0

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def run(self, argv: object, on_output: object, environment: object = None) -> int:
        for piece in self._pieces:
            on_output(piece)  # type: ignore[operator]
        return 0


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_outcomes_are_taken_out_of_the_output(
    folder: Path, capfdbinary: pytest.CaptureFixture[bytes], size: int
) -> None:
    records = [json.dumps(outcome(name)._asdict()).encode() for name in ("one", "two")]
    sent = b".%b%b%bF%b%b%b\n" % (MARK, records[0], MARK, MARK, records[1], MARK)
    machine = Machine(*(sent[n : n + size] for n in range(0, len(sent), size)))
    results = Results("sid", "7.2-x", "7.2.1-1")
    Run(machine, results).tests()  # type: ignore[arg-type]
    assert capfdbinary.readouterr().out.startswith(b".F\n")
    assert len(results.data["tests"]) == 2


class Dying(Machine):
    """A guest that dies after what it sent."""

    def run(self, argv: object, on_output: object, environment: object = None) -> int:
        super().run(argv, on_output, environment)
        raise GuestError("the guest died")


def test_a_guest_that_dies_leaves_the_files_that_it_had_finished(folder: Path) -> None:
    known = Results("sid", "7.2-x", "7.2.1-1")
    known.save_tests([outcome("old")._replace(test="tests/kernel/test_b.py::old")], True)
    ran = [outcome("one"), outcome("two")._replace(test="tests/kernel/test_b.py::two")]
    sent = b"".join(MARK + json.dumps(finished._asdict()).encode() + MARK for finished in ran)
    with pytest.raises(GuestError):
        Run(Dying(sent), known).tests(whole_files=True)  # type: ignore[arg-type]
    again = Results("sid", "7.2-x", "7.2.1-1")
    assert [outcome.test for outcome in again.group("tests/kernel/test_a.py")] == [ran[0].test]
    assert [outcome.test for outcome in again.group("tests/kernel/test_b.py")] == [
        "tests/kernel/test_b.py::old"
    ]
