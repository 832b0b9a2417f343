"""HiGHS, through its own Python interface: linear and mixed-integer programs.

Facts about highspy 1.15 that this file is built on (each has a test):

* ``row_dual`` is d objective / d right side, so y of ``docs/duality.md`` is its negative; a dual ray is
  already in the sense of y but for the same sign.
* The task scheduler is global to the process: after another ``threads`` was used, `run` fails until
  ``resetGlobalScheduler``.
* Matrix entries above 1e15 are refused, entries below 1e-9 dropped and bounds above 1e20 taken as infinite:
  its answers to programs with such numbers are about another program. They are claims anyway.
* It leaves no ray where a row without entries does not hold: the elastic program has one.
* A program without columns is "empty" even where its rows do not hold.
* An exception in a callback would unwind through the C++ solver, so none may leave one; Ctrl-C is noted
  by a signal handler of ours, stops the solver at its next callback, and is raised afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan
from time import perf_counter
from typing import Any, Literal

import numpy as np

from optverify.formulations.program import Cone, Program
from optverify.interval import Array
from optverify.solvers.conic import presence, ray_of
from optverify.solvers.constant import solve_constant
from optverify.solvers.interrupt import interruptible
from optverify.solvers.solution import Availability, Incumbent, Solution, Status, require_support

STATUS = {
    "kNotset": Status.FAILED,
    "kLoadError": Status.FAILED,
    "kModelError": Status.FAILED,
    "kPresolveError": Status.FAILED,
    "kSolveError": Status.FAILED,
    "kPostsolveError": Status.FAILED,
    "kModelEmpty": Status.OPTIMAL,
    "kOptimal": Status.OPTIMAL,
    "kInfeasible": Status.INFEASIBLE,
    "kUnboundedOrInfeasible": Status.FAILED,
    "kUnbounded": Status.UNBOUNDED,
    "kObjectiveBound": Status.LIMIT,
    "kObjectiveTarget": Status.LIMIT,
    "kTimeLimit": Status.LIMIT,
    "kIterationLimit": Status.LIMIT,
    "kUnknown": Status.INACCURATE,
    "kSolutionLimit": Status.LIMIT,
    "kInterrupt": Status.INTERRUPTED,
    "kMemoryLimit": Status.LIMIT,
    "kHighsInterrupt": Status.INTERRUPTED,
}
"""``HighsModelStatus`` by name; a test checks that none is missing."""

LARGE = 10_000
"""From this many nonzeros on, and without a basis to start from, the interior-point method with crossover
takes as long as the simplex method or less: 1 to 4 times less on networks of 100 to 800 neurons."""


@dataclass(frozen=True)
class Highs:
    """The adapter.

    Parameters
    ----------
    algorithm : {"auto", "simplex", "ipm"}
        For linear programs. ``auto``: the simplex method from a given basis or if the program is small, else
        the interior-point method with crossover.
    tolerance : float, optional
        On primal and dual feasibility; HiGHS's own 1e-7 by default.
    mip_gap : float, optional
        Relative gap at which a mixed-integer program counts as solved; HiGHS's own 1e-4 by default.
    """

    algorithm: Literal["auto", "simplex", "ipm"] = "auto"
    tolerance: float | None = None
    mip_gap: float | None = None
    name: str = field(default="highs", init=False)
    cones: frozenset[Cone] = field(default=frozenset({Cone.ZERO, Cone.NONNEG}), init=False)
    mixed_integer: bool = field(default=True, init=False)

    def availability(self) -> Availability:
        """Tell whether highspy is installed, without importing it."""
        return presence("highspy", "highspy>=1.15.1,<1.16")

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Solve a program; see :class:`optverify.solvers.solution.Solver`."""
        require_support(self, program)
        if program.n_variables == 0:
            return solve_constant(program, self.name)
        began = perf_counter()
        watch = _Watch(on_incumbent)
        label = f"{self.name} {self.availability().version}"
        try:
            with interruptible(watch.interrupt):
                solution = self._run(program, time_limit, start, watch, label)
                if solution.status is Status.INFEASIBLE and solution.ray is None and not program.is_mixed_integer:
                    solution = ray_of(program, solution, lambda p: self._run(p, time_limit, None, watch, label))
        except Exception as error:
            solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        if watch.error is not None:
            raise watch.error  # the caller's own callback raised it
        return replace(solution, seconds=perf_counter() - began)

    def _run(
        self, program: Program, time_limit: float | None, start: Solution | None, watch: _Watch, label: str
    ) -> Solution:
        import highspy

        h = highspy.Highs()  # type: ignore[no-untyped-call]
        watch.attach(h)
        # Another solver's basis is of no use here.
        warm = start.basis if start is not None and isinstance(start.basis, highspy.HighsBasis) else None
        self._configure(h, program, time_limit)
        method = self.algorithm
        if method == "auto":
            method = "ipm" if warm is None and program.A.nnz >= LARGE else "simplex"
        h.setOptionValue("solver", "choose" if program.is_mixed_integer else method)
        error = highspy.HighsStatus.kError
        if _load(h, program) == error:
            return Solution(Status.FAILED, label, message=watch.words("refused the program"))
        point = None if start is None else _usable(start.primal, program.n_variables)
        if program.is_mixed_integer and point is not None:
            h.setSolution(point.size, np.arange(point.size, dtype=np.int32), point)
        elif warm is not None and not program.is_mixed_integer:
            h.setBasis(_lengthened(warm, program.n_rows))  # a basis that does not fit is refused and ignored
        outcome = h.run()
        if outcome == error and h.getModelStatus() == highspy.HighsModelStatus.kNotset:
            # Someone in this process used the global scheduler with another number of threads.
            h.resetGlobalScheduler(True)
            outcome = h.run()
        settled = _status(h) in (Status.OPTIMAL, Status.LIMIT, Status.INTERRUPTED)
        if method == "ipm" and not settled and not program.is_mixed_integer:
            # The interior-point method leaves no ray, and gives up more easily.
            h.setOptionValue("solver", "simplex")
            outcome = h.run()
        return _answer(h, program, label, watch, failed=outcome == error)

    def _configure(self, h: Any, program: Program, time_limit: float | None) -> None:
        options: dict[str, float | str | bool] = {"log_to_console": False, "threads": 1}
        if time_limit is not None:
            options["time_limit"] = max(0.0, float(time_limit))
        if self.tolerance is not None:
            options["primal_feasibility_tolerance"] = options["dual_feasibility_tolerance"] = self.tolerance
            options["mip_feasibility_tolerance"] = self.tolerance
        if self.mip_gap is not None:
            options["mip_rel_gap"] = self.mip_gap
        if not program.is_mixed_integer:
            # Presolve takes as long as it saves on these programs, and hides the basis and the rays.
            options["presolve"] = "off"
        for option, value in options.items():
            if h.setOptionValue(option, value).name == "kError":
                raise ValueError(f"HiGHS refuses {option} = {value}")


