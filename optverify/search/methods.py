"""Ways to bound the least value of one objective from below: the methods of :func:`optverify.bound`.

Every method includes the cheaper ones that its relaxation implies and returns the best of their bounds, so that
bounds are ordered as the relaxations are, to the last bit and whatever a solver leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isnan, nan
from time import perf_counter

import numpy as np

from optverify import solvers
from optverify.bounds.ascent import ascend
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.interval_propagation import propagate
from optverify.bounds.relaxed import frame_of
from optverify.bounds.tighten import tighten
from optverify.errors import InputError
from optverify.formulations.program import Cone, Program, order_of
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import Proof
from optverify.query import Goal
from optverify.safe.multipliers import Frame
from optverify.search import attack
from optverify.search.expand import Method
from optverify.search.leaf import objective_of, root_program
from optverify.search.tree import Progress, Search, Stop, Target
from optverify.search.workers import Crew
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.solution import Solver, Status

ASCENT_STEPS = 40
"""Steps of ``alpha-crown``: their sizes have then fallen to a thousandth."""

CUT_ROUNDS = 2
"""Rounds of products of conditions in ``lifted+cuts``."""

DONE = "done"
"""Status of a method that ended by itself and asked no solver."""


@dataclass(frozen=True)
class Size:
    """How large a program is.

    Parameters
    ----------
    variables, rows : int
        Of a lifted relaxation: its variables z, and products with those of the box.
    psd : tuple of int
        Orders of its semidefinite matrices.
    binaries : int
    """

    variables: int
    rows: int
    psd: tuple[int, ...] = ()
    binaries: int = 0

    @classmethod
    def of(cls, program: Program) -> Size:
        """Measure a program."""
        psd = tuple(order_of(block.size) for block in program.rows.values() if block.cone is Cone.PSD)
        return cls(program.n_variables, program.n_rows, psd, int(program.integer.sum()))


@dataclass(frozen=True)
class Bounded:
    """A rigorous lower bound and how it came about.

    Parameters
    ----------
    lower : float
        Rigorous.
    claim : float or None
        The solver's figure.
    complete : bool
        Whether the method ended by itself.
    reason : str
    nodes, programs : int
    seconds : float
        In the solver.
    solver : str or None
        Its name, if it is not the one that was asked for.
    status : str
        A value of :class:`~optverify.solvers.solution.Status`, or ``done``.
    solved_by : str
        Name and version of the solver.
    build_seconds, validate_seconds : float
        To make the program, and to make a bound of its duals.
    size : Size or None
        Of the (last) program.
    unstable : int or None
        Neurons with l < 0 < u in the pre-activation bounds that were used.
    """

    lower: float
    claim: float | None
    complete: bool
    reason: str
    nodes: int = 0
    programs: int = 0
    seconds: float = 0.0
    solver: str | None = None
    status: str = DONE
    solved_by: str = ""
    build_seconds: float = 0.0
    validate_seconds: float = 0.0
    size: Size | None = None
    unstable: int | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is given.

    Parameters
    ----------
    goal : Goal
        Of one group, the largest of whose rows is to be minimised over one region.
    target : Target
        Learns of points found on the way.
    best : Best
        The most promising point so far.
    solver : str or Solver or None
    time_limit : float or None, seconds
    report : callable or None
    workers : int
        Processes.
    proof : Proof, optional
        Root of a tree in which ``exact`` writes down what it proves.
    bounds : Bounds, ends of shape (n_k,), optional
        Proved pre-activation bounds to start from. Otherwise ``interval`` makes its own, and the others start from
        backward ones.
    """

    goal: Goal
    target: Target
    best: attack.Best
    solver: str | Solver | None
    time_limit: float | None
    report: Callable[[Progress], None] | None
    workers: int = 1
    proof: Proof | None = None
    bounds: Bounds | None = None

    @property
    def region(self) -> Interval:
        """The region as a batch of one box."""
        return self.goal.region.outward.take(None)

    def largest(self, rows: Array) -> float:
        """Return the largest of the goal's rows: a bound on it, if the rows are bounds."""
        return float(max(rows[row] for row in self.goal.groups[0]))

    def within(self, seconds: float) -> Task:
        """Return the task with that much less time."""
        return self if self.time_limit is None else replace(self, time_limit=max(self.time_limit - seconds, 0.01))


