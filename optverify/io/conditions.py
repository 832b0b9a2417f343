"""Asserted conditions, in any dialect, become the cases of a query.

Negations are pushed down to the atoms; in every case of the disjunctive normal form the atoms on one input make up the
box, and the others are the unsafe rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from optverify.errors import InputError
from optverify.expressions import And, Atom, Condition, Linear, Or
from optverify.io.grammar import MAX_BITS, Misfit, Place
from optverify.query import Case
from optverify.region import Box

MAX_ALTERNATIONS = 100
"""Deepest nesting of "and" in "or" in "and" ... (an "and" directly in an "and" does not count)."""


class Node(NamedTuple):
    """A connective and its parts, as the file has them."""

    kind: str
    parts: Sequence[Formula]
    token: Place


Formula = Atom | Node


def compare(sign: str, left: Linear, right: Linear) -> list[Atom]:
    """Return the atoms that together say ``left sign right``, for <=, >=, <, > or =."""
    if sign == "=":
        return compare("<=", left, right) + compare("<=", right, left)
    if sign[0] == ">":
        left, right = right, left
    # Almost every atom of a large file compares a variable with a number: no general subtraction then.
    if not right.terms:
        difference = Linear(left.terms, left.constant - right.constant)
    elif not left.terms:
        difference = Linear({v: -c for v, c in right.terms.items()}, left.constant - right.constant)
    else:
        difference = left - right
    return [Atom(difference, strict="=" not in sign)]


@dataclass
class Group:
    """An "and" or an "or" without negations, in which no part is of the same kind."""

    kind: str
    depth: int = 0
    parts: list[Atom | Group] = field(default_factory=list)


def settle(claims: Sequence[Formula]) -> Group:
    """Push negations down to the atoms and merge what nests for nothing; with a stack, not by recursion."""
    top = Group("and")
    todo = [(claim, False, top) for claim in reversed(claims)]
    while todo:
        node, negated, group = todo.pop()
        if isinstance(node, Atom):
            group.parts.append(~node if negated else node)
            continue
        if node.kind == "not":
            negated = not negated
        elif len(node.parts) != 1:
            kind = node.kind if not negated else "or" if node.kind == "and" else "and"
            if kind != group.kind:
                if group.depth == MAX_ALTERNATIONS:
                    raise Misfit(f"'and' and 'or' alternate more than {MAX_ALTERNATIONS} levels deep", node.token)
                inner = Group(kind, group.depth + 1)
                group.parts.append(inner)
                group = inner
        todo.extend((part, negated, group) for part in reversed(node.parts))
    return top


def _fold(group: Group, name: Callable[[int], str]) -> Condition:
    """Return the group as a condition, without atoms that hold always or never.

    Raises
    ------
    InputError
        A conjunction bounds an input by an empty interval.
    """
    parts: list[Condition] = []
    for part in group.parts:
        folded = part if isinstance(part, Atom) else _fold(part, name)
        truth = _truth(folded)
        if truth is None:
            same = And if group.kind == "and" else Or
            parts.extend(folded.parts if isinstance(folded, same) else [folded])
        elif truth == (group.kind == "or"):
            return And(()) if truth else Or(())
    if len(parts) == 1:
        return parts[0]
    if group.kind == "or":
        return Or(tuple(parts))
    # A contradiction between two disjunctions just rules a combination out; within one conjunction it is
    # something that somebody wrote, and verifying it vacuously would hide the mistake.
    _Ends.of(part for part in parts if isinstance(part, Atom)).check(name)
    return And(tuple(parts))


def _truth(condition: Condition) -> bool | None:
    """Return whether the condition holds always (True), never (False) or it depends (None)."""
    match condition:
        case Atom(Linear(terms, constant), strict) if not terms:
            return constant < 0 if strict else constant <= 0
        case And(()):
            return True
        case Or(()):
            return False
    return None


@dataclass
class _Ends:
    """The tightest bounds that a conjunction puts on each input.

    Ends are (value, closed?) above and (value, open?) below, so that ``min`` and ``max`` pick the tighter.
    """

    lower: dict[int, tuple[Fraction, bool]] = field(default_factory=dict)
    upper: dict[int, tuple[Fraction, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, atoms: Iterable[Atom], start: _Ends | None = None) -> _Ends:
        """Add atoms on one input to a copy of `start`."""
        ends = cls(dict(start.lower), dict(start.upper)) if start else cls()
        for atom in atoms:
            if _on_one_input(atom):
                [((_, i), c)] = atom.linear.terms.items()
                value = -atom.linear.constant / c
                if c > 0:
                    end = (value, not atom.strict)
                    ends.upper[i] = min(ends.upper.get(i, end), end)
                else:
                    end = (value, atom.strict)
                    ends.lower[i] = max(ends.lower.get(i, end), end)
        return ends

    def check(self, name: Callable[[int], str]) -> None:
        """Raise InputError if an interval is empty."""
        for i, (low, is_open) in self.lower.items():
            high, is_closed = self.upper.get(i, (low + 1, True))
            if low > high or (low == high and (is_open or not is_closed)):
                signs = "<" if is_open else "<=", "<=" if is_closed else "<"
                raise InputError(
                    f"reversed or empty bounds of input {name(i)}: "
                    f"{decimal(low)} {signs[0]} {name(i)} {signs[1]} {decimal(high)}"
                )

    def box(self, n_inputs: int, name: Callable[[int], str], where: str) -> Box:
        """Return the closed box; InputError if an input has no bound."""
        for i in range(n_inputs):
            for side, ends in (("lower", self.lower), ("upper", self.upper)):
                if i not in ends:
                    raise InputError(f"input {name(i)} has no {side} bound{where}: every input needs a finite interval")
        return Box(tuple(self.lower[i][0] for i in range(n_inputs)), tuple(self.upper[i][0] for i in range(n_inputs)))


def _on_one_input(atom: Atom) -> bool:
    terms = atom.linear.terms
    return len(terms) == 1 and next(iter(terms))[0] == "X"


def cases(claims: Group, n_inputs: int, name: Callable[[int], str]) -> tuple[Case, ...]:
    """Split what is asserted into cases.

    What all cases share (in most files the whole box) is handled once, however many cases there are.

    Parameters
    ----------
    claims : Group
        From :func:`settle`.
    n_inputs : int
    name : callable
        Gives what the file calls an input, for errors.

    Raises
    ------
    InputError
        In some case an input has no finite bounds, or one conjunction bounds an input by an empty interval; or there
        are too many cases.
    """
    condition = _fold(claims, name)
    parts = condition.parts if isinstance(condition, And) else (condition,)
    shared = [part for part in parts if isinstance(part, Atom)]
    ends = _Ends.of(shared)
    rows = _rows(shared)
    conjunctions = And(tuple(part for part in parts if not isinstance(part, Atom))).cases()
    boxes: dict[tuple[int, ...], Box | InputError] = {}
    found: list[Case] = []
    empty: InputError | None = None
    for number, atoms in enumerate(conjunctions, 1):
        narrowing = [atom for atom in atoms if _on_one_input(atom)]
        key = tuple(map(id, narrowing))  # all atoms live as long as `condition`
        if key not in boxes:
            mine = _Ends.of(narrowing, ends)
            try:
                mine.check(name)
            except InputError as error:
                boxes[key] = error
            else:
                boxes[key] = mine.box(n_inputs, name, f" in case {number} of {len(conjunctions)}" if key else "")
        region = boxes[key]
        if isinstance(region, Box):
            found.append(Case(region, rows + _rows(atoms)))
        else:
            empty = empty or region
    if empty and not found:
        raise empty
    return tuple(found)


def _rows(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    return tuple(atom for atom in atoms if atom.strict or not _on_one_input(atom))


def decimal(value: Fraction) -> str:
    """Write a rational as a decimal if it is one (of moderate length), else as a quotient."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise InputError("a number of the query has too many digits for VNN-LIB")
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    # Every float64 has at most 1074 places.
    if rest != 1 or places > 1074:
        return f"(/ {value.numerator}.0 {value.denominator}.0)"
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    whole, fraction = digits[: len(digits) - places], digits[len(digits) - places :]
    return f"{'-' if value < 0 else ''}{whole}.{fraction or '0'}"
