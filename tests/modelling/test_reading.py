"""Models are read exactly, and their programs are outward rounded."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import inf, nan
from typing import Any

import cvxpy as cp
import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from optverify.errors import InputError
from optverify.expressions import Linear
from optverify.formulations.program import Cone
from optverify.modelling import cvxpy as layer_cvxpy
from optverify.modelling import pyomo as layer_pyomo
from optverify.modelling.forms import above, column, range_of
from optverify.modelling.reading import Reading, Row, bounds_row, to_program
from optverify.safe.program import proves_infeasible, safe_bound

X = cp.Variable(3, name="x")
M = cp.Variable((2, 3), name="m")
S = cp.Variable(name="s")
P = cp.Parameter((2,), value=[2.0, -0.5], name="p")
A = np.array([[1.0, 0.0, -2.0], [0.25, 3.0, 0.0]])

AFFINE: dict[str, Callable[[], Any]] = {
    "sum of three scalars": lambda: S + X[0] + 2 + S,
    "promoted": lambda: S + X - 1,
    "scaled": lambda: 3 * X / 4 - X * 0.5,
    "matrix": lambda: A @ X,
    "sparse": lambda: sp.csc_array(A) @ X,
    "sparse dot rows": lambda: sp.csr_matrix(A) @ M.T,
    "from the right": lambda: M @ A.T,
    "vector from the right": lambda: X @ np.array([1.0, 2.0, 3.0]),
    "vector from the left": lambda: np.array([1.0, -1.0]) @ M,
    "three factors": lambda: P @ (A @ X),
    "constant expressions": lambda: (cp.Constant(A) @ np.ones(3)) @ M,
    "by a form without variables": lambda: (cp.Constant([1.0, 2.0]) + P) @ M,
    "elementwise": lambda: cp.multiply(A, M) - cp.multiply(M, 2),
    "slices": lambda: X[::2] + X[[2, 0]] + M[0, 1:],
    "one entry": lambda: M[1, 2] - X[-1],
    "mask": lambda: X[np.array([True, False, True])],
    "new axis": lambda: X[None, :] + M,
    "sum": lambda: cp.sum(M) + cp.sum(M, axis=0)[1] + cp.sum(M, axis=1, keepdims=True),
    "mean": lambda: cp.mean(cp.hstack([X, S])),
    "stacked": lambda: cp.vstack([X, M]) @ np.eye(3),
    "beside": lambda: cp.hstack([M, M.T[:2, :]]),
    "blocks": lambda: cp.bmat([[M, M], [M, -M]]),
    "reshaped by columns": lambda: cp.reshape(M, (3, 2), order="F"),
    "reshaped by rows": lambda: cp.reshape(M, (6,), order="C"),
    "flattened": lambda: cp.vec(M, order="F") + M.flatten(order="C"),
    "transposed": lambda: M.T + cp.swapaxes(M, 0, 1),
    "diagonal": lambda: cp.diag(M[:, :2]) + cp.trace(M[:, 1:]),
    "broadcast": lambda: cp.broadcast_to(X, (2, 3)),
    "joined": lambda: cp.concatenate([X, X]),
    "running sum": lambda: cp.cumsum(M, axis=1),
    "differences": lambda: cp.diff(X),
    "parameter": lambda: cp.multiply(P, X[:2]) / 2,
    "half": lambda: X @ np.array([0.5, 0.25, 0.0]) - S / 8,
}


@pytest.mark.parametrize("name", AFFINE)
def test_cvxpy_expressions_are_read_as_cvxpy_means_them(name: str) -> None:
    """At points and with constants whose sums and products floats hold, the values agree exactly."""
    expression = AFFINE[name]()
    reader = layer_cvxpy._Reader()
    forms = reader.forms(expression)
    assert forms.shape == expression.shape
    rng = np.random.default_rng(1)
    for variable in (X, M, S):
        variable.value = rng.integers(-8, 9, variable.shape) / 4
    values = {v.name() + (str(list(at)) if at else ""): v.value[at] for v in (X, M, S) for at in np.ndindex(v.shape)}
    point = [Fraction(float(values[name])) for name in reader.names]
    found = [form.value(point, []) for form in forms.flat]
    assert found == [Fraction(v) for v in np.ravel(expression.value).tolist()]


def test_nothing_is_rounded_on_the_way() -> None:
    """0.1 * (0.3 * x) + 0.1 x - x / 3 has the exact coefficient, of the floats that are written."""
    tenth, third = Fraction(0.1), Fraction(0.3)
    x = cp.Variable(name="x")
    form = layer_cvxpy._Reader().forms(0.1 * (0.3 * x) + np.array([0.1, 1e-30]) @ cp.hstack([x, x]) - x / 3).item()
    assert form.terms == {("X", 0): tenth * third + tenth + Fraction(1e-30) - Fraction(1, 3)}
    model = pyo.ConcreteModel()
    model.x, model.p = pyo.Var(), pyo.Param(mutable=True, initialize=0.1)
    read = layer_pyomo._Reader().form("it", model.p * (0.3 * model.x) + 0.1 * model.x - model.x / 3)
    # Pyomo itself makes 1 / 3 a float when x / 3 is written.
    assert read.terms == {("X", 0): tenth * third + tenth - Fraction(1 / 3)}


def test_pyomo_expressions_are_read_as_pyomo_means_them() -> None:
    """Sums, products with constants, quotients, named expressions, parameters, negations."""
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(range(3)), pyo.Var()
    m.p, m.q = pyo.Param(initialize=0.5), pyo.Param(range(2), initialize={0: 2.0, 1: -3.0}, mutable=True)
    m.e = pyo.Expression(expr=m.x[0] - m.y + 1)
    expressions = [
        3 * m.x[0] - (m.x[1] + 2 * m.y) / 4 * m.q[0],
        pyo.quicksum(m.q[i] * m.x[i] for i in range(2)) - sum(m.x[i] for i in range(3)),
        m.p * m.e - m.q[0] * m.q[1] * m.e,
        -(m.e - 2) * (m.q[1] + 1),
        m.y,
        m.q[1] * m.q[1] + 0.25,
        (m.x[0] + m.x[1]) / (m.q[0] * 4),
        pyo.summation(m.x) + pyo.dot_product({0: 1, 1: 2, 2: 4}, m.x),
    ]
    m.x[0], m.x[1], m.x[2], m.y = 1.25, -2.5, 0.75, 3.0
    for expression in expressions:
        reader = layer_pyomo._Reader()
        form = reader.form("it", expression)
        point = [Fraction(pyo.value(m.find_component(name))) for name in reader.names]
        assert form.value(point, []) == Fraction(pyo.value(expression))


NUMBERS = st.one_of(
    st.fractions(min_value=-9, max_value=9, max_denominator=1000),
    st.floats(-1e9, 1e9).map(Fraction),
    st.sampled_from([Fraction(1, 3 * 2**1080), Fraction(2**60 + 1), Fraction(10) ** 300, Fraction(0)]),
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_floats_are_nowhere_below_the_form(data: st.DataObject) -> None:
    """On the box, exactly; variables with one bound and a coefficient that is no float are paid for at that end."""
    n = data.draw(st.integers(1, 4))
    form = Linear({("X", j): data.draw(NUMBERS) for j in range(n)}, data.draw(NUMBERS))
    ends = [sorted((data.draw(st.floats(-1e3, 1e3)), data.draw(st.floats(-1e3, 1e3)))) for _ in range(n)]
    low = [-inf if data.draw(st.integers(0, 5)) == 0 else a for a, _ in ends]
    high = [inf if low[j] > -inf and data.draw(st.integers(0, 5)) == 0 else b for j, (_, b) in enumerate(ends)]
    floats, constant = above(form, low, high, [f"x{j}" for j in range(n)])
    for _ in range(4):
        point = [
            Fraction(data.draw(st.floats(max(a, -1e6), min(b, 1e6)))) if data.draw(st.booleans()) else
            Fraction(data.draw(st.sampled_from([max(a, -1e300), min(b, 1e300)])))
            for a, b in zip(low, high, strict=True)
        ]  # fmt: skip
        value = form.value(point, [])
        assert value <= Fraction(constant) + sum(Fraction(f) * point[j] for j, f in floats.items())
        least, most = range_of(form, low, high)
        assert least == -inf or Fraction(least) <= value
        assert most == inf or value <= Fraction(most)


def test_a_free_variable_needs_a_coefficient_that_is_a_float() -> None:
    third = Linear({("X", 0): Fraction(1, 3)})
    with pytest.raises(InputError, match="v has a coefficient that no float64 holds, and no bounds"):
        above(third, [-inf], [inf], ["v"])
    assert above(Linear({("X", 0): Fraction(1, 4)}), [-inf], [inf], ["v"]) == ({0: 0.25}, 0.0)
    for huge in (Linear({}, Fraction(10) ** 400), Linear({("X", 0): Fraction(10) ** 400})):
        with pytest.raises(InputError, match="beyond the range"):
            above(huge, [0.0], [1.0], ["v"])


def reading(n: int, rows: list[Row], objective: Linear, integer: list[bool] | None = None) -> Reading:
    return Reading([f"x{j}" for j in range(n)], integer or [False] * n, rows, objective, False, None)


def test_conditions_on_one_variable_become_bounds() -> None:
    """Rounded outward; one that would leave nothing stays a row, which has a ray."""
    x = column(0)
    program, dual = to_program(reading(1, [Row("r", [3 * x - 1, 2 - x, x], Cone.NONNEG, np.ones(3))], x))
    assert program.n_rows == 0
    assert dual is not None
    assert Fraction(float(program.lower[0])) <= Fraction(1, 3) <= Fraction(np.nextafter(program.lower[0], inf))
    assert program.upper[0] == 2.0
    program, _ = to_program(reading(1, [*bounds_row("x0", 0, 1.0, 3.0), Row("r", [-x], Cone.NONNEG)], x))
    assert program.n_rows == 1
    assert proves_infeasible(program, np.ones(1))


def test_variables_without_bounds_get_those_that_the_rows_imply() -> None:
    """A chain of equations, read in the wrong order, bounds every variable; what nothing bounds stays free."""
    n = 6
    rows = [
        Row("step", [column(k + 1) - Fraction(1, 3) * column(k) - column(n)], Cone.ZERO) for k in reversed(range(n - 1))
    ]
    rows += [*bounds_row("x0", 0, -1.0, 1.0), *bounds_row("u", n, -1.0, 2.0)]
    program, _ = to_program(reading(n + 2, rows, column(n - 1)))
    assert np.isfinite(program.lower[:-1]).all()
    assert np.isfinite(program.upper[:-1]).all()
    assert program.upper[n - 1] == pytest.approx(3 - 2 / 243)
    assert program.lower[-1] == -inf
    assert program.upper[-1] == inf


def test_an_equation_that_floats_do_not_hold_becomes_two_inequalities() -> None:
    """With the dual on its side; one that they hold stays an equation."""
    box = [*bounds_row("x0", 0, 0.0, 1.0), *bounds_row("x1", 1, 0.0, 1.0)]
    inexact = Row("inexact", [column(0) - Fraction(1, 3) * column(1)], Cone.ZERO, np.array([-2.0]))
    exact = Row("exact", [column(0) - column(1) / 4], Cone.ZERO, np.array([3.0]))
    program, dual = to_program(reading(2, [*box, inexact, exact], -column(0)))
    assert [block.cone for block in program.rows.values()] == [Cone.NONNEG, Cone.ZERO]
    assert dual is not None
    assert dual.tolist() == [0.0, 2.0, 3.0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_program_is_a_relaxation_of_its_model(data: st.DataObject) -> None:
    """Points that satisfy the model satisfy the program exactly, and the objective there is not above the model's."""
    n = data.draw(st.integers(1, 3))
    point = [data.draw(st.fractions(min_value=-2, max_value=2, max_denominator=60)) for _ in range(n)]
    rows: list[Row] = [row for j in range(n) for row in bounds_row(f"x{j}", j, -2.0, 2.0)]
    for i in range(data.draw(st.integers(0, 4))):
        form = Linear({("X", j): data.draw(NUMBERS) for j in range(n)})
        equation = data.draw(st.booleans())
        slack = 0 if equation else data.draw(st.sampled_from([0, Fraction(1, 7)]))
        form = form - form.value(point, []) + slack
        rows.append(Row(f"r{i}", [form], Cone.ZERO if equation else Cone.NONNEG))
    objective = Linear({("X", j): data.draw(NUMBERS) for j in range(n)}, data.draw(NUMBERS))
    try:
        program, _ = to_program(reading(n, rows, objective))
    except InputError:
        return  # numbers too large
    assert all(Fraction(a) <= v <= Fraction(b) for a, v, b in zip(program.lower, point, program.upper, strict=True))
    matrix = program.A.toarray()
    for block in program.rows.values():
        for i in range(block.start, block.stop):
            s = Fraction(program.b[i]) - sum(Fraction(a) * v for a, v in zip(matrix[i].tolist(), point, strict=True))
            assert s == 0 if block.cone is Cone.ZERO else s >= 0
    value = Fraction(program.c0) + sum(Fraction(a) * v for a, v in zip(program.c.tolist(), point, strict=True))
    assert value <= objective.value(point, [])
    for dual in (np.ones(program.n_rows), -np.ones(program.n_rows), None):
        assert Fraction(max(safe_bound(program, dual), -1e308)) <= objective.value(point, [])
        assert not proves_infeasible(program, dual)


