"""Boxes as certifications: a maximal safe box around a point, and the smallest box around a class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, log
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from optverify.errors import InputError, ShapeError
from optverify.expressions import And, Condition, Number, outputs, rational
from optverify.interval import Array, nearest
from optverify.measures.question import Domain, Question, as_domain, as_point
from optverify.measures.radius import Radius, measure
from optverify.measures.sweep import Side, Sweep, sweep
from optverify.network import Network
from optverify.query import Box, Case, Query
from optverify.report import html, text
from optverify.results import Verdict, versions
from optverify.search.attack import forward, gradients
from optverify.search.workers import one_thread
from optverify.solvers.solution import Solver
from optverify.verify import verify
from optverify.witness import Witness

Objective = Literal["apothem", "maximal", "volume-heuristic"]

OBJECTIVES: tuple[Objective, ...] = ("apothem", "maximal", "volume-heuristic")

STEEPEST = 10.0
"""The volume heuristic makes no edge more than this many times longer than another before the faces are moved."""


@dataclass(frozen=True)
class Face:
    """What became of a face.

    Parameters
    ----------
    axis : int
        Number of the input.
    side : "lower" or "upper"
    position : Fraction
    slack : float
        How far it was moved after the box that the search began with; 0 where it was not, for whatever reason.
    stop : str
        "domain"; "counterexample": an unsafe point lies in the box whose face is one step further; "fixed"; "undecided".
    witness : Witness or None
        That point, replayed in exact arithmetic.
    """

    axis: int
    side: Side
    position: Fraction
    slack: float
    stop: Literal["domain", "counterexample", "fixed", "undecided"]
    witness: Witness | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "axis": self.axis,
            "side": self.side,
            "position": nearest(self.position),
            "slack": self.slack,
            "stop": self.stop,
            "witness": None if self.witness is None else self.witness.to_dict(),
        }


@dataclass(frozen=True)
class SafeBox:
    """The answer of :func:`safe_box`: no point of `box` is unsafe.

    Parameters
    ----------
    box : Box
        Exact.
    x : tuple of Fraction
    faces : tuple of Face
        The lower and the upper face of each input in turn.
    apothem : float
        Least distance of x from a face that is not on the border of the domain nor fixed; inf if all are.
    radius : Radius or None
        The l-inf radius that the box was grown from.
    step : float
    complete : bool
        Whether each face was stopped by the domain or by a counterexample: the box is maximal to within `step`.
    reason : str
    seconds : float
    question : str
    network : str
    certified : bool or None
        Whether a proof for the box was written and accepted by the checker.
    semantics : str
    versions : mapping
    """

    box: Box
    x: tuple[Fraction, ...]
    faces: tuple[Face, ...]
    apothem: float
    radius: Radius | None
    step: float
    complete: bool
    reason: str
    seconds: float
    question: str
    network: str
    certified: bool | None = None
    semantics: Literal["real"] = "real"
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def edges(self) -> tuple[float, ...]:
        """Lengths of the edges."""
        return tuple(nearest(b - a) for a, b in zip(self.box.lower, self.box.upper, strict=True))

    @property
    def diameter(self) -> float:
        """The longest edge: the diameter in the l-inf norm."""
        return max(self.edges)

    @property
    def log_volume(self) -> float:
        """Natural logarithm of the volume in the inputs that are not fixed; -inf if an edge is 0."""
        fixed = {face.axis for face in self.faces if face.stop == "fixed"}
        edges = [edge for axis, edge in enumerate(self.edges) if axis not in fixed]
        return sum(map(log, edges)) if all(edges) else -inf

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values (infinite numbers become None)."""
        values: dict[str, Any] = {
            "lower": [nearest(v) for v in self.box.lower],
            "upper": [nearest(v) for v in self.box.upper],
            "apothem": self.apothem,
            "edges": list(self.edges),
            "diameter": self.diameter,
            "log_volume": self.log_volume,
            "faces": [face.to_dict() for face in self.faces],
            "radius": None if self.radius is None else self.radius.to_dict(),
            "step": self.step,
            "complete": self.complete,
            "reason": self.reason,
            "seconds": self.seconds,
            "question": self.question,
            "network_sha256": self.network,
            "certified": self.certified,
            "semantics": self.semantics,
            "versions": dict(self.versions),
        }
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}

    def _rows(self) -> dict[str, str]:
        count = {stop: sum(face.stop == stop for face in self.faces) for stop in dict.fromkeys(f.stop for f in self.faces)}
        ends = zip(self.box.lower, self.box.upper, strict=True)
        rows = {
            "proved": f"no point of the box is unsafe ({self.question})",
            "box": "; ".join(f"[{nearest(a):.6g}, {nearest(b):.6g}]" for a, b in ends),
            "apothem": text.number(self.apothem),
            "diameter": text.number(self.diameter),
            "log volume": text.number(self.log_volume),
            "faces": ", ".join(f"{n} stopped by {stop}" if stop != "fixed" else f"{n} fixed" for stop, n in count.items()),
            "step": f"{self.step:.6g}: a counterexample is no further than this beyond a face that it stops",
            "reason": self.reason,
        }
        if self.radius is not None:
            rows["grown from"] = repr(self.radius)
        if self.certified is not None:
            rows["certificate"] = text.certified(self.certified)
        return rows | {
            "semantics": f"{self.semantics} arithmetic over the weights in the file",
            "time": f"{self.seconds:.2f} s",
        }

    def __str__(self) -> str:
        return text.card("safe box" + (", maximal" if self.complete else ""), self._rows())

    def __repr__(self) -> str:
        return f"<SafeBox: apothem {self.apothem:.6g}, log volume {self.log_volume:.6g}, {self.reason}>"

    def _repr_html_(self) -> str:
        return html.card("safe box", self._rows(), details={"network SHA-256": self.network, **self.versions})


