"""A program and any dual vector in, a rigorous lower bound on the optimum out.

For min c.x + c0, A x + s = b, s in K, l <= x <= u, and any y in the dual cone K*, every feasible x has

    c.x + c0  >=  c.x + c0 + y.(A x - b)  =  c0 - b.y + (c + A'y).x
              >=  c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j

since y.(b - A x) = y.s >= 0. The residual c + A'y need not vanish: the variables' bounds pay for it
(Neumaier and Shcherbina, Math. Program. 99, 2004, section 3). All is evaluated in interval arithmetic, so
the result is a theorem whatever y is and wherever it came from. Integrality is not used: for a
mixed-integer program this bounds the linear relaxation and hence the program.
"""

from __future__ import annotations

from math import fsum, inf, nextafter

import numpy as np

from optverify.errors import UnsupportedProgram
from optverify.formulations.program import Cone, Program
from optverify.interval import TINY, Array, Interval, dot_error, down, up


def safe_bound(program: Program, dual: Array | None) -> float:
    """Return a proved lower bound on a program's optimum.

    Parameters
    ----------
    program : Program
        Of ``zero`` and ``nonneg`` rows.
    dual : (m,) float64 or None
        Advice (y of ``docs/duality.md``). NaN, infinities and wrong signs count as 0, as does a vector of
        another size or None.

    Returns
    -------
    float
        -inf where nothing is proved: an overflow, or a variable without a bound on the side that matters.

    Raises
    ------
    UnsupportedProgram
        The program has a semidefinite cone.
    """
    return _evaluate(program, program.c, program.c0, dual)


def proves_infeasible(program: Program, ray: Array | None) -> bool:
    """Tell whether a vector proves that no point satisfies the rows and bounds.

    Parameters
    ----------
    program : Program
        Of ``zero`` and ``nonneg`` rows.
    ray : (m,) float64 or None
        Advice, as for :func:`safe_bound`: with c = 0 and c0 = 0 every feasible point has 0 >= the bound.

    Raises
    ------
    UnsupportedProgram
        The program has a semidefinite cone.
    """
    return _evaluate(program, np.zeros(program.n_variables), 0.0, ray) > 0


def into_dual_cone(program: Program, dual: Array | None) -> Array:
    """Return a vector of K* near the given one: exact, there is no arithmetic in it.

    Raises
    ------
    UnsupportedProgram
        The program has a semidefinite cone.
    """
    if Cone.PSD in program.cones:
        raise UnsupportedProgram(f"no safe bound for semidefinite cones by this function: {program!r}")
    if dual is None or np.shape(dual) != (program.n_rows,):
        return np.zeros(program.n_rows)
    y = np.nan_to_num(np.asarray(dual, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    for block in program.rows.values():
        if block.cone is Cone.NONNEG:
            y[block.indices] = np.maximum(y[block.indices], 0.0)
    return y


def _evaluate(program: Program, c: Array, c0: float, dual: Array | None) -> float:
    """Return c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j, rounded down."""
    y = into_dual_cone(program, dual)
    with np.errstate(over="ignore", invalid="ignore"):
        least = (_residual(program, c, y) * Interval(program.lower, program.upper)).lower
        terms = np.concatenate([least, down(-program.b * y)])
    if not np.isfinite(terms).all():
        return -inf
    # Each term is rounded down; what is lost where a result was flushed to zero is less than TINY.
    try:
        return nextafter(fsum([*terms.tolist(), c0, -TINY * (terms.size + 1)]), -inf)
    except OverflowError:
        return -inf


def _residual(program: Program, c: Array, y: Array) -> Interval:
    """Return an enclosure of c + A'y.

    The computed value is a sum of at most n = 1 + (entries of the column) products in some order, so it is
    off by at most dot_error(n) times the sum of their magnitudes, but for underflow.
    """
    matrix = program.A
    entries = np.diff(matrix.indptr)
    middle = c + matrix.T @ y
    size = np.abs(c) + abs(matrix).T @ np.abs(y)
    longest = int(entries.max(initial=0)) + 1
    error = up(up(dot_error(longest) * size) + TINY * longest)
    middle = np.where(np.isfinite(middle), middle, np.nan)
    residual = Interval.hull(down(middle - error), up(middle + error))
    if np.isfinite(program.lower).all() and np.isfinite(program.upper).all():
        return residual
    # A column that y does not touch keeps its coefficient exactly: a free variable needs its 0.
    rows = np.flatnonzero(y)
    untouched = np.diff(program.A[rows].tocsc().indptr) == 0
    return Interval(np.where(untouched, c, residual.lower), np.where(untouched, c, residual.upper))
