"""Reads and writes properties in VNN-LIB 1.0, exactly.

A file declares real inputs ``X_i`` and outputs ``Y_j`` and asserts the UNSAFE set: all its assertions
together describe the points (x, y) that must not occur. Read here is the linear part of the language::

    (declare-const X_0 Real)            also (declare-fun X_0 () Real)
    (assert condition)                  conditions: and, or, not, =>, true, false, and chains of
                                        <= >= < > = over terms; terms: + - * / over decimals and variables
    (set-logic ..) (set-info ..) (set-option ..) (check-sat) (get-model) (exit)      have no effect

Decimals are exact rationals: nothing is rounded. In every case of the disjunctive normal form the
atoms on one input make up the box; the others are the unsafe rows. A strict atom on one input bounds the
(closed) box and stays a row too, so that a witness has to respect it.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from optverify.errors import InputError, ParseError
from optverify.expressions import And, Atom, Condition, Linear, Or
from optverify.io.grammar import (
    MAX_BITS,
    Misfit,
    add,
    divide,
    located,
    make_parser,
    multiply,
    read_number,
    run,
    word_at,
)
from optverify.query import Box, Case, Query

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_ALTERNATIONS = 100
"""Deepest nesting of "and" in "or" in "and" ... (an "and" directly in an "and" does not count)."""

_END = r"(?=[\s();]|\Z)"
_GRAMMAR = rf"""
start: command*
?command: "(" DECLARE_CONST VARIABLE SYMBOL ")"       -> declare
        | "(" DECLARE_FUN VARIABLE "(" ")" SYMBOL ")" -> declare
        | "(" ASSERT condition ")"                    -> claim
        | "(" NO_EFFECT ignored* ")"                  -> ignored
ignored: SYMBOL | NUMBER | VARIABLE | STRING | COMPARE | ARITHMETIC | TRUTH | "(" ignored* ")"
?condition: "(" COMPARE term term+ ")"    -> compare
          | "(" CONNECTIVE condition* ")" -> connect
          | TRUTH                         -> truth
?term: VARIABLE                    -> variable
     | NUMBER                      -> number
     | "(" ARITHMETIC term+ ")"    -> arithmetic
