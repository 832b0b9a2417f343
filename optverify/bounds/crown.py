"""Backward linear bounds (CROWN), many regions at once, through the rigorous formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval
from optverify.network import Network, Relu
from optverify.preactivation import Bounds
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, Unit

MAX_ENTRIES = 4_000_000
"""Most coefficients of one backward pass; longer lists of objectives go in parts to bound the memory."""


def crown(
    network: Network,
    region: Interval,
    known: Bounds | None = None,
    slopes: Slopes | None = None,
) -> tuple[Bounds, Frame]:
    """Bound every pre-activation by backward substitution, refined by interval arithmetic.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (B, n_inputs)
    known : Bounds, (B, n_k) each, optional
        Proved bounds, or splits (l or u set to 0): intersected with the new ones. Neurons that they fix are
        not bounded again.
    slopes : Slopes, optional

    Returns
    -------
    Bounds
    Frame
        Over all of the network: ask it for bounds of the outputs.

    Notes
    -----
    Zhang et al., NeurIPS 2018, theorem 3.2; here every number goes through
    :class:`optverify.safe.multipliers.Frame` and is rigorous.
    """
    choose = slopes or Slopes()
    frame = Frame(network, region)
    found: list[Interval] = []
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            if known is not None and len(found) < len(known.layers):
                frame.refine(known.layers[len(found)])
            z = frame.inputs[-1]
            open_ = layer.mask & (z.lower < 0) & (z.upper > 0)
            neurons = np.flatnonzero(open_.any(axis=0))
            # Below the second layer interval arithmetic is already exact.
            if position >= 2 and neurons.size and not isinstance(network.layers[position - 1], Relu):
                frame.refine(_both_sides(frame, neurons, layer.mask.size, choose))
            found.append(frame.inputs[-1])
        frame.step()
    return Bounds(tuple(found)), frame


def _both_sides(frame: Frame, neurons: NDArray[np.intp], width: int, choose: Slopes) -> Interval:
    """Bound the given coordinates from both sides; the others stay unbounded."""
    batch = frame.inputs[0].shape[0]
    lower, upper = np.full((batch, width), -np.inf), np.full((batch, width), np.inf)
    widest = max(z.shape[-1] for z in frame.inputs)
    part = max(1, MAX_ENTRIES // (2 * batch * widest))
    for start in range(0, neurons.size, part):
        index = neurons[start : start + part]
        sign = np.repeat([1.0, -1.0], index.size)
        value = frame.lower(Unit(np.concatenate([index, index]), sign), choose).value
        lower[:, index], upper[:, index] = value[:, : index.size], -value[:, index.size :]
    return Interval(lower, upper)


def output_bounds(frame: Frame, objective: Array | None = None, slopes: Slopes | None = None) -> LinearBounds:
    """Bound linear objectives of the network's outputs from below.

    Parameters
    ----------
    frame : Frame
        From :func:`crown`.
    objective : (r, n_outputs) float64, optional
        The outputs themselves by default.
    slopes : Slopes, optional
    """
    choose = slopes or Slopes()
    if objective is not None:
        return frame.lower(objective, choose)
    n = frame.network.n_outputs
    if isinstance(frame.network.layers[-1], Relu):
        return frame.lower(np.eye(n), choose)
    return frame.lower(Unit(np.arange(n), np.ones(n)), choose)
