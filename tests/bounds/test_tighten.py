"""Programs as advice: tightened bounds and relaxations stay rigorous whatever the solver says."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.bounds.crown import crown
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.bounds.tighten import tighten
from optverify.errors import InputError
from optverify.formulations import FORMULATIONS
from optverify.formulations.encoder import Largest, Weighted
from optverify.formulations.program import Program
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import Bounds
from optverify.solvers.scripted import Scripted
from optverify.solvers.solution import Solution, Status
from tests import oracle
from tests.strategies import boxes, duals, networks, points


def fractions(ends: np.ndarray) -> list[Fraction]:
    """Return floats as rationals."""
    return [Fraction(v) for v in ends.tolist()]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tightened_bounds_contain_every_trace(data: st.DataObject) -> None:
    """LP tightening never cuts off a reachable pre-activation and never loosens a bound."""
    network = data.draw(
        networks(
            max_neurons=6,
            slack=data.draw(st.booleans()),
            absolute=data.draw(st.booleans()),
            odd=data.draw(st.booleans()),
        )
    )
    box = data.draw(boxes(network.n_inputs))
    before = crown(network, box.take(None))[0].take(0)
    after = tighten(network, box, before)
    x = data.draw(points(box))
    values = oracle.trace(oracle.read(network), x)
    for k, position in enumerate(network.relus):
        z, old = after.layers[k], before.layers[k]
        assert all(
            (low == -math.inf or Fraction(low) <= v) and (high == math.inf or v <= Fraction(high))
            for low, high, v in zip(z.lower.tolist(), z.upper.tolist(), values[position], strict=True)
        )
        assert (z.lower >= old.lower).all()
        assert (z.upper <= old.upper).all()


def random_network(seed: int, *sizes: int) -> Network:
    """Make a fully connected network."""
    rng = np.random.default_rng(seed)
    return Network.from_arrays([(rng.normal(size=(m, n)), rng.normal(size=m)) for n, m in pairwise(sizes)])


def test_tightening_gains() -> None:
    """On a network of three layers the programs improve bounds of the later ones."""
    network = random_network(0, 3, 8, 8, 8, 1)
    box = Interval(np.full(3, -1.0), np.full(3, 1.0))
    before = crown(network, box.take(None))[0].take(0)
    after = tighten(network, box, before)
    gained = [
        float((old.upper - old.lower).sum() - (z.upper - z.lower).sum())
        for old, z in zip(before.layers, after.layers, strict=True)
    ]
    assert gained[0] == 0.0
    assert min(gained[1:]) > 0.1


def test_tightening_respects_its_limit() -> None:
    """Without time nothing changes."""
    network = random_network(0, 3, 8, 8, 1)
    box = Interval(np.full(3, -1.0), np.full(3, 1.0))
    before = crown(network, box.take(None))[0].take(0)
    after = tighten(network, box, before, time_limit=0.0)
    assert all((a.lower == b.lower).all() for a, b in zip(after.layers, before.layers, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(FORMULATIONS)))
def test_garbage_duals_and_rays_keep_bounds_sound(data: st.DataObject, formulation: str) -> None:
    """Whatever vectors a solver leaves, under whatever status, the bound is below the exact optimum."""
    network = data.draw(networks(odd=data.draw(st.booleans()), scaled=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs))
    bounds = crown(network, box.take(None))[0].take(0)
    c = np.array([float(data.draw(st.integers(-2, 2))) for _ in range(network.n_outputs)])
    group = tuple(range(network.n_outputs))
    objective = data.draw(st.sampled_from([Weighted(c), Largest(group)]))

    def answer(program: Program) -> Solution:
        return Solution(
            data.draw(st.sampled_from(list(Status))),
            "scripted",
            objective=data.draw(st.floats()),
            primal=data.draw(duals(program.n_variables)),
            dual=data.draw(duals(program.n_rows)),
            ray=data.draw(duals(program.n_rows)),
        )

    found = relaxed(frame_of(network, box, bounds), bounds, objective, Scripted(answer), formulation=formulation)
    steps, lower, upper = oracle.read(network), fractions(box.lower), fractions(box.upper)
    if isinstance(objective, Weighted):
        exact = oracle.minimum(steps, lower, upper, fractions(c))
    else:
        exact = oracle.minimum_of_largest(steps, lower, upper, group)
    assert not math.isnan(found.lower)
    assert found.lower == -math.inf or Fraction(found.lower) <= exact
    assert found.point is None or ((box.lower <= found.point) & (found.point <= box.upper)).all()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_true_duals_reach_the_claim(data: st.DataObject) -> None:
    """With HiGHS's own duals the bound equals the program's optimum but for rounding, and never exceeds the oracle."""
    network = data.draw(networks())
    box = data.draw(boxes(network.n_inputs))
    bounds = crown(network, box.take(None))[0].take(0)
    group = tuple(range(network.n_outputs))
    found = relaxed(frame_of(network, box, bounds), bounds, Largest(group), "highs")
    exact = oracle.minimum_of_largest(oracle.read(network), fractions(box.lower), fractions(box.upper), group)
    assert Fraction(found.lower) <= exact
    assert found.solution.status is Status.OPTIMAL
    assert found.lower >= found.solution.objective - 1e-6 * max(1.0, abs(found.solution.objective))


def test_a_crash_is_a_failed_attempt() -> None:
    """A solver that raises leaves no bound and no exception."""
    network = random_network(1, 2, 4, 1)
    box = Interval(np.full(2, -1.0), np.full(2, 1.0))
    bounds = crown(network, box.take(None))[0].take(0)
    crash = Scripted([RuntimeError("segmentation fault, nearly")])
    found = relaxed(frame_of(network, box, bounds), bounds, Weighted(np.ones(1)), crash)
    assert found.lower == -math.inf
    assert found.solution.status is Status.FAILED
    with pytest.raises(InputError, match="there is no formulation"):
        relaxed(frame_of(network, box, bounds), bounds, Weighted(np.ones(1)), "highs", formulation="magic")


def test_an_empty_node_is_proved_empty_by_a_ray() -> None:
    """Contradictory splits on two equal neurons: the ray's multipliers prove that no point is left."""
    network = Network.from_arrays([([[1.0], [1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [1.0])])
    box = Interval(np.array([-1.0]), np.array([1.0]))
    split = Bounds((Interval(np.array([0.5, -1.0]), np.array([1.0, 0.0])),))
    found = relaxed(frame_of(network, box, split), split, Weighted(np.ones(1)), "highs")
    assert found.solution.status is Status.INFEASIBLE
    assert found.lower == math.inf
