"""The bound formula against exact optima, with advice good, bad and absurd."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.bounds.crown import crown
from optverify.bounds.interval_propagation import propagate
from optverify.interval import Interval
from optverify.network import Affine, Network, Relu
from optverify.preactivation import Bounds
from optverify.safe.multipliers import Frame, Given, Slopes, Unit, mean_bound
from tests import oracle
from tests.strategies import boxes, networks, points

ABSURD = [0.0, -0.0, 1.0, -1.0, 0.3, 1e300, -1e300, 5e-324, math.nan, math.inf, -math.inf]


def fractions(ends: np.ndarray) -> list[Fraction]:
    """Return the floats as rationals."""
    return [Fraction(v) for v in ends.tolist()]


def below(bound: float, exact: Fraction) -> bool:
    """Compare a float with a rational, exactly; a bound is never NaN."""
    assert not math.isnan(bound)
    return bound == -math.inf or (bound != math.inf and Fraction(bound) <= exact)


def absurd_advice(network: Network, seed: int) -> Given:
    """Return multipliers drawn from the list of absurd numbers and from the normal distribution."""
    rng = np.random.default_rng(seed)
    values = []
    for k in network.relus:
        n = network.sizes[k]
        chosen = rng.choice(np.array(ABSURD), size=n)
        values.append(np.where(rng.random(n) < 0.3, chosen, rng.normal(size=n) * 10.0 ** rng.integers(-8, 9)))
    return Given(values)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_advice_makes_the_bound_exceed_the_exact_optimum(data: st.DataObject) -> None:
    """For random networks and regions: CROWN's slopes, random and absurd multipliers all stay below the optimum."""
    network = data.draw(networks(scaled=data.draw(st.booleans()), odd=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs, huge=data.draw(st.booleans())))
    copies = data.draw(st.integers(1, 2))  # batches of several boxes go another way than single ones
    _, frame = crown(network, Interval(np.tile(box.lower, (copies, 1)), np.tile(box.upper, (copies, 1))))
    steps = oracle.read(network)
    lower, upper = fractions(box.lower), fractions(box.upper)
    for j in range(network.n_outputs):
        for sign in (1, -1):
            row = np.zeros((1, network.n_outputs))
            row[0, j] = sign
            exact = oracle.minimum(steps, lower, upper, fractions(row[0]))
            for advice in (Slopes(), absurd_advice(network, 1), absurd_advice(network, 2)):
                assert below(float(frame.lower(row, advice).value[0, 0]), exact)


