"""Writing a property as VNN-LIB, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from optverify.errors import InputError
from optverify.expressions import Atom
from optverify.query import Box, Case, Query

MAX_DIGITS = 4_000
"""Places and bits of a number: any float64 has fewer."""


def vnnlib_text(query: Query) -> str:
    """Return a VNN-LIB 1.0 text whose reading gives the query again: all its cases over one box.

    Raises
    ------
    InputError
        A number has no finite decimal expansion, the cases are about several boxes, or a condition has no output: the
        format takes that for a part of the box.
    """
    atoms = [atom for case in query.cases for atom in case.unsafe]
    if not all(any(kind == "Y" for kind, _ in atom.linear.terms) for atom in atoms):
        raise InputError("a condition without an output cannot be written as VNN-LIB")
    regions = {case.region for case in query.cases}
    if len(regions) != 1:
        raise InputError(f"only properties about one box can be written as VNN-LIB, not {len(regions)}")
    return "\n".join(_lines(query, regions.pop())) + "\n"


def _lines(query: Query, region: Box) -> Iterator[str]:
    for kind, count in (("X", query.n_inputs), ("Y", query.n_outputs)):
        for i in range(count):
            yield f"(declare-const {kind}_{i} Real)"
    for i, (low, high) in enumerate(zip(region.lower, region.upper, strict=True)):
        yield f"(assert (>= X_{i} {decimal(low)}))"
        yield f"(assert (<= X_{i} {decimal(high)}))"
    cases = [_conjunction(case) for case in query.cases]
    yield f"(assert {cases[0] if len(cases) == 1 else '(or ' + ' '.join(cases) + ')'})"


def _conjunction(case: Case) -> str:
    return "(and " + " ".join(map(_comparison, case.unsafe)) + ")"


def _comparison(atom: Atom) -> str:
    terms = [f"(* {decimal(c)} {kind}_{i})" for (kind, i), c in sorted(atom.linear.terms.items())]
    left = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})" if terms else "0.0"
    return f"({'<' if atom.strict else '<='} {left} {decimal(-atom.linear.constant)})"


def decimal(value: Fraction) -> str:
    """Return the finite decimal expansion of a rational.

    Raises
    ------
    InputError
        It has none, or one of thousands of digits.
    """
    rest, places = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest, count = rest // prime, count + 1
        places = max(places, count)
    if places + value.numerator.bit_length() > MAX_DIGITS:
        raise InputError("a number has too many digits to be written as VNN-LIB")
    if rest != 1:
        raise InputError(f"{value} has no finite decimal expansion")
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, fraction = digits[: len(digits) - places], digits[len(digits) - places :]
    return ("-" if value < 0 else "") + f"{whole}.{fraction or '0'}"
