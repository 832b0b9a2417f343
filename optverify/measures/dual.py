"""The smallest box that holds every input of a class."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import inf
from numbers import Integral

from optverify.errors import InputError, expect
from optverify.expressions import And, Condition, Number, outputs, rational
from optverify.interval import nearest
from optverify.measures.boxes import all_faces, moved
from optverify.measures.proofs import Folder
from optverify.measures.question import box_of
from optverify.measures.results import DualBox, Face, Side
from optverify.measures.sweep import Sweep, sweep
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict, versions
from optverify.search.workers import one_thread
from optverify.semantics import REAL, Semantics, named
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solver
from optverify.verify import verify
from optverify.witness import Witness


def dual_box(
    network: Network,
    label: int | None = None,
    *,
    property: Condition | None = None,  # noqa: A002
    domain: Box | tuple[Number, Number] = (0, 1),
    semantics: str | Semantics = REAL,
    step: Number = Fraction(1, 256),
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    progress: Callable[[str], None] | None = None,
    certificates: str | None = None,
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
    semantics : str or Semantics
        As in :func:`optverify.verify`: in a format the class has the numbers at which some execution says so.
    step : number
        How near the two boxes are to each other on each side in the end.
    time_limit, solver, progress
        As for :func:`safe_box`.
    certificates : str, optional
        Folder for certificates, each with its property beside it: ``face-AXIS-SIDE-outer.proof`` proves that what the
        face cuts off, of the box that the faces before it left, has no point of the class; ``...-inner.proof`` is a
        point of the class as far out as the face's witness. ``empty.proof``: the class has none at all. They are made
        after the search, whose time limit does not count for them.

    Returns
    -------
    DualBox

    Raises
    ------
    InputError, ShapeError
    OutputError
        A certificate cannot be written.
    """
    began = time.monotonic()
    deadline = began + (inf if time_limit is None else time_limit)
    pace, arithmetic = rational(step), named(semantics)
    if pace <= 0:
        raise InputError("the step must be positive")
    expect(Network, network=network)
    n = network.n_inputs
    box = box_of(domain, n)
    if property is None:
        expect(Integral, label=label)
        if label is None or not 0 <= label < network.n_outputs or network.n_outputs < 2:
            raise InputError(f"label {label} must be one of at least two outputs")
        y = outputs(network.n_outputs)
        inside: Condition = And(tuple(y[j] <= y[label] for j in range(network.n_outputs) if j != label))
        words = f"class {label}"
    else:
        inside, words = property, str(property)
    query = Query.never(box, inside, network.n_outputs, words)
    folder = None if certificates is None else Folder(certificates, network, query, arithmetic, solver)
    faces: list[Face] = []
    outer: Box | None = box
    reason, points = "", list[Witness]()
    with one_thread():
        try:
            first = verify(network, query, semantics=arithmetic, solver=solver, time_limit=time_limit)
            if first.verdict is Verdict.VERIFIED:
                outer = None
            points += [first.witness] if first.witness is not None else []
            for axis, side in all_faces([], n) if points else []:
                assert outer is not None
                known = (min if side == "lower" else max)(points, key=lambda point: point.x[axis])
                end = _from_outside(network, query, outer, axis, side, pace, known, arithmetic, solver, deadline)
                outer = moved(outer, axis, side, end.position)
                slack = nearest(abs(end.position - getattr(box, side)[axis]))
                faces.append(Face(axis, side, end.position, slack, end.stop, end.witness))
                points += [end.witness] if end.witness is not None else []
                if progress is not None:
                    progress(f"{len(faces)} of {2 * n} faces")
        except KeyboardInterrupt:
            reason = "interrupted"
    if outer is None:
        faces, reason = [], "no point of the domain is in it"
    for axis, side in all_faces([], n)[len(faces) :] if outer is not None else []:
        faces.append(Face(axis, side, getattr(outer, side)[axis], 0.0, "undecided"))
    certified = None if folder is None else _certified(folder, box, outer, faces)
    found = [point.x for point in points]
    undecided = sum(face.stop == "undecided" for face in faces)
    return DualBox(
        outer=outer,
        inner=Box(tuple(map(min, zip(*found, strict=True))), tuple(map(max, zip(*found, strict=True))))
        if found
        else None,
        faces=tuple(faces),
        step=nearest(pace),
        complete=not undecided,
        reason=reason or (f"{undecided} faces undecided" if undecided else "each face is within a step of the class"),
        seconds=time.monotonic() - began,
        question=words,
        domain=box,
        network=network.digest,
        certified=certified,
        semantics=arithmetic.name,
        versions=versions(),
    )


def _certified(folder: Folder, domain: Box, outer: Box | None, faces: Sequence[Face]) -> bool:
    """Write the certificates; tell whether all of them were accepted."""
    try:
        with one_thread():
            if outer is None:
                folder.empty(domain, "empty")
            left = domain
            for face in faces:
                folder.outer(left, face.axis, face.side, face.position)
                left = moved(left, face.axis, face.side, face.position)
                if face.witness is not None:
                    folder.inner(face.axis, face.side, face.witness)
    except KeyboardInterrupt:
        return False
    return folder.complete


def _from_outside(
    network: Network,
    query: Query,
    box: Box,
    axis: int,
    side: Side,
    step: Fraction,
    known: Witness,
    semantics: Semantics,
    solver: str | Solver | None,
    deadline: float,
) -> Sweep:
    """Move a face inward, up to a step before the first point of the class: a flat box grows."""
    across: Side = "upper" if side == "lower" else "lower"
    start, sign = getattr(box, side)[axis], 1 if across == "upper" else -1
    limit = known.x[axis] - sign * step
    if (limit - start) * sign <= 0:
        return Sweep(start, "counterexample", known)
    flat = moved(box, axis, across, start)
    end = sweep(network, query, flat, axis, across, limit, step, semantics=semantics, solver=solver, deadline=deadline)
    return Sweep(end.position, "counterexample", known) if end.stop == "domain" else end
