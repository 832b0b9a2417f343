"""The one bound formula: any multipliers in, rigorous linear lower bounds out.

For an objective v . a over the outputs of the first layers of a network, walk the layers backwards with
one multiplier g per output of each affine layer:

* ``Affine`` (a_out = W a + b): with g the current coefficients, g . a_out = (W'g) . a + g . b.
* ``Relu`` (a = relu(z) where masked, else z): for ANY g,
  v . relu(z) >= g . z + sum_j h(v_j, g_j; l_j, u_j),  h(v, g; l, u) = min over z in [l, u] of v relu(z) - g z,
  attained at l, at u or, if l < 0 < u, at 0. Where the layer passes through, g = v.
* at the inputs: the minimum of v . x over the box, or a bound on it over the part in a ball (:mod:`optverify.norms`).

Maximised over g this is the optimum of the triangle relaxation (its Lagrangian dual: Dvijotham et al.,
UAI 2018, eq. 6; Salman et al., NeurIPS 2019, theorem 4.2); with g = slope * v it is CROWN (Zhang et al.,
NeurIPS 2018). Nothing here asks where g came from, so nothing that a solver or a heuristic does wrong can
make the result invalid: it can only make it weak.

Rounding. Products W'g are computed in float64 and the computed numbers are then *given* numbers, so errors
do not compound: with |a| <= m on the region, |fl(W'g) - W'g| . m <= c |g| . (|W| m), c = dot_error(rows of W).
The evaluation keeps a running bound on everything it may have lost and subtracts it at the end. Overflow
and NaN end as -inf. ``docs/soundness.md`` has the argument line by line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from optverify.errors import ShapeError
from optverify.interval import INFLATE, TINY, UNIT, Array, Interval, dot_error, down, times
from optverify.network import Affine, Network, Relu
from optverify.norms import Cut
from optverify.preactivation import Bounds

STEEP = 1.0 + 2.0**-10
"""The rule takes the slope 1 where u > -l times this: u = -l is common, and there all checkers must agree."""


class Multipliers(Protocol):
    """Advice: which g to use at a Relu."""

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer.

        Parameters
        ----------
        relu : int
            Which Relu, counted from the input side.
        v : (B or 1, r, n) float64
            Coefficients on the layer's output.
        z : Interval, ends of shape (B, n)
            Bounds of the layer's input.

        Returns
        -------
        array that broadcasts to (B, r, n) float64
            Any numbers. Coordinates that the layer passes through are ignored.
        """


@dataclass(frozen=True, eq=False)
class Given:
    """Multipliers that are known numbers, such as a linear program's duals.

    Parameters
    ----------
    values : sequence of arrays that broadcast to (B, r, n_k), one per Relu
    """

    values: Sequence[Array]

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:  # noqa: ARG002
        """Return the stored numbers."""
        return self.values[relu]


@dataclass(frozen=True, eq=False)
class Slopes:
    """The CROWN rule: g = slope * v, for which h has a closed form that costs half as much.

    Where v < 0 the slope is that of the chord, u / (u - l). Where v >= 0 it is that of a line below the ReLU
    through 0: 1 if u > -l but for a margin (:data:`STEEP`), else 0 (the choice of least area).
    """

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:  # noqa: ARG002
        """Return g for one Relu layer; see :class:`Multipliers`."""
        below, above = relu_slopes(z)
        return np.asarray(np.maximum(v, 0.0) * below[:, None, :] + np.minimum(v, 0.0) * above[:, None, :])


@dataclass(frozen=True, eq=False)
class Stored:
    """Multipliers as a proof stores them: numbers for some neurons, NaN where the CROWN rule is meant.

    Parameters
    ----------
    g : tuple of (n_k,) float64, one per Relu
    """

    g: tuple[Array, ...]

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        return np.where(np.isnan(self.g[relu]), Slopes()(relu, v, z), self.g[relu])


