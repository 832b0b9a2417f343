"""Learn the cost table of a collision-avoidance logic for two small aircraft at the same height.

Inputs, seen from the own aircraft: position of the intruder ahead (X_0) and to the left (X_1) in m, its
heading relative to the own one (X_2, rad, positive to the left), own speed (X_3) and its speed (X_4) in m/s.
Outputs: the cost of each advisory, and the smallest is best,

    Y_0 clear of conflict,  Y_1 weak left,  Y_2 weak right,  Y_3 strong left,  Y_4 strong right.

The table: follow the advisory for 3 s, then the best single advisory for 8 s, then fly straight; pay for both
advisories and for the smallest separation until 25 s, averaged over three guesses of what the intruder does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.export import Network, to_onnx, write
from examples.training import Doubles, destination, fit

LOW = np.array([-600.0, -600.0, -np.pi, 15.0, 5.0])
HIGH = np.array([600.0, 600.0, np.pi, 25.0, 25.0])
TURNS = np.radians([0.0, 4.0, -4.0, 10.0, -10.0])
PRICES = np.array([0.0, 0.3, 0.3, 0.6, 0.6])
SAFE, CLOSE = 200.0, 60.0
STEP, FIRST, SECOND, HORIZON = 0.5, 3.0, 8.0, 25.0


def flight(first: float, second: float) -> NDArray[np.complex128]:
    """Complex positions at unit speed, from 0 along the real axis, under two successive turn rates."""
    times = np.arange(0.0, HORIZON, STEP)
    rate = np.where(times < FIRST, first, np.where(times < FIRST + SECOND, second, 0.0))
    heading = np.concatenate([[0.0], np.cumsum(rate * STEP)[:-1]])
    return np.concatenate([np.zeros(1), np.cumsum(STEP * np.exp(1j * heading))])


def table(rows: Doubles) -> Doubles:
    """Cost of the five advisories for each row."""
    ahead, left, heading, own, other = rows.T[:, :, None]
    guesses = [flight(rate, 0.0) for rate in (0.0, TURNS[1], TURNS[2])]
    intruder = [ahead + 1j * left + other * np.exp(1j * heading) * g for g in guesses]
    costs: Doubles = np.full((len(rows), 5), np.inf)
    for advisory, first in enumerate(TURNS):
        for price, second in zip(PRICES, TURNS, strict=True):
            flown = own * flight(first, second)
            gaps = [np.abs(track - flown).min(axis=1) for track in intruder]
            danger = np.mean([10 * np.maximum(0.0, 1 - gap / SAFE) for gap in gaps], axis=0)
            costs[:, advisory] = np.minimum(costs[:, advisory], danger + price)
    total: Doubles = costs + PRICES
    return total


def encounters(count: int, rng: np.random.Generator) -> Doubles:
    """Random geometries, half of them at less than half the distance."""
    rows = rng.uniform(LOW, HIGH, (count, 5))
    rows[::2, :2] *= 0.5
    return rows


def simulate(network: Network | None, count: int, rng: np.random.Generator) -> float:
    """Fraction of dangerous geometries that end in an approach below 60 m; None flies straight on."""
    start = rng.uniform(LOW, HIGH, (count, 5))
    own, other = start[:, 3], start[:, 4]
    # Each intruder is aimed at where the own aircraft would be after 8 to 16 s, give or take.
    delay = rng.uniform(8, 16, count)
    aim = rng.uniform(-40, 40, (count, 2)) @ [1, 1j]
    place, target, heading = np.zeros(count, complex), own * delay + aim, np.zeros(count)
    course = start[:, 2].copy()
    intruder = target - other * delay * np.exp(1j * course)
    nearest = np.abs(intruder)
    for _ in range(30):
        if network is not None:
            seen = (intruder - place) * np.exp(-1j * heading)
            angle = (course - heading + np.pi) % (2 * np.pi) - np.pi
            rows = np.column_stack([seen.real, seen.imag, angle, own, other])
            turn = TURNS[network(rows).argmin(axis=1)]
        else:
            turn = np.zeros(count)
        course += rng.normal(0, np.radians(1), count)
        for _ in range(2):
            heading += turn * STEP
            place += own * STEP * np.exp(1j * heading)
            intruder += other * STEP * np.exp(1j * course)
            nearest = np.minimum(nearest, np.abs(intruder - place))
    return float((nearest < CLOSE).mean())


def main() -> None:
    """Train, report and write."""
    path = destination(__file__)
    rng = np.random.default_rng(4)
    rows = encounters(60000, rng)
    network = fit(
        rows,
        table(rows),
        (30, 30, 30),
        mean=((LOW + HIGH) / 2).tolist(),
        scale=((HIGH - LOW) / 2).tolist(),
        epochs=200,
        batch=512,
        rate=1e-2,
    )
    test = encounters(5000, rng)
    wanted, cost = table(test), network(test)
    error = np.abs(cost - wanted)
    regret = wanted[np.arange(len(test)), cost.argmin(axis=1)] - wanted.min(axis=1)
    print(f"avoidance: imitation error mean {error.mean():.3f} of costs up to {wanted.max():.1f}")
    print(f"best advisory chosen in {(regret < 1e-9).mean():.1%}, mean regret {regret.mean():.4f}")
    plain = simulate(None, 2000, np.random.default_rng(5))
    guarded = simulate(network, 2000, np.random.default_rng(5))
    print(f"approaches below {CLOSE:g} m: {plain:.1%} without, {guarded:.1%} with the advisories")
    write(to_onnx(network, "avoidance"), path)


if __name__ == "__main__":
    main()
