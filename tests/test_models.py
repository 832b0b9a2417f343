"""Networks as cvxpy and Pyomo models: the round trip, further constraints, safe bounds, plants."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf, isfinite, nan
from typing import Any

import cvxpy as cp
import numpy as np
import pyomo.environ as pyo
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from optverify import Box, Network, Query, inputs, outputs, safe_bound, solvers, to_cvxpy, to_pyomo
from optverify.bounds.crown import crown
from optverify.errors import InputError, ShapeError
from optverify.expressions import Linear
from optverify.formulations import FORMULATIONS
from optverify.formulations.program import Cone
from optverify.interval import Interval, up
from optverify.modelling import cvxpy as layer_cvxpy
from optverify.modelling import pyomo as layer_pyomo
from optverify.modelling.reading import Reading, to_program
from optverify.network import Affine, Relu
from optverify.preactivation import Bounds
from tests import oracle
from tests.strategies import boxes, networks, points

each = pytest.mark.parametrize("formulation", FORMULATIONS)
everywhere = pytest.mark.parametrize(
    ("layer", "formulation"), [*product(["cvxpy", "pyomo"], FORMULATIONS), ("cvxpy", "lifted")]
)
both = pytest.mark.parametrize("layer", ["cvxpy", "pyomo"])
quick = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)

CLAIM = 1e-5
"""How far a solver's claim may be off, relative to the sizes involved; for claims only."""


@dataclass
class Model:
    """One of the two, in the same words.

    Parameters
    ----------
    x, y : sequences of variables
    hidden : sequence of (k, j, z, a)
        What enters and leaves neuron j of the k-th Relu.
    base : cvxpy constraints or Pyomo model
    """

    x: Any
    y: Any
    hidden: list[tuple[int, int, Any, Any]]
    base: Any

    def problem(self, rows: list[Any], objective: Any, sense: str = "min") -> Any:
        """Return the model with further rows and another objective."""
        if isinstance(self.base, list):
            goal = cp.Minimize(objective) if sense == "min" else cp.Maximize(objective)
            return cp.Problem(goal, [*self.base, *rows])
        self.base.more = pyo.ConstraintList()
        for row in rows:
            self.base.more.add(row)
        self.base.goal = pyo.Objective(expr=objective, sense=pyo.minimize if sense == "min" else pyo.maximize)
        if not hasattr(self.base, "t"):  # HiGHS through Pyomo fails where duals of integer variables are asked for
            self.base.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
        return self.base


def model_of(layer: str, network: Network, region: Box, formulation: str) -> Model:
    sizes = [layer.shape[0] for layer in network.layers if isinstance(layer, Relu)]
    places = [(k, j) for k, size in enumerate(sizes) for j in range(size)]
    if layer == "cvxpy":
        m = to_cvxpy(network, region, formulation=formulation)
        assert [z.shape for z in m.z] == [a.shape for a in m.a] == [(size,) for size in sizes]
        return Model(m.x, m.y, [(k, j, m.z[k][j], m.a[k][j]) for k, j in places], m.constraints)
    b = to_pyomo(network, region, formulation=formulation)
    y = [b.y[j] for j in range(network.n_outputs)]
    return Model([b.x[i] for i in range(network.n_inputs)], y, [(k, j, b.z[k, j], b.a[k, j]) for k, j in places], b)


def solve(problem: Any) -> float | None:
    """Let a solver solve it through its layer; the claim, None where it says that there is no point, or gives up."""
    if isinstance(problem, cp.Problem):
        lifted = any(v.name() == "P" for v in problem.variables())
        try:
            problem.solve(solver=cp.CLARABEL if lifted else cp.HIGHS)
        except cp.SolverError:
            return None
        return float(problem.value) if problem.status == "optimal" else None
    results = pyo.SolverFactory("appsi_highs").solve(problem, load_solutions=False)
    if results.solver.termination_condition != pyo.TerminationCondition.optimal:
        return None
    problem.solutions.load_from(results)
    return float(pyo.value(problem.goal))


def box_of(region: Interval) -> Box:
    return Box(region.lower.tolist(), region.upper.tolist())


