"""The bound of a lifted relaxation is below the exact optimum whatever multipliers it is given."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.formulations import Largest, Objective, Weighted
from optverify.formulations.lifted import Lifted, lifted
from optverify.formulations.rlt import with_violated_products
from optverify.interval import Interval
from optverify.network import Affine, Network, Relu
from optverify.safe import lifted as safe
from optverify.safe.lifted import Quadratic, lagrangian, safe_bound, tangent
from optverify.solvers.interior_point import solve_lifted
from tests import oracle
from tests.strategies import boxes, duals, networks

thorough = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def exact_minimum(network: Network, region: Interval, objective: Objective) -> Fraction:
    steps = oracle.read(network)
    lower, upper = ([Fraction(v) for v in ends.tolist()] for ends in (region.lower, region.upper))
    if isinstance(objective, Largest):
        return oracle.minimum_of_largest(steps, lower, upper, objective.group)
    return oracle.minimum(steps, lower, upper, [Fraction(v) for v in objective.c.tolist()]) + Fraction(objective.c0)


@st.composite
def relaxations(draw: st.DrawFn, *, scaled: bool = True) -> tuple[Network, Interval, Objective, Lifted]:
    network = draw(networks(max_neurons=5, scaled=scaled and draw(st.booleans()), odd=draw(st.booleans())))
    region = draw(boxes(network.n_inputs))
    bounds = crown(network, region.take(None))[0].take(0) if draw(st.booleans()) else propagate(network, region)[0]
    c = np.array([float(draw(st.integers(-2, 2))) for _ in range(network.n_outputs)])
    objective = draw(st.sampled_from([Weighted(c, -0.1), Largest(tuple(range(network.n_outputs)))]))
    relaxation = lifted(network, region, bounds, objective)
    if draw(st.booleans()):
        moments = np.random.default_rng(draw(st.integers(0, 9))).uniform(
            -1, 1, (1 + relaxation.n_variables, 1 + relaxation.hidden)
        )
        relaxation = with_violated_products(relaxation, moments, most=10)
    return network, region, objective, relaxation


@thorough
@given(st.data())
def test_garbage_multipliers_keep_the_bound_sound(data: st.DataObject) -> None:
    """Random, NaN, 1e300, negated, permuted: below the oracle, exactly."""
    network, region, objective, relaxation = data.draw(relaxations())
    good = solve_lifted(relaxation, max_iterations=data.draw(st.sampled_from([0, 3, 60])))
    found = safe_bound(
        relaxation,
        data.draw(duals(relaxation.n_products, good.products)),
        data.draw(duals(relaxation.n_variables, good.box)),
        data.draw(duals(relaxation.n_variables, good.point)),
    )
    assert not math.isnan(found.lower)
    exact = exact_minimum(network, region, objective)
    assert found.lower == -math.inf or Fraction(found.lower) <= exact
    assert (found.box >= 0).all()
    assert (found.products[~relaxation.equality] >= 0).all()
    # What is returned proves what is returned, once more.
    again = safe_bound(relaxation, found.products, found.box, found.point)
    assert again.lower == -math.inf or Fraction(again.lower) <= exact


@thorough
@given(st.data())
def test_true_multipliers_keep_the_claim(data: st.DataObject) -> None:
    """The interior-point method's multipliers lose at most 1e-6 from claim to bound, and never exceed the oracle."""
    network, region, objective, relaxation = data.draw(relaxations(scaled=False))
    solution = solve_lifted(relaxation)
    found = safe_bound(relaxation, solution.products, solution.box, solution.point)
    assert Fraction(found.lower) <= exact_minimum(network, region, objective)
    assert found.lower >= solution.bound - 1e-6 * (1.0 + abs(solution.bound))


@settings(thorough, max_examples=60)
@given(st.data())
def test_the_lagrangian_is_below_what_it_stands_for(data: st.DataObject) -> None:
    """At exact points of the box: m + g.z + z'H z - lost against the products in rationals, wild multipliers or not."""
    _, _, _, relaxation = data.draw(relaxations())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    y = rng.normal(size=relaxation.n_products) * 10.0 ** rng.integers(-12, 12, relaxation.n_products)
    y = np.where(relaxation.equality, y, np.abs(y))
    form = lagrangian(relaxation, y)
    z = [Fraction(v) for v in rng.choice([-1.0, 1.0, 0.3, rng.uniform(-1, 1)], relaxation.n_variables).tolist()]
    w = [Fraction(1), *z]
    basis = w + [
        sum((Fraction(a) * b for a, b in zip(f, w, strict=True)), Fraction(0)) for f in relaxation.forms.T.tolist()
    ]
    true = sum((Fraction(c) * v for c, v in zip(relaxation.cost.tolist(), w, strict=True)), Fraction(0))
    true -= Fraction(relaxation.cost_error)
    for j in range(relaxation.n_products):
        p, q = (
            sum(
                (Fraction(a) * basis[i] for i, a in zip(m[:, [j]].indices, m[:, [j]].data.tolist(), strict=True)),
                Fraction(0),
            )
            for m in (relaxation.left, relaxation.right)
        )
        true -= Fraction(y[j]) * p * q + abs(Fraction(y[j])) * Fraction(relaxation.error[j])
    value = Fraction(form.m) - Fraction(form.lost)
    value += sum((Fraction(g) * v for g, v in zip(form.g.tolist(), z, strict=True)), Fraction(0))
    value += sum(
        (Fraction(a) * z[i] * z[k] for i, row in enumerate(form.H.tolist()) for k, a in enumerate(row)), Fraction(0)
    )
    assert value <= true
    assert (form.H == form.H.T).all()