@dataclass(frozen=True, eq=False)
class _Root:
    """Pre-activation bounds of the whole region, and what they and cheap methods prove."""

    bounds: Bounds
    frame: Frame
    lower: float
    unstable: int


PREACTIVATION = ("own", "interval", "crown", "tightened")
"""Where pre-activation bounds may come from; ``own`` leaves it to the method."""


def preactivation_bounds(goal: Goal, kind: str, time_limit: float | None = None) -> Bounds | None:
    """Return pre-activation bounds of a goal's network over its region, ends of shape (n_k,).

    Parameters
    ----------
    goal : Goal
    kind : str
        One of :data:`PREACTIVATION`.
    time_limit : float, seconds, optional
        For ``tightened``.

    Raises
    ------
    InputError
        There is no such kind.
    """
    network, region = goal.network, goal.region.outward
    if kind == "own":
        return None
    if kind == "interval":
        return propagate(network, region.take(None))[0].take(0)
    if kind not in PREACTIVATION:
        raise InputError(f"bounds must be one of {', '.join(PREACTIVATION)}, not {kind!r}")
    bounds = crown(network, region.take(None))[0].take(0)
    return bounds if kind == "crown" else tighten(network, region, bounds, time_limit=time_limit)


def interval(task: Task) -> Bounded:
    """Bound by interval arithmetic."""
    lower, bounds = _interval(task)
    return _finished(lower, "interval arithmetic", _unstable(task, bounds))


def backward(task: Task) -> Bounded:
    """Bound by CROWN: from the last layer, or where the task has no bounds on every layer."""
    root = _root(task)
    return _finished(root.lower, "backward linear bounds", root.unstable)


def ascent(task: Task) -> Bounded:
    """Bound by CROWN with slopes chosen by ascent, pre-activation bounds as they are."""
    root = _ascended(task)
    return _finished(root.lower, "backward linear bounds with chosen slopes", root.unstable)


def triangle(task: Task) -> Bounded:
    """Bound by the triangle program, its duals evaluated rigorously."""
    return _program(task, "triangle", _ascended(task))


def tightened(task: Task) -> Bounded:
    """Bound by the triangle program after linear programs have tightened all pre-activation bounds."""
    if task.solver is None:
        raise InputError("the method triangle+tightened needs a solver")
    began, root = perf_counter(), _ascended(task)
    loose = _program(task, "triangle", root)
    left = task.within(perf_counter() - began).time_limit
    bounds = tighten(task.goal.network, task.goal.region.outward, root.bounds, solver=task.solver, time_limit=left)
    spent = perf_counter() - began
    frame = frame_of(task.goal.network, task.goal.region.outward, bounds)
    tight = _Root(bounds, frame, max(root.lower, loose.lower, _output(task, frame)), _unstable(task, bounds))
    answer = _program(task.within(spent), "triangle", tight)
    complete = answer.complete and (task.time_limit is None or spent < task.time_limit)
    status = answer.status if complete or not answer.complete else Status.LIMIT.value
    return replace(answer, complete=complete, status=status, build_seconds=spent + answer.build_seconds)


