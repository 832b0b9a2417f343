"""A bound from the lifted relaxation: the interior-point method proposes, the Lagrangian's least value is proved."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from optverify.errors import InputError
from optverify.formulations.encoder import Objective
from optverify.formulations.lifted import Ball, Lifted, lifted
from optverify.formulations.rlt import with_violated_products
from optverify.interval import Array, Interval
from optverify.network import Network
from optverify.preactivation import Bounds
from optverify.safe.lifted import Proved, safe_bound
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.interior_point import LiftedSolution
from optverify.solvers.lifted import solve_lifted_by
from optverify.solvers.solution import Solver, Status

LARGEST = 8000
"""Most conditions: the Schur complement has that order, 0.5 GB, and several of its size are held."""


@dataclass(frozen=True, eq=False)
class LiftedBound:
    """What the lifted relaxation gave.

    Parameters
    ----------
    lower : float
        Rigorous bound on the objective's minimum.
    proved : Proved
        The multipliers behind it.
    point : (n_inputs,) float64
        A network input to try: the relaxation's mean.
    lifted : Lifted
        With all products that were added.
    solution : LiftedSolution
        Of the last round; its figures are claims.
    rounds : int
        Of products that were added.
    build_seconds, solve_seconds, validate_seconds : float
        Of all rounds together.
    """

    lower: float
    proved: Proved
    point: Array
    lifted: Lifted
    solution: LiftedSolution
    rounds: int = 0
    build_seconds: float = 0.0
    solve_seconds: float = 0.0
    validate_seconds: float = 0.0


def lifted_bound(
    network: Network,
    region: Interval,
    bounds: Bounds,
    objective: Objective,
    *,
    ball: Ball | None = None,
    rounds: int = 0,
    stop_above: float = np.inf,
    stop_below: float = -np.inf,
    time_limit: float | None = None,
    solver: str | Solver = INTERIOR_POINT,
    start: LiftedSolution | None = None,
) -> LiftedBound:
    """Bound an objective by the lifted relaxation.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Proved.
    objective : Weighted or Largest
    ball : Ball, optional
    rounds : int
        At most so often, products of linear conditions that the solution violates are added, and it is solved again.
    stop_above, stop_below : float
        See :func:`optverify.solvers.interior_point.solve_lifted`; `stop_below` is for the last round.
    time_limit : float, seconds, optional
    solver : str or Solver
        See :func:`optverify.solvers.lifted.solve_lifted_by`.
    start : LiftedSolution, optional
        Of another objective over the same region, with the same bounds.

    Raises
    ------
    ShapeError, InputError
        See :func:`optverify.formulations.lifted.lifted`; or the relaxation is too large to be solved.
    InputError, SolverUnavailable, UnsupportedProgram
        See :func:`optverify.solvers.lifted.solve_lifted_by`.
    """
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    began, solve, validate = time.perf_counter(), 0.0, 0.0
    relaxation = lifted(network, region, bounds, objective, ball)
    best: LiftedBound | None = None
    for done in range(rounds + 1):
        size = relaxation.n_variables + relaxation.n_products
        if size > LARGEST:
            if best is not None:
                break
            raise InputError(f"the lifted relaxation has {size} conditions; more than {LARGEST} are too many")
        left = max(deadline - time.monotonic(), 0.01) if np.isfinite(deadline) else None
        floor = stop_below if done == rounds else -np.inf
        asked = time.perf_counter()
        solution = solve_lifted_by(
            relaxation, solver, stop_above=stop_above, stop_below=floor, time_limit=left, start=start
        )
        answered = time.perf_counter()
        proved = safe_bound(relaxation, solution.products, solution.box, solution.point)
        solve, validate = solve + answered - asked, validate + time.perf_counter() - answered
        if best is None or proved.lower > best.lower:
            point = _input(relaxation, region, solution.moments[1:, 0])
            best = LiftedBound(proved.lower, proved, point, relaxation, solution, done)
        further = relaxation
        if solution.status is Status.OPTIMAL and done < rounds and time.monotonic() < deadline:
            further = with_violated_products(relaxation, solution.moments)
        if further is relaxation:
            break
        relaxation, start = further, solution
    assert best is not None
    build = time.perf_counter() - began - solve - validate
    return replace(best, build_seconds=build, solve_seconds=solve, validate_seconds=validate)


def _input(relaxation: Lifted, region: Interval, mean: Array) -> Array:
    """Return the network input at the given values of the variables, within the region."""
    x = relaxation.variables["x"].indices
    values = np.where(region.lower < region.upper, 0.5 * region.lower + 0.5 * region.upper, region.lower)
    values[relaxation.neurons["x"]] = relaxation.centre[x] + relaxation.radius[x] * np.nan_to_num(mean[x])
    return np.clip(values, region.lower, region.upper)
