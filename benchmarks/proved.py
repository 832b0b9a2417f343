"""How many images do relaxations prove? The comparison of the semidefinite literature, with bounds that are theorems.

    python -m benchmarks.proved NETWORK.onnx IMAGES.npz --images 20 --eps 0.1 --rows rows.jsonl

IMAGES.npz holds ``images`` (k, n) uint8 and ``labels`` (k,); an input is its pixel / 255. Of the first images that
the network classifies correctly, an image counts for a method if the label is proved to beat every other class. A
method is asked about the targets that cheaper ones leave only, since it is tighter, and not after its first failure.
``exact`` is branch and bound within the time limit, on images that ``lifted`` leaves; it also refutes. Rows are kept
as they are done: the same command goes on. Seconds are CPU time of one core.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.images import Image, classified, options
from optverify import Network, Query, load, verify
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.lifted import lifted_bound
from optverify.bounds.relaxed import relaxed
from optverify.expressions import Linear
from optverify.formulations.encoder import Weighted
from optverify.query import append_rows
from optverify.solvers.interior_point import LiftedSolution
from optverify.store import Store, key_of

METHODS = ("crown", "triangle", "lifted", "exact")


def measure(network: Network, image: Image, eps: Fraction, limit: float) -> dict[str, Any]:
    """Return which methods prove an image, whether it is refuted, and the seconds that each took."""
    box, label, targets, one = image.ball(eps), image.label, image.others, Fraction(1)
    margins = [Linear({("Y", label): one, ("Y", t): -one}, Fraction(0)) for t in targets]
    goal, region = append_rows(network, margins), box.outward
    seconds = dict.fromkeys(METHODS, 0.0)

    began = time.process_time()
    bounds, frame = crown(goal, region.take(None))
    root, values = bounds.take(0), output_bounds(frame).value[0]
    left = [k for k in range(len(targets)) if not values[k] > 0]
    proved = {"crown": not left}
    seconds["crown"] = time.process_time() - began

    objectives = [Weighted(row) for row in np.eye(len(targets))]
    still: list[int] = []
    began = time.process_time()
    for k in left:
        if (
            still or not relaxed(frame, root, objectives[k], "highs").lower > 0
        ):  # one target that is not proved decides; the others are for the next method
            still.append(k)
    proved["triangle"], seconds["triangle"] = not still, time.process_time() - began

    began, start, failed = time.process_time(), None, False
    first: LiftedSolution | None = None
    for k in still:
        answer = lifted_bound(goal, region, root, objectives[k], stop_above=0.0, start=start)
        first = first or answer.solution
        start = first
        if not answer.lower > 0:
            failed = True
            break
    proved["lifted"], seconds["lifted"] = not failed, time.process_time() - began

    verdict = "verified"
    if failed:
        began = time.process_time()
        verdict = verify(network, Query.robust(box, label, network.n_outputs), time_limit=limit).verdict.value
        seconds["exact"] = time.process_time() - began
    proved["exact"] = verdict == "verified"
    return {"status": "done", "proved": proved, "refuted": verdict == "falsified", "seconds": seconds}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = options(str(__doc__))
    parser.add_argument("--time-limit", type=float, default=60.0, help="of exact, for one image")
    parser.add_argument("--rows", help="keep rows here, and go on with them")
    given = parser.parse_args(arguments)
    network, data = load(given.network), np.load(given.data)
    rows: list[dict[str, Any]] = []
    with threadpool_limits(1), Store(given.rows) as store:
        for image in classified(network, data["images"], data["labels"], given.images):
            key = key_of(network.digest, image.index, str(given.eps), given.time_limit)
            row = store.get(key)
            if row is None:
                row = measure(network, image, given.eps, given.time_limit)
                store.put(key, row)
            rows.append(row)
            names = [name for name in METHODS if row["proved"][name]]
            print(
                f"image {image.index}: {names[0] if names else 'refuted' if row['refuted'] else 'open'}",
                file=sys.stderr,
            )
    count = len(rows)
    refuted = sum(row["refuted"] for row in rows)
    print(f"{Path(given.network).stem}, eps {float(given.eps):g}, first {count} images classified correctly\n")
    print("| method | proved | refuted | CPU s an image, mean | most |\n| --- | ---: | ---: | ---: | ---: |")
    for name in METHODS:
        spent = [row["seconds"][name] for row in rows]
        proved = sum(row["proved"][name] for row in rows)
        against = refuted if name == "exact" else "-"
        print(f"| {name} | {proved} | {against} | {np.mean(spent or [0.0]):.2f} | {max(spent, default=0.0):.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