def rationals(values: Any) -> list[Fraction]:
    return [Fraction(v) for v in np.asarray(values).tolist()]


def exact_minimum(network: Network, region: Interval, rows: list[Linear], objective: Linear) -> Fraction | None:
    """Return the least objective over inputs with all rows <= 0, by every activation pattern; None if there is none."""
    n, best = network.n_inputs, None
    lower, upper = rationals(region.lower), rationals(region.upper)

    def form(linear: Linear, ys: list[oracle.Vector]) -> oracle.Vector:
        found = [Fraction(0)] * n + [linear.constant]
        for (kind, index), a in linear.terms.items():
            if kind == "X":
                found[index] += a
            else:
                found = [v + a * w for v, w in zip(found, ys[index], strict=True)]
        return found

    for pattern, ys in oracle._pieces(oracle.read(network), lower, upper):
        cost = form(objective, ys)
        value = oracle._least(cost[:-1], [*pattern, *(form(row, ys) for row in rows)], lower, upper)
        if value is not None and (best is None or value + cost[-1] < best):
            best = value + cost[-1]
    return best


def written(linear: Linear, model: Model) -> Any:
    """Write a form with coefficients that floats hold in the layer's words."""
    total: Any = float(linear.constant)
    for (kind, index), a in linear.terms.items():
        total = total + float(a) * (model.x if kind == "X" else model.y)[index]
    return total


@st.composite
def forms(draw: st.DrawFn, network: Network) -> Linear:
    names = [("X", i) for i in range(network.n_inputs)] + [("Y", j) for j in range(network.n_outputs)]
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    coefficient = st.sampled_from([-2.0, -1.0, 0.5, 1.0, 0.1, 3.7])
    return Linear({name: Fraction(draw(coefficient)) for name in some}, Fraction(draw(st.integers(-8, 8)), 4))  # type: ignore[misc]


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@everywhere
@quick
@given(st.data())
def test_safe_bound_is_below_the_exact_optimum(layer: str, formulation: str, data: st.DataObject) -> None:
    """With random linear constraints on inputs and outputs, feasible or not; the model's claim is near or below it."""
    network = data.draw(networks(max_neurons=4, max_inputs=2))
    region = data.draw(boxes(network.n_inputs))
    rows = data.draw(st.lists(forms(network), min_size=0, max_size=2))
    objective = data.draw(forms(network))
    exact = exact_minimum(network, region, rows, objective)
    model = model_of(layer, network, box_of(region), formulation)
    problem = model.problem([written(row, model) <= 0 for row in rows], written(objective, model))
    claim = solve(problem)
    answer = safe_bound(problem)
    assert isfinite(answer.bound) or answer.infeasible  # everything is bounded
    assert exact is None or Fraction(answer.bound) <= exact
    assert exact is not None or formulation != "bigm" or answer.infeasible
    if exact is not None and claim is not None:
        size = 1.0 + abs(float(exact))
        assert claim <= float(exact) + CLAIM * size
        if formulation == "bigm":
            assert claim >= float(exact) - CLAIM * size
            assert answer.bound >= float(exact) - CLAIM * size
        elif formulation == "lifted":  # at least as tight as the triangle's
            other = model_of(layer, network, box_of(region), "triangle")
            looser = safe_bound(other.problem([written(row, other) <= 0 for row in rows], written(objective, other)))
            assert answer.bound >= looser.bound - CLAIM * size
        else:
            assert answer.bound >= claim - CLAIM * size
            assert answer.claim == claim