def lifted(task: Task, rounds: int = 0) -> Bounded:
    """Bound by the lifted semidefinite relaxation, which has the triangle's conditions among its own."""
    from optverify.bounds.lifted import lifted_bound  # only this method needs its linear algebra

    if task.solver is None:
        raise InputError("the method lifted needs a solver")
    solver = task.solver if task.solver == INTERIOR_POINT else solvers.get(task.solver)
    root = _ascended(task)
    region, objective = task.goal.region.outward, objective_of(task.goal, 0)
    try:
        answer = lifted_bound(
            task.goal.network, region, root.bounds, objective, solver=solver, rounds=rounds, time_limit=task.time_limit
        )
    except InputError as error:  # overflow, or too large
        failed = replace(_finished(root.lower, f"backward linear bounds only: {error}", root.unstable), complete=False)
        return replace(failed, status=Status.FAILED.value)
    _offer(task, answer.point)
    solution, relaxation = answer.solution, answer.lifted
    claim = None if isnan(solution.bound) else solution.bound
    products = relaxation.n_variables + relaxation.n_products
    return Bounded(
        max(answer.lower, root.lower),
        claim,
        solution.status is Status.OPTIMAL,
        _words(solution.solver, solution.status, solution.message, answer.lower, root.lower),
        nodes=1,
        programs=1 + answer.rounds,
        seconds=answer.solve_seconds,
        solver=INTERIOR_POINT if solver == INTERIOR_POINT else None,
        status=solution.status.value,
        solved_by=solution.solver,
        build_seconds=answer.build_seconds,
        validate_seconds=answer.validate_seconds,
        size=Size(relaxation.n_variables, products, (1 + relaxation.n_variables,)),
        unstable=root.unstable,
    )


def cut(task: Task) -> Bounded:
    """Bound by the lifted relaxation with products of conditions that its solution violates, and by ``triangle``."""
    began = perf_counter()
    first = _program(replace(task, solver="highs"), "triangle", _ascended(task))
    answer = lifted(task.within(perf_counter() - began), CUT_ROUNDS)
    return replace(answer, lower=max(answer.lower, first.lower), programs=answer.programs + 1)


def bigm(task: Task) -> Bounded:
    """Bound by the root relaxation of the big-M program; its own optimum is a claim.

    A MILP solver shows no proof of its bound, so nothing of it can be made rigorous but the relaxation; the
    method ``exact`` proves the optimum by a tree of its own.
    """
    began, root = perf_counter(), _ascended(task)
    first = _program(task, "triangle", root)
    milp = _program(task.within(perf_counter() - began), "bigm", replace(root, lower=first.lower))
    return replace(milp, programs=2)


def exact(task: Task) -> Bounded:
    """Bound by branch and bound until the gap is closed."""
    method = Method(solver=task.solver, proof=task.proof is not None, stop_at=-inf)
    with Crew([task.goal], task.workers) as crew:
        search = Search(task.goal, task.target, crew, method, True, task.report, task.best, task.proof)
        outcome = search.run(inf if task.time_limit is None else task.time_limit)
    root = _ascended(task)
    # With a certificate the bound is what the tree proves.
    lower = outcome.progress.lower if task.proof is not None else max(outcome.progress.lower, root.lower)
    done = outcome.stop is Stop.CLOSED
    reason = "gap closed" if done else outcome.stop.value
    status = {Stop.CLOSED: DONE, Stop.TIME: Status.LIMIT.value, Stop.INTERRUPTED: Status.INTERRUPTED.value}
    # No claim: the solver saw parts and relaxations only, never the whole question.
    return Bounded(
        lower,
        None,
        done,
        reason,
        outcome.progress.nodes,
        outcome.programs,
        seconds=outcome.progress.seconds,
        status=status.get(outcome.stop, Status.INACCURATE.value),
        unstable=root.unstable,
    )


def interrupted(task: Task) -> Bounded:
    """Return what there is without a solver, for a method that Ctrl-C has ended."""
    root = _root(task)
    found = _finished(root.lower, "interrupted: backward linear bounds only", root.unstable)
    return replace(found, complete=False, status=Status.INTERRUPTED.value)


def _finished(lower: float, reason: str, unstable: int) -> Bounded:
    return Bounded(lower, None, True, reason, nodes=1, unstable=unstable)


