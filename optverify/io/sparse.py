"""Sparse matrices of the readers. Importing scipy takes as long as numpy, so nothing does before one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def csr(weight: Any, shape: tuple[int, int] | None = None) -> Any:
    """Make a ``scipy.sparse.csr_array``.

    Parameters
    ----------
    weight : (m, k) matrix, dense or sparse; (m,) diagonal of a square one; triple (data, indices, indptr); pair (m, k)
        Entries of a diagonal and of a triple are stored also where they are zero; a pair stands for no entries.
    shape : (m, k), for a triple
    """
    from scipy.sparse import csr_array

    if isinstance(weight, np.ndarray) and weight.ndim == 1:
        places = np.arange(weight.size + 1, dtype=np.int32)
        weight, shape = (weight, places[:-1], places), (weight.size, weight.size)
    return csr_array(weight, shape)


def stack(parts: Sequence[Any]) -> Any:
    """Return csr_arrays one below the other."""
    from scipy.sparse import vstack

    return vstack(parts, format="csr")
