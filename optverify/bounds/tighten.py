"""Tighter pre-activation bounds by linear programs, each made rigorous by the formula."""

from __future__ import annotations

import time

import numpy as np

from optverify.bounds.relaxed import frame_of, relaxed
from optverify.formulations.encoder import Weighted
from optverify.interval import Interval
from optverify.network import Network, Relu
from optverify.preactivation import Bounds
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solution, Solver


def tighten(
    network: Network,
    region: Interval,
    bounds: Bounds,
    *,
    solver: str | Solver = LINEAR,
    time_limit: float | None = None,
) -> Bounds:
    """Minimise and maximise every unstable pre-activation over the triangle relaxation of the layers below.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Proved, for instance by :func:`optverify.bounds.crown.crown`.
    solver : str or Solver
    time_limit : float, seconds, optional
        What is not done by then keeps its bounds.

    Returns
    -------
    Bounds
        Rigorous, never looser than those given.

    Notes
    -----
    Layer by layer, so that each layer's programs use the tighter bounds of the ones before (Salman et al.,
    NeurIPS 2019, call this LP-all).
    """
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    done: list[Interval] = []
    for k, (position, z) in enumerate(zip(network.relus, bounds.layers, strict=True)):
        layer = network.layers[position]
        assert isinstance(layer, Relu)
        lower, upper = z.lower.copy(), z.upper.copy()
        neurons = np.flatnonzero(layer.mask & (lower < 0) & (upper > 0))
        # Up to the first Relu interval arithmetic is exact or nearly so: no program can gain anything.
        if k > 0 and neurons.size and not isinstance(network.layers[position - 1], Relu):
            below = Network(network.layers[:position])
            known = Bounds(tuple(done))
            frame = frame_of(below, region, known)
            start: Solution | None = None
            for sign in (1.0, -1.0):
                for j in neurons.tolist():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    objective = Weighted(sign * np.eye(1, lower.size, j)[0])
                    limit = left if np.isfinite(left) else None
                    answer = relaxed(frame, known, objective, solver, time_limit=limit, start=start)
                    start = answer.solution
                    if sign > 0:
                        lower[j] = max(lower[j], answer.lower)
                    else:
                        upper[j] = min(upper[j], -answer.lower)
        done.append(Interval(lower, upper))
    return Bounds(tuple(done))