@everywhere
@quick
@given(st.data())
def test_every_trace_is_a_point_of_the_model(layer: str, formulation: str, data: st.DataObject) -> None:
    """Exactly, with layers in any order and slack; constraints on hidden values that it satisfies do not hide it."""
    slack = formulation != "lifted" and data.draw(st.booleans())
    network = data.draw(networks(scaled=True, slack=slack, odd=True, max_neurons=5))
    region = data.draw(boxes(network.n_inputs))
    values = oracle.trace(oracle.read(network, data.draw(st.integers(0, 3))), data.draw(points(region)))
    model = model_of(layer, network, box_of(region), formulation)
    rows: list[Any] = []
    objective: Any = 1.0 * model.y[0]
    reached = values[-1][0]
    for k, j, z, a in model.hidden:
        position = network.relus[k]
        entering, leaving = values[position][j], values[position + 1][j]
        if data.draw(st.integers(0, 2)) == 0:
            # Dyadic numbers on the trace's side.
            for quantity, value in ((z, entering), (a, leaving)):
                rows += [quantity <= float(value) + 2.0**-9 * abs(float(value)) + 2.0**-20]
            objective = objective + 2 * a - z
            reached += 2 * leaving - entering
    problem = model.problem(rows, objective)
    reading = layer_cvxpy.read(problem) if layer == "cvxpy" else layer_pyomo.read(problem)
    bounds = crown(network, region.take(None))[0].take(0)
    unstable = [np.flatnonzero(mask).tolist() for mask in bounds.unstable(network)]
    w = scaled(region, bounds, unstable, network, values)
    products = [a * b for i, a in enumerate(w) for b in w[i:]]
    point = trace_of(reading, network, values, unstable, products)
    for row in reading.rows:
        for form in row.forms:
            s = form.value(point, [])
            assert row.cone is Cone.PSD or (s == 0 if row.cone is Cone.ZERO else s >= 0), row.name
        if row.cone is Cone.PSD:
            assert [form.value(point, []) for form in row.forms] == products
    assert reading.objective.value(point, []) == reached
    answer = safe_bound(problem)
    assert Fraction(answer.bound) <= reached


def scaled(
    region: Interval, bounds: Bounds, unstable: list[list[int]], network: Network, values: list[oracle.Vector]
) -> list[Fraction]:
    """Return 1, the inputs that vary and what leaves unstable neurons, scaled to [-1, 1] as the lifted model has it."""
    w = [Fraction(1)]
    centre = 0.5 * region.lower + 0.5 * region.upper
    radius = up(np.maximum(up(centre - region.lower), up(region.upper - centre)))
    for x, c, r, varies in zip(values[0], centre, radius, region.lower < region.upper, strict=True):
        w += [(x - Fraction(c)) / Fraction(r)] if varies else []
    for k, position in enumerate(network.relus):
        w += [values[position + 1][j] / Fraction(bounds.layers[k].upper[j]) * 2 - 1 for j in unstable[k]]
    assert all(abs(v) <= 1 for v in w)
    return w


def trace_of(
    reading: Reading,
    network: Network,
    values: list[oracle.Vector],
    unstable: list[list[int]],
    products: list[Fraction],
) -> list[Fraction]:
    """Return the columns of a reading at a forward trace, by the names of the variables."""
    affines = [p for p, layer in enumerate(network.layers) if isinstance(layer, Affine)]
    point = []
    for name in reading.names:
        base, *index = name.replace("]", "").replace("[", ",").split(",")
        place = [int(i) for i in index]
        if base in ("x", "y"):
            point.append(values[0 if base == "x" else -1][place[0]])
        elif base == "P":
            point.append(products[place[0]])
        elif base == "h":
            point.append(values[affines[place[0]] + 1][place[1]])
        else:
            k, j = place
            position = network.relus[k]
            if base != "z" and "," not in name:  # in cvxpy, the place among the unstable ones
                j = unstable[k][j]
            entering, leaving = values[position][j], values[position + 1][j]
            point.append({"z": entering, "relu": leaving, "switch": Fraction(int(entering > 0))}[base])
    return point


TWO = Network.from_arrays(
    [([[1.0, -1.0], [1.0, 1.0], [-2.0, 0.5]], [0.0, -0.5, 0.25]), ([[1.0, 1.0, -1.0], [0.5, -1.0, 1.0]], [0.1, -0.2])],
    name="two",
)
UNIT = Box([-1, -1], [1, 1])


