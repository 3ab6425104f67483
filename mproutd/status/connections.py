"""MPTCP connections with their subflows, by uplink: joins what sock_diag reports.  Pure.

An MPTCP socket and the TCP sockets of its subflows share a token, and that is what the join
goes by.  Whose uplink a subflow uses follows from its device, or else from its address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mproutd.format import address_port
from mproutd.netlink.mptcp_info import MptcpInfo, parse_mptcp_info, parse_tcp_info
from mproutd.netlink.sock_diag import Socket, Subflow, subflow_of
from mproutd.planning.uplinks import ObservedUplink

if TYPE_CHECKING:
    from mproutd.status.connection_types import ConnectionStatus, SubflowStatus

VERSION = 1

_TOKENS_HIDDEN = "tokens are visible to CAP_NET_ADMIN only"

STATES = {
    1: "established",
    2: "syn-sent",
    3: "syn-received",
    4: "fin-wait-1",
    5: "fin-wait-2",
    6: "time-wait",
    7: "closed",
    8: "close-wait",
    9: "last-ack",
    10: "listen",
    11: "closing",
}
"""net/tcp_states.h."""

_Flow = tuple[Socket, Subflow]
_Ends = tuple[str, int, str, int]


class UplinkNames(NamedTuple):
    """Which uplink an address or a device belongs to."""

    by_address: Mapping[str, str] = {}
    by_device: Mapping[int, str] = {}

    def of(self, address: str, device: int) -> str | None:
        """By device (ifindex, 0 for none) first, since two uplinks may have the same address."""
        return self.by_device.get(device) or self.by_address.get(address)


def uplink_names(status: Mapping[str, Any]) -> UplinkNames:
    """From a status, see docs/status.md."""
    by_address: dict[str, str] = {}
    by_device: dict[int, str] = {}
    for uplink in status["uplinks"]:
        if uplink["ifindex"]:
            by_device[uplink["ifindex"]] = uplink["name"]
        for family in uplink["families"]:
            for address in [*family["addresses"], *family.get("sources", ())]:
                by_address.setdefault(address, uplink["name"])
    return UplinkNames(by_address, by_device)


def observed_uplink_names(observed: Iterable[ObservedUplink]) -> UplinkNames:
    """From the uplinks of a pass."""
    by_address: dict[str, str] = {}
    by_device: dict[int, str] = {}
    for uplink in observed:
        name = uplink.config.name
        if uplink.link:
            by_device[uplink.link.index] = name
        for path in uplink.paths:
            for address in path.covered:
                by_address.setdefault(address.address, name)
    return UplinkNames(by_address, by_device)


def connections(
    mptcp_sockets: Iterable[Socket],
    tcp_sockets: Iterable[Socket],
    uplinks: UplinkNames,
    device_name: Callable[[int], str],
) -> list[ConnectionStatus]:
    """Every connection with its subflows, as in docs/connections.schema.json.

    PermissionError when there are subflows and the kernel hides which connection they belong to;
    DecodeError.
    """
    flows_of, plain_tcp = _subflows_by_token(tcp_sockets)

    def present(master: Socket | None, token: int, flows: Sequence[_Flow]) -> ConnectionStatus:
        return _connection(master, token, flows, uplinks, device_name)

    result = []
    for master in mptcp_sockets:
        info = parse_mptcp_info(master.info)
        flows = flows_of.pop(info.token, []) if info.token else []
        if not flows and (tcp := plain_tcp.get(_ends(master))):
            if not info.fallback:
                raise PermissionError(1, _TOKENS_HIDDEN)
            flows = [(tcp, Subflow(0, tcp.source, True, True))]
        result.append(present(master, info.token, flows))
    # Subflows without an MPTCP socket: it closed between the dumps, or there is no mptcp_diag.
    result += [present(None, token, flows) for token, flows in flows_of.items()]
    return sorted(
        result, key=lambda connection: (str(connection["remote"]), connection["token"] or "")
    )


def reply(
    mptcp_sockets: Iterable[Socket],
    tcp_sockets: Iterable[Socket],
    uplinks: UplinkNames,
    device_name: Callable[[int], str],
) -> dict[str, Any]:
    """The connections as `mproutd connections --json` prints them; errors as of connections()."""
    listed = connections(mptcp_sockets, tcp_sockets, uplinks, device_name)
    return {"version": VERSION, "connections": listed}


def _subflows_by_token(
    tcp_sockets: Iterable[Socket],
) -> tuple[dict[int, list[_Flow]], dict[_Ends, Socket]]:
    """Token → subflows, and the plain TCP sockets by their two ends."""
    flows_of: dict[int, list[_Flow]] = {}
    plain_tcp: dict[_Ends, Socket] = {}
    for tcp in tcp_sockets:
        subflow = subflow_of(tcp.ulp, tcp.source, tcp.state) if tcp.ulp else None
        if subflow is None:
            plain_tcp[_ends(tcp)] = tcp
        elif subflow.token:
            flows_of.setdefault(subflow.token, []).append((tcp, subflow))
        else:
            raise PermissionError(1, _TOKENS_HIDDEN)
    return flows_of, plain_tcp


def _ends(socket: Socket) -> _Ends:
    return socket.source, socket.sport, socket.destination, socket.dport


def _connection(
    master: Socket | None,
    token: int,
    flows: Sequence[_Flow],
    uplinks: UplinkNames,
    device_name: Callable[[int], str],
) -> ConnectionStatus:
    subflows = [_subflow(tcp, subflow, uplinks, device_name) for tcp, subflow in flows]
    # The initial subflow first, then in the order of the endpoints.
    subflows.sort(key=lambda subflow: (subflow["local_id"], subflow["local"], subflow["remote"]))
    socket = master or flows[0][0]
    info = parse_mptcp_info(master.info) if master else MptcpInfo()
    return {
        "token": f"{token:08x}" if token else None,
        "local": address_port(socket.source, socket.sport),
        "remote": address_port(socket.destination, socket.dport),
        "state": STATES.get(socket.state, str(socket.state)),
        "fallback": info.fallback,
        "sent": _total(info.bytes_sent, subflows, "sent"),
        "received": _total(info.bytes_received, subflows, "received"),
        "subflows": subflows,
    }


def _subflow(
    tcp: Socket, subflow: Subflow, uplinks: UplinkNames, device_name: Callable[[int], str]
) -> SubflowStatus:
    info = parse_tcp_info(tcp.info)
    return {
        "uplink": uplinks.of(tcp.source, tcp.device),
        "device": device_name(tcp.device) if tcp.device else None,
        "local": address_port(tcp.source, tcp.sport),
        "remote": address_port(tcp.destination, tcp.dport),
        "state": STATES.get(tcp.state, str(tcp.state)),
        "local_id": subflow.local_id,
        "remote_id": subflow.remote_id,
        "backup": subflow.backup,
        "backup_by_peer": subflow.backup_by_peer,
        "rtt_ms": info.rtt_ms,
        "retransmitted": info.retransmitted,
        "sent": info.sent,
        "received": info.received,
    }


def _total(count: int | None, subflows: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """The connection's own byte count, else the sum over its present subflows."""
    if count is not None:
        return count
    counts = [subflow[key] for subflow in subflows if subflow[key] is not None]
    return sum(counts) if counts else None
