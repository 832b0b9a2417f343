"""The one bound formula: any multipliers in, rigorous linear lower bounds out.

For an objective v . a over the outputs of the first layers of a network, walk the layers backwards with
one multiplier g per output of each affine layer:

* ``Affine`` (a_out = W a + b): with g the current coefficients, g . a_out = (W'g) . a + g . b.
* ``Relu`` (a = relu(z) where masked, else z): for ANY g,
  v . relu(z) >= g . z + sum_j h(v_j, g_j; l_j, u_j),  h(v, g; l, u) = min over z in [l, u] of v relu(z) - g z,
  attained at l, at u or, if l < 0 < u, at 0. Where the layer passes through, g = v.
* at the inputs: the minimum of v . x over the box.

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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from optverify.errors import ShapeError
from optverify.interval import INFLATE, TINY, UNIT, Array, Interval, dot_error, down, times
from optverify.network import Affine, Network, Relu
from optverify.preactivation import Bounds


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

    Where v < 0 the slope is that of the chord, u / (u - l). Where v >= 0 it is that of any line below the
    ReLU through 0: 1 if u > -l, else 0 (the choice of least area), unless given.

    Parameters
    ----------
    lower : sequence of (B, n_k) float64, optional
        Slopes to use on unstable neurons where v >= 0; cut to [0, 1].
    """

    lower: Sequence[Array] | None = None

    def of(self, relu: int, z: Interval) -> tuple[Array, Array]:
        """Return the slopes (below, above) of one Relu layer, (B, n) each, all in [0, 1]."""
        below, above = relu_slopes(z)
        if self.lower is not None:
            given = np.clip(np.nan_to_num(self.lower[relu]), 0.0, 1.0)
            below = np.where((z.lower < 0) & (z.upper > 0), given, below)
        return below, above

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`Multipliers`."""
        below, above = self.of(relu, z)
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
        below = np.where(active | (unstable & (z.upper > -z.lower)), 1.0, 0.0)
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
        self._reach: list[Array | None] = []
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
        part._reach = [None if reach is None else reach[index] for reach in self._reach]
        part._guard = self._guard[index]
        return part

    def step(self) -> Interval:
        """Go through one more layer by interval arithmetic; return what leaves it."""
        layer, entering = self.network.layers[self.depth], self.inputs[-1]
        if isinstance(layer, Affine):
            with np.errstate(over="ignore", invalid="ignore"):
                reach = times(entering.magnitude(), layer.size) + np.abs(layer.bias)
                self._reach.append(reach * INFLATE + TINY)
            leaving = entering.affine(layer.weight, layer.bias, layer.slack)
        else:
            self._reach.append(None)
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
                    reach = self._reach[position]
                    assert reach is not None
                    relative = dot_error(layer.shape[0] + 1) + layer.slack
                    lost = lost + np.matmul(np.abs(v), (relative * reach)[..., None])[..., 0]
                    constant = v @ layer.bias
                    v = times(v, layer.weight.T)
                    kept = kept & _all_finite(v)
                    total, size = total + constant, size + np.abs(constant)
                    terms += 1
                else:
                    relu -= 1
                    z = self.inputs[position]
                    if isinstance(choose, Slopes):
                        g, least = _along_slopes(v, z, layer.mask, *choose.of(relu, z))
                        total, size = total + least, size - least
                    else:
                        g = np.where(layer.mask, choose(relu, v, z), v)
                        h = _least(v, g, z, layer.mask)
                        total, size = total + h.sum(-1), size + np.abs(h).sum(-1)
                    terms += layer.mask.size + 4
                    v = g
                position -= 1
            region = self.inputs[0]
            ends = np.where(v > 0, v * region.lower[:, None, :], v * region.upper[:, None, :])
            size = size + np.abs(ends).sum(-1)
            terms += v.shape[-1] + 4
            lost = (lost + terms * UNIT * size) * INFLATE * INFLATE + self._guard[:, None]
            constant = down(down(total) - lost)
            value = down(down(total + ends.sum(-1)) - lost)
            finite = kept & np.isfinite(value) & np.isfinite(constant) & _all_finite(v)
            shape = finite.shape
            return LinearBounds(
                np.where(finite, value, -np.inf),
                np.where(finite[..., None], np.broadcast_to(v, (*shape, v.shape[-1])), 0.0),
                np.where(finite, constant, -np.inf),
            )

    def _start(self, objective: Unit) -> tuple[Array, Array, Array]:
        """Go through the last affine layer exactly: its rows are the coefficients."""
        layer = self.network.layers[self.depth - 1]
        if not isinstance(layer, Affine):
            raise ShapeError("a Unit objective needs an affine layer below it")
        index, sign = objective.index, objective.sign
        rows = layer.weight[index] if not layer.is_sparse else layer.csr[index].toarray()
        reach = self._reach[self.depth - 1]
        assert reach is not None
        lost = (layer.slack * reach)[:, index]
        total = np.broadcast_to(sign * layer.bias[index], lost.shape)
        return (sign[:, None] * rows)[None], total, lost


def _all_finite(v: Array) -> NDArray[np.bool_]:
    """Tell which rows hold finite numbers only; a sum that overflows counts as not."""
    return np.asarray(np.isfinite(v.sum(-1)))


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


def _along_slopes(v: Array, z: Interval, mask: NDArray[np.bool_], below: Array, above: Array) -> tuple[Array, Array]:
    """Return g = slope * v and a lower bound on the sum over the coordinates of h(v, g; l, u), which is never positive.

    With slopes in [0, 1], 0 <= g <= v where v >= 0, so all three candidates of the minimum are >= 0 and one is
    0: h = 0. Where v < 0, g = s v for an s within 2^-51 of `above` (four roundings), and an unstable neuron costs
    h = v max(-s l, (1 - s) u) >= v * cost. Stable neurons have slopes of exactly 0 or 1, so g = v or 0 and h = 0.
    """
    # Coordinates that are passed through get slopes of 1: g = v and h = 0. What the case distinction needs of
    # the slopes is made so here, whoever chose them.
    active, inactive = ~mask | (z.lower >= 0), mask & (z.upper <= 0) & (z.lower < 0)
    below, above = (
        np.where(active, 1.0, np.where(inactive, 0.0, np.clip(slope, 0.0, 1.0))) for slope in (below, above)
    )
    cost = np.maximum(-above * z.lower, (1.0 - above) * z.upper)
    cost = np.where(active | inactive, 0.0, cost + 2.0**-48 * (cost + z.magnitude()) + TINY)
    negative = np.minimum(v, 0.0)
    least = np.matmul(negative, cost[..., None])[..., 0]
    g = v * below[:, None, :]
    g += negative * (above - below)[:, None, :]
    return g, least


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