@both
@each
def test_round_trip(layer: str, formulation: str) -> None:
    """Objective by name, model, solver, bound: as the program through its own adapter, and around the exact optimum."""
    x, y = inputs(2), outputs(2)
    objective = y[0] - "0.3" * y[1] + x[0] / 4 + 1
    for sense, sign in (("min", 1), ("max", -1)):
        exact = exact_minimum(TWO, UNIT.outward, [], sign * objective)
        assert exact is not None
        make = to_cvxpy if layer == "cvxpy" else to_pyomo
        model = make(TWO, UNIT, objective, sense=sense, formulation=formulation)  # type: ignore[arg-type]
        problem = model.problem if layer == "cvxpy" else model
        reading = layer_cvxpy.read(problem) if layer == "cvxpy" else layer_pyomo.read(problem)
        other = solvers.get("highs").solve(to_program(reading)[0])
        if layer == "cvxpy":
            problem.solve(solver=cp.HIGHS)
        else:
            pyo.SolverFactory("appsi_highs").solve(problem)
        answer = safe_bound(model)
        assert answer.sense == sense
        assert answer.claim == pytest.approx(sign * other.objective)
        assert sign * Fraction(answer.bound) <= exact
        assert answer.gap == pytest.approx(0.0, abs=1e-5)
        if formulation == "bigm":
            assert answer.claim == pytest.approx(float(sign * exact))
            relaxed = safe_bound(model, programs=1)
            assert sign * relaxed.bound <= sign * answer.bound
            assert sense == "min" or (relaxed.gap or 0.0) > 0.1


@both
def test_a_query_of_one_case(layer: str) -> None:
    """Its objective is the largest left side; a bound above 0 verifies it. Decimals count as they are written."""
    y = outputs(2)
    query = Query.never(UNIT, (y[0] >= "7.1") & (y[1] >= "0.7"), 2)
    make = to_cvxpy if layer == "cvxpy" else to_pyomo
    answer = safe_bound(make(TWO, query, formulation="triangle"))
    steps = oracle.read(TWO)
    shifted = Network((*TWO.layers, Affine(-np.eye(2), np.zeros(2))))
    exact = exact_minimum(TWO, UNIT.outward, [], -y[0] + "7.1")
    assert steps
    assert shifted.n_outputs == 2
    assert exact is not None
    assert answer.bound > 0
    assert Fraction(answer.bound) <= oracle.minimum_of_largest(
        oracle.read(Network((*TWO.layers, Affine(-np.eye(2), np.array([7.1 + 1e-9, 0.7 + 1e-9]))))),
        rationals(UNIT.outward.lower),
        rationals(UNIT.outward.upper),
        (0, 1),
    )
    nothing = Query.never(UNIT, (y[0] >= 0) & (y[0] >= 0), 2)
    assert safe_bound(make(TWO, nothing)).bound <= 0


def test_lifted_is_tighter_and_only_in_cvxpy() -> None:
    """P is the matrix of products; the bound lies between the triangle's and the optimum."""
    y = outputs(2)
    triangle, lifted, bigm = (
        to_cvxpy(TWO, UNIT, y[0] - y[1], sense="max", formulation=name) for name in ("triangle", "lifted", "bigm")
    )
    lifted.problem.solve(solver=cp.CLARABEL)
    assert lifted.P.shape == (6, 6)
    assert lifted.P.value[0, 0] == pytest.approx(1.0)
    assert np.linalg.eigvalsh(lifted.P.value).min() > -1e-6
    assert triangle.P is None
    bounds = [safe_bound(m).bound for m in (bigm, lifted, triangle)]
    assert bounds[0] < bounds[1] < bounds[2] - 0.1
    with pytest.raises(InputError, match="Pyomo has no semidefinite constraints"):
        to_pyomo(TWO, UNIT, formulation="lifted")
    loose = Network((Affine(np.ones((1, 2)), np.zeros(1), slack=np.array([1e-3])), Relu(np.array([True]))))
    with pytest.raises(InputError, match="coefficients floats hold"):
        to_cvxpy(loose, UNIT, formulation="lifted")


