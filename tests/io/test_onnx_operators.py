"""Every ONNX operator against onnxruntime, within the rounding bound that the lowered network implies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from optverify.io.onnx_operators import OPERATORS
from tests.io.models import NodeSpec, assert_agrees, model, save

RANDOM = np.random.default_rng(11)


def normal(*shape: int) -> Any:
    """Return random numbers that float32 holds."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Any:
    """Return integer constants."""
    return np.array(values, np.int64)


IMAGE = (1, 4, 6, 5)
SIGNAL = (1, 3, 11)
CHANNELS = {"gamma": normal(4), "beta": normal(4), "mean": normal(4), "variance": abs(normal(4)) + 0.1}
NORM = "x gamma beta mean variance"

Case = tuple[list[NodeSpec], tuple[Any, ...], dict[str, Any], int]

CASES: dict[str, Case] = {
    # products
    "matmul": ([("MatMul", "x w", "y")], (1, 4), {"w": normal(4, 3)}, 13),
    "matmul vector": ([("MatMul", "x w", "y")], (1, 4), {"w": normal(4)}, 13),
    "matmul from the left": ([("MatMul", "w x", "y")], (5, 2), {"w": normal(4, 5)}, 13),
    "matmul vector from the left": ([("MatMul", "w x", "y")], (5, 2), {"w": normal(5)}, 13),
    "matmul stack": ([("MatMul", "x w", "y")], (2, 3, 4), {"w": normal(2, 4, 2)}, 13),
    "matmul rows": ([("MatMul", "x w", "y")], (1, 3, 4), {"w": normal(4, 2)}, 13),
    "matmul many rows": (
        [("MatMul", "x w", "z"), ("Add", "z b", "y")],
        (1, 7, 4),
        {"w": normal(4, 2), "b": normal(2)},
        13,
    ),
    "gemm many rows": ([("Gemm", "x w b", "y")], (7, 4), {"w": normal(4, 2), "b": normal(7, 1)}, 13),
    "matmul stack from the left": ([("MatMul", "w x", "y")], (3, 4), {"w": normal(2, 5, 3)}, 13),
    "matmul add": ([("MatMul", "x w", "z"), ("Add", "z b", "y")], (1, 4), {"w": normal(4, 3), "b": normal(3)}, 13),
    "matmul sub": ([("MatMul", "x w", "z"), ("Sub", "z b", "y")], (1, 4), {"w": normal(4, 3), "b": normal(3)}, 13),
    "matmul add rows": (
        [("MatMul", "x w", "z"), ("Add", "b z", "y")],
        (1, 4),
        {"w": normal(4, 3), "b": normal(2, 1)},
        13,
    ),
    "matmul add transposed": (
        [("MatMul", "x w", "z"), ("Transpose", "z", "t"), ("Add", "t b", "y")],
        (2, 4),
        {"w": normal(4, 3), "b": normal(3, 1)},
        13,
    ),
    "gemm": ([("Gemm", "x w b", "y")], (1, 4), {"w": normal(4, 3), "b": normal(3)}, 13),
    "gemm without c": ([("Gemm", "x w", "y")], (1, 4), {"w": normal(4, 3)}, 13),
    "gemm scaled": (
        [("Gemm", "x w b", "y", {"alpha": 0.3, "beta": 1.7, "transB": 1})],
        (2, 4),
        {"w": normal(3, 4), "b": normal(2, 1)},
        13,
    ),
    "gemm transposed": (
        [("Gemm", "x w b", "y", {"transA": 1, "beta": 0.5})],
        (4, 2),
        {"w": normal(4, 3), "b": normal(1)},
        13,
    ),
    "gemm from the left": (
        [("Gemm", "w x b", "y", {"transA": 1, "transB": 1})],
        (2, 4),
        {"w": normal(4, 3), "b": normal(3, 2)},
        13,
    ),
    "gemm variable c": ([("Gemm", "x w x", "y", {"beta": 0.3})], (2, 4), {"w": normal(4, 4)}, 13),
    "gemm variable c from the left": ([("Gemm", "w x x", "y")], (3, 2), {"w": normal(3, 3)}, 13),
    # arithmetic
    "add constant": ([("Add", "x c", "y")], (1, 4), {"c": normal(3, 4)}, 13),
    "add": ([("Relu", "x", "r"), ("Add", "x r", "y")], (1, 4), {}, 13),
    "add itself": ([("Add", "x x", "y")], (1, 4), {}, 13),
    "add zero": ([("Add", "x c", "y")], (1, 4), {"c": np.zeros(4)}, 13),
    "sub constant": ([("Sub", "x c", "y")], (1, 4), {"c": normal(4)}, 13),
    "sub from constant": ([("Sub", "c x", "y")], (1, 4), {"c": normal(4)}, 13),
    "sub": ([("Relu", "x", "r"), ("Sub", "x r", "y")], (1, 4), {}, 13),
    "sub itself": ([("Sub", "x x", "y")], (1, 4), {}, 13),
    "sub broadcast": ([("Transpose", "x", "t"), ("Sub", "x t", "y")], (1, 4), {}, 13),
    "mul": ([("Mul", "x c", "y")], (1, 4), {"c": normal(4)}, 13),
    "mul by the right": ([("Mul", "c x", "y")], (1, 4), {"c": normal(3, 1)}, 13),
    "mul add": ([("Mul", "x c", "z"), ("Add", "z d", "y")], (1, 4), {"c": normal(4), "d": normal(4)}, 13),
    "div": ([("Div", "x c", "y")], (1, 4), {"c": normal(4)}, 13),
    "div by powers of two": ([("Div", "x c", "y")], (1, 4), {"c": np.array([2.0, -4.0, 0.5, 1.0])}, 13),
    "normalise": (
        [("Sub", "x m", "z"), ("Div", "z s", "y")],
        (1, 4),
        {"m": normal(4), "s": abs(normal(4)) + 0.5},
        13,
    ),
    "neg": ([("Neg", "x", "y")], (1, 4), {}, 13),
    "sum": ([("Relu", "x", "r"), ("Sum", "x r c x", "y")], (1, 4), {"c": normal(2, 4)}, 13),
    "sum of one": ([("Sum", "x", "y")], (1, 4), {}, 13),
    "sum of two": ([("Sum", "x c", "y")], (1, 4), {"c": normal(4)}, 13),
    "constant arithmetic": (
        [("Mul", "a b", "c"), ("Div", "c b", "d"), ("Sub", "d a", "e"), ("Add", "x e", "z"), ("Add", "z c", "y")],
        (1, 2),
        {"a": np.array([1.5, -3.0]), "b": np.array([0.25, 7.0])},
        13,
    ),
    "rounded constant arithmetic": (
        [("Mul", "a b", "c"), ("Add", "c a", "d"), ("Div", "d b", "e"), ("Add", "x e", "y")],
        (1, 2),
        {"a": normal(2), "b": normal(2)},
        13,
    ),
    # sums over axes
    "reduce sum": ([("ReduceSum", "x axes", "y")], IMAGE, {"axes": ints(1, -1)}, 13),
    "reduce sum of all": ([("ReduceSum", "x", "y", {"keepdims": 0})], (1, 3, 2), {}, 13),
    "reduce sum of none": ([("ReduceSum", "x", "y", {"noop_with_empty_axes": 1})], (1, 3), {}, 13),
    "reduce sum with attribute": ([("ReduceSum", "x", "y", {"axes": [2], "keepdims": 0})], IMAGE, {}, 11),
    "reduce mean": ([("ReduceMean", "x", "y", {"axes": [-1, 2], "keepdims": 0})], IMAGE, {}, 13),
    "reduce mean of all": ([("ReduceMean", "x", "y")], (1, 3, 2), {}, 13),
    "reduce mean with input": ([("ReduceMean", "x axes", "y")], IMAGE, {"axes": ints(1)}, 18),
    "reduce mean of one": ([("ReduceMean", "x axes", "y")], (1, 1, 3), {"axes": ints(1)}, 18),
    # convolutions
    "conv": ([("Conv", "x w b", "y")], IMAGE, {"w": normal(3, 4, 3, 2), "b": normal(3)}, 13),
    "conv without bias": ([("Conv", "x w", "y")], IMAGE, {"w": normal(3, 4, 3, 3)}, 13),
    "conv then add": (
        [("Conv", "x w", "z"), ("Add", "z b", "y")],
        IMAGE,
        {"w": normal(3, 4, 1, 1), "b": normal(3, 1, 1)},
        13,
    ),
    "conv padded and strided": (
        [("Conv", "x w b", "y", {"pads": [1, 2, 0, 1], "strides": [2, 3]})],
        IMAGE,
        {"w": normal(3, 4, 3, 3), "b": normal(3)},
        13,
    ),
    "conv grouped and dilated": (
        [("Conv", "x w b", "y", {"group": 2, "dilations": [2, 1], "pads": [1, 1, 1, 1]})],
        IMAGE,
        {"w": normal(6, 2, 3, 3), "b": normal(6)},
        13,
    ),
    "conv depthwise": ([("Conv", "x w", "y", {"group": 4})], IMAGE, {"w": normal(8, 1, 2, 2)}, 13),
    "conv same upper": (
        [("Conv", "x w", "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        IMAGE,
        {"w": normal(2, 4, 3, 2)},
        13,
    ),
    "conv same lower": (
        [("Conv", "x w", "y", {"auto_pad": "SAME_LOWER", "strides": [1, 2]})],
        IMAGE,
        {"w": normal(2, 4, 2, 4)},
        13,
    ),
    "conv valid": (
        [("Conv", "x w", "y", {"auto_pad": "VALID", "strides": [3, 2]})],
        IMAGE,
        {"w": normal(2, 4, 2, 2)},
        13,
    ),
    "conv of a line": (
        [("Conv", "x w b", "y", {"pads": [2, 1], "dilations": [2]})],
        SIGNAL,
        {"w": normal(2, 3, 3), "b": normal(2)},
        13,
    ),
    "conv of a volume": ([("Conv", "x w", "y")], (1, 2, 3, 4, 3), {"w": normal(2, 2, 2, 3, 2)}, 13),
    "conv of two samples": ([("Conv", "x w", "y")], (2, 2, 3, 4), {"w": normal(2, 2, 2, 3)}, 13),
    # normalisation
    "batch norm": ([("BatchNormalization", NORM, "y")], IMAGE, CHANNELS, 13),
    "batch norm of a vector": ([("BatchNormalization", NORM, "y", {"epsilon": 0.03})], (2, 4), CHANNELS, 15),
    "conv then batch norm": (
        [("Conv", "x w", "z"), ("BatchNormalization", "z gamma beta mean variance", "y")],
        IMAGE,
        {"w": normal(4, 4, 2, 2), **CHANNELS},
        9,
    ),
    # pooling
    "average pool": ([("AveragePool", "x", "y", {"kernel_shape": [2, 3]})], IMAGE, {}, 13),
    "average pool padded": (
        [("AveragePool", "x", "y", {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 2]})],
        IMAGE,
        {},
        13,
    ),
    "average pool counting padding": (
        [("AveragePool", "x", "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1})],
        IMAGE,
        {},
        13,
    ),
    "average pool same": (
        [("AveragePool", "x", "y", {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]})],
        IMAGE,
        {},
        13,
    ),
    "average pool ceil": (
        [("AveragePool", "x", "y", {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]})],
        IMAGE,
        {},
        19,
    ),
    "average pool ceil counting padding": (
        [
            (
                "AveragePool",
                "x",
                "y",
                {
                    "kernel_shape": [3, 3],
                    "ceil_mode": 1,
                    "strides": [2, 3],
                    "pads": [1, 1, 1, 1],
                    "count_include_pad": 1,
                },
            )
        ],
        IMAGE,
        {},
        19,
    ),
    "average pool dilated": ([("AveragePool", "x", "y", {"kernel_shape": [2, 2], "dilations": [3, 2]})], IMAGE, {}, 19),
    "average pool of one": ([("AveragePool", "x", "y", {"kernel_shape": [1, 1], "strides": [2, 2]})], IMAGE, {}, 13),
    "average pool of a line": ([("AveragePool", "x", "y", {"kernel_shape": [4], "strides": [3]})], SIGNAL, {}, 13),
    "global average pool": ([("GlobalAveragePool", "x", "y")], IMAGE, {}, 13),
    "max pool": ([("MaxPool", "x", "y", {"kernel_shape": [2, 2], "strides": [2, 2]})], IMAGE, {}, 13),
    "max pool overlapping": (
        [("MaxPool", "x", "y", {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 0, 1, 1]})],
        IMAGE,
        {},
        13,
    ),
    "max pool same lower": ([("MaxPool", "x", "y", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"})], IMAGE, {}, 13),
    "max pool ceil": (
        [("MaxPool", "x", "y", {"kernel_shape": [3, 3], "ceil_mode": 1, "strides": [2, 2]})],
        IMAGE,
        {},
        13,
    ),
    "max pool dilated": ([("MaxPool", "x", "y", {"kernel_shape": [2, 2], "dilations": [2, 3]})], IMAGE, {}, 13),
    "max pool of a line": ([("MaxPool", "x", "y", {"kernel_shape": [5], "strides": [2]})], SIGNAL, {}, 13),
    "max pool of padding": (
        [
            ("Relu", "x", "r"),
            ("Pad", "r pads", "p"),
            ("MaxPool", "p", "y", {"kernel_shape": [2, 2]}),
        ],
        (1, 1, 3, 3),
        {"pads": ints(0, 0, 1, 0, 0, 0, 0, 1)},
        13,
    ),
    "global max pool": ([("GlobalMaxPool", "x", "y")], (1, 2, 3, 3), {}, 13),
    # piecewise linear
    "relu": ([("Relu", "x", "y")], (1, 4), {}, 13),
    "relu twice": ([("Relu", "x", "r"), ("Relu", "r", "y")], (1, 4), {}, 13),
    "leaky relu": ([("LeakyRelu", "x", "y")], (1, 4), {}, 13),
    "leaky relu steep": ([("LeakyRelu", "x", "y", {"alpha": 1.3})], (1, 4), {}, 13),
    "leaky relu falling": ([("LeakyRelu", "x", "y", {"alpha": -0.7})], (1, 4), {}, 13),
    "leaky relu of rectified": ([("Relu", "x", "r"), ("LeakyRelu", "r", "y")], (1, 4), {}, 13),
    "prelu": ([("PRelu", "x s", "y")], IMAGE, {"s": normal(4, 1, 1)}, 13),
    "prelu shared": ([("PRelu", "x s", "y")], (1, 4), {"s": normal(1)}, 9),
    "abs": ([("Abs", "x", "y")], (1, 4), {}, 13),
    "abs of rectified": ([("Relu", "x", "r"), ("Abs", "r", "y")], (1, 4), {}, 13),
    "clip": ([("Clip", "x lo hi", "y")], (1, 4), {"lo": np.array(-0.3), "hi": np.array(1.1)}, 13),
    "clip below": ([("Clip", "x lo", "y")], (1, 4), {"lo": np.array(0.0)}, 13),
    "clip above": ([("Clip", "x - hi", "y")], (1, 4), {"hi": np.array(0.7)}, 13),
    "clip at nothing": ([("Clip", "x", "y")], (1, 4), {}, 13),
    "clip at infinity": ([("Clip", "x lo hi", "y")], (1, 4), {"lo": np.array(-np.inf), "hi": np.array(np.inf)}, 13),
    "clip crossed": ([("Clip", "x lo hi", "y")], (1, 4), {"lo": np.array(1.0), "hi": np.array(-1.0)}, 13),
    "clip with attributes": ([("Clip", "x", "y", {"min": -0.5, "max": 6.0})], (1, 4), {}, 9),
    "clip with one attribute": ([("Clip", "x", "y", {"max": 0.25})], (1, 4), {}, 7),
    "max": ([("Neg", "x", "n"), ("Max", "x n", "y")], (1, 4), {}, 13),
    "max of many": ([("Neg", "x", "n"), ("Max", "x c n d", "y")], (1, 4), {"c": normal(4), "d": normal(2, 1)}, 13),
    "max of one": ([("Max", "x", "y")], (1, 4), {}, 13),
    "min": ([("Neg", "x", "n"), ("Min", "x n", "y")], (1, 4), {}, 13),
    "min of many": ([("Neg", "x", "n"), ("Min", "c x n", "y")], (1, 4), {"c": normal(4)}, 13),
    "min broadcast": ([("Transpose", "x", "t"), ("Min", "x t", "y")], (1, 3), {}, 13),
    "hard sigmoid": ([("HardSigmoid", "x", "y")], (1, 4), {}, 13),
    "hard sigmoid with attributes": ([("HardSigmoid", "x", "y", {"alpha": 0.7, "beta": 0.1})], (1, 4), {}, 13),
    # arrangement
    "flatten": ([("Flatten", "x", "f"), ("MatMul", "f w", "y")], IMAGE, {"w": normal(120, 2)}, 13),
    "flatten elsewhere": (
        [("Flatten", "x", "f", {"axis": -1}), ("MatMul", "f w", "y")],
        (1, 3, 2),
        {"w": normal(2, 2)},
        13,
    ),
    "flatten after all": ([("Flatten", "x", "f", {"axis": 2}), ("Add", "f x", "y")], (1, 3), {}, 13),
    "reshape": (
        [("Reshape", "x s", "r"), ("MatMul", "r w", "y")],
        (1, 6),
        {"s": ints(0, -1, 2), "w": normal(2, 2)},
        13,
    ),
    "reshape by shape arithmetic": (
        [
            ("Shape", "x", "s"),
            ("Gather", "s zero", "n"),
            ("Unsqueeze", "n axes", "u"),
            ("Concat", "u rest", "t", {"axis": 0}),
            ("Reshape", "x t", "r"),
            ("MatMul", "r w", "y"),
        ],
        (1, 2, 3),
        {"zero": np.array(0), "axes": ints(0), "rest": ints(-1), "w": normal(6, 2)},
        13,
    ),
    "transpose": (
        [("Transpose", "x", "t", {"perm": [0, 2, 1]}), ("MatMul", "t w", "y")],
        (1, 2, 3),
        {"w": normal(2, 2)},
        13,
    ),
    "transpose a constant": ([("Transpose", "w", "t"), ("MatMul", "x t", "y")], (1, 3), {"w": normal(2, 3)}, 13),
    "squeeze": (
        [("Squeeze", "x axes", "s"), ("MatMul", "s w", "y")],
        (1, 1, 3),
        {"axes": ints(1), "w": normal(3, 2)},
        13,
    ),
    "squeeze everything": ([("Squeeze", "x", "s"), ("MatMul", "s w", "y")], (1, 1, 3), {"w": normal(3, 2)}, 13),
    "squeeze with attribute": (
        [("Squeeze", "x", "s", {"axes": [-2]}), ("MatMul", "s w", "y")],
        (1, 1, 3),
        {"w": normal(3, 2)},
        11,
    ),
    "unsqueeze": (
        [("Unsqueeze", "x axes", "u"), ("Add", "u c", "y")],
        (2, 3),
        {"axes": ints(1, -1), "c": normal(2, 1, 3, 2)},
        13,
    ),
    "unsqueeze with attribute": (
        [("Unsqueeze", "x", "u", {"axes": [0]}), ("Add", "u c", "y")],
        (2, 3),
        {"c": normal(2, 2, 3)},
        11,
    ),
    "concat": (
        [("Relu", "x", "r"), ("Concat", "x r x", "c", {"axis": 1}), ("MatMul", "c w", "y")],
        (1, 3),
        {"w": normal(9, 2)},
        13,
    ),
    "concat a constant": (
        [("Concat", "c x", "z", {"axis": -1}), ("MatMul", "z w", "y")],
        (1, 3),
        {"c": np.array([[0.0, 2.5]]), "w": normal(5, 2)},
        13,
    ),
    "slice": (
        [("Slice", "x s e a t", "y")],
        (1, 4, 7),
        {"s": ints(1, -1), "e": ints(3, -9), "a": ints(1, 2), "t": ints(1, -2)},
        13,
    ),
    "slice far": ([("Slice", "x s e", "y")], (1, 4, 7), {"s": ints(0, 2, -3), "e": ints(2**31 - 1, 2**62, 100)}, 13),
    "slice backwards": (
        [("Slice", "x s e a t", "y")],
        (1, 9),
        {"s": ints(100), "e": ints(-(2**62)), "a": ints(-1), "t": ints(-4)},
        13,
    ),
    "slice with attributes": ([("Slice", "x", "y", {"starts": [1], "ends": [-1], "axes": [2]})], (1, 4, 7), {}, 9),
    "split": (
        [("Split", "x s", "a b", {"axis": 1}), ("MatMul", "a w", "z"), ("Add", "z b", "y")],
        (1, 7),
        {"s": ints(4, 3), "w": normal(4, 3)},
        13,
    ),
    "split evenly": ([("Split", "x", "a b", {"axis": -1}), ("Max", "a b", "y")], (1, 6), {}, 13),
    "split with attribute": (
        [("Split", "x", "a b", {"axis": 1, "split": [1, 5]}), ("Add", "a b", "y")],
        (1, 6),
        {},
        11,
    ),
    "split by number": (
        [("Split", "x", "a b c", {"axis": 1, "num_outputs": 3}), ("Add", "a b", "z"), ("Add", "z c", "y")],
        (1, 7),
        {},
        18,
    ),
    "gather": (
        [("Gather", "x i", "g", {"axis": 1}), ("MatMul", "g w", "y")],
        (1, 4),
        {"i": ints(2, -1, 2), "w": normal(3, 2)},
        13,
    ),
    "gather one": ([("Gather", "x i", "y", {"axis": -1})], (1, 4, 3), {"i": np.array(1)}, 13),
    "gather a table": ([("Gather", "x i", "y", {"axis": 1})], (1, 4), {"i": np.array([[0, 3], [1, 1]])}, 13),
    "pad": (
        [("Pad", "x p", "z"), ("Conv", "z w", "y")],
        IMAGE,
        {"p": ints(0, 0, 1, 2, 0, 0, 0, 1), "w": normal(2, 4, 3, 3)},
        13,
    ),
    "pad with a value": ([("Pad", "x p v", "y")], (1, 3), {"p": ints(0, 1, 0, 2), "v": np.array(-0.75)}, 13),
    "pad some axes": ([("Pad", "x p - a", "y")], (1, 3, 2), {"p": ints(1, 2), "a": ints(-1)}, 18),
    "pad negatively": ([("Pad", "x p", "y")], (1, 5), {"p": ints(0, -1, 0, 2)}, 13),
    "pad by reflection": ([("Pad", "x p", "y", {"mode": "reflect"})], (1, 5), {"p": ints(0, 2, 0, 1)}, 13),
    "pad by the edge": ([("Pad", "x p", "y", {"mode": "edge"})], (1, 5), {"p": ints(0, 2, 0, 1)}, 13),
    "pad by wrapping": ([("Pad", "x p", "y", {"mode": "wrap"})], (1, 5), {"p": ints(0, 2, 0, 1)}, 19),
    "pad with attributes": ([("Pad", "x", "y", {"pads": [0, 1, 0, 0], "value": 3.5})], (1, 3), {}, 10),
    "identity": ([("Identity", "x", "z"), ("Identity", "z", "y")], (1, 3), {}, 13),
    "expand": ([("Expand", "x s", "y")], (1, 3), {"s": ints(2, 1, 1)}, 13),
    "dropout": ([("Dropout", "x", "y mask")], (1, 3), {}, 13),
    "dropout with inputs": (
        [("Dropout", "x ratio no", "y")],
        (1, 3),
        {"ratio": np.array(0.5), "no": np.array(False)},
        13,
    ),
    "dropout with attribute": ([("Dropout", "x", "y", {"ratio": 0.3})], (1, 3), {}, 7),
    "cast there and back": (
        [
            ("Cast", "x", "d", {"to": TensorProto.DOUBLE}),
            ("Cast", "d", "z", {"to": TensorProto.FLOAT}),
            ("Neg", "z", "y"),
        ],
        (1, 3),
        {},
        13,
    ),
    "constant": (
        [
            ("Constant", "", "c", {"value": helper.make_tensor("c", TensorProto.FLOAT, [2], [0.5, -1.5])}),
            ("Constant", "", "f", {"value_float": 0.3}),
            ("Constant", "", "v", {"value_floats": [0.3, 0.1]}),
            ("Constant", "", "i", {"value_ints": [1, 2]}),
            ("Constant", "", "k", {"value_int": 1}),
            ("Gather", "i k", "g"),
            ("Cast", "g", "h", {"to": TensorProto.FLOAT}),
            ("Add", "x c", "p"),
            ("Mul", "p f", "q"),
            ("Max", "q v", "r"),
            ("Reshape", "r i", "s"),
            ("Mul", "s h", "y"),
        ],
        (1, 2),
        {},
        13,
    ),
    "constant of shape": (
        [
            ("Shape", "x", "s"),
            ("ConstantOfShape", "s", "c", {"value": helper.make_tensor("c", TensorProto.FLOAT, [1], [1.5])}),
            ("ConstantOfShape", "s", "d"),
            ("Add", "x c", "z"),
            ("Sub", "z d", "y"),
        ],
        (1, 2),
        {},
        13,
    ),
    "part of a shape": (
        [("Shape", "x", "s", {"start": 1, "end": -1}), ("ConstantOfShape", "s", "c"), ("Add", "x c", "y")],
        (1, 3, 3),
        {},
        15,
    ),
    "functions of constants": (
        [
            ("Relu", "c", "r"),
            ("Neg", "r", "n"),
            ("Abs", "n", "a"),
            ("Clip", "a lo hi", "k"),
            ("Max", "k c", "m"),
            ("Min", "m hi", "q"),
            ("Add", "x q", "y"),
        ],
        (1, 4),
        {"c": normal(4), "lo": np.array(0.2), "hi": np.array(0.9)},
        13,
    ),
    # whole networks
    "residual": (
        [
            ("Conv", "x w b", "z", {"pads": [1, 1, 1, 1]}),
            ("BatchNormalization", "z gamma beta mean variance", "n"),
            ("Relu", "n", "r"),
            ("Conv", "r v", "s", {"pads": [1, 1, 1, 1]}),
            ("Add", "s x", "t"),
            ("Relu", "t", "u"),
            ("GlobalAveragePool", "u", "g"),
            ("Flatten", "g", "f"),
            ("Gemm", "f m", "y"),
        ],
        IMAGE,
        {"w": normal(4, 4, 3, 3), "b": normal(4), "v": normal(4, 4, 3, 3), "m": normal(4, 3), **CHANNELS},
        13,
    ),
    "same value as it is and rectified": (
        [("MatMul", "x w", "z"), ("Relu", "z", "r"), ("Add", "z r", "s"), ("LeakyRelu", "s", "y")],
        (1, 3),
        {"w": normal(3, 3)},
        13,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operator_agrees_with_onnxruntime(name: str, tmp_path: Path) -> None:
    """Each operator, with each of its forms, is what onnxruntime computes, up to counted roundings."""
    nodes, shape, constants, opset = CASES[name]
    assert_agrees(save(model(nodes, shape, constants, opset), tmp_path))


def test_every_operator_has_a_case() -> None:
    """Whoever adds an operator adds a tiny network for it."""
    tried = {node[0] for nodes, *_ in CASES.values() for node in nodes}
    assert tried == set(OPERATORS)


# onnxruntime has these for float32 only, or the case says float32 itself.
SINGLE_ONLY = {
    *("Conv", "BatchNormalization", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    *("LeakyRelu", "PRelu", "HardSigmoid", "Cast", "Constant", "ConstantOfShape"),
}
OLD_CLIP = {name for name, (nodes, *_, opset) in CASES.items() if opset < 11 and nodes[0][0] == "Clip"}
DOUBLE = [name for name, (nodes, *_) in CASES.items() if not SINGLE_ONLY & {node[0] for node in nodes}]


@pytest.mark.parametrize("name", sorted(set(DOUBLE) - OLD_CLIP))
def test_operator_agrees_in_double_precision(name: str, tmp_path: Path) -> None:
    """In double precision the same count of roundings leaves no room for a coefficient that is a little wrong."""
    nodes, shape, constants, opset = CASES[name]
    assert_agrees(save(model(nodes, shape, constants, opset, np.float64), tmp_path), np.float64)
