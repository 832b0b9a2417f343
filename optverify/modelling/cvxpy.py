"""Programs as cvxpy problems, and cvxpy problems read exactly.

cvxpy's own way to a solver (``Problem.get_problem_data``) adds up and multiplies coefficients in floating point. Here
the tree of each expression is walked instead, in rationals: a constant counts as the number that it is stored as.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from math import isfinite
from typing import Any

import numpy as np

from optverify.errors import InputError
from optverify.expressions import Linear, rational
from optverify.formulations.program import Block, Cone, Program, order_of, triangle_of
from optverify.modelling.forms import column, combination
from optverify.modelling.named import Named
from optverify.modelling.reading import Reading, Row, bounds_row

SIGNS = {"nonneg": (0.0, None), "pos": (0.0, None), "nonpos": (None, 0.0), "neg": (None, 0.0)}
"""Attributes of a variable that bound it."""

KNOWN = {*SIGNS, "bounds", "boolean", "integer"}
"""Attributes that are read; a variable that has another is refused."""


@dataclass(frozen=True, eq=False)
class Built:
    """A program as a cvxpy problem.

    Parameters
    ----------
    variables : mapping from name to cvxpy.Variable
        Blocks without a variable are left out.
    constraints : list of (cvxpy constraint, (p,) int)
        Each with the rows that it stands for.
    objective : cvxpy expression
        To be minimised.
    """

    variables: Mapping[str, Any]
    constraints: list[tuple[Any, Any]]
    objective: Any


def build(program: Program, blocks: Mapping[str, Block]) -> Built:
    """Write a program in cvxpy.

    Parameters
    ----------
    program : Program
    blocks : mapping from name to Block
        Which columns become a variable, of what name; each column once.
    """
    import cvxpy
    from scipy.sparse import csr_array

    def times(matrix: Any) -> Any:
        parts = [(matrix[:, blocks[name].indices], variable) for name, variable in variables.items()]
        used = [(part, variable) for part, variable in parts if part.nnz] or parts[:1]
        return sum((part @ variable for part, variable in used[1:]), used[0][0] @ used[0][1])

    variables = {}
    for name, block in blocks.items():
        if block.size:
            whole = np.flatnonzero(program.integer[block.indices])
            ends = [program.lower[block.indices], program.upper[block.indices]]
            extra = {"integer": (whole,)} if whole.size else {}
            variables[name] = cvxpy.Variable(block.size, name=name, bounds=ends, **extra)
    matrix, rows = program.A.tocsr(), []
    for block in program.rows.values():
        index = np.arange(block.start, block.stop)
        if not index.size:
            continue
        right, left = program.b[index], times(matrix[index])
        if block.cone is Cone.PSD:
            order = order_of(index.size)
            square = cvxpy.reshape(_unpack(order) @ (right - left), (order, order), order="C")
            rows.append((square >> 0, index))
        else:
            rows.append((left == right if block.cone is Cone.ZERO else right - left >= 0, index))
    return Built(variables, rows, times(csr_array(program.c[None]))[0] + program.c0)


@dataclass(frozen=True, eq=False)
class CvxpyModel:
    """A network as a cvxpy problem; made by :func:`optverify.to_cvxpy`.

    Parameters
    ----------
    x, y : cvxpy.Variable, (n_inputs,), (n_outputs,)
        Inputs and outputs.
    z, a : tuple of cvxpy expressions, one (n_k,) per Relu
        What enters and leaves it.
    t : tuple of cvxpy expressions, one (n_k,) per Relu
        With ``bigm``: 1 where a neuron is active, 0 where it is not. Empty otherwise.
    P : cvxpy expression or None
        With ``lifted``: the symmetric matrix of products of 1, inputs and unstable neurons, all scaled to [-1, 1].
    variables : mapping from name to cvxpy.Variable
        All that there are, also those behind `a` and `t`.
    objective : cvxpy.Minimize or cvxpy.Maximize
    constraints : list of cvxpy constraints
        The network over the region.
    problem : cvxpy.Problem
        Of these two.
    """

    x: Any
    y: Any
    z: tuple[Any, ...]
    a: tuple[Any, ...]
    t: tuple[Any, ...]
    P: Any
    variables: Mapping[str, Any]
    objective: Any
    constraints: list[Any]
    problem: Any

    def __repr__(self) -> str:
        return f"<CvxpyModel: {', '.join(self.variables)}; {len(self.constraints)} constraints>"


def export(encoded: Named, *, maximise: bool) -> CvxpyModel:
    """Write a network in cvxpy.

    Parameters
    ----------
    encoded : Named
    maximise : bool
        Maximise minus the program's objective.
    """
    import cvxpy

    built = build(encoded.program, encoded.blocks)
    a, t = [], []
    for k, neurons in enumerate(encoded.neurons):
        own = _diagonal(neurons.unstable)[:, neurons.unstable]
        after: Any = _diagonal(neurons.passed) @ built.variables[f"z[{k}]"]
        switch: Any = cvxpy.Constant(neurons.passed.astype(np.float64))
        if f"relu[{k}]" in built.variables:
            after += own @ built.variables[f"relu[{k}]"]
        if f"switch[{k}]" in built.variables:
            switch += own @ built.variables[f"switch[{k}]"]
        a.append(after)
        t.append(switch)
    objective = cvxpy.Maximize(-built.objective) if maximise else cvxpy.Minimize(built.objective)
    constraints = [constraint for constraint, _ in built.constraints]
    P = _matrix(built.variables["P"]) if "P" in built.variables else None
    if P is not None:
        constraints.append(P >> 0)  # without the factors sqrt 2 of a program's rows, which are rounded
    return CvxpyModel(
        x=built.variables["x"],
        y=built.variables["y"],
        z=tuple(built.variables[f"z[{k}]"] for k in range(len(a))),
        a=tuple(a),
        t=tuple(t) if encoded.program.is_mixed_integer else (),
        P=P,
        variables=built.variables,
        objective=objective,
        constraints=constraints,
        problem=cvxpy.Problem(objective, constraints),
    )


def _matrix(triangle: Any) -> Any:
    """Return the symmetric matrix of which a variable lists the lower triangle by columns."""
    import cvxpy

    order = order_of(triangle.size)
    return cvxpy.reshape(_unpack(order, 1.0) @ triangle, (order, order), order="C")


def _diagonal(mask: Any) -> Any:
    from scipy.sparse import csc_array, diags_array

    return csc_array(diags_array(mask.astype(np.float64)))


def _unpack(order: int, off: float = 0.5**0.5) -> Any:
    """Return the matrix that takes svec(S), off the diagonal times a factor, to all entries of S."""
    from scipy.sparse import csr_array

    column, row = np.triu_indices(order)
    place, value = np.arange(column.size), np.where(row == column, 0.5, off)
    i = np.concatenate([row * order + column, column * order + row])
    shape = (order * order, column.size)
    return csr_array((np.tile(value, 2), (i, np.tile(place, 2))), shape=shape)


def read(problem: Any) -> Reading:
    """Read a linear problem exactly, integrality and semidefinite constraints included.

    Parameters
    ----------
    problem : cvxpy.Problem

    Raises
    ------
    InputError
        A constraint or the objective is not linear, or a number in it is not finite; the message says which.
    """
    import cvxpy

    reader, rows = _Reader(), []
    for i, constraint in enumerate(problem.constraints):
        try:
            rows.append(reader.row(f"constraint {i}", constraint))
        except InputError as error:
            raise InputError(f"constraint {i}, {_brief(constraint)}: {error}") from None
    try:
        objective = reader.forms(problem.objective.args[0]).item()
    except InputError as error:
        raise InputError(f"the objective: {error}") from None
    maximise = isinstance(problem.objective, cvxpy.Maximize)
    solved = problem.status in ("optimal", "optimal_inaccurate") and problem.value is not None
    return Reading(
        names=reader.names,
        integer=reader.integer,
        rows=[*reader.bounds, *rows],
        objective=-objective if maximise else objective,
        maximise=maximise,
        claim=float(problem.value) if solved and isfinite(problem.value) else None,
    )


def _brief(what: object) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


class _Reader:
    """Expressions as arrays of forms; variables get columns as they occur."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.integer: list[bool] = []
        self.bounds: list[Row] = []
        self._columns: dict[int, Any] = {}
        self._known: dict[int, tuple[Any, Any]] = {}

    def row(self, name: str, constraint: Any) -> Row:
        """Read a constraint."""
        from cvxpy.constraints import PSD, Equality, Inequality, NonNeg, NonPos, Zero

        # s = b - A x is the right side minus the left one, for which cvxpy's dual value is our y.
        sides = {
            Inequality: (Cone.NONNEG, -1),
            Equality: (Cone.ZERO, -1),
            Zero: (Cone.ZERO, -1),
            NonPos: (Cone.NONNEG, -1),
            NonNeg: (Cone.NONNEG, 1),
            PSD: (Cone.PSD, 1),
        }
        if type(constraint) not in sides:
            raise InputError(f"a {type(constraint).__name__} constraint is not linear")
        cone, sign = sides[type(constraint)]
        parts = [self.forms(part) for part in constraint.args]
        left = np.subtract(*parts) if len(parts) == 2 else parts[0]
        s = _array(sign * left, np.broadcast_shapes(*(part.shape for part in parts)))
        dual = np.asarray(np.nan if constraint.dual_value is None else constraint.dual_value, np.float64)
        if cone is Cone.PSD:
            if s.ndim != 2:
                raise InputError("one semidefinite matrix at a time, not an array of them")
            if any((a - b).terms or a.constant != b.constant for a, b in zip(s.flat, s.T.flat, strict=True)):
                raise InputError("the matrix is not symmetric")
            column, row = np.triu_indices(len(s))
            y = triangle_of(dual) if dual.shape == s.shape else None
            return Row(name, s[row, column].tolist(), cone, y)
        usable = dual.size == s.size and not np.isnan(dual).any()
        return Row(name, np.ravel(s).tolist(), cone, dual.ravel() if usable else None)

    def forms(self, e: Any) -> Any:
        """Return an expression as an array of forms."""
        if id(e) not in self._known:
            # The expression is kept as well, so that its id is not given to another one.
            self._known[id(e)] = (e, _array(self._read(e), e.shape))
        return self._known[id(e)][1]

    def _read(self, e: Any) -> Any:
        import cvxpy

        if isinstance(e, cvxpy.Variable):
            return self._variable(e)
        if isinstance(e, cvxpy.Constant | cvxpy.Parameter):
            return _constant(e)
        kind = type(e).__name__
        if kind == "MulExpression":
            return self._product(e)
        if kind not in ATOMS or not type(e).__module__.startswith("cvxpy.atoms.affine."):
            raise InputError(f"{kind} in {_brief(e)} is not linear, or not supported in a safe bound")
        return ATOMS[kind](e, [self.forms(part) for part in e.args])

    def _variable(self, v: Any) -> Any:
        if v.id not in self._columns:
            others = [name for name, value in v.attributes.items() if name not in KNOWN and value not in (False, None)]
            if others:
                raise InputError(f"variable {v.name()}: the attribute {others[0]} is not supported in a safe bound")
            start = len(self.names)
            index = np.arange(start, start + v.size).reshape(v.shape)
            self._columns[v.id] = index
            self.names += [f"{v.name()}{list(at) if at else ''}" for at in np.ndindex(v.shape)]
            binary = _places(v, v.boolean_idx)
            self.integer += (binary | _places(v, v.integer_idx)).tolist()
            for name, ends in [*SIGNS.items(), ("bounds", v.attributes.get("bounds"))]:
                if v.attributes.get(name):
                    self._bound(v, ends, np.ones(v.size, bool))
            self._bound(v, (0.0, 1.0), binary)
        return np.vectorize(column, otypes=[object])(self._columns[v.id])

    def _bound(self, v: Any, ends: Any, where: Any) -> None:
        """Bound entries of a variable; an end is None, a number, an array, or what has such a value."""
        low, high = (
            [None] * v.size if end is None else np.broadcast_to(getattr(end, "value", end), v.shape).ravel().tolist()
            for end in ends
        )
        for i in np.flatnonzero(where).tolist():
            j = int(self._columns[v.id].flat[i])
            self.bounds += bounds_row(self.names[j], j, low[i], high[i])

    def _product(self, e: Any) -> Any:
        import cvxpy

        left, right = e.args
        if max(left.ndim, right.ndim) > 2:
            raise InputError(f"{_brief(e)}: a product of arrays with more than two dimensions")
        if isinstance(left, cvxpy.Constant | cvxpy.Parameter):
            return _times(_value(left), self.forms(right))
        if isinstance(right, cvxpy.Constant | cvxpy.Parameter):
            value = _value(right)
            return _times(value.T, self.forms(left).T).T
        return self.forms(left) @ self.forms(right)