@both
def test_what_cannot_be_written(layer: str) -> None:
    make = to_cvxpy if layer == "cvxpy" else to_pyomo
    y = outputs(2)
    with pytest.raises(InputError, match="no formulation 'octagon'"):
        make(TWO, UNIT, formulation="octagon")
    with pytest.raises(InputError, match="sense"):
        make(TWO, UNIT, "Y_0", sense="most")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 cases"):
        make(TWO, Query.always(UNIT, (y[0] <= 1) & (y[1] <= 1), 2))
    with pytest.raises(InputError, match="objective of its own"):
        make(TWO, Query.always(UNIT, y[0] <= 1, 2), "Y_0")
    with pytest.raises(ShapeError):
        make(TWO, Query.always(UNIT, outputs(3)[0] <= 1, 3))
    with pytest.raises(ShapeError):
        make(TWO, Box([0], [1]), "Y_0")
    with pytest.raises(ShapeError, match="Y_5"):
        make(TWO, UNIT, "Y_5")


@pytest.mark.parametrize("model", [None, TWO, cp.Variable(), cp.Minimize(0), pyo.Var(), "problem"])
def test_what_is_no_model(model: Any) -> None:
    with pytest.raises(InputError, match=r"a cvxpy.Problem or a Pyomo model is needed"):
        safe_bound(model)


@everywhere
def test_constraints_that_leave_nothing_are_proved_to(layer: str, formulation: str) -> None:
    """Plus infinity is a theorem: for a minimum, for a maximum, and without a solver that said so."""
    for sense in ("min", "max"):
        model = model_of(layer, TWO, UNIT, formulation)
        problem = model.problem([model.y[0] >= 50], model.y[1], sense)
        answer = safe_bound(problem)
        assert answer.infeasible
        assert answer.bound == (inf if sense == "min" else -inf)
        assert "no point satisfies the model" in str(answer)
        assert answer.to_dict()["bound"] is None
    model = model_of(layer, TWO, UNIT, formulation)
    problem = model.problem([model.x[0] >= 2, model.x[1] >= 2], model.y[1])
    assert safe_bound(problem).infeasible


@both
@settings(quick, max_examples=10)
@given(st.data())
def test_any_duals_are_safe(layer: str, data: st.DataObject) -> None:
    """NaN, 1e300, wrong signs, permuted: what the model's solver left is advice."""
    model = model_of(layer, TWO, UNIT, "triangle")
    problem = model.problem([model.x[0] >= 2 * model.x[1]], model.y[0] - model.y[1])
    assert solve(problem) is not None
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    exact = exact_minimum(TWO, UNIT.outward, [Linear({("X", 0): -1, ("X", 1): 2})], outputs(2)[0] - outputs(2)[1])  # type: ignore[dict-item]
    assert exact is not None

    def spoil(values: Any) -> Any:
        change = data.draw(st.sampled_from(["keep", "negate", "noise", "huge", "infinite", "lost"]))
        table = {
            "keep": values,
            "negate": -values,
            "noise": values + rng.normal(size=values.shape),
            "huge": values * 1e300,
            "infinite": np.full(values.shape, data.draw(st.sampled_from([inf, -inf]))),
            "lost": np.full(values.shape, nan),
        }
        return table[change]

    if layer == "cvxpy":
        for constraint in problem.constraints:
            constraint.dual_variables[0].save_value(spoil(np.asarray(constraint.dual_value)))
    else:
        for constraint in list(problem.dual.keys()):
            problem.dual[constraint] = float(spoil(np.array(problem.dual[constraint])))
    answer = safe_bound(problem)
    assert Fraction(answer.bound) <= exact
    assert answer.bound > -inf


