"""Rigorous bounds beside solver claims on random networks, with the exact optimum as judge.

    python -m benchmarks.claims --count 1000

For each network (up to 3 inputs and 8 neurons, weights of many scales) the triangle program, the lifted relaxation
and the big-M program are solved; each claim is compared with the rigorous bound made from its duals, and both with
the exact optimum found by enumerating activation patterns in rational arithmetic. Exit code 1 if a bound is above the
optimum.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median

import numpy as np

from optverify import Box, Network, bound
from tests import oracle

METHODS = ("triangle", "lifted", "bigm")


@dataclass(frozen=True)
class Row:
    """One network and method: claim, bound and exact optimum as rationals."""

    method: str
    claim: Fraction
    lower: Fraction
    exact: Fraction

    @property
    def loss(self) -> float:
        """Claim minus bound, relative to the claim's size or 1."""
        return float((self.claim - self.lower) / max(abs(self.claim), Fraction(1)))


def random_network(rng: np.random.Generator) -> Network:
    """Draw sizes and weights; some networks have rows scaled by up to 1e8 in either direction."""
    sizes = [int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(1, 5)), 1]
    spread = int(rng.choice([0, 0, 2, 8]))
    steps = []
    for n, m in pairwise(sizes):
        scale = 10.0 ** rng.integers(-spread, spread + 1, (m, 1))
        steps.append((rng.normal(size=(m, n)) * scale, rng.normal(size=m) * scale[:, 0]))
    return Network.from_arrays(steps)


def measure(count: int, seed: int) -> list[Row]:
    """Bound `count` networks by both programs."""
    rng = np.random.default_rng(seed)
    rows = []
    for done in range(count):
        network = random_network(rng)
        centre = rng.normal(size=network.n_inputs)
        radius = float(10.0 ** rng.integers(-4, 2)) * rng.random()
        box = Box.around(centre, radius, clip=None)
        exact = oracle.minimum(oracle.read(network), box.lower, box.upper, [Fraction(1)])
        for method in METHODS:
            answer = bound(network, box, [1], method=method, seed=done)
            if answer.claim is None:
                print(f"network {done}: {method} made no claim: {answer.reason.split(';')[0]}")
                continue
            rows.append(Row(method, Fraction(answer.claim), Fraction(answer.lower), exact))
        if sys.stderr.isatty():
            print(f"\r{done + 1} of {count}", end="", file=sys.stderr)
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = measure(options.count, options.seed)
    broken = 0
    for method in METHODS:
        mine = [row for row in rows if row.method == method]
        above = sum(row.lower > row.exact for row in mine)
        invalid = sum(row.claim > row.exact for row in mine)
        losses = sorted(row.loss for row in mine)
        broken += above
        print(
            f"{method:<9} {len(mine)} networks: bounds above the exact optimum {above}, claims above it {invalid}; "
            f"loss from claim to bound: median {median(losses):.2e}, 90 % {losses[int(0.9 * len(losses))]:.2e}, "
            f"largest {losses[-1]:.2e}"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
