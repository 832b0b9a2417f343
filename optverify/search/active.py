"""The part of a network that can be active somewhere in a batch of nodes: smaller, and the same function there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval
from optverify.network import Affine, Layer, Network, Relu
from optverify.preactivation import Bounds
from optverify.proof import NeuronSplit

WORTH = 0.8
"""With more than this share of the neurons left the network is used as it is."""


@dataclass(frozen=True, eq=False)
class Active:
    """A network without the neurons that are 0 on all nodes of a batch.

    What is proved about its remaining pre-activations and its outputs holds for the network itself: the neurons
    left out have proved upper bounds <= 0, so what leaves their ReLU is exactly 0.

    Parameters
    ----------
    network : Network
    kept : tuple of (m_k,) int, one per Relu
        Which coordinates are left.
    """

    network: Network
    kept: tuple[NDArray[np.intp], ...]

    @classmethod
    def of(cls, network: Network, known: Bounds | None) -> Active:
        """Leave out what `known`, ends of shape (B, n_k), proves to be inactive on all B nodes."""
        masks = network.masks
        everything = cls(network, tuple(np.arange(mask.size) for mask in masks))
        if known is None:
            return everything
        kept = []
        for position, mask, z in zip(network.relus, masks, known.layers, strict=True):
            between = network.layers[max(position - 1, 0) : position + 2 : 2]
            alive = ~mask | (z.upper > 0).any(axis=0)
            alive[:1] = True  # never an empty layer
            if len(between) < 2 or not all(isinstance(layer, Affine) for layer in between):
                alive[:] = True  # only affine layers can drop a row or a column
            kept.append(np.flatnonzero(alive))
        if sum(k.size for k in kept) > WORTH * sum(mask.size for mask in masks):
            return everything
        return cls(_restrict(network, kept), tuple(kept))

    def narrow(self, bounds: Bounds | None) -> Bounds | None:
        """Return the bounds of the coordinates that are left; ends of shape (B, n_k)."""
        if bounds is None:
            return None
        pairs = zip(bounds.layers, self.kept, strict=True)
        return Bounds(tuple(Interval(z.lower[:, k], z.upper[:, k]) for z, k in pairs))

    def widen(self, layers: Sequence[Interval], before: Sequence[Interval]) -> tuple[Interval, ...]:
        """Return bounds of all coordinates of one node: new ones where there are some, else those from `before`."""
        if not before:
            return tuple(layers)
        return tuple(
            Interval(_put(old.lower, k, z.lower), _put(old.upper, k, z.upper))
            for z, k, old in zip(layers, self.kept, before, strict=True)
        )

    def multipliers(self, g: Sequence[Array], sizes: Sequence[int]) -> tuple[Array, ...]:
        """Return multipliers of one node for all coordinates: the rule's (NaN) for those left out."""
        return tuple(_put(np.full(n, np.nan), k, values) for values, k, n in zip(g, self.kept, sizes, strict=True))

    def split(self, split: NeuronSplit) -> NeuronSplit:
        """Return a split with the neuron's number in the network itself."""
        return NeuronSplit(split.relu, int(self.kept[split.relu][split.index]))


def _put(values: Array, index: NDArray[np.intp], new: Array) -> Array:
    changed = values.copy()
    changed[index] = new
    return changed


def _restrict(network: Network, kept: Sequence[NDArray[np.intp]]) -> Network:
    """Return the network with some coordinates of each Relu left; the others must be 0 behind it."""
    layers: list[Layer] = []
    entering: NDArray[np.intp] | None = None  # which coordinates enter the layer; None: all
    relu = 0
    for position, layer in enumerate(network.layers):
        following = network.layers[position + 1] if position + 1 < len(network.layers) else None
        if isinstance(layer, Relu):
            entering = kept[relu]
            layers.append(Relu(layer.mask[entering]))
            relu += 1
            continue
        leaving = kept[relu] if isinstance(following, Relu) else np.arange(layer.shape[0])
        weight = layer.csr if layer.is_sparse else layer.weight
        weight = weight[leaving] if entering is None else weight[leaving][:, entering]
        parts = (layer.bias, layer.roundings, layer.slack, layer.absolute)
        layers.append(Affine(weight, *(part[leaving] for part in parts)))
        entering = None
    return Network(tuple(layers))
