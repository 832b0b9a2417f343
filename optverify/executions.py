"""Executions of a network in a floating-point format, each in one concrete order: what can falsify a statement.

A row of a step is evaluated term by term where that makes no more roundings than its step may make; otherwise (the
slope of a leaky ReLU, say) it is evaluated exactly and rounded once, which is what the deployed program does. Rows that
only the lowered network has are evaluated exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from optverify.deployment import deployed
from optverify.errors import OptverifyError
from optverify.interval import Array, nearest
from optverify.io.runtime import has_torch, run_onnx, torch_step
from optverify.network import Affine, Network, Rational, Relu
from optverify.query import Query
from optverify.region import Box
from optverify.semantics import Semantics
from optverify.witness import Witness

NEIGHBOURS = 16
"""Representable points around a doubtful one that are tried too: the least noise may decide."""

NATIVE = {"float32": np.float32, "float64": np.float64}
"""Formats in which numpy multiplies matrices without a wider accumulator."""


@dataclass(frozen=True, eq=False)
class _Sum:
    """Rows of k terms w_i a_i and a bias each: (g, k), (..., g, k) and (g,) numbers of the format."""

    weight: Array
    values: Array
    bias: Array
    semantics: Semantics

    def products(self) -> Array:
        return self.semantics.round(self.weight * self.values)


Order = Callable[[_Sum], Array]
"""Evaluates rows in one order: (..., g)."""


def _one_by_one(parts: Sequence[Array], semantics: Semantics) -> Array:
    """Add from left to right."""
    total = parts[0]
    for part in parts[1:]:
        total = semantics.round(total + part)
    return np.asarray(total)


def _columns(terms: Array) -> list[Array]:
    return [terms[..., i] for i in range(terms.shape[-1])]


def _with_bias(rows: _Sum, total: Array) -> Array:
    return rows.semantics.round(total + rows.bias)


def left_to_right(rows: _Sum) -> Array:
    """Add the products from the first to the last, then the bias."""
    return _with_bias(rows, _one_by_one(_columns(rows.products()), rows.semantics))


def right_to_left(rows: _Sum) -> Array:
    """Add the products from the last to the first, then the bias."""
    return _with_bias(rows, _one_by_one(_columns(rows.products())[::-1], rows.semantics))


def bias_first(rows: _Sum) -> Array:
    """Start from the bias."""
    terms = rows.products()
    return _one_by_one([np.broadcast_to(rows.bias, terms.shape[:-1]), *_columns(terms)], rows.semantics)


def pairwise(rows: _Sum) -> Array:
    """Add neighbours, then neighbouring sums, and so on; then the bias."""
    terms = rows.products()
    while terms.shape[-1] > 1:
        if terms.shape[-1] % 2:
            terms = np.concatenate([terms, np.zeros((*terms.shape[:-1], 1))], axis=-1)
        terms = rows.semantics.round(terms[..., 0::2] + terms[..., 1::2])
    return _with_bias(rows, terms[..., 0])


def _ordered(rows: _Sum, key: Callable[[Array], Array]) -> Array:
    terms = np.concatenate(
        [rows.products(), np.broadcast_to(rows.bias[:, None], (*rows.values.shape[:-1], 1))], axis=-1
    )
    order = np.argsort(key(terms), axis=-1, kind="stable")
    return _one_by_one(_columns(np.take_along_axis(terms, order, axis=-1)), rows.semantics)


def largest_first(rows: _Sum) -> Array:
    """Add the products and the bias from the largest to the smallest absolute value."""
    return _ordered(rows, lambda terms: -np.abs(terms))


def smallest_first(rows: _Sum) -> Array:
    """Add the products and the bias from the smallest to the largest absolute value."""
    return _ordered(rows, np.abs)


def ascending(rows: _Sum) -> Array:
    """Add from the most negative to the most positive."""
    return _ordered(rows, lambda terms: terms)


def descending(rows: _Sum) -> Array:
    """Add from the most positive to the most negative."""
    return _ordered(rows, lambda terms: -terms)


def fused(rows: _Sum) -> Array:
    """Add the products to the bias from the first to the last, by fused multiply-add."""
    weight, values = _columns(rows.weight), _columns(rows.values)
    total: Array = np.broadcast_to(rows.bias, rows.values.shape[:-1])
    for w, a in zip(weight, values, strict=True):
        total = multiply_add(w, a, total, rows.semantics)
    return total


def flushed(rows: _Sum) -> Array:
    """Add from left to right, then the bias, reading and writing zero for subnormal numbers."""
    s = rows.semantics
    total: Array | None = None
    for w, a in zip(_columns(s.flush(rows.weight)), _columns(s.flush(rows.values)), strict=True):
        product = s.flush(s.round(w * a))
        total = product if total is None else s.flush(s.round(total + product))
    assert total is not None
    return s.flush(s.round(total + s.flush(rows.bias)))


def by_numpy(rows: _Sum) -> Array:
    """Multiply by numpy, whose library chooses the order."""
    kind = NATIVE[rows.semantics.name]
    product = np.matmul(rows.values.astype(kind)[..., None, :], rows.weight.astype(kind)[..., :, None])[..., 0, 0]
    return np.asarray(product + rows.bias.astype(kind), np.float64)


def by_torch(rows: _Sum) -> Array:
    """Multiply and add by torch, whose kernels choose the order, and in half precision a wider accumulator."""
    return torch_step(rows.weight, rows.values, rows.bias, rows.semantics.name)


ORDERS: Mapping[str, Order] = {
    "left to right": left_to_right,
    "right to left": right_to_left,
    "bias first": bias_first,
    "pairwise": pairwise,
    "largest first": largest_first,
    "smallest first": smallest_first,
    "ascending": ascending,
    "descending": descending,
    "fused multiply-add": fused,
    "flush to zero": flushed,
    "numpy": by_numpy,
    "torch": by_torch,
}
"""All orders by name."""


def multiply_add(a: Array, b: Array, c: Array, semantics: Semantics) -> Array:
    """Return a b + c, rounded once.

    Notes
    -----
    Products of numbers with at most 26 digits are exact in float64. Their sum with c is rounded to odd there, which
    makes the second rounding harmless (Boldo and Melquiond, IEEE Trans. Comput. 57(4), 2008).
    """
    if semantics.digits > 26:
        exact = np.frompyfunc(lambda x, y, z: nearest(Fraction(x) * Fraction(y) + Fraction(z)), 3, 1)
        finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
        parts = (np.where(finite, part, 0.0) for part in np.broadcast_arrays(a, b, c))
        return np.where(finite, np.asarray(exact(*parts), np.float64), a * b + c)
    product = a * b
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    even = (np.asarray(total).view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even & np.isfinite(total), np.nextafter(total, towards), total)
    return semantics.round(odd)


class Executor:
    """Runs a network in the format of its semantics.

    Parameters
    ----------
    network : Network
        From :func:`optverify.deployment.deployed`.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.semantics = network, network.semantics
        self._steps = [
            _Step.of(layer, self.semantics) if isinstance(layer, Affine) else layer for layer in network.layers
        ]

    def __call__(self, x: Array, order: str) -> Array:
        """Run one point or several.

        Parameters
        ----------
        x : (..., n_inputs) float64
            Numbers of the format.
        order : str
            Of :data:`ORDERS`.

        Returns
        -------
        (..., n_outputs) float64
            Infinite or NaN where the execution overflows.
        """
        state = _State(x, {})
        with np.errstate(all="ignore"):
            for step in self._steps:
                state = state.rectified(step) if isinstance(step, Relu) else step.run(state, ORDERS[order])
        return state.values

    def orders(self) -> list[str]:
        """Return the orders that there are in this format and with what is installed."""
        usable = {"numpy": self.semantics.name in NATIVE, "torch": has_torch()}
        return [name for name in ORDERS if usable.get(name, True)]


