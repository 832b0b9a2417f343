"""Sliding windows: convolution, average pooling and max pooling in any number of dimensions.

Tensors are (samples, channels, *spatial). Padding never becomes coordinates: what lies outside is left
out of a sum, and out of a maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optverify.errors import InputError, ShapeError
from optverify.interval import Array
from optverify.io.lowering import Builder
from optverify.io.schedule import ZERO, Ids, check_terms
from optverify.io.sparse import csr

OUTSIDE = -1
"""Position of the padding in a window."""

ABSENT = -2
"""Stands for minus infinity in a maximum."""


@dataclass(frozen=True)
class Window:
    """How a window slides; each field has one number for each spatial dimension.

    Parameters
    ----------
    kernel, strides, dilations : tuple of int, at least 1
    before, after : tuple of int, at least 0
        Padding.
    ceil : bool
        Whether a last window may reach over the end.

    Raises
    ------
    ShapeError
        The fields do not fit together.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    ceil: bool = False

    def __post_init__(self) -> None:
        fields = (self.kernel, self.strides, self.dilations, self.before, self.after)
        if {len(values) for values in fields} != {len(self.kernel)} or not self.kernel:
            raise ShapeError(f"kernel, strides, dilations and padding disagree in dimension: {fields}")
        if min(*self.kernel, *self.strides, *self.dilations) < 1 or min(*self.before, *self.after) < 0:
            raise ShapeError("kernel, strides and dilations must be positive, padding must not be negative")

    def shape(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of window positions in each dimension."""
        if len(spatial) != len(self.kernel):
            raise ShapeError(f"a window of {len(self.kernel)} dimensions cannot slide over {len(spatial)}")
        sizes = []
        for n, k, s, d, p, q in zip(
            spatial, self.kernel, self.strides, self.dilations, self.before, self.after, strict=True
        ):
            room = n + p + q - d * (k - 1) - 1
            count = (-(-room // s) if self.ceil else room // s) + 1
            if self.ceil and (count - 1) * s >= n + p:
                count -= 1  # a window that would start in the padding at the end
            if room < 0 or count < 1:
                raise ShapeError(f"a window of kernel {self.kernel} does not fit into {spatial}")
            sizes.append(count)
        return tuple(sizes)

    def positions(self, spatial: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return what each window holds.

        Returns
        -------
        (P, K) int
            Flat spatial positions, or :data:`OUTSIDE`.
        (P,) int
            How many of the K lie inside or in the padding (not beyond it).
        """
        places = np.zeros((1, 1), np.int64)
        inside = padded = np.ones((1, 1), bool)
        for axis, count in enumerate(self.shape(spatial)):
            start = np.arange(count)[:, None] * self.strides[axis] - self.before[axis]
            place = start + np.arange(self.kernel[axis]) * self.dilations[axis]
            places = _outer(np.add, places * spatial[axis], place)
            inside = _outer(np.logical_and, inside, (place >= 0) & (place < spatial[axis]))
            padded = _outer(np.logical_and, padded, place < spatial[axis] + self.after[axis])
        return np.where(inside, places, OUTSIDE), padded.sum(axis=1)


def _outer(combine: np.ufunc, a: NDArray[np.generic], b: NDArray[np.generic]) -> NDArray[np.int64]:
    """Combine (P, K) with (p, k) to (P p, K k)."""
    joined = combine(a[:, None, :, None], b[None, :, None, :])
    return np.asarray(joined.reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1]))


def convolution(build: Builder, ids: Ids, weight: Array, bias: Array | None, window: Window, groups: int = 1) -> Ids:
    """Return the convolution (cross-correlation, as all frameworks have it).

    Parameters
    ----------
    ids : (N, C, *spatial) int
    weight : (M, C / groups, *kernel) float64
    bias : (M,) float64, optional
    window : Window
    groups : int

    Returns
    -------
    (N, M, *positions) int

    Raises
    ------
    ShapeError
        Sizes disagree.
    """
    samples, channels, spatial = ids.shape[0], ids.shape[1], ids.shape[2:]
    outputs, fan = weight.shape[0], weight.shape[1]
    if groups < 1 or channels != fan * groups or outputs % groups or weight.shape[2:] != window.kernel:
        raise ShapeError(
            f"a convolution of {channels} channels in {groups} groups with kernel {window.kernel} does not have a "
            f"weight of shape {weight.shape}"
        )
    if bias is not None and bias.shape != (outputs,):
        raise ShapeError(f"the bias of a convolution has shape {bias.shape}, expected {(outputs,)}")
    shape = window.shape(spatial)
    matrix = _convolution_matrix(weight, window, spatial, groups)
    offset = None if bias is None else np.repeat(bias, prod(shape))
    return np.stack([build.affine(matrix, ids[n].ravel(), offset) for n in range(samples)]).reshape(
        samples, outputs, *shape
    )


