"""MOSEK without a licence: its tasks are built for real, written to files, and the files solved by other solvers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import highspy
import mosek as package
import numpy as np
import pytest

from optverify.cli import main
from optverify.errors import OutputError, SolverUnavailable, UnsupportedProgram
from optverify.formulations.program import Block, Cone, Program, triangle_of
from optverify.interval import Array
from optverify.safe.program import proves_infeasible, safe_bound
from optverify.solvers import Status, get, mosek
from optverify.solvers.auto import Auto
from optverify.solvers.clarabel import Clarabel
from optverify.solvers.highs import Highs
from optverify.solvers.mosek import Mosek, build, read
from optverify.solvers.scripted import Scripted
from optverify.solvers.solution import Solution
from tests.contract.test_semidefinite_solvers import KNOWN_SDP, cut
from tests.contract.test_solvers import INFEASIBLE, KNAPSACK, KNOWN, TWINS, lp
from tests.safe.test_semidefinite_program import one

ONE_LINE = (
    r"mosek: no licence found \(mosek\.Error 1008\): License cannot be located\. The default search path is '[^\n]*'; "
    r"get one from https://www\.mosek\.com/products/academic-licenses, or use --solver auto, clarabel or scs"
)

# Linear and mixed-integer programs: by MPS files, which HiGHS reads.


def through_mps(program: Program, folder: Path) -> tuple[float, Array, Array, str]:
    """Return HiGHS's objective, point, row duals and status for the file that MOSEK wrote."""
    path = folder / "task.mps"
    Mosek().write(program, path)
    h = highspy.Highs()
    h.setOptionValue("output_flag", False)
    assert h.readModel(str(path)) == highspy.HighsStatus.kOk
    h.run()
    found = h.getSolution()
    status = h.modelStatusToString(h.getModelStatus())
    return h.getInfo().objective_function_value, np.array(found.col_value), np.array(found.row_dual), status


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", [name for name, known in KNOWN.items() if known.program.n_variables])
def test_linear_tasks(tmp_path: Path, name: str, twin: str) -> None:
    """The file's optimum, point and duals are those of the program; the constant, bounds and signs arrive."""
    known = TWINS[twin](KNOWN[name])
    objective, x, row_dual, _ = through_mps(known.program, tmp_path)
    assert objective == pytest.approx(known.objective)
    assert x == pytest.approx(known.primal)
    assert -row_dual == pytest.approx(known.dual)


def test_integer_tasks(tmp_path: Path) -> None:
    """Integers stay integers, and continuous variables continuous."""
    assert through_mps(KNAPSACK, tmp_path)[0] == pytest.approx(-13.0)
    mixed = lp([-1, -1], [], [([2, 2], 3), ([1, 0], 0.7)], [0, 0], [5, 5], c0=0.5, integer=[False, True])
    assert through_mps(mixed, tmp_path)[0] == pytest.approx(Highs().solve(mixed).objective)
    assert through_mps(INFEASIBLE["equation"], tmp_path)[3] == "Infeasible"


@pytest.mark.parametrize("seed", range(10))
def test_random_linear_tasks(tmp_path: Path, seed: int) -> None:
    """Every digit of every number arrives: HiGHS finds the same optimum from the file as from us."""
    rng = np.random.default_rng(seed)
    n, m = 7, 5
    point = rng.uniform(-1, 1, n)
    matrix = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.6)
    right = matrix @ point + np.where(np.arange(m) < 2, 0.0, rng.random(m))
    rows = {"equal": Block(0, 2, Cone.ZERO), "most": Block(2, m, Cone.NONNEG)}
    lower = np.where(rng.random(n) < 0.2, -np.inf, point - rng.random(n))
    upper = np.where(np.isfinite(lower) & (rng.random(n) < 0.2), np.inf, point + rng.random(n))
    cost = np.where(np.isfinite(lower), 1.0, -1.0) * np.where(
        np.isfinite(lower + upper), rng.normal(size=n), rng.random(n)
    )
    program = Program(cost, matrix, right, rows, lower, upper, rng.normal())
    assert through_mps(program, tmp_path)[0] == pytest.approx(Highs().solve(program).objective, abs=1e-9)


# Semidefinite programs: by CBF files, read here and solved by Clarabel.


@dataclass(frozen=True)
class Cbf:
    """A file of the conic benchmark format: how many variables of which cone, which rows, and all coefficients.

    Symmetric matrices list their lower triangle; coefficients off the diagonal count twice in inner products.
    """

    orders: list[int]
    variables: list[tuple[str, int]]
    rows: list[tuple[str, int]]
    numbers: dict[str, list[list[str]]]


