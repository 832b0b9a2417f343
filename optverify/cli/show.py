"""The command show."""

from __future__ import annotations

import argparse

from optverify.cli.shared import Commands, say


def add_to(commands: Commands) -> None:
    """Add its parser."""
    show = commands.add_parser("show", help="describe a network or property file")
    show.add_argument("file", metavar="FILE")
    show.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from optverify.io import load, load_property

    if options.file.removesuffix(".gz").endswith((".vnnlib", ".json")):
        say(load_property(options.file).describe())
    else:
        say(load(options.file).describe())
    return 0
