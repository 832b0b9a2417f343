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
    ("solver", "form", "loss"),
    [("clarabel", "dual", 1e-6), ("clarabel", "primal", 1e-6), ("scs", "primal", 0.02), ("scs", "dual", 0.02)],
)
def test_generic_solvers_agree_with_the_interior_point_method(solver: str, form: str, loss: float) -> None:
    """The same relaxation in two forms: the same value to the solver's accuracy, read back through its multipliers."""
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
        assert found.lower == pytest.approx(best, abs=loss * (1.0 + abs(best)))
        samples = network(rng.uniform(-0.5, 0.5, (5_000, 3)))
        assert found.lower <= samples.min()
