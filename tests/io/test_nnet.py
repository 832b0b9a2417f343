"""``.nnet`` files against an evaluation in exact arithmetic that follows the format's own code."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optverify.bound import bound
from optverify.cli import main
from optverify.deployment import deployed
from optverify.errors import InputError, ParseError
from optverify.executions import Executor, representable
from optverify.expressions import outputs
from optverify.io import load
from optverify.io.nnet import read_nnet
from optverify.io.vnnlib import write_vnnlib
from optverify.network import Affine
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import named
from optverify.verify import verify

TEXT = """// A network of two inputs, three neurons and two outputs
//  and a second line of comment
2,2,2,3,
2,3,2,
0,
-1.0,0.5,
2.0,4.0,
0.25,1.5,-7.5,
3.0,0.1,12.5,
1.0,-2.5,
0.1,0.3,
-0.7,1e-3,
0.5,
-0.25,
0.1,
1.0,2.0,3.0,
-1.0,0.2,0.7,
0.0,
-0.5,
"""

LOW, HIGH, MEANS, RANGES = [-1.0, 0.5], [2.0, 4.0], [0.25, 1.5, -7.5], [3.0, 0.1, 12.5]
FIRST = ([[1.0, -2.5], [0.1, 0.3], [-0.7, 1e-3]], [0.5, -0.25, 0.1])
SECOND = ([[1.0, 2.0, 3.0], [-1.0, 0.2, 0.7]], [0.0, -0.5])


def write(folder: Path, text: str = TEXT) -> Path:
    """Write a file and return where."""
    path = folder / "tiny.nnet"
    path.write_text(text)
    return path


def apply(layer: tuple[list[list[float]], list[float]], values: list[Fraction]) -> list[Fraction]:
    """Return W v + b."""
    weight, bias = layer
    rows = zip(weight, bias, strict=True)
    return [sum(Fraction(w) * v for w, v in zip(row, values, strict=True)) + Fraction(b) for row, b in rows]


def bare(values: list[Fraction]) -> list[Fraction]:
    """Evaluate the network between normalised values."""
    return apply(SECOND, [max(v, Fraction(0)) for v in apply(FIRST, values)])


def physical(values: list[Fraction]) -> list[Fraction]:
    """Clip, normalise, evaluate, and bring back to physical values."""
    clipped = [min(max(v, Fraction(lo)), Fraction(hi)) for v, lo, hi in zip(values, LOW, HIGH, strict=True)]
    ready = [(v - Fraction(m)) / Fraction(r) for v, m, r in zip(clipped, MEANS, RANGES, strict=False)]
    return [v * Fraction(RANGES[-1]) + Fraction(MEANS[-1]) for v in bare(ready)]


points = st.lists(st.fractions(-3, 6, max_denominator=50), min_size=2, max_size=2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(points)
def test_bare_network_is_exact(tmp_path: Path, x: list[Fraction]) -> None:
    """Between normalised values the network has no uncertainty at all."""
    assert read_nnet(write(tmp_path), normalise=False).exact(x) == bare(x)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(points)
def test_physical_network_encloses_the_truth(tmp_path: Path, x: list[Fraction]) -> None:
    """Clipping, normalisation and its inverse are part of the network, also outside the ranges of the file."""
    enclosed = read_nnet(write(tmp_path)).enclose(x)
    for (low, high), value in zip(enclosed, physical(x), strict=True):
        assert low <= value <= high
        assert high - low < Fraction(1, 2**40)


def test_steps_and_roundings(tmp_path: Path) -> None:
    """Subtraction and division round by themselves; only division has slack."""
    layers = [layer for layer in read_nnet(write(tmp_path)).layers if isinstance(layer, Affine)]
    assert [layer.roundings.tolist() for layer in layers[-5:]] == [[1, 1], [2, 2], [3] * 3, [4] * 2, [2] * 2]
    assert [bool(layer.slack.any()) for layer in layers[-5:]] == [False, True, False, False, False]


def test_clipping_neurons_are_two_an_input(tmp_path: Path) -> None:
    """Two rectified coordinates an input come on top of the neurons of the file."""
    assert read_nnet(write(tmp_path)).n_neurons == 3 + 4
    assert read_nnet(write(tmp_path), normalise=False).n_neurons == 3


def test_decimals_are_read_to_the_nearest_float(tmp_path: Path) -> None:
    """0.1 is the float64 nearest to 0.1."""
    network = read_nnet(write(tmp_path), normalise=False)
    layer = network.layers[0]
    assert isinstance(layer, Affine)
    assert np.array_equal(layer.dense, np.array(FIRST[0]))
    assert network.input_shape == (2,)
    assert network.name == "tiny"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2,2,2,3,", "2,2,2,", "line 3: .*4 numbers separated by commas, found 3"),
        ("2,3,2,\n", "2,3,3,\n", r"line 4: the layer sizes \[2, 3, 3\]"),
        ("2,3,2,\n", "2,3.5,2,\n", "line 4: .*positive integers"),
        ("0.1,0.3,", "0.1,zero,", "line 11, column 5: expected a finite number, found 'zero'"),
        ("0.1,0.3,", "0.1,nan,", "line 11, column 5: .*'nan'"),
        ("0.1,0.3,", "0.1,1e999,", "line 11, column 5: .*'1e999'"),
        ("3.0,0.1,12.5,", "3.0,0.0,12.5,", "line 9: a range is zero"),
        ("2.0,4.0,", "2.0,0.0,", "line 7: an input is smaller"),
        ("-0.5,\n", "", "line 18: the file ends here"),
        ("-0.5,\n", "-0.5,\n7\n", "line 20: nothing is expected"),
    ],
)
def test_broken_files_are_located(old: str, new: str, message: str, tmp_path: Path) -> None:
    """Each error names the line, and the column of a word that is no number."""
    assert old in TEXT
    with pytest.raises(ParseError, match=message):
        read_nnet(write(tmp_path, new.join(TEXT.rsplit(old, 1))))


@pytest.mark.parametrize("lines", range(19))
def test_truncated_files_are_refused(lines: int, tmp_path: Path) -> None:
    """A file that ends early is refused wherever it ends."""
    with pytest.raises(ParseError):
        read_nnet(write(tmp_path, "".join(TEXT.splitlines(keepends=True)[:lines])))


def test_binary_file_is_refused(tmp_path: Path) -> None:
    """Bytes that are no text are a parse error."""
    path = tmp_path / "net.nnet"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ParseError):
        read_nnet(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    """What is no file is said to be none."""
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_nnet(tmp_path / "nothing.nnet")
    with pytest.raises(InputError, match="is a directory"):
        read_nnet(tmp_path)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_a_program_in_a_format_reads_the_numbers_of_that_format(name: str, tmp_path: Path) -> None:
    """All of them, so bounds to clip at are no obstacle; every order of summation lies within what is proved."""
    semantics, path = named(name), write(tmp_path)
    network = load(path, format=name)
    assert network.format == name
    assert read_nnet(path).format == ""
    layers = [layer for layer in network.layers if isinstance(layer, Affine)]
    assert all(semantics.holds(layer.bias).all() for layer in layers)
    box = Box([-1, "0.5"], [2, 4])  # and beyond the range of the second input
    lower = bound(network, box, "Y_0", semantics=name, method="crown").lower
    executor, rng = Executor(deployed(network, semantics)), np.random.default_rng(0)
    points = np.array([representable(box, p, semantics) for p in rng.uniform([-1, 0.5], [2, 4], (50, 2)).tolist()])
    for order in executor.orders():
        values = executor(points, order)[:, 0]
        assert (values[np.isfinite(values)] >= lower).all()
        assert np.isfinite(values).any()


def test_formats_that_do_not_fit(tmp_path: Path) -> None:
    """Without the format the bounds to clip at are in the way; numbers beyond it, and unknown names, are refused."""
    query = Query.always(Box([0, 1], [1, 2]), outputs(2)[0] <= 10000, 2)
    path = write(tmp_path, TEXT.replace("-1.0,0.5,\n2.0", "-1.1,0.5,\n2.0"))
    assert verify(load(path, format="float32"), query, semantics="float32").verdict is Verdict.VERIFIED
    with pytest.raises(InputError, match=r"load\(path, format='float32'\)"):
        verify(load(path), query, semantics="float32")
    property_file = tmp_path / "p.vnnlib"
    property_file.write_text(write_vnnlib(query))
    assert main(["verify", str(path), str(property_file), "--semantics", "float32", "--workers", "1"]) == 0
    with pytest.raises(ParseError, match=r"finite number of float16, found '70000.0'"):
        read_nnet(write(tmp_path, TEXT.replace("12.5", "70000.0")), format="float16")
    with pytest.raises(InputError, match="unknown semantics"):
        read_nnet(path, format="float8")
