"""Branch and bound: a tree of boxes and neuron signs, many open nodes bounded at once.

A node is a box, the pre-activation bounds that hold on it (cut at 0 by the neuron splits on its path) and
the groups of rows that are still open. It is closed when a rigorous bound shows that every point of it has,
for each group, max over the group's rows > threshold. Children cover their parent, so a tree without open
nodes is a proof.

The tree lives here; :mod:`optverify.search.expand` works on batches of its leaves, in this process or in others.
Batches are handed out and taken back in one fixed order, so that the tree does not depend on how many processes
there are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from optverify.bounds.crown import MAX_ENTRIES
from optverify.checker import Nodes
from optverify.interval import Array
from optverify.proof import Proof
from optverify.query import Goal
from optverify.report.text import rounded_down
from optverify.search import attack
from optverify.search.agenda import Agenda, Leaf
from optverify.search.expand import Batch, Fate, Method
from optverify.search.node import Node
from optverify.search.workers import Crew, Job

BATCH = 128
"""Most nodes bounded at once: with more the arrays leave the cache."""

AHEAD = 4
"""Most batches that are handed out before the first of them is taken back. A constant, whatever the number of
processes: the order in which the tree grows must not depend on that."""

MAX_STUCK = 100
"""Nodes without hope after which the search ends: the unsafe set touches the region along a whole face."""


class Stop(Enum):
    """Why the search ended."""

    CLOSED = "every node closed"
    FOUND = "the target was reached"
    TIME = "time limit"
    INTERRUPTED = "interrupted"
    STUCK = "the least value equals the threshold to within rounding: neither side can be proved"
    NODES = "node limit"


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

    def __str__(self) -> str:
        return (
            f"{self.nodes} nodes, {self.open} open, {self.closed:.1%} closed, bound {rounded_down(self.lower)}, "
            f"best point {self.upper:.6g}, gap {self.upper - self.lower:.3g}, {self.seconds:.0f} s"
        )


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
        Programs solved, linear and semidefinite.
    """

    stop: Stop
    progress: Progress
    best: attack.Best
    programs: int


