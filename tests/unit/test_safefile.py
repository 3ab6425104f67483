"""Files of the runtime directory: which are trusted, and names that exist already.

Somebody else is user 12345 here; the daemon's user is `nobody`, since every system has that one.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mproutd import safefile
from mproutd.configuration.uci import load
from mproutd.control import socket_file
from mproutd.control.server import Server
from mproutd.eventloop import Loop
from mproutd.hints import Hints, HintsWatch, hints_directory
from mproutd.planning.state import State
from mproutd.statefile import Lock, StateFile

PACKAGE = Path(safefile.__file__).parent
OTHER = 12345
MEMORY = State(slots={"wan1": 1})

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file outside that nothing here may touch."""
    made = tmp_path / "secret"
    made.write_text("secret")
    made.chmod(0o600)
    before = made.stat()
    yield made
    after = made.stat()
    assert made.read_text() == "secret"
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def refused(directory: Path) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011 (its words are what is compared)
        Lock(str(directory))
    return str(caught.value.strerror)


# -- the folder ---------------------------------------------------------------------------


def give_away(runtime: Path) -> None:
    os.chown(runtime, OTHER, OTHER)


def sticky(runtime: Path) -> None:
    runtime.chmod(0o1777)


def group(runtime: Path) -> None:
    runtime.chmod(0o775)


def link_of_another(runtime: Path) -> None:
    runtime.rename(runtime.with_name("real"))
    runtime.symlink_to("real")
    os.chown(runtime, OTHER, OTHER, follow_symlinks=False)


@as_root
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (give_away, "belongs to user 12345"),
        (sticky, "writable by other users"),
        (group, "writable by other users"),
        (link_of_another, "not a directory"),
    ],
)
def test_a_folder_that_others_may_write_is_refused(
    runtime: Path, make: Callable[[Path], None], words: str
) -> None:
    make(runtime)
    assert words in refused(runtime)
    assert os.listdir(runtime) == []


def test_a_link_of_our_own_is_followed_and_a_missing_folder_made(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o755)
    (tmp_path / "run").symlink_to("real")
    assert Lock(str(tmp_path / "run")).acquire()
    assert Lock(str(tmp_path / "new" / "run")).acquire()
    assert stat.S_IMODE((tmp_path / "new" / "run").stat().st_mode) == 0o755


def test_the_lock_is_waited_for_as_long_as_asked(runtime: Path) -> None:
    holder, waiting = Lock(str(runtime)), Lock(str(runtime))
    assert holder.acquire()
    assert not waiting.acquire()
    began = time.monotonic()
    assert not waiting.acquire(0.1)
    assert time.monotonic() - began >= 0.1
    threading.Timer(0.1, holder.release).start()
    assert waiting.acquire(10)
    waiting.release()


