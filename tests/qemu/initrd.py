"""What a guest boots from: a Debian root, this checkout and the kernel's modules in one initrd.

The root is of the release that this machine runs, so that the checkout's .venv and its unpacked
programs work there as they are.  Written anew for every boot (a second); only the root is kept.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.qemu.archive import CHECKOUT, Kernel

INIT = CHECKOUT / "tests/qemu/init"
LIST = CHECKOUT / "packaging/debian-packages.txt"
NOT_IN_THE_GUEST = set(
    "python3-venv ca-certificates shellcheck debootstrap systemd-container prometheus".split()
)
TOO_LARGE = ("usr/bin/prometheus", "usr/bin/promtool")
"""Half of the guest's memory is what its root may take."""
BESIDES = ("python3", "kmod", "xz-utils", "hostname")
NOT_OF_THE_ROOT = (
    "usr/share/man usr/share/doc usr/share/info usr/share/locale usr/share/lintian"
    " var/cache/apt var/lib/apt/lists var/log"
).split()
NOT_OF_THE_CHECKOUT = (
    ".git .build .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants build dist"
).split()
LINTERS = ("mypy", "mypyc", "ruff", "pip")


class InitrdError(Exception):
    """The initrd cannot be made."""


def packages() -> list[str]:
    """The Debian packages of the guest's root, those included that are only unpacked here."""
    listed = (line.split()[:2] for line in LIST.read_text().splitlines() if line.strip())
    wanted = [name for kind, name in listed if kind in ("install", "unpack")]
    return sorted({*wanted, *BESIDES} - NOT_IN_THE_GUEST)


def release() -> str:
    """The Debian release that this machine runs, as packaging/root.sh names it."""
    system = platform.freedesktop_os_release()
    if system.get("ID") != "debian" or "VERSION_CODENAME" not in system:
        raise InitrdError(f"this is {system.get('PRETTY_NAME', 'no Debian')}; a Debian is needed")
    return system.get("VERSION_ID") or system["VERSION_CODENAME"]


def root() -> Path:
    """The Debian root of the guests, made if it is not there."""
    done = subprocess.run(
        [CHECKOUT / "packaging/root.sh", *packages()],
        env=os.environ | {"DEBIAN": release()},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise InitrdError("no Debian root: see above what packaging/root.sh says")
    return Path(done.stdout.strip())


def write_initrd(kernel: Kernel, file: Path, folders: Iterable[Path] = ()) -> None:
    """Everything that the guest has, as one cpio archive after another.

    `folders` of the checkout's .build are taken along.
    """
    tree = root()
    python = (CHECKOUT / ".venv/bin/python").resolve()
    if not (tree / str(python).lstrip("/")).exists():
        raise InitrdError(
            f".venv is made with {python}, which Debian does not have:"
            " rm -r .venv && PYTHON=/usr/bin/python3 make setup"
        )
    modules = kernel.folder / "modules"
    if not (modules / "usr/lib/modules" / kernel.release / "modules.dep").exists():
        _depmod(tree, kernel)
    with file.open("wb") as archive:
        _append(archive.fileno(), tree, _walk(tree, NOT_OF_THE_ROOT))
        _append(archive.fileno(), modules, _walk(modules, ()))
        _append(archive.fileno(), Path("/"), _checkout())
        for folder in folders:
            _append(archive.fileno(), Path("/"), _with_parents(folder))


def _depmod(tree: Path, kernel: Kernel) -> None:
    """Index the modules with the root's own depmod, which sees them in a mount of its own."""
    script = 'mount --bind "$2" "$1/mnt" && exec chroot "$1" depmod -b /mnt/usr "$3"'
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tree, kernel.folder / "modules"]
        + [kernel.release],
        check=True,
        # Debian's packages leave out the lists of what is built in; nothing is missed.
        stderr=subprocess.DEVNULL,
    )


def _walk(top: Path, without: Iterable[str]) -> Iterator[str]:
    """Every path below `top`, relative to it, directories before what they hold."""
    left_out = set(without)
    for folder, folders, files in os.walk(top):
        relative = os.path.relpath(folder, top)
        prefix = "" if relative == "." else relative + "/"
        folders[:] = [name for name in folders if prefix + name not in left_out]
        yield relative
        yield from (prefix + name for name in files)
        # os.walk does not enter a link to a directory, nor does it list it as a file
        yield from (prefix + name for name in folders if os.path.islink(os.path.join(folder, name)))


def _checkout() -> Iterator[str]:
    """The checkout's paths from the root of the file system, and those that lead to it."""
    root = str(CHECKOUT).lstrip("/")
    yield from _parents(root)
    site_packages = next((CHECKOUT / ".venv/lib").glob("python*/site-packages"), None)
    if site_packages is None:
        raise InitrdError("no .venv: make setup")
    linters = [str((site_packages / name).relative_to(CHECKOUT)) for name in LINTERS]
    for path in _walk(CHECKOUT, (*NOT_OF_THE_CHECKOUT, *linters)):
        yield root if path == "." else f"{root}/{path}"
    if (CHECKOUT / ".build/unpacked").is_dir():
        yield f"{root}/.build"
        for path in _walk(CHECKOUT / ".build/unpacked", ()):
            if path in TOO_LARGE:
                continue
            yield f"{root}/.build/unpacked" + ("" if path == "." else "/" + path)


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    yield from ("/".join(parts[: n + 1]) for n in range(len(parts) - 1))


def _with_parents(folder: Path) -> Iterator[str]:
    """The paths of a folder from the root of the file system, and those that lead to it."""
    top = str(folder).lstrip("/")
    yield from _parents(top)
    yield from (top if path == "." else f"{top}/{path}" for path in _walk(folder, ()))


def _append(archive: int, top: Path, paths: Iterable[str]) -> None:
    subprocess.run(
        ["cpio", "--quiet", "--null", "--create", "--format=newc"],
        cwd=top,
        input=b"".join(os.fsencode(path) + b"\0" for path in paths),
        stdout=archive,
        check=True,
    )