@dataclass(frozen=True, eq=False)
class _State:
    """Values between layers: floats, but for coordinates of the lowered network alone that no float64 holds."""

    values: Array
    odd: Mapping[tuple[int, ...], Fraction]

    def __getitem__(self, place: tuple[int, ...]) -> Fraction:
        return self.odd.get(place) or Fraction(float(self.values[place]))

    def rectified(self, layer: Relu) -> _State:
        odd = {k: max(v, Fraction(0)) if layer.mask[k[-1]] else v for k, v in self.odd.items()}
        return _State(np.asarray(layer(self.values)), odd)


@dataclass(frozen=True, eq=False)
class _Step:
    """An affine layer, its rows sorted by how they are evaluated."""

    layer: Affine
    semantics: Semantics
    groups: tuple[tuple[NDArray[np.intp], NDArray[np.intp], Array], ...]  # rows, columns (g, k), weights (g, k)
    copies: tuple[NDArray[np.intp], NDArray[np.intp]]
    once: NDArray[np.intp]  # exactly, rounded once
    exact: NDArray[np.intp]
    bias: Array

    @classmethod
    def of(cls, layer: Affine, semantics: Semantics) -> _Step:
        csr, counts = layer.csr, np.diff(layer.csr.indptr)
        weights, bias = semantics.round(csr.data), semantics.round(layer.bias)
        rows = np.repeat(np.arange(counts.size), counts)
        rounded = np.bincount(rows, np.abs(np.frexp(weights)[0]) != 0.5, counts.size) > 0
        made = rounded + np.maximum(counts - 1, 0) + ((bias != 0) & (counts > 0))
        step = layer.roundings > 0
        term_by_term = step & (made <= layer.roundings) & (counts > 0)
        groups = []
        for k in np.unique(counts[term_by_term]).tolist():
            chosen = np.flatnonzero(term_by_term & (counts == k))
            entries = csr.indptr[chosen][:, None] + np.arange(k)
            groups.append((chosen, csr.indices[entries], weights[entries]))
        single = ~step & (counts == 1) & (layer.bias == 0)
        single[rows[csr.data != 1.0]] = False
        copies = np.flatnonzero(single)
        return cls(
            layer,
            semantics,
            tuple(groups),
            (copies, csr.indices[csr.indptr[copies]]),
            np.flatnonzero(step & ~term_by_term),
            np.flatnonzero(~step & ~single),
            bias,
        )

    def run(self, state: _State, order: Order) -> _State:
        values = state.values
        result = np.empty((*values.shape[:-1], self.layer.shape[0]))
        for rows, columns, weights in self.groups:
            read = values[..., columns]
            proper = self.semantics.holds(read).all(axis=-1)  # otherwise it is no execution in the format
            result[..., rows] = np.where(proper, order(_Sum(weights, read, self.bias[rows], self.semantics)), np.nan)
        rows, columns = self.copies
        result[..., rows] = values[..., columns]
        odd: dict[tuple[int, ...], Fraction] = {}
        if state.odd:
            where = dict(zip(columns.tolist(), rows.tolist(), strict=True))
            odd = {(*k[:-1], where[k[-1]]): v for k, v in state.odd.items() if k[-1] in where}
        for place in np.ndindex(*values.shape[:-1]):
            for row in self.exact.tolist():
                exact = self._exact(state, place, row)
                result[*place, row] = np.nan if exact is None else nearest(exact)
                if exact is not None and Fraction(result[*place, row].item()) != exact:
                    odd[*place, row] = exact
            for row in self.once.tolist():
                exact = self._exact(state, place, row)
                result[*place, row] = np.nan if exact is None else self.semantics.nearest(exact)
        return _State(result, odd)

    def _exact(self, state: _State, place: tuple[int, ...], row: int) -> Fraction | None:
        """Return a row's exact value; None if it reads what is not finite."""
        csr = self.layer.csr
        span = slice(csr.indptr[row], csr.indptr[row + 1])
        columns = csr.indices[span].tolist()
        if not np.isfinite(state.values[place][columns]).all():
            return None
        terms = zip(csr.data[span].tolist(), columns, strict=True)
        return sum((Fraction(w) * state[*place, j] for w, j in terms), Fraction(self.layer.bias[row].item()))


