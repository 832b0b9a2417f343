"""Exact optimisation: our bracket beside HiGHS on the big-M program and beside OMLT, Pyomo and HiGHS.

    python -m benchmarks.optimise --csv results.csv [--acasxu FOLDER] [--omlt-python PYTHON]

Every output of the controllers in ``examples/`` is minimised and maximised over the smallest box that holds the boxes
of all its properties. With ``--acasxu`` (a folder with ``onnx/`` and ``vnnlib/``), Y_0 and Y_0 - Y_1 of network 1_1
are too, over the box of property 3 scaled about its centre by 0.05, 0.2 and 1.

=============== ========================================================================================================
``optverify``    ``optverify bound --method exact``: what it prints is proved
``highs``        HiGHS with its defaults on our big-M program, bounds of the neurons by interval arithmetic
``highs-crown``  the same with our backward linear bounds
``omlt``         OMLT's big-M formulation with its own bounds, Pyomo, HiGHS with its defaults
``certificate``  the same with ``--certificate``, then ``optverify check`` of what it wrote
=============== ========================================================================================================

All have the relative gap 1e-6, one thread and the same time limit; each is a process of its own, start-up included.
OMLT needs ``pip install omlt pyomo highspy``, in an environment of its own if it likes: ``--omlt-python`` names its
Python. A claim is *outside* where the interval that the solver claims and the one that is proved have no point in
common. Rows are on the disk before the next process starts; the same command goes on after an interruption.

Exit codes: 0 done, 1 a claim is outside by more than 1e-6 or a certificate is not accepted, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.processes import Finished, Processes, aside, recording
from benchmarks.results import Parser, Results, UsageError, guarded, positive, show, write_json

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WORKERS = Path(__file__).resolve().parent / "workers"
CONTENDERS = ("optverify", "certificate", "highs", "highs-crown", "omlt")
PEERS = CONTENDERS[2:]
FIELDS = ("case", "contender", "complete", "lower", "upper", "cpu_seconds", "wall_seconds", "peak_mib", "note")
SCALES = ("0.05", "0.2", "1")
SENSES = ("min", "max")
CLI = (sys.executable, "-m", "optverify.cli")
GAP = 1e-6
HARD = 2.0
"""CPU seconds from which on a peer's time is compared with the aim..."""
AIM = 5.0
"""... of so many times less."""


@dataclass(frozen=True)
class Case:
    """One optimisation problem.

    Parameters
    ----------
    name : str
    network : str
        The file.
    lower, upper : tuples of n_inputs Fraction
    weights : tuple of n_outputs Fraction
        The objective is weights . Y.
    sense : "min" or "max"
    """

    name: str
    network: str
    lower: tuple[Fraction, ...]
    upper: tuple[Fraction, ...]
    weights: tuple[Fraction, ...]
    sense: str


Ends = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]

# --- cases ---------------------------------------------------------------------------------------------------


def hull(boxes: Sequence[Ends]) -> Ends:
    """Return the ends of the smallest box that holds all of these."""
    lower = tuple(min(ends) for ends in zip(*(low for low, _ in boxes), strict=True))
    return lower, tuple(max(ends) for ends in zip(*(high for _, high in boxes), strict=True))


def scaled(box: Ends, scale: Fraction) -> Ends:
    """Scale a box about its centre, exactly."""
    pairs = [((a + b) / 2, (b - a) / 2 * scale) for a, b in zip(*box, strict=True)]
    return tuple(middle - radius for middle, radius in pairs), tuple(middle + radius for middle, radius in pairs)


def controllers() -> list[Case]:
    """Every output of every example, both ways."""
    from optverify.io import load, load_property

    cases = []
    for path in sorted(EXAMPLES.glob("*/controller.onnx")):
        queries = [load_property(str(file)) for file in sorted(path.parent.glob("*.vnnlib"))]
        box = hull([(case.region.lower, case.region.upper) for query in queries for case in query.cases])
        outputs = range(load(str(path)).n_outputs)
        for j, sense in product(outputs, SENSES):
            weights = tuple(Fraction(i == j) for i in outputs)
            cases.append(Case(f"{path.parent.name} {sense} Y_{j}", str(path), *box, weights, sense))
    return cases


