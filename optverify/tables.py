"""What :func:`optverify.compare` returns, as a table to print: a line a method and objective, or a line a method."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from optverify.report.sources import SOURCES, bibtex
from optverify.report.table import Table
from optverify.report.text import number, rounded_down, rounded_up

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Format = Literal["markdown", "latex", "csv", "json"]
ENDED = ("done", "optimal")
"""Statuses of methods that came to their end."""

FORMATS: tuple[Format, ...] = ("markdown", "latex", "csv", "json")


def rendered(table: DataFrame, form: Format, *, by_method: bool = False, cite: bool = False) -> str:
    """Return a comparison as text.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`optverify.compare`.
    form : str
        ``markdown`` and ``latex`` print a selection, bounds rounded so that they stay bounds; ``csv`` and ``json`` have
        all columns and all digits (JSON has null for what is no finite number).
    by_method : bool
        A line a method instead of one for each of its rows; for the first two.
    cite : bool
        ``latex`` cites the sources of the methods; see :func:`sources`.
    """
    if form == "csv":
        return str(table.to_csv(index=False)).rstrip("\n")
    if form == "json":
        return json.dumps([{k: _plain(v) for k, v in row.items()} for row in table.to_dict("records")], indent=1)
    shown = (totals if by_method else summary)(table, narrow=form == "latex")
    if form == "markdown":
        return shown.markdown()
    methods = list(dict.fromkeys(table.method)) if by_method else list(table.method)
    names = table.instance.unique()
    label = "-".join(re.findall("[a-z0-9]+", names[0].lower())) if len(names) == 1 else ""
    return shown.latex(f"tab:{label or 'comparison'}", [SOURCES.get(m, ()) for m in methods] if cite else ())


def sources(table: DataFrame) -> str:
    """Return BibTeX entries for the methods and solvers of a comparison, and for safe bounds."""
    return bibtex(dict.fromkeys([*table.method, *(_solver(v) for v in table.solver_version)]))


def summary(table: DataFrame, *, narrow: bool = False) -> Table:
    """Return a line for each row of a comparison, under a heading for each objective.

    Parameters
    ----------
    table : pandas.DataFrame
    narrow : bool
        Leave out what a page has no room for.
    """
    columns: dict[str, Callable[[Any], str]] = {
        "method": lambda row: str(row.method),
        "solver": lambda row: str(row.solver),
        "bound": lambda row: _outward(row.bound, row.sense),
        "claim": lambda row: _figure(row.claim),
        "claim to bound": lambda row: f"{row.loss:.1e}" if np.isfinite(row.loss) else "-",
        "gap": lambda row: _outward(row.gap, "max", 3),
        "closed %": lambda row: f"{row.closed:z.1f}" if np.isfinite(row.closed) else "-",
        "verdict": lambda row: str(row.verdict),
        "unstable": lambda row: _count(row.unstable),
        "size": _size,
        "build s": lambda row: _figure(row.build_seconds, 2),
        "solve s": lambda row: _figure(row.solve_seconds, 2),
        "validate s": lambda row: _figure(row.validate_seconds, 2),
        "total s": lambda row: _figure(row.seconds, 2),
        "status": lambda row: str(row.status),
    }
    dull = {
        "verdict": not any(table.verdict),
        "solver": narrow and not table.groupby("method").solver.nunique().gt(1).any(),
        "status": narrow and bool(table.status.isin(ENDED).all()),
    } | dict.fromkeys(("unstable", "size", "build s", "solve s", "validate s"), narrow)
    columns = {name: show for name, show in columns.items() if not dull.get(name)}
    words = {"method", "solver", "verdict", "size", "status"}
    rows = tuple(tuple(show(row) for show in columns.values()) for row in table.itertuples())
    numeric = tuple(name not in words for name in columns)
    return Table(tuple(columns), rows, numeric, caption(table), tuple(map(_heading, table.itertuples())))


def totals(table: DataFrame, *, narrow: bool = False) -> Table:
    """Return a line for each method: how much it proves, how near it comes, how long it takes.

    Parameters
    ----------
    table : pandas.DataFrame
    narrow : bool
        Leave out counts that say nothing.
    """
    verdicts = ("verified", "falsified", "unknown") if any(table.verdict) else ()
    columns: dict[str, Callable[[DataFrame], str]] = {
        "rows": lambda part: str(len(part)),
        **{verdict: partial(_of_verdict, verdict) for verdict in verdicts},
        "ended": lambda part: str(int(part.status.isin(ENDED).sum())),
        "median gap": lambda part: _figure(part.gap.median(), 3),
        "largest gap": lambda part: _outward(part.gap.max(), "max", 3),
        "median closed %": lambda part: _figure(part.closed.median(), 4),
        "claim to bound, most": lambda part: f"{part.loss.max():.1e}" if part.loss.notna().any() else "-",
        "median s": lambda part: _figure(part.seconds.median(), 2),
        "most s": lambda part: _figure(part.seconds.max(), 2),
    }
    if narrow:
        dull = {verdict for verdict in verdicts if verdict not in set(table.verdict)}
        dull |= {"rows"} if verdicts else set()
        dull |= {"ended"} if table.status.isin(ENDED).all() else set()
        columns = {name: show for name, show in columns.items() if name not in dull}
    groups = table.groupby("method", sort=False)
    rows = tuple((str(method), *(show(part) for show in columns.values())) for method, part in groups)
    return Table(("method", *columns), rows, (False, *(True for _ in columns)), caption(table))


def _of_verdict(verdict: str, part: DataFrame) -> str:
    return str(int((part.verdict == verdict).sum()))


def caption(table: DataFrame) -> str:
    """Say what the numbers mean and where they come from."""
    senses = sorted(set(table.sense))
    what = {"min": "lower bounds on minima", "max": "upper bounds on maxima"}
    solvers = _listed(dict.fromkeys(v for v in table.solver_version if v))
    methods = table.groupby("preactivation", sort=False).method.unique()
    start = _listed(f"{kind} ({', '.join(names)})" for kind, names in methods.items())
    baseline = table.method.iloc[0] if len(table) else ""
    return (
        f"Rigorous {' and '.join(what[s] for s in senses)}, proved for {_listed(set(table.semantics))} arithmetic over "
        f"the weights in the file and printed rounded outward; claims are the solvers' figures and prove nothing. "
        f"Gap: to the best value attained; closed: of the gap of {baseline}. "
        f"Pre-activation bounds: {start}. Solvers: {solvers or 'none'}. "
        f"optverify {_listed(set(table.optverify))}; {_listed(set(table.machine))}; elapsed seconds."
    )


def _listed(values: Iterable[str]) -> str:
    return "; ".join(values)


def _heading(row: Any) -> str:
    name = f"{row.instance}, " if row.instance else ""
    return f"{name}{'case' if row.verdict else 'objective'} {row.case}: {row.sense} {row.objective}"


def _outward(value: float, sense: str, digits: int = 6) -> str:
    """Print a lower bound rounded down, an upper one rounded up."""
    return (rounded_down if sense == "min" else rounded_up)(value, digits)


def _figure(value: float, digits: int = 6) -> str:
    return number(value) if digits == 6 else f"{value:.{digits}g}" if np.isfinite(value) else "-"


def _count(value: Any) -> str:
    return "-" if str(value) in ("None", "nan", "<NA>") else str(int(value))


def _size(row: Series) -> str:
    if _count(row.variables) == "-":
        return "-"
    extra = [f"PSD {row.psd}"] if row.psd else []
    extra += [f"{row.binaries} binary"] if row.binaries else []
    return ", ".join([f"{row.variables} x {row.rows}", *extra])


def _solver(version: str) -> str:
    return version.split(" ", 1)[0].removeprefix("auto:")


def _plain(value: Any) -> Any:
    """Return what JSON can hold; null for what is no finite number."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return None if str(value) == "<NA>" else value
