"""Properties in the exact text that certificates are about (``docs/certificate-v1.md``, section 1)."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from optverify.canonical import property_text
from optverify.errors import InputError, ParseError
from optverify.expressions import Atom, Linear
from optverify.query import Case, Query
from optverify.region import Ball, Box


def parse_exact(text: str, source: str = "<property>") -> Query:
    """Read a property in its exact form, which can say what VNN-LIB cannot: balls.

    Parameters
    ----------
    text : str
        As :func:`optverify.canonical.property_text` writes it, but for white space at its end.
    source : str
        What to call the text in errors.

    Raises
    ------
    ParseError
        It is anything else.
    InputError
        A region is not proper.
    """
    text = text.rstrip()
    try:
        value = json.loads(text)
        cases = tuple(Case(_region(case), tuple(map(_atom, case["unsafe"]))) for case in value["cases"])
        query = Query(cases, value["inputs"], value["outputs"], Path(source).name)
        same = property_text(query) == text.encode()
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        same = False
    if not same:
        raise ParseError("expected a VNN-LIB text, or a property exactly as optverify writes it", source)
    return query


def _region(case: dict[str, Any]) -> Box:
    lower, upper = (tuple(Fraction(*end) for end in case[side]) for side in ("lower", "upper"))
    if "norm" not in case:
        return Box(lower, upper)
    centre = tuple(Fraction(*value) for value in case["centre"])
    return Ball(lower, upper, str(case["norm"]), centre, Fraction(*case["radius"]))  # type: ignore[arg-type]


def _atom(atom: dict[str, Any]) -> Atom:
    terms = {(kind, i): Fraction(*value) for kind, i, *value in atom["terms"]}
    return Atom(Linear(terms, Fraction(*atom["constant"])), bool(atom["strict"]))
