"""The arguments of each command."""

from __future__ import annotations

import argparse


def none(parser: argparse.ArgumentParser) -> None:
    """For a command without any."""


def add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("--verbose", action="store_true", help="log every change of the kernel")
    run.add_argument("--syslog", action="store_true", help="log to syslog instead of stderr")
    run.add_argument("--state-dir", metavar="DIR", help="directory of what outlives a reboot")


def add_status(status: argparse.ArgumentParser) -> None:
    status.add_argument("uplink", metavar="UPLINK", nargs="?", help="show everything about it")
    status.add_argument("--json", action="store_true", help="print JSON, see docs/status.md")
    status.add_argument("--usable", action="store_true", help="only whether an uplink is usable")


def add_reconcile(reconcile: argparse.ArgumentParser) -> None:
    reconcile.add_argument("--dry-run", action="store_true", help="only print the changes")
    reconcile.add_argument("--json", action="store_true", help="print JSON, see docs/status.md")


def add_connections(listing: argparse.ArgumentParser) -> None:
    listing.add_argument(
        "--by", metavar="peer|port", choices=("peer", "port"), help="sums by peer, or by local port"
    )
    listing.add_argument("--json", action="store_true", help="print JSON, see docs/connections.md")


def add_monitor(monitor: argparse.ArgumentParser) -> None:
    monitor.add_argument("--json", action="store_true", help="print a JSON object per line")


def add_flush(flush: argparse.ArgumentParser) -> None:
    flush.add_argument("--force", action="store_true", help="even if connections end with it")


def add_metrics(metrics: argparse.ArgumentParser) -> None:
    target = metrics.add_mutually_exclusive_group()
    target.add_argument("--output", metavar="FILE", help="write them to FILE")
    target.add_argument("--listen", metavar="ADDRESS:PORT", help="serve them by HTTP")


def add_check(check: argparse.ArgumentParser) -> None:
    check.add_argument("directory", metavar="DIR", nargs="?", help="same as --config-dir")
    question = check.add_mutually_exclusive_group()
    question.add_argument("--enabled", action="store_true", help="fail unless multipath is enabled")
    question.add_argument(
        "--pair", metavar="DIR", help="compare with the files of the other gateway"
    )


def add_standby(standby: argparse.ArgumentParser) -> None:
    standby.add_argument(
        "state", metavar="STATE", nargs="?", choices=("on", "off"), help="on or off; default: print"
    )


def add_files(files: argparse.ArgumentParser) -> None:
    action = files.add_mutually_exclusive_group()
    action.add_argument("--install", action="store_true", help="put them in place")
    action.add_argument("--remove", action="store_true", help="remove them, except configuration")
    files.add_argument("--root", metavar="DIR", default="/", help="use DIR as the root directory")


def add_quota(quota: argparse.ArgumentParser) -> None:
    quota.add_argument("uplink", metavar="UPLINK", nargs="?", help="only this one")
    action = quota.add_mutually_exclusive_group()
    action.add_argument("--set", metavar="AMOUNT", help="so much is used, such as 12.3G")
    action.add_argument("--reset", action="store_true", help="nothing is used")


def add_import(importing: argparse.ArgumentParser) -> None:
    importing.add_argument("program", metavar="PROGRAM", help="mwan3, pbr or openmptcprouter")
    importing.add_argument(
        "directory", metavar="DIR", nargs="?", help="its files; default: /etc/config"
    )


def add_explain(explain: argparse.ArgumentParser) -> None:
    explain.add_argument("--from", metavar="ADDRESS", help="the sender; default: this host")
    explain.add_argument("--to", metavar="ADDRESS", required=True, help="the destination")
    explain.add_argument("--proto", metavar="PROTO", help="tcp, udp, icmp … or a number")
    explain.add_argument("--port", metavar="N", help="the destination's port")
    explain.add_argument("--sport", metavar="N", help="the sender's port")
    explain.add_argument("--iif", metavar="DEVICE", help="the device that it arrives by")
    user = explain.add_mutually_exclusive_group()
    user.add_argument("--uid", metavar="N", help="the user that sends it, by number")
    user.add_argument("--user", metavar="NAME", help="the user that sends it; default: you")
    explain.add_argument("--mac", metavar="MAC", help="the sender's Ethernet address")
    explain.add_argument("--dscp", metavar="DSCP", help="the code point: ef, cs5 … or a number")
    explain.add_argument("--mark", metavar="MARK", help="the mark that the firewall sets")
    explain.add_argument("--json", action="store_true", help="print JSON, see docs/explain.md")


def add_test(test: argparse.ArgumentParser) -> None:
    test.add_argument("uplink", metavar="UPLINK", nargs="?", help="the uplink to test")
    role = test.add_mutually_exclusive_group(required=True)
    role.add_argument("--to", metavar="HOST:PORT", help="the peer to connect to")
    role.add_argument("--listen", metavar="PORT", help="be the peer, on [ADDRESS:]PORT")
    family = test.add_mutually_exclusive_group()
    for number in "46":
        family.add_argument(
            f"-{number}",
            dest="family",
            action="store_const",
            const=f"ipv{number}",
            help=f"use IPv{number} only",
        )
    test.add_argument("--timeout", metavar="SECONDS", help="default: 10, with --listen 600")
    test.add_argument("--json", action="store_true", help="print JSON, see docs/test.md")
