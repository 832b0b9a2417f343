"""What each ONNX operator means: one small function an operator, in :data:`OPERATORS`.

A function takes a :class:`Node` and returns its outputs. It never sees ONNX's own classes, so this file
needs no ``onnx``. Differences between opsets (attributes that became inputs) are settled by which of the
two is there: the checker has made sure that the node obeys its opset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError, ShapeError
from optverify.io import tensors as tn
from optverify.io.exactness import exact_multiply
from optverify.io.lowering import Builder
from optverify.io.schedule import ZERO, Ids
from optverify.io.tensors import NotLowered, Tensor
from optverify.io.windows import Window, average_pool, convolution, max_pool

FORMATS = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16"}
"""The element types that are read, by ONNX's numbers."""


@dataclass(frozen=True, eq=False)
class Node:
    """An operator with its operands.

    Parameters
    ----------
    build : Builder
    attributes : dict
        Decoded: numbers, strings, lists, and tensors as :class:`Tensor`.
    inputs : tuple of Tensor or None
        None for an optional input that is left out.
    outputs : int
        Number of outputs that are named.
    """

    build: Builder
    attributes: dict[str, Any]
    inputs: tuple[Tensor | None, ...]
    outputs: int

    def optional(self, position: int) -> Tensor | None:
        """Return an input, or None."""
        return self.inputs[position] if position < len(self.inputs) else None

    def tensor(self, position: int) -> Tensor:
        """Return an input that must be there."""
        tensor = self.optional(position)
        if tensor is None:
            raise InputError(f"input {position} is missing")
        return tensor

    def variable(self, position: int) -> tuple[Tensor, Ids]:
        """Return an input and its coordinates."""
        tensor = self.tensor(position)
        return tensor, tn.coordinates(self.build, tensor)

    def integers(self, attribute: str, position: int) -> list[int] | None:
        """Return integers from an attribute or else from an input, None where both are missing."""
        if attribute in self.attributes:
            return [int(n) for n in np.ravel(self.attributes[attribute])]
        tensor = self.optional(position)
        return None if tensor is None else tensor.integers()

    def number(self, attribute: str, default: float) -> float:
        """Return a finite number; defaults are the float32 that ONNX says."""
        value = float(self.attributes.get(attribute, np.float32(default)))
        if not np.isfinite(value):
            raise InputError(f"attribute {attribute!r} is {value}: only finite numbers can be used")
        return value

    def flag(self, attribute: str) -> bool:
        """Return a 0/1 attribute that is 0 by default."""
        return bool(self.attributes.get(attribute, 0))


Result = Tensor | Sequence[Tensor]
OPERATORS: dict[str, Callable[[Node], Result]] = {}
"""All supported operators of the default domain."""


def operator(*names: str) -> Callable[[Callable[[Node], Result]], Callable[[Node], Result]]:
    """Enter a function into the registry."""

    def enter(function: Callable[[Node], Result]) -> Callable[[Node], Result]:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return enter


SMOOTH = "it is not piecewise linear"
REASONS = {
    "ConvTranspose": "transposed convolutions are not supported",
    "Upsample": "resampling is not supported",
    "Resize": "resampling is not supported",
    "Softmax": f"{SMOOTH}; cut the network before it, which keeps the order of the scores",
    "LogSoftmax": f"{SMOOTH}; cut the network before it, which keeps the order of the scores",
    **dict.fromkeys(["Sigmoid", "Tanh", "Elu", "Selu", "Gelu", "Softplus", "Exp", "Erf", "Sqrt", "Pow"], SMOOTH),
    **dict.fromkeys(["If", "Loop", "Scan"], "control flow is not supported; export the network without it"),
}
"""Why some operators are refused, where there is more to say than that they are not supported."""


# ---------------------------------------------------------------------- arithmetic


@operator("Add")
def _add(node: Node) -> Result:
    return tn.add(node.build, node.tensor(0), node.tensor(1))


@operator("Sub")
def _subtract(node: Node) -> Result:
    return tn.add(node.build, node.tensor(0), node.tensor(1), -1.0)


@operator("Mul")
def _multiply(node: Node) -> Result:
    return tn.multiply(node.build, node.tensor(0), node.tensor(1))


