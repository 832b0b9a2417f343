"""The command compare."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from optverify.cli.shared import (
    METHODS,
    Commands,
    live_line,
    only_region,
    page_file,
    positive_count,
    positive_seconds,
    refuse_overwriting,
    text_file,
    whole_number,
)


def add_to(commands: Commands) -> None:
    """Add its parser."""
    comparison = commands.add_parser("compare", help="bound the property's cases (or objectives) by several methods")
    comparison.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    comparison.add_argument("property", metavar="PROP", help=".vnnlib file")
    comparison.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD", help="default: all"
    )
    comparison.add_argument(
        "--objective",
        action="append",
        default=[],
        metavar="EXPR",
        help="bound this over PROP's box instead; repeatable",
    )
    comparison.add_argument("--sense", default="min", choices=["min", "max"], help="of the objectives (default: min)")
    comparison.add_argument(
        "--bounds",
        default="crown",
        choices=["own", "interval", "crown", "tightened"],
        help="pre-activation bounds that all methods start from (default: crown)",
    )
    comparison.add_argument("--solvers", nargs="+", metavar="NAME", help="each for the methods whose programs it takes")
    comparison.add_argument(
        "--repeats", type=positive_count, default=1, metavar="N", help="runs of each method (default 1)"
    )
    comparison.add_argument("--gap", type=float, default=1e-6, metavar="G", help="relative gap of exact (default 1e-6)")
    comparison.add_argument(
        "--time-limit", type=positive_seconds, metavar="S", help="seconds for each method on each objective"
    )
    comparison.add_argument("--seed", type=whole_number, default=0, help="of the attack's random points (default 0)")
    comparison.add_argument(
        "--workers", type=positive_count, default=1, metavar="N", help="processes of exact (default 1)"
    )
    comparison.add_argument("--format", default="markdown", choices=["markdown", "latex", "csv", "json"])
    comparison.add_argument("--by-method", action="store_true", help="one line a method (markdown, latex)")
    comparison.add_argument("--output", metavar="FILE", help="write the table here instead of standard output")
    comparison.add_argument("--bibtex", metavar="FILE", help="write the methods' sources; LaTeX then cites them")
    comparison.add_argument("--resume", metavar="FILE", help="keep rows here as they are done; go on with them")
    comparison.add_argument("--report", metavar="FILE", help="write a page of HTML that stands alone (extra plots)")
    comparison.add_argument("--quiet", action="store_true", help="no progress line")
    comparison.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from optverify.compare import compare
    from optverify.io import load, load_property
    from optverify.io.expression import parse_linear
    from optverify.tables import ENDED, rendered, sources

    objectives = [parse_linear(text, "--objective") for text in options.objective]
    written = [options.output, options.bibtex, options.resume, options.report]
    refuse_overwriting(written, [options.network, options.property])
    with ExitStack() as stack:
        files = {name: stack.enter_context(text_file(name)) for name in (options.output, options.bibtex)}
        write_page = stack.enter_context(page_file(options.report))
        report = stack.enter_context(_rows_progress(options.quiet))
        network, query = load(options.network), load_property(options.property)
        table = compare(
            network,
            only_region(query, options.property) if objectives else query,
            objectives,
            methods=options.methods,
            solvers=options.solvers,
            bounds=options.bounds,
            sense=options.sense if objectives else "min",
            repeats=options.repeats,
            time_limit=options.time_limit,
            gap=options.gap,
            seed=options.seed,
            workers=options.workers,
            resume=options.resume,
            progress=report,
            name=f"{Path(options.network).stem}, {Path(options.property).name.split('.')[0]}",
        )
        files[options.output](
            rendered(table, options.format, by_method=options.by_method, cite=options.bibtex is not None)
        )
        if options.bibtex is not None:
            files[options.bibtex](sources(table))
        if options.report is not None:
            from optverify.pages import comparison_page

            command = shlex.join(["optverify", *(options.arguments or sys.argv[1:])])
            write_page(
                comparison_page(
                    table, f"Methods compared on {Path(options.network).name}, {Path(options.property).name}", command
                )
            )
    return 0 if table.status.isin(ENDED).all() else 2


@contextmanager
def _rows_progress(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """Show how many rows of a table are done, as :func:`optverify.cli.shared.live_line` does."""
    with live_line(quiet) as show:
        yield None if show is None else lambda done, total, what: show(f"{done} of {total} rows; {what}")
