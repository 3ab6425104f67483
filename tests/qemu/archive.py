"""Which kernels Debian's archive has today; fetches and unpacks them.

apt gets a configuration, lists and a status file of its own for each release, so that nothing of
this system's packages is read or changed.  Where packages come from is what apt of this machine
says.  Invariant: what was unpacked once is used again, without a network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".build/kernels"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
METAPACKAGE = "linux-image-cloud-amd64"
SUITES = ("bookworm", "trixie", "sid")
"""What runs unless others are named: the stable kernels in use, and the newest."""

UNRELEASED = ("sid", "experimental")
"""Suites without security updates of their own."""

LISTS_SECONDS = 7 * 86400
"""How long a release's package lists count as current."""

UNNEEDED_MODULES = re.compile(
    r"/kernel/(sound|fs/(?!overlayfs|fuse)|drivers/(gpu|media|scsi|ata|nvme|md|infiniband|usb|hid|input"
    r"|video|hv|xen|target|block|i2c|iio|staging|nvdimm|edac|hwmon))/"
)


class ArchiveError(Exception):
    """The archive cannot be read, or does not have what was asked for."""


class Kernel(NamedTuple):
    """A kernel of Debian's, unpacked."""

    suite: str
    release: str
    """As `uname -r` prints it."""

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def version(self) -> str:
        """Major and minor: "6.1"."""
        return ".".join(self.release.split(".")[:2])

    @property
    def package_version(self) -> str:
        """The full version of Debian's package: "6.1.192-3"."""
        return (self.folder / "version").read_text().strip()


def kernels(chosen: Sequence[str]) -> list[Kernel]:
    """The kernels to run, unpacked.  `chosen` has versions ("6.1") or suites ("forky").

    With nothing chosen, those of SUITES.  ArchiveError for what the archive does not have.
    """
    named = [word for word in chosen if not word[0].isdigit()]
    versions = [word for word in chosen if word[0].isdigit()]
    kernels = [_kernel(suite) for suite in named]
    if versions or not chosen:
        usual = [_kernel(suite) for suite in SUITES]
        for version in versions:
            if version not in [kernel.version for kernel in usual]:
                have = ", ".join(f"{kernel.version} ({kernel.suite})" for kernel in usual)
                raise ArchiveError(f"KERNELS: no {version} in Debian today; there are {have}")
        kernels += [kernel for kernel in usual if not versions or kernel.version in versions]
    return list({kernel.release: kernel for kernel in kernels}.values())


def _kernel(suite: str) -> Kernel:
    """The kernel that `suite` has now, or, where the archive cannot be reached, had last."""
    folder = CACHE / suite
    current = folder / "current"
    if current.exists() and time.time() - current.stat().st_mtime < LISTS_SECONDS:
        return _unpacked(suite, current.read_text())
    try:
        release = _fetch(suite, folder)
    except ArchiveError as error:
        if not current.exists():
            raise
        print(f"{error}\n{suite}: using the kernel that was fetched before", flush=True)
        return _unpacked(suite, current.read_text())
    current.write_text(release)
    return _unpacked(suite, release)


def _unpacked(suite: str, release: str) -> Kernel:
    return Kernel(suite, release, CACHE / suite / release)


def _fetch(suite: str, folder: Path) -> str:
    """Fetch and unpack the kernel of `suite`, unless that is done; its release."""
    environment = _own_apt(suite, folder / "apt")
    _apt(environment, "apt-get", "-qq", "update")
    packages = _packages(environment, suite)
    version = _version(environment, packages[0])
    release = packages[0].removeprefix("linux-image-")
    kernel = folder / release
    if (kernel / "version").exists() and (kernel / "version").read_text() == version:
        return release
    print(f"{suite}: fetching {' '.join(packages)} {version}", flush=True)
    new = folder / "new"
    shutil.rmtree(new, ignore_errors=True)
    (new / "packages").mkdir(parents=True)
    _apt(environment, "apt-get", "-qq", "download", *packages, cwd=new / "packages")
    for package in (new / "packages").iterdir():
        subprocess.run(["dpkg-deb", "--extract", package, new / "tree"], check=True)
    shutil.rmtree(new / "packages")
    (image,) = (new / "tree").glob("**/vmlinuz*")
    (modules,) = (new / "tree").glob(f"**/lib/modules/{release}")
    image.rename(new / "vmlinuz")
    (new / "modules/usr/lib/modules").mkdir(parents=True)
    kept = new / "modules/usr/lib/modules" / release
    modules.rename(kept)
    shutil.rmtree(new / "tree")
    for module in kept.rglob("*.ko*"):
        if UNNEEDED_MODULES.search(str(module)):
            module.unlink()
    (new / "version").write_text(version)
    for old in folder.iterdir():
        if old.is_dir() and old.name not in ("apt", "new"):
            shutil.rmtree(old)
    new.rename(kernel)
    return release


def _own_apt(suite: str, folder: Path) -> dict[str, str]:
    """An environment in which apt knows `suite` alone."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    main, security = _mirror(security=False), _mirror(security=True)
    if not main:
        raise ArchiveError("apt of this machine knows no mirror of Debian (apt-get update)")
    options = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
    sources = [f"deb {options}{main} {suite} main"]
    if security and suite not in UNRELEASED:
        sources.append(f"deb {options}{security} {suite}-security main")
    (folder / "sources.list").write_text("\n".join(sources) + "\n")
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}";\n'
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::State::status "{folder}/status";\n'
        f'Dir::Cache::Archives "{folder}/archives";\n'
        'Dir::Cache::pkgcache "";\n'
        'Dir::Cache::srcpkgcache "";\n'
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        'Dir::Etc::preferences "-";\n'
        'Dir::Etc::preferencesparts "-";\n'
        'APT::Default-Release "";\n'
        'APT::Sandbox::User "root";\n'
        'APT::Architecture "amd64";\n'
        'APT::Architectures { "amd64"; };\n'
        'Acquire::Languages "none";\n'
    )
    return os.environ | {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}


def _mirror(security: bool) -> str:
    """Where apt of this machine gets Debian's main or security archive from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(COMPONENT) $(SUITE) $(REPO_URI)"]
        + ["Created-By: Packages", "Origin: Debian"],
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    for line in listed.splitlines():
        component, suite, uri = line.split()
        if component == "main" and suite.endswith("-security") == security:
            return uri
    return ""


def _packages(environment: dict[str, str], suite: str) -> list[str]:
    """What the metapackage comes down to: the image first, then what the image is split into."""
    plain = ("recommends", "suggests", "breaks", "conflicts", "replaces", "enhances")
    listed = _apt(
        environment,
        *("apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in plain), METAPACKAGE),
    )
    versioned = re.compile(r"linux-(image|binary|modules)-[0-9]\S*-cloud-amd64")
    versions = sorted(
        {line for line in listed.splitlines() if versioned.fullmatch(line)},
        key=lambda name: (not name.startswith("linux-image-"), name),
    )
    if not versions:
        raise ArchiveError(f"{suite}: no {METAPACKAGE} in the archive")
    return versions


def _version(environment: dict[str, str], package: str) -> str:
    shown = _apt(environment, "apt-cache", "show", "--no-all-versions", package)
    return next(line for line in shown.splitlines() if line.startswith("Version: ")).split()[1]


def _apt(environment: dict[str, str], *argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).rsplit("\n", 1)[-1]
        raise ArchiveError(f"{' '.join(argv[:3])}: {last}")
    return done.stdout
