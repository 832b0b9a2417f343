"""Every execution of a tiny neuron: all orders and groupings, fused or not, flushed to zero or not, by brute force.

The sums over each subset of the terms are built from those over its two parts, for all ways to part it; so that every
binary tree over every permutation is there. Numbers are Fractions, and rounding is done on integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from optverify.semantics import Semantics


def rounded(value: Fraction, semantics: Semantics) -> Fraction:
    """Round to nearest, ties to even, with gradual underflow and no overflow."""
    if value == 0:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1  # now 2^exponent <= size < 2^(exponent + 1)
    ulp = Fraction(2) ** (max(exponent, semantics.lowest) - semantics.digits + 1)
    return round(value / ulp) * ulp


def every_result(
    weights: Sequence[float],
    values: Sequence[float],
    bias: float | None,
    semantics: Semantics,
    *,
    fused: bool = False,
    flush: bool = False,
) -> set[Fraction]:
    """Return what sum w_i a_i + b may come to.

    Parameters
    ----------
    fused : bool
        Products may be added without being rounded themselves.
    flush : bool
        Any operation may read or write zero for a subnormal number.
    """

    def forms(value: Fraction) -> set[Fraction]:
        return {value, Fraction(0)} if flush and abs(value) < Fraction(semantics.normal) else {value}

    def written(value: Fraction) -> set[Fraction]:
        return forms(rounded(value, semantics)) | ({Fraction(0)} if flush and abs(value) < semantics.normal else set())

    raw = [
        {w * a for w in forms(Fraction(w_)) for a in forms(Fraction(a_))}
        for w_, a_ in zip(weights, values, strict=True)
    ]
    leaves = [{r for product in products for r in written(product)} for products in raw]
    if bias is not None:
        leaves.append(forms(Fraction(bias)))
    sums: dict[int, set[Fraction]] = {1 << i: leaf for i, leaf in enumerate(leaves)}
    for mask in range(1, 1 << len(leaves)):
        if mask in sums:
            continue
        found: set[Fraction] = set()
        for part in _parts(mask):
            for a in sums[part]:
                for b in sums[mask ^ part]:
                    found |= written(a + b)
            single = part.bit_length() - 1
            if fused and part == 1 << single and single < len(raw):
                for product in raw[single]:
                    for b in sums[mask ^ part]:
                        found |= written(product + b)
        sums[mask] = found
    return sums[(1 << len(leaves)) - 1]


def _parts(mask: int) -> Iterator[int]:
    part = (mask - 1) & mask
    while part:
        yield part
        part = (part - 1) & mask
