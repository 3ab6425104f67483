"""`mproutd metrics`: the status in Prometheus' text format, by Prometheus' client library.

Printed, written to a file for node_exporter's textfile collector, or served by HTTP from this
process: the daemon itself never imports the library and opens no port.  While no daemon
replies, `mproutd_up 0` is the only sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mproutd.commands import INVALID, CommandError
from mproutd.format import safe
from mproutd.status.metrics import COUNTER, METRICS, samples
from mproutd.status.metrics_server import LimitedServer, RecentStatus

try:
    from prometheus_client import (
        CollectorRegistry,
        Metric,
        generate_latest,
        make_wsgi_app,
        write_to_textfile,
    )
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise CommandError(
        "metrics needs the Python package prometheus_client: "
        "apt install python3-prometheus-client, or pip install 'mproutd[metrics]'"
    ) from None

if TYPE_CHECKING:
    from mproutd.status.types import Status

GetStatus = Callable[[], "Status | None"]
"""Returns the daemon's status; None while it does not reply."""


class StatusCollector(Collector):
    """Queries the daemon once for each collection."""

    def __init__(self, get_status: GetStatus) -> None:
        self._get_status = get_status

    def collect(self) -> Iterable[Metric]:
        """A family for each metric that has a sample."""
        for name, listed in samples(self._get_status()).items():
            kind, text, labels = METRICS[name]
            family = (CounterMetricFamily if kind == COUNTER else GaugeMetricFamily)(
                name, text, labels=labels
            )
            for values, value in listed:
                family.add_metric([safe(str(label)) for label in values], value)
            yield family

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise the registry would query the daemon when it is created."""
        return []


def registry(get_status: GetStatus) -> CollectorRegistry:
    """A registry without metrics about this Python process."""
    created = CollectorRegistry()
    created.register(StatusCollector(get_status))
    return created


def metrics_text(get_status: GetStatus) -> str:
    """All metrics in the text format."""
    return generate_latest(registry(get_status)).decode()


def write_file(path: str, get_status: GetStatus) -> None:
    """Write all metrics to a file, replacing it atomically.  OSError."""
    write_to_textfile(path, registry(get_status))


def serve(listen: str, get_status: GetStatus) -> None:
    """Answer scrapes at ADDRESS:PORT until a signal ends the process.  CommandError."""
    address, colon, port = listen.rpartition(":")
    if not (colon and address and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise CommandError(
            f"--listen takes ADDRESS:PORT, such as 127.0.0.1:9785; not {listen!r}", INVALID
        )
    try:
        server = LimitedServer(address.strip("[]"), int(port))
    except OSError as error:
        raise CommandError(f"cannot listen on {listen}: {error.strerror or error}") from None
    server.set_app(make_wsgi_app(registry(RecentStatus(get_status))))
    server.serve_forever()
