"""Certificates: size, and the time to write them and to check them both ways.

    python -m benchmarks.certificates FOLDER --csv results.csv --match prop_3 --exact-limit 300

``FOLDER`` is one that ``benchmarks.vnnlib`` takes. Each instance is verified with ``--certificate`` and, where it is
verified, its certificate is checked by ``optverify check`` and by ``optverify check --exact`` (the kernel, run by path
with ``python -I -S``), through the public command line, each in a process of its own. An exact check that is
expected to take longer than its limit, from the leaves of this certificate and the times per leaf so far, is not
started; one that does take longer is killed. Both are recorded as such. The same command goes on after an
interruption.

Processor seconds everywhere. ``process_cpu`` is the whole process, start-up included; ``solve_cpu``, ``write_cpu`` and
``check_cpu`` are what ``verify`` itself reports for the search, the writing and the check before it says VERIFIED;
``vector_cpu`` and ``exact_cpu`` are the processes of the two checkers, and per leaf these without their start-up.

Exit codes: 0 done, 1 a verdict contradicts the listed one or a checker does not accept a certificate, 2 wrong usage,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import Finished, Processes, aside, recording
from benchmarks.results import Results, UsageError, guarded, of_a_folder, positive, show, write_json
from benchmarks.vnnlib import Instance, is_right, judge, of_instances, read_instances

CLI = (sys.executable, "-m", "optverify.cli")
FIELDS = (
    "onnx",
    "vnnlib",
    "listed",
    "verdict",
    "process_cpu",
    "solve_cpu",
    "write_cpu",
    "check_cpu",
    "bytes",
    "leaves",
    "vector",
    "vector_cpu",
    "exact",
    "exact_cpu",
    "startup_cpu",
    "peak_mib",
    "vector_mib",
    "exact_mib",
    "reason",
)
ANSWERS = {0: "accepted", 1: "REJECTED", 3: "MALFORMED"}
Row = dict[str, str]


def number(row: Mapping[str, str], name: str) -> float | None:
    """Return a cell as a number, None where it is empty."""
    return float(row[name]) if row[name] else None


def count_leaves(path: str, network: str, prop: str) -> int:
    """Count the leaves of a certificate's trees by reading it."""
    from optverify.io import load, load_property
    from optverify.proof import walk
    from optverify.records import read

    with open(path, "rb") as stream:
        _, proofs = read(stream, load_property(prop).goals(load(network)))
    return sum(not node.children for proof in proofs for node in walk(proof))


def per_leaf(row: Mapping[str, str], checker: str) -> float | None:
    """Return seconds per leaf of one of the checkers, without start-up."""
    seconds, leaves, start = (number(row, name) for name in (f"{checker}_cpu", "leaves", "startup_cpu"))
    if row[checker] != "accepted" or seconds is None or not leaves or start is None:
        return None
    return max(seconds - start, 0.0) / leaves


def expected(rows: Sequence[Mapping[str, str]], leaves: int) -> float:
    """Return how long the exact check of so many leaves should take: 0 before anything is known."""
    known = [value for row in rows if (value := per_leaf(row, "exact")) is not None]
    return leaves * median(known) if known else 0.0


def checked(finished: Finished) -> str:
    """Read a checker's answer."""
    if finished.failure:
        return "too long" if finished.failure.startswith("killed") else f"ERROR: {finished.failure}"
    return ANSWERS.get(finished.exit, f"ERROR: exit code {finished.exit}: {finished.last_line()}")


