"""The lower end of an l2, l1 or l0 radius: branch and bound on the distance itself.

A node is a box and a set of signs of neurons; boxes are cut where there are few inputs, but for l0. Its key is a lower
bound on the distance from x of the nearest point in it that could reach a group: each linear bound c . x + k of a
group's row leaves a half-space, whose distance is known (:meth:`optverify.norms.Ball.distance`). The least key
is taken first, so that at any time the least key of what is open is a lower end of the radius. Bounds of neurons are
those over the ball, by the dual norm, just inside the best counterexample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify import solvers
from optverify.bounds.ascent import ascend
from optverify.bounds.crown import crown, output_bounds
from optverify.formulations.program import Block, Cone, Program
from optverify.formulations.reduced import Reduced, reduced
from optverify.interval import Array, Interval
from optverify.measures.cubes import Lower
from optverify.measures.polish import squared
from optverify.measures.question import Question, inward, outward_radius
from optverify.norms import Cut
from optverify.preactivation import Bounds
from optverify.proof import Advice, Close, InputSplit, NeuronSplit, Proof, Split
from optverify.query import Goal
from optverify.region import Box
from optverify.rounding import advice
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, Stored
from optverify.search.attack import group_values
from optverify.search.branching import Hybrid, Nodes
from optverify.search.expand import Method
from optverify.search.leaf import whole
from optverify.search.node import Node, boxes, divide, known_bounds
from optverify.solvers import CONIC

BATCH = 32
"""Nodes that are bounded together."""

SPARE = 1 / 16
"""Part of the gap that is left to a certificate."""

FEW = 4
"""Nodes with at most this many unstable neurons go to a linear program."""


@dataclass(frozen=True, eq=False)
class Open:
    """A node that is left.

    Parameters
    ----------
    key : float
        No point of the node nearer to the ball's centre reaches a group.
    node : Node
    proof : Proof
    """

    key: float
    node: Node
    proof: Proof


@dataclass(frozen=True, eq=False)
class Found:
    """A distance at which a group can be reached in a node, at the earliest, and what shows it."""

    distance: float
    close: Close


Reasons = dict[Proof, dict[int, Found]]
"""For each node and group."""


def prove(
    question: Question,
    gap: float,
    method: Method,
    deadline: float,
    rng: np.random.Generator,
    report: Callable[[float, int], None] | None = None,
) -> Lower:
    """Bound the distance of the nearest counterexample from below; see :func:`optverify.measures.cubes.prove`.

    For a certificate a part of the gap is spared: bounds here are all tight, and what a checker loses by rounding must
    not matter.
    """
    spare = SPARE * gap if method.proof and question.norm != "0" else 0.0
    found = Tree(question, gap - spare, method.solver, rng, report, proof=method.proof).run(deadline)
    if found.radius < question.furthest():
        found = replace(found, radius=found.radius * (1.0 - 0.5 * spare))
    assert found.proof is not None
    trim(found.proof, question.region(found.radius))
    return found


class Tree:
    """A search for the lower end of a radius.

    Parameters
    ----------
    question : Question
        Learns of nearer counterexamples.
    gap : float
        Relative; for "0" the end is exact.
    solver : str or Solver or None
    rng : numpy.random.Generator
    report : callable, optional
        Called with the lower end so far and the number of nodes.
    proof : bool
        Whether the tree becomes a certificate.
    """

    def __init__(
        self,
        question: Question,
        gap: float,
        solver: str | solvers.Solver | None,
        rng: np.random.Generator,
        report: Callable[[float, int], None] | None = None,
        *,
        proof: bool = False,
    ) -> None:
        self.question, self.gap, self.solver, self.rng, self.report = question, gap, solver, rng, report
        self.proof = proof
        self.goal = question.goal
        # A count is the same on most of a box: cutting it gains nothing.
        self.strategy = Hybrid(few_inputs=0) if question.norm == "0" else Hybrid()
        self.nodes = self.programs = 0
        self._number = count()
        self._open: list[tuple[float, int, Open]] = []
        self._away: list[Open] = []
        self._stuck: list[Open] = []
        self._reasons: Reasons = {}

    def run(self, deadline: float) -> Lower:
        """Search until the gap is closed or the time is over; Ctrl-C leaves what is proved."""
        box, root, stop = self.question.ball.box, Proof(), ""
        self._push(Open(0.0, Node(box.lower, box.upper, (), tuple(range(len(self.goal.groups)))), root))
        self._reasons[root] = self._at_centre()
        try:
            while self._open and self._lower() < self._wanted():
                if time.monotonic() > deadline:
                    stop = "time limit"
                    break
                self._round()
                if self.report is not None:
                    self.report(self._lower(), self.nodes)
        except KeyboardInterrupt:
            stop = "interrupted"
        lower = self._lower()
        if not stop and lower < self._wanted():
            stop = "some part with all signs fixed could not be decided"
        prune(root, self._reasons, outward_radius(lower, self.question.shift))
        return Lower(lower, "branch and bound on the distance", stop, root, self.nodes, self.programs)

    def _at_centre(self) -> dict[int, Found]:
        """Return what should close each group at x itself, which is at most the shift from the ball's centre."""
        with np.errstate(all="ignore"):
            values, found = self.goal.network(self.question.ball.centre), dict[int, Found]()
        for group, members in enumerate(self.goal.groups):
            largest = int(np.argmax(values[list(members)]))
            found[group] = Found(self.question.shift, Close(group, _unit(largest, len(members))))
        return found

    def _wanted(self) -> float:
        return self.question.wanted(self.gap)

    def _lower(self) -> float:
        """Return what is proved: the least key of what is not closed, in terms of distances from x."""
        keys = [left.key for left in (*self._away, *self._stuck)] + [key for key, _, _ in self._open[:1]]
        return min(self._wanted(), inward(min(keys, default=inf), self.question.shift))

    def _push(self, left: Open) -> None:
        heappush(self._open, (left.key, next(self._number), left))

    def _round(self) -> None:
        ball = self.question.ball.within(outward_radius(self._wanted(), self.question.shift))
        # Whenever an interrupt comes, each node is in one of the lists, or what became of it is.
        while self._open and len(self._away) < min(BATCH, self.nodes + 1):
            left = self._open[0][-1]
            if left.key < ball.radius:
                self._away.append(left)
            heappop(self._open)
        if self._away:
            for child in self._expand(ball):
                self._push(child)
        self._away = []

    def _expand(self, ball: Cut) -> list[Open]:
        """Bound the nodes at hand; return what is left of them, divided."""
        some = [left.node for left in self._away]
        self.nodes += len(some)
        region = ball.over(boxes(some))
        region = region.over(region.outer)
        bounds, frame = crown(self.goal.network, region, known_bounds(some))
        rows = output_bounds(frame)
        empty = region.outside | region.empty.any(axis=-1) | bounds.empty
        kept: list[Open] = []
        here: list[int] = []
        wanted = np.zeros(rows.value.shape)
        for b, left in enumerate(self._away):
            if empty[b]:
                left.proof.empty = True
                continue
            found = {group: self._found(region.take(b), frame, b, group, rows) for group in left.node.groups}
            left = self._left(left, found, ball.radius)
            wanted[b, [row for group in left.node.groups for row in self.goal.groups[group]]] = 1.0
            if left.node.groups:
                layers = tuple(z.take(b) for z in bounds.layers)
                kept.append(replace(left, node=replace(left.node, layers=layers)))
                here.append(b)
        return self._split(region, frame, bounds, rows, wanted, here, kept) if kept else []

    def _left(self, left: Open, found: dict[int, Found], radius: float) -> Open:
        """Return a node with the groups that may be reached within the radius; remember why others are not."""
        reasons = self._reasons.setdefault(left.proof, {})
        for group, one in found.items():
            if group not in reasons or one.distance > reasons[group].distance:
                reasons[group] = one
        groups = {g: max(left.key, reasons[g].distance) for g in found}
        groups = {g: distance for g, distance in groups.items() if distance < radius}
        return Open(min(groups.values(), default=inf), replace(left.node, groups=tuple(groups)), left.proof)

    def _found(self, region: Cut, frame: Frame, b: int, group: int, rows: LinearBounds) -> Found:
        """Bound the distance at which a group is reached in a node."""
        members = list(self.goal.groups[group])
        distances = region.distance(rows.coefficients[b, members], rows.constant[b, members])
        first = int(np.argmax(distances))
        found = Found(float(distances[first]), Close(group, _unit(first, len(members))))
        outputs = frame.network.n_outputs
        if self.proof:
            used = Used()
            frame.take([b]).lower(np.eye(outputs)[[members[first]]], used)
            fixed = given([used.g[k] for k in range(len(used.g))], frame.network.masks)
            found = replace(found, close=replace(found.close, advice=fixed))
        if found.distance < region.radius:
            worst, part = int(np.argmax(rows.value[b, members])), frame.take([b])
            objective = np.eye(outputs)[[members[worst]]]
            multipliers = ascend(part, objective, lowest=region.lowest)
            better = part.lower(objective[:, None], multipliers)
            distance = float(region.distance(better.coefficients[0], better.constant[0])[0])
            if distance > found.distance:
                g = [values[0, 0] for values in multipliers.g]
                found = Found(distance, Close(group, _unit(worst, len(members)), given(g, frame.network.masks)))
        return found

    def _split(
        self,
        region: Cut,
        frame: Frame,
        bounds: Bounds,
        rows: LinearBounds,
        wanted: Array,
        here: list[int],
        kept: list[Open],
    ) -> list[Open]:
        self._try_points(region, rows, wanted, here)
        nodes = Nodes(frame.take(here), bounds.take(here), rows.take(here), wanted[here])
        unstable = sum((u.sum(axis=-1) for u in nodes.bounds.unstable(frame.network)), np.zeros(len(here), int))
        children: list[Open] = []
        for k, (split, b, left) in enumerate(zip(self.strategy.choose(nodes), here, kept, strict=True)):
            if self.solver is not None and unstable[k] <= FEW and region.radius < inf:
                left, split = self._by_program(region.take(b), frame.take([b]), bounds.take(b), left, split)
                if not left.node.groups:
                    continue
            if split is None:
                self._stuck.append(left)
            else:
                halves = (Proof(), Proof())
                left.proof.split, left.proof.children = split, halves
                pairs = zip(divide(left.node, split), halves, strict=True)
                children += [Open(left.key, child, proof) for child, proof in pairs]
        return children

    def _try_points(self, region: Cut, rows: LinearBounds, wanted: Array, here: list[int]) -> None:
        """Look for nearer counterexamples where the linear bounds come to 0 first."""
        b, row = np.nonzero(wanted[here])
        at = np.array(here)[b]
        points = region.take(at).nearest(rows.coefficients[at, row], rows.constant[at, row])[:BATCH]
        with np.errstate(all="ignore"):
            values = np.nan_to_num(group_values(self.goal, self.goal.network(points)).min(axis=1), nan=inf)
        self.question.attack(self.rng, list(points[np.argsort(values)[:2]]), random=False)

    def _by_program(
        self, region: Cut, frame: Frame, bounds: Bounds, left: Open, split: Split | None
    ) -> tuple[Open, Split | None]:
        """Bound each group of a node by a program; return what is left, and where to split."""
        found: dict[int, Found] = {}
        for group in left.node.groups:
            assert self.solver is not None
            one, point, worst = program_distance(region, frame, bounds, self.goal, group, self.solver)
            self.programs += 1
            if point is not None:
                self.question.offer(point)
            found[group] = one or self._reasons[left.proof][group]
            if found[group].distance < region.radius:
                split = worst or split
        return self._left(left, found, region.radius), split


