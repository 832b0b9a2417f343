"""What benchmarks on image classifiers have in common: their files, options, and the images that count."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from optverify import Box, Network

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Image:
    """An image that is classified correctly; `others` are the other classes, the runner-up first."""

    index: int
    pixels: np.ndarray
    label: int
    others: list[int]

    def ball(self, eps: Fraction) -> Box:
        """Return the l-inf ball of its pixels / 255."""
        return Box.around(np.array([Fraction(int(v), 255) for v in self.pixels], dtype=object), eps, (0, 1))


def classified(network: Network, images: np.ndarray, labels: np.ndarray, count: int) -> Iterator[Image]:
    """Yield the first `count` images, (k, n) uint8, that the network classifies as their labels, (k,), say."""
    done = 0
    for i, (pixels, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        y = network(pixels / 255)
        if done < count and y.argmax() == label:
            done += 1
            yield Image(i, pixels, int(label), [int(t) for t in np.argsort(-y) if t != label])


def options(description: str) -> argparse.ArgumentParser:
    """Return a command line for a network, its images, how many of them and how far around them."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("network")
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--eps", type=Fraction, default=Fraction(1, 10))
    return parser


def printed(header: str, rows: Iterable[T]) -> list[T]:
    """Print rows as they come, on one thread; return them."""
    found = []
    print(header)
    with threadpool_limits(1):
        for row in rows:
            found.append(row)
            print(row, flush=True)
    return found