@both
def test_variables_that_are_the_users(layer: str) -> None:
    """Bounded by themselves, by what rows imply, or on the side that matters; else the answer says which is not."""
    model = model_of(layer, TWO, UNIT, "triangle")
    if layer == "cvxpy":
        bounded, implied, soft, free = (
            cp.Variable(bounds=[-1, 1], name="bounded"),
            cp.Variable(name="implied"),
            cp.Variable(nonneg=True, name="soft"),
            cp.Variable(name="free"),
        )
    else:
        m = model.base
        m.bounded, m.implied, m.free = pyo.Var(bounds=(-1, 1)), pyo.Var(), pyo.Var()
        m.soft = pyo.Var(domain=pyo.NonNegativeReals)
        bounded, implied, soft, free = m.bounded, m.implied, m.soft, m.free
    rows = [implied == 0.1 * model.x[0] + 0.3 * bounded, model.y[0] + soft >= 3]
    problem = model.problem(rows, model.y[1] + implied + 100 * soft)
    assert isfinite(safe_bound(problem).bound)
    model = model_of(layer, TWO, UNIT, "triangle")
    if layer == "pyomo":
        model.base.free = free = pyo.Var()
    answer = safe_bound(model.problem([model.y[0] + free >= 3], model.y[1] + free - model.x[0]), solver="highs")
    assert answer.bound == -inf or answer.bound <= answer.claim  # type: ignore[operator]
    model = model_of(layer, TWO, UNIT, "triangle")
    if layer == "pyomo":
        model.base.free = free = pyo.Var()
    answer = safe_bound(model.problem([], model.y[1] + free), solver="highs")
    assert answer.bound == -inf
    assert "free" in answer.reason


def test_semidefinite_constraints_of_a_user() -> None:
    """[[1, x], [x, 1]] psd: x >= -1; any duals of the matrix are safe; no network is needed."""
    x = cp.Variable(bounds=[-9, 9])
    problem = cp.Problem(cp.Minimize(x), [cp.bmat([[1, x], [x, 1]]) >> 0])
    assert -1 - 1e-6 < safe_bound(problem, solver="clarabel").bound <= -1
    problem.solve(solver=cp.CLARABEL)
    answer = safe_bound(problem)
    assert answer.advice == "the model's own solver"
    assert -1 - 1e-6 < answer.bound <= -1
    problem.constraints[0].dual_variables[0].save_value(np.array([[-1.0, nan], [nan, 3.0]]))
    assert safe_bound(problem).bound <= -1


@each
def test_a_plant_with_the_network_as_a_block(formulation: str) -> None:
    """x+ = A x + B u(x), two steps, the same network twice: its reach, solved by HiGHS, and what is proved of it."""
    A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([0.005, 0.1])
    controller = Network.from_arrays([([[1.0, 1.5], [-1.0, -1.5]], [0.0, 0.0]), ([[-1.0, 1.0]], [0.0])])
    plant = pyo.ConcreteModel()
    plant.steps = pyo.RangeSet(0, 1)
    plant.x = pyo.Var(range(3), range(2))
    region = Box([-2, -2], [2, 2])
    plant.nn = pyo.Block(plant.steps, rule=lambda *_: to_pyomo(controller, region, formulation=formulation))
    plant.start = pyo.Constraint(range(2), rule=lambda m, i: (-1, m.x[0, i], 1))
    plant.input = pyo.Constraint(plant.steps, range(2), rule=lambda m, k, i: m.nn[k].x[i] == m.x[k, i])
    plant.dynamics = pyo.Constraint(
        plant.steps,
        range(2),
        rule=lambda m, k, i: m.x[k + 1, i] == sum(A[i, j] * m.x[k, j] for j in range(2)) + B[i] * m.nn[k].y[0],
    )
    plant.reach = pyo.Objective(expr=plant.x[2, 1] + 0.5 * plant.x[2, 0], sense=pyo.maximize)
    pyo.SolverFactory("appsi_highs").solve(plant)
    answer = safe_bound(plant)
    assert answer.claim == pytest.approx(pyo.value(plant.reach))

    def after(state: list[Fraction]) -> Fraction:
        for _ in range(2):
            (u,) = controller.exact(state)
            state = [
                sum(Fraction(A[i, j]) * state[j] for j in range(2)) + Fraction(B[i]) * u for i in range(2)
            ]  # fmt: skip
        return state[1] + state[0] / 2

    grid = [Fraction(i, 8) for i in range(-8, 9)]
    reached = max(after([p, v]) for p in grid for v in grid)
    assert reached <= Fraction(answer.bound)
    assert answer.claim == pytest.approx(float(reached) if formulation == "bigm" else answer.bound, abs=1e-6)
    # A copy is a model like any other.
    assert safe_bound(plant.clone()).bound == answer.bound


