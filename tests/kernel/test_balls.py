"""Certificates about balls: the kernel's bound on linear forms, traces, and radii with known exact values."""

from __future__ import annotations

import io
import json
import random
from fractions import Fraction
from itertools import product
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

from optverify import canonical, kernel, load_property, radius
from optverify.checker import check
from optverify.errors import CertificateError
from optverify.network import Network
from optverify.query import Query
from optverify.region import Ball, Box
from tests import oracle, strategies
from tests.kernel import build, exact, prover
from tests.kernel.test_agreement import mutants
from tests.measures.distances import distance
from tests.measures.test_radius import tiny

NET = kernel.read_network(
    canonical.network_text(Network.from_arrays([(np.eye(3), np.zeros(3)), (np.ones((1, 3)), np.zeros(1))]))
)
small = st.builds(Fraction, st.integers(-12, 12), st.sampled_from([1, 2, 3, 4]))


@st.composite
def balls(draw: st.DrawFn, n: int) -> Ball:
    """Draw a part of a box in a ball; the centre need not lie in the box."""
    ends = [sorted((draw(small), draw(small))) for _ in range(n)]
    norm = draw(st.sampled_from(["2", "1", "0"]))
    lower, upper = ([end[k] for end in ends] for k in (0, 1))
    return Ball(lower, upper, norm, [draw(small) for _ in range(n)], abs(draw(small)))


def node(region: Ball, grid: int = 40, net: kernel.Network = NET) -> kernel.Node:
    """Return the first node of a property about a ball."""
    query = Query.from_rows(region, np.ones((1, net.outputs)), np.zeros(1))
    case = kernel.read_property(canonical.property_text(query), net)[0][0]
    return kernel.Node(net, grid, case.box, frozenset((0,)), ball=case.ball).outside()


def points(region: Ball, v: list[Fraction]) -> list[list[Fraction]]:
    """Return points of the region, some of them where v . x is small."""
    found = [list(x) for x in product(*zip(region.lower, region.upper, region.clamp(region.centre), strict=True))]
    size = Fraction(isqrt(int(sum(n * n for n in v) * 10**12)) + 1, 10**6)
    for part in (Fraction(k, 8) for k in range(9)):
        d = [-part * region.radius * n / size for n in v]
        found.append(region.clamp([c + e for c, e in zip(region.centre, d, strict=True)]))
    return [x for x in found if region.contains(x)]


@settings(max_examples=300, deadline=None)
@given(balls(3), st.lists(small, min_size=3, max_size=3), st.sampled_from([0, 7, 40, 200]))
def test_no_bound_is_above_a_value(region: Ball, v: list[Fraction], grid: int) -> None:
    """Nor is a node that has a point said to be outside."""
    first, form = node(region, grid), [int(12 * n) for n in v]
    bound = Fraction(first.lowest(form), 12 * first.box[2] << grid)
    for x in points(region, v):
        assert not first.empty
        assert bound <= sum(a * b for a, b in zip(v, x, strict=True))


@settings(max_examples=150, deadline=None)
@given(balls(3), st.lists(small, min_size=3, max_size=3))
def test_the_bound_is_nearly_the_optimum(region: Ball, v: list[Fraction]) -> None:
    """Against a linear program for norm 1, and the dual function for norm 2."""
    if region.norm == "0" or not points(region, v):
        return
    first = node(region)
    bound = float(Fraction(first.lowest([int(12 * n) for n in v]), 12 * first.box[2] << 40))
    c = np.array([float(n) for n in region.centre])
    lo, hi = (np.array([float(n) for n in ends]) - c for ends in (region.lower, region.upper))
    n, R = np.array([float(n) for n in v]), float(region.radius)
    if region.norm == "1":
        rows = np.block([[np.eye(3), -np.eye(3)], [-np.eye(3), -np.eye(3)], [np.zeros((1, 3)), np.ones((1, 3))]])
        found = linprog([*n, 0, 0, 0], rows, [0] * 6 + [R], bounds=[*zip(lo, hi, strict=True), *[(0, None)] * 3])
        assert found.status == 0
        best = float(found.fun)
    else:

        def dual(log: float) -> float:
            m = np.exp(log)
            d = np.clip(-n / (2 * m), lo, hi)
            return -float((n * d + m * d * d).sum() - m * R * R)

        best = max(-dual(log) for log in np.linspace(-12, 12, 49))
        best = max(best, *(-minimize_scalar(dual, bounds=(a, a + 1), method="bounded").fun for a in range(-12, 12)))
    assert bound >= best + float(n @ c) - 1e-6 * (1 + np.abs(n).sum() * 20)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**20), st.sampled_from([3, 40]))
