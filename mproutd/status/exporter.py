"""`mproutd metrics`: the status in Prometheus' text format, by Prometheus' own client library.

On stdout, in a file for node_exporter's textfile collector, or by HTTP from this process: the
daemon itself never imports the library and opens no port.  What must hold: while no daemon
answers, `mproutd_up 0` is told, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mproutd.commands import INVALID, CommandError
from mproutd.format import safe
from mproutd.status.metrics import COUNTER, METRICS, samples

try:
    from prometheus_client import (
        CollectorRegistry,
        Metric,
        generate_latest,
        start_http_server,
        write_to_textfile,
    )
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise CommandError(
        "metrics needs the Python package prometheus_client: "
        "apt install python3-prometheus-client, or pip install 'mproutd[metrics]'"
    ) from None

GetStatus = Callable[[], Mapping[str, Any] | None]
"""Gives the daemon's status; None while there is no answer."""


class Status(Collector):
    """Asks once for each collection."""

    def __init__(self, ask: GetStatus) -> None:
        self._ask = ask

    def collect(self) -> Iterable[Metric]:
        """A family for each metric that has a row."""
        for name, told in samples(self._ask()).items():
            kind, text, labels = METRICS[name]
            family = (CounterMetricFamily if kind == COUNTER else GaugeMetricFamily)(
                name, text, labels=labels
            )
            for words, value in told:
                family.add_metric([safe(str(word)) for word in words], value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: else the registry would ask the daemon when it is made."""
        return []


def registry(ask: GetStatus) -> CollectorRegistry:
    """A registry of its own: nothing about this Python process is in it."""
    made = CollectorRegistry()
    made.register(Status(ask))
    return made


def metrics_text(ask: GetStatus) -> str:
    """All metrics in the text format."""
    return generate_latest(registry(ask)).decode()


def write_file(path: str, ask: GetStatus) -> None:
    """The same into a file, written beside it and renamed.  OSError."""
    write_to_textfile(path, registry(ask))


def serve(where: str, ask: GetStatus) -> None:
    """Answer scrapes at ADDRESS:PORT until a signal ends this.  Stop when that cannot be."""
    address, colon, port = where.rpartition(":")
    if not (colon and address and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise CommandError(
            f"--listen wants ADDRESS:PORT, such as 127.0.0.1:9785; not {where!r}", INVALID
        )
    try:
        start_http_server(int(port), address.strip("[]"), registry(ask))
    except OSError as error:
        raise CommandError(f"cannot listen at {where}: {error.strerror or error}") from None
    # The server has a thread of its own, which prometheus_client before 0.20 does not return.
    threading.Event().wait()
