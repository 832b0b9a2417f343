"""cvxpy as a solver: a program goes to whichever solver cvxpy has installed.

Diamond and Boyd, JMLR 17(83), 2016. Facts about cvxpy 1.9 that this file is built on (each has a test):

* For a minimisation the dual value of ``A x == b`` and of ``A x <= b`` is our y, of ``S >> 0`` the matrix of our y,
  whatever the solver.
* No certificate of infeasibility reaches the user: rays come from the elastic program.
* Its own choice of a solver is MOSEK wherever that package is installed, and then MOSEK's exception about the
  licence, which is no ``cvxpy.SolverError``. So the choice is made here.
* Options have each solver's own names. Ctrl-C waits until the solver returns; if that is SCS, Python never hears of it
  but by the ``status_val`` -5 in what SCS left.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan
from time import perf_counter
from typing import Any

import numpy as np

from optverify.errors import SolverUnavailable, UnsupportedProgram
from optverify.formulations.program import Block, Cone, Program, triangle_of
from optverify.modelling.cvxpy import build
from optverify.solvers.conic import answer, one_thread, presence, ray_of
from optverify.solvers.constant import solve_constant
from optverify.solvers.interrupt import interruptible
from optverify.solvers.mosek import Mosek, unlicensed
from optverify.solvers.solution import Availability, Incumbent, Solution, Status, require_support

STATUS = {
    "optimal": Status.OPTIMAL,
    "optimal_inaccurate": Status.INACCURATE,
    "infeasible": Status.INFEASIBLE,
    "infeasible_inaccurate": Status.INACCURATE,
    "unbounded": Status.UNBOUNDED,
    "unbounded_inaccurate": Status.INACCURATE,
    "infeasible_or_unbounded": Status.INFEASIBLE,
    "user_limit": Status.LIMIT,
    "solver_error": Status.FAILED,
}
"""cvxpy's own list; a test checks that none is missing. Infeasible or unbounded: the elastic program decides."""

CHOICE = {
    "LP": ("HIGHS", "CLARABEL", "SCS"),
    "MILP": ("HIGHS", "SCIP", "SCIPY"),
    "SDP": ("MOSEK", "CLARABEL", "SCS"),
}
"""What is taken if nothing is said: the first that is installed, and MOSEK only with a licence."""

TIME: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda t: {"time_limit": t},
    "GUROBI": lambda t: {"TimeLimit": t},
    "HIGHS": lambda t: {"time_limit": t},
    "MOSEK": lambda t: {"mosek_params": {"MSK_DPAR_OPTIMIZER_MAX_TIME": t}},
    "OSQP": lambda t: {"time_limit": t},
    "SCIPY": lambda t: {"scipy_options": {"time_limit": t}},
    "SCS": lambda t: {"time_limit_secs": t},
}
"""How each solver is told its time limit; others run without one, and the message says so."""

TOLERANCE: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda t: {"tol_feas": t, "tol_gap_abs": t, "tol_gap_rel": t},
    "MOSEK": lambda t: {"eps": t},
    "OSQP": lambda t: {"eps_abs": t, "eps_rel": t},
    "SCS": lambda t: {"eps_abs": t, "eps_rel": t},
}
"""How each solver is told a tolerance on residuals and gap; others run with their own, and the message says so."""


