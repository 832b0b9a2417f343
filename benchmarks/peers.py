"""Run Marabou 2.0 side by side with this verifier on a folder of networks and properties.

    python -m benchmarks.peers FOLDER --csv results.csv --python /path/to/venv/bin/python --sample 20

``FOLDER`` is one that ``benchmarks.vnnlib`` takes. On each instance both programs run one after the other, each in a
process of its own with the same time limit; processor seconds include start-up. Marabou needs
``pip install maraboupy==2.0.0 onnx onnxruntime``, in an environment of its own if it likes: ``--python`` names its
Python. It computes in floats and within tolerances; where it says falsified, its point is looked at in exact
arithmetic (column ``witness``). The same command goes on after an interruption.

Exit codes: 0 done, 1 a verdict of ours contradicts the listed one, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import vnnlib
from benchmarks.processes import Processes, aside, recording
from benchmarks.results import Results, UsageError, guarded, of_a_folder, show, write_json
from benchmarks.vnnlib import Instance, Outcome, Runner, of_instances, read_instances

MARABOU = Path(__file__).resolve().parent / "workers" / "marabou.py"
FIELDS = ("verifier", *vnnlib.FIELDS, "witness")
OURS, PEER = "optverify", "marabou"
SOLVED = ("verified", "falsified")


def sample(instances: Sequence[Instance], count: int) -> list[Instance]:
    """Take about `count` instances, from every property in turn, spread over its list."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.vnnlib, []).append(instance)
    share = dict.fromkeys(groups, 0)
    while sum(share.values()) < min(count, len(instances)):
        for name in groups:
            if share[name] < len(groups[name]) and sum(share.values()) < count:
                share[name] += 1
    return [group[i * len(group) // share[name]] for name, group in groups.items() for i in range(share[name])]


def violates(network: str, prop: str, point: list[float]) -> bool:
    """Tell whether a point is in the region and reaches an unsafe set, in exact arithmetic."""
    from optverify.io import load, load_property
    from optverify.witness import examine

    return examine(load(network), load_property(prop), point).violates


def make_row(verifier: str, folder: Path, instance: Instance, outcome: Outcome) -> dict[str, str]:
    """Return the cells of the result file."""
    point, witness = outcome.answer.get("witness"), ""
    if verifier == PEER and outcome.verdict == "falsified" and isinstance(point, list):
        files = str(folder / instance.onnx), str(folder / instance.vnnlib)
        witness = "true" if aside(violates, *files, point) else "not true"
    return {"verifier": verifier, **vnnlib.make_row(instance, outcome), "witness": witness}


def run(
    folder: Path, instances: Sequence[Instance], results: Results, runners: dict[str, Runner], limit: float | None
) -> None:
    """Run what has no row yet, one process at a time."""
    done = {(row["verifier"], row["onnx"], row["vnnlib"]) for row in results.rows}
    for number, instance in enumerate(instances, 1):
        for verifier, runner in runners.items():
            if (verifier, *instance.key) in done:
                continue
            seconds = limit if limit is not None else instance.timeout
            if seconds is None:
                raise UsageError("instances.csv has no timeout_s: pass --time-limit")
            outcome = runner.run(folder / instance.onnx, folder / instance.vnnlib, seconds)
            row = make_row(verifier, folder, instance, outcome)
            results.add(row)
            print(
                f"[{number:>3}/{len(instances)}] {verifier:9} {row['verdict']:9} {row['right']:3} "
                f"{float(row['cpu_seconds']):8.2f} CPU s  {instance.onnx} {instance.vnnlib}"
                f"{'  ' + row['reason'] if row['verdict'] == 'error' else ''}",
                flush=True,
            )


def report(rows: Sequence[dict[str, str]]) -> int:
    """Print the table and the totals; return the exit code."""
    pairs: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row in rows:
        pairs.setdefault((row["onnx"], row["vnnlib"]), {})[row["verifier"]] = row
    common = [pair for pair in pairs.values() if OURS in pair and PEER in pair]
    lines, ratios = [], []
    for pair in common:
        ours, theirs = pair[OURS], pair[PEER]
        ratio = float(theirs["cpu_seconds"]) / max(float(ours["cpu_seconds"]), 1e-3)
        if ours["verdict"] in SOLVED and theirs["verdict"] in SOLVED:
            ratios.append(ratio)
        sign = "<" if ours["verdict"] not in SOLVED else ">" if theirs["verdict"] not in SOLVED else ""
        cells = [f"{Path(ours['onnx']).stem} {Path(ours['vnnlib']).stem}", ours["listed"]]
        for row in (ours, theirs):
            cells += [row["verdict"], f"{float(row['cpu_seconds']):.2f}", f"{float(row['peak_mib']):.0f}"]
        lines.append([*cells, f"{sign}{ratio:.1f}", theirs["witness"]])
    header = ["instance", "listed", OURS, "CPU s", "MiB", PEER, "CPU s", "MiB", "ratio", "its point is"]
    show("Marabou beside us, processor seconds with start-up", header, lines)
    for name in (OURS, PEER):
        mine = [pair[name] for pair in common]
        print(
            f"{name:9} solved {sum(row['verdict'] in SOLVED for row in mine)} of {len(mine)}, "
            f"wrong {sum(row['right'] == 'NO' for row in mine)}, "
            f"errors {sum(row['verdict'] == 'error' for row in mine)}, "
            f"{sum(float(row['cpu_seconds']) for row in mine):.1f} CPU s"
        )
    if ratios:
        print(f"solved by both: {len(ratios)}, median ratio {median(ratios):.1f}")
    return 1 if any(row["verifier"] == OURS and row["right"] == "NO" for row in rows) else 0


def require_marabou(python: str) -> None:
    """Find out before the first run whether Marabou is there.

    Raises
    ------
    UsageError
    """
    finished = Processes(1).run([python, "-W", "ignore", "-c", "from maraboupy import Marabou; Marabou.read_onnx"], 60)
    if finished.exit or finished.failure:
        words = finished.failure or finished.last_line()
        raise UsageError(f"Marabou is not there: {python}: {words} (pip install maraboupy==2.0.0 onnx onnxruntime)")


def main(arguments: Sequence[str] | None = None, commands: dict[str, Sequence[str]] | None = None) -> int:
    """Run the script; return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
    commands : mapping, optional
        What to run instead, by the name of the verifier; for tests.
    """
    parser = of_a_folder("python -m benchmarks.peers", str(__doc__))
    parser.add_argument("--json", type=Path, metavar="OUT", help="all rows as JSON")
    parser.add_argument("--python", default=sys.executable, metavar="PYTHON", help="that has maraboupy installed")
    parser.add_argument("--sample", type=int, metavar="N", help="N instances, spread over the properties")
    options = parser.parse_args(arguments)
    if options.sample is not None and options.sample < 1:
        parser.error("--sample must be at least 1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    def script() -> int:
        instances = read_instances(options.folder, options.match)
        if options.sample is not None:
            instances = sample(instances, options.sample)
        chosen = commands
        if chosen is None:
            require_marabou(options.python)
            chosen = {OURS: vnnlib.COMMAND, PEER: (options.python, str(MARABOU))}
        runners = {name: Runner(command, options.grace) for name, command in chosen.items()}
        stops = [runner.stop for runner in runners.values()]
        with recording(options.csv, FIELDS, options.resume, *stops) as results:
            run(options.folder, instances, results, runners, options.time_limit)
        rows = of_instances(results.rows, instances)
        code = report(rows)
        write_json(options.json, rows)
        return code

    return guarded(parser, script)


if __name__ == "__main__":
    sys.exit(main())
