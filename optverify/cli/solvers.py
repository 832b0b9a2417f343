"""The command solvers."""

from __future__ import annotations

import argparse

from optverify.cli.shared import Commands


def add_to(commands: Commands) -> None:
    """Add its parser."""
    solvers = commands.add_parser("solvers", help="list the solvers: installed? version, what they can do, why not")
    solvers.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from optverify.solvers import available

    table = Table("solver", "usable", "version", "can do", "why not", box=None, pad_edge=False)
    for row in available():
        table.add_row(row.name, "yes" if row.installed else "no", row.version, ", ".join(row.takes), escape(row.reason))
    Console(highlight=False).print(table)
    return 0