@dataclass(frozen=True)
class Cvxpy:
    """The adapter.

    Parameters
    ----------
    inner : str, optional
        Which of cvxpy's solvers, as in ``cvxpy.installed_solvers()``; without it, :data:`CHOICE`.
    tolerance : float, optional
        On residuals and gap; the solver's own, or what cvxpy sets, by default.
    """

    inner: str | None = None
    tolerance: float | None = None
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """``cvxpy`` or ``cvxpy:INNER``."""
        return "cvxpy" if self.inner is None else f"cvxpy:{self.inner}"

    def availability(self) -> Availability:
        """Tell whether cvxpy is installed, without importing it."""
        return presence("cvxpy", "cvxpy>=1.7")

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,  # noqa: ARG002
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Solve a program; see :class:`optverify.solvers.solution.Solver`. Only the last incumbent is reported."""
        require_support(self, program)
        if program.n_variables == 0:
            return solve_constant(program, self.name)
        inner = self._choose(program)
        label = f"{self.name} {self.availability().version}" + (f" ({inner})" if self.inner is None else "")
        if time_limit is not None and time_limit <= 0:
            return Solution(Status.LIMIT, label, message="no time")
        began = perf_counter()
        try:
            with interruptible(lambda: None):
                solution = self._run(program, inner, label, time_limit)
                if solution.status is Status.INFEASIBLE and not program.is_mixed_integer:
                    solution = ray_of(program, solution, lambda p: self._run(p, inner, label, time_limit))
        except (SolverUnavailable, UnsupportedProgram):
            raise
        except Exception as error:
            text = unlicensed(error)
            if text is not None:
                raise SolverUnavailable(text) from None
            solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        if solution.status is Status.INTERRUPTED:
            signal.raise_signal(signal.SIGINT)
        if on_incumbent is not None and solution.primal is not None and program.is_mixed_integer:
            on_incumbent(solution.objective, solution.primal)
        return replace(solution, seconds=perf_counter() - began)

    def _choose(self, program: Program) -> str:
        import cvxpy

        there = cvxpy.installed_solvers()
        if self.inner is not None:
            if self.inner not in there:
                raise SolverUnavailable(f"cvxpy has no solver {self.inner!r} here; it has {', '.join(there)}")
            return self.inner
        for name in CHOICE[program.kind]:
            if name in there and (name != "MOSEK" or Mosek().availability()):
                return name
        raise SolverUnavailable(f"cvxpy has no solver for {program!r} here; install one of {CHOICE[program.kind]}")

    def _run(self, program: Program, inner: str, label: str, time_limit: float | None) -> Solution:
        import cvxpy

        built = build(program, {"x": Block(0, program.n_variables)})
        x, rows = built.variables["x"], built.constraints
        problem = cvxpy.Problem(cvxpy.Minimize(built.objective), [row for row, _ in rows])
        options: dict[str, Any] = {}
        words: list[str] = []
        if time_limit is not None:
            options |= TIME[inner](time_limit) if inner in TIME else {}
            words += [] if inner in TIME else [f"{inner} was not told the time limit"]
        if self.tolerance is not None:
            options |= TOLERANCE[inner](self.tolerance) if inner in TOLERANCE else {}
            words += [] if inner in TOLERANCE else [f"{inner} was not told the tolerance"]
        try:
            data, chain, inverse = problem.get_problem_data(solver=inner, solver_opts=options)
        except cvxpy.error.SolverError as error:
            raise UnsupportedProgram(f"cvxpy's solver {inner} does not take {program!r}: {error}") from None
        with one_thread(program), _quiet(inner):
            raw = chain.solve_via_data(problem, data, warm_start=False, verbose=False, solver_opts=options)
        if inner == "SCS" and raw["info"]["status_val"] == -5:
            return Solution(Status.INTERRUPTED, label, message="interrupted")
        found = chain.invert(raw, inverse)
        status = STATUS.get(found.status, Status.FAILED)
        if inner == "SCS" and "reached" in raw["info"]["status"]:
            status = Status.LIMIT  # to cvxpy a point short of the tolerances, whatever stopped it
        primal = found.primal_vars.get(x.id) if found.primal_vars else None
        dual = None
        if all(row.id in (found.dual_vars or {}) for row, _ in rows):
            dual = np.zeros(program.n_rows)
            for row, block in rows:
                value = np.asarray(found.dual_vars[row.id], np.float64)
                dual[block] = triangle_of(value.reshape(row.shape)) if row.shape != block.shape else value.reshape(-1)
        claim = float(found.opt_val) if status is Status.OPTIMAL and not program.is_mixed_integer else nan
        return answer(
            program,
            label,
            status,
            "; ".join([found.status, *words]),
            primal=None if primal is None else np.asarray(primal, np.float64).reshape(-1),
            dual=dual,
            bound=claim,
            iterations=int(found.attr.get("num_iters") or 0),
        )


@contextmanager
def _quiet(inner: str) -> Iterator[None]:
    """Silence MOSEK's warnings about the arrays that cvxpy passes to it."""
    if inner != "MOSEK":
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="mosek")
        yield
