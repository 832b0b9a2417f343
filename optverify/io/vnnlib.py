"""Reads and writes properties in VNN-LIB 1.0, exactly; texts in 2.0 go to :mod:`optverify.io.vnnlib2`.

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
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from optverify.errors import InputError, ParseError
from optverify.expressions import Atom, Linear
from optverify.io import vnnlib2
from optverify.io.conditions import Formula, Node, cases, compare, decimal, settle
from optverify.io.exact import parse_exact
from optverify.io.grammar import (
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
from optverify.query import Query
from optverify.region import Box, boxes_only
from optverify.semantics import REAL

if TYPE_CHECKING:
    from lark import Lark, Token

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

    def claim(self, parts: tuple[Token, Formula]) -> Formula:
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

    def compare(self, parts: list[object]) -> Formula:
        token, terms = cast("Token", parts[0]), cast("list[Linear]", parts[1:])
        atoms = [atom for left, right in pairwise(terms) for atom in compare(str(token), left, right)]
        return atoms[0] if len(atoms) == 1 else Node("and", atoms, token)

    def connect(self, parts: list[object]) -> Formula:
        token, conditions = cast("Token", parts[0]), cast("list[Formula]", parts[1:])
        if token == "not" and len(conditions) != 1:
            raise Misfit(f"'not' takes one condition, got {len(conditions)}", token)
        if token == "=>":
            if len(conditions) < 2:
                raise Misfit(f"'=>' takes at least two conditions, got {len(conditions)}", token)
            # a => b => c means a => (b => c): not a, or not b, or c.
            premises: list[Formula] = [Node("not", [part], token) for part in conditions[:-1]]
            return Node("or", [*premises, conditions[-1]], token)
        return Node(str(token), conditions, token)

    def truth(self, parts: list[Token]) -> Node:
        return Node("and" if parts[0] == "true" else "or", (), parts[0])


@cache
def _parser() -> Lark:
    return make_parser(_GRAMMAR, _Actions())


def read_vnnlib(path: str | PathLike[str]) -> Query:
    """Read a property file.

    Parameters
    ----------
    path : str or path
        VNN-LIB 1.0 or 2.0, or the exact text that certificates are about, plain or compressed with gzip; all
        recognised by the content.

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
        message = f"byte {data[error.start]:#04x} is not UTF-8: expected VNN-LIB text; the network comes first"
        raise ParseError(message, source, line, error.start - start) from None
    return parse_exact(text, source) if text.startswith("{") else parse_vnnlib(text, source)


def parse_vnnlib(text: str, source: str = "<vnnlib>") -> Query:
    """Read a property.

    Parameters
    ----------
    text : str
        VNN-LIB 1.0, or 2.0 if it begins with ``(vnnlib-version``.
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
    MissingExtra
        The text is VNN-LIB 2.0 and the package ``vnnlib`` is not installed.
    """
    if vnnlib2.has_version(text):
        return vnnlib2.parse(text, source)
    with located(source):
        try:
            commands = run(_parser(), text, source, _NAMES)
        except ParseError as error:
            raise _explain(error, text) from None
        if not commands:
            raise ParseError("the file is empty: expected '(declare-const X_0 Real)'", source, 1, 1)
        n_inputs, n_outputs = _sizes(commands, text, source)
        formula = settle([command for command in commands if isinstance(command, Atom | Node)])
    try:
        found = cases(formula, n_inputs, lambda i: f"X_{i}")
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return Query(found, n_inputs, n_outputs, Path(source).name)


def _explain(error: ParseError, text: str) -> ParseError:
    """Say so if the reason for an error is the newer version of the format."""
    line, column = error.line or 1, error.column or 1
    if re.match(r"vnnlib-version|declare-(network|input|output|hidden)", word_at(text, line, column)):
        return ParseError("a VNN-LIB 2.0 file begins with (vnnlib-version <2.0>)", error.source, line, column)
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


def write_vnnlib(query: Query) -> str:
    """Write a query as a VNN-LIB 1.0 text that reads back as an equivalent query, exactly.

    Raises
    ------
    InputError
        A number has more digits than :func:`parse_vnnlib` reads back; or the query is about a floating-point format
        or a ball, which VNN-LIB 1.0 cannot say.
    """
    if query.under(None) is not REAL:
        raise InputError(f"the query is about {query.under(None)}, which VNN-LIB 1.0 cannot say")
    lines = [f"; {line}" for line in query.text.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(query.n_inputs)]
    lines += [f"(declare-const Y_{j} Real)" for j in range(query.n_outputs)]
    regions = {case.region for case in query.cases}
    boxes_only(regions)
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
    return [text for i, (a, b) in pairs for text in (f"(>= X_{i} {decimal(a)})", f"(<= X_{i} {decimal(b)})")]


def _atom(atom: Atom) -> str:
    """Write ``linear <= 0`` with the negative terms moved to the right: no signs are left."""
    linear = atom.linear
    return f"({'<' if atom.strict else '<='} {_positive_part(linear)} {_positive_part(-linear)})"


def _positive_part(linear: Linear) -> str:
    items = sorted(linear.terms.items())
    terms = [f"{k}_{i}" if c == 1 else f"(* {decimal(c)} {k}_{i})" for (k, i), c in items if c > 0]
    terms += [decimal(linear.constant)] if linear.constant > 0 else []
    return f"(+ {' '.join(terms)})" if len(terms) > 1 else terms[0] if terms else "0.0"
