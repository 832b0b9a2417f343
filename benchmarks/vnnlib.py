"""Run the verifier on a folder of ONNX networks and VNN-LIB properties, and compare with listed verdicts.

    python -m benchmarks.vnnlib FOLDER --time-limit 60 --csv results.csv

``FOLDER/instances.csv`` names the files relative to the folder: columns ``onnx,vnnlib,timeout_s,verdict``, or
three columns without a header as competitions publish them. Every instance is a process of its own, run
through the public command line, so that one that crashes or hangs costs no other. Each row is in the
result file before the next instance starts; started again, the script goes on where it stopped.

Exit codes: 0 done, 1 some verdict contradicts the listed one, 2 wrong usage, 130 interrupted.
Needs Linux (process groups, wait4).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import Finished, Processes, recording
from benchmarks.results import Results, UsageError, guarded, of_a_folder, positive

COMMAND = (sys.executable, "-m", "optverify.cli", "verify")
FIELDS = ("onnx", "vnnlib", "listed", "verdict", "right", "exit", "cpu_seconds", "wall_seconds", "peak_mib", "reason")
LISTED = {
    "unsat": "verified",
    "verified": "verified",
    "sat": "falsified",
    "falsified": "falsified",
    "unknown": "unknown",
    "": "unknown",
}
EXIT_CODES = {"verified": 0, "falsified": 1, "unknown": 2}


@dataclass(frozen=True)
class Instance:
    """One line of instances.csv.

    Parameters
    ----------
    onnx, vnnlib : str
        Relative to the folder.
    timeout : float or None
        Seconds that the benchmark allows.
    listed : str
        ``verified``, ``falsified`` or ``unknown``.
    """

    onnx: str
    vnnlib: str
    timeout: float | None
    listed: str

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it in the result file."""
        return self.onnx, self.vnnlib


@dataclass(frozen=True)
class Outcome:
    """What one process did.

    Parameters
    ----------
    verdict : str
        ``verified``, ``falsified``, ``unknown`` or ``error``.
    exit : int
        Exit code; negative: the signal that ended it.
    cpu_seconds, wall_seconds : float
        Processor time of the process and of its children that it waited for; elapsed time.
    peak_mib : float
        Largest resident memory of one of these processes, in MiB.
    reason : str
    answer : mapping
        All that it printed.
    """

    verdict: str
    exit: int
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float
    reason: str
    answer: Mapping[str, Any] = field(default_factory=dict)


def read_instances(folder: Path, match: str = "") -> list[Instance]:
    """Read ``instances.csv``, keeping the lines that contain `match`, each pair of files once.

    Raises
    ------
    UsageError
        The file is missing or has a line that makes no sense, which the message names; no line is left.
    """
    path = folder / "instances.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [(k, [cell.strip() for cell in row]) for k, row in enumerate(csv.reader(stream), 1) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: {error}") from None
    columns = ["onnx", "vnnlib", "timeout_s", "verdict"]
    if rows and "onnx" in rows[0][1]:
        columns = rows.pop(0)[1]
        if "vnnlib" not in columns:
            raise UsageError(f"{path}: the header needs the columns onnx and vnnlib, got {', '.join(columns)}")
    instances: dict[tuple[str, str], Instance] = {}
    for line, cells in rows:
        named = dict(zip(columns, cells, strict=False))
        if not named.get("onnx") or not named.get("vnnlib"):
            raise UsageError(f"{path}, line {line}: expected onnx,vnnlib,timeout_s,verdict, got {','.join(cells)!r}")
        listed = LISTED.get(named.get("verdict", "").lower())
        if listed is None:
            raise UsageError(f"{path}, line {line}: unknown verdict {named['verdict']!r}; known: {', '.join(LISTED)}")
        try:
            timeout = positive(named["timeout_s"]) if named.get("timeout_s") else None
        except argparse.ArgumentTypeError:
            raise UsageError(f"{path}, line {line}: timeout_s {named['timeout_s']!r} is not a time") from None
        instance = Instance(named["onnx"], named["vnnlib"], timeout, listed)
        if match in f"{instance.onnx},{instance.vnnlib}":
            instances.setdefault(instance.key, instance)
    if not instances:
        raise UsageError(f"{folder}: no instance contains {match!r}")
    return list(instances.values())


def of_instances(rows: Sequence[dict[str, str]], instances: Sequence[Instance]) -> list[dict[str, str]]:
    """Return the rows of the given instances."""
    wanted = {instance.key for instance in instances}
    return [row for row in rows if (row["onnx"], row["vnnlib"]) in wanted]


class Runner:
    """Runs a verifier, or another program with the same command line, on instances.

    Parameters
    ----------
    command : sequence of str
        What comes before ``NET PROP --time-limit S --json -``.
    grace : float
        Seconds past the time limit after which a process is killed.
    """

    def __init__(self, command: Sequence[str], grace: float) -> None:
        self._command, self._processes = tuple(command), Processes(grace)
        self.stop = self._processes.stop

    def run(self, network: Path, prop: Path, seconds: float) -> Outcome:
        """Run one instance to its end; never raises on account of what the process does."""
        options = ("--time-limit", f"{seconds:g}", "--json", "-")
        return judge(self._processes.run([*self._command, str(network), str(prop), *options], seconds))


