"""The optimisation benchmark: its problems are the ones it names, and its arithmetic on claims is exact."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from benchmarks.optimise import (
    EXAMPLES,
    FIELDS,
    Case,
    acasxu,
    controllers,
    decimal,
    expression,
    hull,
    main,
    outside,
    property_text,
    ratio,
    report,
    scaled,
    write_arrays,
)
from benchmarks.processes import aside
from benchmarks.results import UsageError
from optverify import Box, outputs
from optverify.io import load, load_property
from optverify.io.expression import parse_linear

Row = dict[str, str]


def make(contender: str = "optverify", **cells: str) -> Row:
    """Return a row of the result file."""
    row = dict.fromkeys(FIELDS, "") | {"case": "a", "contender": contender, "complete": "yes", "cpu_seconds": "1.000"}
    return {**row, "peak_mib": "1", "note": "1 nodes", **cells}


def fractions(*texts: str) -> tuple[Fraction, ...]:
    """Return exact numbers."""
    return tuple(map(Fraction, texts))


def test_boxes_are_exact() -> None:
    """Hulls and scaled boxes lose nothing to rounding."""
    one = fractions("0.1", "-0.3"), fractions("0.2", "0.3")
    two = fractions("0.15", "-0.1"), fractions("0.7", "0.1")
    assert hull([one, two]) == (fractions("0.1", "-0.3"), fractions("0.7", "0.3"))
    assert scaled(one, Fraction(1)) == one
    assert scaled(one, Fraction("0.2")) == (fractions("0.14", "-0.06"), fractions("0.16", "0.06"))
    assert scaled(one, Fraction(0)) == (fractions("0.15", "0"), fractions("0.15", "0"))


@pytest.mark.parametrize("text", ["0", "-0.3", "1e-300", "123456789.000000001", "-7e40"])
def test_decimals_are_exact(text: str) -> None:
    """What is written is what is meant, without an exponent."""
    written = decimal(Fraction(text))
    assert "e" not in written.lower()
    assert Fraction(written) == Fraction(text)


def test_a_third_is_no_decimal() -> None:
    """Refused, not rounded."""
    with pytest.raises(UsageError, match="no finite decimal"):
        decimal(Fraction(1, 3))


def test_property_texts_say_what_they_should(tmp_path: Path) -> None:
    """The reader finds the same box and objective."""
    weights = fractions("1", "0", "-2.5")
    case = Case("a", "net", fractions("-0.1", "5e-324"), fractions("1e-3", "2.5"), weights, "min")
    y, path = outputs(3), tmp_path / "p.vnnlib"
    objective = y[0] - "2.5" * y[2]
    assert parse_linear(expression(weights), "objective") == objective
    path.write_text(property_text(case))
    (found,) = load_property(str(path)).cases
    assert found.region == Box(case.lower, case.upper)
    assert found.unsafe == ()


@pytest.mark.parametrize("name", ["double_integrator", "pendulum", "cartpole", "avoidance"])
def test_the_peer_gets_the_same_problem(tmp_path: Path, name: str) -> None:
    """Layer by layer as OMLT computes, the arrays give the network's outputs; the box holds the exact one."""
    case = next(case for case in controllers() if case.name.startswith(name))
    network = load(case.network)
    write_arrays(case, str(tmp_path / "problem.npz"))
    with np.load(tmp_path / "problem.npz") as stored:
        found = dict(stored)
    x = np.random.default_rng(0).normal(size=(20, network.n_inputs))
    value = x
    for k in range(sum(key.startswith("weight_") for key in found)):
        value = value @ found[f"weight_{k}"].T + found[f"bias_{k}"]
        value = np.maximum(value, 0) if found[f"relu_{k}"] else value
    np.testing.assert_allclose(value, network(x), rtol=1e-12, atol=1e-12)
    assert found["c"].tolist() == [1.0] + [0.0] * (network.n_outputs - 1)
    assert all(map(Fraction.__le__, map(Fraction, found["lower"].tolist()), case.lower))
    assert all(map(Fraction.__ge__, map(Fraction, found["upper"].tolist()), case.upper))


def test_networks_without_a_counterpart_are_refused(tmp_path: Path) -> None:
    """A ReLU that comes first, as a .nnet file cannot have but an ONNX file can."""
    path = tmp_path / "first.onnx"
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "first", value[:1], value[1:])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString())
    case = Case("a", str(path), fractions("0", "0"), fractions("1", "1"), fractions("1", "0"), "min")
    with pytest.raises(UsageError, match="ReLUs in a place"):
        aside(write_arrays, case, str(tmp_path / "problem.npz"))
    with pytest.raises(UsageError, match=r"nowhere\.onnx"):
        aside(write_arrays, replace(case, network="nowhere.onnx"), "problem.npz")


