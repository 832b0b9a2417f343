"""The kernel's formula, intervals and trees against exact optima."""

from __future__ import annotations

import io
import json
import random
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optverify import canonical, kernel
from optverify.expressions import Atom, Linear
from optverify.interval import Interval
from optverify.network import Network
from optverify.query import Case, Query
from optverify.region import Box
from optverify.safe.multipliers import Frame, Slopes
from tests import oracle, strategies
from tests.kernel import exact, make_cases, prover

SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def questions(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw a network and a property with up to three cases on up to two boxes; atoms mix X and Y."""
    network = draw(
        strategies.networks(max_neurons=4, slack=draw(st.booleans()), absolute=draw(st.booleans()), odd=True)
    )
    regions = []
    for _ in range(draw(st.integers(1, 2))):
        box = draw(strategies.boxes(network.n_inputs))
        third = draw(st.sampled_from([Fraction(0), Fraction(1, 3)]))  # an end that is not dyadic
        lower = tuple(Fraction(v) - third for v in box.lower.tolist())
        regions.append(Box(lower, tuple(map(Fraction, box.upper.tolist()))))
    number = st.builds(Fraction, st.integers(-4, 4), st.integers(1, 3))
    variables = [("X", i) for i in range(network.n_inputs)] + [("Y", j) for j in range(network.n_outputs)]
    cases = []
    for _ in range(draw(st.integers(1, 3))):
        atoms = []
        for _ in range(draw(st.integers(1, 2))):
            terms = {v: c for v in variables if (c := draw(number))}
            atoms.append(Atom(Linear(terms, draw(number)), draw(st.booleans())))
        cases.append(Case(draw(st.sampled_from(regions)), tuple(atoms)))
    query = Query(tuple(cases), network.n_inputs, network.n_outputs)
    return canonical.network_text(network), canonical.property_text(query)


def lifted(property_: bytes, by: list[Fraction]) -> bytes:
    """Add to the constants of each case's atoms."""
    value = json.loads(property_)
    for case, more in zip(value["cases"], by, strict=True):
        for atom in case["unsafe"]:
            total = Fraction(*atom["constant"]) + more
            atom["constant"] = [total.numerator, total.denominator]
    return json.dumps(value, separators=(",", ":")).encode()


def scale_of(atoms: list[dict[str, Any]]) -> int:
    """Return what D is multiplied by: the least common denominator of a case's atoms."""
    return lcm(*(den for atom in atoms for *_, den in [*atom["terms"], atom["constant"]]))


def first_node(network: bytes, property_: bytes, grid: int = 40) -> tuple[kernel.Node, kernel.Case]:
    net = kernel.read_network(network)
    case = kernel.read_property(property_, net)[0][0]
    return kernel.Node(net, grid, case.box, frozenset((0,))), case


@SETTINGS
@given(questions(), st.integers(0, 2**20), st.sampled_from([0, 7, 40, 200]), st.booleans())
def test_no_bound_is_above_the_optimum(question: tuple[bytes, bytes], seed: int, grid: int, refreshed: bool) -> None:
    """D(mu, g) is at most the exact minimum of mu . atoms, whatever mu, slopes and g are."""
    rng = random.Random(seed)
    node, case = first_node(*question, grid)
    if refreshed:
        node.refresh()
        assert not node.empty
    _, how = prover.advice(rng, node, len(node.net.masks))
    mu = [rng.randrange(4) for _ in case.unsafe]
    bound = Fraction(*node.close(case, mu, how))
    for wobble in (-1, 0, 1):
        problem = exact.problems(*question, wobble)[0]
        atoms = json.loads(question[1])["cases"][0]["unsafe"]
        c = [Fraction(m * scale_of(atoms)) for m in mu]
        assert bound <= oracle.minimum(problem.steps, problem.lower, problem.upper, c)


@SETTINGS
@given(questions(), st.integers(0, 2**20), st.sampled_from([3, 40]))
def test_intervals_hold_every_trace(question: tuple[bytes, bytes], seed: int, grid: int) -> None:
    """After random splits and refreshes each point is still in a node, and its trace in the intervals."""
    rng = random.Random(seed)
    node, case = first_node(*question, grid)
    problem = exact.problems(*question, rng.choice((-1, 0, 1)))[0]
    x = [a + (b - a) * Fraction(rng.randrange(9), 8) for a, b in zip(problem.lower, problem.upper, strict=True)]
    trace = oracle.trace(problem.steps, x)
    inputs = [v for step, v in zip(problem.steps, trace, strict=False) if step.weight is None]
    neurons = [(k, j) for k, mask in enumerate(node.net.masks) for j, on in enumerate(mask) if on]
    for _ in range(6):
        what = rng.randrange(3)
        if what == 0:
            node.refresh()
        elif what == 1 and neurons:
            k, j = rng.choice(neurons)
            node = node.split_neuron(k, j)[int(inputs[k][j] > 0)]
        elif what == 2:
            i = rng.randrange(len(x))
            lo, hi = (Fraction(ends[i], node.box[2]) for ends in node.box[:2])
            m = Fraction(int((lo + hi) * 2), 4)
            if lo < m < hi:
                node = node.split_input(i, m.numerator, 1 - m.denominator.bit_length())[int(x[i] > m)]
        assert not node.empty
        for (lower, upper, _), z in zip(node.z, inputs, strict=True):
            assert all(a <= v * 2**grid <= b for a, v, b in zip(lower, z, upper, strict=False))
    mu = [rng.randrange(4) for _ in case.unsafe]
    atoms = json.loads(question[1])["cases"][0]["unsafe"]
    value = sum((m * scale_of(atoms) * t for m, t in zip(mu, trace[-1], strict=True)), Fraction(0))
    assert Fraction(*node.close(case, mu, prover.advice(rng, node, len(node.net.masks))[1])) <= value


@SETTINGS
@given(questions(), st.integers(0, 2**20), st.sampled_from([Fraction(1, 64), Fraction(1), Fraction(8)]))
def test_true_properties_can_be_proved(question: tuple[bytes, bytes], seed: int, margin: Fraction) -> None:
    """Trees of every kind of record for properties with a known positive margin are accepted."""
    network, property_ = question
    slack = [min(p.margin for p in ps) for ps in zip(*(exact.problems(*question, w) for w in (-1, 0, 1)), strict=True)]
    property_ = lifted(property_, [margin - s for s in slack])
    certificate = prover.certificate(seed, network, property_)
    assume(certificate is not None)
    assert certificate is not None
    assert kernel.check(network, property_, io.BytesIO(certificate)).endswith("\nPROVED")


@SETTINGS
@given(questions(), st.integers(0, 2**20), st.sampled_from([Fraction(0), Fraction(1, 1024)]))
def test_false_properties_cannot_be_proved(question: tuple[bytes, bytes], seed: int, margin: Fraction) -> None:
    """Where a case is reachable, even at a single point, no tree closes it."""
    network, property_ = question
    property_ = lifted(property_, [-margin - p.margin for p in exact.problems(*question)])
    assert prover.certificate(seed, network, property_) is None


@SETTINGS
@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9), st.integers(0, 9))
def test_h_is_the_minimum(v: int, g: int, lo: int, width: int) -> None:
    """The function h agrees with the minimum over all integers of the interval (its breakpoints are integers)."""
    hi = lo + width
    assert kernel.h(v, g, lo, hi) == min(v * max(z, 0) - g * z for z in range(lo, hi + 1))


