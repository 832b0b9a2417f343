"""The solver command line of VNN-LIB 2.0: ``verify`` and ``supports``.

The standard (chapter 5, https://www.vnnlib.org) fixes what is said on standard output: the verdict in one word on the
first line, then a satisfying assignment. Everything else goes to standard error.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from optverify.declaration import Declaration, Variable
from optverify.errors import InputError
from optverify.io import load, load_property
from optverify.io.conditions import decimal
from optverify.io.onnx import OPSETS
from optverify.io.onnx_operators import OPERATORS
from optverify.results import Verification
from optverify.search.tree import Stop
from optverify.semantics import REAL, SEMANTICS
from optverify.verify import verify

RESERVE = 0.1
"""Part of the time that is kept for the answer, at most a second: who is late is stopped without one."""

QUERIES = {
    "vnnlib-versions": ["2.0", "2.0"],
    "hidden-node-theories": ["NH"],
    "multiple-input-output-theories": ["SIO"],
    "multiple-network-theories": ["SNET"],
    "multiple-node-comparison-theories": ["SNC", "MNC"],
    "arithmetic-complexity-theories": ["BND", "OUTC", "LIN"],
    "optimised-disjunctive-reasoning": ["false"],  # conditions become a disjunctive normal form
    "serialise-assignments": ["false"],
    "unsat-proofs": ["false"],  # certificates are not in the standard's format
}
"""What can be asked, in the terms of the standard's chapter 4, and what is written."""


@dataclass(frozen=True)
class Answer:
    """What there is to say about a query.

    Parameters
    ----------
    output : tuple of str
        Lines of standard output.
    notes : tuple of str
        Lines of standard error.
    """

    output: tuple[str, ...]
    notes: tuple[str, ...]


def supported(capability: str) -> list[str]:
    """Return what a capability of the standard is here, line by line."""
    match capability:
        case "onnx-opset-versions":
            return [str(OPSETS[0]), str(OPSETS[-1])]
        case "onnx-element-types":
            return list(SEMANTICS)
        case "onnx-operators":
            return sorted(OPERATORS)
        case _:
            return QUERIES[capability]


def answer(path: str, networks: Sequence[tuple[str, str]], timeout: float | None, workers: int = 1) -> Answer:
    """Answer a query.

    Parameters
    ----------
    path : str
        VNN-LIB 2.0.
    networks : sequence of (name, path)
        One for each network that the query declares.
    timeout : float, seconds, optional
        With the time to read the files.
    workers : int

    Raises
    ------
    InputError
        Also where networks are missing or not asked for, or compute in another format than the query says.
    """
    began = time.monotonic()
    query = load_property(path)
    declared = query.declared
    if declared is None:
        raise InputError(f"{path} is VNN-LIB 1.0, which names no network: use `optverify verify NET PROP`")
    if [name for name, _ in networks] != [declared.network]:
        given = ", ".join(name for name, _ in networks) or "none"
        raise InputError(f"the query declares the network {declared.network}, --network gives: {given}")
    network = load(networks[0][1], format=declared.semantics.format)
    limit = None
    if timeout is not None:
        limit = max(timeout - min(RESERVE * timeout, 1.0) - (time.monotonic() - began), 1e-3)
    found = verify(network, query, time_limit=limit, workers=workers)
    return Answer((_word(found), *_assignment(declared, found)), tuple(_notes(declared, found)))


def _word(found: Verification) -> str:
    """Return the verdict in the words of the standard."""
    if found.verdict.value == "unknown":
        return "timed-out" if found.reason.startswith(Stop.TIME.value) else "unknown"
    return {"verified": "unsat", "falsified": "sat"}[found.verdict.value]


def _assignment(declared: Declaration, found: Verification) -> list[str]:
    """Return the satisfying assignment, the elements of each variable in C order."""
    if found.witness is None:
        return []
    x = [decimal(value) for value in found.witness.x]
    if declared.semantics is REAL:
        y = [repr(value) for value in found.witness.y_float()]  # exact outputs may have thousands of digits
    else:
        y = [decimal(low) for low, _ in found.witness.y]
    return [*_lines(declared.input, declared, x), *_lines(declared.output, declared, y)]


def _lines(variable: Variable, declared: Declaration, values: Sequence[str]) -> list[str]:
    return [f"{variable.name} {declared.semantics} [{','.join(map(str, variable.shape))}]", *values]


def _notes(declared: Declaration, found: Verification) -> list[str]:
    """Say what the verdict is about, and how a witness was computed."""
    notes = [found.reason, f"about {declared.semantics.statement}"]
    if declared.semantics is not REAL:
        notes.append("sums and products in the query itself are evaluated exactly, without rounding")
    if found.witness is not None:
        exact = "the inputs are exact, the outputs rounded to float64"
        notes.append(f"computed by {found.witness.execution}" if found.witness.execution else exact)
    return [f"optverify: {note}" for note in notes]
