"""Lifted closes: what the relaxation finds both checkers accept; whatever else is stored proves nothing false."""

from __future__ import annotations

import io
import random
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optverify import kernel
from optverify.bounds.lifted import lifted_bound, lifted_close
from optverify.canonical import network_text, property_text
from optverify.certificate import certify
from optverify.checker import Nodes, _lifted, check, lower
from optverify.errors import InputError, MalformedCertificate, RejectedCertificate
from optverify.expressions import Atom, Linear
from optverify.formulations.encoder import objective_of
from optverify.network import Network
from optverify.proof import Close, LiftedAdvice, NeuronSplit, Proof
from optverify.query import Case, Goal, Query
from optverify.records import write_verified
from optverify.region import Box
from tests import oracle, strategies
from tests.kernel import build, exact, make_cases
from tests.kernel.test_agreement import EXACT_ONLY, fast, mutants, pose, slow
from tests.kernel.test_formula import first_node, lifted, questions, scale_of

SETTINGS = settings(max_examples=25, deadline=None)
FIELDS = ("above", "relu", "chord", "box", "shifts", "input_box")


def fresh(goal: Goal, proof: Proof) -> Nodes:
    """Return the root of a tree as both checkers have it after a refresh."""
    nodes = Nodes.root(goal, proof)
    return nodes.refreshed(goal.network, np.array([proof.refresh]))


def closed(goal: Goal, nodes: Nodes, group: int) -> Close | None:
    """Solve for a group on a node."""
    region, bounds = nodes.box.take(0), nodes.bounds.take(0)
    try:
        found = lifted_bound(goal.network, region, bounds, objective_of(goal, group), stop_above=0.0)
    except InputError:  # empty, or numbers overflow
        return None
    return lifted_close(goal, group, region, bounds, found)


def written(network: Network, query: Query, proofs: list[Proof]) -> bytes:
    stream = io.BytesIO()
    write_verified(stream, network, query, proofs)
    return stream.getvalue()


def least_margins(network: bytes, property_: bytes) -> list[Fraction]:
    """Return the least value of the largest atom of each case, for all coefficients that are tried."""
    return [
        min(p.margin for p in ps)
        for ps in zip(*(exact.problems(network, property_, w) for w in (-1, 0, 1)), strict=True)
    ]


def test_what_is_found_is_accepted() -> None:
    """Slack, points, dead layers, layers in any order, conjunctions: what the relaxation proves, both checkers do."""
    seen: list[bool] = []

    @SETTINGS
    @given(questions(), st.sampled_from([Fraction(1, 64), Fraction(1), Fraction(8)]))
    def search(question: tuple[bytes, bytes], margin: Fraction) -> None:
        property_ = lifted(question[1], [margin - m for m in least_margins(*question)])
        net, query = pose(question[0], property_)
        proofs = [Proof() for _ in query.goals(net)]
        for goal, proof in zip(query.goals(net), proofs, strict=True):
            nodes = fresh(goal, proof)
            for group in range(len(goal.groups)):
                close = closed(goal, nodes, group)
                seen.append(close is not None)
                assume(close is not None)
                assert close is not None
                proof.closes.append(close)
        certificate = written(net, query, proofs)
        assert fast(net, query, certificate) == slow(question[0], property_, certificate) == "PROVED"

    search()
    assert np.mean(seen) > 0.5


