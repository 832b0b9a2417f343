"""What each ATen function means: one small function for each, in :data:`FUNCTIONS`.

A function takes a :class:`Call` and returns its result. It never sees torch's own classes, so this file needs no
``torch``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from optverify.errors import InputError
from optverify.io import tensors as tn
from optverify.io.lowering import Builder
from optverify.io.schedule import ZERO, Ids
from optverify.io.tensors import NotLowered, Tensor
from optverify.io.windows import Window, average_pool, convolution, max_pool


def format_of(dtype: Any) -> str:
    """Return the name of a ``torch.dtype``."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False)
class Call:
    """A function with its arguments by name, defaults filled in.

    Parameters
    ----------
    build : Builder
    arguments : dict
        Tensors, numbers, lists, None.
    format : str
        Format of the result.
    """

    build: Builder
    arguments: dict[str, Any]
    format: str

    def __getitem__(self, name: str) -> Any:
        return self.arguments.get(name)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor; a Python number becomes a constant in the format of the result, as torch rounds it."""
        value = self[name]
        if isinstance(value, Tensor):
            return value
        if value is None:
            raise NotLowered(f"its argument {name!r} must be given")
        return tn.constant(self.number(name), self.format, name)

    def variable(self, name: str = "self") -> tuple[Tensor, Ids]:
        """Return a tensor and its coordinates."""
        tensor = self.tensor(name)
        return tensor, tn.coordinates(self.build, tensor)

    def number(self, name: str, default: float | None = None) -> float:
        """Return a number in the format of the result."""
        value = self[name] if self[name] is not None else default
        if isinstance(value, Tensor) or value is None:
            raise NotLowered(f"its argument {name!r} must be a number")
        return float(np.float32(value)) if self.format != "float64" else float(value)

    def integers(self, name: str, rank: int) -> tuple[int, ...]:
        """Return one integer for each dimension; a single one counts for all."""
        values = tuple(int(n) for n in np.ravel(self[name]))
        return values * rank if len(values) == 1 else values


FUNCTIONS: dict[str, Callable[[Call], Any]] = {}
"""All supported ATen functions."""

TRAINING = "it is in training mode: switch the module with module.eval() first"
REASONS = {
    **dict.fromkeys(["sigmoid", "tanh", "elu", "gelu", "silu", "softplus", "exp"], "it is not piecewise linear"),
    **dict.fromkeys(["softmax", "_softmax", "log_softmax", "_log_softmax"], "it is not piecewise linear; leave it out"),
    **dict.fromkeys(["_native_batch_norm_legit", "_native_batch_norm_legit_functional", "native_dropout"], TRAINING),
}
"""Why some functions are refused, where there is more to say than that they are not supported."""

MAY_CONVERT = {"_to_copy", "to", "ones", "zeros", "full", "_assert_tensor_metadata"}


def function(*names: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Enter a function into the registry."""

    def enter(lower: Callable[[Call], Any]) -> Callable[[Call], Any]:
        FUNCTIONS.update(dict.fromkeys(names, lower))
        return lower

    return enter


@function("linear")
def _linear(call: Call) -> Tensor:
    tensor, ids = call.variable("input")
    bias = None if call["bias"] is None else call.tensor("bias").numbers()
    return tn.float_result(tn.linear(call.build, ids, call.tensor("weight").numbers(), bias), tensor)


@function("addmm")
def _addmm(call: Call) -> Tensor:
    if call["alpha"] != 1 or call["beta"] != 1:
        raise NotLowered("alpha and beta other than 1 are not supported")
    return tn.add(call.build, tn.matmul(call.build, call.tensor("mat1"), call.tensor("mat2")), call.tensor("self"))


@function("matmul", "mm", "bmm", "mv", "dot")
def _matmul(call: Call) -> Tensor:
    second = next(name for name in ("other", "mat2", "vec", "tensor") if call[name] is not None)
    return tn.matmul(call.build, call.tensor("self"), call.tensor(second))


@function("add")
def _add(call: Call) -> Tensor:
    return tn.add(call.build, call.tensor("self"), _scaled(call, "other"))


@function("sub")
def _subtract(call: Call) -> Tensor:
    return tn.add(call.build, call.tensor("self"), _scaled(call, "other"), -1.0)


@function("rsub")
def _subtract_from(call: Call) -> Tensor:
    return tn.add(call.build, call.tensor("other"), _scaled(call, "self"), -1.0)


def _scaled(call: Call, name: str) -> Tensor:
    """Return alpha times an argument."""
    alpha = tn.constant(call.number("alpha", 1.0), call.format, "alpha")
    return call.tensor(name) if alpha.array == 1.0 else tn.multiply(call.build, call.tensor(name), alpha)


