"""The lifted relaxation by our interior-point method beside Clarabel and SCS through cvxpy.

    python -m benchmarks.lifted_solvers --time-limit 60

Networks are random, or trained to read drawn digits by the training code of ``examples``; their sizes are those of
``SIZES``. Each relaxation is handed to each solver in a process of its own, asked for 1e-6 (ours for 1e-7); what it
leaves is evaluated rigorously. Seconds are CPU time of one core from the relaxation to the solver's answer, the
modelling layer included, start-up and imports not; a process that overruns its time limit by half is killed. `depth`
instead of `widths` asks for networks with 1 to 9 hidden layers, with a third of their rows scaled by 1e-2 to 1e-8.

A claim's `error` is how far it is above our bound (+: no bound at all), a bound's `loss` how far it is below the claim
behind it, both relative to 1 + the bound's absolute value. Exit code 1 if a bound is above a value of the network.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import drawn_digits
from benchmarks.processes import Processes, terminated_is_interrupted
from benchmarks.results import Parser, positive, show
from optverify.bounds.crown import crown
from optverify.formulations.encoder import Weighted
from optverify.formulations.lifted import Lifted, lifted
from optverify.interval import Array, Interval
from optverify.network import Affine, Network
from optverify.safe.lifted import safe_bound
from optverify.solvers import INTERIOR_POINT
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.lifted import solve_lifted_by
from optverify.solvers.solution import Solver

SIZES = (
    (10, 10),
    (20, 20),
    (40, 40),
    (70, 70),
    (100, 100),
    (150, 150),
    (10, 10, 10),
    (20, 20, 20),
    (50, 50, 50),
    (100, 100, 100),
)

SOLVERS: dict[str, str | Solver] = {
    "ours": INTERIOR_POINT,
    "Clarabel": Cvxpy("CLARABEL", tolerance=1e-6),
    "SCS": Cvxpy("SCS", tolerance=1e-6),
}

MEMORY = 12 << 30
"""Bytes that one process may have; Clarabel asks for the square of the square of a matrix's order."""

LATE = 1.5
"""A solver looks at its time limit between two steps, and a step may take minutes: CPU seconds over the limit."""

EPS = {"random": 0.3, "digits": 0.1}
"""Radius around a random point, and around a drawn digit: most neurons are unstable, and many."""


@dataclass(frozen=True)
class Instance:
    """A network, a box and the objective to be minimised."""

    name: str
    network: Network
    region: Interval
    objective: Array

    def relaxation(self) -> Lifted:
        """Return its lifted relaxation."""
        root = crown(self.network, self.region.take(None))[0].take(0)
        return lifted(self.network, self.region, root, Weighted(self.objective))

    def save(self, path: Path) -> None:
        """Write it for :meth:`load`."""
        affine = (layer for layer in self.network.layers if isinstance(layer, Affine))
        steps = [part for layer in affine for part in (layer.dense, layer.bias)]
        np.savez(path, self.region.lower, self.region.upper, self.objective, *steps)

    @classmethod
    def load(cls, path: Path) -> Instance:
        """Read what :meth:`save` wrote."""
        with np.load(path) as file:
            lower, upper, objective, *steps = (file[name] for name in file.files)
        network = Network.from_arrays(list(zip(steps[::2], steps[1::2], strict=True)))
        return cls(path.stem, network, Interval(lower, upper), objective)


def random_instance(name: str, sizes: tuple[int, ...], seed: int, *, badly_scaled: bool = False) -> Instance:
    """Return a network with normal weights, its box around a random point and its only output."""
    rng = np.random.default_rng(seed)
    steps = []
    for n, m in pairwise((*sizes, 1)):
        weight, bias = rng.normal(size=(m, n)) * np.sqrt(2.0 / n), 0.2 * rng.normal(size=m)
        if badly_scaled and m > 1:
            rows = rng.random(m) < 1 / 3
            scale = np.where(rows, 10.0 ** rng.uniform(-8, -2, m), 1.0)
            weight, bias = weight * scale[:, None], bias * scale
        steps.append((weight, bias))
    centre, eps = rng.normal(size=sizes[0]), EPS["random"]
    return Instance(name, Network.from_arrays(steps), Interval(centre - eps, centre + eps), np.ones(1))


def digit_instance(name: str, hidden: tuple[int, ...], seed: int) -> Instance:
    """Return a trained network, the box around a digit it reads, and the label's margin over the runner-up."""
    from torch import nn

    from examples.training import fit

    images, labels = drawn_digits(6000, seed)
    fitted = fit(
        images,
        np.eye(10)[labels],
        hidden,
        mean=[0.0] * 64,
        scale=[1.0] * 64,
        loss=nn.functional.cross_entropy,
        epochs=20,
    )
    network = Network.from_arrays(fitted.layers)
    images, labels = drawn_digits(1000, seed + 1)
    outputs = network(images)
    right = outputs.argmax(axis=1) == labels
    first = int(np.flatnonzero(right)[0])
    image, order = images[first], np.argsort(-outputs[first])
    objective = np.zeros(10)
    objective[order[0]], objective[order[1]] = 1.0, -1.0
    eps = EPS["digits"]
    region = Interval(np.maximum(image - eps, 0.0), np.minimum(image + eps, 1.0))
    print(f"# {name}: reads {right.mean():.1%} of new digits")
    return Instance(name, network, region, objective)