def safe_box(
    network: Network,
    x: ArrayLike,
    objective: Objective = "apothem",
    *,
    label: int | None = None,
    property: Query | Condition | None = None,  # noqa: A002  (the word of the field)
    domain: Domain = (0, 1),
    fixed: Iterable[int] = (),
    weights: Sequence[Number] | None = None,
    step: Number = Fraction(1, 256),
    order: Sequence[tuple[int, Side]] | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    solver: str | Solver | None = "highs",
    progress: Callable[[str], None] | None = None,
    certificate: str | None = None,
) -> SafeBox:
    """Find a box around a point that holds no unsafe point, and that no face can be moved out of.

    Parameters
    ----------
    network : Network
    x : (n_inputs,) numbers
    objective : "apothem", "maximal" or "volume-heuristic"
        What the box is grown from: the l-inf ball of the radius, so that no box has a larger apothem; x itself; the ball of
        a weighted norm whose edges are long where the output changes slowly.
    label : int, optional
        Unsafe is another class than this; by default that of x. Ignored with a property.
    property : Condition or Query, optional
        A condition on inputs and outputs that must hold, such as ``y[0] <= 3``, or a query: its cases are the unsafe sets.
    domain : Box, pair of numbers or None
        As for :func:`optverify.radius`.
    fixed : iterable of int
        Inputs that stay as they are in x.
    weights : (n_inputs,) numbers, optional
        Units of the inputs: the radius is that of max_i |d_i| / weights_i, the apothem and the step count in them.
    step : number
    order : sequence of (input, "lower" or "upper"), optional
        In which faces are moved; by default those along which the least margin changes most slowly come first.
    gap, time_limit, solver
        As for :func:`optverify.radius`.
    progress : callable, optional
        Called with a line of text.
    certificate : str, optional
        File for a proof for the whole box.

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
    deadline = began + (inf if time_limit is None else time_limit)
    question = Question(network, point, "inf", query, units)
    if question.offer(np.array(question.ball.centre)) and question.upper == 0:
        raise InputError("x is unsafe itself: no box around it is safe")
    found: Radius | None = None
    region, reason = Box(point, point), ""
    with one_thread():
        slope = np.abs(_slope(question))
        if objective == "volume-heuristic":
            units = _flat(slope, units)
            question = Question(network, point, "inf", query, units)
        if objective != "maximal":
            found = measure(question, gap=gap, time_limit=time_limit, solver=solver)
            region = question.region(found.lower) if found.lower < inf else box
            reason = "" if found.complete else f"radius: {found.reason}"
        wanted = order if order is not None else _order(slope, question.weights)
        faces = _faces(wanted, len(point))
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
                        network, query, region, axis, side, limit, pace * unit, solver=solver, deadline=deadline
                    )
                region = _moved(region, axis, side, end.position)
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
        reason = f"{undecided} faces undecided in the time"
    certified: bool | None = None
    if certificate is not None:
        whole_query = Query(tuple(Case(region, case.unsafe) for case in query.cases), *_sizes(network), query.text)
        proof = verify(network, whole_query, solver=solver, certificate=certificate)
        certified = proof.verdict is Verdict.VERIFIED and bool(proof.certified)
    return SafeBox(
        box=region,
        x=point,
        faces=ordered,
        apothem=_apothem(region, point, whole, ordered, units),
        radius=found,
        step=nearest(pace),
        complete=not undecided and (found is None or found.complete),
        reason=reason or "every face is stopped",
        seconds=time.monotonic() - began,
        question=query.text,
        network=network.digest,
        certified=certified,
        versions=versions(),
    )


def _sizes(network: Network) -> tuple[int, int]:
    return network.n_inputs, network.n_outputs


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
        return Query(tuple(Case(box, case.unsafe) for case in must.cases), *_sizes(network), must.text)
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
    return np.nan_to_num(gradients(question.goal.network, passed, v)[0])


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


def _faces(order: Sequence[tuple[int, Side]], count: int) -> list[tuple[int, Side]]:
    """Complete an order by the faces that it leaves out."""
    for axis, side in order:
        if not 0 <= axis < count or side not in ("lower", "upper"):
            raise InputError(f"the order names a face that there is not: {(axis, side)!r}")
    everything: list[tuple[int, Side]] = [(i, side) for i in range(count) for side in ("lower", "upper")]
    return list(dict.fromkeys([*order, *everything]))


def _moved(box: Box, axis: int, side: Side, position: Fraction) -> Box:
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
    beyond = _moved(box, axis, side, further)
    for witness in witnesses:
        if witness is not None and beyond.contains(witness.x):
            return Sweep(position, "counterexample", witness)
    return None


def _apothem(
    box: Box, x: Sequence[Fraction], domain: Box, faces: Sequence[Face], units: tuple[Fraction, ...] | None
) -> float:
    distances = [
        abs(face.position - x[face.axis]) / (1 if units is None else units[face.axis])
        for face in faces
        if face.stop != "fixed" and face.position != getattr(domain, face.side)[face.axis]
    ]
    return nearest(min(distances)) if distances else inf


@dataclass(frozen=True)
class DualBox:
    """The answer of :func:`dual_box`.

    Parameters
    ----------
    outer : Box or None
        Proved: holds every point of the class in the domain. None: the class has no point there.
    inner : Box or None
        The smallest box around the points that were found: the smallest dual box lies between the two.
    faces : tuple of Face
        Of the outer box; the witness is a point of the class within one step of the face.
    step : float
    complete : bool
        Whether each face of the outer box is within `step` of a point of the class, or on the domain's border.
    reason : str
    seconds : float
    question : str
    network : str
    semantics : str
    versions : mapping
    """

    outer: Box | None
    inner: Box | None
    faces: tuple[Face, ...]
    step: float
    complete: bool
    reason: str
    seconds: float
    question: str
    network: str
    semantics: Literal["real"] = "real"
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""

        def ends(box: Box | None) -> dict[str, list[float]] | None:
            if box is None:
                return None
            return {"lower": [nearest(v) for v in box.lower], "upper": [nearest(v) for v in box.upper]}

        return {
            "outer": ends(self.outer),
            "inner": ends(self.inner),
            "faces": [face.to_dict() for face in self.faces],
            "step": self.step,
            "complete": self.complete,
            "reason": self.reason,
            "seconds": self.seconds,
            "question": self.question,
            "network_sha256": self.network,
            "semantics": self.semantics,
            "versions": dict(self.versions),
        }

    def _rows(self) -> dict[str, str]:
        rows = {"class": self.question, "reason": self.reason}
        if self.outer is None:
            return {"proved": "the domain holds no point of the class", **rows}
        ends = zip(self.outer.lower, self.outer.upper, strict=True)
        box = "; ".join(f"[{nearest(a):.6g}, {nearest(b):.6g}]" for a, b in ends)
        return {
            "proved": f"every point of the class in the domain lies in {box}",
            "step": f"{self.step:.6g}: the smallest such box is no smaller than this on each side"
            + ("" if self.complete else ", but for undecided faces"),
            **rows,
            "time": f"{self.seconds:.2f} s",
        }

    def __str__(self) -> str:
        return text.card("dual box", self._rows())

    def __repr__(self) -> str:
        return f"<DualBox: {self.question}, {self.reason}>"

    def _repr_html_(self) -> str:
        return html.card("dual box", self._rows(), details={"network SHA-256": self.network, **self.versions})


def dual_box(
    network: Network,
    label: int | None = None,
    *,
    property: Condition | None = None,  # noqa: A002
    domain: Box | tuple[Number, Number] = (0, 1),
    step: Number = Fraction(1, 256),
    time_limit: float | None = None,
    solver: str | Solver | None = "highs",
    progress: Callable[[str], None] | None = None,
) -> DualBox:
    """Enclose a class: the smallest box that holds every input of it, from outside and from inside.

    Parameters
    ----------
    network : Network
    label : int
        Its points are those where no other output is larger: ties belong to all their classes.
    property : Condition, optional
        A condition on inputs and outputs instead of a class.
    domain : Box or pair of numbers
    step : number
        How near the two boxes are to each other on each side in the end.
    time_limit, solver, progress
        As for :func:`safe_box`.

    Returns
    -------
    DualBox

    Raises
    ------
    InputError, ShapeError
    """
    began = time.monotonic()
    deadline = began + (inf if time_limit is None else time_limit)
    pace = rational(step)
    if pace <= 0:
        raise InputError("the step must be positive")
    n = network.n_inputs
    box = domain if isinstance(domain, Box) else Box((domain[0],) * n, (domain[1],) * n)  # type: ignore[arg-type]
    if property is None:
        if label is None or not 0 <= label < network.n_outputs or network.n_outputs < 2:
            raise InputError(f"label {label} must be one of at least two outputs")
        y = outputs(network.n_outputs)
        inside: Condition = And(tuple(y[j] <= y[label] for j in range(network.n_outputs) if j != label))
        words = f"class {label}"
    else:
        inside, words = property, str(property)
    query = Query.never(box, inside, network.n_outputs, words)
    faces: list[Face] = []
    outer: Box | None = box
    reason, points = "", list[Witness]()
    with one_thread():
        try:
            first = verify(network, query, solver=solver, time_limit=time_limit)
            if first.verdict is Verdict.VERIFIED:
                outer = None
            points += [first.witness] if first.witness is not None else []
            for axis, side in _faces([], n) if points and outer is not None else []:
                known = (min if side == "lower" else max)(points, key=lambda point: point.x[axis])
                end = _from_outside(network, query, outer, axis, side, pace, known, solver, deadline)
                outer = _moved(outer, axis, side, end.position)
                slack = nearest(abs(end.position - getattr(box, side)[axis]))
                faces.append(Face(axis, side, end.position, slack, end.stop, end.witness))
                points += [end.witness] if end.witness is not None else []
                if progress is not None:
                    progress(f"{len(faces)} of {2 * n} faces")
        except KeyboardInterrupt:
            reason = "interrupted"
    if outer is None:
        faces, reason = [], "no point of the domain is in it"
    for axis, side in _faces([], n)[len(faces) :] if outer is not None else []:
        faces.append(Face(axis, side, getattr(outer, side)[axis], 0.0, "undecided"))
    found = [point.x for point in points]
    undecided = sum(face.stop == "undecided" for face in faces)
    return DualBox(
        outer=outer,
        inner=Box(tuple(map(min, zip(*found, strict=True))), tuple(map(max, zip(*found, strict=True)))) if found else None,
        faces=tuple(faces),
        step=nearest(pace),
        complete=not undecided,
        reason=reason or (f"{undecided} faces undecided" if undecided else "each face is within a step of the class"),
        seconds=time.monotonic() - began,
        question=words,
        network=network.digest,
        versions=versions(),
    )


def _from_outside(
    network: Network,
    query: Query,
    box: Box,
    axis: int,
    side: Side,
    step: Fraction,
    known: Witness,
    solver: str | Solver | None,
    deadline: float,
) -> Sweep:
    """Move a face inward, up to a step before the first point of the class: as the far face of a flat box that grows."""
    across: Side = "upper" if side == "lower" else "lower"
    start, sign = getattr(box, side)[axis], 1 if across == "upper" else -1
    limit = known.x[axis] - sign * step
    if (limit - start) * sign <= 0:
        return Sweep(start, "counterexample", known)
    flat = _moved(box, axis, across, start)
    end = sweep(network, query, flat, axis, across, limit, step, solver=solver, deadline=deadline)
    return Sweep(end.position, "counterexample", known) if end.stop == "domain" else end