@as_root
def test_a_command_of_roots_beside_a_daemon_that_is_not(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    monkeypatch.setattr(safefile, "USER", "nobody")
    (runtime / "actions").write_text("wan1 up\n")
    for path in (runtime, runtime / "actions"):
        os.chown(path, nobody, -1)
    lock = Lock(str(runtime))
    assert runtime.stat().st_uid == nobody
    assert lock.acquire()
    assert runtime.stat().st_uid == 0, "only root can rename what root makes"
    StateFile(str(runtime)).save(MEMORY)
    lock.release()
    owners = {path.name: path.stat().st_uid for path in (runtime, *runtime.iterdir())}
    assert set(owners.values()) == {nobody}
    assert set(owners) == {runtime.name, "lock", "state.json", "actions"}


@as_root
def test_a_lock_that_another_holds_leaves_the_directory_as_it_is(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safefile, "USER", "nobody")
    nobody = pwd.getpwnam("nobody").pw_uid
    holder = Lock(str(runtime))
    assert holder.acquire()
    os.chown(runtime, nobody, -1)
    assert not Lock(str(runtime)).acquire()
    assert runtime.stat().st_uid == nobody
    holder.release()


@as_root
def test_nothing_is_handed_over_under_another_name(
    runtime: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's user may have given a file of root's the name of ours."""
    monkeypatch.setattr(safefile, "USER", "nobody")
    os.link(secret, runtime / "actions")
    os.link(secret, runtime / "state.json.new")
    (runtime / "netifd.json").symlink_to(secret)
    (runtime / "hints").symlink_to(secret.parent)
    os.mkfifo(runtime / "wake")
    os.chown(runtime, pwd.getpwnam("nobody").pw_uid, -1)
    lock = Lock(str(runtime))
    assert lock.acquire()
    StateFile(str(runtime)).save(MEMORY)
    lock.release()
    os.link(secret, runtime / "other")
    os.rename(runtime / "other", runtime / "lock")
    assert "not a file of its own" in refused(runtime)
    (runtime / "lock").unlink()
    os.mkfifo(runtime / "lock")
    assert "not a file of its own" in refused(runtime)


# -- names that are taken -----------------------------------------------------------------


def loaded(runtime: Path) -> StateFile:
    state = StateFile(str(runtime))
    state.load()
    return state


def test_the_state_file_is_never_waited_for(runtime: Path) -> None:
    os.mkfifo(runtime / "state.json")
    assert "not a regular file" in loaded(runtime).error


def test_a_state_file_without_an_end_is_not_read_to_it(runtime: Path) -> None:
    with open(runtime / "state.json", "wb") as file:
        file.truncate(1 << 40)
    assert "File too large" in loaded(runtime).error


def test_a_namespace_that_is_no_number_is_an_invalid_state(runtime: Path) -> None:
    StateFile(str(runtime)).save(MEMORY)
    text = (runtime / "state.json").read_text()
    for namespace in ("4e26532847", "null", '"x"', "[]", "true"):
        changed = re.sub(r'"namespace": \d+', f'"namespace": {namespace}', text)
        assert changed != text
        (runtime / "state.json").write_text(changed)
        state = loaded(runtime)
        assert "namespace is not a number" in state.error
        assert state.state == State()


@as_root
@pytest.mark.parametrize(("user", "mode"), [(OTHER, 0o600), (0, 0o666)])
def test_a_state_file_that_others_could_write_is_not_believed(
    runtime: Path, user: int, mode: int
) -> None:
    StateFile(str(runtime)).save(MEMORY)
    assert loaded(runtime).state == MEMORY
    os.chown(runtime / "state.json", user, -1)
    (runtime / "state.json").chmod(mode)
    state = loaded(runtime)
    assert state.state == State()
    assert state.error


def test_links_under_our_names_are_replaced_and_not_followed(runtime: Path, secret: Path) -> None:
    for name in ("state.json", "state.json.new", "control.sock"):
        (runtime / name).symlink_to(secret)
    state = loaded(runtime)
    assert state.state == State()
    state.save(MEMORY)
    assert loaded(runtime).state == MEMORY
    server = Server(str(runtime / "control.sock"), Loop(), dict)
    assert stat.S_ISSOCK((runtime / "control.sock").lstat().st_mode)
    server.close()


class Swapped(socket.socket):
    """A socket whose name leads elsewhere as soon as it can be found."""

    secret = ""

    def bind(self, path: Any) -> None:
        super().bind(path)
        os.unlink(path)
        os.symlink(self.secret, path)


@as_root
def test_the_control_socket_is_for_the_group_before_it_can_be_found(
    runtime: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = grp.getgrnam("nogroup").gr_gid
    monkeypatch.setattr(socket_file, "GROUP", "nogroup")
    made = runtime / "control.sock"
    before = os.umask(0), os.getegid()
    server = Server(str(made), Loop(), dict)
    assert (os.umask(before[0]), os.getegid()) == (0, before[1])
    assert (made.stat().st_gid, stat.S_IMODE(made.stat().st_mode)) == (group, 0o660)
    server.close()
    # In a directory that gives its own group to what is made there, it is for us alone.
    runtime.chmod(0o2755)
    server = Server(str(made), Loop(), dict)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    server.close()
    runtime.chmod(0o755)
    monkeypatch.setattr(Swapped, "secret", str(secret))
    monkeypatch.setattr("mproutd.control.server.socket.socket", Swapped)
    Server(str(made), Loop(), dict).close()


def test_a_lock_that_is_a_link_is_refused(runtime: Path, secret: Path) -> None:
    (runtime / "lock").symlink_to(secret)
    assert refused(runtime) == "Too many levels of symbolic links"


def test_hints_behind_a_link_are_not_read(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "eth1").write_text("gateway=10.1.1.1\n")
    folder = Path(hints_directory(str(runtime)))
    folder.symlink_to(tmp_path / "elsewhere")
    hints = Hints(str(runtime))
    assert hints.read(["eth1"]) == {}
    assert "not a directory" in hints.error
    folder.unlink()
    folder.mkdir(mode=0o755)
    (folder / "eth1").symlink_to(tmp_path / "elsewhere" / "eth1")
    assert hints.read(["eth1"]) == {}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_no_umask_opens_anything(runtime: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        directory = runtime / "made"
        Lock(str(directory))
        StateFile(str(directory)).save(MEMORY)
        HintsWatch(str(directory))
        server = Server(str(directory / "control.sock"), Loop(), dict)
        assert os.umask(umask) == umask
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        for name in (directory, Path(hints_directory(str(directory)))):
            modes[name.name] = stat.S_IMODE(name.stat().st_mode)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(directory / "control.sock"))
        server.close()
    finally:
        os.umask(before)
    folder = 0o755 & ~umask
    assert modes.pop("control.sock") in (0o600, 0o660)  # 0660 where there is a group mproutd
    assert modes == {
        "made": folder,
        "made-hints": folder,
        "lock": 0o600,
        "state.json": 0o600,
    }


def test_a_file_is_replaced_whatever_stands_there(runtime: Path, secret: Path) -> None:
    for name in ("actions", "actions.new"):
        (runtime / name).symlink_to(secret)
    safefile.replace_file(str(runtime / "actions"), b"wan1 up\n")
    assert os.listdir(runtime) == ["actions"]
    assert (runtime / "actions").read_text() == "wan1 up\n"
    assert stat.S_IMODE((runtime / "actions").lstat().st_mode) == 0o600


# -- the configuration --------------------------------------------------------------------


@as_root
@pytest.mark.parametrize(
    ("name", "user", "group", "mode", "words"),
    [
        ("network", 0, 0, 0o666, "every user can change it"),
        ("network", OTHER, 0, 0o600, "user 12345 can change it"),
        ("mproutd", 0, OTHER, 0o664, "group 12345 can change it"),
        (".", OTHER, OTHER, 0o755, "user 12345 can change it"),
        (".", 0, 0, 0o1777, "every user can change it"),
        ("network", 0, OTHER, 0o644, ""),
        ("network", 0, 0, 0o664, ""),
    ],
)
def test_a_configuration_that_others_can_change_is_warned_of(
    tmp_path: Path, name: str, user: int, group: int, mode: int, words: str
) -> None:
    for file in ("network", "mproutd"):
        (tmp_path / file).write_text("")
    os.chown(tmp_path / name, user, group)
    (tmp_path / name).chmod(mode)
    expected = f"{tmp_path / name}: {words}".replace("/.:", ":")
    warnings = [line.replace("/.:", ":") for line in load(str(tmp_path)).warnings]
    assert len(warnings) == bool(words)
    assert all(line.startswith(expected) for line in warnings)


PROGRAMS = """\
config uplink 'wan1'
	option on_up '/usr/local/sbin/up'
	option on_down '/usr/local/sbin/down'
"""
UPLINKS = """\
config interface 'wan1'
	option device 'eth1'
	option multipath 'master'
"""


@as_root
@pytest.mark.parametrize("name", ["network", "mproutd", "."])
def test_programs_of_a_configuration_that_others_can_change_are_not_run(
    tmp_path: Path, name: str
) -> None:
    directory = tmp_path / "configuration"
    directory.mkdir(mode=0o755)
    (directory / "network").write_text(UPLINKS)
    (directory / "mproutd").write_text(PROGRAMS)
    (uplink,) = load(str(directory)).uplinks
    assert (uplink.on_up, uplink.on_down) == (("/usr/local/sbin/up",), ("/usr/local/sbin/down",))
    os.chown(directory / name, OTHER, -1)
    config = load(str(directory))
    (changed,) = config.uplinks
    assert changed == uplink._replace(on_up=(), on_down=()), "routing goes on"
    (warning,) = [line for line in config.warnings if "user 12345" in line]
    assert "so on_down, on_up are ignored" in warning


@as_root
def test_a_file_in_a_foreign_directory_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "home" / "configuration"
    directory.mkdir(parents=True)
    (directory / "network").write_text(UPLINKS)
    (directory / "mproutd").write_text(PROGRAMS)
    link = tmp_path / "link"
    link.symlink_to(directory)
    for path in (directory, link):
        assert load(str(path)).uplinks[0].on_up
    os.chown(tmp_path / "home", OTHER, -1)
    for path in (directory, link):
        assert not load(str(path)).uplinks[0].on_up
        assert "home: user 12345 can change it" in load(str(path)).warnings[-1]
    # In a sticky directory of root's, nobody can replace what is root's.
    os.chown(tmp_path / "home", 0, -1)
    (tmp_path / "home").chmod(0o1777)
    assert load(str(directory)).uplinks[0].on_up
    # Nor are the daemon's user and the group of those who ask for the status root.
    monkeypatch.setattr(safefile, "USER", "nobody")
    os.chown(directory / "mproutd", pwd.getpwnam("nobody").pw_uid, -1)
    assert not load(str(directory)).uplinks[0].on_up
    os.chown(directory / "mproutd", 0, -1)
    (directory / "mproutd").chmod(0o664)
    assert load(str(directory)).uplinks[0].on_up
    monkeypatch.setattr(os, "getegid", lambda: OTHER)
    os.chown(directory / "mproutd", 0, OTHER)
    assert load(str(directory)).uplinks[0].on_up, "a group that nobody else is in"
    monkeypatch.setattr(
        grp, "getgrgid", lambda gid: grp.struct_group(("mproutd", "x", gid, ["friend"]))
    )
    assert not load(str(directory)).uplinks[0].on_up


@as_root
def test_a_state_that_a_user_may_not_read_is_not_taken_for_none(runtime: Path) -> None:
    """Else everything that mproutd has made would be called another program's."""
    StateFile(str(runtime)).save(MEMORY)
    for parent in (runtime, *runtime.parents):
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    script = f"import sys; sys.argv = ['mproutd', 'status', '--runtime-dir', {str(runtime)!r}]"
    script += "; from mproutd.cli import main; sys.exit(main())"
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(readable_copy(runtime.parent))},
        capture_output=True,
        text=True,
        user=OTHER,
        group=OTHER,
        extra_groups=[],
    )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert "mproutd is not running, and only root may read" in line


def readable_copy(folder: Path) -> Path:
    """The package where any user may read it."""
    shutil.copytree(PACKAGE, folder / "copy" / "mproutd", ignore=shutil.ignore_patterns("*.pyc"))
    return folder / "copy"
