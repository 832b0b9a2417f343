"""Clarabel: an interior-point method for linear and semidefinite programs.

Goulart and Chen, arXiv:2405.12762, 2024. Facts about clarabel 0.11 that this file is built on (each has a test):

* min q.x, A x + s = b, s in K has the dual z in K* of q + A'z = 0: our y. A semidefinite block lists the *upper*
  triangle by columns. Infeasible: z with b.z = -1.
* Entries of b above 1e20 are taken as infinite, and their rows are dropped.
* Time and other limits leave an iterate that need not be feasible, often with a useful z.
* A callback once an iteration can stop it; Ctrl-C alone would not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import nan
from time import perf_counter
from typing import Any

import numpy as np

from optverify.formulations.program import Cone, Program
from optverify.solvers.conic import answer, conic, one_thread, presence
from optverify.solvers.constant import solve_constant
from optverify.solvers.interrupt import interruptible
from optverify.solvers.solution import Availability, Incumbent, Solution, Status, require_support

STATUS = {
    "Unsolved": Status.FAILED,
    "Solved": Status.OPTIMAL,
    "PrimalInfeasible": Status.INFEASIBLE,
    "DualInfeasible": Status.UNBOUNDED,
    "AlmostSolved": Status.INACCURATE,
    "AlmostPrimalInfeasible": Status.INACCURATE,
    "AlmostDualInfeasible": Status.INACCURATE,
    "MaxIterations": Status.LIMIT,
    "MaxTime": Status.LIMIT,
    "NumericalError": Status.INACCURATE,
    "InsufficientProgress": Status.INACCURATE,
    "CallbackTerminated": Status.INTERRUPTED,
}
"""``SolverStatus`` by name; a test checks that none is missing. A numerical error ends at the last good iterate."""


@dataclass(frozen=True)
class Clarabel:
    """The adapter.

    Parameters
    ----------
    tolerance : float, optional
        On residuals and gap, absolute and relative; Clarabel's own 1e-8 by default.
    """

    tolerance: float | None = None
    name: str = field(default="clarabel", init=False)
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=False, init=False)

    def availability(self) -> Availability:
        """Tell whether clarabel is installed, without importing it."""
        return presence("clarabel", "clarabel>=0.11")

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,  # noqa: ARG002
        on_incumbent: Incumbent | None = None,  # noqa: ARG002
    ) -> Solution:
        """Solve a program; see :class:`optverify.solvers.solution.Solver`. Interior points are not warm started."""
        require_support(self, program)
        if program.n_variables == 0:
            return solve_constant(program, self.name)
        label = f"{self.name} {self.availability().version}"
        began = perf_counter()
        stop: list[bool] = []
        try:
            with interruptible(lambda: stop.append(True)):
                solution = self._run(program, time_limit, label, stop)
        except Exception as error:
            solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        return replace(solution, seconds=perf_counter() - began)

    def _run(self, program: Program, time_limit: float | None, label: str, stop: list[bool]) -> Solution:
        import clarabel
        import scipy.sparse as sp

        form = conic(program, upper_triangle=True)
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        if time_limit is not None:
            settings.time_limit = max(0.0, float(time_limit))
        if self.tolerance is not None:
            settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = self.tolerance
        cones: list[Any] = [clarabel.ZeroConeT(form.zero), clarabel.NonnegativeConeT(form.nonneg)]
        cones += [clarabel.PSDTriangleConeT(order) for order in form.orders]
        n = program.n_variables
        with one_thread(program):
            square = sp.csc_array((n, n))
            solver = clarabel.DefaultSolver(square, program.c, form.A, form.b, cones, settings)
            solver.set_termination_callback(lambda _: bool(stop))
            found = solver.solve()
        words = str(found.status)
        status = STATUS.get(words, Status.FAILED)
        dual = np.array(found.z, np.float64)[form.rows]
        return answer(
            program,
            label,
            status,
            words,
            primal=np.array(found.x, np.float64),
            dual=dual,
            ray=dual if status is Status.INFEASIBLE else None,
            bound=found.obj_val_dual + program.c0 if status is Status.OPTIMAL else nan,
            iterations=int(found.iterations),
        )
