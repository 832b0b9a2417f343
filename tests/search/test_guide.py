"""The mixed-integer guide: asked about the whole region and about subtrees, believed by nobody."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from optverify import Box, Network, Query, Verdict, outputs, verify
from optverify.interval import Array, Interval
from optverify.proof import InputSplit
from optverify.search import cascade
from optverify.search import guide as guides
from optverify.search.guide import FEW_UNSTABLE, guide, stubborn
from optverify.search.node import Node, divide
from tests import oracle


def problem(seed: int, least: float = 0.0) -> tuple[Network, Query]:
    """Make a small network and ask whether its output can be at most `least`."""
    rng = np.random.default_rng(seed)
    steps = [(rng.normal(size=(m, n)), rng.normal(size=m)) for n, m in ((2, 6), (6, 6), (6, 1))]
    return Network.from_arrays(steps), Query.never(Box([-1, -1], [1, 1]), outputs(1)[0] <= least, 1)


@pytest.mark.parametrize("seed", range(4))
def test_a_subtree_is_minimised(seed: int) -> None:
    """The claim about one half of a region is that half's optimum, and the point is in it."""
    network, query = problem(seed, -1e3)
    query = Query.never(query.cases[0].region, outputs(1)[0] <= 1e3, 1)  # so that no bound closes it
    (goal,) = query.goals(network)
    _, half = divide(Node.root(goal), InputSplit(0, 0.25))
    points: list[Array] = []

    def offer(x: Array) -> bool:
        points.append(x)
        return False

    claim = guide(goal, half, "highs", time.monotonic() + 60, offer)
    low, high = [Fraction(1, 4), Fraction(-1)], [Fraction(1), Fraction(1)]
    exact = oracle.minimum(oracle.read(network), low, high, [Fraction(1)]) - 1000
    assert claim == pytest.approx(float(exact), abs=1e-5)
    assert points
    assert all(x[0] >= 0.25 - 1e-9 for x in points)


def test_the_stubborn_node_is_small_and_has_the_least_bound() -> None:
    """Nodes with many unstable neurons, and those of which nothing is known, are passed over."""
    rng = np.random.default_rng(0)
    size = 2 * FEW_UNSTABLE
    network = Network.from_arrays([(rng.normal(size=(size, 2)), np.zeros(size)), (np.ones((1, size)), [0.0])])
    (goal,) = Query.never(Box([-1, -1], [1, 1]), outputs(1)[0] <= 0, 1).goals(network)
    root = Node.root(goal)
    wide = replace(root, layers=(Interval(-np.ones(size), np.ones(size)),), value=-9.0)
    small = replace(root, layers=(Interval(np.r_[-1.0, np.zeros(size - 1)], np.ones(size)),), value=-2.0)
    better = replace(small, value=-1.0)
    assert stubborn(goal, [root, wide, better, small]) is small
    assert stubborn(goal, [root, wide]) is None


@pytest.mark.parametrize("seed", range(6))
def test_verdicts_do_not_depend_on_the_guide(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked all the time or never, the answer is the same; the claim is only ever a claim."""
    network, query = problem(seed)
    exact = oracle.minimum(oracle.read(network), [Fraction(-1)] * 2, [Fraction(1)] * 2, [Fraction(1)])
    query = Query.never(query.cases[0].region, outputs(1)[0] <= exact - Fraction(seed % 2 * 2 - 1, 1000), 1)
    never = verify(network, query, solver=None)
    monkeypatch.setattr(cascade, "GUIDE_AFTER", 1)
    monkeypatch.setattr(cascade, "GUIDE_AGAIN", 2)
    asked: list[int] = []

    def watched(*arguments: object) -> float:
        node = arguments[1]
        assert isinstance(node, Node)
        asked.append(node.depth)
        return guides.guide(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cascade, "guide", watched)
    often = verify(network, query)
    assert often.verdict is never.verdict is (Verdict.VERIFIED if seed % 2 else Verdict.FALSIFIED)
    if often.verdict is Verdict.VERIFIED:
        assert asked[0] == 0
        assert often.claim is None or math.isfinite(often.claim)