def judge(finished: Finished) -> Outcome:
    """Read a verifier's answer; only a proper one with the exit code that belongs to it counts."""
    answer: dict[str, Any] = {}
    try:
        answer = finished.answer()
        verdict, reason = str(answer["verdict"]), str(answer.get("reason") or "")
    except KeyError:
        verdict, reason = "error", f"no answer: {finished.last_line()}"
    except ValueError as error:
        verdict, reason = "error", str(error)
    if verdict != "error" and EXIT_CODES.get(verdict) != finished.exit:
        verdict, reason = "error", f"exit code {finished.exit} with verdict {verdict!r}"
    return Outcome(
        verdict,
        finished.exit,
        finished.cpu_seconds,
        finished.wall_seconds,
        finished.peak_mib,
        reason[:300],
        answer,
    )


def is_right(verdict: str, listed: str) -> str:
    """Return "yes", "NO", or "" where there is nothing to compare."""
    decided = {"verified", "falsified"}
    if verdict not in decided or listed not in decided:
        return ""
    return "yes" if verdict == listed else "NO"


def make_row(instance: Instance, outcome: Outcome) -> dict[str, str]:
    """Return the cells of the result file, in the order of FIELDS."""
    cells = (
        instance.onnx,
        instance.vnnlib,
        instance.listed,
        outcome.verdict,
        is_right(outcome.verdict, instance.listed),
        str(outcome.exit),
        f"{outcome.cpu_seconds:.3f}",
        f"{outcome.wall_seconds:.3f}",
        f"{outcome.peak_mib:.1f}",
        outcome.reason,
    )
    return dict(zip(FIELDS, cells, strict=True))


def totals(rows: Sequence[dict[str, str]]) -> str:
    """Return the summary of the given rows as text."""
    wrong = [row for row in rows if row["right"] == "NO"]
    solved = [row for row in rows if row["verdict"] in {"verified", "falsified"} and row not in wrong]
    lines = [
        f"instances    {len(rows)}",
        f"solved       {len(solved)}",
        f"wrong        {len(wrong)}",
        f"unknown      {sum(row['verdict'] == 'unknown' for row in rows)}",
        f"errors       {sum(row['verdict'] == 'error' for row in rows)}",
    ]
    for what in ("cpu", "wall"):
        times = [float(row[f"{what}_seconds"]) for row in rows] or [0.0]
        lines.append(f"{what + ' s':12} total {sum(times):.1f}   median {median(times):.2f}   max {max(times):.2f}")
    lines.append(f"peak memory  {max((float(row['peak_mib']) for row in rows), default=0.0):.0f} MiB")
    lines += [f"WRONG: {row['verdict']}, listed {row['listed']}: {row['onnx']} {row['vnnlib']}" for row in wrong]
    return "\n".join(lines)


def benchmark(
    folder: Path, instances: Sequence[Instance], results: Results, runner: Runner, limit: float | None, jobs: int
) -> None:
    """Run what has no row yet and print a line for each.

    Raises
    ------
    UsageError
        An instance has no time limit of its own and none is given.
    """
    done = {(row["onnx"], row["vnnlib"]) for row in results.rows}
    todo = [instance for instance in instances if instance.key not in done]
    if limit is None and any(instance.timeout is None for instance in todo):
        raise UsageError("instances.csv has no timeout_s: pass --time-limit")
    print(f"{len(instances)} instances, {len(instances) - len(todo)} done already", flush=True)

    def work(instance: Instance) -> Outcome:
        seconds = limit if limit is not None else instance.timeout
        assert seconds is not None
        return runner.run(folder / instance.onnx, folder / instance.vnnlib, seconds)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            futures = {pool.submit(work, instance): instance for instance in todo}
            for number, future in enumerate(as_completed(futures), len(instances) - len(todo) + 1):
                row = make_row(futures[future], future.result())
                results.add(row)
                note = {"yes": "right", "NO": "WRONG", "": ""}[row["right"]]
                print(
                    f"[{number:>{len(str(len(instances)))}}/{len(instances)}] {row['verdict']:9} {note:5} "
                    f"cpu {float(row['cpu_seconds']):8.2f} s  wall {float(row['wall_seconds']):8.2f} s  "
                    f"{row['onnx']} {row['vnnlib']}{'  ' + row['reason'] if row['verdict'] == 'error' else ''}",
                    flush=True,
                )
        finally:
            runner.stop()
            pool.shutdown(cancel_futures=True)


def main(arguments: Sequence[str] | None = None, command: Sequence[str] = COMMAND) -> int:
    """Run the script; return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
    command : sequence of str
        What to run on each instance; for tests and for comparing other programs with the same command line.
    """
    parser = of_a_folder("python -m benchmarks.vnnlib", str(__doc__).split("\n")[0])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="instances at a time (default 1)")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error("--jobs must be at least 1")

    def script() -> int:
        instances = read_instances(options.folder, options.match)
        runner = Runner(command, options.grace)
        with recording(options.csv, FIELDS, options.resume, runner.stop) as results:
            benchmark(options.folder, instances, results, runner, options.time_limit, options.jobs)
        rows = of_instances(results.rows, instances)
        print(totals(rows))
        return 1 if any(row["right"] == "NO" for row in rows) else 0

    return guarded(parser, script)


if __name__ == "__main__":
    sys.exit(main())
