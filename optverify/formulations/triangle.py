"""The triangle relaxation: a linear program."""

from __future__ import annotations

import numpy as np

from optverify.formulations.encoder import Assembly, Objective, Unstable, encode
from optverify.formulations.program import Cone, Program
from optverify.interval import TINY, Array, Interval, down, up
from optverify.network import Network
from optverify.preactivation import Bounds


def triangle(network: Network, region: Interval, bounds: Bounds, objective: Objective) -> Program:
    """Build the linear program whose ReLUs are replaced by the convex hull of their graphs.

    Symbols
        z, a : what enters and leaves an unstable neuron; l < 0 < u its bounds, l <= z <= u.

    Equations, for each unstable neuron::

        a >= 0,    a >= z,    a <= s z + q

    where s z + q is the chord from (l, 0) to (u, u): s = u / (u - l), q = -s l, with q rounded up. All
    else is linear and as :mod:`optverify.formulations.encoder` has it.

    Kind
        Relaxation: the best that treats neurons one at a time.

    Size
        With n inputs, N pre-activations of which p unstable, m outputs: n + N + p + m variables,
        N + m equations, 2 p inequalities.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds
    objective : Weighted or Largest

    Raises
    ------
    ShapeError, InputError
        See :func:`optverify.formulations.encoder.encode`.

    References
    ----------
    Ehlers, "Formal verification of piece-wise linear feed-forward neural networks", ATVA 2017, section 4.
    """
    return encode(network, region, bounds, objective, _hull, "triangle")


def _hull(assembly: Assembly, neurons: Unstable) -> None:
    """Append the rows; a >= 0 and a <= u are bounds of the column already."""
    k, z, a = neurons.layer, neurons.z, neurons.a
    one = np.ones(z.size)
    row = np.arange(z.size)
    assembly.rows(f"above[{k}]", Cone.NONNEG, np.zeros(z.size), (row, z, one), (row, a, -one))
    slope, offset = chord(neurons.lower, neurons.upper)
    keep = np.flatnonzero(np.isfinite(slope) & np.isfinite(offset))
    row = np.arange(keep.size)
    assembly.rows(f"chord[{k}]", Cone.NONNEG, offset[keep], (row, a[keep], one[keep]), (row, z[keep], -slope[keep]))


def chord(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Return s, q such that relu(z) <= s z + q for all z in [l, u], exactly.

    Parameters
    ----------
    lower, upper : (p,) float64
        l < 0 < u.

    Returns
    -------
    slope, offset : (p,) float64
        Not finite where an infinite bound leaves no such line.
    """
    # relu(z) - s z is convex, so its maximum on [l, u] is at an end: q >= max(-s l, u - s u) is all that is
    # needed, whatever number s is. s = fl(u / fl(u - l)) makes the two ends agree but for rounding; if
    # u - l overflows, s = 0 and q = u. Each operation below is rounded to nearest and then moved one
    # float outward; TINY covers underflow, even where results are flushed to zero, and is lost in any
    # number large enough not to need it.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        slope = upper / (upper - lower)
        at_lower = up(-slope * lower)
        at_upper = up(upper - (down(slope * upper) - TINY))
        return slope, up(np.maximum(at_lower, at_upper) + TINY)