def relu_slopes(z: Interval) -> tuple[Array, Array]:
    """Return the slopes (below, above) of the ReLU's linear relaxation.

    Both are 1 where l >= 0 and 0 where u <= 0; always in [0, 1].
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        active, unstable = z.lower >= 0, (z.lower < 0) & (z.upper > 0)
        # u / (u - l) in a form that cannot overflow.
        chord = 1.0 / (1.0 - z.lower / np.where(unstable, z.upper, 1.0))
        above = np.where(active, 1.0, np.where(unstable, chord, 0.0))
        below = np.where(active | (unstable & (z.upper > -STEEP * z.lower)), 1.0, 0.0)
        return below, np.nan_to_num(above, nan=1.0)


@dataclass(frozen=True, eq=False)
class Unit:
    """The objectives ``sign * coordinate`` of a layer's output, without storing them as a matrix.

    Parameters
    ----------
    index : (r,) int
    sign : (r,) float64, entries +1 or -1
    """

    index: NDArray[np.intp]
    sign: Array


@dataclass(frozen=True, eq=False)
class LinearBounds:
    """Proved: objective_r(x) >= coefficients_r . x + constant_r, and >= value_r, for all x of region b.

    Parameters
    ----------
    value : (B, r) float64
    coefficients : (B, r, n_inputs) float64
    constant : (B, r) float64
        -inf (with any coefficients) where the evaluation overflowed.
    """

    value: Array
    coefficients: Array
    constant: Array

    def take(self, index: Any) -> LinearBounds:
        """Index the leading axes."""
        return LinearBounds(self.value[index], self.coefficients[index], self.constant[index])


class Frame:
    """What the formula needs to know about a network over B boxes: grown layer by layer.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (B, n_inputs)
        A Cut, if it is boxes cut by a ball.

    Attributes
    ----------
    inputs : list of Interval, ends of shape (B, n_i)
        Proved enclosures of what enters layer i; the last one is what leaves the layers so far.
    """

    def __init__(self, network: Network, region: Interval) -> None:
        if region.lower.ndim != 2 or region.shape[1] != network.n_inputs:
            raise ShapeError(f"the region has shape {region.shape}, expected (B, {network.n_inputs})")
        self.network = network
        self.inputs = [region]
        self._error: list[Array] = []  # of a product with the coefficients 1, by layer; () for a Relu
        self._rule: dict[int, _Rule] = {}
        self._guard = TINY * (1.0 + _total(region.magnitude()))

    @classmethod
    def of(cls, network: Network, region: Interval, bounds: Bounds) -> Frame:
        """Go through all layers, with proved pre-activation bounds; ends of shape (B, n)."""
        frame, known = cls(network, region), iter(bounds.layers)
        for layer in network.layers:
            if isinstance(layer, Relu):
                frame.refine(next(known))
            frame.step()
        return frame

    @property
    def depth(self) -> int:
        """How many layers have been entered."""
        return len(self.inputs) - 1

    @property
    def region(self) -> Interval:
        """The boxes, ends of shape (B, n_inputs)."""
        return self.inputs[0]

    def take(self, index: Any) -> Frame:
        """Return the frame of some of the boxes."""
        part = Frame(self.network, self.region.take(index))
        part.inputs = [z.take(index) for z in self.inputs]
        part._error = [error[index] if error.size else error for error in self._error]
        part._rule = {position: _Rule(*(a[index] for a in rule)) for position, rule in self._rule.items()}
        part._guard = self._guard[index]
        return part

    def step(self) -> Interval:
        """Go through one more layer by interval arithmetic; return what leaves it."""
        layer, entering = self.network.layers[self.depth], self.inputs[-1]
        if isinstance(layer, Affine):
            with np.errstate(over="ignore", invalid="ignore"):
                reach = (times(entering.magnitude(), layer.size) + np.abs(layer.bias)) * INFLATE + TINY
                self._error.append((dot_error(layer.shape[0] + 1) + layer.slack) * reach + layer.absolute)
            leaving = entering.affine(layer.weight, layer.bias, layer.slack, layer.absolute)
        else:
            self._error.append(np.zeros(0))
            leaving = entering.relu(layer.mask)
        with np.errstate(over="ignore", invalid="ignore"):
            self._guard = self._guard + TINY * _total(leaving.magnitude())
        self.inputs.append(leaving)
        return leaving

    def refine(self, better: Interval) -> None:
        """Intersect what leaves the layers so far with other proved bounds."""
        self.inputs[-1] = self.inputs[-1].intersect(better)

    def lower(self, objective: Array | Unit, choose: Multipliers) -> LinearBounds:
        """Bound linear objectives of what leaves the layers so far from below.

        Parameters
        ----------
        objective : (r, n) or (B, r, n) float64, or Unit
        choose : Multipliers
            Advice; any answer gives a valid bound.
        """
        layers = self.network.layers[: self.depth]
        position = len(layers) - 1
        relu = sum(isinstance(layer, Relu) for layer in layers)
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(objective, Unit):
                v, total, lost = self._start(objective)
                position -= 1
            else:
                v = objective if objective.ndim == 3 else objective[None]
                total, lost = np.zeros(v.shape[:2]), np.zeros(v.shape[:2])
            # A product may overflow in a partial sum although its value is small, and a multiplier further
            # down need not depend on v: so an infinite v is remembered, wherever it occurs.
            kept = _all_finite(v)
            size = np.abs(total)
            terms = 4
            while position >= 0:
                layer = layers[position]
                if isinstance(layer, Affine):
                    lost = lost + np.matmul(np.abs(v), self._error[position][..., None])[..., 0]
                    constant = v @ layer.bias
                    v = times(v, layer.weight.T)
                    kept = kept & _all_finite(v)
                    total, size = total + constant, size + np.abs(constant)
                    terms += 1
                else:
                    relu -= 1
                    if isinstance(choose, Slopes):
                        rule = self._rule_at(position)
                        negative = np.minimum(v, 0.0)
                        least = np.matmul(negative, rule.cost[..., None])[..., 0]
                        total, size = total + least, size - least
                        negative = negative * rule.turn[:, None, :]
                        v = v * rule.below[:, None, :]
                        v += negative
                    else:
                        z = self.inputs[position]
                        g = np.where(layer.mask, choose(relu, v, z), v)
                        h = _least(v, g, z, layer.mask)
                        total, size = total + h.sum(-1), size + np.abs(h).sum(-1)
                        v = g
                    terms += layer.mask.size + 4
                position -= 1
            region = self.inputs[0]
            ends = np.where(v > 0, v * region.lower[:, None, :], v * region.upper[:, None, :])
            size = size + np.abs(ends).sum(-1)
            terms += v.shape[-1] + 4
            lost = (lost + terms * UNIT * size) * INFLATE * INFLATE + self._guard[:, None]
            constant = down(down(total) - lost)
            value = down(down(total + ends.sum(-1)) - lost)
            if isinstance(region, Cut):
                value = np.maximum(
                    value, down(constant + region.least(np.broadcast_to(v, (*value.shape, v.shape[-1]))))
                )
            finite = kept & np.isfinite(value) & np.isfinite(constant) & _all_finite(v)
            shape = finite.shape
            return LinearBounds(
                np.where(finite, value, -np.inf),
                np.where(finite[..., None], np.broadcast_to(v, (*shape, v.shape[-1])), 0.0),
                np.where(finite, constant, -np.inf),
            )

    def each(self, box: NDArray[np.intp], coordinate: NDArray[np.intp], sign: Array) -> Array:
        """Bound single coordinates of single boxes from below by the CROWN rule: few boxes have the same open neurons.

        Parameters
        ----------
        box, coordinate : (p,) int
        sign : (p,) float64, entries +1 or -1

        Returns
        -------
        (p,) float64
            Of sign * coordinate; as :meth:`lower` would have it, but for the order of its sums.
        """
        layers = self.network.layers[: self.depth]
        with np.errstate(over="ignore", invalid="ignore"):
            v, total, lost = self._rows(coordinate, sign)
            lost = lost[box, np.arange(box.size)] if lost.size else np.zeros(box.size)
            kept, size, terms = _all_finite(v), np.abs(total), 4
            for position in range(self.depth - 2, -1, -1):
                layer = layers[position]
                if isinstance(layer, Affine):
                    lost += _rowwise(np.abs(v), self._error[position].take(box, axis=0))
                    constant = v @ layer.bias
                    v = times(v, layer.weight.T)
                    kept &= _all_finite(v)
                    total += constant
                    size += np.abs(constant)
                    terms += 1
                else:
                    rule = self._rule_at(position)
                    negative = np.minimum(v, 0.0)
                    least = _rowwise(negative, rule.cost.take(box, axis=0))
                    total += least
                    size -= least
                    negative *= rule.turn.take(box, axis=0)
                    v *= rule.below.take(box, axis=0)
                    v += negative
                    terms += layer.mask.size + 4
            region = self.inputs[0]
            ends = np.where(v > 0, v * region.lower.take(box, axis=0), v * region.upper.take(box, axis=0))
            size += np.abs(ends).sum(-1)
            terms += v.shape[-1] + 4
            lost = (lost + terms * UNIT * size) * INFLATE * INFLATE + self._guard.take(box, axis=0)
            value = down(down(total + ends.sum(-1)) - lost)
            if isinstance(region, Cut):
                value = np.maximum(value, down(down(down(total) - lost) + region.take(box).least(v[:, None, :])[:, 0]))
            return np.where(kept & np.isfinite(value) & _all_finite(v), value, -np.inf)

    def _start(self, objective: Unit) -> tuple[Array, Array, Array]:
        """Go through the last affine layer exactly: its rows are the coefficients."""
        v, total, lost = self._rows(objective.index, objective.sign)
        lost = lost if lost.size else np.zeros((self.inputs[0].shape[0], total.size))
        return v[None], np.broadcast_to(total, lost.shape), lost

    def _rows(self, index: NDArray[np.intp], sign: Array) -> tuple[Array, Array, Array]:
        """Return the rows of the last affine layer with signs, their biases, and what may be lost where they are loose.

        The last, (B, r), is empty where none is.
        """
        layer = self.network.layers[self.depth - 1]
        if not isinstance(layer, Affine):
            raise ShapeError("a Unit objective needs an affine layer below it")
        rows = layer.weight[index] if not layer.is_sparse else layer.csr[index].toarray()
        # The error of that layer is slack * reach + absolute and more.
        loose = layer.loose[index]
        lost = np.where(loose, self._error[self.depth - 1][:, index], 0.0) if loose.any() else np.zeros((0, 0))
        return sign[:, None] * rows, sign * layer.bias[index], lost

    def _rule_at(self, position: int) -> _Rule:
        """Return what the CROWN rule needs at a Relu."""
        if position not in self._rule:
            layer = self.network.layers[position]
            assert isinstance(layer, Relu)
            self._rule[position] = _Rule.of(self.inputs[position], layer.mask)
        return self._rule[position]


def _all_finite(v: Array) -> NDArray[np.bool_]:
    """Tell which rows hold finite numbers only; a sum that overflows counts as not."""
    return np.asarray(np.isfinite(v @ np.ones(v.shape[-1])))


def _total(magnitude: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(magnitude.sum(-1))


def _least(v: Array, g: Array, z: Interval, mask: NDArray[np.bool_]) -> Array:
    """Return h(v, g; l, u) in plain floating point: each value is exact but for two roundings.

    The minimum over the candidates of their computed values differs from the exact minimum by at most two
    roundings of the smaller of the two in magnitude where that is positive, and of the computed one where
    it is negative; so ``3 u |h|``, which is in the caller's sum, covers it.
    """
    low, high = z.lower[:, None, :], z.upper[:, None, :]
    difference = v - g
    at_low = np.where(low < 0, -g, difference) * low
    at_high = np.where(high > 0, difference, -g) * high
    h = np.minimum(at_low, at_high)
    h = np.where((low < 0) & (high > 0), np.minimum(h, 0.0), h)
    return np.where(mask, h, 0.0)


class _Rule(NamedTuple):
    """The CROWN rule at a Relu, (B, n) each: g = v below + min(v, 0) turn, and sum_j h_j >= min(v, 0) . cost.

    With slopes in [0, 1], 0 <= g <= v where v >= 0, so all three candidates of the minimum are >= 0 and one is
    0: h = 0. Where v < 0, g = s v for an s within 2^-51 of `above` (four roundings), and an unstable neuron costs
    h = v max(-s l, (1 - s) u) >= v * cost. Stable neurons have slopes of exactly 0 or 1, and those that are passed
    through of 1, so g = v or 0 and h = 0.
    """

    below: Array
    turn: Array
    cost: Array

    @classmethod
    def of(cls, z: Interval, mask: NDArray[np.bool_]) -> _Rule:
        with np.errstate(over="ignore", invalid="ignore"):
            active, inactive = ~mask | (z.lower >= 0), mask & (z.upper <= 0) & (z.lower < 0)
            below, above = (
                np.where(active, 1.0, np.where(inactive, 0.0, np.clip(slope, 0.0, 1.0))) for slope in relu_slopes(z)
            )
            cost = np.maximum(-above * z.lower, (1.0 - above) * z.upper)
            cost = np.where(active | inactive, 0.0, cost + 2.0**-48 * (cost + z.magnitude()) + TINY)
            return cls(below, above - below, cost)


def _rowwise(a: Array, b: Array) -> Array:
    """Return the inner products of rows."""
    return np.asarray(np.einsum("rn,rn->r", a, b))


def mean_bound(value: Array, mu: Array) -> Array:
    """Return a lower bound on max_r t_r, given one on mu . t.

    Parameters
    ----------
    value : (B,) float64
        Rigorous: mu . t >= value on the region.
    mu : (B, r) float64
        A row with a negative, infinite or NaN weight proves nothing.

    Returns
    -------
    (B,) float64
        value / sum(mu), rounded down. Where mu is 0, a positive value is a contradiction: the region holds
        no point, and the bound is +inf; any other value says nothing.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # Divide by the sum on its safe side: by more where the value is positive, by less where it is not.
        total, error = mu.sum(-1), dot_error(mu.shape[-1])
        mean = down(value / np.where(value > 0, total * (1.0 + 2 * error), total * (1.0 - 2 * error)))
        proper = (mu >= 0).all(-1) & np.isfinite(total)
        mean = np.where(proper & np.isfinite(mean) & np.isfinite(value), mean, -np.inf)
        return np.where(mu.any(-1), mean, np.where((value > 0) & np.isfinite(value), np.inf, -np.inf))