DECLARE_CONST.3: /declare-const{_END}/
DECLARE_FUN.3: /declare-fun{_END}/
ASSERT.3: /assert{_END}/
NO_EFFECT.3: /(set-logic|set-info|set-option|check-sat|get-model|exit){_END}/
COMPARE.3: /(<=|>=|<|>|=){_END}/
CONNECTIVE.3: /(and|or|not|=>){_END}/
ARITHMETIC.3: /[-+*\/]{_END}/
TRUTH.3: /(true|false){_END}/
VARIABLE.2: /[XY]_(0|[1-9][0-9]{{0,8}}){_END}/
NUMBER.2: /[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?{_END}/
STRING: /"[^"]*"|\|[^|]*\|/
SYMBOL: /[A-Za-z~!@$%^&*_+=<>.?\/:-][A-Za-z0-9~!@$%^&*_+=<>.?\/:-]*/
%ignore /(\s|;[^\n]*)+/
"""
_NAMES = {
    "LPAR": "'('",
    "RPAR": "')'",
    "$END": "the end of the file",
    "DECLARE_CONST": "'declare-const'",
    "DECLARE_FUN": "'declare-fun'",
    "ASSERT": "'assert'",
    "NO_EFFECT": "'check-sat'",
    "COMPARE": "a comparison",
    "CONNECTIVE": "'and', 'or', 'not', '=>'",
    "ARITHMETIC": "'+', '-', '*', '/'",
    "TRUTH": "'true', 'false'",
    "VARIABLE": "a variable X_i or Y_j",
    "NUMBER": "a number",
    "STRING": "a string",
    "SYMBOL": "a symbol",
}
_USES = re.compile(r';[^\n]*|"[^"]*"|\|[^|]*\||(?<![^\s()])[XY]_(?:0|[1-9][0-9]*)(?![^\s();])')


class _Declaration(NamedTuple):
    variable: Token


class _Node(NamedTuple):
    """A connective and its parts, as the file has them."""

    kind: str
    parts: Sequence[_Formula]
    token: Token


_Formula = Atom | _Node


class _Actions:
    """What each rule of the grammar becomes; stateless, so one parser serves all threads."""

    def start(self, commands: list[object]) -> list[object]:
        return commands

    def ignored(self, _parts: list[object]) -> None:
        return None

    def declare(self, parts: list[Token]) -> _Declaration:
        _, variable, sort = parts
        if sort != "Real":
            raise Misfit(f"{variable} has the sort {sort}: only Real is supported", sort)
        return _Declaration(variable)

    def claim(self, parts: tuple[Token, _Formula]) -> _Formula:
        return parts[1]

    def variable(self, parts: list[Token]) -> Linear:
        name = str(parts[0])
        return Linear.variable(cast(Literal["X", "Y"], name[0]), int(name[2:]))

    def number(self, parts: list[Token]) -> Linear:
        return read_number(parts[0])

    def arithmetic(self, parts: list[object]) -> Linear:
        token, (first, *others) = cast("Token", parts[0]), cast("list[Linear]", parts[1:])
        match str(token):
            case "*":
                return multiply(token, [first, *others])
            case "/":
                return divide(token, first, others)
            case "-" if not others:
                return -first
            case sign:
                return add(token, [(1, first), *((-1 if sign == "-" else 1, part) for part in others)])

    def compare(self, parts: list[object]) -> _Formula:
        token, terms = cast("Token", parts[0]), cast("list[Linear]", parts[1:])
        atoms = [atom for left, right in pairwise(terms) for atom in _compare(str(token), left, right)]
        return atoms[0] if len(atoms) == 1 else _Node("and", atoms, token)

    def connect(self, parts: list[object]) -> _Formula:
        token, conditions = cast("Token", parts[0]), cast("list[_Formula]", parts[1:])
        if token == "not" and len(conditions) != 1:
            raise Misfit(f"'not' takes one condition, got {len(conditions)}", token)
        if token == "=>":
            if len(conditions) < 2:
                raise Misfit(f"'=>' takes at least two conditions, got {len(conditions)}", token)
            # a => b => c means a => (b => c): not a, or not b, or c.
            premises: list[_Formula] = [_Node("not", [part], token) for part in conditions[:-1]]
            return _Node("or", [*premises, conditions[-1]], token)
        return _Node(str(token), conditions, token)

    def truth(self, parts: list[Token]) -> _Node:
        return _Node("and" if parts[0] == "true" else "or", (), parts[0])


def _compare(sign: str, left: Linear, right: Linear) -> list[Atom]:
    if sign == "=":
        return _compare("<=", left, right) + _compare("<=", right, left)
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


@cache
def _parser() -> Lark:
    return make_parser(_GRAMMAR, _Actions())


def read_vnnlib(path: str | PathLike[str]) -> Query:
    """Read a property file.

    Parameters
    ----------
    path : str or path
        VNN-LIB 1.0, plain or compressed with gzip (recognised by its content).

    Raises
    ------
    InputError
        The file cannot be read, or see :func:`parse_vnnlib`.
    """
    source = str(path)
    try:
        data = Path(path).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{source}: damaged gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror or error}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, start = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start)
        message = f"byte {data[error.start]:#04x} is not UTF-8: expected a VNN-LIB text"
        raise ParseError(message, source, line, error.start - start) from None
    return parse_vnnlib(text, source)


def parse_vnnlib(text: str, source: str = "<vnnlib>") -> Query:
    """Read a property.

    Parameters
    ----------
    text : str
        VNN-LIB 1.0.
    source : str
        What to call the text in errors.

    Returns
    -------
    Query
        One case for each conjunction of the disjunctive normal form whose box is not empty; none at all if
        the assertions are false whatever the inputs and outputs are.

    Raises
    ------
    ParseError
        The text does not follow the format, uses a variable that is not declared, or is not linear.
    InputError
        In some case an input has no finite bounds, or one conjunction bounds an input by an empty interval;
        or the property has more than 100,000 cases.
    """
    with located(source):
        try:
            commands = run(_parser(), text, source, _NAMES)
        except ParseError as error:
            raise _explain(error, text) from None
        if not commands:
            raise ParseError("the file is empty: expected '(declare-const X_0 Real)'", source, 1, 1)
        n_inputs, n_outputs = _sizes(commands, text, source)
        formula = _settle([command for command in commands if isinstance(command, Atom | _Node)])
    try:
        cases = _cases(_fold(formula), n_inputs)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return Query(tuple(cases), n_inputs, n_outputs, Path(source).name)


def _explain(error: ParseError, text: str) -> ParseError:
    """Say so if the reason for an error is the newer version of the format."""
    line, column = error.line or 1, error.column or 1
    if re.match(r"vnnlib-version|declare-(network|input|output|hidden)", word_at(text, line, column)):
        return ParseError("VNN-LIB 2.0 is not supported yet: convert to VNN-LIB 1.0", error.source, line, column)
    return error


def _sizes(commands: Iterable[object], text: str, source: str) -> tuple[int, int]:
    """Return how many inputs and outputs are declared, having checked all names."""
    declared: dict[str, Token] = {}
    for command in commands:
        if isinstance(command, _Declaration):
            if (name := str(command.variable)) in declared:
                raise Misfit(f"{name} is declared already in line {declared[name].line}", command.variable)
            declared[name] = command.variable
    for use in _USES.finditer(text):
        name = use.group()
        if name[0] in "XY" and name not in declared:
            line, column = text.count("\n", 0, use.start()) + 1, use.start() - text.rfind("\n", 0, use.start())
            raise ParseError(f"{name} is not declared", source, line, column)
    sizes = []
    for kind, what in (("X", "input"), ("Y", "output")):
        indices = sorted(int(name[2:]) for name in declared if name[0] == kind)
        for expected, index in enumerate(indices):
            if index != expected:
                name = f"{kind}_{index}"
                raise Misfit(f"{name} is declared but {kind}_{expected} is not", declared[name])
        if not indices:
            raise ParseError(f"no {what} is declared: expected '(declare-const {kind}_0 Real)'", source)
        sizes.append(len(indices))
    return sizes[0], sizes[1]


@dataclass
class _Group:
    """An "and" or an "or" without negations, in which no part is of the same kind."""

    kind: str
    depth: int = 0
    parts: list[Atom | _Group] = field(default_factory=list)


def _settle(claims: Sequence[_Formula]) -> _Group:
    """Push negations down to the atoms and merge what nests for nothing; with a stack, not by recursion."""
    top = _Group("and")
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
                inner = _Group(kind, group.depth + 1)
                group.parts.append(inner)
                group = inner
        todo.extend((part, negated, group) for part in reversed(node.parts))
    return top


def _fold(group: _Group) -> Condition:
    """Return the group as a condition, without atoms that hold always or never.

    Raises
    ------
    InputError
        A conjunction bounds an input by an empty interval.
    """
    parts: list[Condition] = []
    for part in group.parts:
        folded = part if isinstance(part, Atom) else _fold(part)
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
    _Ends.of(part for part in parts if isinstance(part, Atom)).check()
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

    def check(self) -> None:
        """Raise InputError if an interval is empty."""
        for i, (low, is_open) in self.lower.items():
            high, is_closed = self.upper.get(i, (low + 1, True))
            if low > high or (low == high and (is_open or not is_closed)):
                signs = "<" if is_open else "<=", "<=" if is_closed else "<"
                raise InputError(
                    f"reversed or empty bounds of input X_{i}: "
                    f"{_decimal(low)} {signs[0]} X_{i} {signs[1]} {_decimal(high)}"
                )

    def box(self, n_inputs: int, where: str) -> Box:
        """Return the closed box; InputError if an input has no bound."""
        for i in range(n_inputs):
            for side, ends in (("lower", self.lower), ("upper", self.upper)):
                if i not in ends:
                    raise InputError(f"input X_{i} has no {side} bound{where}: every input needs a finite interval")
        return Box(tuple(self.lower[i][0] for i in range(n_inputs)), tuple(self.upper[i][0] for i in range(n_inputs)))


def _on_one_input(atom: Atom) -> bool:
    terms = atom.linear.terms
    return len(terms) == 1 and next(iter(terms))[0] == "X"


def _cases(condition: Condition, n_inputs: int) -> list[Case]:
    """Split the condition into cases.

    What all cases share (in most files the whole box) is handled once, however many cases there are.
    """
    parts = condition.parts if isinstance(condition, And) else (condition,)
    shared = [part for part in parts if isinstance(part, Atom)]
    ends = _Ends.of(shared)
    rows = _rows(shared)
    conjunctions = And(tuple(part for part in parts if not isinstance(part, Atom))).cases()
    boxes: dict[tuple[int, ...], Box | InputError] = {}
    cases: list[Case] = []
    empty: InputError | None = None
    for number, atoms in enumerate(conjunctions, 1):
        narrowing = [atom for atom in atoms if _on_one_input(atom)]
        key = tuple(map(id, narrowing))  # all atoms live as long as `condition`
        if key not in boxes:
            mine = _Ends.of(narrowing, ends)
            try:
                mine.check()
            except InputError as error:
                boxes[key] = error
            else:
                boxes[key] = mine.box(n_inputs, f" in case {number} of {len(conjunctions)}" if key else "")
        region = boxes[key]
        if isinstance(region, Box):
            cases.append(Case(region, rows + _rows(atoms)))
        else:
            empty = empty or region
    if empty and not cases:
        raise empty
    return cases


def _rows(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    return tuple(atom for atom in atoms if atom.strict or not _on_one_input(atom))


def write_vnnlib(query: Query) -> str:
    """Write a query as a VNN-LIB 1.0 text that reads back as an equivalent query, exactly.

    Raises
    ------
    InputError
        A number has more digits than :func:`parse_vnnlib` reads back.
    """
    lines = [f"; {line}" for line in query.text.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(query.n_inputs)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(query.n_outputs)]
    regions = {case.region for case in query.cases}
    conjunctions = [[_atom(atom) for atom in case.unsafe] for case in query.cases]
    if len(regions) == 1:
        lines += [f"(assert {bound})" for bound in _bounds(query.cases[0].region)]
    else:
        conjunctions = [_bounds(c.region) + atoms for c, atoms in zip(query.cases, conjunctions, strict=True)]
    if len(conjunctions) == 1:
        lines += [f"(assert {atom})" for atom in conjunctions[0]]
    elif conjunctions:
        lines += ["(assert (or", *(f"    (and {' '.join(atoms)})" for atoms in conjunctions), "))"]
    else:
        lines += ["(assert false)"]
    return "\n".join(lines) + "\n"


def _bounds(box: Box) -> list[str]:
    pairs = enumerate(zip(box.lower, box.upper, strict=True))
    return [text for i, (a, b) in pairs for text in (f"(>= X_{i} {_decimal(a)})", f"(<= X_{i} {_decimal(b)})")]


def _atom(atom: Atom) -> str:
    """Write ``linear <= 0`` with the negative terms moved to the right: no signs are left."""
    linear = atom.linear
    return f"({'<' if atom.strict else '<='} {_positive_part(linear)} {_positive_part(-linear)})"


def _positive_part(linear: Linear) -> str:
    items = sorted(linear.terms.items())
    terms = [f"{k}_{i}" if c == 1 else f"(* {_decimal(c)} {k}_{i})" for (k, i), c in items if c > 0]
    terms += [_decimal(linear.constant)] if linear.constant > 0 else []
    return f"(+ {' '.join(terms)})" if len(terms) > 1 else terms[0] if terms else "0.0"


def _decimal(value: Fraction) -> str:
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
