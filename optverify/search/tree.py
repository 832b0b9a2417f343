"""Branch and bound: a tree of boxes and neuron signs, many open nodes bounded at once.

A node is a box, the pre-activation bounds that hold on it (cut at 0 by the neuron splits on its path) and
the groups of rows that are still open. It is closed when a rigorous bound shows that every point of it has,
for each group, max over the group's rows > threshold. Children cover their parent, so a tree without open
nodes is a proof. Bounds come from :mod:`optverify.bounds.crown`, conjunctions from a weighted mean of rows,
and hard nodes from the linear program's duals; all of them pass through :mod:`optverify.safe.multipliers`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optverify.bounds.ascent import ascend
from optverify.bounds.crown import MAX_ENTRIES, crown, output_bounds
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import Close, InputSplit, Proof, Split
from optverify.query import Goal
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, mean_bound
from optverify.search import attack
from optverify.search.branching import Branching, Hybrid, Nodes
from optverify.search.leaf import program_bound
from optverify.solvers.solution import Solver

DESCENTS = 8
"""Points of each batch from which a short descent starts, and as many random ones."""

SOLVED = 1e-7
"""A program without unstable neurons is the node itself; a claim this near the threshold will not improve."""

MAX_STUCK = 100
"""Nodes without hope after which the search ends: the unsafe set touches the region along a whole face."""


class Stop(Enum):
    """Why the search ended."""

    CLOSED = "every node closed"
    FOUND = "the target was reached"
    TIME = "time limit"
    INTERRUPTED = "interrupted"
    STUCK = "the least value equals the threshold to within rounding: neither side can be proved"


class Target(Protocol):
    """What the search is for."""

    threshold: float
    """Nodes whose rigorous lower bound is above this are closed. May fall during the search."""

    def offer(self, value: float, point: Array) -> bool:
        """Consider a point of the region with this (floating) value; return True to end the search."""


@dataclass(frozen=True)
class Progress:
    """A line of the search's diary.

    Parameters
    ----------
    nodes : int
        Bounded so far.
    open : int
        Waiting.
    lower : float
        Proved so far: no point of the region has a smaller value.
    upper : float
        Least value seen at a point (floating, a claim).
    closed : float
        Share of the tree that is closed, 0 to 1, each split halving its node's share.
    seconds : float
    """

    nodes: int
    open: int
    lower: float
    upper: float
    closed: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a search ended.

    Parameters
    ----------
    stop : Stop
    progress : Progress
        Its last line; `lower` is rigorous.
    best : Best
        The most promising point.
    programs : int
        Linear programs solved.
    """

    stop: Stop
    progress: Progress
    best: attack.Best
    programs: int


@dataclass(frozen=True, eq=False)
class Node:
    """An open node."""

    lower: Array
    upper: Array
    layers: tuple[Interval, ...]
    groups: tuple[int, ...]
    value: float
    depth: int
    proof: Proof | None = None

    @property
    def share(self) -> float:
        """Its part of the tree."""
        return 2.0**-self.depth


@dataclass
class Step:
    """What one batch did. Kept apart until it is complete, so that an interrupt loses a batch and no more."""

    children: list[Node] = field(default_factory=list)
    closed_lower: float = np.inf
    closed_share: float = 0.0
    stuck: int = 0
    found: bool = False

    def close(self, lower: float, share: float) -> None:
        """Record a proved bound that closes something, and the share of the tree that it closes."""
        self.closed_lower = min(self.closed_lower, lower)
        self.closed_share += share


