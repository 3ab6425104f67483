"""A guest: one of Debian's kernels in qemu, and commands that run in it.

Invariants: whatever ends this process ends qemu; nothing of the guest is on a disk but its
initrd and its console, which close() removes; it has no network card.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.qemu.archive import CHECKOUT, Kernel
from tests.qemu.initrd import INIT, write_initrd

QEMU = "qemu-system-x86_64"
MEMORY_MB = 2560
MACHINE = (
    *("-M", "q35", "-cpu", "Nehalem", "-smp", "1", "-m", str(MEMORY_MB)),
    *("-accel", "tcg,thread=single,tb-size=512", "-icount", "shift=0,sleep=off"),
    *("-nodefaults", "-nic", "none", "-display", "none", "-no-reboot"),
)
KERNEL_OPTIONS = (
    "console=ttyS0 quiet panic=-1 mitigations=off nopti nokaslr audit=0 selinux=0 apparmor=0"
)
BOOT_SECONDS = 600
SILENT_SECONDS = 3600
"""Wall time without any output after which a guest is given up."""

TIME_FACTOR = 6
"""The guest is about this many times slower than the machine that the tests' limits are for."""

ENVIRONMENT = {"MPROUTD_TIME_FACTOR": str(TIME_FACTOR), "MPROUTD_GUEST": "1", "CI": "true"}


class GuestError(Exception):
    """The guest did not boot, or died."""


class Guest:
    """One of Debian's kernels.  Use as a context manager: it boots on entry, is gone on exit."""

    def __init__(self, kernel: Kernel, folders: Sequence[Path] = ()) -> None:
        """`folders` of the checkout's .build are in the guest too, at the same path."""
        self._kernel, self._folders = kernel, folders
        self._folder = Path(tempfile.mkdtemp(prefix="mproutd-guest-"))
        self._console = self._folder / "console"
        self._initrd = kernel.folder / "initrd"
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = socket.socket(socket.AF_UNIX)
        self._received = b""
        self.boot_seconds = 0.0
        """Wall time from the start of qemu until the guest answered."""

    def __enter__(self) -> Guest:
        try:
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _boot(self) -> None:
        write_initrd(self._kernel, self._initrd, self._folders)
        port = self._folder / "agent"
        began = time.monotonic()
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", QEMU, *MACHINE),
                *("-kernel", self._kernel.image, "-initrd", self._initrd),
                *("-append", f"{KERNEL_OPTIONS} rdinit={INIT}"),
                *("-serial", f"file:{self._console}", "-device", "virtio-serial"),
                *("-chardev", f"socket,id=agent,path={port},server=on,wait=off"),
                *("-device", "virtserialport,chardev=agent,name=agent"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self._folder / "qemu.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        # Connected before the guest has a driver for the port: what it sends is not lost.
        while True:
            try:
                self._socket.connect(str(port))
                break
            except OSError:
                if self._process.poll() is not None or time.monotonic() - began > 20:
                    raise self._error("qemu did not start") from None
                time.sleep(0.01)
        self._socket.settimeout(BOOT_SECONDS)
        if "ready" not in self._read():
            raise self._error("the guest did not boot")
        self.boot_seconds = time.monotonic() - began
        self._socket.settimeout(SILENT_SECONDS)

    def _read(self) -> dict[str, Any]:
        """The agent's next message.  GuestError when the guest is gone or silent."""
        while b"\n" not in self._received:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                raise self._error("the guest is silent") from None
            if not data:
                raise self._error("the guest died")
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def _error(self, what: str) -> GuestError:
        log = (self._folder / "qemu.log").read_text(errors="replace")
        console = self._console.read_text(errors="replace") if self._console.exists() else ""
        return GuestError(f"{self._kernel.release}: {what}\n{log}{console[-4000:]}".rstrip())

    def run(
        self,
        argv: Sequence[str],
        on_output: Callable[[bytes], object],
        environment: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command in the checkout, in the guest; its exit status.

        `on_output` gets what it prints, standard error too, as it comes.
        """
        command = {
            "argv": list(argv),
            "cwd": str(CHECKOUT),
            "environment": ENVIRONMENT | dict(environment or {}),
        }
        self._socket.sendall(json.dumps(command).encode() + b"\n")
        while True:
            message = self._read()
            if "status" in message:
                return int(message["status"])
            on_output(message["output"].encode("latin-1"))

    def close(self) -> None:
        """Switch it off.  Harmless a second time."""
        self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._initrd.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


class Host:
    """This machine's own kernel, for the same commands."""

    boot_seconds = 0.0

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(
        self,
        argv: Sequence[str],
        on_output: Callable[[bytes], object],
        environment: Mapping[str, str] | None = None,
    ) -> int:
        process = subprocess.Popen(
            argv,
            cwd=CHECKOUT,
            env=os.environ | {"CI": "true"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        with process.stdout:
            while data := os.read(process.stdout.fileno(), 1 << 16):
                on_output(data)
        return process.wait()
