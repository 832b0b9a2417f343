"""How far the lifted relaxation gets without a split: the l-inf radius up to which it closes the whole box.

Its bound on a margin falls about linearly with the radius, from the margin at x on. So each solve that fails tells
about which radius would have been right, and the group with the least such radius is asked first: a radius that is too
large costs one relaxation, one that is right one for each group, all but the first from a warm start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from optverify.bounds.crown import crown, output_bounds
from optverify.interval import Array, Interval
from optverify.measures.question import Question
from optverify.preactivation import Bounds
from optverify.proof import Close, Proof
from optverify.query import Goal
from optverify.search.attack import group_values
from optverify.search.semidefinite import MOST_CONDITIONS, close_groups, price, size

FIRST = 0.85
"""The first radius that is tried, as a share of the largest that is wanted."""

STEP = 0.02
"""It ends when the radii that did and that did not close differ by this share: the rest is for splits."""

SHORT_OF = 0.985
"""Radii are tried this much inside of where a line promises the root."""

WARM = 0.5
"""Cost of a relaxation from a warm start; one without is 1."""

SMALLER = np.linspace(1.0, 0.0, 12, endpoint=False)
"""Parts of the way to a radius that are considered where time does not suffice for the whole."""


@dataclass(frozen=True, eq=False)
class _Root:
    """The box of a radius, with backward bounds: what they close, and the bounds of the other groups."""

    radius: float
    goal: Goal
    region: Interval
    bounds: Bounds
    closes: list[Close]
    values: dict[int, float]

    @classmethod
    def of(cls, question: Question, radius: float) -> _Root:
        goal = question.within(radius)
        region = goal.region.outward
        bounds, frame = crown(goal.network, region.take(None))
        rows = output_bounds(frame).value[0]
        closes, values = list[Close](), dict[int, float]()
        for group, members in enumerate(goal.groups):
            row = int(rows[list(members)].argmax())
            if rows[members[row]] > 0:
                closes.append(Close(group, tuple(int(i == row) for i in range(len(members)))))
            else:
                values[group] = float(rows[members[row]])
        return cls(radius, goal, region, bounds.take(0), closes, values)

    @property
    def conditions(self) -> int:
        """Of each relaxation."""
        return size(self.goal.network, self.region, self.bounds)[1]

    def price(self) -> float:
        """Return what the relaxations of all groups cost together."""
        return price(self.goal.network, self.conditions) * (1.0 + WARM * (len(self.values) - 1))


@dataclass
class Lifting:
    """The relaxation at the root, over boxes of several radii.

    Parameters
    ----------
    question : Question
    proof : bool
        Close only what a certificate can hold.
    roots : dict from group to float
        Radius at which the relaxation's bound of a group would be 0: claims.
    pace : float
        Seconds for a unit of :func:`optverify.search.semidefinite.price`.
    programs : int
        Relaxations solved.
    """

    question: Question
    proof: bool
    roots: dict[int, float] = field(default_factory=dict)
    pace: float = 0.0
    programs: int = 0

    def __post_init__(self) -> None:
        goal, centre = self.question.goal, self.question.ball.centre
        with np.errstate(all="ignore"):
            self._margins: Array = group_values(goal, goal.network(centre[None])[0])

    def reach(self, proved: float, wanted: float, deadline: float) -> tuple[float, Proof] | None:
        """Look for the largest radius, up to one that is wanted, at which all groups are closed.

        Parameters
        ----------
        proved : float
            What is known.
        wanted : float
        deadline : float, seconds of ``time.monotonic``

        Returns
        -------
        (float, Proof) or None
            A larger radius than what is known, and its proof; None without one.
        """
        best, low, high = None, proved, wanted
        radius = max(FIRST * high, 0.5 * low + 0.5 * high)
        while high - low > STEP * high:
            at = self._affordable(low, radius, deadline)
            if at is None or at.radius - low < 0.5 * STEP * high:
                break
            closes, group = self._close(at, deadline)
            if group is None:
                if closes is not None:
                    best, low = (at.radius, Proof(closes=closes)), at.radius
                    radius = 0.5 * low + 0.5 * high
            else:
                high = at.radius
                promised = SHORT_OF * self.roots[group]
                radius = min(max(promised, 0.7 * low + 0.3 * high), 0.1 * low + 0.9 * high)
        return best

    def _affordable(self, low: float, radius: float, deadline: float) -> _Root | None:
        """Return the root over the box of a radius, or of a smaller one for which there is time; None: there is none."""
        left = deadline - time.monotonic()
        for part in SMALLER.tolist():
            at = _Root.of(self.question, low + part * (radius - low))
            if self.pace * at.price() <= left and at.conditions <= MOST_CONDITIONS:
                return at
        return None

    def _close(self, at: _Root, deadline: float) -> tuple[list[Close] | None, int | None]:
        """Close groups; return the closes (None: there was no time) and the first group that is not closed."""
        known = {g: self.roots.get(g, self._zero(g, at.radius, value)) for g, value in at.values.items()}
        hardest = sorted(known, key=lambda g: (known[g], g))
        closes, start, began = list(at.closes), None, time.monotonic()
        one = price(at.goal.network, at.conditions)
        for some in (hardest[:1], hardest[1:]):
            if start and self.pace * WARM * len(some) * one > deadline - time.monotonic():
                return None, None
            values = {g: at.values[g] for g in some}
            found = close_groups(
                at.goal, at.region, at.bounds, values, 0.0, deadline, _ignored, proof=self.proof, start=start
            )
            start, self.programs = found.start, self.programs + found.programs
            closes += [close for _, close in found.groups.values()]
            left = [g for g in some if g not in found.groups]
            if left and found.gain is None:
                return None, None
            if some == hardest[:1]:
                self.pace = (time.monotonic() - began) / one
            if left:
                assert found.gain is not None
                self.roots[left[0]] = min(self._zero(left[0], at.radius, values[left[0]] + found.gain), at.radius)
                return closes, left[0]
        return closes, None

    def _zero(self, group: int, radius: float, value: float) -> float:
        """Return where the line from the margin at x through a value at a radius is 0."""
        margin = float(self._margins[group])
        root = radius * margin / (margin - value) if margin > value else 0.0
        return root if np.isfinite(root) else 0.0


def _ignored(_: Array) -> None:
    """The points of relaxations have led to no nearer counterexample."""
