"""A network on a plane through its inputs: outputs or decisions, linear pieces, what is proved, what is refuted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from optverify.bound import linear_objective
from optverify.errors import InputError, ShapeError
from optverify.expressions import Linear
from optverify.interval import Array
from optverify.network import Network
from optverify.plots.style import axes
from optverify.query import Query
from optverify.region import Box, boxes_only
from optverify.results import Verdict, Verification
from optverify.search.attack import forward

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PIECES = 400
"""Neurons whose zero lines are drawn, at most: with more of them the lines fill the page."""

PALE = ("#bfe0f5", "#fdeccd", "#cfeee3", "#f3dbe8", "#e8e8e8", "#fdf6c3", "#d5e2ee", "#f6d8c5")


def slice_plot(
    network: Network,
    x: ArrayLike,
    directions: Sequence[ArrayLike],
    *,
    extent: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0),
    objective: Linear | str | ArrayLike | None = None,
    query: Query | None = None,
    answer: Verification | None = None,
    pieces: bool = True,
    resolution: int = 201,
    ax: Axes | None = None,
) -> Axes:
    """Draw a network on the plane x + s d + t e, with s and t in a rectangle.

    Parameters
    ----------
    network : Network
    x : (n_inputs,) float64
        Point of the plane at s = t = 0.
    directions : pair of (n_inputs,) float64
        d and e; unit vectors of two inputs give a picture in these inputs.
    extent : (s from, s to, t from, t to)
    objective : Linear, str or (n_outputs,) array, optional
        Whose values to draw. By default the only output, or of several the largest one: decision regions.
    query, answer : Query and Verification, optional
        What was asked and found: the regions of the query are outlined, and filled with hatches where the answer is
        VERIFIED; a counterexample is a cross, with its distance if it is not on the plane.
    pieces : bool
        Draw where neurons change sign: between these lines the network is affine.
    resolution : int
        Points in each direction.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ShapeError, InputError
        Sizes disagree; the directions are parallel; the rectangle is empty; a region is a ball.

    Notes
    -----
    A picture by floating-point evaluation on a grid: it shows, and proves nothing. What is proved is the answer.
    """
    if query is not None:
        boxes_only(case.region for case in query.cases)
    origin, plane = _plane(network, x, directions)
    if not (extent[0] < extent[1] and extent[2] < extent[3] and np.isfinite(extent).all() and resolution >= 2):
        raise InputError("extent is (s from, s to, t from, t to) with numbers that increase; resolution at least 2")
    ax = axes(ax)
    s, t = np.linspace(*extent[:2], resolution), np.linspace(*extent[2:], resolution)
    grid = np.stack(np.meshgrid(s, t), axis=-1)
    points = origin + grid @ plane
    with np.errstate(all="ignore"):
        passed = forward(network, points.reshape(-1, origin.size))
    y = passed[-1].reshape(resolution, resolution, -1)
    if objective is None and network.n_outputs > 1:
        _decisions(ax, s, t, y.argmax(axis=-1))
    else:
        linear = linear_objective(network, np.ones(1) if objective is None else objective)
        _values(ax, s, t, _evaluated(linear, points, y), str(linear))
    if pieces:
        _pieces(ax, s, t, network, passed, resolution)
    if query is not None:
        proved = answer is not None and answer.verdict is Verdict.VERIFIED
        for region in dict.fromkeys(case.region for case in query.cases):
            _region(ax, s, t, points, region, proved)
    if answer is not None and answer.witness is not None:
        _witness(ax, np.array(answer.witness.x_float()), origin, plane)
    ax.set_xlim(*extent[:2])
    ax.set_ylim(*extent[2:])
    ax.set_xlabel(_name(origin, plane[0], "s"))
    ax.set_ylabel(_name(origin, plane[1], "t"))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper right", fontsize="small", framealpha=0.9)
    return ax


def _plane(network: Network, x: ArrayLike, directions: Sequence[ArrayLike]) -> tuple[Array, Array]:
    """Return the origin and the two directions as rows."""
    origin = np.asarray(x, np.float64).ravel()
    rows = [np.asarray(direction, np.float64).ravel() for direction in directions]
    if len(rows) != 2 or any(row.size != network.n_inputs for row in (origin, *rows)):
        raise ShapeError(f"a slice needs a point and two directions of {network.n_inputs} values each")
    plane = np.stack(rows)
    if not (np.isfinite(origin).all() and np.isfinite(plane).all()):
        raise InputError("the point and the directions of a slice must be finite")
    if np.linalg.matrix_rank(plane) < 2:
        raise InputError("the two directions of a slice must not be parallel")
    return origin, plane


def _evaluated(linear: Linear, points: Array, y: Array) -> Array:
    value = np.full(y.shape[:2], float(linear.constant))
    for (kind, index), c in linear.terms.items():
        value += float(c) * (points if kind == "X" else y)[..., index]
    return value


def _decisions(ax: Axes, s: Array, t: Array, label: Any) -> None:
    """Fill decision regions and write the class into each: the number tells, the colour only helps."""
    classes = np.unique(label)
    for k, c in enumerate(classes):
        inside = label == c
        if len(classes) > 1:
            ax.contourf(s, t, inside.astype(float), levels=[0.5, 1.5], colors=[PALE[k % len(PALE)]])
            ax.contour(s, t, inside.astype(float), levels=[0.5], colors="black", linewidths=1.0)
        rows, columns = np.nonzero(inside)
        nearest = np.hypot(rows - rows.mean(), columns - columns.mean()).argmin()
        place = (s[columns[nearest]], t[rows[nearest]])
        text = ax.annotate(f"class {c}", place, ha="center", va="center", fontsize="small", weight="bold", zorder=5)
        text.set_bbox({"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 1.5})


def _values(ax: Axes, s: Array, t: Array, value: Array, name: str) -> None:
    """Fill by value, in colours whose brightness grows with it, with labelled level lines."""
    shown = np.ma.masked_invalid(value)
    filled = ax.contourf(s, t, shown, levels=12, cmap="cividis")
    ax.figure.colorbar(filled, ax=ax, label=name)
    lines = ax.contour(s, t, shown, levels=np.asarray(filled.levels)[::3], colors="white", linewidths=0.8)
    ax.clabel(lines, fontsize="x-small")


def _pieces(ax: Axes, s: Array, t: Array, network: Network, passed: Sequence[Array], resolution: int) -> None:
    """Draw the lines on which neurons change sign."""
    drawn = 0
    for position, mask in zip(network.relus, network.masks, strict=True):
        z = passed[position][:, mask]
        changing = np.flatnonzero((z.min(axis=0) < 0) & (z.max(axis=0) > 0))
        for j in changing[: MOST_PIECES - drawn]:
            value = z[:, j].reshape(resolution, resolution)
            ax.contour(s, t, value, levels=[0.0], colors="#7f7f7f", linewidths=0.6, linestyles="dotted")
        drawn += min(len(changing), MOST_PIECES - drawn)


def _region(ax: Axes, s: Array, t: Array, points: Array, region: Box, proved: bool) -> None:
    """Outline where the plane meets a region; hatch it where it is proved."""
    lower, upper = region.outward.lower, region.outward.upper
    inside = np.minimum(points - lower, upper - points)
    scale = np.where(upper > lower, upper - lower, 1.0)
    depth = (inside / scale).min(axis=-1)
    if not (depth >= 0).any():
        return
    dash = "-" if proved else "--"
    if proved:
        ax.contourf(s, t, depth, levels=[0.0, np.inf], colors="white", alpha=0.55)
        ax.contourf(s, t, depth, levels=[0.0, np.inf], colors="none", hatches=["///"])
    if (depth < 0).any():
        ax.contour(s, t, depth, levels=[0.0], colors="white", linewidths=4.5)  # seen on dark colours too
        ax.contour(s, t, depth, levels=[0.0], colors="black", linewidths=2.0, linestyles=dash)
    ax.plot([], [], color="black", linewidth=2.0, linestyle=dash, label="proved" if proved else "region")


def _witness(ax: Axes, point: Array, origin: Array, plane: Array) -> None:
    place, *_ = np.linalg.lstsq(plane.T, point - origin, rcond=None)
    distance = float(np.linalg.norm(point - origin - place @ plane))
    off = distance > 1e-9 * (1.0 + float(np.abs(point).max()))
    label = "counterexample" + (f", {distance:.2g} off the plane" if off else "")
    ax.plot(*place, marker="X", markersize=11, color="#d55e00", markeredgecolor="black", linestyle="none", label=label)


def _name(origin: Array, direction: Array, otherwise: str) -> str:
    """Name an axis: along a unit vector, the input that changes and where it starts."""
    (moved,) = np.nonzero(direction)
    if moved.size != 1 or direction[moved[0]] != 1:
        return otherwise
    start = origin[moved[0]]
    return f"X_{moved[0]}" + (f" {'-' if start > 0 else '+'} {abs(start):.4g}" if start else "")
