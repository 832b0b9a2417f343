"""The lifted relaxation as a program for generic solvers, in two forms.

Both are advice: they hold the relaxation's numbers rounded to nearest. What a solver finds is read back as
multipliers (:func:`read_lifted`) and evaluated by :mod:`optverify.safe.lifted`.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from optverify.formulations.lifted import Lifted
from optverify.formulations.program import Block, Cone, Program, matrix_of
from optverify.interval import Array

ROOT = np.sqrt(2.0)

ASIDE = 2.0
"""Bounds on the entries of X that never bind, since |X_kl| <= 1: rows say so, and it is their duals that are read."""


def dual_form(lifted: Lifted) -> Program:
    """Write the relaxation's dual as a linear matrix inequality: the form for Clarabel and MOSEK.

    Symbols
        gamma, box >= 0, y : multipliers; B_k = E_00 - E_kk, A_j = sym(p_j q_j') + sum_k d_jk B_k.

    Equations
        minimise -gamma subject to C - sum box_k B_k - sum y_j A_j - gamma E_00 positive semidefinite, y_j >= 0 on
        inequalities. Its optimum is *minus* that of the relaxation, and its primal solution holds the multipliers.

    Size
        1 + N + m variables, one semidefinite block of order 1 + N whose inputs are not joined.
    """
    n = 1 + lifted.n_variables
    size = n * (n + 1) // 2
    ends = np.cumsum([1, lifted.n_variables, lifted.n_products])
    lower = np.concatenate([[-np.inf], np.zeros(lifted.n_variables), np.where(lifted.equality, -np.inf, 0.0)])
    unit = sp.csc_array(([1.0], ([0], [0])), shape=(size, 1))
    return Program(
        c=-np.eye(1, int(ends[-1]))[0],
        A=sp.hstack([unit, *_operators(lifted)]),
        b=_objective(lifted),
        rows={"S": Block(0, size, Cone.PSD)},
        lower=lower,
        upper=np.full(ends[-1], np.inf),
        variables={
            "gamma": Block(0, 1),
            "box": Block(1, int(ends[1])),
            "y": Block(int(ends[1]), int(ends[2])),
        },
        name="lifted, dual form",
    )


def primal_form(lifted: Lifted) -> Program:
    """Write the relaxation in the entries of X: the form for SCS.

    Symbols
        X_kl, k >= l : lower triangle by columns without X_00 = 1.

    Equations
        minimise <C, X> subject to X_kk <= 1, <A_j, X> >= 0 or = 0, X positive semidefinite.

    Size
        (N + 1)(N + 2) / 2 - 1 variables, N + m rows and a semidefinite block of order 1 + N.
    """
    n = 1 + lifted.n_variables
    size = n * (n + 1) // 2
    row, column = _triangle(n)
    # <A, X> = svec(A).svec(X), and svec(X) is X_kl times 1 or sqrt 2.
    weight = np.where(row == column, 1.0, ROOT)
    box, products = (sp.csr_array(part.T.multiply(weight)) for part in _operators(lifted))
    equal, unequal = np.flatnonzero(lifted.equality), np.flatnonzero(~lifted.equality)
    ends = np.cumsum([0, lifted.n_variables, unequal.size, equal.size, size]).tolist()
    matrix = sp.csr_array(sp.vstack([-box, -products[unequal], -products[equal], -sp.diags_array(weight)]))
    cost = _objective(lifted) * weight
    first = matrix[:, [0]].toarray()[:, 0]
    return Program(
        c=cost[1:],
        A=matrix[:, 1:],
        b=-first,
        rows={
            "box": Block(ends[0], ends[1], Cone.NONNEG),
            "y": Block(ends[1], ends[2], Cone.NONNEG),
            "y=": Block(ends[2], ends[3], Cone.ZERO),
            "X": Block(ends[3], ends[4], Cone.PSD),
        },
        lower=np.full(size - 1, -ASIDE),
        upper=np.full(size - 1, ASIDE),
        c0=float(cost[0]),
        variables={"X": Block(0, size - 1)},
        name="lifted, primal form",
    )


def read_lifted(lifted: Lifted, program: Program, vector: Array | None) -> tuple[Array, Array] | None:
    """Read the multipliers of box and products off a solution of one of the two forms.

    Parameters
    ----------
    lifted : Lifted
    program : Program
        That :func:`dual_form` or :func:`primal_form` made of it.
    vector : float64 or None
        The solver's primal vector for the dual form, its dual vector for the primal form.

    Returns
    -------
    box, products : (N,), (m,) float64
        None if the vector is missing or of another size.
    """
    if "gamma" in program.variables:
        if vector is None or np.shape(vector) != (program.n_variables,):
            return None
        return vector[program.variables["box"].indices], vector[program.variables["y"].indices]
    if vector is None or np.shape(vector) != (program.n_rows,):
        return None
    y = np.zeros(lifted.n_products)
    y[~lifted.equality] = vector[program.rows["y"].indices]
    y[lifted.equality] = vector[program.rows["y="].indices]
    return vector[program.rows["box"].indices], y


def read_moments(lifted: Lifted, program: Program, vector: Array | None) -> Array | None:
    """Read the columns of X for 1 and the hidden variables off a solution of one of the two forms.

    Parameters
    ----------
    lifted : Lifted
    program : Program
        That :func:`dual_form` or :func:`primal_form` made of it.
    vector : float64 or None
        The solver's dual vector for the dual form, its primal vector for the primal form.

    Returns
    -------
    (1 + N, 1 + H) float64
        None if the vector is missing, of another size or not finite, or X_00 is not positive.
    """
    n = 1 + lifted.n_variables
    dual = "gamma" in program.variables
    size = program.n_rows if dual else program.n_variables
    if vector is None or np.shape(vector) != (size,) or not np.isfinite(vector).all():
        return None
    row, column = _triangle(n)
    X = matrix_of(vector if dual else np.concatenate([[1.0], vector]) * np.where(row == column, 1.0, ROOT))
    return X[:, : 1 + lifted.hidden] / X[0, 0] if X[0, 0] > 0 else None


def _triangle(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of each entry of the lower triangle, by columns."""
    column, row = np.triu_indices(n)
    return row, column


def _place(n: int, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return where an entry, or its mirror image, stands in the lower triangle by columns."""
    low, high = np.minimum(row, column), np.maximum(row, column)
    return np.asarray(low * n - low * (low - 1) // 2 + (high - low))


def _objective(lifted: Lifted) -> Array:
    """Return svec(C): the first column is half the objective, off the diagonal times sqrt 2."""
    n = 1 + lifted.n_variables
    values = np.zeros(n * (n + 1) // 2)
    values[:n] = lifted.cost * (0.5 * ROOT)
    values[0] = lifted.cost[0]
    return values


def _operators(lifted: Lifted) -> tuple[sp.csc_array, sp.csc_array]:
    """Return svec(B_k) and svec(A_j) as columns."""
    n, N = 1 + lifted.n_variables, lifted.n_variables
    size = n * (n + 1) // 2
    variable = np.arange(N)
    corner = np.zeros(N, np.intp)
    box = sp.csc_array(
        (
            np.concatenate([np.ones(N), -np.ones(N)]),
            (np.concatenate([corner, _place(n, 1 + variable, 1 + variable)]), np.concatenate([variable, variable])),
        ),
        shape=(size, N),
    )
    right = lifted.right[:n].toarray() + lifted.forms @ lifted.right[n:].toarray()
    left = sp.coo_array(lifted.left)
    row, column = left.coords
    # p_i q_k stands for M_ik = M_ki = p_i q_k / 2, or for M_ii = p_i q_i.
    # The index arrays of scipy may be 32-bit.
    i, k = np.repeat(row, n).astype(np.intp), np.tile(np.arange(n), row.size)
    value = (left.data[:, None] * right[:, column].T).ravel()
    value = np.where(i == k, value, value * (0.5 * ROOT))
    keep = value != 0
    place = (_place(n, i, k)[keep], np.repeat(column, n)[keep])
    products = sp.csc_array((value[keep], place), shape=(size, lifted.n_products))
    return box, sp.csc_array(products + box @ lifted.radial)
