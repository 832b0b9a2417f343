"""Networks of two kinds of layer, immutable, with exact evaluation.

Everything that the readers accept is lowered to a sequence of

* :class:`Affine`: u -> W u + b, one step of the deployed program;
* :class:`Relu`: rectifies the masked coordinates and passes the others through.

A skip connection rides along as passed-through coordinates; max(a, b) is b + relu(a - b); and so on
(``docs/lowering.md``).
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from math import lcm
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.errors import InputError, ShapeError
from optverify.interval import Array, times
from optverify.report import html, text
from optverify.semantics import REAL, Semantics

Rational = Fraction | int


def frozen(values: ArrayLike, dtype: Any, what: str, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """Copy values into a read-only array of the given type and shape."""
    array = np.array(values, dtype=dtype)
    given = np.asarray(values)
    # Integers and fractions that no float holds would be rounded silently.
    if (
        dtype is np.float64
        and given.dtype.kind in "iuO"
        and not all(map(operator.eq, array.ravel().tolist(), given.ravel().tolist()))
    ):
        raise InputError(f"{what} has an entry that no float64 holds exactly")
    if shape is not None and array.shape != shape:
        raise ShapeError(f"{what} has shape {array.shape}, expected {shape}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Affine:
    """One affine step u -> W u + b.

    Parameters
    ----------
    weight : (m, n) float64, dense or scipy.sparse
        Exactly the numbers in the file.
    bias : (m,) float64
    roundings : (m,) int, optional
        How many roundings the deployed program may make on the longest path of each row: terms + 1 for an
        inner product with bias (the default), 0 for a row that only routes or that lowering introduced.
    slack : (m,) float64, optional
        Relative uncertainty of the row's own coefficients where no float holds them (a folded batch
        normalisation); 0 by default. The true step is ``W' u + b'`` with ``|W' - W| <= slack |W|`` and
        ``|b' - b| <= slack |b|`` row by row.
    absolute : (m,) float64, optional
        Further absolute uncertainty of each row; 0 but for networks that :func:`optverify.deployment.deployed` made.

    Raises
    ------
    ShapeError
        Sizes disagree.
    InputError
        A weight or bias is NaN or infinite.
    """

    weight: Any
    bias: Array
    roundings: Any = None
    slack: Any = None
    absolute: Any = None

    def __post_init__(self) -> None:
        weight = self.weight
        # scipy is imported only where a sparse matrix occurs: it takes longer than to verify a small network.
        if hasattr(weight, "tocsr"):
            from scipy.sparse import csr_array

            weight = csr_array(weight, dtype=np.float64, copy=True)
            weight.sum_duplicates()
            weight.eliminate_zeros()
            weight.sort_indices()
            entries = weight.data
            for part in (weight.data, weight.indices, weight.indptr):
                part.setflags(write=False)
        else:
            weight = entries = frozen(weight, np.float64, "weight")
        if weight.ndim != 2:
            raise ShapeError(f"weight has shape {weight.shape}, expected a matrix")
        rows = weight.shape[0]
        bias = frozen(self.bias, np.float64, "bias", (rows,))
        for name, array in (("weight", entries), ("bias", bias)):
            if not np.isfinite(array).all():
                bad = int(np.flatnonzero(~np.isfinite(array).ravel())[0])
                raise InputError(f"{name} entry {bad} of an affine layer is {array.ravel()[bad]}: only finite numbers")
        counted = np.diff(_nonzeros(weight)[0]) + 1 if self.roundings is None else self.roundings
        slack = np.zeros(rows) if self.slack is None else self.slack
        absolute = np.zeros(rows) if self.absolute is None else self.absolute
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "roundings", frozen(counted, np.int64, "roundings", (rows,)))
        object.__setattr__(self, "slack", frozen(slack, np.float64, "slack", (rows,)))
        object.__setattr__(self, "absolute", frozen(absolute, np.float64, "absolute", (rows,)))
        uncertain = np.concatenate([self.slack, self.absolute])
        if (self.roundings < 0).any() or not (np.isfinite(uncertain) & (uncertain >= 0)).all():
            raise InputError("roundings, slack and absolute error of an affine layer must be finite and not negative")

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs m, inputs n)."""
        return int(self.weight.shape[0]), int(self.weight.shape[1])

    @property
    def is_sparse(self) -> bool:
        """Whether the weight is stored as CSR."""
        return not isinstance(self.weight, np.ndarray)

    @cached_property
    def loose(self) -> NDArray[np.bool_]:
        """Which rows are known within an interval only, (m,)."""
        return np.asarray((self.slack > 0) | (self.absolute > 0))

    @cached_property
    def size(self) -> Any:
        """|W|, stored as W is."""
        return abs(self.weight)

    @cached_property
    def csr(self) -> Any:
        """W as a canonical ``scipy.sparse.csr_array`` without stored zeros."""
        if self.is_sparse:
            return self.weight
        from scipy.sparse import csr_array

        csr = csr_array(self.weight)
        for part in (csr.data, csr.indices, csr.indptr):
            part.setflags(write=False)
        return csr

    @cached_property
    def dense(self) -> Array:
        """W as a dense array."""
        return np.asarray(self.weight.toarray()) if self.is_sparse else self.weight

    @cached_property
    def exact(self) -> _ExactRows:
        """The rows as integers over one power of two."""
        return _ExactRows.of(self)

    def __call__(self, u: Array) -> Array:
        """Apply the step in float64 to rows of values."""
        return times(u, self.weight) + self.bias