def measure(
    folder: Path,
    instance: Instance,
    seconds: float,
    exact_limit: float,
    before: Sequence[Mapping[str, str]],
    processes: Processes,
    cli: Sequence[str],
) -> Row:
    """Verify, check and check exactly."""
    network, prop = folder / instance.onnx, folder / instance.vnnlib
    row: Row = dict.fromkeys(FIELDS, "") | {"onnx": instance.onnx, "vnnlib": instance.vnnlib, "listed": instance.listed}
    with tempfile.TemporaryDirectory(prefix="certificates-") as place:
        proof = Path(place, "proof")
        options = ["--certificate", str(proof), "--time-limit", f"{seconds:g}", "--json", "-"]
        outcome = judge(processes.run([*cli, "verify", str(network), str(prop), *options], seconds))
        row |= {"verdict": outcome.verdict, "process_cpu": f"{outcome.cpu_seconds:.3f}", "reason": outcome.reason}
        row["peak_mib"] = f"{outcome.peak_mib:.1f}"
        if outcome.verdict != "verified":
            return row
        about: dict[str, Any] = outcome.answer.get("certificate") or {}
        write, check = about.get("write_seconds"), about.get("check_seconds")
        if write is not None and check is not None:
            row |= {"write_cpu": f"{write:.4f}", "check_cpu": f"{check:.4f}"}
            row["solve_cpu"] = f"{outcome.answer['cpu_seconds'] - write - check:.4f}"
        row["bytes"] = str(proof.stat().st_size)
        leaves = about.get("leaves")
        row["leaves"] = str(aside(count_leaves, str(proof), str(network), str(prop)) if leaves is None else leaves)
        # What a checker's process needs before it looks at the proof: here, to refuse an empty file.
        empty = Path(place, "empty")
        empty.write_bytes(b"")
        against = ["--network", str(network), "--property", str(prop)]
        row["startup_cpu"] = f"{processes.run([*cli, 'check', str(empty), *against], 60).cpu_seconds:.3f}"
        vector = processes.run([*cli, "check", str(proof), *against], max(seconds, exact_limit))
        row |= {"vector": checked(vector), "vector_cpu": f"{vector.cpu_seconds:.3f}"}
        row["vector_mib"] = f"{vector.peak_mib:.1f}"
        if (guess := expected(before, int(row["leaves"]))) > exact_limit:
            row["exact"] = f"not run: about {guess:.0f} s"
            return row
        exact = processes.run([*cli, "check", str(proof), *against, "--exact"], exact_limit)
        row |= {"exact": checked(exact), "exact_cpu": f"{exact.cpu_seconds:.3f}", "exact_mib": f"{exact.peak_mib:.1f}"}
    return row


def run(
    folder: Path,
    instances: Sequence[Instance],
    results: Results,
    processes: Processes,
    limit: float | None,
    exact_limit: float,
    cli: Sequence[str],
) -> None:
    """Run what has no row yet, one process at a time."""
    done = {(row["onnx"], row["vnnlib"]) for row in results.rows}
    for position, instance in enumerate(instances, 1):
        if instance.key in done:
            continue
        seconds = limit if limit is not None else instance.timeout
        if seconds is None:
            raise UsageError("instances.csv has no timeout_s: pass --time-limit")
        row = measure(folder, instance, seconds, exact_limit, results.rows, processes, cli)
        results.add(row)
        print(
            f"[{position:>3}/{len(instances)}] {row['verdict']:9} {row['process_cpu']:>8} CPU s"
            + (
                f"  {row['bytes']:>8} bytes {row['leaves']:>6} leaves  {row['vector']} {row['vector_cpu']} s, "
                f"exact {row['exact']} {row['exact_cpu']}"
                if row["bytes"]
                else ""
            )
            + f"  {instance.onnx} {instance.vnnlib}{'  ' + row['reason'] if row['verdict'] == 'error' else ''}",
            flush=True,
        )