def test_several_networks_in_one_cvxpy_problem() -> None:
    """The difference of a network and itself at two nearby inputs."""
    first, second = (to_cvxpy(TWO, UNIT, formulation="bigm") for _ in range(2))
    near = [first.x - second.x <= 2.0**-4, second.x - first.x <= 2.0**-4]
    problem = cp.Problem(cp.Maximize(first.y[0] - second.y[0]), [*first.constraints, *second.constraints, *near])
    problem.solve(solver=cp.HIGHS)
    answer = safe_bound(problem)
    assert answer.claim is not None
    assert 0 < answer.claim <= answer.bound


def test_neurons_that_are_stable_or_passed() -> None:
    """A is z, 0 or a variable; t is 1, 0 or a variable: at a fixed input both are the network's."""
    layers = (
        Affine(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, -1.0]]), np.array([5.0, -9.0, 0.0, 0.0])),
        Relu(np.array([True, True, True, False])),
        Affine(np.ones((1, 4)), np.zeros(1)),
    )
    net, point = Network(layers), np.array([-0.5, 0.75])
    values = [4.5, 0.0, 0.75, -1.25]
    m = to_cvxpy(net, UNIT, formulation="bigm")
    cp.Problem(cp.Minimize(0), [*m.constraints, m.x == point]).solve(solver=cp.HIGHS)
    assert m.a[0].value == pytest.approx(values)
    assert m.t[0].value == pytest.approx([1, 0, 1, 1])
    assert m.y.value == pytest.approx([4.0])
    assert to_cvxpy(net, UNIT).t == ()
    assert "relu[0]" in repr(m)
    b = to_pyomo(net, UNIT, "Y_0", formulation="bigm")
    for i in range(2):
        b.x[i].fix(point[i])
    pyo.SolverFactory("appsi_highs").solve(b)
    assert [pyo.value(b.a[0, j]) for j in range(4)] == pytest.approx(values)
    assert [pyo.value(b.t[0, j]) for j in range(4)] == pytest.approx([1, 0, 1, 1])
    assert list(b.relu) == [(0, 2)]
    assert safe_bound(b).bound == pytest.approx(4.0)


def test_constraints_on_hidden_values_count() -> None:
    """At most one of the unstable neurons active, as only bigm can say; and what it proves is shown in a notebook."""
    m = to_cvxpy(TWO, UNIT, formulation="bigm")
    free = safe_bound(cp.Problem(cp.Maximize(m.y[0]), m.constraints))
    few = safe_bound(cp.Problem(cp.Maximize(m.y[0]), [*m.constraints, cp.sum(m.t[0]) <= 0.25]))
    assert few.bound < free.bound - 0.1
    assert few.claim is not None
    assert repr(few).startswith("<ModelBound: max <= ")
    assert "proved" in few._repr_html_()
    assert "relaxation" not in str(few)


def test_solvers_of_the_safe_bound() -> None:
    """By name; a solver that stops early leaves what it has; one that does not exist is an error."""
    problem = to_cvxpy(TWO, UNIT, "Y_0").problem
    bounds = [safe_bound(problem, solver=name).bound for name in ("highs", "clarabel", "scs", "pyomo", "cvxpy:SCIPY")]
    assert bounds == pytest.approx([bounds[0]] * 5, abs=1e-2)
    assert max(bounds) <= float(exact_minimum(TWO, UNIT.outward, [], outputs(2)[0]) or 0)
    with pytest.raises(InputError, match="no solver"):
        safe_bound(problem, solver="abacus")
    stopped = safe_bound(problem, solver="highs", time_limit=0.0)
    assert stopped.bound <= bounds[0] + 1e-6


def test_numbers_out_of_range() -> None:
    """What overflows is an error or proves nothing."""
    net = Network.from_arrays([([[1e200, 1e200]], [0.0]), ([[1e200]], [0.0])])
    for make in (to_cvxpy, to_pyomo):
        assert safe_bound(make(net, UNIT, "Y_0", sense="max"), solver="highs").bound == inf
        assert safe_bound(make(net, UNIT, "Y_0"), solver="highs").bound <= 0
        with pytest.raises(InputError, match="beyond the range of float64"):
            make(TWO, UNIT, 10**400 * outputs(2)[0])


