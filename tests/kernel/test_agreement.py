"""The two checkers agree: what the fast one accepts the exact one accepts, and what is true of margin the other way."""

from __future__ import annotations

import io
import json
import random
import time
import tracemalloc
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify import kernel
from optverify.canonical import network_text, property_text
from optverify.certificate import check
from optverify.errors import MalformedCertificate, RejectedCertificate
from optverify.expressions import Atom, Linear
from optverify.network import Affine, Layer, Network, Relu
from optverify.norms import NORMS
from optverify.query import Case, Query
from optverify.region import Ball, Box
from optverify.semantics import named
from tests.kernel import build, exact, make_cases, prover
from tests.kernel.test_files import folders
from tests.kernel.test_formula import lifted, questions

EXACT_ONLY = "exact checker"
"""In the message where the fast checker does not read something that is in the format."""


def pose(network: bytes, property_: bytes) -> tuple[Network, Query]:
    """Read the canonical texts, whose numbers are floats here."""
    net, prop = json.loads(network), json.loads(property_)
    layers: list[Layer] = []
    for layer in net["layers"]:
        if "relu" in layer:
            layers.append(Relu(np.array(layer["relu"], bool)))
            continue
        weight, scale = np.zeros(layer["affine"]), 2.0 ** -layer["shift"]
        for i, row in enumerate(layer["rows"]):
            weight[i, row[::2]] = row[1::2]
        relative = 2.0 ** -layer["slack_shift"]
        bias, slack, absolute = (np.array(layer[key], float) for key in ("bias", "slack", "absolute"))
        steps = np.array([int(limit > 0) for limit in layer["limits"]])  # what has a limit makes roundings
        off = slack * relative, absolute * scale * relative
        layers.append(Affine(weight * scale, bias * scale, steps, *off))
    cases = []
    for case in prop["cases"]:
        lower, upper = ([Fraction(*v) for v in case[side]] for side in ("lower", "upper"))
        atoms = [
            Atom(Linear({(k, i): Fraction(*c) for k, i, *c in a["terms"]}, Fraction(*a["constant"])), bool(a["strict"]))
            for a in case["unsafe"]
        ]
        region = Box(lower, upper)
        if "norm" in case:
            centre = tuple(Fraction(*v) for v in case["centre"])
            region = Ball(region.lower, region.upper, NORMS[-1 - case["norm"]], centre, Fraction(*case["radius"]))
        cases.append(Case(region, tuple(atoms)))
    return Network(tuple(layers), semantics=named(net["semantics"])), Query(
        tuple(cases), prop["inputs"], prop["outputs"]
    )


def fast(network: Network, query: Query, certificate: bytes) -> str:
    """Return the fast checker's verdict; any other exception than the two is a defect."""
    try:
        return {"verified": "PROVED", "falsified": "REFUTED"}[check(io.BytesIO(certificate), network, query).kind]
    except RejectedCertificate:
        return "Rejected"
    except MalformedCertificate as error:
        return EXACT_ONLY if EXACT_ONLY in str(error) else "Malformed"


def slow(network: bytes, property_: bytes, certificate: bytes) -> str:
    """Return the kernel's verdict."""
    try:
        return kernel.check(network, property_, io.BytesIO(certificate)).splitlines()[-1]
    except (kernel.Rejected, kernel.Malformed) as error:
        return type(error).__name__


def read(folder: Path) -> tuple[bytes, bytes, bytes]:
    network, property_, certificate = (
        (folder / name).read_bytes() for name in ("network.json", "property.json", "certificate")
    )
    return network, property_, certificate


@pytest.mark.parametrize("folder", folders("accept"), ids=lambda path: path.name)
def test_accepted_files(folder: Path) -> None:
    """Both accept."""
    network, property_, certificate = read(folder)
    net, query = pose(network, property_)
    assert (network_text(net), property_text(query)) == (network, property_)
    assert fast(net, query, certificate) == slow(network, property_, certificate)


@pytest.mark.parametrize("kind", ["reject", "malformed"])
def test_refused_files(kind: str) -> None:
    """Nothing that the kernel refuses is accepted, of certificates."""
    seen = 0
    for folder in folders(kind):
        if folder.name.startswith(("network", "property")):
            continue  # not canonical: what the fast checker writes itself cannot be that
        network, property_, certificate = read(folder)
        net, query = pose(network, property_)
        verdict = fast(net, query, certificate)
        assert verdict in ("Rejected", "Malformed", EXACT_ONLY), folder
        seen += 1
    assert seen > 10


