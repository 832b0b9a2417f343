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
from optverify.safe.multipliers import Frame, LinearBounds, Slopes, relu_slopes

MAX_SMEARED = 64
"""With more rows than this the interval gradient is that of their mean, not the mean of theirs."""

TIE = 0.1
"""Weight of the better half of a split beside the worse one."""


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
    trials : int
        So many neurons that promise most are tried before one is chosen.
    """

    few_inputs: int = 12
    few_neurons: int = 4
    smear: float = 1.0
    trials: int = 12

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
        by_neuron = (count > 0) & ((network.n_inputs > self.few_inputs) | (count <= self.few_neurons))
        tried = best_neurons(nodes, neurons, np.flatnonzero(by_neuron), self.trials)
        return [tried[b] if by_neuron[b] else _middle(nodes.frame.region, inputs, b) for b in range(len(count))]


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


def best_neurons(nodes: Nodes, scores: list[Array], here: NDArray[np.intp], trials: int) -> dict[int, NeuronSplit]:
    """Choose among the neurons of the highest scores the one whose worse half has the best bound.

    Parameters
    ----------
    nodes : Nodes
    scores : list of (B, n_k) float64
    here : (b,) int
        Which nodes; they have an unstable neuron.
    trials : int

    Returns
    -------
    dict from node to split

    Notes
    -----
    Filtered smart branching (De Palma et al., 2021, section 4): both halves of each candidate are bounded by one
    backward pass for the worst open row, with what is known of all other neurons left as it is.
    """
    network = nodes.frame.network
    if not here.size:
        return {}
    sizes = [s.shape[1] for s in scores]
    flat = np.concatenate([s[here] for s in scores], axis=1)
    most = min(trials, flat.shape[1])
    chosen = np.argpartition(-flat, most - 1, axis=1)[:, :most]
    promising = np.take_along_axis(flat, chosen, axis=1) > -1.0
    starts = np.cumsum([0, *sizes])
    relu = np.searchsorted(starts, chosen, side="right") - 1
    place = chosen - starts[relu]
    box = np.repeat(here, 2 * most)
    layers = [Interval(z.lower[box], z.upper[box]) for z in nodes.bounds.layers]
    for k, z in enumerate(layers):
        row, candidate = np.nonzero(relu == k)
        first, j = 2 * (row * most + candidate), place[row, candidate]
        z.upper[first, j], z.lower[first + 1, j] = (
            np.minimum(z.upper[first, j], 0.0),
            np.maximum(z.lower[first + 1, j], 0.0),
        )
    worst = np.where(nodes.wanted > 0, nodes.rows.value, np.inf).argmin(axis=1)
    objective = np.zeros((box.size, 1, network.n_outputs))
    objective[np.arange(box.size), 0, worst[box]] = 1.0
    frame = Frame.of(network, nodes.frame.region.take(box), Bounds(tuple(layers)))
    value = frame.lower(objective, Slopes()).value.reshape(here.size, most, 2)
    worth = np.where(promising, value.min(axis=2) + TIE * value.max(axis=2), -np.inf)
    best = worth.argmax(axis=1)
    return {int(b): NeuronSplit(int(relu[i, best[i]]), int(place[i, best[i]])) for i, b in enumerate(here)}
