"""Reads ``.nnet`` files, the text format of the ACAS Xu networks.

After comment lines that start with ``//`` come lines of numbers, separated by commas:

1. number of layers, of inputs, of outputs, largest layer size;
2. size of the input and of each layer;
3. a flag without meaning;
4. the smallest and 5. the largest value of each input;
6. a mean for each input, and one for all outputs; 7. a range likewise;
8. for each layer its weight, one row a line, then its bias, one number a line.

Layers but the last are followed by a ReLU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from optverify.errors import InputError, ParseError
from optverify.expressions import rational
from optverify.interval import Array
from optverify.io.lowering import Builder
from optverify.network import Network
from optverify.semantics import FLOAT64, REAL, Semantics, named

HEADER_NUMBERS = 4


def read_nnet(path: str | os.PathLike[str], normalise: bool = True, format: str = "") -> Network:  # noqa: A002
    """Read a network from an ``.nnet`` file.

    Parameters
    ----------
    path : path
    normalise : bool
        If true, inputs and outputs are physical values: as in the format's own evaluation code, an input x
        is first clipped to its range in the file (by two rectified coordinates, which are stable and cost
        nothing while the verified box lies within), then becomes (x - mean) / range; an output y becomes
        y * range + mean. If false, the network is the bare one between normalised values, without clipping.
    format : str
        Floating-point format of the program that reads the file and evaluates it; the file does not say. Without
        one nothing is known but the numbers.

    Returns
    -------
    Network
        Its numbers are those of the format (float64 without one) nearest to the decimals of the file, and statements
        about it are statements about those; division by a range adds a relative uncertainty of 2**-53.

    Raises
    ------
    InputError
        The file cannot be read, or a range is zero; or there is no such format.
    ParseError
        It does not follow the format; the message names the line and column.

    Examples
    --------
    >>> from optverify.io.nnet import read_nnet
    >>> read_nnet("ACASXU_1_1.nnet")  # doctest: +SKIP
    <Network 'ACASXU_1_1': 5 inputs, 8 ReLU layers with 310 neurons, 5 outputs>
    """
    path = Path(path)
    semantics = named(format or REAL)
    file = _parse(path, semantics if semantics.digits else FLOAT64)
    build = Builder(file.lowest.size)
    values = build.inputs
    if normalise:
        clipped = build.clip(values, file.lowest, file.highest)
        values = build.divide(build.shift(clipped, -file.means[:-1]), file.ranges[:-1])
    for position, (weight, bias) in enumerate(file.layers):
        if position:
            values = build.relu(values)
        values = build.affine(weight, values, bias)
    if normalise:
        values = build.elementwise(file.ranges[-1], values, file.means[-1], roundings=2)
    return build.network(values, (file.lowest.size,), path.stem, [semantics.format] if semantics.format else [])


@dataclass(frozen=True, eq=False)
class _File:
    """The numbers of a file; means and ranges have one more entry than inputs, for the outputs."""

    lowest: Array
    highest: Array
    means: Array
    ranges: Array
    layers: list[tuple[Array, Array]]


def _parse(path: Path, semantics: Semantics) -> _File:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, expected an .nnet file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    lines = _Lines(str(path), text, semantics)
    count, inputs, outputs, _ = lines.integers(HEADER_NUMBERS, "the numbers of layers, inputs and outputs")
    sizes = lines.integers(count + 1, "the layer sizes")
    if sizes[0] != inputs or sizes[-1] != outputs or count < 1:
        lines.fail(f"the layer sizes {sizes} do not start with {inputs} inputs and end with {outputs} outputs")
    lines.skip()
    lowest, highest = (lines.numbers(inputs, what) for what in ("the smallest inputs", "the largest inputs"))
    if (lowest > highest).any():
        lines.fail("an input is smaller at its largest than at its smallest")
    means, ranges = (lines.numbers(inputs + 1, what) for what in ("the means", "the ranges"))
    if not ranges.all():
        lines.fail("a range is zero; nothing can be divided by it")
    layers = []
    for fan, size in pairwise(sizes):
        weight = np.array([lines.numbers(fan, "a row of weights") for _ in range(size)]).reshape(size, fan)
        bias = np.array([lines.numbers(1, "a bias")[0] for _ in range(size)])
        layers.append((weight, bias))
    lines.end()
    return _File(lowest, highest, means, ranges, layers)


class _Lines:
    """The lines of a file that are neither comments nor empty."""

    def __init__(self, source: str, text: str, semantics: Semantics) -> None:
        self._source, self._semantics = source, semantics
        self._position = 0
        self._lines = self._meaningful(text)

    @staticmethod
    def _meaningful(text: str) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("//"):
                yield number, line

    def fail(self, message: str, column: int | None = None) -> Any:
        """Refuse the file at the line that was read last."""
        raise ParseError(message, self._source, self._position or None, column)

    def skip(self) -> str:
        """Return the next line."""
        self._position, line = next(self._lines, (self._position, ""))
        if not line:
            self.fail("the file ends here, but more lines are expected")
        return line

    def end(self) -> None:
        """Refuse lines after the last one that means something."""
        if rest := next(self._lines, None):
            self._position = rest[0]
            self.fail("nothing is expected after the last bias")

    def numbers(self, count: int, what: str) -> Array:
        """Return the numbers of the next line in the format; a comma may stand at its end."""
        return self._read(count, what, self._semantics)

    def _read(self, count: int, what: str, semantics: Semantics) -> Array:
        line = self.skip()
        words = line.split(",")
        if not words[-1].strip():
            words.pop()
        if len(words) != count:
            self.fail(f"expected {what}: {count} numbers separated by commas, found {len(words)}")
        values, column = [], 1
        for word in words:
            try:
                value = float(word.replace("_", "?"))  # Python reads 1_000, the format does not
                if semantics is not FLOAT64 and math.isfinite(value):
                    value = semantics.nearest(rational(word.strip()))
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                kind = "" if semantics is FLOAT64 else f" of {semantics}"
                self.fail(f"expected a finite number{kind}, found {word.strip()!r}", column)
            values.append(value)
            column += len(word) + 1
        return np.array(values, np.float64)

    def integers(self, count: int, what: str) -> list[int]:
        """Return the positive integers of the next line."""
        values = self._read(count, what, FLOAT64)
        if (values != np.rint(values)).any() or (values < 1).any():
            self.fail(f"expected {what} as positive integers")
        return [int(value) for value in values]
