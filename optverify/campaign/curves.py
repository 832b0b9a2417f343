"""The questions about a data set: what is known of each input, and what to ask next."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from optverify.bounds.overflow import possible_overflow
from optverify.campaign.instances import Instance
from optverify.campaign.store import Row
from optverify.campaign.work import Distance
from optverify.errors import InputError, ShapeError
from optverify.expressions import Number, rational
from optverify.interval import nearest
from optverify.measures.judge import Judge
from optverify.measures.question import as_domain
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.semantics import REAL, Semantics

FAR = Fraction(2) ** 1100
"""Beyond every number of every format."""


class Curve:
    """What is known of one input: radii below `proved` are proved, from `refuted` on they are refuted."""

    def __init__(self, index: int, x: list[Number], label: int, levels: int) -> None:
        self.index, self.x, self.label = index, x, label
        self.levels = levels
        self.correct = False
        self.proved, self.refuted = 0, levels
        self.errors = 0
        self.bracket: tuple[float, float] | None = None
        self._asked: set[int] = set()

    def classify(self, judge: Judge, radii: Sequence[Fraction]) -> None:
        """Evaluate the input exactly; where even that leaves a doubt it stays undecided at every radius.

        In a format it is right if every execution says so, and wrong if some execution does not.
        """
        network, point = judge.network, Box.around(np.array(self.x, dtype=object), 0, None)
        low, _ = (y := network.enclose(point.lower))[self.label]
        certain = not possible_overflow(network, point.outward)
        self.correct = certain and all(low > above for j, (_, above) in enumerate(y) if j != self.label)
        self.proved = int(self.correct and 0 in radii[:1])
        if not self.correct and judge(
            Query.robust(point, self.label, network.n_outputs), list(map(nearest, point.lower))
        ):
            self.refuted, self.bracket = 0, (0.0, 0.0)

    def _open(self) -> list[int]:
        return [j for j in range(self.proved, self.refuted) if j not in self._asked] if self.correct else []

    def next(self) -> int | None:
        """Return the position of the radius to ask about: the middle of those that are open."""
        left = self._open()
        return left[len(left) // 2] if left else None

    def settled(self) -> int:
        """Return the number of radii about which nothing more is asked."""
        return self.levels - len(self._open())

    def learn(self, row: Row | None) -> None:
        """Take the answer about the radius that was next."""
        asked = self.next()
        assert asked is not None
        self._asked.add(asked)
        if row is None or row.verdict not in ("verified", "falsified"):
            self.errors += row is not None and row.verdict == "error"
        elif row.verdict == "verified":
            self.proved = asked + 1
        else:
            self.refuted = asked

    def place(self, radii: Sequence[Fraction]) -> None:
        """Say what the bracket says about radii."""
        lower, upper = self.bracket or (0.0, inf)
        if self.correct:
            self.proved = sum(radius <= lower for radius in radii if radius == 0 or lower > 0)
        self.refuted = sum(radius < upper for radius in radii)


class Questions:
    """Makes instances of a data set."""

    def __init__(
        self,
        network: Network | str,
        n_outputs: int,
        radii: Sequence[Fraction],
        domain: tuple[Number, Number] | None,
        time_limit: float | None,
    ) -> None:
        self._network, self._n_outputs, self.radii_of = network, n_outputs, radii
        self._domain, self._time_limit = domain, time_limit

    def ball(self, curve: Curve) -> Instance:
        """Ask whether the label wins within the radius that is next."""
        asked = curve.next()
        assert asked is not None
        eps = self.radii_of[asked]
        query = Query.robust(
            Box.around(np.array(curve.x, dtype=object), eps, self._domain), curve.label, self._n_outputs
        )
        return Instance(f"input {curve.index} eps {float(eps):g}", self._network, query, self._time_limit)

    def distance(self, curve: Curve) -> Instance:
        """Ask how far an input is from the nearest of another class."""
        asked = Distance(tuple(curve.x), curve.label, self._domain, f"radius of input {curve.index}")
        return Instance(f"input {curve.index} radius", self._network, asked, self._time_limit)


def radii_of(eps: Number | Sequence[Number]) -> list[Fraction]:
    """Return distinct radii in increasing order."""
    given = eps if isinstance(eps, Sequence | np.ndarray) and not isinstance(eps, str) else [eps]
    radii = sorted({rational(value) for value in given})
    if not radii or radii[0] < 0:
        raise InputError("eps needs at least one radius, and none may be negative")
    return radii


def curves_of(
    network: Network,
    inputs: ArrayLike,
    labels: ArrayLike,
    domain: tuple[Number, Number] | None,
    levels: int,
    semantics: Semantics = REAL,
) -> list[Curve]:
    """Read a data set exactly; what is wrong with it is an error before the work.

    In a format each input is the nearest number of it in the domain, as a program is given it.
    """
    try:
        given = np.asarray(inputs, dtype=object)
        classes = np.asarray(labels)
    except ValueError:
        raise ShapeError("the inputs are not all of one size") from None
    if given.ndim < 2 or classes.shape != given.shape[:1] or not len(given):
        raise ShapeError(f"expected (n, ...) inputs and (n,) labels, n >= 1; got {given.shape} and {classes.shape}")
    if given[0].size != network.n_inputs:
        raise ShapeError(f"the data have {given[0].size} values an input, the network {network.n_inputs}")
    if network.n_outputs < 2 or classes.dtype.kind not in "iu":
        raise InputError("labels must be whole numbers, and the network needs an output for each of at least 2 classes")
    if classes.min() < 0 or classes.max() >= network.n_outputs:
        raise InputError(f"labels must be from 0 to {network.n_outputs - 1}, one for each output")
    curves = []
    for k, (values, label) in enumerate(zip(given.reshape(len(given), -1).tolist(), classes.tolist(), strict=True)):
        try:
            point = Box.around(values, 0, None).lower
            as_domain(domain, point)
            if semantics is not REAL:
                ends = (-FAR, FAR) if domain is None else tuple(map(rational, domain))
                values = [semantics.within(value, *ends) for value in point]
                if None in values:
                    raise InputError(f"the domain holds no {semantics} number")
        except InputError as error:
            raise InputError(f"inputs[{k}]: {error}") from None
        curves.append(Curve(k, values, label, levels))
    return curves
