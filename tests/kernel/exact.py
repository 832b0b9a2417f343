"""Canonical texts read a second time, for the oracle: nothing here is shared with the kernel or with canonical.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

from tests import oracle


@dataclass(frozen=True)
class Problem:
    """One case: what leaves the last step are the left sides of its atoms."""

    steps: list[oracle.Step]
    lower: list[Fraction]
    upper: list[Fraction]
    atoms: int

    @property
    def margin(self) -> Fraction:
        """The least value over the box of the largest left side: positive if the case is unreachable."""
        return oracle.minimum_of_largest(self.steps, self.lower, self.upper, range(self.atoms))


def problems(network: bytes, property_: bytes, wobble: int = 0) -> list[Problem]:
    """One for each case; coefficients and rows are moved by `wobble` (-1, 0 or 1) times their slack and error."""
    net, prop = json.loads(network), json.loads(property_)
    n = net["inputs"]
    # The inputs ride along behind the values.
    steps = [oracle.Step([unit(i % n, n) for i in range(2 * n)], [Fraction(0)] * 2 * n, [])]
    size = n
    for layer in net["layers"]:
        if "relu" in layer:
            steps.append(oracle.Step(None, [], [bool(on) for on in layer["relu"]] + [False] * n))
            continue
        rows, bias = [], []
        size_of = zip(layer["rows"], layer["bias"], layer["slack"], layer["absolute"], strict=True)
        for row, b, s, e in size_of:
            factor = (1 + wobble * Fraction(s, 2 ** layer["slack_shift"])) / 2 ** layer["shift"]
            weights = [Fraction(0)] * (size + n)
            for j, w in zip(row[::2], row[1::2], strict=True):
                weights[j] = w * factor
            rows.append(weights)
            bias.append(b * factor + Fraction(wobble * e, 2 ** (layer["shift"] + layer["slack_shift"])))
        size = len(rows)
        rows += [unit(len(rows[0]) - n + i, len(rows[0])) for i in range(n)]
        steps.append(oracle.Step(rows, bias + [Fraction(0)] * n, []))
    found = []
    for case in prop["cases"]:
        atoms = case["unsafe"] or [{"terms": [], "constant": [-1, 1]}]
        rows = []
        for atom in atoms:
            weights = [Fraction(0)] * (size + n)
            for kind, i, num, den in atom["terms"]:
                weights[i if kind == "Y" else size + i] += Fraction(num, den)
            rows.append(weights)
        last = oracle.Step(rows, [Fraction(*atom["constant"]) for atom in atoms], [])
        lower, upper = ([Fraction(*v) for v in case[side]] for side in ("lower", "upper"))
        found.append(Problem([*steps, last], lower, upper, len(atoms)))
    return found


def unit(i: int, n: int) -> list[Fraction]:
    return [Fraction(int(i == j)) for j in range(n)]
