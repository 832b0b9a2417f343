"""Networks as cvxpy and Pyomo models with named variables, and safe bounds of any such model.

>>> import cvxpy as cp
>>> from optverify import Box, Network, safe_bound, to_cvxpy
>>> net = Network.from_arrays([([[1.0, -1.0]], [0.0]), ([[2.0]], [1.0])])  # 2 relu(x0 - x1) + 1
>>> m = to_cvxpy(net, Box([0, 0], [1, 1]))
>>> problem = cp.Problem(cp.Maximize(m.y[0]), [*m.constraints, m.x[1] >= 2 * m.x[0]])
>>> claim = problem.solve(solver=cp.HIGHS)
>>> answer = safe_bound(problem)  # a theorem about this very problem, from the duals that the solver left
>>> print(f"{answer.bound:.6f}")
2.000000
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, isnan
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from optverify import formulations
from optverify.bound import linear_objective
from optverify.bounds.crown import crown
from optverify.errors import InputError, ShapeError, expect
from optverify.expressions import Linear
from optverify.formulations import Weighted
from optverify.modelling.cvxpy import CvxpyModel
from optverify.modelling.moments import with_moments
from optverify.modelling.named import Named, named
from optverify.modelling.reading import Reading, to_program
from optverify.network import Network
from optverify.query import Query
from optverify.region import Box, boxes_only
from optverify.results import ModelBound
from optverify.search.integers import least, proved
from optverify.solvers.solution import Solver

LIFTED = "lifted"
"""The formulation that is the triangle's with a matrix of products."""


def to_cvxpy(
    network: Network,
    question: Box | Query,
    objective: Linear | str | ArrayLike | None = None,
    *,
    sense: Literal["min", "max"] = "min",
    formulation: str = "triangle",
) -> CvxpyModel:
    """Write a network over a region as a cvxpy problem, to which constraints and other objectives can be added.

    Parameters
    ----------
    network : Network
    question : Box or Query
        The region. Or a query of one case: the objective is then the largest left side of its unsafe conditions
        ``... <= 0``; above 0, the query is verified.
    objective : Linear, str or (n_outputs,) array, optional
        For instance ``"Y_0 - Y_1"``; 0 by default.
    sense : "min" or "max"
    formulation : str
        ``triangle`` (a linear relaxation), ``bigm`` (mixed-integer, exact) or, in cvxpy only, ``lifted``
        (semidefinite, tighter than ``triangle``).

    Returns
    -------
    CvxpyModel

    Raises
    ------
    InputError
        Unknown formulation or sense; an objective that is not linear; a query of several cases, or with an objective.
    ShapeError
        Sizes disagree.

    Notes
    -----
    Every trace of the network over the region, with the weights in the file and over the reals, is a feasible point,
    and the objective is not above the true one (not below it, for a maximum). So what bounds the problem, with whatever
    is added to it, bounds the network: :func:`safe_bound`.
    """
    from optverify.modelling.cvxpy import export

    return export(_encode(network, question, objective, sense, formulation), maximise=sense == "max")


def to_pyomo(
    network: Network,
    question: Box | Query,
    objective: Linear | str | ArrayLike | None = None,
    *,
    sense: Literal["min", "max"] = "min",
    formulation: str = "triangle",
) -> Any:
    """Write a network over a region as a Pyomo model, to be solved as it is or to be a block of a larger one.

    Parameters
    ----------
    network, question, objective, sense, formulation
        As for :func:`to_cvxpy`. Without an objective the model has none, as a block of a plant's model should.

    Returns
    -------
    pyomo ConcreteModel
        With the variables ``x[i]`` and ``y[j]``, inputs and outputs; ``z[k, j]``, what enters neuron j of the k-th
        Relu; the expressions ``a[k, j]``, what leaves it, and with ``bigm`` ``t[k, j]``, whether it is active; behind
        them the variables ``relu[k, j]`` and ``switch[k, j]`` of unstable neurons; the constraints ``rows[name, i]``.

    Raises
    ------
    InputError, ShapeError
        As for :func:`to_cvxpy`.

    Examples
    --------
    One step of a plant whose input is what the network says, and how large v can become:

    >>> import pyomo.environ as pyo
    >>> from optverify import Box, Network, safe_bound, to_pyomo
    >>> net = Network.from_arrays([([[1.0, 0.5], [-1.0, -0.5]], [0.0, 0.0]), ([[-1.0, 1.0]], [0.0])])  # -(p + v / 2)
    >>> plant = pyo.ConcreteModel()
    >>> plant.controller = to_pyomo(net, Box([-1, -1], [1, 1]), formulation="bigm")
    >>> x, u = plant.controller.x, plant.controller.y[0]
    >>> plant.v = pyo.Var()
    >>> plant.dynamics = pyo.Constraint(expr=plant.v == x[1] + 0.5 * u)
    >>> plant.reach = pyo.Objective(expr=plant.v, sense=pyo.maximize)
    >>> answer = safe_bound(plant)
    >>> print(f"{answer.claim:.6f} {answer.bound:.6f}")
    1.250000 1.250000
    """
    from optverify.modelling.pyomo import export

    if formulation == LIFTED:
        raise InputError("Pyomo has no semidefinite constraints; choose another formulation, or to_cvxpy")
    posed = objective is not None or isinstance(question, Query)
    encoded = _encode(network, question, objective, sense, formulation)
    return export(encoded, network.name or "network", maximise=sense == "max", posed=posed)