def acasxu(folder: Path) -> list[Case]:
    """Y_0 and Y_0 - Y_1 of network 1_1 over the scaled box of property 3, both ways.

    Raises
    ------
    UsageError
        The files are not there.
    """
    from optverify.io import load_property

    networks, prop = sorted(folder.glob("onnx/*1_1*.onnx")), folder / "vnnlib" / "prop_3.vnnlib"
    if not networks or not prop.is_file():
        raise UsageError(f"{folder} has no onnx/*1_1*.onnx and vnnlib/prop_3.vnnlib")
    region = load_property(str(prop)).cases[0].region
    cases = []
    for scale, second, sense in product(SCALES, (0, -1), SENSES):
        weights = (Fraction(1), Fraction(second), *[Fraction(0)] * 3)
        box = scaled((region.lower, region.upper), Fraction(scale))
        name = f"acasxu 1_1 x {scale} {sense} {expression(weights)}"
        cases.append(Case(name, str(networks[0]), *box, weights, sense))
    return cases


# --- files for the processes ---------------------------------------------------------------------------------


def decimal(value: Fraction) -> str:
    """Write a number that has a finite decimal expansion, without rounding."""
    found = Context(prec=2000, traps=[]).divide(Decimal(value.numerator), Decimal(value.denominator))
    if Fraction(found) != value:
        raise UsageError(f"{value} has no finite decimal expansion")
    return format(found, "f")


def expression(weights: Sequence[Fraction]) -> str:
    """Write an objective as the command line takes it."""
    terms = [
        f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else decimal(abs(c)) + ' * '}Y_{j}" for j, c in named(weights)
    ]
    return " ".join(terms).removeprefix("+ ")


def named(weights: Sequence[Fraction]) -> list[tuple[int, Fraction]]:
    """Return the outputs that matter, with their weights."""
    return [(j, c) for j, c in enumerate(weights) if c]


