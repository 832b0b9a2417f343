"""The search: covers, attacks, and verdicts that survive a lying solver and a foolish strategy."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from optverify import Box, Network, Query, Verdict, outputs, verify
from optverify.bounds.crown import crown, output_bounds
from optverify.formulations.program import Program
from optverify.interval import Interval
from optverify.preactivation import Bounds
from optverify.proof import InputSplit, NeuronSplit, Split
from optverify.safe.multipliers import Frame, LinearBounds, Slopes
from optverify.search.attack import Best, evaluate, forward, gradients, projected_gradient
from optverify.search.branching import Hybrid, Nodes, best_neurons
from optverify.search.mixing import mixing_weights
from optverify.search.node import Node, divide
from optverify.solvers.scripted import Scripted
from optverify.solvers.solution import Solution, Status
from tests import oracle
from tests.strategies import boxes, duals, networks


def random_network(seed: int, *sizes: int) -> Network:
    """Make a fully connected network."""
    rng = np.random.default_rng(seed)
    return Network.from_arrays([(rng.normal(size=(m, n)), rng.normal(size=m)) for n, m in pairwise(sizes)])


@settings(max_examples=100, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_a_lying_solver_cannot_forge_a_verdict(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With garbage for every dual, ray, point, objective and status, no verdict contradicts the exact optimum."""
    network = data.draw(networks(odd=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs))
    region = Box(tuple(box.lower.tolist()), tuple(box.upper.tolist()))
    least = oracle.minimum(
        oracle.read(network), region.lower, region.upper, [Fraction(1)] + [Fraction(0)] * (network.n_outputs - 1)
    )
    margin = data.draw(st.sampled_from([Fraction(1, 100), Fraction(0), Fraction(-1, 100)]))
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    kinds = data.draw(st.lists(st.sampled_from(list(Status)), min_size=1, max_size=4))
    sample = data.draw(duals(7))

    def vector(size: int) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            base = np.resize(np.ones(1) if sample is None else sample, size)
            return np.asarray(base * rng.normal(size=size))

    def answer(program: Program) -> Solution:
        return Solution(
            kinds[int(rng.integers(len(kinds)))],
            "scripted",
            objective=float(rng.choice([math.nan, -1e300, 0.0, 5.0])),
            primal=vector(program.n_variables),
            dual=vector(program.n_rows),
            ray=vector(program.n_rows),
        )

    query = Query.never(region, outputs(network.n_outputs)[0] <= least - margin, network.n_outputs)
    path = str(tmp_path_factory.mktemp("proof") / "proof") if data.draw(st.booleans()) else None
    answered = verify(network, query, solver=Scripted(answer), time_limit=2, certificate=path)
    assert answered.verdict is not (Verdict.FALSIFIED if margin > 0 else Verdict.VERIFIED)
    assert answered.bound is None or Fraction(answered.bound) <= margin


