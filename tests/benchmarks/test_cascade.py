"""The benchmark of the cascade: the same verdicts by every relaxation."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cascade
from optverify import Verdict
from optverify.network import Network


def test_rows_of_a_small_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images by three relaxations; a label that is wrong is passed over; totals."""
    rng = np.random.default_rng(0)
    network = Network.from_arrays(
        [(rng.normal(size=(8, 6)), rng.normal(size=8)), (rng.normal(size=(3, 8)), rng.normal(size=3))]
    )
    images = rng.integers(0, 256, (5, 6)).astype(np.uint8)
    labels = network(images / 255).argmax(axis=1)
    labels[1] = (labels[1] + 1) % 3
    rows = list(cascade.measure(network, images, labels, 2, Fraction(1, 50), True, cascade.RELAXATIONS, 60.0))
    assert [row.image for row in rows] == [0, 0, 0, 2, 2, 2]
    assert all(row.verdict is not Verdict.UNKNOWN for row in rows)
    assert cascade.contradictions(rows) == []
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    monkeypatch.setattr(cascade, "load", lambda _: network)
    assert cascade.main(["network", str(tmp_path / "images.npz"), "--images", "1", "--eps", "1/50"]) == 0
    assert "lifted: 1 verified" in capsys.readouterr().out


def test_contradictory_verdicts_are_found() -> None:
    """An image that is both is named."""
    rows = [cascade.Row(3, "auto", verdict, 1, 0, 0.0) for verdict in (Verdict.VERIFIED, Verdict.FALSIFIED)]
    assert cascade.contradictions(rows) == [3]
    assert cascade.contradictions(rows[:1]) == []
