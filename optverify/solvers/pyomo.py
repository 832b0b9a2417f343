"""Pyomo as a solver: a linear or mixed-integer program goes to whichever solver Pyomo finds.

Bynum et al., Pyomo, 3rd edition, Springer 2021. Facts about pyomo 6.10 that this file is built on (each has a test):

* The ``dual`` suffix of a constraint is d objective / d right side: our y is its negative.
* No certificate of infeasibility reaches the user: rays come from the elastic program.
* A constraint without variables is an error, so an empty row gets a coefficient of 0.
* While a solver runs, the file descriptors of the whole process are redirected to catch its output. Two threads at
  once take each other's and wait for ever, so one waits for the other here.
* Ctrl-C waits until the solver returns. Incumbents are not reported; the last one is, at the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from time import perf_counter
from typing import Any

import numpy as np

from optverify.errors import SolverUnavailable
from optverify.formulations.program import Block, Cone, Program
from optverify.solvers.conic import answer, presence, ray_of
from optverify.solvers.constant import solve_constant
from optverify.solvers.interrupt import interruptible
from optverify.solvers.mosek import unlicensed
from optverify.solvers.solution import Availability, Incumbent, Solution, Status, require_support

STATUS = {
    "unknown": Status.INACCURATE,
    "maxTimeLimit": Status.LIMIT,
    "maxIterations": Status.LIMIT,
    "minFunctionValue": Status.LIMIT,
    "minStepLength": Status.INACCURATE,
    "globallyOptimal": Status.OPTIMAL,
    "locallyOptimal": Status.OPTIMAL,
    "feasible": Status.INACCURATE,
    "optimal": Status.OPTIMAL,
    "maxEvaluations": Status.LIMIT,
    "other": Status.INACCURATE,
    "unbounded": Status.UNBOUNDED,
    "infeasible": Status.INFEASIBLE,
    "infeasibleOrUnbounded": Status.INFEASIBLE,
    "invalidProblem": Status.FAILED,
    "intermediateNonInteger": Status.INACCURATE,
    "noSolution": Status.FAILED,
    "solverFailure": Status.FAILED,
    "internalSolverError": Status.FAILED,
    "error": Status.FAILED,
    "userInterrupt": Status.INTERRUPTED,
    "resourceInterrupt": Status.LIMIT,
    "licensingProblems": Status.FAILED,
}
"""``TerminationCondition`` by name; a test checks that none is missing. The elastic program tells infeasible from
unbounded."""

CHOICE = ("appsi_highs", "gurobi_direct", "scip", "cbc", "glpk")
"""What is taken if nothing is said: the first that Pyomo finds."""


_ALONE = threading.Lock()


@dataclass(frozen=True)
class Pyomo:
    """The adapter.

    Parameters
    ----------
    inner : str, optional
        Which of Pyomo's solvers, as for its ``SolverFactory``; without it, :data:`CHOICE`.
    """

    inner: str | None = None
    cones: frozenset[Cone] = field(default=frozenset({Cone.ZERO, Cone.NONNEG}), init=False)
    mixed_integer: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """``pyomo`` or ``pyomo:INNER``."""
        return "pyomo" if self.inner is None else f"pyomo:{self.inner}"

    def availability(self) -> Availability:
        """Tell whether Pyomo is installed, without importing it."""
        return presence("pyomo", "pyomo>=6.9")

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
        began = perf_counter()
        with _ALONE, _quiet():
            inner, engine = self._choose()
            label = f"{self.name} {self.availability().version}" + (f" ({inner})" if self.inner is None else "")
            if time_limit is not None and time_limit <= 0:
                return Solution(Status.LIMIT, label, message="no time")
            try:
                with interruptible(lambda: None):
                    solution = _run(program, engine, label, time_limit)
                    if solution.status is Status.INFEASIBLE and not program.is_mixed_integer:
                        solution = ray_of(program, solution, lambda p: _run(p, engine, label, time_limit))
            except Exception as error:
                text = unlicensed(error)
                if text is not None:
                    raise SolverUnavailable(text) from None
                solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        if on_incumbent is not None and solution.primal is not None and program.is_mixed_integer:
            on_incumbent(solution.objective, solution.primal)
        return replace(solution, seconds=perf_counter() - began)

    def _choose(self) -> tuple[str, Any]:
        from pyomo.environ import SolverFactory

        for name in CHOICE if self.inner is None else (self.inner,):
            engine = SolverFactory(name)
            if engine.available(exception_flag=False):
                return name, engine
        what = f"solver {self.inner!r}" if self.inner else f"any of {', '.join(CHOICE)}"
        raise SolverUnavailable(f"pyomo does not find {what} here; `pyomo help --solvers` lists what it knows")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pyomo's log, where it also reports what it raises or returns."""
    log = logging.getLogger("pyomo")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _run(program: Program, engine: Any, label: str, time_limit: float | None) -> Solution:
    model, x, rows = _model(program)
    options = {} if time_limit is None else {"timelimit": time_limit}
    results = engine.solve(model, tee=False, load_solutions=False, **options)
    condition = results.solver.termination_condition.name
    status = STATUS.get(condition, Status.FAILED)
    primal = dual = None
    if status not in (Status.INFEASIBLE, Status.UNBOUNDED, Status.FAILED) and len(results.solution):
        model.solutions.load_from(results)
        primal = _vector(variable.value for variable in x)
        primal = None if np.isnan(primal).any() else primal
        if not program.is_mixed_integer:
            dual = -_vector(model.dual.get(row) for row in rows)
            dual = None if np.isnan(dual).any() else dual
    bound = results.problem.lower_bound
    claim = float(bound) if isinstance(bound, float | int) and isfinite(bound) else nan
    return answer(
        program,
        label,
        status,
        condition,
        primal=primal,
        dual=dual,
        bound=claim if status is not Status.UNBOUNDED else nan,
    )


def _vector(values: Iterator[float | None]) -> Any:
    return np.array([nan if v is None else v for v in values], np.float64)


def _model(program: Program) -> tuple[Any, list[Any], list[Any]]:
    """Return a ConcreteModel with the suffix ``dual``, its variables and its constraints."""
    import pyomo.environ as pyo
    from pyomo.core.expr import LinearExpression

    from optverify.modelling.pyomo import build

    model = pyo.ConcreteModel(name=program.name or "program")
    x, rows = build(program, {"x": Block(0, program.n_variables)}, model)
    # With all variables: one that occurs nowhere gets no value.
    model.objective = pyo.Objective(
        expr=LinearExpression(constant=program.c0, linear_coefs=program.c.tolist(), linear_vars=x), sense=pyo.minimize
    )
    if not program.is_mixed_integer:
        model.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
    return model, x, rows
