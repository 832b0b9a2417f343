"""Searches that are saved and taken up again, and certificates of bounds."""

from __future__ import annotations

import hashlib
import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify import Box, Network, Query, Verdict, bound, kernel, load_property, outputs, verify
from optverify.canonical import network_text, property_text
from optverify.certificate import check_file
from optverify.cli import main
from optverify.errors import CertificateError, InputError, MalformedCertificate, RejectedCertificate
from optverify.search.tree import Progress


def random_network(*sizes: int) -> Network:
    """Make a fully connected network whose values neither vanish nor explode."""
    rng = np.random.default_rng(11)
    steps = [(rng.normal(size=(m, n)) / np.sqrt(n), 0.3 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(steps)


NETWORK = random_network(4, 16, 16, 2)
BOX = Box.around(np.zeros(4), 1, clip=None)


def provable(margin: float = 0.02) -> Query:
    """Return a property of two cases that needs some hundred nodes."""
    y = outputs(2)
    cases = []
    for j in range(2):
        lower = bound(NETWORK, BOX, f"Y_{j}", gap=1e-3).lower
        cases.append(y[j] <= lower - margin)
    return Query.never(BOX, cases[0] | cases[1], 2)


def exact(network: Network, query: Query, data: bytes) -> None:
    """Run the kernel in this process."""
    kernel.check(network_text(network), property_text(query), io.BytesIO(data))


class Stopper:
    """Interrupts a search after some nodes."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def __call__(self, progress: Progress) -> None:
        if progress.nodes >= self.nodes:
            raise KeyboardInterrupt


def test_a_decided_search_says_that_there_is_no_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is an older one taken for its own; who resumes what is not there is told what to do."""
    folder = Path(__file__).parent.parent / "examples" / "pendulum"
    files = [str(folder / name) for name in ("controller.onnx", "leans_right.vnnlib")]
    tree = tmp_path / "tree"
    assert main(["verify", *files, "--save", str(tree)]) == 0
    assert capsys.readouterr().err == f"optverify: decided: nothing to resume, {tree} not written\n"
    assert not tree.exists()
    assert main(["verify", *files, "--resume", str(tree)]) == 3
    assert "without `resume` it begins anew" in capsys.readouterr().err
    tree.write_text("older")
    assert main(["verify", *files, "--save", str(tree)]) == 0
    assert "not written; the older one is as it was" in capsys.readouterr().err
    assert tree.read_text() == "older"


@pytest.mark.parametrize("nodes", [1, 20, 60])
def test_a_saved_search_goes_on_to_a_certificate(tmp_path: Path, nodes: int) -> None:
    """Stopped, saved and resumed, the search ends in VERIFIED, with a certificate that both checkers accept."""
    query, tree, proof = provable(), str(tmp_path / "tree"), str(tmp_path / "proof")
    whole = verify(NETWORK, query)
    assert whole.verdict is Verdict.VERIFIED
    assert whole.nodes > nodes
    first = verify(NETWORK, query, save=tree, progress=Stopper(nodes))
    assert first.verdict is Verdict.UNKNOWN
    assert first.reason.endswith("(the tree is saved)")
    second = verify(NETWORK, query, resume=tree, certificate=proof)
    assert second.verdict is Verdict.VERIFIED
    assert second.certified
    assert second.bound is None or second.bound > 0, "0 would look like no proof"
    check_file(proof, NETWORK, query)
    exact(NETWORK, query, Path(proof).read_bytes())


def test_searches_are_saved_again_and_again(tmp_path: Path) -> None:
    """One file serves as both ends; the share that is proved grows until all is."""
    query, tree, shares = provable(), str(tmp_path / "tree"), []
    answer = verify(NETWORK, query, save=tree, progress=Stopper(10))
    while answer.verdict is Verdict.UNKNOWN:
        shares.append(answer.closed)
        answer = verify(NETWORK, query, save=tree, resume=tree, progress=Stopper(40))
        assert len(shares) < 100
    assert answer.verdict is Verdict.VERIFIED
    assert shares == sorted(shares)
    assert len(shares) > 1


def test_a_saved_search_may_end_in_a_counterexample(tmp_path: Path) -> None:
    """A property that does not hold is falsified after a resume as well."""
    least = bound(NETWORK, BOX, "Y_0")
    query = Query.never(BOX, outputs(2)[0] <= least.upper + 1e-9, 2)
    tree = str(tmp_path / "tree")
    first = verify(NETWORK, query, save=tree, progress=Stopper(1))
    if first.verdict is Verdict.UNKNOWN:
        assert verify(NETWORK, query, resume=tree).verdict is Verdict.FALSIFIED


def test_a_verdict_saves_no_tree(tmp_path: Path) -> None:
    """There is nothing to go on with."""
    tree = tmp_path / "tree"
    assert verify(NETWORK, provable(), save=str(tree)).verdict is Verdict.VERIFIED
    assert not tree.exists()


def test_what_a_saved_tree_says_is_not_believed(tmp_path: Path) -> None:
    """Trees of other properties, certificates, damaged and missing files are refused; a tree proves nothing."""
    query, tree, proof = provable(), tmp_path / "tree", str(tmp_path / "proof")
    verify(NETWORK, query, save=str(tree), progress=Stopper(60))
    with pytest.raises(RejectedCertificate, match="saved search"):
        check_file(str(tree), NETWORK, query)
    with pytest.raises(RejectedCertificate, match="another network or another property"):
        verify(NETWORK, provable(0.01), resume=str(tree))
    verify(NETWORK, query, certificate=proof)
    with pytest.raises(RejectedCertificate, match="not a saved search"):
        verify(NETWORK, query, resume=proof)
    content = tree.read_bytes()
    tree.write_bytes(content[:-5])
    with pytest.raises(MalformedCertificate):
        verify(NETWORK, query, resume=str(tree))
    with pytest.raises(InputError, match="does not exist"):
        verify(NETWORK, query, resume=str(tmp_path / "nothing"))


def test_a_tree_that_claims_too_much_is_rejected(tmp_path: Path) -> None:
    """The closes of one property under the name of a stronger one are proved again, and are not true."""
    weak, strong = provable(0.1), provable(-0.1)
    path = tmp_path / "tree"
    assert verify(NETWORK, weak, certificate=str(path)).verdict is Verdict.VERIFIED
    digests = [hashlib.sha256(property_text(query)).hexdigest().encode() for query in (weak, strong)]
    forged = path.read_bytes().replace(*digests).replace(b'"kind":"verified"', b'"kind":"unfinished"')
    path.write_bytes(forged)
    assert hashlib.sha256(network_text(NETWORK)).hexdigest().encode() in forged
    with pytest.raises(CertificateError):
        verify(NETWORK, strong, resume=str(path))


@pytest.mark.parametrize("sense", ["min", "max"])
def test_an_exact_bound_comes_with_a_proof(tmp_path: Path, sense: str) -> None:
    """The file and the property beside it convince both checkers, and say what the bound says."""
    path = str(tmp_path / "proof")
    answer = bound(NETWORK, BOX, "Y_0 - 2 Y_1", sense=sense, certificate=path)  # type: ignore[arg-type]
    assert answer.certified
    query = load_property(path + ".vnnlib")
    check_file(path, NETWORK, query)
    exact(NETWORK, query, Path(path).read_bytes())
    (atom,) = query.cases[0].unsafe
    proved = -atom.linear.constant / (1 if sense == "min" else -1)
    near = answer.lower if sense == "min" else answer.upper
    assert abs(proved - Fraction(near)) <= 2e-9 * max(1, abs(near))
    assert (proved < near) == (sense == "min")


def test_a_bound_that_is_not_exact_has_no_certificate(tmp_path: Path) -> None:
    """Other methods refuse, a search that is cut short writes nothing."""
    path = tmp_path / "proof"
    with pytest.raises(InputError, match="exact"):
        bound(NETWORK, BOX, "Y_0", method="crown", certificate=str(path))
    answer = bound(NETWORK, BOX, "Y_0", gap=0.0, certificate=str(path), progress=Stopper(5))
    assert answer.certified is False
    assert not path.exists()
    with pytest.raises(InputError, match="cannot be written as VNN-LIB"):
        bound(NETWORK, BOX, "X_0", certificate=str(path))
    assert not path.exists()


def test_what_is_proved_of_a_bound_is_written_exactly(tmp_path: Path) -> None:
    """Ends that no decimal holds, and inputs in the objective, read back as the property that is proved."""
    path = str(tmp_path / "proof")
    third = Box([Fraction(-1, 3)] * 4, [1] * 4)
    assert bound(NETWORK, third, "Y_0 - X_1 + 3 X_2", gap=1e-3, certificate=path).certified
    query = load_property(path + ".vnnlib")
    assert query.cases[0].region == third
    check_file(path, NETWORK, query)