def _interval(task: Task) -> tuple[float, Bounds]:
    if task.bounds is None:
        bounds, output = propagate(task.goal.network, task.region)
        return task.largest(output.lower[0]), bounds.take(0)
    frame = frame_of(task.goal.network, task.goal.region.outward, task.bounds)
    return task.largest(frame.inputs[-1].lower[0]), task.bounds


def _root(task: Task) -> _Root:
    lower, bounds = _interval(task)
    if task.bounds is None:
        of_one, frame = crown(task.goal.network, task.region)
        bounds = of_one.take(0)
    else:
        frame = frame_of(task.goal.network, task.goal.region.outward, bounds)
    return _Root(bounds, frame, max(lower, _output(task, frame)), _unstable(task, bounds))


def _output(task: Task, frame: Frame) -> float:
    """Bound the goal by one backward pass, and by interval arithmetic on the last layer."""
    return max(task.largest(output_bounds(frame).value[0]), task.largest(frame.inputs[-1].lower[0]))


def _ascended(task: Task) -> _Root:
    root, best = _root(task), -inf
    for row in task.goal.groups[0]:
        objective = np.zeros((1, task.goal.network.n_outputs))
        objective[0, row] = 1.0
        stored = ascend(root.frame, objective, steps=ASCENT_STEPS)
        value = float(root.frame.lower(objective[:, None, :], stored).value[0, 0])
        best = max(best, value) if not isnan(value) else best
    return replace(root, lower=max(root.lower, best))


def _unstable(task: Task, bounds: Bounds) -> int:
    return sum(int(open_.sum()) for open_ in bounds.unstable(task.goal.network))


def _program(task: Task, formulation: str, root: _Root) -> Bounded:
    if task.solver is None:
        raise InputError(f"the method {formulation} needs a solver")
    answer = root_program(
        task.goal, root.bounds, formulation, task.solver, task.time_limit, partial(_offer, task), root.frame
    )
    solution = answer.solution
    # A mixed-integer solver that stopped early claims its dual bound, not the value of its incumbent.
    early = solution.status is not Status.OPTIMAL and not isnan(solution.bound)
    claim = solution.bound if early else solution.objective
    return Bounded(
        max(answer.lower, root.lower),
        None if isnan(claim) else claim,
        solution.status is Status.OPTIMAL,
        _words(
            solution.solver,
            solution.status,
            solution.message,
            nan if answer.program.is_mixed_integer else answer.lower,
            root.lower,
        ),
        nodes=1,
        programs=1,
        seconds=solution.seconds,
        status=solution.status.value,
        solved_by=solution.solver,
        build_seconds=answer.build_seconds,
        validate_seconds=answer.validate_seconds,
        size=Size.of(answer.program),
        unstable=root.unstable,
    )


def _words(solver: str, status: Status, message: str, own: float, implied: float) -> str:
    """Say how a solver ended, and where its multipliers prove less than what the relaxation implies."""
    words = f"{solver}: {status.value}" + (f" ({message})" if message else "")
    return words + ("; a cheaper method's multipliers prove more than the solver's" if own < implied else "")


def _offer(task: Task, x: Array) -> None:
    """Try a solver's point."""
    attack.from_point(task.goal, x, task.best, stop_at=-inf)
    if task.best.point is not None:
        task.target.offer(task.best.value, task.best.point)


BoundMethod = Callable[[Task], Bounded]
"""A method of :func:`optverify.bound`: one function and one line in :data:`METHODS`."""

METHODS: Mapping[str, BoundMethod] = {
    "interval": interval,
    "crown": backward,
    "alpha-crown": ascent,
    "triangle": triangle,
    "triangle+tightened": tightened,
    "lifted": lifted,
    "lifted+cuts": cut,
    "bigm": bigm,
    "exact": exact,
}

SEMIDEFINITE = frozenset({"lifted", "lifted+cuts"})
"""The methods that solve a semidefinite program."""
