"""Backward linear bounds (CROWN), many regions at once, through the rigorous formula."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval
from optverify.network import Network, Relu
from optverify.norms import Cut
from optverify.preactivation import Bounds
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, Unit

MAX_ENTRIES = 4_000_000
"""Most coefficients of one backward pass; longer lists of objectives go in parts to bound the memory."""

CACHED = 100_000
"""Most coefficients at once where there are many boxes: larger arrays leave the cache."""


def crown(
    network: Network,
    region: Interval,
    known: Bounds | None = None,
    anew: NDArray[np.bool_] | None = None,
) -> tuple[Bounds, Frame]:
    """Bound every pre-activation by backward substitution, refined by interval arithmetic.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (B, n_inputs)
    known : Bounds, (B, n_k) each, optional
        Proved bounds, or splits (l or u set to 0): intersected with the new ones. Neurons that they fix are
        not bounded again.
    anew : (B,) bool, optional
        For which boxes; the others keep what is known, refined by interval arithmetic. All by default.

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
    frame, first = Frame(network, region), 0 if isinstance(region, Cut) else 1
    found: list[Interval] = []
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            if known is not None and len(found) < len(known.layers):
                frame.refine(known.layers[len(found)])
            z = frame.inputs[-1]
            open_ = layer.mask & (z.lower < 0) & (z.upper > 0)
            if anew is not None:
                open_ &= anew[:, None]
            # Below the second layer interval arithmetic is already exact on boxes.
            if position > first and open_.any() and not isinstance(network.layers[position - 1], Relu):
                frame.refine(_both_sides(frame, open_))
            found.append(frame.inputs[-1])
        frame.step()
    return Bounds(tuple(found)), frame


def _both_sides(frame: Frame, open_: NDArray[np.bool_]) -> Interval:
    """Bound the coordinates of each box that are marked in `open_`, (B, n), from both sides.

    A box's bounds do not depend on which others it comes with.
    """
    lower, upper = np.full(open_.shape, -np.inf), np.full(open_.shape, np.inf)
    widest = max(z.shape[-1] for z in frame.inputs)
    box, neuron = np.nonzero(open_)
    part = max(1, (MAX_ENTRIES if len(open_) == 1 else CACHED) // (2 * widest))
    for start in range(0, box.size, part):
        b, j = box[start : start + part], neuron[start : start + part]
        sign, both = np.repeat([1.0, -1.0], j.size), np.concatenate([j, j])
        if len(open_) == 1:
            value = frame.lower(Unit(both, sign), Slopes()).value[0]
        else:
            value = frame.each(np.concatenate([b, b]), both, sign)
        lower[b, j], upper[b, j] = value[: j.size], -value[j.size :]
    return Interval(lower, upper)


def output_bounds(frame: Frame, objective: Array | None = None) -> LinearBounds:
    """Bound linear objectives of the network's outputs from below.

    Parameters
    ----------
    frame : Frame
        From :func:`crown`.
    objective : (r, n_outputs) float64, optional
        The outputs themselves by default.
    """
    if objective is not None:
        return frame.lower(objective, Slopes())
    n = frame.network.n_outputs
    if isinstance(frame.network.layers[-1], Relu):
        return frame.lower(np.eye(n), Slopes())
    return frame.lower(Unit(np.arange(n), np.ones(n)), Slopes())
