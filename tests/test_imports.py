"""What a run of the command line imports: `verify` only what it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
UNUSED = {
    *("torch", "onnxruntime", "flint", "cvxpy", "pyomo", "mosek", "scs", "clarabel"),
    *("scipy", "highspy", "rich", "matplotlib", "pandas", "tqdm", "IPython", "numpy.ma", "numpy.testing", "numpy.f2py"),
}
"""None of these has to do with the search through a small fully connected network that needs no program."""

RUN = "import sys; from optverify.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"

NNET = """// max(x0 - x1, 0)
2,2,1,1,
2,1,1,
0,
0.0,0.0,
1.0,1.0,
0.0,0.0,0.0,
1.0,1.0,1.0,
1.0,-1.0,
0.0,
1.0,
0.0,
"""
PROPERTY = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real)
(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= Y_0 2)))
"""


def imported(*arguments: object) -> set[str]:
    """Run the command line in a process of its own and return the modules that it ends with."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("network", "prop"),
    [
        ("cartpole/controller.onnx", "cartpole/leans_right_small.vnnlib"),
        ("double_integrator/controller.onnx", "double_integrator/brakes.vnnlib"),
    ],
)
def test_verify_imports_only_what_it_uses(network: str, prop: str) -> None:
    """No sparse matrices, no solver, no extras, no progress line where none is shown."""
    modules = imported("verify", EXAMPLES / network, EXAMPLES / prop)
    assert "optverify.verify" in modules
    assert not modules & UNUSED


def test_verify_of_a_nnet_file_needs_no_onnx(tmp_path: Path) -> None:
    """The reader of one format is not loaded for another."""
    files = {"max.nnet": NNET, "below.vnnlib": PROPERTY}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    modules = imported("verify", *(tmp_path / name for name in files))
    assert "optverify.io.nnet" in modules
    assert not modules & {"onnx", "google.protobuf", "optverify.io.onnx", "optverify.io.pytorch", "torch", "highspy"}
