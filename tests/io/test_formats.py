"""What the readers say about formats: which one a file computes in, and why floats are out of reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from optverify.deployment import deployed
from optverify.errors import InputError
from optverify.io import load
from optverify.io.onnx import read_onnx
from optverify.io.pytorch import read_pytorch
from optverify.semantics import FLOAT32, FLOAT64
from tests.io.models import NodeSpec, model, save

SQUARE = np.array([[1.0, 2.0], [-1.0, 0.5]])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_format_of_a_file_is_known(kind: type, tmp_path: Path) -> None:
    """Statements can be made about the format of the file, and about no other."""
    proto = model([("MatMul", "x w", "h"), ("Relu", "h", "y")], [1, 2], {"w": SQUARE}, kind=kind)
    network = load(save(proto, tmp_path))
    assert network.format == kind.__name__
    assert network.then().format == network.carrying_input().format == network.format
    right, wrong = (FLOAT32, FLOAT64) if kind is np.float32 else (FLOAT64, FLOAT32)
    assert deployed(network, right).semantics is right
    with pytest.raises(InputError, match="computes in"):
        deployed(network, wrong)


UNCOVERED: dict[str, tuple[list[NodeSpec], dict[str, Any], str]] = {
    "alpha": ([("Gemm", "x w", "y", {"alpha": 0.5})], {"w": SQUARE}, "alpha or beta"),
    "beta": ([("Gemm", "x w c", "y", {"beta": 2.0})], {"w": SQUARE, "c": np.ones(2)}, "alpha or beta"),
    "subnormal divisor": ([("Div", "x w", "y")], {"w": np.array([1.0, 2.0**-127])}, "divisor 'w' is subnormal"),
    "two formats": (
        [
            ("Cast", "x", "h", {"to": TensorProto.DOUBLE}),
            ("Relu", "h", "i"),
            ("Cast", "i", "y", {"to": TensorProto.FLOAT}),
        ],
        {},
        "computes in float32 and float64",
    ),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_what_counted_roundings_do_not_cover_is_over_the_reals_only(name: str, tmp_path: Path) -> None:
    """The network says why, and the error repeats it."""
    nodes, constants, reason = UNCOVERED[name]
    network = read_onnx(save(model(nodes, [1, 2], constants), tmp_path))
    assert reason in network.only_real
    with pytest.raises(InputError, match=reason):
        deployed(network, FLOAT32)


@pytest.mark.parametrize(("gamma", "variance"), [(2.0**-130, 1.0), (1.0, 2.0**-140), (2.0**-100, 2.0**100)])
def test_a_subnormal_scale_of_a_batch_normalisation(gamma: float, variance: float, tmp_path: Path) -> None:
    """Flushed to zero it would change the result by all of it; the same with ordinary numbers is covered."""
    for g, v in ((gamma, variance), (0.5, 2.0)):
        ones = np.ones(2)
        constants = {"g": g * ones, "b": ones, "m": ones, "v": v * ones}
        proto = model([("BatchNormalization", "x g b m v", "y", {"epsilon": 0.0})], [1, 2], constants)
        network = read_onnx(save(proto, tmp_path))
        assert ("batch normalisation" in network.only_real) == (g != 0.5)


def test_bounds_that_the_format_does_not_hold(tmp_path: Path) -> None:
    """A clip of float16 values at the float32 nearest to 0.1: runtimes round the bound, or not."""
    for bound in (0.1, 0.5):
        node = helper.make_node("Clip", ["x"], ["y"], min=bound)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 2]) for name in "xy"]
        graph = helper.make_graph([node], "tiny", ends[:1], ends[1:])
        path = tmp_path / "half.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 7)], ir_version=8), path)
        network = read_onnx(path)
        assert network.format == "float16"
        assert ("no float16 number" in network.only_real) == (bound == 0.1)


def test_modules_have_a_format() -> None:
    """PyTorch parameters decide; a conversion on the way mixes two."""
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    assert read_pytorch(layers, (3,)).format == "float32"
    assert read_pytorch(layers.double(), (3,)).format == "float64"

    class Mixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x.double()).float()

    assert "float32 and float64" in read_pytorch(Mixed(), (3,)).only_real
