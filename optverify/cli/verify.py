"""The command verify."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from optverify.cli.shared import (
    Commands,
    add_search,
    add_semantics,
    check_solver,
    json_output,
    live_line,
    network_and_query,
    note,
    page_file,
    refuse_overwriting,
    say,
    workers_or_default,
)

if TYPE_CHECKING:
    from optverify.search.tree import Progress


def add_to(commands: Commands) -> None:
    """Add its parser."""
    verify = commands.add_parser("verify", help="decide whether a property holds")
    verify.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    verify.add_argument("property", metavar="PROP", help=".vnnlib file (asserts the unsafe set)")
    verify.add_argument(
        "--relaxation",
        default="auto",
        choices=["auto", "triangle", "lifted"],
        help="whether nodes are given to the semidefinite relaxation: never, wherever it may close them, or (default) "
        "where it promises to be cheaper than splitting",
    )
    verify.add_argument("--certificate", metavar="FILE", help="write a proof (or counterexample) and check it")
    verify.add_argument("--save", metavar="FILE", help="write the tree of a search that ends without a verdict")
    verify.add_argument("--resume", metavar="FILE", help="go on with such a tree (may be the same file as --save)")
    verify.add_argument("--report", metavar="FILE", help="write a page of HTML that stands alone (extra plots)")
    add_semantics(verify)
    add_search(verify)
    verify.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from optverify.verify import verify

    check_solver(options.solver)
    written = [options.json, options.certificate, options.save, options.report]
    refuse_overwriting(written, [options.network, options.property])
    if options.resume is not None:
        refuse_overwriting(written[:2], [options.resume])
    trace: list[Progress] = []
    with (
        json_output(options.json) as write,
        page_file(options.report) as write_page,
        live_line(options.quiet) as show,
    ):
        network, query = network_and_query(options)
        answer = verify(
            network,
            query,
            semantics=options.semantics,
            time_limit=options.time_limit,
            solver=options.solver,
            relaxation=options.relaxation,
            progress=_both(trace.append, show) if options.report else show,
            seed=options.seed,
            workers=workers_or_default(options.workers),
            certificate=options.certificate,
            save=options.save,
            resume=options.resume,
        )
        write(answer.to_dict())
        if options.report is not None:
            from optverify.pages import verification_page

            files = {name: getattr(options, name) for name in ("network", "property", "certificate")}
            files = {name: file for name, file in files.items() if file is not None}
            write_page(verification_page(answer, network, query, trace=trace, files=files))
    if options.json != "-":
        say(str(answer))
    if options.save is not None and answer.verdict.value != "unknown":
        left = "; the older one is as it was" if Path(options.save).exists() else ""
        note(f"optverify: decided: nothing to resume, {options.save} not written{left}")
    return {"verified": 0, "falsified": 1, "unknown": 2}[answer.verdict.value]


def _both(first: Callable[[Progress], None], second: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        first(progress)
        if second is not None:
            second(progress)

    return report