@function("mul")
def _multiply(call: Call) -> Tensor:
    return tn.multiply(call.build, call.tensor("self"), call.tensor("other"))


@function("div")
def _divide(call: Call) -> Tensor:
    if call["rounding_mode"] is not None:
        raise NotLowered("rounding_mode is not supported")
    return tn.divide(call.build, call.tensor("self"), call.tensor("other"))


@function("neg")
def _negative(call: Call) -> Tensor:
    return tn.mapped(call.tensor("self"), np.negative, call.build.negative)


@function("abs")
def _absolute(call: Call) -> Tensor:
    return tn.mapped(call.tensor("self"), np.abs, call.build.absolute)


@function("relu")
def _relu(call: Call) -> Tensor:
    return tn.mapped(call.tensor("self"), lambda x: np.maximum(x, 0), call.build.relu)


@function("leaky_relu")
def _leaky_relu(call: Call) -> Tensor:
    tensor, ids = call.variable()
    return tn.float_result(call.build.leaky(ids, call.number("negative_slope")), tensor)


@function("prelu", "_prelu_kernel")
def _prelu(call: Call) -> Tensor:
    tensor, ids = call.variable()
    slope = call.tensor("weight").numbers()
    if slope.ndim == 1 and ids.ndim > 1:
        slope = slope.reshape(-1, *(1,) * (ids.ndim - 2))  # one for each channel
    return tn.float_result(call.build.leaky(ids, slope), tensor)


