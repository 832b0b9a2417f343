"""What is asked: unsafe sets on regions, and the question in the form that the bounds work on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from optverify.declaration import Declaration
from optverify.errors import InputError, ShapeError, expect
from optverify.expressions import Atom, Condition, Linear, Number, Or, outputs, rational
from optverify.interval import nearest, round_up
from optverify.network import Affine, Network
from optverify.region import Ball, Box
from optverify.report import html, text
from optverify.semantics import REAL, Semantics, named

MIN_NORMAL = 2.0**-1022

SHOWN = 8
"""Cases that a description lists."""


@dataclass(frozen=True)
class Case:
    """A region and an unsafe set: all atoms hold at once.

    Parameters
    ----------
    region : Box or Ball
    unsafe : tuple of Atom
        Linear conditions on inputs and outputs. Strict ones are closed for proving and strict for
        witnesses. No atom at all means that every point is unsafe.
    """

    region: Box
    unsafe: tuple[Atom, ...]

    def __post_init__(self) -> None:
        expect(Box, region=self.region)


@dataclass(frozen=True)
class Query:
    """A disjunction of cases: verified if and only if no case is reachable.

    Parameters
    ----------
    cases : tuple of Case
    n_inputs, n_outputs : int
    text : str, optional
        The claim in words, for reports.
    declared : Declaration, optional
        What the question says of the network, and under which arithmetic it is asked.

    Raises
    ------
    ShapeError
        A case names an input or output that the network does not have, or has a region of another size.
    """

    cases: tuple[Case, ...]
    n_inputs: int
    n_outputs: int
    text: str = ""
    declared: Declaration | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases))
        sizes = {"X": self.n_inputs, "Y": self.n_outputs}
        for case in self.cases:
            if case.region.size != self.n_inputs:
                raise ShapeError(f"the region has {case.region.size} inputs, the network {self.n_inputs}")
            for atom in case.unsafe:
                for kind, index in atom.linear.terms:
                    if not 0 <= index < sizes[kind]:
                        raise ShapeError(f"{kind}_{index} is out of range: the network has {sizes[kind]} of them")

    @classmethod
    def never(cls, region: Box, unsafe: Condition, n_outputs: int, text: str = "") -> Query:
        """Ask whether `unsafe` is impossible on the region."""
        expect(Box, region=region)
        expect(Condition, unsafe=unsafe)
        cases = tuple(Case(region, atoms) for atoms in unsafe.cases())
        return cls(cases, region.size, n_outputs, text or f"never {unsafe}")

    @classmethod
    def always(cls, region: Box, safe: Condition, n_outputs: int, text: str = "") -> Query:
        """Ask whether `safe` holds on all of the region."""
        expect(Condition, safe=safe)
        return cls.never(region, ~safe, n_outputs, text or f"always {safe}")

    @classmethod
    def robust(cls, region: Box, label: int, n_outputs: int, targets: Iterable[int] | None = None) -> Query:
        """Ask whether output `label` is above every other (or every target) on the region.

        Parameters
        ----------
        region : Box
            For instance ``Box.around(x, eps)``.
        label : int
        n_outputs : int
        targets : iterable of int, optional
            Classes that must not win; all others by default. A tie counts as a win of the target.
        """
        expect(Integral, label=label)
        y = outputs(n_outputs)
        others = [j for j in range(n_outputs) if j != label] if targets is None else sorted(set(targets))
        if not 0 <= label < n_outputs or label in others or not others or not 0 <= others[0] <= others[-1] < n_outputs:
            raise InputError(f"label {label} and targets {others} must be different outputs of 0..{n_outputs - 1}")
        unsafe = Or(tuple(y[label] <= y[j] for j in others))
        return cls.never(region, unsafe, n_outputs, f"class {label} beats {others}")

    @classmethod
    def in_range(
        cls, region: Box, output: int, n_outputs: int, lower: Number | None = None, upper: Number | None = None
    ) -> Query:
        """Ask whether an output stays within ``lower <= y <= upper`` on the region."""
        if not 0 <= output < n_outputs:
            raise InputError(f"output {output} is out of range: the network has {n_outputs} of them")
        y = outputs(n_outputs)[output]
        unsafe = [y < lower] if lower is not None else []
        unsafe += [y > upper] if upper is not None else []
        if not unsafe:
            raise InputError("an output-range query needs a lower or an upper bound")
        return cls.never(region, Or(tuple(unsafe)), n_outputs, f"{lower} <= Y_{output} <= {upper}")

    @classmethod
    def from_rows(
        cls,
        region: Box,
        C: ArrayLike,
        d: ArrayLike,
        D: ArrayLike | None = None,
    ) -> Query:
        """Ask whether ``{(x, y) : C y + D x + d <= 0, all rows}`` is unreachable.

        Parameters
        ----------
        region : Box
        C : (r, n_outputs) numbers
        d : (r,) numbers
        D : (r, n_inputs) numbers, optional
        """
        expect(Box, region=region)
        rows = np.atleast_2d(np.asarray(C, dtype=object))
        shift = np.atleast_1d(np.asarray(d, dtype=object))
        mixed = np.zeros((len(rows), region.size), object) if D is None else np.atleast_2d(np.asarray(D, dtype=object))
        if shift.shape != (len(rows),) or mixed.shape != (len(rows), region.size):
            raise ShapeError(f"rows C {rows.shape}, D {mixed.shape}, d {shift.shape} do not fit together")
        atoms = []
        for c, e, offset in zip(rows, mixed, shift, strict=True):
            terms = {("Y", j): rational(v) for j, v in enumerate(c)} | {("X", i): rational(v) for i, v in enumerate(e)}
            atoms.append(Atom(Linear({k: v for k, v in terms.items() if v}, rational(offset))))  # type: ignore[misc]
        return cls((Case(region, tuple(atoms)),), region.size, rows.shape[1])

    def under(self, semantics: str | Semantics | None) -> Semantics:
        """Return the arithmetic to answer under: what the query says, else what is asked for, else the reals.

        Raises
        ------
        InputError
            The query is about another arithmetic than the one that is asked for, or there is none of this name.
        """
        asked = None if semantics is None else named(semantics)
        if self.declared is None:
            return asked or REAL
        if asked not in (None, self.declared.semantics):
            raise InputError(
                f"the property is about {self.declared.semantics}, so it cannot be answered about {asked}: "
                f"leave the semantics out, or declare {self.declared.input.name} and {self.declared.output.name} "
                f"as {asked}"
            )
        return self.declared.semantics

    def describe(self) -> str:
        """Return a few lines of text about the query."""
        return text.card(f"Property {self.text}".strip(), self._rows())

    def __repr__(self) -> str:
        return (
            f"<Query {self.text!r}: {len(self.cases)} unsafe cases, {self.n_inputs} inputs, {self.n_outputs} outputs>"
        )

    def _repr_html_(self) -> str:
        return html.card(f"Property {self.text}".strip(), self._rows())

    def _rows(self) -> dict[str, str]:
        rows = {"inputs": str(self.n_inputs), "outputs": str(self.n_outputs), "SHA-256": self.digest}
        if self.declared is not None:
            rows["about"] = str(self.declared)
        for k, case in enumerate(self.cases[:SHOWN]):
            rows[f"case {k}"] = str(case.region)
            rows[f"case {k} unsafe"] = " and ".join(f"({atom})" for atom in case.unsafe) or "everywhere"
        if len(self.cases) > SHOWN:
            rows["further cases"] = str(len(self.cases) - SHOWN)
        return rows

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the cases in a canonical text."""
        sha = hashlib.sha256(f"optverify query 1\n{self.n_inputs} {self.n_outputs}\n".encode())
        for case in self.cases:
            ends = (*case.region.lower, *case.region.upper)
            if isinstance(case.region, Ball):
                ends = (*ends, Fraction(case.region.norm), *case.region.centre, case.region.radius)
            sha.update(f"case {' '.join(map(_hexadecimal, ends))}\n".encode())
            for atom in case.unsafe:
                terms = [f"{kind}{i} {_hexadecimal(c)}" for (kind, i), c in sorted(atom.linear.terms.items())]
                sha.update(f"{' '.join(terms)} + {_hexadecimal(atom.linear.constant)} {atom.strict}\n".encode())
        return sha.hexdigest()

    def violated_by(self, x: Sequence[Fraction], y: Sequence[tuple[Fraction, Fraction]]) -> int | None:
        """Return the first case that a point certainly reaches, or None.

        Parameters
        ----------
        x : n_inputs rationals
        y : n_outputs pairs (lower, upper) that enclose the output, as :meth:`Network.enclose` gives them

        Notes
        -----
        Exact: no tolerance. Strict atoms must hold strictly.
        """
        for position, case in enumerate(self.cases):
            if case.region.contains(x) and all(_surely(atom, x, y) for atom in case.unsafe):
                return position
        return None

    def may_be_violated(self, x: Sequence[Fraction], y: Sequence[tuple[Fraction, Fraction]]) -> bool:
        """Tell whether some outputs within their enclosures reach a case at a point; see :meth:`violated_by`."""
        flipped = [(high, low) for low, high in y]
        return self.violated_by(x, flipped) is not None

    def goals(self, network: Network) -> tuple[Goal, ...]:
        """Pose the query to a network: one goal for each distinct region.

        Raises
        ------
        ShapeError
            The network has other numbers of inputs or outputs.
        """
        if (network.n_inputs, network.n_outputs) != (self.n_inputs, self.n_outputs):
            raise ShapeError(
                f"the property is about {self.n_inputs} inputs and {self.n_outputs} outputs, "
                f"the network has {network.n_inputs} and {network.n_outputs}"
            )
        if self.declared is not None:
            self.declared.check(network)
        by_region: dict[Box, list[int]] = {}
        for position, case in enumerate(self.cases):
            by_region.setdefault(case.region, []).append(position)
        return tuple(Goal.pose(network, self, region, members) for region, members in by_region.items())


