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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from optverify.errors import InputError, ParseError
from optverify.expressions import And, Atom, Condition, Linear, Or, Variable
from optverify.io.grammar import Misfit, add, divide, end_of, make_parser, multiply, read_number, run
from optverify.query import Box, Case, Query

if TYPE_CHECKING:
    from lark import Lark, Token

MAX_ALTERNATIONS = 100
"""Deepest nesting of "and" within "or" within "and" ... (an "and" directly within an "and" does not count)."""

_END = r"(?=[\s();]|\Z)"
_GRAMMAR = rf"""
start: command*
?command: "(" DECLARE_CONST VARIABLE SYMBOL ")"       -> declare
        | "(" DECLARE_FUN VARIABLE "(" ")" SYMBOL ")" -> declare
        | "(" ASSERT _condition ")"                   -> claim
        | "(" NO_EFFECT _any* ")"                     -> nothing
_any: SYMBOL | NUMBER | VARIABLE | STRING | COMPARE | ARITHMETIC | TRUTH | "(" _any* ")"
_condition: "(" COMPARE _term _term+ ")"  -> compare
          | "(" CONNECTIVE _condition* ")" -> connect
          | TRUTH                          -> truth
_term: VARIABLE                    -> variable
     | NUMBER                      -> number
     | "(" ARITHMETIC _term+ ")"   -> arithmetic
DECLARE_CONST.3: /declare-const{_END}/
DECLARE_FUN.3: /declare-fun{_END}/
ASSERT.3: /assert{_END}/
NO_EFFECT.3: /(set-logic|set-info|set-option|check-sat|get-model|exit){_END}/
COMPARE.3: /(<=|>=|<|>|=){_END}/
CONNECTIVE.3: /(and|or|not|=>){_END}/
ARITHMETIC.3: /[-+*\/]{_END}/
TRUTH.3: /(true|false){_END}/
VARIABLE.2: /[XY]_(0|[1-9][0-9]*){_END}/
NUMBER.2: /[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?{_END}/
STRING: /"[^"]*"|\|[^|]*\|/
SYMBOL: /[A-Za-z~!@$%^&*_+=<>.?\/:-][A-Za-z0-9~!@$%^&*_+=<>.?\/:-]*/
%ignore /(\s|;[^\n]*)+/
""".replace("_condition:", "?condition:").replace("_term:", "?term:").replace("_condition", "condition").replace("_term", "term")
