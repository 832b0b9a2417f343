"""MOSEK (commercial): linear, mixed-integer and semidefinite programs.

A program without semidefinite cones is passed as it is. For one with them the *dual* is passed,

    minimise    b.y + sum_j (u_j mu_j - l_j lambda_j) - c0
    subject to  A'y - lambda + mu = -c,   y in K*,   lambda, mu >= 0  (where the bound is finite)

since a linear matrix inequality b - A x >= 0 is then one matrix variable with a row for each x_j, where the program
itself would need a row for each of its k (k + 1) / 2 entries. Facts about mosek 11.2 that this file is built on:

* A symmetric matrix is given, and a matrix variable left, by its lower triangle, entries as they are; the inner
  product counts those off the diagonal twice. So off-diagonals of our rows are divided by sqrt 2.
* The dual variable y of a row is d objective / d right side, of either sense: ours is its negative.
* Building a task and writing it to a file need no licence, solving does: rescode 1008 and the like.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from optverify.errors import OutputError, SolverUnavailable, UnsupportedProgram
from optverify.formulations.program import Cone, Program, order_of
from optverify.interval import Array
from optverify.solvers.conic import answer, installed, one_thread, presence
from optverify.solvers.constant import solve_constant
from optverify.solvers.interrupt import interruptible
from optverify.solvers.solution import Availability, Incumbent, Solution, Status

STATUS = {
    "optimal": Status.OPTIMAL,
    "integer_optimal": Status.OPTIMAL,
    "prim_infeas_cer": Status.INFEASIBLE,
    "dual_infeas_cer": Status.UNBOUNDED,
    "unknown": Status.INACCURATE,
    "prim_feas": Status.INACCURATE,
    "dual_feas": Status.INACCURATE,
    "prim_and_dual_feas": Status.INACCURATE,
    "prim_illposed_cer": Status.INACCURATE,
    "dual_illposed_cer": Status.INACCURATE,
}
"""``solsta`` by name, of the task as passed; a test checks that none is missing."""

LIMITS = ("trm_max_iterations", "trm_max_time", "trm_mio_num_branches", "trm_mio_num_relaxs")
STOPPED = "trm_user_callback"

GET_ONE = "get one from https://www.mosek.com/products/academic-licenses, or use --solver auto, clarabel or scs"


@dataclass(frozen=True)
class Mosek:
    """The adapter.

    Parameters
    ----------
    tolerance : float, optional
        On residuals and gap of the interior-point method; MOSEK's own 1e-8 by default.
    """

    tolerance: float | None = None
    name: str = field(default="mosek", init=False)
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=True, init=False)

    def availability(self) -> Availability:
        """Tell whether mosek is installed and a licence file is where it looks for one, without importing it.

        The licence itself is looked at by MOSEK when it solves.
        """
        found = presence("mosek", "optverify[mosek]")
        if not found:
            return found
        place = os.environ.get("MOSEKLM_LICENSE_FILE") or str(Path.home() / "mosek" / "mosek.lic")
        # A server is port@host.
        if "@" not in place and not any(Path(part).exists() for part in place.split(os.pathsep)):
            return Availability(installed=False, version=found.version, reason=f"no licence found; {GET_ONE}")
        return found

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,  # noqa: ARG002
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Solve a program; see :class:`optverify.solvers.solution.Solver`. Only the last incumbent is reported.

        Raises
        ------
        SolverUnavailable
            There is no licence: found out by MOSEK itself, so one in an unusual place is no obstacle.
        """
        self._require(program)
        if program.n_variables == 0:
            return solve_constant(program, self.name)
        label = f"{self.name} {installed('mosek')}"
        began = perf_counter()
        stop: list[bool] = []
        try:
            with interruptible(lambda: stop.append(True)):
                solution = self._run(program, time_limit, label, stop)
        except SolverUnavailable:
            raise
        except Exception as error:
            solution = Solution(Status.FAILED, label, message=f"{type(error).__name__}: {error}")
        if on_incumbent is not None and solution.primal is not None:
            on_incumbent(solution.objective, solution.primal)
        return replace(solution, seconds=perf_counter() - began)

    def write(self, program: Program, path: str | Path) -> None:
        """Write the task to a file; its name's ending says the format: .ptf, .task, .cbf, and .mps or .lp if linear.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        self._require(program)
        import mosek

        try:
            build(program).writedata(str(path))
        except mosek.Error as error:
            raise OutputError(f"cannot write {path}: {_words(error)}") from None

    def _require(self, program: Program) -> None:
        if installed("mosek") is None:
            raise SolverUnavailable(f"solver {self.name!r} cannot be used here: {self.availability().reason}")
        if program.is_mixed_integer and Cone.PSD in program.cones:
            raise UnsupportedProgram(
                f"solver {self.name!r} does not take integers with semidefinite cones: {program!r}"
            )

    def _run(self, program: Program, time_limit: float | None, label: str, stop: list[bool]) -> Solution:
        import mosek

        task = build(program)
        task.putintparam(mosek.iparam.num_threads, 1)
        if time_limit is not None:
            task.putdouparam(mosek.dparam.optimizer_max_time, max(0.0, float(time_limit)))
        if self.tolerance is not None:
            for gap in ("pfeas", "dfeas", "rel_gap"):
                task.putdouparam(getattr(mosek.dparam, f"intpnt_tol_{gap}"), self.tolerance)
                task.putdouparam(getattr(mosek.dparam, f"intpnt_co_tol_{gap}"), self.tolerance)
        task.set_Progress(lambda _: 1 if stop else 0)
        try:
            with one_thread(program):
                termination = str(task.optimize()).removeprefix("rescode.")
        except mosek.Error as error:
            text = unlicensed(error)
            if text is not None:
                raise SolverUnavailable(text) from None
            raise
        return read(task, program, label, termination)


def unlicensed(error: Exception) -> str | None:
    """Return one line on what to do if an exception is MOSEK's about its licence, else None."""
    code = getattr(error, "errno", None)
    if not type(error).__module__.startswith("mosek") or "license" not in str(code):
        return None
    what = "no licence found" if "missing" in str(code) else "no usable licence"
    return f"mosek: {what} (mosek.Error {int(code or 0)}): {_words(error)}; {GET_ONE}"


