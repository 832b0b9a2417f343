"""The VNN-LIB reader and writer: exact values, truth against brute force, round trips, and every refusal."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from optverify.errors import InputError, ParseError
from optverify.expressions import Atom, Linear, inputs, outputs
from optverify.io.vnnlib import parse_vnnlib, read_vnnlib, write_vnnlib
from optverify.query import Case, Query
from optverify.region import Box
from tests.test_expressions import fractions, points

relaxed = settings(deadline=None, max_examples=100)

DECLARED = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
BOUNDED = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))\n"
HEAD = DECLARED + BOUNDED
UNIT = Box((0, 0), (1, 1))
X, Y = inputs(2), outputs(2)


def rows(text: str) -> list[tuple[Atom, ...]]:
    """Read assertions over the unit square; return the unsafe rows of each case."""
    query = parse_vnnlib(HEAD + text)
    assert all(case.region == UNIT for case in query.cases)
    return [case.unsafe for case in query.cases]


# --- exact values


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("0.1", Fraction(1, 10)),
        ("-0.29848048", Fraction(-29848048, 10**8)),
        ("3", Fraction(3)),
        ("3.", Fraction(3)),
        (".5", Fraction(1, 2)),
        ("+2.50", Fraction(5, 2)),
        ("1e-3", Fraction(1, 1000)),
        ("-1.5E+2", Fraction(-150)),
        ("0.029999999329447746", Fraction(29999999329447746, 10**18)),
        ("4.9406564584124654e-324", Fraction("4.9406564584124654e-324")),
        ("(/ 1 3)", Fraction(1, 3)),
        ("(/ -2 3 5)", Fraction(-2, 15)),
        ("(- 7)", Fraction(-7)),
        ("(- 7 0.5 1)", Fraction(11, 2)),
        ("(+ 1 2 (* 3 0.1 2))", Fraction(18, 5)),
        ("(+ 5)", Fraction(5)),
        ("(* 5)", Fraction(5)),
    ],
)
def test_numbers_are_exact_rationals(number: str, expected: Fraction) -> None:
    """Decimals, exponents and constant arithmetic are read without any rounding, in rows and in boxes."""
    assert rows(f"(assert (<= Y_0 {number}))") == [(Atom(Linear({("Y", 0): Fraction(1)}, -expected)),)]
    box = parse_vnnlib(f"{DECLARED}(assert (= X_0 {number}))(assert (<= 0 X_1 1))").cases[0].region
    assert (*box.upper[:1], 0) == box.lower == (expected, 0)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("(<= Y_0 Y_1)", Y[0] <= Y[1]),
        ("(>= Y_0 Y_1)", Y[1] <= Y[0]),
        ("(< Y_0 (* 2 Y_1))", Y[0] < 2 * Y[1]),
        ("(> (* Y_1 (+ 1 1) 3) 1)", 6 * Y[1] > 1),
        ("(<= (+ X_0 X_1) Y_0)", X[0] + X[1] <= Y[0]),
        ("(<= (- X_0 Y_0 (/ Y_1 4)) 0)", X[0] - Y[0] - Y[1] / 4 <= 0),
        ("(<= (- Y_0) 0.1)", -Y[0] <= "0.1"),
        ("(<= 0 (- (- Y_0)))", Y[0] >= 0),
        ("(<= (+ X_0 X_1) 1)", X[0] + X[1] <= 1),
    ],
)
def test_atoms(condition: str, expected: Atom) -> None:
    """Each comparison becomes `linear <= 0` or `< 0`, with inputs and outputs mixed as they are."""
    assert rows(f"(assert {condition})") == [(expected,)]


def test_chains_and_equations() -> None:
    """A chain compares neighbours; an equation is two inequalities."""
    assert rows("(assert (<= 0 Y_0 Y_1 1))") == [(Y[0] >= 0, Y[0] <= Y[1], Y[1] <= 1)]
    assert rows("(assert (= Y_0 Y_1))") == [(Y[0] <= Y[1], Y[1] <= Y[0])]
    assert rows("(assert (not (= Y_0 Y_1)))") == [(Y[1] < Y[0],), (Y[0] < Y[1],)]
    assert rows("(assert (not (< 0 Y_0 1)))") == [(Y[0] <= 0,), (Y[0] >= 1,)]


def test_connectives() -> None:
    """Implications, negations and empty connectives have their usual meaning."""
    a, b, c = Y[0] <= 0, Y[1] <= 0, Y[0] <= Y[1]
    text = {"a": "(<= Y_0 0)", "b": "(<= Y_1 0)", "c": "(<= Y_0 Y_1)"}
    table = {
        "(and {a} {b})": [(a, b)],
        "(or {a} {b} {c})": [(a,), (b,), (c,)],
        "(and (or {a} {b}) {c})": [(c, a), (c, b)],
        "(and (or {a} {b}) (or {b} {c}))": [(a, b), (a, c), (b, b), (b, c)],
        "(not (and {a} (or {b} {c})))": [(~a,), (~b, ~c)],
        "(not (not {a}))": [(a,)],
        "(=> {a} {b})": [(~a,), (b,)],
        "(=> {a} {b} {c})": [(~a,), (~b,), (c,)],
        "(not (=> {a} {b}))": [(a, ~b)],
        "(and)": [()],
        "(or)": [],
        "(and {a})": [(a,)],
        "(or (and {a}))": [(a,)],
        "true": [()],
        "false": [],
        "(or {a} false)": [(a,)],
        "(and {a} true)": [(a,)],
        "(or {a} true)": [()],
        "(and {a} (or false (and {b} false)))": [],
        "(=> false {a})": [()],
    }
    for condition, expected in table.items():
        assert rows(f"(assert {condition.format(**text)})") == expected, condition


def test_constant_atoms_simplify() -> None:
    """A false atom drops its case, a true one disappears; strictness counts at equality."""
    assert rows("(assert (<= 0 1))(assert (<= Y_0 0))") == [(Y[0] <= 0,)]
    assert rows("(assert (or (and (<= 2 1) (<= Y_0 0)) (<= Y_1 0)))") == [(Y[1] <= 0,)]
    assert rows("(assert (<= 1 1))") == [()]
    assert rows("(assert (< 1 1))") == []
    assert rows("(assert (<= (- Y_0 Y_0) 0))") == [()]
    assert rows("(assert (< (* 0 Y_0) 0))") == []


def test_no_case_means_trivially_verified() -> None:
    """If the assertions are false whatever happens, the query has no cases, not even a box."""
    query = parse_vnnlib(DECLARED + "(assert false)", "dir/p.vnnlib")
    assert (query.cases, query.n_inputs, query.n_outputs, query.text) == ((), 2, 2, "p.vnnlib")


# --- boxes


def test_the_box_is_the_tightest() -> None:
    """Bounds from several assertions intersect, written from either side and scaled."""
    text = """(assert (<= X_0 0.9)) (assert (>= 0.8 X_0)) (assert (<= (* 2 X_0) 1.8)) (assert (<= (* -4 X_0) -0.4))
              (assert (>= X_1 -1)) (assert (<= 0.25 X_1 0.75)) (assert (<= X_0 1)) (assert (not (< X_1 0.3)))"""
    (case,) = parse_vnnlib(DECLARED + text).cases
    assert case == Case(Box(("0.1", "0.3"), ("0.8", "0.75")), ())


def test_strict_bounds_close_the_box_and_stay_rows() -> None:
    """The box is closed for proving; a witness must respect the strict row."""
    (case,) = parse_vnnlib(HEAD + "(assert (< X_0 0.5)) (assert (> X_1 0.25))").cases
    assert case == Case(Box((0, "0.25"), ("0.5", 1)), (X[0] < "0.5", X[1] > "0.25"))
    query = Query((case,), 2, 2)
    y = [(Fraction(0), Fraction(0))] * 2
    assert query.violated_by([Fraction(1, 2), Fraction(1, 2)], y) is None
    assert query.violated_by([Fraction(49, 100), Fraction(1, 4)], y) is None
    assert query.violated_by([Fraction(49, 100), Fraction(1, 2)], y) == 0


def test_a_disjunction_of_boxes() -> None:
    """Each case has its own region, as in the ACAS Xu property 6."""
    text = f"""{DECLARED}
    (assert (or
        (and (<= X_0 0.7) (>= X_0 -0.1) (<= X_1 0.5) (>= X_1 0.1))
        (and (<= X_0 0.7) (>= X_0 -0.1) (<= X_1 -0.1) (>= X_1 -0.5))
    ))
    (assert (or (and (<= Y_1 Y_0)) (and (<= Y_1 0))))"""
    first, second = Box(("-0.1", "0.1"), ("0.7", "0.5")), Box(("-0.1", "-0.5"), ("0.7", "-0.1"))
    a, b = Y[1] <= Y[0], Y[1] <= 0
    assert parse_vnnlib(text).cases == (Case(first, (a,)), Case(first, (b,)), Case(second, (a,)), Case(second, (b,)))


def test_contradictory_combinations_are_dropped() -> None:
    """What two disjunctions rule out together is simply not a case."""
    text = HEAD + "(assert (or (<= X_0 0.25) (>= X_0 0.75))) (assert (or (<= X_0 0.125) (>= X_0 0.875)))"
    regions = [case.region for case in parse_vnnlib(text).cases]
    assert regions == [Box((0, 0), ("0.125", 1)), Box(("0.875", 0), (1, 1))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(assert (<= X_1 -0.5))", "reversed or empty bounds of input X_1: 0.0 <= X_1 <= -0.5"),
        ("(assert (< X_0 0))", "reversed or empty bounds of input X_0: 0.0 <= X_0 < 0.0"),
        ("(assert (> X_0 1))", "input X_0: 1.0 < X_0 <= 1.0"),
        ("(assert (or (and (<= X_0 0.1) (>= X_0 0.2)) (<= Y_0 0)))", "input X_0: 0.2 <= X_0 <= 0.1"),
        ("(assert (or (<= X_0 -1) (<= X_0 -2)))", "input X_0: 0.0 <= X_0 <= -1.0"),
        ("(assert (<= X_0 (/ -1 3)))", r"0.0 <= X_0 <= \(/ -1.0 3.0\)"),
    ],
)
def test_reversed_bounds_name_the_input(text: str, message: str) -> None:
    """An empty interval that somebody wrote is a mistake to report, not a property to verify vacuously."""
    with pytest.raises(InputError, match=message):
        parse_vnnlib(HEAD + text, "p.vnnlib")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^p: input X_0 has no lower bound"),
        ("(assert (>= X_0 0))", "input X_0 has no upper bound"),
        ("(assert (<= 0 X_0 1)) (assert (<= X_1 1))", "input X_1 has no lower bound"),
        ("(assert (<= 0 X_0 1)) (assert (<= 0 (+ X_1 X_0) 1))", "input X_1 has no lower bound"),
        ("(assert (<= 0 X_0 1)) (assert (or (<= 0 X_1 1) (and (<= X_1 1) (<= Y_0 0))))", "X_1 .* in case 2 of 2"),
        ("(assert (<= 0 X_0 1)) (assert (<= 0 X_1 1e309))", "input 1 has no bounds within the float64 range"),
    ],
)
def test_every_input_needs_finite_bounds(text: str, message: str) -> None:
    """A missing bound names the input, the side and the case."""
    with pytest.raises(InputError, match=message):
        parse_vnnlib(DECLARED + text, "p")


# --- truth against brute force

Point = tuple[list[Fraction], list[Fraction]]
Meaning = Callable[[list[Fraction], list[Fraction]], object]
numerals = st.sampled_from(["0", "1", "-1", "0.5", "-1.5", "2.0", "1e0", "-25e-1", "(/ 3 2)", "(- 1)", "+.5"])
VALUES = {"1e0": 1, "-25e-1": "-2.5", "(/ 3 2)": "1.5", "(- 1)": -1}


def numeral(text: str) -> tuple[str, Meaning]:
    value = Fraction(VALUES.get(text, text))
    return text, lambda _x, _y: value


def variable(name: str) -> tuple[str, Meaning]:
    kind, index = name[0], int(name[2:])
    return name, lambda x, y: (x if kind == "X" else y)[index]


terms: st.SearchStrategy[tuple[str, Meaning]] = st.recursive(
    st.one_of(numerals.map(numeral), st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"]).map(variable)),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda ts: (f"(+ {' '.join(t for t, _ in ts)})", lambda x, y: sum(f(x, y) for _, f in ts))  # type: ignore[misc]
        ),
        inner.map(lambda t: (f"(- {t[0]})", lambda x, y: -t[1](x, y))),  # type: ignore[operator]
        st.tuples(inner, inner).map(
            lambda ts: (f"(- {ts[0][0]} {ts[1][0]})", lambda x, y: ts[0][1](x, y) - ts[1][1](x, y))  # type: ignore[operator]
        ),
        st.tuples(numerals.map(numeral), inner).map(
            lambda ts: (f"(* {ts[0][0]} {ts[1][0]})", lambda x, y: ts[0][1](x, y) * ts[1][1](x, y))  # type: ignore[operator]
        ),
        inner.map(lambda t: (f"(/ {t[0]} 4)", lambda x, y: t[1](x, y) / Fraction(4))),  # type: ignore[operator]
    ),
    max_leaves=4,
)
SIGNS: dict[str, Callable[[object, object], bool]] = {
    "<=": lambda a, b: a <= b,  # type: ignore[operator]
    ">=": lambda a, b: a >= b,  # type: ignore[operator]
    "<": lambda a, b: a < b,  # type: ignore[operator]
    ">": lambda a, b: a > b,  # type: ignore[operator]
    "=": lambda a, b: a == b,
}


def comparison(parts: tuple[str, list[tuple[str, Meaning]]]) -> tuple[str, Meaning]:
    sign, ts = parts

    def meaning(x: list[Fraction], y: list[Fraction]) -> bool:
        values = [f(x, y) for _, f in ts]
        return all(SIGNS[sign](a, b) for a, b in pairwise(values))

    return f"({sign} {' '.join(t for t, _ in ts)})", meaning


def connective(parts: tuple[str, list[tuple[str, Meaning]]]) -> tuple[str, Meaning]:
    kind, cs = parts
    meanings: dict[str, Meaning] = {
        "and": lambda x, y: all(f(x, y) for _, f in cs),
        "or": lambda x, y: any(f(x, y) for _, f in cs),
        "not": lambda x, y: not cs[0][1](x, y),
        "=>": lambda x, y: any(not f(x, y) for _, f in cs[:-1]) or cs[-1][1](x, y),
    }
    used = cs[:1] if kind == "not" else cs
    return f"({kind}\n {' '.join(t for t, _ in used)} ; remark )\n)", meanings[kind]


formulas: st.SearchStrategy[tuple[str, Meaning]] = st.recursive(
    st.tuples(st.sampled_from(sorted(SIGNS)), st.lists(terms, min_size=2, max_size=3)).map(comparison),
    lambda inner: st.tuples(st.sampled_from(["and", "or", "not", "=>"]), st.lists(inner, min_size=2, max_size=3)).map(
        connective
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=250)
@given(st.lists(formulas, min_size=1, max_size=2), st.lists(points, min_size=4, max_size=12))
def test_points_are_unsafe_exactly_where_the_assertions_hold(
    formulas: list[tuple[str, Meaning]], where: list[Point]
) -> None:
    """Read a random property and compare with its meaning, on and off every boundary."""
    text = DECLARED + "(assert (<= -2 X_0 2)) (assert (<= -2 X_1 2))" + "".join(f"(assert {t})" for t, _ in formulas)
    truths = [all(abs(v) <= 2 for v in x) and all(f(x, y) for _, f in formulas) for x, y in where]
    try:
        query = parse_vnnlib(text)
    except InputError as error:
        # Allowed where some conjunction, or every one, leaves an input nothing.
        event("reversed")
        if "reversed or empty" not in str(error):
            raise
        return
    for (x, y), expected in zip(where, truths, strict=True):
        event(f"unsafe: {bool(expected)}")
        assert (query.violated_by(x, [(v, v) for v in y]) is not None) == bool(expected)


# --- round trips


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Draw queries as the reader makes them: no row on one input alone, none constant."""
    pair = st.tuples(fractions, fractions).map(sorted)
    boxes = st.lists(pair, min_size=2, max_size=2).map(lambda ps: Box([p[0] for p in ps], [p[1] for p in ps]))  # type: ignore[arg-type]
    numbers = fractions | st.floats(allow_nan=False, allow_infinity=False).map(Fraction)
    variables = st.sampled_from([("X", 0), ("X", 1), ("Y", 0), ("Y", 1)])
    terms = st.dictionaries(variables, numbers.filter(bool), min_size=1).filter(
        lambda terms: len(terms) > 1 or next(iter(terms))[0] == "Y"
    )
    row = st.builds(Atom, st.builds(Linear, terms, numbers), st.booleans())
    shared = [draw(boxes)]
    regions = st.sampled_from(shared) if draw(st.booleans()) else boxes
    # An empty conjunction among others makes the whole disjunction true: equivalent, but not the same query.
    some = st.lists(row, min_size=1, max_size=3).map(tuple)
    cases = draw(st.lists(st.builds(Case, regions, some), max_size=4))
    return Query(tuple(cases), 2, 2, draw(st.sampled_from(["", "a claim", "two\nlines (assert", "\x00\u2028;"])))


