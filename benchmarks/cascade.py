"""The whole search on image classifiers, with and without the lifted relaxation at its nodes.

    python -m benchmarks.cascade NETWORK.onnx IMAGES.npz --images 20 --eps 0.1 --targets runner-up --time-limit 60

IMAGES.npz is as for ``benchmarks.semidefinite``, which measures the bounds at the root alone. Each of the first images
that the network classifies correctly is verified, against the runner-up or against all other classes at once, by
each relaxation that ``verify`` knows; a line for each, then totals. Seconds are CPU time of one core. Exit code 1 if
two answers contradict each other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from benchmarks.images import classified, options, printed
from optverify import Network, Query, Verdict, load, verify
from optverify.verify import RELAXATIONS


@dataclass(frozen=True)
class Row:
    """One question and one relaxation."""

    image: int
    relaxation: str
    verdict: Verdict
    nodes: int
    programs: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.image:5d} {self.relaxation:>10s} {self.verdict.value:>9s} {self.nodes:7d} {self.programs:8d} "
            f"{self.seconds:7.2f}"
        )


HEADER = "image relaxation   verdict   nodes programs seconds"


def measure(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    eps: Fraction,
    every: bool,
    relaxations: Sequence[str],
    time_limit: float,
) -> Iterator[Row]:
    """Verify the first `count` images that are classified correctly."""
    for image in classified(network, images, labels, count):
        targets = image.others if every else image.others[:1]
        query = Query.robust(image.ball(eps), image.label, network.n_outputs, targets)
        for relaxation in relaxations:
            started = time.process_time()
            answer = verify(network, query, relaxation=relaxation, time_limit=time_limit)
            seconds = time.process_time() - started
            yield Row(image.index, relaxation, answer.verdict, answer.nodes, answer.programs, seconds)


def contradictions(rows: Sequence[Row]) -> list[int]:
    """Return the images that are both verified and falsified."""
    proved = {row.image for row in rows if row.verdict is Verdict.VERIFIED}
    return sorted(proved & {row.image for row in rows if row.verdict is Verdict.FALSIFIED})


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(str(__doc__))
    parser.add_argument("--targets", choices=["runner-up", "all"], default="runner-up")
    parser.add_argument("--relaxations", nargs="+", choices=RELAXATIONS, default=RELAXATIONS)
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for each question")
    given = parser.parse_args(arguments)
    network, data = load(given.network), np.load(given.data)
    every = given.targets == "all"
    limits = given.relaxations, given.time_limit
    rows = printed(HEADER, measure(network, data["images"], data["labels"], given.images, given.eps, every, *limits))
    for relaxation in given.relaxations:
        some = [row for row in rows if row.relaxation == relaxation]
        found = ", ".join(f"{sum(row.verdict is verdict for row in some)} {verdict.value}" for verdict in Verdict)
        print(f"{relaxation}: {found}; {sum(row.seconds for row in some):.1f} CPU s")
    wrong = contradictions(rows)
    if wrong:
        print(f"contradictory verdicts: images {', '.join(map(str, wrong))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
