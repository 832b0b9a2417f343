"""Any solver behind the two questions: verdicts and proved bounds do not depend on whom it is."""

from __future__ import annotations

from math import isnan
from time import monotonic

import pytest

from optverify import Box, bound, load, load_property, verify
from optverify.results import Verdict
from optverify.search.guide import guide
from optverify.search.node import Node
from optverify.solvers import get

CARTPOLE = ("examples/cartpole/controller.onnx", "examples/cartpole/leans_right.vnnlib")
SOLVERS = ["highs", "clarabel", "scs", "cvxpy", "cvxpy:CLARABEL", "pyomo", "auto"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_verify(solver: str) -> None:
    """Proved whoever is asked: few nodes, so that no guide is asked for a claim."""
    answer = verify(load(CARTPOLE[0]), load_property(CARTPOLE[1]), solver=solver, time_limit=60.0)
    assert answer.verdict is Verdict.VERIFIED
    assert answer.solver == solver
    assert answer.claim is None


@pytest.mark.parametrize("solver", SOLVERS)
def test_guide(solver: str) -> None:
    """A solver that takes integers makes a claim; one that does not is no guide, and no error."""
    (goal,) = load_property(CARTPOLE[1]).goals(load(CARTPOLE[0]))
    claim = guide(goal, Node.root(goal), solver, monotonic() + 60.0, lambda _: False)
    assert isnan(claim) == (not get(solver).mixed_integer or solver == "cvxpy:CLARABEL")


@pytest.mark.parametrize("solver", SOLVERS)
def test_bound(solver: str) -> None:
    """The optimum of the relaxation, proved from anybody's multipliers, but for what their tolerance costs."""
    network = load(CARTPOLE[0])
    box = Box([-0.1] * network.n_inputs, [0.1] * network.n_inputs)
    ours = bound(network, box, "Y_0", method="triangle", solver="highs")
    theirs = bound(network, box, "Y_0", method="triangle", solver=solver)
    assert theirs.lower <= ours.upper
    assert theirs.lower == pytest.approx(ours.lower, abs=1e-2 if solver == "scs" else 1e-5)
