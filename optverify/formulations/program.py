"""The one standard form that every formulation produces and every solver adapter takes.

    minimise    c.x + c0
    subject to  A x + s = b,   s in K = K_1 x K_2 x ...,   l <= x <= u,   x_j integer for some j

Cones K_i: ``zero`` (s = 0), ``nonneg`` (s >= 0), ``psd`` (s is the scaled lower triangle of a positive
semidefinite matrix). Duality and signs: ``docs/duality.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import isqrt
from typing import Any

import numpy as np

from optverify.errors import InputError, ShapeError
from optverify.interval import Array
from optverify.network import frozen
from optverify.report.html import card


class Cone(Enum):
    """Which set a block of slacks lies in."""

    ZERO = "zero"
    """s = 0: equations."""
    NONNEG = "nonneg"
    """s >= 0: inequalities A x <= b."""
    PSD = "psd"
    """mat(s) is positive semidefinite; s lists the lower triangle by columns, off-diagonals times sqrt 2."""


@dataclass(frozen=True)
class Block:
    """A named run of variables or rows.

    Parameters
    ----------
    start, stop : int
        Half-open range of indices.
    cone : Cone, optional
        For rows only.
    """

    start: int
    stop: int
    cone: Cone | None = None

    @property
    def indices(self) -> slice:
        """The range as a slice."""
        return slice(self.start, self.stop)

    @property
    def size(self) -> int:
        """Number of variables or rows."""
        return self.stop - self.start


def order_of(size: int) -> int:
    """Return the order k of the symmetric matrices with ``size = k (k + 1) / 2`` entries in a triangle.

    Raises
    ------
    ShapeError
        There is none.
    """
    order = (isqrt(8 * size + 1) - 1) // 2
    if order * (order + 1) // 2 != size:
        raise ShapeError(f"a semidefinite block has k (k + 1) / 2 rows, not {size}")
    return order


def matrix_of(values: Array) -> Array:
    """Return mat(s), the (k, k) symmetric matrix that a semidefinite block's rows stand for; rounded."""
    order = order_of(values.size)
    column, row = np.triu_indices(order)  # of the transpose: the lower triangle by columns
    matrix = np.empty((order, order))
    matrix[row, column] = matrix[column, row] = values / np.where(row == column, 1.0, np.sqrt(2.0))
    return matrix


def triangle_of(matrix: Array) -> Array:
    """Return the lower triangle by columns, off-diagonals times sqrt 2: the inverse of :func:`matrix_of`; rounded."""
    column, row = np.triu_indices(len(matrix))
    return np.asarray(matrix[row, column] * np.where(row == column, 1.0, np.sqrt(2.0)))


@dataclass(frozen=True, eq=False)
class Program:
    """A linear, mixed-integer or semidefinite program in the standard form of this module.

    Parameters
    ----------
    c : (n,) float64
    A : (m, n) scipy.sparse or dense float64
    b : (m,) float64
    rows : mapping from name to Block
        In order and without gaps; every block names its cone.
    lower, upper : (n,) float64
        Infinite where a variable is free.
    c0 : float
    integer : (n,) bool, optional
    variables : mapping from name to Block
        For instance ``x``, ``z[0]``, ``a[0]``, ``t[0]``.
    name : str

    Raises
    ------
    ShapeError, InputError
        Sizes disagree, a number is NaN, a row block is missing, or lower > upper.
    """

    c: Array
    A: Any
    b: Array
    rows: Mapping[str, Block]
    lower: Array
    upper: Array
    c0: float = 0.0
    integer: Any = None
    variables: Mapping[str, Block] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        from scipy.sparse import csc_array

        n, m = np.size(self.c), np.size(self.b)
        matrix = csc_array(self.A, dtype=np.float64, copy=True)
        matrix.sum_duplicates()
        if matrix.shape != (m, n):
            raise ShapeError(f"A has shape {matrix.shape}, expected {(m, n)}")
        integer = np.zeros(n, bool) if self.integer is None else self.integer
        object.__setattr__(self, "A", matrix)
        object.__setattr__(self, "c", frozen(self.c, np.float64, "c", (n,)))
        object.__setattr__(self, "b", frozen(self.b, np.float64, "b", (m,)))
        object.__setattr__(self, "lower", frozen(self.lower, np.float64, "lower", (n,)))
        object.__setattr__(self, "upper", frozen(self.upper, np.float64, "upper", (n,)))
        object.__setattr__(self, "integer", frozen(integer, np.bool_, "integer", (n,)))
        for what, values in (("c", self.c), ("A", matrix.data), ("b", self.b), ("c0", np.array([self.c0]))):
            if not np.isfinite(values).all():
                raise InputError(f"{what} of program {self.name!r} has an entry that is not finite")
        if np.isnan(self.lower).any() or np.isnan(self.upper).any() or (self.lower > self.upper).any():
            raise InputError(f"program {self.name!r} has a variable with NaN or reversed bounds")
        if (self.lower == np.inf).any() or (self.upper == -np.inf).any():
            raise InputError(f"program {self.name!r} has a variable that no real number satisfies: a bound at infinity")
        position = 0
        for label, block in self.rows.items():
            if block.start != position or block.stop < block.start or block.cone is None:
                raise ShapeError(f"row block {label!r} must start at row {position} and name its cone")
            if block.cone is Cone.PSD:
                order_of(block.size)
            position = block.stop
        if position != m:
            raise ShapeError(f"row blocks cover {position} rows of {m}")

    @property
    def n_variables(self) -> int:
        """Number of columns."""
        return self.c.size

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.b.size

    @property
    def is_mixed_integer(self) -> bool:
        """Whether some variable is integer."""
        return bool(self.integer.any())

    @property
    def cones(self) -> frozenset[Cone]:
        """The kinds of cone that occur."""
        return frozenset(block.cone for block in self.rows.values() if block.cone is not None)

    @property
    def kind(self) -> str:
        """LP, MILP or SDP."""
        return "MILP" if self.is_mixed_integer else ("SDP" if Cone.PSD in self.cones else "LP")

    def __repr__(self) -> str:
        sizes = f"{self.n_variables} variables, {self.n_rows} rows, {self.A.nnz} nonzeros"
        return f"<Program {self.name!r}: {self.kind}, {sizes}>"

    def _repr_html_(self) -> str:
        rows = {
            "kind": self.kind,
            "variables": f"{self.n_variables} ({int(self.integer.sum())} integer): {', '.join(self.variables)}",
            "rows": ", ".join(f"{name} ({b.size}, {b.cone.value})" for name, b in self.rows.items() if b.cone),
            "nonzeros": str(self.A.nnz),
        }
        return card(f"Program {self.name}".strip(), rows)
