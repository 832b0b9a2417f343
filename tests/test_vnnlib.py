"""The solver command line of VNN-LIB 2.0, by its own rules and by the test suite `vnnlib-satisfactory`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from vnntest.core.compliance import check_opset_versions, check_serialise_assignments, check_vnnlib_versions
from vnntest.core.generator import generate_all_tests
from vnntest.core.runner import parse_verdict

from optverify.cli import main
from optverify.cli.vnnlib2 import CAPABILITIES
from tests.io import models

X = "(assert (>= X[0,0] 0.1))(assert (<= X[0,0] 0.5))(assert (>= X[0,1] -0.25))(assert (<= X[0,1] 0.25))"
UNSUPPORTED = {
    "elements that are no floats": [*(f"cast0{i}" for i in range(1, 9)), *(f"shape0{i}" for i in range(1, 5))],
    "quotients and products of values": ["div01", "div02", "div03", "div04", "mul03"],
    "Gemm with alpha or beta in floats": ["gemm03", "gemm04"],
    "inputs without bounds": ["maxpool03"],
}
"""Cases of the suite whose operator is supported and that are refused all the same; docs/vnnlib.md has this list."""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Return y = relu(x0 + 2 x1) of float32 inputs (1, 2)."""
    nodes = [("MatMul", "x w", "z"), ("Relu", "z", "y")]
    return models.save(models.model(nodes, [1, 2], {"w": np.array([[1.0], [2.0]])}), tmp_path)


def write(folder: Path, asserted: str, kind: str = "float32", declared: str = "") -> str:
    """Write a query."""
    path = folder / "query.vnnlib"
    declared = declared or f"(declare-network N (declare-input X {kind} [1,2])(declare-output Y {kind} [1,1]))"
    path.write_text(f"(vnnlib-version <2.0>)\n{declared}\n{asserted}\n")
    return str(path)


def solve(query: str, *networks: str, options: Sequence[str] = ("--timeout", "30")) -> int:
    """Run the command in this process."""
    named = [part for network in networks for part in ("--network", network)]
    return main(["vnnlib", "verify", query, *named, *options, "--workers", "1"])


