"""The command line; `cli_campaign` has campaign and certify.

Exit codes: 0 verified (or done), 1 falsified, 2 unknown (or stopped early), 3 error. Results go to standard
output, progress and errors to standard error.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from optverify.errors import InputError, OptverifyError, RejectedCertificate
from optverify.semantics import REAL, SEMANTICS

if TYPE_CHECKING:
    from optverify.network import Network
    from optverify.query import Box, Query
    from optverify.search.tree import Progress

EXIT_ERROR = 3

CAPABILITIES = (
    "onnx-opset-versions",
    "onnx-element-types",
    "onnx-operators",
    "vnnlib-versions",
    "hidden-node-theories",
    "multiple-input-output-theories",
    "multiple-network-theories",
    "multiple-node-comparison-theories",
    "arithmetic-complexity-theories",
    "optimised-disjunctive-reasoning",
    "serialise-assignments",
    "unsat-proofs",
)
"""What VNN-LIB 2.0 lets one ask a solver."""
METHODS = ["interval", "crown", "alpha-crown", "triangle", "triangle+tightened"]
METHODS += ["lifted", "lifted+cuts", "bigm", "exact"]
"""Those of `search.methods`, which is imported where it is used; the tests know that they are the same."""


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2 for a wrong command line; 2 means unknown here."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 3."""
        self.exit(EXIT_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    atexit.register(gc.freeze)  # the last search for garbage takes longer than to leave the memory to the system
    parser = _build_parser()
    options = parser.parse_args(arguments)
    options.arguments = arguments
    try:
        return int(options.run(options))
    except OptverifyError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    except BrokenPipeError:  # the reader of our output has gone
        with suppress(OSError):
            os.close(sys.stdout.fileno())
        return EXIT_ERROR
    except (MemoryError, RecursionError) as error:
        return _fail(f"{type(error).__name__}: the problem is too large for this machine")
    except Exception as error:  # a defect of ours: still one line, and never a verdict
        if os.environ.get("OPTVERIFY_DEBUG"):
            raise
        return _fail(
            f"internal error, please report it: {type(error).__name__}: {error} (OPTVERIFY_DEBUG=1 shows where)"
        )


def vnnlib() -> int:
    """Run the command line of VNN-LIB 2.0 as a program of its own."""
    return main(["vnnlib", *sys.argv[1:]])


def _fail(message: str) -> int:
    print("optverify: error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return EXIT_ERROR


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _build_parser() -> argparse.ArgumentParser:
    from optverify.cli_campaign import add_commands

    parser = _Parser(
        prog="optverify",
        description="Neural-network verification in which every number is a theorem or is labelled a claim.",
        epilog="exit codes: 0 verified, 1 falsified, 2 unknown, 3 error",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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
    verify.set_defaults(run=_verify)

    check = commands.add_parser(
        "check", help="check a certificate: exit 0 accepted (PROVED or REFUTED), 1 rejected, 3 malformed"
    )
    check.add_argument("certificate", metavar="FILE")
    check.add_argument("--network", required=True, metavar="NET", help="the .onnx or .nnet file that it is about")
    check.add_argument("--property", required=True, metavar="PROP", help="the .vnnlib file that it is about")
    check.add_argument("--exact", action="store_true", help="by the independent kernel, in exact integers (slower)")
    check.set_defaults(run=_check)

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
    bound.set_defaults(run=_bound)

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
    comparison.add_argument("--repeats", type=_count, default=1, metavar="N", help="runs of each method (default 1)")
    comparison.add_argument("--gap", type=float, default=1e-6, metavar="G", help="relative gap of exact (default 1e-6)")
    comparison.add_argument(
        "--time-limit", type=_seconds, metavar="S", help="seconds for each method on each objective"
    )
    comparison.add_argument("--seed", type=_seed, default=0, help="of the attack's random points (default 0)")
    comparison.add_argument("--workers", type=_count, default=1, metavar="N", help="processes of exact (default 1)")
    comparison.add_argument("--format", default="markdown", choices=["markdown", "latex", "csv", "json"])
    comparison.add_argument("--by-method", action="store_true", help="one line a method (markdown, latex)")
    comparison.add_argument("--output", metavar="FILE", help="write the table here instead of standard output")
    comparison.add_argument("--bibtex", metavar="FILE", help="write the methods' sources; LaTeX then cites them")
    comparison.add_argument("--resume", metavar="FILE", help="keep rows here as they are done; go on with them")
    comparison.add_argument("--report", metavar="FILE", help="write a page of HTML that stands alone (extra plots)")
    comparison.add_argument("--quiet", action="store_true", help="no progress line")
    comparison.set_defaults(run=_compare)

    radius = commands.add_parser("radius", help="how far from an input is the nearest one of another class?")
    radius.add_argument("--norm", default="inf", choices=["inf", "2", "1", "0"], help="default: inf; 0 counts inputs")
    radius.add_argument(
        "--targets", type=_numbers, metavar="J,J", help="classes that must not win (default: all others)"
    )
    radius.add_argument("--certificate", metavar="FILE", help="write a proof of the lower end (inf only)")
    radius.set_defaults(run=_radius)

    box = commands.add_parser("box", help="a maximal safe box around an input, or the smallest box around a class")
    box.add_argument(
        "--objective",
        default="apothem",
        choices=["apothem", "maximal", "volume-heuristic"],
        help="what the box is grown from (default: apothem, the ball of the radius)",
    )
    box.add_argument("--property", metavar="PROP", help=".vnnlib file whose unsafe set counts instead of another class")
    box.add_argument("--fixed", type=_numbers, default=[], metavar="I,I", help="inputs that stay as they are")
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
            "--index", type=_seed, default=0, metavar="K", help="row of the input, from 0 on (default 0)"
        )
        command.add_argument("--label", type=_seed, metavar="C", help="its class (default: that of the largest output)")
        command.add_argument(
            "--domain", nargs=2, default=["0", "1"], metavar=("LO", "HI"), help="range of every input (default 0 1)"
        )
        command.add_argument(
            "--gap", type=float, default=1e-4, metavar="G", help="relative gap of a radius (default 1e-4)"
        )

    for command in (verify, bound, radius, box):
        command.add_argument(
            "--semantics",
            choices=list(SEMANTICS),
            help="real, or every execution in a floating-point format (default: what PROP says, else real)",
        )
        command.add_argument("--time-limit", type=_seconds, metavar="S", help="seconds of wall clock")
        command.add_argument(
            "--solver",
            default="default" if command is bound else "highs",
            metavar="NAME",
            help="for programs (default highs"
            + (", for lifted 'interior point'" if command is bound else "")
            + "); optverify solvers lists them",
        )
        command.add_argument(
            "--workers", type=_count, metavar="N", help="processes for long searches (default: one a core, at most 4)"
        )
        command.add_argument("--seed", type=_seed, default=0, help="of the attack's random points (default 0)")
        command.add_argument(
            "--json", metavar="FILE", help="write the answer as JSON to FILE, or - for standard output"
        )
        command.add_argument("--quiet", action="store_true", help="no progress line")

    replay = commands.add_parser("replay", help="run a witness in exact arithmetic, in every order and runtime")
    replay.add_argument("network", metavar="NET", help=".onnx or .nnet file")
    replay.add_argument("witness", metavar="WITNESS", help="the answer of verify --json with a witness or a near miss")
    replay.add_argument(
        "--semantics",
        choices=list(SEMANTICS)[1:],
        help="format of the orders (default: that of WITNESS or the file, or float32)",
    )
    replay.set_defaults(run=_replay)

    _add_vnnlib(commands.add_parser("vnnlib", help="the solver command line of VNN-LIB 2.0: verify, supports"))
    add_commands(commands)

    show = commands.add_parser("show", help="describe a network or property file")
    show.add_argument("file", metavar="FILE")
    show.set_defaults(run=_show)

    solvers = commands.add_parser("solvers", help="list the solvers: installed? version, what they can do, why not")
    solvers.set_defaults(run=_solvers)
    return parser


def _add_vnnlib(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", action="version", version="optverify", help="print the solver's name")
    parser.add_argument("--version", action="version", version=_version().split()[1])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    verify = commands.add_parser("verify", help="print unsat, sat and an assignment, unknown or timed-out")
    verify.add_argument("query", metavar="QUERY", help="VNN-LIB 2.0 file")
    verify.add_argument(
        "--network", action="append", default=[], type=_named_file, metavar="NAME=FILE", help="network of that name"
    )
    verify.add_argument("--timeout", type=_seconds, metavar="S", help="seconds of wall clock")
    verify.add_argument("--workers", type=_count, metavar="N", help="processes for long searches")
    verify.set_defaults(run=_vnnlib_verify)

    supports = commands.add_parser("supports", help="print a capability")
    wanted = supports.add_mutually_exclusive_group(required=True)
    for capability in CAPABILITIES:
        wanted.add_argument(f"--{capability}", dest="capability", action="store_const", const=capability)
    supports.set_defaults(run=_vnnlib_supports)


def _version() -> str:
    from optverify import __version__

    return f"optverify {__version__}"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _named_file(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not (name and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, path


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def _workers(chosen: int | None) -> int:
    """Return the number of processes: more than a few do not pay, as batches are handed out a few at a time."""
    if chosen is not None:
        return chosen
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _numbers(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 0,3")
    return [int(part) for part in parts]


def _verify(options: argparse.Namespace) -> int:
    from optverify.verify import verify

    _check_solver(options.solver)
    written = [options.json, options.certificate, options.save, options.report]
    _refuse_overwriting(written, [options.network, options.property])
    if options.resume is not None:
        _refuse_overwriting(written[:2], [options.resume])
    trace: list[Progress] = []
    with (
        _output(options.json) as write,
        _page_file(options.report) as write_page,
        _line(options.quiet) as show,
    ):
        network, query = _network_and_query(options)
        answer = verify(
            network,
            query,
            semantics=options.semantics,
            time_limit=options.time_limit,
            solver=options.solver,
            relaxation=options.relaxation,
            progress=_both(trace.append, show) if options.report else show,
            seed=options.seed,
            workers=_workers(options.workers),
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
        _say(str(answer))
    return {"verified": 0, "falsified": 1, "unknown": 2}[answer.verdict.value]


def _vnnlib_verify(options: argparse.Namespace) -> int:
    from optverify.vnnlib import answer

    found = answer(options.query, options.network, options.timeout, _workers(options.workers))
    _say("\n".join(found.output))
    print("\n".join(found.notes), file=sys.stderr)  # noqa: T201
    return 0


def _vnnlib_supports(options: argparse.Namespace) -> int:
    from optverify.vnnlib import supported

    _say("\n".join(supported(options.capability)))
    return 0


def _network_and_query(options: argparse.Namespace) -> tuple[Network, Query]:
    from optverify.io import load, load_property

    query = load_property(options.property)
    return load(options.network, format=query.under(options.semantics).format), query


def _check(options: argparse.Namespace) -> int:
    from optverify.certificate import check_file
    from optverify.io import load, load_property

    network, query = load(options.network), load_property(options.property)
    try:
        if options.exact:
            return _run_kernel(network, query, options.certificate)
        header = check_file(options.certificate, network, query)
    except RejectedCertificate as error:
        _fail(str(error))
        return 1
    about = "over the reals" if header.semantics == REAL.name else f"for every execution in {header.semantics}"
    if header.kind == "verified":
        _say(f"PROVED, {about}: {query.text} ({len(query.cases)} unsafe cases of {options.property} unreachable)")
    else:
        about = about.replace("every", "some")
        _say(f"REFUTED, {about}: case {header.case} of {options.property} is reached by the point in the file")
    return 0


def _run_kernel(network: Network, query: Query, certificate: str) -> int:
    """Run the kernel by path, isolated: it sees the canonical problem and the certificate, and nothing of ours."""
    from optverify.canonical import network_text, property_text
    from optverify.checker import header_of, under

    network = under(network, query, header_of(certificate))
    kernel = Path(__file__).with_name("kernel.py")
    with tempfile.TemporaryDirectory(prefix="optverify-") as folder:
        problem = {"network.json": network_text(network), "property.json": property_text(query)}
        for name, text in problem.items():
            Path(folder, name).write_bytes(text)
        files = [str(Path(folder, name)) for name in problem]
        return subprocess.run([sys.executable, "-I", "-S", str(kernel), *files, certificate], check=False).returncode


def _bound(options: argparse.Namespace) -> int:
    from optverify.bound import bound
    from optverify.io.expression import parse_linear
    from optverify.solvers import DEFAULT, INTERIOR_POINT

    if options.solver not in (DEFAULT, INTERIOR_POINT):
        _check_solver(options.solver)
    objective = parse_linear(options.objective, "--objective")
    beside = None if options.certificate is None else options.certificate + ".vnnlib"
    _refuse_overwriting([options.json, options.certificate, beside], [options.network, options.property])
    with _output(options.json) as write, _line(options.quiet) as report:
        network, query = _network_and_query(options)
        answer = bound(
            network,
            _only_region(query, options.property),
            objective,
            semantics=query.under(options.semantics),
            method=options.method,
            sense=options.sense,
            solver=options.solver,
            gap=options.gap,
            time_limit=options.time_limit,
            progress=report,
            seed=options.seed,
            workers=_workers(options.workers),
            certificate=options.certificate,
            bounds=options.bounds,
        )
        write(answer.to_dict())
    if options.json != "-":
        _say(str(answer))
        if any(case.unsafe for case in query.cases):
            _say("  the region is the box of PROP alone; its other conditions are not used")
    return 0 if answer.complete else 2


def _compare(options: argparse.Namespace) -> int:
    from optverify.compare import compare
    from optverify.io import load, load_property
    from optverify.io.expression import parse_linear
    from optverify.tables import ENDED, rendered, sources

    objectives = [parse_linear(text, "--objective") for text in options.objective]
    written = [options.output, options.bibtex, options.resume, options.report]
    _refuse_overwriting(written, [options.network, options.property])
    with ExitStack() as stack:
        files = {name: stack.enter_context(_text_file(name)) for name in (options.output, options.bibtex)}
        write_page = stack.enter_context(_page_file(options.report))
        report = stack.enter_context(_rows_progress(options.quiet))
        network, query = load(options.network), load_property(options.property)
        table = compare(
            network,
            _only_region(query, options.property) if objectives else query,
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
def _text_file(path: str | None) -> Iterator[Callable[[str], None]]:
    """Give a function that writes a text to a file, whole or not at all; without a path, to standard output."""
    from optverify.io.files import replacing

    if path is None:
        yield _say
        return
    with replacing(path) as stream:
        yield lambda text: _discard(stream.write(text.encode() + b"\n"))


def _page_file(path: str | None) -> AbstractContextManager[Callable[[str], None]]:
    """Give a function that writes a page; find out before the work whether that will be possible."""
    from optverify.errors import require

    if path is None:
        return nullcontext(_discard)
    require("matplotlib", "plots").use("Agg")
    return _text_file(path)


def _both(first: Callable[[Progress], None], second: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        first(progress)
        if second is not None:
            second(progress)

    return report


def _discard(_: object) -> None:
    """Take a value that is not wanted."""


def _radius(options: argparse.Namespace) -> int:
    from optverify.io import load
    from optverify.io.points import load_point
    from optverify.measures.radius import radius

    _check_solver(options.solver)
    if options.input is None:
        raise InputError("radius needs --input FILE")
    beside = None if options.certificate is None else options.certificate + ".vnnlib"
    _refuse_overwriting([options.json, options.certificate, beside], [options.network, options.input])
    with _output(options.json) as write, _line(options.quiet) as report:
        answer = radius(
            load(options.network),
            load_point(options.input, options.index),
            options.label,
            norm=options.norm,
            semantics=options.semantics or REAL,
            domain=tuple(options.domain),
            targets=options.targets,
            gap=options.gap,
            time_limit=options.time_limit,
            solver=options.solver,
            progress=report,
            seed=options.seed,
            workers=_workers(options.workers),
            certificate=options.certificate,
        )
        write(answer.to_dict())
    if options.json != "-":
        _say(str(answer))
    return 0 if answer.complete else 2


def _box(options: argparse.Namespace) -> int:
    from optverify.io import load, load_property
    from optverify.io.points import load_point
    from optverify.measures.boxes import safe_box
    from optverify.measures.dual import dual_box
    from optverify.measures.results import DualBox, SafeBox

    _check_solver(options.solver)
    if options.dual and options.property:
        raise InputError("--dual goes with --label, without --property")
    if not options.dual and options.input is None:
        raise InputError("box needs --input FILE, or --dual and --label C")
    read = [path for path in (options.network, options.input, options.property) if path is not None]
    _refuse_overwriting([options.json, options.certificate], read)
    domain = tuple(options.domain)
    answer: DualBox | SafeBox
    with _output(options.json) as write, _line(options.quiet) as report:
        network = load(options.network)
        if options.dual:
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
                property=None if options.property is None else load_property(options.property),
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
        _say(str(answer))
    return 0 if answer.complete else 2


def _only_region(query: Query, path: str) -> Box:
    regions = list(dict.fromkeys(case.region for case in query.cases))
    if len(regions) != 1:
        raise InputError(f"{path} has {len(regions)} input boxes; `bound` needs a property with one")
    return regions[0]


def _refuse_overwriting(outputs: Sequence[str | None], inputs: Sequence[str]) -> None:
    """Refuse to write over an input, or two results to one file."""
    paths = [Path(p).resolve() for p in outputs if p not in (None, "-") and p is not None]
    taken = [Path(p).resolve() for p in inputs]
    for k, path in enumerate(paths):
        if path in taken or path in paths[:k]:
            raise InputError(f"{path.name} is named twice: an output must not replace an input or another output")


def _check_solver(name: str) -> None:
    from optverify.solvers import get

    get(name)


def _replay(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from optverify.executions import runs
    from optverify.io import load
    from optverify.semantics import FLOAT32

    point, asked = _point(options.witness)
    network = load(options.network, format=options.semantics or asked or FLOAT32.name)
    name = options.semantics or asked or (network.format if network.format in SEMANTICS else FLOAT32.name)
    shown = range(min(network.n_outputs, 8))
    table = Table("execution", *(f"Y_{j}" for j in shown), box=None, pad_edge=False)
    for execution, y in runs(network, point, SEMANTICS[name]).items():
        table.add_row(execution, *(f"{y[j]:.17g}" for j in shown))
    Console(highlight=False, soft_wrap=True).print(table)
    return 0


def _point(path: str) -> tuple[list[Fraction], str]:
    """Read the witness, or else the near miss, of an answer in JSON, and the format that it is about if any."""
    try:
        answer = json.loads(Path(path).read_bytes())
        point = (answer["witness"] or answer["near_miss"])["x"]
        parts = [[int(part, 0) for part in text.split("/")] for text in point]
        asked = str(answer.get("semantics"))
        return [Fraction(*part) for part in parts], asked if asked in list(SEMANTICS)[1:] else ""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
        raise InputError(f"{path} is no answer of verify with a witness or a near miss") from None


def _show(options: argparse.Namespace) -> int:
    from optverify.io import load, load_property

    if options.file.endswith((".vnnlib", ".vnnlib.gz")):
        _say(load_property(options.file).describe())
    else:
        _say(load(options.file).describe())
    return 0


def _solvers(options: argparse.Namespace) -> int:  # noqa: ARG001
    from rich.console import Console
    from rich.table import Table

    from optverify.solvers import available

    table = Table("solver", "usable", "version", "can do", "why not", box=None, pad_edge=False)
    for row in available():
        table.add_row(row.name, "yes" if row.installed else "no", row.version, ", ".join(row.takes), row.reason)
    Console(highlight=False).print(table)
    return 0


@contextmanager
def _output(destination: str | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that writes the answer as JSON; a file appears whole or not at all."""
    from optverify.io.files import replacing

    if destination is None:
        yield lambda _: None
    elif destination == "-":
        yield lambda answer: _say(json.dumps(answer, allow_nan=False))
    else:
        with replacing(destination) as stream:

            def write(answer: dict[str, Any]) -> None:
                stream.write(json.dumps(answer, indent=2, allow_nan=False).encode() + b"\n")

            yield write


@contextmanager
def _rows_progress(quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """Show how many rows of a table are done, as :func:`_line` does."""
    with _line(quiet) as show:
        yield None if show is None else lambda done, total, what: show(f"{done} of {total} rows; {what}")


@contextmanager
def _line(quiet: bool) -> Iterator[Callable[[object], None] | None]:
    """Show one live line on standard error where that is a terminal: the text of what it is told."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text("reading"), console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        yield lambda told: live.update(Text(str(told)))


if __name__ == "__main__":
    sys.exit(main())
