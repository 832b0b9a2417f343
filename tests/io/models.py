"""Small ONNX models for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from optverify.deployment import deployed, overflow
from optverify.interval import Interval
from optverify.io.onnx import read_onnx
from optverify.network import Network
from optverify.preactivation import Bounds, layer_inputs
from optverify.semantics import named
from tests.io.rounding import assert_within

NodeSpec = tuple[str, str, str] | tuple[str, str, str, dict[str, Any]]
TYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def model(
    nodes: Sequence[NodeSpec],
    shape: Sequence[int | str | None],
    constants: Mapping[str, Any] | None = None,
    opset: int = 13,
    kind: type = np.float32,
    outputs: str = "y",
    **options: Any,
) -> onnx.ModelProto:
    """Make a model from x to y; a node is (operator, "inputs", "outputs", attributes).

    A dash stands for an optional input that is left out; float constants take the type of the input.
    """
    built = []
    for number, (operator, inputs, results, *attributes) in enumerate(nodes):
        names = ["" if name == "-" else name for name in inputs.split()]
        extra = attributes[0] if attributes else {}
        built.append(helper.make_node(operator, names, results.split(), name=f"{operator.lower()}_{number}", **extra))
    tensors = []
    for name, value in (constants or {}).items():
        array = np.asarray(value)
        tensors.append(numpy_helper.from_array(array.astype(kind) if array.dtype.kind == "f" else array, name))
    graph = helper.make_graph(
        built,
        "tiny",
        [helper.make_tensor_value_info("x", TYPES[kind], shape)],
        [helper.make_tensor_value_info(name, TYPES[kind], None) for name in outputs.split()],
        tensors,
    )
    versions = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=versions, ir_version=options.pop("ir_version", 8), **options)


def save(proto: onnx.ModelProto, folder: Path) -> Path:
    """Write a model and return where."""
    path = folder / "tiny.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def session(path: Path, *, optimised: bool = False) -> ort.InferenceSession:
    """Return onnxruntime's view of a file, node by node unless optimised."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def assert_agrees(path: Path, kind: type = np.float32, samples: int = 6, scale: float = 3.0) -> None:
    """Fail unless onnxruntime stays within the computed rounding bound of what was read."""
    network = read_onnx(path)
    runtime = session(path)
    (source,) = runtime.get_inputs()
    shape = [n if isinstance(n, int) else 1 for n in source.shape]
    random = np.random.default_rng(7)
    for _ in range(samples):
        x = np.asarray(scale * random.standard_normal(shape), kind)
        (y,) = runtime.run(None, {source.name: x})
        assert_within(network, x, y, kind)
        assert_in_band(network, x, y, kind)


def assert_in_band(network: Network, x: Any, y: Any, kind: type) -> None:
    """Fail unless what a runtime computed is an execution of the deployed network, where that exists."""
    semantics = named(kind.__name__)
    if network.only_real:
        return
    assert network.format == semantics.name
    point = np.asarray(x, np.float64).ravel()
    net = deployed(network, semantics)
    assert overflow(net, Interval(point, point)) == ""
    found = layer_inputs(net, Interval(point, point), Bounds(()))[-1]
    values = np.asarray(y, np.float64).ravel()
    assert ((found.lower <= values) & (values <= found.upper)).all()
