"""The oracle itself, against hand-worked answers and sampling."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import linprog

from optverify.network import Affine, Network, Relu
from tests.oracle import minimum, minimum_of_largest, read, simplex, trace

ONE = Fraction(1)


def test_absolute_value_by_hand() -> None:
    """|x| = relu(x) + relu(-x) has minimum 0 and maximum 3 on [-2, 3]."""
    net = Network.from_arrays([(np.array([[1.0], [-1.0]]), [0.0, 0.0]), (np.array([[1.0, 1.0]]), [0.0])])
    box = [Fraction(-2)], [Fraction(3)]
    assert minimum(read(net), *box, [ONE]) == 0
    assert minimum(read(net), *box, [-ONE]) == -3


def test_largest_by_hand() -> None:
    """max(x, 1 - x) is least at x = 1/2."""
    net = Network((Affine([[1.0], [-1.0]], np.array([0.0, 1.0])),))
    assert minimum_of_largest(read(net), [Fraction(0)], [Fraction(4)], (0, 1)) == Fraction(1, 2)


def test_pass_through_and_points() -> None:
    """Coordinates outside the mask keep their sign, and a box may be a point."""
    net = Network((Relu(np.array([True, False])), Affine([[1.0, 1.0]], np.zeros(1))))
    lower, upper = [Fraction(-1), Fraction(-5)], [Fraction(2), Fraction(-5)]
    assert minimum(read(net), lower, upper, [ONE]) == -5
    assert minimum(read(net), lower, upper, [-ONE]) == 3
    assert trace(read(net), [Fraction(-1), Fraction(-5)])[-1] == [Fraction(-5)]


@pytest.mark.parametrize("seed", range(40))
def test_simplex_agrees_with_a_solver(seed: int) -> None:
    """Same optimum, or infeasible in both, on small integer programs with many ties."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(0, 8))
    rows = np.vstack([rng.integers(-4, 5, (m, n)), np.eye(n, dtype=int)])
    right = np.concatenate([rng.integers(-3, 9, m), np.full(n, 3)])
    cost = rng.integers(-5, 6, n)
    expected = linprog(cost, rows, right)
    found = simplex(
        *(
            [*map(Fraction, cost.tolist())],
            [[*map(Fraction, r)] for r in rows.tolist()],
            [*map(Fraction, right.tolist())],
        )
    )
    assert (found is None) == (expected.status == 2)
    assert found is None or abs(float(found) - expected.fun) < 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_minimum_is_below_samples_and_close(seed: int) -> None:
    """Dense sampling of a network of 2 inputs comes close to the exact minimum and never below it."""
    rng = np.random.default_rng(seed)
    sizes = (2, 4, 3, 2)
    net = Network.from_arrays(
        [(rng.integers(-8, 9, (m, n)) / 4, rng.integers(-4, 5, m) / 4) for n, m in pairwise(sizes)]
    )
    box = [Fraction(-1)] * 2, [Fraction(1)] * 2
    exact = float(minimum(read(net), *box, [ONE, -ONE]))
    largest = float(minimum_of_largest(read(net), *box, (0, 1)))
    axis = np.linspace(-1, 1, 201)
    y = net(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    for found, sampled in ((exact, (y[:, 0] - y[:, 1]).min()), (largest, y.max(axis=1).min())):
        assert found <= sampled + 1e-12
        assert sampled - found < 0.3