@operator("Div")
def _divide(node: Node) -> Result:
    return tn.divide(node.build, node.tensor(0), node.tensor(1))


@operator("Sum")
def _sum(node: Node) -> Result:
    operands = [node.tensor(i) for i in range(len(node.inputs))]
    if len(operands) < 3:
        return operands[0] if len(operands) == 1 else tn.add(node.build, operands[0], operands[1])
    ids = [tn.coordinates(node.build, t) for t in operands]  # one step, as any order of summation is allowed
    return tn.float_result(node.build.add(ids), *operands)


@operator("MatMul")
def _matmul(node: Node) -> Result:
    return tn.matmul(node.build, node.tensor(0), node.tensor(1))


@operator("Gemm")
def _gemm(node: Node) -> Result:
    """Return alpha A B + beta C, with the roundings of both scalings, in any order: one step."""
    a, b, c = node.tensor(0), node.tensor(1), node.optional(2)
    if a.symbolic and b.symbolic:
        raise NotLowered("a product of two values that both depend on the input is not piecewise linear")
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    left = a.array.T if node.flag("transA") else a.array
    right = b.array.T if node.flag("transB") else b.array
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ShapeError(f"a product of shapes {left.shape} and {right.shape} does not exist")
    shape = (left.shape[0], right.shape[1])
    addend = None if c is None else np.broadcast_to(c.array, shape)
    flipped = b.symbolic  # then A B = (B' A')'
    if flipped:
        rows, weight, addend = right.T, left, None if addend is None else addend.T
    else:
        rows, weight = (a.routed(left), right.T)[0].array, right.T
    variable, fixed = (b, a) if flipped else (a, b)
    rows = tn.coordinates(node.build, variable.routed(rows))
    fixed.numbers()  # finite, or an error that names it
    scaled, exact = exact_multiply(weight, alpha)
    if not exact:
        raise NotLowered("alpha times the weights is not exact in float64; fold alpha into the weights")
    if alpha != 1.0 or (addend is not None and beta != 1.0):
        node.build.only_over_the_reals("a Gemm has an alpha or beta other than 1")
    roundings = rows.shape[1] + (addend is not None) + (alpha != 1.0) + (addend is not None and beta != 1.0)
    if addend is not None and c is not None and c.symbolic:
        both = np.hstack([scaled, beta * np.eye(weight.shape[0])])
        result = tn.linear(node.build, np.hstack([rows, addend]), both, np.zeros(1), roundings)
    else:
        bias = None
        if addend is not None and c is not None:
            c.numbers()
            bias, exact = exact_multiply(addend, beta)
            if not exact:
                raise NotLowered("beta times C is not exact in float64; fold beta into C")
        result = tn.linear(node.build, rows, scaled, bias, roundings)
    return tn.float_result(result.T if flipped else result, variable)


@operator("ReduceSum")
def _reduce_sum(node: Node) -> Result:
    return _reduce(node, mean=False)


@operator("ReduceMean")
def _reduce_mean(node: Node) -> Result:
    return _reduce(node, mean=True)


def _reduce(node: Node, *, mean: bool) -> Result:
    axes = node.integers("axes", 1)
    if not axes and node.flag("noop_with_empty_axes"):
        return node.tensor(0)
    return tn.reduced(node.build, node.tensor(0), axes or None, bool(node.attributes.get("keepdims", 1)), mean=mean)


@operator("BatchNormalization")
def _batch_normalization(node: Node) -> Result:
    if node.flag("training_mode") or node.outputs > 1:
        raise NotLowered("it is in training mode; export the network in evaluation mode")
    if not node.attributes.get("spatial", 1):
        raise NotLowered("only spatial=1 is supported")
    gamma, beta, mean, variance = (node.tensor(i) for i in range(1, 5))
    return tn.batch_norm(node.build, node.tensor(0), gamma, beta, mean, variance, node.number("epsilon", 1e-5))


# ---------------------------------------------------------------------- piecewise linear


@operator("Relu")
def _relu(node: Node) -> Result:
    return tn.mapped(node.tensor(0), lambda x: np.maximum(x, 0), node.build.relu)


@operator("Neg")
def _negative(node: Node) -> Result:
    return tn.mapped(node.tensor(0), np.negative, node.build.negative)