def _encode(
    network: Network,
    question: Box | Query,
    objective: Linear | str | ArrayLike | None,
    sense: str,
    formulation: str,
) -> Named:
    expect(Network, network=network)
    expect((Query, Box), question=question)
    entry = formulations.get("triangle" if formulation == LIFTED else formulation)
    if sense not in ("min", "max"):
        raise InputError(f"sense must be 'min' or 'max', not {sense!r}")
    if isinstance(question, Query):
        if objective is not None or sense != "min":
            raise InputError("a query has an objective of its own; give its region and an objective instead")
        if len(question.cases) != 1:
            raise InputError(
                f"the query has {len(question.cases)} cases: a model is of one, Query((query.cases[0],), ...)"
            )
        if (question.n_inputs, question.n_outputs) != (network.n_inputs, network.n_outputs):
            raise ShapeError("the query is of another number of inputs or outputs than the network")
        (case,) = question.cases
        region, forms = case.region, [atom.linear for atom in case.unsafe]
    else:
        region = question
        linear = Linear({}) if objective is None else linear_objective(network, objective)
        forms = [-linear if sense == "max" else linear]
    boxes_only([region])
    if region.size != network.n_inputs:
        raise ShapeError(f"the region has {region.size} inputs, the network {network.n_inputs}")
    bounds = crown(network, region.outward.take(None))[0].take(0)
    program = entry.build(network, region.outward, bounds, Weighted(np.zeros(network.n_outputs)))
    if formulation == LIFTED:
        program = with_moments(network, bounds, program)
    # Without a condition every point is unsafe; -1 <= 0 says so.
    return named(network, bounds, program, forms or [Linear({}, Fraction(-1))])


def safe_bound(
    model: Any,
    *,
    solver: str | Solver | None = None,
    programs: int = 500,
    time_limit: float | None = None,
    start: ModelBound | None = None,
) -> ModelBound:
    """Bound the optimum of a linear model rigorously, whoever wrote it.

    Parameters
    ----------
    model : cvxpy.Problem, pyomo ConcreteModel or Block, or CvxpyModel
        With linear constraints, integer variables and, in cvxpy, semidefinite constraints. Variables should be bounded,
        by themselves or by what the constraints imply.
    solver : str or Solver, optional
        Asked for multipliers. By default those that the model's solver left are used (in Pyomo, in a suffix ``dual`` of
        the model), and if there are none or integer variables, ``auto`` is asked.
    programs : int
        Most programs that it is asked to solve: with integer variables, the bound comes from splitting on them.
    time_limit : float, seconds, optional
        For all of them.
    start : ModelBound, optional
        Of a similar model: other numbers, or further constraints at the end. Where a solver is asked, it goes on from
        the bases and splits that were left, and parts for which the old multipliers are enough are not solved at all.

    Returns
    -------
    ModelBound
        Its `bound` is a theorem about the model as it is written, over the reals: its optimum is not beyond it. For a
        model from :func:`to_cvxpy` or :func:`to_pyomo` with further constraints that is one about the network. Ctrl-C
        leaves what is proved by then.

    Raises
    ------
    InputError
        A constraint or the objective is not linear or has a number that is not finite; the message says which.
    SolverUnavailable, UnsupportedProgram
        The solver cannot be used here, or not for such a model.

    Notes
    -----
    The model is read exactly, as rationals; rounded outward it becomes a program of which any dual vector gives a bound
    (Neumaier and Shcherbina, Math. Program. 99, 2004). ``docs/models.md`` has the argument.
    """
    reading = _read(model)
    program, dual = to_program(reading)
    lower, advice, words, claim, found = -inf, "the model's own solver", "", reading.claim, None
    if solver is None and dual is not None and not program.is_mixed_integer:
        lower = proved(program, dual)
    if lower == -inf:
        tree = None if start is None else start.tree
        found = least(program, solver or "auto", programs=programs, time_limit=time_limit, start=tree)
        lower, advice = found.lower, found.solver
        words = f"{found.message}; programs: {found.programs}".removeprefix("; ")
        if claim is None and not isnan(found.claim):
            claim = -found.claim if reading.maximise else found.claim
    loose = [
        name
        for name, low, high in zip(reading.names, program.lower.tolist(), program.upper.tolist(), strict=True)
        if inf in (-low, high)
    ]
    if lower == -inf and loose:
        words = f"nothing is proved; give bounds to {', '.join(loose[:3])}{', ...' if loose[3:] else ''} ({words})"
    return ModelBound(
        bound=-lower if reading.maximise else lower,
        sense="max" if reading.maximise else "min",
        claim=claim,
        advice=advice,
        reason=words,
        variables=program.n_variables,
        rows=program.n_rows,
        programs=0 if found is None else found.programs,
        iterations=0 if found is None else found.iterations,
        tree=(None if start is None else start.tree) if found is None else found.tree,
    )


def _read(model: Any) -> Reading:
    if isinstance(model, CvxpyModel):
        model = model.problem
    homes = {kind.__module__.split(".")[0] for kind in type(model).__mro__}
    if "cvxpy" in homes and hasattr(model, "constraints"):
        from optverify.modelling import cvxpy

        return cvxpy.read(model)
    if "pyomo" in homes and hasattr(model, "component_data_objects"):
        from optverify.modelling import pyomo

        return pyomo.read(model)
    raise InputError(f"a cvxpy.Problem or a Pyomo model is needed, not {type(model).__name__}")
