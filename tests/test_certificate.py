"""Certificates: written by the search, accepted by both checkers, refused when they are anything else."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from optverify import Box, Network, Query, Verdict, kernel, outputs, verify
from optverify.canonical import network_text, property_text
from optverify.certificate import certify, check, check_file, read, write_verified
from optverify.errors import CertificateError, InputError, MalformedCertificate, OutputError, RejectedCertificate
from optverify.network import Affine
from optverify.proof import Close, InputSplit, NeuronSplit, Proof, walk
from optverify.search.branching import Hybrid
from tests import oracle
from tests.strategies import boxes, networks

STRATEGIES = [Hybrid(), Hybrid(few_inputs=0), Hybrid(few_neurons=0), Hybrid(few_inputs=0, few_neurons=0)]


def exact(network: Network, query: Query, data: bytes) -> None:
    """Run the kernel in this process."""
    kernel.check(network_text(network), property_text(query), io.BytesIO(data))


@settings(max_examples=80, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_every_certificate_is_accepted_by_both_checkers(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random networks, several groups, all strategies: what is written is accepted, by floats and by the kernel."""
    network = data.draw(networks(odd=data.draw(st.booleans()), scaled=data.draw(st.booleans())))
    box = data.draw(boxes(network.n_inputs))
    region = Box(tuple(box.lower.tolist()), tuple(box.upper.tolist()))
    steps = oracle.read(network)
    y = outputs(network.n_outputs)
    size = network.n_outputs
    unsafe = [y[j] <= least(steps, region, j, size) - margin(data) for j in range(size)]
    query = Query.never(region, unsafe[0], size)
    for atom in unsafe[1:]:
        query = Query(query.cases + Query.never(region, atom, size).cases, network.n_inputs, size)
    path = tmp_path_factory.mktemp("proof") / "proof"
    answer = verify(
        network, query, strategy=data.draw(st.sampled_from(STRATEGIES)), time_limit=5, certificate=str(path)
    )
    if answer.verdict is Verdict.UNKNOWN:
        assert not path.exists()
        assert answer.certified is not True
        return
    assert answer.certified
    assert check_file(str(path), network, query).kind == answer.verdict.value
    exact(network, query, path.read_bytes())


def least(steps: list[oracle.Step], region: Box, j: int, size: int) -> Fraction:
    """Return the exact least value of one output."""
    return oracle.minimum(steps, region.lower, region.upper, [Fraction(int(i == j)) for i in range(size)])


def margin(data: st.DataObject) -> Fraction:
    """Draw a margin: mostly true properties, some false."""
    return data.draw(
        st.sampled_from([Fraction(1), Fraction(1, 3), Fraction(1, 100), Fraction(1, 100), Fraction(-1, 100)])
    )


def hard_problem() -> tuple[Network, Query]:
    """Return a problem whose proof has input splits, neuron splits and duals."""
    rng = np.random.default_rng(4)
    shapes = [(6, 2), (6, 6), (2, 6)]
    network = Network.from_arrays([(rng.integers(-8, 9, s) / 4, rng.integers(-4, 5, s[0]) / 4) for s in shapes])
    region = Box([-2, -2], [2, 2])
    low = oracle.minimum(oracle.read(network), region.lower, region.upper, [Fraction(1), Fraction(0)])
    y = outputs(2)
    return network, Query.never(region, (y[0] <= low - Fraction(1, 50)) & (y[0] + y[1] <= 100), 2)


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, Query, bytes]:
    """Return a problem and an accepted certificate for it."""
    network, query = hard_problem()
    path = tmp_path_factory.mktemp("proof") / "proof"
    answer = verify(network, query, certificate=str(path), strategy=Hybrid(few_neurons=5))
    assert answer.certified
    data = path.read_bytes()
    (root,) = read(io.BytesIO(data), query.goals(network))[1]
    nodes = list(walk(root))
    assert {type(node.split) for node in nodes if node.split} == {InputSplit, NeuronSplit}
    assert {close.advice is None for node in nodes for close in node.closes} == {True, False}
    return network, query, data


def test_mutants_are_refused_or_still_true(proof: tuple[Network, Query, bytes]) -> None:
    """Any changed byte of the file ends in a refusal or in another proof of the same true statement."""
    network, query, data = proof
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(400):
        mutant = bytearray(data)
        for position in rng.integers(0, len(data), int(rng.integers(1, 3))):
            mutant[position] = int(rng.integers(256))
        try:
            check(io.BytesIO(bytes(mutant)), network, query)
            accepted += 1
        except CertificateError:
            continue
    assert accepted < 40  # the statement is true, so some mutants may prove it; most must not


