"""Smaller defects, each found by somebody who looked for them."""

from __future__ import annotations

import functools
import json
import operator
import time
from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from optverify import Box, Linear, Network, Query, Verdict, load, outputs, verify
from optverify.network import Affine
from optverify.query import Case


def test_hundreds_of_alternatives_joined_one_by_one() -> None:
    """Joining 2,000 atoms with | neither recurses nor loses one."""
    y = outputs(2001)
    condition = functools.reduce(operator.or_, [y[j] >= y[0] for j in range(1, 2001)])
    assert condition.count_cases() == 2000
    assert len((~condition).cases()) == 1
    assert len(Query.never(Box([0], [1]), condition, 2001).cases) == 2000


def test_answers_with_huge_fractions_have_a_json_form() -> None:
    """A witness whose exact output has thousands of digits still prints."""
    network = Network(tuple(Affine([[1e-300]], [0.0]) for _ in range(30)))
    answer = verify(network, Query.never(Box([1], [2]), outputs(1)[0] <= 1, 1))
    assert answer.verdict is Verdict.FALSIFIED
    assert json.dumps(answer.to_dict(), allow_nan=False)


def test_floats_in_linear_expressions_are_read_exactly() -> None:
    """Coefficients given as floats become the rationals that they are."""
    linear = Linear({("Y", 0): 0.1, ("X", 0): 0.0}, -0.5)
    assert linear.terms == {("Y", 0): Fraction(0.1)}
    assert linear.constant == Fraction(-1, 2)


def test_points_whose_floating_value_is_wrong_are_found() -> None:
    """2**53 swallows x in floating point; exact evaluation of the best point finds the counterexample."""
    network = Network((Affine([[1.0]], [2.0**53]), Affine([[1.0]], [-(2.0**53)])))
    query = Query.never(Box(["-0.5"], ["-0.45"]), outputs(1)[0] <= "-0.3", 1)
    assert verify(network, query, time_limit=1).verdict is Verdict.FALSIFIED


def test_the_time_limit_holds_for_a_thousand_regions() -> None:
    """The attack looks at the clock too: it does not begin on most of the regions."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays([(rng.normal(size=(20, 5)), np.zeros(20)), (rng.normal(size=(2, 20)), np.zeros(2))])
    atom = outputs(2)[0] <= -1000
    cases = [Case(Box.around(rng.normal(size=5), 1, clip=None), (atom,)) for _ in range(1000)]
    started = time.process_time()
    assert verify(network, Query(tuple(cases), 5, 2), time_limit=0.2).verdict is Verdict.UNKNOWN
    assert time.process_time() - started < 10


def test_a_solver_that_refuses_the_program_does_not_end_the_search() -> None:
    """Weights beyond 1e15, which HiGHS does not take: the search goes on without it."""
    rng = np.random.default_rng(1)
    steps = [(rng.normal(size=s), rng.normal(size=s[0])) for s in [(6, 2), (5, 6), (1, 5)]]
    least = Network.from_arrays(steps)(rng.uniform(-1, 1, (20_000, 2))).min() - 0.3
    scaled = [(steps[0][0] * 2.0**54, steps[0][1] * 2.0**54), (steps[1][0] * 2.0**-54, steps[1][1]), steps[2]]
    query = Query.never(Box([-1, -1], [1, 1]), outputs(1)[0] <= float(least), 1)
    assert verify(Network.from_arrays(scaled), query, time_limit=30).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("follower", ["Abs", "Relu", "Neg"])
def test_scalars_from_gather(tmp_path_factory: pytest.TempPathFactory, follower: str) -> None:
    """Gather with a scalar index gives a value without axes, which any operator takes."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Gather", ["flat", "one"], ["g"]),
        helper.make_node(follower, ["g"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array([3]), "shape"), numpy_helper.from_array(np.array(1), "one")],
    )
    path = tmp_path_factory.mktemp("gather") / "g.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    expected = {"Abs": 2.0, "Relu": 0.0, "Neg": 2.0}[follower]
    assert load(path)([1.0, -2.0, 3.0]).tolist() == [expected]
