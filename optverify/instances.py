"""What methods are compared on, and the rows that they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan, nextafter
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from optverify.bound import Minimum, linear_objective
from optverify.errors import InputError, ShapeError, expect
from optverify.expressions import Linear
from optverify.network import Network
from optverify.query import Goal, Query, append_rows
from optverify.region import Box, boxes_only
from optverify.results import Verdict, machine, versions
from optverify.search.task import Bounded

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS: Mapping[str, str] = {
    "instance": "name of the instance",
    "case": "number of the query's case, or of the objective",
    "objective": "what is minimised or maximised; of a query, the left sides of a case's unsafe conditions",
    "sense": "min or max",
    "method": "see optverify.bound",
    "solver": "as it was asked for; empty if the method has none",
    "solver_version": "name and version of the solver that answered",
    "preactivation": "of neurons: where they come from; tightened, or refined in the tree, where a method does so",
    "bound": "rigorous: the optimum is not beyond it",
    "claim": "what the solver says the optimum of its program is; proves nothing",
    "loss": "from claim to bound; negative where the claim is not even true or another method's multipliers prove more",
    "attained": "rigorous: the objective's exact value at the best point that this method found, rounded outward",
    "gap": "from the bound to the best value attained by any method: the bound is off by at most this",
    "closed": "per cent of the gap of the first method (the baseline) that is closed",
    "verdict": "of a query: verified (bound > 0), falsified (the best point violates the case, exactly) or unknown",
    "status": "done, a solver's status, or why there is no bound: unavailable, unsupported, error",
    "reason": "the method's own words",
    "seconds": "elapsed, without the pre-activation bounds that all share",
    "cpu_seconds": "of all processes",
    "bounds_seconds": "to make the shared pre-activation bounds, once for all methods",
    "build_seconds": "to make the program; of triangle+tightened, with the tightening",
    "solve_seconds": "in the solver, or in the tree",
    "validate_seconds": "to make a bound of the duals",
    "variables": "of the program; of a lifted relaxation, its variables z",
    "rows": "of the program; of a lifted relaxation, its conditions",
    "psd": "orders of the semidefinite matrices",
    "binaries": "of the program",
    "unstable": "neurons with l < 0 < u",
    "nodes": "of the tree",
    "programs": "solved",
    "repeat": "counts them from 0",
    "semantics": "real: exact arithmetic over the weights in the file",
    "network_sha256": "content digest",
    "optverify": "version",
    "machine": "where it ran",
}
"""The columns of :func:`compare`, in order, and what they hold; tags of instances come before them."""


@dataclass(frozen=True)
class Instance:
    """A network and what is asked about it.

    Parameters
    ----------
    network : Network
    question : Query or Box
        A query asks for the verdict on each of its cases; a region comes with objectives.
    objectives : sequence of Linear, str or (n_outputs,) array
        All outputs, if there are none.
    name : str
    tags : mapping
        Further columns, for instance ``{"radius": 0.1}``.

    Raises
    ------
    InputError, ShapeError
        A query with objectives, an objective that is not linear, sizes that disagree.
    """

    network: Network
    question: Query | Box
    objectives: Sequence[Linear | str | ArrayLike] = ()
    name: str = ""
    tags: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect(Network, network=self.network)
        expect((Query, Box), question=self.question)
        taken = COLUMNS.keys() & self.tags.keys()
        if taken:
            raise InputError(f"{min(taken)!r} is a column of its own and cannot be a tag")
        if isinstance(self.question, Query):
            if len(self.objectives):
                raise InputError("a query has its own objectives; pass its region to bound others")
            boxes_only(case.region for case in self.question.cases)
            return
        boxes_only([self.question])
        if self.question.size != self.network.n_inputs:
            raise ShapeError(f"the region has {self.question.size} inputs, the network {self.network.n_inputs}")

    def items(self, sense: str) -> Iterator[Item]:
        """Yield one item for each objective, or for each case."""
        network, question = self.network, self.question
        if isinstance(question, Query):
            query = question
            query.goals(network)  # sizes fit, or it raises
            for k, case in enumerate(query.cases):
                goal = Goal.pose(network, query, case.region, [k])
                only = Query((case,), query.n_inputs, query.n_outputs)
                text = ", ".join(str(atom.linear) for atom in case.unsafe) or "-1"
                label = text if len(case.unsafe) < 2 else f"max({text})"
                yield Item(self, k, label, "min", goal, only, only.digest)
            return
        objectives = self.objectives if len(self.objectives) else [f"Y_{j}" for j in range(network.n_outputs)]
        for k, objective in enumerate(objectives):
            linear = linear_objective(network, objective)
            rows = append_rows(network, [linear if sense == "min" else -linear])
            goal = Goal(rows, question, ((0,),), (0,), ((0,),))
            ends = [str(v) for v in (*question.lower, *question.upper)]
            yield Item(self, k, str(linear), sense, goal, None, f"{linear} {' '.join(ends)}")


@dataclass(frozen=True, eq=False)
class Item:
    """One objective of one instance: what all methods are given."""

    instance: Instance
    case: int
    objective: str
    sense: str
    goal: Goal
    query: Query | None
    identity: str


@dataclass(frozen=True)
class Options:
    """How methods are run: what a row depends on beside its item and method.

    Parameters
    ----------
    bounds : str
        Pre-activation bounds that all methods start from.
    time_limit : float, seconds, optional
        For one method on one objective.
    gap : float
        Relative gap at which ``exact`` ends.
    seed, workers : int
    """

    bounds: str = "crown"
    time_limit: float | None = None
    gap: float = 1e-6
    seed: int = 0
    workers: int = 1


def empty_row(item: Item, method: str, solver: str | None, repeat: int, options: Options) -> dict[str, Any]:
    """Return a row of which only the question is known."""
    refined = {"triangle+tightened": ", tightened by programs", "exact": ", refined in the tree"}.get(method, "")
    own = {"interval": "interval"}.get(method, "crown") if options.bounds == "own" else options.bounds
    return dict.fromkeys(COLUMNS) | {
        "case": item.case,
        "objective": item.objective,
        "sense": item.sense,
        "method": method,
        "solver": solver or "",
        "solver_version": "",
        "preactivation": own + refined,
        "verdict": "" if item.query is None else Verdict.UNKNOWN.value,
        "reason": "",
        "psd": "",
        "repeat": repeat,
        "semantics": "real",
        "network_sha256": item.instance.network.digest,
        "optverify": versions()["optverify"],
        "machine": machine(),
    }


def answer_row(item: Item, found: Bounded, target: Minimum) -> dict[str, Any]:
    """Return the columns that a method fills in."""
    sign = 1.0 if item.sense == "min" else -1.0
    verdict = {} if item.query is None else {"verdict": _verdict(item, item.query, found.lower, target)}
    size = found.size
    return verdict | {
        "solver_version": found.solved_by,
        "bound": sign * found.lower,
        "claim": None if found.claim is None else sign * found.claim,
        "loss": None if found.claim is None else found.claim - found.lower,
        "attained": sign * target.upper,
        "status": found.status,
        "reason": found.reason,
        "build_seconds": found.build_seconds,
        "solve_seconds": found.seconds,
        "validate_seconds": found.validate_seconds,
        "variables": None if size is None else size.variables,
        "rows": None if size is None else size.rows,
        "psd": "" if size is None else " ".join(map(str, size.psd)),
        "binaries": None if size is None else size.binaries,
        "unstable": found.unstable,
        "nodes": found.nodes,
        "programs": found.programs,
    }


def _verdict(item: Item, query: Query, lower: float, target: Minimum) -> str:
    if lower > 0:
        return Verdict.VERIFIED.value
    if target.point is not None and target.upper <= 0:
        x = item.goal.region.clamp(target.point.tolist())
        if query.violated_by(x, item.instance.network.enclose(x)) is not None:
            return Verdict.FALSIFIED.value
    return Verdict.UNKNOWN.value


def as_table(rows: Sequence[dict[str, Any]], baseline: str) -> DataFrame:
    """Add the columns that several rows make, and return the table."""
    import pandas as pd

    tags = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in COLUMNS]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        keys = ("instance", "network_sha256", "case", "objective", "sense", *tags)
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    for group in groups.values():
        _relate(group, baseline)
    table = pd.DataFrame(rows, columns=[*tags, *COLUMNS])
    numbers = ["bound", "claim", "loss", "attained", "gap", "closed"] + [c for c in COLUMNS if c.endswith("seconds")]
    counts = ["case", "variables", "rows", "binaries", "unstable", "nodes", "programs", "repeat"]
    return table.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(counts, "Int64"))


def _relate(group: Sequence[dict[str, Any]], baseline: str) -> None:
    """Fill in gap and closed: how far each bound is from the best value attained."""
    sign = 1.0 if group[0]["sense"] == "min" else -1.0
    best = min((sign * row["attained"] for row in group if row["attained"] is not None), default=nan)

    def gap(row: dict[str, Any]) -> float:
        if row["bound"] is None:
            return nan
        difference = best - sign * row["bound"]
        return nextafter(difference, inf) if difference else 0.0  # rounded up: a theorem too

    first = next((gap(row) for row in group if row["method"] == baseline), nan)
    for row in group:
        row["gap"] = gap(row)
        row["closed"] = 100.0 * (1.0 - row["gap"] / first) if isfinite(first) and first > 0 else nan
