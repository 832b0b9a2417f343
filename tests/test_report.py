"""Text and HTML forms: what is printed is not more than what is proved."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optverify import Box, Query, Verdict, outputs, verify
from optverify.network import Affine, Network
from optverify.report.html import card
from optverify.report.text import number, rounded_down, rounded_up


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_lower_bounds_are_bounds(value: float) -> None:
    """Six digits, never above the number, and near it."""
    printed = Fraction(rounded_down(value))
    assert printed <= Fraction(value)
    assert Fraction(value) - printed <= abs(Fraction(value)) / 10**5
    above = Fraction(rounded_up(value))
    assert above >= Fraction(value)
    assert above - Fraction(value) <= abs(Fraction(value)) / 10**5


def test_nothing_known_is_a_dash() -> None:
    """None and NaN print as a dash, infinities as themselves."""
    assert rounded_down(None) == rounded_down(float("nan")) == number(None) == number(float("nan")) == "-"
    assert rounded_down(float("-inf")) == rounded_up(float("-inf")) == "-inf"
    assert rounded_up(None) == rounded_up(float("nan")) == "-"


def test_an_answer_is_not_a_truth_value() -> None:
    """`if verify(...)` is refused: a falsified property must not read as success. Verdicts compare with text."""
    network = Network((Affine([[1.0]], [0.0]),))
    answer = verify(network, Query.never(Box([0], [1]), outputs(1)[0] >= "0.5", 1))
    with pytest.raises(TypeError, match="verdict"):
        bool(answer)
    assert answer.verdict == "falsified"
    assert answer.verdict is Verdict.FALSIFIED


def test_cards_escape_everything() -> None:
    """Titles, labels and texts are escaped, in the folded rows too."""
    html = card("<a>", {"<b>": "<c>"}, "verified", {"<d>": "<e>"})
    for letter in "abcde":
        assert f"<{letter}>" not in html.replace("<b><", "") or letter == "b"
        assert f"&lt;{letter}&gt;" in html
    assert "<script" not in html
