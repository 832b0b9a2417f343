"""Found by a second look for what could be made to say too much: certificates of odd networks, resumed searches."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify import Box, Linear, Network, Query, Verdict, bound, kernel, load_property, outputs, verify
from optverify.canonical import network_text, property_text
from optverify.certificate import certify, check, check_file
from optverify.errors import InputError, OptverifyError, RejectedCertificate
from optverify.proof import Advice, Close, Proof
from optverify.search.tree import Progress

SUM = Network.from_arrays([([[1.0, 1.0]], [0.0])])  # no Relu
BOX = Box([-1, 1], [2, 2])


class Stopper:
    """Interrupts a search after some nodes."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def __call__(self, progress: Progress) -> None:
        if progress.nodes >= self.nodes:
            raise KeyboardInterrupt


def test_advice_that_proves_nothing_is_not_certified() -> None:
    """A close as a saved tree holds it: the rule would close the node, its own multiplier does not."""
    network = Network.from_arrays([([[1.0]], [0.0]), ([[1.0]], [1.0])])
    query = Query.never(Box([-1], [1]), outputs(1)[0] <= 0, 1)
    none = np.zeros(0)
    advice = Advice(none.astype(np.int64), none.astype(np.uint8), np.array([0]), np.array([-100.0]))
    stream = io.BytesIO()
    try:
        certify(stream, network, query, query.goals(network), [Proof(closes=[Close(0, (1,), advice=advice)])])
    except RejectedCertificate:
        return
    stream.seek(0)
    check(stream, network, query)


@pytest.mark.parametrize("seed", [4, 29, 40])
def test_certificates_of_resumed_searches(tmp_path: Path, seed: int) -> None:
    """Searches stopped and taken up again end in a certificate that anybody accepts."""
    rng = np.random.default_rng(seed)
    sizes = [3, 10, 10, 3]
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.3 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    network, region, y = Network.from_arrays(steps), Box([-1] * 3, [1] * 3), outputs(3)
    least = network(rng.uniform(-1, 1, (4000, 3))).min(axis=0) - 0.1
    query = Query.never(region, (y[0] <= float(least[0])) | (y[1] <= float(least[1])), 3)
    tree, proof = str(tmp_path / "tree"), str(tmp_path / "proof")
    answer = verify(network, query, save=tree, progress=Stopper(3), solver=None)
    for nodes in (3, 3, 3, np.inf):
        if answer.verdict is not Verdict.UNKNOWN:
            return
        stop = Stopper(nodes)  # type: ignore[arg-type]
        answer = verify(network, query, save=tree, resume=tree, certificate=proof, progress=stop, solver=None)
    assert answer.verdict is not Verdict.UNKNOWN, answer.reason
    check_file(proof, network, query)
    kernel.check(network_text(network), property_text(query), io.BytesIO(Path(proof).read_bytes()))


@pytest.mark.parametrize(("value", "verdict"), [("-0.5", Verdict.VERIFIED), ("0.5", Verdict.FALSIFIED)])
def test_a_network_without_a_relu_has_certificates(tmp_path: Path, value: str, verdict: Verdict) -> None:
    """There are no pre-activations to keep and no multipliers to choose."""
    path, query = tmp_path / "proof", Query.never(BOX, outputs(1)[0] <= value, 1)
    answer = verify(SUM, query, certificate=str(path))
    assert answer.verdict is verdict
    assert answer.certified
    check_file(str(path), SUM, query)
    kernel.check(network_text(SUM), property_text(query), io.BytesIO(path.read_bytes()))
    assert bound(SUM, BOX, "Y_0 + X_0", certificate=str(tmp_path / "bound")).certified


def test_a_network_without_a_relu_is_split(tmp_path: Path) -> None:
    """Ascent finds no multipliers there: its closes are those of the rule, with weights of several rows."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0])])
    y = outputs(2)
    query = Query.never(Box([-1], [1]), (y[0] <= "-0.001") & (y[1] <= "-0.001"), 2)
    path = str(tmp_path / "proof")
    answer = verify(network, query, certificate=path)
    assert answer.verdict is Verdict.VERIFIED
    assert answer.certified
    check_file(path, network, query)


@pytest.mark.parametrize("objective", [Linear({("X", 0): Fraction(1)}), Linear({}, Fraction(3))])
def test_a_bound_on_inputs_alone(tmp_path: Path, objective: Linear) -> None:
    """VNN-LIB would take a row without an output for a part of the box: an error, or a text that says the same."""
    network = Network.from_arrays([([[1.0, 1.0]], [0.0]), ([[1.0]], [0.0])])
    path = str(tmp_path / "proof")
    try:
        answer = bound(network, BOX, objective, certificate=path)
    except InputError:
        return
    assert answer.certified
    check_file(path, network, load_property(path + ".vnnlib"))


@pytest.mark.parametrize("end", [1 + Fraction(1, 10**5000), Fraction(1, 10**5000)])
def test_ends_of_many_digits_beside_a_certificate(tmp_path: Path, end: Fraction) -> None:
    """What VNN-LIB cannot say, or our reader does not read, is one clear error before the work."""
    path = str(tmp_path / "proof")
    try:
        bound(SUM, Box([-1, end], [2, 2]), "Y_0", certificate=path)
    except OptverifyError:
        return
    load_property(path + ".vnnlib")
