"""The verbs that the readers speak: from tensors of coordinates to Affine and Relu layers.

A tensor whose values depend on the input is an integer array of *coordinates* in the tensor's shape, so
reshaping, transposing, slicing, gathering and concatenating are numpy indexing and cost nothing. Each
verb of :class:`Builder` takes such arrays and returns one. :meth:`Builder.network` turns what was said
into a :class:`~optverify.network.Network` (see :mod:`optverify.io.schedule`).

There are two kinds of rows. A *step* is something the deployed program computes in floating point; it
carries its roundings, and two steps are never merged, but for a product that gets its bias. *Exact* rows,
such as a - b in max(a, b) = b + relu(a - b), exist in the lowered network only: no roundings, and they
are merged with other exact rows where that is exact too. ``docs/lowering.md`` has the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.errors import InputError
from optverify.interval import UNIT, Array
from optverify.io.exactness import exact_add, exact_multiply, exact_sums, is_power_of_two
from optverify.io.schedule import STEPS, ZERO, Graph, Ids, Rectified, Rows, layers
from optverify.io.sparse import csr, stack
from optverify.network import Network

SMALLEST_NORMAL = 2.0**-1022


class Builder:
    """A network under construction.

    Parameters
    ----------
    n_inputs : int
        Number of inputs; :attr:`inputs` are their coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> from optverify.io.lowering import Builder
    >>> builder = Builder(2)
    >>> largest = builder.maximum(builder.inputs[:1], builder.inputs[1:])
    >>> builder.network(largest)(np.array([3.0, 5.0]))
    array([5.])
    """

    def __init__(self, n_inputs: int) -> None:
        self._graph = Graph(n_inputs)
        self._open: set[int] = set()  # products that have no bias yet
        self._relu_of: dict[int, int] = {ZERO: ZERO}
        self._only_real = ""

    @property
    def inputs(self) -> Ids:
        """Coordinates of the inputs, (n_inputs,) int."""
        return np.arange(self._graph.n_inputs)

    def network(
        self, outputs: Ids, input_shape: tuple[int, ...] = (), name: str = "", formats: Iterable[str] = ()
    ) -> Network:
        """Return the network with the given coordinates as outputs, in C order.

        Parameters
        ----------
        outputs : (k,) int
        input_shape : tuple of int, optional
        name : str, optional
        formats : strings
            Of all values that depend on the input.
        """
        used = sorted(set(formats))
        if len(used) > 1:
            self.only_over_the_reals(f"the network computes in {' and '.join(used)}")
        return Network(
            layers(self._graph, outputs.ravel()),
            input_shape,
            name,
            format=used[0] if len(used) == 1 else "",
            only_real=self._only_real,
            output_shape=outputs.shape,
        )

    def only_over_the_reals(self, reason: str) -> None:
        """Remember why the roundings of the rows do not bound what an execution in floating point may be off."""
        self._only_real = self._only_real or reason

    # ------------------------------------------------------------------ steps of the deployed program

    def affine(
        self,
        weight: Any,
        ids: Ids,
        bias: ArrayLike | None = None,
        *,
        roundings: ArrayLike | None = None,
        slack: ArrayLike = 0.0,
    ) -> Ids:
        """Add the step ``weight @ ids + bias``.

        Parameters
        ----------
        weight : (m, k) float64, dense or csr_array; or (m,), a diagonal
            An entry that is stored is a term, also if it is zero.
        ids : (k,) int
        bias : (m,) float64, optional
            Without one, a constant that is added next becomes the bias (:meth:`shift`).
        roundings : (m,) int, optional
            By default one for each term and one for the bias.
        slack : (m,) float64
            Relative uncertainty of each row.

        Returns
        -------
        (m,) int
        """
        columns = ids.ravel()
        if weight.ndim == 1 and (roundings is None or (columns == ZERO).any() or _repeated(columns).any()):
            weight = csr(weight)
        weight, columns = _without_zero(weight, columns)
        rows = int(weight.shape[0])
        if roundings is None:
            terms = np.full(rows, columns.size) if isinstance(weight, np.ndarray) else np.diff(weight.indptr)
            roundings = terms + (bias is not None)
        repeated = _repeated(columns)
        if repeated.any():
            merged = _merged(weight, columns)
            if merged is not None:
                weight, columns = merged
            else:
                # w1 x + w2 x is not (w1 + w2) x in the deployed program: give each occurrence its own copy.
                columns = columns.copy()
                columns[repeated] = self.exact(csr(np.ones(int(repeated.sum()))), columns[repeated])
        relative = np.broadcast_to(np.asarray(slack, np.float64), rows)
        fresh = self._rows(weight, columns, bias, np.broadcast_to(np.asarray(roundings, np.int64), rows), relative)
        if bias is None and not relative.any():
            self._open.add(len(self._graph.operations) - 1)
        return fresh

    def add(self, ids: list[Ids], signs: ArrayLike | None = None, bias: ArrayLike | None = None) -> Ids:
        """Add the sum of tensors, each with a sign, and of a constant.

        Parameters
        ----------
        ids : t arrays of int that broadcast against each other
        signs : (t,) of 1 or -1, optional
        bias : array of float64, optional

        Returns
        -------
        array of int in the common shape
        """
        constant = np.zeros(()) if bias is None else np.asarray(bias, np.float64)
        shape = np.broadcast_shapes(*(part.shape for part in (*ids, constant)))
        terms = np.stack([np.broadcast_to(part, shape) for part in ids], axis=-1)
        coefficients = np.ones(len(ids)) if signs is None else np.asarray(signs, np.float64)
        roundings = np.maximum((terms != ZERO).sum(axis=-1).ravel() - (bias is None), 0)
        weight = _termwise(np.broadcast_to(coefficients, (terms.size // len(ids), len(ids))))
        offset = np.broadcast_to(constant, shape).ravel()
        return self.affine(weight, terms.ravel(), offset, roundings=roundings).reshape(shape)

    def shift(self, ids: Ids, constant: ArrayLike, *, sign: float = 1.0) -> Ids:
        """Add the sum ``sign * ids + constant``; a product without bias becomes one step with it."""
        ids, values = _broadcast(ids, constant)
        if sign == 1.0:
            if not values.any():
                return ids
            if (ids != ZERO).all() and self._open.issuperset(self._operation_of(ids).ravel().tolist()):
                return self._with_bias(ids.ravel(), values.ravel()).reshape(ids.shape)
        return self.elementwise(sign, ids, values, roundings=1)

    def scale(self, ids: Ids, factors: ArrayLike) -> Ids:
        """Add the product ``factors * ids``, entry by entry."""
        ids, values = _broadcast(ids, factors)
        if (values == 1.0).all():
            return ids
        return self.elementwise(values, ids, None, roundings=1)

    def divide(self, ids: Ids, divisors: ArrayLike) -> Ids:
        """Add the quotient ``ids / divisors``.

        Notes
        -----
        The coefficient is fl(1/c), with |1/c - fl(1/c)| <= 2**-53 |fl(1/c)|. Two roundings, as some programs
        multiply by the rounded reciprocal.
        """
        ids, values = _broadcast(ids, divisors)
        if (values == 1.0).all():
            return ids
        reciprocal, slack = _reciprocal(values)
        return self.elementwise(reciprocal, ids, None, roundings=2, slack=slack)

    def mean(self, ids: Ids, counts: ArrayLike | None = None) -> Ids:
        """Add the mean over the last axis.

        Parameters
        ----------
        ids : (..., t) int
            :data:`ZERO` entries are padding.
        counts : (...) float64, optional
            Divisors; t by default.
        """
        shape, terms = ids.shape[:-1], ids.shape[-1]
        divisor = np.broadcast_to(np.asarray(terms if counts is None else counts, np.float64), shape).ravel()
        reciprocal, slack = _reciprocal(divisor)
        weight = _termwise(np.broadcast_to(reciprocal[:, None], (divisor.size, terms)))
        # t - 1 additions, then a division, or a product with the rounded reciprocal.
        roundings = (ids != ZERO).sum(axis=-1).ravel() + 1
        fresh = self.affine(weight, ids.ravel(), np.zeros(divisor.size), roundings=roundings, slack=slack)
        return fresh.reshape(shape)

    def elementwise(
        self, factors: ArrayLike, ids: Ids, bias: ArrayLike | None, *, roundings: int, slack: ArrayLike = 0.0
    ) -> Ids:
        """Add the step ``factors * ids + bias``, entry by entry; all arrays broadcast to the shape of `ids`."""
        coefficients, relative = np.broadcast_to(factors, ids.shape), np.broadcast_to(slack, ids.shape)
        offset = None if bias is None else np.broadcast_to(bias, ids.shape).ravel()
        weight = np.asarray(coefficients, np.float64).ravel()
        fresh = self.affine(weight, ids.ravel(), offset, roundings=roundings, slack=relative.ravel())
        return fresh.reshape(ids.shape)

    def round(self, ids: Ids) -> Ids:
        """Add a step that keeps the values but for one rounding (a conversion to a narrower format)."""
        return self.elementwise(1.0, ids, 0.0, roundings=1)

    def leaky(self, ids: Ids, slopes: ArrayLike) -> Ids:
        """Add ``x if x > 0 else slope * x``.

        Notes
        -----
        With r = relu(x) it is (1 - slope) r + slope x where 1 - slope is a float, and in general the two
        rows d = x - r, which is exact, and r + slope d.
        """
        ids, values = _broadcast(ids, slopes)
        positive = self.relu(ids)
        if not values.any():
            return positive
        keep, (x, r, slope) = _where_different(ids, positive, values)
        rest, exact = exact_add(1.0, -slope)
        if exact:
            pairs, weight = np.stack([r, x], axis=-1), _termwise(np.stack([rest, slope], axis=-1))
        else:
            below = self._exact_terms([1.0, -1.0], [x, r])
            pairs, weight = np.stack([r, below], axis=-1), _termwise(np.stack([np.ones_like(slope), slope], axis=-1))
        fresh = self.affine(weight, pairs.ravel(), np.zeros(x.size), roundings=1)
        return _put(ids, keep, fresh)

    # ------------------------------------------------------------------ exact in any format

    def exact(self, weight: Any, ids: Ids, bias: ArrayLike | None = None) -> Ids:
        """Add rows that only the lowered network has; no rounding is ever made in them.

        Parameters
        ----------
        weight : (m, k) csr_array of small integers
        ids : (k,) int
        bias : (m,) float64, optional

        Notes
        -----
        Where the coordinates that are ready last come from exact rows too, those are inserted, so that both
        fit into one layer (if the coefficients and biases can be added without rounding).
        """
        weight, columns = _without_zero(csr(weight), ids.ravel())
        if _repeated(columns).any():
            weight, columns = _over_distinct(weight, columns)
            weight.sum_duplicates()
        offset = np.zeros(weight.shape[0]) if bias is None else np.asarray(bias, np.float64)
        weight, columns, offset = self._insert_exact(weight, columns, offset)
        nothing = np.zeros(offset.size)
        return self._rows(weight, columns, offset, nothing.astype(np.int64), nothing)

    def constant(self, values: ArrayLike) -> Ids:
        """Add coordinates that do not depend on the input."""
        array = np.asarray(values, np.float64)
        fresh = np.full(array.size, ZERO)
        nonzero = np.flatnonzero(array)
        if nonzero.size:
            none = np.empty(0, np.int64)
            fresh[nonzero] = self.exact(csr((nonzero.size, 0)), none, array.ravel()[nonzero])
        return fresh.reshape(array.shape)

    def relu(self, ids: Ids) -> Ids:
        """Add ``max(x, 0)``; the same coordinate is rectified once only, and not again."""
        distinct, inverse = np.unique(ids, return_inverse=True)
        known = self._relu_of
        new = np.array([i for i in distinct.tolist() if i not in known], np.int64)
        if new.size:
            fresh = self._graph.rectified(new).tolist()
            known.update(zip(new.tolist(), fresh, strict=True))
            known.update(zip(fresh, fresh, strict=True))
        values = np.array([known[i] for i in distinct.tolist()], np.int64)
        return values[inverse].reshape(ids.shape)

    def negative(self, ids: Ids) -> Ids:
        """Add ``-x``."""
        return self._exact_terms([-1.0], [ids])

    def absolute(self, ids: Ids) -> Ids:
        """Add ``|x| = 2 relu(x) - x``."""
        keep, (x, r) = _where_different(ids, self.relu(ids))
        return _put(ids, keep, self._exact_terms([2.0, -1.0], [r, x]))

    def maximum(self, a: Ids, b: Ids) -> Ids:
        """Add ``max(a, b) = b + relu(a - b)``."""
        a, b = np.broadcast_arrays(a, b)
        result = np.where(a == ZERO, b, a).ravel()
        against_zero = ((a == ZERO) | (b == ZERO)).ravel()
        result[against_zero] = self.relu(result[against_zero])
        both = ~against_zero & (a != b).ravel()
        # The same pair may occur in many windows of a pooling layer.
        keys, inverse = np.unique(a.ravel()[both] * self._graph.size + b.ravel()[both], return_inverse=True)
        first, second = np.divmod(keys, self._graph.size)
        excess = self.relu(self._exact_terms([1.0, -1.0], [first, second]))
        result[both] = self._exact_terms([1.0, 1.0], [second, excess])[inverse]
        return result.reshape(a.shape)

    def minimum(self, a: Ids, b: Ids) -> Ids:
        """Add ``min(a, b) = b - relu(b - a)``."""
        a, b = np.broadcast_arrays(a, b)
        excess = self.relu(self._exact_terms([1.0, -1.0], [b, a]))
        return self._exact_terms([1.0, -1.0], [b, excess])

    def at_least(self, ids: Ids, lowest: ArrayLike) -> Ids:
        """Add ``max(x, c) = c + relu(x - c)`` for constants; x itself where c is minus infinity."""
        return self._clamp(ids, lowest, 1.0)

    def at_most(self, ids: Ids, highest: ArrayLike) -> Ids:
        """Add ``min(x, c) = c - relu(c - x)`` for constants; x itself where c is infinity."""
        return self._clamp(ids, highest, -1.0)

    def clip(self, ids: Ids, lowest: ArrayLike, highest: ArrayLike) -> Ids:
        """Add ``min(max(x, lowest), highest)``."""
        return self.at_most(self.at_least(ids, lowest), highest)

    # ------------------------------------------------------------------ how

    def _rows(self, weight: Any, columns: Ids, bias: ArrayLike | None, roundings: Any, slack: Any) -> Ids:
        if not isinstance(weight, np.ndarray):
            used = np.unique(weight.indices)
            if used.size < columns.size:
                indices = np.searchsorted(used, weight.indices)
                weight = csr((weight.data, indices, weight.indptr), (weight.shape[0], used.size))
                columns = columns[used]
        offset = np.zeros(weight.shape[0]) if bias is None else np.asarray(bias, np.float64).ravel()
        return self._graph.rows(weight, columns, offset, roundings, slack)

    def _operation_of(self, ids: Ids) -> NDArray[np.int64]:
        return self._graph.operation[ids]

    def _with_bias(self, ids: Ids, values: Array) -> Ids:
        """Write products anew with their bias, one more rounding each."""
        result = np.empty_like(ids)
        operations = self._operation_of(ids)
        order = np.argsort(operations, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(operations[order])) + 1):
            block = self._graph.operations[operations[group[0]]]
            if not isinstance(block, Rows):  # only products are open
                raise TypeError(block)
            rows = ids[group] - block.first
            weight, columns = block.select(rows)
            result[group] = self._rows(weight, columns, values[group], block.roundings[rows] + 1, block.slack[rows])
        return result

    def _exact_terms(self, coefficients: list[float], ids: list[Ids], bias: Array | None = None) -> Ids:
        """Add the exact rows with one term of each tensor."""
        terms = np.stack(ids, axis=-1)
        shape = terms.shape[:-1]
        weight = _termwise(np.broadcast_to(np.asarray(coefficients), (terms.size // len(ids), len(ids))))
        return self.exact(weight, terms.ravel(), None if bias is None else bias.ravel()).reshape(shape)

    def _clamp(self, ids: Ids, bound: ArrayLike, sign: float) -> Ids:
        """max(x, c) for sign 1, min(x, c) for sign -1: c + sign relu(sign (x - c))."""
        ids, values = _broadcast(ids, bound)
        if np.isnan(values).any() or (values == sign * np.inf).any():
            raise InputError(f"a bound is {values[np.isnan(values) | np.isinf(values)].ravel()[0]}: give a finite one")
        keep = values == -sign * np.inf
        x, c = ids[~keep], values[~keep]
        excess = self.relu(x if sign > 0 and not c.any() else self._exact_terms([sign], [x], -sign * c))
        fresh = excess if sign > 0 and not c.any() else self._exact_terms([sign], [excess], c)
        return _put(ids, keep, fresh)

    def _insert_exact(self, weight: Any, columns: Ids, bias: Array) -> tuple[Any, Ids, Array]:
        """Return the rows in terms of earlier coordinates, if what they read last is exact as well."""
        graph = self._graph
        time = graph.time[columns]
        last = time == time.max(initial=0)
        sources = np.unique(self._operation_of(columns[last]))
        blocks = [graph.operations[i] for i in sources.tolist() if i >= 0]
        if len(blocks) != sources.size or not columns.size or time.max() % STEPS == 0:
            return weight, columns, bias
        parts: list[tuple[NDArray[np.int64], Any, Ids, Array]] = []
        for block in blocks:
            inside = np.flatnonzero((columns >= block.first) & (columns < block.stop))
            rows = columns[inside] - block.first
            if isinstance(block, Rectified) or block.rounded[rows].any():
                return weight, columns, bias
            parts.append((inside, csr(block.weight)[rows], block.columns, block.bias[rows]))
        others = np.flatnonzero(~last)
        parts.append((others, csr(np.ones(others.size)), columns[others], np.zeros(others.size)))
        earlier = np.unique(np.concatenate([part[2] for part in parts]))
        order = np.argsort(np.concatenate([part[0] for part in parts]))
        inserted = stack(
            [
                csr((w.data, np.searchsorted(earlier, c)[w.indices], w.indptr), (w.shape[0], earlier.size))
                for _, w, c, _ in parts
            ]
        )[order]
        constants = np.concatenate([part[3] for part in parts])[order]
        terms, multiplied = exact_multiply(weight.data, constants[weight.indices])
        factors = np.concatenate([weight.data, inserted.data])
        if not (
            multiplied
            and exact_sums(abs(weight) @ np.abs(constants) + np.abs(bias), np.concatenate([terms, bias]))
            and (factors == np.rint(factors)).all()
            and (abs(weight) @ abs(inserted)).sum() < 1 / UNIT
        ):
            return weight, columns, bias
        return csr(weight @ inserted), earlier, bias + weight @ constants


def _termwise(coefficients: Array) -> Any:
    """Return the (m, m * t) matrix whose row i has the t coefficients i in the columns i t, ..., i t + t - 1."""
    rows, terms = coefficients.shape
    size = rows * terms
    indices = np.arange(size, dtype=np.int32)
    return csr((coefficients.ravel(), indices, np.arange(0, size + 1, terms, dtype=np.int32)), (rows, size))


def _broadcast(ids: Ids, constant: ArrayLike) -> tuple[Ids, Array]:
    a, b = np.broadcast_arrays(ids, np.asarray(constant, np.float64))
    return np.asarray(a), np.asarray(b)


def _reciprocal(values: Array) -> tuple[Array, Array]:
    """Return fl(1/c) and its relative uncertainty."""
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = 1.0 / values
    usable = np.isfinite(values) & np.isfinite(reciprocal) & (np.abs(reciprocal) >= SMALLEST_NORMAL)
    if not usable.all():
        raise InputError(f"division by {values[~usable].ravel()[0]} has no finite result that a float holds")
    return reciprocal, np.where(is_power_of_two(values), 0.0, UNIT)


def _where_different(ids: Ids, rectified: Ids, *others: Array) -> tuple[NDArray[np.bool_], tuple[Any, ...]]:
    """Return where rectifying changes nothing, and the flat rest of all arrays."""
    same = ids == rectified
    return same, tuple(array[~same] for array in (ids, rectified, *others))


def _put(ids: Ids, keep: NDArray[np.bool_], fresh: Ids) -> Ids:
    """Return the tensor with fresh coordinates but where the old ones are kept."""
    result = ids.copy()
    result[~keep] = fresh
    return result


def _without_zero(weight: Any, columns: Ids) -> tuple[Any, Ids]:
    """Drop the terms of the coordinate that is always zero."""
    if (columns != ZERO).all():
        return weight, columns
    keep = np.flatnonzero(columns != ZERO)
    return weight[:, keep], columns[keep]


def _repeated(columns: Ids) -> NDArray[np.bool_]:
    """Return which entries occur earlier in the array too."""
    repeated = np.ones(columns.size, bool)
    repeated[np.unique(columns, return_index=True)[1]] = False
    return repeated


def _merged(weight: Any, columns: Ids) -> tuple[Any, Ids] | None:
    """Return the rows over distinct coordinates; None if some row reads a coordinate twice."""
    if isinstance(weight, np.ndarray):
        return None
    merged, distinct = _over_distinct(weight, columns)
    merged.sort_indices()
    return (merged, distinct) if merged.has_canonical_format else None


def _over_distinct(weight: Any, columns: Ids) -> tuple[Any, Ids]:
    """Return the rows over distinct coordinates; a row may then have several entries in one column."""
    distinct, inverse = np.unique(columns, return_inverse=True)
    # Copied: sorting and summing work in place.
    entries = (weight.data.copy(), inverse[weight.indices], weight.indptr.copy())
    return csr(entries, (weight.shape[0], distinct.size)), distinct