@settings(deadline=None, max_examples=60)
@given(queries())
def test_writing_and_reading_gives_the_same_query(query: Query) -> None:
    """The writer loses nothing: ends, coefficients, strictness, order."""
    again = parse_vnnlib(write_vnnlib(query))
    assert again.cases == query.cases
    assert again.digest == query.digest


@relaxed
@given(st.fractions())
def test_every_rational_reads_back(value: Fraction) -> None:
    """As a decimal if it is one, else as a quotient."""
    query = Query((Case(UNIT, (Y[0] <= value,)),), 2, 2)
    assert parse_vnnlib(write_vnnlib(query)).cases == query.cases


def test_the_written_text() -> None:
    """Plain SMT-LIB: declarations, the shared box once, positive terms on both sides."""
    query = Query((Case(Box(("0.1",), (Fraction(1, 3),)), (2 * Y[0] - Y[1] <= "0.5", X[0] < Y[0])),), 1, 2, "words")
    assert write_vnnlib(query) == (
        "; words\n(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
        "(assert (>= X_0 0.1))\n(assert (<= X_0 (/ 1.0 3.0)))\n"
        "(assert (<= (* 2.0 Y_0) (+ Y_1 0.5)))\n(assert (< X_0 Y_0))\n"
    )
    assert "(assert false)" in write_vnnlib(Query((), 1, 1))
    tiny, long = (Query((Case(UNIT, (Y[0] <= v,)),), 2, 2) for v in (Fraction(-5e-324), Fraction("1e-1200")))
    assert f"(+ Y_0 0.{'0' * 323}4940656458412465" in write_vnnlib(tiny), "every float64 is written as a decimal"
    assert f"(/ 1.0 1{'0' * 1200}.0)" in write_vnnlib(long)