@pytest.mark.parametrize("field", ["weights", "slopes", "multipliers", "index", "at", "relu", "refresh", "empty"])
def test_mutants_of_every_field(proof: tuple[Network, Query, bytes], field: str) -> None:
    """Another number anywhere in the tree is refused by both checkers, or still proves the true statement for both."""
    network, query, data = proof
    rng, seen = np.random.default_rng(1), 0
    goals = query.goals(network)
    for _ in range(25):
        (root,) = read(io.BytesIO(data), goals)[1]
        nodes = [node for node in walk(root) if changed(node, field, np.random.default_rng(0))]
        if not nodes:
            continue
        (root,) = read(io.BytesIO(data), goals)[1]
        nodes = [node for node in walk(root) if has(node, field)]
        changed(nodes[int(rng.integers(len(nodes)))], field, rng)
        stream = io.BytesIO()
        try:
            write_verified(stream, network, query, [root])
            check(io.BytesIO(stream.getvalue()), network, query)
        except CertificateError:
            seen += 1
            continue
        exact(network, query, stream.getvalue())
    assert seen or field in ("refresh", "weights", "slopes", "at")


def has(node: Proof, field: str) -> bool:
    """Whether a node has a field."""
    advice = [close.advice for close in node.closes if close.advice is not None]
    return {
        "weights": bool(node.closes),
        "slopes": any(a.slopes.size for a in advice),
        "multipliers": any(a.multipliers.size for a in advice),
        "index": node.split is not None,
        "at": isinstance(node.split, InputSplit),
        "relu": isinstance(node.split, NeuronSplit),
    }.get(field, True)


def changed(node: Proof, field: str, rng: np.random.Generator) -> bool:
    """Change a field of a node; tell whether it has it."""
    if not has(node, field):
        return False
    factor = float(rng.choice([-1.0, 0.0, 0.5, 2.0, 1e6]))
    if field == "refresh":
        node.refresh = not node.refresh
    elif field == "empty":
        node.empty = not node.empty
    elif field == "index" and node.split is not None:
        node.split = replace(node.split, index=int(rng.integers(5)))
    elif field == "at" and isinstance(node.split, InputSplit):
        node.split = replace(node.split, at=node.split.at * factor + float(rng.normal()))
    elif field == "relu" and isinstance(node.split, NeuronSplit):
        node.split = replace(node.split, relu=int(rng.integers(3)))
    else:
        node.closes = [spoilt(close, field, factor, rng) for close in node.closes]
    return True


def spoilt(close: Close, field: str, factor: float, rng: np.random.Generator) -> Close:
    """Change a field of a close."""
    if field == "weights":
        return replace(close, weights=tuple(int(w) for w in rng.integers(0, 9, len(close.weights))))
    if close.advice is None:
        return close
    if field == "slopes":
        return replace(
            close, advice=replace(close.advice, slopes=(255 * rng.random(close.advice.slopes.size)).astype(np.uint8))
        )
    return replace(close, advice=replace(close.advice, multipliers=close.advice.multipliers * factor))


def test_missing_and_double_children(proof: tuple[Network, Query, bytes]) -> None:
    """A tree without one of its leaves, or with one of them twice, is refused by both checkers."""
    network, query, data = proof
    start = data.index(b"\n", data.index(b"\n") + 1) + 1
    goals = query.goals(network)
    for double in (False, True):
        (root,) = read(io.BytesIO(data), goals)[1]
        leaf = next(node for node in walk(root) if not node.children and node.closes)
        if double:
            leaf.closes = leaf.closes * 2
        else:
            leaf.closes = []
        stream = io.BytesIO()
        write_verified(stream, network, query, [root])
        with pytest.raises(CertificateError):
            check(io.BytesIO(stream.getvalue()), network, query)
        with pytest.raises((kernel.Rejected, kernel.Malformed)):
            exact(network, query, stream.getvalue())
    records = zlib.decompress(data[start:])
    for cut in (records[:-3], records + records[-3:], records * 2):
        forged = data[:start] + zlib.compress(cut)
        with pytest.raises(CertificateError):
            check(io.BytesIO(forged), network, query)
        with pytest.raises((kernel.Rejected, kernel.Malformed)):
            exact(network, query, forged)


