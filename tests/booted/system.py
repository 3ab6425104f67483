"""A machine that boots: systemd-nspawn on a layer over a Debian root.

A node of the lab (the "disk") holds the layer and runs systemd-nspawn; another one (`network`)
is the machine's network, new at every boot, as the kernel's is.  Must hold: whatever ends the
test, SIGKILL too, ends the machine with its layer, and its control group goes with the next one.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LabError, Namespace, eventually
from tests.lab.resources import Closing

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "iputils-ping"),
    *("ifupdown", "isc-dhcp-client", "man-db", "bash-completion"),
    # Not there: what our package needs, for apt to fetch it as it would from a mirror.
    *("+python3", "+python3-tenacity", "+python3-pyroute2", "+python3-systemd", "+adduser"),
    "+python3-prometheus-client",
    "+python3-apt",  # what Ansible needs
)
RELEASE = os.environ.get("DEBIAN") or "12"
"""Of the tests that do not choose one: `make booted DEBIAN=13`."""
ROOT, LAYER, GROUPS = "/run/booted/root", "/run/booted/layer", "/sys/fs/cgroup"
_NUMBERS = itertools.count(1)

# A control group hierarchy of the kernel's second kind, whatever this machine itself uses.
LAY = f"""
set -eu
mkdir -p {ROOT} {LAYER}
mount -t tmpfs -o mode=755 layer {LAYER}
mkdir {LAYER}/upper {LAYER}/work
mount -t overlay -o "lowerdir=$1,upperdir={LAYER}/upper,workdir={LAYER}/work" layer {ROOT}
mkdir -p {ROOT}/var/log/journal
rm -f {ROOT}/etc/machine-id {ROOT}/etc/hostname
mount -t tmpfs group {GROUPS}
mount -t cgroup2 group {GROUPS}
for left in {GROUPS}/mproutd-booted-*; do
	[ ! -d "$left" ] || [ -d "/proc/$(echo "${{left##*booted-}}" | cut -d- -f1)" ] ||
		find "$left" -depth -type d -exec rmdir {{}} + || true
done
mkdir {GROUPS}/$2
"""
BOOT = f"""
echo $$ >{GROUPS}/$1/cgroup.procs
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_COLORS=0
exec systemd-nspawn --quiet --directory={ROOT} --machine=gateway --boot --register=no --keep-unit \\
	--console=read-only --resolv-conf=off --timezone=off --link-journal=no \\
	--network-namespace-path="$2" --capability=CAP_NET_ADMIN \\
	systemd.log_target=journal
"""


def root(packages: Sequence[str] = PACKAGES, release: str = "") -> Path:
    """The Debian root with these packages; made if it is not there.  pytest.fail when it cannot.

    `release`: 12 or 13; by default what DEBIAN says in the environment, else 12.
    """
    done = subprocess.run(
        [REPOSITORY / "packaging/root.sh", *packages],
        env={**os.environ, "DEBIAN": release or RELEASE},
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        pytest.fail("no Debian root: see above what packaging/root.sh says", pytrace=False)
    return Path(done.stdout.strip())


class Booted(Closing):
    """A machine, booted.  `plug_in` gives its network the devices, before every boot.

    `before` may change the disk, given the path of its root, before the first boot.
    LabError with the console's last lines when it does not come up.
    """

    def __init__(
        self,
        plug_in: Callable[[Namespace], object] = lambda network: None,
        packages: Sequence[str] = PACKAGES,
        before: Callable[[Path], object] = lambda root: None,
        release: str = "",
    ) -> None:
        self._plug_in = plug_in
        self._group = f"mproutd-booted-{os.getpid()}-{next(_NUMBERS)}"
        lower = root(packages, release)
        self.disk, self.network = Namespace("disk"), Namespace("network")
        self._nspawn: subprocess.Popen[Any] | None = None
        self._leader = ""
        """PID 1 of the machine, as it is called out here."""
        try:
            self.disk.run("sh", "-c", LAY, "sh", str(lower), self._group)
            before(self.path("/"))
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self, timeout: float = 60) -> None:
        """Boot, and wait until systemd has done all that it wanted."""
        self.network.close()
        self.network = Namespace("network")
        self._plug_in(self.network)
        with self.disk.path("/run/booted/console").open("ab") as console:
            self._nspawn = self.disk.popen(
                *("sh", "-c", BOOT, "sh", self._group, f"/proc/{self.network.pid}/ns/net"),
                stdout=console,
                stderr=console,
            )
        self._leader = eventually(self._find_leader, 10, "PID 1 of the machine")
        deadline = time.monotonic() + timeout
        while self.run("systemctl is-system-running", check=False).strip() not in (
            "running",
            "degraded",
        ):
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the machine does not boot:\n{self.console()[-3000:]}")
            time.sleep(0.05)

    def _find_leader(self) -> str:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise LabError(
                f"systemd-nspawn cannot boot here (exit {self._nspawn.returncode}): "
                + self.console().strip()[-500:]
            )
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            status = Path(f"/proc/{child}/status").read_text()
            # systemd, once nspawn has given it all its namespaces
            if re.search(r"^NSpid:.*\s1$", status, re.M) and status.startswith("Name:\tsystemd\n"):
                return child
        return ""

    def stop(self, timeout: float = 60) -> None:
        """Shut it down in good order; the disk stays."""
        assert self._nspawn is not None
        self.call("systemctl poweroff")
        try:
            self._nspawn.wait(timeout)
            self._leader = ""
        except subprocess.TimeoutExpired:
            raise LabError(f"no shutdown:\n{self.console()[-3000:]}") from None

    def cut_power(self) -> None:
        """Switch it off as it runs; the disk stays, and its network is gone at once."""
        assert self._nspawn is not None
        self.network.close()
        os.kill(int(self._leader), signal.SIGKILL)  # and systemd-nspawn goes after it
        self._nspawn.wait(10)
        self._leader = ""

    def reboot(self) -> None:
        """Shut down, switch off, boot: nothing stays but the disk."""
        self.stop()
        self.start()

    # -- what one does with it ------------------------------------------------------------

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the machine, for subprocess."""
        return [
            *("nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("--root", "--wd", "--", "env", "-i", "HOME=/root", "TERM=dumb", "LANG=C.UTF-8"),
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            *argv,
        ]

    def call(self, line: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as root; how it ended, with both outputs in `stdout`."""
        return subprocess.run(
            self.command("sh", "-c", line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )

    def run(self, line: str, check: bool = True, timeout: float = 60) -> str:
        """Run a line of shell as root; what it printed.  LabError when it fails, if `check`."""
        done = self.call(line, timeout)
        if check and done.returncode:
            raise LabError(f"{line}: exit {done.returncode}\n{done.stdout}")
        return done.stdout

    def install(self, package: Path) -> None:
        """Install a package of this host's; a copy of it stays in /root."""
        self.path("/root/mproutd.deb").write_bytes(package.read_bytes())
        self.run("apt-get install --yes /root/mproutd.deb")

    def path(self, inside: str) -> Path:
        """A path of its disk, for the test to open.  For /run and /tmp, which are no disk: run."""
        return self.disk.path(ROOT + inside)

    def write(self, path: str, text: str) -> None:
        """A file; executable if it is a script.  Below /run it works while the machine runs."""
        base = f"/proc/{self._leader}/root" if self._leader else str(self.path("/"))
        file = Path(base + path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if text.startswith("#!") else 0o644)

    def unit_state(self, unit: str, what: str = "ActiveState") -> str:
        """A property of a unit, as `systemctl show` says it: "active", "failed", "inactive" …"""
        return self.run(f"systemctl show --value --property={what} {unit}").strip()

    def journal(self, *arguments: str) -> str:
        """What journalctl(1) reads from the disk, of all boots; also after the end."""
        self.call("journalctl --sync")
        return subprocess.run(
            ["journalctl", f"--directory={self.path('/var/log/journal')}", "--no-pager"]
            + ["--quiet", "--output=short-monotonic", *arguments],
            check=True,
            text=True,
            capture_output=True,
        ).stdout

    def console(self) -> str:
        """What the machine printed while it booted and went down."""
        return self.disk.path("/run/booted/console").read_text(errors="replace")

    def close(self) -> None:
        """Switch it off, and forget all of it.  Harmless a second time."""
        group = self.disk.path(f"{GROUPS}/{self._group}")
        try:
            if self._nspawn is not None and self._nspawn.poll() is None:
                if self._leader:
                    os.kill(int(self._leader), signal.SIGKILL)  # and systemd-nspawn goes after it
                    self._nspawn.wait(10)
            (group / "cgroup.kill").write_text("1")
            # a group goes when the last that was in it is gone
            eventually(lambda: "populated 0" in (group / "cgroup.events").read_text())
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            pass  # the next machine takes it away
        self.disk.close()
        self.network.close()