class Foolish:
    """A strategy that splits at random, and sometimes where there is nothing to split."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def wants_program(self, unstable: int) -> bool:
        """Now and then."""
        return bool(self.rng.random() < 0.3) and unstable >= 0

    def choose(self, nodes: Nodes) -> list[Split | None]:
        """Split an input anywhere, or any neuron, stable ones too."""
        region, splits = nodes.frame.region, []
        for b in range(region.lower.shape[0]):
            i = int(self.rng.integers(region.lower.shape[1]))
            low, high = float(region.lower[b, i]), float(region.upper[b, i])
            split: Split | None = InputSplit(i, low + (high - low) * float(self.rng.random()))
            k = [k for k, z in enumerate(nodes.bounds.layers) if z.lower.shape[1]]
            if k and self.rng.random() < 0.5:
                relu = int(self.rng.choice(k))
                mask = np.flatnonzero(nodes.frame.network.layers[nodes.frame.network.relus[relu]].mask)
                split = NeuronSplit(relu, int(self.rng.choice(mask))) if mask.size else split
            splits.append(None if self.rng.random() < 0.01 else split)
        return splits


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_a_foolish_strategy_cannot_forge_a_verdict(data: st.DataObject) -> None:
    """Random splits give a right verdict or none."""
    network = data.draw(networks(odd=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs))
    region = Box(tuple(box.lower.tolist()), tuple(box.upper.tolist()))
    group = range(network.n_outputs)
    least = oracle.minimum_of_largest(oracle.read(network), region.lower, region.upper, group)
    margin = data.draw(st.sampled_from([Fraction(1, 10), Fraction(0), Fraction(-1, 10)]))
    unsafe = outputs(network.n_outputs)[0] <= least - margin
    for row in outputs(network.n_outputs)[1:]:
        unsafe = unsafe & (row <= least - margin)
    query = Query.never(region, unsafe, network.n_outputs)
    answer = verify(network, query, strategy=Foolish(data.draw(st.integers(0, 999))), time_limit=1)
    assert answer.verdict is not (Verdict.FALSIFIED if margin > 0 else Verdict.VERIFIED)
    assert answer.bound is None or Fraction(answer.bound) <= margin


@given(st.floats(-1, 0.5), st.floats(0.5, 1), st.floats(0, 1))
def test_input_splits_cover_their_node(low: float, high: float, at: float) -> None:
    """Every point of a node is in a child."""
    node = Node(np.array([low, 0.0]), np.array([high, 1.0]), (), (0,), -np.inf, 3)
    cut = low + at * (high - low)
    left, right = divide(node, InputSplit(0, cut))
    for x in (low, high, cut, 0.5 * low + 0.5 * high):
        assert any(child.lower[0] <= x <= child.upper[0] for child in (left, right))
    assert left.share + right.share == node.share
    assert node.lower[0] == low
    assert node.upper[0] == high


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_neuron_splits_cover_their_node(a: float, b: float) -> None:
    """Every pre-activation of a node is in a child, also where the neuron was stable."""
    low, high = min(a, b), max(a, b)
    layers = (Interval(np.array([low, -1.0]), np.array([high, 1.0])),)
    node = Node(np.zeros(1), np.ones(1), layers, (0,), -np.inf, 0)
    children = divide(node, NeuronSplit(0, 0))
    for z in (low, high, min(max(0.5 * low + 0.5 * high, low), high)):
        assert any(c.layers[0].lower[0] <= z <= c.layers[0].upper[0] for c in children)
    assert layers[0].lower[0] == low


def test_gradients_agree_with_differences() -> None:
    """Backpropagation gives the slope of the piecewise-linear function."""
    network = random_network(0, 3, 10, 10, 2)
    rng = np.random.default_rng(1)
    x, v = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    step = 1e-7
    slope = gradients(network, forward(network, x), v)
    for i in range(3):
        moved = x.copy()
        moved[:, i] += step
        difference = ((network(moved) - network(x)) * v).sum(axis=1) / step
        np.testing.assert_allclose(difference, slope[:, i], rtol=1e-4, atol=1e-4)


def test_descent_stays_inside_and_improves() -> None:
    """Projected gradient never leaves the region and beats its starting points."""
    network = random_network(2, 4, 20, 20, 1)
    region = Box.around(np.zeros(4), 1, clip=None)
    (goal,) = Query.never(region, outputs(1)[0] <= -1e9, 1).goals(network)
    start = np.random.default_rng(0).uniform(-1, 1, (8, 4))
    best = Best()
    evaluate(goal, start, best)
    before = best.value
    projected_gradient(goal, region.outward, start, best, stop_at=-np.inf)
    assert best.value < before
    assert best.point is not None
    assert (np.abs(best.point) <= 1).all()


def test_best_ignores_nan() -> None:
    """A NaN value never counts as better."""
    best = Best()
    assert not best.offer(math.nan, np.zeros(1))
    assert best.offer(1.0, np.zeros(1))
    assert not best.offer(2.0, np.ones(1))


def test_mixing_weights_close_what_single_rows_cannot() -> None:
    """The rows x and 1 - x are never both <= 0: their mean shows it on [-1, 1] where neither row alone does."""
    rows = LinearBounds(np.array([[-1.0, 0.0]]), np.array([[[1.0], [-1.0]]]), np.array([[0.0, 1.0]]))
    region = Interval(np.array([[-1.0]]), np.array([[1.0]]))
    mu = mixing_weights(rows, region, steps=200)
    value = (mu @ np.array([0.0, 1.0])) - abs(mu @ np.array([1.0, -1.0]))
    assert value[0] > 0.3
    assert (mu >= 0).all()


def test_strategy_splits_few_inputs_and_many_neurons() -> None:
    """Inputs where there are few of them and many unstable neurons, neurons otherwise."""
    network = random_network(0, 4, 30, 30, 1)
    region = Interval(np.full((1, 4), -1.0), np.full((1, 4), 1.0))
    bounds, frame = crown(network, region)
    rows = frame.lower(np.eye(1), lambda _relu, v, _z: v)
    nodes = Nodes(frame, bounds, rows, np.ones((1, 1)))
    assert isinstance(Hybrid().choose(nodes)[0], InputSplit)
    assert isinstance(Hybrid(few_inputs=3).choose(nodes)[0], NeuronSplit)
    assert isinstance(Hybrid(few_neurons=1000).choose(nodes)[0], NeuronSplit)


def test_the_neuron_whose_worse_half_is_best_is_chosen() -> None:
    """With all neurons on trial the choice is that of trying each by itself."""
    network = random_network(3, 4, 8, 8, 2)
    region = Interval(np.array([[-1.0] * 4, [-0.3] * 4]), np.array([[1.0] * 4, [0.9] * 4]))
    bounds, frame = crown(network, region)
    nodes = Nodes(frame, bounds, output_bounds(frame), np.array([[1.0, 0.0], [1.0, 0.0]]))
    unstable = bounds.unstable(network)
    chosen = best_neurons(nodes, [np.where(u, 1.0, -1.0) for u in unstable], np.arange(2), 1000)
    for b in range(2):
        worth = {}
        for k, u in enumerate(unstable):
            for j in np.flatnonzero(u[b]).tolist():
                halves = []
                for side in range(2):
                    layers = [Interval(z.lower[b : b + 1].copy(), z.upper[b : b + 1].copy()) for z in bounds.layers]
                    (layers[k].lower if side else layers[k].upper)[0, j] = 0.0
                    half = Frame.of(network, region.take([b]), Bounds(tuple(layers)))
                    halves.append(float(half.lower(np.eye(1, 2), Slopes()).value[0, 0]))
                worth[NeuronSplit(k, j)] = min(halves) + 0.1 * max(halves)
        assert worth[chosen[b]] == pytest.approx(max(worth.values()), abs=1e-9)
