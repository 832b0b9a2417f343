"""Learn to balance a pole on a cart by pushing the cart left or right.

State: position of the cart s (m), its velocity v (m/s), angle of the pole from upright q (rad, positive to
the right) and its rate w (rad/s). Outputs: a score for pushing left (Y_0) and one for pushing right (Y_1),
10 N each for 0.02 s; the larger score wins. Cart 1 kg, pole 0.1 kg and 1 m long.

The teacher tries both pushes for 0.1 s, lets a saturated linear-quadratic regulator finish and compares the
costs.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_continuous_are
from scipy.special import expit
from torch import nn

from examples.export import Network, to_onnx, write
from examples.training import Doubles, destination, fit

GRAVITY, POLE, TOTAL, HALF, FORCE = 9.81, 0.1, 1.1, 0.5, 10.0
STEP = 0.02
LIMIT = np.array([2.0, 2.0, 0.4, 2.0])


def derivative(state: Doubles, force: Doubles) -> Doubles:
    """Time derivative of each row under the force on its cart."""
    _, v, q, w = state.T
    sine, cosine = np.sin(q), np.cos(q)
    push = (force + POLE * HALF * w**2 * sine) / TOTAL
    turn = (GRAVITY * sine - cosine * push) / (HALF * (4 / 3 - POLE * cosine**2 / TOTAL))
    return np.column_stack([v, push - POLE * HALF * turn * cosine / TOTAL, w, turn])


def regulator() -> Doubles:
    """Feedback gain for the linearisation at rest."""
    unit, zero = 1e-6, np.zeros((1, 4))
    a = np.hstack([derivative(unit * np.eye(4)[[i]], np.zeros(1)).T / unit for i in range(4)])
    b = derivative(zero, np.ones(1)).T
    weights, effort = np.diag([1.0, 0.5, 20.0, 1.0]), np.array([[0.05]])
    gain: Doubles = (b.T @ solve_continuous_are(a, b, weights, effort) / effort)[0]
    return gain


def cost(state: Doubles, first: float, gain: Doubles) -> Doubles:
    """Cost of pushing with the first force for 0.1 s and regulating afterwards for 3 s."""
    x, total = state.copy(), np.zeros(len(state))
    for k in range(155):
        force = np.full(len(x), first) if k < 5 else np.clip(-x @ gain, -FORCE, FORCE)
        x = x + STEP * derivative(x, force)
        # Bounded, because a pole that has fallen cannot get worse.
        total += np.tanh(0.2 * x[:, 0] ** 2 + 0.1 * x[:, 1] ** 2 + 5 * x[:, 2] ** 2 + 0.5 * x[:, 3] ** 2)
    return total


def teacher(state: Doubles) -> Doubles:
    """Probabilities of pushing left and right for each row, even where the costs are equal."""
    gain = regulator()
    right = expit((cost(state, -FORCE, gain) - cost(state, FORCE, gain)) / 20)
    return np.column_stack([1 - right, right])


def simulate(network: Network, starts: Doubles) -> float:
    """Fraction of starts with the pole up and the cart on its track for 10 s."""
    x, good = starts.copy(), np.ones(len(starts), bool)
    for _ in range(500):
        score = network(x)
        force = np.where(score[:, 1] > score[:, 0], FORCE, -FORCE)
        x = x + STEP * derivative(x, force)
        good &= (np.abs(x[:, 2]) <= 0.6) & (np.abs(x[:, 0]) <= 2.4)
        x[~good] = 0.0
    return float(good.mean())


def main() -> None:
    """Train, report and write."""
    path = destination(__file__)
    rng = np.random.default_rng(3)
    states = rng.uniform(-LIMIT, LIMIT, (40000, 4))
    states[::2] *= 0.5
    network = fit(
        states,
        teacher(states),
        (32, 32),
        mean=[0] * 4,
        scale=LIMIT.tolist(),
        loss=nn.functional.cross_entropy,
        epochs=60,
    ).folded()
    test = rng.uniform(-LIMIT / 2, LIMIT / 2, (4000, 4))
    wanted, score = teacher(test)[:, 1], network(test)
    agree = (score[:, 1] > score[:, 0]) == (wanted > 0.5)
    clear = np.abs(wanted - 0.5) > 0.1
    print(f"cart-pole: decides like the teacher in {agree.mean():.1%} ({agree[clear].mean():.1%} of the clear cases)")
    starts = rng.uniform(-LIMIT / 2, LIMIT / 2, (500, 4))
    print(f"balanced for 10 s: {simulate(network, starts):.1%} of {len(starts)} starts")
    write(to_onnx(network, "cartpole", "matmul", "batch"), path)


if __name__ == "__main__":
    main()
