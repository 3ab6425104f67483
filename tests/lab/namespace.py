"""A node of the laboratory: a machine with its own network, /run and /sys.

A node is a small child process in anonymous namespaces (nothing in /run/netns, no
device ever in the host's namespace).  It dies with the process that made it, by
SIGKILL too, and takes along whatever still runs inside it.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.wait import scaled

HOLDER = Path(__file__).with_name("namespace_holder.py")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """A command in the lab failed, or the lab itself cannot be built."""


def setns(descriptor: int) -> None:
    """Move the calling thread into a network namespace (setns(2)); OSError if refused."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "setns")


def checked(argv: Sequence[str], result: subprocess.CompletedProcess[str], where: str) -> str:
    """What the command printed; LabError with everything one wants to know if it failed."""
    if result.returncode:
        raise LabError(
            f"{where}: {' '.join(argv)}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        )
    return result.stdout


class Namespace:
    """A node.  Use as a context manager, or call close().

    `files` maps paths below /etc to a text that only this node sees there.
    Making it returns at once; the first use waits for it, so several start side by side.
    """

    def __init__(self, name: str, files: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._files = dict(files or {})
        self._children: list[subprocess.Popen[Any]] = []
        self._descriptor = -1
        self._lock = threading.Lock()
        mounts = "mount -t tmpfs -o mode=755 lab /run && mount -t sysfs lab /sys"
        self._holder = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "TERM",
                "unshare",
                "--net",
                "--mount",
                "sh",
                "-c",
                mounts + ' && exec "$@"',
                "sh",
                sys.executable,
                "-I",
                "-S",
                str(HOLDER),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process that holds the namespaces, as `ip link ... netns PID` wants it."""
        if self._descriptor < 0:
            with self._lock:
                if self._descriptor < 0:
                    self._begin()
        return self._holder.pid

    def _begin(self) -> None:
        assert self._holder.stdout
        assert self._holder.stderr
        if self._holder.stdout.readline() != b"ready\n":
            raise LabError(f"{self.name}: no namespace: {self._holder.stderr.read().decode()}")
        self._descriptor = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)
        with self.enter():
            self.sysctl("net.ipv4.conf.all.rp_filter", 0)
            self.sysctl("net.ipv4.conf.default.rp_filter", 0)
            self._batch(["ip"], ["link set lo up"])
        for path, text in self._files.items():
            private = self.path("/run/etc" + path)
            private.parent.mkdir(parents=True, exist_ok=True)
            private.write_text(text)
            self.run("mount", "--bind", "/run/etc" + path, path)

    def path(self, inside: str) -> Path:
        """A path of the node, for the test to open: node.path("/run/mproutd/state")."""
        return Path(f"/proc/{self.pid}/root{inside}")

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Move the calling thread into the node's network namespace for a while.

        For sockets opened in-process (they stay in the node afterwards), for programs
        without the cost of nsenter, and for /proc/sys/net and /proc/thread-self/net,
        which then speak of the node.  Comes back whatever happens; nests.
        """
        _ = self.pid
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            setns(self._descriptor)
            try:
                yield
            finally:
                setns(home)
        finally:
            os.close(home)

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside the node, for subprocess or a shell."""
        at = f"/proc/{self.pid}/ns"
        return ["nsenter", f"--net={at}/net", f"--mount={at}/mnt", "--", *argv]

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        timeout: float = 20,
        **keywords: Any,
    ) -> str:
        """Run a program in the node and return its standard output.

        LabError when it fails (unless check=False), subprocess.TimeoutExpired after
        `timeout` seconds.  Keywords go to subprocess.run.
        """
        result = subprocess.run(
            self.command(*argv),
            input=input,
            timeout=scaled(timeout),
            text=True,
            capture_output=True,
            start_new_session=True,
            **keywords,
        )
        return checked(argv, result, self.name) if check else result.stdout

    def popen(self, *argv: str, **keywords: Any) -> subprocess.Popen[Any]:
        """Start a program in the node; close() ends it.  Keywords go to subprocess.Popen.

        Its pid is the program's own (nsenter does not stay in between).
        """
        keywords.setdefault("stdin", subprocess.DEVNULL)
        with self.enter():  # in the namespace from its first moment on, for close() to find it
            child = subprocess.Popen(self.command(*argv), start_new_session=True, **keywords)
        self._children.append(child)
        return child

    def _batch(self, program: Sequence[str], lines: Iterable[str], check: bool = True) -> str:
        argv = [*program, "-batch", "-"]
        text = "\n".join(lines) + "\n"
        with self.enter():
            result = subprocess.run(
                argv, input=text, text=True, capture_output=True, timeout=scaled(20)
            )
        return checked(argv, result, f"{self.name}: {text}") if check else result.stdout

    def ip(self, *lines: str, family: int = 0) -> str:
        """Run `ip` commands, all in one process: node.ip("link set eth1 up", "route show").

        `family` 4 or 6 stands for -4 or -6.  Stops at the first one that fails, with LabError.
        """
        return self._batch(["ip", f"-{family}"] if family else ["ip"], lines)

    def tc(self, *lines: str) -> str:
        """Run `tc` commands, all in one process; LabError at the first that fails."""
        return self._batch(["tc"], lines)

    def sysctl(self, key: str, value: int | str | None = None) -> str:
        """Read net.* of the node, or set it: node.sysctl("net.ipv4.ip_forward", 1).

        As with sysctl(8), a key with slashes may have dots in its parts:
        "net/ipv4/conf/eth0.300/rp_filter".
        """
        path = "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))
        with self.enter():
            if value is None:
                return Path(path).read_text().strip()
            Path(path).write_text(f"{value}\n")
        return str(value)

    def has_sysctl(self, key: str) -> bool:
        """Whether the kernel has this setting."""
        with self.enter():
            return Path("/proc/sys", key.replace(".", "/")).exists()

    def state(self, ids: bool = False) -> str:
        """Routes (all tables but local), rules, endpoints and limits in `ip` syntax, sorted.

        For comparing states.  Endpoint ids only with `ids`, since the kernel deals
        them by history.
        """
        show = ["route show table all", "rule show"]
        with self.enter():
            ends = ["mptcp endpoint show", "mptcp limits show"]
            old = self._batch(["ip", "-4", "-o"], show + ends)
            new = self._batch(["ip", "-6", "-o"], show)
        lines = [f"-4 {line}" for line in map(_canonical, old.splitlines())]
        lines += [f"-6 {line}" for line in map(_canonical, new.splitlines())]
        if not ids:
            lines = [re.sub(r" id \d+", "", line) for line in lines]
        return "\n".join(sorted(line for line in lines if " table local " not in f"{line} ")) + "\n"

    def close(self) -> None:
        """End what runs in the node and remove it.  Harmless a second time."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe:
                    pipe.close()
        self._children.clear()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        holder = self._holder
        if holder.stdin and not holder.stdin.closed:
            holder.stdin.close()
        holder.wait()
        for pipe in (holder.stdout, holder.stderr):
            if pipe:
                pipe.close()

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _canonical(line: str) -> str:
    """A line of `ip -o` without what changes by itself, and with its kind in front."""
    line = re.sub(r" (expires|age) \S+", "", line.replace("\\", " "))
    line = re.sub(r"\s+", " ", line).strip()
    if re.match(r"\d+: ?from", line):
        return "rule " + line.replace(":", "", 1)
    if " id " in f" {line} " and re.match(r"[0-9a-f.:]+ (port \d+ )?id ", line):
        return "endpoint " + line
    if line.startswith("add_addr_accepted"):
        return "limits " + line
    return "route " + line
