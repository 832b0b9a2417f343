"""Run a lark grammar and turn what it cannot read into errors that say where and what was expected.

The grammars are LALR with their actions called while parsing, so no parse tree is built and no nesting
of the text, however deep, can exhaust the stack.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from optverify.errors import InputError, ParseError
from optverify.expressions import Linear, rational

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_BITS = 10_000
"""Most binary digits of a numerator or denominator; every float64 is well within, and printing needs a limit."""


class Place(Protocol):
    """Where something stands in a text: a token, for instance; columns may be unknown."""

    @property
    def line(self) -> int | None: ...  # noqa: D102

    @property
    def column(self) -> int | None: ...  # noqa: D102


class Misfit(Exception):
    """Raised by an action: the text is well formed but means nothing; `token` says where."""

    def __init__(self, message: str, token: Place) -> None:
        self.message, self.token = message, token
        super().__init__(message)


@contextmanager
def located(source: str) -> Iterator[None]:
    """Turn a :class:`Misfit` into a ParseError in `source`."""
    try:
        yield
    except Misfit as misfit:
        raise ParseError(misfit.message, source, misfit.token.line, misfit.token.column) from None


def make_parser(grammar: str, actions: object, starts: Sequence[str] = ("start",)) -> Lark:
    """Compile a grammar whose rules call the methods of `actions` of the same names.

    Importing lark takes a few hundredths of a second, so nothing does before a text has to be read.
    """
    import lark

    # lark only looks the rules up as attributes; its Transformer classes would have to be imported up front.
    transformer: Any = actions
    return lark.Lark(grammar, start=list(starts), parser="lalr", lexer="contextual", transformer=transformer)


def run(parser: Lark, text: str, source: str, names: Mapping[str, str], start: str = "start") -> Any:
    """Parse a text.

    Parameters
    ----------
    parser : lark.Lark
    text, source : str
        What to read, and what to call it in errors.
    names : mapping from str to str
        How to show each terminal of the grammar in "expected ...".
    start : str
        The rule that the whole text must follow.

    Raises
    ------
    ParseError
        The text does not follow the grammar.
    Misfit
        An action refused it.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return parser.parse(text, start=start)
    except UnexpectedToken as error:
        wanted = _any_of(error.accepts or error.expected, names)
        if error.token.type == "$END":
            raise ParseError(f"the text ends too early: expected {wanted}", source, *end_of(text)) from None
        found = shorten(str(error.token))
        raise ParseError(f"unexpected {found!r}: expected {wanted}", source, error.line, error.column) from None
    except UnexpectedCharacters as error:
        found, wanted = shorten(word_at(text, error.line, error.column)), _any_of(error.allowed, names)
        raise ParseError(f"cannot read {found!r}: expected {wanted}", source, error.line, error.column) from None


def _any_of(terminals: Iterable[str], names: Mapping[str, str]) -> str:
    words = sorted({names.get(terminal, terminal) for terminal in terminals})
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def word_at(text: str, line: int, column: int) -> str:
    """Return the characters from a position up to the next blank or parenthesis; at least one, if any."""
    match = re.match(r"[^\s();]+|.", text.split("\n")[line - 1][column - 1 :])
    return match.group() if match else ""


def end_of(text: str) -> tuple[int, int]:
    """Return line and column just after the last character."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


def shorten(text: str, limit: int = 40) -> str:
    """Cut a text that may be long or garbage."""
    return text if len(text) <= limit else text[:limit] + "..."


def read_number(token: Token) -> Linear:
    """Return a decimal as an exact constant expression.

    Raises
    ------
    Misfit
        It has too many digits or too large an exponent.
    """
    try:
        return within_range(Linear({}, rational(str(token))), token)
    except InputError:
        raise Misfit(f"the number {shorten(token)} is out of range", token) from None


def within_range(linear: Linear, token: Place) -> Linear:
    """Return the expression as it is.

    Raises
    ------
    Misfit
        A coefficient has grown beyond :data:`MAX_BITS`.
    """
    numbers: Iterable[Fraction] = (linear.constant, *linear.terms.values())
    if any(max(n.numerator.bit_length(), n.denominator.bit_length()) > MAX_BITS for n in numbers):
        raise Misfit("a number is out of range", token)
    return linear


def multiply(token: Place, factors: Iterable[Linear]) -> Linear:
    """Return the product of expressions of which at most one is not constant.

    Raises
    ------
    Misfit
        The product is not linear.
    """
    product = Linear({}, Fraction(1))
    for factor in factors:
        if factor.terms and product.terms:
            raise Misfit("a product of variables is not linear", token)
        product = within_range(product * factor, token)
    return product


def divide(token: Place, dividend: Linear, divisors: Iterable[Linear]) -> Linear:
    """Return the quotient by constants.

    Raises
    ------
    Misfit
        A divisor is zero or not constant.
    """
    for divisor in divisors:
        if divisor.terms:
            raise Misfit("division by a variable is not linear", token)
        if not divisor.constant:
            raise Misfit("division by zero", token)
        dividend = within_range(dividend / divisor.constant, token)
    return dividend


def add(token: Place, parts: Iterable[tuple[int, Linear]]) -> Linear:
    """Return a sum of expressions with signs +1 or -1; one pass, however many there are."""
    terms: dict[Any, Fraction] = {}
    constant = Fraction(0)
    for sign, part in parts:
        constant += sign * part.constant
        for variable, coefficient in part.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + sign * coefficient
    return within_range(Linear({v: c for v, c in terms.items() if c}, constant), token)
