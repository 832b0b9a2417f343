"""The form that conic solvers take: no bounds on the variables, rows sorted by cone.

    minimise c.x    subject to    A x + s = b,    s in  zero x nonneg x psd x psd ...

A finite bound becomes a row, two equal ones an equation. A solver's dual vector of these rows is y of
``docs/duality.md`` but for the order; what it says of the bounds' own rows is dropped, since y has no entry for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import isfinite, nan
from typing import Any

import numpy as np

from optverify.formulations.program import Block, Cone, Program, order_of
from optverify.interval import Array
from optverify.solvers.solution import Availability, Solution, Status


@dataclass(frozen=True, eq=False)
class Conic:
    """A program for a conic solver.

    Parameters
    ----------
    A : (m, n) csc_array
    b : (m,) float64
    zero, nonneg : int
        Numbers of rows, in this order; then come the semidefinite blocks.
    orders : tuple of int
        k of each semidefinite block of k (k + 1) / 2 rows.
    rows : (program.n_rows,) int
        Where each row of the program went.
    """

    A: Any
    b: Array
    zero: int
    nonneg: int
    orders: tuple[int, ...]
    rows: Any


def conic(program: Program, *, upper_triangle: bool = False) -> Conic:
    """Bring a program to the conic form.

    Parameters
    ----------
    program : Program
    upper_triangle : bool
        List semidefinite blocks by the upper triangle's columns instead of the lower one's.
    """
    import scipy.sparse as sp

    low, high = program.lower, program.upper
    fixed = np.flatnonzero(low == high)
    above = np.flatnonzero((low < high) & (high < np.inf))
    below = np.flatnonzero((low < high) & (low > -np.inf))
    chosen: dict[Cone, list[Any]] = {cone: [np.zeros(0, int)] for cone in Cone}
    orders = []
    for block in program.rows.values():
        assert block.cone is not None
        index = np.arange(block.start, block.stop)
        if block.cone is Cone.PSD:
            orders.append(order_of(block.size))
            index = index[_by_upper_columns(orders[-1])] if upper_triangle else index
        chosen[block.cone].append(index)
    zero, nonneg, psd = (np.concatenate(chosen[cone]) for cone in (Cone.ZERO, Cone.NONNEG, Cone.PSD))
    rows, identity = program.A.tocsr(), sp.eye_array(program.n_variables, format="csr")
    parts = [
        (rows[zero], program.b[zero]),
        (identity[fixed], low[fixed]),
        (rows[nonneg], program.b[nonneg]),
        (identity[above], high[above]),
        (-identity[below], -low[below]),
        (rows[psd], program.b[psd]),
    ]
    where = np.zeros(program.n_rows, int)
    n_zero, n_nonneg = zero.size + fixed.size, nonneg.size + above.size + below.size
    where[zero] = np.arange(zero.size)
    where[nonneg] = n_zero + np.arange(nonneg.size)
    where[psd] = n_zero + n_nonneg + np.arange(psd.size)
    matrix = sp.vstack([a for a, _ in parts], format="csc")
    return Conic(matrix, np.concatenate([b for _, b in parts]), n_zero, n_nonneg, tuple(orders), where)


def _by_upper_columns(order: int) -> Any:
    """Return, for each entry of the upper triangle by columns, its place in the lower triangle by columns."""
    place = np.zeros((order, order), int)
    column, row = np.triu_indices(order)
    place[row, column] = np.arange(column.size)
    row, column = np.tril_indices(order)  # the lower triangle by rows is the upper one by columns
    return place[row, column]


def elastic(program: Program) -> Program:
    """Return a program that asks how far the rows are from having a point within the bounds.

    Minimise the sum of t subject to A x + s = b + E t, t >= 0, where E frees every row: t_i - t_i' on an equation, t_i
    on an inequality, t I on a semidefinite block. It is feasible; a dual y of a positive optimum is a ray of the given
    program, for d(y) without c and c0 is that optimum. So any solver yields rays, also one that gives none itself.
    """
    import scipy.sparse as sp

    columns: list[tuple[int, int, float]] = []
    count = 0
    for block in program.rows.values():
        index = range(block.start, block.stop)
        if block.cone is Cone.PSD:
            order = order_of(block.size)
            ends = np.cumsum([0, *range(order, 1, -1)]) if order else np.zeros(0, int)
            columns += [(block.start + int(i), count, -1.0) for i in ends]
            count += 1
            continue
        for sign in (-1.0, 1.0) if block.cone is Cone.ZERO else (-1.0,):
            columns += [(i, count + k, sign) for k, i in enumerate(index)]
            count += block.size
    i, j, v = (np.array(part) for part in zip(*columns, strict=True)) if columns else (np.zeros(0),) * 3
    slack = sp.csc_array((v, (i.astype(int), j.astype(int))), shape=(program.n_rows, count))
    n = program.n_variables
    return Program(
        np.concatenate([np.zeros(n), np.ones(count)]),
        sp.hstack([program.A, slack], format="csc"),
        program.b,
        program.rows,
        np.concatenate([program.lower, np.zeros(count)]),
        np.concatenate([program.upper, np.full(count, np.inf)]),
        variables={"x": Block(0, n), "t": Block(n, n + count)},
        name=f"{program.name} elastic".strip(),
    )


def ray_of(program: Program, solution: Solution, solve: Callable[[Program], Solution]) -> Solution:
    """Complete an answer of "infeasible" by the ray of the elastic program, or correct it to "unbounded"."""
    second = solve(elastic(program))
    if second.status is not Status.OPTIMAL or second.dual is None:
        return solution
    if second.objective > 1e-7 * (1.0 + float(np.abs(program.b).max(initial=0.0))):
        return replace(solution, ray=second.dual)
    return replace(solution, status=Status.UNBOUNDED, message=f"{solution.message}; the rows have a point")


def answer(
    program: Program,
    label: str,
    status: Status,
    message: str,
    *,
    primal: Array | None = None,
    dual: Array | None = None,
    ray: Array | None = None,
    bound: float = nan,
    iterations: int = 0,
    nodes: int = 0,
    basis: object = None,
) -> Solution:
    """Put a solution together from what a solver left, by the table in ``docs/formulations.md``.

    A vector with a NaN or of a wrong size means that the solver broke down: ``FAILED``, and nothing of it is kept.
    """
    if status is Status.FAILED:
        return Solution(status, label, message=message)
    if status in (Status.INFEASIBLE, Status.UNBOUNDED, Status.LIMIT) and not program.is_mixed_integer:
        primal = None  # a point that is on its way is not feasible
    if status is Status.INFEASIBLE:
        primal, dual, bound = None, None, nan
    if program.is_mixed_integer:
        dual = ray = None
    if status is Status.UNBOUNDED and dual is not None and not np.isfinite(dual).all():
        dual = None  # there is none, and some solvers say so by NaN
    for vector, size in ((primal, program.n_variables), (dual, program.n_rows), (ray, program.n_rows)):
        if vector is not None and (np.shape(vector) != (size,) or not np.isfinite(vector).all()):
            text = f"{message}; but a vector is not finite or has a wrong size"
            return Solution(Status.FAILED, label, message=text)
    with np.errstate(over="ignore", invalid="ignore"):
        objective = nan if primal is None else float(program.c @ primal) + program.c0
    if status is Status.OPTIMAL and not isfinite(objective):
        return Solution(Status.FAILED, label, message=f"{message}; but there is no finite objective")
    return Solution(
        status,
        label,
        objective=objective,
        bound=bound,
        primal=primal,
        dual=dual,
        ray=ray,
        iterations=iterations,
        nodes=nodes,
        message=message,
        basis=basis,
    )


@cache
def installed(package: str) -> str | None:
    """Return the version of an installed package without importing it, None if it is not there."""
    try:
        return version(package) if find_spec(package) is not None else None
    except (PackageNotFoundError, ValueError):
        return None


def presence(package: str, requirement: str) -> Availability:
    """Tell whether a package is there, and how to get it where it is not, without importing it."""
    found = installed(package)
    if found is None:
        return Availability(installed=False, reason=f"{package} is not installed: pip install '{requirement}'")
    return Availability(installed=True, version=found)


@contextmanager
def one_thread(program: Program) -> Iterator[None]:
    """Keep the linear algebra of semidefinite cones on one thread, which on small matrices is many times faster.

    To be entered after the solver is imported: it speaks to the libraries that are loaded.
    """
    if Cone.PSD in program.cones:
        from threadpoolctl import threadpool_limits

        limited: Any = threadpool_limits(limits=1)
    else:
        limited = nullcontext()
    with limited:
        yield
