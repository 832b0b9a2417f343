"""The commands around one input: radius, box."""

from __future__ import annotations

import argparse

from optverify.cli.shared import (
    Commands,
    add_domain,
    add_search,
    add_semantics,
    check_solver,
    domain_of,
    json_output,
    live_line,
    refuse_overwriting,
    say,
    whole_number,
    whole_numbers,
    workers_or_default,
)
from optverify.errors import InputError
from optverify.semantics import REAL, named


def add_to(commands: Commands) -> None:
    """Add their parsers."""
    radius = commands.add_parser("radius", help="how far from an input is the nearest one of another class?")
    radius.add_argument("--norm", default="inf", choices=["inf", "2", "1", "0"], help="default: inf; 0 counts inputs")
    radius.add_argument(
        "--targets", type=whole_numbers, metavar="J,J", help="classes that must not win (default: all others)"
    )
    radius.add_argument(
        "--relaxation",
        default="auto",
        choices=["auto", "triangle", "lifted"],
        help="whether the semidefinite relaxation is used (inf only): never, from the start, or (default) where it "
        "promises to be cheaper than splitting",
    )
    radius.add_argument(
        "--claim", action="store_true", help="ask a mixed-integer solver too, for a claim and for its points (not 2)"
    )
    radius.add_argument("--certificate", metavar="FILE", help="write a proof of the lower end")
    radius.set_defaults(run=_radius)

    box = commands.add_parser("box", help="a maximal safe box around an input, or the smallest box around a class")
    box.add_argument(
        "--objective",
        default="apothem",
        choices=["apothem", "maximal", "volume-heuristic"],
        help="what the box is grown from (default: apothem, the ball of the radius)",
    )
    box.add_argument("--property", metavar="PROP", help=".vnnlib file whose unsafe set counts instead of another class")
    box.add_argument("--fixed", type=whole_numbers, default=[], metavar="I,I", help="inputs that stay as they are")
    box.add_argument("--weights", metavar="W,W", help="units of the inputs, one for each")
    box.add_argument(
        "--step", default="0.00390625", metavar="S", help="how near a counterexample is to a face (default 1/256)"
    )
    box.add_argument("--dual", action="store_true", help="the smallest box that holds every input of --label instead")
    box.add_argument("--certificate", metavar="FILE", help="write a proof for the safe box; with --dual a folder")
    box.set_defaults(run=_box)

    for command in (radius, box):
        command.add_argument("network", metavar="NET", help=".onnx or .nnet file")
        command.add_argument("--input", metavar="FILE", help=".npz, .npy or .csv file with an input in each row")
        command.add_argument(
            "--index", type=whole_number, default=0, metavar="K", help="row of the input, from 0 on (default 0)"
        )
        command.add_argument(
            "--label", type=whole_number, metavar="C", help="its class (default: that of the largest output)"
        )
        add_domain(command)
        command.add_argument(
            "--gap", type=float, default=1e-4, metavar="G", help="relative gap of a radius (default 1e-4)"
        )
        add_semantics(command)
        add_search(command)


def _radius(options: argparse.Namespace) -> int:
    from optverify.io import load
    from optverify.io.points import load_point
    from optverify.measures.radius import proof_files, radius
    from optverify.norms import norm_of

    check_solver(options.solver)
    if options.input is None:
        raise InputError("radius needs --input FILE")
    proof = () if options.certificate is None else proof_files(options.certificate, norm_of(options.norm))
    refuse_overwriting([options.json, *proof], [options.network, options.input])
    with json_output(options.json) as write, live_line(options.quiet) as report:
        answer = radius(
            load(options.network, format=named(options.semantics or REAL).format),
            load_point(options.input, options.index),
            options.label,
            norm=options.norm,
            semantics=options.semantics or REAL,
            domain=domain_of(options),
            targets=options.targets,
            gap=options.gap,
            time_limit=options.time_limit,
            solver=options.solver,
            relaxation=options.relaxation,
            progress=report,
            seed=options.seed,
            workers=workers_or_default(options.workers),
            claim=options.claim or None,
            certificate=options.certificate,
        )
        write(answer.to_dict())
    if options.json != "-":
        say(str(answer))
    return 0 if answer.complete else 2


def _box(options: argparse.Namespace) -> int:
    from optverify.io import load, load_property
    from optverify.io.points import load_point
    from optverify.measures.boxes import safe_box
    from optverify.measures.dual import dual_box
    from optverify.measures.results import DualBox, SafeBox

    check_solver(options.solver)
    if options.dual and options.property:
        raise InputError("--dual goes with --label, without --property")
    if not options.dual and options.input is None:
        raise InputError("box needs --input FILE, or --dual and --label C")
    if options.dual and options.label is None:
        raise InputError("box --dual needs --label C, the class whose box is wanted")
    read = [path for path in (options.network, options.input, options.property) if path is not None]
    beside = None if options.dual or options.certificate is None else options.certificate + ".vnnlib"
    refuse_overwriting([options.json, options.certificate, beside], read)
    domain = domain_of(options)
    answer: DualBox | SafeBox
    with json_output(options.json) as write, live_line(options.quiet) as report:
        unsafe = None if options.property is None else load_property(options.property)
        about = named(options.semantics or REAL) if unsafe is None else unsafe.under(options.semantics)
        network = load(options.network, format=about.format)
        if options.dual:
            if domain is None:
                raise InputError("the smallest box around a class needs --domain LO HI")
            answer = dual_box(
                network,
                options.label,
                domain=domain,
                semantics=options.semantics or REAL,
                step=options.step,
                time_limit=options.time_limit,
                solver=options.solver,
                progress=report,
                certificates=options.certificate,
            )
        else:
            answer = safe_box(
                network,
                load_point(options.input, options.index),
                options.objective,
                label=options.label,
                property=unsafe,
                domain=domain,
                fixed=options.fixed,
                weights=None if options.weights is None else options.weights.split(","),
                semantics=options.semantics,
                step=options.step,
                gap=options.gap,
                time_limit=options.time_limit,
                solver=options.solver,
                progress=report,
                certificate=options.certificate,
            )
        write(answer.to_dict())
    if options.json != "-":
        say(str(answer))
    return 0 if answer.complete else 2
