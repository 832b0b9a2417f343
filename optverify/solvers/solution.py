"""What a solver answers: why it stopped, and which vectors it left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from math import nan
from typing import Protocol

from optverify.errors import SolverUnavailable, UnsupportedProgram
from optverify.formulations.program import Cone, Program
from optverify.interval import Array


class Status(Enum):
    """Why the solver stopped. Says nothing about the vectors: see :class:`Solution`."""

    OPTIMAL = "optimal"
    """It believes that it has solved the program to its tolerances."""
    INFEASIBLE = "infeasible"
    """It believes that no point satisfies the rows and bounds."""
    UNBOUNDED = "unbounded"
    """It believes that the objective has no lower limit."""
    LIMIT = "limit"
    """A limit on time, iterations or nodes was reached."""
    INTERRUPTED = "interrupted"
    """The caller stopped it."""
    INACCURATE = "inaccurate"
    """It stopped near a solution but short of its tolerances."""
    FAILED = "failed"
    """It raised, crashed, or answered with NaN; `message` says what happened."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's answer. Every number in it is a claim; :mod:`optverify.safe` turns duals into bounds.

    Parameters
    ----------
    status : Status
        Why the solver stopped.
    solver : str
        Name and version.
    objective : float
        Claimed value of the primal point, NaN if there is none.
    bound : float
        Claimed lower bound on the optimum (a MILP's dual bound), NaN if there is none.
    primal : (n,) float64 or None
    dual : (m,) float64 or None
        y of ``docs/duality.md``: nonnegative on ``nonneg`` rows; the claim is
        ``c0 - b.y + sum_j min over [l_j, u_j] of (c + A'y)_j x_j``.
    ray : (m,) float64 or None
        A y that claims infeasibility: the same expression without c and c0 is positive.
    seconds : float
        Wall-clock time in the solver.
    iterations, nodes : int
    message : str
        The solver's own words.
    basis : object or None
        What a later call may start from; opaque.
    """

    status: Status
    solver: str
    objective: float = nan
    bound: float = nan
    primal: Array | None = None
    dual: Array | None = None
    ray: Array | None = None
    seconds: float = 0.0
    iterations: int = 0
    nodes: int = 0
    message: str = ""
    basis: object = field(default=None, repr=False)


@dataclass(frozen=True)
class Availability:
    """Whether a solver can be used here.

    Parameters
    ----------
    installed : bool
    version : str
    reason : str
        Why not, and what to do; empty if it can be used.
    """

    installed: bool
    version: str = ""
    reason: str = ""

    def __bool__(self) -> bool:
        return self.installed


Incumbent = Callable[[float, Array], bool]
"""Called with (claimed objective, point) for each better point of a MILP; return True to stop the solver."""


def require_support(solver: Solver, program: Program) -> None:
    """Check that a solver is installed and takes a kind of program.

    Raises
    ------
    SolverUnavailable
        It cannot be used here; the message says why.
    UnsupportedProgram
        The program has a cone or integer variables that the solver does not take.
    """
    usable = solver.availability()
    if not usable:
        raise SolverUnavailable(f"solver {solver.name!r} cannot be used here: {usable.reason}")
    missing = sorted(cone.value for cone in program.cones - solver.cones)
    if missing:
        raise UnsupportedProgram(f"solver {solver.name!r} does not take {', '.join(missing)} cones: {program!r}")
    if program.is_mixed_integer and not solver.mixed_integer:
        raise UnsupportedProgram(f"solver {solver.name!r} does not take integer variables: {program!r}")


class Solver(Protocol):
    """What a solver adapter offers. One file, one object, one line in the registry.

    `solve` never raises for anything that the solver does: a crash, an exception or a NaN becomes
    ``Status.FAILED``. It raises :class:`~optverify.errors.UnsupportedProgram` for a program that it cannot
    take and :class:`~optverify.errors.SolverUnavailable` if it is not installed.
    """

    @property
    def name(self) -> str:
        """What the registry and reports call it."""

    @property
    def cones(self) -> frozenset[Cone]:
        """The cones that it takes."""

    @property
    def mixed_integer(self) -> bool:
        """Whether it takes integer variables."""

    def availability(self) -> Availability:
        """Tell whether the solver can be used, without importing it."""

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Solve a program.

        Parameters
        ----------
        program : Program
        time_limit : float, seconds of wall clock, optional
        start : Solution, optional
            Of a program of the same size: its basis or point is tried first. Rows may have been added at the end.
        on_incumbent : callable, optional
        """