def _hexadecimal(value: Fraction) -> str:
    """Write a rational; unlike decimal, this has no limit on its length."""
    return f"{value.numerator:x}/{value.denominator:x}"


def _surely(atom: Atom, x: Sequence[Fraction], y: Sequence[tuple[Fraction, Fraction]]) -> bool:
    worst = atom.linear.constant
    for (kind, index), c in atom.linear.terms.items():
        worst += c * (x[index] if kind == "X" else y[index][1 if c > 0 else 0])
    return worst < 0 if atom.strict else worst <= 0


@dataclass(frozen=True, eq=False)
class Goal:
    """All cases over one region, with the atoms as the outputs of the network.

    Parameters
    ----------
    network : Network
        Its outputs t are the left sides of the distinct atoms.
    region : Box or Ball
    groups : tuple of tuple of int
        One per case: the rows that must all be <= 0 for the case to be reached.
    cases : tuple of int
        Which case of the query each group is.
    listed : tuple of tuple of int
        For each case, where in its group each of its atoms stands, in the order in which the case lists them:
        atoms that say the same share a row.
    """

    network: Network
    region: Box
    groups: tuple[tuple[int, ...], ...]
    cases: tuple[int, ...]
    listed: tuple[tuple[int, ...], ...]

    @cached_property
    def flat_groups(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """All groups one after the other, and where each of them starts."""
        sizes = [len(group) for group in self.groups]
        return np.concatenate([np.array(group) for group in self.groups]), np.cumsum([0, *sizes[:-1]])

    @cached_property
    def members(self) -> NDArray[np.bool_]:
        """Which rows belong to each group, (groups, rows)."""
        found = np.zeros((len(self.groups), self.network.n_outputs), bool)
        for g, group in enumerate(self.groups):
            found[g, list(group)] = True
        return found

    @classmethod
    def pose(cls, network: Network, query: Query, region: Box, members: Sequence[int]) -> Goal:
        """Append the distinct atoms of the given cases to the network."""
        rows: dict[Linear, int] = {}
        groups, listed = [], []
        for m in members:
            # Without an atom every point of the case is unsafe; the row -1 <= 0 says so.
            unsafe = [atom.linear for atom in query.cases[m].unsafe] or [Linear({}, Fraction(-1))]
            named = [rows.setdefault(linear, len(rows)) for linear in unsafe]
            groups.append(tuple(dict.fromkeys(named)))
            listed.append(tuple(groups[-1].index(row) for row in named[: len(query.cases[m].unsafe)]))
        return cls(append_rows(network, list(rows)), region, tuple(groups), tuple(members), tuple(listed))


def append_rows(network: Network, rows: Sequence[Linear]) -> Network:
    """Return the network followed by one affine layer whose outputs are the given expressions.

    Coefficients that no float64 holds are rounded, and the row's `slack` says by how much.

    Raises
    ------
    InputError
        A coefficient overflows or underflows float64.
    """
    mixed = any(kind == "X" for row in rows for kind, _ in row.terms)
    base = network.carrying_input() if mixed else network
    weight = _zeros(len(rows), base.n_outputs)
    bias, slack = np.zeros(len(rows)), np.zeros(len(rows))
    for r, row in enumerate(rows):
        worst = Fraction(0)
        for (kind, index), c in row.terms.items():
            weight[r, index + (network.n_outputs if kind == "X" else 0)], error = _rounded(c)
            worst = max(worst, error)
        bias[r], error = _rounded(row.constant)
        slack[r] = round_up(max(worst, error))
    # The atoms are evaluated by the reader of the result, not by the deployed program: no roundings.
    return base.then(Affine(weight, bias, np.zeros(len(rows), np.int64), slack))


def _zeros(rows: int, columns: int) -> Any:
    """Return a matrix to write into, dense where that is small."""
    if columns <= 4096:
        return np.zeros((rows, columns))
    from scipy.sparse import lil_array

    return lil_array((rows, columns))


def _rounded(value: Fraction) -> tuple[float, Fraction]:
    """Return the nearest float and the relative error that rounding to it made."""
    x = nearest(value)
    if not np.isfinite(x) or (value and abs(x) < MIN_NORMAL):
        raise InputError(f"the coefficient {value} of the property is outside the range of float64")
    return x, abs(value - Fraction(x)) / abs(Fraction(x)) if value else Fraction(0)