def property_text(case: Case) -> str:
    """Return a VNN-LIB text for a case's box."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(case.lower))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(len(case.weights))]
    for i, (low, high) in enumerate(zip(case.lower, case.upper, strict=True)):
        lines += [f"(assert (>= X_{i} {decimal(low)}))", f"(assert (<= X_{i} {decimal(high)}))"]
    return "\n".join([*lines, ""])


def write_arrays(case: Case, path: str) -> None:
    """Write what ``workers/omlt_bigm.py`` reads.

    Raises
    ------
    UsageError
        A layer has a ReLU on some coordinates only, or something else that has no counterpart there.
    """
    import numpy as np

    from optverify import Affine, Box, Relu
    from optverify.io import load

    box = Box(case.lower, case.upper).outward
    found = {"c": np.array(case.weights, float), "lower": box.lower, "upper": box.upper}
    k, layers = 0, load(case.network).layers
    for position, layer in enumerate(layers):
        after = layers[position + 1] if position + 1 < len(layers) else None
        if isinstance(layer, Affine):
            found |= {f"weight_{k}": layer.dense, f"bias_{k}": layer.bias}
            found[f"relu_{k}"] = np.array(isinstance(after, Relu))
            k += 1
        elif position == 0 or isinstance(layers[position - 1], Relu) or not layer.mask.all():
            raise UsageError("this network has ReLUs in a place where OMLT has none")
    np.savez(path, **found)  # type: ignore[arg-type]


# --- running -------------------------------------------------------------------------------------------------


def command(contender: str, case: Case, folder: Path, limit: float, python: str) -> list[str]:
    """Return the command line of a contender; its files are in `folder`."""
    common = ["--sense", case.sense, "--time-limit", f"{limit:g}", "--gap", f"{GAP:g}"]
    if contender == "omlt":
        problem = str(folder / "problem.npz")
        aside(write_arrays, case, problem)
        return [python, str(WORKERS / "omlt_bigm.py"), problem, *common]
    (folder / "region.vnnlib").write_text(property_text(case))
    files = [case.network, str(folder / "region.vnnlib"), "--objective", expression(case.weights)]
    if contender == "optverify":
        return [*CLI, "bound", *files, *common, "--method", "exact", "--json", "-"]
    bounds = "crown" if contender == "highs-crown" else "interval"
    return [sys.executable, "-m", "benchmarks.workers.highs_bigm", *files, *common, "--bounds", bounds]


def measure(contender: str, case: Case, limit: float, python: str, processes: Processes) -> dict[str, str]:
    """Run a contender on a case and return its row."""
    with tempfile.TemporaryDirectory(prefix="optimise-") as folder:
        try:
            line = command(contender, case, Path(folder), limit, python)
        except UsageError as error:
            return row(case, contender, Finished(0, 0.0, 0.0, 0.0, failure=f"not run: {error}"), {})
        finished = processes.run(line, limit)
    try:
        answer = finished.answer()
    except ValueError as error:
        return row(case, contender, finished, {"note": str(error)})
    note = answer.get("status") or f"{answer.get('nodes')} nodes, {answer.get('programs')} programs"
    return row(case, contender, finished, {**answer, "note": note})


def certify(case: Case, ours: dict[str, str], limit: float, processes: Processes) -> dict[str, str]:
    """Find the optimum with a certificate and check it; both times count."""
    if ours["complete"] != "yes":
        return row(case, "certificate", Finished(0, 0.0, 0.0, 0.0, failure="not run: the gap is open"), {})
    with tempfile.TemporaryDirectory(prefix="optimise-") as folder:
        proof = Path(folder, "proof")
        line = command("optverify", case, Path(folder), limit, "")
        first = processes.run([*line, "--certificate", str(proof)], limit)
        try:
            answer = first.answer()
        except ValueError as error:
            return row(case, "certificate", first, {"note": str(error)})
        if first.exit != 0:
            return row(case, "certificate", first, {"note": str(answer.get("reason"))})
        size = proof.stat().st_size
        about = ["--network", case.network, "--property", f"{proof}.vnnlib"]
        second = processes.run([*CLI, "check", str(proof), *about], limit)
    both = Finished(
        second.exit,
        first.cpu_seconds + second.cpu_seconds,
        first.wall_seconds + second.wall_seconds,
        max(first.peak_mib, second.peak_mib),
    )
    words = "accepted" if second.exit == 0 else f"NOT ACCEPTED: {second.failure or second.last_line()}"
    note = f"{words}, {size} bytes, check {second.cpu_seconds:.2f} CPU s"
    return row(case, "certificate", both, {"complete": second.exit == 0, "note": note})


def row(case: Case, contender: str, finished: Finished, answer: dict[str, Any]) -> dict[str, str]:
    """Return the cells of the result file."""

    def end(name: str) -> str:
        value = answer.get(name)
        return repr(float(value)) if isinstance(value, int | float) and math.isfinite(value) else ""

    return {
        "case": case.name,
        "contender": contender,
        "complete": "yes" if answer.get("complete") else "no",
        "lower": end("lower"),
        "upper": end("upper"),
        "cpu_seconds": f"{finished.cpu_seconds:.3f}",
        "wall_seconds": f"{finished.wall_seconds:.3f}",
        "peak_mib": f"{finished.peak_mib:.1f}",
        "note": str(answer.get("note") or finished.failure),
    }


# --- reading the rows ----------------------------------------------------------------------------------------


def outside(proved: dict[str, str], claimed: dict[str, str]) -> float:
    """Return by how much a claimed interval misses the proved one; 0 where they meet."""
    pairs = ((claimed["lower"], proved["upper"]), (proved["lower"], claimed["upper"]))
    return float(max([Fraction(0), *(Fraction(float(a)) - Fraction(float(b)) for a, b in pairs if a and b)]))


def gap(ours: dict[str, str]) -> float:
    """Return the width of a bracket, infinite if an end is missing."""
    return float(ours["upper"]) - float(ours["lower"]) if ours["upper"] and ours["lower"] else math.inf


def ratio(seconds: float, complete: bool, peer: dict[str, str]) -> str:
    """Return a peer's CPU time over ours: ``>`` where the peer did not finish, ``<`` where we did not."""
    value = float(peer["cpu_seconds"]) / max(seconds, 1e-3)
    done = peer["complete"] == "yes"
    return (
        f"{value:.1f}"
        if done and complete
        else f">{value:.1f}"
        if complete
        else f"<{value:.1f}"
        if done
        else "both open"
    )


