"""The same cards as text, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction


def card(title: str, rows: Mapping[str, str]) -> str:
    """Return a title and aligned rows."""
    width = max((len(label) for label in rows), default=0)
    return "\n".join([title, *(f"  {label:<{width}}  {text}" for label, text in rows.items())])


def number(value: float | None) -> str:
    """Return a number in a form that reads well; a dash for None and NaN."""
    if value is None or value != value:
        return "-"
    return f"{value:.6g}"


def rounded_down(value: float | None, digits: int = 6) -> str:
    """Return a few digits that are not above the number, so that a printed lower bound is a bound."""
    if value is None or value != value or value in (float("inf"), float("-inf")):
        return "-" if value is None or value != value else str(value)
    short = Context(prec=digits, rounding=ROUND_FLOOR).create_decimal(Decimal(value))
    return f"{short.normalize():g}" if short else "0"


def rounded_up(value: float | None, digits: int = 6) -> str:
    """Return a few digits that are not below the number."""
    shown = rounded_down(None if value is None else -value, digits)
    return shown if shown in ("-", "0") else shown.removeprefix("-") if shown.startswith("-") else f"-{shown}"


def exact(value: float) -> str:
    """Return the shortest decimal that gives back the same float64."""
    return repr(float(value))


def rational(value: Fraction) -> str:
    """Return the shortest decimal of a number that is a decimal or a float64, else a ratio, or what it is about."""
    try:
        shown = repr(float(value))
        if value in (Fraction(shown), Fraction(float(value))):
            return shown.removesuffix(".0")
    except (OverflowError, ValueError):
        shown = "a number beyond float64"
    short = max(value.numerator.bit_length(), value.denominator.bit_length()) < 64
    return str(value) if short else f"about {shown}"


def certified(written: bool) -> str:
    """Say what became of a certificate."""
    return "written, and accepted by the checker" if written else "not written"
