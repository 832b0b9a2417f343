"""Five figures: bounds, gaps and times, shares proved, widths of intervals, the trace of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from optverify.errors import InputError
from optverify.plots.style import axes, drawable, style_of, tidy
from optverify.preactivation import Bounds, widths
from optverify.search.tree import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


def plot_bounds(table: DataFrame, ax: Axes | None = None) -> Axes:
    """Draw each method's bound on each objective, and the exact value as a line.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`optverify.compare`; repeats and solvers of a method fall on one another.
    ax : matplotlib Axes, optional

    Notes
    -----
    Bounds that are not finite, or so large that axes cannot be laid out, are left out. Where ``exact`` was not run, the
    line is the best value attained.
    """
    ax = axes(ax)
    keys = ["instance", "case", "objective", "sense"]
    groups = list(table.groupby(keys, sort=False))
    methods = [m for m in dict.fromkeys(table.method) if m != "exact"]
    spread = np.linspace(-0.32, 0.32, max(len(methods), 2)) if len(methods) > 1 else np.zeros(1)
    labels: list[str] = []
    for k, ((instance, _, objective, sense), part) in enumerate(groups):
        value, name = _reference(part, sense)
        value = value if drawable(value) else np.nan
        ax.plot([k - 0.42, k + 0.42], [value, value], color="black", linewidth=1.6, label=name if k == 0 else None)
        labels.append("\n".join(shorten(text, 30) for text in (f"{sense} {objective}", instance) if text))
        for j, method in enumerate(methods):
            bounds = part[part.method == method].bound
            bounds = bounds[drawable(bounds)]
            mark = style_of(method, j)
            ax.plot(
                np.full(len(bounds), k + spread[j]),
                bounds,
                linestyle="none",
                marker=mark.marker,
                markersize=8,
                color=mark.colour,
                markeredgecolor="black",
                markeredgewidth=0.6,
                label=method if k == 0 else None,
            )
    slanted = len(labels) * max(map(len, labels), default=0) > 60
    ax.set_xticks(range(len(labels)), labels, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.set_ylabel("rigorous bound")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    return tidy(ax)


def _reference(part: DataFrame, sense: str) -> tuple[float, str]:
    """Return the exact value, or else the best attained one, and what it is."""
    exact = part.bound[(part.method == "exact") & np.isfinite(part.bound)]
    if len(exact):
        return float(exact.max() if sense == "min" else exact.min()), "exact"
    return float(part.attained.min() if sense == "min" else part.attained.max()), "best attained"


def plot_gaps(table: DataFrame, ax: Axes | None = None) -> Axes:
    """Draw gap against time, both logarithmic: a point a method, the medians of its rows.

    Parameters
    ----------
    table : pandas.DataFrame
    ax : matplotlib Axes, optional

    Notes
    -----
    A gap of nothing is said in the legend, and stands at a tenth of the least other one.
    """
    ax = axes(ax)
    points = {
        str(method): (part.seconds.median(), part.gap.median())
        for method, part in table.groupby("method", sort=False)
        if drawable(part.seconds.median()) and drawable(part.gap.median())
    }
    floor = min((gap for _, gap in points.values() if gap > 0), default=1.0) / 10.0
    for j, (method, (seconds, gap)) in enumerate(points.items()):
        mark = style_of(method, j)
        y = gap if gap > 0 else floor
        ax.plot(
            max(seconds, 1e-6),
            y,
            label=method if gap > 0 else f"{method} (gap 0)",
            linestyle="none",
            marker=mark.marker,
            markersize=9,
            color=mark.colour,
            markeredgecolor="black",
            markeredgewidth=0.6,
        )
    if points:  # a logarithmic axis of nothing is an error of matplotlib's
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small")
    ax.set_xlabel("seconds (median)")
    ax.set_ylabel("gap to the best value attained (median)")
    return tidy(ax)


def plot_proved(table: DataFrame, ax: Axes | None = None, *, by: str = "radius") -> Axes:
    """Draw the fraction of rows that each method proves against a tag of the instances.

    Parameters
    ----------
    table : pandas.DataFrame
        Of queries; see ``tags`` of :class:`optverify.instances.Instance`.
    ax : matplotlib Axes, optional
    by : str
        A column of numbers.

    Raises
    ------
    InputError
        There is no such column, or there are no verdicts.
    """
    if by not in table.columns:
        raise InputError(f"the table has no column {by!r}: give the instances a tag of that name")
    if not any(table.verdict):
        raise InputError("the table has no verdicts: compare queries, not regions with objectives")
    ax = axes(ax)
    for j, (method, part) in enumerate(table.groupby("method", sort=False)):
        share = (part.verdict == "verified").groupby(part[by]).mean()
        mark = style_of(str(method), j)
        ax.plot(
            share.index.to_numpy(),
            share.to_numpy(),
            linestyle=mark.dash,
            marker=mark.marker,
            markersize=max(12.0 - 1.4 * j, 4.0),  # where methods prove the same, all of them can be seen
            linewidth=max(4.0 - 0.6 * j, 1.2),
            color=mark.colour,
            markeredgecolor="black",
            markeredgewidth=0.5,
            label=method,
        )
    ax.set_ylim(-0.04, 1.04)
    ax.set_xlabel(by)
    ax.set_ylabel("fraction proved")
    ax.legend(frameon=False, fontsize="small")
    return tidy(ax)


def plot_widths(bounds: Mapping[str, Bounds], ax: Axes | None = None) -> Axes:
    """Draw how wide pre-activation intervals are, layer by layer: medians, and bars from quarter to quarter.

    Parameters
    ----------
    bounds : mapping from name to Bounds, ends of shape (n_k,)
    ax : matplotlib Axes, optional

    Raises
    ------
    InputError
        There is nothing to draw, or the bounds are of different networks.
    """
    sizes = {tuple(len(z.lower) for z in b.layers) for b in bounds.values()}
    if len(sizes) != 1 or sizes == {()}:
        raise InputError("pass bounds of one network with a Relu, for instance {'interval': ..., 'crown': ...}")
    ax = axes(ax)
    spread = np.linspace(-0.15, 0.15, len(bounds)) if len(bounds) > 1 else [0.0]
    for j, (name, found) in enumerate(bounds.items()):
        mark = style_of(name, j)
        quarters = np.array([np.quantile(w, [0.25, 0.5, 0.75]) for w in widths(found)])
        quarters = np.where(drawable(quarters), quarters, np.nan)
        layer = 1 + np.arange(len(quarters)) + spread[j]
        ax.errorbar(
            layer,
            quarters[:, 1],
            yerr=[quarters[:, 1] - quarters[:, 0], quarters[:, 2] - quarters[:, 1]],
            linestyle=mark.dash,
            marker=mark.marker,
            color=mark.colour,
            markeredgecolor="black",
            markeredgewidth=0.5,
            capsize=3,
            label=name,
        )
    if all((w > 0).any() for found in bounds.values() for w in widths(found)):
        ax.set_yscale("log")
    ax.set_xticks(range(1, 1 + len(next(iter(sizes)))))
    ax.set_xlabel("ReLU layer")
    ax.set_ylabel("width of pre-activation intervals")
    ax.legend(frameon=False, fontsize="small")
    return tidy(ax)


def plot_trace(trace: Sequence[Progress], ax: Axes | None = None, *, by: str = "seconds") -> Axes:
    """Draw the proved bound and the best point of a search as they came together.

    Parameters
    ----------
    trace : sequence of Progress
        What a search reports: pass ``progress=trace.append`` to :func:`optverify.verify` or `bound`.
    ax : matplotlib Axes, optional
    by : str
        ``seconds`` or ``nodes``. Searches of several regions stand one after the other.

    Raises
    ------
    InputError
        The trace is empty, or `by` is neither.
    """
    if not trace or by not in ("seconds", "nodes"):
        raise InputError("pass what a search has reported, and by='seconds' or by='nodes'")
    ax = axes(ax)
    starts = [k for k, p in enumerate(trace) if k == 0 or p.nodes < trace[k - 1].nodes]
    offset = 0.0
    for first, last in pairwise([*starts, len(trace)]):
        part = trace[first:last]
        x = offset + np.array([float(getattr(p, by)) for p in part])
        offset = float(x[-1])
        lower, upper = (np.array([getattr(p, end) for p in part]) for end in ("lower", "upper"))
        for values, label, dash, marker in (
            (upper, "best point (attained)", "--", "v"),
            (lower, "bound (proved)", "-", "^"),
        ):
            shown = drawable(values)
            name = None if first else label
            ax.step(x[shown], values[shown], where="post", linestyle=dash, color="black", linewidth=1.2, label=name)
            if shown.any():
                ax.plot(x[shown][-1], values[shown][-1], marker=marker, color="black", linestyle="none")
        both = drawable(lower) & drawable(upper)
        ax.fill_between(x[both], lower[both], upper[both], step="post", color="#56b4e9", alpha=0.25, linewidth=0)
    ax.set_xlabel(by)
    ax.set_ylabel("objective")
    ax.legend(frameon=False, fontsize="small")
    return tidy(ax)
