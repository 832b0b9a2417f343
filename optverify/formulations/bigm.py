"""The big-M formulation: an exact mixed-integer linear program."""

from __future__ import annotations

import numpy as np

from optverify.formulations.encoder import Assembly, Objective, Unstable, encode
from optverify.formulations.program import Cone, Program
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import Bounds


def bigm(network: Network, region: Interval, bounds: Bounds, objective: Objective) -> Program:
    """Build the mixed-integer program whose feasible points are exactly the network's traces.

    Symbols
        z, a : what enters and leaves an unstable neuron; l < 0 < u its bounds, l <= z <= u;
        t in {0, 1} : whether it is active.

    Equations, for each unstable neuron::

        a >= 0,    a >= z,    a <= z - l (1 - t),    a <= u t

    t = 0 leaves a = 0 and z <= 0, t = 1 leaves a = z and z >= 0. The coefficients are the bounds as they
    are, nothing is rounded. All else is as :mod:`optverify.formulations.encoder` has it.

    Kind
        Exact, up to the slack of coefficients that no float holds, and but for neurons with an infinite
        bound, which are left relaxed. Its linear relaxation is the triangle relaxation.

    Size
        With n inputs, N pre-activations of which p unstable, m outputs: n + N + 2 p + m variables (p of
        them binary), N + m equations, 3 p inequalities.

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
    Tjeng, Xiao, Tedrake, "Evaluating robustness of neural networks with mixed integer programming",
    ICLR 2019, eq. 6 to 9.
    """
    return encode(network, region, bounds, objective, _switch, "bigm")


def _switch(assembly: Assembly, neurons: Unstable) -> None:
    """Append the binaries and the rows; a >= 0 is a bound of the column already."""
    k, z, a = neurons.layer, neurons.z, neurons.a
    t = assembly.columns(f"t[{k}]", np.zeros(z.size), np.ones(z.size), integer=True)
    one, zero, row = np.ones(z.size), np.zeros(z.size), np.arange(z.size)
    assembly.rows(f"above[{k}]", Cone.NONNEG, zero, (row, z, one), (row, a, -one))
    # a - z - l t <= -l
    keep = np.flatnonzero(np.isfinite(neurons.lower))
    low, row = neurons.lower[keep], np.arange(keep.size)
    assembly.rows(
        f"active[{k}]",
        Cone.NONNEG,
        -low,
        (row, a[keep], one[keep]),
        (row, z[keep], -one[keep]),
        (row, t[keep], -low),
    )
    # a - u t <= 0
    keep = np.flatnonzero(np.isfinite(neurons.upper))
    high, row = neurons.upper[keep], np.arange(keep.size)
    assembly.rows(f"inactive[{k}]", Cone.NONNEG, zero[keep], (row, a[keep], one[keep]), (row, t[keep], -high))
