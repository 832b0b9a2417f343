"""The network as it is deployed: every rounding error of every execution in a format, as uncertainty of its rows.

A step of r roundings, z = W a + b with n terms in a row, is computed as

    z~ = W a + b + e,    |e| <= rho (|W| |a| + |b|) + (1 + rho) (2 r t + t |W| 1 + tiny weights and bias),

rho = (1 + u)^r - 1, u the unit roundoff, t the smallest normal number. The first term is rounding to nearest, in any
order and grouping, fused or not: each product passes at most r roundings, each a factor 1 + d with |d| <= u. The
second is underflow: at most 2 r operations give a result that is off by at most t, even where it is flushed to zero;
an operand below t may be read as zero, and so may a weight or the bias. ``docs/semantics.md`` has the argument line by
line.

So the deployed network is the network with more slack and an absolute error in its rows, and everything that respects
those speaks about all executions, as long as nothing overflows: :func:`overflow` tells.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1; Demmel, SIAM J. Sci. Stat. Comput. 5(4), 1984
(underflow).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError
from optverify.interval import INFLATE, Array, Interval, times, up
from optverify.network import Affine, Layer, Network, Relu
from optverify.preactivation import Bounds, layer_inputs
from optverify.semantics import REAL, Semantics

BITS = 12
"""Of the mantissa of a slack: a relative error of 2^-11 in a relative error."""

GRAIN = 128
"""Absolute errors are multiples of 2^-GRAIN: little beside what underflow may do to float32."""

MOST = 64.0
"""With more than this times 1/u roundings the bound says nothing at all."""


def deployed(network: Network, semantics: Semantics) -> Network:
    """Return the network whose uncertain rows cover every execution in a format.

    Parameters
    ----------
    network : Network
        Over the reals.
    semantics : Semantics
        :data:`~optverify.semantics.REAL` changes nothing.

    Returns
    -------
    Network
        Of the same layers, with other `slack` and `absolute`; but one that only rectifies its inputs gets an
        identity first, and so does one whose inputs meet weights that may be read as zero.

    Raises
    ------
    InputError
        The network computes in another format, or nothing is known about its executions.
    """
    if network.semantics is not REAL:
        raise InputError(f"the network is one under {network.semantics} already")
    if semantics is REAL:
        return network
    _refuse(network, semantics)
    layers: list[Layer] = list(network.layers)
    first = next((layer for layer in layers if isinstance(layer, Affine)), None)
    if first is None or _weak(first, semantics).any():  # the inputs then have limits, as rows have
        n = network.n_inputs
        layers.insert(0, Affine(np.eye(n), np.zeros(n), np.zeros(n, np.int64)))
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, Affine))
    for position, layer in enumerate(layers):
        if isinstance(layer, Affine):
            layers[position] = _rounded(layer, semantics, position, shown=position == last, known=bool(network.format))
    return replace(network, layers=tuple(layers), semantics=semantics)


def _refuse(network: Network, semantics: Semantics) -> None:
    if network.only_real:
        raise InputError(f"no statement about {semantics} can be made: {network.only_real}")
    if network.format and network.format != semantics.name:
        raise InputError(
            f"the file computes in {network.format}, so nothing can be said about {semantics}: "
            f"ask for {network.format}, or convert the file"
        )


def _rounded(layer: Affine, semantics: Semantics, position: int, *, shown: bool, known: bool) -> Affine:
    """Return a step with what its executions may be off.

    Parameters
    ----------
    shown : bool
        Whether nothing is computed from its rows: those that move a value give it away as it may be read.
    known : bool
        Whether the constants of the file are numbers of the format.
    """
    entries = layer.csr.data
    rows = np.repeat(np.arange(layer.shape[0]), np.diff(layer.csr.indptr))
    step = layer.roundings > 0
    # A coefficient that is no number of the format is rounded to it first.
    foreign = ~semantics.holds(layer.bias) | (layer.slack > 0)
    foreign[rows[~semantics.holds(entries)]] = True
    if not known and (foreign & ~step).any():
        row = int(np.flatnonzero(foreign & ~step)[0])
        raise InputError(
            f"row {row} of layer {position} makes no roundings, but holds numbers that are not {semantics}: read the "
            f"file with load(path, format={semantics.name!r}), or round them"
        )
    if max(np.abs(entries).max(initial=0.0), np.abs(layer.bias).max(initial=0.0)) > semantics.largest:
        raise InputError(f"layer {position} holds a number beyond the largest {semantics}, {semantics.largest:g}")
    roundings = layer.roundings + (step & foreign)
    growth = _growth(roundings, semantics, position)
    with np.errstate(over="ignore"):
        slack = up(up(up(growth * layer.slack) + growth) + layer.slack)
        tiny = np.where(_is_tiny(entries, semantics), np.abs(entries), 0.0)
        tiny_bias = np.where(_is_tiny(layer.bias, semantics), np.abs(layer.bias), 0.0)
        read = np.bincount(rows, np.abs(entries), layer.shape[0]) * semantics.normal
        weak = np.bincount(rows, tiny, layer.shape[0]) * semantics.moderate
        lost = 2.0 * roundings * semantics.normal + read + weak + tiny_bias
        # Sums of at most 2^30 nonnegative terms: the factors cover their rounding, and 2^-1074 their underflow.
        absolute = lost * (1.0 + slack) * INFLATE * INFLATE
        # Short numbers make short certificates, and a checker in exact integers a fast one.
        slack = _rounded_up(slack, BITS + np.frexp(slack)[1] * -1)
        absolute = _rounded_up(absolute, GRAIN) + 2.0**-GRAIN * (lost > 0)
    moved = semantics.normal if shown else 0.0
    return replace(
        layer, slack=np.where(step, slack, layer.slack), absolute=np.where(step, absolute, layer.absolute + moved)
    )


def _rounded_up(values: Array, shift: Any) -> Array:
    """Round up to multiples of 2^-shift."""
    return np.asarray(np.ldexp(np.ceil(np.ldexp(values, shift)), -np.asarray(shift)))


def _is_tiny(values: Array, semantics: Semantics) -> NDArray[np.bool_]:
    """Tell which coefficients may be read as zero: up to twice the smallest normal, as some are rounded first."""
    return np.asarray(np.abs(values) < 2.0 * semantics.normal)


def _growth(roundings: Array, semantics: Semantics, position: int) -> Array:
    """Return an upper bound on (1 + u)^r - 1 <= e^x - 1, x = r u: x (1 + x/2 + x^2/4) up to 1, then 3^ceil(x)."""
    x = roundings * semantics.unit
    if (x > MOST).any():
        raise InputError(f"layer {position} makes {int(roundings.max())} roundings in {semantics}: nothing is left")
    return np.where(x <= 1.0, up(up(x * up(1.0 + up(x / 2 + x * x / 4)))), up(3.0 ** np.ceil(np.maximum(x, 1.0))))


def overflow(network: Network, region: Interval) -> str:
    """Tell where an execution of a deployed network may overflow; the empty text says nowhere.

    Parameters
    ----------
    network : Network
        From :func:`deployed`.
    region : Interval, ends of shape (n_inputs,)

    Notes
    -----
    In each step the sum of the absolute values of all that is added, errors included, bounds every partial sum. It is
    carried without cancellation through steps that follow each other, so that a runtime may fold one into the next; and
    where all coefficients of a row are one number below 1, as in a mean, it may multiply last.
    """
    return overflow_within(network, layer_inputs(network, region, Bounds(())))


def overflow_within(network: Network, values: Sequence[Interval]) -> str:
    """Tell where an execution may overflow, with proved enclosures of what enters each layer and leaves the last."""
    semantics = network.semantics
    if semantics is REAL:
        return ""
    carried, most = values[0].magnitude(), iter(limits(network))
    for position, layer in enumerate(network.layers):
        if isinstance(layer, Relu):
            carried = np.where(layer.mask, values[position + 1].magnitude(), carried)
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            largest = (
                times(carried, layer.size) * (1.0 + layer.slack) + np.abs(layer.bias) * (1.0 + layer.slack)
            ) * INFLATE
            carried = (largest + layer.absolute) * INFLATE
        limit = next(most)
        bad = np.flatnonzero(~((carried <= limit) | np.isinf(limit)))
        if bad.size:
            row = int(bad[0])
            if limit[row] == semantics.moderate:
                return (
                    f"a value above {semantics.moderate:.3g} may leave row {row} of layer {position} and meet a "
                    "subnormal weight: what flushing that to zero may do is not covered"
                )
            return (
                f"overflow is possible: layer {position}, row {row} may add up {carried[row]:.3g}, and only up to "
                f"{limit[row]:.3g} is known to be safe in {semantics}"
            )
    return ""


def limits(network: Network) -> list[Array]:
    """Return up to which sum of absolute values each row of each affine layer is safe; infinite where nothing is lost.

    A step must not exceed the largest number, before it is multiplied by its only coefficient as well; and what meets a
    weight that may be read as zero must stay moderate, as `absolute` accounts for no more.

    Returns
    -------
    list of (m,) float64, one per affine layer
    """
    semantics, found = network.semantics, list[Array]()
    for layer in network.layers:
        if isinstance(layer, Relu):
            continue
        if semantics is REAL:
            found.append(np.full(layer.shape[0], np.inf))
            continue
        if found:
            meets = np.zeros(layer.shape[1], bool)
            meets[layer.csr.indices[_weak(layer, semantics)]] = True
            found[-1] = np.where(meets, np.minimum(found[-1], semantics.moderate), found[-1])
        safe = semantics.largest / _multiplied_last(layer)
        safe = np.where(safe < 1, safe, np.floor(safe))  # as a certificate has it
        found.append(np.where(layer.roundings > 0, safe, np.inf))
    return found


def _weak(layer: Affine, semantics: Semantics) -> NDArray[np.bool_]:
    """Tell which stored coefficients of steps may be read as zero."""
    steps = np.repeat(layer.roundings > 0, np.diff(layer.csr.indptr))
    return np.asarray(_is_tiny(layer.csr.data, semantics) & steps)


def _multiplied_last(layer: Affine) -> Array:
    """Return how much larger a row's sum may be before it is multiplied by its only coefficient."""
    csr, factor = layer.csr, np.ones(layer.shape[0])
    many = np.flatnonzero(np.diff(csr.indptr) > 1)
    if many.size:
        size = np.abs(csr.data)
        # The nonzeros of rows with several; what lies between two of their starts belongs to the first of them alone
        # but for single entries, which are cut off by the end of each row.
        starts = np.column_stack([csr.indptr[many], csr.indptr[many + 1]]).ravel()
        padded = np.append(size, 1.0)
        least, most = np.minimum.reduceat(padded, starts)[::2], np.maximum.reduceat(padded, starts)[::2]
        same = (least == most) & (least < 1.0)
        with np.errstate(over="ignore"):
            factor[many[same]] = INFLATE / least[same]
    return factor
