"""Looking for a point of the unsafe set. Everything here is a guess; :mod:`optverify.witness` decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optverify.interval import Array, Interval, times
from optverify.network import Network, Relu
from optverify.query import Goal


def forward(network: Network, x: Array) -> list[Array]:
    """Return what enters each layer, and what leaves the last, for a batch of points."""
    values = [x]
    for layer in network.layers:
        values.append(layer(values[-1]))
    return values


def gradients(network: Network, values: list[Array], v: Array) -> Array:
    """Return the gradient of v . network(x) with respect to x.

    Parameters
    ----------
    network : Network
    values : list of (B, n_i) float64
        From :func:`forward`.
    v : (B, n_outputs) float64
    """
    for layer, z in zip(reversed(network.layers), reversed(values[:-1]), strict=True):
        v = np.where(layer.mask & (z <= 0), 0.0, v) if isinstance(layer, Relu) else times(v, layer.weight.T)
    return v


def group_values(goal: Goal, t: Array) -> Array:
    """Return max over the rows of each group: a case is reached where its entry is <= 0.

    Parameters
    ----------
    t : (..., rows) float64

    Returns
    -------
    (..., groups) float64
    """
    flat, starts = goal.flat_groups
    return np.asarray(np.maximum.reduceat(t[..., flat], starts, axis=-1))


@dataclass
class Best:
    """The most promising point so far: least value of max over a group's rows.

    Parameters
    ----------
    value : float
    point : (n_inputs,) float64 or None
    """

    value: float = np.inf
    point: Array | None = None

    def offer(self, value: float, point: Array) -> bool:
        """Keep the point if it is better; tell whether it was."""
        if not value < self.value:  # NaN is not better
            return False
        self.value, self.point = float(value), point.copy()
        return True


def evaluate(goal: Goal, points: Array, best: Best) -> Array:
    """Offer points to `best`; return their values, (B, groups) float64."""
    with np.errstate(all="ignore"):
        values = group_values(goal, goal.network(points))
    _offer_least(values, points, best)
    return values


def _offer_least(values: Array, points: Array, best: Best) -> None:
    least = np.where(np.isnan(values), np.inf, values).min(axis=-1)
    if least.size:
        k = int(least.argmin())
        best.offer(least[k], points[k])


def projected_gradient(
    goal: Goal,
    region: Interval,
    start: Array,
    best: Best,
    steps: int = 40,
    stop_at: float = 0.0,
    reach: Array | None = None,
) -> None:
    """Descend from the given points on the group that is nearest to being reached, within the region.

    Parameters
    ----------
    goal : Goal
    region : Interval, ends of shape (n_inputs,) or (B, n_inputs)
    start : (B, n_inputs) float64
    best : Best
        Updated in place.
    steps : int
    stop_at : float
        End as soon as a value is not above this.
    reach : (B, n_inputs) float64, optional
        Size of the first steps; half the region by default, which leaves the neighbourhood of the start.

    Notes
    -----
    Signed steps of geometrically falling size (Madry et al., ICLR 2018), with the best point kept.
    """
    if not len(start):
        return
    half = 0.5 * region.upper - 0.5 * region.lower if reach is None else reach  # the full width may overflow
    x, rows = start, np.arange(len(start))
    for step in range(steps):
        with np.errstate(all="ignore"):
            passed = forward(goal.network, x)
            t = passed[-1]
            values = group_values(goal, t)
            _offer_least(values, x, best)
            if best.value <= stop_at or not np.isfinite(values).any():
                return
            nearest = np.nan_to_num(values, nan=np.inf).argmin(axis=-1)
            v = np.zeros_like(t)
            v[rows, np.where(goal.members[nearest], t, -np.inf).argmax(axis=-1)] = 1.0
            direction = np.sign(gradients(goal.network, passed, v))
            x = np.clip(x - 0.6 * 0.9**step * half * direction, region.lower, region.upper)


def random_points(region: Interval, count: int, rng: np.random.Generator) -> Array:
    """Return random points of a box, also where its width overflows, (count, n) float64.

    Every other point lies on a face, each of its coordinates at an end with probability 1/2: extremes of
    piecewise-linear functions lie there, and uniform points never do.
    """
    middle, half = 0.5 * region.lower + 0.5 * region.upper, 0.5 * region.upper - 0.5 * region.lower
    inside = middle + half * rng.uniform(-1, 1, (count, middle.size))
    ends = np.where(rng.random(inside.shape) < 0.5, region.lower, region.upper)
    on_face = rng.random(inside.shape) < 0.5
    on_face[::2] = False
    return np.clip(np.where(on_face, ends, inside), region.lower, region.upper)


def from_point(goal: Goal, point: Array, best: Best, stop_at: float = 0.0, steps: int = 8) -> None:
    """Try a point that a program left, and descend from it within the region.

    Parameters
    ----------
    goal : Goal
    point : (n_inputs,) float64
    best : Best
        Updated in place.
    stop_at : float
    steps : int
    """
    region = goal.region.outward
    start = np.clip(point, region.lower, region.upper)[None]
    evaluate(goal, start, best)
    projected_gradient(goal, region, start, best, steps, stop_at)


def attack(
    goal: Goal,
    region: Interval,
    best: Best,
    rng: np.random.Generator,
    samples: int = 512,
    stop_at: float = 0.0,
) -> None:
    """Sample the region, then descend from the best samples of each group.

    Parameters
    ----------
    goal : Goal
    region : Interval, ends of shape (n_inputs,)
    best : Best
        Updated in place.
    rng : numpy.random.Generator
    samples : int
        About so many points are tried before any descent.
    stop_at : float
        End as soon as the best value is not above this.
    """
    middle = 0.5 * region.lower + 0.5 * region.upper
    points = np.vstack([middle, random_points(region, samples, rng)])
    corners = rng.random((samples // 4, middle.size)) < 0.5
    points = np.vstack([points, np.where(corners, region.lower, region.upper)])
    values = evaluate(goal, points, best)
    if best.value <= stop_at or not np.isfinite(values).all():
        return
    each = max(1, 64 // len(goal.groups))
    chosen = np.argsort(values, axis=0)[:each].T  # (groups, each)
    projected_gradient(goal, region, points[chosen.T.ravel()], best, stop_at=stop_at)