def report(rows: Sequence[dict[str, str]]) -> int:
    """Print the tables; return the exit code."""
    cases: dict[str, dict[str, dict[str, str]]] = {}
    for each in rows:
        cases.setdefault(each["case"], {})[each["contender"]] = each
    lines, notes, bad = [], [], False
    reached: dict[str, list[bool]] = {peer: [] for peer in PEERS}
    for name, found in cases.items():
        ours, certificate = found.get("optverify"), found.get("certificate")
        if ours is None:
            continue
        complete, seconds = ours["complete"] == "yes", float(ours["cpu_seconds"])
        cells = [name, f"{seconds:.2f}", ours["note"].split(" ")[0], f"{gap(ours):.1e}"]
        if certificate is None or not complete:
            cells += ["", ""]
        else:
            cells += [f"{float(certificate['cpu_seconds']):.2f}", certificate["note"].split(",")[0]]
            if certificate["complete"] != "yes":
                bad = True
                notes.append(f"no certificate: {name}: {certificate['note']}")
        for peer in PEERS:
            theirs = found.get(peer)
            if theirs is None:
                cells += ["", ""]
                continue
            text = ratio(seconds, complete, theirs)
            cells += [f"{float(theirs['cpu_seconds']):.2f}" + ("" if theirs["complete"] == "yes" else " open"), text]
            if missed := outside(ours, theirs):
                bad = bad or missed > GAP
                notes.append(f"outside: {name}: {peer} claims what misses the proved bracket by {missed:.1e}")
            if float(theirs["cpu_seconds"]) > HARD:
                reached[peer].append(complete and float(theirs["cpu_seconds"]) >= AIM * seconds)
                if not reached[peer][-1]:
                    notes.append(f"below the aim: {name}: {peer} {theirs['cpu_seconds']} s, ratio {text}")
        lines.append(cells)
    header = ["case", "ours", "nodes", "gap", "with proof", "certificate"]
    show("CPU seconds with start-up", [*header, *(h for peer in PEERS for h in (peer, "ratio"))], lines)
    for peer, each_case in reached.items():
        print(f"{peer}: {len(each_case)} cases over {HARD:g} s, {sum(each_case)} of them {AIM:g} times slower or more")
    print("\n".join(notes) if notes else "every claim meets the proved bracket")
    return 1 if bad else 0


def omlt_is_there(python: str, processes: Processes) -> bool:
    """Tell whether OMLT can be imported; say so in one line where not."""
    finished = processes.run([python, "-c", "import omlt, pyomo, highspy"], 60)
    if finished.exit or finished.failure:
        words = finished.failure or finished.last_line()
        print(f"leaving OMLT out: {python}: {words} (pip install omlt pyomo highspy)", file=sys.stderr)
    return not (finished.exit or finished.failure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    parser = Parser(
        prog="python -m benchmarks.optimise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--csv", type=Path, required=True, metavar="OUT", help="result file")
    parser.add_argument("--json", type=Path, metavar="OUT", help="all rows as JSON")
    parser.add_argument("--acasxu", type=Path, metavar="FOLDER", help="holds onnx/ and vnnlib/ of ACAS Xu")
    parser.add_argument("--time-limit", type=positive, default=90.0, metavar="S", help="for each (default 90)")
    parser.add_argument("--match", default="", metavar="TEXT", help="only cases whose name contains this")
    parser.add_argument(
        "--contenders", default=",".join(CONTENDERS), metavar="NAMES", help=f"default {','.join(CONTENDERS)}"
    )
    parser.add_argument("--omlt-python", default=sys.executable, metavar="PYTHON", help="that has OMLT installed")
    parser.add_argument("--grace", type=positive, default=30.0, metavar="S", help="kill this long after the limit")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True, help="skip finished runs")
    options = parser.parse_args(arguments)
    chosen = options.contenders.split(",")
    if unknown := set(chosen) - set(CONTENDERS):
        parser.error(f"unknown contender {', '.join(sorted(unknown))}; choose from {', '.join(CONTENDERS)}")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    processes = Processes(options.grace)

    def script() -> int:
        cases = [*aside(controllers), *(aside(acasxu, options.acasxu) if options.acasxu else ())]
        cases = [case for case in cases if options.match in case.name]
        if not cases:
            raise UsageError(f"no case contains {options.match!r}")
        with recording(options.csv, FIELDS, options.resume, processes.stop) as results:
            if "omlt" in chosen and not omlt_is_there(options.omlt_python, processes):
                chosen.remove("omlt")
            run(cases, chosen, results, options.time_limit, options.omlt_python, processes)
        names = {case.name for case in cases}
        rows = [each for each in results.rows if each["case"] in names]
        code = report(rows)
        write_json(options.json, rows)
        return code

    return guarded(parser, script)


def run(
    cases: Sequence[Case], chosen: Sequence[str], results: Results, limit: float, python: str, processes: Processes
) -> None:
    """Run what has no row yet, one process at a time."""
    done = {(each["case"], each["contender"]): each for each in results.rows}
    for case in cases:
        for contender in (name for name in CONTENDERS if name in chosen):
            if (case.name, contender) in done:
                continue
            if contender == "certificate":
                ours = done.get((case.name, "optverify"))
                if ours is None:
                    continue
                found = certify(case, ours, limit, processes)
            else:
                found = measure(contender, case, limit, python, processes)
            done[case.name, contender] = found
            results.add(found)
            print(
                f"{case.name:32} {contender:12} {float(found['cpu_seconds']):8.2f} CPU s  {found['note']}", flush=True
            )


if __name__ == "__main__":
    sys.exit(main())