def test_cases_without_rows_stay_equivalent() -> None:
    """A case that every point of its box reaches is written as such."""
    other = Box((2, 2), (3, 3))
    query = Query((Case(UNIT, ()), Case(other, (Y[0] <= 0,))), 2, 2)
    assert parse_vnnlib(write_vnnlib(query)).cases == query.cases
    absorbed = Query((Case(UNIT, ()), Case(UNIT, (Y[0] <= 0,))), 2, 2)
    assert parse_vnnlib(write_vnnlib(absorbed)).cases == (Case(UNIT, ()),)


def test_numbers_too_long_to_read_back_are_not_written() -> None:
    """The writer refuses what the reader would."""
    with pytest.raises(InputError, match="too many digits"):
        write_vnnlib(Query((Case(UNIT, (Y[0] <= Fraction(1, 3**9999),)),), 2, 2))


# --- the rest of the language


def test_commands_without_effect_order_and_comments() -> None:
    """Logic, information and checks are skipped; declarations come in any order, even after their use."""
    text = """\ufeff; X_9 is in a comment
    (set-logic QF_LRA)(set-info :source |quoted ( X_9 |)(set-info :note "text ) Y_9")(set-option :print-success false)
    (declare-fun Y_0 () Real)
    (assert(<= 0 X_1 1)) ; trailing
    (declare-const X_1 Real)
    (declare-const X_0 Real)
    (assert
      (<= 0
        X_0 1))(check-sat)(get-model)(exit)"""
    assert parse_vnnlib(text.lstrip("\ufeff")).cases == (Case(UNIT, ()),)


