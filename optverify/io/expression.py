"""Reads objectives and conditions as they are typed on a command line, exactly.

>>> print(parse_linear("Y_0 - 2*Y_1 + 0.1*X_3"))
1/10 X_3 + Y_0 - 2 Y_1
>>> print(parse_condition("0 <= y[0] < 1 or not Y2 = 3/4"))
((-Y_0 <= 0) and (Y_0 - 1 < 0)) or ((-Y_2 + 3/4 < 0) or (Y_2 - 3/4 < 0))

Inputs are ``X_0``, ``X0``, ``x[0]``, outputs ``Y_0``, ``Y0``, ``y[0]`` (capital or not); ``2 Y_0`` is
``2 * Y_0``. What ``str`` gives for a :class:`~optverify.expressions.Linear` or a
:class:`~optverify.expressions.Condition` reads back.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

from optverify.errors import ParseError
from optverify.expressions import And, Condition, Linear, Or
from optverify.io.grammar import add, divide, located, make_parser, multiply, read_number, run

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_DEPTH = 100
"""Deepest nesting of parentheses."""

_GRAMMAR = r"""
objective: sum
condition: disjunction
?disjunction: conjunction
            | conjunction (_OR conjunction)+       -> either
?conjunction: negation
            | negation (_AND negation)+            -> both
?negation: _NOT negation                           -> negate
         | sum (COMPARE sum)+                      -> compare
         | TRUTH                                   -> truth
         | "(" disjunction ")"
?sum: product
    | sum SIGN product                             -> plus
?product: factor
        | product TIMES factor                     -> times
        | product DIVIDE factor                    -> over
        | product VARIABLE                         -> scale
?factor: SIGN factor                               -> signed
       | NUMBER                                    -> number
       | VARIABLE                                  -> variable
       | "(" sum ")"
SIGN: /[-+]/
TIMES: "*"
DIVIDE: "/"
COMPARE: /<=|>=|<|>|==?/
_AND.2: /and\b/
_OR.2: /or\b/
_NOT.2: /not\b/
TRUTH.2: /(true|false)\b/
VARIABLE.2: /[XYxy](_?(0|[1-9][0-9]{0,8})\b|\[\s*(0|[1-9][0-9]{0,8})\s*\])/
NUMBER: /([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?(?![\w.])/
%ignore /\s+/
"""
_NAMES = {
    "LPAR": "'('",
    "RPAR": "')'",
    "$END": "the end",
    "SIGN": "'+', '-'",
    "TIMES": "'*'",
    "DIVIDE": "'/'",
    "COMPARE": "a comparison",
    "_AND": "'and'",
    "_OR": "'or'",
    "_NOT": "'not'",
    "TRUTH": "'true', 'false'",
    "VARIABLE": "a variable such as X_0 or Y_0",
    "NUMBER": "a number",
}


class _Actions:
    """What each rule of the grammar becomes; stateless, so one parser serves all threads."""

    def objective(self, parts: list[Linear]) -> Linear:
        return parts[0]

    def condition(self, parts: list[Condition]) -> Condition:
        return parts[0]

    def either(self, parts: list[Condition]) -> Condition:
        return Or(tuple(parts))

    def both(self, parts: list[Condition]) -> Condition:
        return And(tuple(parts))

    def negate(self, parts: list[Condition]) -> Condition:
        return ~parts[0]

    def truth(self, parts: list[Token]) -> Condition:
        return And(()) if parts[0] == "true" else Or(())

    def compare(self, parts: list[Any]) -> Condition:
        links = [
            _compare(str(sign), left, right)
            for sign, (left, right) in zip(parts[1::2], pairwise(parts[::2]), strict=True)
        ]
        return links[0] if len(links) == 1 else And(tuple(links))

    def plus(self, parts: list[Any]) -> Linear:
        left, sign, right = parts
        return add(sign, [(1, left), (-1 if sign == "-" else 1, right)])

    def times(self, parts: list[Any]) -> Linear:
        left, operator, right = parts
        return multiply(operator, [left, right])

    def over(self, parts: list[Any]) -> Linear:
        left, operator, right = parts
        return divide(operator, left, [right])

    def scale(self, parts: list[Any]) -> Linear:
        left, token = parts
        return multiply(token, [left, self.variable([token])])

    def signed(self, parts: list[Any]) -> Linear:
        return cast(Linear, -parts[1] if parts[0] == "-" else parts[1])

    def number(self, parts: list[Token]) -> Linear:
        return read_number(parts[0])

    def variable(self, parts: list[Token]) -> Linear:
        name = str(parts[0])
        return Linear.variable(cast(Literal["X", "Y"], name[0].upper()), int(name[1:].strip("_[] \t\n")))


def _compare(sign: str, left: Linear, right: Linear) -> Condition:
    match sign:
        case "<=":
            return left <= right
        case ">=":
            return left >= right
        case "<":
            return left < right
        case ">":
            return left > right
    return left.equals(right)


@cache
def _parser() -> Lark:
    return make_parser(_GRAMMAR, _Actions(), ["objective", "condition"])


def parse_linear(text: str, source: str = "<objective>") -> Linear:
    """Read a linear expression.

    Parameters
    ----------
    text : str
        For instance ``"Y_0 - 2*Y_1 + 0.1*X_3"``; decimals and quotients are exact.
    source : str
        What to call the text in errors.

    Raises
    ------
    ParseError
        The text is not a linear expression over X_i and Y_j; line and column say where.
    """
    return cast(Linear, _parse(text, source, "objective"))


def parse_condition(text: str, source: str = "<condition>") -> Condition:
    """Read comparisons joined by ``and``, ``or``, ``not`` and parentheses.

    Parameters
    ----------
    text : str
        For instance ``"Y_0 > Y_1 and not (0 <= Y_2 <= 1)"``. Comparisons: ``<= >= < > =``, also chained.
    source : str
        What to call the text in errors.

    Raises
    ------
    ParseError
        The text is not a condition over X_i and Y_j; line and column say where.
    """
    return cast(Condition, _parse(text, source, "condition"))


def _parse(text: str, source: str, start: str) -> Linear | Condition:
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth > MAX_DEPTH:
            line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
            raise ParseError(f"parentheses nest more than {MAX_DEPTH} deep", source, line, column)
    with located(source):
        return cast(Linear | Condition, run(_parser(), text, source, _NAMES, start))