@SETTINGS
@given(strategies.networks(max_neurons=5, scaled=True, slack=True), st.data())
def test_badly_scaled_weights(network: Network, data: st.DataObject) -> None:
    """Rows scaled by 1e-8 to 1e8, on both halves of a split: what the fast checker accepts the exact one accepts."""
    box = data.draw(strategies.boxes(network.n_inputs))
    region = Box(tuple(map(Fraction, box.lower.tolist())), tuple(map(Fraction, box.upper.tolist())))
    steps = oracle.read(network)
    c = [Fraction(int(j == 0)) for j in range(network.n_outputs)]
    low = oracle.minimum(steps, list(region.lower), list(region.upper), c)
    high = -oracle.minimum(steps, list(region.lower), list(region.upper), [-v for v in c])
    margin = (high - low) / 2 + Fraction(1, 2**20)
    query = Query((Case(region, (Atom(Linear({("Y", 0): Fraction(1)}, margin - low)),)),), network.n_inputs, len(c))
    goal = query.goals(network)[0]
    root = fresh(goal, Proof())
    unstable = [(k, int(j)) for k, some in enumerate(root.bounds.unstable(network)) for j in np.flatnonzero(some[0])]
    assume(unstable)
    split = NeuronSplit(*data.draw(st.sampled_from(unstable)))
    tree = Proof(split=split, children=(Proof(), Proof()))
    halves = fresh(goal, tree).children()
    for b, child in enumerate(tree.children):
        half = halves.take(np.array([b])).refreshed(goal.network, np.array([True]))
        if half.bounds.empty.any():
            child.empty = True
            continue
        close = closed(goal, half, 0)
        assume(close is not None)
        assert close is not None
        child.closes.append(close)
    certificate = written(network, query, [tree])
    if fast(network, query, certificate) == "PROVED":
        assert slow(network_text(network), property_text(query), certificate) == "PROVED"


def garbage(rng: random.Random, node: kernel.Node) -> kernel.Advice:
    """Draw multipliers of any size and sign of `relu`; often with much curvature, so that something comes of it."""
    scale, top = rng.choice((0, 10, 60)), 1 << rng.choice((1, 8, 40))
    neurons = [(k, j) for k, mask in enumerate(node.net.masks) for j, on in enumerate(mask) if on]
    lanes = [neuron for neuron in neurons if rng.random() < 0.7]
    curved = rng.choice((0, 1, 20)) * top

    def some() -> int:
        return rng.choice((0, rng.randrange(top)))

    return kernel.RULE._replace(
        scale=scale,
        lifted={neuron: (some(), rng.randrange(-top, top), some(), curved + some()) for neuron in lanes},
        given={neuron: rng.randrange(-top, top) for neuron in neurons if rng.random() < 0.2},
        relative=True,
        inputs={i: curved + some() for i in range(node.net.inputs) if rng.random() < 0.8},
    )


def test_no_bound_is_above_the_optimum() -> None:
    """Random, negative and huge multipliers, at any grid, before and after a refresh or a cut: D is a lower bound."""
    seen: list[bool] = []

    @settings(max_examples=80, deadline=None)
    @given(questions(), st.integers(0, 2**20), st.sampled_from([0, 7, 40, 200]), st.booleans())
    def search(question: tuple[bytes, bytes], seed: int, grid: int, refreshed: bool) -> None:
        rng = random.Random(seed)
        question = (
            question[0],
            lifted(question[1], [Fraction(2**30)] * question[1].count(b'"lower"')),
        )  # a negative D is not always computed
        node, case = first_node(*question, grid)
        if refreshed:
            node.refresh()
        mu = [rng.randrange(4) for _ in case.unsafe]
        c = [Fraction(m * scale_of(exact_atoms(question[1]))) for m in mu]
        problems = [exact.problems(*question, wobble)[0] for wobble in (-1, 0, 1)]
        least = min(oracle.minimum(p.steps, p.lower, p.upper, c) for p in problems)
        for _ in range(8):
            try:
                bound = Fraction(*node.close(case, mu, garbage(rng, node)))
            except kernel.Rejected:
                seen.append(False)
                continue
            seen.append(True)
            assert bound <= least

    search()
    assert np.mean(seen) > 0.2


def exact_atoms(property_: bytes) -> list[dict[str, Any]]:
    import json

    atoms: list[dict[str, Any]] = json.loads(property_)["cases"][0]["unsafe"]
    return atoms