# ---------------------------------------------------------------------- witnesses


def representable(region: Box, point: Sequence[Rational | float], semantics: Semantics) -> Array | None:
    """Return a point of the format within a region, near a given one; None if there is none."""
    found = [
        semantics.within(value, low, high)
        for value, low, high in zip(region.clamp(point), region.lower, region.upper, strict=True)
    ]
    return None if None in found else np.array(found, np.float64)


def runs(network: Network, point: Sequence[Fraction], semantics: Semantics) -> dict[str, tuple[float, ...]]:
    """Run a point in exact arithmetic, in every order, and in the runtimes that are installed.

    Parameters
    ----------
    network : Network
        Over the reals.
    point : (n_inputs,) Fraction
        Rounded to the format where it is none of its points.
    semantics : Semantics
        Of a floating-point format.

    Returns
    -------
    dict from name to outputs
        Those in exact arithmetic are rounded to float64.

    Raises
    ------
    ShapeError
        The point has another number of inputs.
    InputError
        Nothing is known about executions of this network in this format.
    """
    exact = [nearest((low + high) / 2) for low, high in network.enclose(point)]
    executor, x = Executor(deployed(network, semantics)), semantics.round([nearest(v) for v in point])
    found = {"exact arithmetic": tuple(exact)}
    found |= {f"{semantics}, {order}": tuple(executor(x, order).tolist()) for order in executor.orders()}
    if network.source.endswith(".onnx"):
        with suppress(OptverifyError):
            run = run_onnx(network.source, x.tolist())
            found[run.runtime] = run.y
    return found


