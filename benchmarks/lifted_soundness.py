"""The lifted relaxation on thousands of small random networks, with the exact optimum as judge.

    python -m benchmarks.lifted_soundness --count 3000

Networks have up to 3 inputs and 8 neurons. Among them are dead layers, duplicate neurons, rows scaled by 1e-6 to 1e6,
passed-through coordinates, boxes with points for sides. The optimum is found by enumerating activation patterns in
rational arithmetic. Compared with it are the bounds from the triangle, from the lifted relaxation by our interior-point
method, by Clarabel and by SCS, with two rounds of products, over a ball that holds the box, and from multipliers that
are deliberately wrong: random, negated, permuted, spoilt by NaN, enormous. Also printed: claims above the optimum, and
how often the order triangle <= lifted <= with products fails by more than 1e-6 of the bound or of what the objective's
terms may sum to. Losses from claim to bound are relative to 1 + the claim; the largest also to 1 + those terms. Exit
code 1 if a bound is above the optimum.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite, isnan
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.results import Parser, show
from optverify.bounds.crown import crown
from optverify.bounds.lifted import lifted_bound
from optverify.bounds.relaxed import frame_of, relaxed
from optverify.errors import InputError
from optverify.formulations.encoder import Weighted
from optverify.formulations.lifted import Ball
from optverify.interval import Array, Interval
from optverify.network import Affine, Layer, Network, Relu
from optverify.preactivation import Bounds
from optverify.safe.lifted import safe_bound
from tests import oracle

ORDER = 1e-6
"""What the order of bounds may fail by: the interior-point method ends at a relative gap of 1e-7."""


@dataclass(frozen=True)
class Question:
    """A network with one output, a box, and what is odd about them."""

    network: Network
    region: Interval
    oddities: frozenset[str]

    def exact(self) -> Fraction:
        """Return the least output."""
        lower, upper = ([Fraction(v) for v in side.tolist()] for side in (self.region.lower, self.region.upper))
        return oracle.minimum(oracle.read(self.network), lower, upper, [Fraction(1)])


def random_question(rng: np.random.Generator) -> Question:
    """Draw a network and a box."""
    odd = {
        name
        for name, share in (
            ("dead layer", 0.1),
            ("duplicates", 0.25),
            ("badly scaled", 0.3),
            ("passed through", 0.25),
            ("degenerate box", 0.25),
        )
        if rng.random() < share
    }
    widths = [int(w) for w in rng.integers(2, 5, rng.integers(1, 4))]
    while sum(widths) > 8:
        widths.pop()
    dead = rng.integers(len(widths)) if "dead layer" in odd else -1
    size = inputs = int(rng.integers(1, 4))
    layers: list[Layer] = []
    for k, width in enumerate([*widths, 1]):
        weight, bias = rng.normal(size=(width, size)), 0.5 * rng.normal(size=width)
        if "duplicates" in odd and width > 1:
            weight[1], bias[1] = weight[0], bias[0]
        if "badly scaled" in odd:
            scale = 10.0 ** rng.integers(-6, 7, width)
            weight, bias = weight * scale[:, None], bias * scale
        if k == dead:
            bias -= 1e3 * (1.0 + np.abs(weight).sum(axis=1))
        layers.append(Affine(weight, bias))
        if k < len(widths):
            mask = rng.random(width) < (0.6 if "passed through" in odd else 2.0)
            layers.append(Relu(mask))
        size = width
    centre, radius = rng.normal(size=inputs), 10.0 ** rng.uniform(-1, 0.7) * rng.uniform(0.3, 1, inputs)
    if "degenerate box" in odd:
        radius[rng.random(inputs) < 0.6] = 0.0
    return Question(Network(tuple(layers)), Interval(centre - radius, centre + radius), frozenset(odd))


@dataclass(frozen=True)
class Answer:
    """A bound, and the claim behind it if there is one."""

    method: str
    lower: float
    claim: float = np.nan


def answers(question: Question, rng: np.random.Generator) -> Iterator[Answer]:
    """Bound the least output in all ways."""
    network, region, objective = question.network, question.region, Weighted(np.ones(1))
    root: Bounds = crown(network, region.take(None))[0].take(0)
    triangle = relaxed(frame_of(network, region, root), root, objective, "highs")
    yield Answer("triangle", triangle.lower, triangle.solution.objective)
    try:
        plain = lifted_bound(network, region, root, objective)
    except InputError:
        yield Answer("refused", -inf)
        return
    yield Answer("lifted", plain.lower, plain.solution.bound)
    more = lifted_bound(network, region, root, objective, rounds=2, start=plain.solution)
    yield Answer("lifted, products", more.lower, more.solution.bound)
    for name, solver in (("lifted by Clarabel", "clarabel"), ("lifted by SCS", "scs")):
        if plain.lifted.n_variables:
            other = lifted_bound(network, region, root, objective, solver=solver)
            yield Answer(name, other.lower, other.solution.bound)
    middle, reach = 0.5 * (region.lower + region.upper), region.upper - region.lower
    around = Ball(middle, float(np.linalg.norm(reach)) * 0.5001 + 1e-9)
    wide = Interval(middle - around.radius, middle + around.radius)
    ball = lifted_bound(network, wide, crown(network, wide.take(None))[0].take(0), objective, ball=around)
    yield Answer("lifted, ball around the box", ball.lower)
    for name, y, delta in wrong_multipliers(plain.solution.products, plain.solution.box, rng):
        yield Answer(f"multipliers {name}", safe_bound(plain.lifted, y, delta).lower)


def wrong_multipliers(y: Array, delta: Array, rng: np.random.Generator) -> Iterator[tuple[str, Array, Array]]:
    """Yield advice that is no good."""
    scale = 10.0 ** rng.integers(-8, 9)
    yield "random", scale * rng.normal(size=y.size), scale * rng.normal(size=delta.size)
    yield "negated", -y, -delta
    yield "permuted", rng.permutation(y), rng.permutation(delta)
    spoilt = [np.where(rng.random(v.size) < 0.3, rng.choice([np.nan, inf, -inf], v.size), v) for v in (y, delta)]
    yield "spoilt", spoilt[0], spoilt[1]
    with np.errstate(over="ignore"):
        yield "enormous", 1e300 * y, 1e300 * delta


def size_of(question: Question) -> float:
    """Return what the objective's terms may sum to: the scale on which a solver works."""
    network = question.network
    value = np.maximum(np.abs(question.region.lower), np.abs(question.region.upper))
    for layer in network.layers:
        if isinstance(layer, Affine):
            value = np.abs(layer.dense) @ value + np.abs(layer.bias)
    return float(value.max())


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark."""
    parser = Parser(prog="python -m benchmarks.lifted_soundness", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    tally: defaultdict[str, list[tuple[Answer, Fraction, float]]] = defaultdict(list)
    oddities: Counter[str] = Counter()
    disordered: Counter[str] = Counter()
    gained: Counter[str] = Counter()
    with threadpool_limits(1):
        for index in range(options.count):
            rng = np.random.default_rng([options.seed, index])
            question = random_question(rng)
            oddities.update(question.oddities)
            exact, size = question.exact(), size_of(question)
            lower: dict[str, float] = {}
            for answer in answers(question, rng):
                tally[answer.method].append((answer, exact, size))
                lower[answer.method] = answer.lower
                if Fraction(answer.lower) > exact if isfinite(answer.lower) else answer.lower == inf:
                    print(f"network {index}: {answer.method} gives {answer.lower!r} above {float(exact)!r}")
            for first, second in (("triangle", "lifted"), ("lifted", "lifted, products")):
                if second in lower:
                    gap = (lower[second] - lower[first]) / (1.0 + abs(lower[first]) + size)
                    disordered[f"{first} above {second}"] += gap < -ORDER
                    gained[f"{second} above {first}"] += gap > ORDER
    rows, broken = [], 0
    for method, found in tally.items():
        above = sum(a.lower == inf or (isfinite(a.lower) and Fraction(a.lower) > exact) for a, exact, _ in found)
        claims = [(a, exact, size) for a, exact, size in found if isfinite(a.claim)]
        losses = [(a.claim - a.lower) / (1.0 + abs(a.claim)) for a, _, _ in claims]
        terms = [(a.claim - a.lower) / (1.0 + size) for a, _, size in claims]
        nothing = sum(a.lower == -inf or isnan(a.lower) for a, _, _ in found)
        broken += above
        rows.append(
            [
                method,
                str(len(found)),
                str(above),
                str(nothing),
                str(sum(Fraction(a.claim) > exact for a, exact, _ in claims)) if claims else "",
                f"{median(losses):.1e}" if losses else "",
                f"{sorted(losses)[int(0.99 * len(losses))]:.1e}" if losses else "",
                f"{max(losses):.1e}" if losses else "",
                f"{max(terms):.1e}" if terms else "",
            ]
        )
    header = ("method", "bounds", "above", "no bound", "claims above", "median loss", "99 %", "largest", "of the terms")
    words = ", ".join(f"{name} {n}" for name, n in (oddities + gained).items())
    order = ", ".join(f"{name} {n}" for name, n in disordered.items())
    show(f"{options.count} networks", header, rows, f"{words}\nout of order: {order}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
