"""Conjunctions: a weighted mean of rows bounds the largest of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, mean_bound


def weighted_bound(frame: Frame, members: tuple[int, ...], mu: NDArray[np.int64]) -> Array:
    """Bound the largest of some rows from below by their mean with weights mu, (B, rows of the group)."""
    objective = np.zeros((len(mu), 1, frame.network.n_outputs))
    objective[:, 0, list(members)] = mu
    return mean_bound(frame.lower(objective, Slopes()).value[:, 0], mu.astype(np.float64))


def mixing_weights(rows: LinearBounds, region: Interval, steps: int = 25) -> NDArray[np.int64]:
    """Look for mu >= 0 that makes the least of mu . (coefficients x + constant) over the box large.

    Parameters
    ----------
    rows : LinearBounds
    region : Interval, ends of shape (B, n)
    steps : int

    Returns
    -------
    (B, r) int, 0 to 255, not all 0
        Best weights found. Advice only; whole numbers, so that a proof can store them exactly.

    Notes
    -----
    The box minimum of a mean is concave in mu; exponentiated subgradient steps (Beck and Teboulle, Oper.
    Res. Lett. 31, 2003) with the best iterate kept.
    """
    with np.errstate(all="ignore"):
        centre = 0.5 * region.lower + 0.5 * region.upper
        radius = 0.5 * region.upper - 0.5 * region.lower
        count = rows.value.shape[1]
        middle = np.einsum("brn,bn->br", rows.coefficients, centre) + rows.constant
        mu = np.full(middle.shape, 1.0 / count)
        best, best_value = mu, np.full(len(mu), -np.inf)
        for step in range(steps):
            slope = np.einsum("br,brn->bn", mu, rows.coefficients)
            value = (mu * middle).sum(axis=1) - (np.abs(slope) * radius).sum(axis=1)
            better = value > best_value
            best_value = np.where(better, value, best_value)
            best = np.where(better[:, None], mu, best)
            gradient = middle - np.einsum("brn,bn->br", rows.coefficients, np.sign(slope) * radius)
            spread = gradient - gradient.mean(axis=1, keepdims=True)
            scale = np.maximum(np.abs(spread).max(axis=1, keepdims=True), 1e-300)
            mu = mu * np.exp(1.5 * spread / scale / np.sqrt(step + 1))
            mu = mu / mu.sum(axis=1, keepdims=True)
        whole: NDArray[np.int64] = np.rint(255 * np.nan_to_num(best / best.max(axis=1, keepdims=True))).astype(np.int64)
        whole[~whole.any(axis=1)] = 1
        return whole
