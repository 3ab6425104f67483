"""The version that the history gives, and that apt takes each later one for an upgrade."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from mproutd import __version__

ROOT = Path(__file__).parents[2]
SCRIPT = "packaging/python/version.py"
CARRIED = (SCRIPT, "packaging/python/archive.txt", "packaging/python/.gitattributes")
INIT = "mproutd/__init__.py"


class Repository:
    """A history of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in CARRIED:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{role}_{key}": "x" for role in ("AUTHOR", "COMMITTER") for key in NAMES}
        clock = {"GIT_COMMITTER_DATE": "1800000000 +0000", "GIT_CONFIG_GLOBAL": os.devnull}
        done = subprocess.run(
            ["git", "-C", self.folder, *arguments],
            env={**os.environ, **who, **clock},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, number: str = "") -> str:
        """One more commit, which sets this number; its hash."""
        if number:
            (self.folder / "mproutd").mkdir(exist_ok=True)
            (self.folder / INIT).write_text(f'"""It."""\n\n__version__ = "{number}"\n')
        with (self.folder / "file").open("a") as file:
            file.write("line\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "one more")
        return self.git("rev-parse", "HEAD")[:8]


NAMES = ("NAME", "EMAIL")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if not shutil.which("git"):
        pytest.skip("no git here")
    return Repository(tmp_path / "repository")


def version(folder: Path) -> str:
    done = subprocess.run([sys.executable, folder / SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_later(one: str, other: str) -> bool:
    """As apt has it."""
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other]).returncode == 0


def test_it_rises_with_every_commit_and_is_plain_at_a_release(repository: Repository) -> None:
    seen = []
    for number in ("0.1.0", *[""] * 11, "0.2.0", *[""] * 2):
        commit = repository.commit(number)
        seen.append(version(repository.folder))
    assert seen[0] == "0.1.0"
    assert re.fullmatch(r"0\.1\.0\+1\.g[0-9a-f]{8}", seen[1])
    assert seen[12] == "0.2.0"
    assert seen[14] == f"0.2.0+2.g{commit}"
    if shutil.which("dpkg"):
        assert [pair for pair in pairwise(seen) if not is_later(pair[1], pair[0])] == []


def test_what_is_not_committed_has_the_time(repository: Repository) -> None:
    repository.commit("0.1.0")
    (repository.folder / "file").write_text("changed\n")
    assert re.fullmatch(r"0\.1\.0\+0\.d\d{14}", version(repository.folder))
    repository.git("checkout", "file")
    commit = repository.commit()
    (repository.folder / "new").touch()
    changed = version(repository.folder)
    assert re.fullmatch(rf"0\.1\.0\+1\.g{commit}\.d\d{{14}}", changed)
    if shutil.which("dpkg"):
        assert is_later(changed, f"0.1.0+1.g{commit}")
        assert is_later("0.1.0+2.g0", changed)


def archive(repository: Repository, to: Path) -> Path:
    packed, unpacked = to / "archive.tar", to / "archive"
    repository.git("archive", f"--output={packed}", "HEAD")
    shutil.rmtree(unpacked, ignore_errors=True)
    shutil.unpack_archive(packed, unpacked)
    return unpacked


def test_an_archive_has_what_git_wrote_there(repository: Repository, tmp_path: Path) -> None:
    repository.commit("0.1.0")
    commit = repository.commit()
    assert version(archive(repository, tmp_path)) == f"0.1.0+0.20270115080000.g{commit}"
    repository.git("tag", "--annotate", "--message=x", "v0.1.0", "HEAD~1")
    assert version(archive(repository, tmp_path)) == f"0.1.0+1.g{commit}"
    repository.git("checkout", "--quiet", "v0.1.0")
    assert version(archive(repository, tmp_path)) == "0.1.0"


def test_a_shallow_clone_cannot_be_counted(repository: Repository, tmp_path: Path) -> None:
    for number in ("0.1.0", "", ""):
        commit = repository.commit(number)
    source = f"file://{repository.folder}"
    repository.git("clone", "--quiet", "--depth=1", source, str(tmp_path / "shallow"))
    shallow = [sys.executable, tmp_path / "shallow" / SCRIPT]
    done = subprocess.run(shallow, capture_output=True, text=True)
    assert done.stdout == f"0.1.0+0.20270115080000.g{commit}\n"
    assert done.stderr == "version: a shallow clone; to count commits: git fetch --unshallow\n"


def test_an_sdist_has_it_in_its_source(repository: Repository) -> None:
    repository.commit("0.1.0+7.g01234567")
    shutil.rmtree(repository.folder / ".git")
    assert version(repository.folder) == "0.1.0+7.g01234567"


def test_an_error_of_git_is_one_line(repository: Repository) -> None:
    repository.commit("0.1.0")
    (repository.folder / ".git/HEAD").write_text("nonsense\n")
    script = [sys.executable, repository.folder / SCRIPT]
    done = subprocess.run(script, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("version: git rev-parse: fatal: ")


def test_this_tree_has_one() -> None:
    if (ROOT / ".git").exists() and not shutil.which("git"):
        pytest.skip("no git here")
    assert version(ROOT).startswith(__version__)


def test_the_sdist_has_its_version_and_can_test_itself(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="no setuptools in this environment")
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git here")
    code = "import sys, backend; print(backend.build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT / "packaging/python")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    name = done.stdout.split()[-1]
    shutil.unpack_archive(tmp_path / name, tmp_path)
    tree = tmp_path / name.removesuffix(".tar.gz")
    assert name == f"mproutd-{version(tree)}.tar.gz"
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True).stdout
    tracked = [path for path in listed.splitlines() if (ROOT / path).exists()]
    assert [path for path in tracked if not (tree / path).exists()] == []
    tests = ["tests/packaging/test_metadata.py", "tests/unit/test_uci.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
