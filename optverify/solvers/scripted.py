"""A solver that says what it is told to: for tests of whatever stands behind a solver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from optverify.formulations.program import Cone, Program
from optverify.solvers.solution import Availability, Incumbent, Solution, Status

Answer = Solution | Exception


@dataclass(frozen=True, eq=False)
class Scripted:
    """Replay answers, one a call.

    Parameters
    ----------
    script : iterable of Solution or Exception, or callable from Program to one
        An exception, given or raised, stands for a crash.

    Attributes
    ----------
    programs : list of Program
        What was asked so far.
    """

    script: Iterable[Answer] | Callable[[Program], Answer]
    programs: list[Program] = field(default_factory=list, init=False)
    name: str = field(default="scripted", init=False)
    cones: frozenset[Cone] = field(default=frozenset(Cone), init=False)
    mixed_integer: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if not callable(self.script):
            answers = iter(self.script)
            object.__setattr__(self, "script", lambda _: next(answers))

    def availability(self) -> Availability:
        """Say that it is always there."""
        return Availability(installed=True)

    def solve(
        self,
        program: Program,
        *,
        time_limit: float | None = None,  # noqa: ARG002
        start: Solution | None = None,  # noqa: ARG002
        on_incumbent: Incumbent | None = None,
    ) -> Solution:
        """Return the next answer; a crash or the end of the script is ``Status.FAILED``."""
        self.programs.append(program)
        assert callable(self.script)
        try:
            answer = self.script(program)
        except Exception as error:
            answer = error
        if isinstance(answer, Exception):
            return Solution(Status.FAILED, self.name, message=f"{type(answer).__name__}: {answer}")
        if on_incumbent is not None and answer.primal is not None:
            on_incumbent(answer.objective, answer.primal)
        return answer
