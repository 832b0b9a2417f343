"""Tensors as both the ONNX and the PyTorch reader see them, and what can be done with them.

A :class:`Tensor` is either a constant of the file or depends on the input. Each function takes the
builder and tensors, does at once whatever concerns constants only, and says the rest in the verbs of
:class:`optverify.io.lowering.Builder`. Arithmetic between two float constants is done only where the
result is exact in the format of the file; otherwise the first operand becomes coordinates, so that the
rounding of the deployed program is counted like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.errors import InputError, ShapeError
from optverify.interval import UNIT, Array
from optverify.io.exactness import exact_add, exact_divide, exact_multiply
from optverify.io.lowering import SMALLEST_NORMAL, Builder
from optverify.io.schedule import Ids, check_terms
from optverify.io.sparse import csr
from optverify.semantics import SEMANTICS

DIGITS_OF = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
"""The formats that can be read, with their significant binary digits."""

FEW_ROWS = 4
"""Up to so many products with the same matrix are separate dense blocks; more of them one sparse block."""

BATCH_NORM_ROUNDINGS = (8, 2)
"""Roundings of the two steps of a batch normalisation; ``docs/lowering.md`` derives them."""

BATCH_NORM_SLACK = 3 * UNIT
"""Bound on the relative error of the computed gamma / sqrt(var + eps).

With u = 2**-53 the sum has the relative error u, its root u / 2 and one rounding u, the quotient another u:
the true coefficient is the computed one times (1 + d1)**0.5 (1 + d2) / (1 + d3) with each |d| <= u, and
1 - 3 u <= (1 - u)**1.5 / (1 + u) and (1 + u)**1.5 / (1 - u) <= 1 + 3 u.
"""


class NotLowered(Exception):
    """What an operator is asked to do has no lowering; readers turn it into UnsupportedLayer."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor in a graph.

    Parameters
    ----------
    array : numpy array
        Coordinates (int) if symbolic; otherwise the values, float64 for every float format.
    symbolic : bool
        Whether it depends on the input.
    format : str
        ``"float32"``, ``"int64"``, ... in the file.
    name : str, optional
        Name in the file, for messages.
    """

    array: NDArray[Any]
    symbolic: bool
    format: str = "float32"
    name: str = ""

    @property
    def is_float(self) -> bool:
        """Whether it holds floats, or coordinates that stand for floats."""
        return self.format in DIGITS_OF

    def routed(self, array: NDArray[Any]) -> Tensor:
        """Return the tensor with the same entries in another arrangement."""
        return Tensor(array, self.symbolic, self.format, self.name)

    def numbers(self) -> Array:
        """Return a constant's values as finite floats.

        Raises
        ------
        NotLowered
            It depends on the input.
        InputError
            It holds NaN or infinities.
        """
        values = self.bounds()
        if not np.isfinite(values).all():
            where = tuple(int(i[0]) for i in np.nonzero(~np.isfinite(values)))
            raise InputError(
                f"constant {self.name!r} holds {values[where]} at index {where}: only finite numbers can be used"
            )
        return values

    def bounds(self) -> Array:
        """Return a constant's values as floats that may be infinite."""
        if self.symbolic:
            raise NotLowered(
                f"its operand {self.name!r} depends on the input (or was rounded); only constants are supported there"
            )
        return np.asarray(self.array, np.float64)

    def integers(self) -> list[int]:
        """Return a constant's values as a flat list of integers."""
        if self.symbolic or self.array.dtype.kind not in "iu":
            raise NotLowered(f"its operand {self.name!r} must be integer constants")
        return [int(n) for n in self.array.ravel()]


def constant(values: ArrayLike, format: str = "float32", name: str = "") -> Tensor:  # noqa: A002
    """Make a constant tensor; floats are stored as float64."""
    array = np.asarray(values)
    if format in DIGITS_OF:
        with np.errstate(invalid="ignore"):  # a signalling NaN of a damaged file is found where it is used
            array = array.astype(np.float64)
    return Tensor(array, False, format, name)


def coordinates(build: Builder, tensor: Tensor) -> Ids:
    """Return the coordinates of a tensor; those of a constant are made."""
    if tensor.symbolic:
        return tensor.array
    if not tensor.is_float:
        raise NotLowered(f"its operand {tensor.name!r} holds {tensor.format}; only floats can take part")
    expect_numbers(build, tensor.format, tensor.numbers())
    return build.constant(tensor.numbers())


