"""VNN-LIB 2.0: the same questions as in 1.0, and which arithmetic they are about."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.declaration import Declaration, Variable
from optverify.errors import InputError, ParseError, ShapeError
from optverify.expressions import outputs
from optverify.io import load_property
from optverify.io.vnnlib import parse_vnnlib, write_vnnlib
from optverify.io.vnnlib2 import MAX_NESTING
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import FLOAT32, REAL, SEMANTICS, named
from optverify.verify import verify
from tests.adversarial import gallery
from tests.test_public_api import BLOCK

SQUARE = "(assert (<= X[0,0] 1.0))(assert (>= X[0,0] -1.0))(assert (<= X[0,1] 1.0))(assert (>= X[0,1] -1.0))"
SUM = Network.from_arrays([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])


def query(asserted: str, kind: str = "real", x: str = "[1,2]", y: str = "[1]") -> Query:
    """Read assertions about one network."""
    head = f"(vnnlib-version <2.0>) ; a remark\n(declare-network N (declare-input X {kind} {x})"
    return parse_vnnlib(f"{head} (declare-output Y {kind} {y}))\n{asserted}", "some.vnnlib")


@pytest.mark.parametrize("kind", [*SEMANTICS, "Real"])
def test_the_type_of_the_elements_is_the_arithmetic(kind: str) -> None:
    """It is in the query, with names and shapes, and `verify` follows it without being told."""
    read = query(SQUARE + "(assert (>= Y[0] 3.0))", kind)
    semantics = named(kind.lower())
    assert read.declared == Declaration("N", Variable("X", (1, 2)), Variable("Y", (1,)), semantics)
    answer = verify(SUM, read)
    assert (answer.verdict, answer.semantics) == (Verdict.VERIFIED, semantics.name)
    assert verify(SUM, read, semantics=semantics.name).verdict is Verdict.VERIFIED


def test_one_arithmetic_is_never_answered_for_another() -> None:
    """The same trap and text: true over the reals, false in float32; to ask for the other is an error naming both."""
    trap = gallery.always_active()
    n = trap.network.n_inputs
    ends = "".join(f"(assert (>= X[{i}] 0.5))(assert (<= X[{i}] 1.0))" for i in range(n))
    text = ends + "(assert (> Y[0] 0.0))"
    real, single = query(text, "real", f"[{n}]"), query(text, "float32", f"[{n}]")
    assert verify(trap.network, real).verdict is Verdict.VERIFIED
    answer = verify(trap.network, single)
    assert answer.verdict is Verdict.FALSIFIED
    assert answer.witness is not None
    assert answer.witness.execution.startswith("float32")
    with pytest.raises(InputError, match="about float32, so it cannot be answered about real"):
        verify(trap.network, single, semantics="real")
    with pytest.raises(InputError, match="about real, so it cannot be answered about float32"):
        verify(trap.network, real, semantics="float32")
    with pytest.raises(InputError, match="computes in float16"):
        verify(replace(trap.network, format="float16"), single)
    assert verify(replace(trap.network, format="float16"), real).verdict is Verdict.VERIFIED
    with pytest.raises(InputError, match=r"VNN-LIB 1.0 cannot say"):
        write_vnnlib(single)
    assert parse_vnnlib(write_vnnlib(real)).cases == real.cases


def test_constants_are_elements_of_the_type() -> None:
    """0.1 is a float32 where it is compared with float32; over the reals it is a tenth."""
    asserted = "(assert (<= X[0,0] 0.1))(assert (>= X[0,0] -0.7))(assert (<= X[0,1] 1.0))(assert (>= X[0,1] 0.0))"
    for kind, low, high in (
        ("real", Fraction("-0.7"), Fraction("0.1")),
        ("float32", Fraction(float(np.float32(-0.7))), Fraction(float(np.float32(0.1)))),
        ("float64", Fraction(-0.7), Fraction(0.1)),
        ("float16", Fraction(float(np.float16(-0.7))), Fraction(float(np.float16(0.1)))),
    ):
        region = query(asserted + "(assert (>= Y[0] 3.0))", kind).cases[0].region
        assert (region.lower[0], region.upper[0]) == (low, high)
    long = "0.50000002980232238769531250000000000000000000000001"  # just above the middle of two float32
    assert query(SQUARE + f"(assert (>= Y[0] {long}))", "float32").cases[0].unsafe == (
        outputs(1)[0] >= float(np.nextafter(np.float32(0.5), np.float32(1))),
    )
    with pytest.raises(ParseError, match=r"line 3: the number 70000.0 is beyond the largest float16"):
        query(SQUARE + "(assert (>= Y[0] 70000.0))", "float16")


@given(st.fractions(-70000, 70000), st.sampled_from(["float16", "float32"]))
@settings(max_examples=200, deadline=None)
def test_rationals_are_rounded_once(value: Fraction, kind: str) -> None:
    """No number of the format is nearer, and of two that are as near it is the even one."""
    semantics, nearest = named(kind), named(kind).nearest(value)
    if not np.isfinite(nearest):
        assert abs(value) >= Fraction(semantics.largest)
        return
    dtype = np.dtype(kind).type
    for other in (np.nextafter(dtype(nearest), dtype(s)) for s in (-np.inf, np.inf)):
        if np.isfinite(other):
            here, there = abs(Fraction(nearest) - value), abs(Fraction(float(other)) - value)
            bits = int(np.asarray(dtype(nearest)).view({2: np.uint16, 4: np.uint32}[np.dtype(kind).itemsize]))
            assert here < there or (here == there and bits % 2 == 0)


numbers = st.sampled_from(["0.0", "1.0", "-0.5", "2.25", "-3.0"])
elements = st.sampled_from([("X[0,0]", "X_0"), ("X[0,1]", "X_1"), ("Y[0,0]", "Y_0"), ("Y[1,0]", "Y_1")])


@st.composite
def terms(draw: st.DrawFn, depth: int = 2) -> tuple[str, str]:
    """Make a linear term in both versions."""
    shape = draw(st.sampled_from(["number", "element", "scaled", "sum", "minus"] if depth else ["element", "number"]))
    if shape == "number":
        text = draw(numbers)
        return text, text
    if shape == "element":
        return draw(elements)
    if shape == "scaled":
        factor, (new, old) = draw(numbers), draw(terms(depth - 1))
        return f"(* {factor} {new})", f"(* {factor} {old})"
    parts = [draw(terms(depth - 1)) for _ in range(draw(st.integers(1 if shape == "minus" else 2, 3)))]
    sign = "-" if shape == "minus" else "+"
    return tuple(f"({sign} {' '.join(text)})" for text in zip(*parts, strict=True))  # type: ignore[return-value]


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> tuple[str, str]:
    """Make a condition in both versions."""
    if depth and draw(st.booleans()):
        parts = [draw(conditions(depth - 1)) for _ in range(draw(st.integers(2, 3)))]
        word = draw(st.sampled_from(["and", "or"]))
        return tuple(f"({word} {' '.join(text)})" for text in zip(*parts, strict=True))  # type: ignore[return-value]
    (left, a), (right, b) = draw(terms()), draw(terms())
    sign = draw(st.sampled_from(["<=", ">=", "<", ">", "==", "!="]))
    old = {"==": f"(= {a} {b})", "!=": f"(or (< {a} {b}) (> {a} {b}))"}.get(sign, f"({sign} {a} {b})")
    return f"({sign} {left} {right})", old


@given(conditions())
@settings(max_examples=150, deadline=None)
def test_both_versions_say_the_same(condition: tuple[str, str]) -> None:
    """A condition gives the same cases in both languages, or the same error."""
    new, old = condition
    head = "".join(f"(declare-const {v}_{i} Real)" for v in "XY" for i in range(2))
    box = "".join(f"(assert (<= X_{i} 1.0))(assert (>= X_{i} -1.0))" for i in range(2))
    found = []
    for read in (
        lambda: query(SQUARE + f"(assert {new})", y="[2,1]"),
        lambda: parse_vnnlib(head + box + f"(assert {old})"),
    ):
        try:
            found.append(read().cases)
        except InputError as error:
            found.append(type(error).__name__)
    assert found[0] == found[1]


def test_elements_are_in_c_order_and_a_scalar_has_no_index() -> None:
    """The last index runs first."""
    box = "".join(
        f"(assert (<= X[{i},{j}] {3 * i + j + 1}.0))(assert (>= X[{i},{j}] 0.0))" for i in range(2) for j in range(3)
    )
    read = query(box + "(assert (>= Y 3.0))", x="[2,3]", y="[]")
    assert read.cases[0].region == Box([0] * 6, range(1, 7))
    assert read.cases[0].unsafe == (outputs(1)[0] >= 3,)


def test_shapes_must_be_those_of_the_network() -> None:
    """An index would mean another element; dimensions of size 1 change nothing; bare layers have no shape."""
    box = "".join(f"(assert (<= X[{i},{j}] 1.0))(assert (>= X[{i},{j}] 0.0))" for i in range(2) for j in range(3))
    read = query(box + "(assert (>= Y[0,0,0] 100.0))", x="[2,3]", y="[1,2,1]")
    net = Network.from_arrays([(np.ones((2, 6)), [0.0, 0.0])])
    for shape, out, fits in (
        ((2, 3), (2,), True),
        ((1, 2, 3), (2, 1), True),
        ((3, 2), (2,), False),
        ((6,), (2,), False),
    ):
        network = replace(net, input_shape=shape, output_shape=out, format="float32")
        if fits:
            assert verify(network, read).verdict is Verdict.VERIFIED
        else:
            with pytest.raises(ShapeError, match=r"declares X with the shape \[2, 3\]"):
                verify(network, read)
    assert verify(net, read).verdict is Verdict.VERIFIED
    with pytest.raises(ShapeError, match="6 inputs and 2 outputs"):
        verify(SUM, read)
    assert net.then(*net.layers[:0]).output_shape == (2,)
    with pytest.raises(ShapeError, match="output shape"):
        replace(net, output_shape=(3,))


TWO = "(declare-input X real [1]) (declare-output Y real [1])"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"(declare-network N {TWO})(declare-network M (declare-input A real [1])(declare-output B real [1]))",
            "2 networks",
        ),
        (
            "(declare-network N (declare-input X real [1])(declare-input A real [1])(declare-output Y real [1]))",
            "2 inputs",
        ),
        (
            "(declare-network N (declare-input X real [1])(declare-output Y real [1])(declare-output B real [1]))",
            "2 outputs",
        ),
        (
            '(declare-network N (declare-input X real [1])(declare-hidden H real [1] "h")(declare-output Y real [1]))',
            "hidden",
        ),
        (
            "(declare-network N (declare-input X int8 [1])(declare-output Y real [1]))",
            "type int8; supported are real, float16",
        ),
        ("(declare-network N (declare-input X float8e5m2 [1])(declare-output Y real [1]))", "type float8e5m2"),
        ("(declare-network N (declare-input X float32 [1])(declare-output Y real [1]))", "X is float32 and Y real"),
    ],
)
def test_what_is_not_supported_is_one_error(text: str, message: str) -> None:
    """Several networks, inputs or outputs, hidden nodes and other types are named."""
    one = "1.0" if "Y real" in text else "1"
    with pytest.raises(InputError, match=message):
        parse_vnnlib(f"(vnnlib-version <2.0>){text}(assert (<= Y[0] {one}))")


@pytest.mark.parametrize(
    ("asserted", "place", "message"),
    [
        ("(assert (<= Y[0] 1.0e-3))", "line 3, column 21", "unexpected 'e': this is not VNN-LIB 2.0"),
        ("(assert (not (<= Y[0] 1.0)))", "line 3, column 10", "unexpected 'not'"),
        ("(assert (<= Y[0] 1.0)", "line 3", "ends too early"),
        ("", "line 2", "nothing is asserted"),
        ("(assert (<= Y[0] 1.0)))", "line 3", r"unexpected '\)'"),
        ("(assert (<= Z[0] 1.0))", "line 3", "Undeclared variable: 'Z'"),
        ("(assert (<= Y[1] 1.0))", "line 3", "out of bounds"),
        ("(assert (<= Y[0,0] 1.0))", "line 3", "Too many indices"),
        ("(assert (<= Y[99999999999999999999] 1.0))", "", "cannot read it: IndexError"),
        ("(assert (<= Y[0] 1))", "line 3", "Type mismatch"),
        ("\n(assert (<= (* Y[0] X[0,0]) 1.0))", "line 4", "a product of variables is not linear"),
        ("(assert (<= Y[0] 1.0))\x00(assert (<= Y[0] 0.0))", "line 3, column 23", "cannot read"),
        ("(assert (<= Y[0] \u00bd))", "line 3, column 18", "cannot read"),
        (f"(assert (<= {'(- ' * 100_000}Y[0]{')' * 100_000} 1.0))", "line 3", f"more than {MAX_NESTING} levels"),
        (f"(assert (<= Y[0] {'9' * 5000}.0))", "", "cannot read it: IndexError"),
    ],
)
def test_malformed_texts(asserted: str, place: str, message: str) -> None:
    """Each mistake is one error with its place, also where the package would crash or stop reading."""
    with pytest.raises(ParseError, match=message) as caught:
        query(asserted)
    assert str(caught.value).startswith(f"some.vnnlib, {place}" if place else "some.vnnlib: ")


def test_nesting_up_to_the_limit_is_read() -> None:
    """The deepest text that is let through is no trouble."""
    depth = MAX_NESTING - 3
    read = query(SQUARE + f"(assert (<= {'(- ' * depth}Y[0]{')' * depth} 1.0))")
    assert read.cases[0].unsafe == ((-outputs(1)[0] if depth % 2 else outputs(1)[0]) <= 1,)
    deep = "(and (<= Y[0] 1.0) (or (>= Y[0] 0.0) " * (MAX_NESTING // 4)
    assert query(SQUARE + f"(assert {deep}(<= Y[0] 2.0){'))' * (MAX_NESTING // 4)})").cases


@pytest.mark.parametrize(
    ("asserted", "message"),
    [
        (SQUARE.replace("(assert (>= X[0,1] -1.0))", "") + "(assert (<= Y[0] 1.0))", r"X\[0,1\] has no lower bound"),
        (SQUARE + "(assert (>= X[0,0] 2.0))(assert (<= Y[0] 1.0))", r"2.0 <= X\[0,0\] <= 1.0"),
    ],
)
def test_boxes_that_are_none(asserted: str, message: str) -> None:
    """The input is called as in the file."""
    with pytest.raises(InputError, match=message):
        query(asserted)


def test_a_shape_may_be_declared_larger_than_any_memory() -> None:
    """The first input without bounds is named at once."""
    large = 999_999_999_999
    with pytest.raises(InputError, match=r"X\[0,0,2\] has no lower bound"):
        query(
            f"(assert (<= X[0,0,0] 1.0))(assert (>= X[0,0,0] 0.0))(assert (<= X[0,0,1] 1.0))(assert (>= X[0,0,1] 0.0))"
            f"(assert (<= X[{large - 1},0,0] Y[0]))",
            x=f"[{large},{large},3]",
        )


def test_blanks_are_optional_where_nothing_else_could_be_meant() -> None:
    """As in the grammar of the standard."""
    spaced, dense = SQUARE + "(assert (<= (+ Y[0] X[0,0]) 1.0))", SQUARE + "(assert(<=(+Y[0]X[0,0])1.0))"
    assert query(dense).cases == query(spaced).cases


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_texts_are_read_or_refused(data: st.DataObject) -> None:
    """Parts of a text left out, doubled or exchanged: a query or one of our errors, nothing else."""
    text = "(vnnlib-version <2.0>)(declare-network N (declare-input X real [1,2])(declare-output Y real [1]))"
    parts = re.findall(
        r"[()\[\],]|[^\s()\[\],]+", text + SQUARE + "(assert (or (<= (+ Y[0] 0.5) X[0,1]) (!= Y[0] 1.0)))"
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(parts) - 1))
        other = data.draw(st.sampled_from([*parts, '"', "\x00", "9" * 30, "declare-hidden", "int8"]))
        parts[place : place + data.draw(st.integers(0, 1))] = data.draw(st.sampled_from([[], [other], [other] * 2]))
    with suppress(InputError):
        parse_vnnlib(" ".join(parts))


def test_remarks_hold_anything() -> None:
    """Letters of all languages, parentheses and quotes."""
    remark = '; caf\u00e9 ((( "\n'
    read = query(f"{remark}{SQUARE}{remark}(assert (<= Y[0] {remark} 1.0))")
    assert read.cases[0].unsafe == (outputs(1)[0] <= 1,)


@pytest.mark.parametrize("version", ["<2.1>", "<3.0>", "<1.0>", "2.0", ""])
def test_other_versions_are_refused(version: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By us, not by the package: it goes on with later ones."""
    with pytest.raises(ParseError, match=r"VNN-LIB 1.0 and <2.0> can be read"):
        parse_vnnlib(f"(vnnlib-version {version})(declare-network N {TWO})(assert (<= Y[0] 1.0))")
    assert capfd.readouterr() == ("", "")


