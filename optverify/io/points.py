"""Reading a single input: a row of a NumPy or CSV file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from optverify.errors import InputError, ParseError
from optverify.expressions import Number, rational

NAMES = ("x", "inputs", "images", "X")
"""Arrays of an .npz file that hold inputs, the first that is there; else its only one."""


def load_point(path: str, index: int = 0) -> list[Number]:
    """Read one input, exactly.

    Parameters
    ----------
    path : str
        ``.npy`` or ``.npz`` (an array called x, inputs, images or X, or the only one), or a text file with an input a
        line, numbers separated by commas and read as decimals.
    index : int
        Which row. An array of one dimension is a single row.

    Returns
    -------
    list of numbers

    Raises
    ------
    ParseError
        The file cannot be read.
    InputError
        It has no such row.
    """
    rows = _rows(path)
    if not 0 <= index < len(rows):
        raise InputError(f"{path} has {len(rows)} inputs, counted from 0; there is none with number {index}")
    return rows[index]


def _rows(path: str) -> list[list[Number]]:
    try:
        if not path.endswith((".npy", ".npz")):
            with Path(path).open(newline="", encoding="utf-8") as file:
                lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(map(str.strip, line))]
            for number, line in enumerate(lines):
                for cell in line:
                    try:
                        rational(cell)
                    except InputError as error:
                        raise ParseError(f"row {number}: {error}", path) from None
            return [list(line) for line in lines]
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            array = found
        else:
            with found:
                names = [name for name in NAMES if name in found.files] or found.files
                if len(names) != 1 and names[0] not in NAMES:
                    raise ParseError(f"holds {', '.join(found.files)}: call the inputs x", path)
                array = found[names[0]]
    except (OSError, ValueError, EOFError, UnicodeDecodeError, csv.Error, IndexError) as error:
        if isinstance(error, ParseError):
            raise
        raise ParseError(f"cannot be read: {error}", path) from None
    if array.dtype.kind not in "fiu":
        raise ParseError(f"holds {array.dtype} values, not numbers", path)
    table = np.atleast_2d(array)
    return [row.ravel().tolist() for row in table]