def test_thousands_of_random_networks() -> None:
    """2,000 networks, scales 1e-8 to 1e8, degenerate and huge boxes, zero rows, twins: never above the optimum."""
    rng = np.random.default_rng(2026)
    for _ in range(2000):
        sizes = [int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 3)), 1]
        steps = []
        for n, m in pairwise(sizes):
            scale = 10.0 ** rng.integers(-8, 9, (m, 1)) if rng.random() < 0.5 else 1.0
            weight, bias = rng.normal(size=(m, n)) * scale, rng.normal(size=m)
            if rng.random() < 0.2:
                weight[-1] = 0.0
            if m > 1 and rng.random() < 0.2:
                weight[1], bias[1] = weight[0], bias[0]
            steps.append((weight, bias))
        network = Network.from_arrays(steps)
        centre = rng.normal(size=sizes[0])
        radius = 10.0 ** rng.integers(-6, 7) * rng.random(sizes[0]) * (rng.random(sizes[0]) < 0.8)
        box = Interval(centre - radius, np.maximum(centre - radius, centre + radius))
        copies = int(rng.integers(1, 3))  # batches of several boxes go another way than single ones
        _, frame = crown(network, Interval(np.tile(box.lower, (copies, 1)), np.tile(box.upper, (copies, 1))))
        exact = oracle.minimum(oracle.read(network), fractions(box.lower), fractions(box.upper), [Fraction(1)])
        for advice in (Slopes(), absurd_advice(network, int(rng.integers(1000)))):
            assert below(float(frame.lower(np.array([[1.0]]), advice).value[0, 0]), exact)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_linear_bounds_hold_at_every_point(data: st.DataObject) -> None:
    """The line coefficients . x + constant is below the exact output at exact points, slack included."""
    slack = data.draw(st.booleans())
    network = data.draw(networks(scaled=True, slack=slack, absolute=slack, odd=True))
    box = data.draw(boxes(network.n_inputs))
    _, frame = crown(network, box.take(None))
    bounds = frame.lower(np.eye(network.n_outputs), Slopes())
    x = data.draw(points(box))
    y = oracle.trace(oracle.read(network, seed=data.draw(st.integers(0, 99)) if slack else None), x)[-1]
    for j in range(network.n_outputs):
        if bounds.constant[0, j] == -math.inf:
            continue
        line = Fraction(float(bounds.constant[0, j]))
        line += sum((Fraction(c) * v for c, v in zip(bounds.coefficients[0, j].tolist(), x, strict=True)), Fraction(0))
        assert line <= y[j]
        assert below(float(bounds.value[0, j]), y[j])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_slack_is_paid_for(data: st.DataObject) -> None:
    """Bounds hold for every choice of the coefficients within their slack."""
    network = data.draw(networks(slack=True, absolute=True))
    box = data.draw(boxes(network.n_inputs))
    _, frame = crown(network, box.take(None))
    value = frame.lower(np.eye(network.n_outputs), Slopes()).value[0]
    for seed in range(3):
        steps = oracle.read(network, seed)
        for j in range(network.n_outputs):
            c = [Fraction(int(i == j)) for i in range(network.n_outputs)]
            assert below(float(value[j]), oracle.minimum(steps, fractions(box.lower), fractions(box.upper), c))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mixtures_bound_the_largest_row(data: st.DataObject) -> None:
    """Any weights, tiny and huge ones too, give a bound on the least value of the largest row."""
    network = data.draw(networks(odd=True))
    box = data.draw(boxes(network.n_inputs))
    _, frame = crown(network, box.take(None))
    weights = st.one_of(st.floats(0, 1e3), st.sampled_from([0.0, 5e-324, 1e300]))
    mu = np.array([data.draw(st.lists(weights, min_size=network.n_outputs, max_size=network.n_outputs))])
    exact = oracle.minimum_of_largest(
        oracle.read(network), fractions(box.lower), fractions(box.upper), range(network.n_outputs)
    )
    bound = mean_bound(frame.lower(mu, Slopes()).value[:, 0], mu)
    assert below(float(bound[0]), exact)