def spoilt(rng: random.Random, advice: LiftedAdvice) -> Iterator[LiftedAdvice]:
    """Change every field: other numbers, signs, sizes, places, nothing at all."""
    for field in FIELDS:
        values = getattr(advice, field)
        for change in (0.0, -1.0, 2.0, 1.0 + 2.0**-12, 2.0**40, 2.0**-40):
            new = values * change
            yield replace(advice, **{field: np.abs(new) if field not in ("relu", "shifts") else new})
        yield replace(advice, **{field: rng.choice((-1.0, 1.0)) ** (field in ("relu", "shifts")) * np.roll(values, 1)})
    for owners, fields in (("neurons", FIELDS[:4]), ("shifted", FIELDS[4:5]), ("inputs", FIELDS[5:])):
        places = getattr(advice, owners)
        for kept in range(min(3, places.size)):
            part = np.delete(np.arange(places.size), kept)
            yield replace(advice, **{name: getattr(advice, name)[part] for name in (owners, *fields)})


@settings(max_examples=10, deadline=None)
@given(questions(), st.integers(0, 2**20), st.sampled_from([Fraction(-1, 64), Fraction(1, 64), Fraction(1)]))
def test_spoilt_closes(question: tuple[bytes, bytes], seed: int, margin: Fraction) -> None:
    """Multipliers for a property that is certainly true, each field changed, for one that may be false."""
    rng = random.Random(seed)
    least = least_margins(*question)
    easy = pose(question[0], lifted(question[1], [8 - m for m in least]))
    property_ = lifted(question[1], [margin - m for m in least])
    net, query = pose(question[0], property_)
    goals = query.goals(net)
    proofs = [Proof() for _ in goals]
    for goal, proof in zip(easy[1].goals(easy[0]), proofs, strict=True):
        nodes = fresh(goal, proof)
        for group in range(len(goal.groups)):
            close = closed(goal, nodes, group)
            assume(close is not None and close.lifted is not None)
            assert close is not None
            proof.closes.append(close)
    first = proofs[0].closes[0]
    assert first.lifted is not None
    certificates = [written(net, query, proofs)]
    for advice in spoilt(rng, first.lifted):
        proofs[0].closes[0] = replace(first, lifted=advice)
        certificates.append(written(net, query, proofs))
    for certificate in [*certificates, *mutants(rng, certificates[0], 25)]:
        ours, theirs = fast(net, query, certificate), slow(question[0], property_, certificate)
        if ours == "PROVED":
            assert theirs == "PROVED"
        if theirs == "PROVED":
            assert margin > 0
            assert ours in ("PROVED", "Rejected", EXACT_ONLY)


def small(seed: int = 3) -> tuple[Network, Query, Goal]:
    """Return a network whose first output is above -4 on a box, which needs products or splits to be seen."""
    rng = np.random.default_rng(seed)
    sizes = [(6, 4), (6, 6), (2, 6)]
    network = Network.from_arrays([(rng.normal(size=s), rng.normal(size=s[0]) / 4) for s in sizes])
    box = Box((Fraction(-1),) * 4, (Fraction(1),) * 4)
    region = box.outward
    goal = Query((Case(box, (Atom(Linear({("Y", 0): Fraction(1)}, Fraction(0))),)),), 4, 2).goals(network)[0]
    nodes = fresh(goal, Proof())
    low = lifted_bound(goal.network, region, nodes.bounds.take(0), objective_of(goal, 0)).lower
    query = Query((Case(box, (Atom(Linear({("Y", 0): Fraction(1)}, Fraction(-low) + Fraction(1, 8))),)),), 4, 2)
    return network, query, query.goals(network)[0]


