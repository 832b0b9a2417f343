"""Write certificates by hand, from docs/certificate-v1.md alone: it shares no code with the project's writer."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from fractions import Fraction

MAGIC = b"optverify certificate 1\n"
Slopes = Iterable[tuple[int, int]]
Given = Iterable[tuple[int, tuple[int, int]]]

REFRESH, EMPTY = b"\x03", b"\x06"
RULE = b"\0\0"


def u(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def s(value: int) -> bytes:
    """Signed, by zigzag."""
    return u(2 * value if value >= 0 else -2 * value - 1)


def d(mantissa: int, exponent: int) -> bytes:
    """Dyadic number mantissa * 2^exponent."""
    return s(mantissa) + s(exponent)


def dyadic(value: Fraction | float) -> tuple[int, int]:
    """Mantissa and exponent of a dyadic rational."""
    n, den = Fraction(value).as_integer_ratio()
    assert den & (den - 1) == 0
    return n, 1 - den.bit_length()


def listed(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Write values for some neurons, each behind the number of neurons left out."""
    entries, out, last = sorted(values), b"", -1
    for neuron, value in entries:
        out += u(neuron - last - 1) + value
        last = neuron
    return u(len(entries)) + out


def advice(slopes: Slopes = (), given: Given = ()) -> bytes:
    """Write slopes and multipliers of neurons by their numbers."""
    return listed((n, bytes([a])) for n, a in slopes) + listed((n, d(*g)) for n, g in given)


def split_input(i: int, m: Fraction | float, below: bytes, above: bytes) -> bytes:
    """Write a whole subtree."""
    return u(1) + u(i) + d(*dyadic(m)) + below + above


def split_neuron(k: int, j: int, below: bytes, above: bytes) -> bytes:
    """Write a whole subtree."""
    return u(2) + u(k) + u(j) + below + above


def close(group: int, mu: Sequence[int] = (), how: bytes = RULE) -> bytes:
    """Write the end of one group."""
    return u(5) + u(group) + b"".join(map(u, mu)) + how


def lifted(
    group: int,
    mu: Sequence[int],
    shift: int,
    neurons: Iterable[tuple[int, tuple[int, int, int, int]]],
    added: Iterable[tuple[int, int]] = (),
    inputs: Iterable[tuple[int, int]] = (),
) -> bytes:
    """Write the end of one group by products, whose multipliers (above, relu, chord, box) are over 2^shift."""
    four = [(n, u(above) + s(relu) + u(chord) + u(box)) for n, (above, relu, chord, box) in neurons]
    lists = listed(four) + listed((n, s(value)) for n, value in added) + listed((i, u(box)) for i, box in inputs)
    return u(8) + u(group) + b"".join(map(u, mu)) + u(shift) + lists


def digests(network: bytes, property_: bytes) -> dict[str, str]:
    return {"network": hashlib.sha256(network).hexdigest(), "property": hashlib.sha256(property_).hexdigest()}


def line(header: dict[str, object]) -> bytes:
    return json.dumps(header, separators=(",", ":")).encode() + b"\n"


def verified(network: bytes, property_: bytes, records: bytes, grid: int = 40) -> bytes:
    """Write a whole certificate."""
    semantics = json.loads(network)["semantics"]
    header = {"kind": "verified", **digests(network, property_), "semantics": semantics, "grid": grid}
    return MAGIC + line(header) + zlib.compress(records)


def falsified(network: bytes, property_: bytes, case: int, x: Sequence[Fraction], semantics: str = "real") -> bytes:
    """Write a whole certificate."""
    point = [[v.numerator, v.denominator] for v in x]
    header = {"kind": "falsified", **digests(network, property_), "semantics": semantics, "case": case, "x": point}
    return MAGIC + line(header)
