"""Providers whose resolvers answer only their own customers, and a LAN that asks the gateway's.

    lan ── br-lan gateway (dnsmasq) ── eth1 ── router1, resolver 198.51.100.1 and 2001:db8:531::1
                                    ── eth2 ── router2, resolver 198.51.100.2 and 2001:db8:532::1

The resolvers are dnsmasq with --local-service: they answer whoever is in a subnet of theirs and
ignore everybody else.  Each can be reached through every uplink, so that only the source decides.
The answer to any name below `.test` names the provider: 192.0.2.1 or 192.0.2.2.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.daemon import RUNTIME_DIR
from tests.lab.namespace import Namespace
from tests.lab.wait import eventually
from tests.lab.wan import Wan

UNPACKED = Path(__file__).resolve().parents[2] / ".build/unpacked"
GATEWAY = "192.168.70.1"
"""Where the LAN asks."""
LOOKUPS = '''
"""Ask SERVER for a new name every INTERVAL seconds; at the end of stdin print what came of it."""
import json, select, socket, struct, sys, time
server, interval, patience = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
s = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((server, 53))
base = time.time_ns() % 10**9
number, asked, answers, next_at, ending = 0, {}, [], time.monotonic(), 0.0
print("ready", flush=True)
while not ending or (asked and time.monotonic() < ending):
    now = time.monotonic()
    if not ending and now >= next_at:
        number += 1
        next_at += interval
        label = b"n%d-%d" % (base, number)
        question = bytes([len(label)]) + label + b"\\4test\\0\\0\\1\\0\\1"
        asked[number] = now
        try:
            s.send(struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + question)
        except OSError:
            pass
    for end in [n for n, at in asked.items() if now - at > patience]:
        answers.append((end, None, "", asked.pop(end)))
    watched = [s] if ending else [s, sys.stdin]
    for ready in select.select(watched, [], [], max(0.0, min(next_at - now, 0.05)))[0]:
        if ready is sys.stdin:
            ending = time.monotonic() + patience
            continue
        try:
            message = s.recv(4096)
        except OSError:
            continue
        n, flags = struct.unpack_from("!HH", message)
        if n in asked and flags & 0x8000:
            at = asked.pop(n)
            good = not flags & 15 and struct.unpack_from("!H", message, 6)[0] == 1
            address = socket.inet_ntoa(message[-4:]) if good else "code %d" % (flags & 15)
            answers.append((n, time.monotonic() - at, address, at))
answers += [(n, None, "", at) for n, at in asked.items()]
print(json.dumps(sorted(answers)))
'''


class Lookup(NamedTuple):
    """What came of one lookup."""

    number: int
    seconds: float | None
    """None: no answer in time."""
    answer: str
    """The address, or `code N`."""
    at: float
    """When it was sent, on the monotonic clock."""

    @property
    def failed(self) -> bool:
        return self.seconds is None or self.answer.startswith("code")


PIPES: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


class Lookups:
    """Lookups at a steady rate by the program LOOKUPS.  Context manager; stop() returns them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

    def stop(self) -> list[Lookup]:
        out, _ = self._process.communicate(timeout=60)
        return [Lookup(*entry) for entry in json.loads(out)]

    def __enter__(self) -> Lookups:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def lookups(
    node: Namespace, server: str = GATEWAY, interval: float = 0.1, patience: float = 5.0
) -> Lookups:
    """Names that a node asks for."""
    program = (sys.executable, "-c", LOOKUPS, server, str(interval), str(patience))
    return Lookups(node.popen(*program, **PIPES))


def resolver(n: int, family: int = 4) -> str:
    """The address of a provider's resolver."""
    return f"198.51.100.{n}" if family == 4 else f"2001:db8:53{n}::1"


def answer(n: int) -> str:
    """What the resolver of provider `n` says."""
    return f"192.0.2.{n}"


def program() -> str:
    unpacked = UNPACKED / "usr/sbin/dnsmasq"
    return str(unpacked) if unpacked.exists() else shutil.which("dnsmasq") or str(unpacked)