def test_certificates_keep_lifted_closes() -> None:
    """A tree with a lifted close is written with it; truncated anywhere it is malformed for both checkers."""
    network, query, goal = small()
    close = closed(goal, fresh(goal, Proof()), 0)
    assert close is not None
    stream = io.BytesIO()
    proof = Proof([close])
    certify(stream, network, query, [goal], [proof])
    assert proof.closes[0] is close
    text, certificate = (network_text(network), property_text(query)), stream.getvalue()
    assert slow(*text, certificate) == "PROVED"
    start = certificate.index(b"\n", len(build.MAGIC)) + 1
    records = zlib.decompress(certificate[start:])
    for end in range(len(records)):
        short = certificate[:start] + zlib.compress(records[:end])
        assert slow(*text, short) == fast(network, query, short) == "Malformed"


def test_the_rule_alone_does_not_prove_it() -> None:
    """The close above is not one that CROWN would have given."""
    _, _, goal = small()
    assert lower(goal, fresh(goal, Proof()), np.zeros(1, np.intp), [Close(0, (1,))])[0] < 0


def test_a_close_of_another_node_is_solved_anew() -> None:
    """A lifted close that proves nothing where it stands is replaced, or handed down after halving."""
    network, query, goal = small()
    close = closed(goal, fresh(goal, Proof()), 0)
    assert close is not None
    assert close.lifted is not None
    useless = replace(close, lifted=replace(close.lifted, relu=0 * close.lifted.relu))
    proof, stream = Proof([useless]), io.BytesIO()
    certify(stream, network, query, [goal], [proof])
    assert proof.closes[0].lifted is not None
    assert slow(network_text(network), property_text(query), stream.getvalue()) == "PROVED"
    harder = Query(
        (Case(query.cases[0].region, (Atom(replace_constant(query.cases[0].unsafe[0].linear, Fraction(-1, 4))),)),),
        4,
        2,
    )
    proof, stream = Proof([useless]), io.BytesIO()
    certify(stream, network, harder, harder.goals(network), [proof])
    assert proof.children
    assert slow(network_text(network), property_text(harder), stream.getvalue()) == "PROVED"


def replace_constant(linear: Linear, more: Fraction) -> Linear:
    return Linear(linear.terms, linear.constant + more)


def test_stored_bound_is_what_was_found() -> None:
    """Rounding and the share of the bound that is spent on curvature leave most of it."""
    _, _, goal = small()
    nodes = fresh(goal, Proof())
    found = lifted_bound(goal.network, nodes.box.take(0), nodes.bounds.take(0), objective_of(goal, 0))
    close = lifted_close(goal, 0, nodes.box.take(0), nodes.bounds.take(0), found)
    assert close is not None
    assert 0.5 * found.lower < _lifted(goal, nodes, 0, close) <= found.lower


def test_an_exact_value() -> None:
    """The D of accept/lifted, in the kernel's arithmetic and by hand in rationals: m - b A^-1 b."""
    node, case = first_node(make_cases.dump(make_cases.SAME), make_cases.dump(make_cases.FAR))
    products = {(0, 0): (512, 0, 0, 598), (0, 1): (0, -792, 116, 86)}
    advice = kernel.RULE._replace(scale=10, lifted=products, inputs={0: 878})
    bound = Fraction(*node.close(case, [1], advice))
    # Variables 1, p, q, t with x = 2 t - 1, relu(x) = p, relu(-x) = q:
    # p - q - x + 1 - 512 (p - x) - 116 (-x + 1 - 2 q) + 792 q (q + x) - 598 p (1 - p) - 86 q (1 - q) - 878 t (1 - t)
    one, k = Fraction(1), Fraction(1, 1024)
    form = [[Fraction(0)] * 4 for _ in range(4)]  # upper triangle: sum of form[i][j] v_i v_j
    form[0][0] = 1 + one - 512 * k - 116 * k + 0 - 116 * k
    form[0][1] = 1 - 512 * k - 598 * k
    form[0][2] = -1 + 232 * k - 792 * k - 86 * k
    form[0][3] = -2 + 1024 * k + 232 * k - 878 * k
    form[1][1], form[2][2], form[3][3] = 598 * k, 792 * k + 86 * k, 878 * k
    form[2][3] = 2 * 792 * k
    for k_ in (3, 2, 1):
        d = form[k_][k_]
        b = [form[i][k_] for i in range(k_)]
        for i in range(k_):
            for j in range(i, k_):
                form[i][j] -= b[i] * b[j] * (1 if i == j else 2) / (4 * d)
    assert form[0][0] > bound > form[0][0] - Fraction(1, 2**30)