def test_what_is_shifted_is_paid_for() -> None:
    """Without the box's multipliers the bound needs a shift, finds it, and stays below the one with them."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [
            (rng.normal(size=(8, 3)), rng.normal(size=8)),
            (rng.normal(size=(8, 8)), rng.normal(size=8)),
            (np.ones((1, 8)), [0.0]),
        ]
    )
    region = Interval(np.full(3, -1.0), np.full(3, 1.0))
    relaxation = lifted(network, region, crown(network, region.take(None))[0].take(0), Weighted(np.ones(1)))
    solution = solve_lifted(relaxation)
    best = safe_bound(relaxation, solution.products, solution.box, solution.point)
    shifted = safe_bound(relaxation, solution.products)
    assert np.isfinite(shifted.lower)
    assert shifted.box.max() > 0
    assert shifted.lower < best.lower


def test_a_matrix_that_is_not_proved_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound rests on the proof of positive definiteness."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    region = Interval(np.array([-1.0]), np.array([1.0]))
    relaxation = lifted(network, region, propagate(network, region)[0], Weighted(np.ones(1)))
    solution = solve_lifted(relaxation)
    monkeypatch.setattr(safe, "proved_positive_definite", lambda _: False)
    assert safe_bound(relaxation, solution.products, solution.box).lower == -math.inf


def test_a_sum_that_overflows_proves_nothing() -> None:
    """Finite terms whose sum is none."""
    form = Quadratic(-1.7e308, np.array([1.7e308]), np.zeros((1, 1)), 0.0)
    assert tangent(form, np.ones((1, 1)), np.zeros(1), np.zeros(1)) == -math.inf


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_badly_scaled_weights(scale: float) -> None:
    """A hidden layer scaled one way and the next one the other: the bound barely moves, and stays below the oracle."""
    rng = np.random.default_rng(3)
    W, V = rng.normal(size=(4, 2)), rng.normal(size=(3, 4))
    b, c, u = rng.normal(size=4), rng.normal(size=3), rng.normal(size=(1, 3))
    network = Network.from_arrays([(W * scale, b * scale), (V / scale, c), (u, [0.0])])
    region = Interval(np.full(2, -1.0), np.full(2, 1.0))
    relaxation = lifted(network, region, crown(network, region.take(None))[0].take(0), Weighted(np.ones(1)))
    solution = solve_lifted(relaxation)
    found = safe_bound(relaxation, solution.products, solution.box, solution.point)
    exact = exact_minimum(network, region, Weighted(np.ones(1)))
    assert Fraction(found.lower) <= exact
    assert found.lower >= float(exact) - 0.5
    assert found.lower >= solution.bound - 1e-6 * (1.0 + abs(solution.bound))


def test_dead_duplicate_and_degenerate() -> None:
    """No variable at all, a point as a region, layers that are dead, neurons that are twins."""
    one = np.ones((1, 2))
    twins = Network.from_arrays([([[1.0, 2.0], [1.0, 2.0]], [0.1, 0.1]), (one, [0.0])])
    dead = Network.from_arrays([([[1.0, 2.0], [1.0, 2.0]], [-9.0, -9.0]), (one, [0.0])])
    passing = Network((Relu(np.zeros(2, bool)), Affine(one, np.zeros(1))))
    for network in (twins, dead, passing):
        for width in (0.0, 1.0, 5e-324, 1e-30):
            region = Interval(np.full(2, -width), np.full(2, width))
            relaxation = lifted(network, region, propagate(network, region)[0], Weighted(np.ones(1)))
            solution = solve_lifted(relaxation)
            found = safe_bound(relaxation, solution.products, solution.box, solution.point)
            exact = exact_minimum(network, region, Weighted(np.ones(1)))
            assert Fraction(found.lower) <= exact
            assert found.lower >= float(exact) - 0.2