@dataclass
class Search:
    """One run of branch and bound over a goal; `run` may be called again to go on.

    Parameters
    ----------
    goal : Goal
    target : Target
    crew : Crew
        Where batches are worked on.
    method : Method
    best_first : bool
        Take the node with the least bound first (to raise the lower bound) instead of the deepest (least
        memory).
    report : callable, optional
        Called with :class:`Progress` after each batch.
    best : Best
        The most promising point so far, from an attack.
    proof : Proof, optional
        Root of a tree in which to write down what closes each node.
    root : Node, optional
        Where to start; what it leaves out is closed by `proof`.
    """

    goal: Goal
    target: Target
    crew: Crew
    method: Method = field(default_factory=Method)
    best_first: bool = False
    report: Callable[[Progress], None] | None = None
    best: attack.Best = field(default_factory=attack.Best)
    proof: Proof | None = None
    root: Node | None = None

    _closed_lower: float = field(default=np.inf, init=False)
    _closed_share: float = field(default=0.0, init=False)
    _stuck: int = field(default=0, init=False)
    _nodes: int = field(default=0, init=False)
    _batches: int = field(default=0, init=False)
    _programs: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        sizes = self.goal.network.sizes
        self._leaf_bytes = 16 * (sizes[0] + sum(sizes[k] for k in self.goal.network.relus)) + 1_000
        self._open = Agenda(best_first=self.best_first, leaf_bytes=self._leaf_bytes)
        self._open.push(Leaf(self.root or Node.root(self.goal), self.proof))
        self._away: deque[tuple[list[Leaf], list[Job]]] = deque()

    def run(self, time_limit: float = np.inf, nodes: float = np.inf) -> Outcome:
        """Search until the tree is closed, the target ends it, or a limit is reached.

        Ctrl-C ends it too and leaves what was proved.

        Parameters
        ----------
        time_limit : float, seconds
        nodes : int, optional
            Stop once so many have been bounded in all.
        """
        started = time.monotonic() - self._seconds
        deadline = time.monotonic() + time_limit
        stop: Stop | None = None
        try:
            stop = Stop.FOUND if self._offer() else Stop.NODES if self._nodes >= nodes else None
            while stop is None and (self._open or self._away):
                stop = self._round(deadline)
                self._seconds = time.monotonic() - started
                if stop is None and self._nodes >= nodes:
                    stop = Stop.NODES
                if self.report is not None:
                    self.report(self.progress())
        except KeyboardInterrupt:
            stop = Stop.INTERRUPTED
        while self._away:  # not expanded: they are still open
            for leaf in self._away[0][0]:
                self._open.push(leaf)
            self._away.popleft()
        if not self._open and stop in (None, Stop.NODES, Stop.TIME):
            stop = Stop.STUCK if self._stuck else Stop.CLOSED
        assert stop is not None
        return Outcome(stop, self.progress(), self.best, self._programs)

    def go_on_from(self, proof: Proof, unfinished: Sequence[Nodes]) -> None:
        """Start from a tree of which these nodes are open; all else of it is proved, to be above 0."""
        self.proof, self._open = proof, Agenda(best_first=self.best_first, leaf_bytes=self._leaf_bytes)
        self._closed_lower, self._closed_share = 0.0, 1.0
        for nodes in unfinished:
            for b, place in enumerate(nodes.proofs):
                groups = tuple(np.flatnonzero(nodes.open[b]).tolist())
                layers = tuple(z.take(b) for z in nodes.bounds.layers)
                node = Node(nodes.box.lower[b], nodes.box.upper[b], layers, groups, depth=int(nodes.depth[b]))
                self._open.push(Leaf(node, place))
                self._closed_share -= node.share

    def open_nodes(self) -> Iterator[Node]:
        """Yield the nodes that wait, between two runs; see `stuck`."""
        return self._open.nodes()

    @property
    def stuck(self) -> int:
        """Nodes that could neither be closed nor split: they are not among those that wait."""
        return self._stuck

    @property
    def programs(self) -> int:
        """Programs solved, linear and semidefinite."""
        return self._programs

    @property
    def groups(self) -> frozenset[int]:
        """Groups of rows that are open somewhere."""
        return frozenset(g for leaf in self._open for g in leaf.node.groups)

    def progress(self) -> Progress:
        """Return the state of the search."""
        away = [leaf.node for leaves, _ in self._away for leaf in leaves]
        lower = min([self._closed_lower, self._open.least(), *(node.value for node in away)])
        count = len(self._open) + len(away)
        return Progress(self._nodes, count, float(lower), self.best.value, self._closed_share, self._seconds)

    def _round(self, deadline: float) -> Stop | None:
        """Hand batches out, take the oldest one back."""
        if time.monotonic() > deadline:
            return Stop.TIME
        while self._open and len(self._away) < AHEAD and (not self._away or len(self._open) >= BATCH // 2):
            self._send(deadline)
        leaves, (job,) = self._away[0]
        grown = self.crew.receive(job)
        if grown is None:
            return Stop.TIME
        for leaf, fate in zip(leaves, grown.fates, strict=True):
            self._follow(leaf, fate)
        self._away.popleft()
        self._nodes += len(leaves)
        self._programs += grown.programs
        if grown.best.point is not None and self.best.offer(grown.best.value, grown.best.point) and self._offer():
            return Stop.FOUND
        return Stop.STUCK if self._stuck > MAX_STUCK else None

    def _send(self, deadline: float) -> None:
        # An interrupt may come between any two steps: a leaf is in one list too many rather than in none, so that
        # what is left open always covers all that is not proved.
        leaves: list[Leaf] = []
        jobs: list[Job] = []
        self._away.append((leaves, jobs))
        network = self.goal.network
        most = max(1, min(BATCH, MAX_ENTRIES // (2 * max(network.sizes) * network.n_outputs), self._nodes + 1))
        self._open.move(most, leaves)
        self._batches += 1
        batch = Batch(self._batches, tuple(leaf.node for leaf in leaves), self.target.threshold, self.best.value)
        jobs.append(self.crew.send(self.goal, self.method, batch, deadline))

    def _follow(self, leaf: Leaf, fate: Fate) -> None:
        """Write down what became of a leaf, and add what is left of it."""
        self._closed_lower = min(self._closed_lower, fate.lower)
        proofs: tuple[Proof | None, ...] = (None, None)
        if leaf.proof is not None:
            leaf.proof.closes += fate.closes
            leaf.proof.empty = fate.empty
            proofs = (leaf.proof,)
            if fate.split is not None:
                leaf.proof.split, leaf.proof.children = fate.split, (Proof(open=True), Proof(open=True))
                proofs = leaf.proof.children
            leaf.proof.open = len(fate.children) == 1 or fate.stuck
        for node, proof in zip(fate.children, proofs, strict=False):
            self._open.push(Leaf(node, proof))
        if fate.stuck:
            self._stuck += 1
        elif not fate.children:
            self._closed_share += leaf.node.share

    def _offer(self) -> bool:
        """Let the target decide about the best point."""
        point = self.best.point
        return point is not None and self.target.offer(self.best.value, point)
