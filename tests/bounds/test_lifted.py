"""Bounds from the lifted relaxation: ordered as they should be, rigorous, and there even when little is left."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optverify.bound import bound
from optverify.bounds import lifted as module
from optverify.bounds.crown import crown
from optverify.bounds.lifted import lifted_bound
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.errors import InputError, UnsupportedProgram
from optverify.formulations import Largest, Weighted
from optverify.formulations.lifted import Ball, lifted
from optverify.formulations.program import Cone, Program
from optverify.formulations.rlt import with_violated_products
from optverify.interval import Interval
from optverify.network import Network
from optverify.preactivation import Bounds
from optverify.region import Box
from optverify.safe.lifted import safe_bound
from optverify.solvers.auto import Auto
from optverify.solvers.interior_point import solve_lifted
from optverify.solvers.lifted import solve_lifted_by
from optverify.solvers.scripted import Scripted
from optverify.solvers.solution import Solution, Status
from tests import oracle
from tests.strategies import boxes, networks

LOSS = 1e-6
"""What the interior-point method may leave, relative to the bound and the objective: it ends at a gap of 1e-7."""


def random_network(rng: np.random.Generator) -> Network:
    """Make a tiny network with up to three hidden layers, of which some neurons are dead, twins or badly scaled."""
    hidden = rng.integers(2, 5, rng.integers(1, 3))
    sizes = [int(rng.integers(1, 4)), *hidden.tolist(), 1]
    steps = []
    for n, m in pairwise(sizes):
        weight, bias = rng.normal(size=(m, n)), 0.3 * rng.normal(size=m)
        if m > 1 and rng.integers(4) == 0:
            weight[0], bias[0] = weight[1], bias[1]
        if rng.integers(6) == 0:
            scale = 10.0 ** rng.integers(-6, 7)
            weight[0], bias[0] = weight[0] * scale, bias[0] * scale
        if rng.integers(8) == 0:
            weight[-1] = 0.0
        steps.append((weight, bias))
    return Network.from_arrays(steps)


@pytest.mark.parametrize("seed", range(8))
def test_triangle_lifted_products_exact_are_ordered(seed: int) -> None:
    """On rigorous values: triangle <= lifted <= lifted with products <= exact; hundreds of random networks."""
    rng = np.random.default_rng(seed)
    gained = [0, 0]
    for _ in range(25):
        network = random_network(rng)
        n = network.n_inputs
        centre, radius = 0.3 * rng.normal(size=n), rng.uniform(0, 2, n) * (rng.integers(5, size=n) > 0)
        region = Interval(centre - radius, centre + radius)
        bounds, frame = crown(network, region.take(None))
        root, objective = bounds.take(0), Weighted(rng.choice([-1.0, 1.0], 1))
        triangle = relaxed(frame.take(np.array([0])), root, objective, "highs").lower
        plain = lifted_bound(network, region, root, objective)
        more = lifted_bound(network, region, root, objective, rounds=2)
        ends = ([Fraction(v) for v in side.tolist()] for side in (region.lower, region.upper))
        exact = oracle.minimum(oracle.read(network), *ends, [Fraction(v) for v in objective.c.tolist()])
        loss = LOSS * (1.0 + abs(plain.lower) + np.abs(plain.lifted.cost[1:]).max(initial=0.0))
        assert Fraction(more.lower) <= exact
        assert Fraction(plain.lower) <= exact
        assert triangle <= plain.lower + loss
        assert plain.lower <= more.lower
        assert plain.solution.bound - plain.lower <= loss
        gained[0] += plain.lower > triangle + 10 * loss
        gained[1] += more.lower > plain.lower + 10 * loss
    assert min(gained) > 0


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.data())
def test_conjunctions_and_splits_stay_below_the_oracle(data: st.DataObject) -> None:
    """The least largest output over a box, whole or in two halves of a neuron."""
    network = data.draw(networks(max_neurons=5, odd=data.draw(st.booleans())))
    region = data.draw(boxes(network.n_inputs))
    group = tuple(range(network.n_outputs))
    root = crown(network, region.take(None))[0].take(0)
    ends = ([Fraction(v) for v in side.tolist()] for side in (region.lower, region.upper))
    exact = oracle.minimum_of_largest(oracle.read(network), *ends, group)
    whole = lifted_bound(network, region, root, Largest(group), rounds=1)
    assert Fraction(whole.lower) <= exact
    assert ((region.lower <= whole.point) & (whole.point <= region.upper)).all()
    unstable = [(k, int(j)) for k, mask in enumerate(root.unstable(network)) for j in np.flatnonzero(mask)]
    if not unstable:
        return
    k, j = data.draw(st.sampled_from(unstable))
    halves = []
    for side in (0, 1):
        z = root.layers[k]
        lower, upper = z.lower.copy(), z.upper.copy()
        (upper if side == 0 else lower)[j] = 0.0
        cut = Bounds((*root.layers[:k], Interval(lower, upper), *root.layers[k + 1 :]))
        halves.append(lifted_bound(network, region, cut, Largest(group)).lower)
    assert halves[0] == -math.inf or halves[1] == -math.inf or Fraction(min(halves)) <= exact


def test_splits_cut_their_other_side_off() -> None:
    """The halves of relu(x + 0.2) - relu(0.1 - 2 x) know on which side they are."""
    network = Network.from_arrays([([[1.0], [-2.0]], [0.2, 0.1]), ([[1.0, -1.0]], [0.0])])
    region = Interval(np.array([-1.0]), np.array([1.0]))
    root = crown(network, region.take(None))[0].take(0)
    z = root.layers[0]
    lower, upper = z.lower.copy(), z.upper.copy()
    upper[0] = 0.0
    left = lifted_bound(network, region, Bounds((Interval(lower, z.upper.copy() * [0.0, 1.0]),)), Weighted(np.ones(1)))
    # On x <= -0.2 the objective is -relu(-2 x + 0.1), least at x = -1.
    assert left.lower == pytest.approx(-2.1, abs=1e-5)
    upper = z.upper.copy()
    lower[0] = 0.0
    right = lifted_bound(network, region, Bounds((Interval(lower, upper),)), Weighted(np.ones(1)))
    # On x >= -0.2 the chord of the other neuron allows 1.26 at x = -0.2; without the split's y >= 0, x could be -1.
    assert right.lower == pytest.approx(-1.26, abs=1e-5)


def test_an_impossible_side_has_no_finite_bound() -> None:
    """Where the split's side holds no point the relaxation is infeasible: its bound exceeds all values."""
    network = Network.from_arrays([([[1.0], [-1.0]], [-2.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    region = Interval(np.array([-1.0]), np.array([1.0]))
    side = Bounds((Interval(np.array([0.0, -1.0]), np.array([1.0, 1.0])),))  # x >= 2
    assert lifted_bound(network, region, side, Weighted(np.ones(1)), stop_above=100.0).lower > 100.0


def test_a_ball_is_tighter_than_its_box() -> None:
    """The bound over the ball lies between that over the box and the values at points of the ball."""
    rng = np.random.default_rng(1)
    network = Network.from_arrays([(rng.normal(size=(6, 4)), rng.normal(size=6)), (rng.normal(size=(1, 6)), [0.0])])
    region = Interval(np.full(4, -1.0), np.full(4, 1.0))
    root = crown(network, region.take(None))[0].take(0)
    box = lifted_bound(network, region, root, Weighted(np.ones(1)))
    ball = lifted_bound(network, region, root, Weighted(np.ones(1)), ball=Ball(np.zeros(4), 1.0))
    directions = rng.normal(size=(20_000, 4))
    directions /= np.maximum(1.0, np.linalg.norm(directions, axis=1, keepdims=True))
    assert box.lower + 0.1 < ball.lower <= network(directions).min()
    assert ball.lower >= ball.solution.bound - 1e-6


def test_generic_solvers_are_read_and_distrusted() -> None:
    """Replayed multipliers prove what they prove directly, in both forms; NaN, nothing or wrong ones stay sound."""
    rng = np.random.default_rng(2)
    network = Network.from_arrays([(rng.normal(size=(4, 2)), rng.normal(size=4)), (rng.normal(size=(1, 4)), [0.0])])
    region = Interval(np.full(2, -1.0), np.full(2, 1.0))
    relaxation = lifted(network, region, crown(network, region.take(None))[0].take(0), Weighted(np.ones(1)))
    ours = solve_lifted(relaxation)
    direct = safe_bound(relaxation, ours.products, ours.box)
    equal = relaxation.equality

    def replay(program: Program) -> Solution:
        if "gamma" in program.variables:
            return Solution(Status.OPTIMAL, "replay", primal=np.concatenate([[0.0], ours.box, ours.products]))
        rest = np.zeros(program.rows["X"].size)
        dual = np.concatenate([ours.box, ours.products[~equal], ours.products[equal], rest])
        return Solution(Status.OPTIMAL, "replay", dual=dual)

    def proved(solver: Scripted, form: str) -> float:
        found = solve_lifted_by(relaxation, solver, form=form)
        return safe_bound(relaxation, found.products, found.box).lower

    for form in ("dual", "primal"):
        assert proved(Scripted(replay), form) == direct.lower
        for vector in (None, np.full(3, np.nan)):
            useless = Solution(Status.OPTIMAL, "x", primal=vector, dual=vector)
            assert proved(Scripted([useless]), form) <= direct.lower
    with pytest.raises(InputError, match="form"):
        solve_lifted_by(relaxation, "highs", form="both")
    with pytest.raises(UnsupportedProgram):
        solve_lifted_by(relaxation, "highs")
    with pytest.raises(InputError, match="there is no solver"):
        solve_lifted_by(relaxation, "magic")


def test_generic_solvers_leave_moments() -> None:
    """From either form: the means are the interior-point method's, so products can be added and points tried."""
    rng = np.random.default_rng(3)
    network = Network.from_arrays([(rng.normal(size=(4, 2)), rng.normal(size=4)), (rng.normal(size=(1, 4)), [0.0])])
    region = Interval(np.full(2, -1.0), np.full(2, 1.0))
    root, objective = crown(network, region.take(None))[0].take(0), Weighted(np.ones(1))
    relaxation = lifted(network, region, root, objective)
    ours = solve_lifted(relaxation)
    for form in ("dual", "primal"):
        found = solve_lifted_by(relaxation, "clarabel", form=form)
        assert found.solver.endswith(f"{form} form")
        assert np.allclose(found.moments, ours.moments, atol=1e-4)
        assert found.bound == pytest.approx(ours.bound, abs=1e-5)
        assert found.objective == pytest.approx(ours.bound, abs=1e-5)
    other = lifted_bound(network, region, root, objective, rounds=1, solver="clarabel")
    assert other.rounds == 1
    assert other.lower > ours.bound + 0.01


def test_generic_solvers_at_the_edges() -> None:
    """A region that is a point leaves no program; an impossible side is an infeasible relaxation."""
    network = Network.from_arrays([([[1.0], [-1.0]], [-2.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    for name in ("clarabel", "scs", "auto"):
        answer = bound(network, Box([1], [1]), "Y_0", method="lifted", solver=name)
        assert answer.lower <= 0.0 <= answer.lower + 1e-9
    region = Interval(np.array([-1.0]), np.array([1.0]))
    side = Bounds((Interval(np.array([0.0, -1.0]), np.array([1.0, 1.0])),))  # x >= 2
    relaxation = lifted(network, region, side, Weighted(np.ones(1)))
    for form in ("dual", "primal"):
        assert solve_lifted_by(relaxation, "clarabel", form=form).status is Status.INFEASIBLE


def test_auto_explains_its_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The method made for it first; if that fails, generic solvers by size, and MOSEK only with a licence."""
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", "/nowhere/mosek.lic")
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    box = Box([-1], [1])
    first = bound(network, box, "Y_0", method="lifted", solver="auto")
    assert "auto takes interior point for this lifted relaxation of order 4: it uses the structure" in first.reason
    assert first.complete
    monkeypatch.setattr("optverify.solvers.interior_point._start", lambda *_: None)
    second = bound(network, box, "Y_0", method="lifted", solver="auto")
    assert "auto takes clarabel" in second.reason
    assert "interior point failed: numbers too large" in second.reason
    assert "mosek: no licence found" in second.reason
    assert second.solver == "auto"
    assert second.lower == pytest.approx(first.lower, abs=1e-5)
    large = Auto().ranked("SDP", 131)
    assert [solver.name for solver, _ in large] == ["mosek", "scs", "clarabel"]
    assert [bool(why) for _, why in large] == [False, True, False]
    assert [solver.name for solver, _ in Auto().ranked("SDP", 130)] == ["mosek", "clarabel", "scs"]


def test_a_named_solver_is_taken_or_refused() -> None:
    """Generic solvers by name; one that takes no semidefinite cones is an error, not replaced by another."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    box = Box([-1], [1])
    ours = bound(network, box, "Y_0", method="lifted", solver="interior point")
    assert ours.solver == "interior point"
    for name, form in (("clarabel", "dual"), ("cvxpy:SCS", "primal"), ("cvxpy:CLARABEL", "dual")):
        answer = bound(network, box, "Y_0", method="lifted", solver=name)
        assert answer.solver == name
        assert f"{form} form" in answer.reason
        assert answer.lower == pytest.approx(ours.lower, abs=1e-3)
        assert answer.lower <= 0.0
    with pytest.raises(UnsupportedProgram, match="highs"):
        bound(network, box, "Y_0", method="lifted", solver="highs")
    with pytest.raises(InputError, match="there is no solver"):
        bound(network, box, "Y_0", method="triangle", solver="interior point")
    with pytest.raises(InputError, match="needs a solver"):
        bound(network, box, "Y_0", method="lifted", solver=None)


def test_warm_starts_change_nothing_but_the_steps() -> None:
    """Other objectives, further products, other conditions: the same optimum; where they fit, in fewer steps."""
    rng = np.random.default_rng(5)
    network = Network.from_arrays(
        [
            (rng.normal(size=(8, 5)), 0.3 * rng.normal(size=8)),
            (0.5 * rng.normal(size=(8, 8)), 0.3 * rng.normal(size=8)),
            (rng.normal(size=(4, 8)), np.zeros(4)),
        ]
    )
    region = Interval(np.full(5, -0.5), np.full(5, 0.5))
    root = crown(network, region.take(None))[0].take(0)
    objectives = [Weighted(c) for c in (*np.eye(4), -np.eye(4)[0], 1e6 * np.eye(4)[1])]
    first = lifted_bound(network, region, root, objectives[0])
    steps = np.zeros((2, len(objectives)))
    for k, objective in enumerate(objectives):
        cold = lifted_bound(network, region, root, objective)
        warm = lifted_bound(network, region, root, objective, start=first.solution)
        assert warm.solution.status is Status.OPTIMAL
        assert warm.lower == pytest.approx(cold.lower, rel=LOSS, abs=LOSS)
        steps[:, k] = cold.solution.iterations, warm.solution.iterations
    assert steps[1].sum() < steps[0].sum()
    # Starts that do not fit are passed over.
    small = Interval(np.full(5, -0.1), np.full(5, 0.1))
    tight = crown(network, small.take(None))[0].take(0)
    plain = lifted_bound(network, small, tight, objectives[0])
    assert lifted_bound(network, small, tight, objectives[0], start=first.solution).lower == pytest.approx(
        plain.lower, abs=LOSS
    )
    more = with_violated_products(first.lifted, first.solution.moments)
    cold, warm = solve_lifted(more), solve_lifted(more, start=first.solution)
    assert warm.bound == pytest.approx(cold.bound, rel=LOSS, abs=LOSS)
    assert warm.iterations < cold.iterations


def test_too_many_conditions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clearly, or in later rounds by leaving it at what there is; `bound` falls back on backward bounds."""
    rng = np.random.default_rng(1)
    network = Network.from_arrays(
        [
            (rng.normal(size=(6, 3)), rng.normal(size=6)),
            (rng.normal(size=(6, 6)), rng.normal(size=6)),
            (np.ones((1, 6)), [0.0]),
        ]
    )
    region = Interval(np.full(3, -1.0), np.full(3, 1.0))
    root = crown(network, region.take(None))[0].take(0)
    size = lifted_bound(network, region, root, Weighted(np.ones(1))).solution
    monkeypatch.setattr(module, "LARGEST", size.box.size + size.products.size)
    assert lifted_bound(network, region, root, Weighted(np.ones(1)), rounds=3).rounds == 0
    monkeypatch.setattr(module, "LARGEST", 3)
    with pytest.raises(InputError, match="too many"):
        lifted_bound(network, region, root, Weighted(np.ones(1)))
    answer = bound(network, Box([-1] * 3, [1] * 3), "Y_0", method="lifted")
    assert np.isfinite(answer.lower)
    assert "backward" in answer.reason


def test_overflow_is_an_answer() -> None:
    """Weights of 1e200 in two layers: no relaxation, no exception, no bound above the truth."""
    network = Network.from_arrays([([[1e200]], [0.0]), ([[1e200]], [0.0]), ([[1.0]], [0.0])])
    answer = bound(network, Box([-1], [1]), "Y_0", method="lifted")
    assert answer.lower <= 0.0
    assert not answer.complete
    region = Interval(np.array([-1.0]), np.array([1.0]))
    frame_of(network, region, crown(network, region.take(None))[0].take(0))


def test_cones_of_the_forms() -> None:
    """Both have one semidefinite block; the method of `bound` names its solver and its claim."""
    network = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    answer = bound(network, Box([-1], [1]), "Y_0", method="lifted")
    assert answer.solver == "interior point"
    assert answer.claim is not None
    assert answer.lower <= 0.0 <= answer.lower + 1e-5
    assert answer.complete
    seen: list[frozenset[Cone]] = []

    def look(program: Program) -> Solution:
        seen.append(program.cones)
        return Solution(Status.FAILED, "none")

    region = Interval(np.array([-1.0]), np.array([1.0]))
    relaxation = lifted(network, region, crown(network, region.take(None))[0].take(0), Weighted(np.ones(1)))
    for form in ("dual", "primal"):
        solve_lifted_by(relaxation, Scripted(look), form=form)
    assert all(Cone.PSD in cones for cones in seen)
