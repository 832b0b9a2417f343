"""Spoilt certificates, and certificates for spoilt problems: refused, or what they prove is true by the oracle."""

from __future__ import annotations

import io
import json
import random
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify import kernel
from tests.kernel import build, exact, make_cases

# The oracle is about boxes; for balls see test_balls.py.
FOLDERS = sorted(p.parent for p in Path(__file__).parent.glob("accept/*/certificate") if "ball" not in p.parent.name)
PROOFS = [folder for folder in FOLDERS if not folder.name.startswith("point")]


def read(folder: Path) -> tuple[bytes, bytes, bytes]:
    network, property_, certificate = (
        (folder / name).read_bytes() for name in ("network.json", "property.json", "certificate")
    )
    return network, property_, certificate


def verdict(network: bytes, property_: bytes, certificate: bytes) -> str:
    """Return the verdict; any other exception than the two is a defect."""
    try:
        return kernel.check(network, property_, io.BytesIO(certificate)).splitlines()[-1]
    except kernel.Rejected:
        return "Rejected"
    except kernel.Malformed:
        return "Malformed"


@cache
def is_true(network: bytes, property_: bytes) -> bool:
    """Ask the oracle."""
    wobbles = (-1, 0, 1) if any(any(f.get("slack", ())) for f in json.loads(network)["layers"]) else (0,)
    return all(p.margin > 0 for wobble in wobbles for p in exact.problems(network, property_, wobble))


def places(value: Any, put: Callable[[Any], None]) -> Iterator[tuple[Any, Callable[[Any], None]]]:
    """Give every value inside a JSON value, with a function that replaces it."""
    yield value, put
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(items):
        yield from places(part, lambda new, key=key: value.__setitem__(key, new))  # type: ignore[misc]


def changes(value: Any) -> list[Any]:
    if isinstance(value, int):
        return [value + 1, value - 1, -value, 0, 2 * value + 1, 10**5_000, True, None, float(value), str(value)]
    if isinstance(value, list):
        return [[], value[:-1], value + value[-1:], value[::-1], {}]
    return [None, 0, [], f"{value}x"] if isinstance(value, str) else [None, [], {**value, "more": 0}]


def mutated(text: bytes) -> Iterator[bytes]:
    """Give the text with one value changed, for every value and change."""
    value = json.loads(text)
    box = [value]
    for old, put in places(value, lambda new: box.__setitem__(0, new)):
        for new in changes(old):
            if isinstance(new, int) and abs(new) > 10**4_000:
                put("HUGE")
                changed = json.dumps(box[0], separators=(",", ":")).replace('"HUGE"', "9" * 5_000)
            else:
                put(new)
                changed = json.dumps(box[0], separators=(",", ":"))
            put(old)
            if changed.encode() != text:
                yield changed.encode()


def resealed(network: bytes, property_: bytes, certificate: bytes) -> bytes:
    """Write the digests of another network and property into a certificate."""
    end = certificate.index(b"\n", len(build.MAGIC))
    header = json.loads(certificate[len(build.MAGIC) : end])
    return build.MAGIC + build.line({**header, **build.digests(network, property_)}) + certificate[end + 1 :]


@pytest.mark.parametrize("folder", PROOFS, ids=lambda path: path.name)
def test_accepted_proofs_are_of_true_properties(folder: Path) -> None:
    """The oracle agrees with accept/."""
    assert is_true(*read(folder)[:2])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_field_of_the_problem(folder: Path) -> None:
    """Change any value of the network or property: refused by digest; resealed, refused or still true."""
    network, property_, certificate = read(folder)
    seen: dict[str, int] = {}
    problems = [(n, property_) for n in mutated(network)] + [(network, p) for p in mutated(property_)]
    for problem in problems:
        assert verdict(*problem, certificate) in ("Rejected", "Malformed")
        got = verdict(*problem, resealed(*problem, certificate))
        seen[got] = seen.get(got, 0) + 1
        if got == "PROVED":
            assert is_true(*problem), problem
        elif got == "REFUTED":
            assert not is_true(*problem), problem
    assert seen["Malformed"] > 50


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_byte_of_the_file(folder: Path) -> None:
    """Change, drop or double any byte of a certificate: it is refused or proves the same, and never crashes."""
    network, property_, certificate = read(folder)
    good = verdict(network, property_, certificate)
    start = certificate.index(b"\n", len(build.MAGIC)) + 1
    for i, byte in enumerate(certificate):
        for new in (b"", bytes([byte ^ 1]), bytes([byte ^ 128]), bytes([byte, byte]), b"0", b"\xff"):
            spoilt = certificate[:i] + new + certificate[i + 1 :]
            if spoilt != certificate:
                got = verdict(network, property_, spoilt)
                assert got in ("Rejected", "Malformed") or (got == good and i > start - 40)
    for end in range(len(certificate)):
        assert verdict(network, property_, certificate[:end]) == "Malformed"


@pytest.mark.parametrize("folder", PROOFS, ids=lambda path: path.name)
def test_every_byte_of_the_records(folder: Path) -> None:
    """Change any byte under the compression, for a property that is false: never proved."""
    network, property_, certificate = read(folder)
    start = certificate.index(b"\n", len(build.MAGIC)) + 1
    records = zlib.decompress(certificate[start:])
    false = json.loads(property_)
    if not false["cases"]:
        return
    for case, problem in zip(false["cases"], exact.problems(network, property_), strict=True):
        for atom in case["unsafe"]:
            n, d = atom["constant"]
            more = problem.margin
            atom["constant"] = [n * more.denominator - more.numerator * d, d * more.denominator]
    text = json.dumps(false, separators=(",", ":")).encode()
    assert not is_true(network, text)
    for i in range(len(records) + 1):
        for new in [*range(9), 64, 127, 128, 255]:
            for kept in (records[i:], records[i + 1 :]):
                spoilt = build.verified(network, text, records[:i] + bytes([new]) + kept)
                assert verdict(network, text, spoilt) in ("Rejected", "Malformed")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0, 1, 40]))
def test_random_records_for_a_false_property(seed: int, grid: int) -> None:
    """Random trees for the property y > x, where y = x, are never accepted."""
    rng = random.Random(seed)
    net = make_cases.dump(make_cases.SAME)
    prop = make_cases.dump(
        make_cases.property_(
            1, 1, make_cases.case(make_cases.UNIT, make_cases.atom((0, 1), ("X", 0, -1, 1), ("Y", 0, 1, 1)))
        )
    )
    pieces = [
        build.REFRESH,
        build.EMPTY,
        build.close(0, [rng.randrange(5)]),
        build.close(0, [1], build.advice([(0, 255), (1, 255)])),
        build.close(0, [1], build.advice([(1, 0)], [(0, (rng.randrange(-3, 3), 0))])),
        build.close(0, [1], build.advice([], [(1, (rng.randrange(-3, 3), -1))])),
        build.split_neuron(0, rng.randrange(2), b"", b""),
        build.split_input(0, rng.randrange(-7, 8) / 8, b"", b""),
    ]
    records = b"".join(rng.choices(pieces, k=rng.randrange(20)))
    assert verdict(net, prop, build.verified(net, prop, records, grid)) in ("Rejected", "Malformed")
