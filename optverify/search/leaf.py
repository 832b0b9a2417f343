"""Closing a node with a program's duals, and what else the program tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optverify.bounds.relaxed import Relaxed, frame_of, relaxed
from optverify.formulations.encoder import Largest, Objective, Weighted
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.query import Goal
from optverify.search.branching import NeuronSplit
from optverify.solvers.solution import Solver


@dataclass(frozen=True, eq=False)
class LeafBound:
    """What a program gave for one group of a node.

    Parameters
    ----------
    lower : float
        Rigorous bound on max over the group's rows.
    claim : float
        The solver's figure; NaN if it has none.
    point : (n_inputs,) float64 or None
    split : NeuronSplit or None
        The unstable neuron that the solver's point violates most.
    """

    lower: float
    claim: float
    point: Array | None
    split: NeuronSplit | None


def objective_of(goal: Goal, group: int) -> Objective:
    """Return the objective whose minimum is positive if and only if the group cannot be reached."""
    rows = goal.groups[group]
    if len(rows) == 1:
        return Weighted(np.eye(goal.network.n_outputs)[rows[0]])
    return Largest(rows)


def program_bound(
    goal: Goal, region: Interval, bounds: Bounds, group: int, solver: str | Solver, time_limit: float
) -> LeafBound:
    """Bound one group of a node by the triangle program.

    Parameters
    ----------
    goal : Goal
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
    group : int
    solver : str or Solver
    time_limit : float, seconds
    """
    frame = frame_of(goal.network, region, bounds)
    limit = max(time_limit, 0.01) if np.isfinite(time_limit) else None
    answer = relaxed(frame, bounds, objective_of(goal, group), solver, time_limit=limit)
    return LeafBound(answer.lower, answer.solution.objective, answer.point, worst_neuron(goal, bounds, answer))


def worst_neuron(goal: Goal, bounds: Bounds, answer: Relaxed) -> NeuronSplit | None:
    """Return the unstable neuron where the solver's a - relu(z) is largest, None if all agree."""
    primal = answer.solution.primal
    if primal is None or primal.size != answer.program.n_variables:
        return None
    best, found = 0.0, None
    for k, unstable in enumerate(bounds.unstable(goal.network)):
        neurons = np.flatnonzero(unstable)
        if not neurons.size:
            continue
        variables = answer.program.variables
        z, a = primal[variables[f"z[{k}]"].indices][neurons], primal[variables[f"a[{k}]"].indices]
        excess = np.nan_to_num(a - np.maximum(z, 0.0))
        if excess.max() > best:
            best, found = float(excess.max()), NeuronSplit(k, int(neurons[excess.argmax()]))
    return found


def root_program(
    goal: Goal,
    bounds: Bounds,
    formulation: str,
    solver: str | Solver,
    time_limit: float | None,
    on_point: Callable[[Array], None],
) -> Relaxed:
    """Solve a program over the whole region for the goal's only row; points on the way go to `on_point`."""
    frame = frame_of(goal.network, goal.region.outward, bounds)

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
