"""The lower end of an l-inf radius: the search of :func:`optverify.verify`, just inside the best counterexample.

A search over the box of radius (1 - gap) upper either closes, which closes the bracket, or finds a nearer
counterexample, and starts again inside that. Where it promises to take longer than the lifted relaxation at the root,
that brings the lower end as far as it can first (:mod:`optverify.measures.lifted`), and further searches use it.
Only where a time limit shows a radius to be too hard, part of the way to what is proved already is searched instead.
In a format the same goes for a point that rounding leaves in doubt: the next search ends before it. What is open when
a limit ends it still gives a lower end: linear bounds of each open node say how far from x the first point is that
could reach a group there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from optverify.bounds.crown import crown, output_bounds
from optverify.interval import Array, Interval
from optverify.measures.lifted import Lifting
from optverify.measures.question import Question, inward, outward_radius
from optverify.proof import Close, Proof
from optverify.query import Goal
from optverify.search.expand import Method
from optverify.search.node import Node, boxes, known_bounds
from optverify.search.semidefinite import FEW_INPUTS, SOONEST, nodes_before
from optverify.search.tree import BATCH, Outcome, Progress, Search, Stop
from optverify.search.workers import Crew

SHARE = 0.5
"""Part of the time that is left that a search may take; then one inside a smaller radius is worth more."""

HALF, BEYOND = 0.5, 0.25
"""Where on the way from what is proved to what was too hard the next search is; with the lifted relaxation, which has
been at its end there."""

LATER = 0.5
"""Nodes take about this share of the time of the first ones of a search."""

SHORT = 0.5
"""Seconds that are not divided any more."""

RADII = 32
"""Radii that are tried at once with backward bounds alone, evenly from 0 to the upper end."""


@dataclass(frozen=True, eq=False)
class Lower:
    """A proved lower end.

    Parameters
    ----------
    radius : float
        No point of the domain within it reaches a case.
    origin : str
        Where it comes from.
    stop : str
        Why there is nothing better; empty if the gap is closed.
    proof : Proof or None
        A tree over the ball of that radius.
    """

    radius: float
    origin: str
    stop: str
    proof: Proof | None
    nodes: int
    programs: int


class _Nearer:
    """Search target: any counterexample in the box, which is nearer than the best one so far."""

    threshold = 0.0

    def __init__(self, question: Question, rng: np.random.Generator) -> None:
        self.question, self.rng = question, rng
        self.worth = 1e-9

    def offer(self, value: float, point: Array) -> bool:
        """Replay a point, and look for nearer ones about it; a doubt that stays ends the search too."""
        before = self.question.upper
        if value <= self.worth:
            self.question.improve(point, self.rng)
        return self.question.upper < before or self.question.doubt(point)


def prove(
    question: Question,
    gap: float,
    method: Method,
    deadline: float,
    workers: int,
    rng: np.random.Generator,
    report: Callable[[float, int], None],
    relaxation: str,
) -> Lower:
    """Close the bracket from below, improving its upper end on the way.

    Parameters
    ----------
    question : Question
        Learns of nearer counterexamples.
    gap : float
        Relative.
    method : Method
    deadline : float, seconds of ``time.monotonic``
    workers : int
    rng : numpy.random.Generator
    report : callable
        Called with the lower end so far and the nodes of the search.
    relaxation : "auto", "triangle" or "lifted"
        As in :func:`optverify.verify`.
    """
    closing = _Closing(question, gap, method, deadline, workers, rng, report, relaxation)
    try:
        closing.run()
    except KeyboardInterrupt:
        closing.why = Stop.INTERRUPTED.value
    return replace(closing.best, stop=closing.why, nodes=closing.nodes, programs=closing.programs)


class _Closing:
    """One call of :func:`prove`."""

    def __init__(
        self,
        question: Question,
        gap: float,
        method: Method,
        deadline: float,
        workers: int,
        rng: np.random.Generator,
        report: Callable[[float, int], None],
        relaxation: str,
    ) -> None:
        self.question, self.gap, self.method, self.deadline = question, gap, method, deadline
        self.workers, self.rng, self.report, self.relaxation = workers, rng, report, relaxation
        self.best, self.why, self.nodes, self.programs = Lower(0.0, "x itself", "", None, 0, 0), "", 0, 0
        self.hard = inf  # the least radius that was too much
        self.lift_later = relaxation == "auto" and question.network.n_inputs > FEW_INPUTS
        self.lifting: Lifting | None = None

    def run(self) -> None:
        """Search until the gap is closed or time is over."""
        self.best = at_root(self.question)
        if self.relaxation == "lifted":
            self._lift(0.0)
        while True:
            wanted, low, hard = self.question.wanted(self.gap), self.best.radius, self.hard
            radius = wanted if hard > wanted else low + (HALF if self.lifting is None else BEYOND) * (hard - low)
            left = self.deadline - time.monotonic()
            if radius <= low or (hard < inf and (left <= 0 or hard - low <= self.gap * hard)):
                self.why = "" if wanted <= low else self.why or Stop.TIME.value
                return
            stop = self._search(radius, time.monotonic() + (left if left < SHORT else SHARE * left))
            if stop is Stop.INTERRUPTED:
                return

    def _search(self, radius: float, until: float) -> Stop:
        """Search inside a radius; tell how that ended."""
        goal, tree, root = self.question.within(radius), Proof(open=True), None
        if self.lifting is not None:
            before = self.lifting.programs
            root, tree.closes = self.lifting.start(radius, until)
            self.programs += self.lifting.programs - before
        method, proof = replace(self.method, lift=root is not None), tree if self.method.proof else None
        tell, target = _teller(self.report, self.best.radius), _Nearer(self.question, self.rng)
        with Crew([goal], self.workers) as crew:
            search = Search(goal, target, crew, method, True, tell, proof=proof, root=root)
            left = until - time.monotonic()
            outcome = _while_short(search, left) if self.lift_later else search.run(left)
            crew.used()
        self.nodes, self.programs = self.nodes + outcome.progress.nodes, self.programs + outcome.programs
        if outcome.stop is Stop.CLOSED:
            self.best = Lower(radius, "branch and bound", "", proof, 0, 0)
        elif outcome.stop is Stop.NODES:
            self._lift(LATER * outcome.progress.seconds / outcome.progress.nodes)
        elif outcome.stop is not Stop.FOUND:
            # A stuck node is not among the open ones, however the search ended: what is left of it has no distance.
            # What the lifted relaxation has closed over this box need not have a proof over a smaller one.
            if not search.stuck and root is None:
                found = min(radius, _open_distance(self.question, goal, list(search.open_nodes())))
                if found > self.best.radius:
                    _close(goal, proof)
                    self.best = Lower(found, "open nodes of branch and bound", "", proof, 0, 0)
            self.hard, self.why = radius, outcome.stop.value
        return outcome.stop

    def _lift(self, pace: float) -> None:
        """See how far the lifted relaxation gets at the root; where it gets anywhere, nodes are given to it too."""
        wanted, lifting = self.question.wanted(self.gap), Lifting(self.question, self.method.proof, pace=pace)
        self.lift_later = False
        if self.relaxation == "lifted":
            self.lifting = lifting
        for radius, proof in lifting.reach(self.best.radius, wanted, self.deadline):
            self.best, self.lifting = Lower(radius, "the lifted relaxation at the root", "", proof, 0, 0), lifting
            self.report(radius, self.nodes)
        self.programs += lifting.programs
        if self.deadline < inf:
            self.hard, self.why = wanted, Stop.TIME.value


def _while_short(search: Search, seconds: float) -> Outcome:
    """Run a search for as long as it promises to end before the lifted relaxation would at the root."""
    deadline, nodes = time.monotonic() + seconds, float(SOONEST)
    outcome = search.run(seconds, nodes)
    worth = nodes_before(search.goal) if outcome.stop is Stop.NODES else 0.0
    while outcome.stop is Stop.NODES:
        done = outcome.progress
        if not max(done.nodes / worth, done.seconds / seconds) <= done.closed:
            break
        nodes *= 2.0
        outcome = search.run(deadline - time.monotonic(), nodes)
    return outcome


def _teller(report: Callable[[float, int], None], lower: float) -> Callable[[Progress], None]:
    return lambda progress: report(lower, progress.nodes)


def at_root(question: Question) -> Lower:
    """Bound the radius by backward bounds alone, over boxes of several radii at once."""
    reach = min(question.upper, question.furthest())
    fractions = np.linspace(0.0, 1.0, RADII + 1)[1:]
    balls = [question.ball.within(outward_radius(reach * f, question.shift)) for f in fractions.tolist()]
    regions = [ball.outer for ball in balls if np.isfinite(ball.radius)]
    if not regions:
        return Lower(0.0, "x itself", "", None, 0, 0)
    lower, upper = (np.stack([getattr(r, end) for r in regions]) for end in ("lower", "upper"))
    _, frame = crown(question.goal.network, Interval(lower, upper))
    rows = output_bounds(frame).value
    reached = np.stack([rows[:, list(group)].max(axis=1) for group in question.goal.groups], axis=1)
    good = np.all(reached > 0, axis=1)
    last = int(np.flatnonzero(np.append(~good, True))[0]) - 1
    if last < 0:
        return Lower(0.0, "x itself", "", None, 0, 0)
    goal, best = question.goal, [int(rows[last, list(g)].argmax()) for g in question.goal.groups]
    closes = [Close(g, tuple(int(i == best[g]) for i in range(len(goal.groups[g])))) for g in range(len(goal.groups))]
    proof = Proof()
    proof.closes = closes
    return Lower(float(reach * fractions[last]), "backward bounds at the root", "", proof, 0, 0)


def _open_distance(question: Question, goal: Goal, nodes: list[Node]) -> float:
    """Return how near to x a point of the open nodes can be that reaches a group."""
    nearest = inf
    ball = question.ball.within(inf)
    for start in range(0, len(nodes), BATCH):
        some = nodes[start : start + BATCH]
        bounds, frame = crown(goal.network, boxes(some), known_bounds(some))
        rows = output_bounds(frame)
        empty = np.broadcast_to(bounds.empty, len(some))
        for b, node in enumerate(some):
            if empty[b]:
                continue
            for group in node.groups:
                members = list(goal.groups[group])
                distances = ball.distance(rows.coefficients[b, members], rows.constant[b, members])
                nearest = min(nearest, inward(float(distances.max()), question.shift))
    return nearest


def _close(goal: Goal, proof: Proof | None) -> None:
    """Say of what is open in a tree that each row by itself closes its group: so it is over a smaller box."""
    stack = [(proof, frozenset[int]())] if proof is not None else []
    while stack:
        node, closed = stack.pop()
        assert node is not None
        closed |= {close.group for close in node.closes}
        if node.open:
            node.open = False
            for group, members in enumerate(goal.groups):
                if group not in closed and len(members) == 1:
                    node.closes.append(Close(group, (1,)))
        stack += [(child, closed) for child in node.children]
