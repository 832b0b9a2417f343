"""What the lifted relaxation says about the network, exactly: products hold on every trace within their errors."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.errors import InputError, ShapeError
from optverify.formulations import Largest, Objective, Weighted
from optverify.formulations.lifted import Ball, Lifted, lifted
from optverify.formulations.rlt import with_violated_products
from optverify.formulations.semidefinite import dual_form, primal_form, read_lifted
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import Bounds
from tests import oracle
from tests.strategies import boxes, networks, points

thorough = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def bounds_of(network: Network, region: Interval, *, tight: bool) -> Bounds:
    return crown(network, region.take(None))[0].take(0) if tight else propagate(network, region)[0]


def variables(relaxation: Lifted, network: Network, values: list[oracle.Vector]) -> oracle.Vector:
    """Return z at a forward trace, by the documented names of the blocks."""
    found: oracle.Vector = []
    for name, block in relaxation.variables.items():
        if name == "tau":
            quantities = [max(values[-1])]
        elif name == "x":
            quantities = [values[0][j] for j in relaxation.neurons[name]]
        else:
            after = values[network.relus[int(name[2:-1])] + 1]
            quantities = [after[j] for j in relaxation.neurons[name]]
        assert block.start == len(found)
        assert block.size == len(quantities)
        span = zip(quantities, relaxation.centre[block.indices], relaxation.radius[block.indices], strict=True)
        found += [(v - Fraction(c)) / Fraction(r) for v, c, r in span]
    return found


def dot(a: np.ndarray, b: oracle.Vector) -> Fraction:
    return sum((Fraction(v) * w for v, w in zip(a.tolist(), b, strict=True) if v), Fraction(0))


def products(relaxation: Lifted, z: oracle.Vector) -> list[Fraction]:
    """Return p_j q_j + sum_k d_jk (1 - z_k^2) for each j, exactly."""
    w = [Fraction(1), *z]
    basis = w + [dot(column, w) for column in relaxation.forms.T]
    left, right, radial = (m.toarray().T for m in (relaxation.left, relaxation.right, relaxation.radial))
    rest = [1 - v * v for v in z]
    return [
        dot(p, w[: 1 + relaxation.hidden]) * dot(q, basis) + dot(d, rest)
        for p, q, d in zip(left, right, radial, strict=True)
    ]


def broken(relaxation: Lifted, z: oracle.Vector) -> list[str]:
    """Name what a trace violates."""
    found = [f"variable {k}: {float(v)}" for k, v in enumerate(z) if abs(v) > 1]
    names = [name for name, block in relaxation.rows.items() for _ in range(block.size)]
    for name, value, equal, error in zip(
        names, products(relaxation, z), relaxation.equality, relaxation.error.tolist(), strict=True
    ):
        if value < -Fraction(error) or (equal and value > Fraction(error)):
            found.append(f"{name}: {float(value)} with error {error}")
    return found


@thorough
@given(st.data())
def test_every_true_trace_satisfies_every_product_exactly(data: st.DataObject) -> None:
    """Layers in any order, slack, scales of 1e-8 to 1e8, degenerate and huge boxes; no tolerance but the stated one."""
    network = data.draw(
        networks(
            scaled=True, slack=data.draw(st.booleans()), absolute=data.draw(st.booleans()), odd=True, max_neurons=6
        )
    )
    region = data.draw(boxes(network.n_inputs, huge=True))
    bounds = bounds_of(network, region, tight=data.draw(st.booleans()))
    values = oracle.trace(oracle.read(network, data.draw(st.integers(0, 5))), data.draw(points(region)))
    group = tuple(range(network.n_outputs))
    c = np.array([float(data.draw(st.integers(-2, 2))) for _ in group])
    objective: Objective
    for objective in (Weighted(c, 1.5), Largest(group)):
        relaxation = lifted(network, region, bounds, objective)
        z = variables(relaxation, network, values)
        assert broken(relaxation, z) == []
        true = max(values[-1]) if isinstance(objective, Largest) else dot(c, values[-1]) + Fraction(1.5)
        off = abs(dot(relaxation.cost, [Fraction(1), *z]) - true)
        assert off <= Fraction(relaxation.cost_error) or (isinstance(objective, Largest) and off == 0)


@thorough
@given(st.data())
def test_products_of_conditions_hold_as_well(data: st.DataObject) -> None:
    """Whatever moments they were chosen by."""
    network = data.draw(networks(scaled=True, odd=True, max_neurons=6))
    region = data.draw(boxes(network.n_inputs))
    relaxation = lifted(network, region, bounds_of(network, region, tight=True), Weighted(np.ones(network.n_outputs)))
    values = oracle.trace(oracle.read(network), data.draw(points(region)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(2):
        moments = rng.uniform(-1, 1, (1 + relaxation.n_variables, 1 + relaxation.hidden))
        relaxation = with_violated_products(relaxation, moments, most=data.draw(st.sampled_from([3, 40])))
    assert broken(relaxation, variables(relaxation, network, values)) == []


def test_numbers_that_no_short_float_holds() -> None:
    """Weights, boxes and points with all digits, so that everything rounds; corners, where conditions are tight."""
    rng = np.random.default_rng(0)
    for _ in range(150):
        sizes = rng.integers(1, 5, rng.integers(2, 5))
        network = Network.from_arrays([(rng.normal(size=(m, n)), 0.1 * rng.normal(size=m)) for n, m in pairwise(sizes)])
        centre, radius = rng.normal(size=sizes[0]), rng.uniform(0, 1, sizes[0])
        region = Interval(centre - radius, centre + radius)
        bounds = bounds_of(network, region, tight=bool(rng.integers(2)))
        relaxation = lifted(network, region, bounds, Weighted(rng.normal(size=sizes[-1])))
        for _ in range(2):
            moments = rng.uniform(-1, 1, (1 + relaxation.n_variables, 1 + relaxation.hidden))
            relaxation = with_violated_products(relaxation, moments, most=200)
        for _ in range(4):
            at = np.where(rng.integers(2, size=centre.size), region.lower, region.upper)
            at = np.where(rng.integers(3, size=centre.size), at, rng.uniform(region.lower, region.upper))
            values = oracle.trace(oracle.read(network), [Fraction(v) for v in at.tolist()])
            assert broken(relaxation, variables(relaxation, network, values)) == []


@thorough
@given(st.data())
def test_splits_hold_on_their_side(data: st.DataObject) -> None:
    """A trace on the side of a split satisfies the split's products."""
    network = data.draw(networks(max_neurons=6))
    region = data.draw(boxes(network.n_inputs))
    values = oracle.trace(oracle.read(network), data.draw(points(region)))
    cut = []
    for k, z in zip(network.relus, bounds_of(network, region, tight=True).layers, strict=True):
        positive = np.array([v >= 0 for v in values[k]])
        chosen = np.array([data.draw(st.booleans()) for _ in values[k]])
        cut.append(
            Interval(
                np.where(chosen & positive, np.maximum(z.lower, 0.0), z.lower),
                np.where(chosen & ~positive, np.minimum(z.upper, 0.0), z.upper),
            )
        )
    relaxation = lifted(network, region, Bounds(tuple(cut)), Weighted(np.ones(network.n_outputs)))
    assert broken(relaxation, variables(relaxation, network, values)) == []


