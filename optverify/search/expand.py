"""One step of the search: bound a batch of nodes, close what can be closed, look for points, split the rest.

A pure function of its arguments, so that it runs as well in another process, and again if that one dies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from optverify.bounds.ascent import ascend
from optverify.bounds.crown import crown, output_bounds
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import Advice, Close, InputSplit, Split
from optverify.query import Goal
from optverify.rounding import advice, rounded
from optverify.safe.multipliers import mean_bound
from optverify.search import attack
from optverify.search.active import Active
from optverify.search.branching import Branching, Hybrid, Nodes
from optverify.search.leaf import program_bound
from optverify.search.mixing import mixing_weights, weighted_bound
from optverify.search.node import Node, boxes, divide, known_bounds
from optverify.search.semidefinite import close_groups, promising
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solver

DESCENTS = 8
"""Points of each batch from which a short descent starts, and as many random ones."""

REACH = 1.0
"""A descent from a point of a node starts with steps of about this many times half the width of the node."""

SOLVED = 1e-7
"""A program without unstable neurons is the node itself; a claim this near the threshold will not improve."""

MIN_GAIN = 0.05
"""Ascent is left out where it brought less than this share of what was missing at the parent..."""

AGAIN = 4
"""... but tried again at every so many levels."""

ANEW = 4
"""Bounds are computed anew at every so many splits of neurons: they change little, and cost more than all the rest."""


@dataclass(frozen=True, eq=False)
class Method:
    """How nodes are worked on.

    Parameters
    ----------
    strategy : Branching
    solver : str or Solver or None
        For linear programs; None uses none.
    ascent : bool
        Improve the multipliers of nodes that stay open by a few steps of ascent.
    lift : bool
        Try the lifted semidefinite relaxation at nodes where it is worth that.
    seed : int
        For random points.
    proof : bool
        Write down what closes nodes, for a certificate or to go on later.
    stop_at : float
        Value at which a descent has found what it was sent for; -inf where the least value is sought.
    """

    strategy: Branching = field(default_factory=Hybrid)
    solver: str | Solver | None = LINEAR
    ascent: bool = True
    lift: bool = False
    proof: bool = False
    seed: int = 0
    stop_at: float = 0.0


@dataclass(frozen=True, eq=False)
class Batch:
    """Nodes to expand.

    Parameters
    ----------
    number : int
        Counts the batches of a search.
    nodes : tuple of Node
    threshold : float
        A rigorous bound above this closes a group.
    best : float
        Value of the best point so far.
    """

    number: int
    nodes: tuple[Node, ...]
    threshold: float
    best: float


@dataclass(frozen=True, eq=False)
class Fate:
    """What became of a node.

    Parameters
    ----------
    closes : tuple of Close
        Why groups are closed.
    empty : bool
        It holds no point.
    lower : float
        Least of the bounds that closed something; of a stuck node, its bound.
    split : InputSplit or NeuronSplit or None
    children : tuple of Node
        None: all is closed, or the node is stuck. One: the node itself, still open. Two: its halves.
    stuck : bool
        Nothing is left to split, and it is not closed.
    """

    closes: tuple[Close, ...]
    empty: bool
    lower: float
    split: Split | None = None
    children: tuple[Node, ...] = ()
    stuck: bool = False


@dataclass(frozen=True, eq=False)
class Expanded:
    """What became of a batch.

    Parameters
    ----------
    fates : tuple of Fate, one per node
    best : Best
        The most promising point of the batch, if it is better than the one before.
    programs : int
        Programs solved, linear and semidefinite.
    """

    fates: tuple[Fate, ...]
    best: attack.Best
    programs: int


def expand(goal: Goal, method: Method, batch: Batch, deadline: float) -> Expanded:
    """Expand a batch of nodes.

    Parameters
    ----------
    goal : Goal
    method : Method
    batch : Batch
    deadline : float, seconds of ``time.monotonic``
        Nodes that are not done by then stay open.
    """
    return _Expansion(goal, method, batch, deadline).run()


class _Expansion:
    """A batch on its way: `value` is the bound of each group, `closes` what is behind those that are closed."""

    def __init__(self, goal: Goal, method: Method, batch: Batch, deadline: float) -> None:
        self.goal, self.method, self.batch, self.deadline = goal, method, batch, deadline
        known = known_bounds(batch.nodes)
        self.active = Active.of(goal.network, known)
        anew = np.array([node.stale % ANEW == 0 for node in batch.nodes])
        self.bounds, self.frame = crown(self.active.network, boxes(batch.nodes), self.active.narrow(known), anew)
        self.rows = output_bounds(self.frame)
        self.empty = np.broadcast_to(self.bounds.empty, len(batch.nodes))
        count = len(batch.nodes)
        self.value = np.full((count, len(goal.groups)), np.inf)
        self.wanted = np.zeros(self.rows.value.shape)
        self.closes: list[list[Close]] = [[] for _ in batch.nodes]
        self.gain = np.array([node.gain for node in batch.nodes])
        self.best = attack.Best(batch.best)
        self.programs = 0

    def run(self) -> Expanded:
        """Do the whole step."""
        nodes = self.batch.nodes
        is_open = np.zeros(self.value.shape, bool)
        for b, node in enumerate(nodes):
            is_open[b, list(node.groups)] = not self.empty[b]
        for group in range(len(self.goal.groups)):
            self._bound(group, np.flatnonzero(is_open[:, group]))
        fates: dict[int, Fate] = {}
        kept: list[tuple[int, Node]] = []
        for b, node in enumerate(nodes):
            left = tuple(g for g in node.groups if not self._closed(self.value[b, g]))
            if left:
                value = max(node.value, min(float(self.value[b, g]) for g in left))
                kept.append((b, replace(node, layers=self._layers(b), groups=left, value=value, gain=self.gain[b])))
            else:
                fates[b] = self._fate(b)
        if kept:
            fates |= self._go_on(kept)
        return Expanded(tuple(fates[b] for b in range(len(nodes))), self.best, self.programs)

    def _closed(self, value: float) -> bool:
        """Tell whether a rigorous bound closes a group; +inf says that no point is left, whatever the threshold."""
        return value > self.batch.threshold or value == np.inf

    def _fate(
        self, b: int, split: Split | None = None, children: tuple[Node, ...] = (), *, stuck: bool = False
    ) -> Fate:
        node = self.batch.nodes[b]
        least = min((float(self.value[b, close.group]) for close in self.closes[b]), default=np.inf)
        least = max(least, node.value)  # a closed group keeps what was proved of it further up
        if stuck:
            least = min(least, *(max(node.value, float(self.value[b, g])) for g in node.groups))
        return Fate(tuple(self.closes[b]), bool(self.empty[b]), least, split, children, stuck)

    def _layers(self, b: int) -> tuple[Interval, ...]:
        return self.active.widen([z.take(b) for z in self.bounds.layers], self.batch.nodes[b].layers)

    # --- bounds ----------------------------------------------------------------------------------------------

    def _bound(self, group: int, here: NDArray[np.intp]) -> None:
        """Bound max over the rows of a group from below on the nodes `here`: row by row, mixed, and by ascent."""
        members = np.array(self.goal.groups[group])
        rows = self.rows.value[np.ix_(here, members)]
        value, mu = rows.max(axis=1), np.zeros(rows.shape, np.int64)
        mu[np.arange(here.size), rows.argmax(axis=1)] = 1
        hard = np.flatnonzero(~(value > self.batch.threshold))
        if members.size > 1 and hard.size:
            part = self.rows.take(np.ix_(here[hard], members))
            mixed = mixing_weights(part, self.frame.region.take(here[hard]))
            mean = weighted_bound(self.frame.take(here[hard]), tuple(members), mixed)
            better = mean > value[hard]
            value[hard[better]], mu[hard[better]] = mean[better], mixed[better]
            hard = hard[~(value[hard] > self.batch.threshold)]
        g: dict[int, tuple[Array, ...]] = {}
        if self.method.ascent:
            hard = hard[[self._worth_ascent(b) for b in here[hard]]]
        if self.method.ascent and hard.size:
            after, advice = self._ascend(members, here[hard], mu[hard])
            missing = self.batch.threshold - value[hard]
            with np.errstate(all="ignore"):
                gain = np.nan_to_num((after - value[hard]) / missing, nan=1.0)
            self.gain[here[hard]] = np.clip(gain, 0.0, 1.0)
            better = after > value[hard]
            value[hard[better]] = after[better]
            g = {int(i): advice[k] for k, i in enumerate(hard) if better[k]}
        self.value[here, group] = value
        closed = np.flatnonzero(value > self.batch.threshold)
        plain = closed[[i not in g for i in closed.tolist()]]
        for i in plain:
            self.closes[here[i]].append(Close(group, tuple(mu[i].tolist())))
        if g:
            some = [i for i in closed.tolist() if i in g]
            self._close(group, here[some], mu[some], [g[i] for i in some])
        self.wanted[np.ix_(here[~(value > self.batch.threshold)], members)] += 1.0

    def _worth_ascent(self, b: int) -> bool:
        node = self.batch.nodes[b]
        return node.gain >= MIN_GAIN or node.depth % AGAIN == 0

    def _ascend(
        self, members: NDArray[np.intp], here: NDArray[np.intp], mu: NDArray[np.int64]
    ) -> tuple[Array, list[tuple[Array, ...]]]:
        frame = self.frame.take(here)
        objective = np.zeros((here.size, frame.network.n_outputs))
        objective[:, members] = mu
        found = ascend(frame, objective, self.batch.threshold * mu.sum(axis=1))
        value = mean_bound(frame.lower(objective[:, None, :], found).value[:, 0], mu.astype(np.float64))
        return value, [tuple(a[k, 0] for a in found.g) for k in range(here.size)]

    def _close(self, group: int, here: NDArray[np.intp], mu: NDArray[np.int64], g: Sequence[tuple[Array, ...]]) -> None:
        """Write down what closes a group on the nodes `here`, in few bits where that still does."""
        whole = [Close(group, tuple(weights)) for weights in mu.tolist()]
        if self.method.proof and len(here):
            known = [np.stack(layer) for layer in zip(*g, strict=True)]
            short = rounded(self.frame.take(here), self.goal.groups[group], mu, known)
            value = mean_bound(short.value, short.weights.astype(np.float64))
            nothing = [np.full(values.shape, np.nan) for values in known]
            for i, b in enumerate(here.tolist()):
                exact = Close(group, tuple(mu[i].tolist()), self._advice(nothing, known, i))
                whole[i] = exact
                if value[i] > self.batch.threshold:
                    self.value[b, group] = min(self.value[b, group], value[i])
                    advice = self._advice(short.slopes, short.numbers, i)
                    whole[i] = Close(group, tuple(short.weights[i].tolist()), advice, exact)
        for b, close in zip(here.tolist(), whole, strict=True):
            self.closes[b].append(close)

    def _advice(self, slopes: Sequence[Array], numbers: Sequence[Array], i: int) -> Advice | None:
        """Return the advice of one node, for all neurons of the network."""
        network = self.goal.network
        sizes = [network.sizes[k] for k in network.relus]
        wide, given = (self.active.multipliers([layer[i] for layer in found], sizes) for found in (slopes, numbers))
        return advice(wide, given, network.masks)

    # --- points, programs, splits ------------------------------------------------------------------------------

    def _go_on(self, kept: list[tuple[int, Node]]) -> dict[int, Fate]:
        """Try points, give hard nodes to the linear program and split what stays open."""
        some = [b for b, _ in kept]
        nodes = Nodes(self.frame.take(some), self.bounds.take(some), self.rows.take(some), self.wanted[some])
        self._try_points(nodes)
        unstable = nodes.bounds.unstable(self.active.network)
        count = sum((u.sum(axis=-1) for u in unstable), np.zeros(len(some), int))
        fates: dict[int, Fate] = {}
        for k, (split, (b, node)) in enumerate(zip(self.method.strategy.choose(nodes), kept, strict=True)):
            node = self._lifted(b, node)
            if not node.groups:
                fates[b] = self._fate(b)
            elif time.monotonic() > self.deadline or self._found():
                fates[b] = self._fate(b, children=(node,))  # it stays open
            elif self.method.solver is not None and self.method.strategy.wants_program(int(count[k])):
                fates[b] = self._by_program(b, node, split, int(count[k]))
            else:
                fates[b] = self._cut(b, node, split)
        return fates

    def _lifted(self, b: int, node: Node) -> Node:
        """Close groups of a node by the lifted relaxation where that is worth a try; return it with what is left."""
        if not self.method.lift or time.monotonic() > self.deadline or self._found():
            return node
        values, threshold = {g: float(self.value[b, g]) for g in node.groups}, self.batch.threshold
        tried = promising(self.active.network, node, self.bounds.take(b), values, threshold)
        if not tried:
            return node
        region, layers = Interval(node.lower, node.upper), Bounds(node.layers)
        found = close_groups(
            self.goal, region, layers, tried, threshold, self.deadline, self._offer, proof=self.method.proof
        )
        self.programs += found.programs
        for group, (lower, close) in found.groups.items():
            self.value[b, group] = lower
            self.closes[b].append(close)
        left = tuple(g for g in node.groups if g not in found.groups)
        value = max(node.value, min((values[g] for g in left), default=np.inf))
        return replace(node, groups=left, value=value, lift=node.lift if found.gain is None else found.gain)

    def _found(self) -> bool:
        """Tell whether the batch found a point worth stopping for; one from before was not good enough."""
        return self.best.point is not None and self.best.value <= self.method.stop_at

    def _cut(self, b: int, node: Node, split: Split | None) -> Fate:
        """Split a node, or give it up if there is nothing to split."""
        if split is None:
            return self._fate(b, stuck=True)
        split = split if isinstance(split, InputSplit) else self.active.split(split)
        return self._fate(b, split, divide(node, split))

    def _try_points(self, nodes: Nodes) -> None:
        """Try the middle of each open node and the corner where its worst row's bound is least; descend a little."""
        low, high = nodes.frame.region.lower, nodes.frame.region.upper
        worst = np.where(nodes.wanted > 0, nodes.rows.value, np.inf).argmin(axis=1)
        slope = nodes.rows.coefficients[np.arange(len(worst)), worst]
        points = np.vstack([0.5 * low + 0.5 * high, np.where(slope > 0, low, high)])
        values = attack.evaluate(self.goal, points, self.best).min(axis=1)
        nearest = np.argsort(values)[:DESCENTS]
        region = self.goal.region.outward
        # Steps of the nodes' size look around where the tree has come to; fresh points with steps of the region's size
        # find what lies elsewhere.
        reach = REACH * np.tile(0.5 * high - 0.5 * low, (2, 1))[nearest]
        rng = np.random.default_rng([self.method.seed, self.batch.number])
        starts = np.vstack([points[nearest], attack.random_points(region, DESCENTS, rng)])
        reach = np.vstack([reach, np.tile(0.5 * region.upper - 0.5 * region.lower, (DESCENTS, 1))])
        attack.projected_gradient(self.goal, region, starts, self.best, 20, self.method.stop_at, reach)

    def _by_program(self, b: int, node: Node, split: Split | None, unstable: int) -> Fate:
        """Close groups of a node by the linear program; split on the neuron that its point violates most."""
        assert self.method.solver is not None
        frame, bounds, claim, left = self.frame.take([b]), self.bounds.take(b), np.inf, []
        for group in node.groups:
            seconds = self.deadline - time.monotonic()
            found = program_bound(frame, bounds, self.goal.groups[group], self.method.solver, seconds)
            self.programs += 1
            if found.lower > self.value[b, group]:
                self.value[b, group] = found.lower
            if self._closed(found.lower):
                self._close(group, np.array([b]), np.array([found.weights], np.int64), [found.g])
                continue
            left.append(group)
            split, claim = found.split or split, min(claim, found.claim)
            if found.point is not None:
                self._offer(found.point)
        if not left:
            return self._fate(b)
        if not unstable and np.isfinite(claim) and abs(claim - self.batch.threshold) <= SOLVED * (1.0 + abs(claim)):
            split = None  # the program is exact, and its optimum is the threshold
        value = max(node.value, min(float(self.value[b, g]) for g in left))
        return self._cut(b, replace(node, groups=tuple(left), value=value), split)

    def _offer(self, point: Array) -> None:
        attack.from_point(self.goal, point, self.best, self.method.stop_at)
