"""Certificates about every execution in a format: what both checkers accept, and what they must not."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from optverify import kernel
from optverify.bound import bound
from optverify.canonical import network_text, property_text
from optverify.certificate import check, check_file, write_falsified
from optverify.deployment import deployed, limits, overflow
from optverify.errors import CertificateError, InputError, RejectedCertificate
from optverify.expressions import outputs
from optverify.network import Affine, Network, Relu
from optverify.query import Query
from optverify.region import Box
from optverify.results import Verdict
from optverify.semantics import FLOAT16, FLOAT32, SEMANTICS, named
from optverify.verify import verify
from tests.test_float_answers import UNIT, network

FLOATS = [name for name in SEMANTICS if name != "real"]


def slow(net: Network, query: Query, certificate: bytes, semantics: str) -> str:
    """Return the kernel's statement."""
    text = network_text(deployed(net, named(semantics)))
    return kernel.check(text, property_text(query), io.BytesIO(certificate))


def least(net: Network) -> float:
    return bound(net, UNIT, "Y_0", method="exact").lower


@pytest.mark.parametrize("name", FLOATS)
def test_both_checkers_accept(name: str, tmp_path: Path) -> None:
    """A property with a little room is verified with a certificate; the statement names the format."""
    net = network(4, name)
    room = Fraction(2) if name == "bfloat16" else Fraction(1, 8)
    query, path = Query.always(UNIT, outputs(1)[0] >= Fraction(least(net)) - room, 1), tmp_path / "proof"
    answer = verify(net, query, semantics=name, certificate=str(path))
    assert (answer.verdict, answer.certified) == (Verdict.VERIFIED, True)
    assert check_file(str(path), net, query).semantics == name
    statement = slow(net, query, path.read_bytes(), name)
    assert f"semantics: {name}" in statement
    assert statement.endswith("PROVED")


def test_it_is_about_that_format_only(tmp_path: Path) -> None:
    """A certificate for float32 proves nothing about a coarser format, and none over the reals about a format."""
    net, path = network(4, "float16"), tmp_path / "proof"
    query = Query.always(UNIT, outputs(1)[0] >= Fraction(least(net)) - Fraction(1, 8), 1)
    for name in ("float32", "real"):
        verify(net, query, semantics=name, certificate=str(path))
        data = path.read_bytes()
        changed = data.replace(f'"semantics":"{name}"'.encode(), b'"semantics":"float16"', 1)
        with pytest.raises(RejectedCertificate, match="another network"):
            check(io.BytesIO(changed), net, query)
        with pytest.raises(kernel.Rejected, match="another network"):
            slow(net, query, changed, "float16")
        with pytest.raises(kernel.Rejected):
            slow(net, query, data, "float16")


def test_the_margin_must_hold_the_band(tmp_path: Path) -> None:
    """What is true over the reals by less than the errors may do has a certificate over the reals only."""
    net = network(4, "float16")
    query = Query.always(UNIT, outputs(1)[0] >= Fraction(least(net)) - Fraction(1, 10**6), 1)
    path = tmp_path / "proof"
    assert verify(net, query, certificate=str(path)).verdict is Verdict.VERIFIED
    path.unlink()
    answer = verify(net, query, semantics="float16", certificate=str(path), time_limit=20)
    assert answer.verdict is not Verdict.VERIFIED
    assert path.exists() == (answer.verdict is Verdict.FALSIFIED)


def test_an_execution_refutes(tmp_path: Path) -> None:
    """The fast checker runs the point; the kernel wants all executions to violate, which they do with some room."""
    net, path = network(4, "float32"), tmp_path / "proof"
    query = Query.always(UNIT, outputs(1)[0] >= Fraction(least(net)) + Fraction(1, 8), 1)
    assert verify(net, query, semantics="float32", certificate=str(path)).verdict is Verdict.FALSIFIED
    assert check_file(str(path), net, query).kind == "falsified"
    assert slow(net, query, path.read_bytes(), "float32").endswith("REFUTED")


def swallowing() -> tuple[Network, Query]:
    """X + 2^24 - 2^24 is x over the reals, and 0 from left to right in float32 where x = 1."""
    step = Affine([[1.0, 1.0, -1.0]], [0.0])
    box = Box([1, 2**24, 2**24], [1, 2**24, 2**24])
    return Network((step, Relu([True]))), Query.always(box, outputs(1)[0] >= 1, 1)


def test_some_executions_refute() -> None:
    """The fast checker finds an order that violates; the kernel, which knows the band alone, does not accept it."""
    net, query = swallowing()
    float32, stream = deployed(net, FLOAT32), io.BytesIO()
    write_falsified(stream, float32, query, 0, [Fraction(v) for v in (1, 2**24, 2**24)])
    assert check(io.BytesIO(stream.getvalue()), net, query).kind == "falsified"
    with pytest.raises(kernel.Rejected, match="certainly"):
        slow(net, query, stream.getvalue(), "float32")