def _places(v: Any, index: Any) -> Any:
    """Return which entries of a variable, row by row, an index means: one array for each dimension, as cvxpy has it."""
    mask = np.zeros(v.shape or (1,), bool)
    if len(index):
        try:
            mask[tuple(np.asarray(part, np.intp) for part in index)] = True
        except (IndexError, ValueError):
            raise InputError(f"variable {v.name()}: {index} does not name entries of it") from None
    return mask.ravel()


def _array(values: Any, shape: tuple[int, ...]) -> Any:
    """Return an object array of a shape; numpy gives single entries back without their array."""
    array = np.empty(shape, object)
    array[...] = values
    return array


def _value(leaf: Any) -> Any:
    """Return the numbers of a constant or parameter as cvxpy stores them."""
    value = leaf.value
    if value is None:
        raise InputError(f"parameter {leaf.name()} has no value")
    return value if hasattr(value, "tocsr") else np.asarray(value)


def _constant(leaf: Any) -> Any:
    value = _value(leaf)
    dense = value.toarray() if hasattr(value, "tocsr") else value
    return _array([Linear({}, rational(v)) for v in dense.ravel()], (dense.size,)).reshape(dense.shape)


def _times(matrix: Any, forms: Any) -> Any:
    """Return the product of numbers and forms, by the nonzeros of the numbers."""
    from scipy.sparse import csr_array

    rows = csr_array(np.atleast_2d(matrix)) if isinstance(matrix, np.ndarray) else csr_array(matrix)
    columns = forms.reshape(len(forms), -1)
    found = np.empty((rows.shape[0], columns.shape[1]), object)
    for i in range(rows.shape[0]):
        span = slice(rows.indptr[i], rows.indptr[i + 1])
        entries = [(rational(value), k) for value, k in zip(rows.data[span], rows.indices[span].tolist(), strict=True)]
        for p in range(columns.shape[1]):
            found[i, p] = combination((a, columns[k, p]) for a, k in entries)
    return found.reshape(matrix.shape[:-1] + forms.shape[1:])