def formats(values: Iterable[Any]) -> set[str]:
    """Return the formats of all tensors among some values that depend on the input."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, list):
            found |= formats(value)
        elif isinstance(value, Tensor) and value.symbolic:
            found.add(value.format)
    return found


def expect_numbers(build: Builder, format: str, values: ArrayLike) -> None:  # noqa: A002
    """Allow statements about the reals only if finite values that are merely moved are no numbers of the format."""
    array = np.asarray(values, np.float64)
    if not holds(format, array[np.isfinite(array)]):
        build.only_over_the_reals(f"a constant is no {format} number, and programs differ in what they make of it")


def float_result(array: Ids, *operands: Tensor) -> Tensor:
    """Wrap new coordinates in the format of the operands."""
    return Tensor(array, True, next((t.format for t in operands if t.symbolic), operands[0].format))


# ---------------------------------------------------------------------- arithmetic


def add(build: Builder, a: Tensor, b: Tensor, sign: float = 1.0) -> Tensor:
    """Return ``a + sign * b``."""
    if not a.symbolic and not b.symbolic:
        folded = _fold(a, b, np.add if sign > 0 else np.subtract, lambda x, y: exact_add(x, sign * y))
        if folded is not None:
            return folded
        a = Tensor(coordinates(build, a), True, a.format)
    if not b.symbolic:
        return float_result(build.shift(a.array, sign * b.numbers()), a)
    if not a.symbolic:
        return float_result(build.shift(b.array, a.numbers(), sign=sign), b)
    return float_result(build.add([a.array, b.array], [1.0, sign]), a)


def multiply(build: Builder, a: Tensor, b: Tensor) -> Tensor:
    """Return ``a * b`` if one of them is constant."""
    if a.symbolic and b.symbolic:
        raise NotLowered("a product of two values that both depend on the input is not piecewise linear")
    if not a.symbolic and not b.symbolic:
        folded = _fold(a, b, np.multiply, exact_multiply)
        if folded is not None:
            return folded
        a = Tensor(coordinates(build, a), True, a.format)
    variable, factor = (a, b) if a.symbolic else (b, a)
    return float_result(build.scale(variable.array, factor.numbers()), variable)


def divide(build: Builder, a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b`` for a constant b."""
    if b.symbolic:
        raise NotLowered("division by a value that depends on the input is not piecewise linear")
    divisor = b.numbers()
    if not divisor.all():
        raise InputError(f"constant {b.name!r} divides by zero")
    if not a.symbolic:
        folded = _fold(a, b, _truncated_quotient, exact_divide)
        if folded is not None:
            return folded
    if (np.abs(divisor) < SEMANTICS[a.format].normal).any():
        build.only_over_the_reals(f"the divisor {b.name!r} is subnormal")
    return float_result(build.divide(coordinates(build, a), divisor), a)


def _fold(
    a: Tensor,
    b: Tensor,
    integer: Callable[[Any, Any], Any],
    exact: Callable[[Array, Array], tuple[Array, bool]],
) -> Tensor | None:
    """Compute with constants; None where the deployed program rounds."""
    if not a.is_float:
        return constant(integer(a.array, b.array), a.format)
    result, unrounded = exact(a.numbers(), b.numbers())
    return constant(result, a.format) if unrounded and holds(a.format, result) else None


def _truncated_quotient(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)))


def holds(format: str, values: Array) -> bool:  # noqa: A002
    """Whether every value is a number of the format."""
    return bool(SEMANTICS[format].holds(values).all())


def convert(build: Builder, tensor: Tensor, format: str) -> Tensor:  # noqa: A002
    """Return the tensor in another float format: over the reals nothing, in floating point maybe a rounding."""
    if format not in DIGITS_OF or not tensor.is_float:
        raise NotLowered(f"conversion from {tensor.format} to {format} is not supported")
    if DIGITS_OF[format] >= DIGITS_OF[tensor.format]:
        return Tensor(tensor.array, tensor.symbolic, format, tensor.name)
    if not tensor.symbolic and holds(format, tensor.numbers()):
        return constant(tensor.array, format, tensor.name)
    if format != "float32":
        raise NotLowered(
            f"rounding to {format} is coarser than float32 and not supported; convert the network to float32"
        )
    return Tensor(build.round(coordinates(build, tensor)), True, format)