def read_cbf(path: Path) -> Cbf:
    lines: Iterator[str] = iter(
        line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")
    )
    orders: list[int] = []
    cones: dict[str, list[tuple[str, int]]] = {"VAR": [], "CON": []}
    numbers: dict[str, list[list[str]]] = {}
    for keyword in lines:
        if keyword in ("VER", "OBJSENSE"):
            assert next(lines) in ("3", "4", "MIN")
        elif keyword == "PSDVAR":
            orders = [int(next(lines)) for _ in range(int(next(lines)))]
        elif keyword in cones:
            count = int(next(lines).split()[1])
            parts = [next(lines).split() for _ in range(count)]
            cones[keyword] = [(cone, int(size)) for cone, size in parts]
        elif keyword == "OBJBCOORD":
            numbers[keyword] = [[next(lines)]]
        else:
            numbers[keyword] = [next(lines).split() for _ in range(int(next(lines)))]
    return Cbf(orders, cones["VAR"], cones["CON"], numbers)


def as_program(cbf: Cbf) -> Program:
    """Write the file as a program in (x, svec X_1, svec X_2, ...), each X_k semidefinite."""
    n = sum(size for _, size in cbf.variables)
    m = sum(size for _, size in cbf.rows)
    starts = n + np.cumsum([0, *(k * (k + 1) // 2 for k in cbf.orders)])
    total = int(starts[-1])

    def column(block: str, i: str, j: str) -> tuple[int, float]:
        order = cbf.orders[int(block)]
        low, high = min(int(i), int(j)), max(int(i), int(j))
        place = low * order - low * (low - 1) // 2 + high - low
        return int(starts[int(block)]) + place, 1.0 if low == high else np.sqrt(2.0)

    c, matrix, constant = np.zeros(total), np.zeros((m, total)), np.zeros(m)
    for j, value in cbf.numbers.get("OBJACOORD", []):
        c[int(j)] += float(value)
    for k, i, j, value in cbf.numbers.get("OBJFCOORD", []):
        place, factor = column(k, i, j)
        c[place] += factor * float(value)
    for r, j, value in cbf.numbers.get("ACOORD", []):
        matrix[int(r), int(j)] += float(value)
    for r, k, i, j, value in cbf.numbers.get("FCOORD", []):
        place, factor = column(k, i, j)
        matrix[int(r), place] += factor * float(value)
    for r, value in cbf.numbers.get("BCOORD", []):
        constant[int(r)] += float(value)
    # Rows: matrix x + constant in the cone.
    rows, at = {}, 0
    for number, (cone, size) in enumerate(cbf.rows):
        if cone == "L-":
            matrix[at : at + size], constant[at : at + size] = -matrix[at : at + size], -constant[at : at + size]
        rows[f"row {number}"] = Block(at, at + size, {"L=": Cone.ZERO}.get(cone, Cone.NONNEG))
        at += size
    lower, upper = np.full(total, -np.inf), np.full(total, np.inf)
    at = 0
    for cone, size in cbf.variables:
        lower[at : at + size] = 0.0 if cone == "L+" else -np.inf
        upper[at : at + size] = 0.0 if cone == "L-" else np.inf
        at += size
    identity = np.eye(total)[n:]
    for k, (start, stop) in enumerate(pairwise(starts.tolist())):
        rows[f"X {k}"] = Block(m + start - n, m + stop - n, Cone.PSD)
    b = np.concatenate([constant, np.zeros(total - n)])
    c0 = float(cbf.numbers.get("OBJBCOORD", [["0"]])[0][0])
    return Program(c, np.vstack([-matrix, -identity]), b, rows, lower, upper, c0)


SEMIDEFINITE = {
    **{name: known[0] for name, known in KNOWN_SDP.items()},
    "cut": cut(5),
    "constant and bounds on one side": Program(
        np.array([1.0, -1.0]),
        np.array([[-1.0, 0], [0, 0], [0, 0], [1, 1], [0, 1]]),
        np.array([0.0, np.sqrt(2.0), 2.0, 3.0, 1.0]),
        {"S": Block(0, 3, Cone.PSD), "equal": Block(3, 4, Cone.ZERO), "most": Block(4, 5, Cone.NONNEG)},
        np.array([-np.inf, -1.0]),
        np.array([7.0, np.inf]),
        2.5,
    ),
}


@pytest.mark.parametrize("name", SEMIDEFINITE)
def test_semidefinite_tasks(tmp_path: Path, name: str) -> None:
    """The file holds the dual: its optimum is minus ours, its matrices are our y, its rows' multipliers our x.

    What was found goes back into the task as MOSEK's own solution, and is read as such.
    """
    program = SEMIDEFINITE[name]
    path = tmp_path / "task.cbf"
    Mosek().write(program, path)
    cbf = read_cbf(path)
    direct, found = Clarabel().solve(program), Clarabel().solve(as_program(cbf))
    assert direct.status is found.status is Status.OPTIMAL
    assert -found.objective == pytest.approx(direct.objective, abs=1e-6)
    assert found.primal is not None
    assert found.dual is not None
    task = build(program)
    n, m = task.getnumvar(), task.getnumcon()
    key, kind = package.stakey.unk, package.soltype.itr
    # The equations M z = r of the task come first, as -M z = -r: d objective / d r is our y of those.
    multipliers = found.dual[:m]
    none = np.zeros(n)
    task.putsolution(
        kind,
        [key] * m,
        [key] * n,
        [],
        np.zeros(m),
        found.primal[:n],
        multipliers,
        np.zeros(m),
        np.zeros(m),
        none,
        none,
        [],
    )
    start = n
    for j, order in enumerate(cbf.orders):
        size = order * (order + 1) // 2
        column, row = np.triu_indices(order)
        scale = np.where(row == column, 1.0, np.sqrt(0.5))
        task.putbarxj(kind, j, scale * found.primal[start : start + size])
        start += size
    solution = read(task, program, "mosek", "ok")
    assert solution.dual is not None
    if name != "cut":  # its duals are many: the bounds follow from the matrix
        assert solution.dual == pytest.approx(direct.dual, abs=1e-3)
        assert solution.primal == pytest.approx(direct.primal, abs=1e-3)
    if np.isfinite(program.lower).all():
        bound = safe_bound(program, solution.dual)
        assert direct.objective - 1e-5 <= bound <= direct.objective + 1e-5


def test_an_infeasible_program_has_an_unbounded_task(tmp_path: Path) -> None:
    """[[x, 2], [2, 1]] with x <= 3."""
    program = one([0.0, 2 * np.sqrt(2.0), 1.0], upper=3.0)
    Mosek().write(program, tmp_path / "task.cbf")
    assert Clarabel().solve(as_program(read_cbf(tmp_path / "task.cbf"))).status is Status.UNBOUNDED
    assert proves_infeasible(program, Clarabel().solve(program).ray)


def test_linear_solutions_are_read() -> None:
    """MOSEK's y is d objective / d right side; put into the task by hand, it is read with our sign."""
    known = KNOWN["mixed rows"]
    task = build(known.program)
    key, kind = package.stakey.unk, package.soltype.bas
    y = [1.0, -1.0]
    task.putsolution(
        kind, [key] * 2, [key] * 2, [], [-1.0, -2.0], [1.0, 2.0], y, [0.0] * 2, [0.0] * 2, [0.0] * 2, [0.0] * 2, []
    )
    solution = read(task, known.program, "mosek", "trm_max_time")
    assert solution.dual == pytest.approx(known.dual)
    assert solution.status in (Status.OPTIMAL, Status.LIMIT)
    # Nothing in the task: what stopped it is all that there is to say.
    empty = build(known.program)
    for code, status in (("trm_max_time", Status.LIMIT), (mosek.STOPPED, Status.INTERRUPTED), ("ok", Status.FAILED)):
        assert read(empty, known.program, "mosek", code).status is status


# What a user without a licence sees.


@pytest.mark.usefixtures("unlicensed")
@pytest.mark.parametrize(
    "program", [KNOWN["two rows"].program, KNAPSACK, KNOWN_SDP["corner"][0]], ids=["LP", "MILP", "SDP"]
)
def test_without_a_licence(program: Program, capfd: pytest.CaptureFixture[str]) -> None:
    """One line that says what is missing, where to get it and what to do without."""
    with pytest.raises(SolverUnavailable, match=f"^{ONE_LINE}$"):
        Mosek().solve(program)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("unlicensed")
def test_the_table_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without trying it."""
    found = Mosek().availability()
    assert not found
    assert found.version
    assert found.reason.startswith("no licence found; get one from https://")
    assert main(["solvers"]) == 0
    assert "no licence found" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("server", [True, False])
def test_a_licence_is_looked_for_where_mosek_does(
    monkeypatch: pytest.MonkeyPatch, unlicensed: Path, server: bool
) -> None:
    """A file that exists, or a server; whether it is any good is for MOSEK to say."""
    if server:
        monkeypatch.setenv("MOSEKLM_LICENSE_FILE", "27007@licences.example")
    else:
        unlicensed.write_text("not a licence")
    assert Mosek().availability()


def test_a_bad_licence_is_told_apart(unlicensed: Path) -> None:
    """A file that is no licence: still one line, with MOSEK's own words."""
    unlicensed.write_text("FEATURE nonsense\n")
    with pytest.raises(
        SolverUnavailable, match=r"^mosek: no (usable )?licence( found)? \(mosek\.Error 10\d\d\): [^\n]+$"
    ):
        Mosek().solve(KNOWN["two rows"].program)


@pytest.mark.usefixtures("unlicensed")
def test_the_command_line_without_a_licence(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3 and the line, no traceback."""
    arguments = ["bound", "examples/pendulum/controller.onnx", "examples/pendulum/leans_right.vnnlib"]
    assert main([*arguments, "--objective", "Y_0", "--method", "triangle", "--solver", "mosek"]) == 3
    assert "mosek: no licence found (mosek.Error 1008)" in capsys.readouterr().err


@pytest.mark.usefixtures("unlicensed")
def test_auto_goes_on_without_a_licence() -> None:
    """The message says who was taken and why not MOSEK."""
    solution = get("auto").solve(KNOWN_SDP["corner"][0])
    assert solution.status is Status.OPTIMAL
    assert solution.solver.startswith("auto: clarabel")
    assert "auto takes clarabel for this SDP; mosek: no licence found" in solution.message


def test_auto_goes_on_when_the_licence_is_bad(unlicensed: Path) -> None:
    """There is a file, so MOSEK is tried; its error is no more than a reason to go on."""
    unlicensed.write_text("FEATURE nonsense\n")
    solution = Auto().solve(KNOWN_SDP["corner"][0])
    assert solution.status is Status.OPTIMAL
    assert "mosek.Error" in solution.message


def test_auto_by_kind_and_on_failure() -> None:
    """HiGHS for what is linear; a solver that fails is followed by the next; if all fail, the last failure."""
    assert "auto takes highs for this LP" in Auto().solve(KNOWN["two rows"].program).message
    assert "auto takes highs for this MILP" in Auto().solve(KNAPSACK).message
    bad, good = Scripted(lambda _: RuntimeError("boom")), Scripted([Solution(Status.OPTIMAL, "good 1", objective=1.0)])
    solution = Auto({"LP": (bad, good)}).solve(KNOWN["two rows"].program, time_limit=5.0)
    assert solution.solver == "auto: good 1"
    assert "scripted failed: RuntimeError: boom" in solution.message
    assert Auto({"LP": (bad, bad)}).solve(KNOWN["two rows"].program).status is Status.FAILED


@pytest.mark.usefixtures("unlicensed")
def test_auto_without_any_solver() -> None:
    """An error that says why of each."""
    with pytest.raises(SolverUnavailable, match=r"no solver for this LP .*mosek: no licence found"):
        Auto({"LP": (Mosek(),)}).solve(KNOWN["two rows"].program)


# Odds and ends.


def test_writing(tmp_path: Path) -> None:
    """Formats by the name's ending; what a format cannot hold, or where nothing can be written, is one error."""
    program = KNOWN_SDP["two"][0]
    for ending in ("ptf", "task", "cbf"):
        Mosek().write(program, tmp_path / f"t.{ending}")
        assert (tmp_path / f"t.{ending}").stat().st_size > 0
    with pytest.raises(OutputError, match="symmetric matrix"):
        Mosek().write(program, tmp_path / "t.mps")
    with pytest.raises(OutputError, match="cannot write"):
        Mosek().write(program, tmp_path / "no such folder" / "t.ptf")


def test_integers_with_semidefinite_cones() -> None:
    """MOSEK has no such programs."""
    p = KNOWN_SDP["corner"][0]
    both = Program(p.c, p.A, p.b, p.rows, p.lower, p.upper, integer=np.ones(1, bool))
    with pytest.raises(UnsupportedProgram, match="mosek"):
        Mosek().solve(both)


def test_a_task_with_a_tolerance() -> None:
    """Options reach the task before the licence is asked for; a symmetric matrix keeps its entries."""
    task = build(KNOWN_SDP["off the diagonal"][0])
    assert task.getnumbarvar() == 1
    assert triangle_of(np.eye(2)).tolist() == [1.0, 0.0, 1.0]
    with pytest.raises(SolverUnavailable):
        Mosek(tolerance=1e-10).solve(KNOWN_SDP["corner"][0], time_limit=1.0)
