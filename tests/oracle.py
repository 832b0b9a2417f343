"""Exact answers for tiny networks: every activation pattern, a simplex method, nothing but `Fraction`.

Independent of the code under test: of :mod:`optverify` it reads only the arrays of a network's layers.
Meant for up to 3 inputs and 8 neurons.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from optverify.network import Network, Relu

Vector = list[Fraction]


@dataclass(frozen=True)
class Step:
    """An affine step with `weight` and `bias`, or else a rectifier of the coordinates in `mask`."""

    weight: list[Vector] | None
    bias: Vector
    mask: list[bool]


def read(network: Network, seed: int | None = None) -> list[Step]:
    """Return the layers as rationals.

    With a seed, coefficients move within their slack, each by -1, 0 or 1 times slack * |coefficient|, and rows within
    their absolute error.
    """
    rng = random.Random(seed)
    steps = []
    for layer in network.layers:
        if isinstance(layer, Relu):
            steps.append(Step(None, [], layer.mask.tolist()))
            continue
        weight = np.asarray(layer.weight.todense() if layer.is_sparse else layer.weight)
        slack, absolute = ([Fraction(s) for s in part.tolist()] for part in (layer.slack, layer.absolute))

        def moved(value: float, s: Fraction) -> Fraction:
            return Fraction(value) * (1 + s * (rng.choice((-1, 0, 1)) if seed is not None else 0))

        steps.append(
            Step(
                [[moved(w, s) for w in row] for row, s in zip(weight.tolist(), slack, strict=True)],
                [
                    moved(b, s) + e * (rng.choice((-1, 0, 1)) if seed is not None else 0)
                    for b, s, e in zip(layer.bias.tolist(), slack, absolute, strict=True)
                ],
                [],
            )
        )
    return steps


def trace(steps: Sequence[Step], x: Sequence[Fraction]) -> list[Vector]:
    """Return what enters each layer, and what leaves the last."""
    values = [list(x)]
    for step in steps:
        v = values[-1]
        if step.weight is None:
            values.append([max(a, Fraction(0)) if on else a for a, on in zip(v, step.mask, strict=True)])
        else:
            values.append([_dot(row, v) + b for row, b in zip(step.weight, step.bias, strict=True)])
    return values


def minimum(
    steps: Sequence[Step], lower: Sequence[Fraction], upper: Sequence[Fraction], c: Sequence[Fraction]
) -> Fraction:
    """Return the minimum of c . t over the box, t the outputs."""
    best = None
    for rows, outputs in _pieces(steps, lower, upper):
        form = _combine(c, outputs)
        value = _least(form[:-1], rows, lower, upper)
        if value is not None and (best is None or value + form[-1] < best):
            best = value + form[-1]
    assert best is not None
    return best


def minimum_of_largest(
    steps: Sequence[Step], lower: Sequence[Fraction], upper: Sequence[Fraction], group: Sequence[int]
) -> Fraction:
    """Return the minimum over the box of the largest output of the group."""
    best = None
    for rows, outputs in _pieces(steps, lower, upper):
        forms = [outputs[i] for i in group]
        ends = [_range(form, lower, upper) for form in forms]
        low, high = min(a for a, _ in ends), max(b for _, b in ends)
        # One more variable tau in [low, high] with form - tau <= 0.
        wide = [[*row[:-1], Fraction(0), row[-1]] for row in rows]
        wide += [[*form[:-1], Fraction(-1), form[-1]] for form in forms]
        cost = [Fraction(0)] * len(lower) + [Fraction(1)]
        value = _least(cost, wide, [*lower, low], [*upper, high])
        if value is not None and (best is None or value < best):
            best = value
    assert best is not None
    return best


def _pieces(
    steps: Sequence[Step], lower: Sequence[Fraction], upper: Sequence[Fraction]
) -> list[tuple[list[Vector], list[Vector]]]:
    """Return, for each nonempty activation pattern, its rows (form <= 0) and the outputs as affine forms.

    A form lists the coefficients of x and then the constant.
    """
    n = len(lower)
    identity = [[Fraction(int(i == j)) for j in range(n + 1)] for i in range(n)]
    pieces: list[tuple[list[Vector], list[Vector]]] = [([], identity)]
    for step in steps:
        if step.weight is not None:
            pieces = [
                (rows, [_shift(_combine(w, forms), b) for w, b in zip(step.weight, step.bias, strict=True)])
                for rows, forms in pieces
            ]
            continue
        for j, on in enumerate(step.mask):
            if not on:
                continue
            split = []
            for rows, forms in pieces:
                low, high = _range(forms[j], lower, upper)
                off = [*forms[:j], [Fraction(0)] * (n + 1), *forms[j + 1 :]]
                if low >= 0:
                    split.append((rows, forms))
                elif high <= 0:
                    split.append((rows, off))
                else:
                    active = [*rows, [-v for v in forms[j]]]
                    inactive = [*rows, forms[j]]
                    split += [
                        (kept, values)
                        for kept, values in ((active, forms), (inactive, off))
                        if _least([Fraction(0)] * n, kept, lower, upper) is not None
                    ]
            pieces = split
    return pieces


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0))


def _combine(weights: Sequence[Fraction], forms: Sequence[Vector]) -> Vector:
    return [
        sum((w * form[i] for w, form in zip(weights, forms, strict=True)), Fraction(0)) for i in range(len(forms[0]))
    ]


def _shift(form: Vector, constant: Fraction) -> Vector:
    return [*form[:-1], form[-1] + constant]


def _range(form: Vector, lower: Sequence[Fraction], upper: Sequence[Fraction]) -> tuple[Fraction, Fraction]:
    low = high = form[-1]
    for v, a, b in zip(form[:-1], lower, upper, strict=True):
        low, high = low + min(v * a, v * b), high + max(v * a, v * b)
    return low, high


def _least(
    cost: Sequence[Fraction], rows: Sequence[Vector], lower: Sequence[Fraction], upper: Sequence[Fraction]
) -> Fraction | None:
    """Minimise cost . x over the box and the rows (form <= 0); None if there is no such x."""
    # x = lower + s with 0 <= s; a variable with lower = upper is a constant.
    free = [j for j, (a, b) in enumerate(zip(lower, upper, strict=True)) if a < b]
    table = [[*(row[j] for j in free), -row[-1] - _dot(row[:-1], lower)] for row in rows]
    for k, j in enumerate(free):
        table.append([*(Fraction(int(i == k)) for i in range(len(free))), upper[j] - lower[j]])
    value = simplex([cost[j] for j in free], [row[:-1] for row in table], [row[-1] for row in table])
    return None if value is None else value + _dot(cost, lower)


def simplex(cost: Sequence[Fraction], rows: Sequence[Vector], right: Sequence[Fraction]) -> Fraction | None:
    """Minimise cost . s over rows . s <= right, s >= 0, where that is bounded; None if infeasible.

    Dictionaries and Bland's rule (Chvatal, Linear Programming, 1983, chapters 2 and 3): each basic variable
    is its last entry minus the sum of coefficient * nonbasic variable.
    """
    n, m = len(cost), len(rows)
    nonbasic, basic = list(range(n)), list(range(n, n + m))
    table = [[*row, b] for row, b in zip(rows, right, strict=True)]
    if min(right, default=Fraction(0)) < 0:
        # First phase: minimise an artificial variable that is subtracted from every row.
        artificial = n + m
        nonbasic.append(artificial)
        table = [[*row[:-1], Fraction(-1), row[-1]] for row in table]
        _pivot(table, basic, nonbasic, min(range(m), key=lambda i: right[i]), n)
        if _descend(table, basic, nonbasic, {artificial: Fraction(1)}) > 0:
            return None
        if artificial in basic:
            row = basic.index(artificial)
            column = next((k for k, v in enumerate(table[row][:-1]) if v), None)
            if column is None:
                del basic[row], table[row]
            else:
                _pivot(table, basic, nonbasic, row, column)
        if artificial in nonbasic:
            column = nonbasic.index(artificial)
            del nonbasic[column]
            for line in table:
                del line[column]
    return _descend(table, basic, nonbasic, dict(enumerate(cost)))


def _descend(table: list[Vector], basic: list[int], nonbasic: list[int], cost: dict[int, Fraction]) -> Fraction:
    """Pivot until no nonbasic variable improves the cost; return the cost."""
    while True:
        paid = [(cost[b], row) for b, row in zip(basic, table, strict=True) if cost.get(b)]
        reduced = [cost.get(v, Fraction(0)) - sum(c * row[k] for c, row in paid) for k, v in enumerate(nonbasic)]
        enter = min((v for v, r in zip(nonbasic, reduced, strict=True) if r < 0), default=None)
        if enter is None:
            return sum((c * row[-1] for c, row in paid), Fraction(0))
        k = nonbasic.index(enter)
        ratios = [(row[-1] / row[k], basic[i], i) for i, row in enumerate(table) if row[k] > 0]
        assert ratios, "unbounded"
        _pivot(table, basic, nonbasic, min(ratios)[2], k)


def _pivot(table: list[Vector], basic: list[int], nonbasic: list[int], row: int, column: int) -> None:
    """Exchange a basic and a nonbasic variable."""
    pivot = table[row][column]
    fresh = [v / pivot for v in table[row]]
    fresh[column] = 1 / pivot
    for i, old in enumerate(table):
        if i != row and old[column]:
            factor = old[column]
            table[i] = [v - factor * w for v, w in zip(old, fresh, strict=True)]
            table[i][column] = -factor * fresh[column]
    table[row] = fresh
    basic[row], nonbasic[column] = nonbasic[column], basic[row]
