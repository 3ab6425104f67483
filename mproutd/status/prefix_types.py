"""The status of the LAN's IPv6 prefixes, as types; see status/types.py."""

from __future__ import annotations

from typing import TypedDict


class DeprecatedAddress(TypedDict):
    """An address of this host in the LAN that hosts are not to use the prefix of."""

    address: str
    """the address"""
    device: str
    """its device"""


class Announcer(TypedDict):
    """A program that sends router advertisements."""

    program: str
    """its name"""
    follows: bool
    """whether it announces the lifetimes that the kernel has"""
