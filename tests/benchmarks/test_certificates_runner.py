"""The certificate benchmark: real certificates from end to end, and stand-ins for what should not happen."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.certificates import FIELDS, checked, expected, main, per_leaf, report
from benchmarks.processes import Finished

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Row = dict[str, str]
Cli = tuple[str, ...]

STUB = """
import json, os, sys, time
command, behaviour, rest = sys.argv[2], json.loads(sys.argv[1]), sys.argv[3:]
if command == "verify":
    open(rest[rest.index("--certificate") + 1], "wb").write(b"x" * 80)
    about = {"bytes": 80, "nodes": 7, "leaves": 4, "write_seconds": 0.5, "check_seconds": 1.5}
    print(json.dumps({"verdict": "verified", "reason": "", "cpu_seconds": 10.0, "certificate": about}))
    sys.exit(0)
if not os.path.getsize(rest[0]):
    sys.exit(3)
what = behaviour["exact" if "--exact" in rest else "vector"]
if what == "hang":
    time.sleep(60)
sys.exit(what)
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, Row]]:
    """Run the script on one instance with a stand-in whose checkers behave as told."""

    def call(vector: str, exact: str, *options: str) -> tuple[int, Row]:
        (tmp_path / "stub.py").write_text(STUB)
        cli = (sys.executable, "-S", str(tmp_path / "stub.py"), f'{{"vector": {vector}, "exact": {exact}}}')
        out = tmp_path / "out.csv"
        code = main([str(EXAMPLES), "--csv", str(out), "--match", "brakes", *options], cli)
        with out.open(newline="") as stream:
            (row,) = csv.DictReader(stream)
        assert tuple(row) == FIELDS
        return code, row

    return call


def test_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A real certificate passes both checkers; falsified instances have a row without one; nothing runs twice."""
    out = tmp_path / "out.csv"
    options = [str(EXAMPLES), "--csv", str(out), "--json", str(tmp_path / "j"), "--match"]
    assert main([*options, "double_integrator/brakes"]) == 0
    assert main([*options, "double_integrator/box_saturation"]) == 0
    capsys.readouterr()
    assert main([*options, "double_integrator/b"]) == 0
    shown = capsys.readouterr().out
    with out.open(newline="") as stream:
        brakes, other = csv.DictReader(stream)
    assert (brakes["verdict"], brakes["vector"], brakes["exact"]) == ("verified", "accepted", "accepted")
    assert int(brakes["bytes"]) > 0 < int(brakes["leaves"])
    assert all(float(brakes[name]) > 0 for name in ("process_cpu", "vector_cpu", "exact_cpu", "startup_cpu"))
    assert all(float(brakes[name]) > 1 for name in ("peak_mib", "vector_mib", "exact_mib"))
    assert (other["verdict"], other["bytes"], other["exact"]) == ("falsified", "", "")
    assert "vector checker: 1 of 1 accepted" in shown
    assert "exact  checker: 1 of 1 accepted" in shown
    assert "median" in shown


def test_what_verify_reports_is_taken_over(run: Callable[..., tuple[int, Row]]) -> None:
    """Its own times and counts, the rest measured."""
    code, row = run("0", "0")
    assert code == 0
    assert [row[name] for name in ("solve_cpu", "write_cpu", "check_cpu")] == ["8.0000", "0.5000", "1.5000"]
    assert [row[name] for name in ("bytes", "leaves", "vector", "exact")] == ["80", "4", "accepted", "accepted"]


@pytest.mark.parametrize(
    ("vector", "exact", "words"),
    [("1", "0", "REJECTED"), ("0", "1", "REJECTED"), ("3", "0", "MALFORMED"), ("0", "7", "ERROR: exit code 7")],
)
def test_a_refused_certificate_is_loud(
    run: Callable[..., tuple[int, Row]], capsys: pytest.CaptureFixture[str], vector: str, exact: str, words: str
) -> None:
    """Whichever checker it is, the exit code is 1."""
    code, row = run(vector, exact)
    assert code == 1
    assert words in row["vector"] + row["exact"]
    assert "NOT ACCEPTED" in capsys.readouterr().out


def test_a_long_exact_check_is_ended_and_said(run: Callable[..., tuple[int, Row]]) -> None:
    """Neither accepted nor refused."""
    code, row = run("0", '"hang"', "--exact-limit", "0.5", "--grace", "0.5")
    assert (code, row["vector"], row["exact"]) == (0, "accepted", "too long")


def test_what_would_take_too_long_is_not_started(tmp_path: Path, run: Callable[..., tuple[int, Row]]) -> None:
    """Judged by the times per leaf so far."""
    known = dict.fromkeys(FIELDS, "") | {"onnx": "a", "vnnlib": "b", "verdict": "verified", "bytes": "10"}
    known |= {"leaves": "2", "vector": "accepted", "exact": "accepted", "startup_cpu": "0.5", "exact_cpu": "200.5"}
    known |= {"process_cpu": "1", "vector_cpu": "0.6"}
    with (tmp_path / "out.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerow(known)
    with pytest.raises(ValueError, match="too many values"):  # two rows now
        run("0", "0")
    with (tmp_path / "out.csv").open(newline="") as stream:
        *_, row = csv.DictReader(stream)
    assert row["exact"] == "not run: about 400 s"
    assert report([row]) == 0


def test_times_per_leaf() -> None:
    """Without start-up, never negative, nothing where nothing was accepted."""
    row = {"leaves": "4", "startup_cpu": "0.5", "exact": "accepted", "exact_cpu": "2.5"}
    assert per_leaf(row, "exact") == 0.5
    assert per_leaf({**row, "exact_cpu": "0.4"}, "exact") == 0.0
    assert per_leaf({**row, "exact": "too long"}, "exact") is None
    assert per_leaf({**row, "leaves": "0"}, "exact") is None
    assert expected([], 100) == 0.0
    assert expected([row, {**row, "exact": "too long"}], 100) == 50.0


def test_answers_of_checkers() -> None:
    """Exit codes by name; a crash is none of them."""
    assert [checked(Finished(code, 0, 0, 0)) for code in (0, 1, 3)] == ["accepted", "REJECTED", "MALFORMED"]
    assert checked(Finished(-9, 0, 0, 0, failure="killed: still running")) == "too long"
    assert checked(Finished(-11, 0, 0, 0, failure="ended by signal 11")).startswith("ERROR")


def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2, nothing written."""
    for options in (["--match", "nowhere"], ["--exact-limit", "-1"], ["--time-limit", "soon"]):
        with pytest.raises(SystemExit) as caught:
            main([str(EXAMPLES), "--csv", str(tmp_path / "out.csv"), *options])
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()
