"""Networks and properties in the canonical exact form that certificates speak about.

Integers only: every float64 is an integer over a power of two, every bound of a query a rational. The texts
are what ``optverify/kernel.py`` reads and their SHA-256 is what a certificate names (``docs/certificate-v1.md``).
How many roundings the deployed program makes does not matter over the reals and is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from optverify.errors import InputError
from optverify.expressions import Atom
from optverify.network import Affine, Network, Relu
from optverify.query import Query

MAX_DIGITS = 4_300
"""The kernel reads integers of at most this many characters, sign included."""


def network_text(network: Network) -> bytes:
    """Write a network, exactly.

    Examples
    --------
    >>> from optverify import Network
    >>> network_text(Network.from_arrays([([[0.5, 0.0]], [1.0])]))[53:]
    b'{"affine":[1,2],"shift":1,"rows":[[0,1]],"bias":[2],"slack_shift":0,"slack":[0]}]}'
    """
    layers = [
        {"relu": [int(on) for on in layer.mask]} if isinstance(layer, Relu) else _affine(layer)
        for layer in network.layers
    ]
    return _write({"format": "optverify network 1", "inputs": network.n_inputs, "layers": layers})


def property_text(query: Query) -> bytes:
    """Write a query, exactly.

    Raises
    ------
    InputError
        A number of the query has 4,300 digits or more.
    """
    cases = [
        {
            "lower": [_rational(v) for v in case.region.lower],
            "upper": [_rational(v) for v in case.region.upper],
            "unsafe": [_atom(atom) for atom in case.unsafe],
        }
        for case in query.cases
    ]
    return _write(
        {"format": "optverify property 1", "inputs": query.n_inputs, "outputs": query.n_outputs, "cases": cases}
    )


def network_digest(network: Network) -> str:
    """Return the SHA-256 of :func:`network_text`, in hexadecimal."""
    return hashlib.sha256(network_text(network)).hexdigest()


def property_digest(query: Query) -> str:
    """Return the SHA-256 of :func:`property_text`, in hexadecimal."""
    return hashlib.sha256(property_text(query)).hexdigest()


def _write(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def _affine(layer: Affine) -> dict[str, Any]:
    rows = layer.exact
    return {
        "affine": list(layer.shape),
        "shift": rows.shift,
        "rows": [
            [number for pair in zip(columns, weights, strict=True) for number in pair]
            for columns, weights in zip(rows.columns, rows.weights, strict=True)
        ],
        "bias": list(rows.biases),
        "slack_shift": rows.slack_shift,
        "slack": list(rows.slacks),
    }


def _atom(atom: Atom) -> dict[str, Any]:
    return {
        "terms": [[kind, i, *_rational(c)] for (kind, i), c in sorted(atom.linear.terms.items()) if c],
        "constant": _rational(atom.linear.constant),
        "strict": int(atom.strict),
    }


def _rational(value: Fraction) -> list[int]:
    pair = [value.numerator, value.denominator]
    if any(abs(n) >= 10 ** (MAX_DIGITS - 1) for n in pair):
        raise InputError(f"a number of the property has more than {MAX_DIGITS - 1} digits")
    return pair
