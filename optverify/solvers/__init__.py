"""Solver adapters: a program becomes a claim.

``docs/formulations.md`` says how to add one: a file with one object, and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from optverify.errors import InputError
from optverify.formulations.program import Cone
from optverify.solvers.highs import Highs
from optverify.solvers.solution import Availability, Incumbent, Solution, Solver, Status

__all__ = [
    "SOLVERS",
    "Availability",
    "Incumbent",
    "Row",
    "Solution",
    "Solver",
    "Status",
    "available",
    "get",
    "name_of",
]

SOLVERS: Mapping[str, Solver] = MappingProxyType({solver.name: solver for solver in (Highs(),)})


def get(name: str | Solver) -> Solver:
    """Look a solver up, or return it if it is one; whether it is installed shows when it is asked.

    Raises
    ------
    InputError
        There is none of that name; the message lists those that there are.
    """
    if not isinstance(name, str):
        return name
    try:
        return SOLVERS[name]
    except KeyError:
        raise InputError(f"there is no solver {name!r}; choose from {', '.join(SOLVERS)}") from None


def name_of(solver: str | Solver | None) -> str | None:
    """Return the name of a solver that may be given as one."""
    return None if solver is None else get(solver).name


@dataclass(frozen=True)
class Row:
    """A line of the table of solvers.

    Parameters
    ----------
    name : str
    installed : bool
    version : str
    takes : tuple of str
        Of ``LP``, ``MILP``, ``SDP``.
    reason : str
        Why it cannot be used, and what to do; empty if it can.
    """

    name: str
    installed: bool
    version: str
    takes: tuple[str, ...]
    reason: str


def available() -> tuple[Row, ...]:
    """Return what is known about each solver, importing none."""
    return tuple(_describe(solver) for solver in SOLVERS.values())


def _describe(solver: Solver) -> Row:
    found = solver.availability()
    abilities = {"LP": Cone.NONNEG in solver.cones, "MILP": solver.mixed_integer, "SDP": Cone.PSD in solver.cones}
    takes = tuple(kind for kind, able in abilities.items() if able)
    return Row(solver.name, found.installed, found.version, takes, found.reason)