def controller() -> tuple[Network, Box]:
    """Make a network of some tens of unstable neurons."""
    rng = np.random.default_rng(0)
    steps = [(rng.normal(size=(b, a)) / a**0.5, 0.2 * rng.normal(size=b)) for a, b in ((3, 8), (8, 8), (8, 1))]
    return Network.from_arrays(steps), Box([-1] * 3, [1] * 3)


WHAT_IF = (0.0, 0.05, 0.1, 0.15)


@pytest.mark.parametrize("solver", [cp.HIGHS, cp.SCS])
def test_what_if_in_cvxpy(solver: str) -> None:
    """A parameter changes, the model's solver starts from where it was, and the bound is as good."""
    iterations, bounds = {}, {}
    for warm in (False, True):
        m, least = to_cvxpy(*controller()), cp.Parameter(value=0.0)
        family = cp.Problem(cp.Maximize(m.y[0]), [*m.constraints, m.x[0] >= m.x[1] + least])
        assert family.is_dpp()
        for value in WHAT_IF:
            least.value = value
            family.solve(solver=solver, warm_start=warm)
            iterations[warm, value] = family.solver_stats.num_iters
            answer = safe_bound(family)
            assert answer.programs == 0
            bounds[warm, value] = answer.bound
    later = [sum(iterations[warm, value] for value in WHAT_IF[1:]) for warm in (False, True)]
    assert later[1] < later[0] / 2 if solver == cp.HIGHS else later[1] < later[0]
    for value in WHAT_IF:
        assert bounds[True, value] == pytest.approx(bounds[False, value], abs=1e-8 if solver == cp.HIGHS else 1e-2)


def test_what_if_in_pyomo() -> None:
    """The same solver object, asked again after a mutable parameter changed, goes on from its basis."""
    iterations, bounds = {}, {}
    for warm in (False, True):
        m = to_pyomo(*controller())
        m.least = pyo.Param(initialize=0.0, mutable=True)
        m.more = pyo.Constraint(expr=m.x[0] >= m.x[1] + m.least)
        m.goal = pyo.Objective(expr=m.y[0], sense=pyo.maximize)
        m.dual = pyo.Suffix(direction=pyo.Suffix.IMPORT)
        solver = pyo.SolverFactory("appsi_highs")
        for value in WHAT_IF:
            m.least = value
            solver = solver if warm else pyo.SolverFactory("appsi_highs")
            solver.solve(m)
            iterations[warm, value] = solver._solver_model.getInfo().simplex_iteration_count
            bounds[warm, value] = safe_bound(m).bound
    later = [sum(iterations[warm, value] for value in WHAT_IF[1:]) for warm in (False, True)]
    assert later[1] < later[0] / 2
    for value in WHAT_IF:
        assert bounds[True, value] == pytest.approx(bounds[False, value], abs=1e-8)


@both
def test_what_if_with_integers(layer: str) -> None:
    """`start` keeps splits and bases: fewer programs and iterations, for other numbers and for another constraint."""
    m = model_of(layer, *controller(), "bigm")
    model = m.problem([m.x[0] >= m.x[1]], m.y[0], "max")
    first = safe_bound(model)
    assert first.programs > 10
    same = safe_bound(model, start=first)
    assert same.bound <= first.bound + 1e-6 * max(1.0, abs(first.bound))
    assert same.iterations == 0
    assert same.programs < first.programs / 2
    changed = m.problem([m.x[0] >= m.x[1], m.x[2] <= 0.5], m.y[0], "max") if layer == "cvxpy" else model
    if layer == "pyomo":
        model.more.add(m.x[2] <= 0.5)
    cold, warm = safe_bound(changed), safe_bound(changed, start=first)
    assert warm.bound == pytest.approx(cold.bound, abs=2e-6 * max(1.0, abs(cold.bound)))
    assert warm.iterations < cold.iterations
    assert safe_bound(to_cvxpy(*controller(), "Y_0"), start=first).bound <= 1e6  # of another size: a cold start
    assert pickle.loads(pickle.dumps(first)) == first
    assert json.dumps(first.to_dict())
