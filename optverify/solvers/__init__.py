"""Solver adapters: a program becomes a claim.

``docs/formulations.md`` says how to add one: a file with one object, and a line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from optverify.errors import InputError
from optverify.formulations.program import Cone
from optverify.solvers.auto import Auto
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.highs import Highs
from optverify.solvers.mosek import Mosek
from optverify.solvers.pyomo import Pyomo
from optverify.solvers.scs import Scs
from optverify.solvers.solution import Availability, Incumbent, Solution, Solver, Status

__all__ = [
    "CONIC",
    "DEFAULT",
    "INTERIOR_POINT",
    "LINEAR",
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

SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {solver.name: solver for solver in (Highs(), Clarabel(), Scs(), Mosek(), Cvxpy(), Pyomo(), Auto())}
)

LINEAR = Highs.name
"""Names who solves linear and mixed-integer programs if nobody else is named."""

CONIC = Clarabel.name
"""Names who solves conic programs if nobody else is named."""

INTERIOR_POINT = "interior point"
"""Names the method made for lifted relaxations; it takes no programs, so it is none of :data:`SOLVERS`."""

DEFAULT = "default"
"""Names what a method of bounds takes if nothing is said."""


def get(name: str | Solver) -> Solver:
    """Look a solver up, or return it if it is one; whether it is installed shows when it is asked.

    ``cvxpy:CLARABEL`` or ``pyomo:appsi_highs`` names a solver of a modelling layer.

    Raises
    ------
    InputError
        There is none of that name; the message lists those that there are.
    """
    if not isinstance(name, str):
        return name
    layer, colon, inner = name.partition(":")
    solver = SOLVERS.get(layer)
    if solver is None or (colon and not (inner and isinstance(solver, Cvxpy | Pyomo))):
        names = ", ".join(SOLVERS)
        raise InputError(f"there is no solver {name!r}; choose from {names}, or cvxpy:NAME, pyomo:NAME")
    return replace(solver, inner=inner) if colon and isinstance(solver, Cvxpy | Pyomo) else solver


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
