"""Comparisons: tidy, rigorous, resumable, and never lost to a method that fails."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from optverify import Box, Instance, Network, Query, bound, compare, compare_instances, outputs
from optverify.errors import InputError, OutputError, ShapeError
from optverify.instances import COLUMNS
from optverify.search import methods as module
from optverify.search.methods import METHODS
from optverify.search.task import Bounded, Task

FAST = ["interval", "crown", "triangle", "exact"]


def network(seed: int = 0, sizes: tuple[int, ...] = (2, 6, 6, 2)) -> Network:
    """Make a random network."""
    rng = np.random.default_rng(seed)
    return Network.from_arrays([(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairwise(sizes)])


BOX = Box([-1, -1], [1, 1])


def test_the_table_is_tidy_and_true() -> None:
    """One row an objective and method; bounds are those of `bound`; attained values are on the other side."""
    net = network()
    for sense, sign in (("min", 1.0), ("max", -1.0)):
        table = compare(net, BOX, ["Y_0", "Y_1 - X_0"], sense=sense, name="random")  # type: ignore[arg-type]
        assert list(table.columns) == list(COLUMNS)
        assert len(table) == 2 * len(METHODS)
        for _, row in table.iterrows():
            assert sign * row["bound"] <= sign * row["attained"]
            assert row["gap"] >= 0
            assert row["status"] in ("done", "optimal")
            assert row["verdict"] == ""
        exact = table[table.method == "exact"]
        assert (exact.gap <= 1e-6 * exact.attained.abs().clip(lower=1)).all()
        assert (table.groupby("objective").closed.max() > 99.9).all()
        crown = table[(table.method == "crown") & (table.objective == "Y_0")].bound.item()
        answer = bound(net, BOX, "Y_0", method="crown", sense=sense)  # type: ignore[arg-type]
        assert crown == (answer.lower if sense == "min" else answer.upper)
    lifted = table[table.method == "lifted"].iloc[0]
    assert lifted.psd == str(1 + lifted.variables)
    bigm = table[table.method == "bigm"].iloc[0]
    assert bigm.binaries == bigm.unstable > 0


def test_all_methods_start_from_the_same_bounds_unless_asked_otherwise() -> None:
    """The column says which; intervals make every method weaker or leave it; `own` is what `bound` does."""
    net = network(3)
    found = {kind: compare(net, BOX, ["Y_0"], methods=FAST, bounds=kind) for kind in ("interval", "crown", "own")}
    assert (found["interval"].preactivation.str.startswith("interval")).all()
    assert found["own"].preactivation.tolist()[:2] == ["interval", "crown"]
    assert (found["interval"].bound <= found["crown"].bound + found["crown"].gap.iloc[-1]).all()
    assert found["interval"].bound[2] < found["crown"].bound[2]
    for method, value in zip(FAST, found["own"].bound, strict=True):
        assert value == bound(net, BOX, "Y_0", method=method).lower


def test_queries_have_verdicts() -> None:
    """Each case has rows: proved, refuted exactly, or neither; conjunctions are bounded by their largest row."""
    net = network(1)
    low, high = (bound(net, BOX, "Y_0", sense=sense).lower for sense in ("min", "max"))  # type: ignore[arg-type]
    y = outputs(2)
    query = Query.never(BOX, (y[0] <= low - 1) | (y[0] >= high - 0.01) | ((y[0] <= low - 1) & (y[1] <= 100)), 2)
    table = compare(net, query, methods=["interval", "exact"], time_limit=10)
    assert table[table.method == "exact"].verdict.tolist() == ["verified", "falsified", "verified"]
    assert table.objective[4].startswith("max(")
    verdicts = set(table[table.method == "interval"].verdict)
    assert verdicts <= {"verified", "falsified", "unknown"}


def test_failures_are_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that is not there, one that cannot, a defect: statuses; the other rows are as ever."""

    def broken(_: Task) -> Bounded:
        raise ZeroDivisionError("by design")

    monkeypatch.setitem(module.METHODS, "crown", broken)  # type: ignore[misc]
    solvers = {"triangle": ["highs", "cvxpy:NOSUCH"], "bigm": "clarabel"}
    table = compare(network(), BOX, ["Y_0"], methods=["interval", "crown", "triangle", "bigm"], solvers=solvers)
    assert table.status.tolist()[:3] == ["done", "error", "optimal"]
    assert table.status[3] in ("unavailable", "unsupported", "error", "failed")
    assert table.status[4] == "unsupported"
    assert "ZeroDivisionError" in table.reason[1]
    assert math.isnan(table.bound[1])
    assert table.bound[2] >= table.bound[0]