@dataclass(frozen=True, eq=False)
class Relu:
    """Rectify the masked coordinates; pass the others through.

    Parameters
    ----------
    mask : (n,) bool
    """

    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", frozen(self.mask, np.bool_, "mask", (np.size(self.mask),)))

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs n, inputs n)."""
        return self.mask.size, self.mask.size

    def __call__(self, z: Array) -> Array:
        """Rectify rows of values."""
        return np.where(self.mask, np.maximum(z, 0.0), z)


Layer = Affine | Relu


@dataclass(frozen=True)
class _ExactRows:
    """Nonzeros of ``[W, b]`` scaled by 2**shift to integers; slack and absolute likewise, each with a shift."""

    columns: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[int, ...], ...]
    biases: tuple[int, ...]
    shift: int
    slacks: tuple[int, ...]
    slack_shift: int
    absolutes: tuple[int, ...]
    absolute_shift: int

    @classmethod
    def of(cls, layer: Affine) -> _ExactRows:
        ends, indices, values = _nonzeros(layer.weight)
        entries, shift = _dyadic(np.concatenate([values, layer.bias]).tolist())
        slacks, slack_shift = _dyadic(layer.slack.tolist())
        absolutes, absolute_shift = _dyadic(layer.absolute.tolist())
        columns = indices.tolist()
        spans = list(pairwise(ends.tolist()))
        return cls(
            tuple(tuple(columns[i:j]) for i, j in spans),
            tuple(tuple(entries[i:j]) for i, j in spans),
            tuple(entries[values.size :]),
            shift,
            tuple(slacks),
            slack_shift,
            tuple(absolutes),
            absolute_shift,
        )


def _nonzeros(weight: Any) -> tuple[NDArray[Any], NDArray[Any], Array]:
    """Return the nonzeros row by row, as CSR keeps them: where each row starts and ends, columns, values."""
    if not isinstance(weight, np.ndarray):
        return weight.indptr, weight.indices, weight.data
    rows, columns = np.nonzero(weight)
    return np.searchsorted(rows, np.arange(len(weight) + 1)), columns, weight[rows, columns]


def _dyadic(values: Sequence[float]) -> tuple[list[int], int]:
    """Return integers n and a shift p with value = n / 2**p, exactly."""
    ratios = [value.as_integer_ratio() for value in values]
    shift = max((d.bit_length() - 1 for _, d in ratios), default=0)
    return [n << (shift - d.bit_length() + 1) for n, d in ratios], shift


@dataclass(frozen=True, eq=False)
class Network:
    """A piecewise-linear network as a sequence of layers.

    Parameters
    ----------
    layers : sequence of Affine or Relu
        Each layer's inputs are the outputs of the one before.
    input_shape : tuple of int, optional
        Shape of one input as the original file has it; arrays of this shape are flattened in C order.
    output_shape : tuple of int, optional
        The same of an output.
    name : str, optional
    source : str, optional
        File that it was read from, for replaying a witness in the original runtime.
    format : str, optional
        Floating-point format of the file's numbers and of what it computes with. Without one the layers are all
        that is known, and numbers that a format does not hold would be rounded to it.
    only_real : str, optional
        Why nothing is known about executions in floating point, if so.
    semantics : Semantics
        What `slack` and `absolute` account for: over the reals, uncertain coefficients only.

    Raises
    ------
    ShapeError
        Two layers do not fit together, or there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from optverify import Network
    >>> net = Network.from_arrays([(np.array([[1.0, -1.0]]), [0.0]), (np.array([[2.0]]), [1.0])])
    >>> net(np.array([3.0, 1.0]))
    array([5.])
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...] = ()
    name: str = ""
    source: str = ""
    format: str = ""
    only_real: str = ""
    semantics: Semantics = REAL
    output_shape: tuple[int, ...] = ()
    _sizes: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers:
            raise ShapeError("a network needs at least one layer")
        sizes = [layers[0].shape[1]]
        for position, layer in enumerate(layers):
            if layer.shape[1] != sizes[-1]:
                raise ShapeError(f"layer {position} takes {layer.shape[1]} values but the one before gives {sizes[-1]}")
            sizes.append(layer.shape[0])
        shape = tuple(int(n) for n in self.input_shape) or (sizes[0],)
        out = tuple(int(n) for n in self.output_shape) or (sizes[-1],)
        if int(np.prod(shape)) != sizes[0]:
            raise ShapeError(f"input shape {shape} does not hold {sizes[0]} values")
        if int(np.prod(out)) != sizes[-1]:
            raise ShapeError(f"output shape {out} does not hold {sizes[-1]} values")
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "output_shape", out)
        object.__setattr__(self, "_sizes", tuple(sizes))

    @classmethod
    def from_arrays(cls, steps: Sequence[tuple[ArrayLike, ArrayLike]], name: str = "") -> Network:
        """Make a fully connected ReLU network from (weight, bias) pairs; the last one has no ReLU.

        Parameters
        ----------
        steps : sequence of ((m, n) array, (m,) array)
        """
        layers: list[Layer] = []
        for weight, bias in steps:
            layers += [Affine(weight, np.asarray(bias, np.float64))]
            layers += [Relu(np.ones(layers[-1].shape[0], bool))]
        return cls(tuple(layers[:-1]), name=name)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return self._sizes[0]

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return self._sizes[-1]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values before each layer, and after the last."""
        return self._sizes

    @cached_property
    def relus(self) -> tuple[int, ...]:
        """Positions of the Relu layers."""
        return tuple(i for i, layer in enumerate(self.layers) if isinstance(layer, Relu))

    @cached_property
    def masks(self) -> tuple[NDArray[np.bool_], ...]:
        """Which coordinates each Relu rectifies."""
        return tuple(layer.mask for layer in self.layers if isinstance(layer, Relu))

    @property
    def n_neurons(self) -> int:
        """Number of rectified coordinates."""
        return sum(int(mask.sum()) for mask in self.masks)

    @cached_property
    def has_slack(self) -> bool:
        """Whether some row is known only within an interval (see :class:`Affine`)."""
        return any(isinstance(layer, Affine) and bool(layer.loose.any()) for layer in self.layers)

    def __call__(self, x: ArrayLike) -> Array:
        """Evaluate in float64 (no guarantee).

        Parameters
        ----------
        x : (..., n_inputs) or (..., *input_shape) float64

        Returns
        -------
        (..., n_outputs) float64
        """
        a = np.asarray(x, dtype=np.float64)
        rank = len(self.input_shape)
        if a.shape[-1:] != (self.n_inputs,):
            if a.ndim < rank or a.shape[a.ndim - rank :] != self.input_shape:
                raise ShapeError(
                    f"input has shape {a.shape}; expected (..., {self.n_inputs}) or (..., *{self.input_shape})"
                )
            a = a.reshape(*a.shape[: a.ndim - rank], self.n_inputs)
        for layer in self.layers:
            a = layer(a)
        return a

    def exact(self, x: Sequence[Rational]) -> list[Fraction]:
        """Evaluate in exact rational arithmetic.

        Parameters
        ----------
        x : n_inputs rationals (floats are exact rationals too: ``map(Fraction, x)``)

        Raises
        ------
        InputError
            The network has coefficients that no float holds; use :meth:`enclose`.
        """
        if self.has_slack:
            raise InputError("this network has coefficients known only within an interval; use Network.enclose")
        return [low for low, _ in self.enclose(x)]

    def enclose(self, x: Sequence[Rational]) -> list[tuple[Fraction, Fraction]]:
        """Evaluate in exact rational interval arithmetic.

        Returns
        -------
        n_outputs pairs (lower, upper)
            Equal where no coefficient has slack; the true output always lies within.
        """
        if len(x) != self.n_inputs:
            raise ShapeError(f"{len(x)} values given, the network takes {self.n_inputs} inputs")
        point = [Fraction(value) for value in x]
        scale = lcm(*(value.denominator for value in point))
        low = high = [value.numerator * (scale // value.denominator) for value in point]
        for layer in self.layers:
            if isinstance(layer, Relu):
                mask = layer.mask.tolist()
                same = low is high
                low = [max(v, 0) if on else v for v, on in zip(low, mask, strict=True)]
                high = low if same else [max(v, 0) if on else v for v, on in zip(high, mask, strict=True)]
            else:
                low, high, scale = _enclose_affine(layer, low, high, scale)
        return [(Fraction(a, scale), Fraction(b, scale)) for a, b in zip(low, high, strict=True)]

    def then(self, *layers: Layer) -> Network:
        """Return this network followed by further layers."""
        return replace(self, layers=(*self.layers, *layers), output_shape=())

    def carrying_input(self) -> Network:
        """Return the network whose outputs are this one's outputs followed by its inputs.

        The inputs ride along as coordinates that every layer passes through.
        """
        import scipy.sparse as sp

        n = self.n_inputs
        identity = sp.eye_array(n, format="csr")
        zero = np.zeros(n)
        start = Affine(sp.vstack([identity, identity]), np.zeros(2 * n), np.zeros(2 * n, np.int64))
        layers: list[Layer] = [start]
        for layer in self.layers:
            if isinstance(layer, Relu):
                layers.append(Relu(np.concatenate([layer.mask, np.zeros(n, bool)])))
            else:
                layers.append(
                    Affine(
                        sp.block_diag([layer.csr, identity], format="csr"),
                        np.concatenate([layer.bias, zero]),
                        np.concatenate([layer.roundings, zero.astype(np.int64)]),
                        np.concatenate([layer.slack, zero]),
                        np.concatenate([layer.absolute, zero]),
                    )
                )
        return replace(self, layers=tuple(layers), output_shape=())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the layers' content, in hexadecimal; storage (dense or CSR) does not count."""
        sha = hashlib.sha256(b"optverify network 1\n")
        for part in self._content():
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part)
        return sha.hexdigest()

    def _content(self) -> Iterator[bytes]:
        for layer in self.layers:
            if isinstance(layer, Relu):
                yield b"relu"
                yield layer.mask.astype("<u1").tobytes()
            else:
                yield b"affine"
                yield np.array(layer.shape, "<i8").tobytes()
                ends, columns, values = _nonzeros(layer.weight)
                for array, kind in (
                    (ends, "<i8"),
                    (columns, "<i8"),
                    (values, "<f8"),
                    (layer.bias + 0.0, "<f8"),  # -0.0 and 0.0 are the same bias
                    (layer.roundings, "<i8"),
                    (layer.slack + 0.0, "<f8"),
                ):
                    yield np.asarray(array).astype(kind).tobytes()
                if layer.absolute.any():
                    yield (layer.absolute + 0.0).astype("<f8").tobytes()
        if self.semantics is not REAL:
            yield self.semantics.name.encode()

    def __repr__(self) -> str:
        label = f" {self.name!r}" if self.name else ""
        return (
            f"<Network{label}: {self.n_inputs} inputs, {len(self.relus)} ReLU layers with {self.n_neurons} neurons, "
            f"{self.n_outputs} outputs>"
        )

    def describe(self) -> str:
        """Return a few lines of text about the network."""
        return text.card(f"Network {self.name}".strip(), self._rows())

    def _repr_html_(self) -> str:
        return html.card(f"Network {self.name}".strip(), self._rows())

    def _rows(self) -> dict[str, str]:
        layers = " -> ".join(
            f"ReLU({int(layer.mask.sum())})"
            if isinstance(layer, Relu)
            else f"Affine({layer.shape[1]}, {layer.shape[0]})"
            for layer in self.layers
        )
        return {
            "inputs": f"{self.n_inputs}, shape {self.input_shape}",
            "layers": layers,
            "neurons": str(self.n_neurons),
            "outputs": str(self.n_outputs),
            "SHA-256": self.digest,
        }