@operator("Abs")
def _absolute(node: Node) -> Result:
    return tn.mapped(node.tensor(0), np.abs, node.build.absolute)


@operator("LeakyRelu")
def _leaky_relu(node: Node) -> Result:
    tensor, ids = node.variable(0)
    return tn.float_result(node.build.leaky(ids, node.number("alpha", 0.01)), tensor)


@operator("PRelu")
def _prelu(node: Node) -> Result:
    tensor, ids = node.variable(0)
    slope = np.broadcast_to(node.tensor(1).numbers(), ids.shape)
    return tn.float_result(node.build.leaky(ids, slope), tensor)


@operator("HardSigmoid")
def _hard_sigmoid(node: Node) -> Result:
    tensor, ids = node.variable(0)
    ramp = node.build.elementwise(node.number("alpha", 0.2), ids, node.number("beta", 0.5), roundings=2)
    return tn.float_result(node.build.clip(ramp, 0.0, 1.0), tensor)


@operator("Clip")
def _clip(node: Node) -> Result:
    lowest, highest = _bound(node, "min", 1, -np.inf), _bound(node, "max", 2, np.inf)
    return tn.clipped(node.build, node.tensor(0), lowest, highest)


def _bound(node: Node, attribute: str, position: int, default: float) -> float:
    tensor = node.optional(position)
    value = np.asarray(node.attributes.get(attribute, default)) if tensor is None else tensor.bounds()
    if value.size != 1:
        raise ShapeError(f"its bound {attribute!r} must be one number, not of shape {value.shape}")
    return float(value.ravel()[0])


@operator("Max")
def _maximum(node: Node) -> Result:
    return tn.largest(node.build, [node.tensor(i) for i in range(len(node.inputs))])


@operator("Min")
def _minimum(node: Node) -> Result:
    return tn.smallest(node.build, [node.tensor(i) for i in range(len(node.inputs))])


# ---------------------------------------------------------------------- windows


@operator("Conv")
def _conv(node: Node) -> Result:
    tensor, ids = node.variable(0)
    weight, bias = node.tensor(1).numbers(), node.optional(2)
    if ids.ndim < 3 or weight.ndim != ids.ndim:
        raise ShapeError(f"a convolution of shape {ids.shape} with a weight of shape {weight.shape} does not exist")
    kernel = tuple(int(n) for n in node.attributes.get("kernel_shape", weight.shape[2:]))
    window = _window(node, ids.shape[2:], kernel, pool=False)
    groups = int(node.attributes.get("group", 1))
    result = convolution(node.build, ids, weight, None if bias is None else bias.numbers(), window, groups)
    return tn.float_result(result, tensor)


@operator("AveragePool")
def _average_pool(node: Node) -> Result:
    tensor, ids = node.variable(0)
    kernel = tuple(int(n) for n in node.attributes["kernel_shape"])
    window = _window(node, ids.shape[2:], kernel, pool=True)
    padding = node.flag("count_include_pad")
    return tn.float_result(average_pool(node.build, ids, window, count_padding=padding), tensor)


@operator("MaxPool")
def _max_pool(node: Node) -> Result:
    tensor, ids = node.variable(0)
    kernel = tuple(int(n) for n in node.attributes["kernel_shape"])
    window = _window(node, ids.shape[2:], kernel, pool=True)
    return tn.float_result(max_pool(node.build, ids, window), tensor)


@operator("GlobalAveragePool")
def _global_average_pool(node: Node) -> Result:
    tensor = node.tensor(0)
    return tn.reduced(node.build, tensor, range(2, tensor.array.ndim), keep=True, mean=True)


@operator("GlobalMaxPool")
def _global_max_pool(node: Node) -> Result:
    tensor, ids = node.variable(0)
    ones, zeros = (1,) * (ids.ndim - 2), (0,) * (ids.ndim - 2)
    return tn.float_result(max_pool(node.build, ids, Window(ids.shape[2:], ones, ones, zeros, zeros)), tensor)


