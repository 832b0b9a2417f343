"""The command line: exit codes, JSON, and one clear line for everything that can be wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optverify import Ball, Query, inputs
from optverify.canonical import property_text
from optverify.cli import main, shared
from optverify.search.methods import METHODS

EXIT = {"verified": 0, "falsified": 1, "unknown": 2}

BOX = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)" + "".join(
    f"(assert (<= X_{i} 1))(assert (>= X_{i} -1))" for i in range(2)
)


def write_network(path: Path, first: np.ndarray | None = None, operator: str = "Relu") -> Path:
    """Write |x0| + |x1| as ONNX."""
    weight = np.array([[1, -1, 0, 0], [0, 0, 1, -1]], np.float32) if first is None else first
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="first"),
        helper.make_node(operator, ["z"], ["a"], name="middle"),
        helper.make_node("MatMul", ["a", "v"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones((4, 1), np.float32), "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def network(tmp_path: Path) -> str:
    """Return the path of the network."""
    return str(write_network(tmp_path / "net.onnx"))


def prop(tmp_path: Path, text: str, name: str = "prop.vnnlib") -> str:
    """Write a property and return its path."""
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_verified_falsified_and_their_exit_codes(
    tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three verdicts give 0, 1 and 2, in text and in JSON; the witness carries its onnxruntime replay."""
    cases = {"2.001": "verified", "1.999": "falsified"}
    for threshold, verdict in cases.items():
        path = prop(tmp_path, BOX + f"(assert (>= Y_0 {threshold}))")
        assert main(["verify", network, path]) == EXIT[verdict]
        assert verdict.upper() in capsys.readouterr().out
        assert main(["verify", network, path, "--json", "-"]) == EXIT[verdict]
        data = json.loads(capsys.readouterr().out)
        assert data["verdict"] == verdict
        assert data["semantics"] == "real"
        assert (data["witness"] is not None) == (verdict == "falsified")
        if data["witness"]:
            assert data["replay"][0]["violates"] is True
            assert "onnxruntime" in data["replay"][0]["runtime"]
        else:
            assert data["bound"] > 0


@pytest.mark.parametrize("relaxation", ["auto", "triangle", "lifted"])
def test_relaxations_have_names(tmp_path: Path, network: str, relaxation: str) -> None:
    """Each gives the verdict."""
    path = prop(tmp_path, BOX + "(assert (>= Y_0 2.001))")
    assert main(["verify", network, path, "--relaxation", relaxation, "--quiet"]) == 0


