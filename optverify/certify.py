"""How much of a data set is robust? Accuracies between proofs and exact counterexamples."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from optverify.deployment import deployed
from optverify.errors import expect, require
from optverify.expressions import Number
from optverify.io import load
from optverify.network import Network
from optverify.report import text
from optverify.semantics import REAL, named
from optverify.solvers import LINEAR

if TYPE_CHECKING:  # most programs that import the package run no campaign
    from optverify.campaign import Campaign, Progress
    from optverify.campaign.curves import Curve, Questions


BLOCK = 512
"""Questions that are posed at a time: a box of exact numbers takes some hundred kilobytes."""


@dataclass(frozen=True)
class Level:
    """The accuracies at one radius, as numbers of inputs.

    Parameters
    ----------
    eps : float
        Nearest to the radius that was asked for.
    certified : int
        Classified rightly, and proved to be so on the whole ball of this or of a larger radius.
    falsified : int
        Misclassified, or with an exact counterexample within this or a smaller radius.
    undecided : int
        The others: a time-out, an error or an end of the run is never counted as safe.
    """

    eps: float
    certified: int
    falsified: int
    undecided: int


@dataclass(frozen=True)
class CertifiedAccuracy:
    """The answer of :func:`certify`: accuracies of the network.

    Parameters
    ----------
    inputs : int
    correct : int
        Inputs at which the output of the label is above every other in exact arithmetic; a tie is a mistake.
    levels : tuple of Level
        By increasing eps.
    certified_up_to, falsified_from : tuple of (int or None)
        For each input, positions in `levels`: the largest that is proved, the least that is refuted. Misclassified
        inputs have None and 0.
    brackets : tuple of (tuple of (float, float) or None)
        With ``radius=True``, for each input: no counterexample within the first, one at the second; else empty.
    errors : int
        Questions that ended in an error; the store says why.
    complete : bool
        False after Ctrl-C.
    network : str
        Content digest.
    semantics : str
    """

    inputs: int
    correct: int
    levels: tuple[Level, ...]
    certified_up_to: tuple[int | None, ...]
    falsified_from: tuple[int | None, ...]
    errors: int
    complete: bool
    network: str
    brackets: tuple[tuple[float, float] | None, ...] = ()
    semantics: str = REAL.name

    @property
    def clean_accuracy(self) -> float:
        """Share of inputs that are classified rightly."""
        return self.correct / self.inputs

    def certified_accuracy(self, level: Level) -> float:
        """Return the share that is proved: a lower bound of the robust accuracy."""
        return level.certified / self.inputs

    def empirical_accuracy(self, level: Level) -> float:
        """Return the share without a counterexample: an upper bound of the robust accuracy."""
        return (self.inputs - level.falsified) / self.inputs

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values."""
        return asdict(self) | {
            "brackets": [None if ends is None else list(map(_finite, ends)) for ends in self.brackets],
            "clean_accuracy": self.clean_accuracy,
            "levels": [
                asdict(level)
                | {
                    "certified_accuracy": self.certified_accuracy(level),
                    "empirical_accuracy": self.empirical_accuracy(level),
                }
                for level in self.levels
            ],
        }

    def to_frame(self) -> Any:
        """Return the curve as a `pandas.DataFrame`, one line for each eps.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        return require("pandas", "tables").DataFrame(self.to_dict()["levels"])

    def __str__(self) -> str:
        def share(count: int) -> str:
            return f"{count} of {self.inputs}"

        rows = {"clean accuracy": f"{share(self.correct)} = {self.clean_accuracy:.2%}"}
        for level in self.levels:
            rows[f"eps {text.exact(level.eps).removesuffix('.0')}"] = (
                f"certified {share(level.certified)}, empirically robust {share(self.inputs - level.falsified)}, "
                f"undecided {level.undecided}"
            )
        rows["semantics"] = named(self.semantics).statement
        if self.errors:
            rows["errors"] = f"{self.errors} questions; counted as undecided"
        if not self.complete:
            rows["stopped early"] = "the rest is counted as undecided"
        return text.card("Certified accuracy, l-inf", rows)


def certify(
    network: Network | str,
    inputs: ArrayLike,
    labels: ArrayLike,
    eps: Number | Sequence[Number] = (),
    *,
    radius: bool = False,
    semantics: str = REAL.name,
    domain: tuple[Number, Number] | None = (0, 1),
    time_limit: float | None = None,
    solver: str | None = LINEAR,
    seed: int = 0,
    store: str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    certificates: str | None = None,
    retry_errors: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> CertifiedAccuracy:
    """Bound the robust accuracy of a classifier on a data set from below and from above.

    For each input that is classified rightly, a bisection over the radii asks :func:`~optverify.verify` whether the
    label wins on the whole l-inf ball. What is proved at a radius holds at smaller ones, a counterexample within a
    radius counts at larger ones.

    Parameters
    ----------
    network : Network or str
        A path is read by each worker itself.
    inputs : (n, ...) numbers
        Each with as many values as the network has inputs; read exactly.
    labels : (n,) int
    eps : number, or numbers
        Radii; decimals as text are exact. With ``radius=True`` by default all at which the certified accuracy changes.
    radius : bool
        Measure the distance of each input to the nearest counterexample, one question each, and read the curve from
        the brackets.
    semantics : str
        As in :func:`~optverify.verify`. In a format inputs are rounded to it first, as a program is given them; one is
        classified rightly if every execution does, and a counterexample is a number of the format with an execution.
    domain : pair of numbers or None
        Of every input coordinate, which cuts the balls.
    time_limit : float, seconds, optional
        For each question.
    solver, seed, store, workers, scheduler, certificates, retry_errors
        See :class:`~optverify.campaign.run.Campaign`. With a store, the same call goes on where it was stopped.
    progress : callable, optional
        Told how many pairs of an input and a radius are settled.

    Returns
    -------
    CertifiedAccuracy
        What Ctrl-C leaves open is undecided.

    Raises
    ------
    InputError, ShapeError
        The data do not fit the network, lie outside the domain, or are not finite; nothing can be said about this
        network in this format.

    Examples
    --------
    >>> from optverify import Network
    >>> net = Network.from_arrays([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])])  # the larger input wins
    >>> print(certify(net, [[0.9, 0.1], [0.5, 0.5]], [0, 1], ["0.3", "0.5"]).levels[0].certified)
    1
    """
    from optverify.campaign import Campaign
    from optverify.campaign.curves import Questions, curves_of, radii_of
    from optverify.measures.judge import Judge

    arithmetic, source = named(semantics), network
    network = load(network, format=arithmetic.format) if isinstance(network, str) else network
    expect(Network, network=network)
    radii = [] if radius and isinstance(eps, tuple) and not eps else radii_of(eps)
    curves = curves_of(network, inputs, labels, domain, len(radii), arithmetic)
    judge = Judge(deployed(network, arithmetic))
    ask = Questions(source, network.n_outputs, radii, domain, time_limit)
    complete = True
    with Campaign(
        store,
        semantics=arithmetic.name,
        solver=solver,
        seed=seed,
        workers=workers,
        scheduler=scheduler,
        certificates=certificates,
        retry_errors=retry_errors,
    ) as campaign:
        try:
            for curve in curves:
                curve.classify(judge, radii)
        except KeyboardInterrupt:
            complete = False
        if radius and complete:
            complete = _measure(campaign, ask, [curve for curve in curves if curve.correct], progress)
        else:
            while complete and (asked := [curve for curve in curves if curve.next() is not None][:BLOCK]):
                settled = sum(curve.settled() for curve in curves)
                ran = campaign.run(
                    [ask.ball(curve) for curve in asked], _of_all(settled, len(curves) * len(radii), progress)
                )
                for curve, row in zip(asked, ran.rows, strict=True):
                    curve.learn(row)
                complete = ran.complete
    if radius:
        ends = {curve.bracket[0] for curve in curves if curve.correct and curve.bracket is not None}
        radii = radii or sorted(Fraction(end) for end in ends if end < inf)
        for curve in curves:
            curve.place(radii)
    return CertifiedAccuracy(
        inputs=len(curves),
        correct=sum(curve.correct for curve in curves),
        levels=tuple(_level(curves, j, each) for j, each in enumerate(radii)),
        certified_up_to=tuple(curve.proved - 1 if curve.proved else None for curve in curves),
        falsified_from=tuple(curve.refuted if curve.refuted < len(radii) else None for curve in curves),
        brackets=tuple(curve.bracket for curve in curves) if radius else (),
        errors=sum(curve.errors for curve in curves),
        complete=complete,
        network=network.digest,
        semantics=arithmetic.name,
    )


def _measure(
    campaign: Campaign, ask: Questions, curves: Sequence[Curve], progress: Callable[[Progress], None] | None
) -> bool:
    """Bracket the radius of each input; tell whether all were asked."""
    for start in range(0, len(curves), BLOCK):
        asked = curves[start : start + BLOCK]
        ran = campaign.run([ask.distance(curve) for curve in asked], _of_all(start, len(curves), progress))
        for curve, row in zip(asked, ran.rows, strict=True):
            if row is not None and row.verdict == "measured":
                answer = json.loads(campaign.answer(row))
                lower, upper = (inf if answer[end] is None else float(answer[end]) for end in ("lower", "upper"))
                # Where a proof is asked for, one that the checker refuses is none.
                curve.bracket = 0.0 if answer["certified"] is False else lower, upper
            curve.errors += row is not None and row.verdict == "error"
        if not ran.complete:
            return False
    return True


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _of_all(settled: int, total: int, progress: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
    """Count pairs of an input and a radius: each answer settles at least one, so the end is known from the start."""
    if progress is None:
        return None
    return lambda p: progress(replace(p, done=settled + p.done, total=total))


def _level(curves: Sequence[Curve], j: int, radius: Fraction) -> Level:
    certified = sum(j < curve.proved for curve in curves)
    falsified = sum(j >= curve.refuted for curve in curves)
    return Level(float(radius), certified, falsified, len(curves) - certified - falsified)
