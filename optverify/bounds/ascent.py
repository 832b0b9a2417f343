"""Better multipliers by a few steps of ascent: slopes of unstable neurons, and multipliers of split ones.

Advice only: what comes out is evaluated by :class:`optverify.safe.multipliers.Frame`.
"""

from __future__ import annotations

import numpy as np

from optverify.interval import Array, times
from optverify.network import Affine
from optverify.safe.multipliers import Frame, Stored, relu_slopes

STEPS = 12
RATE = 0.3
DECAY = 0.85


def ascend(frame: Frame, objective: Array, steps: int = STEPS) -> Stored:
    """Look for multipliers that make the lower bound of one objective a region large.

    Parameters
    ----------
    frame : Frame
        Over B regions, all layers.
    objective : (B, n_outputs) float64
    steps : int

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
        run = _Ascent(frame, objective)
        for step in range(steps):
            run.improve(RATE * DECAY**step)
        run.backward()
        return run.best()


class _Ascent:
    """State of one ascent: slopes alpha and multipliers beta per Relu, (B, n_k) each."""

    def __init__(self, frame: Frame, objective: Array) -> None:
        network = frame.network
        self.layers, self.region, self.objective = network.layers, frame.region, objective
        self.z = [frame.inputs[k] for k in network.relus]
        masks = [network.layers[k].mask for k in network.relus]  # type: ignore[union-attr]
        self.open = [mask & (z.lower < 0) & (z.upper > 0) for mask, z in zip(masks, self.z, strict=True)]
        # A split leaves an end at exactly 0; beta lowers g where z >= 0 and raises it where z <= 0.
        self.side = [
            np.where(mask & (z.lower == 0), -1.0, np.where(mask & (z.upper == 0), 1.0, 0.0))
            for mask, z in zip(masks, self.z, strict=True)
        ]
        slopes = [relu_slopes(z) for z in self.z]
        self.below = [np.where(mask, below, 1.0) for mask, (below, _) in zip(masks, slopes, strict=True)]
        self.above = [np.where(mask, above, 1.0) for mask, (_, above) in zip(masks, slopes, strict=True)]
        self.beta = [np.zeros_like(below) for below in self.below]
        self.v = [np.zeros_like(below) for below in self.below]
        self.g = list(self.v)
        self._best_value = np.full(len(objective), -np.inf)
        self._best = [np.full_like(below, np.nan) for below in self.below]  # NaN stands for the rule

    def backward(self) -> Array:
        """Walk backwards; keep the multipliers where their bound is the best so far; return v^0."""
        v, total, k = self.objective, np.zeros(len(self.objective)), len(self.z)
        for layer in reversed(self.layers):
            if isinstance(layer, Affine):
                total = total + v @ layer.bias
                v = times(v, layer.weight.T)
            else:
                k -= 1
                negative = np.minimum(v, 0.0)
                self.v[k] = v
                # The chord's intercept is what an unstable neuron with v < 0 costs.
                total = total - np.where(self.open[k], self.above[k] * self.z[k].lower * negative, 0.0).sum(axis=1)
                v = self.above[k] * negative + self.below[k] * (v - negative) + self.side[k] * self.beta[k]
                self.g[k] = v
        value = total + np.where(v > 0, v * self.region.lower, v * self.region.upper).sum(axis=1)
        better = value > self._best_value
        self._best_value = np.where(better, value, self._best_value)
        self._best = [np.where(better[:, None], g, old) for g, old in zip(self.g, self._best, strict=True)]
        return v

    def improve(self, rate: float) -> None:
        """Take one step: backwards for the bound, forwards for its derivatives."""
        v = self.backward()
        a, k = np.where(v > 0, self.region.lower, self.region.upper), 0
        for layer in self.layers:
            if isinstance(layer, Affine):
                a = times(a, layer.weight) + layer.bias
                continue
            positive, fixed = np.maximum(self.v[k], 0.0), self.side[k]
            by_slope = np.where(self.open[k], a * positive, 0.0)
            by_split = fixed * a
            slope = np.where(self.v[k] >= 0, self.below[k], self.above[k])
            after = slope * (a - np.where(self.open[k] & (self.v[k] < 0), self.z[k].lower, 0.0))
            self.below[k] = np.where(
                self.open[k], np.clip(self.below[k] + rate * _normalised(by_slope), 0.0, 1.0), self.below[k]
            )
            size = np.abs(self.v[k]).max(axis=1, keepdims=True)
            self.beta[k] = np.maximum(self.beta[k] + rate * size * _normalised(by_split), 0.0)
            a, k = after, k + 1

    def best(self) -> Stored:
        """Return the best multipliers, as a proof stores them."""
        free = (opened | (side != 0) for opened, side in zip(self.open, self.side, strict=True))
        return Stored(
            tuple(np.where(m & np.isfinite(g), g, np.nan)[:, None, :] for m, g in zip(free, self._best, strict=True))
        )


def _normalised(gradient: Array) -> Array:
    """Scale each region's gradient by the mean size of its nonzero entries; no entry moves by more than 3 units."""
    count = np.maximum((gradient != 0).sum(axis=1, keepdims=True), 1)
    mean = np.abs(gradient).sum(axis=1, keepdims=True) / count
    return np.clip(np.nan_to_num(gradient / np.where(mean > 0, mean, 1.0)), -3.0, 3.0)
