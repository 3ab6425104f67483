"""What postinst makes of the leases that dhclient got before the package was installed."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POSTINST = ROOT / "packaging/debian/mproutd.postinst"
HOOK = "/etc/dhcp/dhclient-exit-hooks.d/mproutd"

NEVER = "expire never;"
FOR_AN_HOUR = time.strftime("expire %w %Y/%m/%d %H:%M:%S;", time.gmtime(time.time() + 3600))
AN_HOUR_AGO = time.strftime("expire %w %Y/%m/%d %H:%M:%S;", time.gmtime(time.time() - 3600))
EPOCH = f"expire epoch {int(time.time()) + 3600}; # Mon Nov 30 15:00:00 2026"
EPOCH_AGO = f"expire epoch {int(time.time()) - 3600};"


def lease(device: str, gateway: str, ends: str = FOR_AN_HOUR, more: str = "") -> str:
    """As dhclient 4.4.3 writes it."""
    return f"""\
lease {{
  interface "{device}";
  fixed-address 10.2.2.50;
  server-name "provider; its {{ name }}";
  option subnet-mask 255.255.255.0;
  option routers {gateway};
  option domain-name "routers 10.6.6.6";
  {more}
  renew 1 2026/11/30 14:00:00;
  {ends}
}}
"""


def install(tmp_path: Path, **files: str) -> dict[str, str]:
    """The hints after `postinst configure`, by device; files are leases, each a second newer."""
    leases, runtime = tmp_path / "dhcp", tmp_path / "run"
    leases.mkdir()
    runtime.mkdir()
    for n, (name, text) in enumerate(files.items()):
        file = leases / f"dhclient.{name}.leases"
        file.write_text(text)
        os.utime(file, (1_700_000_000 + n, 1_700_000_000 + n))
    script = POSTINST.read_text().replace(HOOK, str(ROOT / HOOK[1:]))
    done = subprocess.run(
        [
            "dash",
            "-c",
            script.replace("/var/lib/dhcp", str(leases)),
            "postinst",
            "configure",
            "0.1",
        ],
        env={"PATH": os.environ["PATH"], "MPROUTD_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {hint.name: hint.read_text() for hint in Path(f"{runtime}-hints").glob("*")}


def hint(gateway: str) -> str:
    return f"address=10.2.2.50\ngateway={gateway}\nreason=BOUND\n"


@pytest.mark.parametrize("ends", [FOR_AN_HOUR, NEVER, EPOCH], ids=["an hour", "never", "epoch"])
def test_a_lease_that_is_valid_leaves_its_hint(tmp_path: Path, ends: str) -> None:
    text = lease("eth2", "10.2.2.1,10.2.2.2", ends)
    assert install(tmp_path, eth2=text) == {"eth2:4": hint("10.2.2.1")}


@pytest.mark.parametrize("ends", [AN_HOUR_AGO, EPOCH_AGO], ids=["an hour ago", "epoch"])
def test_a_lease_that_has_ended_leaves_none(tmp_path: Path, ends: str) -> None:
    assert install(tmp_path, eth2=lease("eth2", "10.2.2.1") + lease("eth2", "10.2.2.9", ends)) == {}


def test_a_lease_that_was_just_released_leaves_none(tmp_path: Path) -> None:
    """dhclient -r writes it once more, with the current second as its end."""
    now = int(time.time())
    released = {
        "eth2": time.strftime("expire %w %Y/%m/%d %H:%M:%S;", time.gmtime(now)),
        "eth3": f"expire epoch {now};",
    }
    leases = {device: lease(device, "10.2.2.1", ends) for device, ends in released.items()}
    assert install(tmp_path, **leases) == {}


def test_the_last_lease_of_each_device_counts(tmp_path: Path) -> None:
    hints = install(
        tmp_path,
        eth2=lease("eth2", "10.2.2.1", AN_HOUR_AGO) + lease("eth2", "10.2.2.2"),
        all=lease("eth1", "10.1.1.1") + lease("eth3", "10.3.3.1"),
        eth1=lease("eth1", "10.1.1.2"),
    )
    assert hints == {
        "eth1:4": hint("10.1.1.2"),
        "eth2:4": hint("10.2.2.2"),
        "eth3:4": hint("10.3.3.1"),
    }


def test_classless_routes_come_before_the_routers(tmp_path: Path) -> None:
    routes = "option rfc3442-classless-static-routes 24,10,7,7,10,2,2,9,0,10,2,2,3;"
    hints = install(tmp_path, eth2=lease("eth2", "10.2.2.1", more=routes))
    assert hints == {"eth2:4": hint("10.2.2.3")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lease {\n",
        "nonsense\0\xff",
        lease("../../etc", "10.2.2.1"),
        lease("eth2", "$(touch /tmp/mproutd-was-here)"),
        lease("eth2", "10.2.2.1".replace(".", ";")),
    ],
    ids=["empty", "cut short", "nonsense", "no device", "a command", "no address"],
)
def test_nothing_else_leaves_one(tmp_path: Path, text: str) -> None:
    assert install(tmp_path, eth2=text) == {}


def test_without_dhclient_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert install(tmp_path) == {}