def mutants(rng: random.Random, certificate: bytes, count: int) -> list[bytes]:
    """Change, drop or insert bytes under the compression."""
    start = certificate.index(b"\n", len(build.MAGIC)) + 1
    records, found = zlib.decompress(certificate[start:]), []
    for _ in range(count if records else 0):
        spoilt = bytearray(records)
        i = rng.randrange(len(spoilt))
        spoilt[i : i + rng.randrange(2)] = bytes(rng.choices([*range(9), 64, 127, 128, 255], k=rng.randrange(3)))
        found.append(certificate[:start] + zlib.compress(bytes(spoilt)))
    return found


def test_random_certificates() -> None:
    """Thousands of trees, most of them spoilt: what the fast one accepts the kernel accepts, and nearly always back.

    Where an interval ends at 0 exactly, a slope that no writer would store counts for the fast checker only.
    """
    agreed: list[bool] = []

    @settings(max_examples=60, deadline=None)
    @given(questions(), st.integers(0, 2**20), st.sampled_from([Fraction(-1, 64), Fraction(1, 64), Fraction(1)]))
    def search(question: tuple[bytes, bytes], seed: int, margin: Fraction) -> None:
        network, property_ = question
        all_ = [exact.problems(*question, wobble) for wobble in (-1, 0, 1)]
        least = [min(p.margin for p in ps) for ps in zip(*all_, strict=True)]
        property_ = lifted(property_, [margin - m for m in least])
        certificate = prover.certificate(seed, network, property_)
        if certificate is None:
            certificate = build.verified(network, property_, build.REFRESH + build.close(0, [1, 1]))
        net, query = pose(network, property_)
        for spoilt in [certificate, *mutants(random.Random(seed), certificate, 25)]:
            ours, theirs = fast(net, query, spoilt), slow(network, property_, spoilt)
            if ours == "PROVED":
                assert theirs == "PROVED"
                assert margin > 0
            if theirs == "PROVED":  # what is in the format for one is in the format for the other
                assert ours in ("PROVED", "Rejected", EXACT_ONLY)
                agreed.append(ours != "Rejected")

    search()
    assert np.mean(agreed) > 0.98


def records_of(network: Network, query: Query, records: bytes) -> bytes:
    return build.verified(network_text(network), property_text(query), b"")[: -len(zlib.compress(b""))] + records


@pytest.mark.parametrize(
    "records",
    [
        b"\x03" * 100_000_000,
        b"\x05\x00" + b"\x80" * 100_000_000,
        build.u(5) + build.u(0) + build.u(1) + build.u(2) + b"\0\xff" + build.u(10**15) + b"\x01" * 50_000_000,
        (build.u(1) + build.u(0) + build.d(1, -1) + build.REFRESH) * 5_000_000,
        (build.u(2) + build.u(0) + build.u(0) + build.close(0, [1])) * 200_000,
    ],
    ids=["refreshes", "endless-integer", "multipliers", "splits", "chain"],
)
def test_zip_bombs_for_the_fast_checker(records: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that expands to very much is refused soon and in little memory."""
    monkeypatch.setattr("optverify.records.FREE_SPLITS", 1_000)  # only to be quick
    net, query = pose(make_cases.dump(make_cases.SAME), make_cases.dump(make_cases.NEVER))
    certificate = records_of(net, query, zlib.compress(records, 9))
    del records
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises((MalformedCertificate, RejectedCertificate)):
        check(io.BytesIO(certificate), net, query)
    assert time.process_time() - started < 30
    assert tracemalloc.get_traced_memory()[1] < 200_000_000
    tracemalloc.stop()


def test_numbers_that_are_no_floats() -> None:
    """Huge integers, weights beyond 2**53 and multipliers of 60 bits are left to the kernel, which reads them."""
    case = make_cases.case(make_cases.UNIT, make_cases.atom((1, 8), make_cases.Y))
    network, property_ = make_cases.dump(make_cases.ABSOLUTE), make_cases.dump(make_cases.property_(1, 1, case))
    net, query = pose(network, property_)
    for close in (
        build.close(0, [2**60 + 1], build.advice([(0, 9), (1, 9)])),
        build.close(0, [1], build.advice([], [(0, (2**60 + 1, -70)), (1, (1, -20))])),
        build.close(0, [1], build.advice([], [(0, (1, -4_000)), (1, (1, -20))])),
    ):
        certificate = build.verified(network, property_, close)
        assert slow(network, property_, certificate) == "PROVED"
        assert fast(net, query, certificate) == EXACT_ONLY
