"""User-mode Linux: another kernel as a process, for what no module or sysctl can switch off.

Its root is this machine's own file system, read-only; /run is its own.  It has no network but
what the script creates.  Two seconds from start to end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.wait import scaled

REPOSITORY = Path(__file__).resolve().parents[2]
UNPACKED = REPOSITORY / ".build/unpacked"
DEBIAN = UNPACKED / "usr/bin/linux.uml"
"""Debian's user-mode-linux: it has no MPTCP."""

WITHOUT_RULES = {
    "IPv4": REPOSITORY / ".build/kernels/uml/without-rules",
    "IPv6": REPOSITORY / ".build/kernels/uml/without-ipv6-rules",
}
"""Kernels without policy routing, built by tests/qemu/build-uml."""

TIMEOUT = 100
BEGIN, END = "--- begin", "--- end"
INIT = f"""\
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
for module in %(modules)s; do busybox insmod "$module"; done
ip link set lo up
cd {REPOSITORY}
mproutd() {{
	command=$1
	shift
	set -- "$command" --config-dir /run/config --runtime-dir /run/mproutd "$@"
	[ "$command" != run ] || exec {sys.executable} -m mproutd "$@"
	{sys.executable} -m mproutd "$@"
}}
mkdir /run/config
echo "{BEGIN}"
{{
%(script)s
}} 2>&1
echo "{END}"
poweroff -f
"""


def modules(*names: str) -> list[Path]:
    """Modules of Debian's kernel by name, in the order in which they are to be loaded."""
    (tree,) = (UNPACKED / "usr/lib/uml/modules").iterdir()
    return [next(tree.rglob(f"{name}.ko")) for name in names]


def run_in_uml(kernel: Path, script: str, modules: Sequence[Path] = ()) -> str:
    """Boot `kernel`, run a script of shell in the checkout as root, and return what it printed.

    In it, `mproutd COMMAND …` uses /run/config and /run/mproutd; `mproutd run` does not return.
    AssertionError when the kernel did not get to the end.
    """
    with tempfile.TemporaryDirectory(prefix="mproutd-uml-") as folder:
        init = Path(folder, "init")
        loaded = " ".join(map(str, modules))
        init.write_text(INIT % {"modules": loaded, "script": script})
        init.chmod(0o755)
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", kernel, "mem=512M", "quiet", f"uml_dir={folder}/"]
            + ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={init}"]
            + ["con=null", "con0=null,fd:1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=scaled(TIMEOUT),
        )
    text = done.stdout.replace("\r", "")
    assert BEGIN in text, f"no user-mode Linux here:\n{text[-2000:]}"
    assert END in text, text[-4000:]
    return text.split(BEGIN + "\n", 1)[1].split(END, 1)[0]
