"""Folders of tests that take minutes, and are collected only where they are named."""

from __future__ import annotations

from pathlib import Path

import pytest


def is_named(config: pytest.Config, folder: Path) -> bool:
    """Whether an argument of the run is the folder, or something in it."""
    start = config.invocation_params.dir
    named = ((start / argument.partition("::")[0]).resolve() for argument in config.args)
    return any(path.is_relative_to(folder.resolve()) for path in named)
