"""A mixed-integer solver as a guide: points to try and a figure to compare with, never a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from math import isnan, nan

import numpy as np

from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.errors import UnsupportedProgram
from optverify.formulations.encoder import objective_of
from optverify.interval import Array
from optverify.preactivation import Bounds
from optverify.query import Goal
from optverify.search.node import Node, boxes, known_bounds
from optverify.solvers.solution import Solver, Status

MAX_UNSTABLE = 60
"""Beyond this many binary variables the program rarely ends in the time that it is given..."""

FEW_UNSTABLE = 20
"""... and for a subtree, beyond this many."""

AFTER = 500
"""Nodes of a tree before the guide is asked: most trees end sooner, at a fraction of its cost. It is asked about the
whole region first, and again whenever the tree has become this many times larger:"""

AGAIN = 4
"""then about the subtree with the least bound."""

SHARE = 0.1
"""Of the time that is left, at most this much..."""

MOST_SECONDS = 5.0
"""... and at most this long,"""

SUBTREE_SECONDS = 0.3
"""a subtree at most this."""


def guide_seconds(time_left: float) -> float:
    """Return how long the guide may take in all."""
    return min(SHARE * time_left, MOST_SECONDS)


def stubborn(goal: Goal, nodes: Iterable[Node]) -> Node | None:
    """Return the node with the least bound among those with few unstable neurons."""
    best: Node | None = None
    for node in nodes:
        if node.layers and (best is None or node.value < best.value):
            best = node if _count(goal, Bounds(node.layers)) <= FEW_UNSTABLE else best
    return best


def _count(goal: Goal, bounds: Bounds) -> int:
    return sum(int(u.sum()) for u in bounds.unstable(goal.network))


def guide(goal: Goal, node: Node, solver: str | Solver, deadline: float, offer: Callable[[Array], bool]) -> float:
    """Minimise the largest row of each open group by the big-M program, where there are few binary variables.

    Parameters
    ----------
    goal : Goal
    node : Node
        The part of the region to look at.
    solver : str or Solver
    deadline : float, seconds of ``time.monotonic``
    offer : callable
        Given each point that the solver finds; returns True to stop.

    Returns
    -------
    float
        What the solver says that the least such value over these groups is; NaN if it was not asked, stopped
        early or was not needed because backward bounds close every group. A claim.
    """
    bounds, frame = crown(goal.network, boxes([node]), known_bounds([node]))
    value = output_bounds(frame).value[0]
    hard = [g for g in node.groups if not value[list(goal.groups[g])].max() > 0]
    root = bounds.take(0)
    if bounds.empty.any() or _count(goal, root) > MAX_UNSTABLE:
        return nan
    frame = frame_of(goal.network, frame.region.take(0), root)
    claims: list[float] = []
    for g in hard:
        left = deadline - time.monotonic()
        if left <= 0:
            return nan

        def incumbent(_: float, primal: Array) -> bool:
            return offer(primal[: goal.network.n_inputs])

        try:
            answer = relaxed(
                frame, root, objective_of(goal, g), solver, formulation="bigm", time_limit=left, on_incumbent=incumbent
            )
        except UnsupportedProgram:
            return nan  # a solver for linear programs only is no guide
        if answer.point is not None and offer(answer.point):
            return answer.solution.objective
        claims.append(answer.solution.objective if answer.solution.status is Status.OPTIMAL else nan)
    return nan if not claims or any(map(isnan, claims)) else float(np.min(claims))
