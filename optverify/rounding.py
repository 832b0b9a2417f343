"""Multipliers in few bits: slopes of 8 for unstable neurons, short numbers for the others, small weights of rows.

The walk continues with the rounded multipliers, so what is bounded is what the checker will bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from optverify.checker import Advised, Nodes, lifted_value, objectives, portions
from optverify.interval import Array, Interval
from optverify.network import Network, Relu
from optverify.proof import Advice, Close
from optverify.query import Goal
from optverify.safe.multipliers import LinearBounds, Slopes, relu_slopes

CLEAR = 2.0**-30
"""Nearer to 0 than this share of the interval, an end may be on the other side in the exact checker."""


@dataclass(frozen=True)
class Format:
    """How a close is stored.

    Parameters
    ----------
    sloped : bool
        Multipliers of unstable neurons become slopes; otherwise they are numbers like the others.
    bits : int
        Of the mantissa of numbers.
    weight : int
        Largest weight of a row.
    """

    sloped: bool
    bits: int
    weight: int


COMPACT, FULL = Format(True, 11, 2**8 - 1), Format(False, 53, 2**53)


def store(
    goal: Goal, nodes: Nodes, at: NDArray[np.intp], closes: Sequence[Close], how: Format
) -> tuple[list[Close], Array, Array]:
    """Round closes to a format and bound what they prove.

    Parameters
    ----------
    goal : Goal
    nodes : Nodes
    at : (c,) int
        The node of each close.
    closes : sequence of c Close
    how : Format

    Returns
    -------
    list of c Close
        With advice.
    (c,) float64
        Rigorous lower bounds on mu . rows, as the checker finds them.
    (c, 1 + n_inputs) float64
        The magnitude of all terms at the inputs, and how much those of each input vary; of a lifted close only how
        wide each input is.
    """
    found, values = list(closes), np.empty(len(closes))
    effects = np.empty((len(closes), 1 + goal.network.n_inputs))
    for here in portions([(close.g is None, close.advice is None, close.lifted is None) for close in closes]):
        some = [closes[i] for i in here.tolist()]
        if some[0].lifted is not None:  # stored already
            values[here] = [lifted_value(goal, nodes, b, close) for b, close in zip(at[here], some, strict=True)]
            box = nodes.box.take(at[here])
            effects[here] = np.column_stack([np.zeros(here.size), box.upper - box.lower])
            continue
        frame = nodes.frame(goal.network, at[here])
        if some[0].g is None and some[0].advice is not None:  # read from a file: stored already
            bound = frame.lower(objectives(goal, some), Advised.of(goal.network, some))
        elif not some[0].g:  # none, or a network without a Relu
            some = [_scaled(close, how.weight) for close in some]
            bound = frame.lower(objectives(goal, some), Slopes())
        else:
            some = [_scaled(close, how.weight) for close in some]
            rounding = Rounding.of(goal.network, some, how)
            bound = frame.lower(objectives(goal, some), rounding)
            some = [replace(close, advice=advice) for close, advice in zip(some, rounding.advice(), strict=True)]
        values[here], effects[here] = bound.value[:, 0], _effects(bound, frame.region)
        for i, close in zip(here.tolist(), some, strict=True):
            found[i] = close
    return found, values, effects


def _scaled(close: Close, most: int) -> Close:
    """Make weights smaller whole numbers, and multipliers by as much."""
    top = max(close.weights)
    if sum(map(bool, close.weights)) == 1:
        most = 1
    if top <= most:
        return close
    weights = tuple((2 * most * w + top) // (2 * top) for w in close.weights)
    with np.errstate(all="ignore"):
        g = None if close.g is None else tuple(values * (most / top) for values in close.g)
    return replace(close, weights=weights, g=g)


def _effects(bound: LinearBounds, region: Interval) -> Array:
    with np.errstate(all="ignore"):
        ends = np.abs(bound.coefficients[:, 0]) * (region.upper - region.lower)
        middle = np.einsum("bn,bn->b", np.abs(bound.coefficients[:, 0]), region.magnitude())
        return np.asarray(np.nan_to_num(np.column_stack([np.abs(bound.constant[:, 0]) + middle, ends])))


@dataclass(eq=False)
class Rounding:
    """Multipliers on their way into a format: chosen as the checker will, and remembered.

    Parameters
    ----------
    g : list of (c, n_k) float64, one per Relu
        NaN where the rule is meant.
    masks : list of (n_k,) bool
    how : Format
    """

    g: list[Array]
    masks: list[NDArray[np.bool_]]
    how: Format
    slopes: dict[int, Array] = field(default_factory=dict)
    numbers: dict[int, Array] = field(default_factory=dict)

    @classmethod
    def of(cls, network: Network, closes: Sequence[Close], how: Format) -> Rounding:
        """Gather the multipliers of closes."""
        masks = [layer.mask for layer in network.layers if isinstance(layer, Relu)]
        g = [np.stack([close.g[k] for close in closes if close.g is not None]) for k in range(len(masks))]
        return cls(g, masks, how)

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        with np.errstate(all="ignore"):
            v, given, width = v[:, 0], self.g[relu], z.upper - z.lower
            below, above = relu_slopes(z)
            known = self.masks[relu] & np.isfinite(given) & np.isfinite(v)
            # Whether a neuron is unstable must not depend on rounding where its slope is stored.
            clear = (z.lower < -CLEAR * width) & (z.upper > CLEAR * width) & self.how.sloped
            slope = np.rint(255.0 * np.clip(np.nan_to_num(given / v), 0.0, 1.0))
            balanced = np.abs(z.lower + z.upper) <= CLEAR * width
            sloped = known & clear & (v > 0) & ((slope != 255.0 * below) | balanced)
            below = np.where(sloped, slope / 255.0, below)
            g = np.maximum(v, 0.0) * below + np.minimum(v, 0.0) * above
            number = _rounded(given, self.how.bits)
            slack = 0.0 if self.how.bits == 53 else 2.0**-self.how.bits * np.abs(v).max(axis=1, keepdims=True)
            numbered = known & ~clear & np.isfinite(number) & (np.abs(number - g) > slack)
            self.slopes[relu] = np.where(sloped, slope, np.nan)
            self.numbers[relu] = np.where(numbered, number, np.nan)
            return np.where(numbered, number, g)[:, None, :]

    def advice(self) -> list[Advice | None]:
        """Return what was chosen, close by close."""
        slopes, numbers = (
            np.concatenate([found[k][:, mask] for k, mask in enumerate(self.masks)], axis=1)
            for found in (self.slopes, self.numbers)
        )
        advice: list[Advice | None] = []
        for sloped, numbered in zip(slopes, numbers, strict=True):
            at, where = np.flatnonzero(~np.isnan(sloped)), np.flatnonzero(~np.isnan(numbered))
            some = Advice(at, sloped[at].astype(np.uint8), where, numbered[where])
            advice.append(some if at.size or where.size else None)
        return advice


def _rounded(x: Array, bits: int) -> Array:
    """Round to a mantissa of some bits."""
    mantissa, exponent = np.frexp(x)
    return np.asarray(np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits))
