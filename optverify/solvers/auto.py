"""The solver that chooses a solver, says why, and goes on with the next one where the first cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from types import MappingProxyType

from optverify.errors import SolverUnavailable
from optverify.formulations.program import Cone, Program
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.highs import Highs
from optverify.solvers.mosek import Mosek
from optverify.solvers.scs import Scs
from optverify.solvers.solution import Availability, Incumbent, Solution, Solver, Status

ORDER: Mapping[str, tuple[Solver, ...]] = MappingProxyType(
    {
        "LP": (Highs(), Clarabel(), Scs()),
        "MILP": (Highs(), Mosek()),
        "SDP": (Mosek(), Clarabel(), Scs()),
    }
)
"""By kind of program. HiGHS leaves vertices, rays and a basis to start from; for semidefinite programs MOSEK is the
fastest, if there is a licence, Clarabel accurate, and SCS what remains."""


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
        began = perf_counter()
        passed: list[str] = []
        failed: Solution | None = None
        for solver in self.order[program.kind]:
            usable = solver.availability()
            if not usable:
                passed.append(f"{solver.name}: {usable.reason.split(';')[0]}")
                continue
            left = None if time_limit is None else max(0.0, time_limit - (perf_counter() - began))
            try:
                solution = solver.solve(program, time_limit=left, start=start, on_incumbent=on_incumbent)
            except SolverUnavailable as error:
                passed.append(str(error).split(";")[0])
                continue
            why = "; ".join([f"auto takes {solver.name} for this {program.kind}", *passed])
            answer = replace(solution, solver=f"auto: {solution.solver}", message=f"{solution.message} ({why})")
            if solution.status is not Status.FAILED:
                return answer
            failed = answer
            passed.append(f"{solver.name} failed: {solution.message}")
        if failed is not None:
            return failed
        raise SolverUnavailable(f"no solver for this {program.kind} can be used here: {'; '.join(passed)}")
