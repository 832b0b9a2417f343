"""Concrete executions: bit for bit what the arithmetic of the format gives, and within the band."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optverify.deployment import deployed, overflow
from optverify.executions import ORDERS, Executor, multiply_add, representable
from optverify.expressions import outputs
from optverify.interval import Interval
from optverify.io import load
from optverify.io.lowering import Builder
from optverify.network import Affine, Network
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Semantics
from optverify.verify import verify
from tests.every_execution import every_result, rounded

FORMATS = [FLOAT16, BFLOAT16, FLOAT32, FLOAT64]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_multiply_add_rounds_once(semantics: Semantics, data: st.DataObject) -> None:
    """Against integers, with addends far larger and far smaller than the product."""
    draw = st.floats(-(2.0**7), 2.0**7).map(lambda v: float(semantics.round(v)))
    a, b = data.draw(draw), data.draw(draw)
    c = float(semantics.round(data.draw(draw) * 2.0 ** data.draw(st.integers(-30, 7))))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    found = multiply_add(*(np.array([v]) for v in (a, b, c)), semantics)
    expected = rounded(exact, semantics)
    assert abs(expected) > semantics.largest or Fraction(float(found[0])) == expected


@pytest.mark.parametrize("semantics", FORMATS, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_each_order_is_one_of_all_executions(semantics: Semantics, order: str) -> None:
    """On tiny rows the result is among those that brute force finds."""
    rng = np.random.default_rng(5)
    for _ in range(12):
        weights, x = semantics.round(rng.normal(size=3)), semantics.round(rng.normal(size=3) * 8)
        bias = float(semantics.round(rng.normal()))
        net = deployed(Network((Affine(weights[None], [bias]),)), semantics)
        executor = Executor(net)
        if order not in executor.orders():
            continue
        if order == "torch" and semantics.digits < 24:  # its accumulator is wider
            [(low, high)] = net.enclose([Fraction(v) for v in x.tolist()])
            assert low <= Fraction(executor(x, order)[0].item()) <= high
            continue
        found = Fraction(executor(x, order)[0].item())
        flush = order == "flush to zero"
        fused = order in ("fused multiply-add", "numpy", "torch")
        assert found in every_result(weights.tolist(), x.tolist(), bias, semantics, fused=fused, flush=flush)


@pytest.mark.parametrize("semantics", FORMATS, ids=str)
def test_torch_is_torch(semantics: Semantics) -> None:
    """A module in the format gives bit for bit what the order says, for one sample or several."""
    import torch

    rng, dtype = np.random.default_rng(1), getattr(torch, semantics.name)
    steps = [(semantics.round(rng.normal(size=s)), semantics.round(rng.normal(size=s[0]))) for s in ((30, 40), (3, 30))]
    first, last = (torch.nn.Linear(*w.shape[::-1]).to(dtype) for w, _ in steps)
    with torch.no_grad():
        for layer, (w, b) in zip((first, last), steps, strict=True):
            layer.weight.copy_(torch.tensor(w))
            layer.bias.copy_(torch.tensor(b))
        executor, points = (
            Executor(deployed(Network.from_arrays(steps), semantics)),
            semantics.round(rng.normal(size=(3, 40))),
        )
        for x, y in zip(points, executor(points, "torch"), strict=True):
            expected = last(torch.relu(first(torch.tensor(x[None]).to(dtype))))[0].double()
            assert expected.tolist() == y.tolist() == executor(x, "torch").tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_orders_agree_with_native_arithmetic(kind: type) -> None:
    """Left to right, and from the bias on, is what numpy's accumulate does in the type itself, layer after layer."""
    rng = np.random.default_rng(2)
    steps = [(rng.normal(size=s).astype(kind), rng.normal(size=s[0]).astype(kind)) for s in ((9, 5), (7, 9), (2, 7))]
    net = deployed(Network.from_arrays(steps), FLOAT32 if kind is np.float32 else FLOAT64)
    points = rng.normal(size=(6, 5)).astype(kind)
    for order, first in (("left to right", False), ("bias first", True)):
        for x, y in zip(points, Executor(net)(points.astype(np.float64), order), strict=True):
            a = x
            for k, (weight, bias) in enumerate(steps):
                terms = [bias[:, None], weight * a] if first else [weight * a, bias[:, None]]
                z = np.add.accumulate(np.concatenate(terms, axis=1), axis=1, dtype=kind)[:, -1]
                a = np.maximum(z, 0) if k < 2 else z
            assert a.astype(np.float64).tolist() == y.tolist()


