"""How far a floating-point execution of a lowered network may be from its real value: computed, not chosen.

Along the layers, with a the values over the reals and e a bound on the error of the deployed values:

    Affine   e' = |W| e + (gamma_r (1 + slack) + slack) (|W| (|a| + e) + |b|) + underflow
    Relu     e' = e

gamma_r = r u / (1 - r u) for the r roundings of the row. The float64 evaluation of all this has an error of
its own, bounded the same way with u = 2**-53 and the number of terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optverify.network import Affine, Network

UNIT = {np.float32: 2.0**-24, np.float64: 2.0**-53}
SMALLEST = {np.float32: 2.0**-149, np.float64: 2.0**-1074}


def deployed(network: Network, x: Any, kind: type = np.float32) -> tuple[Any, Any]:
    """Return the outputs over the reals (nearly) and a bound on how far an execution may be from them."""
    value = np.asarray(x, np.float64).ravel()
    error = np.zeros(value.size)
    unit = UNIT[kind]
    for layer in network.layers:
        if not isinstance(layer, Affine):
            value = layer(value)
            continue
        size = layer.size @ (np.abs(value) + error) + np.abs(layer.bias)
        gamma = layer.roundings * unit / (1 - layer.roundings * unit)
        own = 2 * (layer.csr.count_nonzero(axis=1) + 4) * UNIT[np.float64]
        relative = gamma * (1 + layer.slack) + layer.slack + own
        error = (layer.size @ error + relative * size + layer.roundings * SMALLEST[kind]) * (1 + 1e-9)
        value = layer(value)
    return value, error


def assert_within(network: Network, x: Any, y: Any, kind: type = np.float32, sharp: float = 2.0**14) -> None:
    """Fail if an execution gave something that the network's bound excludes, or if the bound is worth nothing."""
    value, error = deployed(network, x, kind)
    measured = np.asarray(y, np.float64).ravel()
    assert measured.shape == value.shape
    assert np.isfinite(measured).all()
    excess = np.abs(measured - value) - error
    assert (excess <= 0).all(), f"outside the bound by {excess.max()}: {measured} against {value} +- {error}"
    assert (error <= sharp * UNIT[kind] * (1 + np.abs(value).max())).all(), f"the bound {error} is too weak to test"
