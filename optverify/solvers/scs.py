"""SCS: a first-order method for large semidefinite programs at moderate accuracy.

O'Donoghue, Chu, Parikh, Boyd, JOTA 169, 2016. Facts about scs 3.3 that this file is built on (each has a test):

* min c.x, A x + s = b, s in K has the dual y in K* of A'y + c = 0: our y, with our svec (lower triangle by
  columns). Infeasible: y with b.y = -1, and NaN in x. Unbounded: NaN in y.
* ``status_val`` 2 means a point short of the tolerances, whatever stopped it; the words tell which limit.
* A time limit of 0 means none.
* It handles SIGINT itself and tells by ``status_val`` -5; Python never hears of it. One that comes while it sets up
  or has just ended is lost: press Ctrl-C again.
* By default it takes the Pardiso that it bundles, on all cores; QDLDL runs on one.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from math import nan
from time import perf_counter
from typing import Any

import numpy as np

from optverify.formulations.program import Cone, Program
from optverify.solvers.conic import answer, conic, one_thread, presence
from optverify.solvers.constant import solve_constant
from optverify.solvers.solution import Availability, Incumbent, Solution, Status, require_support

STATUS = {
    "INFEASIBLE_INACCURATE": Status.INACCURATE,
    "UNBOUNDED_INACCURATE": Status.INACCURATE,
    "SIGINT": Status.INTERRUPTED,
    "FAILED": Status.FAILED,
    "INDETERMINATE": Status.FAILED,
    "INFEASIBLE": Status.INFEASIBLE,
    "UNBOUNDED": Status.UNBOUNDED,
    "UNFINISHED": Status.FAILED,
    "SOLVED": Status.OPTIMAL,
    "SOLVED_INACCURATE": Status.INACCURATE,
}
"""By the names of scs's constants; a test checks that none is missing."""


@dataclass(frozen=True)
class Scs:
    """The adapter.

    Parameters
    ----------
    tolerance : float, optional
        On residuals and gap, absolute and relative; SCS's own 1e-4 by default.
    iterations : int
        The most it may take.
    """

    tolerance: float | None = None
    iterations: int = 100_000
    name: str = field(default="scs", init=False)
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=False, init=False)

    def availability(self) -> Availability:
        """Tell whether scs is installed, without importing it."""
        return presence("scs", "scs>=3.3")

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,
        on_incumbent: Incumbent | None = None,  # noqa: ARG002
    ) -> Solution:
        """Solve a program; see :class:`optverify.solvers.solution.Solver`."""
        require_support(self, program)
        if program.n_variables == 0:
            return solve_constant(program, self.name)
        label = f"{self.name} {self.availability().version}"
        if time_limit is not None and time_limit <= 0:
            return Solution(Status.LIMIT, label, message="no time")
        began = perf_counter()
        try:
            solution = self._run(program, time_limit, start, label)
        except Exception as error:
            solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        if solution.status is Status.INTERRUPTED:
            signal.raise_signal(signal.SIGINT)
        return replace(solution, seconds=perf_counter() - began)

    def _run(self, program: Program, time_limit: float | None, start: Solution | None, label: str) -> Solution:
        import scs

        form = conic(program)
        settings: dict[str, Any] = {"verbose": False, "max_iters": self.iterations, "linear_solver": "qdldl"}
        if self.tolerance is not None:
            settings |= {"eps_abs": self.tolerance, "eps_rel": self.tolerance}
        if time_limit is not None:
            settings["time_limit_secs"] = time_limit
        data = {"A": form.A, "b": form.b, "c": program.c}
        cones = {"z": form.zero, "l": form.nonneg, "s": list(form.orders)}
        with one_thread(program):
            solver = scs.SCS(data, cones, **settings)
            warm = _usable(start, form.A.shape)
            found = solver.solve(**warm) if warm else solver.solve(warm_start=False)
        info = found["info"]
        names = {getattr(scs, name): name for name in STATUS}
        status, words = STATUS[names.get(info["status_val"], "FAILED")], str(info["status"])
        if status is Status.INACCURATE and "reached" in words:
            status = Status.LIMIT
        vectors = [np.array(found[key], np.float64) for key in ("x", "y", "s")]
        x, y, _ = (v if np.isfinite(v).all() else None for v in vectors)
        dual = None if y is None else y[form.rows]
        return answer(
            program,
            label,
            status,
            words,
            primal=x,
            dual=dual,
            ray=dual if status is Status.INFEASIBLE else None,
            bound=info["dobj"] + program.c0 if status is Status.OPTIMAL else nan,
            iterations=int(info["iter"]),
            basis=tuple(vectors) if status in (Status.OPTIMAL, Status.LIMIT, Status.INACCURATE) else None,
        )


def _usable(start: Solution | None, shape: tuple[int, int]) -> dict[str, Any]:
    """Return what SCS left the last time, if it fits and is finite."""
    if start is None or not isinstance(start.basis, tuple) or len(start.basis) != 3:
        return {}
    m, n = shape
    for vector, size in zip(start.basis, (n, m, m), strict=True):
        if np.shape(vector) != (size,) or not np.isfinite(vector).all():
            return {}
    return {"warm_start": True, **dict(zip(("x", "y", "s"), start.basis, strict=True))}
