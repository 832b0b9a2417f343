"""Programs as Pyomo models, and Pyomo models read exactly.

Pyomo's own ways to a linear form (``generate_standard_repn``, the writers) add up and multiply coefficients in
floating point. Here the tree of each expression is walked instead, in rationals: a constant counts as the number that
it is stored as.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import inf, isfinite, nan
from types import MappingProxyType
from typing import Any

import numpy as np
from pyomo.common.numeric_types import native_numeric_types
from pyomo.core.expr import numeric_expr as expr
from pyomo.core.expr.visitor import StreamBasedExpressionVisitor

from optverify.errors import InputError
from optverify.expressions import Linear
from optverify.formulations.program import Block, Cone, Program
from optverify.modelling.forms import column, combination
from optverify.modelling.named import Named
from optverify.modelling.reading import Reading, Row, bounds_row

ONE = Fraction(1)


def build(
    program: Program,
    blocks: Mapping[str, Block],
    block: Any,
    labels: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> tuple[list[Any], list[Any]]:
    """Write a program's variables and rows into a Pyomo block.

    Parameters
    ----------
    program : Program
        Without semidefinite cones.
    blocks : mapping from name to Block
        Which columns become a variable, of what name: ``z[0]``, ``z[1]`` become z[0, j], z[1, j].
    block : pyomo BlockData
    labels : mapping from name to (p,) int, optional
        What j is, where it is not the place within the block.

    Returns
    -------
    variables, constraints : lists of pyomo VarData, ConstraintData
        By column and row. The constraints are ``rows[name, i]``, i the place within the program's block of that name.
    """
    import pyomo.environ as pyo

    columns: dict[str, dict[Any, int]] = {}
    for name, run in blocks.items():
        base, _, layer = name.rstrip("]").partition("[")
        label = labels.get(name, range(run.size))
        at = [(int(layer), j) for j in label] if layer else label
        columns.setdefault(base, {}).update(zip(at, range(run.start, run.stop), strict=True))
    lower, upper, whole = (part.tolist() for part in (program.lower, program.upper, program.integer))
    x: list[Any] = [None] * program.n_variables
    for base, place in columns.items():
        variable = pyo.Var(list(place))
        block.add_component(base, variable)
        for index, j in place.items():
            x[j] = variable[index]
            x[j].setlb(None if lower[j] == -inf else lower[j])
            x[j].setub(None if upper[j] == inf else upper[j])
            if whole[j]:
                x[j].domain = pyo.Integers
    matrix, right = program.A.tocsr(), program.b.tolist()
    pointer, index, data = matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()

    def row(_: Any, name: str, place: int) -> Any:
        rows = program.rows[name]
        i = rows.start + place
        entries = slice(pointer[i], pointer[i + 1])
        # A constraint without variables is an error.
        columns, values = (index[entries], data[entries]) if pointer[i] < pointer[i + 1] else ([0], [0.0])
        body = expr.LinearExpression(linear_coefs=values, linear_vars=[x[j] for j in columns])
        return (right[i] if rows.cone is Cone.ZERO else None, body, right[i])

    pairs = [(name, i) for name, rows in program.rows.items() for i in range(rows.size)]
    block.rows = pyo.Constraint(pairs, rule=row)
    return x, [block.rows[pair] for pair in pairs]


def export(encoded: Named, name: str, *, maximise: bool, posed: bool) -> Any:
    """Write a network as a ConcreteModel.

    Parameters
    ----------
    encoded : Named
    name : str
    maximise : bool
        Maximise minus the program's objective.
    posed : bool
        Whether there is an objective at all.
    """
    import pyomo.environ as pyo

    def leaving(_: Any, k: int, j: int) -> Any:
        neurons = encoded.neurons[k]
        return model.z[k, j] if neurons.passed[j] else model.relu[k, j] if neurons.unstable[j] else 0.0

    def switch(_: Any, k: int, j: int) -> Any:
        return model.switch[k, j] if encoded.neurons[k].unstable[j] else float(encoded.neurons[k].passed[j])

    program, model = encoded.program, pyo.ConcreteModel(name=name)
    labels = {
        f"{base}[{k}]": np.flatnonzero(neurons.unstable).tolist()
        for k, neurons in enumerate(encoded.neurons)
        for base in ("relu", "switch")
    }
    x, _ = build(program, encoded.blocks, model, labels)
    places = [(k, j) for k, neurons in enumerate(encoded.neurons) for j in range(neurons.passed.size)]
    model.a = pyo.Expression(places, rule=leaving)
    if program.is_mixed_integer:
        model.t = pyo.Expression(places, rule=switch)
    if posed:
        sign = -1.0 if maximise else 1.0
        used = np.flatnonzero(program.c).tolist() or [0]
        form = expr.LinearExpression(
            constant=sign * program.c0,
            linear_coefs=(sign * program.c[used]).tolist(),
            linear_vars=[x[j] for j in used],
        )
        model.objective = pyo.Objective(expr=form, sense=pyo.maximize if maximise else pyo.minimize)
    return model


def read(model: Any) -> Reading:
    """Read all active constraints and the objective of a linear model exactly, integrality included.

    Parameters
    ----------
    model : pyomo ConcreteModel or Block

    Raises
    ------
    InputError
        A constraint or the objective is not linear, a number in it is not finite, there is not one objective, or there
        is an active component of another kind; the message says which.
    """
    import pyomo.environ as pyo
    from pyomo.repn.util import categorize_valid_components

    reader = _Reader()
    read_here = {pyo.Constraint, pyo.Objective}
    plain = {pyo.Block, pyo.Var, pyo.Param, pyo.Expression, pyo.Set, pyo.RangeSet, pyo.Suffix}
    found, unknown = categorize_valid_components(
        model, active=True, valid={*plain, pyo.BuildAction, pyo.BuildCheck}, targets=read_here
    )
    if unknown:
        kind = next(iter(unknown))
        raise InputError(f"the model has a component {unknown[kind][0].name} of kind {kind.__name__}: not linear")
    objectives, constraints = (
        [one for block in found[kind] for one in block.component_data_objects(kind, active=True, descend_into=False)]
        for kind in (pyo.Objective, pyo.Constraint)
    )
    if len(objectives) != 1:
        raise InputError(f"a model needs one active objective; this one has {len(objectives)}")
    (objective,) = objectives
    maximise = objective.sense == pyo.maximize
    suffix = model.component("dual")
    rows = [
        row
        for constraint in constraints
        for row in reader.rows(constraint, None if suffix is None else suffix.get(constraint), maximise=maximise)
    ]
    form = reader.form("the objective", objective.expr)
    claim = pyo.value(objective, exception=False)
    return Reading(
        names=reader.names,
        integer=reader.integer,
        rows=[*reader.bounds, *rows],
        objective=-form if maximise else form,
        maximise=maximise,
        claim=claim if claim is not None and isfinite(claim) else None,
    )


class _Reader(StreamBasedExpressionVisitor):  # type: ignore[misc]
    """Expressions as forms; variables get columns as they occur."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.integer: list[bool] = []
        self.bounds: list[Row] = []
        self._columns: dict[int, int] = {}

    def rows(self, constraint: Any, dual: float | None, *, maximise: bool) -> list[Row]:
        """Read a constraint: lower <= body <= upper."""
        name = constraint.name
        try:
            lower, middle, upper = constraint.to_bounded_expression()
        except ValueError as error:  # a variable on an outer side of a range
            raise InputError(f"{name}: {error}") from None
        body = self.form(name, middle)
        low = body - self.form(name, lower) if constraint.has_lb() else None  # an infinite side is none
        high = self.form(name, upper) - body if constraint.has_ub() else None
        # d objective / d right side is minus our y of a minimisation.
        y = nan if dual is None else float(dual) if maximise else -float(dual)
        if constraint.equality and high is not None:
            return [Row(name, [high], Cone.ZERO, _one(y))]
        return [
            Row(name, [form], Cone.NONNEG, _one(sign * y)) for form, sign in ((high, 1), (low, -1)) if form is not None
        ]

    def form(self, what: str, expression: Any) -> Linear:
        """Return an expression as a form."""
        try:
            return self.walk_expression(expression)  # type: ignore[no-any-return]
        except (ValueError, ArithmeticError) as error:  # InputError, and what Pyomo raises where a value is missing
            raise InputError(f"{what}: {error}") from None

    def initializeWalker(self, expression: Any) -> tuple[bool, Any]:  # noqa: N802
        """Begin; named by Pyomo, as are the following."""
        further, value = self.beforeChild(None, expression, 0)
        return further, expression if further else value

    def beforeChild(self, node: Any, child: Any, index: int) -> tuple[bool, Any]:  # noqa: ARG002, N802
        """Return a leaf's form, or go on below."""
        if type(child) in native_numeric_types:
            return False, Linear({}, child)
        if child.is_expression_type():
            return True, None
        if child.is_variable_type():
            return False, column(self._column(child))
        if child.is_fixed():
            return False, Linear({}, child())
        raise InputError(f"{child} is neither a variable nor a number")

    def exitNode(self, node: Any, parts: list[Linear]) -> Linear:  # noqa: N802
        """Return the form of an expression from those of its parts."""
        if isinstance(node, expr.SumExpression):  # and LinearExpression
            return combination((ONE, part) for part in parts)
        if isinstance(node, expr.ProductExpression):  # and MonomialTermExpression
            return parts[0] * parts[1]
        if isinstance(node, expr.NegationExpression):
            return -parts[0]
        if isinstance(node, expr.DivisionExpression) and not parts[1].terms:
            return parts[0] / parts[1].constant
        if node.is_named_expression_type():
            return parts[0]
        raise InputError(f"{node} is not linear, or not supported in a safe bound")

    def _column(self, variable: Any) -> int:
        if id(variable) not in self._columns:
            j = self._columns[id(variable)] = len(self.names)
            self.names.append(variable.name)
            # Other discrete domains, such as {0.5, 1.5}, count as the interval around them.
            self.integer.append(variable.is_integer())
            low, high = (variable.value, variable.value) if variable.fixed else variable.bounds
            self.bounds += bounds_row(variable.name, j, low, high)
        return self._columns[id(variable)]


def _one(y: float) -> Any:
    return None if y != y else np.array([y])