Makers = dict[str, Callable[[], Instance]]


def widths() -> Makers:
    """Return networks of all sizes."""
    makers: Makers = {}
    for hidden in SIZES:
        name = "random " + "-".join(map(str, hidden))
        makers[name] = partial(random_instance, name, (20, *hidden), sum(hidden))
    for hidden in SIZES:
        name = "digits " + "-".join(map(str, hidden))
        makers[name] = partial(digit_instance, name, hidden, sum(hidden))
    return makers


def depth() -> Makers:
    """Return networks of 1 to 9 hidden layers."""
    makers: Makers = {}
    for layers in range(1, 10):
        sizes = (10, *[10] * layers)
        for name, scaled in ((f"{layers} layers", False), (f"{layers} layers, scaled", True)):
            makers[name] = partial(random_instance, name, sizes, layers, badly_scaled=scaled)
    return makers


def work(path: Path, solver: str, limit: float) -> None:
    """Solve one instance and print what came of it: the other side of :func:`ask`."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    patience = round(LATE * limit)
    resource.setrlimit(resource.RLIMIT_CPU, (patience, patience))
    import cvxpy  # noqa: F401  (that its import is not counted)

    instance = Instance.load(path)
    relaxation = instance.relaxation()
    started = time.process_time()
    found = solve_lifted_by(relaxation, SOLVERS[solver], time_limit=limit)
    seconds = time.process_time() - started
    proved = safe_bound(relaxation, found.products, found.box, found.point)
    answer = {
        "seconds": seconds,
        "safe": time.process_time() - started - seconds,
        "status": found.status.value,
        "steps": found.iterations,
        "claim": found.bound,
        "primal": found.objective,
        "bound": proved.lower,
        "hidden": relaxation.hidden,
        "order": 1 + relaxation.n_variables,
        "conditions": relaxation.n_variables + relaxation.n_products,
    }
    print(json.dumps(answer))


HEADER = (
    "network",
    "order",
    "conditions",
    "solver",
    "CPU s",
    "times ours",
    "status",
    "steps",
    "error",
    "loss",
    "bound",
)


def compare(instance: Instance, folder: Path, limit: float, processes: Processes) -> tuple[list[list[str]], bool]:
    """Return a row for each solver, and whether a bound is above a value of the network."""
    path = folder / f"{instance.name}.npz"
    instance.save(path)
    rows, answers = [], {}
    wrong = False
    rng = np.random.default_rng(0)
    points = rng.uniform(instance.region.lower, instance.region.upper, (2000, instance.network.n_inputs))
    value = float((instance.network(points) @ instance.objective).min())
    for solver in SOLVERS:
        command = [sys.executable, "-m", "benchmarks.lifted_solvers", "one", str(path), solver, str(limit)]
        finished = processes.run(command, 10 * limit)
        try:
            answers[solver] = answer = finished.answer()
        except ValueError as error:
            words = f"{finished.failure}; {finished.last_line()}" if finished.failure else str(error)
            seconds = _least(finished.cpu_seconds, answers)
            rows.append([instance.name, "", "", solver, *seconds, "", words[:60], "", "", "", ""])
            continue
        best = answers["ours"]["bound"] if "ours" in answers else answer["bound"]
        size = 1.0 + abs(best)
        wrong |= answer["bound"] > value
        rows.append(
            [
                instance.name,
                str(answer["order"]),
                str(answer["conditions"]),
                solver,
                *_least(answer["seconds"], answers, done=answer["status"] == "optimal"),
                f"{answer['safe']:.2f}",
                answer["status"],
                str(answer["steps"]),
                _signed((answer["claim"] - best) / size),
                _signed((answer["claim"] - answer["bound"]) / size),
                f"{answer['bound']:.6f}",
            ]
        )
    return rows, wrong


def _least(seconds: float, answers: Mapping[str, Any], *, done: bool = False) -> tuple[str, str]:
    """Return seconds and how many times as long as ours that is, at least where it is not done."""
    more = "" if done else "> "
    times = f"{more}{seconds / answers['ours']['seconds']:.1f}" if "ours" in answers else ""
    return f"{more}{seconds:.2f}", times


def _signed(value: float) -> str:
    return "no claim" if isnan(value) else f"{value:+.0e}"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, or one solver for it."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["one"]:
        work(Path(given[1]), given[2], float(given[3]))
        return 0
    parser = Parser(prog="python -m benchmarks.lifted_solvers", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("part", nargs="?", choices=["widths", "depth"], default="widths")
    parser.add_argument("--time-limit", type=positive, default=60.0, metavar="S", help="for each solver (default 60)")
    parser.add_argument("--match", default="", metavar="TEXT", help="only networks whose names contain it")
    options = parser.parse_args(given)
    wrong, rows = 0, []
    processes = Processes(grace=2.0)
    with tempfile.TemporaryDirectory() as folder, terminated_is_interrupted():
        for name, make in (widths() if options.part == "widths" else depth()).items():
            if options.match not in name:
                continue
            found, bad = compare(make(), Path(folder), options.time_limit, processes)
            for row in found:
                print(" | ".join(row), flush=True)
            rows += found
            wrong += bad
    show("The lifted relaxation", HEADER, rows, f"networks with a bound above a value: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
