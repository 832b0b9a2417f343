"""Overflow inside a backward pass was once hidden by finite multipliers: a wrong VERIFIED."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from optverify import Box, Network, Query, Verdict, bound, outputs, verify
from optverify.bounds.crown import crown
from optverify.formulations.program import Program
from optverify.network import Affine, Relu
from optverify.safe.multipliers import mean_bound
from optverify.search.leaf import program_bound
from optverify.solvers.scripted import Scripted
from optverify.solvers.solution import Solution, Status


def test_a_partial_sum_that_overflows_proves_nothing() -> None:
    """Weights of 1.5e308 cancel to -1e307; their computed sum is +inf, and no multiplier may hide that."""
    c, d = 0.1, 2.0**-40
    w = np.array([1.5e308, 1.5e308, -1.5e308, -1.5e308, -1e307])
    network = Network(
        (
            Affine([[1.0], [-1.0]], [-c, c]),
            Relu([True, True]),
            Affine([[-1.0, -1.0]], [d]),
            Relu([True]),
            Affine(w[:, None], np.zeros(5)),
            Affine(np.ones((1, 5)), [1e307 * d / 2]),
        )
    )
    assert network.exact([Fraction(c)])[0] < 0
    query = Query.always(Box([-1], [1]), outputs(1)[0] >= 0, 1)
    for solver in ("highs", None):
        assert verify(network, query, time_limit=2, solver=solver).verdict is not Verdict.VERIFIED
    enclosure = bound(network, Box([-1], [1]), [1], time_limit=2)
    assert enclosure.lower <= enclosure.upper
    assert enclosure.lower == -np.inf or Fraction(enclosure.lower) <= network.exact([Fraction(c)])[0]


def test_huge_duals_prove_nothing() -> None:
    """Ordinary weights and a lying solver's duals of 2e307: the sum of their products overflows."""
    s, c, d = 2.0**-4, 0.1, 2.0**-40
    g = np.array([1.9573216642420939e307] * 4 + [9.5e307] * 2 + [1.9573216642420939e307] * 16 + [0.0])
    rows = [[-1, -1, 0, 0]] * 4 + [[1, 1, 0, 0]] * 2 + [[-1, -1, 0, 0]] * 16 + [[0, 0, -1, -1]]
    biases = [s / 2] * 4 + [0] * 2 + [s / 2] * 16 + [d]
    first = ([[1.0], [-1], [1], [-1]], [0, s, -c, c])
    network = Network.from_arrays([first, (rows, biases), ([[0] * 22 + [-2 / d]], [1.0])])

    def lie(program: Program) -> Solution:
        y = np.zeros(program.n_rows)
        y[program.rows["affine[1]"].indices] = -g
        return Solution(Status.OPTIMAL, "liar", objective=0.5, dual=y)

    box = Box([-s], [2 * s])
    assert (
        verify(network, Query.always(box, outputs(1)[0] >= 0, 1), solver=Scripted(lie)).verdict is not Verdict.VERIFIED
    )
    enclosure = bound(network, box, "Y_0", method="triangle", solver=Scripted(lie))
    assert enclosure.lower <= -1


@pytest.mark.parametrize("value", [-1e308, 1e308])
def test_weights_whose_sum_overflows_prove_nothing(value: float) -> None:
    """-1e308 / (1e308 + 1e308) is -0.5 and was once -5e-324."""
    assert mean_bound(np.array([value]), np.array([[1e308, 1e308]]))[0] == -np.inf


@pytest.mark.parametrize("bad", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
def test_improper_weights_prove_nothing(bad: float) -> None:
    """A negative weight turns the inequality around: a positive mean then excludes no point."""
    assert mean_bound(np.array([1.0]), np.array([[1.0, bad]]))[0] == -np.inf


def test_tiny_duals_make_no_negative_weights() -> None:
    """Duals of 1e-320, scaled to whole numbers for a proof, neither overflow into negative ones nor raise."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])])
    y = outputs(2)
    query = Query.never(Box([-1], [1]), (y[0] <= 0) & (y[1] <= 0), 2)

    def tiny(program: Program) -> Solution:
        return Solution(Status.OPTIMAL, "tiny", objective=0.5, dual=np.full(program.n_rows, 1e-320))

    (goal,) = query.goals(network)
    bounds, frame = crown(goal.network, goal.region.outward.take(None))
    leaf = program_bound(frame, bounds.take(0), goal.groups[0], Scripted(tiny), np.inf)
    assert min(leaf.weights) >= 0
    assert leaf.lower <= 0