def prune(root: Proof, reasons: Reasons, radius: float) -> None:
    """Close each group where its distance is large enough first, and leave out what is below where all are closed."""
    stack = [(root, frozenset(reasons[root]))]
    while stack:
        node, left = stack.pop()
        done = {group: one.close for group, one in reasons.get(node, {}).items() if one.distance >= radius}
        node.closes, left = [done[group] for group in done if group in left], left.difference(done)
        if not left:
            node.split, node.children = None, ()
        stack += [(child, left) for child in node.children]


def trim(root: Proof, box: Box) -> None:
    """Leave out cuts that do not go through the box: the search had a larger one."""
    stack = [(root, list(box.lower), list(box.upper))]
    while stack:
        node, lower, upper = stack.pop()
        while (
            isinstance(node.split, InputSplit) and not lower[node.split.index] < node.split.at < upper[node.split.index]
        ):
            only = node.children[int(node.split.at <= lower[node.split.index])]
            node.closes, node.empty = node.closes + only.closes, node.empty or only.empty
            node.split, node.children = only.split, only.children
        for child, ends in zip(node.children, (upper, lower), strict=True) if node.children else ():
            low, high = list(lower), list(upper)
            if isinstance(node.split, InputSplit):
                (high if ends is upper else low)[node.split.index] = Fraction(node.split.at)
            stack.append((child, low, high))


