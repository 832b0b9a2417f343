"""What a notebook shows: static, escaped HTML of everything, a bar, and an answer when it is interrupted."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from optverify import Box, Network, Query, bound, compare, outputs, tables, verify
from optverify.formulations import Weighted, triangle
from optverify.progress import ProgressBar
from optverify.results import Certificate
from optverify.search import methods
from optverify.search.task import preactivation_bounds
from tests.test_compare import BOX, network

EVIL = "<img src=x onerror=alert(1)>"

LONG = """
import numpy as np
from optverify import Box, Network, Query, compare, outputs, verify
from optverify.progress import ProgressBar
rng, sizes = np.random.default_rng(0), (8, 60, 60, 60, 2)
net = Network.from_arrays([(rng.normal(size=(b, a)) / a**0.5, np.zeros(b)) for a, b in zip(sizes, sizes[1:])])
box = Box([-1] * 8, [1] * 8)
"""
"""Networks for which exact methods take hours."""


class Kernel:
    """A live Jupyter kernel, seen as a notebook sees it."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager, self.client = manager, manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, interrupt_after: str = "") -> dict[str, str]:
        """Run a cell, interrupt it when its output contains some words, and return what it showed."""
        cell = self.client.execute(code)
        shown = dict.fromkeys(("stream", "text/plain", "text/html", "error"), "")
        while True:
            message: dict[str, Any] = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            shown["stream"] += content.get("text", "")
            shown["error"] += " ".join(content.get("traceback", []))
            for kind, text in content.get("data", {}).items():
                shown[kind] += text
            if interrupt_after and interrupt_after in shown["stream"]:
                self.manager.interrupt_kernel()
                interrupt_after = ""
            if content.get("execution_state") == "idle":
                return shown


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """Start one."""
    manager = KernelManager()
    manager.start_kernel(cwd=str(Path(__file__).parents[1]))
    try:
        live = Kernel(manager)
        assert not live.run(LONG)["error"]
        yield live
    finally:
        live.client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_an_interrupt_in_a_live_kernel_leaves_an_answer(kernel: Kernel) -> None:
    """The cell's result is what is proved so far, no traceback; a bar was shown, and the kernel goes on."""
    ask = "query = Query.never(box, outputs(2)[0] >= 2.2, 2)\n"
    ask += "with ProgressBar() as bar:\n    answer = verify(net, query, progress=bar)\nanswer"
    shown = kernel.run(ask, interrupt_after=" open, ")
    assert shown["error"] == ""
    assert "interrupted" in shown["text/plain"]
    assert "UNKNOWN" in shown["text/html"]
    assert "|" in shown["stream"]
    assert kernel.run("bool(np.isfinite(answer.bound))")["text/plain"] == "True"

    ask = "methods = ['crown', 'exact', 'triangle']\n"
    ask += "with ProgressBar() as bar:\n    table = compare(net, box, ['Y_0'], methods=methods, progress=bar)\n"
    ask += "table[['method', 'bound', 'status']]"
    shown = kernel.run(ask, interrupt_after="1 of 3 rows; Y_0 exact")
    assert shown["error"] == ""
    assert "interrupted" in shown["text/html"]
    assert "3 of 3 rows" in shown["stream"]
    assert kernel.run("table.status.tolist()")["text/plain"] == "['done', 'interrupted', 'interrupted']"


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
