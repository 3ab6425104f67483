"""What the pages weigh, how soon they paint, and what a poll costs the router.

    python -m tests.browser.measure        prints the tables of docs/page.md; needs root

Run it on a machine that does nothing else.
"""

from __future__ import annotations

import gzip
import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.browser.chromium import Chromium
from tests.browser.cockpit import URL, Cockpit
from tests.browser.luci import APP, PLUGIN, STATUS, Luci
from tests.browser.programs import install_command
from tests.lab import RUNTIME_DIR, Daemon, Namespace, Wan
from tests.lab.daemon import REPOSITORY
from tests.lab.openwrt import BUSYBOX
from tests.lab.ubus import BIN

WEB = REPOSITORY / "web"
ROUNDS = 10
CALLS = 30

FIRST_STATUS = """
while (!document.querySelector('.headline'))
    await new Promise(resolve => setTimeout(resolve, 1));
const now = performance.now();
const paint = performance.getEntriesByName('first-contentful-paint')[0];
const loaded = performance.getEntriesByType('resource');
return [paint.startTime, now, loaded.length + 1];
"""


def files(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def weight(paths: Iterable[Path]) -> tuple[int, int]:
    """Bytes, and as gzip packs them."""
    texts = [path.read_bytes() for path in paths]
    return sum(map(len, texts)), sum(len(gzip.compress(text, 9)) for text in texts)


def sizes() -> None:
    print("| what | on disk | each file by gzip |\n| --- | --- | --- |")
    parts = {
        "the module, `web/page`": files(WEB / "page"),
        "Cockpit's shell, `web/cockpit`": files(WEB / "cockpit"),
        "LuCI's views": files(APP / "htdocs"),
    }
    for name, paths in parts.items():
        plain, packed = weight(paths)
        print(f"| {name} | {plain / 1000:.0f} kB | {packed / 1000:.0f} kB |")


def first_paint(node: Namespace, url: str, server: Callable[[], Cockpit | Luci]) -> list[float]:
    seen = []
    for _ in range(ROUNDS):
        with server(), Chromium(node) as browser:
            browser.open(url)
            seen.append(browser.script(FIRST_STATUS))
    return [statistics.median(column) for column in zip(*seen, strict=True)]


def paints(daemon: Daemon) -> None:
    print("\n| page | first paint | first status | requests |\n| --- | --- | --- | --- |")
    for name, url, server in (
        ("Cockpit", URL, lambda: Cockpit(daemon)),
        ("LuCI (its own client stood in for)", STATUS, lambda: Luci(daemon)),
    ):
        paint, status, requests = first_paint(daemon.node, url, server)
        print(f"| {name} | {paint:.0f} ms | {status:.0f} ms | {requests:.0f} |")


def poll(node: Namespace, method: str, runtime: str) -> tuple[float, float, int]:
    """Milliseconds of one call of rpcd's plugin, of them on a processor, and bytes."""
    took, worked, out = [], [], ""
    argv = node.command(
        *("env", "-i", f"PATH={BIN}:/usr/sbin:/usr/bin", f"MPROUTD_RUNTIME_DIR={runtime}"),
        *(BUSYBOX, "sh", str(PLUGIN), "call", method),
    )
    for _ in range(CALLS):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        out = subprocess.run(argv, input="{}", text=True, capture_output=True, check=True).stdout
        took.append(time.perf_counter() - begun)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        worked.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "error" not in json.loads(out)
    return statistics.median(took) * 1e3, statistics.median(worked) * 1e3, len(out)


def polls(daemon: Daemon) -> None:
    install_command(daemon)
    print("\n| poll of LuCI | by | takes | of a processor |\n| --- | --- | --- | --- |")
    for method in ("status", "connections"):
        for name, runtime in (("the command", "/nonexistent"), ("the control socket", RUNTIME_DIR)):
            took, worked, _ = poll(daemon.node, method, runtime)
            print(f"| `{method}` | {name} | {took:.0f} ms | {worked:.0f} ms |")


def main() -> None:
    sizes()
    with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.settle()
        polls(daemon)
        paints(daemon)


if __name__ == "__main__":
    main()
