"""What every solver of semidefinite programs must do, on programs solved by hand and on rays, limits and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from math import inf, isnan, sqrt
from time import monotonic

import numpy as np
import pytest

from optverify.errors import UnsupportedProgram
from optverify.formulations.program import Block, Cone, Program, matrix_of, triangle_of
from optverify.interval import Array
from optverify.safe.program import proves_infeasible, safe_bound
from optverify.solvers import SOLVERS, Solver, Status
from optverify.solvers.auto import Auto
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.scs import Scs
from tests.contract.test_solvers import EXPECTED_SOLVERS, INFEASIBLE, KNOWN, label

VARIANTS: list[Solver] = [Clarabel(), Scs(tolerance=1e-9), Cvxpy(), Cvxpy("SCS"), Auto()]
each = pytest.mark.parametrize("solver", VARIANTS, ids=label)
NEAR = 1e-4
"""On claims only, and as near as SCS comes through cvxpy, which sets 1e-5."""


def test_every_semidefinite_solver_is_covered() -> None:
    """Those of the registry that take such cones and need no licence."""
    able = {name for name in EXPECTED_SOLVERS if Cone.PSD in SOLVERS[name].cones}
    assert {s.name.split(":")[0] for s in VARIANTS} == able


def lmi(c: list[float], constant: list[list[float]], terms: list[list[list[float]]], reach: float = 9.0) -> Program:
    """Minimise c.x where constant + sum x_k terms_k is semidefinite and |x| <= reach."""
    right = triangle_of(np.array(constant, float))
    matrix = -np.stack([triangle_of(np.array(t, float)) for t in terms], axis=1)
    n = len(c)
    return Program(
        np.array(c, float), matrix, right, {"S": Block(0, right.size, Cone.PSD)}, np.full(n, -reach), np.full(n, reach)
    )


E11, E12, E22 = [[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]]
I3 = np.eye(3).tolist()
THREE = [[2, 1, 0], [1, 0, 3], [0, 3, -1]]
LARGEST = float(np.linalg.eigvalsh(np.array(THREE))[-1])
VECTOR = np.linalg.eigh(np.array(THREE))[1][:, -1]

KNOWN_SDP: dict[str, tuple[Program, float, list[float], Array]] = {
    # min x with [[x, 1], [1, 2]] >= 0: x = 1/2; <E11, Y> = 1 and Y S = 0 give Y = [[1, -1/2], [-1/2, 1/4]].
    "corner": (lmi([1], [[0, 1], [1, 2]], [E11]), 0.5, [0.5], np.array([[1, -0.5], [-0.5, 0.25]])),
    # min -x with [[1, x], [x, 1]] >= 0: x = 1; 2 Y_12 = -1 and Y (1, 1)' = 0.
    "off the diagonal": (lmi([-1], [[1, 0], [0, 1]], [E12]), -1.0, [1.0], np.array([[0.5, -0.5], [-0.5, 0.5]])),
    # min x1 + x2 with [[x1, 1], [1, x2]] >= 0: both 1; Y = [[1, -1], [-1, 1]].
    "two": (lmi([1, 1], [[0, 1], [1, 0]], [E11, E22]), 2.0, [1.0, 1.0], np.array([[1, -1], [-1, 1]])),
    # The largest eigenvalue: min t with t I - A >= 0; Y = v v'. Order 3 tells rows from columns.
    "eigenvalue": (lmi([1], (-np.array(THREE)).tolist(), [I3]), LARGEST, [LARGEST], np.outer(VECTOR, VECTOR)),
}


@each
@pytest.mark.parametrize("negated", [False, True], ids=["as it is", "variables negated"])
@pytest.mark.parametrize("name", KNOWN_SDP)
def test_known_programs(solver: Solver, name: str, negated: bool) -> None:
    """Objective, point and dual are those worked out by hand, with our signs and our triangle."""
    program, objective, primal, dual = KNOWN_SDP[name]
    if negated:
        program, primal = replace(program, c=-program.c, A=-program.A), [-v for v in primal]
    solution = solver.solve(program)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(objective, abs=NEAR)
    assert solution.bound == pytest.approx(objective, abs=NEAR)
    assert solution.primal == pytest.approx(primal, abs=NEAR)
    assert solution.dual is not None
    assert matrix_of(solution.dual) == pytest.approx(dual, abs=NEAR)
    assert objective - 1e-3 <= safe_bound(program, solution.dual) <= objective + 1e-12


def test_cvxpy_passes_a_tolerance_on() -> None:
    """SCS comes nearer than cvxpy asks it to; a solver that has none is named."""
    program, objective, _, _ = KNOWN_SDP["corner"]
    assert Cvxpy("SCS", tolerance=1e-10).solve(program).objective == pytest.approx(objective, abs=1e-8)
    assert Cvxpy("CLARABEL", tolerance=1e-4).solve(program).iterations < Cvxpy("CLARABEL").solve(program).iterations
    linear = Program(
        np.ones(1), np.array([[-1.0]]), np.zeros(1), {"r": Block(0, 1, Cone.NONNEG)}, np.full(1, -1.0), np.full(1, 1.0)
    )
    assert "HIGHS was not told the tolerance" in Cvxpy("HIGHS", tolerance=1e-4).solve(linear).message


@each
def test_all_cones_at_once(solver: Solver) -> None:
    """Blocks in any order: min x1 + x2 + x3, a matrix of order 2, x3 = 1, x1 >= 2, another matrix of order 1."""
    program = Program(
        np.ones(3),
        np.array([[-1, 0, 0], [0, 0, 0], [0, -1, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]], float),
        np.array([0, sqrt(2), 0, 1, -2, 0.5], float),
        {
            "first": Block(0, 3, Cone.PSD),
            "equal": Block(3, 4, Cone.ZERO),
            "most": Block(4, 5, Cone.NONNEG),
            "second": Block(5, 6, Cone.PSD),
        },
        np.array([-9.0, -9.0, 0.0]),
        np.array([9.0, 9.0, 9.0]),
    )
    solution = solver.solve(program)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(3.5, abs=NEAR)
    assert solution.primal == pytest.approx([2.0, 0.5, 1.0], abs=NEAR)
    # x2 = 1 / x1 at (2, 1/2): Y = u [[1/x1^2, -1/x1], [-1/x1, 1]] with u = 1; the row x1 >= 2 takes 1 - 1/4.
    assert solution.dual == pytest.approx([0.25, -sqrt(0.5), 1.0, -1.0, 0.75, 0.0], abs=1e-3)
    assert 3.5 - 1e-3 <= safe_bound(program, solution.dual) <= 3.5


@each
def test_infeasible_programs_leave_a_proof(solver: Solver) -> None:
    """[[x, 2], [2, 1]] with x <= 3: the ray is checked to prove it; also rows on which two blocks disagree."""
    first = replace(lmi([1], [[0, 2], [2, 1]], [E11]), upper=np.array([3.0]))
    second = lmi(
        [1, 1], [[-1, 0, 0], [0, -1, 0], [0, 0, 0.5]], [np.diag([1, -1, 0]).tolist(), np.diag([0, 0, 1]).tolist()]
    )
    for program in (first, second):
        solution = solver.solve(program)
        assert solution.status is Status.INFEASIBLE
        assert solution.primal is None
        assert isnan(solution.objective)
        assert proves_infeasible(program, solution.ray)


@each
def test_unbounded_program(solver: Solver) -> None:
    """No bound on the trace: unbounded, and no bound is proved."""
    program = replace(lmi([-1], [[0, 0], [0, 1]], [E11]), lower=np.array([-inf]), upper=np.array([inf]))
    solution = solver.solve(program)
    assert solution.status is Status.UNBOUNDED
    assert safe_bound(program, solution.dual) == -inf


@each
def test_no_block_of_order_nought(solver: Solver) -> None:
    """A matrix without rows says nothing."""
    program = KNOWN["two rows"].program
    empty = replace(program, rows={**program.rows, "none": Block(program.n_rows, program.n_rows, Cone.PSD)})
    assert solver.solve(empty).objective == pytest.approx(-2.8, abs=NEAR)


@each
def test_constant_blocks(solver: Solver) -> None:
    """Without variables nothing is solved: the program is refused."""
    program = Program(np.zeros(0), np.zeros((1, 0)), np.ones(1), {"s": Block(0, 1, Cone.PSD)}, np.zeros(0), np.zeros(0))
    with pytest.raises(UnsupportedProgram):
        solver.solve(program)


def cut(order: int) -> Program:
    """Return the relaxation of a maximum cut with weights of both signs: one matrix, all its entries variables."""
    rng = np.random.default_rng(order)
    column, row = np.triu_indices(order)
    off = np.flatnonzero(column != row)
    matrix = np.zeros((column.size, off.size))
    matrix[off, np.arange(off.size)] = -sqrt(2.0)
    right = np.where(column == row, 1.0, 0.0)
    ones = np.ones(off.size)
    return Program(rng.normal(size=off.size), matrix, right, {"X": Block(0, column.size, Cone.PSD)}, -ones, ones)


@each
def test_time_limit(solver: Solver) -> None:
    """No time at all, and too little: a limit, no point, and whatever dual there is is good for a bound."""
    assert solver.solve(cut(5), time_limit=0.0).status is Status.LIMIT
    solver.solve(cut(3))  # imports are done with
    program = cut(60)
    solution = solver.solve(program, time_limit=0.05)
    assert solution.status is Status.LIMIT
    assert solution.primal is None
    assert not isnan(safe_bound(program, solution.dual))


@pytest.mark.parametrize("solver", [Clarabel(), Scs(tolerance=1e-300), Cvxpy(), Auto()], ids=label)
def test_ctrl_c(solver: Solver) -> None:
    """KeyboardInterrupt comes soon and the handler is restored; a layer waits for its solver's time limit."""
    solver.solve(cut(3), time_limit=1.0)
    program = cut(60)  # SCS never reaches its tolerance; Clarabel takes some seconds
    before, began = signal.getsignal(signal.SIGINT), monotonic()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            solver.solve(program, time_limit=4.0)
    finally:
        timer.join()
    assert monotonic() - began < 20.0
    assert signal.getsignal(signal.SIGINT) is before
    assert solver.solve(KNOWN["two rows"].program, time_limit=1.0).dual is not None


