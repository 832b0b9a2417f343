"""The radius of robustness: the distance of the nearest point of another class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from math import inf
from typing import BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from optverify.bound import property_text, write_proof
from optverify.bounds.overflow import possible_overflow
from optverify.errors import InputError
from optverify.executions import representable
from optverify.expressions import Number
from optverify.io.files import replacing
from optverify.measures import balls, cubes
from optverify.measures.brackets import WHOLE, Bracket, Radius
from optverify.measures.distortion import claimed, is_small
from optverify.measures.question import Domain, Question, as_domain, as_point, below
from optverify.network import Network
from optverify.norms import Norm, norm_of
from optverify.proof import Proof
from optverify.query import Case, Query
from optverify.results import versions
from optverify.search.branching import Hybrid
from optverify.search.expand import Method
from optverify.search.tree import Stop
from optverify.search.workers import cpu_seconds, one_thread
from optverify.semantics import REAL, Semantics, named
from optverify.solvers import LINEAR, name_of
from optverify.solvers.solution import Solver
from optverify.verify import RELAXATIONS

CLAIM_SHARE, CLAIM_SECONDS = 0.25, 60.0
"""A mixed-integer solver that is asked for takes at most this share of the time limit, and at most so many seconds."""

CLAIM_LAST = 0.1
"""One that is not asked for gets the last part of the limit, if the bracket is still open."""


def radius(
    network: Network,
    x: ArrayLike | Sequence[Number],
    label: int | None = None,
    *,
    norm: Norm | float = "inf",
    semantics: str | Semantics = REAL,
    domain: Domain = (0, 1),
    targets: Iterable[int] | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    relaxation: str = "auto",
    progress: Callable[[Bracket], None] | None = None,
    seed: int = 0,
    workers: int = 1,
    claim: bool | None = None,
    certificate: str | None = None,
) -> Radius:
    """Enclose the distance from a point to the nearest counterexample: the minimum distortion.

    Parameters
    ----------
    network : Network
    x : (n_inputs,) numbers
        Read exactly.
    label : int, optional
        Its class; by default that of the largest output.
    norm : "inf", "2", "1" or "0"
        "0" counts the inputs that differ.
    semantics : str or Semantics
        As in :func:`optverify.verify`, for "inf". In a format the points are its numbers, and a counterexample is a
        point where some execution gives a target at least the label's value: `lower` is about all executions, `upper`
        the distance of a point with such an execution.
    domain : Box, pair of numbers or None
        Where inputs live, for all of them if it is a pair; x must lie in it. None stands for 2**20 times the larger
        of 1 and the largest |x_i| around x.
    targets : iterable of int, optional
        Classes that must not win; all others by default.
    gap : float
        The search ends once upper - lower <= gap * upper. For "0" it ends at equality.
    time_limit : float, seconds, optional
        The bracket that is proved by then is the answer.
    solver : str or Solver or None
        For the linear programs of the search.
    relaxation : "auto", "triangle" or "lifted"
        As in :func:`optverify.verify`, for "inf".
    progress : callable, optional
        Called with :class:`Bracket`.
    seed, workers
        As in :func:`optverify.verify`; `workers` for "inf" only.
    claim : bool, optional
        Whether to ask a mixed-integer solver for the minimum distortion, over the reals and not for "2": before the
        search, for at most a quarter of the time limit or a minute. Its points improve `upper`; what it says of the
        least distance is a claim beside the bracket. By default it is asked where a limit leaves the bracket open,
        for the last tenth of the time, if few neurons are unstable.
    certificate : str, optional
        A file for the proof of the lower end. The property that it proves, no counterexample in the ball of that
        radius, is written beside it: see :func:`proof_files`.

    Returns
    -------
    Radius
        A counterexample is a point of the domain where some target's output is at least that of the label: a tie
        counts. If x is one itself the radius is 0.

    Raises
    ------
    InputError, ShapeError
        x lies outside of the domain or is not finite; the label or a target is no output; nothing can be said about
        this network, norm or domain in this format.
    OutputError
        The certificate cannot be written.

    Examples
    --------
    >>> from optverify import Network, radius
    >>> net = Network.from_arrays([([[1.0, 2.0], [0.0, 0.0]], [0.0, 1.0])])  # class 0 where x0 + 2 x1 > 1
    >>> answer = radius(net, [0.75, 0.5], gap=1e-6)
    >>> answer.label, round(answer.upper, 6), answer.complete
    (0, 0.25, True)
    """
    point = as_point(network, x)
    box = as_domain(domain, point)
    if network.n_outputs < 2:
        raise InputError("a change of class needs at least two outputs")
    if label is None:
        middle = [low + high for low, high in network.enclose(point)]
        label = middle.index(max(middle))
    query = Query.robust(box, label, network.n_outputs, targets)
    question = Question(network, point, norm_of(norm), query, semantics=named(semantics))
    return measure(
        question,
        label=label,
        gap=gap,
        time_limit=time_limit,
        solver=solver,
        relaxation=relaxation,
        progress=progress,
        seed=seed,
        workers=workers,
        claim=claim,
        certificate=certificate,
    )


def proof_files(certificate: str, norm: Norm) -> tuple[str, str]:
    """Return the file of a certificate and that of its property: VNN-LIB, or the exact form, as that has no balls."""
    return certificate, certificate + (".vnnlib" if norm == "inf" else ".json")


def measure(
    question: Question,
    *,
    label: int | None = None,
    gap: float = 1e-4,
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    relaxation: str = "auto",
    progress: Callable[[Bracket], None] | None = None,
    seed: int = 0,
    workers: int = 1,
    claim: bool | None = None,
    certificate: str | None = None,
) -> Radius:
    """Answer :func:`radius` for any unsafe set: parameters as there."""
    if not 2.0**-40 <= gap < 1:
        raise InputError(f"the gap must be at least 2**-40 and below 1, not {gap!r}")
    if relaxation not in RELAXATIONS:
        raise InputError(f"the relaxation is one of {', '.join(RELAXATIONS)}, not {relaxation!r}")
    if question.semantics is not REAL and question.norm != "inf":
        raise InputError(f"only l-inf radii are about {question.semantics}; the others are over the reals")
    if question.semantics is not REAL and representable(question.domain, question.x, question.semantics) is None:
        raise InputError(f"the domain holds no {question.semantics} number")
    if claim and (solver is None or question.norm == "2" or question.semantics is not REAL):
        raise InputError("a claim needs a solver; it is about the reals, and the norms inf, 1 and 0")
    with one_thread(), ExitStack() as stack:
        streams = (
            [stack.enter_context(replacing(path)) for path in proof_files(certificate, question.norm)]
            if certificate
            else []
        )
        if streams:
            # What cannot be written is an error before the work; no float has a larger denominator than the least one.
            property_text(_within(question, 2.0**-1074))
        method = Method(Hybrid(), solver, proof=bool(streams), seed=seed)
        limit = inf if time_limit is None else time_limit
        run = _Run(question, gap, method, relaxation, workers, claim, progress, limit)
        lower, origin, proof, stop = run.bracket()
        return run.answer(lower, origin, proof, stop, label, streams)


def _written(streams: list[BinaryIO], question: Question, lower: float, proof: Proof) -> bool:
    try:
        return write_proof(streams, question.judge.network, _within(question, lower), proof)
    except KeyboardInterrupt:
        for stream in streams:  # an empty stream replaces nothing
            stream.seek(0)
            stream.truncate()
        return False


def _within(question: Question, radius: float) -> Query:
    """Ask whether no point of the box of a radius is a counterexample."""
    region = question.region(radius)
    cases = tuple(Case(region, case.unsafe) for case in question.query.cases)
    return replace(question.query, cases=cases)


class _Run:
    """One call of :func:`radius`."""

    def __init__(
        self,
        question: Question,
        gap: float,
        method: Method,
        relaxation: str,
        workers: int,
        claim: bool | None,
        progress: Callable[[Bracket], None] | None,
        time_limit: float,
    ) -> None:
        self.question, self.gap, self.method, self.workers, self.progress = question, gap, method, workers, progress
        self.relaxation, self.asked = relaxation, claim
        self.claim: float | None = None
        self.began, self.cpu = time.monotonic(), cpu_seconds()
        self.deadline = question.deadline = self.began + time_limit
        self.limit = time_limit
        self.nodes = self.programs = 0
        self.proved = 0.0  # the radius of the ball that the proof is about

    def bracket(self) -> tuple[float, str, Proof | None, str]:
        """Return the lower end, where it comes from, its proof, and why it is no better."""
        question = self.question
        if question.unsafe():
            return 0.0, "the point is a counterexample itself", None, ""
        rng = np.random.default_rng(self.method.seed)
        try:
            question.attack(rng)
            if self.asked:
                self._ask(min(CLAIM_SHARE * self.limit, CLAIM_SECONDS))
            until = self._until()
            if question.semantics is not REAL:
                within = _within(question, min(question.upper, question.furthest())).cases[0].region
                if obstacle := possible_overflow(question.judge.network, within.outward):
                    return 0.0, "x itself", None, obstacle
            if question.norm == "inf":
                given = question, self.gap, self.method, until, self.workers, rng, self._tell, self.relaxation
                found = cubes.prove(*given)
            else:
                found = balls.prove(question, self.gap, self.method, until, rng, self._tell)
        except KeyboardInterrupt:
            return 0.0, "the point is no counterexample", None, "interrupted"
        lower, stop = found.radius, found.stop
        self.nodes, self.programs = found.nodes, found.programs
        if stop and until < self.deadline and stop != Stop.INTERRUPTED.value:
            with suppress(KeyboardInterrupt):
                self._ask(self.deadline - time.monotonic())
        if not stop and question.witness is None and lower >= question.furthest():
            lower = inf
        self.proved = min(lower, question.furthest())
        lower += question.norm == "0"  # the next count
        if not stop and lower < min(below(question.upper, self.gap, question.norm), question.furthest()):
            stop = f"within rounding: some execution may violate at a distance of {question.ceiling:.6g}"
        return lower, found.origin, found.proof, stop

    def _until(self) -> float:
        """Return when the search ends: before the deadline, if a mixed-integer solver is to be asked after it."""
        kept = self.asked is None and self.limit < inf and self.question.semantics is REAL
        kept = kept and self.question.norm != "2" and self.method.solver is not None and is_small(self.question)
        return self.deadline - (CLAIM_LAST * self.limit if kept else 0.0)

    def _ask(self, seconds: float) -> None:
        assert self.method.solver is not None
        self.claim = claimed(self.question, self.method.solver, seconds)

    def _tell(self, lower: float, nodes: int) -> None:
        if self.progress is not None:
            self.progress(Bracket(lower, self.question.upper, nodes, time.monotonic() - self.began))

    def answer(
        self,
        lower: float,
        origin: str,
        proof: Proof | None,
        stop: str,
        label: int | None,
        streams: list[BinaryIO],
    ) -> Radius:
        """Put the answer together; write the certificate of the lower end."""
        question = self.question
        certified: bool | None = None
        if streams:
            certified = proof is not None and _written(streams, question, self.proved, proof)
        if not stop:
            stop = WHOLE if lower == inf else "gap closed"
        if question.upper == 0:
            stop = _why_zero(question, label)
        return Radius(
            lower=lower,
            upper=question.upper,
            norm=question.norm,
            label=label,
            witness=question.witness,
            lower_from=origin,
            upper_from=_confirmed(question),
            reason=stop,
            complete=lower == inf or Fraction(question.upper) * (1 - Fraction(self.gap)) <= Fraction(lower)
            if question.upper < inf and lower < inf
            else lower == inf,
            nodes=self.nodes,
            programs=self.programs,
            seconds=time.monotonic() - self.began,
            cpu_seconds=cpu_seconds() - self.cpu,
            question=question.query.text,
            x=question.x,
            domain=question.domain,
            network=question.network.digest,
            solver=name_of(self.method.solver),
            certified=certified,
            claim=self.claim,
            semantics=question.semantics.name,
            versions=versions(),
        )


def _confirmed(question: Question) -> str:
    if question.witness is None:
        return "none was found"
    if question.witness.execution:
        return f"a counterexample, executed ({question.witness.execution})"
    return "a counterexample, replayed in exact arithmetic"


def _why_zero(question: Question, label: int | None) -> str:
    """Say why the radius is 0."""
    witness = question.witness
    if label is None or witness is None:
        return "x is in the unsafe set"
    own = witness.y[label]
    rivals = [j for j, (low, _) in enumerate(witness.y) if j != label and low >= own[1]]
    if not rivals:
        return "x is in the unsafe set"
    tie = witness.y[rivals[0]] == own
    return (
        f"x is {'tied' if tie else 'misclassified'}: output {rivals[0]} is {'equal to' if tie else 'above'} {label}'s"
    )