def test_points_of_a_counterexample() -> None:
    """One that no order violates is rejected, and so is one that is no number of the format."""
    net, query = swallowing()
    float32 = deployed(net, FLOAT32)
    easy = Query.always(query.cases[0].region, outputs(1)[0] >= -1, 1)
    for asked, x in ((easy, 1), (query, 1 + Fraction(1, 2**40))):
        stream = io.BytesIO()
        write_falsified(stream, float32, asked, 0, [Fraction(v) for v in (x, 2**24, 2**24)])
        with pytest.raises(RejectedCertificate):
            check(io.BytesIO(stream.getvalue()), net, asked)


def test_points_beside_the_region() -> None:
    """It is the point in the file that must violate, not the nearest one of the region; and it may be any rational."""
    net = Network((Affine([[1.0]], [0.0]), Relu([True])))
    query, big = Query.always(Box([0], [1]), outputs(1)[0] <= 0.5, 1), Fraction(10) ** 400
    for name in FLOATS:
        for x in (Fraction(1), Fraction(2), big, -big, 1 / big):
            stream = io.BytesIO()
            write_falsified(stream, deployed(net, named(name)), query, 0, [x])
            if x == 1:
                assert check(io.BytesIO(stream.getvalue()), net, query).kind == "falsified"
                continue
            with pytest.raises(RejectedCertificate):
                check(io.BytesIO(stream.getvalue()), net, query)


def test_overflow_is_part_of_the_statement(tmp_path: Path) -> None:
    """What may overflow has no proof, although every value in range would satisfy the property."""
    net = Network.from_arrays([([[300.0], [300.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])])
    path = tmp_path / "proof"
    for top, verdict in ((200, Verdict.VERIFIED), (250, Verdict.UNKNOWN)):
        query = Query.always(Box([0], [top]), outputs(1)[0] <= 20_000, 1)
        answer = verify(net, query, semantics="float16", certificate=str(path), time_limit=10)
        if verdict is Verdict.UNKNOWN:
            assert answer.verdict is verdict
            assert "overflow" in answer.reason
            assert not path.exists()
            stream, wide = io.BytesIO(), deployed(net, FLOAT16)
            text = network_text(wide)
            write_falsified(stream, wide, query, 0, [Fraction(top)])
            with pytest.raises(kernel.Rejected, match="overflow"):
                kernel.check(text, property_text(query), io.BytesIO(stream.getvalue()))
        else:
            path.unlink(missing_ok=True)


def test_limits_below_one_cannot_be_written(tmp_path: Path) -> None:
    """A mean so long that its sum must stay below 1 is an error before the work; without a certificate it is none."""
    tiny = 2.0**-20
    net = Network((Affine(np.full((1, 2), tiny), [0.0]),))
    query, path = Query.always(Box([0, 0], [0.125, 0.125]), outputs(1)[0] <= 1, 1), tmp_path / "proof"
    with pytest.raises(InputError, match="below 1"):
        verify(net, query, semantics="float16", certificate=str(path))
    assert not path.exists()
    assert verify(net, query, semantics="float16", time_limit=10).verdict in (Verdict.VERIFIED, Verdict.UNKNOWN)


def test_a_limit_is_the_same_for_both_checkers() -> None:
    """It is never written as 0, which means none, and never rounded in one checker alone."""
    least = Network((Affine(np.full((1, 2), 5e-324), [0.0]),))
    with pytest.raises(InputError, match="below 1"):
        network_text(deployed(least, named("float64")))
    weight = 2.0**-13 * 1.0810546875
    net = deployed(Network((Affine([[weight, weight]], [0.0]),)), FLOAT16)
    (most,) = limits(net)
    assert most[0] > 1
    text = network_text(net)
    assert f'"limits":[{int(most[0])}]'.encode() in text
    for share in (0.9, 0.93, 0.96, 0.99, 1.0):  # of what the sum may be: both say yes or both say no
        value = Fraction(share * float(most[0]) / (2 * weight))
        query = Query.always(Box([value, value], [value, value]), outputs(1)[0] <= 0, 1)
        inside = not overflow(net, query.cases[0].region.outward)
        box = kernel.read_property(property_text(query), kernel.read_network(text))[0][0].box
        try:
            kernel.read_network(text).bounded(box)
        except kernel.Rejected:
            assert not inside


def test_optima_have_certificates(tmp_path: Path) -> None:
    """The bound of an optimum over all executions, with its property beside it."""
    net, path = network(4, "float32"), tmp_path / "proof"
    answer = bound(net, UNIT, "Y_0", semantics="float32", certificate=str(path), gap=1e-3)
    assert answer.certified
    from optverify.io import load_property

    query = load_property(f"{path}.vnnlib")
    assert check_file(str(path), net, query).semantics == "float32"
    with pytest.raises(CertificateError):
        check_file(str(path), network(5, "float32"), query)


def test_a_saved_search_goes_on(tmp_path: Path) -> None:
    """Under floats too."""
    net, path = network(6, "float32"), tmp_path / "tree"
    query = Query.always(UNIT, outputs(1)[0] >= Fraction(least(net)) - Fraction(1, 1000), 1)
    first = verify(net, query, semantics="float32", save=str(path), time_limit=0.0)
    assert first.verdict is Verdict.UNKNOWN
    assert verify(net, query, semantics="float32", resume=str(path)).verdict is Verdict.VERIFIED
    with pytest.raises((CertificateError, InputError)):
        verify(net, query, resume=str(path))
