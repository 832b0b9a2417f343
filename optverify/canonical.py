"""Networks and properties in the canonical exact form that certificates speak about.

Integers only: every float64 is an integer over a power of two, every bound of a query a rational. The texts
are what ``optverify/kernel.py`` reads and their SHA-256 is what a certificate names (``docs/certificate-v1.md``).
How many roundings the deployed program makes does not matter over the reals and is left out; for a network under
another semantics (:mod:`optverify.deployment`) the rows say what it may be off, and up to which sums nothing overflows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import isfinite, lcm
from typing import Any

import numpy as np

from optverify.deployment import limits
from optverify.errors import InputError
from optverify.expressions import Atom
from optverify.interval import Array
from optverify.network import Affine, Network, Relu
from optverify.query import Query
from optverify.region import Ball, Box

MAX_DIGITS = 4_300
"""The kernel reads integers of at most this many characters, sign included."""

LIMIT = 10 ** (MAX_DIGITS - 1)

MAX_DENOMINATOR = 20_000
"""Most bits of the common denominator of a box with its ball, and of the coefficients of a case, in the kernel."""


def network_text(network: Network) -> bytes:
    """Write a network, exactly.

    Raises
    ------
    InputError
        A limit of a sum under floating-point semantics is below 1.

    Examples
    --------
    >>> from optverify import Network
    >>> network_text(Network.from_arrays([([[0.5, 0.0]], [1.0])]))[72:]
    b'{"affine":[1,2],"shift":1,"rows":[[0,1]],"bias":[2],"slack_shift":0,"slack":[0],"absolute":[0],"limits":[0]}]}'
    """
    most = iter(limits(network))
    layers = [
        {"relu": [int(on) for on in layer.mask]} if isinstance(layer, Relu) else _affine(layer, next(most))
        for layer in network.layers
    ]
    head = {"format": "optverify network 1", "semantics": network.semantics.name, "inputs": network.n_inputs}
    return _write({**head, "layers": layers})


def property_text(query: Query) -> bytes:
    """Write a query, exactly.

    Raises
    ------
    InputError
        A number of the query has 4,300 digits or more, or a common denominator more than 20,000 bits.
    """
    regions = {region: _region(region) for region in {case.region for case in query.cases}}
    cases = [{**regions[case.region], "unsafe": [_atom(atom) for atom in case.unsafe]} for case in query.cases]
    for case in query.cases:
        _require_common(v for atom in case.unsafe for v in (*atom.linear.terms.values(), atom.linear.constant))
    return _write(
        {"format": "optverify property 1", "inputs": query.n_inputs, "outputs": query.n_outputs, "cases": cases}
    )


@lru_cache(maxsize=8)
def network_digest(network: Network) -> str:
    """Return the SHA-256 of :func:`network_text`, in hexadecimal."""
    return hashlib.sha256(network_text(network)).hexdigest()


def property_digest(query: Query) -> str:
    """Return the SHA-256 of :func:`property_text`, in hexadecimal."""
    return hashlib.sha256(property_text(query)).hexdigest()


def _write(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _affine(layer: Affine, most: Array) -> dict[str, Any]:
    if layer.is_sparse:
        columns, ends, weights = layer.csr.indices, layer.csr.indptr, layer.csr.data
    else:
        there = layer.weight != 0
        columns, ends, weights = np.nonzero(there)[1], np.cumsum([0, *there.sum(axis=1)]), layer.weight[there]
    numbers, shift = _integers(np.concatenate([weights, layer.bias]))
    (slacks, slack_shift), (errors, error_shift) = _integers(layer.slack), _integers(layer.absolute)
    more = max(0, error_shift - shift - slack_shift)  # errors are over 2^(shift + slack_shift)
    slack_shift += more
    pairs = [number for pair in zip(columns.tolist(), numbers, strict=False) for number in pair]
    return {
        "affine": list(layer.shape),
        "shift": shift,
        "rows": [pairs[2 * i : 2 * j] for i, j in pairwise(ends.tolist())],
        "bias": numbers[weights.size :],
        "slack_shift": slack_shift,
        "slack": [s << more for s in slacks],
        "absolute": [e << shift + slack_shift - error_shift for e in errors],
        "limits": [_limit(limit) for limit in most.tolist()],
    }


def _limit(value: float) -> int:
    if value < 1:  # 0 would mean that there is none
        raise InputError("a sum that is multiplied by a tiny number must stay below 1: no certificate can say that")
    return int(value) if isfinite(value) else 0


def _integers(values: Array) -> tuple[list[int], int]:
    """Write finite floats as integers over the smallest power of two, 2^shift with shift >= 0; exactly."""
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    # Without trailing zeros: the lowest bit that is set is a power of two.
    zeros = np.where(whole == 0, 0, np.frexp((whole & -whole).astype(np.float64))[1] - 1)
    odd, exponents = whole >> zeros, np.where(whole == 0, 0, exponent - 53 + zeros)
    shift = max(0, -int(exponents.min(initial=0)))
    return [n << e for n, e in zip(odd.tolist(), (exponents + shift).tolist(), strict=True)], shift


def _region(region: Box) -> dict[str, Any]:
    ball = (*region.centre, region.radius) if isinstance(region, Ball) else ()
    _require_common((*region.lower, *region.upper, *ball))
    box = {side: [_rational(v) for v in ends] for side, ends in (("lower", region.lower), ("upper", region.upper))}
    if not isinstance(region, Ball):
        return box
    centre = [_rational(v) for v in region.centre]
    return {**box, "norm": int(region.norm), "centre": centre, "radius": _rational(region.radius)}


def _atom(atom: Atom) -> dict[str, Any]:
    return {
        "terms": [[kind, i, *_rational(c)] for (kind, i), c in sorted(atom.linear.terms.items()) if c],
        "constant": _rational(atom.linear.constant),
        "strict": int(atom.strict),
    }


def _require_common(values: Iterable[Fraction]) -> None:
    """Refuse numbers whose common denominator the kernel would not read."""
    common = 1
    for denominator in {value.denominator for value in values}:
        common = lcm(common, denominator)
        if common.bit_length() > MAX_DENOMINATOR:
            raise InputError(f"numbers of the property have a common denominator of more than {MAX_DENOMINATOR} bits")


def _rational(value: Fraction) -> list[int]:
    pair = [value.numerator, value.denominator]
    if abs(pair[0]) >= LIMIT or pair[1] >= LIMIT:
        raise InputError(f"a number of the property has more than {MAX_DIGITS - 1} digits")
    return pair