def test_the_formula_reaches_the_triangle_optimum_by_hand() -> None:
    """relu(x) + relu(-x) on [-1, 2]: the triangle bound 0 is reached by the right multipliers."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    _, frame = crown(network, Interval(np.array([[-1.0]]), np.array([[2.0]])))
    best = max(
        float(frame.lower(np.array([[1.0]]), Given([np.array([a, b])])).value[0, 0])
        for a in (0.0, 0.5, 1.0)
        for b in (0.0, 0.5, 1.0)
    )
    assert -1e-13 <= best <= 0.0  # 0 but for the error that is subtracted


def test_unit_objectives_agree_with_rows() -> None:
    """Signed coordinates give the same bounds as the same rows written out, up to the rounding they avoid."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [(rng.normal(size=(6, 3)), rng.normal(size=6)), (rng.normal(size=(4, 6)), np.ones(4))]
    )
    _, frame = crown(network, Interval(np.full((2, 3), -1.0), np.full((2, 3), [1.0, 2.0, 0.5])))
    unit = frame.lower(Unit(np.array([2, 0]), np.array([1.0, -1.0])), Slopes())
    rows = frame.lower(np.array([[0.0, 0, 1, 0], [-1.0, 0, 0, 0]]), Slopes())
    np.testing.assert_allclose(unit.value, rows.value, rtol=1e-12)
    assert (unit.value >= rows.value).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_single_coordinates_agree_with_whole_batches(data: st.DataObject) -> None:
    """`each` gives what `lower` gives up to rounding, also with slack, passed coordinates and odd weights."""
    network = data.draw(networks(odd=data.draw(st.booleans())))
    if isinstance(network.layers[-1], Relu):
        network = network.then(Affine(np.eye(network.n_outputs), np.zeros(network.n_outputs)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    lower = rng.normal(size=(3, network.n_inputs))
    _, frame = crown(network, Interval(lower, lower + rng.uniform(0, 2, lower.shape)))
    box, coordinate = rng.integers(3, size=12), rng.integers(network.n_outputs, size=12)
    sign = rng.choice([-1.0, 1.0], 12)
    together = np.stack([frame.lower(Unit(coordinate, sign), Slopes()).value[b, k] for k, b in enumerate(box)])
    each = frame.each(box, coordinate, sign)
    finite = np.isfinite(together)
    assert (np.isfinite(each) == finite).all()
    scale = 1.0 + max((float(z.magnitude().max()) for z in frame.inputs), default=0.0)
    np.testing.assert_allclose(each[finite], together[finite], atol=1e-9 * scale)
    for k, b in enumerate(box):
        x = fractions(frame.region.lower[b] * 0.5 + frame.region.upper[b] * 0.5)
        if network.has_slack:
            continue
        assert each[k] == -np.inf or Fraction(float(each[k])) <= Fraction(sign[k]) * network.exact(x)[coordinate[k]]


def test_batches_are_independent() -> None:
    """A box gives the same bounds alone and in a batch with an overflowing and an unbounded one."""
    rng = np.random.default_rng(1)
    network = Network.from_arrays(
        [(rng.normal(size=(6, 2)), rng.normal(size=6)), (rng.normal(size=(1, 6)), np.ones(1))]
    )
    lower = np.array([[-1.0, -1.0], [-1e308, -1e308], [-np.inf, 0.0]])
    upper = np.array([[1.0, 1.0], [1e308, 1e308], [np.inf, 0.0]])
    _, frame = crown(network, Interval(lower, upper))
    _, alone = crown(network, Interval(lower[:1], upper[:1]))
    together = frame.lower(np.eye(1), Slopes())
    np.testing.assert_allclose(together.value[0], alone.lower(np.eye(1), Slopes()).value[0], rtol=1e-12)
    assert (together.value[1:] == -np.inf).all()
    assert (together.constant[1:] == -np.inf).all()


@pytest.mark.parametrize("value", [0.0, -1.0, -math.inf, math.nan, 1e-300, 5.0])
def test_mean_bound_with_no_weight_is_a_contradiction_only_if_positive(value: float) -> None:
    """Weights of 0: a positive value proves that the region is empty, any other proves nothing."""
    expected = math.inf if value > 0 else -math.inf
    assert mean_bound(np.array([value]), np.zeros((1, 2)))[0] == expected


@given(st.floats(-1e9, 1e9), st.lists(st.floats(0, 1e6), min_size=1, max_size=6))
def test_mean_bound_rounds_to_the_safe_side(value: float, mu: list[float]) -> None:
    """The quotient is never above the exact one."""
    total = sum(map(Fraction, mu), Fraction(0))
    bound = float(mean_bound(np.array([value]), np.array([mu]))[0])
    if total:
        assert below(bound, Fraction(value) / total)


def test_overflowing_weights_end_as_minus_infinity() -> None:
    """Huge weights never produce a finite or positive infinite bound by accident."""
    network = Network.from_arrays([([[1e200]], [0.0]), ([[1e200]], [0.0])])
    _, frame = crown(network, Interval(np.array([[1.0]]), np.array([[2.0]])))
    assert frame.lower(np.eye(1), Slopes()).value[0, 0] == -np.inf


def test_degenerate_box_is_a_point_evaluation() -> None:
    """With l = u the bounds from both sides close in on the exact value."""
    rng = np.random.default_rng(5)
    network = Network.from_arrays([(rng.normal(size=(5, 3)), rng.normal(size=5)), (rng.normal(size=(1, 5)), [0.5])])
    x = rng.normal(size=3)
    _, frame = crown(network, Interval(x[None], x[None]))
    (exact,) = network.exact(fractions(x))
    low = frame.lower(np.array([[1.0]]), Slopes()).value[0, 0]
    high = -frame.lower(np.array([[-1.0]]), Slopes()).value[0, 0]
    assert Fraction(float(low)) <= exact <= Fraction(float(high))
    assert high - low < 1e-12


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bounds_of_every_layer_contain_every_trace(data: st.DataObject) -> None:
    """Interval arithmetic and CROWN enclose the exact pre-activations, masks, odd layers and slack included."""
    network = data.draw(
        networks(
            scaled=data.draw(st.booleans()), odd=True, slack=data.draw(st.booleans()), absolute=data.draw(st.booleans())
        )
    )
    box = data.draw(boxes(network.n_inputs, huge=data.draw(st.booleans())))
    loose, output = propagate(network, box)
    batched, _ = propagate(network, box.take(None))
    tight, frame = crown(network, box.take(None))
    x = data.draw(points(box))
    values = oracle.trace(oracle.read(network), x)
    for k, position in enumerate(network.relus):
        for found in (loose.layers[k], tight.layers[k].take(0)):
            assert all(
                below(float(low), v) and below(-float(high), -v)
                for low, high, v in zip(found.lower, found.upper, values[position], strict=True)
            )
        # Compared in one shape: BLAS sums the products of a vector in another order than those of a batch. Further up,
        # what is computed from tighter bounds may be rounded further out.
        assert k > 0 or (tight.layers[k].lower >= batched.layers[k].lower).all()
        assert k > 0 or (tight.layers[k].upper <= batched.layers[k].upper).all()
    assert all(below(float(low), v) for low, v in zip(output.lower, values[-1], strict=True))
    assert all(below(float(low), v) for low, v in zip(frame.inputs[-1].lower[0], values[-1], strict=True))


def test_known_bounds_are_intersected() -> None:
    """A split that fixes a neuron shows in the bounds, and an impossible one as an empty interval."""
    network = Network((Affine([[1.0]], [0.0]), Relu([True]), Affine([[1.0]], [0.0])))
    region = Interval(np.array([[1.0]]), np.array([[2.0]]))
    cut, _ = crown(network, region, Bounds((Interval(np.array([[-np.inf]]), np.array([[0.0]])),)))
    assert cut.empty.tolist() == [True]
    same, _ = crown(network, region, Bounds((Interval(np.array([[1.5]]), np.array([[np.inf]])),)))
    assert same.layers[0].lower[0, 0] == 1.5


def test_frame_of_given_bounds_matches_the_grown_one() -> None:
    """A frame built from known bounds evaluates like the one that found them."""
    rng = np.random.default_rng(3)
    steps = [
        (rng.normal(size=(5, 2)), np.zeros(5)),
        (rng.normal(size=(5, 5)), np.zeros(5)),
        (rng.normal(size=(1, 5)), [0.0]),
    ]
    network = Network.from_arrays(steps)
    region = Interval(np.full((3, 2), -1.0), np.full((3, 2), 1.0))
    bounds, frame = crown(network, region)
    again = Frame.of(network, region, bounds)
    assert (again.lower(np.eye(1), Slopes()).value == frame.lower(np.eye(1), Slopes()).value).all()
    part = frame.take(np.array([1]))
    assert (part.lower(np.eye(1), Slopes()).value == frame.lower(np.eye(1), Slopes()).value[1:2]).all()
