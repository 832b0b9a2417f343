"""The exact text of a property, which can be about balls; and what is not asked about those."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify import (
    Ball,
    Box,
    Network,
    Query,
    bound,
    compare,
    dual_box,
    load_property,
    outputs,
    radius,
    safe_box,
    to_cvxpy,
    verify,
)
from optverify.canonical import property_text
from optverify.errors import InputError, OptverifyError, ParseError, ShapeError
from optverify.expressions import Atom, Linear
from optverify.interval import nearest
from optverify.io.exact import parse_exact
from optverify.io.vnnlib import write_vnnlib
from optverify.norms import Cut
from optverify.plots import slice_plot
from optverify.query import Case

NET = Network.from_arrays([(np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))])
DISC = Ball.of(Box([-1, -1], [1, 1]), "2", [0, "0.5"], "0.25")
number = st.fractions(-4, 4, max_denominator=12)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    n = draw(st.integers(1, 3))
    cases = []
    for _ in range(draw(st.integers(0, 3))):
        ends = [sorted((draw(number), draw(number))) for _ in range(n)]
        region = Box([a for a, _ in ends], [b for _, b in ends])
        if draw(st.booleans()):
            centre = tuple(draw(number) for _ in range(n))
            region = Ball(region.lower, region.upper, draw(st.sampled_from(["2", "1", "0"])), centre, abs(draw(number)))
        variables = [("X", i) for i in range(n)] + [("Y", 0)]
        atoms = [
            Atom(Linear({v: c for v in variables if (c := draw(number))}, draw(number)), draw(st.booleans()))
            for _ in range(draw(st.integers(0, 2)))
        ]
        cases.append(Case(region, tuple(atoms)))
    return Query(tuple(cases), n, 1)


@settings(max_examples=80, deadline=None)
@given(queries())
def test_what_is_written_is_read(query: Query) -> None:
    """Every query comes back, balls too, and with the same digests."""
    again = parse_exact(property_text(query).decode() + "\n")
    assert again.cases == query.cases
    assert again.digest == query.digest
    assert property_text(again) == property_text(query)


TEXT = property_text(Query.never(DISC, outputs(2)[0] >= 3, 2)).decode()


@pytest.mark.parametrize(
    "spoilt",
    [
        "{",
        "{}",
        TEXT[:-1],
        TEXT + "{}",
        TEXT.replace('"norm":2', '"norm":3'),
        TEXT.replace('"norm":2', '"norm":"2"'),
        TEXT.replace('"norm":2', '"norm":true'),
        TEXT.replace('"norm":2,', ""),
        TEXT.replace('"radius":[1,4]', '"radius":[-1,4]'),
        TEXT.replace('"radius":[1,4]', '"radius":[1,0]'),
        TEXT.replace('"radius":[1,4]', '"radius":[2,8]'),
        TEXT.replace('"radius":[1,4]', '"radius":0.25'),
        TEXT.replace('"radius":[1,4]', '"radius":[1' + "0" * 5_000 + ",4]"),
        TEXT.replace('"radius":[1,4]', '"radius":[1' + "0" * 400 + ",4]"),
        TEXT.replace('"centre":[[0,1],[1,2]]', '"centre":[[0,1]]'),
        TEXT.replace('"Y"', '"Z"'),
        TEXT.replace('"inputs":2', '"inputs":3'),
        TEXT.replace('"inputs":2', '"inputs":null'),
        TEXT.replace('"cases":[', '"more":1,"cases":['),
        TEXT.replace("optverify property 1", "optverify property 2"),
        "[" * 100_000,
        '{"cases":' + "[" * 100_000,
    ],
)
def test_anything_else_is_one_error(spoilt: str, tmp_path: Path) -> None:
    """No text that is not canonical is read."""
    assert spoilt != TEXT
    path = tmp_path / "property.json"
    path.write_text(spoilt)
    with pytest.raises(InputError, match=r"property\.json"):
        load_property(path)


def test_files(tmp_path: Path) -> None:
    """Plain and compressed files are recognised by their content."""
    plain, packed = tmp_path / "a.json", tmp_path / "b.json.gz"
    plain.write_text(TEXT + "\n")
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert load_property(plain).cases == load_property(packed).cases
    box = tmp_path / "box.json"
    box.write_bytes(property_text(Query.never(Box([0, 0], [1, 1]), outputs(2)[0] <= -1, 2)))
    assert verify(NET, load_property(box)).verdict.value == "verified"


def test_balls_are_exact() -> None:
    """Points on the border are inside; the float form holds the exact one."""
    ball = Ball.of(Box([-1, -1], [1, 1]), "2", [0, 0], "0.5")
    assert ball.upper == (Fraction(1, 2), Fraction(1, 2))
    assert ball.contains([Fraction(3, 10), Fraction(4, 10)])
    assert not ball.contains([Fraction(3, 10), Fraction(4, 10) + Fraction(1, 10**30)])
    assert "0.5 of a point in the norm 2" in str(ball)
    third = Ball.of(Box([-1], [1]), "1", [Fraction(1, 3)], Fraction(1, 10**20))
    assert isinstance(third.outward, Cut)
    assert third.outward.radius >= abs(Fraction(nearest(Fraction(1, 3))) - Fraction(1, 3))
    few = Ball.of(Box([-1, -1], [1, 1]), "0", [0, 0], 1)
    assert few.contains([Fraction(0), Fraction(1)])
    assert not few.contains([Fraction(1, 9), Fraction(1)])
    about = [Query.never(region, outputs(1)[0] <= 0, 1) for region in (ball, Box(ball.lower, ball.upper))]
    assert about[0].digest != about[1].digest


@pytest.mark.parametrize(
    ("norm", "centre", "radius", "error"),
    [
        ("inf", [0, 0], 1, InputError),
        ("3", [0, 0], 1, InputError),
        ("2", [0], 1, ShapeError),
        ("2", [0, 0], -1, InputError),
        ("2", [0, float("nan")], 1, InputError),
        ("2", [0, 0], float("inf"), InputError),
        ("1", [0, Fraction(10) ** 400], 1, InputError),
    ],
)
def test_improper_balls(norm: str, centre: list[object], radius: object, error: type[Exception]) -> None:
    """One error each."""
    with pytest.raises(error):
        Ball([-1, -1], [1, 1], norm, centre, radius)  # type: ignore[arg-type]


def test_questions_about_boxes_say_so() -> None:
    """No question that would take the box for the ball does."""
    query = Query.never(DISC, outputs(2)[0] >= 3, 2)
    asked = [
        lambda: verify(NET, query),
        lambda: compare(NET, query),
        lambda: compare(NET, DISC, ["Y_0"]),
        lambda: bound(NET, DISC, "Y_0"),
        lambda: to_cvxpy(NET, DISC),
        lambda: radius(NET, [0, 0.5], domain=DISC),
        lambda: safe_box(NET, [0, 0.5], label=1, domain=DISC),
        lambda: dual_box(NET, 1, domain=DISC),
        lambda: slice_plot(NET, [0, 0], np.eye(2), query=query),
        lambda: write_vnnlib(query),
    ]
    for ask in asked:
        with pytest.raises(OptverifyError, match="ball"):
            ask()


def test_denominators_that_the_kernel_refuses_are_not_written(tmp_path: Path) -> None:
    """No certificate is written that the kernel calls malformed: one error, before the work."""
    x = [Fraction(1, 3**6_000), Fraction(1, 5**5_000)]
    path = tmp_path / "proof"
    for norm in ("2", "1", "0"):
        with pytest.raises(InputError, match="common denominator"):
            radius(NET, [x[0], 1 - x[1]], norm=norm, domain=(0, 1), certificate=str(path))
    assert not list(tmp_path.iterdir())
    for region in (Box([0, 0], x), Ball([0, 0], [1, 1], "1", x, 1)):
        with pytest.raises(InputError, match="common denominator"):
            property_text(Query.never(region, outputs(2)[0] >= 3, 2))
    y = outputs(2)
    with pytest.raises(InputError, match="common denominator"):
        property_text(Query.never(DISC, y[0] * x[0] + y[1] * x[1] >= 3, 2))


def test_what_balls_inherit_from_boxes() -> None:
    """The l-inf ball about a point is a box, whichever class is asked."""
    assert Ball.around([0, 0], "0.5", None) == Box.around([0, 0], "0.5", None)


def test_the_text_is_what_the_kernel_reads() -> None:
    """The keys of a ball stand between the box and the atoms."""
    assert list(json.loads(TEXT)["cases"][0]) == ["lower", "upper", "norm", "centre", "radius", "unsafe"]
    with pytest.raises(ParseError):
        parse_exact("(declare-const X_0 Real)")