@pytest.mark.parametrize("end", [nan, -inf, inf])
def test_bounds_that_are_none(end: float) -> None:
    """NaN, and infinities that no number satisfies."""
    for pair, ok in (((end, None), end == -inf), ((None, end), end == inf)):
        if ok:
            assert list(bounds_row("v", 0, *pair)) == []
        else:
            with pytest.raises(InputError, match=r"variable v: .* is no (lower|upper) bound"):
                list(bounds_row("v", 0, *pair))


BAD_CVXPY: dict[str, tuple[Callable[[], Any], str]] = {
    "norm": (lambda: cp.norm(X) <= 1, "constraint 0.*is not linear"),
    "absolute value": (lambda: cp.abs(S) <= 1, "constraint 0.*abs.*is not linear"),
    "square": (lambda: cp.square(S) <= 1, "constraint 0"),
    "product": (lambda: S * X[0] <= 1, "constraint 0.*is not linear"),
    "quotient": (lambda: S / X[0] <= 1, "divides by a variable"),
    "by zero": (lambda: S / 0 <= 1, "/ 0"),
    "cone": (lambda: cp.SOC(S, X), "SOC constraint is not linear"),
    "not a number": (lambda: nan * S <= 1, "constraint 0.*finite"),
    "infinite": (lambda: inf >= S, "constraint 0.*finite"),
    "no value": (lambda: cp.Parameter(name="k") * S <= 1, "parameter k has no value"),
    "attribute": (lambda: cp.Variable((2, 2), PSD=True, name="W")[0, 0] <= 1, "variable W: the attribute PSD"),
    "complex": (lambda: cp.real(cp.Variable(complex=True, name="w")) <= 1, "constraint 0"),
    "running product": (lambda: cp.cumprod(cp.Constant([1.0, 2.0])) <= X[:2], "cumprod"),
    "not symmetric": (lambda: cp.bmat([[S, X[0]], [X[1], S]]) >> 0, "not symmetric"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BAD_CVXPY)
def test_cvxpy_that_is_not_linear_is_one_clear_error(name: str) -> None:
    make, words = BAD_CVXPY[name]
    with pytest.raises(InputError, match=words):
        layer_cvxpy.read(cp.Problem(cp.Minimize(S), [make()]))


@pytest.mark.parametrize("objective", [cp.Minimize(cp.norm(X)), cp.Maximize(-cp.square(S))])
def test_objectives_of_cvxpy_that_are_not_linear(objective: Any) -> None:
    with pytest.raises(InputError, match=r"the objective.*not linear"):
        layer_cvxpy.read(cp.Problem(objective, [S >= 1]))


def plain() -> Any:
    m = pyo.ConcreteModel()
    m.x, m.y = pyo.Var(bounds=(0, 1)), pyo.Var(bounds=(-1, 1))
    m.goal = pyo.Objective(expr=m.x + m.y)
    return m


def sos(m: Any) -> None:
    m.v = pyo.Var(range(2))
    m.choice = pyo.SOSConstraint(var=m.v, sos=1)


def missing(m: Any) -> None:
    m.p = pyo.Param(mutable=True)
    m.c = pyo.Constraint(expr=m.p * m.x <= 1)


BAD_PYOMO: dict[str, tuple[Callable[[Any], Any], str]] = {
    "product": (lambda m: setattr(m, "c", pyo.Constraint(expr=m.x * m.y <= 1)), "^c: .*not linear"),
    "power": (lambda m: setattr(m, "c", pyo.Constraint(expr=m.x**2 <= 1)), "^c: .*not linear"),
    "function": (lambda m: setattr(m, "c", pyo.Constraint(expr=pyo.exp(m.x) <= 1)), "^c: .*not linear"),
    "quotient": (lambda m: setattr(m, "c", pyo.Constraint(expr=1 / m.x <= 1)), "^c: .*not linear"),
    "absolute value": (lambda m: setattr(m, "c", pyo.Constraint(expr=abs(m.x) <= 1)), "^c: .*not linear"),
    "not a number": (lambda m: setattr(m, "c", pyo.Constraint(expr=m.y + nan * m.x <= 1)), "^c: nan"),
    "infinite": (lambda m: setattr(m, "c", pyo.Constraint(expr=m.y + inf * m.x <= 1)), "^c: inf"),
    "no value": (missing, "^c: "),
    "range of variables": (lambda m: setattr(m, "c", pyo.Constraint(expr=pyo.inequality(m.x, m.y, 1))), "^c: "),
    "second objective": (
        lambda m: setattr(m, "other", pyo.Objective(expr=m.x)),
        "one active objective; this one has 2",
    ),
    "no objective": (lambda m: m.goal.deactivate(), "one active objective; this one has 0"),
    "quadratic objective": (lambda m: m.goal.set_value(m.x * m.x), "the objective: .*not linear"),
    "special ordered set": (sos, "SOSConstraint"),
}


@pytest.mark.parametrize("name", BAD_PYOMO)
def test_pyomo_that_is_not_linear_is_one_clear_error(name: str) -> None:
    change, words = BAD_PYOMO[name]
    model = plain()
    change(model)
    with pytest.raises(InputError, match=words):
        layer_pyomo.read(model)


def test_what_pyomo_does_not_show_a_solver_is_not_read() -> None:
    """Inactive constraints and blocks are left out; fixed variables and domains are bounds."""
    m = plain()
    m.c = pyo.Constraint(expr=m.x >= 0.5)
    m.b = pyo.Block()
    m.b.c = pyo.Constraint(expr=m.y >= 0.5)
    m.z, m.k = pyo.Var(domain=pyo.NonNegativeReals), pyo.Var(domain=pyo.Binary)
    m.d = pyo.Constraint(expr=(-1, m.z + m.k, 7))
    m.open = pyo.Constraint(expr=(-inf, m.x + m.y, inf))
    m.c.deactivate()
    m.b.deactivate()
    m.y.fix(0.25)
    read = layer_pyomo.read(m)
    bounds = {name: (program.lower[j], program.upper[j]) for program, _ in [to_program(read)] for j, name in
              enumerate(read.names)}  # fmt: skip
    assert bounds == {"x": (0.0, 1.0), "y": (0.25, 0.25), "z": (0.0, 7.0), "k": (0.0, 1.0)}
    assert dict(zip(read.names, read.integer, strict=True))["k"]


def test_attributes_of_cvxpy_variables() -> None:
    """Bounds, signs, and which entries are integer or binary: others stay free."""
    index = (np.array([0, 1]), np.array([2, 0]))
    v = cp.Variable((2, 3), boolean=index, name="v")
    w = cp.Variable(2, integer=True, bounds=[np.array([-inf, 0.5]), 4], name="w")
    k = cp.Variable(nonpos=True, boolean=False, name="k")
    read = layer_cvxpy.read(cp.Problem(cp.Minimize(cp.sum(v) + cp.sum(w) - k)))
    program, _ = to_program(read)
    found = dict(zip(read.names, zip(read.integer, program.lower, program.upper, strict=True), strict=True))
    free = {f"v[{i}, {j}]": (False, -inf, inf) for i in range(2) for j in range(3)}
    assert found == {
        **free,
        "v[0, 2]": (True, 0.0, 1.0),
        "v[1, 0]": (True, 0.0, 1.0),
        "w[0]": (True, -inf, 4.0),
        "w[1]": (True, 0.5, 4.0),
        "k": (False, -inf, 0.0),
    }
    with pytest.raises(InputError, match="does not name entries"):
        layer_cvxpy.read(cp.Problem(cp.Minimize(cp.sum(cp.Variable(3, boolean=[(0,), (2,)])))))


def test_discrete_domains_of_pyomo_that_are_not_integers() -> None:
    """{0.5, 1.5} and 0, 2, 4 are the intervals around them: taken for integers, they would lose points."""
    m = pyo.ConcreteModel()
    m.half, m.even, m.whole = (
        pyo.Var(domain={0.5, 1.5}),
        pyo.Var(domain=pyo.RangeSet(0, 4, 2)),
        pyo.Var(domain=pyo.Integers),
    )
    m.whole.setub(3)
    m.goal = pyo.Objective(expr=m.half + m.even - m.whole)
    read = layer_pyomo.read(m)
    assert dict(zip(read.names, read.integer, strict=True)) == {"half": False, "even": False, "whole": True}
    assert safe_bound(to_program(read)[0], None) == pytest.approx(-2.5)


def test_a_deep_chain_of_expressions_is_read() -> None:
    """Deeper than Python's own recursion limit."""
    m = plain()
    chain = m.x
    m.e = pyo.Expression(range(1500))
    for i in range(1500):
        m.e[i] = chain + 0.5
        chain = m.e[i]
    assert layer_pyomo._Reader().form("it", chain) == column(0) + 750
