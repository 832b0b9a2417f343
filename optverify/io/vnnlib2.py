"""Reads queries in VNN-LIB 2.0, exactly.

The package ``vnnlib`` of the authors of the standard parses and type-checks the text; here its tree becomes a query
about one network with one input and one output::

    (vnnlib-version <2.0>)
    (declare-network N (declare-input X float32 [1,2]) (declare-output Y float32 [1]))
    (assert condition)          conditions: and, or, and <= >= < > == != between two terms
                                terms: + - * over numbers and elements such as X[0,1]

The type of the elements says which arithmetic the question is about, and :class:`~optverify.declaration.Declaration`
keeps it. A constant that is compared with elements of a type is one of them: in a float format it is rounded to
nearest, over the reals it is exact. Terms are evaluated exactly.

References
----------
The VNN-LIB 2.0 standard, chapter 3, https://www.vnnlib.org.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from optverify.declaration import Declaration, Variable
from optverify.errors import InputError, ParseError, require
from optverify.expressions import Linear, rational
from optverify.io.conditions import Formula, Node, cases, compare, settle
from optverify.io.grammar import Misfit, add, located, multiply, shorten, within_range
from optverify.query import Query
from optverify.semantics import SEMANTICS, Semantics

MAX_NESTING = 200
"""Deepest nesting of parentheses: the package recurses in C++, where too deep is the end of the process."""

TYPES: Mapping[str, Semantics] = {**SEMANTICS, "Real": SEMANTICS["real"]}  # drafts of the standard write Real
"""Types of elements that a question can be about."""

_SKIPPED = r"(?:\s|;[^\n]*(?:\n|\Z))*"
_START = re.compile(rf"{_SKIPPED}\({_SKIPPED}vnnlib-version(?![^\s();<])")
_TOKENS = re.compile(r';[^\n]*|"[^"]*"|[()\[\],]|[^\s()\[\],;"]+')
_ERROR = re.compile(r"syntax error at line (\d+), column (\d+): '(.*)'", re.DOTALL)
_SIGNS = {"LessEqual": "<=", "GreaterEqual": ">=", "LessThan": "<", "GreaterThan": ">", "Equal": "="}


class _Line(NamedTuple):
    """A place in the text, as far as the package tells."""

    line: int | None
    column: int | None = None


def has_version(text: str) -> bool:
    """Tell whether a text says which version it is; VNN-LIB 1.0 has no way to."""
    return _START.match(text) is not None


def parse(text: str, source: str) -> Query:
    """Read a query.

    Parameters
    ----------
    text, source : str
        What to read, and what to call it in errors.

    Raises
    ------
    MissingExtra
        The package ``vnnlib`` is not installed.
    ParseError
        The text does not follow the standard.
    InputError
        It asks for more than one network, several inputs or outputs, hidden nodes, elements of other types, or
        conditions that are not linear; or see :func:`~optverify.io.conditions.cases`.
    """
    tree = _tree(text, source)
    try:
        declared = _declaration(tree)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    reader = _Reader(declared)
    with located(source):
        claims = settle([reader.formula(claim.expr) for claim in tree.assertions])
    n_inputs, n_outputs = prod(declared.input.shape), prod(declared.output.shape)
    try:
        found = cases(claims, n_inputs, lambda i: _element(declared.input, i))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    return Query(found, n_inputs, n_outputs, Path(source).name, declared)


def _element(variable: Variable, position: int) -> str:
    """Return the name of an element from its place in C order."""
    index: list[int] = []
    for size in reversed(variable.shape):
        position, i = divmod(position, size)
        index.insert(0, i)
    return f"{variable.name}[{','.join(map(str, index))}]" if index else variable.name


# ---------------------------------------------------------------------- the text


def _tree(text: str, source: str) -> Any:
    """Return the package's tree, having made sure that it holds the whole text."""
    package = require("vnnlib", "vnnlib")
    tokens = _tokens(text, source)
    if (version := tokens[2:3]) != ["<2.0>"]:  # the package goes on with a later 2.x, and with words on standard error
        raise ParseError(f"this is version {shorten(''.join(version))}: VNN-LIB 1.0 and <2.0> can be read", source)
    try:
        tree = package.parse_query_string(text)
    except Exception as error:  # IndexError and UnicodeDecodeError get out of the package too
        raise _explain(error, source) from None
    if "".join(_tokens(str(tree), source)) != "".join(tokens):  # blanks are optional in (<=X[0] 1.0)
        raise ParseError("the package 'vnnlib' reads something else than the text says", source)
    return tree


def _tokens(text: str, source: str) -> list[str]:
    """Split a text; ParseError where it nests too deep or holds what no VNN-LIB text may."""
    tokens, depth = [], 0
    for match in _TOKENS.finditer(text):
        token = match.group()
        if token[0] == ";":
            continue
        depth += (token == "(") - (token == ")")
        if depth > MAX_NESTING or not (token.isascii() and token.isprintable()):
            line, column = text.count("\n", 0, match.start()) + 1, match.start() - text.rfind("\n", 0, match.start())
            what = f"cannot read {shorten(token)!r}" if depth <= MAX_NESTING else f"more than {MAX_NESTING} levels deep"
            raise ParseError(what, source, line, column)
        tokens.append(token)
    return tokens


