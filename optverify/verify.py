"""The two questions: does a property hold (`verify`), and how large is an output (`bound`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from io import BytesIO
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from optverify import solvers
from optverify.errors import CertificateError, InputError, ShapeError
from optverify.expressions import Linear, rational
from optverify.interval import Array, nearest, round_up
from optverify.io.files import replacing
from optverify.network import Network
from optverify.proof import Proof
from optverify.query import Box, Goal, Query, append_rows
from optverify.results import BoundResult, Verdict, Verification, versions
from optverify.search import attack
from optverify.search.branching import Branching, Hybrid
from optverify.search.guide import guide, guide_seconds
from optverify.search.methods import METHODS, Bounded, Task
from optverify.search.tree import Outcome, Progress, Search, Stop
from optverify.solvers.solution import Solver
from optverify.witness import Witness, examine, replay

NEAR = 1e-4
"""A point whose worst row exceeds 0 by at most this is worth showing beside an UNKNOWN."""

MAX_LAST = 10
"""Most points that are checked exactly at the end of a search without a verdict."""

WORTH_EXACT = 1e-6
"""Floating values up to this may be <= 0 in exact arithmetic: worth the exact check."""


class _Counterexample:
    """Search target: a point that violates the query in exact arithmetic."""

    threshold = 0.0

    def __init__(self, network: Network, query: Query) -> None:
        self.network, self.query = network, query
        self.witness: Witness | None = None
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


def verify(
    network: Network,
    query: Query,
    *,
    time_limit: float | None = None,
    solver: str | Solver | None = "highs",
    strategy: Branching | None = None,
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
    certificate: str | None = None,
) -> Verification:
    """Decide whether no case of a query is reachable.

    Parameters
    ----------
    network : Network
    query : Query
    time_limit : float, seconds of wall clock, optional
        What is proved by then is in the answer.
    solver : str or Solver or None
        For the linear programs; None works without.
    strategy : Branching, optional
    progress : callable, optional
        Called with :class:`~optverify.search.tree.Progress` during the search.
    seed : int
        For the random points of the attack.
    certificate : str, optional
        File for the proof or the counterexample (``docs/certificate-v1.md``). It is checked before it is written, and
        a proof that the checker does not accept makes the answer UNKNOWN.

    Returns
    -------
    Verification
        VERIFIED rests on rigorous bounds only, FALSIFIED on a witness replayed in exact arithmetic. Ctrl-C
        gives UNKNOWN with what was proved.

    Raises
    ------
    ShapeError
        The query is about another number of inputs or outputs.
    OutputError
        The certificate cannot be written; found out before the search.

    Examples
    --------
    >>> from optverify import Box, Network, Query, outputs, verify
    >>> net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
    >>> y = outputs(1)
    >>> verify(net, Query.always(Box([-1], [2]), y[0] <= 3, n_outputs=1)).verdict
    <Verdict.VERIFIED: 'verified'>
    """
    with one_thread(), nullcontext() if certificate is None else replacing(certificate) as stream:
        return _verify(network, query, time_limit, solver, strategy or Hybrid(), progress, seed, stream)


def _verify(
    network: Network,
    query: Query,
    time_limit: float | None,
    solver: str | Solver | None,
    strategy: Branching,
    progress: Callable[[Progress], None] | None,
    seed: int,
    stream: BinaryIO | None,
) -> Verification:
    started, cpu = time.monotonic(), time.process_time()
    goals = query.goals(network)
    target = _Counterexample(network, query)
    outcomes: list[Outcome] = []
    claims: list[float] = []
    stop, deadline = Stop.CLOSED, np.inf if time_limit is None else started + time_limit
    proofs = [None if stream is None else Proof() for _ in goals]
    try:
        bests = [attack.Best() for _ in goals]
        rng = np.random.default_rng(seed)
        samples = max(16, 512 // len(goals)) if goals else 0  # hundreds of regions share the effort of a few
        for goal, best in zip(goals, bests, strict=True):
            if time.monotonic() > deadline:
                break
            attack.attack(goal, goal.region.outward, best, rng, samples)
            if best.point is not None and target.offer(best.value, best.point):
                stop = Stop.FOUND
                break
        patience = time.monotonic() + guide_seconds(deadline - time.monotonic())
        for goal, best in zip(goals, bests, strict=True):
            if stop is Stop.CLOSED and solver is not None:
                claims.append(guide(goal, solver, patience, partial(_try, goal, best, target)))
                stop = Stop.CLOSED if target.witness is None else Stop.FOUND
        for goal, best, proof in zip(goals, bests, proofs, strict=True):
            # A goal that cannot be decided leaves the others worth a search: they may hold a witness.
            if stop in (Stop.CLOSED, Stop.STUCK):
                search = Search(goal, target, strategy, solver=solver, best=best, proof=proof)
                search.report = progress
                outcomes.append(search.run(deadline - time.monotonic()))
                stop = stop if outcomes[-1].stop is Stop.CLOSED else outcomes[-1].stop
        if stop is not Stop.CLOSED and target.witness is None:
            target.last_try(bests)
    except KeyboardInterrupt:
        stop = Stop.INTERRUPTED
    proved = min((o.progress.lower for o in outcomes), default=-np.inf)
    everywhere = len(outcomes) == len(goals) and np.isfinite(proved)
    known = [c for c in claims if not np.isnan(c)]
    verdict, reason = _judge(stop, bool(goals), target)
    witness = target.witness
    certified = None if stream is None else False
    if stream is not None and verdict is not Verdict.UNKNOWN:
        wrong = _certify(stream, network, query, goals, proofs, witness)
        certified = wrong is None
        if wrong is not None:
            verdict, reason = Verdict.UNKNOWN, wrong
    return Verification(
        verdict=verdict,
        reason=reason,
        claim_text=query.text,
        bound=proved if everywhere else None,
        claim=min(known) if known else None,
        witness=witness,
        near_miss=target.near_miss() if verdict is Verdict.UNKNOWN else None,
        replay=replay(network, query, witness) if witness else (),
        certified=certified,
        closed=1.0 if verdict is Verdict.VERIFIED else sum(o.progress.closed for o in outcomes) / max(len(goals), 1),
        nodes=sum(o.progress.nodes for o in outcomes),
        programs=sum(o.programs for o in outcomes),
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu,
        network=network.digest,
        query=query.digest,
        solver=name_of(solver),
        versions=versions(),
    )


def _certify(
    stream: BinaryIO,
    network: Network,
    query: Query,
    goals: Sequence[Goal],
    proofs: Sequence[Proof | None],
    witness: Witness | None,
) -> str | None:
    """Write the proof or the counterexample, read it back and check it; return what is wrong, if anything is."""
    from optverify.certificate import check, settle, write_falsified, write_verified

    written = BytesIO()
    if witness is not None and witness.case is not None:
        write_falsified(written, network, query, witness.case, witness.x)
    else:
        trees = [proof for proof in proofs if proof is not None]
        if not all(settle(goal, tree) for goal, tree in zip(goals, trees, strict=True)):
            return "every part is closed, but too tightly for the checker's rounding: no certificate"
        write_verified(written, network, query, trees)
    try:
        check(BytesIO(written.getvalue()), network, query)
    except CertificateError as error:
        return f"the checker does not accept the certificate: {error}"
    stream.write(written.getvalue())
    return None


def _try(goal: Goal, best: attack.Best, target: _Counterexample, x: Array) -> bool:
    """Offer a point that a solver found."""
    attack.from_point(goal, x, best)
    return best.point is not None and target.offer(best.value, best.point)


def one_thread() -> threadpool_limits:
    """Keep BLAS to one thread: the products are small, and threads that wait for them burn a core."""
    return threadpool_limits(limits=1, user_api="blas")


def name_of(solver: str | Solver | None) -> str | None:
    """Return the name of a solver that may be given as one."""
    return None if solver is None else solvers.get(solver).name


def _judge(stop: Stop, any_goal: bool, target: _Counterexample) -> tuple[Verdict, str]:
    """Turn the end of the search into a verdict."""
    if target.witness is not None:
        return Verdict.FALSIFIED, "the witness violates the property in exact arithmetic"
    if not any_goal:
        return Verdict.VERIFIED, "the unsafe set is empty"
    if stop is Stop.CLOSED:
        return Verdict.VERIFIED, "rigorous bounds close every part of the region"
    near = target.nearest is not None and target.nearest[0] <= NEAR
    return Verdict.UNKNOWN, stop.value + (" (near miss)" if near else "")


class _Minimum:
    """Search target: the least value of one row, to within a gap."""

    def __init__(self, goal: Goal, gap: float) -> None:
        self.goal, self.gap = goal, gap
        self.upper, self.threshold = np.inf, np.inf
        self.point: Array | None = None
        self.exact = np.nan
        self._tried = np.inf

    def offer(self, value: float, point: Array) -> bool:
        """Evaluate a better point exactly and raise the bar; never ends the search."""
        if value < self._tried:
            self._tried = value
            x = self.goal.region.clamp(point.tolist())
            low, high = self.goal.network.enclose(x)[0]
            upper = round_up(high)
            if upper < self.upper or self.point is None:
                self.upper, self.point, self.exact = upper, point, nearest((low + high) / 2)
                self.threshold = upper - self.gap * max(1.0, abs(upper)) if np.isfinite(upper) else np.inf
        return False


def bound(
    network: Network,
    region: Box,
    objective: Linear | str | ArrayLike,
    *,
    method: str = "exact",
    sense: Literal["min", "max"] = "min",
    solver: str | Solver | None = "highs",
    gap: float = 1e-6,
    time_limit: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> BoundResult:
    """Enclose the optimum of a linear objective of the outputs (and inputs) over a box.

    Parameters
    ----------
    network : Network
    region : Box
    objective : Linear, str or (n_outputs,) array
        For instance ``"Y_0 - Y_1"``.
    method : str
        ``interval``, ``crown``, ``triangle``, ``lifted`` (semidefinite), ``bigm`` (a claim with a rigorous root
        bound), or ``exact`` (branch and bound until the gap is closed).
    sense : "min" or "max"
    solver : str or Solver or None
    gap : float
        ``exact`` ends once upper - lower <= gap * max(1, |upper|).
    time_limit : float, seconds, optional
    progress : callable, optional
    seed : int

    Returns
    -------
    BoundResult

    Raises
    ------
    InputError
        Unknown method, or an objective that is not linear.
    ShapeError
        Sizes disagree.
    """
    with one_thread():
        return _bound(network, region, objective, method, sense, solver, gap, time_limit, progress, seed)


def _bound(
    network: Network,
    region: Box,
    objective: Linear | str | ArrayLike,
    method: str,
    sense: Literal["min", "max"],
    solver: str | Solver | None,
    gap: float,
    time_limit: float | None,
    progress: Callable[[Progress], None] | None,
    seed: int,
) -> BoundResult:
    started = time.monotonic()
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}; choose from {', '.join(METHODS)}")
    if sense not in ("min", "max"):
        raise InputError(f"sense must be 'min' or 'max', not {sense!r}")
    if not gap >= 0:
        raise InputError("gap must not be negative")
    linear = _linear(network, objective)
    if region.size != network.n_inputs:
        raise ShapeError(f"the region has {region.size} inputs, the network {network.n_inputs}")
    goal = Goal(append_rows(network, [linear if sense == "min" else -linear]), region, ((0,),), (0,), ((0,),))
    target, best = _Minimum(goal, gap), attack.Best()
    result: Bounded
    try:
        attack.attack(goal, region.outward, best, np.random.default_rng(seed), stop_at=-np.inf)
        if best.point is not None:
            target.offer(best.value, best.point)
        result = METHODS[method](Task(goal, target, best, solver, time_limit, progress))
    except KeyboardInterrupt:
        result = Bounded(-np.inf, None, False, "interrupted")
    if target.point is None:  # every sampled value overflowed: any point of the region will do
        target.offer(-np.inf, 0.5 * region.outward.lower + 0.5 * region.outward.upper)
    assert target.point is not None
    lower, upper, claim, attained = result.lower, target.upper, result.claim, target.exact
    if sense == "max":
        lower, upper, attained = -upper, -lower, -attained
        claim = None if claim is None else -claim
    return BoundResult(
        lower=lower,
        upper=upper,
        claim=claim,
        point=tuple(nearest(v) for v in region.clamp(target.point.tolist())),
        attained=attained,
        sense=sense,
        method=method,
        solver=result.solver or (name_of(solver) if result.claim is not None or result.programs else None),
        complete=result.complete,
        reason=result.reason,
        nodes=result.nodes,
        programs=result.programs,
        seconds=time.monotonic() - started,
        objective=str(linear),
        network=network.digest,
        versions=versions(),
    )


def _linear(network: Network, objective: Linear | str | ArrayLike) -> Linear:
    """Read an objective and check that its variables exist."""
    if isinstance(objective, str):
        from optverify.io.expression import parse_linear

        linear = parse_linear(objective)
    elif isinstance(objective, Linear):
        linear = objective
    else:
        row = np.asarray(objective, dtype=object).ravel()
        if row.size != network.n_outputs:
            raise ShapeError(f"the objective has {row.size} entries, the network {network.n_outputs} outputs")
        terms = {("Y", j): rational(v) for j, v in enumerate(row.tolist())}
        linear = Linear({k: v for k, v in terms.items() if v})  # type: ignore[misc]
    sizes = {"X": network.n_inputs, "Y": network.n_outputs}
    for kind, index in linear.terms:
        if not 0 <= index < sizes[kind]:
            raise ShapeError(f"{kind}_{index} is out of range: the network has {sizes[kind]} of them")
    return linear