def report(rows: Sequence[Row]) -> int:
    """Print the table and the medians; return the exit code."""
    proved = [row for row in rows if row["bytes"]]
    columns: dict[str, Callable[[Row], float | None]] = {
        "solve s": lambda row: number(row, "solve_cpu"),
        "write %": lambda row: share(row, "write_cpu"),
        "check %": lambda row: share(row, "check_cpu"),
        "bytes": lambda row: number(row, "bytes"),
        "leaves": lambda row: number(row, "leaves"),
        "bytes/leaf": lambda row: float(row["bytes"]) / max(float(row["leaves"]), 1.0),
        "vector s": lambda row: number(row, "vector_cpu"),
        "vector ms/leaf": lambda row: thousand(per_leaf(row, "vector")),
        "exact s": lambda row: number(row, "exact_cpu"),
        "exact ms/leaf": lambda row: thousand(per_leaf(row, "exact")),
        "MiB": lambda row: max(float(row[name] or 0) for name in ("peak_mib", "vector_mib", "exact_mib")),
    }
    lines = []
    for row in proved:
        cells = ["" if (value := get(row)) is None else f"{value:.4g}" for get in columns.values()]
        lines.append([f"{Path(row['onnx']).stem} {Path(row['vnnlib']).stem}", *cells, row["vector"], row["exact"]])
    for name, pick in (("median", median), ("largest", max)):
        found = [[value for row in proved if (value := get(row)) is not None] for get in columns.values()]
        lines.append([name, *(f"{pick(values):.4g}" if values else "" for values in found)])
    show("Certificates, processor seconds", ["instance", *columns, "vector", "exact"], lines)
    wrong = [row for row in rows if is_right(row["verdict"], row["listed"]) == "NO"]
    refused = [row for row in proved if row["vector"] != "accepted" or row["exact"][:1].isupper()]
    for name in ("vector", "exact"):
        print(
            f"{name:6} checker: {sum(row[name] == 'accepted' for row in proved)} of {len(proved)} accepted, "
            f"{sum(row[name] == 'too long' or row[name].startswith('not run') for row in proved)} too long, "
            f"{sum((number(row, f'{name}_cpu') or 0.0) for row in proved):.1f} CPU s"
        )
    solve, check = (sum(number(row, name) or 0.0 for row in proved) for name in ("solve_cpu", "check_cpu"))
    print(f"all instances: {len(rows)}, {sum(float(row['process_cpu']) for row in rows):.1f} CPU s to verify, ", end="")
    print(f"check in verify {100 * check / solve:.0f} % of the search" if solve else "shares not reported by verify")
    for row in wrong:
        print(f"WRONG: {row['verdict']}, listed {row['listed']}: {row['onnx']} {row['vnnlib']}")
    for row in refused:
        print(f"NOT ACCEPTED: vector {row['vector']}, exact {row['exact']}: {row['onnx']} {row['vnnlib']}")
    return 1 if wrong or refused else 0


def share(row: Row, name: str) -> float | None:
    """Return a time as a percentage of the search."""
    part, whole = number(row, name), number(row, "solve_cpu")
    return None if part is None or not whole else 100 * part / whole


def thousand(value: float | None) -> float | None:
    """Return milliseconds for seconds."""
    return None if value is None else 1000 * value


def main(arguments: Sequence[str] | None = None, cli: Sequence[str] = CLI) -> int:
    """Run the script; return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
    cli : sequence of str
        What comes before ``verify`` and ``check``; for tests.
    """
    parser = of_a_folder("python -m benchmarks.certificates", str(__doc__))
    parser.add_argument("--json", type=Path, metavar="OUT", help="all rows as JSON")
    parser.add_argument("--exact-limit", type=positive, default=300.0, metavar="S", help="of an exact check (300)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    processes = Processes(options.grace)

    def script() -> int:
        instances = read_instances(options.folder, options.match)
        with recording(options.csv, FIELDS, options.resume, processes.stop) as results:
            run(options.folder, instances, results, processes, options.time_limit, options.exact_limit, cli)
        rows = of_instances(results.rows, instances)
        code = report(rows)
        write_json(options.json, rows)
        return code

    return guarded(parser, script)


if __name__ == "__main__":
    sys.exit(main())