def _enclose_affine(layer: Affine, low: list[int], high: list[int], scale: int) -> tuple[list[int], list[int], int]:
    """One affine step on integer intervals over a common denominator `scale`."""
    rows = layer.exact
    new_low: list[int] = []
    new_high: list[int] = []
    point = low is high
    for columns, weights, bias in zip(rows.columns, rows.weights, rows.biases, strict=True):
        a = [low[j] for j in columns]
        if point:
            new_low.append(sum(map(mul, weights, a)) + bias * scale)
            continue
        b = [high[j] for j in columns]
        new_low.append(sum(w * (p if w > 0 else q) for w, p, q in zip(weights, a, b, strict=True)) + bias * scale)
        new_high.append(sum(w * (q if w > 0 else p) for w, p, q in zip(weights, a, b, strict=True)) + bias * scale)
    scale <<= rows.shift
    if point:
        new_high = new_low
    if any(rows.slacks):
        new_low, new_high, scale = _widen_relatively(rows, low, high, new_low, new_high, scale)
    if any(rows.absolutes):
        # Most scales are multiples of a large enough power of two after the first layer.
        more = max(0, rows.absolute_shift - (scale & -scale).bit_length() + 1)
        scale <<= more
        errors = [error * scale >> rows.absolute_shift for error in rows.absolutes]
        new_high = [(v << more) + e for v, e in zip(new_high, errors, strict=True)]
        new_low = [(v << more) - e for v, e in zip(new_low, errors, strict=True)]
    return new_low, new_high, scale


def _widen_relatively(
    rows: _ExactRows, low: list[int], high: list[int], new_low: list[int], new_high: list[int], scale: int
) -> tuple[list[int], list[int], int]:
    """Widen by the slack of the rows; `low` and `high` enter over the scale without their shift."""
    size = [max(abs(p), abs(q)) for p, q in zip(low, high, strict=True)]
    before = scale >> rows.shift
    errors = [
        slack * (sum(abs(w) * size[j] for j, w in zip(columns, weights, strict=True)) + abs(bias) * before)
        for columns, weights, bias, slack in zip(rows.columns, rows.weights, rows.biases, rows.slacks, strict=True)
    ]
    q = rows.slack_shift
    return (
        [(v << q) - e for v, e in zip(new_low, errors, strict=True)],
        [(v << q) + e for v, e in zip(new_high, errors, strict=True)],
        scale << q,
    )