@SETTINGS
@given(st.integers(-500, 500), st.integers(0, 12), st.integers(-9, 9), st.integers(0, 9), st.integers(0, 255))
def test_the_rule_is_what_the_specification_says(v: int, p: int, lo: int, width: int, slope: int) -> None:
    """G is the floor on the grid of v times the slope."""
    hi, grid = lo + width, 5
    value = Fraction(v, 2**p)
    if lo >= 0:
        want = value
    elif hi <= 0:
        want = Fraction(0)
    else:
        want = value * (Fraction(slope, 255) if v >= 0 else Fraction(hi, hi - lo))
    assert kernel.rule(v, p, lo, hi, slope, grid) == want * 2**grid // 1


@SETTINGS
@given(st.integers(0, 2**20), st.integers(1, 5), st.integers(1, 5), st.integers(1, 7))
def test_lanes_are_a_matrix_product(seed: int, m: int, n: int, count: int) -> None:
    """All objectives packed into long integers give what they give one by one, whatever signs and sizes."""
    rng = random.Random(seed)

    def draw(width: int) -> list[int]:
        return [rng.choice((0, 1, -1, rng.randrange(-(2**90), 2**90), 2**64, -(2**64))) for _ in range(width)]

    weights, bias, v = [draw(n) for _ in range(m)], draw(m), [draw(count) for _ in range(m)]
    rows = [[n for j, w in enumerate(row) if w for n in (j, w)] for row in weights]
    layer = make_cases.affine(weights, bias)
    assert layer["rows"] == rows
    (step,) = kernel.read_network(make_cases.dump(make_cases.network(n, layer))).layers
    assert isinstance(step, kernel.Affine)
    skip = {j for j in range(n) if rng.random() < 0.2}
    out, gain = step.step(v, skip)
    for j in range(n):
        column = [sum(weights[i][j] * v[i][r] for i in range(m)) for r in range(count)]
        assert out[j] == ([0] * count if j in skip else column)
    assert gain == [sum(bias[i] * v[i][r] for i in range(m)) for r in range(count)]


def test_agrees_with_the_float_formula() -> None:
    """On a fully connected network a refresh gives the search's own intervals, up to the grid and float error."""
    rng = np.random.default_rng(3)
    sizes = [3, 8, 8, 8, 2]
    net = Network.from_arrays([(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)])
    query = Query.in_range(Box((0, 0, 0), (1, 1, 1)), 0, 2, lower=0)
    node, _ = first_node(canonical.network_text(net), canonical.property_text(query))
    node.refresh()
    frame = Frame(net, Interval(np.zeros((1, 3)), np.ones((1, 3))))
    for k in range(3):
        z = frame.step()
        eye = np.eye(8)[None]
        if k:
            low, high = frame.lower(eye, Slopes()).value[0], -frame.lower(-eye, Slopes()).value[0]
            shut = (z.lower[0] >= 0) | (z.upper[0] <= 0)
            low, high = np.where(shut, -np.inf, low), np.where(shut, np.inf, high)
            frame.refine(Interval(low[None], high[None]))
            z = frame.inputs[-1]
        assert z.lower[0] == pytest.approx([v / 2**40 for v in node.z[k][0]], abs=1e-9)
        assert z.upper[0] == pytest.approx([v / 2**40 for v in node.z[k][1]], abs=1e-9)
        frame.step()


def test_slack_is_paid_on_the_intervals_of_the_moment() -> None:
    """After a cut, |W| m + |b| of the layers above is computed anew."""
    network = make_cases.dump(make_cases.MIXED)
    atom = make_cases.atom((9, 1), ("Y", 0, 1, 1))
    property_ = make_cases.dump(make_cases.property_(2, 1, make_cases.case(make_cases.SQUARE, atom)))
    node, _ = first_node(network, property_)
    last = node.net.layers[-1]
    assert isinstance(last, kernel.Affine)
    before = last.off(node.entering(3))
    lo, hi, _ = node.z[0]
    node.meet(0, lo, [0, *hi[1:]])
    assert last.off(node.entering(3)) < before
