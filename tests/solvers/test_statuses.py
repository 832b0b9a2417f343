"""Each adapter's map of statuses is total, and every adapter survives what its solver may do."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optverify.errors import SolverUnavailable
from optverify.solvers import Status, clarabel, conic, cvxpy, mosek, pyomo, scs
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.conic import elastic, ray_of
from optverify.solvers.cvxpy import Cvxpy
from optverify.solvers.highs import Highs
from optverify.solvers.mosek import Mosek
from optverify.solvers.pyomo import Pyomo
from optverify.solvers.scs import Scs
from optverify.solvers.solution import Solution
from tests.contract.test_semidefinite_solvers import KNOWN_SDP, cut
from tests.contract.test_solvers import INFEASIBLE, KNAPSACK, KNOWN, lp

TWO_ROWS = KNOWN["two rows"].program


def test_every_scs_status_is_mapped() -> None:
    import scs as package

    named = {k for k, v in vars(package).items() if k.isupper() and isinstance(v, int) and -7 <= v <= 2}
    assert set(scs.STATUS) == named
    assert len({getattr(package, name) for name in named}) == len(named)


def test_every_clarabel_status_is_mapped() -> None:
    from clarabel import SolverStatus

    assert set(clarabel.STATUS) == {k for k in vars(SolverStatus) if k[0].isupper()}


def test_every_cvxpy_status_is_mapped() -> None:
    from cvxpy import settings as s

    assert set(cvxpy.STATUS) == {*s.SOLUTION_PRESENT, *s.INF_OR_UNB, *s.ERROR}


def test_every_pyomo_status_is_mapped() -> None:
    from pyomo.opt import TerminationCondition

    assert set(pyomo.STATUS) == {condition.name for condition in TerminationCondition}


def test_every_mosek_status_is_mapped() -> None:
    import mosek as package

    assert set(mosek.STATUS) == {str(s).removeprefix("solsta.") for s in package.solsta.members()}
    codes = dir(package.rescode)
    assert {*mosek.LIMITS, mosek.STOPPED} <= set(codes)


@pytest.mark.parametrize("solver", [Scs(), Clarabel(), Cvxpy(), Pyomo(), Mosek()], ids=lambda solver: solver.name)
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, solver: Any) -> None:
    """Without the package: a reason in the table, an error with the remedy on use."""
    for module in (conic, mosek):
        monkeypatch.setattr(module, "installed", lambda _: None)
    found = solver.availability()
    assert not found
    assert "pip install" in found.reason
    with pytest.raises(SolverUnavailable, match="pip install"):
        solver.solve(TWO_ROWS)


@pytest.mark.parametrize("crash", [RuntimeError("bad_alloc"), MemoryError(), ValueError("x"), SystemError()])
@pytest.mark.parametrize("name", ["scs.SCS", "clarabel.DefaultSolver", "cvxpy.Problem", "pyomo.environ.ConcreteModel"])
def test_crashes_are_results(monkeypatch: pytest.MonkeyPatch, name: str, crash: Exception) -> None:
    """An exception out of a binding or a layer is FAILED with its words."""

    def fail(*_: object, **__: object) -> None:
        raise crash

    solver = {"scs": Scs(), "clarabel": Clarabel(), "cvxpy": Cvxpy(), "pyomo": Pyomo()}[name.split(".")[0]]
    solver.solve(TWO_ROWS)  # imports what is patched
    monkeypatch.setattr(name, fail)
    solution = solver.solve(TWO_ROWS)
    assert solution.status is Status.FAILED
    assert type(crash).__name__ in solution.message
    assert solution.primal is solution.dual is None


@pytest.mark.parametrize("key", ["x", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scs_nonsense_is_a_failure(monkeypatch: pytest.MonkeyPatch, key: str, value: float) -> None:
    """A NaN or an infinity in a vector that is called solved."""
    import scs as package

    true = package.SCS.solve

    def spoilt(self: Any, **warm: Any) -> Any:
        found = true(self, **warm)
        found[key][0] = value
        return found

    monkeypatch.setattr(package.SCS, "solve", spoilt)
    solution = Scs().solve(TWO_ROWS)
    assert solution.dual is None or np.isfinite(solution.dual).all()
    assert solution.primal is None or np.isfinite(solution.primal).all()
    assert (solution.status is Status.FAILED) == (key == "x")


def test_scs_starts_from_its_own_vectors() -> None:
    """From its own solution there is next to nothing left to do; those of another program are not used."""
    program = KNOWN_SDP["eigenvalue"][0]
    cold = Scs().solve(program)
    warm = Scs().solve(program, start=cold)
    assert warm.iterations < cold.iterations
    assert warm.objective == pytest.approx(cold.objective, abs=1e-3)
    for basis in ((np.zeros(1), np.zeros(2), np.zeros(2)), (np.full(1, np.nan),) * 3, "other", (1, 2)):
        solution = Scs().solve(program, start=replace(cold, basis=basis))
        assert solution.iterations == cold.iterations


def test_scs_stops_at_its_limit_of_iterations() -> None:
    """A limit, with a dual that is as good as it is."""
    solution = Scs(tolerance=1e-12, iterations=20).solve(cut(10))
    assert solution.status is Status.LIMIT
    assert "max_iters" in solution.message
    assert solution.primal is None
    assert solution.dual is not None


def test_clarabel_tolerance() -> None:
    """A looser tolerance takes fewer steps."""
    assert Clarabel(tolerance=1e-3).solve(cut(8)).iterations < Clarabel().solve(cut(8)).iterations


def test_elastic_programs() -> None:
    """Their optimum is how far the rows are from holding: 0 for a feasible program, here 1 otherwise."""
    assert Highs().solve(elastic(TWO_ROWS)).objective == pytest.approx(0.0)
    assert Highs().solve(elastic(INFEASIBLE["inequality"])).objective == pytest.approx(1.0)
    block = replace(KNOWN_SDP["corner"][0], upper=np.array([0.0]))  # [[0, 1], [1, 2]] + t I: 2 t + t^2 = 1
    assert Clarabel().solve(elastic(block)).objective == pytest.approx(np.sqrt(2) - 1)


def test_rays_are_asked_for_and_doubted() -> None:
    """No answer to the second question leaves the first as it is; a feasible one makes "infeasible" unbounded."""
    said = Solution(Status.INFEASIBLE, "x", message="infeasible or unbounded")
    assert ray_of(TWO_ROWS, said, lambda _: Solution(Status.FAILED, "x")) is said
    unbounded = lp([1, -1], [], [([-1, -1], 3)], [0, 0], [1, np.inf])
    assert ray_of(unbounded, said, Highs().solve).status is Status.UNBOUNDED
    assert ray_of(INFEASIBLE["equation"], said, Highs().solve).ray is not None


def test_cvxpy_never_takes_mosek_by_itself() -> None:
    """The package is installed and has no licence: cvxpy alone would raise MOSEK's error, we go on."""
    assert "MOSEK" in importlib.import_module("cvxpy").installed_solvers()
    solution = Cvxpy().solve(KNOWN_SDP["corner"][0])
    assert "CLARABEL" in solution.solver
    assert solution.status is Status.OPTIMAL


@pytest.mark.parametrize("solver", [Cvxpy("MOSEK"), Pyomo("mosek_direct")], ids=lambda s: s.name)
@pytest.mark.usefixtures("unlicensed")
def test_mosek_in_a_layer_without_a_licence(solver: Any) -> None:
    """One line, also from within a layer."""
    with pytest.raises(SolverUnavailable, match=r"^mosek: no licence found \(mosek.Error 1008\): [^\n]*$"):
        solver.solve(KNAPSACK)


def test_cvxpy_says_when_it_could_not_pass_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver whose option is not known runs without."""
    monkeypatch.delitem(cvxpy.TIME, "HIGHS")
    solution = Cvxpy("HIGHS").solve(TWO_ROWS, time_limit=5.0)
    assert solution.status is Status.OPTIMAL
    assert "not told the time limit" in solution.message
