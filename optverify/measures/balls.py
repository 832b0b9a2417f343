"""The lower end of an l2, l1 or l0 radius: branch and bound on the distance itself.

A node is a box and a set of signs of neurons; boxes are cut where there are few inputs, but for l0. Its key is a lower
bound on the distance from x of the nearest point in it that could reach a group: each linear bound c . x + k of a
group's row leaves a half-space, whose distance is known (:meth:`optverify.measures.norms.Ball.distance`). The least key
is taken first, so that at any time the least key of what is open is a lower end of the radius. Bounds of neurons are
those over the ball, by the dual norm, just inside the best counterexample.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

import numpy as np

from optverify import solvers
from optverify.bounds.ascent import ascend
from optverify.formulations.program import Block, Cone, Program
from optverify.formulations.reduced import Reduced, reduced
from optverify.interval import Array, Interval
from optverify.measures.norms import Ball
from optverify.measures.polish import squared
from optverify.measures.question import Question, inward, outward_radius
from optverify.network import Network, Relu
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit, Split
from optverify.query import Goal
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, Stored, Unit
from optverify.search.attack import group_values
from optverify.search.branching import Hybrid, Nodes
from optverify.search.node import Node, divide, known_bounds
from optverify.solvers import CONIC

BATCH = 32
"""Nodes that are bounded together."""

FEW = 4
"""Nodes with at most this many unstable neurons go to a linear program."""


@dataclass(frozen=True, eq=False)
class Reach:
    """How far the tree got.

    Parameters
    ----------
    radius : float
        No point of the domain within it reaches a group.
    stop : str
        Why it is not more; empty if the gap is closed.
    nodes, programs : int
    """

    radius: float
    stop: str
    nodes: int
    programs: int


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
    """

    def __init__(
        self,
        question: Question,
        gap: float,
        solver: str | solvers.Solver | None,
        rng: np.random.Generator,
        report: Callable[[float, int], None] | None = None,
    ) -> None:
        self.question, self.gap, self.solver, self.rng, self.report = question, gap, solver, rng, report
        self.goal = question.goal
        # A count is the same on most of a box: cutting it gains nothing.
        self.strategy = Hybrid(few_inputs=0) if question.norm == "0" else Hybrid()
        self.nodes = self.programs = 0
        self.given_up = inf
        self._number = count()
        self._open: list[tuple[float, int, Node]] = []
        self._away: list[tuple[float, Node]] = []

    def run(self, deadline: float) -> Reach:
        """Search until the gap is closed or the time is over; Ctrl-C leaves what is proved."""
        hull = self.question.ball.box
        root = Node(hull.lower, hull.upper, (), tuple(range(len(self.goal.groups))))
        self._push(0.0, root)
        stop = ""
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
        return Reach(lower, stop, self.nodes, self.programs)

    def _wanted(self) -> float:
        return self.question.wanted(self.gap)

    def _lower(self) -> float:
        """Return what is proved: the least key of what is not closed, in terms of distances from x."""
        keys = [self.given_up, *(key for key, _ in self._away), *(self._open[0][:1] if self._open else ())]
        return min(self._wanted(), inward(min(keys), self.question.shift))

    def _push(self, key: float, node: Node) -> None:
        heappush(self._open, (key, next(self._number), node))

    def _round(self) -> None:
        ball = self.question.ball.within(outward_radius(self._wanted(), self.question.shift))
        while self._open and len(self._away) < min(BATCH, self.nodes + 1):
            key, _, node = self._open[0]
            if self._away and not self._same_box(node):
                break
            if key < ball.radius:
                self._away.append((key, node))
            heappop(self._open)
        if self._away:
            first = self._away[0][1]
            children = self._expand(replace(ball, box=Interval(first.lower, first.upper)))
            for key, node in children:
                self._push(key, node)
        self._away = []

    def _same_box(self, node: Node) -> bool:
        """Tell whether a node has the box of the batch: few do where inputs are split."""
        first = self._away[0][1]
        return first.lower is node.lower and first.upper is node.upper

    def _expand(self, ball: Ball) -> list[tuple[float, Node]]:
        some = [node for _, node in self._away]
        self.nodes += len(some)
        hull = ball.hull
        if hull.empty.any():
            return []
        region = Interval(np.stack([hull.lower] * len(some)), np.stack([hull.upper] * len(some)))
        bounds, frame = over(self.goal.network, ball, region, known_bounds(some))
        rows = frame.lower(np.eye(self.goal.network.n_outputs), Slopes())
        value = rows.constant + ball.least(rows.coefficients)
        empty = np.broadcast_to(bounds.empty, len(some))
        kept: list[tuple[int, float, Node]] = []
        wanted = np.zeros(value.shape)
        for b, (key, node) in enumerate(self._away):
            if empty[b]:
                continue
            left, nearest = [], inf
            for group in node.groups:
                members = list(self.goal.groups[group])
                if (value[b, members] > 0).any():
                    continue
                group_key = self._key(ball, frame, b, members, rows, key)
                if group_key < ball.radius:
                    left.append(group)
                    nearest = min(nearest, group_key)
                    wanted[b, members] = 1.0
            if left:
                layers = tuple(z.take(b) for z in bounds.layers)
                kept.append((b, nearest, replace(node, layers=layers, groups=tuple(left))))
        return self._split(ball, frame, bounds, rows, wanted, kept) if kept else []

    def _key(self, ball: Ball, frame: Frame, b: int, members: list[int], rows: LinearBounds, key: float) -> float:
        """Return how near a group can be reached in a node, at most the ball's radius."""
        found = max(key, float(ball.distance(rows.coefficients[b, members], rows.constant[b, members]).max()))
        if found >= ball.radius:
            return found
        part = frame.take([b])
        worst = members[int(np.argmax(rows.value[b, members]))]
        objective = np.eye(frame.network.n_outputs)[[worst]]
        better = part.lower(objective[:, None], ascend(part, objective, lowest=ball.lowest))
        return max(found, float(ball.distance(better.coefficients[0], better.constant[0])[0]))

    def _split(
        self,
        ball: Ball,
        frame: Frame,
        bounds: Bounds,
        rows: LinearBounds,
        wanted: Array,
        kept: list[tuple[int, float, Node]],
    ) -> list[tuple[float, Node]]:
        here = [b for b, _, _ in kept]
        self._try_points(ball, rows, wanted, here)
        nodes = Nodes(frame.take(here), bounds.take(here), rows.take(here), wanted[here])
        unstable = sum((u.sum(axis=-1) for u in nodes.bounds.unstable(frame.network)), np.zeros(len(here), int))
        children: list[tuple[float, Node]] = []
        for k, (split, (b, key, node)) in enumerate(zip(self.strategy.choose(nodes), kept, strict=True)):
            if self.solver is not None and unstable[k] <= FEW:
                key, node, split = self._by_program(ball, frame.take([b]), bounds.take(b), key, node, split)
                if not node.groups:
                    continue
            if split is None:
                self.given_up = min(self.given_up, key)
            else:
                children += [(key, child) for child in divide(node, split)]
        return children

    def _try_points(self, ball: Ball, rows: LinearBounds, wanted: Array, here: list[int]) -> None:
        """Look for nearer counterexamples where the linear bounds come to 0 first."""
        b, row = np.nonzero(wanted[here])
        points = ball.nearest(rows.coefficients[here][b, row], rows.constant[here][b, row])[:BATCH]
        with np.errstate(all="ignore"):
            values = np.nan_to_num(group_values(self.goal, self.goal.network(points)).min(axis=1), nan=inf)
        self.question.attack(self.rng, list(points[np.argsort(values)[:2]]), random=False)

    def _by_program(
        self, ball: Ball, frame: Frame, bounds: Bounds, key: float, node: Node, split: Split | None
    ) -> tuple[float, Node, Split | None]:
        """Bound each group of a node by a program; return its key, what is left and where to split."""
        left, nearest = [], inf
        for group in node.groups:
            assert self.solver is not None
            found, point, worst = program_distance(ball, frame, bounds, self.goal, group, self.solver)
            self.programs += 1
            if point is not None:
                self.question.offer(point)
            if found < ball.radius:
                left.append(group)
                nearest = min(nearest, max(key, found))
                split = worst or split
        return nearest, replace(node, groups=tuple(left)), split