def mapped(tensor: Tensor, on_constant: Callable[[Any], Any], on_ids: Callable[[Ids], Ids]) -> Tensor:
    """Apply a function of one number that is exact in every format."""
    if not tensor.symbolic:
        return constant(on_constant(tensor.array), tensor.format, tensor.name)
    return float_result(on_ids(tensor.array), tensor)


def largest(build: Builder, operands: Sequence[Tensor]) -> Tensor:
    """Return the maximum of all operands, entry by entry."""
    return _extremum(build, operands, np.maximum, build.maximum, build.at_least)


def smallest(build: Builder, operands: Sequence[Tensor]) -> Tensor:
    """Return the minimum of all operands, entry by entry."""
    return _extremum(build, operands, np.minimum, build.minimum, build.at_most)


def _extremum(
    build: Builder,
    operands: Sequence[Tensor],
    on_constants: Callable[[Any, Any], Any],
    on_ids: Callable[[Ids, Ids], Ids],
    on_both: Callable[[Ids, Array], Ids],
) -> Tensor:
    fixed = [t.bounds() for t in operands if not t.symbolic]
    moving = [t.array for t in operands if t.symbolic]
    if not moving:
        return constant(reduce(on_constants, [t.array for t in operands]), operands[0].format)
    for bound in fixed:
        expect_numbers(build, next(t.format for t in operands if t.symbolic), bound)
    result = reduce(on_ids, moving)
    return float_result(on_both(result, reduce(on_constants, fixed)) if fixed else result, *operands)


def clipped(build: Builder, tensor: Tensor, lowest: ArrayLike, highest: ArrayLike) -> Tensor:
    """Return ``min(max(x, lowest), highest)``; infinite bounds are none."""
    if np.isnan(lowest).any() or np.isnan(highest).any():
        raise InputError("a bound is NaN")
    if tensor.is_float:
        expect_numbers(build, tensor.format, lowest)
        expect_numbers(build, tensor.format, highest)
    return mapped(
        tensor,
        lambda x: np.minimum(np.maximum(x, lowest), highest),
        lambda ids: build.clip(ids, lowest, highest),
    )


# ---------------------------------------------------------------------- products and sums


def linear(
    build: Builder, rows: Ids, weight: Array, bias: ArrayLike | None = None, roundings: int | None = None
) -> Ids:
    """Return ``weight @ row + bias`` for each row.

    Parameters
    ----------
    rows : (..., k) int
    weight : (m, k) float64
    bias : (m,) or (..., m) float64, optional
    roundings : int, optional
        By default one for each term and one for the bias.

    Returns
    -------
    (..., m) int

    Raises
    ------
    ShapeError
        The rows have another length than those of the weight.
    """
    lead, (outputs, fan) = rows.shape[:-1], weight.shape
    if rows.shape[-1:] != (fan,):
        raise ShapeError(f"a product of shapes {rows.shape} and {weight.T.shape} does not exist")
    flat = rows.reshape(-1, fan)
    offsets = None if bias is None else np.broadcast_to(np.asarray(bias), (*lead, outputs)).reshape(-1, outputs)
    if len(flat) <= FEW_ROWS:
        biases = [None] * len(flat) if offsets is None else list(offsets)
        parts = [build.affine(weight, row, b, roundings=roundings) for row, b in zip(flat, biases, strict=True)]
        return np.stack(parts).reshape(*lead, outputs)
    check_terms(flat.size * outputs)
    places = np.arange(flat.size, dtype=np.int32).reshape(-1, 1, fan)
    indices = np.broadcast_to(places, (len(flat), outputs, fan)).ravel()
    entries = np.broadcast_to(weight, (len(flat), outputs, fan)).ravel()
    ends = np.arange(0, entries.size + 1, fan, dtype=np.int32)
    matrix = csr((entries, indices, ends), (len(flat) * outputs, flat.size))
    fresh = build.affine(matrix, flat.ravel(), None if offsets is None else offsets.ravel(), roundings=roundings)
    return fresh.reshape(*lead, outputs)


