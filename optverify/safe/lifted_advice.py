"""The multipliers of a lifted close: as certificates store them, as the relaxation has them, and what they prove.

A certificate's products are in units of the network (:class:`optverify.proof.LiftedAdvice`). Those of
:mod:`optverify.formulations.lifted` are divided by a power of two s, their variables are z = 2 phi - 1, and so

    above = y_above / s,   relu = 2 y_relu / s,   chord = slope y_chord / s,   box = 4 delta,   shift = -+ y_split / s

where the slope is that of the chord. That this is rounded does not matter: any multipliers give a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError
from optverify.formulations.encoder import Weighted
from optverify.formulations.lifted import Lifted, lifted, power_of_two
from optverify.formulations.program import Block
from optverify.formulations.triangle import chord
from optverify.interval import Array, Interval
from optverify.network import Network, Relu
from optverify.preactivation import Bounds
from optverify.proof import LiftedAdvice
from optverify.safe.lifted import convex_bound

Index = NDArray[np.int64]

KINDS = ("above", "relu", "chord", "box", "shifts", "input_box")
"""The multipliers of :class:`LiftedAdvice`."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a relaxation has the multipliers of one kind: stored[numbers] = factor * products[at], or box[at].

    Parameters
    ----------
    numbers : (p,) int64
        Of neurons or inputs, increasing.
    at : (p,) int64
    factor : (p,) float64
    """

    numbers: Index
    at: Index
    factor: Array

    def spread(self, owners: Index, values: Array, size: int) -> Array:
        """Return a vector for the relaxation; `owners` are the neurons or inputs of the stored values."""
        known = dict(zip(owners.tolist(), values.tolist(), strict=True))
        found = np.zeros(size)
        with np.errstate(all="ignore"):
            found[self.at] = np.array([known.get(n, 0.0) for n in self.numbers.tolist()]) / self.factor
        return found


def advised_bound(network: Network, region: Interval, bounds: Bounds, weights: Array, advice: LiftedAdvice) -> float:
    """Return a proved lower bound on weights . outputs by stored multipliers, none of which is improved.

    Parameters
    ----------
    network : Network
    region : Interval, ends of shape (n_inputs,)
    bounds : Bounds, ends of shape (n_k,)
        Proved.
    weights : (n_outputs,) float64
    advice : LiftedAdvice

    Returns
    -------
    float
        -inf where nothing is proved. So it is where a listed neuron is stable here, or an unstable one counts as stable
        for the uncertainty of its row: the exact checker treats them otherwise, and may find less.
    """
    try:
        relaxation = lifted(network, region, bounds, Weighted(weights))
    except InputError:  # empty, or numbers overflow
        return -inf
    places = find(network, bounds, relaxation)
    if not np.isin(advice.neurons, places["box"].numbers).all():
        return -inf
    if any(name.startswith("noisy") for name in relaxation.neurons):
        return -inf
    return convex_bound(relaxation, *to_relaxation(relaxation, places, advice))


def find(network: Network, bounds: Bounds, relaxation: Lifted) -> dict[str, Place]:
    """Return the places of all fields of :class:`LiftedAdvice` in a relaxation that was made with these bounds."""
    parts: dict[str, list[tuple[Index, Block, Array]]] = {kind: [] for kind in KINDS}
    masks = [layer.mask for layer in network.layers if isinstance(layer, Relu)]
    first = 0
    for k, (mask, z) in enumerate(zip(masks, bounds.layers, strict=True)):
        number = first + np.cumsum(mask) - 1
        first += int(mask.sum())
        at = relaxation.neurons[f"a[{k}]"]
        low, high = z.lower[at], z.upper[at]
        scale = power_of_two(np.maximum(-low, high))
        for kind, factor in (("above", 1.0), ("relu", 2.0), ("chord", chord(low, high)[0])):
            parts[kind].append((number[at], relaxation.rows[f"{kind}[{k}]"], factor / scale))
        parts["box"].append((number[at], relaxation.variables[f"a[{k}]"], np.full(at.size, 4.0)))
        for name, sign in ((f"active[{k}]", -1.0), (f"inactive[{k}]", 1.0)):
            if name in relaxation.rows:
                at = relaxation.neurons[name]
                parts["shifts"].append((number[at], relaxation.rows[name], sign / power_of_two(z.magnitude()[at])))
    inputs = relaxation.neurons["x"]
    parts["input_box"].append((inputs, relaxation.variables["x"], np.full(inputs.size, 4.0)))
    return {kind: _joined(part) for kind, part in parts.items()}


def _joined(parts: list[tuple[Index, Block, Array]]) -> Place:
    numbers = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
    at = np.concatenate([np.zeros(0, np.int64), *(np.arange(part[1].start, part[1].stop) for part in parts)])
    factor = np.concatenate([np.zeros(0), *(part[2] for part in parts)])
    order = np.argsort(numbers)
    return Place(numbers[order], at[order], factor[order])


def from_relaxation(places: dict[str, Place], products: Array, box: Array) -> LiftedAdvice:
    """Return the multipliers of a relaxation as a certificate stores them."""
    with np.errstate(all="ignore"):
        values = {
            kind: np.nan_to_num(place.factor * (box if kind.endswith("box") else products)[place.at], nan=0.0)
            for kind, place in places.items()
        }
    return LiftedAdvice(
        places["box"].numbers, shifted=places["shifts"].numbers, inputs=places["input_box"].numbers, **values
    )


def to_relaxation(relaxation: Lifted, places: dict[str, Place], advice: LiftedAdvice) -> tuple[Array, Array]:
    """Return the multipliers of a relaxation's products and of its box, 0 where nothing is stored."""
    owners = {"shifts": advice.shifted, "input_box": advice.inputs}
    products, box = np.zeros(relaxation.n_products), np.zeros(relaxation.n_variables)
    for kind, place in places.items():
        into = box if kind.endswith("box") else products
        into += place.spread(owners.get(kind, advice.neurons), getattr(advice, kind), into.size)
    return products, box
