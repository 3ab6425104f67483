"""python -m tests.fuzz --seconds N [TARGET...]: every target for longer than the suite has.

Each target gets its share of the time in a process of its own.  Where atheris can be imported
it chooses the bytes that hypothesis makes its cases from, by what code they reach; elsewhere
hypothesis goes on with one seed after the other.  The seed is printed; a failure prints the
case and is kept by hypothesis in .hypothesis, where the suite finds it again.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import seed

from tests.fuzz.material import EXAMPLES

HERE = Path(__file__).parent


def targets() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every hypothesis test of this folder, as MODULE:NAME."""
    for path in sorted(HERE.glob("test_fuzz_*.py")):
        module = importlib.import_module(f"tests.fuzz.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("test_") and hasattr(function, "hypothesis"):
                if not hasattr(function, "pytestmark"):
                    yield f"{path.stem.removeprefix('test_fuzz_')}:{name}", function


def by_coverage(name: str, seconds: int, number: int) -> None:
    """In this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["mproutd"]):
        test = dict(targets())[name]
    arguments = [name, f"-max_total_time={seconds}", f"-seed={number}", "-rss_limit_mb=2048"]
    atheris.Setup(
        [*arguments, "-timeout=20", "-print_final_stats=1"], test.hypothesis.fuzz_one_input
    )  # type: ignore[attr-defined]
    atheris.Fuzz()


def by_seeds(name: str, seconds: int, number: int) -> None:
    """In this process; whatever fails is raised."""
    test = dict(targets())[name]
    until, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        seed(number + rounds)(test)()
        rounds += 1
    print(f"{rounds} rounds of 100 cases, from seed {number}")


def has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--by", choices=("coverage", "seeds"), help="coverage, if atheris is there")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help="MODULE:NAME, or a part of it; all without")
    options = parser.parse_args()
    by = options.by or ("coverage" if has_atheris() else "seeds")
    if options.here:
        {"coverage": by_coverage, "seeds": by_seeds}[by](
            options.target[0], options.seconds, options.seed
        )
        return 0
    chosen = [
        name
        for name, _ in targets()
        if not options.target or any(part in name for part in options.target)
    ]
    share = max(1, options.seconds // max(1, len(chosen)))
    failed = []
    print(f"{len(chosen)} targets, {share} s each, by {by}, seed {options.seed}", flush=True)
    for name in chosen:
        words = ["--here", "--by", by, "--seconds", str(share), "--seed", str(options.seed), name]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *words],
            cwd=HERE.parents[1],
            env={**os.environ, "PYTHONHASHSEED": "0", EXAMPLES: "100"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            failed.append(name)
            print(f"--- {name} failed ---\n{done.stdout[-6000:]}", flush=True)
        else:
            totals = [
                line for line in done.stdout.splitlines() if "rounds" in line or "Done" in line
            ]
            print(f"{name}: {totals[-1] if totals else 'nothing found'}", flush=True)
    print(f"{len(failed)} of {len(chosen)} failed: {' '.join(failed)}" if failed else "none failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
