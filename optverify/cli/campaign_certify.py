"""The commands about many instances: campaign, certify.

Exit codes as in :mod:`optverify.cli`. campaign: 3 if any instance ended in an error, else 1 if any is falsified, else
2 if any is unknown or was not run, else 0. certify: 3 if any question ended in an error, else 2 if any input is
undecided at some eps, else 0.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from optverify.cli.shared import (
    EXIT_ERROR,
    Commands,
    add_domain,
    domain_of,
    json_output,
    note,
    positive_count,
    positive_seconds,
    refuse_overwriting,
    say,
    whole_number,
)
from optverify.errors import InputError
from optverify.report import text
from optverify.semantics import REAL, SEMANTICS
from optverify.solvers import LINEAR

if TYPE_CHECKING:
    from optverify.campaign import Progress

GO_ON = "the same command goes on where this one stopped"


def add_to(commands: Commands) -> None:
    """Add their parsers."""
    campaign = commands.add_parser(
        "campaign", help="verify a list of instances; what is done is kept, and gone on with"
    )
    campaign.add_argument("instances", metavar="INSTANCES.csv", help="lines of network,property,timeout")
    campaign.add_argument(
        "--store", required=True, metavar="FILE", help="SQLite file of results, made if there is none"
    )
    campaign.add_argument(
        "--timeout", type=positive_seconds, metavar="S", help="seconds an instance, instead of its own"
    )
    campaign.set_defaults(run=_campaign)

    certify = commands.add_parser("certify", help="certified accuracy of a classifier on a data set, l-inf")
    certify.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    certify.add_argument("data", metavar="DATA.npz", help="arrays inputs and labels")
    certify.add_argument("--eps", metavar="E,...", help="radii, exact decimals: 0.01,0.02")
    certify.add_argument(
        "--radius", action="store_true", help="measure each input's radius instead of asking yes or no"
    )
    add_domain(certify)
    certify.add_argument("--divide-by", default="1", metavar="D", help="divide the inputs: 255 for bytes (default 1)")
    certify.add_argument("--store", metavar="FILE", help="SQLite file of results; without one nothing is kept")
    certify.add_argument("--timeout", type=positive_seconds, metavar="S", help="seconds a question")
    certify.add_argument("--plot", metavar="FILE", help="draw the curve over eps as .svg, .pdf or .png (extra plots)")
    certify.set_defaults(run=_certify)

    for command in (campaign, certify):
        command.add_argument("--workers", type=positive_count, default=1, metavar="N", help="processes (default 1)")
        command.add_argument("--executor", choices=["local", "dask"], default="local", help="default: local")
        command.add_argument("--scheduler", metavar="ADDRESS", help="of Dask, for instance tcp://127.0.0.1:8786")
        command.add_argument("--certificates", metavar="DIR", help="write a certificate of each verdict")
        command.add_argument("--semantics", choices=list(SEMANTICS), help="as for verify")
        command.add_argument("--solver", default=LINEAR, metavar="NAME", help="for programs (default " + LINEAR + ")")
        command.add_argument("--seed", type=whole_number, default=0, help="of the attack's random points (default 0)")
        command.add_argument("--retry-errors", action="store_true", help="run again what ended in an error")
        command.add_argument(
            "--json", metavar="FILE", help="write the answer as JSON to FILE, or - for standard output"
        )
        command.add_argument("--quiet", action="store_true", help="no progress line")
        command.add_argument("--export", metavar="FILE", help="write the table as .csv or .parquet (extra tables)")


def _campaign(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from optverify.campaign import read_instances, run
    from optverify.campaign.tables import check_export, frame, write_table

    refuse_overwriting([options.store, options.json, options.export], [options.instances])
    if options.export is not None:
        check_export(options.export)
    instances = read_instances(options.instances, options.timeout)
    with json_output(options.json) as write:
        with _progress(options.quiet) as report:
            ran = run(instances, progress=report, **_shared(options))
        rows = [row for row in ran.rows if row is not None]
        counts = ran.counts()
        write(
            {
                "instances": len(instances),
                "counts": counts,
                "complete": ran.complete,
                "results": [asdict(row) for row in rows],
            }
        )
        if options.export is not None:
            write_table(frame(rows), options.export)
    if options.json != "-":
        _table(rows)
        say(", ".join(f"{count} {name}" for name, count in counts.items() if count) + f" of {len(instances)} instances")
    if not ran.complete:
        note(f"optverify: stopped early: {GO_ON}")
    if counts["error"]:
        return EXIT_ERROR
    return 1 if counts["falsified"] else 2 if counts["unknown"] or counts["not run"] else 0


def _certify(options: argparse.Namespace) -> int:
    from optverify.campaign.tables import check_export, write_table
    from optverify.certify import certify
    from optverify.io.data import read_data

    written = [options.store, options.json, options.plot, options.export]
    refuse_overwriting(written, [options.network, options.data])
    if options.export is not None:
        check_export(options.export)
    if options.plot is not None:
        from optverify.plots.accuracy import check_figure, write_figure

        check_figure(options.plot)
    with json_output(options.json) as write:
        inputs, labels = read_data(options.data, options.divide_by)
        with _progress(options.quiet) as report:
            answer = certify(
                options.network,
                inputs,
                labels,
                () if options.eps is None else options.eps.split(","),
                radius=options.radius,
                domain=domain_of(options),
                time_limit=options.timeout,
                progress=report,
                **_shared(options) | {"semantics": options.semantics or REAL.name},
            )
        write(answer.to_dict())
        if options.plot is not None:
            write_figure(answer, options.plot)
        if options.export is not None:
            write_table(answer.to_frame(), options.export)
    if options.json != "-":
        say(str(answer))
    if not answer.complete:
        note(f"optverify: stopped early{'' if options.store is None else ': ' + GO_ON}")
    if answer.errors:
        return EXIT_ERROR
    return 2 if not answer.complete or any(level.undecided for level in answer.levels) else 0


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    """Return what both commands pass on."""
    if (options.executor == "dask") != bool(options.scheduler):
        raise InputError("--executor dask and --scheduler ADDRESS belong together")
    return {
        "store": options.store,
        "semantics": options.semantics,
        "solver": options.solver,
        "seed": options.seed,
        "workers": options.workers,
        "scheduler": options.scheduler or None,
        "certificates": options.certificates,
        "retry_errors": options.retry_errors,
    }


def _table(rows: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("instance", "verdict", "bound (proved)", "semantics", "seconds", "reason", box=None, pad_edge=False)
    for row in rows:
        seconds = "-" if row.seconds is None else f"{row.seconds:.2f}"
        bound = text.rounded_down(row.bound)
        table.add_row(Text(row.name), row.verdict, bound, row.semantics or "-", seconds, Text(row.reason))
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=250)
    console.print(table)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show a bar with the time that is left on standard error where that is a terminal; notes always."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = not quiet and console.is_terminal
    # Instances take seconds to hours: the speed is that of the whole run.
    with Bar(*columns, console=console, transient=True, disable=not shown, speed_estimate_period=1e9) as bar:
        task = bar.add_task("reading", total=None)

        def report(p: Progress) -> None:
            if p.note:
                console.print(f"optverify: {p.note}", markup=False, soft_wrap=True)
            if p.latest is None:
                bar.reset(task, total=p.total, completed=p.done)
            words = ", ".join(f"{count} {name}" for name, count in p.verdicts.items())
            bar.update(task, total=p.total, completed=p.done, description=words or "running")

        yield report
