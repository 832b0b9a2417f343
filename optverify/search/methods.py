"""Ways to bound the least value of one objective from below: the methods of :func:`optverify.bound`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isnan

from optverify import solvers
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.interval_propagation import propagate
from optverify.errors import InputError
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import Proof
from optverify.query import Goal
from optverify.search import attack
from optverify.search.expand import Method
from optverify.search.leaf import objective_of, root_program
from optverify.search.tree import Progress, Search, Stop, Target
from optverify.search.workers import Crew
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.solution import Solver, Status


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
    """

    lower: float
    claim: float | None
    complete: bool
    reason: str
    nodes: int = 0
    programs: int = 0
    seconds: float = 0.0
    solver: str | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is given.

    Parameters
    ----------
    goal : Goal
        Of one row, to be minimised over one region.
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
    """

    goal: Goal
    target: Target
    best: attack.Best
    solver: str | Solver | None
    time_limit: float | None
    report: Callable[[Progress], None] | None
    workers: int = 1
    proof: Proof | None = None

    @property
    def region(self) -> Interval:
        """The region as a batch of one box."""
        return self.goal.region.outward.take(None)


def interval(task: Task) -> Bounded:
    """Bound by interval arithmetic."""
    _, output = propagate(task.goal.network, task.region)
    return Bounded(float(output.lower[0, 0]), None, True, "interval arithmetic", nodes=1)


def backward(task: Task) -> Bounded:
    """Bound by CROWN on every layer."""
    return Bounded(_backward(task)[1], None, True, "backward linear bounds", nodes=1)


def _backward(task: Task) -> tuple[Bounds, float]:
    bounds, frame = crown(task.goal.network, task.region)
    return bounds.take(0), max(float(output_bounds(frame).value[0, 0]), float(frame.inputs[-1].lower[0, 0]))


def triangle(task: Task) -> Bounded:
    """Bound by the triangle program, its duals evaluated rigorously."""
    return _program(task, "triangle")


def lifted(task: Task) -> Bounded:
    """Bound by the lifted semidefinite relaxation."""
    from optverify.bounds.lifted import lifted_bound  # only this method needs its linear algebra

    if task.solver is None:
        raise InputError("the method lifted needs a solver")
    solver = task.solver if task.solver == INTERIOR_POINT else solvers.get(task.solver)
    bounds, first = _backward(task)
    region, objective = task.goal.region.outward, objective_of(task.goal, 0)
    try:
        answer = lifted_bound(task.goal.network, region, bounds, objective, solver=solver, time_limit=task.time_limit)
    except InputError as error:  # overflow, or too large
        return Bounded(first, None, False, f"backward linear bounds only: {error}", nodes=1)
    _offer(task, answer.point)
    solution = answer.solution
    return Bounded(
        max(answer.lower, first),
        None if isnan(solution.bound) else solution.bound,
        solution.status is Status.OPTIMAL,
        f"{solution.solver}: {solution.status.value}" + (f" ({solution.message})" if solution.message else ""),
        nodes=1,
        programs=1 + answer.rounds,
        seconds=solution.seconds,
        solver=INTERIOR_POINT if solver == INTERIOR_POINT else None,
    )


def bigm(task: Task) -> Bounded:
    """Bound by the root relaxation of the big-M program; its own optimum is a claim.

    A MILP solver shows no proof of its bound, so nothing of it can be made rigorous but the relaxation; the
    method ``exact`` proves the optimum by a tree of its own.
    """
    root = _program(task, "triangle")
    left = None if task.time_limit is None else max(task.time_limit - root.seconds, 0.01)
    milp = _program(replace(task, time_limit=left), "bigm")
    return replace(milp, lower=max(milp.lower, root.lower), programs=2)


def _program(task: Task, formulation: str) -> Bounded:
    if task.solver is None:
        raise InputError(f"the method {formulation} needs a solver")
    bounds, first = _backward(task)
    answer = root_program(task.goal, bounds, formulation, task.solver, task.time_limit, partial(_offer, task))
    solution = answer.solution
    # A mixed-integer solver that stopped early claims its dual bound, not the value of its incumbent.
    early = solution.status is not Status.OPTIMAL and not isnan(solution.bound)
    claim = solution.bound if early else solution.objective
    words = f"{solution.solver}: {solution.status.value}" + (f" ({solution.message})" if solution.message else "")
    return Bounded(
        max(answer.lower, first),
        None if isnan(claim) else claim,
        solution.status is Status.OPTIMAL,
        words,
        nodes=1,
        programs=1,
        seconds=solution.seconds,
    )


def _offer(task: Task, x: Array) -> None:
    """Try a solver's point."""
    attack.from_point(task.goal, x, task.best, stop_at=-inf)
    if task.best.point is not None:
        task.target.offer(task.best.value, task.best.point)


def exact(task: Task) -> Bounded:
    """Bound by branch and bound until the gap is closed."""
    method = Method(solver=task.solver, proof=task.proof is not None, stop_at=-inf)
    with Crew([task.goal], task.workers) as crew:
        search = Search(task.goal, task.target, crew, method, True, task.report, task.best, task.proof)
        outcome = search.run(inf if task.time_limit is None else task.time_limit)
    lower = outcome.progress.lower
    if task.proof is None:  # otherwise the bound is what the tree proves
        lower = max(lower, _backward(task)[1])
    done = outcome.stop is Stop.CLOSED
    reason = "gap closed" if done else outcome.stop.value
    # No claim: the solver saw parts and relaxations only, never the whole question.
    return Bounded(lower, None, done, reason, outcome.progress.nodes, outcome.programs)


BoundMethod = Callable[[Task], Bounded]
"""A method of :func:`optverify.bound`: one function and one line in :data:`METHODS`."""

METHODS: Mapping[str, BoundMethod] = {
    "interval": interval,
    "crown": backward,
    "triangle": triangle,
    "lifted": lifted,
    "bigm": bigm,
    "exact": exact,
}