def test_what_is_not_needed_is_left_out() -> None:
    """Splits of a region that closes as it is, and refreshes that no leaf needs, are not in the certificate."""
    network, query = hard_problem()
    (case,) = query.cases
    easy = Query.never(case.region, outputs(2)[0] <= -1000, 2)
    (goal,) = easy.goals(network)
    root = Proof(split=NeuronSplit(0, 1))
    low, high = root.children = (Proof(split=InputSplit(0, 0.5)), Proof(closes=[Close(0, (2**40,))]))
    low.children = (Proof(closes=[Close(0, (3,))]), Proof(closes=[Close(0, (7,))]))
    stream = io.BytesIO()
    certify(stream, network, easy, [goal], [root])
    ((small,),) = read(io.BytesIO(stream.getvalue()), [goal])[1:]
    assert [(len(node.closes), node.children) for node in walk(small)] == [(1, ())]
    assert small.closes[0].weights in ((3,), (2**40,))
    exact(network, easy, stream.getvalue())
    leaf = Proof(closes=[Close(0, (1,))])
    certify(io.BytesIO(), network, easy, [goal], [leaf])
    assert not leaf.refresh
    assert high.closes


def test_a_tree_that_proves_nothing_is_not_written() -> None:
    """Nothing reaches the file."""
    network, query = hard_problem()
    (goal,) = query.goals(network)
    stream = io.BytesIO()
    with pytest.raises(RejectedCertificate):
        certify(stream, network, query, [goal], [Proof(closes=[Close(0, (1, 0))])])
    assert not stream.getvalue()


@pytest.mark.parametrize("leaf", [0, 3, -1])
def test_a_rejection_names_its_node(proof: tuple[Network, Query, bytes], leaf: int) -> None:
    """By its number in the file, and of how many."""
    network, query, data = proof
    goals = query.goals(network)
    (root,) = read(io.BytesIO(data), goals)[1]
    nodes = list(walk(root))
    wrong = [node for node in nodes if node.closes and node.closes[0].lifted is None][leaf]
    wrong.closes = [replace(close, weights=(0,) * len(close.weights)) for close in wrong.closes]
    stream = io.BytesIO()
    write_verified(stream, network, query, [root])
    place = f"region 0, node {1 + nodes.index(wrong)} of {len(nodes)} at depth "
    with pytest.raises(RejectedCertificate, match=place):
        check(io.BytesIO(stream.getvalue()), network, query)
    with pytest.raises(kernel.Rejected, match=f"^node {1 + nodes.index(wrong)}: the bound"):
        exact(network, query, stream.getvalue())


def test_rounded_multipliers_are_what_the_checker_reads(proof: tuple[Network, Query, bytes]) -> None:
    """Slopes have 8 bits, numbers 11, unless a close needs more; what is bounded is what the checker bounds."""
    network, query, data = proof
    (root,) = read(io.BytesIO(data), query.goals(network))[1]
    advice = [close.advice for node in walk(root) for close in node.closes if close.advice is not None]
    numbers = np.concatenate([a.multipliers for a in advice])
    mantissas = np.ldexp(np.frexp(numbers)[0], 11)
    assert (mantissas == np.rint(mantissas)).mean() > 0.9
    assert len(data) < 60 * sum(not node.children for node in walk(root)) + 400


@given(
    st.lists(
        st.one_of(
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**53), 2**53).map(float),
            st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308, 0.1, 2.0**-149]),
        ),
        min_size=6,
        max_size=6,
    ),
    st.booleans(),
)
def test_networks_are_written_exactly(values: list[float], sparse: bool) -> None:
    """The same bytes as by one rational at a time."""
    weight = np.array(values[:4]).reshape(2, 2)
    slack = [abs(v) for v in values[:2]]
    network = Network((Affine(sp.csr_array(weight) if sparse else weight, values[4:], slack=slack),))
    exactly, shift = slow_integers([*(v for v in values[:4] if v), *values[4:]])
    slacks, slack_shift = slow_integers(slack)
    numbers = iter(exactly)
    rows = [[n for j, v in enumerate(row) if v for n in (j, next(numbers))] for row in weight.tolist()]
    layer = {"affine": [2, 2], "shift": shift, "rows": rows, "bias": list(numbers)}
    text = {
        "format": "optverify network 1",
        "semantics": "real",
        "inputs": 2,
        "layers": [{**layer, "slack_shift": slack_shift, "slack": slacks, "absolute": [0, 0], "limits": [0, 0]}],
    }
    assert network_text(network) == json.dumps(text, separators=(",", ":")).encode()


def slow_integers(values: list[float]) -> tuple[list[int], int]:
    """Write floats over their least common power of two."""
    exactly = [Fraction(v) for v in values]
    shift = max((v.denominator.bit_length() - 1 for v in exactly), default=0)
    return [int(v * 2**shift) for v in exactly], shift


