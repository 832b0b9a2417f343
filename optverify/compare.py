"""How tight are the methods? One table of rigorous bounds, claims, times and sizes.

>>> from optverify import Box, Network
>>> from optverify.compare import compare
>>> net = Network.from_arrays([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])  # |x|
>>> table = compare(net, Box([-1], [2]), ["Y_0"], methods=["interval", "triangle", "exact"], sense="max")
>>> [round(value, 6) for value in table["bound"]]
[3.0, 2.0, 2.0]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from optverify.bound import Minimum
from optverify.errors import InputError, OptverifyError, SolverUnavailable, UnsupportedProgram, expect
from optverify.expressions import Linear
from optverify.formulations.program import Cone
from optverify.instances import Instance, Item, Options, answer_row, as_table, empty_row
from optverify.network import Network
from optverify.preactivation import Bounds
from optverify.query import Query
from optverify.region import Box
from optverify.results import versions
from optverify.search import attack
from optverify.search.methods import METHODS, SEMIDEFINITE, interrupted
from optverify.search.task import PREACTIVATION, Task, preactivation_bounds
from optverify.search.workers import cpu_seconds, one_thread
from optverify.solvers import INTERIOR_POINT, LINEAR
from optverify.solvers import get as get_solver
from optverify.store import Store, key_of

if TYPE_CHECKING:
    from pandas import DataFrame

PROGRAMS = {
    "triangle": "LP",
    "triangle+tightened": "LP",
    "lifted": "SDP",
    "lifted+cuts": "SDP",
    "bigm": "MILP",
    "exact": "LP",
}
"""What kind of program each method that has one solves."""

RETRIED = frozenset({"error", "unavailable", "interrupted"})
"""Rows of these statuses are not kept for a run that goes on."""


def compare(
    network: Network,
    question: Query | Box,
    objectives: Sequence[Linear | str | ArrayLike] = (),
    *,
    methods: Sequence[str] = tuple(METHODS),
    solvers: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    bounds: str = "crown",
    sense: Literal["min", "max"] = "min",
    repeats: int = 1,
    time_limit: float | None = None,
    gap: float = 1e-6,
    seed: int = 0,
    workers: int = 1,
    resume: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    name: str = "",
) -> DataFrame:
    """Bound the same objectives by several methods.

    Parameters
    ----------
    network : Network
    question : Query or Box
        Of a query each case is an objective: the largest left side of its unsafe conditions. A bound above 0 proves
        that the case is not reached.
    objectives : sequence of Linear, str or (n_outputs,) array
        Over a region; all outputs by default.
    methods : sequence of str
        Of :func:`optverify.bound`. The first one is the baseline of the column ``closed``.
    solvers : sequence of str, or mapping from method to one or several, optional
        A sequence is for the methods whose programs a solver takes. By default HiGHS, and our interior-point method for
        the lifted relaxation.
    bounds : str
        Pre-activation bounds that *all* methods start from: ``crown``, ``interval`` or ``tightened``; or ``own``: what
        each makes for itself, interval arithmetic for ``interval``.
    sense : "min" or "max"
    repeats : int
        Rows for each method, which differ in their times.
    time_limit : float, seconds, optional
        For one method on one objective.
    gap : float
        See :func:`optverify.bound`.
    seed, workers : int
    resume : str, optional
        File to which each row is written when it is done; rows that it has already are not computed again.
    progress : callable, optional
        Called with (rows done, rows in all, what comes next).
    name : str
        Of the instance.

    Returns
    -------
    pandas.DataFrame
        A row for each objective, method, solver and repeat, with :data:`optverify.instances.COLUMNS`. A method that
        fails, cannot be used or runs out of time is a row with a status. Ctrl-C ends it: the method that was running
        leaves the bound that there is, and it and the rest are rows with the status ``interrupted``.

    Raises
    ------
    InputError
        Unknown methods, solvers or bounds; a file that holds something else.
    ShapeError
        Sizes disagree.
    """
    return compare_instances(
        [Instance(network, question, objectives, name)],
        methods=methods,
        solvers=solvers,
        bounds=bounds,
        sense=sense,
        repeats=repeats,
        time_limit=time_limit,
        gap=gap,
        seed=seed,
        workers=workers,
        resume=resume,
        progress=progress,
    )


def compare_instances(
    instances: Iterable[Instance],
    *,
    methods: Sequence[str] = tuple(METHODS),
    solvers: Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
    bounds: str = "crown",
    sense: Literal["min", "max"] = "min",
    repeats: int = 1,
    time_limit: float | None = None,
    gap: float = 1e-6,
    seed: int = 0,
    workers: int = 1,
    resume: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> DataFrame:
    """Compare methods on several instances; see :func:`compare`."""
    if bounds not in PREACTIVATION:
        raise InputError(f"bounds must be one of {', '.join(PREACTIVATION)}, not {bounds!r}")
    if sense not in ("min", "max"):
        raise InputError(f"sense must be 'min' or 'max', not {sense!r}")
    if not gap >= 0 or repeats < 1 or (time_limit is not None and not time_limit > 0):
        raise InputError("gap must not be negative, repeats and time_limit must be positive")
    plan = _plan(methods, solvers)
    import scipy.sparse  # noqa: F401  what is loaded at first use would count as the first method's time

    instances = list(instances)
    for instance in instances:
        expect(Instance, instance=instance)
    items = [item for instance in instances for item in instance.items(sense)]
    options = Options(bounds, time_limit, gap, seed, workers)
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        store = stack.enter_context(Store(resume, RETRIED))
        rows = list(_rows(items, plan, options, repeats, store, progress))
    return as_table(rows, methods[0])


def _plan(
    methods: Sequence[str], solvers: Sequence[str] | Mapping[str, str | Sequence[str]] | None
) -> list[tuple[str, str | None]]:
    """Pair methods with solvers, in order."""
    unknown = [m for m in methods if m not in METHODS]
    if unknown or not methods:
        raise InputError(f"unknown method {', '.join(map(repr, unknown))}; choose from {', '.join(METHODS)}")
    if isinstance(solvers, str):
        raise InputError("solvers is a list of names, or a mapping from method to names")
    if isinstance(solvers, Mapping) and solvers.keys() - PROGRAMS.keys():
        raise InputError(f"no solver for {min(solvers.keys() - PROGRAMS.keys())!r}: it has no program")
    plan: list[tuple[str, str | None]] = []
    for method in dict.fromkeys(methods):
        if method not in PROGRAMS:
            plan.append((method, None))
            continue
        if isinstance(solvers, Mapping):
            given = solvers.get(method, ())
            names = [given] if isinstance(given, str) else list(given)
            for name in names:
                _takes(name, PROGRAMS[method])  # an unknown name is an error at once
        else:
            names = [name for name in solvers or () if _takes(name, PROGRAMS[method])]
        default = INTERIOR_POINT if method in SEMIDEFINITE else LINEAR
        plan.extend((method, name) for name in names or [default])
    return plan


def _takes(name: str, kind: str) -> bool:
    """Tell whether a solver takes a kind of program."""
    if name == INTERIOR_POINT:
        return kind == "SDP"
    solver = get_solver(name)
    return {"LP": Cone.NONNEG in solver.cones, "SDP": Cone.PSD in solver.cones, "MILP": solver.mixed_integer}[kind]


def _rows(
    items: Sequence[Item],
    plan: Sequence[tuple[str, str | None]],
    options: Options,
    repeats: int,
    store: Store,
    progress: Callable[[int, int, str], None] | None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each item, method, solver and repeat; Ctrl-C makes the rest empty ones."""
    total, done, stopped = len(items) * len(plan) * repeats, 0, False
    shared = _Shared(options)
    for item in items:
        for method, solver in plan:
            for repeat in range(repeats):
                given = (item.instance.network.digest, item.identity, item.sense, method, solver, repeat)
                key = key_of(*given, vars(options), versions()["optverify"])
                row = store.get(key)
                if row is None:
                    row = empty_row(item, method, solver, repeat, options) | {"status": "interrupted"}
                    if not stopped:
                        try:
                            if progress is not None:
                                what = (item.instance.name, item.objective, method)
                                progress(done, total, " ".join(filter(None, what)))
                            row |= shared.run(item, method, solver)
                        except KeyboardInterrupt:
                            stopped = True
                        store.put(key, row)
                stopped = stopped or row["status"] == "interrupted"
                done += 1
                # Names and tags are the caller's, and may have changed since the row was made.
                yield {**item.instance.tags, **row, "instance": item.instance.name}
    if progress is not None:
        progress(total, total, "done")