@pytest.mark.parametrize("semantics", FORMATS, ids=str)
def test_all_orders_stay_in_the_band_of_deep_networks(semantics: Semantics) -> None:
    """Random networks with maxima, leaky slopes, means and divisions: every order lies in the exact enclosure."""
    rng = np.random.default_rng(7)
    for _ in range(4):
        build = Builder(4)
        hidden = build.affine(
            semantics.round(rng.normal(size=(6, 4))), build.inputs, semantics.round(rng.normal(size=6))
        )
        leaky = build.leaky(hidden[:2], float(semantics.round(0.3)))
        largest = build.maximum(hidden[2:4], hidden[4:])
        mean = build.mean(np.concatenate([leaky, largest])[None, :3])
        parts = np.concatenate([leaky, largest, mean, build.divide(mean, 7.0), build.inputs[:1]])
        net = deployed(build.network(build.affine(semantics.round(rng.normal(size=(3, parts.size))), parts)), semantics)
        executor = Executor(net)
        for x in semantics.round(rng.normal(size=(4, 4))):
            ends = net.enclose([Fraction(v) for v in x.tolist()])
            assert overflow(net, Interval(x, x)) == ""
            for order in executor.orders():
                y = executor(x, order)
                assert semantics.holds(y).all()
                for (low, high), value in zip(ends, y.tolist(), strict=True):
                    assert low <= Fraction(value) <= high


def test_a_leaky_slope_rounds_once_and_not_where_it_is_not_used() -> None:
    """A value above 0 comes out as it is; below 0 it is one rounded product."""
    build = Builder(1)
    net = build.network(build.leaky(build.inputs, float(np.float32(0.1))))
    executor = Executor(deployed(net, FLOAT32))
    for x in (np.float32(0.7), np.float32(-0.7), np.float32(3e-5)):
        expected = x if x > 0 else x * np.float32(0.1)
        assert executor(np.array([float(x)]), "left to right").tolist() == [float(expected)]


def test_overflow_is_no_number() -> None:
    """An execution that overflows gives infinity or NaN, and no warning."""
    net = deployed(Network((Affine([[2.0**100]], [0.0]), Affine([[2.0**100]], [0.0]))), FLOAT32)
    for order in Executor(net).orders():
        assert not np.isfinite(Executor(net)(np.ones(1), order)).any()


def test_points_are_numbers_of_the_format() -> None:
    """A point is moved to one inside the exact region; a region without one has none."""
    region = Box(["0.1", "0.3"], ["0.2", "0.3000001"])
    x = representable(region, [0.1, 0.3], FLOAT32)
    assert x is not None
    assert FLOAT32.holds(x).all()
    assert region.contains([Fraction(v) for v in x.tolist()])
    assert representable(Box(["0.1"], ["0.1"]), [0.1], FLOAT32) is None


def test_a_runtime_may_be_the_only_one_to_violate(tmp_path: Path) -> None:
    """The own result of onnxruntime of the original file counts where it lies in the band, and is named."""
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(1, 400)).astype(np.float32), rng.normal(size=400).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 400])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    path = tmp_path / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    net = load(path)
    assert net.format == "float32"
    point = [float(v) for v in x]
    ours = {float(Executor(deployed(net, FLOAT32))(np.array(point), order)[0]) for order in ORDERS}
    least = min(ours)
    answer = verify(net, Query.always(Box(point, point), outputs(1)[0] > least, 1), semantics="float32")
    assert answer.verdict is Verdict.FALSIFIED
    assert answer.witness is not None
    assert answer.replay[0].runtime.startswith("onnxruntime")
    below = verify(net, Query.always(Box(point, point), outputs(1)[0] >= least, 1), semantics="float32")
    # Whether the runtime is below all our orders depends on the machine; never is it said to be proved.
    assert below.verdict is not Verdict.VERIFIED