def _words(error: Exception) -> str:
    """Return MOSEK's own words on one line, without the code in front."""
    return " ".join(str(getattr(error, "msg", error)).split()).rstrip(".")


def build(program: Program) -> Any:
    """Return the task: the program itself, or its dual if there are semidefinite cones."""
    import mosek

    task = mosek.Task()
    task.puttaskname(program.name)
    task.putobjsense(mosek.objsense.minimize)
    (_fill_dual if Cone.PSD in program.cones else _fill)(task, program)
    return task


def _fill(task: Any, program: Program) -> None:
    import mosek

    n, m = program.n_variables, program.n_rows
    task.appendvars(n)
    task.appendcons(m)
    _put_columns(task, program.c, program.c0, program.lower, program.upper)
    entries = program.A.tocoo()
    task.putaijlist(_ints(entries.row), _ints(entries.col), entries.data)
    kinds = [mosek.boundkey.up] * m
    for block in program.rows.values():
        if block.cone is Cone.ZERO:
            kinds[block.indices] = [mosek.boundkey.fx] * block.size
    task.putconboundlist(range(m), kinds, program.b, program.b)
    whole = np.flatnonzero(program.integer)
    task.putvartypelist(_ints(whole), [mosek.variabletype.type_int] * whole.size)


def _fill_dual(task: Any, program: Program) -> None:
    import mosek

    n, (index, free, matrices) = program.n_variables, _split(program)
    low, high = (np.flatnonzero(np.isfinite(ends)) for ends in (program.lower, program.upper))
    cost = np.concatenate([program.b[index], -program.lower[low], program.upper[high]])
    bottom = np.concatenate([np.where(free, -np.inf, 0.0), np.zeros(low.size + high.size)])
    task.appendvars(cost.size)
    task.appendcons(n)
    _put_columns(task, cost, -program.c0, bottom, np.full(cost.size, np.inf))
    rows = program.A.tocsr()
    entries = rows[index].tocoo()
    task.putaijlist(_ints(entries.col), _ints(entries.row), entries.data)
    task.putaijlist(_ints(low), _ints(index.size + np.arange(low.size)), np.full(low.size, -1.0))
    task.putaijlist(_ints(high), _ints(index.size + low.size + np.arange(high.size)), np.full(high.size, 1.0))
    task.putconboundlist(range(n), [mosek.boundkey.fx] * n, -program.c, -program.c)
    for j, block in enumerate(matrices):
        order = order_of(block.size)
        task.appendbarvars([order])
        column, row = np.triu_indices(order)  # the lower triangle by columns
        scale = _scale(block)
        entries = rows[block].tocoo()
        k = entries.row
        place = (_ints(part) for part in (entries.col, np.full(k.size, j), row[k], column[k]))
        task.putbarablocktriplet(*place, entries.data * scale[k])
        used = np.flatnonzero(program.b[block])
        place = (_ints(part) for part in (np.full(used.size, j), row[used], column[used]))
        task.putbarcblocktriplet(*place, program.b[block][used] * scale[used])


