"""Symmetric matrices whose last block is diagonal, and their inverses and completions.

The index set is split into a head h (the constant and the hidden variables) and a tail t (the inputs):

    Arrow         [ hh  B' ]          Completed   [ I ]          [ I ]'   [ 0    0    ]
                  [ B   D  ]                      [ F ]  core    [ F ]  + [ 0  diag(v) ]

Both hold order(h) (order(h) + order(t)) numbers, and every operation below costs order(h) times that. The inverse of
a positive definite arrow is completed, and so is the completion of largest determinant of a partial matrix that is
known on the pattern of an arrow (Grone et al., Linear Algebra Appl. 58, 1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from optverify.interval import Array


@dataclass(frozen=True, eq=False)
class Arrow:
    """A symmetric matrix, or the known part of one: head, border and the diagonal of the tail.

    Parameters
    ----------
    head : (h, h) float64
    border : (t, h) float64
    tail : (t,) float64
    """

    head: Array
    border: Array
    tail: Array

    def __add__(self, other: Arrow) -> Arrow:
        return Arrow(self.head + other.head, self.border + other.border, self.tail + other.tail)

    def __rmul__(self, factor: float) -> Arrow:
        return Arrow(factor * self.head, factor * self.border, factor * self.tail)

    def __sub__(self, other: Arrow) -> Arrow:
        return Arrow(self.head - other.head, self.border - other.border, self.tail - other.tail)

    def __matmul__(self, block: Array) -> Array:
        """Multiply columns, (h + t, r)."""
        h = len(self.head)
        return np.concatenate(
            [
                self.head @ block[:h] + self.border.T @ block[h:],
                self.border @ block[:h] + self.tail[:, None] * block[h:],
            ]
        )

    def dot(self, other: Arrow) -> float:
        """Return the trace inner product (with anything whose arrow part this is)."""
        inner = np.vdot(self.head, other.head) + 2.0 * np.vdot(self.border, other.border)
        return float(inner + self.tail @ other.tail)

    def inverse(self) -> Completed | None:
        """Return the inverse, None unless positive definite."""
        factor = self._eliminate()
        if factor is None:
            return None
        L, F = factor
        W = solve_triangular(L, np.eye(len(L)), lower=True, check_finite=False)
        return Completed(W.T @ W, F, 1.0 / self.tail)

    def is_positive(self) -> bool:
        """Tell whether the matrix is positive definite."""
        return self._eliminate() is not None

    def _eliminate(self) -> tuple[Array, Array] | None:
        """Return the Cholesky factor of the head's Schur complement, and -D^-1 B."""
        if self.tail.size and not self.tail.min() > 0:
            return None
        F = self.border / -self.tail[:, None]
        L = _cholesky(self.head + self.border.T @ F)
        return None if L is None else (L, F)

    def completion(self) -> Completed | None:
        """Return the completion of largest determinant, None if no completion is positive definite."""
        factor = self._complete()
        if factor is None:
            return None
        L, W, v = factor
        return Completed(self.head, solve_triangular(L, W, lower=True, trans="T", check_finite=False).T, v)

    def is_completable(self) -> bool:
        """Tell whether some completion is positive definite."""
        return self._complete() is not None

    def _complete(self) -> tuple[Array, Array, Array] | None:
        L = _cholesky(self.head)
        if L is None:
            return None
        W = solve_triangular(L, self.border.T, lower=True, check_finite=False)
        v = self.tail - (W * W).sum(axis=0)
        return None if v.size and not v.min() > 0 else (L, W, v)


@dataclass(frozen=True, eq=False)
class Completed:
    """A positive definite matrix [I; F] core [I; F]' + diag(0, v).

    Parameters
    ----------
    core : (h, h) float64
    F : (t, h) float64
    v : (t,) float64
    """

    core: Array
    F: Array
    v: Array

    def __matmul__(self, block: Array) -> Array:
        """Multiply columns, (h + t, r)."""
        h = len(self.core)
        top = self.core @ (block[:h] + self.F.T @ block[h:])
        return np.concatenate([top, self.F @ top + self.v[:, None] * block[h:]])

    @property
    def columns(self) -> Array:
        """The first h columns, (h + t, h)."""
        return np.concatenate([self.core, self.arrow.border])

    @cached_property
    def arrow(self) -> Arrow:
        """Head, border and the tail's diagonal."""
        border = self.F @ self.core
        return Arrow(self.core, border, np.einsum("ij,ij->i", border, self.F) + self.v)

    @property
    def corner(self) -> Array:
        """The tail's block, (t, t), which is dense."""
        tail = self.arrow.border @ self.F.T
        tail[np.diag_indices(len(tail))] += self.v
        return np.asarray(tail)

    def derivative(self, change: Arrow) -> Derivative:
        """Return how the completion changes with the arrow part, to first order."""
        factor = _cholesky(self.core)
        assert factor is not None
        change_F = cho_solve((factor, True), (change.border - self.F @ change.head).T, check_finite=False).T
        known = 2.0 * (self.arrow.border * change_F).sum(axis=1) + ((self.F @ change.head) * self.F).sum(axis=1)
        return Derivative(self, change, change_F, change.tail - known)


@dataclass(frozen=True, eq=False)
class Derivative:
    """A change of a :class:`Completed` matrix: its parts `core`, `F` and `v` changed to first order.

    Parameters
    ----------
    at : Completed
    arrow : Arrow
        The change on the arrow's pattern.
    F : (t, h) float64
    v : (t,) float64
        The changes of these two.
    """

    at: Completed
    arrow: Arrow
    F: Array
    v: Array

    def __matmul__(self, block: Array) -> Array:
        """Multiply columns, (h + t, r)."""
        at, h = self.at, len(self.at.core)
        low = block[h:]
        outer = block[:h] + at.F.T @ low
        top = self.arrow.head @ outer + at.core @ (self.F.T @ low)
        return np.concatenate([top, at.F @ top + self.F @ (at.core @ outer) + self.v[:, None] * low])

    @property
    def columns(self) -> Array:
        """The first h columns, (h + t, h)."""
        return np.concatenate([self.arrow.head, self.arrow.border])


def sandwich(X: Completed | Derivative, A: Arrow, Z: Completed) -> Arrow:
    """Return the arrow part of the symmetric part of X A Z, without forming a dense matrix."""
    h = len(A.head)
    known = X.arrow
    right = X @ (A @ Z.columns)  # (X A Z)[:, h]
    left = Z @ (A @ X.columns)  # (X A Z)[h, :]'
    inner = (known.border * A.border).sum(axis=1) + known.tail * A.tail  # the diagonal of (X A)[t, t]
    return Arrow(
        0.5 * (right[:h] + right[:h].T),
        0.5 * (right[h:] + left[h:]),
        (right[h:] * Z.F).sum(axis=1) + inner * Z.v,
    )


def _cholesky(matrix: Array) -> Array | None:
    """Return the lower Cholesky factor, None unless positive definite."""
    try:
        factor = np.asarray(np.linalg.cholesky(matrix), np.float64)
    except np.linalg.LinAlgError:
        return None
    # LAPACK need not notice a NaN.
    return factor if np.isfinite(factor.diagonal()).all() else None
