"""Closing a node with a program's duals, and what else the program tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optverify import solvers
from optverify.bounds.relaxed import Relaxed, frame_of, relaxed
from optverify.formulations.encoder import objective_of
from optverify.formulations.reduced import Reduced, reduced
from optverify.interval import Array
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit
from optverify.query import Goal
from optverify.safe.multipliers import Frame, Stored, mean_bound
from optverify.solvers.solution import Solver

LARGEST_WEIGHT = 2.0**20
"""Weights of rows are stored as whole numbers up to this."""


@dataclass(frozen=True, eq=False)
class LeafBound:
    """What a program gave for one group of a node.

    Parameters
    ----------
    lower : float
        Rigorous bound on max over the group's rows, by the multipliers as a proof stores them.
    claim : float
        The solver's figure; NaN if it has none.
    point : (n_inputs,) float64 or None
    split : NeuronSplit or None
        The unstable neuron that the solver's point violates most.
    weights : tuple of int
        Of the group's rows, behind the bound.
    g : tuple of (n_k,) float64, one per Relu
        Multipliers behind the bound; NaN stands for the CROWN rule.
    """

    lower: float
    claim: float
    point: Array | None
    split: NeuronSplit | None
    weights: tuple[int, ...]
    g: tuple[Array, ...]


def program_bound(
    frame: Frame, bounds: Bounds, rows: tuple[int, ...], solver: str | Solver, time_limit: float
) -> LeafBound:
    """Bound the largest of some outputs over one box by the reduced triangle program.

    Parameters
    ----------
    frame : Frame
        Of that box, with `bounds`.
    bounds : Bounds, ends of shape (n_k,)
    rows : tuple of int
    solver : str or Solver
    time_limit : float, seconds
    """
    relaxation = reduced(frame.network, frame.region.take(0), bounds, rows)
    limit = max(time_limit, 0.01) if np.isfinite(time_limit) else None
    solution = solvers.get(solver).solve(relaxation.program, time_limit=limit)
    lower, weights, g = _best(frame, relaxation, solution.dual, solution.ray)
    primal = solution.primal
    if primal is None or primal.shape != (relaxation.program.n_variables,):
        return LeafBound(lower, solution.objective, None, None, weights, g)
    point = np.clip(np.nan_to_num(primal[: frame.network.n_inputs]), frame.region.lower[0], frame.region.upper[0])
    return LeafBound(lower, solution.objective, point, relaxation.worst_neuron(primal), weights, g)


def whole(mu: Array, g: Sequence[Array]) -> tuple[NDArray[np.int64], tuple[Array, ...]]:
    """Scale weights of rows to whole numbers, and the multipliers with them; NaN where one is no number."""
    with np.errstate(all="ignore"):
        scale = LARGEST_WEIGHT / mu.max() if mu.size > 1 and mu.max() > 0 else 1.0
        weights = np.rint(np.clip(np.nan_to_num(mu * scale), 0.0, LARGEST_WEIGHT)).astype(np.int64)
        return weights, tuple(np.where(np.isfinite(values * scale), values * scale, np.nan) for values in g)


def _best(
    frame: Frame, relaxation: Reduced, dual: Array | None, ray: Array | None
) -> tuple[float, tuple[int, ...], tuple[Array, ...]]:
    """Evaluate the multipliers, with whole-number weights; return the better bound and what is behind it."""
    rows = relaxation.rows
    best: tuple[float, tuple[int, ...], tuple[Array, ...]] = (-np.inf, (1,) * len(rows), ())
    for found in (relaxation.multipliers(dual), relaxation.multipliers(ray, ray=True)):
        if found is None:
            continue
        weights, scaled = whole(*found)
        objective = np.zeros((1, frame.network.n_outputs))
        objective[0, list(rows)] = weights
        value = frame.lower(objective, Stored(scaled)).value[:, 0]
        lower = float(mean_bound(value, weights[None].astype(np.float64))[0])
        if lower > best[0]:
            best = (lower, tuple(weights.tolist()), scaled)
    return best


def root_program(
    goal: Goal,
    bounds: Bounds,
    formulation: str,
    solver: str | Solver,
    time_limit: float | None,
    on_point: Callable[[Array], None],
    frame: Frame | None = None,
) -> Relaxed:
    """Solve a program over the whole region for the goal's only group; points on the way go to `on_point`."""
    frame = frame or frame_of(goal.network, goal.region.outward, bounds)

    def incumbent(_: float, x: Array) -> bool:
        on_point(x[: goal.network.n_inputs])
        return False

    objective = objective_of(goal, 0)
    answer = relaxed(
        frame, bounds, objective, solver, formulation=formulation, time_limit=time_limit, on_incumbent=incumbent
    )
    if answer.point is not None:
        on_point(answer.point)
    return answer
