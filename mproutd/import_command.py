"""`mproutd import`: another program's configuration as ours.  It writes nothing."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence

from mproutd.commands import INVALID, CommandError
from mproutd.configuration.parsers import quoted, suggestion
from mproutd.configuration.sections import ConfigError, Section
from mproutd.configuration.uci import OPENWRT_DIRECTORY, file_in, read
from mproutd.importers.draft import Draft
from mproutd.importers.header import header

PROGRAMS = ("mwan3", "pbr", "openmptcprouter")


def perform(options: argparse.Namespace) -> str:
    """The text of our file mproutd.  CommandError."""
    if options.program not in PROGRAMS:
        near = suggestion(options.program, PROGRAMS)
        known = f"known: {', '.join(PROGRAMS)}"
        raise CommandError(f"cannot import from {quoted(options.program)}{near}; {known}", INVALID)
    directory = options.directory or OPENWRT_DIRECTORY
    importer = importlib.import_module(f"mproutd.importers.{options.program}")
    try:
        files = {importer.FILE: _sections(directory, importer.FILE, options.program)}
        network = _sections(directory, "network", options.program)
        for name in importer.OTHERS:
            files[name] = read(file_in(directory, name)) or ()
        draft = Draft()
        header(draft, options.program, network, _existing(directory))
        importer.convert(files, network, draft)
        draft.check(network)
    except ConfigError as error:
        raise CommandError(str(error), INVALID) from None
    return draft.text()


def _sections(directory: str, name: str, program: str) -> Sequence[Section]:
    """The sections of a file that has to exist."""
    file = file_in(directory, name)
    sections = read(file)
    if sections is None:
        raise ConfigError(
            "no such file; copy the router's network and the program's files into one directory: "
            f"mproutd import {program} DIR",
            file,
        )
    return sections


def _existing(directory: str) -> str:
    """Our own file, if it has anything that the output would replace."""
    file = file_in(directory, "mproutd")
    return file if os.path.exists(file) and read(file) else ""
