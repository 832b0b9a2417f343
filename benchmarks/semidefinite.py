"""The lifted relaxation on image classifiers: what backward bounds, the triangle and it prove, and in which time.

    python -m benchmarks.semidefinite NETWORK.onnx IMAGES.npz --images 20 --eps 0.1 --targets runner-up --rounds 0

IMAGES.npz holds ``images`` (k, n) uint8 and ``labels`` (k,); an input is its pixel / 255. Of the first images that
the network classifies correctly, the margin of the label over the runner-up (or over every other class) is bounded
from below; the smallest value that an attack finds, evaluated exactly, is the upper end. A line a target, then totals.
Targets of one image start from what the first left, unless --cold says otherwise. Seconds are CPU time of one core.
Exit code 1 if a bound is above an upper end.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.images import classified, options, printed
from optverify import Network, load
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.lifted import LiftedBound, lifted_bound
from optverify.bounds.relaxed import relaxed
from optverify.expressions import Linear
from optverify.formulations.encoder import Weighted
from optverify.interval import round_up
from optverify.query import Goal, append_rows
from optverify.search import attack
from optverify.solvers.interior_point import LiftedSolution


@dataclass(frozen=True)
class Row:
    """One image and target: margins proved by three methods, an upper end, and what the last one took."""

    image: int
    target: int
    unstable: int
    crown: float
    triangle: float
    lifted: float
    upper: float
    loss: float
    iterations: int
    rounds: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.image:5d} {self.target:6d} {self.unstable:8d} {self.crown:9.4f} {self.triangle:9.4f} "
            f"{self.lifted:9.4f} {self.upper:9.4f} {self.loss:9.1e} {self.iterations:5d} {self.rounds:6d} "
            f"{self.seconds:7.2f}"
        )


HEADER = "image target unstable     CROWN  triangle    lifted     upper      loss steps rounds seconds"


def timed(work: Callable[[], LiftedBound]) -> tuple[LiftedBound, float]:
    """Return a result and the CPU seconds that it took."""
    started = time.process_time()
    return work(), time.process_time() - started


def measure(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    eps: Fraction,
    every: bool,
    rounds: int,
    stop: bool,
    cold: bool = False,
) -> Iterator[Row]:
    """Bound the margins of the first `count` images that are classified correctly."""
    for image in classified(network, images, labels, count):
        box = image.ball(eps)
        first: LiftedSolution | None = None
        for target in image.others if every else image.others[:1]:
            margin = Linear({("Y", image.label): Fraction(1), ("Y", target): Fraction(-1)}, Fraction(0))
            goal = Goal(append_rows(network, [margin]), box, ((0,),), (0,), ((0,),))
            row, found = bounded(goal, image.index, target, rounds, stop, None if cold else first)
            first = first or found
            yield row


def bounded(
    goal: Goal, image: int, target: int, rounds: int, stop: bool, start: LiftedSolution | None
) -> tuple[Row, LiftedSolution]:
    """Bound one margin by all methods; return what other targets may start from too."""
    region, objective = goal.region.outward, Weighted(np.ones(1))
    bounds, frame = crown(goal.network, region.take(None))
    root = bounds.take(0)
    triangle = relaxed(frame, root, objective, "highs").lower
    answer, seconds = timed(
        lambda: lifted_bound(
            goal.network, region, root, objective, rounds=rounds, stop_above=0.0 if stop else np.inf, start=start
        )
    )
    best = attack.Best()
    attack.attack(goal, region, best, np.random.default_rng(0), stop_at=-np.inf)
    attack.from_point(goal, answer.point, best, stop_at=-np.inf)
    assert best.point is not None
    upper = round_up(goal.network.enclose(goal.region.clamp(best.point.tolist()))[0][1])
    row = Row(
        image,
        target,
        answer.lifted.hidden,
        float(output_bounds(frame).value[0, 0]),
        triangle,
        answer.lower,
        upper,
        answer.solution.bound - answer.lower,
        answer.solution.iterations,
        answer.rounds,
        seconds,
    )
    return row, answer.solution


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(str(__doc__))
    parser.add_argument("--targets", choices=["runner-up", "all"], default="runner-up")
    parser.add_argument("--rounds", type=int, default=0, help="of products of conditions")
    parser.add_argument("--stop", action="store_true", help="end each solve at a bound above 0")
    parser.add_argument("--cold", action="store_true", help="start each target afresh")
    given = parser.parse_args(arguments)
    network, data = load(given.network), np.load(given.data)
    every = given.targets == "all"
    how = given.rounds, given.stop, given.cold
    rows = printed(HEADER, measure(network, data["images"], data["labels"], given.images, given.eps, every, *how))
    if not rows:
        print("no image is classified correctly")
        return 0
    wrong = [row for row in rows if max(row.crown, row.triangle, row.lifted) > row.upper]
    proved = ", ".join(
        f"{name} {sum(value > 0 for value in values)}"
        for name, values in (
            ("CROWN", [row.crown for row in rows]),
            ("triangle", [row.triangle for row in rows]),
            ("lifted", [row.lifted for row in rows]),
        )
    )
    refuted = sum(row.upper <= 0 for row in rows)
    seconds = [row.seconds for row in rows]
    print(f"proved of {len(rows)}: {proved}; counterexamples: {refuted}; bounds above an upper end: {len(wrong)}")
    images: defaultdict[int, float] = defaultdict(float)
    for row in rows:
        images[row.image] += row.seconds
    print(f"CPU seconds: mean {np.mean(seconds):.2f}, most {max(seconds):.2f}; an image: ", end="")
    print(f"mean {np.mean(list(images.values())):.2f}, most {max(images.values()):.2f}; claim to bound: ", end="")
    print(f"at most {max(row.loss for row in rows):.1e}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
