"""Figures are drawn, on the axes that they are given, with what they should show."""

from __future__ import annotations

import io
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from optverify import Box, Instance, Query, Verdict, bound, compare, compare_instances, outputs, verify
from optverify.errors import InputError, ShapeError
from optverify.plots import plot_bounds, plot_gaps, plot_proved, plot_trace, plot_widths, slice_plot, svg
from optverify.plots.style import OTHERS, STYLES
from optverify.search.methods import METHODS
from optverify.search.task import preactivation_bounds
from optverify.search.tree import Progress
from tests.test_compare import BOX, network


@pytest.fixture
def ax() -> Iterator[Axes]:
    """Give axes of a small figure, and close it."""
    figure, ax = plt.subplots(figsize=(4, 3))
    yield ax
    plt.close(figure)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Compare some methods on two outputs."""
    return compare(network(), BOX, methods=["interval", "crown", "triangle", "exact"], name="<random>")


def ink(ax: Axes) -> int:
    """Render; count the pixels that are not white, in grey."""
    stream = io.BytesIO()
    ax.get_figure(root=True).savefig(stream, format="png", dpi=50)
    stream.seek(0)
    return int((plt.imread(stream)[..., :3].mean(axis=-1) < 0.9).sum())


def test_bounds(table: pd.DataFrame, ax: Axes) -> None:
    """A mark for each method and output, a line for each exact value."""
    empty = ink(ax)
    assert plot_bounds(table, ax) is ax
    assert ink(ax) > empty
    lines = [line for line in ax.lines if line.get_linestyle() == "-"]
    assert sorted(float(line.get_ydata()[0]) for line in lines) == sorted(table[table.method == "exact"].bound)
    marks = [float(y) for line in ax.lines if line.get_linestyle() == "None" for y in line.get_ydata()]
    assert sorted(marks) == sorted(table[table.method != "exact"].bound)


def test_bounds_without_exact_and_without_numbers(ax: Axes) -> None:
    """The line is the best attained value; infinite bounds are left out."""
    huge = compare(network(), Box([-1e308, 0], [1e308, 0]), ["Y_0"], methods=["interval", "crown"], sense="max")
    assert ink(plot_bounds(huge, ax)) > 0
    assert ink(plot_gaps(huge, ax)) > 0


def test_gaps(table: pd.DataFrame, ax: Axes) -> None:
    """A point a method, both axes logarithmic."""
    assert plot_gaps(table, ax) is ax
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert len(ax.lines) == 4
    assert ink(ax) > 0


def test_proved(ax: Axes) -> None:
    """The fraction falls with the radius, and is the table's."""
    net = network()
    instances = [
        Instance(net, Query.never(Box.around([0, 0], r, clip=None), outputs(2)[0] <= -2, 2), tags={"radius": r})
        for r in (0.1, 0.5, 2.0)
    ]
    table = compare_instances(instances, methods=["interval", "exact"], time_limit=5)
    assert plot_proved(table, ax) is ax
    shares = [line.get_ydata().tolist() for line in ax.lines]
    assert shares == [[float(v == "verified") for v in table[table.method == m].verdict] for m in ("interval", "exact")]
    with pytest.raises(InputError, match="no column 'eps'"):
        plot_proved(table, by="eps")


def test_widths(ax: Axes) -> None:
    """Medians of the widths by layer."""
    goal = Query.never(BOX, outputs(2)[0] <= -100, 2).goals(network())[0]
    bounds = {kind: preactivation_bounds(goal, kind) for kind in ("interval", "crown", "tightened")}
    found = {name: b for name, b in bounds.items() if b is not None}
    assert plot_widths(found, ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["interval", "crown", "tightened"]  # type: ignore[union-attr]
    assert ink(ax) > 0
    with pytest.raises(InputError, match="one network"):
        plot_widths({}, ax)


def test_trace(ax: Axes) -> None:
    """Bound and best point of a search, which come together; an empty trace is an error."""
    trace: list[Progress] = []
    bound(network(5, (2, 20, 20, 1)), BOX, "Y_0", progress=trace.append)
    assert plot_trace(trace, ax, by="nodes") is ax
    upper, lower = (line.get_ydata() for line in ax.lines if line.get_linestyle() != "None")
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) <= 0).all()
    assert ink(ax) > 0
    with pytest.raises(InputError, match="reported"):
        plot_trace([])
    strange = [Progress(0, 1, -math.inf, math.inf, 0.0, 0.0)]
    assert ink(plot_trace(strange, ax)) > 0


