"""Moving a face of a box until an unsafe point is just beyond it: a proof up to there, and that point."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf
from typing import Literal

import numpy as np

from optverify.deployment import deployed
from optverify.interval import nearest
from optverify.measures.judge import Judge
from optverify.measures.nearest import nearest_points, reached
from optverify.measures.polish import polished
from optverify.measures.results import Side
from optverify.network import Network
from optverify.norms import Cut
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import REAL, Semantics
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solver
from optverify.verify import verify
from optverify.witness import Witness

SIDEWAYS = 1e6
"""In the search for near points, moving along the face costs so many times less than moving away from it."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """Where a face came to.

    Parameters
    ----------
    position : Fraction
        Proved: the box up to there holds no unsafe point beyond the face's first position.
    stop : "domain", "counterexample" or "undecided"
    witness : Witness or None
        With "counterexample": an unsafe point of the box whose face is a step further.
    """

    position: Fraction
    stop: Literal["domain", "counterexample", "undecided"]
    witness: Witness | None


def sweep(
    network: Network,
    query: Query,
    box: Box,
    axis: int,
    side: Side,
    limit: Fraction,
    step: Fraction,
    *,
    semantics: Semantics = REAL,
    solver: str | Solver | None = LINEAR,
    deadline: float = inf,
) -> Sweep:
    """Move a face of a box outward.

    Parameters
    ----------
    network : Network
    query : Query
        Its cases are the unsafe sets; their regions do not count.
    box : Box
    axis : int
    side : "lower" or "upper"
    limit : Fraction
        Where the face cannot go beyond.
    step : Fraction
        The face ends at most this far before the unsafe point that stops it.
    semantics : Semantics
    solver : str or Solver or None
    deadline : float, seconds of ``time.monotonic``

    Notes
    -----
    The slab between the face and `limit` is searched. An unsafe point in it is moved towards the face, and the slab
    that ends one step before it is searched, until one is proved to be safe.
    """
    start, sign = getattr(box, side)[axis], 1 if side == "upper" else -1
    end, stopper = limit, None
    judge = Judge(deployed(network, semantics))
    while (end - start) * sign > 0:
        region = slab(box, axis, start, end)
        asked = over(query, region)
        answer = verify(
            network, asked, semantics=semantics, solver=solver, time_limit=max(deadline - time.monotonic(), 1e-3)
        )
        if answer.verdict is Verdict.VERIFIED:
            return Sweep(end, "domain" if stopper is None else "counterexample", stopper)
        if answer.witness is None:
            return Sweep(start, "undecided", None)
        stopper = _towards(judge, asked, axis, start, answer.witness)
        end = stopper.x[axis] - sign * step
    return Sweep(start, "domain" if stopper is None else "counterexample", stopper)


def slab(box: Box, axis: int, start: Fraction, end: Fraction) -> Box:
    """Return the part of a box between two positions along an axis."""
    lower, upper = list(box.lower), list(box.upper)
    lower[axis], upper[axis] = min(start, end), max(start, end)
    return Box(tuple(lower), tuple(upper))


def over(query: Query, region: Box) -> Query:
    """Ask the same about another region."""
    return replace(query, cases=tuple(replace(case, region=region) for case in query.cases))


def _towards(judge: Judge, query: Query, axis: int, start: Fraction, witness: Witness) -> Witness:
    """Return an unsafe point of the region that is as near to the face as was found."""
    (goal,) = query.goals(judge.network)
    region, point = goal.region.outward, np.array(witness.x_float())
    centre = np.clip(point, region.lower, region.upper)
    centre[axis] = nearest(start)
    weights = np.full(centre.size, SIDEWAYS)
    weights[axis] = 1.0
    ball = Cut(region.lower, region.upper, "inf", centre, inf, weights)
    tried = [point[None], nearest_points(goal, ball, point[None])]
    near = np.vstack(tried)
    near = near[np.argsort(ball.lengths(near))[:1]]
    near = np.vstack([near, polished(goal, ball, near[0])[None] if reached(goal, near[0]) else near])
    best = witness
    for x in near:
        moved = np.array(x)
        # along the axis alone: what an end of the last digits costs is found exactly
        for value in (nearest(start), x[axis], x[axis] + (x[axis] - nearest(start)) * 2.0**-30):
            moved[axis] = value
            found = judge(query, moved.tolist())
            if found is not None and abs(found.x[axis] - start) < abs(best.x[axis] - start):
                best = found
                break
    return best
