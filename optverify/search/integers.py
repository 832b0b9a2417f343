"""The optimum of a program with integer variables from below: linear programs, split on one variable at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush, heapreplace
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


@dataclass(eq=False)
class Part:
    """A part of the box, the root of a tree of parts.

    Parameters
    ----------
    lower, upper : (n,) float64
    bound : float
        Proved.
    solution : Solution or None
        That a solver left, of this part, one around it, or the same part of an earlier program.
    solved : bool
        Whether it is of this part and this program.
    split : (int, int, Part or None, Part or None), optional
        A variable j and k: the parts with x_j <= k and x_j >= k + 1, None where there is nothing.
    """

    lower: Array
    upper: Array
    bound: float
    solution: Solution | None
    solved: bool = False
    split: tuple[int, int, Part | None, Part | None] | None = None


@dataclass(frozen=True)
class Least:
    """What is known of a program's optimum.

    Parameters
    ----------
    lower : float
        Rigorous; infinity: there is no point.
    claim : float
        The best point that a solver found with integers; NaN if none.
    programs, iterations : int
        Linear programs that were solved, and what the solver needed for them.
    solver, message : str
        Of the first.
    tree : Part
        To start from where a similar program is asked for.
    """

    lower: float
    claim: float
    programs: int
    iterations: int
    solver: str
    message: str
    tree: Part


def least(
    program: Program,
    solver: str | Solver,
    *,
    programs: int = 1,
    gap: float = 1e-6,
    time_limit: float | None = None,
    start: Part | None = None,
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
    start : Part, optional
        The tree of another program with the same variables. Its splits are kept; its multipliers bound the parts before
        any program is solved, and a part is solved, from the basis that was left there, only where its bound is the
        least.

    Notes
    -----
    An integer is <= k or >= k + 1, so the two parts of a node cover it, whoever chose the split; the bound is the least
    of the parts' bounds, each proved from the duals of a linear program. Best first, on the variable that is farthest
    from an integer (Land and Doig, Econometrica 28, 1960). Ctrl-C leaves what is proved by then.
    """
    deadline = inf if time_limit is None else time.monotonic() + time_limit
    relaxed, whole = replace(program, integer=None), np.flatnonzero(program.integer)
    engine = solvers.get(solver)
    root = Part(program.lower, program.upper, -inf, None)
    leaves = [root] if start is None else _again(relaxed, root, start, whole)
    best, done, iterations, order, first = inf, 0, 0, count(), None
    open_ = [(part.bound, next(order), part) for part in leaves if part.bound < inf]
    heapify(open_)
    interrupted = False
    try:
        # Ctrl-C may come between any two steps: a part leaves the heap when all of it is there in another form.
        while open_:
            here = open_[0][2]
            closed = here.bound >= best - gap * max(1.0, abs(best))
            if closed or (done and time.monotonic() > deadline):
                break
            if here.solved:
                place, value = _farthest(here, whole)
                # A split pays with both of its parts.
                if place is None or done + 2 > programs:
                    break
                for part in _divided(here, place, floor(value)):
                    heappush(open_, (part.bound, next(order), part))
                heappop(open_)
            elif done and done + 1 > programs:
                break
            else:
                left = None if deadline == inf else max(deadline - time.monotonic(), 0.01)
                inner = replace(relaxed, lower=here.lower, upper=here.upper)
                solution = engine.solve(inner, time_limit=left, start=here.solution)
                here.bound = max(here.bound, proved(inner, solution.dual), proved(inner, solution.ray))
                here.solution, here.solved = solution, True
                first, done, iterations = first or solution, done + 1, iterations + solution.iterations
                best = min(best, _point(here, whole))
                if here.bound < inf:
                    heapreplace(open_, (here.bound, next(order), here))
                else:
                    heappop(open_)
    except KeyboardInterrupt:
        interrupted = True
    ended = "" if first is None else f"{first.status.value}: {first.message}"
    return Least(
        lower=min((bound for bound, _, _ in open_), default=inf),
        claim=best if best < inf else nan,
        programs=done,
        iterations=iterations,
        solver="earlier multipliers" if first is None else first.solver,
        message="interrupted" if interrupted else ended,
        tree=root,
    )


def _divided(part: Part, place: int, at: int) -> list[Part]:
    """Split a part in two, and return those that are not empty."""
    low, high = part.upper.copy(), part.lower.copy()
    low[place], high[place] = min(low[place], at), max(high[place], at + 1)
    halves = (replace(part, upper=low, solved=False), replace(part, lower=high, solved=False))
    below, above = (half if half.lower[place] <= half.upper[place] else None for half in halves)
    part.split = (place, at, below, above)
    return [half for half in (below, above) if half is not None]


def _again(program: Program, root: Part, start: Part, whole: NDArray[np.intp]) -> list[Part]:
    """Split a root as another tree was split, as far as that makes sense here, and return the parts that are left."""
    leaves, pairs = [], [(root, start)]
    while pairs:
        part, old = pairs.pop()
        part.solution = old.solution
        if old.split is not None and old.split[0] in whole and abs(old.split[1]) < LARGEST:
            place, at, *below = old.split
            _divided(part, place, at)
            assert part.split is not None
            pairs += [
                (mine, theirs or Part(mine.lower, mine.upper, -inf, old.solution))
                for mine, theirs in zip(part.split[2:], below, strict=True)
                if mine is not None
            ]
        else:
            inner = replace(program, lower=part.lower, upper=part.upper)
            for vector in () if part.solution is None else (part.solution.dual, part.solution.ray):
                part.bound = max(part.bound, proved(inner, _lengthened(vector, program.n_rows)))
            leaves.append(part)
    return leaves


def _lengthened(vector: Array | None, rows: int) -> Array | None:
    """Return multipliers for a program to which rows were added at the end."""
    if vector is None or vector.size >= rows:
        return vector
    return np.append(vector, np.zeros(rows - vector.size))


def _farthest(part: Part, whole: NDArray[np.intp]) -> tuple[int | None, float]:
    """Return the variable to split a part on, and where; None if all are integers or fixed."""
    free = whole[part.lower[whole] < part.upper[whole]]
    assert part.solution is not None
    primal = part.solution.primal
    with np.errstate(invalid="ignore"):
        middle = 0.5 * part.lower + 0.5 * part.upper if primal is None else np.clip(primal, part.lower, part.upper)
    value = middle[free]
    # Without a point any variable will do, also where its middle is an integer; but not where k + 1 is no float.
    away = np.abs(value - np.rint(value)) if primal is not None else np.where(np.abs(value) < LARGEST, 1.0, 0.0)
    if not away.size or away.max() <= NEAR:
        return None, nan
    return int(free[away.argmax()]), float(value[away.argmax()])


def _point(part: Part, whole: NDArray[np.intp]) -> float:
    """Return the objective of a part's point if its integers are integers; a claim."""
    assert part.solution is not None
    primal = part.solution.primal
    if primal is None or (np.abs(primal[whole] - np.rint(primal[whole])) > NEAR).any():
        return inf
    return part.solution.objective
