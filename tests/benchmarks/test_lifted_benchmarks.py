"""The benchmarks of the lifted relaxation run: solvers in processes of their own, soundness, drawn digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.digits import drawn_digits
from benchmarks.lifted_solvers import SOLVERS, Instance, compare, depth, widths
from benchmarks.lifted_soundness import main
from benchmarks.processes import Processes
from optverify.bounds.crown import crown
from optverify.bounds.lifted import lifted_bound
from optverify.formulations.encoder import Weighted


def test_digits_are_drawn() -> None:
    """Every class, in [0, 1], the same again; a class is nearer to its own mean than to the others, mostly."""
    images, labels = drawn_digits(600, 0)
    assert images.shape == (600, 64)
    assert images.min() >= 0.0
    assert images.max() <= 1.0
    assert np.array_equal(drawn_digits(600, 0)[0], images)
    means = np.array([images[labels == k].mean(axis=0) for k in range(10)])
    nearest = np.linalg.norm(images[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.8


def test_solvers_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its own process; one that overruns is killed and has its line."""
    monkeypatch.delitem(SOLVERS, "SCS")
    instance = widths()["random 10-10"]()
    rows, wrong = compare(instance, tmp_path, 30.0, Processes(grace=2.0))
    assert not wrong
    assert [row[3] for row in rows] == ["ours", "Clarabel"]
    assert [row[7] for row in rows] == ["optimal", "optimal"]
    assert float(rows[0][-1]) == pytest.approx(float(rows[1][-1]), abs=1e-5)
    killed, _ = compare(instance, tmp_path, 0.01, Processes(grace=0.0))
    assert all("killed" in row[7] for row in killed)


def test_instances_are_kept(tmp_path: Path) -> None:
    """A file holds the network, the box and the objective; scaled networks of nine layers have bounds."""
    for name, make in depth().items():
        if not name.startswith("9"):
            continue
        made = make()
        made.save(tmp_path / f"{name}.npz")
        read = Instance.load(tmp_path / f"{name}.npz")
        assert read.network.digest == made.network.digest
        assert np.array_equal(read.region.lower, made.region.lower)
        root = crown(read.network, read.region.take(None))[0].take(0)
        answer = lifted_bound(read.network, read.region, root, Weighted(read.objective))
        assert answer.lower <= made.network(read.region.lower)[0]
        assert answer.solution.bound - answer.lower <= 1e-6 * (1.0 + abs(answer.lower))


def test_soundness(capsys: pytest.CaptureFixture[str]) -> None:
    """A few networks: nothing above the optimum."""
    assert main(["--count", "6"]) == 0
    assert "multipliers spoilt" in capsys.readouterr().out
