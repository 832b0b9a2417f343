"""Better multipliers by a few steps of ascent: slopes of unstable neurons, and multipliers of split ones.

Advice only: what comes out is evaluated by :class:`optverify.safe.multipliers.Frame`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, times
from optverify.network import Affine
from optverify.safe.multipliers import Frame, Stored, relu_slopes

STEPS = 6
RATE = 0.3
DECAY = 0.85
LAST = 3.0
"""After a third of the steps, boxes go on that may close if the others bring this many times as much as the first."""


def ascend(
    frame: Frame,
    objective: Array,
    threshold: float = np.inf,
    steps: int = STEPS,
    lowest: Callable[[Array], Array] | None = None,
) -> Stored:
    """Look for multipliers that make the lower bound of one objective a region large.

    Parameters
    ----------
    frame : Frame
        Over B regions, all layers.
    objective : (B, n_outputs) float64
    threshold : float
        Regions stop where the bound is above this, or where it will hardly come to be.
    steps : int
    lowest : callable, optional
        Where a region is only a part of its box: takes coefficients v, (B, n_inputs), and returns the points of the
        regions where v . x is least. Corners of the boxes by default.

    Returns
    -------
    Stored
        Numbers for unstable and split neurons, one (B, 1, n_k) array per Relu.

    Notes
    -----
    With g = alpha v where v >= 0, chord slope times v where v < 0, and beta >= 0 added or subtracted on neurons
    that a split fixes, the bound D is differentiable almost everywhere: one walk backwards gives v and g, one
    walk forwards the derivatives, since dD/dg^k = W^k a^{k-1} + b^k with a^k = dD/dv^k and a^0 the minimiser of
    v^0 . x (Xu et al., ICLR 2021; Wang et al., NeurIPS 2021, section 3). Steps are normalised and shrink; each
    region keeps its best.
    """
    with np.errstate(all="ignore"):
        run = _Ascent(frame, objective, np.broadcast_to(threshold, len(objective)), lowest)
        for step in range(steps + 1):
            v = run.backward()
            done = run.best > run.threshold
            if step == steps // 3:
                done |= run.best + LAST * (run.best - run.first) < run.threshold
            if step == steps or done.all():
                break
            if 2 * done.sum() > done.size:
                v = v[~done]
                run.leave(done)
            run.forward(v, RATE * DECAY**step)
        return Stored(tuple(g[:, None, :] for g in run.result()))


class _Ascent:
    """State of one ascent: slopes alpha (`below`) and multipliers beta per Relu, (B, n_k) each."""

    def __init__(
        self, frame: Frame, objective: Array, threshold: Array, lowest: Callable[[Array], Array] | None = None
    ) -> None:
        network, self.lowest = frame.network, lowest or self._corners
        self.layers, self.region, self.objective, self.threshold = network.layers, frame.region, objective, threshold
        masks = network.masks
        z = [frame.inputs[k] for k in network.relus]
        slopes = [relu_slopes(z) for z in z]
        self.open = [mask & (z.lower < 0) & (z.upper > 0) for mask, z in zip(masks, z, strict=True)]
        # A split leaves an end at exactly 0; beta lowers g where z >= 0 and raises it where z <= 0.
        self.side = [
            np.where(mask & (z.lower == 0), -1.0, np.where(mask & (z.upper == 0), 1.0, 0.0))
            for mask, z in zip(masks, z, strict=True)
        ]
        self.below = [np.where(mask, below, 1.0) for mask, (below, _) in zip(masks, slopes, strict=True)]
        self.above = [np.where(mask, above, 1.0) for mask, (_, above) in zip(masks, slopes, strict=True)]
        self.beta = [np.zeros_like(below) for below in self.below]
        self.intercept = [np.where(o, z.lower, 0.0) for o, z in zip(self.open, z, strict=True)]
        # The chord's intercept is what an unstable neuron with v < 0 costs.
        self.cost = [low * above for low, above in zip(self.intercept, self.above, strict=True)]
        self.split = [bool(side.any()) for side in self.side]
        self.v = list(self.beta)
        self.best = np.full(len(objective), -np.inf)
        self.first: Array | None = None
        self.g = [np.full_like(below, np.nan) for below in self.below]  # the best; NaN stands for the rule
        self._here = np.arange(len(objective))
        self._found = [g.copy() for g in self.g]

    def _corners(self, v: Array) -> Array:
        return np.where(v > 0, self.region.lower, self.region.upper)

    def leave(self, done: NDArray[np.bool_]) -> None:
        """Take the best multipliers of some regions as they are, and go on with the others."""
        self._store()
        kept = ~done
        for values in (
            self.open,
            self.side,
            self.below,
            self.above,
            self.beta,
            self.intercept,
            self.cost,
            self.v,
            self.g,
        ):
            values[:] = [a[kept] for a in values]
        self.region, self.objective, self.threshold = self.region.take(kept), self.objective[kept], self.threshold[kept]
        self.best, self._here = self.best[kept], self._here[kept]
        self.first = None if self.first is None else self.first[kept]

    def result(self) -> list[Array]:
        """Return the best multipliers of unstable and split neurons of all regions; NaN elsewhere."""
        self._store()
        return self._found

    def _store(self) -> None:
        for g, is_open, side, found in zip(self.g, self.open, self.side, self._found, strict=True):
            found[self._here] = np.where((is_open | (side != 0)) & np.isfinite(g), g, np.nan)

    def backward(self) -> Array:
        """Walk backwards; keep the multipliers where their bound is the best so far; return v^0."""
        v, total, k = self.objective, np.zeros(len(self.objective)), len(self.open)
        found = []
        for layer in reversed(self.layers):
            if isinstance(layer, Affine):
                total = total + v @ layer.bias
                v = times(v, layer.weight.T)
                continue
            k -= 1
            self.v[k] = v
            negative = np.minimum(v, 0.0)
            total = total - np.einsum("bn,bn->b", self.cost[k], negative)
            v = self.above[k] * negative + self.below[k] * (v - negative)
            if self.split[k]:
                v += self.side[k] * self.beta[k]
            found.append(v)
        value = total + (v * self.lowest(v)).sum(axis=1)
        self.first = value if self.first is None else self.first
        better = value > self.best
        self.best = np.where(better, value, self.best)
        for g, old in zip(reversed(found), self.g, strict=True):
            old[better] = g[better]
        return v

    def forward(self, v: Array, rate: float) -> None:
        """Walk forwards for the derivatives of the bound, and take a step."""
        a, k = self.lowest(v), 0
        for layer in self.layers:
            if isinstance(layer, Affine):
                a = times(a, layer.weight) + layer.bias
                continue
            v, below = self.v[k], self.below[k]
            if self.split[k]:
                size = rate * np.abs(v).max(axis=1, keepdims=True)
                self.beta[k] = np.maximum(self.beta[k] + size * _normalised(self.side[k] * a), 0.0)
            by_slope = np.where(self.open[k], a * np.maximum(v, 0.0), 0.0)
            down = v < 0
            a = np.where(down, self.above[k], below) * (a - np.where(down, self.intercept[k], 0.0))
            moved = np.minimum(np.maximum(below + rate * _normalised(by_slope), 0.0), 1.0)
            self.below[k] = np.where(self.open[k], moved, below)
            k += 1


def _normalised(gradient: Array) -> Array:
    """Scale each region's gradient by the mean size of its nonzero entries; no entry moves by more than 3 units."""
    size = np.abs(gradient)
    mean = size.sum(axis=1, keepdims=True) / np.maximum(np.count_nonzero(size, axis=1)[:, None], 1)
    scaled = gradient / np.where(mean > 0, mean, 1.0)
    return np.minimum(np.maximum(scaled, -3.0), 3.0)
