"""Verify every property of every example controller and print a table: ``python -m examples.demo``."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from optverify import OptverifyError, Verification, load, load_property, verify
from optverify.report.text import rounded_down
from optverify.search.tree import Progress

HERE = Path(__file__).parent
COLOURS = {"verified": "green", "falsified": "red", "unknown": "yellow"}

PROVED = """\
Proved. verified: no real input of the region violates the property, for the weights in the file; the bound > 0, \
computed with outward rounding, is the proof.
falsified: a point violates the property in exact rational arithmetic. claim: what a floating-point solver says that \
the bound could at most be; never trusted."""


def short(value: float | None) -> str:
    """Return three digits, or a dash."""
    return "-" if value is None else f"{value:.3g}"


def main() -> int:
    """Run the demo; return 1 if a verdict differs from the listed one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="properties whose path contains this")
    parser.add_argument("--time-limit", type=float, metavar="S", help="seconds for each (default: as listed)")
    options = parser.parse_args()
    console = Console()
    columns = [Column(title, no_wrap=True, justify="right") for title in ("bound", "claim", "gap", "seconds")]
    first = (Column("property", overflow="fold"), Column("verdict", no_wrap=True))
    table = Table(*first, *columns, title="optverify demo", box=None)
    wrong, total, statements, folder = [], 0.0, [], ""
    with (HERE / "instances.csv").open(newline="", encoding="utf-8") as stream:
        instances = [row for row in csv.DictReader(stream) if options.only in row["vnnlib"]]
    with console.status("") as status:
        for row in instances:
            name = row["vnnlib"].removesuffix(".vnnlib")
            status.update(name)

            def report(p: Progress, name: str = name) -> None:
                status.update(
                    f"{name}: {p.nodes} nodes, {p.closed:.1%} closed, bound {rounded_down(p.lower)}, {p.seconds:.0f} s"
                )

            try:
                answer: Verification = verify(
                    load(HERE / row["onnx"]),
                    load_property(HERE / row["vnnlib"]),
                    time_limit=options.time_limit or float(row["timeout_s"]),
                    progress=report,
                )
            except OptverifyError as error:
                console.print(f"{name}: {error}")
                return 3
            verdict = answer.verdict.value
            if verdict != row["verdict"]:
                wrong.append(f"{name}: {verdict}, listed as {row['verdict']} ({answer.reason})")
            total += answer.seconds
            if folder != name.split("/")[0]:
                folder = name.split("/")[0]
                table.add_row(f"[bold]{folder}[/]")
            table.add_row(
                "  " + name.split("/")[1],
                f"[{COLOURS[verdict]}]{verdict}[/]",
                rounded_down(answer.bound, 3),
                short(answer.claim),
                short(answer.gap),
                f"{answer.seconds:.2f}",
            )
            statements.append(f"{verdict:<9}  {row['statement']}")
    console.print(table)
    console.print()
    for line in statements:
        console.print(line, highlight=False)
    console.print(f"\n{PROVED}", highlight=False)
    console.print(f"{len(instances)} properties in {total:.1f} s")
    for line in wrong:
        console.print(f"[bold red]not as listed:[/] {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
