"""Programs without variables: answered here, since solvers disagree on what they mean."""

from __future__ import annotations

import numpy as np

from optverify.errors import UnsupportedProgram
from optverify.formulations.program import Cone, Program
from optverify.solvers.solution import Solution, Status


def solve_constant(program: Program, solver: str) -> Solution:
    """Tell whether s = b lies in the cone, exactly.

    Parameters
    ----------
    program : Program
        Without variables.
    solver : str
        Who was asked.

    Raises
    ------
    UnsupportedProgram
        There is a semidefinite cone.
    """
    if Cone.PSD in program.cones:
        raise UnsupportedProgram("a semidefinite program needs at least one variable")
    ray = np.zeros(program.n_rows)
    for block in program.rows.values():
        rows, b = block.indices, program.b[block.indices]
        ray[rows] = -np.sign(b) if block.cone is Cone.ZERO else (b < 0)
    if ray.any():
        return Solution(Status.INFEASIBLE, solver, ray=ray, message="no variables and a row that does not hold")
    return Solution(
        Status.OPTIMAL,
        solver,
        objective=program.c0,
        bound=program.c0,
        primal=np.zeros(0),
        dual=np.zeros(program.n_rows),
        message="no variables",
    )
