"""How large is an output? An interval that holds the optimum of a linear objective."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike

from optverify import canonical
from optverify.bounds.overflow import possible_overflow
from optverify.certificate import certify
from optverify.deployment import deployed
from optverify.errors import CertificateError, InputError, OptverifyError, ShapeError, expect
from optverify.executions import representable
from optverify.expressions import Atom, Linear, rational
from optverify.interval import Array, nearest, round_down, round_up
from optverify.io.files import replacing
from optverify.network import Network
from optverify.proof import Proof
from optverify.query import Case, Goal, Query, append_rows
from optverify.region import Ball, Box, boxes_only
from optverify.results import BoundResult, versions
from optverify.search import attack
from optverify.search.methods import METHODS, SEMIDEFINITE, interrupted
from optverify.search.task import PREACTIVATION, Bounded, Task, preactivation_bounds
from optverify.search.tree import Progress
from optverify.search.workers import one_thread
from optverify.semantics import REAL, Semantics, named
from optverify.solvers import DEFAULT, INTERIOR_POINT, LINEAR, name_of
from optverify.solvers.solution import Solver

MARGIN = Fraction(1, 2**30)
"""A certificate says that the optimum is above the bound less this part of it (or of 1): room for its rounding."""


class Minimum:
    """Search target: the least value of a goal's only group, to within a gap."""

    def __init__(self, goal: Goal, gap: float) -> None:
        self.goal, self.gap = goal, gap
        self.upper, self.threshold = np.inf, np.inf
        self.point: Array | None = None
        self.exact = np.nan
        self._tried = self._least = np.inf

    def offer(self, value: float, point: Array) -> bool:
        """Evaluate a better point exactly and raise the bar; never ends the search."""
        if value < self._tried:
            self._tried = value
            x = self._point(point)
            rows = self.goal.network.enclose(x)
            low, high = (max(rows[r][end] for r in self.goal.groups[0]) for end in (0, 1))
            upper = round_up(high)
            if upper < self.upper or self.point is None:
                self.upper, self.point, self.exact = upper, np.array([nearest(v) for v in x]), nearest((low + high) / 2)
            # No bound gets above the least that an execution may give, and few come nearer than half the error band.
            floating = self.goal.network.semantics is not REAL
            least, room = (round_down(low), nearest((high - low) / 2)) if floating else (upper, 0.0)
            if least <= self._least:
                self._least = least
                gap = max(self.gap * max(1.0, abs(least)), room)
                self.threshold = least - gap if np.isfinite(least) else np.inf
        return False

    def _point(self, point: Array) -> list[Fraction]:
        """Return a point of the region, in floating point one of the format."""
        semantics, region = self.goal.network.semantics, self.goal.region
        x = None if semantics is REAL else representable(region, point.tolist(), semantics)
        return region.clamp(point.tolist()) if x is None else [Fraction(v) for v in x.tolist()]