class _Shared:
    """What the methods share: pre-activation bounds of the region, points from an attack on the objective."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._bounds: dict[tuple[str, Box, int], tuple[Bounds | None, float]] = {}
        self._item: Item | None = None
        self._start = attack.Best()

    def bounds(self, item: Item) -> tuple[Bounds | None, float]:
        """Return pre-activation bounds and the seconds that they took, once for all objectives over a region."""
        goal = item.goal
        key = (item.instance.network.digest, goal.region, goal.network.sizes[-2])
        if key not in self._bounds:
            began = time.perf_counter()
            found = preactivation_bounds(goal, self.options.bounds, self.options.time_limit)
            self._bounds = {key: (found, time.perf_counter() - began)}  # only the last region's: they may be large
        return self._bounds[key]

    def start(self, item: Item) -> attack.Best:
        """Return a copy of the best point of one attack."""
        if self._item is not item:
            self._item, self._start = item, attack.Best()
            rng = np.random.default_rng(self.options.seed)
            attack.attack(item.goal, item.goal.region.outward, self._start, rng, stop_at=-inf)
            if self._start.point is None:  # every value overflowed: any point will do
                region = item.goal.region.outward
                self._start.point = 0.5 * region.lower + 0.5 * region.upper
        return replace(self._start)

    def run(self, item: Item, method: str, solver: str | None) -> dict[str, Any]:
        """Run one method; whatever goes wrong is a status."""
        try:
            known, bounds_seconds = self.bounds(item)
            best, target = self.start(item), Minimum(item.goal, self.options.gap)
            assert best.point is not None
            target.offer(best.value, best.point)
            options = self.options
            task = Task(item.goal, target, best, solver, options.time_limit, None, options.workers, bounds=known)
            began, cpu = time.perf_counter(), cpu_seconds()
            try:
                found = METHODS[method](task)
            except KeyboardInterrupt:
                found = interrupted(task)
            spent = {"seconds": time.perf_counter() - began, "cpu_seconds": cpu_seconds() - cpu}
        except SolverUnavailable as error:
            return {"status": "unavailable", "reason": str(error)}
        except UnsupportedProgram as error:
            return {"status": "unsupported", "reason": str(error)}
        except OptverifyError as error:
            return {"status": "error", "reason": str(error)}
        except Exception as error:  # a defect of ours loses a row, not the table
            return {"status": "error", "reason": f"internal error, please report it: {type(error).__name__}: {error}"}
        return answer_row(item, found, target) | spent | {"bounds_seconds": bounds_seconds}
