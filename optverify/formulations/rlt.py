"""Reformulation-linearisation: products of linear conditions that a solution of the lifted relaxation violates."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from optverify.formulations.lifted import Lifted
from optverify.interval import Array, up

VIOLATED = 1e-5
"""Products above minus this are left alone; all forms have coefficients near 1."""

MOST = 250
"""Products a round."""


def with_violated_products(lifted: Lifted, moments: Array, most: int = MOST) -> Lifted:
    """Add the products of two linear conditions that are violated most.

    Symbols
        (1 + z_j), (1 - z_j) : faces of the box, j a hidden variable;
        f >= 0 : a linear condition of the relaxation, or a face of the box, of any variable.

    Products
        (1 +- z_j) f >= 0, so that no product joins two inputs.

    Kind
        Tightens the relaxation; one that is tried against a solution cuts it off.

    Parameters
    ----------
    lifted : Lifted
    moments : (1 + N, 1 + H) float64
        Columns of X for 1 and the hidden variables.
    most : int

    Returns
    -------
    Lifted
        The same object if nothing is violated.

    References
    ----------
    Sherali, Adams, "A reformulation-linearization technique", 1999; for networks: Lan, Zheng, Lomuscio, AAAI 2022.
    """
    n, h = 1 + lifted.n_variables, 1 + lifted.hidden
    if h == 1 or moments.shape != (n, h) or not np.isfinite(moments).all():
        return lifted
    lefts = _faces(h, np.arange(1, h))
    # Linear conditions are the inequalities whose left factor is the constant alone.
    alone = np.diff(lifted.left.indptr) == 1
    alone[alone] = lifted.left.indices[lifted.left.indptr[:-1][alone]] == 0
    linear = np.flatnonzero(alone & ~lifted.equality & (np.diff(lifted.radial.indptr) == 0))
    boxes = _faces(n + lifted.forms.shape[1], np.arange(1, n))
    rights = sp.csc_array(sp.hstack([lifted.right[:, linear], boxes]))
    error = np.concatenate([lifted.error[linear], np.zeros(boxes.shape[1])])
    basis = np.concatenate([moments, lifted.forms.T @ moments])
    value = lefts.T @ (rights.T @ basis).T
    # Each pair of faces of hidden variables once; 1 - z_j^2 is the box itself, (1 +- z_j)^2 no condition.
    start = linear.size
    for sign in (0, h - 1):
        for other in (0, n - 1):
            block = value[sign : sign + h - 1, start + other : start + other + h - 1]
            block[np.tril_indices(h - 1, 0 if sign <= other else -1)] = np.inf
            if sign > other:
                block[:] = np.inf
    order = np.argsort(value, axis=None)[:most]
    order = order[value.ravel()[order] < -VIOLATED]
    if not order.size:
        return lifted
    left, right = np.unravel_index(order, value.shape)
    rounds = sum(name.startswith("rlt") for name in lifted.rows)
    # 0 <= 1 +- z_j <= 2 and f >= -e on every trace.
    return lifted.with_products(f"rlt[{rounds}]", lefts[:, left], rights[:, right], up(2.0 * error[right]))


def _faces(height: int, variables: np.typing.NDArray[np.intp]) -> sp.csc_array:
    """Return the columns 1 + z_j, then 1 - z_j."""
    count = variables.size
    column = np.arange(2 * count)
    row = np.concatenate([np.zeros(2 * count, np.intp), variables, variables])
    value = np.concatenate([np.ones(3 * count), -np.ones(count)])
    return sp.csc_array((value, (row, np.concatenate([column, column]))), shape=(height, 2 * count))
