"""The same programs through all adapters: claims agree with the exact optimum, bounds are never above it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import inf

import numpy as np
import pytest

from optverify.formulations.program import Block, Cone, Program
from optverify.safe.program import proves_infeasible, safe_bound
from optverify.solvers import Solution, Solver, Status
from optverify.solvers.auto import Auto
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.highs import Highs
from optverify.solvers.pyomo import Pyomo
from optverify.solvers.scs import Scs
from tests.contract.test_solvers import label
from tests.safe.test_program import exact_optimum
from tests.safe.test_semidefinite_program import known_program

LINEAR: dict[Solver, float] = {
    Highs(): 1e-6,
    Clarabel(): 1e-6,
    Scs(tolerance=1e-9): 1e-5,
    Cvxpy("HIGHS"): 1e-6,
    Cvxpy("CLARABEL"): 1e-6,
    Cvxpy("SCIPY"): 1e-6,
    Pyomo("appsi_highs"): 1e-6,
    Pyomo("highs"): 1e-6,
    Auto(): 1e-6,
}
"""And what their tolerances are good for on the optimum of the programs below, relative to 1 + its magnitude."""
INTEGER: dict[Solver, float] = {s: t for s, t in LINEAR.items() if isinstance(s, Highs | Pyomo | Auto)} | {
    Cvxpy("HIGHS"): 1e-6,
    Cvxpy("SCIPY"): 1e-6,
}
SEMIDEFINITE: dict[Solver, float] = {
    Clarabel(): 1e-5,
    Clarabel(tolerance=1e-4): 1e-2,
    Scs(tolerance=1e-7): 1e-3,
    Cvxpy("CLARABEL"): 1e-5,
    Cvxpy("SCS"): 1e-2,
    Auto(): 1e-5,
}

SEEDS = range(40)


def random_program(seed: int) -> Program:
    """Draw a small program in small integers with bounded variables; some are infeasible, many degenerate."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 5)), int(rng.integers(0, 5))
    equations = int(rng.integers(0, min(m, n) + 1))
    matrix = rng.integers(-3, 4, (m, n)).astype(float)
    lower = rng.integers(-3, 2, n).astype(float)
    upper = lower + rng.integers(0, 4, n)
    inside = lower + (upper - lower) * rng.choice([0.0, 0.5, 1.0], n)
    slack = np.where(np.arange(m) < equations, 0.0, rng.integers(0, 3, m))
    right = matrix @ inside + slack - (rng.random(m) < 0.1)
    rows = {"equal": Block(0, equations, Cone.ZERO), "most": Block(equations, m, Cone.NONNEG)}
    return Program(rng.integers(-3, 4, n).astype(float), matrix, right, rows, lower, upper, float(rng.integers(-2, 3)))


def check(solver: Solver, tolerance: float, program: Program, optimum: Fraction | None) -> Solution | None:
    """Solve, and compare what is claimed and what is proved with the exact optimum.

    None if an interior-point or first-order method says that it is not sure.
    """
    solution = solver.solve(program)
    bound = safe_bound(program, solution.dual)
    if optimum is not None:
        assert bound == -inf or Fraction(bound) <= optimum
        assert not proves_infeasible(program, solution.ray)
    if solution.status is Status.INACCURATE and (solver.name, getattr(solver, "inner", None)) in UNSURE:
        return None
    if optimum is None:
        assert solution.status is Status.INFEASIBLE, solution
        return solution
    assert solution.status is Status.OPTIMAL, solution
    near = tolerance * (1.0 + abs(float(optimum)))
    assert abs(solution.objective - float(optimum)) <= near, solution
    return solution


UNSURE = {("clarabel", None), ("scs", None), ("auto", None), ("cvxpy:CLARABEL", "CLARABEL"), ("cvxpy:SCS", "SCS")}


@pytest.mark.parametrize("solver", LINEAR, ids=label)
def test_linear_programs(solver: Solver) -> None:
    """Infeasible ones are proved to be so by the ray, optimal ones proved but for the tolerance by the dual."""
    unsure = 0
    for seed in SEEDS:
        program, tolerance = random_program(seed), LINEAR[solver]
        optimum = exact_optimum(program)
        solution = check(solver, tolerance, program, optimum)
        if solution is None:
            unsure += 1
        elif optimum is None:
            assert proves_infeasible(program, solution.ray), solution
        else:
            near = 10 * tolerance * (1.0 + abs(float(optimum)))
            assert safe_bound(program, solution.dual) >= float(optimum) - near, solution
    assert unsure <= 2
    assert any(exact_optimum(random_program(seed)) is None for seed in SEEDS)


@pytest.mark.parametrize("solver", INTEGER, ids=label)
def test_mixed_integer_programs(solver: Solver) -> None:
    """Against the enumeration of the integers, with an exact linear program for the rest."""
    for seed in SEEDS:
        program = random_program(seed)
        integer = np.random.default_rng(seed).random(program.n_variables) < 0.6
        integer[0] = True
        program = replace(program, integer=integer)
        check(solver, INTEGER[solver], program, enumerated(program))


def enumerated(program: Program) -> Fraction | None:
    """Return the optimum over all values of the integer variables."""
    ranges = [
        np.arange(a, b + 1).tolist() if whole else [None]
        for a, b, whole in zip(program.lower, program.upper, program.integer, strict=True)
    ]
    values = []
    for point in product(*ranges):
        lower = np.array([a if p is None else p for a, p in zip(program.lower, point, strict=True)])
        upper = np.array([b if p is None else p for b, p in zip(program.upper, point, strict=True)])
        values.append(exact_optimum(replace(program, lower=lower, upper=upper)))
    return min((v for v in values if v is not None), default=None)


@pytest.mark.parametrize("solver", SEMIDEFINITE, ids=label)
def test_semidefinite_programs(solver: Solver) -> None:
    """Against an optimum known by construction."""
    unsure = 0
    for seed in SEEDS:
        known, tolerance = known_program(seed, strict=True), SEMIDEFINITE[solver]
        solution = check(solver, tolerance, known.program, known.optimum)
        if solution is None:
            unsure += 1
        else:
            near = 10 * tolerance * (1.0 + abs(float(known.optimum)))
            assert safe_bound(known.program, solution.dual) >= float(known.optimum) - near, (seed, solution)
    assert unsure <= len(SEEDS) // 5


@pytest.mark.parametrize("solver", SEMIDEFINITE, ids=label)
@pytest.mark.parametrize("scale", [1.0, 2.0**-20, 2.0**20])
def test_semidefinite_programs_without_an_interior(solver: Solver, scale: float) -> None:
    """Badly scaled, and no point with positive definite matrices: solvers may fail or be wrong, bounds may not."""
    for seed in range(12):
        known = known_program(seed, scale)
        solution = solver.solve(known.program, time_limit=2.0)
        bound = safe_bound(known.program, solution.dual)
        assert bound == -inf or Fraction(bound) <= known.optimum
        assert not proves_infeasible(known.program, solution.ray)