def _unit(index: int, size: int) -> tuple[int, ...]:
    return tuple(int(i == index) for i in range(size))


@dataclass(frozen=True, eq=False)
class Used:
    """The rule, and what it says: over a smaller ball, with better bounds, it would not say the same."""

    g: dict[int, Array] = field(default_factory=dict)

    def __call__(self, relu: int, v: Array, z: Interval) -> Array:
        """Return g for one Relu layer; see :class:`optverify.safe.multipliers.Multipliers`."""
        found = Slopes()(relu, v, z)
        self.g[relu] = np.where((z.lower < 0) & (z.upper > 0), found[:, 0], np.nan)[0]
        return found


def given(g: Sequence[Array], masks: Sequence[NDArray[np.bool_]]) -> Advice | None:
    """Return multipliers as a certificate stores them, in full; NaN stands for the rule."""
    return advice([np.full(values.shape, np.nan) for values in g], g, masks)


def program_distance(
    region: Cut,
    frame: Frame,
    bounds: Bounds,
    goal: Goal,
    group: int,
    solver: str | solvers.Solver,
) -> tuple[Found | None, Array | None, NeuronSplit | None]:
    """Bound the distance at which a group is reached in a node by the triangle relaxation, cut by the ball.

    An l0 ball is given by a convex set around it. Only the multipliers are taken from the program.

    Returns
    -------
    Found or None
        Rigorous.
    (n_inputs,) float64 or None
        The program's point.
    NeuronSplit or None
        The neuron that it violates most.
    """
    rows = goal.groups[group]
    relaxation = reduced(frame.network, region, bounds, rows)
    solution = solvers.get(CONIC if region.norm == "2" else solver).solve(_with_ball(relaxation, region))
    best, kept = None, relaxation.program.n_rows
    for vector, ray in ((solution.dual, False), (solution.ray, True)):
        found = relaxation.multipliers(None if vector is None else vector[:kept], ray=ray)
        if found is None:
            continue
        weights, g = whole(*found)
        objective = np.zeros((1, 1, frame.network.n_outputs))
        objective[0, 0, list(rows)] = weights
        bound = frame.lower(objective, Stored(g))
        distance = float(region.distance(bound.coefficients[0], bound.constant[0])[0])
        if best is None or distance > best.distance:
            best = Found(distance, Close(group, tuple(weights.tolist()), given(g, frame.network.masks)))
    if solution.primal is None:
        return best, None, None
    return best, solution.primal[: region.centre.size], relaxation.worst_neuron(solution.primal)


