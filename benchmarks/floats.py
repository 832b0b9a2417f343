"""What it costs to speak about every float32 execution instead of the reals.

    python -m benchmarks.floats FOLDER --csv results.csv --match prop_3 --semantics float32 --exact

``FOLDER`` is one that ``benchmarks.vnnlib`` takes. Each instance is verified with ``--certificate`` over the reals and
under the semantics, through the public command line, each in a process of its own; certificates are checked by
``optverify check``, and with ``--exact`` by the kernel too. Processor seconds of whole processes, start-up included.

The loss of margin compares one proof with itself: the certificate over the reals is read again, and what each of its
leaves proves over the reals is set against what the same multipliers prove on the deployed network.

Exit codes: 0 done, 1 a verdict contradicts the listed one or a checker does not accept a certificate, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.certificates import ANSWERS, CLI
from benchmarks.processes import Processes, aside, recording
from benchmarks.results import guarded, of_a_folder
from benchmarks.vnnlib import Instance, is_right, judge, of_instances, read_instances
from optverify.semantics import SEMANTICS

FIELDS = (
    "onnx",
    "vnnlib",
    "listed",
    "real",
    "real_cpu",
    "float",
    "float_cpu",
    "vector",
    "exact",
    "leaves",
    "loss_median",
    "loss_most",
    "reason",
)
Row = dict[str, str]


def losses(path: str, network: str, prop: str, semantics: str) -> list[float]:
    """Return how much less each close of a certificate over the reals proves on the deployed network."""
    from optverify.checker import lower, replay
    from optverify.deployment import deployed
    from optverify.io import load, load_property
    from optverify.records import read
    from optverify.semantics import named

    net, query = load(network), load_property(prop)
    both = query.goals(net), query.goals(deployed(net, named(semantics)))
    with open(path, "rb") as stream:
        _, proofs = read(stream, both[0])
    found: list[float] = []
    for exact, rounded, proof in zip(*both, proofs, strict=True):
        for (ours, _), (theirs, _) in zip(replay(exact, proof), replay(rounded, proof), strict=True):
            at = np.array([b for b, node in enumerate(ours.proofs) for _ in node.closes], np.intp)
            closes = [close for node in ours.proofs for close in node.closes]
            if closes:
                scale = np.array([sum(close.weights) for close in closes])
                found += ((lower(exact, ours, at, closes) - lower(rounded, theirs, at, closes)) / scale).tolist()
    return found


def measure(
    folder: Path, instance: Instance, seconds: float, semantics: str, processes: Processes, *, exact: bool
) -> Row:
    """Verify both ways and check."""
    network, prop = str(folder / instance.onnx), str(folder / instance.vnnlib)
    row: Row = dict.fromkeys(FIELDS, "") | {"onnx": instance.onnx, "vnnlib": instance.vnnlib, "listed": instance.listed}
    with tempfile.TemporaryDirectory(prefix="floats-") as place:
        for name, asked in (("real", "real"), ("float", semantics)):
            proof = str(Path(place, name))
            options = ["--semantics", asked, "--certificate", proof, "--time-limit", f"{seconds:g}", "--json", "-"]
            outcome = judge(processes.run([*CLI, "verify", network, prop, *options], seconds))
            row |= {name: outcome.verdict, f"{name}_cpu": f"{outcome.cpu_seconds:.3f}", "reason": outcome.reason}
        if row["real"] == "verified":
            lost = aside(losses, str(Path(place, "real")), network, prop, semantics)
            row |= {"leaves": str(len(lost))}
            if lost:
                row |= {"loss_median": f"{median(lost):.3g}", "loss_most": f"{max(lost):.3g}"}
        if row["float"] == "verified":
            for name, more in (("vector", []), ("exact", ["--exact"])):
                if name == "vector" or exact:
                    command = ["check", str(Path(place, "float")), "--network", network, "--property", prop, *more]
                    finished = processes.run([*CLI, *command], 300)
                    row[name] = finished.failure or ANSWERS.get(finished.exit, f"ERROR: exit code {finished.exit}")
    return row


def report(rows: Sequence[Row], semantics: str) -> int:
    """Print totals; return the exit code."""
    real = [row for row in rows if row["real"] == "verified"]
    both = [row for row in real if row["float"] == "verified"]
    print(f"verified over the reals {len(real)} of {len(rows)}, of these for {semantics} {len(both)}")
    for name in ("vector", "exact"):
        checked = [row[name] for row in both if row[name]]
        print(f"certificates, {name} checker: {checked.count('accepted')} of {len(checked)} accepted")
    if both:
        seconds = [sum(float(row[f"{name}_cpu"]) for row in both) for name in ("real", "float")]
        ratios = sorted(float(row["float_cpu"]) / float(row["real_cpu"]) for row in both)
        print(
            f"CPU s: real {seconds[0]:.1f}, {semantics} {seconds[1]:.1f}, ratio {seconds[1] / seconds[0]:.2f} in all, "
            f"{median(ratios):.2f} in the median, {ratios[-1]:.2f} at most"
        )
    lost = [row for row in real if row["loss_median"]]
    if lost:
        print(
            f"loss of margin: median of the medians {median(float(row['loss_median']) for row in lost):.2g}, "
            f"largest {max(float(row['loss_most']) for row in lost):.2g}"
        )
    wrong = [row for row in rows if is_right(row["real"], row["listed"]) == "NO"]
    refused = [row for row in both if any(row[name] not in ("accepted", "") for name in ("vector", "exact"))]
    for row in (*wrong, *refused):
        print("WRONG", row)
    return 1 if wrong or refused else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    parser = of_a_folder("python -m benchmarks.floats", str(__doc__), time_limit=60.0)
    parser.add_argument("--semantics", default="float32", choices=list(SEMANTICS)[1:])
    parser.add_argument("--exact", action="store_true", help="check by the kernel as well")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    processes = Processes(options.grace)

    def script() -> int:
        instances = read_instances(options.folder, options.match)
        with recording(options.csv, FIELDS, options.resume, processes.stop) as results:
            done = {(row["onnx"], row["vnnlib"]) for row in results.rows}
            for instance in instances:
                if instance.key not in done:
                    row = measure(
                        options.folder, instance, options.time_limit, options.semantics, processes, exact=options.exact
                    )
                    results.add(row)
        return report(of_instances(results.rows, instances), options.semantics)

    return guarded(parser, script)


if __name__ == "__main__":
    sys.exit(main())
