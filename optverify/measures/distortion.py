"""Minimum distortion as a mixed-integer program: a claim, and a point to start from.

The big-M formulation over the ball of the best counterexample so far with the distance as objective (Tjeng, Xiao,
Tedrake, ICLR 2019, section 4.1), one program for each way to be unsafe:

    minimise t    subject to    the traces of the network,  rows of the group <= 0,  |x - x0| <= t

For "1", t is the sum of a variable for each input; for "0", of a binary one: |x_i - x0_i| <= (u_i - l_i) b_i.
"""

from __future__ import annotations

import time
from math import inf, isnan

import numpy as np

from optverify import solvers
from optverify.bounds.crown import crown, output_bounds
from optverify.errors import InputError, UnsupportedProgram
from optverify.formulations.bigm import bigm
from optverify.formulations.encoder import Weighted
from optverify.formulations.program import Block, Cone, Program
from optverify.interval import Array, Interval
from optverify.measures.question import Question, outward_radius
from optverify.search.guide import MAX_UNSTABLE
from optverify.solvers import LINEAR
from optverify.solvers.solution import Solver, Status


def minimum_distortion(
    question: Question, solver: str | Solver = LINEAR, time_limit: float = inf
) -> tuple[float | None, bool]:
    """Ask a mixed-integer solver how far the nearest counterexample is.

    Parameters
    ----------
    question : Question
        For the norms "inf", "1" and "0". Its counterexample, where there is one, cuts the programs off; it learns of
        the solver's points, after an exact replay.
    solver : str or Solver
    time_limit : float, seconds

    Returns
    -------
    float or None
        The least distance claimed: not a proof of anything; inf if the solver says that there is no counterexample.
        None where some program did not end by itself.
    bool
        Whether a better point than before was found and replayed.

    Raises
    ------
    InputError
        For "2": the solver takes linear programs.
    """
    if question.norm == "2":
        raise InputError("the mixed-integer program takes the norms inf, 1 and 0")
    deadline, before = time.monotonic() + time_limit, question.upper
    goal, claims = question.goal, list[float]()
    region = _region(question)
    bounds, frame = crown(goal.network, region.take(None))
    base = bigm(goal.network, region, bounds.take(0), Weighted(np.zeros(goal.network.n_outputs)))
    value = output_bounds(frame).value[0]
    for group in goal.groups:
        if value[list(group)].max() > 0:
            continue
        program = _with_distance(base, question, group)
        left = deadline - time.monotonic()
        if left <= 0:
            return None, question.upper < before
        solution = solvers.get(solver).solve(program, time_limit=None if left == inf else left)
        if solution.primal is not None:
            question.offer(np.clip(solution.primal[program.variables["x"].indices], region.lower, region.upper))
        if solution.status is Status.INFEASIBLE:
            continue
        if solution.status is not Status.OPTIMAL or isnan(solution.objective):
            return None, question.upper < before
        claims.append(solution.objective)
    cut = min(before, question.upper)
    return min([cut, *claims]), question.upper < before


def claimed(question: Question, solver: str | Solver, seconds: float) -> float | None:
    """Return what :func:`minimum_distortion` claims; None where it has nothing to say."""
    try:
        return minimum_distortion(question, solver, seconds)[0]
    except (InputError, UnsupportedProgram):  # l2; numbers overflow; a solver of linear programs only
        return None


def is_small(question: Question) -> bool:
    """Tell whether the programs have few binary variables for neurons: where a solver may end within seconds."""
    network = question.goal.network
    bounds, _ = crown(network, _region(question).take(None))
    return sum(int(u.sum()) for u in bounds.take(0).unstable(network)) <= MAX_UNSTABLE


def _region(question: Question) -> Interval:
    """Return a box that contains all points of the domain that are no further away than the best counterexample."""
    return question.ball.within(outward_radius(question.upper, question.shift)).outer


def _with_distance(base: Program, question: Question, group: tuple[int, ...]) -> Program:
    """Return the program of one group."""
    from scipy.sparse import block_array, csr_array, eye_array

    ball, width = question.ball, base.n_variables
    x, y = base.variables["x"], base.variables["t"]
    n = x.size
    shared = question.norm == "inf"
    unit: Array = np.ones(n) if ball.weights is None else ball.weights
    if question.norm == "0":
        with np.errstate(over="ignore"):
            unit = np.clip(ball.box.upper - ball.box.lower, 0.0, np.finfo(float).max)
    sizes = csr_array(-unit[:, None]) if shared else -eye_array(n) @ csr_array(np.diag(unit))
    pick = csr_array((np.ones(n), (np.arange(n), np.arange(x.start, x.stop))), shape=(n, width))
    rows = csr_array(
        (np.ones(len(group)), (np.arange(len(group)), y.start + np.array(group))), shape=(len(group), width)
    )
    matrix = block_array([[base.A, None], [rows, None], [pick, sizes], [-pick, sizes]])
    more, start = sizes.shape[1], base.n_rows
    most = 1.0 if question.norm == "0" else min(question.upper, question.furthest())
    return Program(
        np.concatenate([np.zeros(width), np.ones(more)]),
        csr_array(matrix),
        np.concatenate([base.b, np.zeros(len(group)), ball.centre, -ball.centre]),
        {
            **base.rows,
            "unsafe": Block(start, start + len(group), Cone.NONNEG),
            "distance": Block(start + len(group), start + len(group) + 2 * n, Cone.NONNEG),
        },
        np.concatenate([base.lower, np.zeros(more)]),
        np.concatenate([base.upper, np.full(more, most)]),
        integer=np.concatenate([base.integer, np.full(more, question.norm == "0")]),
        variables=base.variables,
        name="minimum distortion",
    )
