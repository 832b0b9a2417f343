"""The question behind a radius: which points are counterexamples, and the nearest of them so far."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from optverify.deployment import deployed
from optverify.errors import InputError, ShapeError, expect
from optverify.expressions import Number, rational
from optverify.interval import Array, nearest, round_down, round_up
from optverify.measures.judge import Judge
from optverify.measures.nearest import nearest_points
from optverify.measures.polish import polished
from optverify.network import Network
from optverify.norms import Cut, Norm, length
from optverify.query import Goal, Query
from optverify.region import Ball, Box, boxes_only, flattened
from optverify.semantics import REAL, Semantics
from optverify.witness import Witness, examine

BEYOND = 2.0**20
"""Without a domain, inputs reach this many times the larger of 1 and |x| beyond x."""

POLISHED = 3
"""Points of each attack that go to the linear programs of :mod:`optverify.measures.polish`."""

STARTS = 8
"""Random starts of an attack beside x itself."""

CLOSE = 1.25
"""Points further away than this many times the nearest one are left alone."""

PATIENCE = 0.125
"""Share of the time until the deadline that the polishing of an attack may take."""

OUTWARD = (0.0, 2.0**-45, 2.0**-38, 2.0**-30, 2.0**-22)
"""A point that is a counterexample but for rounding is moved away from x by these parts of its distance, in turn."""

BANDS = range(1, 6)
"""In a format by the unit roundoff times 4 to these powers."""

Domain = Box | tuple[Number, Number] | None


def as_point(network: Network, x: ArrayLike | Sequence[Number]) -> tuple[Fraction, ...]:
    """Read a point exactly.

    Raises
    ------
    ShapeError, InputError
    """
    expect(Network, network=network)
    point = tuple(rational(v) for v in flattened(x))
    if len(point) != network.n_inputs:
        raise ShapeError(f"x has {len(point)} values, the network takes {network.n_inputs} inputs")
    return point


def box_of(domain: Box | tuple[Number, Number], size: int) -> Box:
    """Return a domain as a box.

    Raises
    ------
    InputError
        It is neither a box nor two numbers, or it is a ball.
    """
    if isinstance(domain, Box):
        boxes_only([domain])
        return domain
    try:
        low, high = domain
    except (TypeError, ValueError):
        raise InputError(f"the domain must be a pair of numbers or a Box, not {domain!r}") from None
    return Box((low,) * size, (high,) * size)  # type: ignore[arg-type]


def as_domain(domain: Domain, x: Sequence[Fraction]) -> Box:
    """Return the domain as a box that contains the point.

    Raises
    ------
    ShapeError, InputError
        It has another size, or the point lies outside.
    """
    if domain is None:
        reach = Fraction(BEYOND) * max([Fraction(1), *(abs(v) for v in x)])
        return Box(tuple(v - reach for v in x), tuple(v + reach for v in x))
    domain = box_of(domain, len(x))
    if domain.size != len(x):
        raise ShapeError(f"the domain has {domain.size} inputs, x has {len(x)}")
    for i, (a, v, b) in enumerate(zip(domain.lower, x, domain.upper, strict=True)):
        if not a <= v <= b:
            raise InputError(
                f"input {i} of x, {nearest(v):.17g}, lies outside the domain [{nearest(a):.17g}, {nearest(b):.17g}]"
            )
    return domain


@dataclass(eq=False)
class Question:
    """How far from x the nearest point of the domain is that is in the unsafe set.

    Parameters
    ----------
    network : Network
    x : tuple of n_inputs Fraction
    norm : Norm
    query : Query
        Its one region is the domain; each of its cases is a way to be unsafe.
    weights : tuple of n_inputs Fraction, optional
        For "inf": the distance is max_i |d_i| / weights_i.
    semantics : Semantics
        In a format its numbers alone are points, and a point counts if some execution there violates.
    deadline : float, seconds of ``time.monotonic``
        Polishing ends then.

    Raises
    ------
    InputError
        The query has no case.

    Attributes
    ----------
    witness : Witness or None
        The nearest counterexample so far, replayed in exact arithmetic.
    upper : float
        Its distance, rounded up; inf without one.
    ceiling : float
        Distance, rounded up, of the nearest point that rounding leaves in doubt.
    """

    network: Network
    x: tuple[Fraction, ...]
    norm: Norm
    query: Query
    weights: tuple[Fraction, ...] | None = None
    semantics: Semantics = REAL
    deadline: float = inf
    witness: Witness | None = None
    upper: float = inf
    ceiling: float = inf

    def __post_init__(self) -> None:
        boxes_only(case.region for case in self.query.cases)
        self.judge = Judge(deployed(self.network, self.semantics))
        if not self.query.cases:
            raise InputError("the property has no unsafe case: there is nothing to be near to")
        (self.goal,) = self.query.goals(self.judge.network)
        self._doubts = 0
        centre = np.array([nearest(v) for v in self.x])
        shift = self.length([v - Fraction(c) for v, c in zip(self.x, centre.tolist(), strict=True)])
        self.shift = 0.0 if self.norm == "0" else shift  # how far the ball's centre is from x
        # Rounded up: the ball in floating point holds the exact one.
        weights = None if self.weights is None else np.array([round_up(w) for w in self.weights])
        box = self.domain.outward
        self.ball = Cut(box.lower, box.upper, self.norm, centre, inf, weights)

    @property
    def domain(self) -> Box:
        """The region of the query."""
        return self.query.cases[0].region

    def length(self, d: Sequence[Fraction]) -> float:
        """Return the length of an exact vector, rounded up."""
        return length(self.norm, d if self.weights is None else [v / w for v, w in zip(d, self.weights, strict=True)])

    def region(self, radius: float) -> Box:
        """Return the ball of a radius about x, cut by the domain, exactly; all of the domain if it is inf."""
        if self.norm != "inf":
            return Ball.of(self.domain, self.norm, self.x, min(radius, self.furthest()))
        if radius == inf:
            return self.domain
        box, weights = self.domain, self.weights or (Fraction(1),) * len(self.x)
        reach = [Fraction(radius) * w for w in weights]
        return Box(
            tuple(max(a, v - r) for a, v, r in zip(box.lower, self.x, reach, strict=True)),
            tuple(min(b, v + r) for b, v, r in zip(box.upper, self.x, reach, strict=True)),
        )

    def within(self, radius: float) -> Goal:
        """Return the goal over that box."""
        goal = self.goal
        return Goal(goal.network, self.region(radius), goal.groups, goal.cases, goal.listed)

    def furthest(self) -> float:
        """Return a distance that no point of the domain exceeds."""
        ends = zip(self.domain.lower, self.x, self.domain.upper, strict=True)
        return self.length([max(v - a, b - v) for a, v, b in ends])

    def unsafe(self) -> bool:
        """Tell whether x is a counterexample itself: over the reals exactly x, whose rounding to floats may differ."""
        if self.semantics is not REAL:
            return self.offer(np.array(self.ball.centre)) and self.upper == 0.0
        witness = examine(self.network, self.query, self.x)
        if witness.violates:
            self.witness, self.upper = witness, 0.0
        return witness.violates

    def offer(self, point: Array) -> bool:
        """Replay a point; keep it if it is a counterexample and nearer than the one before."""
        if not np.isfinite(point).all():
            return False
        away = point - self.ball.centre
        steps = OUTWARD if self.semantics is REAL else (0.0, *(self.semantics.unit * 4.0**k for k in BANDS))
        for extra in steps if self.norm != "0" else steps[:1]:
            witness = self.judge(self.query, (point + extra * away).tolist())
            if witness is None:
                continue
            distance = self.distance(witness.x)
            if distance < self.upper:
                self.witness, self.upper = witness, distance
                return True
            return False
        return False

    def distance(self, point: Sequence[Fraction]) -> float:
        """Return the distance of an exact point from x, rounded up."""
        return self.length([a - b for a, b in zip(point, self.x, strict=True)])

    def doubt(self, point: Array) -> bool:
        """Tell whether rounding leaves a point in doubt; no bound gets beyond it then."""
        found = self.judge.doubtful(self.query, point.tolist())
        if found is not None:
            self.ceiling = min(self.ceiling, self.distance(found))
            self._doubts += 1
        return found is not None

    def wanted(self, gap: float) -> float:
        """Return the radius that is to be proved: that beside the upper end, or below all that is in doubt.

        Each doubt doubles the step below it: how far the error band reaches is not known.
        """
        doubt = below(self.ceiling, min(gap * 2.0 ** min(self._doubts - 1, 40), 0.5), self.norm)
        return min(below(self.upper, gap, self.norm), doubt, self.furthest())

    def attack(self, rng: np.random.Generator, starts: Iterable[Array] = (), *, random: bool = True) -> None:
        """Look for counterexamples from given points and, unless told not to, from x and random points."""
        box, centre = self.ball.box, self.ball.centre
        tried = list(starts)
        if random:
            reach = min(self.upper, 1.0) if self.norm == "inf" else 0.25
            with np.errstate(all="ignore"):
                half = np.minimum(0.5 * box.upper - 0.5 * box.lower, reach)
                more = centre + half * rng.uniform(-1, 1, (STARTS, centre.size))
            tried += [centre, *np.clip(more, box.lower, box.upper)]
        points, until = nearest_points(self.goal, self.ball, np.stack(tried)), self._patience()
        for k, point in enumerate(points[:POLISHED]):
            if time.monotonic() > until and k:
                break
            if k == 0:
                self.offer(point)
            if self.ball.lengths(point) < CLOSE * self.upper:
                self.offer(polished(self.goal, self.ball, point, until))

    def improve(self, point: Array, rng: np.random.Generator) -> None:
        """Replay a counterexample, and look for nearer ones about it."""
        self.offer(polished(self.goal, self.ball, point, self._patience()))
        self.attack(rng, [point])

    def _patience(self) -> float:
        now = time.monotonic()
        return now + PATIENCE * max(self.deadline - now, 0.0)


def below(upper: float, gap: float, norm: Norm) -> float:
    """Return the radius to be proved beside an upper end: the gap is closed once it is."""
    if norm == "0":
        return upper - 1.0
    return round_up(Fraction(upper) * (1 - Fraction(gap))) if upper < inf else inf


def outward_radius(radius: float, shift: float) -> float:
    """Return the radius of a ball about the floating centre that contains the one about x."""
    return round_up(Fraction(radius) + Fraction(shift)) if radius < inf else inf


def inward(value: float, shift: float) -> float:
    """Return the radius about x of which a proved radius about the floating centre is enough."""
    return max(0.0, round_down(Fraction(value) - Fraction(shift))) if value < inf else inf
