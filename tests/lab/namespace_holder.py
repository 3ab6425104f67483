"""The process that a lab node consists of.

Run by `Namespace` inside fresh network and mount namespaces.  It says "ready" and
then waits.  When its standard input closes, or the process that started it dies in
whatever way (SIGTERM by PR_SET_PDEATHSIG), it ends every process that is left in
its network namespace and goes away, and the kernel removes the namespace with all
devices in it.  Must hold: no way to end a test run leaves anything behind.
"""

import os
import signal
import time


def in_this_namespace() -> list[int]:
    """The other processes whose network namespace is ours."""
    mine = os.stat("/proc/self/ns/net").st_ino
    pids = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if os.stat(f"/proc/{name}/ns/net").st_ino == mine:
                    pids.append(int(name))
            except OSError:
                continue
    return pids


def main() -> None:
    parent = os.getppid()
    nothing = os.open("/dev/null", os.O_RDONLY)

    def on_term(*_: object) -> None:
        # PDEATHSIG also fires when only the *thread* that started us has ended.
        # No exception: it could strike in the middle of the clearing up below, since
        # a dying process closes our input before it sends this signal.
        if os.getppid() != parent:
            os.dup2(nothing, 0)

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.write(1, b"ready\n")
        while os.read(0, 64):
            pass
    finally:
        for _ in range(100):
            remaining = [pid for pid in in_this_namespace() if pid != parent]
            if not remaining:
                break
            for pid in remaining:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            time.sleep(0.01)


main()
