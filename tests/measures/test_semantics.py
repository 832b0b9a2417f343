"""Radii and boxes in a floating-point format, against all numbers of the format and the band of the executions."""

from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest

from optverify import Box, Network, load_property, outputs, radius, safe_box
from optverify.certificate import check_file
from optverify.deployment import deployed
from optverify.errors import InputError
from optverify.executions import Executor
from optverify.query import Query
from optverify.semantics import FLOAT16, SEMANTICS
from tests.measures.test_radius import PLANE

GRID = [k / 8 for k in range(9)]  # all of them numbers of float16


def rough(seed: int) -> Network:
    """Return a network of numbers of float16 whose executions there round at every step."""
    rng = np.random.default_rng(seed)
    shapes = [(2, 4), (4, 3), (3, 2)]
    return Network.from_arrays(
        [(FLOAT16.round(rng.normal(size=(m, n))), FLOAT16.round(rng.normal(size=m))) for n, m in shapes]
    )


@pytest.mark.parametrize("seed", [0, 6])
def test_every_order_at_every_point_of_a_grid(seed, tmp_path):
    """No execution within `lower` is wrong; the point at `upper` is one of the format, and an execution there is."""
    network, x = rough(seed), [0.5, 0.25]
    path = str(tmp_path / "proof")
    answer = radius(network, x, semantics="float16", certificate=path, time_limit=5)
    assert answer.semantics == "float16"
    executor, points = Executor(deployed(network, FLOAT16)), np.array(list(product(GRID, GRID)))
    away = np.abs(points - x).max(axis=1)
    wrong = np.zeros(len(points), bool)
    for order in executor.orders():
        wrong |= executor(points, order).argmax(axis=1) != answer.label
    assert not (away[wrong] <= answer.lower).any()
    real = radius(network, x)
    assert answer.lower <= real.upper
    assert answer.lower >= 0.8 * real.lower or real.lower == inf
    if answer.witness is not None:
        assert FLOAT16.holds([float(v) for v in answer.witness.x]).all()
        order = answer.witness.execution.split(", ")[1]
        y = executor(np.array([float(v) for v in answer.witness.x]), order)
        assert max(np.delete(y, answer.label)) >= y[answer.label]
        assert tuple(float(a) for a, _ in answer.witness.y) == tuple(y.tolist())
        assert answer.upper == max(abs(float(v) - c) for v, c in zip(answer.witness.x, x, strict=True))
    if answer.lower > 0:
        assert answer.certified
        assert check_file(path, network, load_property(path + ".vnnlib")).semantics == "float16"


def test_exact_where_nothing_rounds():
    """Where every sum is exact the radius is that over the reals, up to the band."""
    for name in SEMANTICS:
        answer = radius(PLANE, [0.75, 0.5], semantics=name, time_limit=5)
        assert answer.lower <= 0.25 <= answer.upper
        assert answer.lower >= (0.2 if name in ("float16", "bfloat16") else 0.2499)
        assert answer.upper <= (0.3 if name in ("float16", "bfloat16") else 0.2501)
        assert f"{name}" in str(answer)


def test_an_execution_that_swallows_is_a_counterexample():
    """That x + 2^24 - 2^24 is x over the reals and 0 from left to right makes x misclassified by an execution."""
    network = Network.from_arrays([([[1.0, 1.0, -1.0], [0.0, 0.0, 0.0]], [0.0, 0.5])])
    big, x = Box([0, 2**24, 2**24], [1, 2**24, 2**24]), [1, 2**24, 2**24]
    assert radius(network, x, domain=big).lower >= 0.4999
    answer = radius(network, x, domain=big, semantics="float32", time_limit=5)
    assert (answer.label, answer.lower, answer.upper) == (0, 0, 0)
    assert "float32" in answer.upper_from
    with pytest.raises(InputError, match="unsafe itself"):
        safe_box(network, x, domain=big, semantics="float32")


def test_rounding_in_doubt_ends_the_search():
    """A tie along a whole face, which no execution breaks as far as is tried: no proof, and no search without end."""
    network = Network.from_arrays([([[1.0, 0.0], [0.1, 0.0]], [0.3, 0.3 + 0.9 * 0.3])])
    for name in ("float16", "float32"):
        answer = radius(network, [0.75, 0.5], semantics=name)
        assert 0 < answer.lower <= answer.upper
        assert answer.complete or "rounding" in answer.reason


def test_overflow_proves_nothing():
    network = Network.from_arrays([([[60000.0, 60000.0], [0.0, 0.0]], [-1.0, 0.0])])
    answer = radius(network, [0.75, 0.75], semantics="float16")
    assert answer.lower == 0
    assert not answer.complete
    assert "overflow" in answer.reason


@pytest.mark.parametrize("objective", ["apothem", "maximal"])
def test_no_execution_in_the_box_is_unsafe(objective, tmp_path):
    network, path = rough(6), str(tmp_path / "box")
    label = int(network(np.array([0.5, 0.25])).argmax())
    answer = safe_box(
        network, [0.5, 0.25], objective, semantics="float16", step=Fraction(1, 16), time_limit=10, certificate=path
    )
    assert answer.semantics == "float16"
    executor, points = Executor(deployed(network, FLOAT16)), np.array(list(product(GRID, GRID)))
    lower, upper = (np.array([float(v) for v in ends]) for ends in (answer.box.lower, answer.box.upper))
    inside = points[((points >= lower) & (points <= upper)).all(axis=1)]
    assert len(inside) > 1
    for order in executor.orders():
        assert (executor(inside, order).argmax(axis=1) == label).all()
    # A box that is proved in parts may be within rounding, for `verify`, as a whole.
    assert answer.certified or objective == "apothem"
    if answer.certified:
        assert check_file(path, network, Query.robust(answer.box, label, 2)).semantics == "float16"
    for face in answer.faces:
        if face.stop == "counterexample":
            assert face.witness.execution


def test_what_cannot_be_asked():
    for norm in ("2", "1", "0"):
        with pytest.raises(InputError, match=r"only l-inf.*float32"):
            radius(PLANE, [0.75, 0.5], norm=norm, semantics="float32")
    with pytest.raises(InputError, match="no float16 number"):
        radius(PLANE, [0.3, 0.3], domain=Box([0.3, 0.3], [0.3, 0.3]), semantics="float16", label=1)
    with pytest.raises(InputError, match="float9"):
        radius(PLANE, [0.75, 0.5], semantics="float9")
    network = Network.from_arrays([([[1.0, 1.0]], [0.0])])
    y = outputs(1)
    with pytest.raises(InputError, match="not proved to be safe"):
        safe_box(network, [0.5, 0.25], property=y[0] <= Fraction("0.75"), semantics="float16", domain=(0, 1))
