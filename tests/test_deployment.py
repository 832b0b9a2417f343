"""The error band of the deployed network against every execution of tiny neurons."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.canonical import network_text
from optverify.deployment import deployed, overflow
from optverify.errors import InputError
from optverify.expressions import outputs
from optverify.interval import Interval
from optverify.network import Affine, Network, Relu
from optverify.query import Query
from optverify.region import Box
from optverify.semantics import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, REAL, Semantics
from optverify.verify import verify
from tests.every_execution import every_result

FORMATS = [FLOAT16, BFLOAT16, FLOAT32]
ANYTHING = Fraction(2) ** 1000


def numbers(semantics: Semantics, rng: np.random.Generator, count: int) -> np.ndarray:
    """Return random numbers of a format: plain, of any size, nearly cancelling, subnormal."""
    kind = rng.integers(5)
    if kind == 0:
        x = rng.normal(size=count)
    elif kind == 1:
        x = rng.normal(size=count) * 2.0 ** rng.integers(semantics.lowest // 3, semantics.highest // 3, count)
    elif kind == 2:
        x = rng.choice([1.0, -1.0], count) * (1 + rng.integers(0, 4, count) * 2 * semantics.unit)
    elif kind == 3:
        x = rng.integers(-9, 10, count) * semantics.subnormal * 2.0 ** rng.integers(0, semantics.digits)
    else:
        x = rng.choice([1.0, -1.0, 2.0, 0.5 / semantics.unit, -0.5 / semantics.unit], count)
    return semantics.round(x)


def band(weights: np.ndarray, bias: float | None, x: np.ndarray, semantics: Semantics) -> tuple[Fraction, Fraction]:
    """Return what the deployed network of one row may give; everything where overflow is not excluded."""
    roundings = None if bias is not None else [np.count_nonzero(weights)]
    net = deployed(Network((Affine(weights[None], [bias or 0.0], roundings),)), semantics)
    if overflow(net, Interval(x, x)):
        return -ANYTHING, ANYTHING
    return net.enclose([Fraction(v) for v in x.tolist()])[0]


@pytest.mark.parametrize("semantics", FORMATS, ids=str)
@pytest.mark.parametrize(("fused", "flush"), [(False, False), (True, False), (True, True)])
def test_every_execution_of_tiny_neurons_is_in_the_band(semantics: Semantics, fused: bool, flush: bool) -> None:
    """All orders, groupings, fusions and flushes of neurons with up to four inputs and a bias: 1,800 neurons in all."""
    rng = np.random.default_rng([semantics.digits, fused, flush])
    widest, excluded = 0.0, 0
    for _ in range(200):
        n = int(rng.integers(1, 4 if flush else 5))
        weights, x = numbers(semantics, rng, n), numbers(semantics, rng, n)
        weights = np.where(weights == 0, 1.0, weights)
        bias = float(numbers(semantics, rng, 1)[0]) if rng.random() < 0.7 else None
        low, high = band(weights, bias, x, semantics)
        results = every_result(weights.tolist(), x.tolist(), bias, semantics, fused=fused, flush=flush)
        assert low <= min(results)
        assert max(results) <= high
        widest = max(widest, float((max(results) - min(results)) / (high - low)))
        excluded += high == ANYTHING
    assert widest > 0.1  # the band is not much wider than what happens
    assert excluded < 40


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.booleans(), st.data())
def test_every_execution_is_in_the_band_for_drawn_neurons(
    semantics: Semantics, flush: bool, data: st.DataObject
) -> None:
    """The same with what hypothesis thinks up."""
    width = {"float16": 16, "float32": 32, "bfloat16": 32}[semantics.name]
    largest = 2.0 ** (semantics.highest // 2 - 2)
    draw = st.floats(-largest, largest, width=width).map(lambda v: float(semantics.round(v)))
    n = data.draw(st.integers(1, 3))
    weights, x = (np.array(data.draw(st.lists(draw, min_size=n, max_size=n))) for _ in range(2))
    weights = np.where(weights == 0, 1.0, weights)
    bias = data.draw(draw)
    low, high = band(weights, bias, x, semantics)
    results = every_result(weights.tolist(), x.tolist(), bias, semantics, fused=True, flush=flush)
    assert low <= min(results)
    assert max(results) <= high


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_native_sums_are_in_the_band(kind: type) -> None:
    """The scalars, matrix products and sums of numpy, on five thousand rows of up to 40 terms."""
    semantics = {np.float16: FLOAT16, np.float32: FLOAT32}[kind]
    rng = np.random.default_rng(3)
    for n in (1, 2, 7, 40):
        weights, x = (rng.normal(size=(s, n)).astype(kind) for s in (1250, 1))
        bias = rng.normal(size=1250).astype(kind)
        products = weights * x
        results = [products.sum(axis=1, dtype=kind) + bias, (weights @ x[0]) + bias]
        results.append(np.add.accumulate(np.column_stack([bias, products]), axis=1, dtype=kind)[:, -1])
        net = deployed(Network((Affine(weights.astype(np.float64), bias.astype(np.float64)),)), semantics)
        ends = net.enclose([Fraction(float(v)) for v in x[0]])
        for result in results:
            for (low, high), y in zip(ends, result.tolist(), strict=True):
                assert low <= Fraction(y) <= high


def test_the_band_is_about_absolute_values() -> None:
    """The sum omega + 1 - omega is 1, and float32 may give 0 or 2: scaling the cancelled result would exclude that."""
    omega = 2.0**24
    low, high = band(np.array([omega, 1.0, -omega]), None, np.ones(3), FLOAT32)
    assert every_result([omega, 1.0, -omega], [1.0] * 3, None, FLOAT32) == {0, 1}
    assert low <= 0 < 2 <= high


def test_flushed_operands_cost_as_much_as_their_weights_are_large() -> None:
    """A subnormal input read as zero under a weight of 1e30 loses far more than a smallest normal number."""
    x = np.array([2.0**-127])
    results = every_result([2.0**100], x.tolist(), 0.0, FLOAT32, flush=True)
    assert results == {0, Fraction(2) ** -27}
    low, high = band(np.array([2.0**100]), 0.0, x, FLOAT32)
    assert low <= 0 < Fraction(2) ** -27 <= high


def test_rows_that_only_route_are_exact() -> None:
    """No roundings, no error; but for outputs, which may be read as zero where they are subnormal."""
    route = Affine([[1.0, -1.0], [0.0, 1.0]], [0.0, 0.0], [0, 0])
    net = deployed(Network((route, Relu([True, True]), route)), FLOAT32)
    first, last = net.layers[0], net.layers[2]
    assert isinstance(first, Affine)
    assert isinstance(last, Affine)
    assert not first.loose.any()
    assert not last.slack.any()
    assert (last.absolute == FLOAT32.normal).all()
    (only,) = deployed(Network((Relu([True]),)), FLOAT32).layers[:1]
    assert isinstance(only, Affine)
    assert only.absolute.tolist() == [FLOAT32.normal]


def test_slack_adds_up() -> None:
    """(1 + s)(1 + rho) - 1, rounded up to 12 bits; a coefficient that no number of the format is costs one more."""
    slack = 2.0**-20
    for value, roundings in ((0.5, 2), (0.1, 3)):
        (layer,) = deployed(Network((Affine([[value]], [1.0]),)), FLOAT32).layers
        growth = (1 + Fraction(FLOAT32.unit)) ** roundings - 1
        assert isinstance(layer, Affine)
        assert growth <= Fraction(layer.slack[0].item()) <= growth * (1 + Fraction(1, 2**11))
    (layer,) = deployed(Network((Affine([[0.5]], [1.0], slack=[slack]),)), FLOAT32).layers
    assert isinstance(layer, Affine)
    exact = (1 + Fraction(FLOAT32.unit)) ** 3 * (1 + Fraction(slack)) - 1
    assert exact <= Fraction(layer.slack[0].item()) <= exact * (1 + Fraction(1, 2**11))


@pytest.mark.parametrize("roundings", [1, 100, 1000, 2048, 4000, 20_000])
def test_growth_is_an_upper_bound_for_any_number_of_roundings(roundings: int) -> None:
    """(1 + u)^r - 1 in integers, also where r u is beyond 1 and the usual gamma is undefined."""
    (layer,) = deployed(Network((Affine([[1.0]], [0.0], [roundings]),)), FLOAT16).layers
    assert isinstance(layer, Affine)
    exact = (1 + Fraction(FLOAT16.unit)) ** roundings - 1
    assert exact <= Fraction(layer.slack[0].item())
    if roundings <= 2048:
        assert Fraction(layer.slack[0].item()) <= exact * Fraction(11, 10)


def test_the_reals_change_nothing() -> None:
    """The same object comes back, and its text has neither errors nor limits."""
    net = Network.from_arrays([([[1.0, 2.0]], [0.5])])
    assert deployed(net, REAL) is net
    assert b'"semantics":"real"' in network_text(net)
    assert b'"absolute":[0],"limits":[0]' in network_text(net)


def test_digests_and_texts_name_the_semantics() -> None:
    """The same layers under two semantics are two networks."""
    net = Network.from_arrays([([[1.0, 2.0]], [0.5])])
    forms = [net, *(deployed(net, s) for s in (FLOAT16, BFLOAT16, FLOAT32, FLOAT64))]
    assert len({form.digest for form in forms}) == len({network_text(form) for form in forms}) == 5
    assert b'"semantics":"float32"' in network_text(forms[3])
    assert replace(forms[3], semantics=FLOAT64).digest != forms[3].digest


def test_what_cannot_be_said_is_refused() -> None:
    """Another format, a network that is one already, numbers that the format does not have: one clear error each."""
    net = Network.from_arrays([([[1.0]], [0.0])])
    with pytest.raises(InputError, match=r"computes in float64.*float32"):
        deployed(replace(net, format="float64"), FLOAT32)
    with pytest.raises(InputError, match="Gemm"):
        deployed(replace(net, only_real="a Gemm has an alpha"), FLOAT32)
    with pytest.raises(InputError, match="already"):
        deployed(deployed(net, FLOAT32), FLOAT32)
    with pytest.raises(InputError, match="already"):
        verify(deployed(net, FLOAT32), Query.always(Box([0], [1]), outputs(1)[0] <= 2, 1))
    with pytest.raises(InputError, match="beyond the largest float16"):
        deployed(Network.from_arrays([([[1e5]], [0.0])]), FLOAT16)
    with pytest.raises(InputError, match="row 1 of layer 0"):
        deployed(Network((Affine(np.eye(2), [0.0, 0.1], [0, 0]),)), FLOAT32)
    with pytest.raises(InputError, match="roundings in float16"):
        deployed(Network((Affine([[1.0]], [0.0], [10**6]),)), FLOAT16)


def box(low: float, high: float, n: int = 1) -> Interval:
    """Return a cube."""
    return Interval(np.full(n, low), np.full(n, high))


def test_overflow_is_found_where_a_partial_sum_may_overflow() -> None:
    """The sum of absolute values counts, not what is left after cancellation."""
    big = 2.0**127
    net = deployed(Network((Affine([[big, -big]], [0.0]),)), FLOAT32)
    assert "overflow is possible: layer 0, row 0" in overflow(net, box(1.0, 1.0, 2))
    assert overflow(net, box(0.25, 0.25, 2)) == ""
    assert overflow(Network((Affine([[big, -big]], [0.0]),)), box(1.0, 1.0, 2)) == ""  # over the reals


def test_overflow_counts_a_sum_before_its_mean() -> None:
    """A mean of 1000 float16 numbers of 100 is 100, but their sum is beyond 65504."""
    mean = Network((Affine(np.full((1, 1000), 2.0**-10), [0.0]),))
    assert "overflow" in overflow(deployed(mean, FLOAT16), box(0.0, 100.0, 1000))
    assert overflow(deployed(mean, FLOAT16), box(0.0, 10.0, 1000)) == ""
    uneven = Network((Affine(np.append(np.full((1, 999), 2.0**-10), [[2.0**-9]], axis=1), [0.0]),))
    assert overflow(deployed(uneven, FLOAT16), box(0.0, 100.0, 1000)) == ""


def test_overflow_is_carried_through_steps_without_cancellation() -> None:
    """A runtime that folds a shift and a scale multiplies the shift alone."""
    shift, scale = Affine([[1.0]], [-20_000.0]), Affine([[4.0]], [0.0])
    assert "layer 1" in overflow(deployed(Network((shift, scale)), FLOAT16), box(19_000.0, 20_000.0))
    assert overflow(deployed(Network((shift, Relu([True]), scale)), FLOAT16), box(19_000.0, 20_000.0)) == ""


def test_a_large_value_that_meets_a_subnormal_weight_is_not_covered() -> None:
    """Flushing the weight to zero may do anything there; with moderate values it is in the band."""
    net = Network((Affine([[2.0**-140]], [0.0]),))
    assert "subnormal weight" in overflow(deployed(net, FLOAT32), box(0.0, 2.0**70))
    x = np.array([2.0**60])
    assert overflow(deployed(net, FLOAT32), Interval(x, x)) == ""
    low, high = band(np.array([2.0**-140]), 0.0, x, FLOAT32)
    results = every_result([2.0**-140], x.tolist(), 0.0, FLOAT32, flush=True)
    assert results == {0, Fraction(2) ** -80}
    assert low <= 0 < Fraction(2) ** -80 <= high


def test_nothing_finite_is_known_of_an_unbounded_region() -> None:
    """Infinite ends, which arithmetic on them may turn into NaN, count as overflow."""
    net = deployed(Network((Affine([[1.0, -1.0]], [0.0]),)), FLOAT32)
    assert "overflow" in overflow(net, box(-np.inf, np.inf, 2))
    assert "overflow" in overflow(net, box(-1e300, 1e300, 2))
