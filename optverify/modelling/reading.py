"""A model read exactly, and the program of floats that bounds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite, sqrt

import numpy as np

from optverify.errors import InputError
from optverify.expressions import Linear
from optverify.formulations.program import Block, Cone, Program, order_of
from optverify.interval import Array, nearest, round_down, round_up
from optverify.modelling.forms import BEYOND, above, column
from optverify.query import MIN_NORMAL


@dataclass(frozen=True, eq=False)
class Row:
    """Conditions of one kind, s in K for a list of forms s.

    Parameters
    ----------
    name : str
        As the user's model has it, for messages.
    forms : sequence of Linear
        Over columns. For a semidefinite cone the lower triangle of the matrix by columns, as it is.
    cone : Cone
    dual : (len(forms),) float64, optional
        What the model's solver left: y of ``docs/duality.md``.
    """

    name: str
    forms: Sequence[Linear]
    cone: Cone
    dual: Array | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """A model: minimise a form subject to rows.

    Parameters
    ----------
    names : sequence of n str
        Of the columns, for messages.
    integer : sequence of n bool
    rows : sequence of Row
        Also the bounds on the variables.
    objective : Linear
        To be minimised: of a model that maximises, minus its objective.
    maximise : bool
        Whether the model does.
    claim : float or None
        The model's objective as its solver left it.
    """

    names: Sequence[str]
    integer: Sequence[bool]
    rows: Sequence[Row]
    objective: Linear
    maximise: bool
    claim: float | None


def bounds_row(name: str, index: int, lower: float | None, upper: float | None) -> Iterator[Row]:
    """Yield the bounds of a variable as rows; None and the infinity on its own side are no bound.

    Raises
    ------
    InputError
        A bound is NaN, or an infinity that no number satisfies.
    """
    for sign, end in ((1, lower), (-1, upper)):
        if end is not None and end != -sign * inf:
            if not isfinite(end):
                raise InputError(f"variable {name}: {end} is no {'lower' if sign > 0 else 'upper'} bound")
            yield Row(f"bounds of {name}", [sign * (column(index) - end)], Cone.NONNEG)


def to_program(reading: Reading) -> tuple[Program, Array | None]:
    """Return a program of floats that every point of the model satisfies, its objective nowhere above the model's.

    Conditions on one variable become bounds. A variable without a bound gets the one that the rows imply, if they do.

    Returns
    -------
    Program
    (m,) float64 or None
        The dual vector that the model's solver left; None unless every row has one.

    Raises
    ------
    InputError
        A number is beyond the range of float64; or a coefficient is no float and its variable has no bounds.
    """
    box = _Box(reading)
    rows = [row for row in map(box.rest, reading.rows) if row.forms]
    box.imply(rows)
    lines = _Lines(box)
    for row in rows:
        try:
            lines.add(row)
        except InputError as error:
            raise InputError(f"{row.name}: {error}") from None
    try:
        cost, c0 = box.above(-reading.objective)
    except InputError as error:
        raise InputError(f"the objective: {error}") from None
    c = np.zeros(len(reading.names))
    for j, value in cost.items():
        c[j] = -value
    return lines.program(c, -c0, reading), lines.dual()


class _Box:
    """The bounds of the variables, as far as they are known."""

    def __init__(self, reading: Reading) -> None:
        self.names = reading.names
        n = len(reading.names)
        self.lower, self.upper = [-inf] * n, [inf] * n

    def rest(self, row: Row) -> Row:
        """Turn conditions on one variable into bounds and return the others.

        One that leaves nothing of the box stays a row: a program has no empty box, and its infeasibility has a ray.
        """
        if row.cone is not Cone.NONNEG:
            return row
        kept = [i for i, form in enumerate(row.forms) if not self._taken(form)]
        dual = None if row.dual is None or row.dual.shape != (len(row.forms),) else row.dual[kept]
        return Row(row.name, [row.forms[i] for i in kept], row.cone, dual)

    def _taken(self, form: Linear) -> bool:
        if len(form.terms) != 1:
            return False
        (((_, j), a),) = form.terms.items()
        return self._bound(j, -form.constant / a, below=a > 0)

    def _bound(self, j: int, end: Fraction, *, below: bool) -> bool:
        if below:
            low = max(self.lower[j], round_down(end))
            if low > self.upper[j] or not isfinite(low):
                return False
            self.lower[j] = low
        else:
            high = min(self.upper[j], round_up(end))
            if high < self.lower[j] or not isfinite(high):
                return False
            self.upper[j] = high
        return True

    def imply(self, rows: Sequence[Row]) -> None:
        """Bound variables that have no bound by what the rows say, until that bounds no further one."""
        forms = []
        for row in rows:
            if row.cone is not Cone.PSD:
                forms += [*row.forms]
            if row.cone is Cone.ZERO:
                forms += [-form for form in row.forms]
        forms = [form for form in forms if any(self._missing(j, a) for (_, j), a in form.terms.items())]
        while sum(self._implied(form) for form in forms):
            pass

    def _missing(self, j: int, a: Fraction) -> bool:
        """Tell whether the end of x_j that a x_j + ... >= 0 may bound is infinite."""
        return (self.lower[j] if a > 0 else self.upper[j]) in (-inf, inf)

    def _implied(self, form: Linear) -> bool:
        """Bound the variables that form >= 0 bounds and nothing did so far; tell whether there were any.

        Where a_j > 0, x_j >= -(the largest value of the rest) / a_j.
        """
        largest = {
            j: a * Fraction(end) if isfinite(end) else None
            for j, a, end in ((j, a, (self.upper if a > 0 else self.lower)[j]) for (_, j), a in form.terms.items())
        }
        unknown = [j for j, value in largest.items() if value is None]
        if len(unknown) > 1:
            return False
        total = form.constant + sum(value for value in largest.values() if value is not None)
        found = False
        for (_, j), a in form.terms.items():
            if unknown in ([], [j]) and self._missing(j, a):
                found |= self._bound(j, -(total - (largest[j] or 0)) / a, below=a > 0)
        return found

    def above(self, form: Linear) -> tuple[dict[int, float], float]:
        """Return a form of floats that is nowhere below the given one."""
        return above(form, self.lower, self.upper, self.names)

    def exact(self, form: Linear) -> bool:
        """Tell whether floats hold a form."""
        numbers = (form.constant, *form.terms.values())
        return all(isfinite(f) and Fraction(f) == a for a, f in ((a, nearest(a)) for a in numbers))


class _Lines:
    """Rows of floats on their way into a program."""

    def __init__(self, box: _Box) -> None:
        self.box = box
        self.blocks: dict[str, Block] = {}
        self.entries: list[tuple[int, int, float]] = []
        self.right: list[float] = []
        self.advice: list[float | None] = []

    def add(self, row: Row) -> None:
        """Append a row; an equation that floats do not hold becomes two inequalities."""
        y: list[float | None] = [None] * len(row.forms)
        if row.dual is not None and row.dual.shape == (len(row.forms),):
            y = list(row.dual.tolist())
        start = len(self.right)
        if row.cone is Cone.PSD:
            for form, dual, scale in zip(row.forms, y, _scales(len(row.forms)), strict=True):
                # Off the diagonal rounded three times, which the bound allows for; but not for underflow.
                line = {j: _scaled(a, scale) for (_, j), a in form.terms.items()}
                self._line(line, _scaled(form.constant, scale), dual)
        elif row.cone is Cone.NONNEG or all(map(self.box.exact, row.forms)):
            for form, dual in zip(row.forms, y, strict=True):
                self._line(*self.box.above(form), dual)
        else:
            for form, dual in zip(row.forms, y, strict=True):
                self._line(*self.box.above(form), None if dual is None else max(dual, 0.0))
                self._line(*self.box.above(-form), None if dual is None else max(-dual, 0.0))
            self._close(row.name, start, Cone.NONNEG)
            return
        self._close(row.name, start, row.cone)

    def _line(self, form: dict[int, float], constant: float, dual: float | None) -> None:
        """Append s = constant + form: A is minus the form."""
        self.entries += [(len(self.right), j, -value) for j, value in form.items()]
        self.right.append(constant)
        self.advice.append(dual)

    def _close(self, name: str, start: int, cone: Cone) -> None:
        # Two constraints may bear the same name.
        self.blocks[f"{len(self.blocks)}: {name}"] = Block(start, len(self.right), cone)

    def dual(self) -> Array | None:
        """Return the dual vector, if every row has an entry."""
        return None if None in self.advice else np.array(self.advice, np.float64)

    def program(self, c: Array, c0: float, reading: Reading) -> Program:
        """Return the program."""
        from scipy.sparse import csc_array

        i, j, v = zip(*self.entries, strict=True) if self.entries else ((), (), ())
        index = (np.array(i, np.intp), np.array(j, np.intp))
        return Program(
            c=c,
            A=csc_array((np.array(v, np.float64), index), shape=(len(self.right), len(c))),
            b=np.array(self.right, np.float64),
            rows=self.blocks,
            lower=np.array(self.box.lower),
            upper=np.array(self.box.upper),
            c0=c0,
            integer=np.array(reading.integer, bool),
            name="model",
        )


def _scaled(value: Fraction, scale: float) -> float:
    x = nearest(value) * scale
    if not isfinite(x) or (value and abs(x) < MIN_NORMAL):
        raise InputError(BEYOND)
    return x


def _scales(size: int) -> list[float]:
    """Return what the entries of a lower triangle by columns are multiplied with: 1, off the diagonal sqrt 2."""
    order = order_of(size)
    return [1.0 if row == col else sqrt(2.0) for col in range(order) for row in range(col, order)]