def test_files_are_recognised_by_their_content(tmp_path: Path) -> None:
    """Plain or compressed, after remarks, with a byte-order mark."""
    text = "; first\n\n (vnnlib-version <2.0>)\n(declare-network N (declare-input X float32 [1,2]) "
    text += f"(declare-output Y float32 [1])){SQUARE}(assert (<= Y[0] 1.0)) ; last"
    for name, data in (
        ("a", text.encode()),
        ("b", gzip.compress(text.encode())),
        ("c", b"\xef\xbb\xbf" + text.encode()),
    ):
        (tmp_path / name).write_bytes(data)
        read = load_property(tmp_path / name)
        assert read.declared is not None
        assert read.declared.semantics is FLOAT32
        assert "in float32: X [1, 2], Y [1]" in str(read.declared)
    assert query(SQUARE + "(assert (<= Y[0] 1.0))").under(None) is REAL


def test_without_the_package_one_is_told_which_extra() -> None:
    """VNN-LIB 1.0 needs nothing; 2.0 names the extra."""
    code = BLOCK + (
        "from optverify.io.vnnlib import parse_vnnlib\n"
        "print(parse_vnnlib('(declare-const X_0 Real)(declare-const Y_0 Real)(assert false)').n_inputs)\n"
        "try:\n    parse_vnnlib('(vnnlib-version <2.0>)')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == "1", done.stderr
    assert "optverify[vnnlib]" in done.stdout
