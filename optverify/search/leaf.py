"""Closing a node with a program's duals, and what else the program tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optverify.bounds.relaxed import Relaxed, advice, frame_of, relaxed
from optverify.formulations.encoder import Largest, Objective, Weighted, read_multipliers
from optverify.interval import Array, Interval
from optverify.network import Relu
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit
from optverify.query import Goal
from optverify.safe.multipliers import Frame, Stored, mean_bound
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
    weights : tuple of int
        Of the group's rows, behind the bound.
    g : tuple of arrays, one per Relu
        Multipliers behind the bound.
    """

    lower: float
    claim: float
    point: Array | None
    split: NeuronSplit | None
    weights: tuple[int, ...]
    g: tuple[Array, ...]


def objective_of(goal: Goal, group: int) -> Objective:
    """Return the objective whose minimum is positive if and only if the group cannot be reached."""
    rows = goal.groups[group]
    if len(rows) == 1:
        return Weighted(np.eye(goal.network.n_outputs)[rows[0]])
    return Largest(rows)


def program_bound(
    goal: Goal,
    region: Interval,
    bounds: Bounds,
    group: int,
    solver: str | Solver,
    time_limit: float,
    storable: bool = False,
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
    storable : bool
        Bound with multipliers rounded as a proof stores them.
    """
    frame = frame_of(goal.network, region, bounds)
    limit = max(time_limit, 0.01) if np.isfinite(time_limit) else None
    answer = relaxed(frame, bounds, objective_of(goal, group), solver, time_limit=limit)
    lower, weights = answer.lower, (1,) * len(goal.groups[group])
    g: tuple[Array, ...] = ()
    if storable:
        lower, weights, g = _rounded(goal, frame, bounds, group, answer)
    split = worst_neuron(goal, bounds, answer)
    return LeafBound(lower, answer.solution.objective, answer.point, split, weights, g)


def _rounded(
    goal: Goal, frame: Frame, bounds: Bounds, group: int, answer: Relaxed
) -> tuple[float, tuple[int, ...], tuple[Array, ...]]:
    """Bound a group with rounded multipliers: whole weights up to 2**40, numbers for unstable and split neurons."""
    members = goal.groups[group]
    best: tuple[float, tuple[int, ...], tuple[Array, ...]] = (-np.inf, (1,) * len(members), ())
    for vector in (answer.solution.dual, answer.solution.ray):
        found = read_multipliers(goal.network, answer.program, vector)
        if found is None:
            continue
        with np.errstate(all="ignore"):
            scale = 2.0**40 / found.mu.max() if found.mu.max() > 0 else 1.0
            weights = np.rint(np.clip(np.nan_to_num(found.mu * scale), 0.0, 2.0**40)).astype(np.int64)
            stored = []
            masks = [layer.mask for layer in goal.network.layers if isinstance(layer, Relu)]
            for given, z, mask in zip(advice(goal.network, found.g).g, bounds.layers, masks, strict=True):
                fixed = mask & (((z.lower < 0) & (z.upper > 0)) | (z.lower == 0) | (z.upper == 0))
                values = np.full(z.lower.shape, np.nan) if given is None else given * scale
                stored.append(np.where(fixed & np.isfinite(values), values, np.nan).astype(np.float64))
        objective = np.zeros((1, goal.network.n_outputs))
        objective[0, list(members)] = weights
        value = frame.lower(objective, Stored(tuple(stored))).value[:, 0]
        lower = float(mean_bound(value, weights[None].astype(np.float64))[0])
        if lower > best[0]:
            best = (lower, tuple(weights.tolist()), tuple(stored))
    return best


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
