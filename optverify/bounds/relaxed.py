"""A bound from a program: the solver proposes multipliers, the formula decides what they prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from optverify import formulations, solvers
from optverify.formulations.encoder import Objective, Weighted, read_input, read_multipliers
from optverify.formulations.program import Program
from optverify.interval import Array, Interval
from optverify.network import Affine, Network, Relu
from optverify.preactivation import Bounds
from optverify.safe.multipliers import Frame, Slopes, mean_bound
from optverify.solvers.solution import Incumbent, Solution, Solver


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What a program gave.

    Parameters
    ----------
    lower : float
        Rigorous bound on the objective's minimum; +inf if the multipliers prove that no point is left, -inf
        if the solver left none.
    point : (n_inputs,) float64 or None
        Network input of the solver's point.
    program : Program
    solution : Solution
        Its objective is a claim.
    build_seconds, validate_seconds : float
        To make the program, and to make a bound of its duals.
    """

    lower: float
    point: Array | None
    program: Program
    solution: Solution
    build_seconds: float = 0.0
    validate_seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Advice:
    """Multipliers of the affine layers, for the Relus they feed; elsewhere the CROWN rule.

    Parameters
    ----------
    g : sequence of (n_k,) float64 or None, one per Relu
    """

    g: Sequence[Array | None]

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        known = self.g[relu]
        return Slopes()(relu, v, z) if known is None else known


def advice(network: Network, g: Sequence[Array]) -> Advice:
    """Pair the multipliers of each Affine with the Relu that follows it."""
    values: list[Array | None] = []
    affine = -1
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Affine):
            affine += 1
        else:
            fed = position > 0 and not isinstance(network.layers[position - 1], Relu)
            values.append(g[affine] if fed else None)
    return Advice(values)


def frame_of(network: Network, region: Interval, bounds: Bounds) -> Frame:
    """Return the frame of one region (ends without a leading axis)."""
    return Frame.of(network, region.take(None), bounds.take(None))


def relaxed(
    frame: Frame,
    bounds: Bounds,
    objective: Objective,
    solver: str | Solver,
    *,
    formulation: str = "triangle",
    time_limit: float | None = None,
    start: Solution | None = None,
    on_incumbent: Incumbent | None = None,
) -> Relaxed:
    """Solve a relaxation over one region and evaluate its duals rigorously.

    Parameters
    ----------
    frame : Frame
        Of one region, with `bounds`.
    bounds : Bounds, ends of shape (n_k,)
    objective : Weighted or Largest
    solver : str or Solver
    formulation : str
    time_limit : float, seconds, optional
    start : Solution, optional
        Of a program of the same size.
    on_incumbent : callable, optional

    Raises
    ------
    SolverUnavailable, InputError
        The solver is not there; the names are unknown.
    """
    network = frame.network
    region = frame.region.take(0)
    began = perf_counter()
    program = formulations.get(formulation).build(network, region, bounds, objective)
    built = perf_counter()
    solution = solvers.get(solver).solve(program, time_limit=time_limit, start=start, on_incumbent=on_incumbent)
    solved = perf_counter()
    lower = max(
        (proved(frame, program, objective, dual) for dual in (solution.dual, solution.ray) if dual is not None),
        default=-np.inf,
    )
    point = read_input(program, solution.primal)
    return Relaxed(lower, point, program, solution, built - began, perf_counter() - solved)


def proved(frame: Frame, program: Program, objective: Objective, dual: Array) -> float:
    """Return the lower bound on the objective that a dual vector of an explicit program proves."""
    found = read_multipliers(frame.network, program, dual)
    if found is None:
        return -np.inf
    if isinstance(objective, Weighted):
        mu = objective.c[None]
        value = float(frame.lower(mu, advice(frame.network, found.g)).value[0, 0])
        empty = float(frame.lower(np.zeros_like(mu), advice(frame.network, found.g)).value[0, 0])
        return np.inf if empty > 0 else float(np.nextafter(value + objective.c0, -np.inf))
    # Scaled down, so that sums of weights stay far from overflow.
    scale = max(float(found.mu.max()), 1.0)
    g = [values / scale for values in found.g]
    mu = np.zeros((1, frame.network.n_outputs))
    mu[0, list(objective.group)] = found.mu / scale
    value = float(frame.lower(mu, advice(frame.network, g)).value[0, 0])
    return float(mean_bound(np.array([value]), mu)[0])
