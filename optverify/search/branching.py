"""Where to split: the strategy of the search, behind one small protocol.

Nothing here can make an answer wrong; it decides how soon there is one. ``docs/search.md`` has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array, Interval, times
from optverify.network import Affine
from optverify.preactivation import Bounds
from optverify.proof import InputSplit, NeuronSplit, Split
from optverify.safe.multipliers import Frame, LinearBounds, relu_slopes

MAX_SMEARED = 64
"""With more rows than this the interval gradient is that of their mean, not the mean of theirs."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """A batch of open nodes as the strategy sees it.

    Parameters
    ----------
    frame : Frame
    bounds : Bounds, (B, n_k) each
    rows : LinearBounds
        Of the goal's rows.
    wanted : (B, rows) float64
        Weight of each row in what is left to prove; 0 for rows of closed groups.
    """

    frame: Frame
    bounds: Bounds
    rows: LinearBounds
    wanted: Array


class Branching(Protocol):
    """A strategy."""

    def wants_program(self, unstable: int) -> bool:
        """Whether a node with this many unstable neurons should be given to the linear program."""

    def choose(self, nodes: Nodes) -> list[Split | None]:
        """Return a split for each node, None where nothing is left to split."""


@dataclass(frozen=True)
class Hybrid:
    """Inputs first where there are few of them, neurons where there are many or few are left unstable.

    Parameters
    ----------
    few_inputs : int
        Networks with at most this many inputs are split on inputs.
    few_neurons : int
        Nodes with at most this many unstable neurons go to the linear program and are split on neurons.
    smear : float
        Weight of the interval gradient beside the linear bound's coefficients in the choice of an input. The
        coefficients alone stall where they vanish, on large boxes; the gradient alone costs several times the nodes.
    """

    few_inputs: int = 12
    few_neurons: int = 4
    smear: float = 1.0

    def wants_program(self, unstable: int) -> bool:
        """Whether a node should be given to the linear program: it has few unstable neurons."""
        return unstable <= self.few_neurons

    def choose(self, nodes: Nodes) -> list[Split | None]:
        """Return a split for each node."""
        network = nodes.frame.network
        unstable = nodes.bounds.unstable(network)
        count = sum((u.sum(axis=-1) for u in unstable), np.zeros(len(nodes.wanted), int))
        neurons = neuron_scores(nodes, unstable)
        inputs = input_scores(nodes, self.smear)
        splits: list[Split | None] = []
        for b in range(len(count)):
            by_input = network.n_inputs <= self.few_inputs and count[b] > self.few_neurons
            if not by_input and count[b]:
                k = max(range(len(neurons)), key=lambda k: neurons[k][b].max())
                splits.append(NeuronSplit(k, int(neurons[k][b].argmax())))
            else:
                splits.append(_middle(nodes.frame.region, inputs, b))
        return splits


def _middle(region: Interval, scores: Array, b: int) -> InputSplit | None:
    """Cut the best input in the middle; None if no input can be cut any more."""
    for index in np.argsort(-scores[b]).tolist():
        low, high = float(region.lower[b, index]), float(region.upper[b, index])
        at = 0.5 * low + 0.5 * high
        # Below this width rounding decides, not the network.
        if high - low > 2.0**-40 * max(abs(low), abs(high)) and low < at < high:
            return InputSplit(index, at)
    return None


def input_scores(nodes: Nodes, share: float) -> Array:
    """Rate each input by how much the open rows vary along it, (B, n_inputs).

    Its part of what the linear bounds vary by over the box, plus `share` times its part of what the interval gradient
    does: parts, because the two have no common scale.
    """
    # Everything is NaN-safe: overflow makes a poor choice, not a wrong answer.
    with np.errstate(all="ignore"):
        weight = nodes.wanted / np.maximum(nodes.wanted.sum(axis=1, keepdims=True), 1e-300)
        width = nodes.frame.region.upper - nodes.frame.region.lower
        slope = np.einsum("br,brn->bn", weight, np.abs(nodes.rows.coefficients))
        if weight.shape[1] <= MAX_SMEARED:
            each = gradient_magnitude(nodes.frame, nodes.bounds, np.eye(weight.shape[1])[None])
            smear = np.einsum("br,brn->bn", weight, each)
        else:
            smear = gradient_magnitude(nodes.frame, nodes.bounds, weight[:, None, :])[:, 0]
        by_bound, by_gradient = _parts(slope * width), _parts(smear * width)
        return np.asarray(np.nan_to_num(by_bound + share * by_gradient, nan=0.0, posinf=1e300))


def _parts(values: Array) -> Array:
    """Scale nonnegative rows to sum 1."""
    return np.asarray(values / np.maximum(values.sum(axis=1, keepdims=True), 1e-300))


def gradient_magnitude(frame: Frame, bounds: Bounds, rows: Array) -> Array:
    """Bound the gradients of linear objectives over each region by interval arithmetic (not rounded outward).

    `rows` are (B or 1, r, n_outputs); the result is (B, r, n_inputs).
    """
    network = frame.network
    low = high = rows
    k = len(bounds.layers)
    for layer in reversed(network.layers):
        if isinstance(layer, Affine):
            positive, negative = parts(layer)
            low, high = (
                times(low, positive.T) + times(high, negative.T),
                times(high, positive.T) + times(low, negative.T),
            )
        else:
            k -= 1
            z = bounds.layers[k]
            off = (layer.mask & (z.upper <= 0))[:, None, :]
            on = (~layer.mask | (z.lower >= 0))[:, None, :]
            low = np.where(on, low, np.where(off, 0.0, np.minimum(low, 0.0)))
            high = np.where(on, high, np.where(off, 0.0, np.maximum(high, 0.0)))
    return np.asarray(np.maximum(np.abs(low), np.abs(high)))


def parts(layer: Affine) -> tuple[Any, Any]:
    """Return the positive and the negative part of W."""
    if layer.is_sparse:
        return layer.csr.maximum(0.0), layer.csr.minimum(0.0)
    return np.maximum(layer.weight, 0.0), np.minimum(layer.weight, 0.0)


def neuron_scores(nodes: Nodes, unstable: tuple[NDArray[np.bool_], ...]) -> list[Array]:
    """Rate each unstable neuron by what its relaxation costs the open rows, one (B, n_k) array per Relu.

    Notes
    -----
    The intercept -l u / (u - l) of the chord times the size of the coefficient that meets it (Bunel et al.,
    JMLR 21, 2020, section 5.2), plus half of it for coefficients of the other sign; -1 where stable.
    """
    network = nodes.frame.network
    v = nodes.wanted[:, None, :] / np.maximum(nodes.wanted.sum(axis=1)[:, None, None], 1e-300)
    scores: list[Array] = []
    k = len(unstable)
    with np.errstate(all="ignore"):
        for layer in reversed(network.layers):
            if isinstance(layer, Affine):
                v = times(v, layer.weight.T)
                continue
            k -= 1
            z = nodes.bounds.layers[k]
            below, above = relu_slopes(z)
            chord = np.where(unstable[k], -z.lower * above, 0.0)
            worth = (np.maximum(-v, 0.0) + 0.5 * np.maximum(v, 0.0))[:, 0, :] * chord
            scores.append(np.where(unstable[k], np.nan_to_num(worth, nan=0.0, posinf=1e300), -1.0))
            g = np.maximum(v, 0.0) * below[:, None, :] + np.minimum(v, 0.0) * above[:, None, :]
            v = np.where(layer.mask, g, v)
    return scores[::-1]
