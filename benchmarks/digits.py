"""Drawn digits of 8 x 8 pixels: data for networks of the size of the classical set, without the set itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optverify.interval import Array

FONT = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
"""Dot-matrix digits, 5 dots wide and 7 high."""

SIDE = 8


def drawn_digits(count: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Draw digits turned, slanted, scaled and moved at random, with noise.

    Returns
    -------
    images : (count, 64) float64 in [0, 1]
    labels : (count,) int
    """
    rng = np.random.default_rng(seed)
    font = np.array([[[float(dot) for dot in line] for line in digit.split()] for digit in FONT])
    labels = rng.integers(0, 10, count)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1) - (SIDE - 1) / 2
    images = np.empty((count, SIDE, SIDE))
    for k, label in enumerate(labels.tolist()):
        angle, slant = rng.normal(0.0, 0.12), rng.normal(0.0, 0.1)
        scale, shift = rng.uniform(0.9, 1.15, 2), rng.normal(0.0, 0.4, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # Where each pixel lies in the picture of dots, from its middle.
        place = ((grid - shift) @ (turn @ np.array([[1.0, 0.0], [slant, 1.0]]))) / scale + [3.0, 2.0]
        images[k] = _between(font[label], place)
    images += rng.normal(0.0, 0.05, images.shape)
    return np.clip(images, 0.0, 1.0).reshape(count, -1), labels


def _between(dots: Array, place: Array) -> Array:
    """Interpolate linearly between dots; outside there is nothing."""
    padded = np.pad(dots, 2)
    place = np.clip(place + 2.0, 0.0, np.array(padded.shape) - 1.001)
    row, column = place[..., 0].astype(int), place[..., 1].astype(int)
    down, right = place[..., 0] - row, place[..., 1] - column
    top = (1 - right) * padded[row, column] + right * padded[row, column + 1]
    bottom = (1 - right) * padded[row + 1, column] + right * padded[row + 1, column + 1]
    return np.asarray((1 - down) * top + down * bottom)
