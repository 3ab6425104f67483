"""Traffic in the lab, and what the kernel says about it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, NamedTuple

from tests.lab.namespace import LabError, Namespace
from tests.lab.wait import eventually, scaled


class Interval(NamedTuple):
    """What arrived between two moments of an iperf3 run."""

    start: float
    """Seconds since the run began."""
    end: float
    mbit: float
    """10^6 bit/s of payload that the receiving program read."""


class Measured(NamedTuple):
    """The result of an iperf3 run, seen from the receiver."""

    mbit: float
    """The mean over the whole run, in 10^6 bit/s."""
    intervals: tuple[Interval, ...]
    completed: bool
    """The connection lived until its planned end."""
    error: str

    def between(self, start: float, end: float) -> float:
        """The mean rate in Mbit/s of the intervals that lie in [start, end]."""
        inside = [i for i in self.intervals if i.start >= start - 0.01 and i.end <= end + 0.01]
        seconds = sum(i.end - i.start for i in inside)
        return sum(i.mbit * (i.end - i.start) for i in inside) / seconds if seconds else 0.0


class Iperf:
    """One iperf3 connection from `client` to `server`, begun at once.

    Under `mptcpize run` at both ends unless `mptcp` is False.  `bind`: the client's
    address.  `reverse`: the server sends.  The receiver's figures come from result();
    other things can be done while it runs.
    """

    def __init__(
        self,
        client: Namespace,
        server: Namespace,
        address: str,
        seconds: float = 3,
        *,
        interval: float = 0.5,
        mptcp: bool = True,
        bind: str = "",
        reverse: bool = False,
        port: int = 5201,
    ) -> None:
        wrap = ["mptcpize", "run"] if mptcp else []
        self._reverse = reverse
        self.seconds = seconds
        common = ["--json", "--interval", str(interval), "--port", str(port)]
        self.server = server.popen(
            *wrap,
            "iperf3",
            "--server",
            "--one-off",
            *common,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        port_text = f":{port}"
        eventually(lambda: port_text in server.run("ss", "-Hltn"), what=f"iperf3 on port {port}")
        self.client = client.popen(
            *wrap,
            "iperf3",
            "--client",
            address,
            "--time",
            str(seconds),
            *common,
            *(["--bind", bind] if bind else []),
            *(["--reverse"] if reverse else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def result(self, grace: float = 15) -> Measured:
        """Wait for the end and return what was measured; LabError when nothing was."""
        outputs = []
        for process in (self.client, self.server):
            try:
                outputs.append(process.communicate(timeout=self.seconds + scaled(grace))[0])
            except subprocess.TimeoutExpired:
                process.kill()
                outputs.append(process.communicate()[0])
        receiver = outputs[0 if self._reverse else 1]
        try:
            report = json.loads(receiver)
        except ValueError:
            raise LabError(f"iperf3 said: {outputs[0]}\n{receiver}") from None
        return _measured(report, self.client.returncode == 0)


def _measured(report: dict[str, Any], completed: bool) -> Measured:
    sums = [piece["sum"] for piece in report.get("intervals", ())]
    intervals = tuple(
        Interval(s["start"], s["end"], s["bits_per_second"] / 1e6)
        for s in sums
        if s["seconds"] > 0.05
    )
    total = report.get("end", {}).get("sum_received", {}).get("bits_per_second", 0) / 1e6
    error = report.get("error", "")
    return Measured(total, intervals, completed and not error, error)


class Counters(NamedTuple):
    """A device's byte counters."""

    received: int
    sent: int


def device_bytes(node: Namespace) -> dict[str, Counters]:
    """The byte counters of every device of the node, without starting a program."""
    with node.enter(), open("/proc/thread-self/net/dev") as file:
        lines = file.read().splitlines()[2:]
    counters = {}
    for line in lines:
        name, _, rest = line.partition(":")
        fields = rest.split()
        counters[name.strip()] = Counters(int(fields[0]), int(fields[8]))
    return counters


def mptcp_counters(node: Namespace) -> dict[str, int]:
    """The MPTcpExt counters (`nstat -az`), such as MPJoinSynAckRx, MPPrioTx, RmAddr."""
    with node.enter(), open("/proc/thread-self/net/netstat") as file:
        lines = [line.split() for line in file if line.startswith("MPTcpExt:")]
    if len(lines) != 2:
        return {}
    return dict(zip(lines[0][1:], map(int, lines[1][1:]), strict=True))


def join_attempts(node: Namespace) -> int:
    """How many subflows the node has tried to join (MPJoinSynTx).

    Linux 6.1 does not count them: there, all active opens but those of whole connections, so that
    one of plain TCP counts too.
    """
    counters = mptcp_counters(node)
    if "MPJoinSynTx" in counters:
        return counters["MPJoinSynTx"]
    with node.enter(), open("/proc/thread-self/net/snmp") as file:
        names, values = (line.split() for line in file if line.startswith("Tcp:"))
    return int(values[names.index("ActiveOpens")]) - counters["MPCapableSYNTX"]


class Subflow(NamedTuple):
    """An established subflow, as `ss -tni` lists it."""

    token: str
    """The local end's token of the connection it belongs to."""
    local: str
    local_port: int
    device: str
    """The device it is bound to; empty for none."""
    remote: str
    remote_port: int
    initial: bool
    """It began the connection; the others joined."""
    backup: bool
    """Either end asked for it to be kept in reserve."""
    bytes_sent: int
    bytes_received: int


_ENDPOINT = re.compile(
    r"\[?(?P<address>[0-9a-f:.]+?)\]?(?:%(?P<device>[^\]:]+)\]?)?:(?P<port>\d+)$"
)


def subflows(node: Namespace, remote_port: int = 0) -> list[Subflow]:
    """The node's established MPTCP subflows, sorted; `remote_port` picks a service.

    Flags as in net/mptcp/mptcp_diag.c and ss(8): M or m initial, J or j joined, B b backup.
    """
    with node.enter():
        text = subprocess.run(
            ["ss", "-HOtni", "state", "established"],
            check=True,
            text=True,
            capture_output=True,
            timeout=scaled(10),
        ).stdout
    subflows = []
    for line in text.splitlines():
        flags = re.search(r"tcp-ulp-mptcp flags:(\S*)", line)
        token = re.search(r" token:\S*/([0-9a-f]+)\(", line)
        fields = line.split()
        local, remote = (_ENDPOINT.match(field) for field in fields[2:4])
        if not (flags and token and local and remote):
            continue
        sent, received = (
            re.search(rf"\b{name}:(\d+)", line) for name in ("bytes_sent", "bytes_received")
        )
        subflow = Subflow(
            token[1],
            local["address"],
            int(local["port"]),
            local["device"] or "",
            remote["address"],
            int(remote["port"]),
            initial=not set("Jj") & set(flags[1]),
            backup=bool(set("Bb") & set(flags[1])),
            bytes_sent=int(sent[1]) if sent else 0,
            bytes_received=int(received[1]) if received else 0,
        )
        if remote_port in (0, subflow.remote_port):
            subflows.append(subflow)
    return sorted(subflows)
