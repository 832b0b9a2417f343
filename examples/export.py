"""Multilayer perceptrons as NumPy functions and as ONNX files."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Layers = list[tuple[Array, Array]]


@dataclass(frozen=True)
class Network:
    """ReLU between the layers, none after the last.

    Parameters
    ----------
    layers : list of (weight, bias)
        weight is (outputs, inputs); applied to ``(x - mean) / scale``.
    mean, scale : arrays, optional
        Input normalisation.
    clip : (float, float), optional
        Limits of every output.
    """

    layers: Layers
    mean: Array | None = None
    scale: Array | None = None
    clip: tuple[float, float] | None = None

    def __call__(self, inputs: ArrayLike) -> Array:
        """Evaluate the network at the rows of inputs."""
        x = np.asarray(inputs, np.float32)
        if self.mean is not None and self.scale is not None:
            x = (x - self.mean) / self.scale
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, np.float32(0))
        weight, bias = self.layers[-1]
        x = x @ weight.T + bias
        return x if self.clip is None else x.clip(*self.clip)

    def folded(self) -> Network:
        """Merge the normalisation into the first layer."""
        if self.mean is None or self.scale is None:
            return self
        (weight, bias), *rest = self.layers
        wide = weight.astype(np.float64) / self.scale
        first = (wide.astype(np.float32), (bias - wide @ self.mean).astype(np.float32))
        return replace(self, layers=[first, *rest], mean=None, scale=None)


def to_onnx(
    network: Network, name: str, style: Literal["gemm", "matmul"] = "gemm", batch: int | str = 1
) -> onnx.ModelProto:
    """Build the graph X -> Y.

    Parameters
    ----------
    network : Network
        What to write; its normalisation becomes Sub and Div, its limits become Clip.
    name : str
        Name of the graph.
    style : {"gemm", "matmul"}
        One Gemm for each layer, or MatMul followed by Add.
    batch : int or str
        First dimension of X and Y; a string leaves it open.
    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    current = "X"

    def constant(label: str, value: ArrayLike) -> str:
        constants.append(numpy_helper.from_array(np.array(value, np.float32), label))
        return label

    def step(operator: str, label: str, *operands: str, **attributes: Any) -> None:
        nonlocal current
        nodes.append(helper.make_node(operator, [current, *operands], [label], name=label, **attributes))
        current = label

    if network.mean is not None and network.scale is not None:
        step("Sub", "centred", constant("mean", network.mean))
        step("Div", "normalised", constant("scale", network.scale))
    for i, (weight, bias) in enumerate(network.layers, start=1):
        if style == "gemm":
            step("Gemm", f"affine{i}", constant(f"W{i}", weight), constant(f"b{i}", bias), transB=1)
        else:
            step("MatMul", f"product{i}", constant(f"W{i}", weight.T))
            step("Add", f"affine{i}", constant(f"b{i}", bias))
        if i < len(network.layers):
            step("Relu", f"relu{i}")
    if network.clip is not None:
        low, high = network.clip
        step("Clip", "clipped", constant("low", low), constant("high", high))
    nodes[-1].output[0] = "Y"

    sizes = {"X": network.layers[0][0].shape[1], "Y": network.layers[-1][0].shape[0]}
    x, y = (helper.make_tensor_value_info(k, TensorProto.FLOAT, [batch, n]) for k, n in sizes.items())
    graph = helper.make_graph(nodes, name, [x], [y], constants)
    # Old enough for every runtime in use, recent enough for Clip with its limits as inputs.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write the file completely or not at all."""
    with NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".tmp", delete=False) as file:
        file.write(model.SerializeToString(deterministic=True))
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