def matmul(build: Builder, a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product with numpy's rules for stacks and vectors; one factor is constant."""
    if a.symbolic and b.symbolic:
        raise NotLowered("a product of two values that both depend on the input is not piecewise linear")
    if not b.symbolic:
        result = _times_constant(build, coordinates(build, a), b.numbers())
        return float_result(result, a)
    # A B = (B' A')', with vectors as they are.
    first, second = (_swap(a.numbers()), _swap(b.array))
    result = _times_constant(build, second, first)
    vector = a.array.ndim == 1 or b.array.ndim == 1
    return float_result(result if vector else _swap(result), b)


def _swap(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 1 else np.swapaxes(array, -1, -2)


def _times_constant(build: Builder, ids: Ids, weight: Array) -> Ids:
    """Return the product of ids (..., n, k) or (k,) with a weight (..., k, m) or (k,)."""
    if ids.shape[-1] != weight.shape[-2 if weight.ndim > 1 else 0]:
        raise ShapeError(f"a product of shapes {ids.shape} and {weight.shape} does not exist")
    if weight.ndim <= 2:
        columns = np.ascontiguousarray(np.atleast_2d(weight.T))
        result = linear(build, ids, columns)
        return result[..., 0] if weight.ndim == 1 else result
    rows = ids if ids.ndim > 1 else ids[None, :]
    lead = np.broadcast_shapes(rows.shape[:-2], weight.shape[:-2])
    rows = np.broadcast_to(rows, lead + rows.shape[-2:])
    weight = np.broadcast_to(weight, lead + weight.shape[-2:])
    result = np.empty((*rows.shape[:-1], weight.shape[-1]), np.int64)
    for place in np.ndindex(*lead):
        result[place] = linear(build, rows[place], np.ascontiguousarray(weight[place].T))
    return result if ids.ndim > 1 else result[..., 0, :]


def reduced(build: Builder, tensor: Tensor, axes: Sequence[int] | None, keep: bool, *, mean: bool) -> Tensor:
    """Return the sum or mean over axes (None: all of them)."""
    ids = coordinates(build, tensor)
    chosen = sorted({normal_axis(axis, ids.ndim) for axis in (range(ids.ndim) if axes is None else axes)})
    rest = [axis for axis in range(ids.ndim) if axis not in chosen]
    flat = ids.transpose(rest + chosen).reshape(*(ids.shape[axis] for axis in rest), -1)
    if flat.shape[-1] == 1:
        result = flat[..., 0]
    else:
        result = build.mean(flat) if mean else build.add([flat[..., i] for i in range(flat.shape[-1])])
    if keep:
        result = np.expand_dims(result, tuple(chosen))
    return float_result(result, tensor)


def normal_axis(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    if not -rank <= axis < rank:
        raise InputError(f"axis {axis} does not exist in a tensor of {rank} dimensions")
    return axis % rank


def concatenated(build: Builder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Return the tensors joined along an axis."""
    if all(not t.symbolic for t in tensors):
        return constant(np.concatenate([t.array for t in tensors], axis), tensors[0].format)
    return float_result(np.concatenate([coordinates(build, t) for t in tensors], axis), *tensors)


def batch_norm(
    build: Builder, tensor: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> Tensor:
    """Return ``gamma (x - mean) / sqrt(variance + epsilon) + beta`` for each channel (axis 1).

    Raises
    ------
    InputError
        A variance plus epsilon is not positive.
    """
    ids = coordinates(build, tensor)
    shape = (-1,) + (1,) * (ids.ndim - 2)
    scale, shift, centre, spread = (t.numbers().reshape(shape) for t in (gamma, beta, mean, variance))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        denominator = spread + epsilon
        factor = scale / np.sqrt(denominator)
    if not (np.isfinite(denominator) & (denominator > 0)).all():
        bad = denominator[~(np.isfinite(denominator) & (denominator > 0))].ravel()[0]
        raise InputError(f"variance {variance.name!r} + epsilon is {bad}: it must be positive")
    if not (np.isfinite(factor) & ((np.abs(factor) >= SMALLEST_NORMAL) | (scale == 0))).all():
        raise InputError(f"scale {gamma.name!r} / sqrt(variance + epsilon) overflows or underflows")
    format = SEMANTICS[tensor.format]  # noqa: A001
    parts = np.concatenate([np.abs(part[part != 0]) for part in (scale, denominator, factor)])
    if not ((parts >= 2 * format.normal) & (parts <= format.largest / 2)).all():  # room for the program's roundings
        build.only_over_the_reals(f"a batch normalisation has a scale or variance that is no normal {format} number")
    first, second = BATCH_NORM_ROUNDINGS
    centred = build.elementwise(1.0, ids, -centre, roundings=first)
    result = build.elementwise(
        factor, centred, shift, roundings=second, slack=np.where(factor == 0, 0, BATCH_NORM_SLACK)
    )
    return float_result(result, tensor)