class _Watch:
    """What happens in callbacks: incumbents, log lines, and the wish to stop. Lets no exception out."""

    def __init__(self, on_incumbent: Incumbent | None) -> None:
        self.on_incumbent = on_incumbent
        self.stop = False
        self.error: BaseException | None = None
        self._lines: list[str] = []

    def interrupt(self) -> None:
        """Ask the solver to stop at its next callback."""
        self.stop = True

    def attach(self, h: Any) -> None:
        """Subscribe to the events of a Highs object."""
        h.cbLogging.subscribe(self._log)
        for event in (h.cbSimplexInterrupt, h.cbIpmInterrupt, h.cbMipInterrupt):
            event.subscribe(self._check)
        if self.on_incumbent is not None:
            h.cbMipImprovingSolution.subscribe(self._incumbent)

    def words(self, verdict: str) -> str:
        """Return HiGHS's verdict, warnings and errors."""
        return "; ".join(dict.fromkeys([verdict, *self._lines]))

    def _log(self, event: Any) -> None:
        if event.data_out.log_type.name in ("kWarning", "kError"):
            self._lines.append(" ".join(event.message.split()))

    def _check(self, event: Any) -> None:
        if self.stop:
            event.interrupt()

    def _incumbent(self, event: Any) -> None:
        assert self.on_incumbent is not None
        try:
            point = np.array(event.data_out.mip_solution, dtype=np.float64)
            if not self.stop and self.on_incumbent(float(event.data_out.objective_function_value), point):
                self.stop = True
        except BaseException as error:  # must not unwind through C++; raised again after the solve
            self.error, self.stop = error, True
        self._check(event)


