"""MPTCP and TCP sockets over sock_diag, by pyroute2: for commands, not for the daemon.

A command reads them once, so pyroute2's speed and memory do not matter: its DiagSocket sends the
dumps, its message classes decode struct inet_diag_msg.  Every pyroute2 from 0.7.2 on will do; the
attributes are listed here, since older ones do not know all of them.  Two things are added.  The
request carries INET_DIAG_REQ_PROTOCOL, since MPTCP's number does not fit into the eight bits of
sdiag_protocol (net/ipv4/inet_diag.c).  INET_DIAG_INFO and INET_DIAG_ULP_INFO stay bytes, since
pyroute2 takes every INFO for a struct tcp_info; sock_diag.py and mptcp_info.py decode them.
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

from mproutd.netlink.mptcp_info import IPPROTO_MPTCP
from mproutd.netlink.sock_diag import INET_DIAG_INFO, INET_DIAG_ULP_INFO, WANT_INFO, Socket


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


class _Reply(inet_addr_codec):  # type: ignore[misc]
    """struct inet_diag_msg with two of its attributes, as bytes."""

    ffname = "idiag_family"
    fields = inet_diag_msg.fields
    nla_map = (
        (INET_DIAG_INFO, "INET_DIAG_INFO", "cdata"),
        (INET_DIAG_ULP_INFO, "INET_DIAG_ULP_INFO", "cdata"),
    )


class _Marshal(MarshalDiag):  # type: ignore[misc]
    msg_map: ClassVar = {socket.AF_INET: _Reply, socket.AF_INET6: _Reply}


def sockets() -> tuple[list[Socket], list[Socket]]:
    """The MPTCP sockets and the TCP sockets of this network namespace.

    OSError when the kernel has no sock_diag or refuses.  Without mptcp_diag the first list is
    empty, since pyroute2 swallows that error.
    """
    with DiagSocket() as diag:
        _use_our_marshal(diag)
        diag.bind()
        try:
            # TCP last: a connection that begins in between appears by its subflows.
            mptcp_sockets = list(_dump(diag, IPPROTO_MPTCP))
            return mptcp_sockets, list(_dump(diag, socket.IPPROTO_TCP))
        except NetlinkError as error:  # not an OSError
            raise OSError(error.code, f"sock_diag: {os.strerror(error.code)}") from None


def _use_our_marshal(diag: DiagSocket) -> None:
    """Have replies decoded by _Marshal, which was a plain attribute before pyroute2 0.9."""
    if hasattr(diag, "set_marshal"):
        diag.set_marshal(_Marshal())
    else:
        diag.marshal = _Marshal()


def _dump(diag: DiagSocket, protocol: int) -> Iterator[Socket]:
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _Request()
        request["sdiag_family"] = family
        request["sdiag_protocol"] = protocol & 0xFF
        request["idiag_ext"] = WANT_INFO
        request["idiag_states"] = SS_CONN
        request["attrs"] = [("INET_DIAG_REQ_PROTOCOL", protocol)]
        flags = NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
        for reply in diag.nlm_request(request, SOCK_DIAG_BY_FAMILY, flags):
            if isinstance(reply, _Reply):
                yield _socket(reply)


def _socket(reply: _Reply) -> Socket:
    return Socket(
        _unmapped(reply["idiag_src"]),
        reply["idiag_sport"],
        _unmapped(reply["idiag_dst"]),
        reply["idiag_dport"],
        reply["idiag_if"],
        reply["idiag_state"],
        bytes(reply.get_attr("INET_DIAG_INFO") or b""),
        bytes(reply.get_attr("INET_DIAG_ULP_INFO") or b""),
    )


def _unmapped(address: str) -> str:
    """An IPv4-mapped address (RFC 4291) as IPv4."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address