def test_truncated_and_extended_files_are_malformed(proof: tuple[Network, Query, bytes]) -> None:
    """Every prefix, and every file with something behind it, is malformed."""
    network, query, data = proof
    for cut in range(0, len(data), max(1, len(data) // 60)):
        with pytest.raises(CertificateError):
            check(io.BytesIO(data[:cut]), network, query)
    with pytest.raises(MalformedCertificate):
        check(io.BytesIO(data + b"x"), network, query)


def test_other_problems_are_refused(proof: tuple[Network, Query, bytes]) -> None:
    """A certificate for another network, another threshold, a wider box or fewer cases is rejected by both."""
    network, query, data = proof
    (case,) = query.cases
    wider = Box([-2, -2], [2, "2.0001"])
    other = Network(
        (*network.layers[:-1], type(network.layers[-1])(network.layers[-1].weight * 2, network.layers[-1].bias))
    )
    swaps = [
        (other, query),
        (network, Query.never(wider, outputs(2)[0] <= -1000, 2)),
        (network, Query((case, case), 2, 2)),
    ]
    swaps += [(network, Query((), 2, 2))]
    for net, prop in swaps:
        with pytest.raises(CertificateError):
            check(io.BytesIO(data), net, prop)
        with pytest.raises((kernel.Rejected, kernel.Malformed)):
            exact(net, prop, data)


def test_a_false_statement_with_a_forged_header_is_rejected(proof: tuple[Network, Query, bytes]) -> None:
    """The tree of a true statement does not prove a stronger one, even under its digests."""
    network, query, data = proof
    (case,) = query.cases
    stronger = Query.never(case.region, outputs(2)[0] <= 1000, 2)
    lines = data.split(b"\n", 2)
    header = json.loads(lines[1])
    header |= {"property": __import__("hashlib").sha256(property_text(stronger)).hexdigest()}
    forged = b"\n".join([lines[0], json.dumps(header, separators=(",", ":")).encode(), lines[2]])
    with pytest.raises(CertificateError):
        check(io.BytesIO(forged), network, stronger)
    with pytest.raises((kernel.Rejected, kernel.Malformed)):
        exact(network, stronger, forged)


def test_counterexamples_are_certified(tmp_path: Path) -> None:
    """A FALSIFIED answer leaves its point, and a point that is none is rejected."""
    network, query = hard_problem()
    (case,) = query.cases
    false = Query.never(case.region, outputs(2)[0] <= 1000, 2)
    path = tmp_path / "point"
    answer = verify(network, false, certificate=str(path))
    assert answer.verdict is Verdict.FALSIFIED
    assert check_file(str(path), network, false).kind == "falsified"
    exact(network, false, path.read_bytes())
    lines = path.read_bytes().split(b"\n")
    header = json.loads(lines[1])
    header["x"] = [[3, 1], [3, 1]]
    forged = b"\n".join([lines[0], json.dumps(header, separators=(",", ":")).encode(), b""])
    with pytest.raises(RejectedCertificate):
        check(io.BytesIO(forged), network, false)


def test_atoms_that_say_the_same_and_cases_without_atoms(tmp_path: Path) -> None:
    """Repeated atoms share a row here and not in the kernel, which still accepts the proof; so does no atom at all."""
    network, query = hard_problem()
    (case,) = query.cases
    first, second = case.unsafe
    strict = type(first)(first.linear, strict=True)
    repeated = Query((type(case)(case.region, (first, second, first, strict)),), 2, 2)
    path = tmp_path / "proof"
    assert verify(network, repeated, certificate=str(path)).certified
    exact(network, repeated, path.read_bytes())
    anything = Query((type(case)(case.region, ()),), 2, 2)
    assert verify(network, anything, certificate=str(path)).verdict is Verdict.FALSIFIED
    exact(network, anything, path.read_bytes())


def test_an_unwritable_place_is_found_out_before_the_search(tmp_path: Path) -> None:
    """The error comes at once and nothing is left; an old file stays where there is no verdict."""
    network, query = hard_problem()
    with pytest.raises(OutputError):
        verify(network, query, certificate=str(tmp_path / "none" / "proof"))
    old = tmp_path / "old"
    old.write_text("old")
    strict = Query.never(Box([-1], [1]), outputs(1)[0] < 0, 1)
    relu = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [0.0])])
    assert verify(relu, strict, certificate=str(old), time_limit=5).verdict is Verdict.UNKNOWN
    assert old.read_text() == "old"
    assert list(tmp_path.iterdir()) == [old]
    with pytest.raises(InputError):
        check_file(str(tmp_path / "none"), network, query)


def test_the_kernel_runs_alone(proof: tuple[Network, Query, bytes], tmp_path: Path) -> None:
    """By path, isolated and without site packages: it prints the statement and then PROVED."""
    network, query, data = proof
    files = {"network.json": network_text(network), "property.json": property_text(query), "proof": data}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-I", "-S", kernel.__file__, *(str(tmp_path / name) for name in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "PROVED"
