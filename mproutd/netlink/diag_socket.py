"""The sockets of MPTCP connections, as the kernel's sock_diag tells of them.

For one cold command, so pyroute2 does the netlink here: its DiagSocket sends the two dumps
and its message classes carry them.  Two things it does not have and this file adds: the
request's attribute INET_DIAG_REQ_PROTOCOL, since MPTCP's number does not fit into the eight
bits of sdiag_protocol (net/ipv4/inet_diag.c), and raw INFO and ULP_INFO, since pyroute2 takes
every INFO for a struct tcp_info.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import ClassVar

from pyroute2 import DiagSocket
from pyroute2.netlink import NLM_F_MATCH, NLM_F_REQUEST, NLM_F_ROOT
from pyroute2.netlink.diag import (
    SOCK_DIAG_BY_FAMILY,
    SS_CONN,
    MarshalDiag,
    inet_addr_codec,
    inet_diag_msg,
    inet_diag_req,
)
from pyroute2.netlink.exceptions import NetlinkError

from mproutd.status.connections import Socket

_TCP, _MPTCP = 6, 262
_WANT_INFO = 1 << (2 - 1)
"""INET_DIAG_INFO; ULP_INFO comes without being asked for."""
_RAW = {"INET_DIAG_INFO": "cdata", "INET_DIAG_ULP_INFO": "cdata"}


class _Request(inet_addr_codec):  # type: ignore[misc]  # pyroute2 has no types
    """struct inet_diag_req_v2 with its attributes."""

    ffname = "sdiag_family"
    fields = inet_diag_req.fields
    nla_map = (
        ("INET_DIAG_REQ_NONE", "none"),
        ("INET_DIAG_REQ_BYTECODE", "cdata"),
        ("INET_DIAG_REQ_SK_BPF_STORAGES", "cdata"),
        ("INET_DIAG_REQ_PROTOCOL", "uint32"),
    )


class _Answer(inet_addr_codec):  # type: ignore[misc]
    """struct inet_diag_msg; of its attributes the two that are wanted, as bytes."""

    ffname = "idiag_family"
    fields = inet_diag_msg.fields
    nla_map = tuple((name, _RAW.get(name, "none")) for name, _ in inet_diag_msg.nla_map)


class _Marshal(MarshalDiag):  # type: ignore[misc]
    msg_map: ClassVar = {socket.AF_INET: _Answer, socket.AF_INET6: _Answer}


def sockets() -> tuple[list[Socket], list[Socket]]:
    """The MPTCP sockets and the TCP sockets of this network namespace.

    OSError when the kernel has no sock_diag or refuses.  A kernel without mptcp_diag tells of
    no MPTCP sockets; pyroute2 does not pass its error on.
    """
    with DiagSocket() as diag:
        diag.set_marshal(_Marshal())
        diag.bind()
        try:
            # The subflows last: one that begins in between is then no stranger's.
            masters = list(_dump(diag, _MPTCP))
            return masters, list(_dump(diag, _TCP))
        except NetlinkError as error:  # no OSError in pyroute2
            raise OSError(error.code, f"sock_diag: {os.strerror(error.code)}") from None


def _dump(diag: DiagSocket, protocol: int) -> Iterator[Socket]:
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _Request()
        request["sdiag_family"] = family
        request["sdiag_protocol"] = protocol & 0xFF
        request["idiag_ext"] = _WANT_INFO
        request["idiag_states"] = SS_CONN
        request["attrs"] = [("INET_DIAG_REQ_PROTOCOL", protocol)]
        flags = NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
        for answer in diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, flags):
            if isinstance(answer, _Answer):
                yield _socket(answer)


def _socket(answer: _Answer) -> Socket:
    return Socket(
        _plain(answer["idiag_src"]),
        answer["idiag_sport"],
        _plain(answer["idiag_dst"]),
        answer["idiag_dport"],
        answer["idiag_if"],
        answer["idiag_state"],
        bytes(answer.get_attr("INET_DIAG_INFO") or b""),
        bytes(answer.get_attr("INET_DIAG_ULP_INFO") or b""),
    )


def _plain(address: str) -> str:
    """An IPv4 address that an IPv6 socket uses, as what it is."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address
