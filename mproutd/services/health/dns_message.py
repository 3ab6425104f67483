"""The question and the header of DNS messages (RFC 1035, 4.1).  Pure."""

from __future__ import annotations

from struct import Struct

_HEADER = Struct("!HHHHHH")
"""Identifier, flags, and the number of questions, answers, authorities and additionals."""
_RESPONSE, _TRUNCATED, _RECURSION_DESIRED, _CODE = 0x8000, 0x0200, 0x0100, 0x000F
_OPCODE = 0x7800
TYPE_A, TYPE_NS = 1, 2
_CLASS_IN = 1
NO_ERROR, NAME_ERROR = 0, 3
CODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}


def question(name: str) -> bytes:
    """The question for a name's address, or for the name servers of the root (".")."""
    labels = name.removesuffix(".").split(".") if name != "." else []
    encoded = b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels)
    kind = TYPE_A if labels else TYPE_NS
    return encoded + b"\0" + kind.to_bytes(2, "big") + _CLASS_IN.to_bytes(2, "big")


def query(identifier: int, asked: bytes) -> bytes:
    return _HEADER.pack(identifier, _RECURSION_DESIRED, 1, 0, 0, 0) + asked


def is_reply(message: bytes, identifier: int, asked: bytes) -> bool:
    """Whether a message is the reply to this query; an error may come without the question."""
    if len(message) < _HEADER.size:
        return False
    number, flags, questions, *_ = _HEADER.unpack_from(message)
    if number != identifier or not flags & _RESPONSE or flags & _OPCODE:
        return False
    if questions == 0:
        return bool(flags & _CODE)
    end = _HEADER.size + len(asked)
    return questions == 1 and message[_HEADER.size : end].lower() == asked.lower()


def is_truncated(reply: bytes) -> bool:
    return bool(_HEADER.unpack_from(reply)[1] & _TRUNCATED)


def error(reply: bytes) -> str:
    """Why a reply shows that names are not resolved; "" when they are.

    That a name does not exist is an answer like any other.
    """
    code = _HEADER.unpack_from(reply)[1] & _CODE
    return "" if code in (NO_ERROR, NAME_ERROR) else CODES.get(code, f"code {code}")
