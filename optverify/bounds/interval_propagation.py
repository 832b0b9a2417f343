"""Pre-activation bounds by interval arithmetic: cheapest and loosest."""

from __future__ import annotations

from optverify.interval import Interval
from optverify.network import Network, Relu
from optverify.preactivation import Bounds, layer_inputs


def propagate(network: Network, region: Interval) -> tuple[Bounds, Interval]:
    """Bound every pre-activation and the output by interval arithmetic.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (..., n_inputs)

    Returns
    -------
    Bounds
    Interval, ends of shape (..., n_outputs)

    Notes
    -----
    z^k in W^k relu([l, u]) + b^k, each step rounded outward (Moore 1966; for networks: Gowal et al., 2018).
    """
    values = layer_inputs(network, region, Bounds(()))
    relus = [z for layer, z in zip(network.layers, values, strict=False) if isinstance(layer, Relu)]
    return Bounds(tuple(relus)), values[-1]
