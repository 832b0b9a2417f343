"""Multipliers in few bits: slopes of 8 for unstable neurons, numbers of 11 for the others, small weights of rows.

The search bounds a node with the rounded multipliers as well, so that it can write down right away what a checker will
find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from optverify.checker import surely
from optverify.interval import Array, Interval
from optverify.proof import Advice
from optverify.safe.multipliers import STEEP, Frame, relu_slopes

BITS = 11
"""Of the mantissa of a number."""

LARGEST_WEIGHT = 255
"""Of a row."""

CLEAR = 2.0**-30
"""Nearer to 0 than this share of the interval, an end may be on the other side in the exact checker."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """Multipliers in few bits, and what they prove.

    Parameters
    ----------
    weights : (c, r) int64
    slopes, numbers : tuple of (c, n_k) float64, one per Relu
        Slopes in 255ths; NaN where the rule is meant.
    value : (c,) float64
        Rigorous lower bounds on weights . rows, less what makes them sure for all checkers.
    """

    weights: NDArray[np.int64]
    slopes: tuple[Array, ...]
    numbers: tuple[Array, ...]
    value: Array


def rounded(frame: Frame, members: Sequence[int], weights: NDArray[np.int64], g: Sequence[Array]) -> Rounded:
    """Round multipliers, each of its box.

    Parameters
    ----------
    frame : Frame
        Over c boxes.
    members : sequence of r int
        The rows that the weights are about.
    weights : (c, r) int64
    g : sequence of (c, n_k) float64, one per Relu
        NaN where the CROWN rule is meant.
    """
    top = weights.max(axis=1, keepdims=True)
    most = np.where((weights > 0).sum(axis=1, keepdims=True) == 1, 1, LARGEST_WEIGHT)
    small = np.where(top <= most, weights, (2 * most * weights + top) // np.maximum(2 * top, 1))
    with np.errstate(all="ignore"):
        scaled = [np.where(top <= most, values, values * (most / top)) for values in g]
    objective = np.zeros((len(weights), 1, frame.network.n_outputs))
    objective[:, 0, list(members)] = small
    choose = _Rounding(scaled, frame.network.masks)
    found = frame.lower(objective, choose)
    relus = range(len(scaled))
    slopes, numbers = (tuple(chosen[k] for k in relus) for chosen in (choose.slopes, choose.numbers))
    return Rounded(small, slopes, numbers, surely(found, frame.region))


@dataclass(eq=False)
class _Rounding:
    """Multipliers on their way into few bits: chosen as the checker will, and remembered.

    Parameters
    ----------
    g : list of (c, n_k) float64, one per Relu
    masks : sequence of (n_k,) bool, one per Relu
    """

    g: list[Array]
    masks: Sequence[NDArray[np.bool_]]
    slopes: dict[int, Array] = field(default_factory=dict)
    numbers: dict[int, Array] = field(default_factory=dict)

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        with np.errstate(all="ignore"):
            v, given, width = v[:, 0], self.g[relu], z.upper - z.lower
            below, above = relu_slopes(z)
            known = self.masks[relu] & np.isfinite(given) & np.isfinite(v)
            # Whether a neuron is unstable must not depend on rounding where its slope is stored.
            clear = (z.lower < -CLEAR * width) & (z.upper > CLEAR * width)
            slope = np.rint(255.0 * np.clip(np.nan_to_num(given / v), 0.0, 1.0))
            balanced = np.abs(STEEP * z.lower + z.upper) <= CLEAR * width
            sloped = known & clear & (v > 0) & ((slope != 255.0 * below) | balanced)
            below = np.where(sloped, slope / 255.0, below)
            g = np.maximum(v, 0.0) * below + np.minimum(v, 0.0) * above
            number = _short(given)
            slack = 2.0**-BITS * np.abs(v).max(axis=1, keepdims=True)
            numbered = known & ~clear & np.isfinite(number) & (np.abs(number - g) > slack)
            self.slopes[relu] = np.where(sloped, slope, np.nan)
            self.numbers[relu] = np.where(numbered, number, np.nan)
            return np.where(numbered, number, g)[:, None, :]


def advice(slopes: Sequence[Array], numbers: Sequence[Array], masks: Sequence[NDArray[np.bool_]]) -> Advice | None:
    """Return the advice of one close, (n_k,) per Relu; None if the rule is meant everywhere."""
    sloped, numbered = (
        np.concatenate([values[mask] for values, mask in zip(found, masks, strict=True)]) if masks else np.zeros(0)
        for found in (slopes, numbers)
    )
    at, where = np.flatnonzero(np.isfinite(sloped)), np.flatnonzero(np.isfinite(numbered))
    if not at.size and not where.size:
        return None
    return Advice(at, sloped[at].astype(np.uint8), where, numbered[where])


def _short(x: Array) -> Array:
    """Round to a mantissa of few bits."""
    mantissa, exponent = np.frexp(x)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, BITS)), exponent - BITS))
