"""Properties written as VNN-LIB and read again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optverify import Box, Case, Query
from optverify.errors import InputError
from optverify.expressions import Atom, Linear
from optverify.io.statement import decimal, vnnlib_text
from optverify.io.vnnlib import read_vnnlib

NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(Fraction) | st.decimals(-99, 99, places=7).map(Fraction)


@given(NUMBERS)
def test_decimals_are_exact(value: Fraction) -> None:
    """The text is the number, to the last digit, denormal or huge."""
    assert Fraction(decimal(value)) == value


def test_a_third_has_no_expansion() -> None:
    """What cannot be written exactly is an error."""
    with pytest.raises(InputError, match="1/3 has no finite decimal expansion"):
        decimal(Fraction(1, 3))


@given(data=st.data())
def test_what_is_written_is_what_is_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The reader gives the same query, strict atoms and mixed ones included."""
    small = st.decimals(-9, 9, places=3).map(Fraction)
    lower = data.draw(st.lists(small, min_size=2, max_size=3))
    region = Box(tuple(lower), tuple(low + abs(data.draw(small)) for low in lower))
    names = [("X", i) for i in range(len(lower))] + [("Y", j) for j in range(2)]
    cases = []
    for _ in range(data.draw(st.integers(1, 3))):
        atoms = []
        for _ in range(data.draw(st.integers(1, 3))):
            terms = {name: c for name in names if (c := data.draw(small))} | {("Y", 0): Fraction(1)}
            atoms.append(Atom(Linear(terms, data.draw(small)), strict=data.draw(st.booleans())))  # type: ignore[arg-type]
        cases.append(Case(region, tuple(atoms)))
    query = Query(tuple(cases), len(lower), 2)
    path = Path(tmp_path_factory.mktemp("vnnlib") / "p.vnnlib")
    path.write_text(vnnlib_text(query))
    assert read_vnnlib(path).digest == query.digest


def test_conditions_without_an_output_are_refused() -> None:
    """A reader would take them for a part of the box."""
    atom = Atom(Linear({("X", 0): Fraction(1)}, Fraction(0)))
    with pytest.raises(InputError, match="without an output"):
        vnnlib_text(Query((Case(Box([0], [1]), (atom,)),), 1, 1))


def test_numbers_of_thousands_of_digits_are_refused() -> None:
    """A reader would not take them."""
    with pytest.raises(InputError, match="too many digits"):
        decimal(1 + Fraction(1, 10**5000))


def test_two_boxes_are_refused() -> None:
    """The writer is for properties about one box."""
    cases = tuple(Case(Box([low], [1]), ()) for low in (0, Fraction(1, 2)))
    with pytest.raises(InputError, match="one box"):
        vnnlib_text(Query(cases, 1, 1))
