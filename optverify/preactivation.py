"""Pre-activation intervals of every ReLU layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval
from optverify.network import Affine, Network
from optverify.report import html


@dataclass(frozen=True, eq=False)
class Bounds:
    """Intervals l <= z <= u of what enters each :class:`~optverify.network.Relu`.

    Every `Bounds` that leaves :mod:`optverify.bounds` is rigorous: l <= z(x) <= u for all x of the region
    it was made for, over the reals.

    Parameters
    ----------
    layers : tuple of Interval, ends of shape (n_k,) or (B, n_k)
        One for each Relu in order; a leading axis holds B regions at once. Coordinates that the Relu only
        passes through have intervals too.
    """

    layers: tuple[Interval, ...]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Which of the B regions (or whether the one region) holds no point at all: some l > u."""
        found = np.zeros(self.layers[0].shape[:-1] if self.layers else (), bool)
        for layer in self.layers:
            found = found | layer.empty.any(axis=-1)
        return np.asarray(found)

    def unstable(self, network: Network) -> tuple[NDArray[np.bool_], ...]:
        """Return, for each Relu, which rectified coordinates have l < 0 < u."""
        masks = (layer.mask for layer in network.layers if not isinstance(layer, Affine))
        return tuple(mask & (z.lower < 0) & (z.upper > 0) for mask, z in zip(masks, self.layers, strict=True))

    def __repr__(self) -> str:
        return f"<Bounds: {len(self.layers)} ReLU layers, {', '.join(str(z.shape[-1]) for z in self.layers)} values>"

    def _repr_html_(self) -> str:
        rows = {}
        for k, (z, width) in enumerate(zip(self.layers, widths(self), strict=True), 1):
            crossing = int(((z.lower < 0) & (z.upper > 0)).sum())
            middle = f"{float(np.median(width)):.4g}" if width.size else "-"
            rows[f"layer {k}"] = f"{width.size} intervals, {crossing} with 0 inside, median width {middle}"
        return html.card("Pre-activation bounds (proved)", rows)

    def intersect(self, other: Bounds) -> Bounds:
        """Return the bounds that hold when both do."""
        return Bounds(tuple(a.intersect(b) for a, b in zip(self.layers, other.layers, strict=True)))

    def take(self, index: Any) -> Bounds:
        """Index the leading axis."""
        return Bounds(tuple(z.take(index) for z in self.layers))


def layer_inputs(network: Network, region: Interval, bounds: Bounds) -> list[Interval]:
    """Return an enclosure of what enters each layer, and of the last layer's output.

    Relu inputs are the given bounds; everything else follows by interval arithmetic.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (..., n_inputs)
    bounds : Bounds
        May cover only the first Relu layers; the rest follows by interval arithmetic too.

    Returns
    -------
    list of len(network.layers) + 1 Interval
    """
    values = [region]
    known = iter(bounds.layers)
    for layer in network.layers:
        if isinstance(layer, Affine):
            values.append(values[-1].affine(layer.weight, layer.bias, layer.slack, layer.absolute))
        else:
            given = next(known, None)
            if given is not None:
                values[-1] = given
            values.append(values[-1].relu(layer.mask))
    return values


def widths(bounds: Bounds) -> list[Array]:
    """Return u - l for each Relu (a report's figure, rounded to nearest)."""
    return [z.upper - z.lower for z in bounds.layers]