def _convolution_matrix(weight: Array, window: Window, spatial: tuple[int, ...], groups: int) -> Any:
    """Return the matrix from (C, *spatial) to (M, *positions), with a stored entry for each term."""
    outputs, fan = weight.shape[0], weight.shape[1]
    size, each = prod(spatial), outputs // groups
    places, _ = window.positions(spatial)
    inside = np.broadcast_to((places != OUTSIDE)[:, None, :], (len(places), fan, places.shape[1]))
    inside = inside.reshape(len(places), -1)
    counts = inside.sum(axis=1)
    check_terms(int(counts.sum()) * outputs)
    columns = (places[:, None, :] + (np.arange(fan) * size)[:, None]).reshape(len(places), -1)[inside]
    indices = [np.tile((columns + group * fan * size).astype(np.int32), each) for group in range(groups)]
    data = [np.broadcast_to(kernel, inside.shape)[inside] for kernel in weight.reshape(outputs, -1)]
    ends = np.concatenate([[0], np.cumsum(np.tile(counts, outputs))])
    entries = (np.concatenate(data), np.concatenate(indices), ends.astype(np.int32))
    return csr(entries, (outputs * len(places), size * fan * groups))


def average_pool(build: Builder, ids: Ids, window: Window, *, count_padding: bool, divisor: int | None = None) -> Ids:
    """Return the mean over each window.

    Parameters
    ----------
    ids : (N, C, *spatial) int
    window : Window
    count_padding : bool
        Whether padding counts as zeros, or not at all.
    divisor : int, optional
        Divide by this number instead.
    """
    spatial = ids.shape[2:]
    places, padded = window.positions(spatial)
    counts = padded if count_padding else (places != OUTSIDE).sum(axis=1)
    if divisor is not None:
        counts = np.full_like(counts, divisor)
    if not counts.all():
        raise InputError("an average over a window that holds nothing but padding does not exist")
    held = _gather(ids, places, ZERO)
    shape = (*ids.shape[:2], *window.shape(spatial))
    if held.shape[-1] == 1 and (counts == 1).all():
        return held.reshape(shape)
    return build.mean(held, counts).reshape(shape)


def max_pool(build: Builder, ids: Ids, window: Window) -> Ids:
    """Return the maximum over each window, as rounds of maxima of two."""
    spatial = ids.shape[2:]
    held = _gather(ids, window.positions(spatial)[0], ABSENT)
    result = tournament(build, held)
    if (result == ABSENT).any():
        raise InputError("the maximum over a window that holds nothing but padding is minus infinity")
    return result.reshape(*ids.shape[:2], *window.shape(spatial))


def tournament(build: Builder, players: Ids) -> Ids:
    """Return the maximum over the last axis; :data:`ABSENT` loses against everything."""
    while players.shape[-1] > 1:
        left, right = players[..., 0:-1:2], players[..., 1::2]
        winners = np.where(left == ABSENT, right, left)
        both = (left != ABSENT) & (right != ABSENT)
        winners[both] = build.maximum(left[both], right[both])
        bye = players[..., 2 * left.shape[-1] :]
        players = np.concatenate([winners, bye], axis=-1)
    return players[..., 0]


def _gather(ids: Ids, places: NDArray[np.int64], outside: int) -> Ids:
    """Return (N, C, P, K) coordinates of the windows."""
    flat = ids.reshape(*ids.shape[:2], -1)
    border = np.full((*ids.shape[:2], 1), outside)
    return np.concatenate([flat, border], axis=2)[:, :, places]  # OUTSIDE is the last position
