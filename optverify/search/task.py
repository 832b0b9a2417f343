"""What a method of bounds is given, what it returns, and what can be said without a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isnan

import numpy as np

from optverify.bounds.ascent import ascend
from optverify.bounds.crown import crown, output_bounds
from optverify.bounds.interval_propagation import propagate
from optverify.bounds.relaxed import frame_of
from optverify.bounds.tighten import tighten
from optverify.errors import InputError
from optverify.formulations.program import Cone, Program, order_of
from optverify.interval import Array, Interval
from optverify.preactivation import Bounds
from optverify.proof import Proof
from optverify.query import Goal
from optverify.safe.multipliers import Frame
from optverify.search import attack
from optverify.search.tree import Progress, Target
from optverify.solvers.solution import Solver

ASCENT_STEPS = 40
"""Steps of ``alpha-crown``: their sizes have then fallen to a thousandth."""

DONE = "done"
"""Status of a method that ended by itself and asked no solver."""


@dataclass(frozen=True)
class Size:
    """How large a program is.

    Parameters
    ----------
    variables, rows : int
        Of a lifted relaxation: its variables z, and products with those of the box.
    psd : tuple of int
        Orders of its semidefinite matrices.
    binaries : int
    """

    variables: int
    rows: int
    psd: tuple[int, ...] = ()
    binaries: int = 0

    @classmethod
    def of(cls, program: Program) -> Size:
        """Measure a program."""
        psd = tuple(order_of(block.size) for block in program.rows.values() if block.cone is Cone.PSD)
        return cls(program.n_variables, program.n_rows, psd, int(program.integer.sum()))


@dataclass(frozen=True)
class Bounded:
    """A rigorous lower bound and how it came about.

    Parameters
    ----------
    lower : float
        Rigorous.
    claim : float or None
        The solver's figure.
    complete : bool
        Whether the method ended by itself.
    reason : str
    nodes, programs : int
    seconds : float
        In the solver.
    solver : str or None
        Its name, if it is not the one that was asked for.
    status : str
        A value of :class:`~optverify.solvers.solution.Status`, or ``done``.
    solved_by : str
        Name and version of the solver.
    build_seconds, validate_seconds : float
        To make the program, and to make a bound of its duals.
    size : Size or None
        Of the (last) program.
    unstable : int or None
        Neurons with l < 0 < u in the pre-activation bounds that were used.
    """

    lower: float
    claim: float | None
    complete: bool
    reason: str
    nodes: int = 0
    programs: int = 0
    seconds: float = 0.0
    solver: str | None = None
    status: str = DONE
    solved_by: str = ""
    build_seconds: float = 0.0
    validate_seconds: float = 0.0
    size: Size | None = None
    unstable: int | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is given.

    Parameters
    ----------
    goal : Goal
        Of one group, the largest of whose rows is to be minimised over one region.
    target : Target
        Learns of points found on the way.
    best : Best
        The most promising point so far.
    solver : str or Solver or None
    time_limit : float or None, seconds
    report : callable or None
    workers : int
        Processes.
    proof : Proof, optional
        Root of a tree in which ``exact`` writes down what it proves.
    bounds : Bounds, ends of shape (n_k,), optional
        Proved pre-activation bounds to start from. Otherwise ``interval`` makes its own, and the others start from
        backward ones.
    """

    goal: Goal
    target: Target
    best: attack.Best
    solver: str | Solver | None
    time_limit: float | None
    report: Callable[[Progress], None] | None
    workers: int = 1
    proof: Proof | None = None
    bounds: Bounds | None = None

    @property
    def region(self) -> Interval:
        """The region as a batch of one box."""
        return self.goal.region.outward.take(None)

    def largest(self, rows: Array) -> float:
        """Return the largest of the goal's rows: a bound on it, if the rows are bounds."""
        return float(max(rows[row] for row in self.goal.groups[0]))

    def within(self, seconds: float) -> Task:
        """Return the task with that much less time."""
        return self if self.time_limit is None else replace(self, time_limit=max(self.time_limit - seconds, 0.01))


@dataclass(frozen=True, eq=False)
class Root:
    """Pre-activation bounds of the whole region, and what they and cheap methods prove."""

    bounds: Bounds
    frame: Frame
    lower: float
    unstable: int


PREACTIVATION = ("own", "interval", "crown", "tightened")
"""Where pre-activation bounds may come from; ``own`` leaves it to the method."""


def preactivation_bounds(goal: Goal, kind: str, time_limit: float | None = None) -> Bounds | None:
    """Return pre-activation bounds of a goal's network over its region, ends of shape (n_k,).

    Parameters
    ----------
    goal : Goal
    kind : str
        One of :data:`PREACTIVATION`.
    time_limit : float, seconds, optional
        For ``tightened``.

    Raises
    ------
    InputError
        There is no such kind.
    """
    network, region = goal.network, goal.region.outward
    if kind == "own":
        return None
    if kind == "interval":
        return propagate(network, region.take(None))[0].take(0)
    if kind not in PREACTIVATION:
        raise InputError(f"bounds must be one of {', '.join(PREACTIVATION)}, not {kind!r}")
    bounds = crown(network, region.take(None))[0].take(0)
    return bounds if kind == "crown" else tighten(network, region, bounds, time_limit=time_limit)


def by_intervals(task: Task) -> tuple[float, Bounds]:
    """Bound by interval arithmetic; return the pre-activation bounds behind it, too."""
    if task.bounds is None:
        bounds, output = propagate(task.goal.network, task.region)
        return task.largest(output.lower[0]), bounds.take(0)
    frame = frame_of(task.goal.network, task.goal.region.outward, task.bounds)
    return task.largest(frame.inputs[-1].lower[0]), task.bounds


def root_of(task: Task) -> Root:
    """Bound by one backward pass; the pre-activation bounds are the task's, or backward ones."""
    lower, bounds = by_intervals(task)
    if task.bounds is None:
        of_one, frame = crown(task.goal.network, task.region)
        bounds = of_one.take(0)
    else:
        frame = frame_of(task.goal.network, task.goal.region.outward, bounds)
    return Root(bounds, frame, max(lower, by_output(task, frame)), unstable(task, bounds))


def by_output(task: Task, frame: Frame) -> float:
    """Bound the goal by one backward pass, and by interval arithmetic on the last layer."""
    return max(task.largest(output_bounds(frame).value[0]), task.largest(frame.inputs[-1].lower[0]))


def ascended(task: Task) -> Root:
    """Improve the backward pass by ascent on its slopes."""
    root, best = root_of(task), -inf
    for row in task.goal.groups[0]:
        objective = np.zeros((1, task.goal.network.n_outputs))
        objective[0, row] = 1.0
        stored = ascend(root.frame, objective, steps=ASCENT_STEPS)
        value = float(root.frame.lower(objective[:, None, :], stored).value[0, 0])
        best = max(best, value) if not isnan(value) else best
    return replace(root, lower=max(root.lower, best))


def unstable(task: Task, bounds: Bounds) -> int:
    """Count the neurons with l < 0 < u."""
    return sum(int(open_.sum()) for open_ in bounds.unstable(task.goal.network))