@each
def test_nothing_is_printed(solver: Solver, capfd: pytest.CaptureFixture[str]) -> None:
    """Quiet in success and failure."""
    solver.solve(KNOWN_SDP["corner"][0])
    solver.solve(INFEASIBLE["equation"])
    solver.solve(lmi([1], [[0, 1e200], [1e200, 2]], [E11]), time_limit=2.0)
    out, err = capfd.readouterr()
    assert out == err == ""


@each
@pytest.mark.parametrize("value", [1e300, -1e300, 1e-300, 1e20])
@pytest.mark.parametrize("place", ["c", "A", "b", "bounds"])
def test_numbers_out_of_range_never_raise(solver: Solver, place: str, value: float) -> None:
    """Any answer will do, with finite vectors or none; the bound is below the value of a point, if it is feasible."""
    program = KNOWN_SDP["two"][0]
    if place == "bounds":
        program = replace(program, lower=np.full(2, -abs(value)), upper=np.full(2, abs(value)))
    else:
        spoilt = np.array(program.A.toarray() if place == "A" else getattr(program, place))
        spoilt[np.unravel_index(0, spoilt.shape)] = value
        program = replace(program, **{place: spoilt})
    solution = solver.solve(program, time_limit=2.0)
    assert solution.message
    for vector, size in ((solution.primal, 2), (solution.dual, 3), (solution.ray, 3)):
        assert vector is None or (vector.shape == (size,) and np.isfinite(vector).all())
    assert safe_bound(program, solution.dual) < inf
