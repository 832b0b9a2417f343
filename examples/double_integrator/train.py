"""Learn a model predictive controller for a cart on a line.

State: position p (m) and velocity v (m/s), input: acceleration u (m/s^2) held for one second,

    p+ = p + v + u / 2,    v+ = v + u,    |p| <= 5,  |v| <= 2,  |u| <= 1.

The teacher solves the constrained quadratic program over ten steps exactly.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag, cholesky, solve_discrete_are, solve_triangular
from scipy.optimize import nnls

from examples.export import Network, to_onnx, write
from examples.training import Doubles, destination, fit

A = np.array([[1.0, 1.0], [0.0, 1.0]])
B = np.array([[0.5], [1.0]])
Q, R = np.eye(2), np.array([[0.5]])
HORIZON = 10
LIMIT = np.array([5.0, 2.0])
# The teacher keeps to slightly smaller limits, so that imitation errors do not leave the real ones.
INNER_STATE, INNER_INPUT = 0.94 * LIMIT, 0.97


class Teacher:
    """Quadratic program min |L'U + M x|^2 subject to G U <= h + E x, the inputs U over the horizon."""

    def __init__(self) -> None:
        power = [np.linalg.matrix_power(A, k) for k in range(HORIZON + 1)]
        free = np.vstack(power[1:])
        forced = np.zeros((2 * HORIZON, HORIZON))
        for k in range(HORIZON):
            for j in range(k + 1):
                forced[2 * k : 2 * k + 2, j] = (power[k - j] @ B)[:, 0]
        terminal = solve_discrete_are(A, B, Q, R)
        weight = block_diag(*[Q] * (HORIZON - 1), terminal)
        hessian = forced.T @ weight @ forced + np.kron(np.eye(HORIZON), R)
        self.factor = cholesky(hessian, lower=True)
        self.shift = solve_triangular(self.factor, forced.T @ weight @ free, lower=True)
        unit = np.eye(HORIZON)
        self.rows = np.vstack([unit, -unit, forced, -forced])
        states = np.tile(INNER_STATE, HORIZON)
        self.right = np.concatenate([np.full(2 * HORIZON, INNER_INPUT), states, states])
        self.linear = np.vstack([np.zeros((2 * HORIZON, 2)), -free, free])
        self.normal = solve_triangular(self.factor, self.rows.T, lower=True)

    def __call__(self, state: Doubles) -> float | None:
        """First input of the optimal plan, or None where no plan keeps the limits."""
        # In z = L'U + M x this is the point of {normal' z <= gap} nearest to the origin. Its dual is the
        # nonnegative least-squares problem below (Lawson and Hanson, 1974, chapter 23); residual 0: empty.
        gap = self.right + self.linear @ state + self.normal.T @ (self.shift @ state)
        matrix = np.vstack([-self.normal, -gap])
        unit = np.append(np.zeros(HORIZON), 1.0)
        dual, _ = nnls(matrix, unit)
        residual = unit - matrix @ dual
        if residual[-1] < 1e-9:
            return None
        z = -residual[:-1] / residual[-1]
        plan = solve_triangular(self.factor.T, z - self.shift @ state, lower=False)
        return float(plan[0])


def samples(teacher: Teacher, count: int, rng: np.random.Generator) -> tuple[Doubles, Doubles]:
    """Feasible states and the inputs of the teacher there."""
    states = rng.uniform(-LIMIT, LIMIT, (count, 2))
    answers = [teacher(x) for x in states]
    keep = np.array([u is not None for u in answers])
    return states[keep], np.array([[u] for u in answers if u is not None])


def simulate(network: Network, starts: Doubles) -> float:
    """Fraction of starts from which the cart keeps its limits and stops at the origin."""
    x, good = starts.copy(), np.ones(len(starts), bool)
    for _ in range(25):
        u = network(x).astype(np.float64)
        x = x @ A.T + u @ B.T
        good &= (np.abs(x) <= LIMIT).all(axis=1) & (np.abs(u[:, 0]) <= 1)
    return float((good & (np.abs(x) <= 0.1).all(axis=1)).mean())


def main() -> None:
    """Train, report and write."""
    path = destination(__file__)
    rng = np.random.default_rng(1)
    teacher = Teacher()
    states, inputs = samples(teacher, 12000, rng)
    network = fit(states, inputs, (20, 20), mean=[0, 0], scale=LIMIT.tolist(), epochs=250).folded()
    test_states, test_inputs = samples(teacher, 2000, rng)
    error = np.abs(network(test_states) - test_inputs)
    print(f"double integrator: imitation error mean {error.mean():.4f}, max {error.max():.3f} m/s^2")
    print(f"stops at the origin, limits kept: {simulate(network, test_states):.1%} of {len(error)} starts")
    write(to_onnx(network, "double_integrator"), path)


if __name__ == "__main__":
    main()