def test_intervals_hold_every_trace(data: st.DataObject, seed: int, grid: int) -> None:
    """After random splits and refreshes each point of the ball is still in a node, and D below its value."""
    network = data.draw(strategies.networks(max_neurons=4, slack=data.draw(st.booleans()), odd=True))
    region = data.draw(balls(network.n_inputs))
    rng = random.Random(seed)
    query = Query.from_rows(region, np.ones((1, network.n_outputs)), np.zeros(1))
    texts = canonical.network_text(network), canonical.property_text(query)
    net = kernel.read_network(texts[0])
    case = kernel.read_property(texts[1], net)[0][0]
    problem = exact.problems(*texts, rng.choice((-1, 0, 1)))[0]
    inside = points(region, [Fraction(rng.randrange(-4, 5)) for _ in range(network.n_inputs)])
    for x in rng.sample(inside, min(3, len(inside))):
        here = kernel.Node(net, grid, case.box, frozenset((0,)), ball=case.ball).outside()
        trace = oracle.trace(problem.steps, x)
        inputs = [v for step, v in zip(problem.steps, trace, strict=False) if step.weight is None]
        neurons = [(k, j) for k, mask in enumerate(net.masks) for j, on in enumerate(mask) if on]
        for _ in range(6):
            what = rng.randrange(3)
            if what == 0:
                here.refresh()
            elif what == 1 and neurons:
                k, j = rng.choice(neurons)
                here = here.split_neuron(k, j)[int(inputs[k][j] > 0)]
            elif what == 2:
                i = rng.randrange(len(x))
                lo, hi = (Fraction(ends[i], here.box[2]) for ends in here.box[:2])
                m = Fraction(int((lo + hi) * 2), 4)
                if lo < m < hi:
                    here = here.split_input(i, m.numerator, 1 - m.denominator.bit_length())[int(x[i] > m)]
            assert not here.empty
            for (lower, upper, _), z in zip(here.z, inputs, strict=True):
                assert all(a <= v * 2**grid <= b for a, v, b in zip(lower, z, upper, strict=False))
        value = case.scale * sum(trace[-1], Fraction(0))
        assert Fraction(*here.close(case, [1], prover.advice(rng, here, len(net.masks))[1])) <= value


def verdicts(network: Network, query: Query, certificate: bytes) -> tuple[str, str]:
    """Ask the fast checker and the kernel."""
    try:
        ours = check(io.BytesIO(certificate), network, query).kind
    except CertificateError as error:
        ours = type(error).__name__
    try:
        texts = canonical.network_text(network), canonical.property_text(query)
        theirs = kernel.check(*texts, io.BytesIO(certificate)).splitlines()[-1]
    except (kernel.Rejected, kernel.Malformed) as error:
        theirs = type(error).__name__
    return ours, theirs


def about(certificate: bytes, old: Query, new: Query) -> bytes:
    """Write the digest of another property into a certificate."""
    a, b = (canonical.property_digest(query).encode() for query in (old, new))
    assert a in certificate
    return certificate.replace(a, b)