def test_slices(ax: Axes) -> None:
    """Decisions, values, linear pieces, a proved region, a counterexample on the plane."""
    net = network()
    least = bound(net, BOX, "Y_0").lower
    for threshold, verdict in ((least - 1, Verdict.VERIFIED), (least + 0.5, Verdict.FALSIFIED)):
        query = Query.never(BOX, outputs(2)[0] <= threshold, 2)
        answer = verify(net, query)
        assert answer.verdict is verdict
        for objective in (None, "Y_0 - X_0"):
            figure, ax = plt.subplots()
            found = slice_plot(
                net,
                [0, 0],
                np.eye(2),
                extent=(-2, 2, -2, 2),
                query=query,
                answer=answer,
                objective=objective,
                resolution=41,
                ax=ax,
            )
            assert found is ax
            texts = [text.get_text() for text in ax.get_legend().get_texts()]  # type: ignore[union-attr]
            assert texts == (["proved"] if verdict is Verdict.VERIFIED else ["region", "counterexample"])
            assert ink(ax) > 0
            plt.close(figure)


def test_slices_of_many_inputs_say_how_far_off_a_counterexample_is(ax: Axes) -> None:
    """A plane through another point does not hold it; a plane that misses the region shows none."""
    net = network(2, (3, 5, 2))
    box = Box([-1, -1, 0.5], [1, 1, 1])
    query = Query.never(box, outputs(2)[0] <= bound(net, box, "Y_0").lower + 0.1, 2)
    answer = verify(net, query)
    slice_plot(
        net, [0, 0, -3], [[1, 0, 0], [0, 1, 1e-3]], query=query, answer=answer, pieces=False, resolution=11, ax=ax
    )
    (text,) = (text.get_text() for text in ax.get_legend().get_texts())  # type: ignore[union-attr]
    assert "off the plane" in text
    for directions, message in (([[1, 0, 0], [2, 0, 0]], "parallel"), ([[1, 0, 0], [math.nan, 1, 0]], "finite")):
        with pytest.raises(InputError, match=message):
            slice_plot(net, [0, 0, 0], directions, ax=ax)
    with pytest.raises(ShapeError, match="two directions of 3"):
        slice_plot(net, [0, 0], np.eye(2), ax=ax)
    with pytest.raises(InputError, match="extent"):
        slice_plot(net, [0, 0, 0], np.eye(3)[:2], extent=(1, 1, 0, 1), ax=ax)


def test_svg_is_an_image_of_its_own(table: pd.DataFrame, ax: Axes) -> None:
    """Well-formed, described, without scripts, outside references or ids that another figure has; repeatable."""
    plot_bounds(table, ax)
    text = svg(ax, "bounds <of> methods")
    root = ET.fromstring(text)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "bounds <of> methods"
    assert "<script" not in text
    assert not re.search(r'href="(?!#)', text)
    assert svg(ax, "bounds <of> methods") == text
    ids = set(re.findall(r' id="([^"]*)"', text))
    assert not ids & set(re.findall(r' id="([^"]*)"', svg(ax, "another")))
    references = set(re.findall(r'(?:href="#|url\(#)([^")]*)', text))
    assert references <= ids
    assert "&lt;random&gt;" in text


def test_methods_are_told_apart_without_colour() -> None:
    """Every method has a marker of its own, and so have the others."""
    assert set(STYLES) == set(METHODS)
    markers = [mark.marker for mark in (*STYLES.values(), *OTHERS)]
    assert len(set(markers)) == len(markers)
