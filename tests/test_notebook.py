"""What a notebook shows: static, escaped HTML of everything, a bar, and an answer when it is interrupted."""

from __future__ import annotations

import io
import math
from contextlib import redirect_stderr

import pytest

from optverify import Box, Network, Query, bound, compare, outputs, tables, verify
from optverify.formulations import Weighted, triangle
from optverify.progress import ProgressBar
from optverify.results import Certificate
from optverify.search import methods
from optverify.search.task import preactivation_bounds
from tests.test_compare import BOX, network

EVIL = "<img src=x onerror=alert(1)>"


def test_everything_has_static_escaped_html() -> None:
    """Networks, queries, programs, bounds, verdicts, certificates, comparisons; names cannot be markup."""
    net = Network(network().layers, name=EVIL)
    query = Query.never(BOX, outputs(2)[0] <= -100, 2, text=EVIL)
    bounds = preactivation_bounds(query.goals(net)[0], "crown")
    assert bounds is not None
    table = compare(net, query, methods=["interval"], name=EVIL)
    shown = {
        "inputs": net,
        "unsafe": query,
        "nonzeros": triangle(net, BOX.outward, bounds, Weighted([1.0, 0.0])),
        "median width": bounds,
        "VERIFIED": verify(net, query),
        "proved": bound(net, BOX, "Y_0"),
        "bytes": Certificate(10, 3, 2, 0.1, 0.1),
        "case 0": tables.summary(table),
        "interval": table,
    }
    for word, thing in shown.items():
        html = thing._repr_html_()  # type: ignore[attr-defined]
        assert word in html
        assert "<img" not in html
        assert "<script" not in html
        assert " on" + "error=" not in html.replace("&lt;img src=x onerror=", "")
    for thing in (query, bounds):
        assert len(repr(thing)) < 250


def test_a_query_of_many_inputs_and_cases_is_short() -> None:
    """Descriptions list the first few."""
    region = Box([0] * 100, [1] * 100)
    text = Query.robust(region, 0, 30).describe()
    assert "and 92 more" in text
    assert "further cases" in text


@pytest.mark.parametrize("disable", [False, True])
def test_the_bar(disable: bool) -> None:
    """Searches and comparisons show how far they are, on standard error."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        with ProgressBar(disable=disable) as bar:
            compare(network(), BOX, ["Y_0"], methods=["interval", "crown"], progress=bar)
        with ProgressBar(disable=disable) as bar:
            bound(network(5, (2, 20, 20, 1)), BOX, "Y_0", progress=bar)
    if disable:
        assert stream.getvalue() == ""
    else:
        assert "2 of 2 rows" in stream.getvalue()
        assert "nodes" in stream.getvalue()


@pytest.mark.parametrize("method", ["triangle", "lifted", "bigm"])
def test_an_interrupt_leaves_a_bound(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a solver runs: what there is without it, rigorous, and said to be incomplete."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "ascended", interrupt)
    answer = bound(network(), BOX, "Y_0", method=method)
    assert not answer.complete
    assert "interrupted" in answer.reason
    assert math.isfinite(answer.lower)
    assert answer.lower == bound(network(), BOX, "Y_0", method="crown").lower
