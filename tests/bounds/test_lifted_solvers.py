"""Generic semidefinite solvers on the lifted relaxation: rigorous whatever they say, and as tight as they are exact."""

from __future__ import annotations

import numpy as np
import pytest

from optverify.bounds.crown import crown
from optverify.formulations import Weighted
from optverify.formulations.lifted import lifted
from optverify.interval import Interval
from optverify.network import Network
from optverify.safe.lifted import safe_bound
from optverify.solvers.interior_point import solve_lifted
from optverify.solvers.lifted import solve_lifted_by


@pytest.mark.parametrize(
    ("solver", "form", "accuracy", "loss"),
    [
        ("clarabel", "dual", 1e-6, 1e-5),
        ("clarabel", "primal", 1e-6, 1e-5),
        ("scs", "primal", 0.02, 0.02),
        ("scs", "dual", 0.02, 0.02),
    ],
)
def test_generic_solvers_agree_with_the_interior_point_method(
    solver: str, form: str, accuracy: float, loss: float
) -> None:
    """The same relaxation in two forms: the same value to the solver's accuracy, read back through its multipliers.

    What multipliers prove is less than what the solver claims by its residuals times the size of the box, summed.
    """
    for seed in range(3):
        rng = np.random.default_rng(seed)
        network = Network.from_arrays(
            [
                (rng.normal(size=(5, 3)), 0.3 * rng.normal(size=5)),
                (0.5 * rng.normal(size=(5, 5)), 0.3 * rng.normal(size=5)),
                (rng.normal(size=(1, 5)), [0.0]),
            ]
        )
        region = Interval(np.full(3, -0.5), np.full(3, 0.5))
        relaxation = lifted(network, region, crown(network, region.take(None))[0].take(0), Weighted(np.ones(1)))
        ours = solve_lifted(relaxation)
        best = safe_bound(relaxation, ours.products, ours.box, ours.point).lower
        theirs = solve_lifted_by(relaxation, solver, form=form)
        found = safe_bound(relaxation, theirs.products, theirs.box, theirs.point)
        assert theirs.objective == pytest.approx(ours.objective, abs=accuracy * (1.0 + abs(best)))
        assert best - loss * (1.0 + abs(best)) <= found.lower <= ours.objective + accuracy * (1.0 + abs(best))
        samples = network(rng.uniform(-0.5, 0.5, (5_000, 3)))
        assert found.lower <= samples.min()