def _split(program: Program) -> tuple[Any, Any, list[Any]]:
    """Return the linear rows, which of them are equations, and the rows of each semidefinite block."""
    cone_of = np.repeat(
        [block.cone.value for block in program.rows.values() if block.cone],
        [block.size for block in program.rows.values()],
    )
    index = np.flatnonzero(cone_of != Cone.PSD.value)
    matrices = [np.arange(b.start, b.stop) for b in program.rows.values() if b.cone is Cone.PSD]
    return index, cone_of[index] == Cone.ZERO.value, matrices


def _ints(index: Any) -> Any:
    """Return indices as MOSEK takes them without a warning."""
    return np.ascontiguousarray(index, np.int32)


def _put_columns(task: Any, cost: Array, constant: float, lower: Array, upper: Array) -> None:
    import mosek

    key = mosek.boundkey
    names = {(False, False): key.fr, (True, False): key.lo, (False, True): key.up, (True, True): key.ra}
    ends = zip(lower.tolist(), upper.tolist(), strict=True)
    kinds = [key.fx if a == b else names[np.isfinite(a), np.isfinite(b)] for a, b in ends]
    task.putclist(range(cost.size), cost)
    task.putcfix(constant)
    task.putvarboundlist(range(cost.size), kinds, lower, upper)


def _scale(block: Any) -> Array:
    """Return what turns entries of a block's rows into those of a matrix."""
    column, row = np.triu_indices(order_of(block.size))
    return np.where(row == column, 1.0, np.sqrt(0.5))


def read(task: Any, program: Program, label: str, termination: str) -> Solution:
    """Return what MOSEK left in a task that :func:`build` made.

    Parameters
    ----------
    task : mosek.Task
    program : Program
    label : str
    termination : str
        What `optimize` returned: ``ok`` or the name of a ``trm_`` code.
    """
    import mosek

    kinds = (mosek.soltype.itg,) if program.is_mixed_integer else (mosek.soltype.bas, mosek.soltype.itr)
    kind = next((k for k in kinds if task.solutiondef(k)), None)
    limit = termination in LIMITS
    if kind is None:
        status = Status.LIMIT if limit else Status.INTERRUPTED if termination == STOPPED else Status.FAILED
        return Solution(status, label, message=f"{termination}: no solution")
    words = str(task.getsolsta(kind)).removeprefix("solsta.")
    state = str(task.getprosta(kind)).removeprefix("prosta.")
    status = STATUS.get(words, Status.FAILED)
    if program.is_mixed_integer and state in ("prim_infeas", "dual_infeas"):
        status = Status.INFEASIBLE if state == "prim_infeas" else Status.UNBOUNDED
    elif status is Status.INACCURATE:
        status = Status.LIMIT if limit else Status.INTERRUPTED if termination == STOPPED else status
    message = f"{words} ({state}, {termination})"
    x = y = None
    bound = nan
    if program.is_mixed_integer:
        x = np.array(task.getxx(kind), np.float64) if words in ("integer_optimal", "prim_feas") else None
        bound = task.getdouinf(mosek.dinfitem.mio_obj_bound)
    elif Cone.PSD in program.cones:
        swapped = {Status.INFEASIBLE: Status.UNBOUNDED, Status.UNBOUNDED: Status.INFEASIBLE}
        status = swapped.get(status, status)
        index, _, matrices = _split(program)
        x, y = np.array(task.gety(kind), np.float64), np.zeros(program.n_rows)
        y[index] = np.array(task.getxx(kind), np.float64)[: index.size]
        for j, block in enumerate(matrices):
            y[block] = np.array(task.getbarxj(kind, j), np.float64) / _scale(block)
        bound = -task.getprimalobj(kind) if status is Status.OPTIMAL else nan
    else:
        x, y = np.array(task.getxx(kind), np.float64), -np.array(task.gety(kind), np.float64)
        bound = task.getdualobj(kind) if status is Status.OPTIMAL else nan
    ray = y if status is Status.INFEASIBLE else None
    return answer(program, label, status, message, primal=x, dual=y, ray=ray, bound=bound)
