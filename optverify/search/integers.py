"""The optimum of a program with integer variables from below: linear programs, split on one variable at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from math import floor, inf, nan

import numpy as np
from numpy.typing import NDArray

from optverify import solvers
from optverify.formulations.program import Program
from optverify.interval import Array
from optverify.safe.program import proves_infeasible, safe_bound
from optverify.solvers.solution import Solution, Solver

LARGEST = 2.0**52
"""From here on floats are integers, and k + 1 may not be one of them."""

NEAR = 1e-6
"""So near to an integer a solver's figure counts as one: not split any further."""


def proved(program: Program, vector: Array | None) -> float:
    """Return what a vector proves as a dual; infinity if it proves, as a ray, that there is no point."""
    return inf if proves_infeasible(program, vector) else safe_bound(program, vector)


@dataclass(frozen=True)
class Least:
    """What is known of a program's optimum.

    Parameters
    ----------
    lower : float
        Rigorous; infinity: there is no point.
    claim : float
        The best point that a solver found with integers; NaN if none.
    programs : int
        Linear programs that were solved.
    solver, message : str
        Of the first.
    """

    lower: float
    claim: float
    programs: int
    solver: str
    message: str


@dataclass(frozen=True, eq=False)
class _Node:
    """A part of the box, what is proved of it and what the solver left."""

    lower: Array
    upper: Array
    bound: float
    solution: Solution


def least(
    program: Program,
    solver: str | Solver,
    *,
    programs: int = 1,
    gap: float = 1e-6,
    time_limit: float | None = None,
) -> Least:
    """Bound a program's optimum from below, integrality included.

    Parameters
    ----------
    program : Program
    solver : str or Solver
        For linear (or semidefinite) programs.
    programs : int
        Most programs to solve; with 1 integrality is not used.
    gap : float
        Ends once the bound is so near to the best point that was found, relative to it or to 1.
    time_limit : float, seconds, optional

    Notes
    -----
    An integer is <= k or >= k + 1, so the two parts of a node cover it; the bound is the least of the parts' bounds,
    each proved from the duals of a linear program. Best first, on the variable that is farthest from an integer
    (Land and Doig, Econometrica 28, 1960).
    """
    deadline = inf if time_limit is None else time.monotonic() + time_limit
    relaxed, whole = replace(program, integer=None), np.flatnonzero(program.integer)
    engine = solvers.get(solver)

    def node(lower: Array, upper: Array, parent: _Node | None) -> _Node:
        part = replace(relaxed, lower=lower, upper=upper)
        left = None if deadline == inf else max(deadline - time.monotonic(), 0.01)
        solution = engine.solve(part, time_limit=left, start=None if parent is None else parent.solution)
        bound = max(proved(part, solution.dual), proved(part, solution.ray))
        return _Node(lower, upper, bound if parent is None else max(bound, parent.bound), solution)

    root = node(program.lower, program.upper, None)
    best, done, order = _point(root, whole), 1, count()
    open_ = [(root.bound, next(order), root)] if root.bound < inf else []
    while open_:
        here = open_[0][2]
        place, value = _farthest(here, whole)
        closed = here.bound >= best - gap * max(1.0, abs(best))
        if place is None or closed or done + 2 > programs or time.monotonic() > deadline:
            break
        heappop(open_)
        for end, at in (("upper", floor(value)), ("lower", floor(value) + 1)):
            ends = {"lower": here.lower.copy(), "upper": here.upper.copy()}
            ends[end][place] = at
            if ends["lower"][place] <= ends["upper"][place]:
                child = node(ends["lower"], ends["upper"], here)
                done += 1
                best = min(best, _point(child, whole))
                if child.bound < inf:
                    heappush(open_, (child.bound, next(order), child))
    solution = root.solution
    return Least(
        lower=min((bound for bound, _, _ in open_), default=inf),
        claim=best if best < inf else nan,
        programs=done,
        solver=solution.solver,
        message=f"{solution.status.value}: {solution.message}",
    )


def _farthest(node: _Node, whole: NDArray[np.intp]) -> tuple[int | None, float]:
    """Return the variable to split a node on, and where; None if all are integers or fixed."""
    free = whole[node.lower[whole] < node.upper[whole]]
    primal = node.solution.primal
    with np.errstate(invalid="ignore"):
        middle = 0.5 * node.lower + 0.5 * node.upper if primal is None else np.clip(primal, node.lower, node.upper)
    value = middle[free]
    # Without a point any variable will do, also where its middle is an integer; but not where k + 1 is no float.
    away = np.abs(value - np.rint(value)) if primal is not None else np.where(np.abs(value) < LARGEST, 1.0, 0.0)
    if not away.size or away.max() <= NEAR:
        return None, nan
    return int(free[away.argmax()]), float(value[away.argmax()])


def _point(node: _Node, whole: NDArray[np.intp]) -> float:
    """Return the objective of a node's point if its integers are integers; a claim."""
    primal = node.solution.primal
    if primal is None or (np.abs(primal[whole] - np.rint(primal[whole])) > NEAR).any():
        return inf
    return node.solution.objective
