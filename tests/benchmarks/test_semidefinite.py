"""The benchmark of the lifted relaxation: its rows are ordered and its bounds below what the attack finds."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from benchmarks.semidefinite import measure
from optverify.network import Network


def test_rows_of_a_small_classifier() -> None:
    """All targets of two images; a label that is wrong is passed over."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [(rng.normal(size=(8, 6)), rng.normal(size=8)), (rng.normal(size=(3, 8)), rng.normal(size=3))]
    )
    images = rng.integers(0, 256, (5, 6)).astype(np.uint8)
    labels = network(images / 255).argmax(axis=1)
    labels[1] = (labels[1] + 1) % 3
    rows = list(measure(network, images, labels, 2, Fraction(1, 10), every=True, rounds=1, stop=False))
    assert [row.image for row in rows] == [0, 0, 2, 2]
    for row in rows:
        assert row.crown <= row.triangle + 1e-6
        assert row.triangle <= row.lifted + 1e-5
        assert row.lifted <= row.upper
        assert abs(row.loss) < 1e-5
        assert str(row.target) in str(row)