def test_unknown_exits_with_two(tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A property that holds with equality can be proved neither way."""
    path = prop(tmp_path, BOX + "(assert (< Y_0 0))")
    assert main(["verify", network, path, "--time-limit", "20"]) == 2
    assert "near miss" in capsys.readouterr().out


def test_json_to_a_file(tmp_path: Path, network: str) -> None:
    """The file is written whole, beside nothing else."""
    path = prop(tmp_path, BOX + "(assert (>= Y_0 3))")
    target = tmp_path / "out" / "answer.json"
    target.parent.mkdir()
    assert main(["verify", network, path, "--json", str(target)]) == 0
    assert json.loads(target.read_text())["verdict"] == "verified"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("method", METHODS)
def test_bound_by_every_method(tmp_path: Path, network: str, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every method encloses the exact maximum 2."""
    path = prop(tmp_path, BOX)
    arguments = ["bound", network, path, "--objective", "Y_0 + 0.5 * X_0 - 0.5 * X_0", "--sense", "max"]
    assert main([*arguments, "--method", method, "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["lower"] <= 2 <= data["upper"]
    assert main([*arguments, "--method", method]) == 0
    assert "max Y_0" in capsys.readouterr().out


def test_show_and_solvers(tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Networks, properties and solvers are described."""
    assert main(["show", network]) == 0
    assert "ReLU(4)" in capsys.readouterr().out
    assert main(["show", prop(tmp_path, BOX + "(assert (>= Y_0 3))")]) == 0
    assert "-Y_0 + 3 <= 0" in capsys.readouterr().out
    about = tmp_path / "ball.json"
    about.write_bytes(property_text(Query.never(Ball([0], [1], "2", [0], 1), inputs(1)[0] <= 0, 1)))
    assert main(["show", str(about)]) == 0
    assert "within 1 of a point in the norm 2" in capsys.readouterr().out
    assert main(["solvers"]) == 0
    out = capsys.readouterr().out
    assert "highs" in out
    assert "MILP" in out


def test_certificates_are_written_and_checked(tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify writes a proof, check accepts it by floats and by the kernel, and refuses it for another property."""
    right = prop(tmp_path, BOX + "(assert (>= Y_0 2.5))", "right.vnnlib")
    other = prop(tmp_path, BOX + "(assert (>= Y_0 2.25))", "other.vnnlib")
    false = prop(tmp_path, BOX + "(assert (>= Y_0 1.5))", "false.vnnlib")
    proof, point = str(tmp_path / "proof"), str(tmp_path / "point")
    assert main(["verify", network, right, "--certificate", proof]) == 0
    assert main(["verify", network, false, "--certificate", point]) == 1
    capsys.readouterr()
    arguments = ["check", proof, "--network", network, "--property"]
    assert main([*arguments, right]) == 0
    assert capsys.readouterr().out.startswith("PROVED")
    assert main([*arguments, right, "--exact"]) == 0
    assert main([*arguments, other]) == 1
    capsys.readouterr()
    assert main([*arguments, other, "--exact"]) == 1
    assert "the fast checker: the certificate is about another" in capsys.readouterr().err
    assert main(["check", point, "--network", network, "--property", false]) == 0
    assert "REFUTED" in capsys.readouterr().out
    (tmp_path / "cut").write_bytes(Path(proof).read_bytes()[:-3])
    arguments[1] = str(tmp_path / "cut")
    assert main([*arguments, right]) == 3
    assert main([*arguments, right, "--exact"]) == 3
    arguments[1] = str(tmp_path / "none")
    assert main([*arguments, right]) == 3
    assert main([*arguments, right, "--exact"]) == 3


def bad_cases(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Return command lines that must fail, and a piece of the message."""
    good = str(write_network(tmp_path / "good.onnx"))
    (tmp_path / "cut.onnx").write_bytes(Path(good).read_bytes()[:-40])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)) * 9)
    weight = np.full((2, 4), np.nan, np.float32)
    unfinite = str(write_network(tmp_path / "nan.onnx", weight))
    odd = str(write_network(tmp_path / "odd.onnx", operator="Softmax"))
    safe = prop(tmp_path, BOX + "(assert (>= Y_0 3))", "safe.vnnlib")

    def p(name: str, text: str) -> str:
        return prop(tmp_path, text, f"{name}.vnnlib")

    three = "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} 1))(assert (>= X_{i} 0))" for i in range(3))
    open_ended = BOX.replace("(assert (<= X_1 1))", "")
    (tmp_path / "folder").mkdir()
    return {
        "truncated": (["verify", str(tmp_path / "cut.onnx"), safe], "cut.onnx"),
        "empty": (["verify", str(tmp_path / "empty.onnx"), safe], "empty.onnx"),
        "noise": (["verify", str(tmp_path / "noise.onnx"), safe], "noise.onnx"),
        "missing": (["verify", str(tmp_path / "none.onnx"), safe], "none.onnx"),
        "folder": (["verify", str(tmp_path / "folder"), safe], "folder"),
        "kind": (["verify", safe, safe], "expected .onnx"),
        "nan": (["verify", unfinite, safe], "nan"),
        "operator": (["verify", odd, safe], "Softmax"),
        "inputs": (["verify", good, p("three", three + "(declare-const Y_0 Real)(assert (>= Y_0 3))")], "3 inputs"),
        "outputs": (["verify", good, p("two", BOX + "(declare-const Y_1 Real)(assert (>= Y_1 3))")], "2 outputs"),
        "reversed": (["verify", good, p("rev", BOX + "(assert (<= X_0 -2))(assert (>= Y_0 3))")], "X_0"),
        "unbounded": (["verify", good, p("open", open_ended + "(assert (>= Y_0 3))")], "X_1"),
        "syntax": (["verify", good, p("syntax", BOX + "\n(assert (>= Y_0 3)")], "line"),
        "undeclared": (["verify", good, p("und", BOX + "(assert (>= Y_7 3))")], "Y_7"),
        "nonlinear": (["verify", good, p("non", BOX + "(assert (>= (* Y_0 Y_0) 3))")], "linear"),
        "no property": (["verify", good, str(tmp_path / "none.vnnlib")], "none.vnnlib"),
        "objective": (["bound", good, safe, "--objective", "Y_0 * Y_0"], "linear"),
        "objective name": (["bound", good, safe, "--objective", "Y_5"], "Y_5"),
        "solver": (["verify", good, safe, "--solver", "magic"], "magic"),
        "unwritable": (["verify", good, safe, "--json", str(tmp_path / "no" / "x.json")], "x.json"),
        "json folder": (["verify", good, safe, "--json", str(tmp_path / "folder")], "folder"),
    }


BAD = [
    *("truncated", "empty", "noise", "missing", "folder", "kind", "nan", "operator", "inputs", "outputs", "reversed"),
    *("unbounded", "syntax", "undeclared", "nonlinear", "no property", "objective", "objective name", "solver"),
    *("unwritable", "json folder"),
]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_three(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, in one line on standard error; no verdict, no traceback, no half-written file."""
    arguments, piece = bad_cases(tmp_path)[name]
    before = set(tmp_path.rglob("*"))
    assert main(arguments) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("optverify: error: ")
    assert err.count("\n") == 1
    assert piece in err
    assert "internal error" not in err
    assert "verified" not in err.lower()
    assert set(tmp_path.rglob("*")) == before


def test_an_error_leaves_no_json_behind(tmp_path: Path, network: str) -> None:
    """A run that fails removes its temporary file and leaves an old answer as it was."""
    target = tmp_path / "answer.json"
    target.write_text("old")
    assert main(["verify", network, str(tmp_path / "none.vnnlib"), "--json", str(target)]) == 3
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer.json", "net.onnx"]


@pytest.mark.parametrize("arguments", [[], ["verify"], ["verify", "a", "b", "--time-limit", "-1"], ["nothing"]])
def test_wrong_usage_exits_with_three(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code 2 means unknown, so a wrong command line must not give it."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version."""
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("optverify ")


def test_start_up_imports_only_what_it_uses() -> None:
    """Asking for the version loads neither torch nor onnx nor a solver; verifying does not load torch."""
    code = "import sys, optverify; print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    heavy = ["torch", "onnx", "highspy", "matplotlib", "rich", "lark", "onnxruntime"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_interrupt_gives_unknown_with_a_bound(tmp_path: Path) -> None:
    """Ctrl-C on the process ends it soon, with the JSON answer, exit code 2 and no traceback."""
    rng = np.random.default_rng(0)
    path = tmp_path / "hard.onnx"
    sizes = (10, 80, 80, 80, 1)
    tensors, nodes, value = [], [], "x"
    for k, (n, m) in enumerate(pairwise(sizes)):
        tensors.append(numpy_helper.from_array(rng.normal(size=(n, m)).astype(np.float32), f"w{k}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{k}"], [f"z{k}"]))
        value = f"z{k}"
        if k < 3:
            nodes.append(helper.make_node("Relu", [value], [f"a{k}"]))
            value = f"a{k}"
    graph = helper.make_graph(
        nodes,
        "hard",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, 1])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    box = "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} 1))(assert (>= X_{i} -1))" for i in range(10))
    text = prop(tmp_path, box + "(declare-const Y_0 Real)(assert (<= Y_0 -1200))")
    command = [sys.executable, "-m", "optverify.cli", "verify", str(path), text, "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)
        assert process.poll() is None, process.communicate()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert err == ""
    answer = json.loads(out)
    assert answer["verdict"] == "unknown"
    assert answer["reason"].startswith("interrupted")
    assert answer["bound"] is not None


def test_outputs_never_replace_inputs_or_each_other(
    tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Naming the network, the property or one file twice as an output is refused before anything is written."""
    path = prop(tmp_path, BOX + "(assert (>= Y_0 3))")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    both = str(tmp_path / "both")
    for extra in (["--json", network], ["--certificate", path], ["--json", both, "--certificate", both]):
        assert main(["verify", network, path, *extra]) == 3
        assert "named twice" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_links_and_devices_are_written_through(tmp_path: Path, network: str) -> None:
    """A link stays a link, and a device stays a device."""
    path = prop(tmp_path, BOX + "(assert (>= Y_0 3))")
    (tmp_path / "answer").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "answer")
    assert main(["verify", network, path, "--json", str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "answer").read_text())["verdict"] == "verified"
    assert main(["verify", network, path, "--json", os.devnull]) == 0
    assert Path(os.devnull).is_char_device()


def test_the_command_line_knows_the_methods() -> None:
    """Its list, which saves an import, is that of `bound`."""
    assert list(METHODS) == shared.METHODS