def _with_ball(relaxation: Reduced, ball: Cut) -> Program:
    """Add the ball to a relaxation, with a variable s_i for the share that each input has of the radius.

    "1": |d_i| <= s_i, sum s_i <= R. "2": (d_i / R)^2 <= s_i, sum s_i <= 1, a second-order cone taken apart into
    semidefinite ones of order 2. "0": |d_i| <= s_i times the width of the box, sum s_i <= R.
    """
    from scipy.sparse import block_array, csr_array, eye_array

    program, n = relaxation.program, ball.centre.size
    A: Any = csr_array(program.A)
    matrix: Any
    total: Any = csr_array(np.ones((1, n)))
    start = A.shape[0]
    if ball.norm == "2":
        squares, cones, blocks = squared(ball.centre, ball.radius, A.shape[1], start + 1)
        matrix = block_array([[A, None], [None, total], [squares[0], squares[1]]])
        right = np.concatenate([[1.0], cones])
        blocks = {"radius": Block(start, start + 1, Cone.NONNEG), **blocks}
    else:
        with np.errstate(over="ignore"):
            extent = np.clip(ball.outer.upper - ball.outer.lower, 1e-300, np.finfo(float).max)
        width = np.ones(n) if ball.norm == "1" else extent
        pick = csr_array((1.0 / width, (np.arange(n), np.arange(n))), shape=(n, A.shape[1]))
        identity: Any = eye_array(n)
        matrix = block_array([[A, None], [pick, -identity], [-pick, -identity], [None, total]])
        middle = ball.centre / width
        right = np.concatenate([middle, -middle, [ball.radius]])
        blocks = {"ball": Block(start, start + 2 * n + 1, Cone.NONNEG)}
    return Program(
        np.concatenate([program.c, np.zeros(n)]),
        csr_array(matrix),
        np.concatenate([program.b, right]),
        {**program.rows, **blocks},
        np.concatenate([program.lower, np.zeros(n)]),
        np.concatenate([program.upper, np.full(n, ball.radius if ball.norm == "1" else 1.0)]),
        program.c0,
        name="triangle in a ball",
    )
