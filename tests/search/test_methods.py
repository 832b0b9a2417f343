"""The methods are ordered as their relaxations are: on rigorous values, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from optverify.bound import Minimum, bound
from optverify.errors import InputError
from optverify.interval import Interval
from optverify.network import Network
from optverify.query import Goal
from optverify.region import Box
from optverify.search import attack
from optverify.search.methods import METHODS
from optverify.search.task import PREACTIVATION, Task, preactivation_bounds
from optverify.solvers import INTERIOR_POINT
from tests import oracle

CHAINS = (
    ("interval", "crown", "alpha-crown", "triangle", "triangle+tightened"),
    ("triangle", "lifted+cuts"),
    ("alpha-crown", "lifted"),
    ("triangle", "bigm"),
)
"""Each is at most the next; all are at most the exact optimum."""

SLOW = {"triangle+tightened": 26, "lifted": 26, "lifted+cuts": 26, "bigm": 26, "exact": 6}
"""Only every so many times; tests/bounds/test_lifted.py has further networks for lifted relaxations."""

OWN = ("interval", "crown")
"""Without given bounds, all others start from the same as crown does."""


def random_network(rng: np.random.Generator) -> Network:
    """Make a tiny network with one or two hidden layers, of which some neurons are dead, twins or badly scaled."""
    hidden = rng.integers(2, 5, 1) if rng.integers(2) else rng.integers(2, 4, 2)
    sizes = [int(rng.integers(1, 4)), *hidden.tolist(), int(rng.integers(1, 3))]
    steps = []
    for n, m in pairwise(sizes):
        weight, bias = rng.normal(size=(m, n)), 0.3 * rng.normal(size=m)
        if m > 1 and rng.integers(4) == 0:
            weight[0], bias[0] = weight[1], bias[1]
        if rng.integers(6) == 0:
            scale = 10.0 ** rng.integers(-6, 7)
            weight[0], bias[0] = weight[0] * scale, bias[0] * scale
        if rng.integers(8) == 0:
            weight[-1] = 0.0
        steps.append((weight, bias))
    return Network.from_arrays(steps)


def random_task(rng: np.random.Generator) -> Task:
    """Pose the least value of the largest of all outputs over a random box."""
    network = random_network(rng)
    n = network.n_inputs
    centre, radius = 0.3 * rng.normal(size=n), rng.uniform(0, 2, n) * (rng.integers(5, size=n) > 0)
    region = Box((centre - radius).tolist(), (centre + radius).tolist())
    goal = Goal(network, region, (tuple(range(network.n_outputs)),), (0,), ((),))
    target, best = Minimum(goal, 1e-6), attack.Best()
    attack.attack(goal, region.outward, best, rng, samples=32, stop_at=-np.inf)
    assert best.point is not None
    target.offer(best.value, best.point)
    return Task(goal, target, best, "highs", None, None)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_are_ordered_as_relaxations_are(seed: int) -> None:
    """Cheap <= tight <= exact without a tolerance, over each kind of pre-activation bounds of each network."""
    rng = np.random.default_rng(seed)
    gained = dict.fromkeys(METHODS, 0)
    for k in range(40):
        plain = random_task(rng)
        goal = plain.goal
        ends = ([Fraction(v) for v in side] for side in (goal.region.lower, goal.region.upper))
        optimum = oracle.minimum_of_largest(oracle.read(goal.network), *ends, goal.groups[0])
        for turn, kind in enumerate(PREACTIVATION):
            task = replace(plain, bounds=preactivation_bounds(goal, kind))
            found = {
                name: method(replace(task, solver=INTERIOR_POINT) if "lifted" in name else task)
                for name, method in METHODS.items()
                if (k + turn) % SLOW.get(name, 1) == 0 and (kind != "own" or name in OWN)
            }
            lower = {name: answer.lower for name, answer in found.items()}
            for chain in CHAINS:
                for cheap, tight in pairwise(name for name in chain if name in lower):
                    assert lower[cheap] <= lower[tight], (k, kind, cheap, tight, lower)
                    gained[tight] += lower[cheap] < lower[tight]
            assert all(Fraction(value) <= optimum for value in lower.values()), (k, kind, lower, optimum)
            if "exact" in found:
                assert lower["alpha-crown"] <= lower["exact"]
                assert found["exact"].complete
        assert isinstance(plain.target, Minimum)
        assert optimum <= Fraction(plain.target.upper)
    assert all(gained[name] for name in ("crown", "alpha-crown", "triangle")), gained


def test_preactivation_bounds_are_nested_and_have_a_name() -> None:
    """Intervals contain backward bounds, which contain tightened ones."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        goal = random_task(rng).goal
        loose, middle, tight = (preactivation_bounds(goal, kind) for kind in ("interval", "crown", "tightened"))
        assert preactivation_bounds(goal, "own") is None
        assert loose is not None
        assert middle is not None
        assert tight is not None
        for outer, inner in ((loose, middle), (middle, tight)):
            for a, b in zip(outer.layers, inner.layers, strict=True):
                assert _contains(a, b)
    with pytest.raises(InputError, match="bounds must be one of"):
        preactivation_bounds(goal, "guessed")


def _contains(outer: Interval, inner: Interval) -> bool:
    return bool((outer.lower <= inner.lower).all() and (inner.upper <= outer.upper).all())


@pytest.mark.parametrize("method", ["lifted", "lifted+cuts"])
def test_a_relaxation_that_is_too_large_leaves_a_bound(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What there is without it, and who was asked."""
    monkeypatch.setattr("optverify.bounds.lifted.LARGEST", 3)
    network = random_network(np.random.default_rng(0))
    box = Box([-1] * network.n_inputs, [1] * network.n_inputs)
    answer = bound(network, box, "Y_0", method=method)
    assert not answer.complete
    assert answer.solver == INTERIOR_POINT
    assert answer.lower >= bound(network, box, "Y_0", method="crown").lower
