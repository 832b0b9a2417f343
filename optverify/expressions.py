"""Linear expressions over inputs and outputs, and conditions made of them, with exact coefficients.

>>> from optverify import inputs, outputs
>>> x, y = inputs(2), outputs(3)
>>> print((y[0] - 2 * y[1] <= x[0] + 1) & ~(y[2] >= "0.1"))
(-X_0 + Y_0 - 2 Y_1 - 1 <= 0) and (Y_2 - 1/10 < 0)

Numbers are read exactly: an int, a Fraction, a Decimal or a string such as ``"0.1"`` as the decimal that
it is, a float as the binary number that it is (0.1 is 0.1000000000000000055...).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import prod
from typing import Literal, NoReturn

import numpy as np

from optverify.errors import InputError

Number = int | float | str | Fraction | Decimal | np.floating | np.integer
Variable = tuple[Literal["X", "Y"], int]
"""An input ("X", i) or an output ("Y", j)."""

MAX_CASES = 100_000
"""Most cases that a condition may expand to."""


def rational(value: Number) -> Fraction:
    """Read a number exactly.

    Raises
    ------
    InputError
        It is NaN, infinite or not a number; or its decimal exponent is beyond 4,000 (a number that no
        network needs and that Python does not print).
    """
    try:
        ratio = isinstance(value, str) and "/" in value  # "1/3"
        if isinstance(value, str | Decimal) and not ratio and abs(Decimal(value).adjusted()) > 4_000:
            raise OverflowError
        if isinstance(value, np.floating | np.integer):
            value = value.item()
        return Fraction(value)
    except (ValueError, ArithmeticError, TypeError):
        raise InputError(f"{value!r} is not a finite number (of a size that can be printed)") from None


@dataclass(frozen=True)
class Linear:
    """constant + sum of coefficient * variable, exactly.

    Parameters
    ----------
    terms : mapping from variable to number
        Read exactly; zero coefficients are left out.
    constant : number

    Notes
    -----
    ``+``, ``-``, ``*`` and ``/`` by numbers give a :class:`Linear`; ``<=``, ``>=``, ``<``, ``>`` give an
    :class:`Atom`; :meth:`equals` gives the conjunction of two.
    """

    terms: Mapping[Variable, Fraction]
    constant: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        terms = {variable: rational(c) for variable, c in self.terms.items()}
        object.__setattr__(self, "terms", {variable: c for variable, c in terms.items() if c})
        object.__setattr__(self, "constant", rational(self.constant))

    @classmethod
    def of(cls, value: Linear | Number) -> Linear:
        """Return a number as a constant expression, an expression as it is."""
        return value if isinstance(value, Linear) else cls({}, rational(value))

    @classmethod
    def variable(cls, kind: Literal["X", "Y"], index: int) -> Linear:
        """Return one variable as an expression."""
        return cls({(kind, index): Fraction(1)})

    def __hash__(self) -> int:
        return hash((frozenset(self.terms.items()), self.constant))

    def __add__(self, other: Linear | Number) -> Linear:
        other = Linear.of(other)
        terms = dict(self.terms)
        for variable, coefficient in other.terms.items():
            total = terms.get(variable, Fraction(0)) + coefficient
            if total:
                terms[variable] = total
            else:
                del terms[variable]
        return Linear(terms, self.constant + other.constant)

    __radd__ = __add__

    def __neg__(self) -> Linear:
        return self * -1

    def __sub__(self, other: Linear | Number) -> Linear:
        return self + -Linear.of(other)

    def __rsub__(self, other: Linear | Number) -> Linear:
        return -self + other

    def __mul__(self, factor: Linear | Number) -> Linear:
        if isinstance(factor, Linear):
            if factor.terms and self.terms:
                raise InputError(f"({self}) * ({factor}) is not linear")
            return factor * self.constant if factor.terms else self * factor.constant
        number = rational(factor)
        terms = {variable: number * coefficient for variable, coefficient in self.terms.items()} if number else {}
        return Linear(terms, number * self.constant)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> Linear:
        number = rational(divisor)
        if not number:
            raise InputError(f"({self}) / 0")
        return self * (1 / number)

    def __le__(self, other: Linear | Number) -> Atom:
        return Atom(self - other)

    def __ge__(self, other: Linear | Number) -> Atom:
        return Atom(Linear.of(other) - self)

    def __lt__(self, other: Linear | Number) -> Atom:
        return Atom(self - other, strict=True)

    def __gt__(self, other: Linear | Number) -> Atom:
        return Atom(Linear.of(other) - self, strict=True)

    def equals(self, other: Linear | Number) -> And:
        """Return the condition that both are equal."""
        return And((self <= other, self >= other))

    def value(self, x: Mapping[int, Fraction] | list[Fraction], y: Mapping[int, Fraction] | list[Fraction]) -> Fraction:
        """Evaluate exactly."""
        point = {"X": x, "Y": y}
        return self.constant + sum((c * point[kind][index] for (kind, index), c in self.terms.items()), Fraction(0))

    def __str__(self) -> str:
        parts = []
        for (kind, index), c in sorted(self.terms.items()):
            size = "" if abs(c) == 1 else f"{abs(c)} "
            parts.append(f"{'-' if c < 0 else '+'} {size}{kind}_{index}")
        if self.constant or not parts:
            parts.append(f"{'-' if self.constant < 0 else '+'} {abs(self.constant)}")
        text = " ".join(parts)
        return text[2:] if text.startswith("+") else "-" + text[2:]


class Condition:
    """A formula over atoms; combine with ``&``, ``|`` and ``~``."""

    def __and__(self, other: Condition) -> And:
        # Flat, however many are joined one by one: the walks below recurse over alternations only.
        return And((*_parts(self, And), *_parts(other, And)))

    def __or__(self, other: Condition) -> Or:
        return Or((*_parts(self, Or), *_parts(other, Or)))

    def __invert__(self) -> Condition:
        raise NotImplementedError

    def __bool__(self) -> NoReturn:
        raise InputError(
            "a condition has no truth value: join conditions with & and |, not with 'and', 'or' or a chained comparison"
        )

    def count_cases(self) -> int:
        """Return how many conjunctions :meth:`cases` gives."""
        raise NotImplementedError

    def _expand(self) -> Iterator[tuple[Atom, ...]]:
        raise NotImplementedError

    def cases(self) -> list[tuple[Atom, ...]]:
        """Return the disjunctive normal form: a list of conjunctions of atoms.

        Raises
        ------
        InputError
            There are more than 100,000 of them.
        """
        if (count := self.count_cases()) > MAX_CASES:
            raise InputError(f"the property expands to {count} cases; at most {MAX_CASES} are supported")
        return list(self._expand())


@dataclass(frozen=True)
class Atom(Condition):
    """``linear <= 0``, or ``linear < 0`` where strict."""

    linear: Linear
    strict: bool = False

    def __invert__(self) -> Atom:
        return Atom(-self.linear, not self.strict)

    def count_cases(self) -> int:
        """Return 1."""
        return 1

    def _expand(self) -> Iterator[tuple[Atom, ...]]:
        yield (self,)

    def __str__(self) -> str:
        return f"{self.linear} {'<' if self.strict else '<='} 0"


@dataclass(frozen=True)
class And(Condition):
    """All parts hold; the empty conjunction is true."""

    parts: tuple[Condition, ...]

    def __invert__(self) -> Or:
        return Or(tuple(~part for part in self.parts))

    def count_cases(self) -> int:
        """Return the product over the parts."""
        return prod(part.count_cases() for part in self.parts)

    def _expand(self) -> Iterator[tuple[Atom, ...]]:
        if not self.count_cases():
            return  # one empty factor empties the product; do not multiply out the others first
        conjunctions: list[tuple[Atom, ...]] = [()]
        for part in self.parts:
            expanded = list(part._expand())
            conjunctions = [a + b for a in conjunctions for b in expanded]
        yield from conjunctions

    def __str__(self) -> str:
        return " and ".join(f"({part})" for part in self.parts) or "true"


@dataclass(frozen=True)
class Or(Condition):
    """Some part holds; the empty disjunction is false."""

    parts: tuple[Condition, ...]

    def __invert__(self) -> And:
        return And(tuple(~part for part in self.parts))

    def count_cases(self) -> int:
        """Return the sum over the parts."""
        return sum(part.count_cases() for part in self.parts)

    def _expand(self) -> Iterator[tuple[Atom, ...]]:
        for part in self.parts:
            yield from part._expand()

    def __str__(self) -> str:
        return " or ".join(f"({part})" for part in self.parts) or "false"


def _parts(condition: Condition, kind: type[And] | type[Or]) -> tuple[Condition, ...]:
    """Return the parts of a condition of the given kind, or the condition as the only part."""
    if not isinstance(condition, Condition):
        raise InputError(f"{condition!r} is not a condition; for an equation write a.equals(b), not a == b")
    return condition.parts if isinstance(condition, And | Or) and type(condition) is kind else (condition,)


def inputs(count: int) -> list[Linear]:
    """Return the input variables X_0 .. X_{count-1} as expressions."""
    return [Linear.variable("X", i) for i in range(count)]


def outputs(count: int) -> list[Linear]:
    """Return the output variables Y_0 .. Y_{count-1} as expressions."""
    return [Linear.variable("Y", j) for j in range(count)]