def test_overflow_and_points_are_ordinary() -> None:
    """Values beyond floats give infinite bounds and no crash; a region of one point is exact for all."""
    huge = Network.from_arrays([([[1e200]], [0.0]), ([[1e200]], [0.0]), ([[1.0]], [0.0])])
    table = compare(huge, Box([-1], [1]), methods=[*FAST, "lifted"], time_limit=2)
    assert (table.bound <= 0).all()
    assert not table.bound.isna().any()
    point = compare(network(), Box([0.5, 0.5], [0.5, 0.5]), ["Y_0"])
    assert point.gap.max() <= 1e-9


def test_interrupts_keep_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves what is done, and a bound of the method that was running; the rest have the status interrupted."""

    def interrupt(done: int, _total: int, _next: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    table = compare(network(), BOX, ["Y_0"], methods=FAST, progress=interrupt)
    assert table.status.tolist() == ["done", "done", "interrupted", "interrupted"]
    assert table.bound.notna().tolist() == [True, True, False, False]

    def stopped(_: Task) -> Bounded:
        raise KeyboardInterrupt

    monkeypatch.setitem(module.METHODS, "triangle", stopped)  # type: ignore[misc]
    table = compare(network(), BOX, ["Y_0"], methods=FAST)
    assert table.status.tolist() == ["done", "done", "interrupted", "interrupted"]
    assert table.bound[2] == table.bound[1]
    assert math.isnan(table.bound[3])


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Rows on the disk are not computed again, also after a line that was cut off; other options are other rows."""
    path = tmp_path / "rows.jsonl"
    nets = [Instance(network(k), BOX, ["Y_0"], name=f"net {k}", tags={"radius": 1.0}) for k in range(2)]
    first = compare_instances(nets, methods=FAST, resume=str(path))
    assert first.columns[0] == "radius"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 8
    path.write_text("".join(lines[:5]) + lines[5][:40])
    again: list[int] = []
    second = compare_instances(nets, methods=FAST, resume=str(path), progress=lambda done, *_: again.append(done))
    assert again == [5, 6, 7, 8]
    timing = [name for name in first.columns if name.endswith("seconds")]
    assert second.drop(columns=timing).equals(first.drop(columns=timing))
    assert (second[timing].iloc[:5] == first[timing].iloc[:5]).all(axis=None)
    compare_instances(nets[:1], methods=FAST, resume=str(path), bounds="interval")
    assert len(path.read_text().splitlines()) == 12
    path.write_text(json.dumps({"something": "else"}) + "\n")
    with pytest.raises(InputError, match="line 1"):
        compare_instances(nets, methods=FAST, resume=str(path))
    with pytest.raises(OutputError, match="cannot write"):
        compare_instances(nets, methods=FAST, resume=str(tmp_path))


def test_wrong_questions_are_errors() -> None:
    """Before any work: unknown names, sizes, options that do not fit."""
    net, query = network(), Query.never(BOX, outputs(2)[0] <= -100, 2)
    for options, message in (
        ({"methods": ["magic"]}, "unknown method 'magic'"),
        ({"methods": []}, "unknown method"),
        ({"solvers": {"triangle": "magic"}}, "there is no solver"),
        ({"solvers": {"crown": "highs"}}, "no solver for 'crown'"),
        ({"solvers": "highs"}, "solvers is a list"),
        ({"bounds": "guessed"}, "bounds must be"),
        ({"sense": "up"}, "sense"),
        ({"repeats": 0}, "repeats"),
        ({"time_limit": math.nan}, "time_limit"),
    ):
        with pytest.raises(InputError, match=message):
            compare(net, BOX, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="its own objectives"):
        compare(net, query, ["Y_0"])
    with pytest.raises(InputError, match="cannot be a tag"):
        Instance(net, query, tags={"bound": 1.0})
    with pytest.raises(ShapeError, match="3 inputs"):
        compare(net, Box([0, 0, 0], [1, 1, 1]))
    with pytest.raises(ShapeError, match="1 outputs"):
        compare(net, Query.never(BOX, outputs(1)[0] <= 0, 1))
