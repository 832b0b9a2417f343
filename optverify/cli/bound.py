"""The command bound."""

from __future__ import annotations

import argparse

from optverify.cli.shared import (
    METHODS,
    Commands,
    add_search,
    add_semantics,
    check_solver,
    json_output,
    live_line,
    network_and_query,
    only_region,
    refuse_overwriting,
    say,
    workers_or_default,
)


def add_to(commands: Commands) -> None:
    """Add its parser."""
    bound = commands.add_parser("bound", help="enclose the optimum of an output over the property's region")
    bound.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    bound.add_argument("property", metavar="PROP", help=".vnnlib file: its box of inputs is used")
    bound.add_argument("--objective", required=True, metavar="EXPR", help='for instance "Y_0 - Y_1"')
    bound.add_argument(
        "--method",
        default="exact",
        choices=METHODS,
        help="default: exact",
    )
    bound.add_argument(
        "--bounds",
        default="own",
        choices=["own", "interval", "crown", "tightened"],
        help="pre-activation bounds that the method starts from (default own: its own)",
    )
    bound.add_argument("--sense", default="min", choices=["min", "max"], help="default: min")
    bound.add_argument(
        "--certificate", metavar="FILE", help="write a proof of an exact bound; what it proves goes to FILE.vnnlib"
    )
    bound.add_argument("--gap", type=float, default=1e-6, metavar="G", help="relative gap of exact (default 1e-6)")
    add_semantics(bound)
    add_search(bound, "default", "for programs (default highs, for lifted 'interior point')")
    bound.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from optverify.bound import bound
    from optverify.io.expression import parse_linear
    from optverify.solvers import DEFAULT, INTERIOR_POINT

    if options.solver not in (DEFAULT, INTERIOR_POINT):
        check_solver(options.solver)
    objective = parse_linear(options.objective, "--objective")
    beside = None if options.certificate is None else options.certificate + ".vnnlib"
    refuse_overwriting([options.json, options.certificate, beside], [options.network, options.property])
    with json_output(options.json) as write, live_line(options.quiet) as report:
        network, query = network_and_query(options)
        answer = bound(
            network,
            only_region(query, options.property),
            objective,
            semantics=query.under(options.semantics),
            method=options.method,
            sense=options.sense,
            solver=options.solver,
            gap=options.gap,
            time_limit=options.time_limit,
            progress=report,
            seed=options.seed,
            workers=workers_or_default(options.workers),
            certificate=options.certificate,
            bounds=options.bounds,
        )
        write(answer.to_dict())
    if options.json != "-":
        say(str(answer))
        if any(case.unsafe for case in query.cases):
            say("  the region is the box of PROP alone; its other conditions are not used")
    return 0 if answer.complete else 2
