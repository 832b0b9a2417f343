"""The interior-point method: its algebra against dense matrices, its answers against known ones, its ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from optverify.bounds.crown import crown
from optverify.formulations.encoder import Weighted
from optverify.formulations.lifted import Ball, Lifted, lifted
from optverify.formulations.rlt import with_violated_products
from optverify.interval import Array, Interval
from optverify.network import Network
from optverify.solvers.arrow import Arrow, Completed, sandwich
from optverify.solvers.interior_point import Operator, solve_lifted
from optverify.solvers.solution import Status

H, T = 4, 6


def random_network(seed: int, *sizes: int) -> Network:
    rng = np.random.default_rng(seed)
    layers = [(rng.normal(size=(m, n)) * np.sqrt(2 / n), 0.1 * rng.normal(size=m)) for n, m in pairwise(sizes)]
    return Network.from_arrays(layers)


def cube(n: int, radius: float) -> Interval:
    return Interval(np.full(n, -radius), np.full(n, radius))


def relaxation_of(network: Network, region: Interval, ball: Ball | None = None) -> Lifted:
    bounds = crown(network, region.take(None))[0].take(0)
    return lifted(network, region, bounds, Weighted(np.ones(network.n_outputs)), ball)


def pattern(matrix: Array, h: int = H) -> Arrow:
    return Arrow(matrix[:h, :h], matrix[h:, :h], matrix.diagonal()[h:].copy())


def filled(matrix: Completed) -> Array:
    """Return all entries."""
    return np.concatenate([matrix.columns, np.concatenate([matrix.arrow.border.T, matrix.corner])], axis=1)


def dense(arrow: Arrow) -> Array:
    return np.block([[arrow.head, arrow.border.T], [arrow.border, np.diag(arrow.tail)]])


def random_matrices(seed: int = 0) -> tuple[Arrow, Completed, Arrow]:
    """Return a positive definite arrow, a completion, and an arrow of no sign."""
    rng = np.random.default_rng(seed)
    positive, other = (rng.normal(size=(H + T, H + T)) for _ in range(2))
    S = pattern(positive @ positive.T + 40 * np.eye(H + T))
    X = pattern(positive @ positive.T + np.eye(H + T)).completion()
    assert X is not None
    return S, X, pattern(other + other.T)


def test_inverse_and_completion_are_what_they_say() -> None:
    """The inverse inverts; the completion keeps the pattern and its inverse is an arrow."""
    S, X, _ = random_matrices()
    Z = S.inverse()
    assert Z is not None
    assert np.allclose(filled(Z) @ dense(S), np.eye(H + T))
    inverse = np.linalg.inv(filled(X))
    assert np.allclose(inverse, dense(pattern(inverse)))
    again = X.arrow.completion()
    assert again is not None
    assert np.allclose(filled(again), filled(X))
    assert np.allclose(X @ np.eye(H + T), filled(X))
    assert np.allclose(X.columns, filled(X)[:, :H])
    assert np.isclose(S.dot(X.arrow), np.trace(dense(S) @ filled(X)))


def test_what_is_not_positive_definite_is_told() -> None:
    """Head or tail negative, NaN: no inverse, no completion."""
    S, X, _ = random_matrices()
    for bad in (-1.0 * S, Arrow(S.head, S.border, -S.tail), Arrow(S.head * np.nan, S.border, S.tail)):
        assert bad.inverse() is None
        assert not bad.is_positive()
    known = X.arrow
    for bad in (
        -1.0 * known,
        Arrow(known.head, 100 * known.border, known.tail),
        Arrow(known.head, known.border, known.tail * np.nan),
    ):
        assert bad.completion() is None
        assert not bad.is_completable()


def test_sandwich_and_derivative_against_dense() -> None:
    """Both against matrices written out, the derivative against a difference quotient."""
    S, X, A = random_matrices()
    Z = S.inverse()
    assert Z is not None
    _, _, change = random_matrices(1)
    derivative = X.derivative(change)
    step = 1e-5
    ahead, behind = (X.arrow + sign * step * change for sign in (1.0, -1.0))
    left, right = ahead.completion(), behind.completion()
    assert left is not None
    assert right is not None
    assert np.allclose(derivative @ np.eye(H + T), (filled(left) - filled(right)) / (2 * step), atol=1e-6)
    assert np.allclose(derivative.columns, (derivative @ np.eye(H + T))[:, :H])
    for outer in (X, derivative):
        product = (outer @ np.eye(H + T)) @ dense(A) @ filled(Z)
        expected, found = pattern(0.5 * (product + product.T)), sandwich(outer, A, Z)
        assert np.allclose(dense(found), dense(expected))


@pytest.mark.parametrize("ball", [False, True])
def test_operator_against_matrices_written_out(ball: bool) -> None:
    """Adjoint, map and Schur complement, with products of all kinds."""
    network, region = random_network(2, 3, 4, 4, 1), cube(3, 0.5)
    relaxation = relaxation_of(network, region, Ball(np.array([0.1, 0.0, -0.1]), 0.6) if ball else None)
    rng = np.random.default_rng(0)
    relaxation = with_violated_products(
        relaxation, rng.uniform(-1, 1, (1 + relaxation.n_variables, 1 + relaxation.hidden)), most=30
    )
    operator = Operator(relaxation)
    n, h = 1 + relaxation.n_variables, 1 + relaxation.hidden
    basis = np.concatenate([np.eye(n), relaxation.forms], axis=1)
    corner = np.zeros((n, n))
    corner[0, 0] = 1.0
    squares = [corner - np.outer(e, e) for e in np.eye(n)[1:]]
    matrices = list(squares)
    for j in range(relaxation.n_products):
        p, q = (
            basis[:, :h] @ relaxation.left[:, [j]].toarray().ravel(),
            basis @ relaxation.right[:, [j]].toarray().ravel(),
        )
        radial = relaxation.radial[:, [j]].toarray().ravel()
        matrices.append(
            0.5 * (np.outer(p, q) + np.outer(q, p)) + sum(d * b for d, b in zip(radial, squares, strict=True))
        )
    y = rng.normal(size=len(matrices))
    expected = sum(v * m for v, m in zip(y, matrices, strict=True)) + 0.7 * corner
    assert np.allclose(dense(operator.adjoint(y, 0.7)), expected)
    positive = rng.normal(size=(n, n))
    X = pattern(positive @ positive.T + np.eye(n), h).completion()
    Z = pattern(positive.T @ positive + 10 * n * np.eye(n), h).completion()
    assert X is not None
    assert Z is not None
    assert np.allclose(operator.apply(X.arrow), [np.vdot(m, filled(X)) for m in matrices])
    everything = [*matrices, corner]
    gram = [[np.trace(a @ filled(X) @ b @ filled(Z)) for b in everything] for a in everything]
    assert np.allclose(operator.gram(X, Z), 0.5 * (np.array(gram) + np.array(gram).T))


def test_without_neurons_it_is_exact() -> None:
    """A linear objective over a box: the minimum is -|c|."""
    network = Network.from_arrays([([[1.0, -2.0, 0.5]], [0.25])])
    found = solve_lifted(relaxation_of(network, cube(3, 1.0)))
    assert found.status is Status.OPTIMAL
    assert found.bound == pytest.approx(0.25 - 3.5, abs=1e-5)
    assert found.objective >= found.bound - 1e-6


def test_without_neurons_a_ball_is_exact() -> None:
    """A linear objective over a Euclidean ball: the minimum is -rho |c|."""
    network = Network.from_arrays([([[3.0, 4.0]], [0.0])])
    relaxation = relaxation_of(network, cube(2, 1.0), Ball(np.zeros(2), 1.0))
    assert solve_lifted(relaxation).bound == pytest.approx(-5.0, abs=1e-5)
    shifted = relaxation_of(network, cube(2, 2.0), Ball(np.array([0.5, -0.25]), 1.0))
    assert solve_lifted(shifted).bound == pytest.approx(0.5 - 5.0, abs=1e-5)


def test_the_relaxation_of_one_neuron_is_the_triangle() -> None:
    """Minus relu(x) on [-1, 1] is at least -1; relu(x) + relu(-x) = |x| is at least 0, and 0 is attained."""
    up = Network.from_arrays([([[1.0]], [0.0]), ([[-1.0]], [0.0])])
    assert solve_lifted(relaxation_of(up, cube(1, 1.0))).bound == pytest.approx(-1.0, abs=1e-5)
    both = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    assert solve_lifted(relaxation_of(both, cube(1, 1.0))).bound == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("depth", range(1, 10))
def test_depth(depth: int) -> None:
    """Up to nine hidden layers, all neurons unstable or nearly: an optimum with primal and dual values that agree."""
    relaxation = relaxation_of(random_network(depth, 5, *[8] * depth, 1), cube(5, 0.3))
    found = solve_lifted(relaxation)
    assert found.status is Status.OPTIMAL, found.message
    assert abs(found.objective - found.bound) <= 1e-5 * (1.0 + abs(found.bound))


def test_it_stops_as_soon_as_the_question_is_answered() -> None:
    """Above a threshold, below one, at a time limit, after some iterations: always with a bound that holds."""
    network, region = random_network(1, 5, 12, 12, 1), cube(5, 0.3)
    relaxation = relaxation_of(network, region)
    full = solve_lifted(relaxation)
    above = solve_lifted(relaxation, stop_above=full.bound - 1.0)
    assert above.status is Status.LIMIT
    assert full.bound - 1.0 < above.bound <= full.bound + 1e-6
    assert above.iterations < full.iterations
    assert "above" in above.message
    below = solve_lifted(relaxation, stop_below=full.bound + 1.0)
    assert below.status is Status.LIMIT
    assert full.bound - 1e-6 <= below.objective < full.bound + 1.0
    assert below.iterations < full.iterations
    early = solve_lifted(relaxation, max_iterations=3)
    assert early.status is Status.LIMIT
    assert early.bound <= full.bound + 1e-6
    assert "time limit" in solve_lifted(relaxation, time_limit=0.0).message
    none = solve_lifted(relaxation, max_iterations=0)
    assert none.iterations == 0
    assert none.bound <= full.bound


def test_rounds_of_products_tighten() -> None:
    """Each round cuts the solution off; the values stay below a sampled one."""
    network, region = random_network(1, 5, 12, 12, 1), cube(5, 0.3)
    relaxation = relaxation_of(network, region)
    samples = network(np.random.default_rng(0).uniform(-0.3, 0.3, (20_000, 5))).min()
    last = -np.inf
    for _ in range(3):
        found = solve_lifted(relaxation)
        assert found.bound >= last - 1e-6
        assert found.bound <= samples
        last, before = found.bound, relaxation
        relaxation = with_violated_products(relaxation, found.moments)
        if relaxation is before:
            break
    assert last > solve_lifted(relaxation_of(network, region)).bound + 0.1


def test_no_cut_without_neurons_or_usable_moments() -> None:
    """Then nothing is added."""
    plain = relaxation_of(Network.from_arrays([([[1.0]], [0.0])]), cube(1, 1.0))
    assert with_violated_products(plain, np.eye(2)[:, :1]) is plain
    relaxation = relaxation_of(random_network(0, 2, 3, 1), cube(2, 1.0))
    shape = (1 + relaxation.n_variables, 1 + relaxation.hidden)
    assert with_violated_products(relaxation, np.full(shape, np.nan)) is relaxation
    assert with_violated_products(relaxation, np.zeros((1, 1))) is relaxation