@pytest.mark.parametrize(
    ("proved", "claimed", "missed"),
    [
        (("1", "2"), ("1.5", "3"), 0.0),
        (("1", "2"), ("2", "3"), 0.0),
        (("1", "2"), ("2.5", "3"), 0.5),
        (("1", "2"), ("-1", "0.75"), 0.25),
        (("1", "2"), ("", "0.5"), 0.5),
        (("1", "2"), ("3", ""), 1.0),
        (("", ""), ("3", "3"), 0.0),
        (("1", "1"), ("1.0000000000000002", "1.0000000000000002"), 2.0**-52),
    ],
)
def test_how_far_a_claim_is_outside(proved: tuple[str, str], claimed: tuple[str, str], missed: float) -> None:
    """The distance of two intervals, whatever is missing, to the last bit."""
    ours, theirs = ({"lower": low, "upper": high} for low, high in (proved, claimed))
    assert outside(ours, theirs) == missed


def test_ratios_say_who_did_not_finish() -> None:
    """At least so many times where the peer stopped early, at most where we did."""
    late, done = make("highs", cpu_seconds="9.0", complete="no"), make("highs", cpu_seconds="9.0")
    assert [ratio(2.0, True, done), ratio(2.0, True, late)] == ["4.5", ">4.5"]
    assert [ratio(2.0, False, done), ratio(2.0, False, late)] == ["<4.5", "both open"]


def test_a_contradicted_bracket_is_loud(capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the tolerance of the solvers: exit code 1. Within: said, not an error."""
    ours, near = make(lower="1.0", upper="1.0"), make("highs", lower="1.000000001", upper="1.1", cpu_seconds="3.0")
    assert report([ours, near]) == 0
    shown = capsys.readouterr().out
    assert "outside: a: highs claims" in shown
    assert "below the aim: a: highs 3.0 s, ratio 3.0" in shown
    assert "highs: 1 cases over 2 s, 0 of them 5 times" in shown
    assert report([ours, {**near, "lower": "1.01"}]) == 1
    capsys.readouterr()
    assert report([ours, {**near, "lower": "0.9", "cpu_seconds": "5.0"}]) == 0
    shown = capsys.readouterr().out
    assert "every claim meets" in shown
    assert "highs: 1 cases over 2 s, 1 of them 5 times" in shown


def test_a_missing_certificate_is_loud(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the gap is closed there has to be one; where not, there cannot."""
    bad = make("certificate", complete="no", note="NOT ACCEPTED: no")
    assert report([make(lower="1", upper="1"), bad]) == 1
    assert "no certificate: a: NOT ACCEPTED" in capsys.readouterr().out
    assert report([make(lower="1", upper="2", complete="no"), {**bad, "note": "not run"}]) == 0


def test_cases_cover_every_output_both_ways() -> None:
    """Two for each output of each controller, and no name twice."""
    names = [case.name for case in controllers()]
    assert len(names) == len(set(names)) == 2 * (2 + 1 + 1 + 5)


def test_a_wrong_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    with pytest.raises(UsageError, match="prop_3"):
        list(acasxu(tmp_path))
    for options in (["--acasxu", str(tmp_path)], ["--match", "nowhere"], ["--contenders", "gurobi"]):
        with pytest.raises(SystemExit) as caught:
            main(["--csv", str(tmp_path / "out.csv"), *options])
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


def test_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes on a small case; OMLT is left out in one line; a second call runs nothing again."""
    out, table = tmp_path / "out.csv", tmp_path / "out.json"
    options = ["--csv", str(out), "--json", str(table), "--match", "double_integrator max", "--omlt-python", "false"]
    assert main(options) == 0
    shown = capsys.readouterr()
    assert "leaving OMLT out" in shown.err
    with out.open(newline="") as stream:
        rows = {row["contender"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["optverify", "certificate", "highs", "highs-crown"]
    assert {row["complete"] for row in rows.values()} == {"yes"}
    ours = rows["optverify"]
    low, high = float(ours["lower"]), float(ours["upper"])
    assert 0 <= high - low <= 1e-6 * max(1, abs(high))
    assert all(outside(ours, rows[name]) <= 1e-6 for name in ("highs", "highs-crown"))
    assert rows["certificate"]["note"].startswith("accepted")
    assert all(float(row["cpu_seconds"]) > 0 and float(row["peak_mib"]) > 1 for row in rows.values())
    assert [row["contender"] for row in json.loads(table.read_text())] == list(rows)
    before = out.read_bytes()
    assert main(options) == 0
    assert out.read_bytes() == before


def test_a_contender_that_fails_is_a_row(tmp_path: Path) -> None:
    """A Python that imports everything and solves nothing: its last line becomes the note."""
    stub = tmp_path / "python"
    stub.write_text(f"#!{sys.executable}\nimport sys\nif sys.argv[1] != '-c': sys.exit('no licence')\n")
    stub.chmod(0o755)
    out = tmp_path / "out.csv"
    only = ["--match", "pendulum min", "--contenders", "omlt", "--omlt-python", str(stub)]
    assert main(["--csv", str(out), *only]) == 0
    with out.open(newline="") as stream:
        assert [(row["complete"], row["note"]) for row in csv.DictReader(stream)] == [("no", "no answer: no licence")]


def test_help_names_the_contenders() -> None:
    """As a module, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.optimise", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLES.parent).stdout
    assert all(name in shown for name in ("highs-crown", "omlt", "--acasxu", "--json"))
