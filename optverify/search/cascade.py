"""The order of the means: attacks, a plain search, the lifted relaxation, and a mixed-integer solver that guides."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from optverify.bounds.overflow import possible_overflow
from optverify.checker import resumed
from optverify.interval import Array
from optverify.proof import Proof
from optverify.query import Goal
from optverify.search import attack
from optverify.search.counterexample import Counterexample
from optverify.search.expand import Method
from optverify.search.guide import AFTER as GUIDE_AFTER
from optverify.search.guide import AGAIN as GUIDE_AGAIN
from optverify.search.guide import SUBTREE_SECONDS, guide, guide_seconds, stubborn
from optverify.search.node import Node
from optverify.search.semidefinite import FEW_INPUTS, SECOND, SOONEST, nodes_before
from optverify.search.tree import Outcome, Progress, Search, Stop
from optverify.search.workers import Crew


class Cascade:
    """The searches of a query, one for each of its goals, and what they found.

    Parameters
    ----------
    target : Counterexample
    goals : sequence of Goal
    method : Method
    lift_later : bool
        Whether a search that turns out to be long may begin anew with the lifted relaxation.
    crew : Crew
    progress : callable, optional

    Attributes
    ----------
    searches, given_up : list of Search
        The one of each goal that counts, and those that another one has replaced.
    outcomes : list of Outcome
        Of the goals that were searched.
    claims : list of float
        Of the mixed-integer solver.
    overflow : str
        Why no bound holds; empty where bounds do.
    """

    def __init__(
        self,
        target: Counterexample,
        goals: Sequence[Goal],
        method: Method,
        lift_later: bool,
        crew: Crew,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.target, self.goals, self.method, self.crew = target, goals, method, crew
        self.lift_later, self.progress = lift_later, progress
        obstacles = (possible_overflow(goal.network, goal.region.outward) for goal in goals)
        self.overflow = next(filter(None, obstacles), "")
        self.searches = [
            Search(goal, target, crew, method, report=progress, proof=Proof(open=True) if method.proof else None)
            for goal in goals
        ]
        self.given_up: list[Search] = []
        self.ask_at: dict[Goal, float] = {}
        self.patience = 0.0
        self.resumed = False
        self.outcomes: list[Outcome] = []
        self.claims: list[float] = []

    def go_on_from(self, path: str) -> None:
        """Begin each search with the open nodes of a saved tree.

        Raises
        ------
        InputError, CertificateError
        """
        self.resumed = True
        trees = resumed(path, self.target.network, self.target.query, self.goals)
        for search, (proof, unfinished) in zip(self.searches, trees, strict=True):
            search.go_on_from(proof, unfinished)

    @property
    def proofs(self) -> list[Proof]:
        """The trees, where they are written down."""
        return [search.proof for search in self.searches if search.proof is not None]

    def search(self, deadline: float) -> Stop:
        """Attack every goal, then search each until the deadline of `time.monotonic`; tell why the last one ended."""
        try:
            stop = self._attack(deadline)
            if self.overflow and stop is Stop.CLOSED:
                stop = Stop.STUCK
            self.patience = guide_seconds(deadline - time.monotonic())
            for place in range(0 if self.overflow else len(self.searches)):
                # A goal that cannot be decided leaves the others worth a search: they may hold a witness.
                if stop not in (Stop.CLOSED, Stop.STUCK):
                    break
                outcome = self._decide(place, deadline)
                self.outcomes.append(outcome)
                ended = self._settled(self.searches[place], outcome.stop)
                stop = stop if ended is Stop.CLOSED else ended
            if stop is not Stop.CLOSED and self.target.witness is None:
                self.target.last_try([search.best for search in self.searches])
        except KeyboardInterrupt:
            stop = Stop.INTERRUPTED
        return stop

    def _attack(self, deadline: float) -> Stop:
        rng = np.random.default_rng(self.method.seed)
        samples = max(16, 512 // len(self.goals)) if self.goals else 0  # hundreds of regions share the effort of a few
        for search in self.searches:
            if time.monotonic() > deadline:
                break
            region = search.goal.region.outward
            attack.attack(search.goal, region, search.best, rng, samples, stop_at=self.target.stop_at)
            if search.best.point is not None:
                self.target.offer(search.best.value, search.best.point)
            if self.target.witness is not None:
                return Stop.FOUND
        return Stop.CLOSED

    def _decide(self, place: int, deadline: float) -> Outcome:
        """Search one goal; where that turns out to be long, begin another search with the lifted relaxation.

        The relaxation is tried at the root when the search has cost about as much as that. If it closes nothing there,
        the search goes on until it has cost about as much as a tree with the relaxation in it.
        """
        plain = self.searches[place]
        if not self.lift_later or plain.goal.network.n_inputs <= FEW_INPUTS:
            return self._run(plain, deadline)
        outcome = self._run(plain, deadline, SOONEST)
        worth = nodes_before(plain.goal) if outcome.stop is Stop.NODES else np.inf
        if outcome.stop is Stop.NODES:
            outcome = self._run(plain, deadline, worth)
        if outcome.stop is not Stop.NODES:
            return outcome
        method, proof = replace(self.method, lift=True), Proof(open=True) if plain.proof is not None else None
        other = Search(plain.goal, self.target, self.crew, method, best=plain.best, proof=proof)
        self.given_up.append(other)
        outcome = other.run(deadline - time.monotonic(), nodes=1)
        if outcome.stop not in (Stop.CLOSED, Stop.NODES):
            return replace(outcome, progress=plain.progress())
        if plain.groups <= other.groups:
            outcome = self._run(plain, deadline, np.inf if self.resumed else SECOND * worth)
            if outcome.stop is not Stop.NODES:
                return outcome
        other.report = self.progress
        self.searches[place], self.given_up[-1] = other, plain
        return self._run(other, deadline)

    def _run(self, search: Search, deadline: float, nodes: float = np.inf) -> Outcome:
        """Run a search up to a number of nodes; ask the guide whenever the tree has become AGAIN times larger."""
        while True:
            ask = (
                self.ask_at.get(search.goal, GUIDE_AFTER)
                if self.method.solver is not None and self.patience > 0
                else np.inf
            )
            outcome = search.run(deadline - time.monotonic(), min(nodes, ask))
            if outcome.stop is not Stop.NODES or nodes <= ask:
                return outcome
            asked = stubborn(search.goal, search.open_nodes()) if search.goal in self.ask_at else Node.root(search.goal)
            if asked is not None:
                self._guide(search, asked)
            self.ask_at[search.goal] = GUIDE_AGAIN * ask

    def _settled(self, search: Search, ended: Stop) -> Stop:
        """Ask the guide for a lower point where a search ended with a doubt; return how it ended."""
        if ended is not Stop.FOUND or self.target.found():
            return ended
        if self.method.solver is not None:
            self._guide(search, Node.root(search.goal))
        return Stop.FOUND if self.target.found() else Stop.STUCK

    def _guide(self, search: Search, node: Node) -> None:
        """Let a mixed-integer solver look at a part of a goal."""
        assert self.method.solver is not None
        began = time.monotonic()

        def offer(x: Array) -> bool:
            attack.from_point(search.goal, x, search.best, stop_at=self.target.stop_at)
            if search.best.point is not None:
                self.target.offer(search.best.value, search.best.point)
            return self.target.witness is not None

        seconds = min(self.patience, SUBTREE_SECONDS) if node.depth else self.patience
        claim = guide(search.goal, node, self.method.solver, began + seconds, offer)
        if not node.depth:
            self.claims.append(claim)
        self.patience -= time.monotonic() - began
