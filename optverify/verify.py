"""Decide whether a property holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO

import numpy as np

from optverify.bounds.overflow import possible_overflow
from optverify.canonical import network_digest, property_digest
from optverify.deployment import deployed
from optverify.errors import CertificateError, InputError, expect
from optverify.executions import Executor, representable, violation
from optverify.interval import Array
from optverify.io.files import replacing
from optverify.network import Network
from optverify.proof import Proof
from optverify.query import Box, Goal, Query
from optverify.results import Certificate, Verdict, Verification, versions
from optverify.search import attack
from optverify.search.branching import Branching, Hybrid
from optverify.search.expand import Method
from optverify.search.guide import AFTER as GUIDE_AFTER
from optverify.search.guide import AGAIN as GUIDE_AGAIN
from optverify.search.guide import SUBTREE_SECONDS, guide, guide_seconds, stubborn
from optverify.search.node import Node
from optverify.search.semidefinite import FEW_INPUTS, SECOND, SOONEST, nodes_before
from optverify.search.tree import Outcome, Progress, Search, Stop
from optverify.search.workers import Crew, cpu_seconds, one_thread
from optverify.semantics import REAL, Semantics
from optverify.solvers import LINEAR, name_of
from optverify.solvers.solution import Solver
from optverify.witness import Witness, doubt, examine, in_doubt, replay

NEAR = 1e-4
"""A point whose worst row exceeds 0 by at most this is worth showing beside an UNKNOWN."""

MAX_LAST = 10
"""Most points that are checked exactly at the end of a search without a verdict."""

WORTH_EXACT = 1e-6
"""Floating values up to this may be <= 0 in exact arithmetic: worth the exact check."""


RELAXATIONS = ("auto", "triangle", "lifted")
"""How nodes are bounded: by linear bounds and programs (``triangle``), by the lifted relaxation too (``lifted``)."""


class _Counterexample:
    """Search target: a point that violates the query in exact arithmetic."""

    threshold = 0.0
    stop_at = 0.0
    confirmed = "the witness violates the property in exact arithmetic"

    def __init__(self, network: Network, query: Query) -> None:
        self.network, self.query = network, query
        self.witness: Witness | None = None
        self.doubt: Witness | None = None
        self.nearest: tuple[float, Array] | None = None
        self._examined = np.inf

    def offer(self, value: float, point: Array) -> bool:
        """Check a point exactly if its floating value makes it worth it."""
        if self.nearest is None or value < self.nearest[0]:
            self.nearest = (value, point)
        if value <= WORTH_EXACT and value < self._examined:
            self._examined = value
            witness = examine(self.network, self.query, point.tolist())
            if witness.violates:
                self.witness = witness
        return self.witness is not None

    def found(self) -> bool:
        """Tell whether there is a witness."""
        return self.witness is not None

    def last_try(self, bests: Sequence[attack.Best]) -> None:
        """Check the best point of each goal exactly, whatever its floating value: that may be far off."""
        for best in bests[:MAX_LAST]:
            if self.witness is None and best.point is not None:
                witness = examine(self.network, self.query, best.point.tolist())
                self.witness = witness if witness.violates else None

    def near_miss(self) -> Witness | None:
        """Return the point that came nearest, if it is near."""
        if self.witness is not None or self.nearest is None or not self.nearest[0] <= NEAR:
            return None
        return examine(self.network, self.query, self.nearest[1].tolist())


class _BadExecution(_Counterexample):
    """Search target: a point and an execution in floating point that violates the query there.

    A point where the error band alone reaches the unsafe set is a doubt: it ends the search too, as no bound can
    exclude it.
    """

    stop_at = -np.inf  # the lower the value, the more executions violate

    def __init__(self, network: Network, query: Query) -> None:
        super().__init__(network, query)
        self.executor = Executor(network)
        self.confirmed = f"an execution in {network.semantics} violates the property"

    def offer(self, value: float, point: Array) -> bool:
        """Run a point wherever the band reaches the unsafe set."""
        if self.nearest is None or value < self.nearest[0]:
            self.nearest = (value, point)
        regions = dict.fromkeys(case.region for case in self.query.cases)
        near = [r for r in regions if ((r.outward.lower <= point) & (point <= r.outward.upper)).all()]
        doubtful = [self._doubtful(region, point) for region in near]  # all of them: one may have a witness
        return any(doubtful) or self.witness is not None

    def last_try(self, bests: Sequence[attack.Best]) -> None:
        """Run the best point of each goal."""
        for best in bests[:MAX_LAST]:
            if self.witness is None and best.point is not None:
                self.offer(best.value, best.point)

    def near_miss(self) -> Witness | None:
        """Return the point in doubt."""
        return self.doubt

    def _doubtful(self, region: Box, point: Array) -> bool:
        x = representable(region, point.tolist(), self.network.semantics)
        exact = tuple(region.clamp(point.tolist())) if x is None else tuple(map(Fraction, x.tolist()))
        if self.witness is not None or not in_doubt(self.network, self.query, exact):
            return False
        if x is not None:
            self.witness = violation(self.executor, self.query, region, x.tolist())
        self.doubt = self.doubt or Witness(exact, tuple(self.network.enclose(exact)), None)
        return True


def verify(
    network: Network,
    query: Query,
    *,
    semantics: str | Semantics | None = None,
    time_limit: float | None = None,
    solver: str | Solver | None = LINEAR,
    strategy: Branching | None = None,
    relaxation: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    workers: int = 1,
    certificate: str | None = None,
    save: str | None = None,
    resume: str | None = None,
) -> Verification:
    """Decide whether no case of a query is reachable.

    Parameters
    ----------
    network : Network
    query : Query
    semantics : str or Semantics, optional
        ``"real"``: exact arithmetic over the weights in the file. ``"float32"``, ``"float64"``, ``"float16"``,
        ``"bfloat16"``: every execution in that format (``docs/semantics.md``). By default what the query says, else the
        reals.
    time_limit : float, seconds of wall clock, optional
        What is proved by then is in the answer.
    solver : str or Solver or None
        For the linear programs; None works without.
    strategy : Branching, optional
    relaxation : "auto", "triangle" or "lifted"
        Whether nodes that linear bounds leave open are given to the lifted semidefinite relaxation: never
        (``triangle``), wherever it may close them (``lifted``), or where it promises to be cheaper than splitting,
        once a search without it turns out to be long (``auto``). See ``docs/sdp.md``.
    progress : callable, optional
        Called with :class:`~optverify.search.tree.Progress` during the search.
    seed : int
        For the random points of the attack.
    workers : int
        Processes that work on long searches; the answer does not depend on it. A script that passes more than 1
        needs the usual ``if __name__ == "__main__":``.
    certificate : str, optional
        File for the proof or the counterexample (``docs/certificate-v1.md``). It is checked before it is written, and
        a proof that the checker does not accept makes the answer UNKNOWN.
    save : str, optional
        File for the tree of a search that ends without a verdict.
    resume : str, optional
        Such a file, of the same network and property: what it says is proved is proved again, which takes a fraction of
        the time, and the search goes on with the rest.

    Returns
    -------
    Verification
        VERIFIED rests on rigorous bounds only, FALSIFIED on a witness replayed in exact arithmetic, or on a concrete
        execution in the format. Ctrl-C gives UNKNOWN with what was proved.

    Raises
    ------
    ShapeError
        The query is about another number of inputs or outputs.
    OutputError
        A file cannot be written; found out before the search.
    InputError
        The relaxation is unknown; nothing can be said about this network in this format, or the query is about
        another one.
    InputError, CertificateError
        The saved tree cannot be read, is about something else or is not true.

    Examples
    --------
    >>> from optverify import Box, Network, Query, outputs, verify
    >>> net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    >>> y = outputs(1)
    >>> verify(net, Query.always(Box([-1], [2]), y[0] <= 3, n_outputs=1)).verdict
    <Verdict.VERIFIED: 'verified'>
    """
    expect(Network, network=network)
    expect(Query, query=query)
    if relaxation not in RELAXATIONS:
        raise InputError(f"the relaxation is one of {', '.join(RELAXATIONS)}, not {relaxation!r}")
    arithmetic = query.under(semantics)
    original, network = network, deployed(network, arithmetic)
    if certificate is not None or save is not None:
        network_digest(network), property_digest(query)  # what cannot be written is an error before the work
    goals = query.goals(network)
    with (
        one_thread(),
        nullcontext() if certificate is None else replacing(certificate) as proof_file,
        nullcontext() if save is None else replacing(save) as save_file,
        Crew(goals, workers) as crew,
    ):
        target = (_Counterexample if arithmetic is REAL else _BadExecution)(network, query)
        keep = certificate is not None or save is not None or resume is not None
        lift, stop_at = relaxation == "lifted", target.stop_at
        method = Method(strategy or Hybrid(), solver, proof=keep, lift=lift, seed=seed, stop_at=stop_at)
        run = _Run(original, target, goals, method, relaxation == "auto", crew, progress)
        run.start(resume)
        stop = run.search(np.inf if time_limit is None else time_limit)
        return run.answer(stop, proof_file, save_file)


class _Run:
    """One call of :func:`verify`: a search for each region, and what they found."""

    def __init__(
        self,
        original: Network,
        target: _Counterexample,
        goals: Sequence[Goal],
        method: Method,
        lift_later: bool,
        crew: Crew,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.original, self.target, self.goals, self.method, self.crew = original, target, goals, method, crew
        self.network, self.query = target.network, target.query
        self.lift_later, self.progress = lift_later, progress
        self.started, self.cpu = time.monotonic(), cpu_seconds()
        obstacles = (possible_overflow(goal.network, goal.region.outward) for goal in goals)
        self.overflow = next(filter(None, obstacles), "")
        self.searches: list[Search] = []
        self.given_up: list[Search] = []
        self.ask_at: dict[Goal, float] = {}
        self.patience = 0.0
        self.resumed = False
        self.outcomes: list[Outcome] = []
        self.claims: list[float] = []

    def start(self, resume: str | None) -> None:
        """Set the searches up, each at its root or with the open nodes of a saved tree."""
        for goal in self.goals:
            proof = Proof(open=True) if self.method.proof else None
            self.searches.append(Search(goal, self.target, self.crew, self.method, report=self.progress, proof=proof))
        self.resumed = resume is not None
        if resume is not None:
            from optverify.certificate import resumed

            for search, (proof, unfinished) in zip(
                self.searches, resumed(resume, self.network, self.query, self.goals), strict=True
            ):
                search.go_on_from(proof, unfinished)

    @property
    def proofs(self) -> list[Proof]:
        """The trees, where they are written down."""
        return [search.proof for search in self.searches if search.proof is not None]

    def search(self, time_limit: float) -> Stop:
        """Attack every goal, then search each; tell why the last one ended."""
        deadline = self.started + time_limit
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

    def answer(self, stop: Stop, proof_file: BinaryIO | None, save_file: BinaryIO | None) -> Verification:
        """Put the answer together; write the certificate, or what is proved so far."""
        target, outcomes = self.target, self.outcomes
        verdict, reason = _judge(stop, bool(self.goals), target, self.overflow)
        certificate: Certificate | None = None
        try:
            if proof_file is not None and verdict is not Verdict.UNKNOWN:
                certificate = self._certify(proof_file)
        except CertificateError as error:
            verdict, reason = Verdict.UNKNOWN, f"the checker does not accept the certificate: {error}"
        except KeyboardInterrupt:
            verdict, reason = Verdict.UNKNOWN, "interrupted while the certificate was made"
        if save_file is not None and verdict is Verdict.UNKNOWN:
            reason += self._save(save_file)
        proved = min((outcome.progress.lower for outcome in outcomes), default=-np.inf)
        everywhere = len(outcomes) == len(self.goals) and np.isfinite(proved)
        known = [claim for claim in self.claims if not np.isnan(claim)]
        share = sum(search.progress().closed for search in self.searches) / max(len(self.goals), 1)
        used = self.crew.used()
        return Verification(
            verdict=verdict,
            reason=reason,
            claim_text=self.query.text,
            bound=proved if everywhere else None,
            claim=min(known) if known else None,
            witness=target.witness,
            near_miss=target.near_miss() if verdict is Verdict.UNKNOWN else None,
            replay=replay(self.original, self.query, target.witness) if target.witness else (),
            certified=None if proof_file is None else certificate is not None,
            certificate=certificate,
            closed=1.0 if verdict is Verdict.VERIFIED else min(share, 1.0),
            nodes=sum(search.progress().nodes for search in (*self.searches, *self.given_up)),
            programs=sum(search.programs for search in (*self.searches, *self.given_up)),
            seconds=time.monotonic() - self.started,
            cpu_seconds=used.cpu_seconds - self.cpu,
            peak_mib=used.peak_mib,
            network=self.original.digest,
            query=self.query.digest,
            solver=name_of(self.method.solver),
            semantics=self.network.semantics.name,
            versions=versions(),
        )

    def _save(self, stream: BinaryIO) -> str:
        """Write what is proved so far; return what to add to the reason."""
        from optverify.certificate import save

        try:
            save(stream, self.network, self.query, self.goals, self.proofs)
        except CertificateError as error:
            return f" (the tree was not saved: {error})"
        return " (the tree is saved)"

    def _certify(self, stream: BinaryIO) -> Certificate:
        """Write the proof or the counterexample as the checker has accepted it."""
        from optverify.certificate import certify, check, walk, write_falsified

        began, written, witness, check_seconds = cpu_seconds(), BytesIO(), self.target.witness, 0.0
        if witness is not None and witness.case is not None:
            write_falsified(written, self.network, self.query, witness.case, witness.x)
            check(BytesIO(written.getvalue()), self.network, self.query)
        else:
            check_seconds = certify(written, self.network, self.query, self.goals, self.proofs)
        stream.write(written.getvalue())
        nodes = [] if witness is not None else [node for proof in self.proofs for node in walk(proof)]
        leaves = sum(not node.children for node in nodes)
        write_seconds = cpu_seconds() - began - check_seconds
        return Certificate(len(written.getvalue()), len(nodes), leaves, write_seconds, check_seconds)


def _judge(stop: Stop, any_goal: bool, target: _Counterexample, overflow: str) -> tuple[Verdict, str]:
    """Turn the end of the search into a verdict."""
    if target.witness is not None:
        return Verdict.FALSIFIED, target.confirmed
    if not any_goal:
        return Verdict.VERIFIED, "the unsafe set is empty"
    if overflow:
        return Verdict.UNKNOWN, overflow
    if stop is Stop.CLOSED:
        return Verdict.VERIFIED, "rigorous bounds close every part of the region"
    if target.doubt is not None:
        return Verdict.UNKNOWN, doubt(target.query, target.doubt)
    near = target.nearest is not None and target.nearest[0] <= NEAR
    return Verdict.UNKNOWN, stop.value + (" (near miss)" if near else "")
