"""The solver that chooses a solver, says why, and goes on with the next one where the first cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import starmap
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, TypeVar

from optverify.errors import SolverUnavailable
from optverify.formulations.program import Cone, Program, order_of
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.highs import Highs
from optverify.solvers.mosek import Mosek
from optverify.solvers.scs import Scs
from optverify.solvers.solution import Availability, Incumbent, Solution, Solver, Status

if TYPE_CHECKING:
    from optverify.solvers.interior_point import LiftedSolution

ORDER: Mapping[str, tuple[Solver, ...]] = MappingProxyType(
    {
        "LP": (Highs(), Clarabel(), Scs()),
        "MILP": (Highs(), Mosek()),
        "SDP": (Mosek(), Clarabel(), Scs()),
    }
)
"""By kind of program. HiGHS leaves vertices, rays and a basis to start from; for semidefinite programs MOSEK is the
fastest, if there is a licence, Clarabel accurate, and SCS what remains."""

CLARABEL_ORDER = 130
"""Matrices of a larger order take Clarabel minutes a step: then SCS, which is not accurate but answers, comes first."""


@dataclass(frozen=True, eq=False)
class Auto:
    """The first solver of a list that is there and does not fail.

    Parameters
    ----------
    order : mapping from kind of program to Solvers
    """

    order: Mapping[str, tuple[Solver, ...]] = field(default_factory=lambda: ORDER)
    name: str = field(default="auto", init=False)
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=True, init=False)

    def availability(self) -> Availability:
        """Say that it is always there: whether there is a solver for a program shows when it is asked."""
        return Availability(installed=True)

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,
        start: Solution | None = None,
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Solve a program; the message says which solver was taken and why no other.

        Raises
        ------
        SolverUnavailable
            None of the list can be used here; the message says why of each.
        """
        largest = max((order_of(block.size) for block in program.rows.values() if block.cone is Cone.PSD), default=0)

        def attempt(solver: Solver, why: str) -> Attempt[Solution]:
            def solve(left: float | None) -> Solution:
                return solver.solve(program, time_limit=left, start=start, on_incumbent=on_incumbent)

            return Attempt(solver.name, solver.availability(), solve, why)

        return first_that_works(starmap(attempt, self.ranked(program.kind, largest)), program.kind, time_limit)

    def ranked(self, kind: str, order: int) -> list[tuple[Solver, str]]:
        """Return the solvers for a kind of program with matrices up to an order, each with why it is so early."""
        found = self.order[kind]
        late = [solver for solver in found if order > CLARABEL_ORDER and isinstance(solver, Clarabel)]
        if not late:
            return [(solver, "") for solver in found]
        place = found.index(late[0])
        why = f"order {order} is above {CLARABEL_ORDER}, too large for clarabel"
        early = [(solver, "" if k < place else why) for k, solver in enumerate(found) if solver not in late]
        return early + [(solver, "") for solver in late]


Answer = TypeVar("Answer", "Solution", "LiftedSolution")


@dataclass(frozen=True)
class Attempt(Generic[Answer]):
    """A solver and how to ask it.

    Parameters
    ----------
    name : str
    usable : Availability
    solve : callable
        Takes the time limit in seconds or None.
    why : str
        What speaks for it.
    """

    name: str
    usable: Availability
    solve: Callable[[float | None], Answer]
    why: str = ""


def first_that_works(attempts: Iterable[Attempt[Answer]], what: str, time_limit: float | None) -> Answer:
    """Ask one solver after the other until one does not fail; its message says why it and no other.

    Parameters
    ----------
    attempts : iterable of Attempt
    what : str
        What is to be solved, for the message.
    time_limit : float, seconds, optional
        For all of them together.

    Raises
    ------
    SolverUnavailable
        None can be used here; the message says why of each.
    """
    began = perf_counter()
    reasons: list[str] = []
    failed: Answer | None = None
    for attempt in attempts:
        if not attempt.usable:
            reasons.append(f"{attempt.name}: {attempt.usable.reason.split(';')[0]}")
            continue
        left = None if time_limit is None else max(0.0, time_limit - (perf_counter() - began))
        try:
            solution = attempt.solve(left)
        except SolverUnavailable as error:
            reasons.append(str(error).split(";")[0])
            continue
        choice = f"auto takes {attempt.name} for this {what}" + (f": {attempt.why}" if attempt.why else "")
        why = "; ".join([choice, *reasons])
        message = f"{solution.message} ({why})" if solution.message else why
        answer = replace(solution, solver=f"auto: {solution.solver}", message=message)
        if solution.status is not Status.FAILED:
            return answer
        failed = answer
        reasons.append(f"{attempt.name} failed: {solution.message}")
    if failed is not None:
        return failed
    raise SolverUnavailable(f"no solver for this {what} can be used here: {'; '.join(reasons)}")
