"""make overflow: many changes under load; which connections, subflows and time they cost.

Prints what docs/costly-lines.md says: the changes of the backup flag, the subflows lost, the
longest stall of an echo through all of it, and how often a saw-tooth load makes an uplink carry.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from tests.lab import SERVER, Daemon, Echo, Wan, eventually, subflows
from tests.lab.modes import Carried, network
from tests.lab.paced import Paced
from tests.lab.traffic import mptcp_counters

OWN = """\
config uplink 'wan1'
	option download '20000'
	option upload '20000'

config uplink 'wan2'
	option overflow '80'
	option quota '1T'
"""
CHANGES = 200
SAWTOOTH_SECONDS, SAWTOOTH_PERIOD = 120, 8


def changes(wan: Wan, count: int, mode: str) -> bool:
    """Change what wan2 is `count` times under load, by entering figures for its quota."""
    own = OWN.replace("overflow '80'", f"quota_action '{mode}'")
    modes = network(eth1="master", eth2="on")
    with (
        Daemon(wan.gateway, modes, own) as daemon,
        Echo(wan.gateway, wan.server, SERVER) as echo,
        Paced(wan.gateway, wan.server, SERVER, mbit=30) as upload,
    ):
        ports = (echo.port, upload.port)

        def joined() -> bool:
            return all(len(subflows(wan.gateway, port)) == 2 for port in ports)

        eventually(joined)
        identities = {
            (s.local, s.local_port) for port in ports for s in subflows(wan.gateway, port)
        }
        echo.report()
        before = mptcp_counters(wan.gateway)
        for number in range(count):
            used = 10**12 if number % 2 == 0 else 0
            reply = request(daemon, {"command": "quota", "uplink": "wan2", "used": used})
            assert "error" not in reply, reply
        eventually(lambda: daemon.uplink("wan2")["effective_mode"] == "on")
        eventually(joined, 30)
        after = mptcp_counters(wan.gateway)
        report = echo.report()
        kept = identify(wan, ports)
        sent = after.get("MPPrioTx", 0) - before.get("MPPrioTx", 0)
        print(
            f"{count} changes to {mode} and back: {sent} MP_PRIO sent, "
            f"{len(identities - kept)} of {len(identities)} subflows lost, longest stall "
            f"{report.gap:.2f} s, error {report.error or 'none'}",
            flush=True,
        )
        return not report.error and (mode != "backup" or kept == identities)


def identify(wan: Wan, ports: tuple[int, ...]) -> set[tuple[str, int]]:
    """(address, port) of each subflow; one that was opened again has another port."""
    return {
        (subflow.local, subflow.local_port)
        for port in ports
        for subflow in subflows(wan.gateway, port)
    }


def request(daemon: Daemon, message: dict[str, object]) -> dict[str, object]:
    """A request of the control socket."""
    with daemon._control_socket() as connection:
        connection.sendall(json.dumps(message).encode() + b"\n")
        reply = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    decoded: dict[str, object] = json.loads(reply)
    return decoded


def sawtooth(wan: Wan, seconds: float, period: float) -> bool:
    """A demand that rises from 5 to 35 Mbit/s and falls back, again and again."""
    with (
        Daemon(wan.gateway, network(eth1="master", eth2="backup"), OWN) as daemon,
        Paced(wan.gateway, wan.server, SERVER, mbit=5) as upload,
    ):
        carried, begin = Carried(wan.gateway), time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            upload.rate(5 + 30 * (now % period) / period)
            time.sleep(0.1)
        begun = daemon.log().count("wan2 carries, because")
        share = carried.by("eth2") / (carried.by("eth1") + carried.by("eth2"))
        print(
            f"a saw-tooth of 5 to 35 Mbit/s every {period:g} s for {seconds:g} s: began to carry "
            f"{begun} times, {share:.0%} of the bytes",
            flush=True,
        )
        return begun <= 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="make overflow", description=__doc__)
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--seconds", type=float, default=SAWTOOTH_SECONDS)
    options = parser.parse_args()
    good = []
    for mode in ("backup", "handover"):
        with Wan(lan=False).usual() as wan:
            good.append(changes(wan, options.changes, mode))
    with Wan(lan=False).usual() as wan:
        good.append(sawtooth(wan, options.seconds, SAWTOOTH_PERIOD))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