def _lengthened(basis: Any, rows: int) -> Any:
    """Return the basis for a program to which rows were added at the end: these are basic."""
    import highspy

    missing = rows - len(basis.row_status)
    if missing <= 0:
        return basis
    longer = highspy.HighsBasis()
    longer.col_status, longer.valid = basis.col_status, True
    longer.row_status = [*basis.row_status, *[highspy.HighsBasisStatus.kBasic] * missing]
    return longer


def _load(h: Any, program: Program) -> Any:
    """Pass the program to HiGHS."""
    import highspy

    lp, matrix = highspy.HighsLp(), program.A
    row_lower = program.b.copy()
    for block in program.rows.values():
        if block.cone is Cone.NONNEG:
            row_lower[block.indices] = -inf
    lp.num_col_, lp.num_row_ = program.n_variables, program.n_rows
    lp.col_cost_, lp.offset_ = program.c, program.c0
    lp.col_lower_, lp.col_upper_ = program.lower, program.upper
    lp.row_lower_, lp.row_upper_ = row_lower, program.b
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    if program.is_mixed_integer:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[flag] for flag in program.integer.tolist()]
    return h.passModel(lp)


def _status(h: Any) -> Status:
    return STATUS.get(h.getModelStatus().name, Status.FAILED)


def _answer(h: Any, program: Program, label: str, watch: _Watch, *, failed: bool) -> Solution:
    """Read what HiGHS left. A vector with NaN in it means that it broke down."""
    from highspy import SolutionStatus

    status = Status.FAILED if failed else _status(h)
    words = watch.words(h.modelStatusToString(h.getModelStatus()))
    if status is Status.FAILED:
        return Solution(Status.FAILED, label, message=words)
    info, vectors = h.getInfo(), h.getSolution()
    primal = dual = ray = basis = None
    feasible = info.primal_solution_status == int(SolutionStatus.kSolutionStatusFeasible)
    if status is not Status.INFEASIBLE and vectors.value_valid and feasible:
        primal = np.array(vectors.col_value, dtype=np.float64)
    if vectors.dual_valid:
        dual = -np.array(vectors.row_dual, dtype=np.float64)
    if status is Status.INFEASIBLE and not program.is_mixed_integer:
        _, exists, direction = h.getDualRay()
        ray = -np.array(direction, dtype=np.float64) if exists else None
    objective = float(info.objective_function_value) if primal is not None else nan
    if program.is_mixed_integer:
        bound = float(info.mip_dual_bound) if status is not Status.INFEASIBLE else nan
    else:
        bound = objective if status is Status.OPTIMAL else nan
        basis = h.getBasis() if h.getBasis().valid else None
    for vector, size in ((primal, program.n_variables), (dual, program.n_rows), (ray, program.n_rows)):
        if vector is not None and _usable(vector, size) is None:
            return Solution(Status.FAILED, label, message=f"{words}; but a vector is not finite or has a wrong size")
    if status is Status.OPTIMAL and not isfinite(objective):
        return Solution(Status.FAILED, label, message=f"{words}; but there is no finite objective")
    return Solution(
        status,
        label,
        objective=objective,
        bound=bound,
        primal=primal,
        dual=dual,
        ray=ray,
        iterations=max(0, info.simplex_iteration_count) + max(0, info.ipm_iteration_count),
        nodes=max(0, info.mip_node_count),
        message=words,
        basis=basis,
    )


def _usable(values: Array | None, size: int) -> Array | None:
    """Return a vector if it has the given size and is finite."""
    if values is None or np.shape(values) != (size,) or not np.isfinite(values).all():
        return None
    return values
