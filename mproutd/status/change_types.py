"""The JSON of `mproutd reconcile`, as types; see status/types.py."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from mproutd.status.types import Count


class Change(TypedDict):
    """A change of the kernel, or one that failed."""

    verb: Literal["add", "replace", "change", "delete"]
    """what it does to the object"""
    uplink: str | None
    """the uplink that it belongs to; null for none"""
    command: str
    """the change as a command"""
    error: str | None
    """the kernel's error; null when it succeeded"""
    input: NotRequired[str]
    """what the command reads from its standard input; missing where it reads nothing"""


class Reconciliation(TypedDict):
    """mproutd reconcile --json"""

    version: Count
    """of this format: 1"""
    dry_run: bool
    """whether the changes were only computed"""
    failed: bool
    """whether one of them failed: exit status 1"""
    changes: list[Change]
    """in order"""