def bound(
    network: Network,
    region: Box,
    objective: Linear | str | ArrayLike,
    *,
    semantics: str | Semantics = REAL,
    method: str = "exact",
    sense: Literal["min", "max"] = "min",
    solver: str | Solver | None = DEFAULT,
    gap: float = 1e-6,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    workers: int = 1,
    certificate: str | None = None,
    bounds: str = "own",
) -> BoundResult:
    """Enclose the optimum of a linear objective of the outputs (and inputs) over a box.

    Parameters
    ----------
    network : Network
    region : Box
    objective : Linear, str or (n_outputs,) array
        For instance ``"Y_0 - Y_1"``.
    semantics : str or Semantics
        As in :func:`optverify.verify`. In floating point the optimum is that over all executions, at all points of the
        box that are numbers of the format; `lower` holds on all of the box.
    method : str
        ``interval``, ``crown``, ``alpha-crown`` (slopes chosen by ascent), ``triangle``, ``triangle+tightened``
        (pre-activation bounds by linear programs first), ``lifted`` (semidefinite), ``lifted+cuts`` (with products of
        conditions), ``bigm`` (a claim with a rigorous root bound), or ``exact`` (branch and bound until the gap is
        closed). Each includes those before it that its relaxation implies.
    sense : "min" or "max"
    solver : str or Solver or None
        By default HiGHS, and for ``lifted`` the package's own interior-point method; ``auto`` chooses by size and by
        what is installed, and says why.
    gap : float
        ``exact`` ends once upper - lower <= gap * max(1, |upper|).
    time_limit : float, seconds, optional
    progress : callable, optional
    seed : int
    workers : int
        Processes; see :func:`optverify.verify`.
    certificate : str, optional
        With ``exact``: a file for the proof of the bound, once the gap is closed. The property that it proves is
        written beside it, with ``.vnnlib`` appended to the name: the objective is beyond the bound by more than
        2**-30 (of itself, or of 1).
    bounds : str
        The pre-activation bounds that the method starts from: ``own`` (interval arithmetic for ``interval``, backward
        bounds for the others), ``interval``, ``crown`` or ``tightened`` (by linear programs).

    Returns
    -------
    BoundResult

    Raises
    ------
    InputError
        Unknown method, or an objective that is not linear; nothing can be said about this network in this format, or
        the box holds no number of it.
    ShapeError
        Sizes disagree.
    OutputError
        The certificate cannot be written; found out before the search.
    """
    started = time.monotonic()
    expect(Network, network=network)
    expect(Box, region=region)
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    if sense not in ("min", "max"):
        raise InputError(f"sense must be 'min' or 'max', not {sense!r}")
    if not gap >= 0:
        raise InputError("gap must not be negative")
    if certificate is not None and method != "exact":
        raise InputError("only the method exact gives a certificate")
    arithmetic = named(semantics)
    linear = linear_objective(network, objective)
    boxes_only([region])
    if region.size != network.n_inputs:
        raise ShapeError(f"the region has {region.size} inputs, the network {network.n_inputs}")
    if arithmetic is not REAL and representable(region, region.lower, arithmetic) is None:
        raise InputError(f"the region holds no {arithmetic} number")
    original, network = network, deployed(network, arithmetic)
    least = linear if sense == "min" else -linear
    if solver == DEFAULT:
        solver = INTERIOR_POINT if method in SEMIDEFINITE else LINEAR
    if certificate is not None:
        property_text(
            _beyond(network, region, least, Fraction(0))
        )  # what cannot be written is an error before the work
    goal = Goal(append_rows(network, [least]), region, ((0,),), (0,), ((0,),))
    target, best = Minimum(goal, gap), attack.Best()
    if bounds not in PREACTIVATION:
        raise InputError(f"bounds must be one of {', '.join(PREACTIVATION)}, not {bounds!r}")
    proof = None if certificate is None else Proof()
    obstacle = possible_overflow(network, region.outward)
    certified = None
    task = Task(goal, target, best, solver, time_limit, progress, workers, proof)
    with one_thread(), ExitStack() as stack:
        streams = [stack.enter_context(replacing(certificate + end)) for end in ("", ".vnnlib")] if certificate else []
        try:
            attack.attack(goal, region.outward, best, np.random.default_rng(seed), stop_at=-np.inf)
            if best.point is not None:
                target.offer(best.value, best.point)
            if obstacle:
                result = Bounded(-np.inf, None, False, obstacle)
            else:
                known = preactivation_bounds(goal, bounds, time_limit)
                task = replace(task, bounds=known)
                result = METHODS[method](task)
        except KeyboardInterrupt:
            result = Bounded(-np.inf, None, False, obstacle) if obstacle else interrupted(task)
        if streams:
            certified = result.complete and np.isfinite(result.lower)
        if certified and proof is not None:
            proved = Fraction(result.lower)
            beyond = proved - MARGIN * max(Fraction(1), abs(proved))
            certified = write_proof(streams, network, _beyond(network, region, least, beyond), proof)
    if target.point is None:  # every sampled value overflowed: any point of the region will do
        target.offer(-np.inf, 0.5 * region.outward.lower + 0.5 * region.outward.upper)
    assert target.point is not None
    lower, upper, claim, attained = result.lower, target.upper, result.claim, target.exact
    if obstacle:  # the enclosures of values presuppose that nothing overflows
        upper = np.inf
    if sense == "max":
        lower, upper, attained = -upper, -lower, -attained
        claim = None if claim is None else -claim
    return BoundResult(
        lower=lower,
        upper=upper,
        claim=claim,
        point=tuple(nearest(v) for v in region.clamp(target.point.tolist())),
        attained=attained,
        sense=sense,
        method=method,
        solver=result.solver or (name_of(solver) if result.claim is not None or result.programs else None),
        complete=result.complete,
        reason=result.reason,
        nodes=result.nodes,
        programs=result.programs,
        seconds=time.monotonic() - started,
        objective=str(linear),
        network=original.digest,
        certified=certified,
        semantics=arithmetic.name,
        versions=versions(),
    )