@pytest.mark.parametrize("norm", ["2", "1", "0"])
@pytest.mark.parametrize("seed", range(6))
def test_radii(norm: str, seed: int, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Certificates of radii: both checkers accept them, and nothing made of them that says more than is true."""
    rng = random.Random(seed)
    inputs = 2 if norm == "2" else 2 + seed % 2  # the oracle for squares is plane geometry
    network = tiny(200 + seed, inputs=inputs)
    x = [Fraction(rng.randrange(-8, 9), 8) for _ in range(inputs)]
    path = str(tmp_path / "radius.cert")
    answer = radius(network, x, norm=norm, domain=(-1, 1), time_limit=20, certificate=path)  # type: ignore[arg-type]
    if answer.label is None or answer.upper == 0:
        return
    value = distance(network, x, [Fraction(-1)] * inputs, [Fraction(1)] * inputs, answer.label, norm)
    assert answer.certified
    query = load_property(path + ".json")
    (ball,) = {case.region for case in query.cases}
    assert isinstance(ball, Ball)
    assert ball.norm == norm
    assert ball.centre == tuple(x)
    proved = ball.radius
    assert answer.lower in (float(proved) + (norm == "0"), np.inf)
    with open(path, "rb") as stream:
        certificate = stream.read()
    assert verdicts(network, query, certificate) == ("verified", "PROVED")
    if value is None:
        return
    power = 2 if norm == "2" else 1
    for factor in (Fraction(1, 2), Fraction(1001, 1000), Fraction(2)):
        larger = proved * factor if norm != "0" else proved + factor
        region = Ball.of(Box([-1] * inputs, [1] * inputs), ball.norm, ball.centre, larger)
        other = Query.robust(region, answer.label, network.n_outputs)
        false = larger // 1 >= value if norm == "0" else larger**power >= value
        for spoilt in [certificate, *mutants(rng, certificate, 12)]:
            said = verdicts(network, other, about(spoilt, query, other))
            assert not false or not {"verified", "PROVED"} & set(said)
            assert said[0] != "verified" or said[1] == "PROVED"


def test_clumsy_trees_about_balls() -> None:
    """Random trees of all records: what one checker accepts the other does, and it is true at sampled points."""
    proved = agreed = 0
    for seed in range(24):
        rng = random.Random(seed)
        network = tiny(300 + seed)
        x = [Fraction(rng.randrange(-8, 9), 8) for _ in range(2)]
        norm = rng.choice(["2", "1", "0"])
        region = Ball.of(Box([-1, -1], [1, 1]), norm, x, Fraction(rng.randrange(1, 9), 8))  # type: ignore[arg-type]
        y = network.exact(x)
        query = Query.robust(region, y.index(max(y)), 3)
        texts = canonical.network_text(network), canonical.property_text(query)
        certificate = prover.certificate(seed, *texts)
        if certificate is None:
            continue
        value = distance(network, x, [Fraction(-1)] * 2, [Fraction(1)] * 2, y.index(max(y)), norm)
        for spoilt in [certificate, *mutants(rng, certificate, 8)]:
            ours, theirs = verdicts(network, query, spoilt)
            assert ours != "verified" or theirs == "PROVED"
            if theirs == "PROVED":
                proved, agreed = proved + 1, agreed + (ours == "verified")
                assert value is None or value > (region.radius ** (2 if norm == "2" else 1))
    assert proved > 10
    assert agreed > 0.9 * proved


@pytest.mark.parametrize("norm", ["2", "1", "0"])
def test_radii_beyond_what_floats_square(norm: str) -> None:
    """The fast checker gives a verdict on every ball that can be written, also where its radius is rounded to inf."""
    network = tiny(3)
    for size in (Fraction(10) ** 160, Fraction(2) ** 1024 - Fraction(2) ** 971 + 1):
        query = Query.robust(Ball([0, 0], [1, 1], norm, [0, 0], size), 0, 3)  # type: ignore[arg-type]
        texts = canonical.network_text(network), canonical.property_text(query)
        records = build.REFRESH + build.close(0, [1]) + build.close(1, [1])
        ours, theirs = verdicts(network, query, build.verified(*texts, records))
        assert ours in ("verified", "RejectedCertificate")
        assert ours == "RejectedCertificate" or theirs == "PROVED"


def test_the_statement_names_the_ball() -> None:
    """What the kernel prints says that it is about the points in the ball."""
    folder = Path(build.__file__).parent / "accept" / "ball-2"
    texts = [(folder / name).read_bytes() for name in ("network.json", "property.json", "certificate")]
    said = kernel.check(texts[0], texts[1], io.BytesIO(texts[2]))
    assert "in its ball" in said
    assert json.dumps(json.loads(texts[1])["cases"][0]["centre"], separators=(",", ":")) in said