def test_files_plain_compressed_and_with_a_mark(tmp_path: Path) -> None:
    """Compression is recognised by content, whatever the name; a byte order mark is skipped."""
    text = (HEAD + "(assert (<= Y_0 0))").encode()
    expected = parse_vnnlib(text.decode()).cases
    contents = {"a.vnnlib": text, "b.vnnlib.gz": gzip.compress(text), "c.txt": gzip.compress(text)}
    contents["d.vnnlib"] = b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        query = read_vnnlib(tmp_path / name)
        assert query.cases == expected
        assert query.text == name


# --- refusals

MALFORMED = [
    # text after HEAD (whose five lines end in a line break), line, column, message
    ("(assert (<= Y_0))", 6, 16, r"unexpected '\)': expected .*a number"),
    ("(assert (<= Y_0 1)", 6, 19, r"ends too early: expected '\)'"),
    ("(assert (<= Y_0 1)))", 6, 20, r"unexpected '\)': expected '\(' or the end"),
    ("(assert\n  (<= Y_0 one))", 7, 11, "unexpected 'one'"),
    ("(assert Y_0)", 6, 9, "unexpected 'Y_0': expected '\\('"),
    ("(assert (<= Y_0 1.2.3))", 6, 17, "cannot read '1.2.3': expected"),
    ("(assert (<= 0.5Y_0 1))", 6, 13, "cannot read '0.5Y_0'"),
    ("(assert (<=Y_0 1))", 6, 10, "unexpected '<=Y_0'"),
    ("(assert (<= -Y_0 1))", 6, 13, "unexpected '-Y_0'"),
    ("(assert (<= Y_0 nan))", 6, 17, "unexpected 'nan'"),
    ("(assert (<= Y_0 1_000))", 6, 17, "cannot read '1_000'"),
    ("(assert (<= Y_01 1))", 6, 13, "unexpected 'Y_01'"),
    ("(assert (<= Y_0 1e99999))", 6, 17, "number 1e99999 is out of range"),
    ("(assert (<= Y_0 " + "1" * 9999 + "))", 6, 17, r"number 1{40}\.\.\. is out of range"),
    ("(assert (<= (* 1e3000 1e3000 Y_0) 1))", 6, 14, "out of range"),
    ("(assert (<= (* X_0 Y_0) 1))", 6, 14, "product of variables is not linear"),
    ("(assert (<= (* Y_0 2 Y_0) 1))", 6, 14, "product of variables is not linear"),
    ("(assert (<= (/ 1 Y_0) 1))", 6, 14, "division by a variable"),
    ("(assert (<= (/ Y_0 0.0) 1))", 6, 14, "division by zero"),
    ("(assert (<= (+) 1))", 6, 15, "unexpected"),
    ("(assert (xor (<= Y_0 1)))", 6, 10, "unexpected 'xor': expected 'and'"),
    ("(assert (not))", 6, 10, "'not' takes one condition, got 0"),
    ("(assert (not (<= Y_0 1) (<= Y_1 1)))", 6, 10, "'not' takes one condition, got 2"),
    ("(assert (=> (<= Y_0 1)))", 6, 10, "'=>' takes at least two"),
    ("(assert (let ((a 1)) (<= Y_0 a)))", 6, 10, "unexpected 'let'"),
    ("(define-fun f () Real 1)", 6, 2, "unexpected 'define-fun': expected 'assert'"),
    ("(assert (<= Y_2 1))", 6, 13, "Y_2 is not declared"),
    ("; X_7 in a comment\n(assert (<= 0 (* 0 X_7)))", 7, 20, "X_7 is not declared"),
    ("(declare-const X_0 Real)", 6, 16, "X_0 is declared already in line 1"),
    ("(declare-const X_3 Real)", 6, 16, "X_3 is declared but X_2 is not"),
    ("(declare-const Y_999999999 Real)", 6, 16, "Y_999999999 is declared but Y_2 is not"),
    ("(declare-const Y_9999999999 Real)", 6, 16, "unexpected 'Y_9999999999': expected a variable"),
    ("(declare-const Z_0 Real)", 6, 16, "unexpected 'Z_0': expected a variable X_i or Y_j"),
    ("(declare-const X_2 Int)", 6, 20, "X_2 has the sort Int: only Real"),
    ("(declare-const X_2 Bool)", 6, 20, "X_2 has the sort Bool: only Real"),
    ("(declare-fun X_2 (Real) Real)", 6, 19, "unexpected 'Real'"),
    ("(vnnlib-version <2.0>)", 6, 2, r"a VNN-LIB 2.0 file begins with \(vnnlib-version <2.0>\)"),
    ("\x00\x01\x02", 6, 1, "cannot read"),
    ("(assert (<= Y_0 \u00bd))", 6, 17, "cannot read '\u00bd'"),
    ("(" * 100_000, 6, 2, "unexpected"),
    (")" * 100_000, 6, 1, "unexpected"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), MALFORMED)
