"""Proofs that a symmetric matrix is positive definite, by a Cholesky factorisation in floating point.

Let S be symmetric with diagonal in [1/2, 2). If the computed factor L of a matrix T exists, then L L' = T + E with

    |E_ij| <= gamma_(min(i,j)+2) |L_i| |L_j|        (any order of summation, FMA or not, division or reciprocal)
    |L_i|^2 <= t_ii / (1 - gamma_(i+2)),   hence   |E| <= d d'  with  d_i^2 = phi_i t_ii,  ||E|| <= sum_i phi_i t_ii

with i = 1..n, gamma_k = k u / (1 - k u) and phi_i = gamma_(i+2) / (1 - gamma_(i+2)) <= (i + 3) u. So for T at most
S - c I with c > sum_i phi_i s_ii, success proves that S >= T + c I >= L L' + (c - ||E||) I is positive definite; a
larger c pays for a radius as well (S. M. Rump, Verification of positive definiteness, BIT 46, 2006, theorem 2.3 and
section 3; J. Demmel, On floating point errors in Cholesky, LAPACK working note 14, 1989). Underflow is no matter
after the scaling: it loses less than 2**-100 in all, and c is rounded up by more than u / 2.

Any other matrix is brought to that form by D A D with D a diagonal of powers of two, which is exact but for underflow.

Assumed: what :mod:`optverify.interval` assumes, and a LAPACK whose Cholesky factor is made by these formulas (blocked,
recursive or threaded as it likes).
"""

from __future__ import annotations

from math import inf

import numpy as np

from optverify.errors import InputError, ShapeError
from optverify.interval import INFLATE, TINY, UNIT, Array, down

SMALLEST = 2.0**-900
"""No matrix with a diagonal entry below is proved: entries that small may be lost to underflow."""

LARGEST_SUM = 2.0**1000
"""No eigenvalue of a matrix with larger row sums is bounded."""

LARGEST = 2**20
"""Largest order of a matrix; the constants hold far beyond."""


def proved_positive_definite(matrix: Array, radius: Array | float = 0.0) -> bool:
    """Tell whether a symmetric matrix, and every one near it, is proved positive definite.

    Parameters
    ----------
    matrix : (n, n) float64
        Symmetric. NaN, infinities and numbers that overflow are not an error: nothing is proved.
    radius : (n, n) float64 or float
        The matrices meant are all symmetric B with ``|B - matrix| <= radius`` entrywise; at least 0.

    Returns
    -------
    bool
        True is a theorem. False says nothing: the matrix may be positive definite by too little.

    Raises
    ------
    ShapeError, InputError
        The matrix is not square or not symmetric; the radius has another shape, or is not symmetric.

    Notes
    -----
    One Cholesky factorisation; succeeds where the least eigenvalue of the scaled matrix exceeds about n**2 u.
    The equations are in the module's text.
    """
    a, r = _checked(matrix, radius)
    n = len(a)
    if n == 0:
        return True
    diagonal = a.diagonal()
    # NaN fails the comparison as well.
    if n > LARGEST or not ((diagonal >= SMALLEST) & (diagonal < inf)).all():
        return False
    exponent = -(np.frexp(diagonal)[1] // 2)
    with np.errstate(all="ignore"):
        scaled = np.ldexp(np.ldexp(a, exponent[:, None]), exponent)
        # phi_i s_ii <= (i + 3) u s_ii, i = 1..n; three units more for underflow and for this sum.
        shift = float((np.arange(1, n + 1) + 6.0) @ scaled.diagonal()) * UNIT * INFLATE
        # The 2-norm of a symmetric nonnegative matrix is at most its largest row sum.
        shift += float(np.ldexp(np.ldexp(r, exponent[:, None]), exponent).sum(axis=1).max()) * INFLATE
        scaled[np.diag_indices(n)] = down(scaled.diagonal() - shift)
        # An infinity or a NaN anywhere ends up in the sum; LAPACK need not notice it.
        if not np.isfinite(scaled.sum()):
            return False
        try:
            factor = np.linalg.cholesky(scaled)
        except np.linalg.LinAlgError:
            return False
        return bool(np.isfinite(factor.sum()))


def least_eigenvalue(matrix: Array, radius: Array | float = 0.0) -> float:
    """Return a proved lower bound on the least eigenvalue of a symmetric matrix and of every one near it.

    Parameters
    ----------
    matrix, radius
        As for :func:`proved_positive_definite`.

    Returns
    -------
    float
        inf for the empty matrix; -inf where nothing is proved.

    Raises
    ------
    ShapeError, InputError
        As for :func:`proved_positive_definite`.

    Notes
    -----
    For the computed least eigenvalue t, A - (t - e) I is proved positive definite for a small e; failing that,
    Gershgorin's discs.
    """
    a, r = _checked(matrix, radius)
    n = len(a)
    if n == 0:
        return inf
    with np.errstate(all="ignore"):
        size = np.abs(a).sum(axis=1) + r.sum(axis=1)
        # A NaN fails the comparison as well.
        if not (size < LARGEST_SUM).all():
            return -inf
        # Sums of at most 2 n terms, with errors relative to their magnitudes.
        discs = a.diagonal() + np.abs(a.diagonal()) - size - 4 * (n + 4) * UNIT * INFLATE * size
        proved = float(down(discs - TINY).min())
        try:
            guess = float(np.linalg.eigvalsh(a)[0])
        except np.linalg.LinAlgError:
            return proved
        # What the proof below needs, if the matrix is scaled well; otherwise a few steps find out.
        step = 4 * (n + 12) * n * UNIT * float(np.abs(a.diagonal() - guess).max()) + float(r.sum(axis=1).max())
        for _ in range(8):
            shift = guess - step
            if not shift > proved:
                break
            shifted = a.copy()
            # Rounded down, so what is proved of this matrix holds for A - shift I.
            shifted[np.diag_indices(n)] = down(a.diagonal() - shift)
            if proved_positive_definite(shifted, r):
                return shift
            step *= 8
        return proved


def _checked(matrix: Array, radius: Array | float) -> tuple[Array, Array]:
    a, r = np.asarray(matrix, np.float64), np.asarray(radius, np.float64)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or r.shape not in ((), a.shape):
        raise ShapeError(f"a square matrix and a radius of its shape are needed, not {a.shape} and {r.shape}")
    r = np.broadcast_to(r, a.shape)
    if not np.array_equal(a, a.T, equal_nan=True) or not np.array_equal(r, r.T, equal_nan=True):
        raise InputError("positive definiteness is for symmetric matrices; this one, or its radius, is not symmetric")
    if (r < 0).any():
        raise InputError("a radius is at least 0")
    return a, r
