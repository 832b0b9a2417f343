"""The lifted relaxation at nodes of the tree: for which nodes it is worth a try, and what it closes there.

It closes in one node what takes linear bounds hundreds, and it costs as much as hundreds; ``docs/sdp.md`` has the
measurements. Decisions are made from counts and bounds, never from clocks, so that the tree is the same on every
machine and for any number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from optverify.bounds.crown import crown, output_bounds
from optverify.errors import InputError
from optverify.formulations.encoder import objective_of
from optverify.interval import Array, Interval
from optverify.network import Affine, Network
from optverify.preactivation import Bounds
from optverify.proof import Close
from optverify.query import Goal
from optverify.search.node import Node

if TYPE_CHECKING:
    from optverify.solvers.interior_point import LiftedSolution

FEW_INPUTS = 12
"""Networks with at most so many inputs are split on inputs, and linear bounds are nearly exact on small boxes."""

MOST_CONDITIONS = 4000
"""Beyond this a single step of the solver takes seconds."""

LEAST_PRICE, NODE_WORK, WEIGHT_WORK = 50.0, 2e6, 4.0
"""A relaxation of n conditions costs as much as LEAST_PRICE + n^3 / (NODE_WORK + WEIGHT_WORK * weights) nodes."""

SOONEST = 100
"""Nodes of a search before the relaxation is thought of: its linear algebra takes as long to import."""

SECOND = 20.0
"""A tree with the relaxation in it, whose root it does not close, costs about as much as so many relaxations."""


@dataclass(frozen=True, eq=False)
class Closed:
    """What the relaxation did at a node.

    Parameters
    ----------
    groups : mapping from group to (float, Close)
        The rigorous bound, and what proves it.
    gain : float or None
        What the relaxation gained over the bound that was known, in the group that it could not close: a claim.
        None if there was no such group.
    programs : int
        Relaxations solved.
    start : LiftedSolution or None
        Of the first of them, for more groups of the same node.
    """

    groups: Mapping[int, tuple[float, Close]]
    gain: float | None
    programs: int
    start: LiftedSolution | None = None


def promising(
    network: Network, node: Node, bounds: Bounds, values: Mapping[int, float], threshold: float
) -> dict[int, float]:
    """Return the open groups of a node for which the relaxation is worth a try, the hardest first.

    Parameters
    ----------
    network : Network
        What of it can be active in the node.
    node : Node
    bounds : Bounds, ends of shape (n_k,)
        Of that network.
    values : mapping from group to float
        What is proved of each open group.
    threshold : float

    Returns
    -------
    dict
        These groups of `values`.

    Notes
    -----
    None if the relaxation would not close the hardest even if it gained as much as where it was tried last on the path.
    A subtree has at most 2^(1 + unstable neurons) nodes, and of a group of which less is missing as many fewer levels;
    where that is less than the relaxation costs, splitting is cheaper.
    """
    hardest_first = sorted(values, key=lambda g: (values[g], g))
    missing = threshold - values[hardest_first[0]]
    unstable, conditions = size(network, Interval(node.lower, node.upper), bounds)
    if conditions > MOST_CONDITIONS or not node.lift > missing:
        return {}
    levels, least = 1 + unstable, log2(price(network, conditions))
    return {g: values[g] for g in hardest_first if levels * (threshold - values[g]) > least * missing}


def size(network: Network, region: Interval, bounds: Bounds) -> tuple[int, int]:
    """Count the unstable neurons, and about how many conditions the relaxation has."""
    unstable = sum(int(u.sum()) for u in bounds.unstable(network))
    return unstable, int((region.lower < region.upper).sum()) + 4 * unstable


def price(network: Network, conditions: int) -> float:
    """Return about how many nodes of the plain search cost as much as one relaxation."""
    weights = sum(int(layer.weight.size) for layer in network.layers if isinstance(layer, Affine))
    return LEAST_PRICE + float(conditions) ** 3 / (NODE_WORK + WEIGHT_WORK * weights)


def nodes_before(goal: Goal) -> float:
    """Return after how many nodes of a plain search the relaxation is worth a try at the root: as many as it costs.

    Infinitely many where it is too large.
    """
    region = goal.region.outward
    bounds, frame = crown(goal.network, region.take(None))
    _, conditions = size(goal.network, region, bounds.take(0))
    value = output_bounds(frame).value[0]
    left = sum(not value[list(rows)].max() > 0 for rows in goal.groups)
    return max(left, 1) * price(goal.network, conditions) if conditions <= MOST_CONDITIONS else np.inf


def close_groups(
    goal: Goal,
    region: Interval,
    bounds: Bounds,
    values: Mapping[int, float],
    threshold: float,
    deadline: float,
    offer: Callable[[Array], None],
    *,
    proof: bool,
    start: LiftedSolution | None = None,
) -> Closed:
    """Close groups of a node by the lifted relaxation, in the given order, until one cannot be closed.

    Parameters
    ----------
    goal : Goal
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Of all pre-activations of the goal's network on the node.
    values : mapping from group to float
        What is proved of each group.
    threshold : float
        Solving ends as soon as the bound is above this, or the relaxation has a point below it.
    deadline : float, seconds of ``time.monotonic``
    offer : callable
        Given the point of each relaxation.
    proof : bool
        Close only what a certificate can hold.
    start : LiftedSolution, optional
        Of another group of the same node; without one the first group's is for the others.
    """
    from optverify.bounds.lifted import lifted_bound, lifted_close  # scipy: only for long searches

    closed: dict[int, tuple[float, Close]] = {}
    for programs, (group, value) in enumerate(values.items(), start=1):
        left = deadline - time.monotonic()
        if left <= 0:
            return Closed(closed, None, programs - 1, start)
        try:
            found = lifted_bound(
                goal.network,
                region,
                bounds,
                objective_of(goal, group),
                stop_above=threshold,
                stop_below=threshold,
                time_limit=left if np.isfinite(left) else None,
                start=start,
            )
        except InputError:  # numbers overflow
            return Closed(closed, -np.inf, programs - 1, start)
        start = start or found.solution
        offer(found.point)
        close = Close(group, ()) if found.lower > threshold else None
        if close is not None and proof:
            close = lifted_close(goal, group, region, bounds, found)
        if close is None:
            # The relaxation's optimum is between these two: solving ended as soon as it was below the threshold.
            optimum = 0.5 * found.lower + 0.5 * max(found.lower, found.solution.objective)
            return Closed(closed, optimum - value, programs, start)
        closed[group] = found.lower, close
    return Closed(closed, None, len(values), start)