@thorough
@given(st.data())
def test_points_of_a_ball_satisfy_its_product(data: st.DataObject) -> None:
    """The region is the ball cut by a box; points outside of the ball may violate the product, and far ones do."""
    network = data.draw(networks(max_neurons=4))
    region = data.draw(boxes(network.n_inputs))
    x = data.draw(points(region))
    centre = np.array([data.draw(st.integers(-8, 8)) / 4 for _ in x]) + data.draw(st.sampled_from([0.0, 1e-9, 0.1]))
    distance = sum((v - Fraction(c)) ** 2 for v, c in zip(x, centre.tolist(), strict=True))
    radius = float(np.sqrt(float(distance))) * data.draw(st.sampled_from([0.5, 1.0, 1.5]))
    relaxation = lifted(
        network,
        region,
        bounds_of(network, region, tight=True),
        Weighted(np.ones(network.n_outputs)),
        Ball(centre, radius),
    )
    z = variables(relaxation, network, oracle.trace(oracle.read(network), x))
    wrong = [name for name in broken(relaxation, z) if name.startswith("ball")]
    if distance <= Fraction(radius) ** 2:
        assert not wrong
    elif distance > 2 * Fraction(radius) ** 2 and distance > Fraction(1, 100):
        assert wrong


def test_stable_neurons_and_constants_cost_nothing() -> None:
    """Variables are inputs that vary and unstable neurons; the largest of one output is that output."""
    network = Network.from_arrays(
        [([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [5.0, -5.0, 0.0]), ([[1.0, 1.0, 1.0]], [0.0])]
    )
    region = Interval(np.array([-1.0, 0.5]), np.array([1.0, 0.5]))
    relaxation = lifted(network, region, propagate(network, region)[0], Largest((0,)))
    assert relaxation.hidden == 1
    assert relaxation.n_variables == 2
    assert list(relaxation.rows) == ["above[0]", "relu[0]", "chord[0]"]
    assert "1 hidden" in repr(relaxation)


def test_what_cannot_be_lifted_says_so() -> None:
    """Sizes that disagree, empty and infinite bounds, unusable balls."""
    network = Network.from_arrays([([[1.0]], [0.0]), ([[1.0], [1.0]], [0.0, 0.0])])
    region = Interval(np.array([-1.0]), np.array([1.0]))
    bounds = propagate(network, region)[0]
    with pytest.raises(ShapeError, match="region"):
        lifted(network, Interval(np.zeros(2), np.ones(2)), bounds, Weighted(np.ones(2)))
    with pytest.raises(ShapeError, match="Relu layers"):
        lifted(network, region, Bounds(()), Weighted(np.ones(2)))
    with pytest.raises(ShapeError, match="objective"):
        lifted(network, region, bounds, Weighted(np.ones(3)))
    for group in ((), (0, 0), (2,), (-1,)):
        with pytest.raises(ShapeError, match="group"):
            lifted(network, region, bounds, Largest(group))
    with pytest.raises(InputError, match="empty"):
        lifted(network, Interval(np.ones(1), np.zeros(1)), bounds, Weighted(np.ones(2)))
    with pytest.raises(InputError, match="empty"):
        lifted(network, region, Bounds((Interval(np.ones(1), np.zeros(1)),)), Weighted(np.ones(2)))
    for low, high in ((-np.inf, 1.0), (-1.0, np.inf), (-1e308, 1.7e308)):
        wild = Bounds((Interval(np.array([low]), np.array([high])),))
        with pytest.raises(InputError, match="overflow"):
            lifted(network, region, wild, Weighted(np.array([1e308, 1e308])))
    for centre, radius in (([np.nan], 1.0), ([0.0], -1.0), ([0.0], np.inf), ([0.0], np.nan)):
        with pytest.raises(InputError, match="ball"):
            Ball(np.array(centre), radius)
    with pytest.raises(ShapeError, match="ball"):
        lifted(network, region, bounds, Weighted(np.ones(2)), Ball(np.zeros(2), 1.0))


@settings(thorough, max_examples=40)
@given(st.data())
def test_both_program_forms_hold_the_same_relaxation(data: st.DataObject) -> None:
    """At the moments of a trace the primal form has no violated row; the dual form's slack is C - sum y A - gamma E."""
    network = data.draw(networks(odd=True, max_neurons=4))
    region = data.draw(boxes(network.n_inputs))
    relaxation = lifted(network, region, bounds_of(network, region, tight=True), Weighted(np.ones(network.n_outputs)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        moments = rng.uniform(-1, 1, (1 + relaxation.n_variables, 1 + relaxation.hidden))
        relaxation = with_violated_products(relaxation, moments, most=5)
    trace = oracle.trace(oracle.read(network), data.draw(points(region)))
    w = np.array([1.0, *map(float, variables(relaxation, network, trace))])
    column, row = np.triu_indices(w.size)
    entries = w[row] * w[column]

    primal = primal_form(relaxation)
    slack = primal.b - primal.A @ entries[1:]
    tolerance = 1e-9 * (1.0 + np.abs(primal.A).sum(axis=1).max())
    inequalities = [primal.rows[name].indices for name in ("box", "y")]
    assert all((slack[part] >= -tolerance).all() for part in inequalities)
    assert np.abs(slack[primal.rows["y="].indices]).max(initial=0.0) <= tolerance
    svec = entries * np.where(row == column, 1.0, np.sqrt(2.0))
    assert np.allclose(slack[primal.rows["X"].indices], svec)
    assert np.isclose(primal.c @ entries[1:] + primal.c0, relaxation.cost @ w)

    dual = dual_form(relaxation)
    x = rng.normal(size=dual.n_variables)
    box, y = read_lifted(relaxation, dual, x) or (np.zeros(0), np.zeros(0))
    form = dual.b - dual.A @ x
    values = np.array([float(v) for v in products(relaxation, [Fraction(v) for v in w[1:].tolist()])])
    lagrangian = relaxation.cost @ w - box @ (1 - w[1:] ** 2) - y @ values - x[0]
    assert np.isclose(form @ svec, lagrangian, rtol=1e-9, atol=1e-9 * (1 + np.abs(dual.A).sum()))

    multipliers = np.concatenate([box, y[~relaxation.equality], y[relaxation.equality], np.zeros(column.size)])
    again = read_lifted(relaxation, primal, multipliers)
    assert again is not None
    assert (again[0] == box).all()
    assert (again[1] == y).all()
    assert read_lifted(relaxation, primal, None) is None
    assert read_lifted(relaxation, dual, np.zeros(dual.n_variables + 1)) is None
