"""The same cards as text, and numbers as text."""

from __future__ import annotations

from collections.abc import Mapping


def card(title: str, rows: Mapping[str, str]) -> str:
    """Return a title and aligned rows."""
    width = max((len(label) for label in rows), default=0)
    return "\n".join([title, *(f"  {label:<{width}}  {text}" for label, text in rows.items())])


def number(value: float | None) -> str:
    """Return a number in a form that reads well; a dash for None and NaN."""
    if value is None or value != value:
        return "-"
    return f"{value:.6g}"


def exact(value: float) -> str:
    """Return the shortest decimal that gives back the same float64."""
    return repr(float(value))
