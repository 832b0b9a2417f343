"""Who solves a lifted relaxation: the interior-point method made for it, or a generic solver through a program.

A generic solver gets the form that suits it (``docs/sdp.md``): SCS the primal one, all others the dual one. Whoever
it was, what comes back are multipliers and moments, and every number is a claim.
"""

from __future__ import annotations

from itertools import chain, starmap
from math import nan

import numpy as np

from optverify.errors import InputError
from optverify.formulations.lifted import Lifted
from optverify.formulations.semidefinite import dual_form, primal_form, read_lifted, read_moments
from optverify.solvers import INTERIOR_POINT, get
from optverify.solvers.auto import Attempt, Auto, first_that_works
from optverify.solvers.interior_point import LiftedSolution, solve_lifted
from optverify.solvers.solution import Availability, Solver, Status

MIRROR = {Status.INFEASIBLE: Status.UNBOUNDED, Status.UNBOUNDED: Status.INFEASIBLE}
"""What a status of the dual form says of the relaxation."""


def solve_lifted_by(
    lifted: Lifted,
    solver: str | Solver = INTERIOR_POINT,
    *,
    form: str | None = None,
    stop_above: float = np.inf,
    stop_below: float = -np.inf,
    time_limit: float | None = None,
    start: LiftedSolution | None = None,
) -> LiftedSolution:
    """Solve a lifted relaxation by a solver of one's choice.

    Parameters
    ----------
    lifted : Lifted
    solver : str or Solver
        ``interior point``, ``auto`` (that one first, then generic solvers by size), or any that takes semidefinite
        cones.
    form : "dual" or "primal", optional
        For a generic solver, see :mod:`optverify.formulations.semidefinite`; by default what suits it.
    stop_above, stop_below, start
        See :func:`optverify.solvers.interior_point.solve_lifted`; generic solvers cannot use them.
    time_limit : float, seconds, optional

    Raises
    ------
    InputError, SolverUnavailable, UnsupportedProgram
        Unknown names; the solver is not there or does not take such programs.
    """
    if form not in (None, "dual", "primal"):
        raise InputError(f"the form is 'dual' or 'primal', not {form!r}")

    def ours(left: float | None) -> LiftedSolution:
        return solve_lifted(lifted, stop_above=stop_above, stop_below=stop_below, time_limit=left, start=start)

    def attempt(generic: Solver, why: str) -> Attempt[LiftedSolution]:
        return Attempt(generic.name, generic.availability(), lambda left: _by_program(lifted, generic, form, left), why)

    if solver == INTERIOR_POINT:
        return ours(time_limit)
    chosen = get(solver)
    if lifted.n_variables == 0:  # a constant: no program
        return ours(time_limit)
    if not isinstance(chosen, Auto):
        return _by_program(lifted, chosen, form, time_limit)
    order = 1 + lifted.n_variables
    first = Attempt(INTERIOR_POINT, Availability(installed=True), ours, "it uses the structure")
    others = starmap(attempt, chosen.ranked("SDP", order))
    return first_that_works(chain([first], others), f"lifted relaxation of order {order}", time_limit)


def _by_program(lifted: Lifted, solver: Solver, form: str | None, time_limit: float | None) -> LiftedSolution:
    """Ask a generic solver."""
    if form is None:
        form = "primal" if solver.name.lower().endswith("scs") else "dual"
    program = dual_form(lifted) if form == "dual" else primal_form(lifted)
    found = solver.solve(program, time_limit=time_limit)
    status, below, above, ours, theirs = found.status, found.bound, found.objective, found.dual, found.primal
    if form == "dual":  # what is dual to it is primal to the relaxation, and its optimum is minus that
        status, below, above, ours, theirs = MIRROR.get(status, status), -above, -below, theirs, ours
    multipliers = read_lifted(lifted, program, ours)
    box, products = (np.zeros(lifted.n_variables), np.zeros(lifted.n_products)) if multipliers is None else multipliers
    moments = read_moments(lifted, program, theirs)
    if moments is None:  # that of no point in particular
        moments = np.eye(1 + lifted.n_variables, 1 + lifted.hidden)
    return LiftedSolution(
        status=status,
        message=found.message,
        bound=below,
        objective=above,
        residual=nan,
        box=box,
        products=products,
        point=moments[1:, 0],
        moments=moments,
        iterations=found.iterations,
        seconds=found.seconds,
        solver=f"{found.solver}, {form} form",
    )
