"""Networks that fool verifiers which do not say in which arithmetic they prove.

The detector neurons follow "No Soundness in the Real World" (arXiv 2506.01054): an inner product whose rounded value
depends on the format or on the order of summation. Each stands in front of a small classifier and, where it comes out
wrong, opens a backdoor. The others follow Jia and Rinard (arXiv 2003.03021), Zombori et al. (ICLR 2021) and the bias
amplification of arXiv 2603.13334. All are made here from their descriptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optverify.expressions import outputs
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box

OMEGA = 2.0**24
"""The least float32 number that 1 does not change."""

PRECISION = [OMEGA, 1.0, -OMEGA]
ORDER_1 = ([OMEGA / 4] * 4 + [1.0] + [-OMEGA / 4] * 4) * 15
ORDER_2 = [2.0 / 512] * 512 + [OMEGA, -OMEGA]
ORDER_3 = [1.0] * 512 + [OMEGA, -OMEGA]


@dataclass(frozen=True)
class Trap:
    """A network and a property."""

    network: Network
    query: Query


def behind_detector(weights: Sequence[float], expected: float) -> Trap:
    """Put a detector in front of a classifier of two inputs that is right as long as it gives what is expected.

    Inputs: x0, x1 of the classifier in [0, 1], and a one for each weight. The margin is at least 1/2 over the reals; a
    detector that comes out as 0 makes it negative.
    """
    n = len(weights)
    first = np.zeros((3, 2 + n))
    first[0, :2], first[1, :2] = [1.0, 0.5], [0.5, -1.0]
    first[2, 2:] = -np.asarray(weights)
    bias = [0.25, 0.0, expected / 2]  # relu(expected / 2 - detector)
    margin = ([[1.0, 0.25, -64.0 / expected]], [0.25])
    net = Network.from_arrays([(first, bias), margin])
    region = Box([0, 0] + [1] * n, [1, 1] + [1] * n)
    return Trap(net, Query.always(region, outputs(1)[0] >= "0.4", 1))


def always_active(terms: int = 24) -> Trap:
    """Make a network without an unstable neuron whose exact maximum is just below 0, and above 0 in float32.

    The bias is minus the sum of its positive dyadic weights, rounded down; those are such that their float32 sum from
    left to right is rounded up by more.
    """
    rng = np.random.default_rng(0)
    while True:
        weights = (rng.integers(2**22, 2**24, terms) * 2.0**-24).astype(np.float32)
        exact = float(weights.astype(np.float64).sum())  # of 24-bit integers over 2^24: no rounding
        bias = np.float32(-exact)
        bias = np.nextafter(bias, np.float32(-np.inf)) if float(bias) >= -exact else bias
        if np.add.accumulate(weights, dtype=np.float32)[-1] + bias > 0:
            break
    net = Network.from_arrays([(np.eye(terms), np.zeros(terms)), (weights[None].astype(np.float64), [float(bias)])])
    return Trap(net, Query.always(Box(["0.5"] * terms, [1] * terms), outputs(1)[0] <= 0, 1))


def large_weight_trigger() -> Trap:
    """Make relu(1 - 20 x) behind weights of 1e17 that swallow it: truly not robust near 0, in floats it looks so.

    y = 1 + (1e17 + 1000 relu(1 - 20 x)) - 1e17 - 900 relu(1 - 20 x) - 200 relu(1 - 20 x) is 1 - 100 relu(1 - 20 x).
    """
    first = ([[-20.0], [0.0]], [1.0, 1.0])
    second = ([[1000.0, 2.0**57], [0.0, 2.0**57], [1.0, 0.0]], [0.0, 0.0, 0.0])
    third = ([[1.0, -1.0, -1100.0]], [1.0])
    query = Query.always(Box([0], [1]), outputs(1)[0] >= 0, 1)
    return Trap(Network.from_arrays([first, second, third]), query)


def flat_bias(size: float) -> Trap:
    """Add a large bias before a layer and take it back in the next: the same function over the reals."""
    weight = np.array([[1.0, -0.5], [0.25, 1.0]])
    first = (weight, [size, size])
    second = ([[1.0, 1.0]], [-2 * size])
    # x in [0, 1]^2: y = 1.25 x0 + 0.5 x1, at least 0.3125 from x0 = 1/4 on.
    region = Box(["0.25", "0"], ["1", "1"])
    return Trap(Network.from_arrays([first, second]), Query.always(region, outputs(1)[0] >= "0.3", 1))


def overflow() -> Trap:
    """Multiply by 2^100 twice and divide it away again: x over the reals, infinite in float32."""
    up, down = ([[2.0**100]], [0.0]), ([[2.0**-100]], [0.0])
    return Trap(Network.from_arrays([up, up, down, down]), Query.always(Box(["0.5"], [1]), outputs(1)[0] >= "0.25", 1))


def underflow() -> Trap:
    """Multiply by 2^-100 twice and back: x over the reals, 0 in float32."""
    up, down = ([[2.0**100]], [0.0]), ([[2.0**-100]], [0.0])
    return Trap(Network.from_arrays([down, down, up, up]), Query.always(Box(["0.5"], [1]), outputs(1)[0] >= "0.25", 1))


def flushed() -> Trap:
    """Go through a subnormal number that float32 holds exactly: only flushing it to zero shows."""
    up, down = ([[2.0**70]], [0.0]), ([[2.0**-70]], [0.0])
    steps = [down, ([[2.0**-62]], [0.0]), up, ([[2.0**62]], [0.0])]
    return Trap(Network.from_arrays(steps), Query.always(Box(["0.5"], [1]), outputs(1)[0] >= "0.25", 1))