def _beyond(network: Network, region: Box, objective: Linear, value: Fraction) -> Query:
    """Ask whether the objective is above a value everywhere."""
    return Query((Case(region, (Atom(objective - value),)),), network.n_inputs, network.n_outputs)


def write_proof(streams: Sequence[BinaryIO], network: Network, query: Query, proof: Proof) -> bool:
    """Write a proof and what it proves, by :func:`property_text`; tell whether the checker accepts it.

    Parameters
    ----------
    streams : two binary files
        For the certificate and for the property. Nothing is written if the checker does not accept the proof.
    network : Network
    query : Query
        Of one region.
    proof : Proof
    """
    try:
        certify(streams[0], network, query, query.goals(network), [proof])
    except CertificateError:
        return False
    streams[1].write(property_text(query).encode())
    return True


def property_text(query: Query) -> str:
    """Return a query as a text that reads back as this very query: VNN-LIB, or the exact form if it is about balls.

    Raises
    ------
    InputError
        There is none: VNN-LIB takes a condition without an output for a part of the box.
    """
    from optverify.io.vnnlib import parse_vnnlib, write_vnnlib

    if any(isinstance(case.region, Ball) for case in query.cases):
        return canonical.property_text(query).decode() + "\n"

    text = write_vnnlib(query)
    try:
        same = parse_vnnlib(text).digest == query.digest
    except OptverifyError:
        same = False
    if not same:
        raise InputError("what a certificate of this bound would prove cannot be written as VNN-LIB")
    return text


def linear_objective(network: Network, objective: Linear | str | ArrayLike) -> Linear:
    """Read an objective of inputs and outputs and check that its variables exist.

    Parameters
    ----------
    network : Network
    objective : Linear, str or (n_outputs,) array

    Raises
    ------
    InputError, ShapeError
        It is not linear; it names an input or output that the network does not have.
    """
    if isinstance(objective, str):
        from optverify.io.expression import parse_linear

        linear = parse_linear(objective)
    elif isinstance(objective, Linear):
        linear = objective
    else:
        row = np.asarray(objective, dtype=object).ravel()
        if row.size != network.n_outputs:
            raise ShapeError(f"the objective has {row.size} entries, the network {network.n_outputs} outputs")
        terms = {("Y", j): rational(v) for j, v in enumerate(row.tolist())}
        linear = Linear({k: v for k, v in terms.items() if v})  # type: ignore[misc]
    sizes = {"X": network.n_inputs, "Y": network.n_outputs}
    for kind, index in linear.terms:
        if not 0 <= index < sizes[kind]:
            raise ShapeError(f"{kind}_{index} is out of range: the network has {sizes[kind]} of them")
    return linear
