"""A bound from the lifted relaxation: the interior-point method proposes, the Lagrangian's least value is proved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optverify.errors import InputError
from optverify.formulations.encoder import Objective, Weighted
from optverify.formulations.lifted import Ball, Lifted, largest_scale, lifted
from optverify.formulations.rlt import with_violated_products
from optverify.interval import Array, Interval
from optverify.network import Network
from optverify.preactivation import Bounds, layer_inputs
from optverify.proof import Close, LiftedAdvice
from optverify.query import Goal
from optverify.safe.lifted import Proved, lagrangian, safe_bound
from optverify.safe.lifted_advice import KINDS, advised_bound, find, from_relaxation, to_relaxation
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.interior_point import LiftedSolution
from optverify.solvers.lifted import solve_lifted_by
from optverify.solvers.solution import Solver, Status

WEIGHT_BITS = 20
"""Weights of rows are stored as whole numbers of so many bits."""

FINENESS = (14, 28, 56, 112)
"""Bits of the largest stored multiplier, all of which are multiples of one number; the first that do are taken."""

FINEST = 900
"""Stored multipliers are multiples of 2**-FINEST."""

SPARE = 0.125
"""Share of a bound that is spent on curvature, so that rounding cannot make the quadratic concave."""

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


def lifted_close(goal: Goal, group: int, region: Interval, bounds: Bounds, found: LiftedBound) -> Close | None:
    """Turn what :func:`lifted_bound` found into a close that a certificate can store and both checkers accept.

    Weights of rows become whole numbers and multipliers short ones. For these the box multipliers are chosen anew, so
    that the quadratic has its least value over the box where it has its least value at all: the checkers need no point.

    Parameters
    ----------
    goal : Goal
        `found` is for its network and, as the objective, the group's only row or the largest of its rows.
    group : int
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Those that `found` was made with.
    found : LiftedBound
        Without a ball. Products that were added to the relaxation (``rounds > 0``) have no place in the format and are
        left out: solve without them.

    Returns
    -------
    Close or None
        None where the multipliers, as they would be stored, do not prove that the group is not reached.
    """
    rows, weights, factor = goal.groups[group], np.ones(1), 1.0
    if "largest" in found.lifted.rows:
        outputs = layer_inputs(goal.network, region, bounds)[-1].take(np.array(rows))
        weights = found.proved.products[found.lifted.rows["largest"].indices] / largest_scale(outputs)
        factor = 2.0 ** (WEIGHT_BITS - int(np.frexp(weights.max())[1]))
        weights = np.rint(weights * factor)
        if not weights.any():
            return None
    c = np.zeros(goal.network.n_outputs)
    c[list(rows)] = weights
    relaxation = lifted(goal.network, region, bounds, Weighted(c))
    places = find(goal.network, bounds, relaxation)
    advice = from_relaxation(find(goal.network, bounds, found.lifted), found.proved.products, found.proved.box)
    y, box = to_relaxation(relaxation, places, advice)
    for bits in FINENESS:
        advice = _short(from_relaxation(places, factor * y, factor * box), bits)
        proved = safe_bound(relaxation, to_relaxation(relaxation, places, advice)[0], factor * box)
        if proved.lower > 0:
            enough = _short(from_relaxation(places, proved.products, _box(relaxation, proved)), bits, np.ceil)
            advice = replace(advice, box=enough.box, input_box=enough.input_box)
            if advised_bound(goal.network, region, bounds, c, advice) > 0:
                return Close(group, tuple(map(int, weights.tolist())), lifted=advice)
    return None


def _short(advice: LiftedAdvice, bits: int, rounding: Callable[[Array], Array] = np.rint) -> LiftedAdvice:
    """Round multipliers to multiples of a power of two: so many bits for the largest."""
    values: dict[str, Any] = {kind: getattr(advice, kind) for kind in KINDS}
    largest = max(float(np.abs(part).max(initial=0.0)) for part in values.values())
    shift = int(np.clip(bits - np.frexp(largest)[1], 0, FINEST))
    return replace(advice, **{kind: np.ldexp(rounding(np.ldexp(part, shift)), -shift) for kind, part in values.items()})


def _box(relaxation: Lifted, proved: Proved) -> Array:
    """Return box multipliers with which the least value over the box is the least of all, and some curvature is left.

    At the least point z over the box, with the gradient G, -G_k z_k / 2 more of 1 - z_k^2 makes the gradient 0 where
    z_k is an end of its interval, and changes no value there.
    """
    form = lagrangian(relaxation, proved.products)
    gradient = form.g + 2.0 * (form.H @ proved.point + proved.box * proved.point)
    spare = proved.lower * SPARE / max(relaxation.n_variables, 1)
    return np.asarray(proved.box + np.maximum(-0.5 * gradient * proved.point, 0.0) + spare)


def _input(relaxation: Lifted, region: Interval, mean: Array) -> Array:
    """Return the network input at the given values of the variables, within the region."""
    x = relaxation.variables["x"].indices
    values = np.where(region.lower < region.upper, 0.5 * region.lower + 0.5 * region.upper, region.lower)
    values[relaxation.neurons["x"]] = relaxation.centre[x] + relaxation.radius[x] * np.nan_to_num(mean[x])
    return np.clip(values, region.lower, region.upper)
