"""Ways to bound the least value of one objective from below: the methods of :func:`optverify.bound`.

Every method includes the cheaper ones that its relaxation implies and returns the best of their bounds, so that
bounds are ordered as the relaxations are, to the last bit and whatever a solver leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import inf, isnan, nan
from time import perf_counter

from optverify import solvers
from optverify.bounds.relaxed import frame_of
from optverify.bounds.tighten import tighten
from optverify.errors import InputError
from optverify.formulations.encoder import objective_of
from optverify.interval import Array
from optverify.search import attack
from optverify.search.expand import Method
from optverify.search.leaf import root_program
from optverify.search.task import DONE, Bounded, Root, Size, Task, ascended, by_intervals, by_output, root_of, unstable
from optverify.search.tree import Search, Stop
from optverify.search.workers import Crew
from optverify.solvers import INTERIOR_POINT, LINEAR
from optverify.solvers.solution import Status

CUT_ROUNDS = 2
"""Rounds of products of conditions in ``lifted+cuts``."""


def interval(task: Task) -> Bounded:
    """Bound by interval arithmetic."""
    lower, bounds = by_intervals(task)
    return _finished(lower, "interval arithmetic", unstable(task, bounds))


def backward(task: Task) -> Bounded:
    """Bound by CROWN: from the last layer, or where the task has no bounds on every layer."""
    root = root_of(task)
    return _finished(root.lower, "backward linear bounds", root.unstable)


def ascent(task: Task) -> Bounded:
    """Bound by CROWN with slopes chosen by ascent, pre-activation bounds as they are."""
    root = ascended(task)
    return _finished(root.lower, "backward linear bounds with chosen slopes", root.unstable)


def triangle(task: Task) -> Bounded:
    """Bound by the triangle program, its duals evaluated rigorously."""
    return _program(task, "triangle", ascended(task))


def tightened(task: Task) -> Bounded:
    """Bound by the triangle program after linear programs have tightened all pre-activation bounds."""
    if task.solver is None:
        raise InputError("the method triangle+tightened needs a solver")
    began, root = perf_counter(), ascended(task)
    loose = _program(task, "triangle", root)
    left = task.within(perf_counter() - began).time_limit
    bounds = tighten(task.goal.network, task.goal.region.outward, root.bounds, solver=task.solver, time_limit=left)
    spent = perf_counter() - began
    frame = frame_of(task.goal.network, task.goal.region.outward, bounds)
    tight = Root(bounds, frame, max(root.lower, loose.lower, by_output(task, frame)), unstable(task, bounds))
    answer = _program(task.within(spent), "triangle", tight)
    complete = answer.complete and (task.time_limit is None or spent < task.time_limit)
    status = answer.status if complete or not answer.complete else Status.LIMIT.value
    return replace(answer, complete=complete, status=status, build_seconds=spent + answer.build_seconds)


def lifted(task: Task, rounds: int = 0) -> Bounded:
    """Bound by the lifted semidefinite relaxation, which has the triangle's conditions among its own."""
    from optverify.bounds.lifted import lifted_bound  # only this method needs its linear algebra

    if task.solver is None:
        raise InputError("the method lifted needs a solver")
    began, solver = perf_counter(), task.solver if task.solver == INTERIOR_POINT else solvers.get(task.solver)
    root = ascended(task)
    region, objective = task.goal.region.outward, objective_of(task.goal, 0)
    try:
        answer = lifted_bound(
            task.goal.network, region, root.bounds, objective, solver=solver, rounds=rounds, time_limit=task.time_limit
        )
    except InputError as error:  # overflow, or too large
        failed = _finished(root.lower, f"backward linear bounds only: {error}", root.unstable)
        asked = INTERIOR_POINT if solver == INTERIOR_POINT else None
        return replace(failed, complete=False, status=Status.FAILED.value, solver=asked)
    _offer(task, answer.point)
    solution, relaxation = answer.solution, answer.lifted
    claim = None if isnan(solution.bound) else solution.bound
    late = rounds > 0 and task.time_limit is not None and perf_counter() - began >= task.time_limit
    status = Status.LIMIT if late and solution.status is Status.OPTIMAL else solution.status
    products = relaxation.n_variables + relaxation.n_products
    return Bounded(
        max(answer.lower, root.lower),
        claim,
        status is Status.OPTIMAL,
        _words(solution.solver, status, solution.message, answer.lower, root.lower),
        nodes=1,
        programs=1 + answer.rounds,
        seconds=answer.solve_seconds,
        solver=INTERIOR_POINT if solver == INTERIOR_POINT else None,
        status=status.value,
        solved_by=solution.solver,
        build_seconds=answer.build_seconds,
        validate_seconds=answer.validate_seconds,
        size=Size(relaxation.n_variables, products, (1 + relaxation.n_variables,)),
        unstable=root.unstable,
    )


def cut(task: Task) -> Bounded:
    """Bound by the lifted relaxation with products of conditions that its solution violates, and by ``triangle``."""
    began = perf_counter()
    first = _program(replace(task, solver=LINEAR), "triangle", ascended(task))
    answer = lifted(task.within(perf_counter() - began), CUT_ROUNDS)
    return replace(answer, lower=max(answer.lower, first.lower), programs=answer.programs + 1)


def bigm(task: Task) -> Bounded:
    """Bound by the root relaxation of the big-M program; its own optimum is a claim.

    A MILP solver shows no proof of its bound, so nothing of it can be made rigorous but the relaxation; the
    method ``exact`` proves the optimum by a tree of its own.
    """
    began, root = perf_counter(), ascended(task)
    first = _program(task, "triangle", root)
    milp = _program(task.within(perf_counter() - began), "bigm", replace(root, lower=first.lower))
    return replace(milp, programs=2)


def exact(task: Task) -> Bounded:
    """Bound by branch and bound until the gap is closed."""
    method = Method(solver=task.solver, proof=task.proof is not None, stop_at=-inf)
    with Crew([task.goal], task.workers) as crew:
        search = Search(task.goal, task.target, crew, method, True, task.report, task.best, task.proof)
        outcome = search.run(inf if task.time_limit is None else task.time_limit)
    root = ascended(task)
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
    root = root_of(task)
    found = _finished(root.lower, "interrupted: backward linear bounds only", root.unstable)
    return replace(found, complete=False, status=Status.INTERRUPTED.value)


def _finished(lower: float, reason: str, unstable: int) -> Bounded:
    return Bounded(lower, None, True, reason, nodes=1, unstable=unstable)


def _program(task: Task, formulation: str, root: Root) -> Bounded:
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
