"""How far the lifted relaxation gets without a split: the l-inf radius up to which it closes the whole box.

Its bound on a margin falls about linearly with the radius, from the margin at x on. So each solve that fails tells
about which radius would have been right, and the group with the least such radius is asked first: a radius that is too
large costs one relaxation, one that is right one for each group, all but the first from a warm start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from optverify.bounds.crown import crown, output_bounds
from optverify.interval import Array, Interval
from optverify.measures.question import Question
from optverify.preactivation import Bounds
from optverify.proof import Close, Proof
from optverify.query import Goal
from optverify.search.attack import group_values
from optverify.search.node import Node
from optverify.search.semidefinite import MOST_CONDITIONS, close_groups, price, size

if TYPE_CHECKING:
    from optverify.solvers.interior_point import LiftedSolution

FIRST = 0.85
"""The first radius that is tried, as a share of the largest that is wanted."""

STEP = 0.02
"""It ends when the radii that did and that did not close differ by this share: the rest is for splits."""

SHORT_OF = 0.985
"""Radii are tried this much inside of where a line promises the root."""

WARM = 0.4
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

    def reach(self, proved: float, wanted: float, deadline: float) -> Iterator[tuple[float, Proof]]:
        """Yield larger and larger radii at which all groups are closed, each with its proof.

        Parameters
        ----------
        proved : float
            What is known.
        wanted : float
            What would be enough.
        deadline : float, seconds of ``time.monotonic``
        """
        low, high = proved, wanted
        radius = max(FIRST * high, 0.5 * low + 0.5 * high)
        while high - low > STEP * high:
            at = self._affordable(low, radius, deadline)
            if at is None or at.radius - low < 0.5 * STEP * high:
                break
            closes, failed = self._close(at, deadline)
            if failed is not None:
                high = at.radius
                promised = SHORT_OF * self.roots[failed]
                radius = min(max(promised, 0.7 * low + 0.3 * high), 0.1 * low + 0.9 * high)
            elif closes is not None:
                yield at.radius, Proof(closes=closes)
                low = at.radius
                radius = 0.5 * low + 0.5 * high

    def start(self, radius: float, deadline: float) -> tuple[Node, list[Close]]:
        """Return the root of a search over the box of a radius with the groups that are left, and the other closes."""
        at = _Root.of(self.question, radius)
        closes = list(at.closes)
        hard = {g for g in at.values if self.roots.get(g, radius) < radius}
        todo = [g for g in self._hardest_first(at) if g not in hard] if at.conditions <= MOST_CONDITIONS else []
        start = None
        while todo:
            failed, start = self._ask(at, todo, start, closes, deadline)
            if failed is None:
                break
            hard.add(failed)
            todo = todo[todo.index(failed) + 1 :]
        left = tuple(sorted({*at.values} - {close.group for close in closes}))
        # Nodes try the relaxation where it would close them if it gained as much as here.
        gains = [self._value(g, radius) - at.values[g] for g in hard]
        return replace(Node.root(at.goal), groups=left, lift=min(gains, default=np.inf)), closes

    def _affordable(self, low: float, radius: float, deadline: float) -> _Root | None:
        """Return the root over the box of a radius, or of a smaller one that there is time for; None without one."""
        left = deadline - time.monotonic()
        for part in SMALLER.tolist():
            at = _Root.of(self.question, low + part * (radius - low))
            one = price(at.goal.network, at.conditions)
            if self.pace * one * (1.0 + WARM * (len(at.values) - 1)) <= left and at.conditions <= MOST_CONDITIONS:
                return at
        return None

    def _close(self, at: _Root, deadline: float) -> tuple[list[Close] | None, int | None]:
        """Close groups; return the closes (None: there was no time) and the first group that is not closed."""
        order, closes, began = self._hardest_first(at), list(at.closes), time.monotonic()
        failed, start = self._ask(at, order[:1], None, closes, deadline)
        took = time.monotonic() - began
        if order:
            self.pace = took / price(at.goal.network, at.conditions)
        if failed is None and time.monotonic() + took * WARM * (len(order) - 1) <= deadline:
            failed, _ = self._ask(at, order[1:], start, closes, deadline)
        return closes if len(closes) == len(at.goal.groups) else None, failed

    def _hardest_first(self, at: _Root) -> list[int]:
        known = {g: self.roots.get(g, self._zero(g, at.radius, value)) for g, value in at.values.items()}
        return sorted(known, key=lambda g: (known[g], g))

    def _ask(
        self, at: _Root, groups: list[int], start: LiftedSolution | None, closes: list[Close], deadline: float
    ) -> tuple[int | None, LiftedSolution | None]:
        """Add closes of groups; return the one that cannot be closed, if it comes to that, and where others may start.

        Time may end before: then some have no close.
        """
        values = {g: at.values[g] for g in groups}
        found = close_groups(
            at.goal, at.region, at.bounds, values, 0.0, deadline, _ignored, proof=self.proof, start=start
        )
        self.programs += found.programs
        closes += [close for _, close in found.groups.values()]
        if found.gain is None or time.monotonic() >= deadline:
            return None, found.start
        failed = next(g for g in groups if g not in found.groups)
        self.roots[failed] = min(self._zero(failed, at.radius, values[failed] + found.gain), at.radius)
        return failed, found.start

    def _zero(self, group: int, radius: float, value: float) -> float:
        """Return where the line from the margin at x through a value at a radius is 0."""
        margin = float(self._margins[group])
        root = radius * margin / (margin - value) if margin > value else 0.0
        return root if np.isfinite(root) else 0.0

    def _value(self, group: int, radius: float) -> float:
        """Return what the relaxation's bound would be on that line."""
        root = self.roots[group]
        return float(self._margins[group]) * (1.0 - radius / root) if root > 0 else -np.inf


def _ignored(_: Array) -> None:
    """Ignore the point of a relaxation: none has led to a nearer counterexample."""
