"""Learn to swing a pendulum up and to balance it with a motor too weak to lift it directly.

State: angle q from upright (rad, in [-pi, pi], positive to the right) and its rate w (rad/s); input: torque
u (N m), |u| <= 0.75. A mass of 0.4 kg hangs on a light rod of 0.5 m,

    J q'' = m g l sin q + u,    J = m l^2 = 0.1 kg m^2,  m g l = 1.962 N m.

The teacher pumps energy until the energy is that of standing upright, and blends into a linear-quadratic
regulator near the top. The Clip at the end of the network is the limit of the motor.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import solve_continuous_are
from torch import Tensor

from examples.export import Network, to_onnx, write
from examples.training import Doubles, destination, fit

INERTIA, WEIGHT = 0.1, 1.962
TORQUE = 0.75  # exact in binary, so the limit in the file is the limit that is meant
LIMIT = np.array([np.pi, 10.0])
STEP = 0.02

_A = np.array([[0.0, 1.0], [WEIGHT / INERTIA, 0.0]])
_B = np.array([[0.0], [1 / INERTIA]])
GAIN = _B.T @ solve_continuous_are(_A, _B, np.diag([10.0, 1.0]), np.array([[10.0]])) / 10.0


def teacher(state: Doubles) -> Doubles:
    """Torque for each row, within the limits of the motor."""
    angle, speed = state.T
    missing = WEIGHT * (1 - np.cos(angle)) - INERTIA * speed**2 / 2
    pump = 0.8 * missing * speed
    balance = -(state @ GAIN.T)[:, 0]
    top = np.exp(-((angle / 0.7) ** 4))
    torque: Doubles = np.clip(top * balance + (1 - top) * pump, -TORQUE, TORQUE)
    return torque


def saturated_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error that allows overshoot where the teacher is at a limit: Clip cuts it off anyway."""
    error = prediction - target
    free = ((target >= TORQUE) & (error > 0)) | ((target <= -TORQUE) & (error < 0))
    return torch.where(free, 0.0, error**2).mean()


def simulate(network: Network, starts: Doubles, seconds: float = 20.0) -> float:
    """Fraction of starts that end, and stay for a second, upright."""
    x, upright = starts.copy(), np.zeros(len(starts))
    steps = round(seconds / STEP)
    for k in range(steps):
        u = network(x).astype(np.float64)[:, 0]
        x[:, 1] += STEP * (WEIGHT * np.sin(x[:, 0]) + u) / INERTIA
        x[:, 0] = (x[:, 0] + STEP * x[:, 1] + np.pi) % (2 * np.pi) - np.pi
        if k >= steps - 50:
            upright += (np.abs(x[:, 0]) <= 0.1) & (np.abs(x[:, 1]) <= 0.3)
    return float((upright == 50).mean())


def main() -> None:
    """Train, report and write."""
    path = destination(__file__)
    rng = np.random.default_rng(2)
    wide = rng.uniform(-LIMIT, LIMIT, (40000, 2))
    near = rng.uniform([-1, -5], [1, 5], (20000, 2))
    states = np.vstack([wide, near])
    network = fit(
        states,
        teacher(states)[:, None],
        (25, 25),
        mean=[0, 0],
        scale=LIMIT.tolist(),
        loss=saturated_loss,
        epochs=120,
        rate=8e-3,
    )
    network = Network(network.folded().layers, clip=(-TORQUE, TORQUE))
    test = rng.uniform(-LIMIT, LIMIT, (5000, 2))
    error = np.abs(network(test)[:, 0] - teacher(test))
    print(f"pendulum: imitation error mean {error.mean():.4f}, 99 % below {np.quantile(error, 0.99):.3f} N m")
    starts = rng.uniform([-np.pi, -3], [np.pi, 3], (500, 2))
    print(f"upright after 20 s: {simulate(network, starts):.1%} of {len(starts)} starts")
    write(to_onnx(network, "pendulum"), path)


if __name__ == "__main__":
    main()