@dataclass
class Search:
    """One run of branch and bound over a goal.

    Parameters
    ----------
    goal : Goal
    target : Target
    strategy : Branching
    best_first : bool
        Take the node with the least bound first (to raise the lower bound) instead of the deepest (least
        memory).
    batch : int
        Most nodes bounded at once.
    report : callable, optional
        Called with :class:`Progress` after each batch.
    solver : str or Solver or None
        For the linear programs; None uses none.
    best : Best
        The most promising point so far, from an attack.
    proof : Proof, optional
        Root of a tree in which to write down what closes each node.
    ascent : bool
        Improve the multipliers of nodes that stay open by a few steps of ascent.
    """

    goal: Goal
    target: Target
    strategy: Branching = field(default_factory=Hybrid)
    best_first: bool = False
    batch: int = 64
    report: Callable[[Progress], None] | None = None
    solver: str | Solver | None = "highs"
    best: attack.Best = field(default_factory=attack.Best)
    proof: Proof | None = None
    ascent: bool = True

    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0), init=False)
    _open: list[Node] = field(default_factory=list, init=False)
    _closed_lower: float = field(default=np.inf, init=False)
    _closed_share: float = field(default=0.0, init=False)
    _stuck: int = field(default=0, init=False)
    _nodes: int = field(default=0, init=False)
    _programs: int = field(default=0, init=False)

    def run(self, time_limit: float = np.inf) -> Outcome:
        """Search until the tree is closed, the target ends it, or time runs out.

        Ctrl-C ends it too and leaves what was proved.

        Parameters
        ----------
        time_limit : float, seconds
        """
        self._started = time.monotonic()
        deadline = self._started + time_limit
        region = self.goal.region.outward
        self._open = [Node(region.lower, region.upper, (), tuple(range(len(self.goal.groups))), -np.inf, 0, self.proof)]
        taken: list[Node] = []
        try:
            stop = Stop.FOUND if self._offer() else None
            while self._open and stop is None:
                if time.monotonic() > deadline:
                    stop = Stop.TIME
                    break
                # An interrupt may come between any two of these steps: nodes are in one list too many
                # rather than in none, so that the bound that it leaves still covers all of them.
                taken = self._next()
                del self._open[-len(taken) :]
                step = self._expand(taken, deadline)
                self._closed_lower = min(self._closed_lower, step.closed_lower)
                self._open += step.children
                taken = []
                self._closed_share += step.closed_share
                self._stuck += step.stuck
                if step.found:
                    stop = Stop.FOUND
                elif self._stuck > MAX_STUCK:
                    stop = Stop.STUCK
                if self.report is not None:
                    self.report(self.progress())
        except KeyboardInterrupt:
            self._open += taken  # not expanded: they are still open
            stop = Stop.INTERRUPTED
        if stop is None:
            stop = Stop.STUCK if self._stuck else Stop.CLOSED
        return Outcome(stop, self.progress(), self.best, self._programs)

    def progress(self) -> Progress:
        """Return the state of the search."""
        lower = min([self._closed_lower, *(node.value for node in self._open)])
        return Progress(
            self._nodes,
            len(self._open),
            float(lower),
            self.best.value,
            self._closed_share,
            time.monotonic() - self._started,
        )

    def _next(self) -> list[Node]:
        """Return the next batch of open nodes, the last ones of the list."""
        network = self.goal.network
        size = max(1, min(self.batch, MAX_ENTRIES // (2 * max(network.sizes) ** 2), self._nodes + 1))
        if self.best_first:
            self._open.sort(key=lambda node: -node.value)
        return self._open[-size:]

    def _expand(self, taken: list[Node], deadline: float) -> Step:
        """Bound a batch of nodes; close, split or keep each of them."""
        step, threshold = Step(), self.target.threshold
        region = Interval(np.stack([n.lower for n in taken]), np.stack([n.upper for n in taken]))
        bounds, frame = crown(self.goal.network, region, _stack([n.layers for n in taken]))
        rows = output_bounds(frame)
        self._nodes += len(taken)
        values, wanted, weights, advised = self._group_bounds(taken, frame, rows, bounds.empty)
        kept: list[int] = []
        still_open: list[Node] = []
        for b, node in enumerate(taken):
            value = {g: max(node.value, float(values[b, g])) for g in node.groups}
            groups = tuple(g for g in node.groups if not closes(value[g], threshold))
            if node.proof is not None:
                node.proof.closes += [
                    Close(g, tuple(weights[g][b].tolist()), advised.get((b, g))) for g in node.groups if g not in groups
                ]
                node.proof.empty = bool(bounds.empty[b])
            step.close(
                min((value[g] for g in node.groups if g not in groups), default=np.inf), 0.0 if groups else node.share
            )
            if groups:
                kept.append(b)
                layers = tuple(Interval(z.lower[b], z.upper[b]) for z in bounds.layers)
                still_open.append(replace(node, layers=layers, groups=groups, value=min(value[g] for g in groups)))
        if kept:
            some = Nodes(frame.take(kept), bounds.take(kept), rows.take(kept), wanted[kept])
            step.found = self._try_points(some)
            if step.found:
                step.children = still_open
            else:
                self._branch(still_open, some, deadline, step)
        return step

    def _group_bounds(
        self, taken: list[Node], frame: Frame, rows: LinearBounds, empty: NDArray[np.bool_]
    ) -> tuple[Array, Array, list[NDArray[np.int64]], dict[tuple[int, int], tuple[Array, ...]]]:
        """Bound max over each open group's rows from below.

        Returns the bounds, (B, groups), which rows matter for what stays open, (B, rows), for each group the
        weights of its rows behind the bound, (B, rows of the group), and the multipliers where they are not the
        rule's.
        """
        advised: dict[tuple[int, int], tuple[Array, ...]] = {}
        weights = [np.zeros((len(taken), len(members)), np.int64) for members in self.goal.groups]
        shape = (len(taken), len(self.goal.groups))
        values, wanted = np.full(shape, np.inf), np.zeros(rows.value.shape)
        is_open = np.zeros(shape, bool)
        for b, node in enumerate(taken):
            is_open[b, list(node.groups)] = True
        for g, members in enumerate(self.goal.groups):
            here = np.flatnonzero(is_open[:, g])
            index = np.ix_(here, np.array(members))
            value = rows.value[index].max(axis=1)
            weights[g][here, rows.value[index].argmax(axis=1)] = 1
            hard = here[~(value > self.target.threshold)]
            if len(members) > 1 and hard.size:
                mu = mixing_weights(rows.take(np.ix_(hard, np.array(members))), frame.region.take(hard))
                mean = weighted_bound(frame.take(hard), members, mu)
                better = mean > value[np.isin(here, hard)]
                value[np.flatnonzero(np.isin(here, hard))[better]] = mean[better]
                weights[g][hard[better]] = mu[better]
            values[here, g] = value
            hard = here[~(value > self.target.threshold)]
            if self.ascent and hard.size:
                part, mu = frame.take(hard), weights[g][hard]
                objective = np.zeros((len(hard), frame.network.n_outputs))
                objective[:, list(members)] = mu
                found = ascend(part, objective)
                value = mean_bound(part.lower(objective[:, None, :], found).value[:, 0], mu.astype(np.float64))
                values[hard, g] = np.maximum(values[hard, g], value)
                advised |= {(int(b), g): tuple(a[i, 0] for a in found.g) for i, b in enumerate(hard)}
                value = values[here, g]
            stay = here[~(value > self.target.threshold)]
            wanted[np.ix_(stay, np.array(members))] += 1.0
        values[empty] = np.inf
        return values, wanted, weights, advised

    def _try_points(self, nodes: Nodes) -> bool:
        """Try the middle of each open node and the corner where its worst row's bound is least; descend a little."""
        low, high = nodes.frame.region.lower, nodes.frame.region.upper
        worst = np.where(nodes.wanted > 0, nodes.rows.value, np.inf).argmin(axis=1)
        slope = nodes.rows.coefficients[np.arange(len(worst)), worst]
        corner = np.where(slope > 0, low, high)
        middle = 0.5 * low + 0.5 * high
        points = np.vstack([middle, corner])
        values = attack.evaluate(self.goal, points, self.best).min(axis=1)
        nearest = points[np.argsort(values)[:DESCENTS]]
        region = self.goal.region.outward
        # Fresh points too: the nearest ones may all lie in the basin of one local minimum.
        starts = np.vstack([nearest, attack.random_points(region, DESCENTS, self._rng)])
        attack.projected_gradient(self.goal, region, starts, self.best, steps=20, stop_at=self._stop_at)
        return self._offer()

    @property
    def _stop_at(self) -> float:
        """Value at which a descent has found what it was sent for: none where the least value is sought."""
        return -np.inf if self.best_first else 0.0

    def _offer(self) -> bool:
        """Let the target decide about the best point."""
        point = self.best.point
        return point is not None and self.target.offer(self.best.value, point)

    def _branch(self, still_open: list[Node], some: Nodes, deadline: float, step: Step) -> None:
        """Give hard nodes to the linear program and split what stays open."""
        unstable = some.bounds.unstable(self.goal.network)
        count = sum((u.sum(axis=-1) for u in unstable), np.zeros(len(still_open), int))
        for b, (node, split) in enumerate(zip(still_open, self.strategy.choose(some), strict=True)):
            if step.found or time.monotonic() > deadline:
                step.children.append(node)  # unsplit: it stays open
                continue
            if self.solver is not None and self.strategy.wants_program(int(count[b])):
                leaf = self._leaf(node, deadline, step)
                if not leaf.node.groups:
                    step.close(np.inf, node.share)
                    continue
                hopeless = (
                    not count[b]
                    and np.isfinite(leaf.claim)
                    and abs(leaf.claim - self.target.threshold) <= SOLVED * (1.0 + abs(leaf.claim))
                )
                node, split = leaf.node, None if hopeless else leaf.split or split
            if split is None:
                step.stuck += 1
                step.close(node.value, 0.0)
                continue
            step.children += divide(node, split)

    def _leaf(self, node: Node, deadline: float, step: Step) -> Tried:
        """Close groups of a node by the linear program; return what stays open and a better split."""
        assert self.solver is not None
        still: dict[int, float] = {}
        split: Split | None = None
        claim = np.inf
        for g in node.groups:
            left = deadline - time.monotonic()
            region, bounds = Interval(node.lower, node.upper), Bounds(node.layers)
            leaf = program_bound(self.goal, region, bounds, g, self.solver, left, self.proof is not None)
            self._programs += 1
            value = max(leaf.lower, node.value)
            if closes(value, self.target.threshold):
                step.close(value, 0.0)
                if node.proof is not None:
                    node.proof.closes.append(Close(g, leaf.weights, leaf.g))
                continue
            still[g] = value
            split, claim = leaf.split or split, min(claim, leaf.claim)
            if leaf.point is not None:
                attack.from_point(self.goal, leaf.point, self.best, self._stop_at)
                step.found = step.found or self._offer()
        return Tried(replace(node, groups=tuple(still), value=min(still.values(), default=node.value)), split, claim)


@dataclass(frozen=True)
class Tried:
    """What the linear programs left of a node, and the least value that they claim for it."""

    node: Node
    split: Split | None
    claim: float


def closes(value: float, threshold: float) -> bool:
    """Tell whether a rigorous bound closes a group; +inf says that no point is left, whatever the threshold."""
    return value > threshold or value == np.inf


def divide(node: Node, split: Split) -> list[Node]:
    """Return the two children, which cover the node."""
    children = _halves(node, split)
    if node.proof is not None:
        node.proof.split, node.proof.children = split, (Proof(), Proof())
        return [replace(child, proof=proof) for child, proof in zip(children, node.proof.children, strict=True)]
    return children


def _halves(node: Node, split: Split) -> list[Node]:
    if isinstance(split, InputSplit):
        upper, lower = node.upper.copy(), node.lower.copy()
        upper[split.index] = lower[split.index] = split.at
        return [replace(node, upper=upper, depth=node.depth + 1), replace(node, lower=lower, depth=node.depth + 1)]
    children = []
    for active in (False, True):
        z = node.layers[split.relu]
        low, high = z.lower.copy(), z.upper.copy()
        if active:
            low[split.index] = max(low[split.index], 0.0)
        else:
            high[split.index] = min(high[split.index], 0.0)
        layers = (*node.layers[: split.relu], Interval(low, high), *node.layers[split.relu + 1 :])
        children.append(replace(node, layers=layers, depth=node.depth + 1))
    return children


def weighted_bound(frame: Frame, members: tuple[int, ...], mu: NDArray[np.int64]) -> Array:
    """Bound the largest of some rows from below by their mean with weights mu, (B, rows of the group)."""
    objective = np.zeros((len(mu), 1, frame.network.n_outputs))
    objective[:, 0, list(members)] = mu
    return mean_bound(frame.lower(objective, Slopes()).value[:, 0], mu.astype(np.float64))


def mixing_weights(rows: LinearBounds, region: Interval, steps: int = 25) -> NDArray[np.int64]:
    """Look for mu >= 0 that makes the least of mu . (coefficients x + constant) over the box large.

    Parameters
    ----------
    rows : LinearBounds
    region : Interval, ends of shape (B, n)
    steps : int

    Returns
    -------
    (B, r) int, 0 to 255, not all 0
        Best weights found. Advice only; whole numbers, so that a proof can store them exactly.

    Notes
    -----
    The box minimum of a mean is concave in mu; exponentiated subgradient steps (Beck and Teboulle, Oper.
    Res. Lett. 31, 2003) with the best iterate kept.
    """
    with np.errstate(all="ignore"):
        centre = 0.5 * region.lower + 0.5 * region.upper
        radius = 0.5 * region.upper - 0.5 * region.lower
        count = rows.value.shape[1]
        middle = np.einsum("brn,bn->br", rows.coefficients, centre) + rows.constant
        mu = np.full(middle.shape, 1.0 / count)
        best, best_value = mu, np.full(len(mu), -np.inf)
        for step in range(steps):
            slope = np.einsum("br,brn->bn", mu, rows.coefficients)
            value = (mu * middle).sum(axis=1) - (np.abs(slope) * radius).sum(axis=1)
            better = value > best_value
            best_value = np.where(better, value, best_value)
            best = np.where(better[:, None], mu, best)
            gradient = middle - np.einsum("brn,bn->br", rows.coefficients, np.sign(slope) * radius)
            spread = gradient - gradient.mean(axis=1, keepdims=True)
            scale = np.maximum(np.abs(spread).max(axis=1, keepdims=True), 1e-300)
            mu = mu * np.exp(1.5 * spread / scale / np.sqrt(step + 1))
            mu = mu / mu.sum(axis=1, keepdims=True)
        whole: NDArray[np.int64] = np.rint(255 * np.nan_to_num(best / best.max(axis=1, keepdims=True))).astype(np.int64)
        whole[~whole.any(axis=1)] = 1
        return whole


def _stack(layers: list[tuple[Interval, ...]]) -> Bounds | None:
    if not layers[0]:
        return None
    return Bounds(
        tuple(
            Interval(np.stack([z.lower for z in ks]), np.stack([z.upper for z in ks]))
            for ks in zip(*layers, strict=True)
        )
    )