@function("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clip(call: Call) -> Tensor:
    lowest, highest = (
        next((call.tensor(name).bounds() for name in names if call[name] is not None), default)
        for names, default in ((("min", "min_val"), -np.inf), (("max", "max_val"), np.inf))
    )
    return tn.clipped(call.build, call.tensor("self"), lowest, highest)


@function("relu6")
def _relu6(call: Call) -> Tensor:
    return tn.clipped(call.build, call.tensor("self"), 0.0, 6.0)


@function("hardsigmoid")
def _hardsigmoid(call: Call) -> Tensor:
    tensor, ids = call.variable()
    ramp = call.build.clip(call.build.shift(ids, 3.0), 0.0, 6.0)
    return tn.float_result(call.build.divide(ramp, 6.0), tensor)


@function("maximum", "max")
def _maximum(call: Call) -> Tensor:
    return tn.largest(call.build, _two(call))


@function("minimum", "min")
def _minimum(call: Call) -> Tensor:
    return tn.smallest(call.build, _two(call))


def _two(call: Call) -> list[Tensor]:
    if call["other"] is None:
        raise NotLowered("only the form with two tensors is supported")
    return [call.tensor("self"), call.tensor("other")]


@function("mean")
def _mean(call: Call) -> Tensor:
    return tn.reduced(call.build, call.tensor("self"), call["dim"] or None, bool(call["keepdim"]), mean=True)


@function("sum")
def _sum(call: Call) -> Tensor:
    return tn.reduced(call.build, call.tensor("self"), call["dim"] or None, bool(call["keepdim"]), mean=False)


@function("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(call: Call) -> Tensor:
    if call["training"]:
        raise NotLowered(TRAINING)
    if call["running_mean"] is None or call["running_var"] is None:
        raise NotLowered("without running statistics it depends on other samples")
    tensor = call.tensor("input")
    mean, variance = call.tensor("running_mean"), call.tensor("running_var")
    if (variance.numbers() < 0).any():
        raise InputError(f"{variance.name!r} holds a negative variance")
    gamma = tn.constant(np.ones(mean.array.shape)) if call["weight"] is None else call.tensor("weight")
    beta = tn.constant(np.zeros(mean.array.shape)) if call["bias"] is None else call.tensor("bias")
    return tn.batch_norm(call.build, tensor, gamma, beta, mean, variance, call.number("eps"))


# ---------------------------------------------------------------------- windows


@function("conv1d", "conv2d", "conv3d", "convolution")
def _convolution(call: Call) -> Tensor:
    if call["transposed"]:
        raise NotLowered("transposed convolutions are not supported")
    tensor, ids = call.variable("input")
    weight = call.tensor("weight").numbers()
    bias = None if call["bias"] is None else call.tensor("bias").numbers()
    rank, kernel = weight.ndim - 2, weight.shape[2:]
    dilations = call.integers("dilation", rank)
    if call["padding"] == "same":
        needed = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        before, after = tuple(n // 2 for n in needed), tuple(n - n // 2 for n in needed)
    else:
        before = after = (0,) * rank if call["padding"] == "valid" else call.integers("padding", rank)
    window = Window(kernel, call.integers("stride", rank), dilations, before, after)
    return _over_samples(tensor, ids, rank, lambda x: convolution(call.build, x, weight, bias, window, call["groups"]))


@function("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(call: Call) -> Tensor:
    return _pool(
        call,
        lambda ids, window: average_pool(
            call.build,
            ids,
            window,
            count_padding=bool(call["count_include_pad"]),
            divisor=call["divisor_override"],
        ),
    )


@function("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices")
def _max_pool(call: Call) -> Tensor:
    return _pool(call, lambda ids, window: max_pool(call.build, ids, window))


def _pool(call: Call, apply: Callable[[Ids, Window], Ids]) -> Tensor:
    tensor, ids = call.variable()
    kernel = tuple(int(n) for n in np.ravel(call["kernel_size"]))
    rank = ids.ndim - 2 if len(kernel) == 1 else len(kernel)
    kernel = call.integers("kernel_size", rank)
    strides = call.integers("stride", rank) if call["stride"] else kernel
    dilations = call.integers("dilation", rank) if call["dilation"] else (1,) * rank
    padding = call.integers("padding", rank)
    window = Window(kernel, strides, dilations, padding, padding, bool(call["ceil_mode"]))
    return _over_samples(tensor, ids, rank, lambda x: apply(x, window))


@function("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d")
def _adaptive_average_pool(call: Call) -> Tensor:
    tensor, ids = call.variable()
    wanted = tuple(int(n) for n in np.ravel(call["output_size"]))
    rank = len(wanted)
    spatial = ids.shape[ids.ndim - rank :]
    if any(n % size for n, size in zip(spatial, wanted, strict=True)):
        raise NotLowered(f"only sizes that divide {spatial} are supported, not {wanted}")
    kernel = tuple(n // size for n, size in zip(spatial, wanted, strict=True))
    window = Window(kernel, kernel, (1,) * rank, (0,) * rank, (0,) * rank)
    return _over_samples(tensor, ids, rank, lambda x: average_pool(call.build, x, window, count_padding=False))


def _over_samples(tensor: Tensor, ids: Ids, rank: int, apply: Callable[[Ids], Ids]) -> Tensor:
    """Apply a window to (samples, channels, ...); torch also takes one sample without its dimension."""
    single = ids.ndim == rank + 1
    result = apply(ids[None] if single else ids)
    return tn.float_result(result[0] if single else result, tensor)


# ---------------------------------------------------------------------- arrangement of entries


@function("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "positive")
def _same(call: Call) -> Tensor:
    return call.tensor("self")


@function("dropout", "feature_dropout", "alpha_dropout")
def _dropout(call: Call) -> Tensor:
    if call["train"] and call["p"]:
        raise NotLowered(TRAINING)
    return call.tensor("input")


@function("_to_copy", "to")
def _convert(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor if call["dtype"] is None else tn.convert(call.build, tensor, format_of(call["dtype"]))


@function("view", "reshape", "_unsafe_view")
def _view(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(tensor.array.reshape(call["size"] or call["shape"] or ()))


@function("flatten")
def _flatten(call: Call) -> Tensor:
    tensor = call.tensor("self")
    shape = tensor.array.shape
    start, stop = (tn.normal_axis(call[name], max(len(shape), 1)) for name in ("start_dim", "end_dim"))
    return tensor.routed(tensor.array.reshape(*shape[:start], -1, *shape[stop + 1 :]))


@function("unflatten")
def _unflatten(call: Call) -> Tensor:
    tensor = call.tensor("self")
    axis, shape = tn.normal_axis(call["dim"], tensor.array.ndim), tensor.array.shape
    return tensor.routed(tensor.array.reshape(*shape[:axis], *call["sizes"], *shape[axis + 1 :]))


@function("permute")
def _permute(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(tensor.array.transpose(call["dims"]))


@function("transpose", "t")
def _transpose(call: Call) -> Tensor:
    tensor = call.tensor("self")
    if call["dim0"] is None:
        return tensor.routed(tensor.array.T)
    return tensor.routed(np.swapaxes(tensor.array, call["dim0"], call["dim1"]))


@function("squeeze")
def _squeeze(call: Call) -> Tensor:
    tensor = call.tensor("self")
    if call["dim"] is None:
        return tensor.routed(np.squeeze(tensor.array))
    axes = {tn.normal_axis(int(n), tensor.array.ndim) for n in np.ravel(call["dim"])}
    return tensor.routed(np.squeeze(tensor.array, tuple(n for n in axes if tensor.array.shape[n] == 1)))


@function("unsqueeze")
def _unsqueeze(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(np.expand_dims(tensor.array, call["dim"]))


@function("expand")
def _expand(call: Call) -> Tensor:
    tensor, sizes = call.tensor("self"), call["size"]
    old = (1,) * (len(sizes) - tensor.array.ndim) + tensor.array.shape
    wanted = tuple(a if n == -1 else n for n, a in zip(sizes, old, strict=True))
    return tensor.routed(np.broadcast_to(tensor.array, wanted))


@function("cat")
def _concatenate(call: Call) -> Tensor:
    return tn.concatenated(call.build, call["tensors"], call["dim"])


@function("stack")
def _stack(call: Call) -> Tensor:
    parts = [t.routed(np.expand_dims(t.array, call["dim"])) for t in call["tensors"]]
    return tn.concatenated(call.build, parts, call["dim"])


@function("split", "split_with_sizes")
def _split(call: Call) -> list[Tensor]:
    tensor = call.tensor("self")
    sizes = next(call[name] for name in ("split_size", "split_sizes") if call[name] is not None)
    length = tensor.array.shape[call["dim"]]
    ends = np.cumsum(sizes)[:-1] if isinstance(sizes, list) else np.arange(sizes, length, sizes)
    return [tensor.routed(part) for part in np.split(tensor.array, ends, call["dim"])]


@function("chunk")
def _chunk(call: Call) -> list[Tensor]:
    tensor = call.tensor("self")
    length = tensor.array.shape[call["dim"]]
    size = -(-length // call["chunks"])
    return [tensor.routed(part) for part in np.split(tensor.array, np.arange(size, length, size), call["dim"])]


@function("slice")
def _slice(call: Call) -> Tensor:
    tensor = call.tensor("self")
    axis = tn.normal_axis(call["dim"], tensor.array.ndim)
    part = slice(call["start"], call["end"], call["step"])
    return tensor.routed(tensor.array[(slice(None),) * axis + (part,)])


@function("select")
def _select(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(np.asarray(np.take(tensor.array, call["index"], call["dim"])))


@function("index_select")
def _index_select(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(np.asarray(np.take(tensor.array, call.tensor("index").integers(), call["dim"])))


@function("index")
def _index(call: Call) -> Tensor:
    tensor = call.tensor("self")
    chosen = []
    for position in call["indices"]:
        if position is not None:
            position.integers()  # constant integers, or an error
        chosen.append(slice(None) if position is None else position.array)
    return tensor.routed(tensor.array[tuple(chosen)])


@function("select_scatter", "slice_scatter")
def _scatter(call: Call) -> Tensor:
    """Replace one part in a copy: what writing through a view becomes."""
    tensor, ids = call.variable()
    axis = tn.normal_axis(call["dim"], ids.ndim)
    part: Any = call["index"] if call["index"] is not None else slice(call["start"], call["end"], call["step"])
    result = ids.copy()
    result[(slice(None),) * axis + (part,)] = call.variable("src")[1]
    return tn.float_result(result, tensor)


@function("copy")
def _copy(call: Call) -> Tensor:
    source = call.tensor("src")
    return source.routed(np.broadcast_to(source.array, call.tensor("self").array.shape))


@function("fill")
def _fill(call: Call) -> Tensor:
    return tn.constant(np.full(call.tensor("self").array.shape, call.tensor("value").numbers()), call.format)


@function("flip")
def _flip(call: Call) -> Tensor:
    tensor = call.tensor("self")
    return tensor.routed(np.flip(tensor.array, tuple(call["dims"])))


@function("constant_pad_nd", "pad")
def _pad(call: Call) -> Tensor:
    """Pad, with widths from the last dimension on, two for each."""
    if call["mode"] not in {None, "constant"}:
        raise NotLowered(f"mode={call['mode']} is not supported")
    tensor, ids = call.variable()
    pads = [int(n) for n in call["pad"]]
    widths = [(0, 0)] * (ids.ndim - len(pads) // 2) + list(zip(pads[-2::-2], pads[-1::-2], strict=True))
    cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(ids.shape, widths, strict=True))
    value = call.number("value", 0.0)
    tn.expect_numbers(call.build, call.format, value)
    filling = ZERO if value == 0 else call.build.constant([value])[0]
    grown = [(max(b, 0), max(a, 0)) for b, a in widths]
    return tn.float_result(np.pad(ids[cut], grown, constant_values=filling), tensor)


@function("ones")
def _ones(call: Call) -> Tensor:
    return tn.constant(np.ones(call["size"]), call.format)


@function("zeros")
def _zeros(call: Call) -> Tensor:
    return tn.constant(np.zeros(call["size"]), call.format)


@function("full")
def _full(call: Call) -> Tensor:
    return tn.constant(np.full(call["size"], call.number("fill_value")), call.format)


@function("_assert_tensor_metadata")
def _nothing(call: Call) -> None:
    """Say nothing about values: torch.export writes down which formats it has seen."""
