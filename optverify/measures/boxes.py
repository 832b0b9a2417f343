"""A maximal safe box around a point."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from optverify.bound import property_text
from optverify.errors import InputError, ShapeError
from optverify.expressions import Condition, Number, rational
from optverify.interval import Array, nearest
from optverify.io.files import replacing
from optverify.measures.brackets import Radius
from optverify.measures.question import Domain, Question, as_domain, as_point
from optverify.measures.radius import measure
from optverify.measures.results import Face, SafeBox, Side
from optverify.measures.sweep import Sweep, over, sweep
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict, versions
from optverify.search.attack import forward, gradients
from optverify.search.workers import one_thread
from optverify.semantics import REAL, Semantics
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solver
from optverify.verify import verify
from optverify.witness import Witness

Objective = Literal["apothem", "maximal", "volume-heuristic"]

OBJECTIVES: tuple[Objective, ...] = ("apothem", "maximal", "volume-heuristic")

STEEPEST = 10.0
"""The volume heuristic makes no edge more than this many times longer than another before the faces are moved."""


def safe_box(
    network: Network,
    x: ArrayLike | Sequence[Number],
    objective: Objective = "apothem",
    *,
    label: int | None = None,
    property: Query | Condition | None = None,  # noqa: A002  (the word of the field)
    domain: Domain = (0, 1),
    fixed: Iterable[int] = (),
    weights: Sequence[Number] | None = None,
    semantics: str | Semantics | None = None,
    step: Number = Fraction(1, 256),
    order: Sequence[tuple[int, Side]] | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    progress: Callable[[str], None] | None = None,
    certificate: str | None = None,
) -> SafeBox:
    """Find a box around a point that holds no unsafe point, and that no face can be moved out of.

    Parameters
    ----------
    network : Network
    x : (n_inputs,) numbers
    objective : "apothem", "maximal" or "volume-heuristic"
        What the box is grown from: the l-inf ball of the radius, so that no box has a larger apothem; x itself; the
        ball of a weighted norm whose edges are long where the output changes slowly.
    label : int, optional
        Unsafe is another class than this; by default that of x. Ignored with a property.
    property : Condition or Query, optional
        A condition on inputs and outputs that must hold, such as ``y[0] <= 3``, or a query: its cases are the unsafe
        sets.
    domain : Box, pair of numbers or None
        As for :func:`optverify.radius`.
    fixed : iterable of int
        Inputs that stay as they are in x.
    weights : (n_inputs,) numbers, optional
        Units of the inputs: the radius is that of max_i |d_i| / weights_i, the apothem and the step count in them.
    semantics : str or Semantics, optional
        As in :func:`optverify.verify`: in a format, no execution at a number of the format in the box is unsafe.
    step : number
    order : sequence of (input, "lower" or "upper"), optional
        In which faces are moved; by default those along which the least margin changes most slowly come first.
    gap, time_limit, solver
        As for :func:`optverify.radius`.
    progress : callable, optional
        Called with a line of text.
    certificate : str, optional
        File for a proof for the whole box; the property that it proves is written beside it, with ``.vnnlib`` appended.

    Returns
    -------
    SafeBox

    Raises
    ------
    InputError, ShapeError
        Also where x is unsafe itself: no box holds it.
    """
    began = time.monotonic()
    if objective not in OBJECTIVES:
        raise InputError(f"unknown objective {objective!r}; choose from {', '.join(OBJECTIVES)}")
    point = as_point(network, x)
    frozen_inputs = sorted(set(fixed))
    if frozen_inputs and not 0 <= frozen_inputs[0] <= frozen_inputs[-1] < len(point):
        raise ShapeError(f"there is no input {frozen_inputs[0] if frozen_inputs[0] < 0 else frozen_inputs[-1]}")
    units = _weights(weights, len(point))
    pace = rational(step)
    if pace <= 0:
        raise InputError("the step must be positive")
    whole = as_domain(domain, point)
    box = _pinned(whole, point, frozen_inputs)
    query = _unsafe(network, point, box, label, property)
    if certificate is not None:
        property_text(query)  # what cannot be written is an error before the work
    arithmetic = query.under(semantics)
    deadline = began + (inf if time_limit is None else time_limit)
    question = Question(network, point, "inf", query, units, arithmetic)
    if question.unsafe():
        raise InputError("x is unsafe itself: no box around it is safe")
    if arithmetic is not REAL and not _proved(network, over(query, Box(point, point)), arithmetic, solver):
        raise InputError("x is not proved to be safe itself: some execution may violate there")
    found: Radius | None = None
    region, reason = Box(point, point), ""
    with one_thread():
        slope = np.abs(_slope(question))
        if objective == "volume-heuristic":
            units = _flat(slope, units)
            question = Question(network, point, "inf", query, units, arithmetic)
        if objective != "maximal":
            found = measure(question, gap=gap, time_limit=time_limit, solver=solver)
            region = question.region(found.lower) if found.lower < inf else box
            reason = "" if found.complete else f"radius: {found.reason}"
        wanted = order if order is not None else _order(slope, question.weights)
        faces = all_faces(wanted, len(point))
        stopped: dict[tuple[int, Side], Face] = {}
        try:
            for axis, side in faces:
                before, limit = getattr(region, side)[axis], getattr(box, side)[axis]
                if axis in frozen_inputs:
                    stopped[axis, side] = Face(axis, side, before, 0.0, "fixed")
                    continue
                unit = Fraction(1) if units is None else units[axis]
                known = [question.witness, *(face.witness for face in stopped.values())]
                end = _known_stop(region, axis, side, limit, pace * unit, known)
                if end is None and time.monotonic() > deadline:
                    end = Sweep(before, "undecided", None)
                if end is None:
                    end = sweep(
                        network,
                        query,
                        region,
                        axis,
                        side,
                        limit,
                        pace * unit,
                        semantics=arithmetic,
                        solver=solver,
                        deadline=deadline,
                    )
                region = moved(region, axis, side, end.position)
                slack = nearest(abs(end.position - before))
                stopped[axis, side] = Face(axis, side, end.position, slack, end.stop, end.witness)
                if progress is not None:
                    progress(f"{len(stopped)} of {len(faces)} faces")
        except KeyboardInterrupt:
            reason = "interrupted"
    for axis, side in faces:
        if (axis, side) not in stopped:
            stopped[axis, side] = Face(axis, side, getattr(region, side)[axis], 0.0, "undecided")
    ordered = tuple(stopped[axis, side] for axis in range(len(point)) for side in ("lower", "upper"))
    undecided = sum(face.stop == "undecided" for face in ordered)
    if undecided and not reason:
        reason = f"{undecided} faces undecided"
    certified: bool | None = None
    if certificate is not None:
        about = over(query, region)
        with replacing(certificate + ".vnnlib") as stream:
            certified = _proved(network, about, arithmetic, solver, certificate)
            stream.write(property_text(about).encode() if certified else b"")
    return SafeBox(
        box=region,
        x=point,
        faces=ordered,
        apothem=_apothem(point, whole, ordered, units),
        radius=found,
        step=nearest(pace),
        complete=not undecided and (found is None or found.complete),
        reason=reason or "every face is stopped",
        seconds=time.monotonic() - began,
        question=query.text,
        domain=whole,
        network=network.digest,
        certified=certified,
        semantics=arithmetic.name,
        versions=versions(),
    )


def _proved(
    network: Network, query: Query, semantics: Semantics, solver: str | Solver | None, certificate: str | None = None
) -> bool:
    answer = verify(network, query, semantics=semantics, solver=solver, certificate=certificate)
    return answer.verdict is Verdict.VERIFIED and answer.certified is not False


def _weights(weights: Sequence[Number] | None, count: int) -> tuple[Fraction, ...] | None:
    if weights is None:
        return None
    found = tuple(rational(w) for w in weights)
    if len(found) != count:
        raise ShapeError(f"{len(found)} weights for {count} inputs")
    if min(found) <= 0:
        raise InputError("weights must be positive; `fixed` names inputs that do not move")
    return found


def _pinned(domain: Box, x: Sequence[Fraction], fixed: Sequence[int]) -> Box:
    lower, upper = list(domain.lower), list(domain.upper)
    for i in fixed:
        lower[i] = upper[i] = x[i]
    return Box(tuple(lower), tuple(upper))


def _unsafe(
    network: Network, x: Sequence[Fraction], box: Box, label: int | None, must: Query | Condition | None
) -> Query:
    """Return the question as a query over the domain."""
    if isinstance(must, Query):
        return over(must, box)
    if must is not None:
        return Query.always(box, must, network.n_outputs)
    if network.n_outputs < 2:
        raise InputError("a change of class needs at least two outputs; give a property")
    if label is None:
        middle = [low + high for low, high in network.enclose(x)]
        label = middle.index(max(middle))
    return Query.robust(box, label, network.n_outputs)


def _slope(question: Question) -> Array:
    """Return the gradient of the least row at x."""
    passed = forward(question.goal.network, question.ball.centre[None])
    v = np.zeros_like(passed[-1])
    v[0, passed[-1][0].argmin()] = 1.0
    return np.asarray(np.nan_to_num(gradients(question.goal.network, passed, v)[0]))


def _flat(slope: Array, units: tuple[Fraction, ...] | None) -> tuple[Fraction, ...]:
    """Return weights that make the volume large: inverse to the slope, within limits.

    Of all boxes with sum_i |slope_i| w_i <= m the one with w_i proportional to 1 / |slope_i| has the largest volume.
    """
    largest = float(slope.max(initial=0.0))
    size = np.maximum(slope, largest / STEEPEST) if largest > 0 else np.ones_like(slope)
    weights = [Fraction(round(1024 * largest / s) if largest else 1024, 1024) for s in size.tolist()]
    return tuple(w * (1 if units is None else units[i]) for i, w in enumerate(weights))


def _order(slope: Array, units: tuple[Fraction, ...] | None) -> list[tuple[int, Side]]:
    worth = slope if units is None else slope * np.array([nearest(w) for w in units])
    return [(int(i), side) for i in np.argsort(worth, kind="stable") for side in ("lower", "upper")]


def all_faces(order: Sequence[tuple[int, Side]], count: int) -> list[tuple[int, Side]]:
    """Complete an order by the faces that it leaves out."""
    for axis, side in order:
        if not 0 <= axis < count or side not in ("lower", "upper"):
            raise InputError(f"the order names a face that there is not: {(axis, side)!r}")
    everything: list[tuple[int, Side]] = [(i, side) for i in range(count) for side in ("lower", "upper")]
    return list(dict.fromkeys([*order, *everything]))


def moved(box: Box, axis: int, side: Side, position: Fraction) -> Box:
    """Return the box with a face at another position."""
    ends = {"lower": list(box.lower), "upper": list(box.upper)}
    ends[side][axis] = position
    return Box(tuple(ends["lower"]), tuple(ends["upper"]))


def _known_stop(
    box: Box, axis: int, side: Side, limit: Fraction, step: Fraction, witnesses: Iterable[Witness | None]
) -> Sweep | None:
    """Tell whether a face needs no search: it is on the border, or a known point is just beyond it."""
    position = getattr(box, side)[axis]
    if position == limit:
        return Sweep(position, "domain", None)
    further = position + step if side == "upper" else position - step
    beyond = moved(box, axis, side, further)
    for witness in witnesses:
        if witness is not None and beyond.contains(witness.x):
            return Sweep(position, "counterexample", witness)
    return None


def _apothem(x: Sequence[Fraction], domain: Box, faces: Sequence[Face], units: tuple[Fraction, ...] | None) -> float:
    distances = [
        abs(face.position - x[face.axis]) / (1 if units is None else units[face.axis])
        for face in faces
        if face.stop != "fixed" and face.position != getattr(domain, face.side)[face.axis]
    ]
    return nearest(min(distances)) if distances else inf
