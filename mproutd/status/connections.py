"""MPTCP connections with their subflows, joined with the uplinks they use.  Pure.

Each connection is two kinds of socket to the kernel: one MPTCP socket, and a TCP socket for
each subflow.  They share a token.  Of the TCP socket, older kernels tell it to CAP_NET_ADMIN
only (net/ipv4/tcp_diag.c); 6.18 hides nothing but sequence numbers from others.

Sources: linux/inet_diag.h, linux/mptcp.h (MPTCP_SUBFLOW_ATTR_*, struct mptcp_info),
linux/tcp.h (struct tcp_info).  The structs grow at their end from one kernel to the next:
what a kernel does not tell is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple

from mproutd.netlink.nlmsg import U8, U32, DecodeError, attributes

VERSION = 1

_ULP_MPTCP = 3
_TOKEN, _FLAGS, _ID_REMOTE, _ID_LOCAL = 2, 8, 9, 10
_BACKUP_REMOTE, _BACKUP_LOCAL = 1 << 4, 1 << 5
_FALLBACK = 1
_TOKENS_HIDDEN = "tokens are for CAP_NET_ADMIN only"

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

_U64 = Struct("=Q")
_RTT, _RETRANSMITTED, _TCP_RECEIVED, _TCP_SENT = 68, 100, 128, 200
"""Where struct tcp_info has tcpi_rtt (µs), _total_retrans, _bytes_received, _bytes_sent."""
_MPTCP_FLAGS, _MPTCP_TOKEN, _MPTCP_SENT, _MPTCP_RECEIVED = 8, 12, 56, 64
"""Where struct mptcp_info has these; the byte counts since Linux 6.5."""


class Socket(NamedTuple):
    """One socket as sock_diag tells of it."""

    source: str
    sport: int
    destination: str
    dport: int
    device: int
    """ifindex that it is bound to; 0 for none."""
    state: int
    info: bytes = b""
    """INET_DIAG_INFO: struct tcp_info or struct mptcp_info."""
    ulp: bytes = b""
    """INET_DIAG_ULP_INFO: attributes; empty for a plain TCP socket."""


class UplinkNames(NamedTuple):
    """Whose address and whose device is it?"""

    by_address: Mapping[str, str] = {}
    by_device: Mapping[int, str] = {}

    def of(self, address: str, device: int) -> str | None:
        """The device decides, since two uplinks may have the same address."""
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


def connections(
    masters: Iterable[Socket],
    sockets: Iterable[Socket],
    where: UplinkNames,
    device: Callable[[int], str],
) -> list[dict[str, Any]]:
    """Every connection with its subflows, as docs/connections.schema.json has them.

    `masters` are the MPTCP sockets, `sockets` the TCP ones.  PermissionError when there are
    subflows, but the kernel hides which connection they belong to; DecodeError.
    """
    by_token: dict[int, list[tuple[Socket, Mapping[int, bytes]]]] = {}
    plain: dict[tuple[str, int, str, int], Socket] = {}
    for each in sockets:
        told = _subflow_attributes(each)
        if told is None:
            plain[_ends(each)] = each
        elif _TOKEN in told:
            by_token.setdefault(_number(told, _TOKEN), []).append((each, told))
        else:
            raise PermissionError(1, _TOKENS_HIDDEN)
    found = []
    for master in masters:
        token = _u32(master.info, _MPTCP_TOKEN) or 0
        flows = by_token.pop(token, []) if token else []
        fallback = bool((_u32(master.info, _MPTCP_FLAGS) or 0) & _FALLBACK)
        if not flows and _ends(master) in plain:
            if not fallback:
                raise PermissionError(1, _TOKENS_HIDDEN)
            flows = [(plain[_ends(master)], {})]
        found.append(_connection(master, token, fallback, flows, where, device))
    for token, flows in by_token.items():
        # No MPTCP socket was told of: this kernel has no mptcp_diag, or it went in between.
        found.append(_connection(None, token, False, flows, where, device))
    return sorted(found, key=lambda each: (str(each["remote"]), each["token"] or ""))


def _connection(
    master: Socket | None,
    token: int,
    fallback: bool,
    flows: Sequence[tuple[Socket, Mapping[int, bytes]]],
    where: UplinkNames,
    device: Callable[[int], str],
) -> dict[str, Any]:
    listed = [_subflow(each, told, where, device) for each, told in flows]
    # The initial subflow first, then in the order of the endpoints.
    listed.sort(key=lambda each: (each["local_id"], each["local"], each["remote"]))
    ends = master or flows[0][0]
    info = master.info if master else b""
    return {
        "token": f"{token:08x}" if token else None,
        "local": address_port(ends.source, ends.sport),
        "remote": address_port(ends.destination, ends.dport),
        "state": STATES.get(ends.state, str(ends.state)),
        "fallback": fallback,
        "sent": _total(_u64(info, _MPTCP_SENT), listed, "sent"),
        "received": _total(_u64(info, _MPTCP_RECEIVED), listed, "received"),
        "subflows": listed,
    }


def _subflow(
    found: Socket, told: Mapping[int, bytes], where: UplinkNames, device: Callable[[int], str]
) -> dict[str, Any]:
    flags = _number(told, _FLAGS)
    rtt = _u32(found.info, _RTT)
    return {
        "uplink": where.of(found.source, found.device),
        "device": device(found.device) if found.device else None,
        "local": address_port(found.source, found.sport),
        "remote": address_port(found.destination, found.dport),
        "state": STATES.get(found.state, str(found.state)),
        "local_id": _number(told, _ID_LOCAL),
        "remote_id": _number(told, _ID_REMOTE),
        "backup": bool(flags & _BACKUP_LOCAL),
        "backup_by_peer": bool(flags & _BACKUP_REMOTE),
        "rtt_ms": rtt / 1000 if rtt else None,
        "retransmitted": _u32(found.info, _RETRANSMITTED),
        "sent": _u64(found.info, _TCP_SENT),
        "received": _u64(found.info, _TCP_RECEIVED),
    }


def address_port(address: str, port: int) -> str:
    """One end of a connection, as RFC 5952, section 6, writes it; without ::ffff: (RFC 4291)."""
    if address.startswith("::ffff:") and "." in address:
        address = address[7:]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ends(found: Socket) -> tuple[str, int, str, int]:
    return found.source, found.sport, found.destination, found.dport


def _subflow_attributes(found: Socket) -> Mapping[int, bytes] | None:
    """MPTCP_SUBFLOW_ATTR_*; None for a socket that is no subflow.  DecodeError."""
    if not found.ulp:
        return None
    told = attributes(found.ulp)
    if _ULP_MPTCP in told:
        return attributes(told[_ULP_MPTCP])
    # The kernel says the name alone to whoever may not see more.
    return {} if told.get(1, b"").startswith(b"mptcp") else None


def _total(told: int | None, flows: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """The connection's own count, else that of the subflows which are there now."""
    if told is not None:
        return told
    counts = [flow[key] for flow in flows if flow[key] is not None]
    return sum(counts) if counts else None


def _number(told: Mapping[int, bytes], kind: int) -> int:
    payload = told.get(kind, b"")
    if len(payload) not in (0, 1, 4):
        raise DecodeError(f"attribute {kind} of {len(payload)} bytes")
    if not payload:
        return 0
    number: int = (U8 if len(payload) == 1 else U32).unpack(payload)[0]
    return number


def _u32(data: bytes, offset: int) -> int | None:
    return int(U32.unpack_from(data, offset)[0]) if len(data) >= offset + 4 else None


def _u64(data: bytes, offset: int) -> int | None:
    return int(_U64.unpack_from(data, offset)[0]) if len(data) >= offset + 8 else None
