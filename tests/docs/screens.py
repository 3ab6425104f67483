"""What the commands print, from the laboratory into docs/: so that no screen ages.

    python -m tests.docs.screens         docs/screens/*.md and docs/troubleshooting.md; needs root

What differs from run to run (ports, tokens, times of day, rates) is as that run had it.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import SERVER, SERVER6, Daemon, Echo, Iperf, Terminal, Wan, eventually, subflows
from tests.lab.faulty_worlds import BROKEN, codes, paragraph

DOCS = Path(__file__).parents[2] / "docs"
SCREENS = DOCS / "screens"
WRITTEN = "Printed in the laboratory by `make screens`; do not edit.\n"


def block(command: str, text: str) -> str:
    return f"    $ mproutd {command}\n" + "".join(
        f"    {line}".rstrip() + "\n" for line in text.rstrip().splitlines()
    )


def screen(daemon: Daemon, *arguments: str) -> str:
    return block(" ".join(arguments), (lambda a: a.out + a.err)(daemon.call(*arguments)))


def status_screens() -> None:
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        transfer = Iperf(wan.gateway, wan.server, SERVER, 6)
        time.sleep(2)
        daemon.call("status")
        time.sleep(2)
        fine, one = screen(daemon, "status"), screen(daemon, "status", "wan2")
        transfer.result()
        wan.unplug(2)
        wan.gateway.ip(
            "route add default via 10.1.1.9 dev eth1 table 100",
            "rule add from 10.1.1.2 lookup 100 priority 99",
        )
        eventually(lambda: {"no-carrier", "misrouted"} <= codes(daemon))
        broken, lost = screen(daemon, "status"), screen(daemon, "status", "wan2")
    long = "2001:db8:1234:5678:9abc:def0:1234:5678"
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        wan.gateway.ip(
            "address flush dev eth1 scope global",
            f"address add {long}/64 dev eth1 nodad",
            "route replace default via fe80::1234:56ff:fe78:9abc dev eth1 metric 1",
        )
        eventually(lambda: f"{long} id" in wan.gateway.ip("mptcp endpoint show"))
        wide = screen(daemon, "status")
    (SCREENS / "status.md").write_text(
        f"# The status\n\n{WRITTEN}\nAll is well, under load:\n\n{fine}\n"
        f"A cable is out, and somebody's rule leads an address elsewhere:\n\n{broken}\n"
        f"Addresses as long as they can be:\n\n{wide}\n"
        f"One uplink, as it should be:\n\n{one}\nand without its carrier:\n\n{lost}"
    )


def connection_screens() -> None:
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        listening = wan.gateway.popen(*daemon.command("monitor"), stdout=subprocess.PIPE, text=True)
        with (
            Echo(wan.gateway, wan.server, SERVER) as four,
            Echo(wan.gateway, wan.server, SERVER6) as six,
        ):
            for echo in (four, six):
                eventually(lambda echo=echo: len(subflows(wan.gateway, echo.port)) == 2)
            eventually(lambda: four.report().received > 50)
            listed = screen(daemon, "connections")
            wan.unplug(2)
            eventually(lambda: "10.2.2.2" not in wan.gateway.ip("mptcp endpoint show"))
            time.sleep(0.3)
            wan.plug(2)
            eventually(lambda: len(subflows(wan.gateway, four.port)) == 2)
            time.sleep(0.3)
        daemon.stop()
        told = listening.communicate(timeout=10)[0]
        daemon.start()
    (SCREENS / "connections.md").write_text(f"# The connections\n\n{WRITTEN}\n{listed}")
    (SCREENS / "monitor.md").write_text(
        f"# The monitor\n\n{WRITTEN}\nTwo connections begin, a cable is pulled and put back:\n\n"
        + block("monitor", told)
    )


def top_screen() -> None:
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        with Terminal(wan.gateway) as terminal:
            terminal.type("clear; " + shlex.join(daemon.command("top")), "Enter")
            eventually(lambda: "sorted by" in terminal.screen())
            transfer = Iperf(wan.gateway, wan.server, SERVER, 20)
            time.sleep(6)
            wan.unplug(2)
            time.sleep(6)
            wan.plug(2)
            time.sleep(5)
            seen = terminal.screen()
        transfer.result()
    (SCREENS / "top.md").write_text(
        f"# The live screen\n\n{WRITTEN}\nOne upload over two lines; wan2 was unplugged for a "
        f"while:\n\n{block('top', seen)}"
    )


ONLY = "tcp flags & (syn|ack) =="
BOXES = {
    "Nothing is in the way": "",
    "A box takes MPTCP out of the SYN": f"{ONLY} syn reset tcp option mptcp",
    "A box takes MPTCP out of the answer": f"{ONLY} (syn|ack) reset tcp option mptcp",
    "A box drops a SYN that has MPTCP": "tcp flags & syn == syn tcp option mptcp exists drop",
    "A box lets the handshake pass, and takes MPTCP out of data": (
        "tcp flags & syn == 0 meta length > 600 reset tcp option mptcp"
    ),
    "The path takes 1400 bytes, and its ICMP gets lost": "",
}


def trial_screens() -> None:
    shown = []
    with Wan(lan=False).usual() as wan, Daemon(wan.gateway) as daemon:
        daemon.settle()
        argv = daemon.command("test", "--listen", "7000")
        listener = wan.server.popen(*argv, stdout=subprocess.PIPE, text=True)
        listener.stdout.readline()
        router = wan.routers[1]
        for title, rule in BOXES.items():
            chain = f"chain way {{ type filter hook forward priority 0; {rule}; }};"
            if "1400" in title:
                router.ip("link set core mtu 1400")
                chain += (
                    " chain out { type filter hook output priority 0; meta l4proto icmp drop; };"
                )
            router.run("nft", "-f", "-", input=f"table inet box {{ {chain} }}")
            shown.append(f"{title}:\n\n{screen(daemon, 'test', 'wan1', '--to', SERVER + ':7000')}")
            router.run("nft", "delete", "table", "inet", "box")
        with wan.server.enter():
            plain = socket.create_server((SERVER, 8080))
        with plain:
            text = screen(daemon, "test", "wan1", "--to", f"{SERVER}:8080")
        shown.append(f"A service that speaks no MPTCP, and says nothing:\n\n{text}")
        text = screen(daemon, "test", "wan1", "--to", f"{SERVER}:9")
        shown.append(f"Nothing listens there:\n\n{text}")
        listener.terminate()
        told = "".join(listener.communicate(timeout=10)[0])
    (SCREENS / "test.md").write_text(
        f"# The test of a path\n\n{WRITTEN}\n"
        + "\n".join(shown)
        + "\nAnd the listener at the other end, of those that reached it:\n\n"
        + block("test --listen 7000", told)
    )


def anchor(heading: str) -> str:
    """Where a heading is, as forges make it."""
    kept = "".join(each for each in heading.lower() if each.isalnum() or each in " -")
    return kept.replace(" ", "-")


def troubleshooting() -> None:
    rows = []
    for code, broken in BROKEN.items():
        with Wan(lan=False, shaped=False).usual() as wan, Daemon(wan.gateway) as daemon:
            broken.make(wan, daemon)
            eventually(lambda code=code, daemon=daemon: code in codes(daemon))
            said = paragraph(daemon.call("status").out, daemon, code)
            if not said:  # usable all the same, by the other family: the uplink's own page has it
                said = daemon.call("status", "wan2").out
                said = said[said.index("IPv6:") :].split("\n\n")[0]
        rows.append((broken.seen, code, said))
        print(f"{code}: {said.splitlines()[0]}", flush=True)
    parts = "".join(
        f"\n### {seen[0].upper()}{seen[1:]}\n\n`{code}`\n\n"
        + "".join(f"    {line}\n" for line in said.splitlines())
        for seen, code, said in rows
    )
    index = "".join(f"| {seen} | [`{code}`](#{anchor(seen)}) |\n" for seen, code, _ in rows)
    (DOCS / "troubleshooting.md").write_text(
        f"# From what one sees to its cause\n\n{WRITTEN}\n"
        "Ask `mproutd status` first: it names each of these, and what to do. Each was produced\n"
        "in the laboratory (`tests/lab/faulty_worlds.py`), and the text is what the status\n"
        "printed then.\n\n"
        "Where the status finds all as wanted and a connection still uses one line, `mproutd test\n"
        "UPLINK --to HOST:PORT` says whether MPTCP gets through there: see [test.md](test.md).\n\n"
        f"| seen | code |\n| --- | --- |\n{index}{parts}"
    )


def main() -> int:
    SCREENS.mkdir(exist_ok=True)
    only = sys.argv[1:]
    for make in (status_screens, connection_screens, top_screen, trial_screens, troubleshooting):
        if not only or make.__name__ in only:
            make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