@pytest.mark.parametrize("kind", ["real", "float32"])
def test_verdicts_are_one_word(kind: str, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output: unsat alone, or sat and the elements in order. The rest is on standard error."""
    assert solve(write(tmp_path, X + "(assert (> Y[0,0] 1.5))", kind), f"N={network}") == 0
    done = capsys.readouterr()
    assert done.out == "unsat\n"
    assert ("every execution" in done.err) == (kind == "float32")
    assert solve(write(tmp_path, X + "(assert (>= Y[0,0] 0.75))", kind), f"N={network}") == 0
    done = capsys.readouterr()
    word, x_line, *x, y_line, y = done.out.splitlines()
    assert (word, x_line, y_line) == ("sat", f"X {kind} [1,2]", f"Y {kind} [1,1]")
    low, high = (0.1, 0.5) if kind == "real" else (np.float32(0.1), np.float32(0.5))
    assert low <= float(x[0]) <= high
    assert -0.25 <= float(x[1]) <= 0.25
    assert float(y) >= 0.75
    if kind == "float32":
        assert all(float(np.float32(v)) == float(v) for v in (*x, y))
        assert float(np.float32(np.float32(x[0]) + np.float32(2) * np.float32(x[1]))) == float(y)


def test_sums_in_conditions_are_said_to_be_exact(
    network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a float format: over the reals nothing is rounded."""
    for kind, said in (("float32", True), ("real", False)):
        assert solve(write(tmp_path, X + "(assert (> (+ Y[0,0] X[0,0]) 3.0))", kind), f"N={network}") == 0
        assert ("evaluated exactly" in capsys.readouterr().err) == said


def test_neither_proved_nor_refuted(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Out of time is timed-out; in doubt to within rounding is unknown."""
    query = write(tmp_path, X + "(assert (> Y[0,0] 1.0))", "real")  # the maximum is 1: no bound is above it
    assert solve(query, f"N={network}") == 0
    assert capsys.readouterr().out == "unknown\n"
    rng = np.random.default_rng(0)
    sizes = [8, 40, 40, 1]
    nodes = [("MatMul", f"{'x' if i == 0 else f'a{i}'} w{i}", f"z{i}") for i in range(3)]
    nodes = [part for i, node in enumerate(nodes) for part in (node, ("Relu", f"z{i}", f"a{i + 1}" if i < 2 else "y"))]
    weights = {f"w{i}": rng.normal(size=(sizes[i], sizes[i + 1])) for i in range(3)}
    hard = models.save(models.model(nodes, [1, 8], weights), tmp_path)
    declared = "(declare-network N (declare-input X float32 [1,8])(declare-output Y float32 [1,1]))"
    box = "".join(f"(assert (<= X[0,{i}] 1.0))(assert (>= X[0,{i}] -1.0))" for i in range(8))
    path = write(tmp_path, box + "(assert (>= Y[0,0] 500.0))", declared=declared)
    assert solve(path, f"N={hard}", options=["--timeout", "0.001"]) == 0
    assert capsys.readouterr().out == "timed-out\n"


@pytest.mark.parametrize(
    ("networks", "kind", "message"),
    [
        ([], "real", "declares the network N, --network gives: none"),
        (["M"], "real", "declares the network N, --network gives: M"),
        (["N", "N"], "real", "--network gives: N, N"),
        (["N", "M"], "real", "--network gives: N, M"),
        (["N"], "float64", "computes in float32, so nothing can be said about float64"),
        (["N"], "float8e5m2", "type float8e5m2"),
    ],
)
def test_what_the_standard_says_must_be_an_error(
    networks: Sequence[str],
    kind: str,
    message: str,
    network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Missing or unnecessary networks and other types: exit code 3, nothing on standard output, one line of error."""
    query = write(tmp_path, X + "(assert (> Y[0,0] 1.0))", kind)
    assert solve(query, *(f"{name}={network}" for name in networks)) == 3
    done = capsys.readouterr()
    assert done.out == ""
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_wrong_command_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and nothing on standard output."""
    old = tmp_path / "old.vnnlib"
    old.write_text("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= 0 X_0 1))")
    assert solve(str(old), "N=net.onnx") == 3
    assert "VNN-LIB 1.0, which names no network" in capsys.readouterr().err
    for arguments in (
        ["verify", str(old), "--network", "net.onnx"],
        ["verify", str(old), "--network", "N=net.onnx", "--timeout", "-1"],
        ["supports"],
        ["supports", "--everything"],
        [],
    ):
        with pytest.raises(SystemExit) as exit_:
            main(["vnnlib", *arguments])
        assert exit_.value.code == 3
        assert capsys.readouterr().out == ""


def test_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is answered; the theories are names of the standard."""
    said = {}
    for capability in CAPABILITIES:
        assert main(["vnnlib", "supports", f"--{capability}"]) == 0
        said[capability] = capsys.readouterr().out.splitlines()
    assert said["onnx-opset-versions"] == ["7", "22"]
    assert set(said["onnx-element-types"]) == {"real", "float16", "bfloat16", "float32", "float64"}
    assert {"Conv", "Gemm", "MatMul", "Relu"} <= set(said["onnx-operators"])
    assert said["arithmetic-complexity-theories"] == ["BND", "OUTC", "LIN"]
    for option, text in (("--name", "optverify"), ("--version", "0.1.0")):
        with pytest.raises(SystemExit) as exit_:
            main(["vnnlib", option])
        assert exit_.value.code == 0
        assert capsys.readouterr().out == text + "\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a program that runs the command line, as the script `optverify-vnnlib` does."""
    path, root = tmp_path_factory.mktemp("bin") / "solver", str(Path(__file__).parent.parent)
    code = f"import sys\nsys.path.insert(0, {root!r})\nfrom optverify.cli import vnnlib\nsys.exit(vnnlib())\n"
    path.write_text(f"#!{sys.executable}\n{code}")
    path.chmod(0o755)
    return str(path)


def test_satisfactory_finds_the_interface_compliant(program: str) -> None:
    """Its three checks, by running the program."""
    for check in (check_opset_versions, check_vnnlib_versions, check_serialise_assignments):
        passed, message = check(program)
        assert passed, message


def test_satisfactory_run_prints_only_passes(program: str, tmp_path: Path) -> None:
    """The suite's own command on one operator."""
    suite = str(Path(sys.executable).with_name("vnnlib-satisfactory"))
    done = subprocess.run(
        [suite, "run", "--solver", program, "--test", "relu", "--timeout", "60"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "1"},
        check=False,
    )
    assert "2/2 passed, 0 failed, 0 suspect, 0 errored" in done.stdout, done.stdout + done.stderr


def test_satisfactory_finds_no_wrong_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every case whose operator and theory is supported is decided as expected, but for the ones that are listed."""
    monkeypatch.chdir(tmp_path)
    refused = {name for names in UNSUPPORTED.values() for name in names}
    theories = {"arithmetic_poly", "hidden", "multi_io", "network_equal", "network_isomorphic", "network_multiple"}
    main(["vnnlib", "supports", "--onnx-operators"])
    operators = set(capsys.readouterr().out.split())
    decided = 0
    for case in generate_all_tests():
        folder = Path(".vnnlib-satisfactory", "tests", case["category"])
        capsys.readouterr()
        networks = [f"{name}={folder / file}" for name, file in case["networks"].items()]
        code = solve(str(folder / case["vnnlib"]), *networks)
        done = capsys.readouterr()
        primary = case["primary_op_type"]
        if case["category"] in theories or case["name"] in refused or (primary and primary not in operators):
            assert (code, done.out) == (3, ""), case["name"]
            continue
        assert code == 0, (case["name"], done.err)
        assert done.out.splitlines()[0] == parse_verdict(done.out).value == case["expected"].lower(), case["name"]
        decided += 1
    assert decided == 115


def test_other_commands_follow_the_query(network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `verify` and `bound` answer is about the type in the file; `check` and certificates are about the reals."""
    query, result = write(tmp_path, X + "(assert (> Y[0,0] 1.5))"), tmp_path / "answer.json"
    end = ["--workers", "1"]
    assert main(["verify", str(network), query, "--json", str(result), *end]) == 0
    assert json.loads(result.read_text())["semantics"] == "float32"
    assert main(["bound", str(network), query, "--objective", "Y_0", "--json", str(result), *end]) == 0
    assert json.loads(result.read_text())["semantics"] == "float32"
    assert main(["show", query]) == 0
    assert "the network N in float32: X [1, 2], Y [1, 1]" in capsys.readouterr().out
    for arguments, message in (
        (
            ["verify", str(network), query, "--semantics", "real", *end],
            "about float32, so it cannot be answered about real",
        ),
        (["bound", str(network), query, "--objective", "Y_0", "--semantics", "real", *end], "answered about real"),
    ):
        assert main(arguments) == 3
        done = capsys.readouterr()
        assert message in done.err
        assert done.out == ""
    proof = str(tmp_path / "proof")
    assert main(["verify", str(network), query, "--certificate", proof, *end]) == 0
    for exact in ([], ["--exact"]):
        assert main(["check", proof, "--network", str(network), "--property", query, *exact]) == 0
    real = write(tmp_path, X + "(assert (> Y[0,0] 1.5))", "real")
    assert main(["verify", str(network), real, "--certificate", proof, *end]) == 0
    assert main(["check", proof, "--network", str(network), "--property", real, "--exact"]) == 0