def over(network: Network, ball: Ball, region: Interval, known: Bounds | None) -> tuple[Bounds, Frame]:
    """Bound every pre-activation over a ball, as :func:`optverify.bounds.crown.crown` does over boxes.

    Parameters
    ----------
    network : Network
    ball : Ball
    region : Interval, ends of shape (B, n_inputs)
        The ball's hull, B times.
    known : Bounds, (B, n_k) each, optional
    """
    frame, found = Frame(network, region), list[Interval]()
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            if known is not None:
                frame.refine(known.layers[len(found)])
            z = frame.inputs[-1]
            neurons = np.flatnonzero((layer.mask & (z.lower < 0) & (z.upper > 0)).any(axis=0))
            if neurons.size and position and not isinstance(network.layers[position - 1], Relu):
                sign = np.repeat([1.0, -1.0], neurons.size)
                rows = frame.lower(Unit(np.concatenate([neurons, neurons]), sign), Slopes())
                value = np.maximum(rows.value, rows.constant + ball.least(rows.coefficients))
                lower, upper = np.full(z.shape, -np.inf), np.full(z.shape, np.inf)
                lower[:, neurons], upper[:, neurons] = value[:, : neurons.size], -value[:, neurons.size :]
                frame.refine(Interval(lower, upper))
            found.append(frame.inputs[-1])
        frame.step()
    return Bounds(tuple(found)), frame


def program_distance(
    ball: Ball,
    frame: Frame,
    bounds: Bounds,
    goal: Goal,
    group: int,
    solver: str | solvers.Solver,
) -> tuple[float, Array | None, NeuronSplit | None]:
    """Bound the distance at which a group is reached in a node by the triangle relaxation, cut by the ball.

    An l0 ball is given by a convex set around it. Only the multipliers are taken from the program.

    Returns
    -------
    float
        Rigorous.
    (n_inputs,) float64 or None
        The program's point.
    NeuronSplit or None
        The neuron that it violates most.
    """
    rows = goal.groups[group]
    relaxation = reduced(frame.network, frame.region.take(0), bounds, rows)
    solution = solvers.get(CONIC if ball.norm == "2" else solver).solve(_with_ball(relaxation, ball))
    best, kept = 0.0, relaxation.program.n_rows
    for vector, ray in ((solution.dual, False), (solution.ray, True)):
        found = relaxation.multipliers(None if vector is None else vector[:kept], ray=ray)
        if found is None:
            continue
        objective = np.zeros((1, 1, frame.network.n_outputs))
        objective[0, 0, list(rows)] = np.nan_to_num(found[0])
        bound = frame.lower(objective, Stored(found[1]))
        best = max(best, float(ball.distance(bound.coefficients[0], bound.constant[0])[0]))
    if solution.primal is None:
        return best, None, None
    return best, solution.primal[: ball.centre.size], relaxation.worst_neuron(solution.primal)


def _with_ball(relaxation: Reduced, ball: Ball) -> Program:
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
        width = np.ones(n) if ball.norm == "1" else np.maximum(ball.hull.upper - ball.hull.lower, 1e-300)
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
