"""Looking for the nearest counterexample. Everything here is a guess; the caller replays points exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array
from optverify.norms import Cut
from optverify.query import Goal
from optverify.search.attack import forward, gradients, group_values

STEPS = 25
"""Linearisations of each start."""

HALVINGS = 40


def nearest_points(goal: Goal, ball: Cut, starts: Array, steps: int = STEPS) -> Array:
    """Return points that reach a group (in floating point), as near to the centre as was found, nearest first.

    Parameters
    ----------
    goal : Goal
    ball : Cut
        Its norm, centre and box count, not its radius.
    starts : (B, n) float64
    steps : int

    Returns
    -------
    (m, n) float64
        At most one for each group and start; possibly none.

    Notes
    -----
    From each start and for each group, jump to the nearest point where the linearisation of the group's largest row is
    0, and linearise there (Moosavi-Dezfooli et al., CVPR 2016, with the clipped norm's own projection); every other
    jump goes half way, which ends cycles between two pieces.
    """
    groups = len(goal.groups)
    x = np.repeat(starts, groups, axis=0)
    members = goal.members[np.tile(np.arange(groups), len(starts))]
    found, rows = np.array(x), np.arange(len(x))
    best = np.where(reached(goal, x), ball.lengths(x), np.inf)
    with np.errstate(all="ignore"):
        for step in range(steps):
            passed = forward(goal.network, x)
            which = np.where(members, passed[-1], -np.inf).argmax(axis=1)
            v = np.zeros_like(passed[-1])
            v[rows, which] = 1.0
            c = gradients(goal.network, passed, v)
            value = passed[-1][rows, which]
            target = ball.nearest(c, value - (c * x).sum(axis=1))
            if not np.isfinite(target).all():
                break
            size = ball.lengths(target)
            better = reached(goal, target) & (size < best)
            best[better], found[better] = size[better], target[better]
            x = target if step % 2 == 0 else 0.5 * (x + target)
    kept = np.isfinite(best)
    points = shortened(goal, ball, found[kept])
    return points[np.argsort(ball.lengths(points), kind="stable")]


def reached(goal: Goal, x: Array) -> NDArray[np.bool_]:
    """Tell which points reach a group, in floating point."""
    with np.errstate(all="ignore"):
        return np.asarray((group_values(goal, goal.network(x)) <= 0).any(axis=-1))


def shortened(goal: Goal, ball: Cut, points: Array) -> Array:
    """Move counterexamples towards the centre as far as they stay what they are: along the segment, by bisection.

    For "0" single inputs are put back instead, those that moved least first.
    """
    if not len(points):
        return points
    points = points.copy()
    if ball.norm == "0":
        order = np.argsort(np.abs(points - ball.centre), axis=1)
        for index in order.T:
            trial = points.copy()
            rows = np.arange(len(points))
            trial[rows, index] = ball.centre[index]
            good = reached(goal, trial)
            points[good] = trial[good]
        return points
    low, high = np.zeros(len(points)), np.ones(len(points))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        good = reached(goal, ball.centre + middle[:, None] * (points - ball.centre))
        high, low = np.where(good, middle, high), np.where(good, low, middle)
    return np.asarray(ball.centre + high[:, None] * (points - ball.centre))