def _window(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...], *, pool: bool) -> Window:
    rank = len(spatial)
    strides = tuple(int(n) for n in node.attributes.get("strides", [1] * rank))
    dilations = tuple(int(n) for n in node.attributes.get("dilations", [1] * rank))
    pads = [int(n) for n in node.attributes.get("pads", [0] * (2 * rank))]
    how = node.attributes.get("auto_pad", "NOTSET")
    if not len(kernel) == len(strides) == len(dilations) == len(pads) / 2 == rank:
        raise ShapeError(f"its kernel, strides, dilations and pads do not fit to {rank} spatial dimensions")
    if how in {"SAME_UPPER", "SAME_LOWER"}:
        if any(d > 1 for d in dilations):
            raise NotLowered(f"auto_pad={how} together with dilations has no agreed meaning; write pads instead")
        needed = [(-(-n // s) - 1) * s + k - n for n, k, s in zip(spatial, kernel, strides, strict=True)]
        if pool and min(needed) < 0:
            # Runtimes disagree on where such windows start; for convolutions they agree on the first entry.
            raise NotLowered(f"auto_pad={how} with windows that leave gaps has no agreed meaning; write pads instead")
        needed = [max(n, 0) for n in needed]
        small, large = [n // 2 for n in needed], [n - n // 2 for n in needed]
        pads = small + large if how == "SAME_UPPER" else large + small
    elif how == "VALID":
        pads = [0] * (2 * rank)
    elif how != "NOTSET":
        raise NotLowered(f"auto_pad={how} does not exist")
    return Window(kernel, strides, dilations, tuple(pads[:rank]), tuple(pads[rank:]), node.flag("ceil_mode"))


# ---------------------------------------------------------------------- arrangement of entries


@operator("Identity")
def _identity(node: Node) -> Result:
    return node.tensor(0)


@operator("Dropout")
def _dropout(node: Node) -> Result:
    training = node.optional(2)
    if training is not None and (training.symbolic or training.array.any()):
        raise NotLowered("it is in training mode; export the network in evaluation mode")
    return node.tensor(0)


@operator("Cast")
def _cast(node: Node) -> Result:
    tensor, target = node.tensor(0), FORMATS.get(int(node.attributes["to"]), "a type that is not read")
    if tensor.symbolic or (tensor.is_float and target in tn.DIGITS_OF):
        return tn.convert(node.build, tensor, target)
    if target in tn.DIGITS_OF and tn.holds(target, tensor.array.astype(np.float64)):
        return tn.constant(tensor.array, target, tensor.name)
    if target not in {"int32", "int64", "bool"}:
        raise NotLowered(f"conversion from {tensor.format} to {target} is not supported")
    return tn.constant(tensor.array.astype(target), target, tensor.name)


@operator("Flatten")
def _flatten(node: Node) -> Result:
    tensor = node.tensor(0)
    axis, shape = int(node.attributes.get("axis", 1)), tensor.array.shape
    front = axis if axis == len(shape) else tn.normal_axis(axis, len(shape))
    return tensor.routed(tensor.array.reshape(int(np.prod(shape[:front], dtype=np.int64)), -1))


@operator("Reshape")
def _reshape(node: Node) -> Result:
    tensor, wanted = node.tensor(0), node.tensor(1).integers()
    if not node.flag("allowzero"):
        wanted = [tensor.array.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return tensor.routed(tensor.array.reshape(wanted))


@operator("Expand")
def _expand(node: Node) -> Result:
    tensor, wanted = node.tensor(0), node.tensor(1).integers()
    return tensor.routed(np.broadcast_to(tensor.array, np.broadcast_shapes(tensor.array.shape, tuple(wanted))))


@operator("Transpose")
def _transpose(node: Node) -> Result:
    tensor = node.tensor(0)
    return tensor.routed(tensor.array.transpose(node.attributes.get("perm")))


@operator("Squeeze")
def _squeeze(node: Node) -> Result:
    tensor, axes = node.tensor(0), node.integers("axes", 1)
    return tensor.routed(np.squeeze(tensor.array, None if axes is None else tuple(axes)))


@operator("Unsqueeze")
def _unsqueeze(node: Node) -> Result:
    tensor = node.tensor(0)
    return tensor.routed(np.expand_dims(tensor.array, tuple(node.integers("axes", 1) or ())))


@operator("Concat")
def _concat(node: Node) -> Result:
    operands = [node.tensor(i) for i in range(len(node.inputs))]
    return tn.concatenated(node.build, operands, int(node.attributes["axis"]))


@operator("Split")
def _split(node: Node) -> Result:
    tensor, sizes = node.tensor(0), node.integers("split", 1)
    axis = tn.normal_axis(int(node.attributes.get("axis", 0)), tensor.array.ndim)
    length = tensor.array.shape[axis]
    if sizes is None:
        count = int(node.attributes.get("num_outputs", node.outputs))
        largest = -(-length // count)  # the last part may be smaller
        sizes = [largest] * (count - 1) + [length - largest * (count - 1)]
    if min(sizes) < 0 or sum(sizes) != length:
        raise ShapeError(f"parts of {sizes} do not split {length}")
    return [tensor.routed(part) for part in np.split(tensor.array, np.cumsum(sizes)[:-1], axis)]


@operator("Slice")
def _slice(node: Node) -> Result:
    tensor = node.tensor(0)
    starts, ends = node.integers("starts", 1), node.integers("ends", 2)
    if starts is None or ends is None:
        raise InputError("its starts or ends are missing")
    axes = node.integers("axes", 3) or list(range(len(starts)))
    steps = node.integers("steps", 4) or [1] * len(starts)
    array = tensor.array
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        array = np.asarray(np.take(array, _positions(start, end, step, array.shape[axis]), axis))
    return tensor.routed(array)


def _positions(start: int, end: int, step: int, length: int) -> NDArray[np.int64]:
    """Return the positions of a slice; ONNX clamps ends, so that -1 after clamping means before the first."""
    first, last = (0, length) if step > 0 else (-1, length - 1)
    start, end = (n + length if n < 0 else n for n in (start, end))
    return np.arange(min(max(start, max(first, 0)), last), min(max(end, first), last), step)


@operator("Gather")
def _gather(node: Node) -> Result:
    tensor, index = node.tensor(0), node.tensor(1)
    index.integers()  # constant integers, or an error
    return tensor.routed(
        np.asarray(np.take(tensor.array, index.array.astype(np.int64), int(node.attributes.get("axis", 0))))
    )


@operator("Pad")
def _pad(node: Node) -> Result:
    tensor, pads = node.tensor(0), node.integers("pads", 1)
    if pads is None:
        raise InputError("its pads are missing")
    rank = tensor.array.ndim
    axes = [tn.normal_axis(axis, rank) for axis in node.integers("axes", 3) or range(rank)]
    if len(pads) != 2 * len(axes):
        raise ShapeError(f"{len(pads)} pads do not fit to {len(axes)} axes")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    cut = tuple(
        slice(max(-before, 0), n - max(-after, 0))
        for n, (before, after) in zip(tensor.array.shape, widths, strict=True)
    )
    grown = [(max(before, 0), max(after, 0)) for before, after in widths]
    mode = node.attributes.get("mode", "constant")
    array = tensor.array[cut]
    if mode in {"reflect", "edge", "wrap"}:
        return tensor.routed(np.pad(array, grown, mode=mode))
    if mode != "constant":
        raise NotLowered(f"mode={mode} is not supported")
    value = node.optional(2)
    number = np.asarray(node.attributes.get("value", 0.0)) if value is None else value.numbers()
    filling: Any = number.ravel()[0]
    if tensor.symbolic:
        tn.expect_numbers(node.build, tensor.format, number)
        filling = ZERO if filling == 0 else node.build.constant(number.ravel()[:1])[0]
    return tensor.routed(np.pad(array, grown, constant_values=filling))


# ---------------------------------------------------------------------- constants


@operator("Constant")
def _constant(node: Node) -> Result:
    ((name, value),) = node.attributes.items()
    if isinstance(value, Tensor):
        return value
    if name in {"value_float", "value_floats"}:
        return tn.constant(value, "float32")
    if name in {"value_int", "value_ints"}:
        return tn.constant(np.asarray(value, np.int64), "int64")
    raise NotLowered(f"{name} is not supported")


@operator("ConstantOfShape")
def _constant_of_shape(node: Node) -> Result:
    value: Tensor = node.attributes.get("value", tn.constant([0.0]))
    return value.routed(np.full(node.tensor(0).integers(), value.array.ravel()[0]))


@operator("Shape")
def _shape(node: Node) -> Result:
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return tn.constant(np.array(node.tensor(0).array.shape[start:end], np.int64), "int64")
