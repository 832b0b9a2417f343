"""Data sets of numpy."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from optverify.errors import InputError
from optverify.expressions import Number, rational


def read_data(path: str, divide_by: Number = 1) -> tuple[Any, Any]:
    """Read inputs and labels from an ``.npz`` file.

    Parameters
    ----------
    path : str
        With arrays ``inputs`` (or ``images``, ``x``) and ``labels`` (or ``y``).
    divide_by : number
        Inputs are divided by it, exactly: 255 for bytes.

    Returns
    -------
    inputs : (n, ...) numbers
    labels : (n,) int

    Raises
    ------
    InputError
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            arrays = {name.lower(): data[name] for name in data.files}
    except (ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not an .npz file of arrays: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    inputs = next((arrays[name] for name in ("inputs", "images", "x") if name in arrays), None)
    labels = next((arrays[name] for name in ("labels", "y") if name in arrays), None)
    if inputs is None or labels is None:
        raise InputError(f"{path} has {', '.join(arrays) or 'no array'}; expected inputs and labels")
    scale = rational(divide_by)
    if scale <= 0:
        raise InputError("inputs must be divided by a positive number")
    if scale == 1:
        return inputs, labels
    exact = np.empty(inputs.size, dtype=object)
    quotients = {value: rational(value) / scale for value in set(inputs.ravel().tolist())}
    exact[:] = [quotients[value] for value in inputs.ravel().tolist()]
    return exact.reshape(inputs.shape), labels