def _explain(error: Exception, source: str) -> ParseError:
    """Turn an error of the package, whose text is JSON or one line, into ours."""
    text = str(error)
    if (found := _ERROR.search(text)) is not None:
        line, column, token = found.groups()
        what = f"unexpected {shorten(token)!r}" if token else "the text ends too early, or nothing is asserted"
        shift = int(line) > 1  # from the second line on the package counts columns from 0
        return ParseError(f"{what}: this is not VNN-LIB 2.0", source, int(line), int(column) + shift)
    if (found := re.search(r'"errors":\s*\[\s*\{(.*?)\}', text, re.DOTALL)) is not None:
        parts = dict(re.findall(r'"(\w+)":\s*"?(.*?)"?,?\s*$', found.group(1), re.MULTILINE))
        line = int(parts["line"]) if parts.get("line", "").isdecimal() else 0
        message = (
            f"{parts.get('message', 'not well-formed')}: {parts.get('offendingSymbol')!r}. {parts.get('hint', '')}"
        )
        return ParseError(message.strip(), source, line or None)
    what = f"{type(error).__name__}: {shorten(' '.join(text.split()), 200)}"
    return ParseError(f"the package 'vnnlib' cannot read it: {what}", source)


# ---------------------------------------------------------------------- the declarations


def _declaration(tree: Any) -> Declaration:
    if len(tree.networks) != 1:
        names = ", ".join(network.name for network in tree.networks)
        raise InputError(f"the query is about {len(tree.networks)} networks ({names}); one is supported")
    [network] = tree.networks
    if network.hidden:
        names = ", ".join(node.name for node in network.hidden)
        raise InputError(f"the query is about hidden nodes ({names}), which are not supported")
    for what, nodes in (("inputs", network.inputs), ("outputs", network.outputs)):
        if len(nodes) != 1:
            names = ", ".join(node.name for node in nodes)
            raise InputError(f"network {network.name} has {len(nodes)} {what} ({names}); one is supported")
    [entry], [out] = network.inputs, network.outputs
    kinds = [str(node).split()[2] for node in (entry, out)]
    for node, kind in zip((entry, out), kinds, strict=True):
        if kind not in TYPES:
            raise InputError(f"{node.name} has elements of type {kind}; supported are {', '.join(SEMANTICS)}")
    if TYPES[kinds[0]] is not TYPES[kinds[1]]:
        raise InputError(f"{entry.name} is {kinds[0]} and {out.name} {kinds[1]}; one type for both is supported")
    x, y = (Variable(node.name, tuple(node.shape)) for node in (entry, out))
    return Declaration(network.name, x, y, TYPES[kinds[0]])


# ---------------------------------------------------------------------- the conditions


@dataclass(frozen=True)
class _Reader:
    """Turns the package's nodes, told apart by the names of their classes, into ours."""

    declared: Declaration

    def formula(self, node: Any) -> Formula:
        kind, place = type(node).__name__, _Line(_line(node))
        if kind in ("And", "Or"):
            return Node(kind.lower(), [self.formula(part) for part in node.args], place)
        left, right = self.term(node.lhs), self.term(node.rhs)
        if kind == "NotEqual":
            return Node("or", [*compare("<", left, right), *compare(">", left, right)], place)
        return Node("and", compare(_SIGNS[kind], left, right), place)

    def term(self, node: Any) -> Linear:
        place = _Line(_line(node))
        match type(node).__name__:
            case "Var":
                return self._variable(node)
            case "Negate":
                return -self.term(node.expr)
            case "Plus":
                return add(place, [(1, self.term(part)) for part in node.args])
            case "Minus":
                return add(place, [(1, self.term(node.head)), *((-1, self.term(part)) for part in node.rest)])
            case "Multiply":
                return multiply(place, [self.term(part) for part in node.args])
            case _:
                return self._constant(node.lexeme, place)

    def _variable(self, node: Any) -> Linear:
        kind: Literal["X", "Y"] = "X" if node.name == self.declared.input.name else "Y"
        position = 0  # in C order; the package has compared the indices with the shape
        for index, size in zip(node.indices, node.shape, strict=True):
            position = position * size + index
        return Linear.variable(kind, position)

    def _constant(self, lexeme: str, place: _Line) -> Linear:
        semantics = self.declared.semantics
        try:
            value = within_range(Linear({}, rational(lexeme)), place)
        except InputError:
            raise Misfit(f"cannot read the number {shorten(lexeme)}", place) from None
        if not semantics.digits:
            return value
        nearest = semantics.nearest(value.constant)
        if not np.isfinite(nearest):
            raise Misfit(f"the number {shorten(lexeme)} is beyond the largest {semantics}", place)
        return Linear({}, Fraction(nearest))


def _line(node: Any) -> int | None:
    """Return the line of the first leaf below a node: only leaves know theirs."""
    while not hasattr(node, "line"):
        node = node.children()[0]
    return int(node.line) or None