def violation(
    executor: Executor, query: Query, region: Box, point: Sequence[float], *, beside: bool = True
) -> Witness | None:
    """Look for an execution that violates a query at a point, or right beside it.

    Parameters
    ----------
    executor : Executor
    query : Query
    region : Box
        One of the query's.
    point : (n_inputs,) float
    beside : bool
        Whether points some last places away are tried as well.

    Returns
    -------
    Witness or None
        A point of the format within the region, with what the execution named in it computes there.
    """
    network, semantics = executor.network, executor.semantics
    x = representable(region, point, semantics)
    if x is None:
        return None
    if (found := _by_runtime(network, query, x)) is not None:  # what a runtime in use computes is the best evidence
        return found
    tried = np.vstack([x, _neighbours(x, region, semantics)]) if beside else x[None]
    for order in executor.orders():
        for at, y in zip(tried, executor(tried, order), strict=True):
            found = _judged(query, at, y, f"{semantics}, {order}")
            if found is not None and _in_band(network, found):
                return found
    return None


def _neighbours(x: Array, region: Box, semantics: Semantics) -> Array:
    """Return numbers of the format some last places away, within the region."""
    rng = np.random.default_rng(0)
    shifted = x * (1.0 + rng.integers(-4, 5, (NEIGHBOURS, x.size)) * semantics.unit * 2)
    points = [representable(region, row.tolist(), semantics) for row in shifted]
    return np.array([point for point in points if point is not None]).reshape(-1, x.size)


def _judged(query: Query, x: Array, y: Array, execution: str) -> Witness | None:
    if not np.isfinite(y).all():
        return None
    exact_x, exact_y = [Fraction(v) for v in x.tolist()], [(Fraction(v), Fraction(v)) for v in y.tolist()]
    case = query.violated_by(exact_x, exact_y)
    return None if case is None else Witness(tuple(exact_x), tuple(exact_y), case, execution)


def _by_runtime(network: Network, query: Query, x: Array) -> Witness | None:
    """Let onnxruntime run the original file; what lies outside the band is no execution of this network."""
    if not network.source.endswith(".onnx") or network.format != network.semantics.name:
        return None
    try:
        run = run_onnx(network.source, x.tolist())
    except OptverifyError:
        return None
    y = np.array(run.y)
    if run.x != tuple(x.tolist()) or y.shape != (network.n_outputs,):
        return None
    found = _judged(query, x, y, f"{network.semantics}, {run.runtime}")
    if found is None:
        return None
    return found if _in_band(network, found) else None


def _in_band(network: Network, found: Witness) -> bool:
    """Tell whether what a runtime computed is an execution of this network, as far as one can see."""
    return all(a <= v <= b for (v, _), (a, b) in zip(found.y, network.enclose(found.x), strict=True))