class Names(Wan):
    """The usual world with a resolver at each provider."""

    def __init__(self, uplinks: int = 2) -> None:
        super().__init__(uplinks, shaped=False)
        self.usual()
        self.resolvers: dict[int, subprocess.Popen[Any]] = {}
        self.gateway_resolver: subprocess.Popen[Any] | None = None
        for n, router in self.routers.items():
            router.ip(
                f"address add {resolver(n)}/32 dev lo",
                f"address add {resolver(n, 6)}/128 dev lo nodad",
            )
            self.server.ip(
                f"route add {resolver(n)} via 10.9.{n}.1",
                f"route add {resolver(n, 6)} via 2001:db8:90{n}::1",
            )
            for other in self.routers:
                if other != n:
                    router.ip(
                        f"route add {resolver(other)} via 10.9.{n}.2",
                        f"route add {resolver(other, 6)} via 2001:db8:90{n}::2",
                        f"route add 10.{other}.{other}.0/24 via 10.9.{n}.2",
                        f"route add 2001:db8:{other}::/64 via 2001:db8:90{n}::2",
                    )
            self.start_resolver(n)
        self.server.sysctl("net.ipv4.ip_forward", 1)
        self.server.sysctl("net.ipv6.conf.all.forwarding", 1)

    def start_resolver(self, n: int) -> None:
        self.resolvers[n] = self.routers[n].popen(
            *(program(), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
            *("--no-hosts", "--local-service", f"--address=/test/{answer(n)}"),
            *("--pid-file=/run/names.pid", "--log-facility=/run/names.log", "--log-queries"),
        )
        eventually(lambda: self.ask(self.routers[n], resolver(n)) == answer(n), 20)

    def stop_resolver(self, n: int) -> None:
        self.resolvers[n].terminate()
        self.resolvers[n].wait()

    def start_gateway_resolver(self, *options: str) -> None:
        """dnsmasq on the gateway, with our file."""
        self.gateway_resolver = self.gateway.popen(
            *(program(), "--keep-in-foreground", "--conf-file=/dev/null", "--cache-size=0"),
            *(f"--resolv-file={RUNTIME_DIR}/resolv.conf", "--no-hosts", "--log-queries"),
            *("--pid-file=/run/names.pid", "--log-facility=/run/names.log", *options),
        )

    def lose_everything(self, n: int) -> None:
        """Nothing arrives at router `n` any more, for its own resolver neither."""
        chain = 'type filter hook prerouting priority raw; iifname "access" drop;'
        script = f"table inet hole {{ chain way {{ {chain} }}; }}"
        self.routers[n].run("nft", "-f", "-", input=script)

    def find_everything(self, n: int) -> None:
        """Undo lose_everything()."""
        self.routers[n].run("nft", "delete", "table", "inet", "hole")

    def ask(self, node: Namespace, server: str, patience: float = 0.5) -> str:
        """The answer of a server to one lookup from a node; "" for none."""
        with lookups(node, server, 60, patience) as one:
            (lookup,) = one.stop()
        return lookup.answer

    def resolv_conf(self) -> list[str]:
        """The resolvers in our file, as it lists them."""
        try:
            text = self.gateway.path(f"{RUNTIME_DIR}/resolv.conf").read_text()
        except FileNotFoundError:
            return []
        return [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]


# -- figures: python -m tests.lab.names [ROUNDS] ------------------------------------------

CHECK = (
    "\tlist track_ip '10.9.9.9'\n\toption interval '1'\n\toption failure_interval '0.5'\n"
    "\toption timeout '1'\n\toption hold '0'\n\toption up '1'\n"
)
FILES = {
    "mproutd": "",
    "mproutd and strict-order": "",
    "a fixed file with the master's resolver": f"nameserver {resolver(1)}\n",
    "a fixed file with both": f"nameserver {resolver(1)}\nnameserver {resolver(2)}\n",
}
"""Case → what dnsmasq reads instead of our file; empty for ours."""


def failover(case: str, kind: str) -> tuple[int, int, float]:
    """(lookups, failed ones, the longest time without an answer) through one failover."""
    from tests.lab.daemon import Daemon

    own = "".join(
        f"config uplink 'wan{n}'\n{CHECK}"
        + ("" if FILES[case] else f"\tlist dns '{resolver(n)}'\n")
        for n in (1, 2)
    )
    with Names() as world, Daemon(world.gateway, own=own) as daemon:
        assert world.lan
        lan, options = world.lan, list[str]()
        eventually(lambda: daemon.query_status()["default"].get("ipv4") == "wan1", 20)
        if FILES[case]:
            world.gateway.path("/run/fixed").write_text(FILES[case])
            options = ["--resolv-file=/run/fixed"]
        if "strict-order" in case:
            options.append("--strict-order")
        world.start_gateway_resolver(*options)
        eventually(lambda: world.ask(lan, GATEWAY) in (answer(1), answer(2)), 30)
        with lookups(lan) as running:
            time.sleep(3)
            (world.unplug if kind == "cable" else world.lose_everything)(1)
            time.sleep(12)
            (world.plug if kind == "cable" else world.find_everything)(1)
            time.sleep(8)
            done = running.stop()
    good = sorted(lookup.at + lookup.seconds for lookup in done if lookup.seconds is not None)
    gap = max((b - a for a, b in itertools.pairwise(good)), default=0.0)
    return len(done), sum(lookup.failed for lookup in done), gap


def main(rounds: int) -> None:
    for kind in sys.argv[2:] or ("cable", "black hole"):
        for case in FILES:
            results = [failover(case, kind) for _ in range(rounds)]
            failed = [result[1] for result in results]
            longest = max(result[2] for result in results)
            total = sum(result[0] for result in results)
            print(f"{kind}, {case}: {failed} failed of {total}, gap {longest:.2f} s", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