def _sum(values: Any) -> Linear:
    return combination((Fraction(1), form) for form in values.flat)


def _sum_over(e: Any, parts: list[Any]) -> Any:
    if e.axis is None:
        return _sum(parts[0])
    return np.sum(parts[0], axis=e.axis, keepdims=e.keepdims)


def _divide(e: Any, parts: list[Any]) -> Any:
    if any(form.terms for form in parts[1].flat):
        raise InputError(f"{_brief(e)} divides by a variable")
    return np.divide(parts[0], np.vectorize(lambda form: form.constant, otypes=[object])(parts[1]))


ATOMS: Mapping[str, Callable[[Any, list[Any]], Any]] = {
    "AddExpression": lambda _, parts: reduce(np.add, parts),
    "NegExpression": lambda _, parts: np.negative(parts[0]),
    "multiply": lambda _, parts: np.multiply(*parts),
    "DivExpression": _divide,
    "Sum": _sum_over,
    "cumsum": lambda e, parts: np.cumsum(parts[0], axis=e.axis),
    "Trace": lambda _, parts: _sum(np.diagonal(parts[0])),
    "index": lambda e, parts: parts[0][e._orig_key],
    "special_index": lambda e, parts: parts[0][e.key],
    "reshape": lambda e, parts: np.reshape(parts[0], e.shape, order=e.order),
    "transpose": lambda e, parts: np.transpose(parts[0], axes=e.axes),
    "Promote": lambda _, parts: parts[0],
    "broadcast_to": lambda _, parts: parts[0],
    "Hstack": lambda _, parts: np.hstack(parts),
    "Vstack": lambda _, parts: np.vstack(parts),
    "Concatenate": lambda e, parts: np.concatenate(parts, axis=e.axis),
    "diag_mat": lambda e, parts: np.diagonal(parts[0], offset=e.k),
}
"""What is read, beside products, by the names of cvxpy's classes: none of these rounds, since forms are exact."""