def test_malformed_texts(text: str, line: int, column: int, message: str) -> None:
    """Each mistake is reported with file, line, column and what was expected."""
    with pytest.raises(ParseError, match=message) as caught:
        parse_vnnlib(HEAD + text, "some.vnnlib")
    assert (caught.value.source, caught.value.line, caught.value.column) == ("some.vnnlib", line, column)
    assert str(caught.value).startswith(f"some.vnnlib, line {line}, column {column}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: the file is empty"),
        (" \n; only a remark\n", "line 1, column 1: the file is empty"),
        ("(declare-network N (declare-input X real [2]))", "line 1, column 2: a VNN-LIB 2.0 file begins with"),
        ("(declare-const X_0 Real)", "no output is declared"),
        ("(declare-const Y_0 Real)", "no input is declared"),
        ("(check-sat)", "no input is declared"),
        ("(declare-const X_1 Real)(declare-const Y_0 Real)", "X_1 is declared but X_0 is not"),
    ],
)
def test_files_that_are_not_properties(text: str, message: str) -> None:
    """Empty files, the newer format and missing declarations have messages of their own."""
    with pytest.raises(ParseError, match=message):
        parse_vnnlib(text, "p")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing files, folders, broken archives and bytes that are no text name the file."""
    (tmp_path / "cut.gz").write_bytes(gzip.compress(HEAD.encode() * 50)[:-9])
    (tmp_path / "bad.gz").write_bytes(b"\x1f\x8b" + bytes(range(100)))
    (tmp_path / "flipped.gz").write_bytes(gzip.compress(b"x" * 1000)[:-6] + b"\x00" * 6)
    (tmp_path / "binary.vnnlib").write_bytes(b"(declare\n-co\xff\xfe" + bytes(200))
    for name in ("cut.gz", "bad.gz", "flipped.gz", "absent.vnnlib", "."):
        with pytest.raises(InputError, match=r"cannot be read|damaged gzip") as caught:
            read_vnnlib(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
    with pytest.raises(ParseError, match="line 2, column 4: byte 0xff is not UTF-8"):
        read_vnnlib(tmp_path / "binary.vnnlib")


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_files_never_end_in_another_error(data: st.DataObject) -> None:
    """Cut, swapped and inserted pieces give a query or an InputError, nothing else."""
    text = HEAD + "(assert (or (and (<= (* 0.5 Y_0) X_1) (not (= Y_1 1e-3))) (=> (< Y_0 1) (> (/ Y_1 3) (- X_0)))))"
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        pieces = st.sampled_from(
            ["(", ")", " ", "Y_0", "X_1", "-", "0", "1e5", "not", "or", ";", "\n", "=", "|", '"', "\x00"]
        )
        text = text[:start] + data.draw(pieces | st.just("")) + text[end:]
    with suppress(InputError):
        parse_vnnlib(text)


# --- size and depth

DEEP = 5_000  # five times what Python's own recursion allows


@pytest.mark.parametrize(
    ("opening", "closing", "expected"),
    [
        ("(and ", ")", [(Y[0] <= 1,)]),
        ("(or ", ")", [(Y[0] <= 1,)]),
        ("(not ", ")", [(Y[0] <= 1,)]),
        ("(and (or ", "))", [(Y[0] <= 1,)]),
        ("(or false ", ")", [(Y[0] <= 1,)]),
    ],
)
def test_deep_nesting_of_conditions_works(opening: str, closing: str, expected: list[tuple[Atom, ...]]) -> None:
    """Nesting that means nothing costs no stack."""
    assert rows(f"(assert {opening * DEEP}(<= Y_0 1){closing * DEEP})") == expected


def test_a_hundred_thousand_parentheses() -> None:
    """No depth of nesting runs out of stack."""
    assert rows("(assert " + "(and " * 100_000 + "(<= Y_0 1)" + ")" * 100_000 + ")") == [(Y[0] <= 1,)]


def test_deep_chains_of_parts_work() -> None:
    """Sums and conjunctions that a tool wrote as nested pairs are read like flat ones."""
    n = 1000
    (atoms,) = rows("(assert " + "(and (<= Y_0 1) " * n + "(<= Y_0 2)" + ")" * n + ")")
    assert atoms == (Y[0] <= 1,) * n + (Y[0] <= 2,)
    assert rows("(assert (<= " + "(+ 1 " * DEEP + "Y_0" + ")" * DEEP + " 0))") == [(Y[0] + DEEP <= 0,)]
    assert rows("(assert (<= " + "(- " * DEEP + "Y_0" + ")" * DEEP + " 0))") == [(Y[0] <= 0,)]
    assert len(rows("(assert " + "(=> (<= Y_0 1) " * 500 + "(<= Y_0 2)" + ")" * 500 + ")")) == 501


def test_deep_alternation_is_a_clean_error() -> None:
    """Conditions that really alternate beyond any use are refused with their place."""
    pair = "(and (<= Y_0 1) (or (<= Y_1 1) "
    assert len(rows("(assert " + pair * 40 + "(<= Y_0 2)" + "))" * 40 + ")")) == 41
    with pytest.raises(ParseError, match="alternate more than 100 levels deep"):
        rows("(assert " + pair * 5000 + "(<= Y_0 2)" + "))" * 5000 + ")")


def test_exponential_properties_are_refused_quickly() -> None:
    """The disjunctive normal form is counted before it is made."""
    pair = "(or (<= Y_0 1) (<= Y_1 1))"
    before = time.process_time()
    with pytest.raises(InputError, match=r"^p: the property expands to \d+ cases"):
        parse_vnnlib(HEAD + "(assert (and " + pair * 200 + "))", "p")
    assert rows("(assert (and " + pair * 200 + " (or)))") == []
    assert time.process_time() - before < 2


@pytest.mark.parametrize("style", ["asserts", "conjunction", "in every case"])
def test_image_sized_properties_are_cheap(style: str) -> None:
    """784 inputs and 9 cases: the box is read once and shared by the cases, in any style of file."""
    n = 784
    bounds = [f"(>= X_{i} 0.{i:04}) (<= X_{i} 0.{i + 9000})" for i in range(n)]
    wins = [f"(>= Y_{j} Y_9)" for j in range(9)]
    text = "".join(f"(declare-const X_{i} Real)\n" for i in range(n))
    text += "".join(f"(declare-const Y_{j} Real)\n" for j in range(10))
    if style == "asserts":
        text += "".join(f"(assert (and {pair}))\n" for pair in bounds) + f"(assert (or {' '.join(wins)}))"
    elif style == "conjunction":
        text += f"(assert (or {' '.join(wins)}))(assert (and {' '.join(bounds)}))"
    else:
        text += f"(assert (or {' '.join(f'(and {w} {chr(10).join(bounds)})' for w in wins[:3])}))"
    before = time.process_time()
    query = parse_vnnlib(text)
    # Measured: 0.1 s, or 0.3 s with the box in each of three cases. The rest is for slow machines.
    assert time.process_time() - before < 3
    assert len(query.cases) == (3 if style == "in every case" else 9)
    assert len({case.region for case in query.cases}) == 1
    if style != "in every case":
        assert len({id(case.region) for case in query.cases}) == 1
    assert query.cases[0].region.lower[783] == Fraction(783, 10000)


def test_threads_may_read_at_once() -> None:
    """The compiled grammar keeps no state between files."""
    with ThreadPoolExecutor(8) as pool:
        texts = [HEAD + f"(assert (<= Y_0 {k}))" * (k + 1) for k in range(40)]
        results = list(pool.map(parse_vnnlib, texts))
    assert [query.cases[0].unsafe for query in results] == [(Y[0] <= k,) * (k + 1) for k in range(40)]


def test_the_parser_library_is_imported_only_when_needed() -> None:
    """Starting the program does not pay for lark."""
    code = "import sys, optverify.io.vnnlib, optverify.io.expression; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
