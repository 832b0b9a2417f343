"""What every solver adapter must do. A new one inherits all of this by its line in the registry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan
from time import monotonic

import numpy as np
import pytest

from optverify import solvers
from optverify.errors import InputError, SolverUnavailable, UnsupportedProgram
from optverify.formulations.program import Block, Cone, Program
from optverify.interval import Array
from optverify.safe.program import proves_infeasible, safe_bound
from optverify.solvers import SOLVERS, Solution, Solver, Status, available, conic
from optverify.solvers.auto import Auto
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.constant import solve_constant
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.highs import STATUS, Highs
from optverify.solvers.pyomo import Pyomo
from optverify.solvers.scripted import Scripted
from optverify.solvers.scs import Scs
from optverify.solvers.solution import Availability

EXPECTED_SOLVERS = ["highs", "clarabel", "scs", "cvxpy", "pyomo", "auto"]
"""Must be installed wherever these tests run: none of them may be skipped."""

LICENSED_SOLVERS = {"mosek": "solves only with a licence; tests/solvers/test_mosek.py solves its tasks by other means"}
"""Registered, and excused from what follows."""

NEAR = 1e-6
"""On claims only."""

VARIANTS: list[Solver] = [
    Highs(),
    Highs(algorithm="simplex"),
    Highs(algorithm="ipm"),
    Clarabel(),
    Scs(tolerance=1e-9),
    Cvxpy(),
    Cvxpy("CLARABEL"),
    Cvxpy("SCIPY"),
    Pyomo(),
    Pyomo("highs"),
    Auto(),
]
LINEAR_ONLY = {"clarabel", "scs", "cvxpy:CLARABEL"}
"""Take no integers; cvxpy finds that out when it is asked."""


def label(solver: Solver) -> str:
    return f"{solver.name}-{getattr(solver, 'algorithm', '')}".rstrip("-")


each = pytest.mark.parametrize("solver", VARIANTS, ids=label)
each_mip = pytest.mark.parametrize("solver", [s for s in VARIANTS if s.name not in LINEAR_ONLY], ids=label)
DURING = [s for s in VARIANTS if s.name in ("highs", "auto")]
"""Report incumbents as they are found, and stop at once when told to."""
each_during = pytest.mark.parametrize("solver", DURING, ids=label)
each_layer = pytest.mark.parametrize("solver", [Cvxpy(), Pyomo()], ids=label)
LP = frozenset({Cone.ZERO, Cone.NONNEG})


def lp(
    c: list[float],
    equal: list[tuple[list[float], float]],
    at_most: list[tuple[list[float], float]],
    lower: list[float],
    upper: list[float],
    c0: float = 0.0,
    integer: list[bool] | None = None,
) -> Program:
    """Write a program down: rows (a, b) of a.x = b, then of a.x <= b."""
    rows = [*equal, *at_most]
    blocks = {"equal": Block(0, len(equal), Cone.ZERO), "at most": Block(len(equal), len(rows), Cone.NONNEG)}
    matrix = np.array([a for a, _ in rows]).reshape(len(rows), len(c))
    right = np.array([b for _, b in rows])
    flags = None if integer is None else np.array(integer)
    return Program(np.array(c), matrix, right, blocks, np.array(lower), np.array(upper), c0, flags)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Known:
    """A program and its answer, worked out by hand; the dual is unique."""

    program: Program
    objective: float
    primal: list[float] | None
    dual: list[float]


KNOWN = {
    # min x + 2 y, x + y >= 1: x = 1, and one more unit of the right side costs 1.
    "inequality": Known(lp([1, 2], [], [([-1, -1], -1)], [0, 0], [5, 5]), 1.0, [1, 0], [1]),
    # The objective's constant counts.
    "constant": Known(lp([1, 2], [], [([-1, -1], -1)], [0, 0], [5, 5], c0=10.0), 11.0, [1, 0], [1]),
    # min 3 x + y, x + y = 2, y <= 1: x = y = 1; d objective / d b = 3, so y = -3.
    "equation": Known(lp([3, 1], [([1, 1], 2)], [], [0, 0], [5, 1]), 4.0, [1, 1], [-3]),
    # min -x - y, x + 2 y <= 4, 3 x + y <= 6: x = 1.6, y = 1.2; y1 + 3 y2 = 1, 2 y1 + y2 = 1.
    "two rows": Known(lp([-1, -1], [], [([1, 2], 4), ([3, 1], 6)], [0, 0], [9, 9]), -2.8, [1.6, 1.2], [0.4, 0.2]),
    # Both kinds: min x, x - z = -1, z >= 2: x = 1, z = 2. Stationarity: 1 + y1 = 0, -y1 - y2 = 0.
    "mixed rows": Known(lp([1, 0], [([1, -1], -1)], [([0, -1], -2)], [-9, -9], [9, 9]), 1.0, [1, 2], [-1, 1]),
    # Free and half-bounded variables: min x + y, x - y = 0, x >= 3 as a row.
    "free": Known(lp([1, 1], [([1, -1], 0)], [([-1, 0], -3)], [-inf, -inf], [inf, inf]), 6.0, [3, 3], [1, 2]),
    # A row that does not bind has dual 0; a fixed variable is no obstacle.
    "slack row": Known(lp([1, 1], [], [([1, 1], 100)], [2, 3], [2, 7]), 5.0, [2, 3], [0]),
    # Only bounds.
    "no rows": Known(lp([1, -1], [], [], [0, 0], [1, 2]), -2.0, [0, 2], []),
    # Nothing at all.
    "empty": Known(lp([], [], [], [], [], c0=7.0), 7.0, [], []),
    "rows without variables": Known(lp([], [([], 0)], [([], 1)], [], [], c0=7.0), 7.0, [], [0, 0]),
}


def negated_variables(known: Known) -> Known:
    """Return the twin in -x."""
    p = known.program
    twin = replace(p, c=-p.c, A=-p.A, lower=-p.upper, upper=-p.lower)
    return Known(twin, known.objective, None if known.primal is None else [-v for v in known.primal], known.dual)


def negated_equations(known: Known) -> Known:
    """Return the twin whose equations are multiplied by -1: so are their duals."""
    p = known.program
    sign = np.ones(p.n_rows)
    sign[p.rows["equal"].indices] = -1.0
    twin = replace(p, A=p.A.multiply(sign[:, None]).tocsc(), b=sign * p.b)
    return Known(twin, known.objective, known.primal, [s * y for s, y in zip(sign, known.dual, strict=True)])


TWINS: dict[str, Callable[[Known], Known]] = {
    "as it is": lambda known: known,
    "variables negated": negated_variables,
    "equations negated": negated_equations,
}


def kkt_residual(program: Program, primal: Array, dual: Array) -> float:
    """Return the largest violation: primal feasibility, dual cone, stationarity, complementarity (cvxpy's list)."""
    slack = program.b - program.A @ primal
    reduced = program.c + program.A.T @ dual
    worst = [np.maximum(program.lower - primal, 0), np.maximum(primal - program.upper, 0)]
    for block in program.rows.values():
        s, y = slack[block.indices], dual[block.indices]
        worst += [np.abs(s)] if block.cone is Cone.ZERO else [np.maximum(-s, 0), np.maximum(-y, 0), np.abs(s * y)]
    # A positive reduced cost needs the variable at its lower bound, a negative one at its upper bound.
    at_lower, at_upper = primal - program.lower, program.upper - primal
    worst += [np.where(reduced > NEAR, np.abs(at_lower), 0), np.where(reduced < -NEAR, np.abs(at_upper), 0)]
    return max((float(v.max()) for v in worst if v.size), default=0.0)


@each
@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", KNOWN)
def test_known_programs(solver: Solver, name: str, twin: str) -> None:
    """Objective, point and dual are those worked out by hand, with our signs; they satisfy the KKT conditions."""
    known = TWINS[twin](KNOWN[name])
    solution = solver.solve(known.program)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(known.objective, abs=NEAR)
    assert solution.bound == pytest.approx(known.objective, abs=NEAR)
    assert solution.primal is not None
    assert solution.dual is not None
    assert solution.primal == pytest.approx(known.primal, abs=NEAR)
    assert solution.dual == pytest.approx(known.dual, abs=NEAR)
    assert kkt_residual(known.program, solution.primal, solution.dual) < 1e-5
    assert solution.solver.startswith(solver.name)
    assert solution.ray is None
    if np.isfinite(known.program.lower).all():
        assert known.objective - 1e-5 <= safe_bound(known.program, solution.dual) <= known.objective


@each
@pytest.mark.parametrize("seed", range(10))
def test_random_programs_satisfy_kkt(solver: Solver, seed: int) -> None:
    """Feasible programs with equations, inequalities and mixed bounds: KKT, and the dual proves the claim."""
    rng = np.random.default_rng(seed)
    n, m, k = 12, 6, 3
    x = rng.uniform(-1, 1, n)
    matrix = rng.normal(size=(m, n))
    right = matrix @ x
    right[k:] += rng.uniform(0, 1, m - k)
    blocks = {"equal": Block(0, k, Cone.ZERO), "at most": Block(k, m, Cone.NONNEG)}
    program = Program(rng.normal(size=n), matrix, right, blocks, -np.ones(n), np.ones(n), 0.5)
    solution = solver.solve(program)
    assert solution.status is Status.OPTIMAL
    assert solution.primal is not None
    assert solution.dual is not None
    assert kkt_residual(program, solution.primal, solution.dual) < 1e-5
    assert solution.objective - 1e-5 <= safe_bound(program, solution.dual) <= solution.objective + 1e-5


INFEASIBLE = {
    "inequality": lp([1, 1], [], [([-1, -1], -3)], [0, 0], [1, 1]),
    "equation": lp([0, 0], [([1, 1], -1)], [], [0, 0], [1, 1]),
    "two rows": lp([1], [([1], 1)], [([1], 0.5)], [-inf], [inf]),
    "row without entries": lp([1], [], [([0], -1)], [0], [1]),
    "equation without entries": lp([1, 1], [([0, 0], -2)], [([1, 1], 2)], [0, 0], [1, 1]),
    "no variables, equation": lp([], [([], 1)], [], [], []),
    "no variables, negative equation": lp([], [([], -1)], [([], 1)], [], []),
    "no variables, inequality": lp([], [([], 0)], [([], -1)], [], []),
}


@each
@pytest.mark.parametrize("name", INFEASIBLE)
def test_infeasible_programs_leave_a_proof(solver: Solver, name: str) -> None:
    """The status says infeasible, there is no point, and the ray is checked to prove it where all is bounded."""
    program = INFEASIBLE[name]
    solution = solver.solve(program)
    assert solution.status is Status.INFEASIBLE
    assert solution.primal is None
    assert isnan(solution.objective)
    assert solution.ray is not None
    if np.isfinite(program.lower).all():
        assert proves_infeasible(program, solution.ray)


@each
def test_unbounded_program(solver: Solver) -> None:
    """The status says unbounded and no bound is proved."""
    program = lp([1, -1], [], [([-1, -1], 3)], [0, 0], [1, inf])
    solution = solver.solve(program)
    assert solution.status is Status.UNBOUNDED
    assert safe_bound(program, solution.dual) == -inf


@each
def test_time_limit_of_nothing(solver: Solver) -> None:
    """A time limit is a result, not an error; what is left is still usable."""
    if solver.name not in LINEAR_ONLY:
        solution = solver.solve(hard(), time_limit=0.0)
        assert solution.status is Status.LIMIT
        assert solution.bound <= 0.0 or isnan(solution.bound)
    # A simplex method that was stopped holds a point that is not feasible: that is none.
    stopped = solver.solve(KNOWN["inequality"].program, time_limit=0.0)
    assert stopped.status is Status.LIMIT
    assert stopped.primal is None
    assert isnan(stopped.objective)


@each_mip
def test_time_limit_stops_a_hard_program(solver: Solver) -> None:
    """It stops within seconds and leaves the bound it has, as a claim."""
    solution = solver.solve(hard(), time_limit=0.5)
    # What cvxpy hands on of SciPy's answer does not tell a time limit from another reason.
    assert solution.status is (Status.INACCURATE if solver.name == "cvxpy:SCIPY" else Status.LIMIT)
    assert 0.3 < solution.seconds < 10.0


PLANTED = np.random.default_rng(2).integers(0, 2, 40).astype(float)


def hard(planted: bool = False) -> Program:
    """Return a market split instance (Cornuejols and Dawande, 1999): 40 binaries, 5 rows, hopeless to enumerate.

    With a planted solution the optimum is 0.
    """
    rng = np.random.default_rng(1)
    n, m = 40, 5
    weights = rng.integers(0, 100, (m, n)).astype(float)
    matrix = np.hstack([weights, np.eye(m), -np.eye(m)])
    c = np.concatenate([np.zeros(n), np.ones(2 * m)])
    upper = np.concatenate([np.ones(n), np.full(2 * m, 1e4)])
    integer = np.arange(n + 2 * m) < n
    right = weights @ PLANTED if planted else np.floor(weights.sum(axis=1) / 2)
    return Program(c, matrix, right, {"split": Block(0, m, Cone.ZERO)}, np.zeros(n + 2 * m), upper, 0.0, integer)


KNAPSACK = lp([-5, -4, -3], [], [([2, 3, 1], 5), ([4, 1, 2], 11), ([3, 4, 2], 8)], [0] * 3, [4] * 3, integer=[True] * 3)
"""max 5 x + 4 y + 3 z in integers: (2, 0, 1) gives 13, as the relaxation does."""


@each_mip
def test_mixed_integer_program(solver: Solver) -> None:
    """An integer point, its value, and a bound that is at most the value; no dual is claimed."""
    program = lp([-1, -1], [], [([2, 2], 3)], [0, 0], [5, 5], c0=0.5, integer=[True, False])
    for candidate, optimum in ((KNAPSACK, -13.0), (program, -1.0)):
        solution = solver.solve(candidate)
        assert solution.status is Status.OPTIMAL
        assert solution.objective == pytest.approx(optimum, abs=NEAR)
        # cvxpy does not hand the bound on.
        assert solution.bound <= solution.objective + NEAR or (isnan(solution.bound) and "cvxpy" in solver.name)
        assert solution.primal is not None
        assert solution.dual is None
        assert np.abs(solution.primal - solution.primal.round())[candidate.integer].max() < NEAR
        assert safe_bound(candidate, solution.dual) <= optimum


@each_mip
def test_infeasible_mixed_integer_program(solver: Solver) -> None:
    """The relaxation has a point, the integers have none."""
    solution = solver.solve(lp([1], [([2], 1)], [], [0], [1], integer=[True]))
    assert solution.status is Status.INFEASIBLE
    assert solution.primal is None


@each
def test_warm_start_from_a_basis(solver: Solver) -> None:
    """The same program from its own solution takes no more iterations; another objective is solved rightly."""
    rng = np.random.default_rng(0)
    n, m = 40, 30
    matrix = rng.normal(size=(m, n))
    program = Program(rng.normal(size=n), matrix, np.ones(m), {"r": Block(0, m, Cone.NONNEG)}, -np.ones(n), np.ones(n))
    cold = solver.solve(program)
    again = solver.solve(program, start=cold)
    assert again.objective == pytest.approx(cold.objective)
    assert again.iterations <= cold.iterations
    other = replace(program, c=-program.c)
    assert solver.solve(other, start=cold).objective == pytest.approx(solver.solve(other).objective)


@each
@pytest.mark.parametrize("name", KNOWN)
def test_unsuitable_starts_are_ignored(solver: Solver, name: str) -> None:
    """A start of another program, another solver, or full of NaN changes nothing."""
    known = KNOWN[name]
    other = solver.solve(KNOWN["two rows"].program)
    spoilt = Solution(Status.OPTIMAL, "x", primal=np.full(known.program.n_variables, np.nan), basis="nonsense")
    for start in (other, spoilt, Solution(Status.FAILED, "x", primal=np.zeros(99))):
        solution = solver.solve(known.program, start=start)
        assert solution.status is Status.OPTIMAL
        assert solution.objective == pytest.approx(known.objective, abs=NEAR)


@each_during
def test_warm_start_from_a_point(solver: Solver) -> None:
    """A given point of a mixed-integer program becomes its first incumbent; a wrong one is ignored."""
    program = hard(planted=True)
    start = Solution(Status.OPTIMAL, "hand", primal=np.concatenate([PLANTED, np.zeros(10)]))
    solution = solver.solve(program, start=start, time_limit=20.0)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(0.0, abs=NEAR)
    wrong = Solution(Status.OPTIMAL, "hand", primal=np.full(3, 0.5))
    assert solver.solve(KNAPSACK, start=wrong).objective == pytest.approx(-13.0)


@each_during
def test_incumbents_are_reported_and_can_stop(solver: Solver) -> None:
    """Each incumbent comes with its value and a point of the right size; True stops the solver."""
    program = hard()
    seen: list[tuple[float, Array]] = []

    def note(value: float, point: Array) -> bool:
        seen.append((value, point))
        return True

    solution = solver.solve(program, on_incumbent=note, time_limit=20.0)
    assert solution.status is Status.INTERRUPTED
    assert len(seen) == 1
    value, point = seen[0]
    assert point.shape == (program.n_variables,)
    assert float(program.c @ point) == pytest.approx(value, abs=1e-4)


@each_during
def test_an_error_in_the_callback_is_the_callers(solver: Solver) -> None:
    """What the caller's own callback raises comes out of `solve`, and the process survives."""

    def fail(value: float, point: Array) -> bool:
        raise KeyError(value, point.size)

    with pytest.raises(KeyError):
        solver.solve(hard(), on_incumbent=fail, time_limit=20.0)
    assert solver.solve(KNAPSACK).status is Status.OPTIMAL


@each_during
def test_ctrl_c_stops_the_solver(solver: Solver) -> None:
    """Ctrl-C during a long solve raises KeyboardInterrupt soon, restores the handler, and leaves all usable."""
    before, began = signal.getsignal(signal.SIGINT), monotonic()
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            solver.solve(hard(), time_limit=30.0)
    finally:
        timer.join()
    assert monotonic() - began < 15.0
    assert signal.getsignal(signal.SIGINT) is before
    assert solver.solve(KNAPSACK).status is Status.OPTIMAL


@each_layer
def test_layers_report_the_last_incumbent(solver: Solver) -> None:
    """A modelling layer shows no incumbents on the way; what the callback raises is the caller's here, too."""
    seen: list[float] = []

    def note(value: float, _: Array) -> bool:
        seen.append(value)
        return False

    solver.solve(KNAPSACK, on_incumbent=note)
    solver.solve(KNOWN["two rows"].program, on_incumbent=note)
    assert seen == pytest.approx([-13.0])

    def fail(value: float, point: Array) -> bool:
        raise KeyError(value, point.size)

    with pytest.raises(KeyError):
        solver.solve(KNAPSACK, on_incumbent=fail)


@each_layer
def test_ctrl_c_waits_for_a_layer(solver: Solver) -> None:
    """Ctrl-C is not lost: it is raised when the layer's solver has returned."""
    before = signal.getsignal(signal.SIGINT)
    solver.solve(KNAPSACK)  # imports are done with
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            solver.solve(hard(), time_limit=1.5)
    finally:
        timer.join()
    assert signal.getsignal(signal.SIGINT) is before


@each
def test_solves_in_threads(solver: Solver) -> None:
    """Two threads may solve at once; there Ctrl-C is the main thread's business."""
    found: list[float] = []

    second = KNOWN["free"] if solver.name in LINEAR_ONLY else Known(KNAPSACK, -13.0, None, [])

    def work() -> None:
        for _ in range(10):
            found.extend(solver.solve(p).objective for p in (KNOWN["two rows"].program, second.program))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == pytest.approx(sorted([-2.8, second.objective] * 20))


@each
def test_nothing_is_printed(solver: Solver, capfd: pytest.CaptureFixture[str]) -> None:
    """Solvers are quiet, also about failures."""
    solver.solve(KNOWN["free"].program if solver.name in LINEAR_ONLY else KNAPSACK)
    solver.solve(INFEASIBLE["inequality"])
    solver.solve(lp([1], [([1e300], 1)], [], [0], [1]))
    out, err = capfd.readouterr()
    assert out == err == ""


MONSTERS = {
    "coefficient": lp([1, 1], [], [([-1e200, -1], -1)], [0, 0], [1, 1]),
    "cost": lp([1e308, -1e308], [], [([-1, -1], -1)], [0, 0], [1, 1]),
    "right side": lp([1, 1], [([1, 1], 1e300)], [], [0, 0], [1, 1]),
    "bounds": lp([1, 1], [], [([-1, -1], -1)], [-1e308, -1e308], [1e308, 1e308]),
    "tiny": lp([1, 1e-300], [], [([-1e-300, -1], -1)], [0, 0], [1, 1]),
    "constant": lp([1, 1], [], [([-1, -1], -1)], [0, 0], [1, 1], c0=1e308),
    "mixed integer": lp([1, 1], [], [([-1e200, -1], -1)], [0, 1e300], [1, 1e301], integer=[True, True]),
}


@each
@pytest.mark.parametrize("name", MONSTERS)
def test_numbers_out_of_range_never_raise(solver: Solver, name: str) -> None:
    """Whatever the solver makes of them it is an answer, with finite vectors or none, and the bound is safe."""
    program = MONSTERS[name]
    if solver.name in LINEAR_ONLY:
        program = replace(program, integer=np.zeros(2, bool))
    solution = solver.solve(program, time_limit=5.0)
    assert solution.message
    for vector, size in ((solution.primal, 2), (solution.dual, 1), (solution.ray, 1)):
        assert vector is None or (vector.shape == (size,) and np.isfinite(vector).all())
    assert not isnan(safe_bound(program, solution.dual))


@each
def test_unsupported_programs_are_refused(solver: Solver) -> None:
    """Cones and integers that a solver does not declare raise UnsupportedProgram with its name."""
    semidefinite = Program(
        np.ones(1), np.ones((1, 1)), np.ones(1), {"s": Block(0, 1, Cone.PSD)}, np.zeros(1), np.ones(1)
    )
    if Cone.PSD not in solver.cones:
        with pytest.raises(UnsupportedProgram, match=solver.name):
            solver.solve(semidefinite)
    if solver.name in LINEAR_ONLY:
        with pytest.raises(UnsupportedProgram, match=r"integer|MILP"):
            solver.solve(KNAPSACK)
    # Integers with semidefinite cones are beyond all of them.
    both = replace(semidefinite, integer=np.ones(1, bool))
    with pytest.raises(UnsupportedProgram):
        solver.solve(both)


# The registry.


def test_registry_is_covered() -> None:
    """Every registered solver is expected and every expected one is registered: none is left out or skipped."""
    assert sorted(SOLVERS) == sorted([*EXPECTED_SOLVERS, *LICENSED_SOLVERS])
    assert {s.name.split(":")[0] for s in VARIANTS} == set(EXPECTED_SOLVERS)
    for name, solver in SOLVERS.items():
        assert solver.name == name
        assert solver.cones >= LP


@pytest.mark.parametrize("name", EXPECTED_SOLVERS)
def test_expected_solvers_are_there(name: str) -> None:
    """A green run means that these were used."""
    assert solvers.get(name).availability()
    assert solvers.get(name).availability().version or name == "auto"
    assert solvers.get(name).solve(KNOWN["two rows"].program).objective == pytest.approx(-2.8, abs=1e-3)


def test_unknown_solver_is_answered_with_the_known_ones() -> None:
    """The error lists what there is."""
    for name in ("oracle of Delphi", "highs:x", "cvxpy:", ":CLARABEL", ""):
        with pytest.raises(InputError, match=r"highs.*cvxpy:NAME"):
            solvers.get(name)


def test_names_within_layers() -> None:
    """After a colon comes the layer's own name; one that it does not have is told with those that it has."""
    assert solvers.get("cvxpy:CLARABEL") == Cvxpy("CLARABEL")
    assert solvers.get("pyomo:highs").name == "pyomo:highs"
    for name in ("cvxpy:NONSENSE", "pyomo:nonsense"):
        with pytest.raises(SolverUnavailable, match=r"(?i)nonsense"):
            solvers.get(name).solve(KNAPSACK)
    with pytest.raises(SolverUnavailable, match="CLARABEL"):
        solvers.get("cvxpy:NONSENSE").solve(KNAPSACK)


def test_the_table_of_solvers() -> None:
    """One row a solver: name, version, what it takes, why not."""
    rows = {row.name: row for row in available()}
    assert set(rows) == set(SOLVERS)
    assert rows["highs"].installed
    assert rows["highs"].takes == ("LP", "MILP")
    assert rows["highs"].reason == ""
    assert rows["clarabel"].takes == rows["scs"].takes == ("LP", "SDP")
    assert rows["mosek"].takes == rows["cvxpy"].takes == rows["auto"].takes == ("LP", "MILP", "SDP")
    assert rows["pyomo"].takes == ("LP", "MILP")


def test_probing_imports_no_solver() -> None:
    """Neither the package nor the table of solvers imports a solver."""
    code = (
        "import sys; from optverify.solvers import available; available(); "
        "assert not {'highspy', 'clarabel', 'scs', 'mosek', 'cvxpy', 'pyomo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# HiGHS alone.


def test_every_highs_status_is_mapped() -> None:
    """The map is total and names nothing that HiGHS does not have."""
    import highspy

    assert set(STATUS) == set(highspy.HighsModelStatus.__members__)


def test_highs_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package: a reason in the table, an error with the remedy on use."""
    monkeypatch.setattr(conic, "installed", lambda _: None)
    found = Highs().availability()
    assert not found
    assert "pip install" in found.reason
    with pytest.raises(SolverUnavailable, match="pip install"):
        Highs().solve(KNAPSACK)


def test_highs_after_another_number_of_threads() -> None:
    """Someone else's use of the global scheduler does not break us."""
    import highspy

    other = highspy.Highs()
    other.setOptionValue("output_flag", False)
    other.resetGlobalScheduler(True)
    other.setOptionValue("threads", 2)
    other.addVar(0.0, 1.0)
    assert other.run() == highspy.HighsStatus.kOk
    assert Highs().solve(KNOWN["two rows"].program).status is Status.OPTIMAL
    other.resetGlobalScheduler(True)


@pytest.mark.parametrize("crash", [RuntimeError("std::bad_alloc"), MemoryError(), ValueError("x"), SystemError()])
def test_highs_crash_is_a_result(monkeypatch: pytest.MonkeyPatch, crash: Exception) -> None:
    """An exception out of the binding is FAILED with its words."""
    import highspy

    def run(_: object) -> None:
        raise crash

    monkeypatch.setattr(highspy.Highs, "run", run)
    solution = Highs().solve(KNAPSACK)
    assert solution.status is Status.FAILED
    assert type(crash).__name__ in solution.message
    assert solution.primal is None


@pytest.mark.parametrize("field", ["col_value", "row_dual"])
@pytest.mark.parametrize("value", [[np.nan, 1.0], [np.inf, 0.0], [1.0]])
def test_highs_nonsense_is_a_failure(monkeypatch: pytest.MonkeyPatch, field: str, value: list[float]) -> None:
    """A NaN, an infinity or a wrong size in a vector that is called optimal is FAILED."""
    import highspy

    class Spoilt:
        value_valid = dual_valid = True
        col_value, row_dual = [1.6, 1.2], [-0.4, -0.2]

    setattr(Spoilt, field, value)
    monkeypatch.setattr(highspy.Highs, "getSolution", lambda _: Spoilt)
    solution = Highs().solve(KNOWN["two rows"].program)
    assert solution.status is Status.FAILED
    assert solution.message
    assert solution.dual is None


def test_highs_says_why_it_refuses() -> None:
    """HiGHS's own words about a coefficient beyond 1e15 reach the caller."""
    solution = Highs().solve(MONSTERS["coefficient"])
    assert solution.status is Status.FAILED
    assert "1e+15" in solution.message


def test_highs_options() -> None:
    """A wider gap stops earlier, and a tolerance that HiGHS refuses is a failure that names it."""
    assert Highs(mip_gap=0.5, tolerance=1e-8).solve(KNAPSACK).bound <= -13.0 + NEAR
    assert "feasibility" in Highs(tolerance=-1.0).solve(KNAPSACK).message


def test_highs_starts_from_a_basis() -> None:
    """From its own basis the simplex method has nothing left to do."""
    program = KNOWN["two rows"].program
    cold = Highs().solve(program)
    assert cold.iterations > 0
    assert Highs().solve(program, start=cold).iterations == 0


# Scripted.


def test_scripted_replays_and_records() -> None:
    """Answers come one a call, in order; the end of the script is a failure."""
    first, second = (Solution(Status.OPTIMAL, "s", objective=v, primal=np.zeros(2)) for v in (1.0, 2.0))
    solver = Scripted([first, RuntimeError("boom"), second])
    program = KNOWN["two rows"].program
    values: list[float] = []

    def note(value: float, _: Array) -> bool:
        values.append(value)
        return False

    assert solver.solve(program, on_incumbent=note) is first
    assert "boom" in solver.solve(program).message
    assert solver.solve(program, on_incumbent=note) is second
    assert solver.solve(program).status is Status.FAILED
    assert (solver.programs, values) == ([program] * 4, [1.0, 2.0])


def test_scripted_by_function() -> None:
    """A function sees the program; what it raises is a crash."""

    def answer(program: Program) -> Solution:
        if program.is_mixed_integer:
            raise ZeroDivisionError
        return Solution(Status.OPTIMAL, "s", objective=program.c0)

    solver: Solver = Scripted(answer)
    assert solver.availability()
    assert solver.solve(KNOWN["constant"].program).objective == 10.0
    assert solver.solve(KNAPSACK).status is Status.FAILED


def test_answers_are_exclusive() -> None:
    """A constant semidefinite program is refused, and availability is as false as it says."""
    program = Program(np.zeros(0), np.zeros((1, 0)), np.ones(1), {"s": Block(0, 1, Cone.PSD)}, np.zeros(0), np.zeros(0))
    with pytest.raises(UnsupportedProgram):
        solve_constant(program, "any")
    assert not Availability(installed=False)
    assert isfinite(solve_constant(lp([], [], [], [], [], c0=2.0), "any").objective)