@pytest.mark.parametrize(
    "records",
    [
        build.u(8) + build.u(0) + build.u(1) + build.u(0) + build.u(10**15) + b"\x01" * 50_000_000,
        build.u(8) + build.u(0) + build.u(1) + b"\x80" * 50_000_000,
        (build.u(8) + build.u(0) + build.u(1) + b"\0\0\0\0" + build.u(1) + build.u(0) + build.u(0)) * 5_000_000,
    ],
    ids=["neurons", "endless", "closes"],
)
def test_zip_bombs(records: bytes) -> None:
    """What expands to very much is refused soon and in little memory, by both."""
    text = make_cases.dump(make_cases.SAME), make_cases.dump(make_cases.NEVER)
    net, query = pose(*text)
    head = build.verified(*text, b"")[: -len(zlib.compress(b""))]
    certificate = head + zlib.compress(records, 9)
    del records
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises((kernel.Malformed, kernel.Rejected)):
        kernel.check(*text, io.BytesIO(certificate))
    with pytest.raises((MalformedCertificate, RejectedCertificate)):
        check(io.BytesIO(certificate), net, query)
    assert time.process_time() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 2 * (250 * len(certificate) + 2**20) + 20_000_000
    tracemalloc.stop()


def test_the_most_neurons() -> None:
    """A thousand neurons are a lot already: one more is malformed."""
    n = 1_001
    network = make_cases.dump(
        make_cases.network(
            1, make_cases.affine([[1]] * n, [0] * n), make_cases.relu(*[1] * n), make_cases.affine([[1] * n], [0])
        )
    )
    prop = make_cases.dump(
        make_cases.property_(1, 1, make_cases.case(make_cases.UNIT, make_cases.atom((1, 8), make_cases.Y)))
    )
    for count, verdict in ((n, "Malformed"), (20, "PROVED")):
        records = build.lifted(0, [1], 0, [(i, (0, 0, 0, 0)) for i in range(count)])
        certificate = build.verified(network, prop, records)
        assert slow(network, prop, certificate) == verdict
    assert (
        fast(
            *pose(network, prop),
            build.verified(network, prop, build.lifted(0, [1], 0, [(i, (0, 0, 0, 0)) for i in range(n)])),
        )
        == "Malformed"
    )


def test_longest_numbers() -> None:
    """Multipliers of a thousand bits, which grow where squares are completed: a verdict soon, none by the fast one."""
    n, top = 24, (1 << 1_000) - 1
    rng = random.Random(0)
    weights = [[rng.choice((-1, 1)) for _ in range(n)] for _ in range(n)]
    network = make_cases.dump(
        make_cases.network(
            n,
            make_cases.affine(weights, [0] * n),
            make_cases.relu(*[1] * n),
            make_cases.affine(weights, [0] * n),
            make_cases.relu(*[1] * n),
            make_cases.affine([[1] * n], [1]),
        )
    )
    prop = make_cases.dump(
        make_cases.property_(n, 1, make_cases.case([(-1, 1)] * n, make_cases.atom((0, 1), make_cases.Y)))
    )
    for sign in (-1, 1):
        neurons = [(i, (rng.randrange(top), sign * rng.randrange(top), 1, rng.choice((1, top)))) for i in range(2 * n)]
        certificate = build.verified(
            network, prop, build.lifted(0, [1], 1_999, neurons, [], [(i, 1) for i in range(n)])
        )
        started = time.process_time()
        assert slow(network, prop, certificate) == "Rejected"
        assert time.process_time() - started < 30
        assert fast(*pose(network, prop), certificate) in (EXACT_ONLY, "Rejected")
