"""A program and any dual vector in, a rigorous lower bound on the optimum out.

For min c.x + c0, A x + s = b, s in K, l <= x <= u, and any y in the dual cone K*, every feasible x has

    c.x + c0  >=  c.x + c0 + y.(A x - b)  =  c0 - b.y + (c + A'y).x
              >=  c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j

since y.(b - A x) = y.s >= 0. The residual c + A'y need not vanish: the variables' bounds pay for it
(Neumaier and Shcherbina, Math. Program. 99, 2004, section 3; for semidefinite cones Jansson, Chaykin and Keil,
SIAM J. Numer. Anal. 46(1), 2007). All is evaluated in interval arithmetic, so
the result is a theorem whatever y is and wherever it came from. Integrality is not used: for a
mixed-integer program this bounds the linear relaxation and hence the program.

A semidefinite block of y is moved into its cone first: Y + sigma I, where -sigma is a proved lower bound on the least
eigenvalue of Y (:mod:`optverify.safe.psd`), and the residual that this leaves is paid for like any other.
"""

from __future__ import annotations

from math import fsum, inf, nextafter

import numpy as np

from optverify.formulations.program import Cone, Program, matrix_of, triangle_of
from optverify.interval import TINY, UNIT, Array, Interval, dot_error, down, up
from optverify.safe.psd import least_eigenvalue

ROOT = 4.0 * UNIT
"""Relative error that the numbers in a semidefinite block's off-diagonal rows may have: they are sqrt 2 times what is
meant, rounded. A bound holds for the program that is meant and for the one that is stored."""


def safe_bound(program: Program, dual: Array | None) -> float:
    """Return a proved lower bound on a program's optimum.

    Parameters
    ----------
    program : Program
    dual : (m,) float64 or None
        Advice (y of ``docs/duality.md``). NaN, infinities and wrong signs count as 0, as does a vector of
        another size or None; an indefinite matrix is moved into the cone.

    Returns
    -------
    float
        -inf where nothing is proved: an overflow, or a variable without a bound on the side that matters.
    """
    return _evaluate(program, program.c, program.c0, dual)


def proves_infeasible(program: Program, ray: Array | None) -> bool:
    """Tell whether a vector proves that no point satisfies the rows and bounds.

    Parameters
    ----------
    program : Program
    ray : (m,) float64 or None
        Advice, as for :func:`safe_bound`: with c = 0 and c0 = 0 every feasible point has 0 >= the bound.
    """
    return _evaluate(program, np.zeros(program.n_variables), 0.0, ray) > 0


def into_dual_cone(program: Program, dual: Array | None) -> Array:
    """Return a vector that is proved to be in K*, near the given one.

    Signs are clipped, which is exact. In a semidefinite block the diagonal is raised until the matrix is proved
    positive definite; rows and columns of zeros stay zero, and a matrix of numbers too large to tell becomes 0.
    """
    if dual is None or np.shape(dual) != (program.n_rows,):
        return np.zeros(program.n_rows)
    y = np.nan_to_num(np.asarray(dual, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    for block in program.rows.values():
        if block.cone is Cone.NONNEG:
            y[block.indices] = np.maximum(y[block.indices], 0.0)
        elif block.cone is Cone.PSD:
            y[block.indices] = _semidefinite(y[block.indices])
    return y


def _semidefinite(values: Array) -> Array:
    """Return svec of a matrix that is proved positive semidefinite: the given one with a larger diagonal."""
    values = np.where(np.abs(values) > TINY, values, 0.0)  # what might underflow below is as good as 0
    matrix = matrix_of(values)
    used = np.flatnonzero(matrix.any(axis=0))
    part = matrix[np.ix_(used, used)]
    # Off-diagonal entries are y / sqrt 2: sqrt 2 and the quotient are rounded.
    radius = ROOT * np.abs(part)
    np.fill_diagonal(radius, 0.0)
    least = least_eigenvalue(part, radius)
    if least >= 0:
        return values
    diagonal = np.zeros(len(matrix), bool)
    diagonal[used] = True
    raised = np.where(triangle_of(np.diag(diagonal)) > 0, up(values - least), values)
    return raised if np.isfinite(raised).all() else np.zeros_like(values)


def _evaluate(program: Program, c: Array, c0: float, dual: Array | None) -> float:
    """Return c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j, rounded down."""
    y = into_dual_cone(program, dual)
    with np.errstate(over="ignore", invalid="ignore"):
        least = (_residual(program, c, y) * Interval(program.lower, program.upper)).lower
        right = -program.b * y
        terms = np.concatenate([least, down(right - _rounded(program) * np.abs(right))])
    if not np.isfinite(terms).all():
        return -inf
    # Each term is rounded down; what is lost where a result was flushed to zero is less than TINY.
    try:
        return nextafter(fsum([*terms.tolist(), c0, -TINY * (terms.size + 1)]), -inf)
    except OverflowError:
        return -inf


def _rounded(program: Program) -> Array:
    """Return the relative error of b.y in each row that comes from the row's own numbers."""
    error = np.zeros(program.n_rows)
    for block in program.rows.values():
        if block.cone is Cone.PSD:
            error[block.indices] = 2 * ROOT  # for the rounding of the product and of this, too
    return error


def _residual(program: Program, c: Array, y: Array) -> Interval:
    """Return an enclosure of c + A'y.

    The computed value is a sum of at most n = 1 + (entries of the column) products in some order, so it is
    off by at most dot_error(n) times the sum of their magnitudes, but for underflow.
    """
    matrix = program.A
    entries = np.diff(matrix.indptr)
    middle = c + matrix.T @ y
    size = np.abs(c) + abs(matrix).T @ np.abs(y)
    # The four terms more are for ROOT.
    longest = int(entries.max(initial=0)) + (5 if Cone.PSD in program.cones else 1)
    error = up(up(dot_error(longest) * size) + TINY * longest)
    middle = np.where(np.isfinite(middle), middle, np.nan)
    residual = Interval.hull(down(middle - error), up(middle + error))
    if np.isfinite(program.lower).all() and np.isfinite(program.upper).all():
        return residual
    # A column that y does not touch keeps its coefficient exactly: a free variable needs its 0.
    rows = np.flatnonzero(y)
    untouched = np.diff(program.A[rows].tocsc().indptr) == 0
    return Interval(np.where(untouched, c, residual.lower), np.where(untouched, c, residual.upper))
